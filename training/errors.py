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

"""What goes wrong in training and has one clear line to say about it."""

from pathlib import Path


class TrainingError(ValueError):
    """Wrong data, configuration or checkpoint; the message says what was found and expected."""


def check_output(path: Path) -> Path:
    """A file to be written, refused before the work that fills it where it cannot be one."""
    folder = next(parent for parent in path.absolute().parents if parent.exists())
    if path.is_dir():
        raise TrainingError(f"cannot write {path}: it is a folder, expected a file's name")
    if not folder.is_dir():
        raise TrainingError(f"cannot write {path}: {folder} is a file, not a folder")
    return path
