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

"""Who follows docs/extending.md to the letter gets what it says; tests/ros has what needs DDS."""

import re

import pytest

from tests.guide import GUIDE, copied, run, scripts


@pytest.fixture(scope="module")
def checkout(tmp_path_factory):
    return copied(tmp_path_factory.mktemp("guide"))


@pytest.mark.parametrize(
    "script",
    [script for script in scripts() if "tests/ros/" not in script],
    ids=lambda script: script.splitlines()[-1],
)
def test_what_the_guide_says_to_run_passes(checkout, script):
    run(checkout, script)


def test_the_guide_has_an_example_of_each_with_a_test():
    _, *sections = re.split(r"^## ", GUIDE, flags=re.MULTILINE)
    assert [section.splitlines()[0] for section in sections] == [
        "A training system",
        "A data set reader",
        "A backend",
        "An output topic",
        "A parameter",
    ]
    for section in sections:
        assert "\ntools/env.sh pytest tests/" in section
