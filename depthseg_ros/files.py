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

"""Atomic writing of files, and detection of Git LFS pointers."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

LFS_POINTER = "a pointer of Git LFS, not the file itself: run git lfs pull in the clone"
"""Description of a file for which `is_lfs_pointer` is true, for messages."""


@contextmanager
def whole(path: Path) -> Iterator[Path]:
    """Yield a hidden name beside `path`, with its suffix; the file becomes `path` after the block.

    If the block raises, the file is deleted and `path` stays as it was.
    """
    unfinished = path.with_name(f".{os.getpid()}-{path.name}")
    try:
        yield unfinished
        unfinished.replace(path)
    finally:
        unfinished.unlink(missing_ok=True)


def is_lfs_pointer(data: bytes) -> bool:
    """Whether a file's first bytes are those of a Git LFS pointer."""
    return data.startswith(b"version https://git-lfs.github.com/spec/")
