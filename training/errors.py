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

"""Errors of training that are reported in one line."""

from pathlib import Path


class TrainingError(ValueError):
    """Wrong data, configuration or checkpoint; the message says what was found and expected."""


def check_output(path: Path) -> Path:
    """Check that a file can be written, before the work whose result it gets; return its path."""
    folder = next(parent for parent in path.absolute().parents if parent.exists())
    if path.is_dir():
        raise TrainingError(f"cannot write {path}: it is a folder, expected a file's name")
    if not folder.is_dir():
        raise TrainingError(f"cannot write {path}: {folder} is a file, not a folder")
    return path
