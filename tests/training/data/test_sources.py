# Copyright 2026 the maintainers of depthseg_ros
#
# Licensed under the Apache License, Version 2.0 (the "License");
# you may not use this file except in compliance with the License.
# You may obtain a copy of the License at
#
#     http://www.apache.org/licenses/LICENSE-2.0
#
# Unless required by applicable law or agreed to in writing, software
# distributed under the License is distributed on an "AS IS" BASIS,
# WITHOUT WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied.
# See the License for the specific language governing permissions and
# limitations under the License.

"""Data sets by name: options are checked by the types of their readers, faults are not hidden."""

import sys
from types import ModuleType

import pytest

from training.data.sources import READERS, open_source
from training.errors import TrainingError


class Reader:
    def __init__(self, root, split, size: tuple[int, int] = (4, 3), level: int = 0):
        self.split = {"train": "train"}[split]  # a fault of the program where it is another
        self.size = size

    def __len__(self):
        return 1


@pytest.fixture(autouse=True)
def mine(monkeypatch):
    module = ModuleType("training.data.readers.mine")
    module.Reader, module.SOURCE, module.TERMS = Reader, "mine", "none"
    monkeypatch.setitem(sys.modules, module.__name__, module)
    monkeypatch.setitem(READERS, "mine", ("mine", "Reader"))


def test_a_fault_in_a_reader_keeps_its_traceback():
    with pytest.raises(KeyError, match="other"):
        open_source("mine", "other", "folder")


@pytest.mark.parametrize("options", [{"size": 5}, {"level": "high"}, {"colour": 1}, {"root": "a"}])
def test_wrong_options_are_named(options):
    with pytest.raises(TrainingError, match=r"the options \{.* of mine: "):
        open_source("mine", "train", "folder", options=options)


def test_options_reach_the_reader_as_its_types():
    assert open_source("mine", "train", "folder", options={"size": [8, 6]}).samples.size == (8, 6)
