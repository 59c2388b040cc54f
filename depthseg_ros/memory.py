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

"""Configure glibc's malloc for the nodes; without glibc nothing is done."""

from __future__ import annotations

import ctypes
from contextlib import suppress

_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD, _M_ARENA_MAX = -1, -3, -8  # glibc's malloc.h
_KEPT = 32 << 20


def keep_memory() -> None:
    """Let malloc keep freed blocks of up to 32 MiB for the next image, 256 MiB in total.

    By default, glibc returns them to the kernel, which then clears new pages for every message.
    This doubles the time of publishing (docs/performance.md).

    All threads share one arena, so call this before any thread starts and before numpy is imported.
    Models are loaded in their own threads, and each would fragment another arena
    (docs/reliability.md).
    """
    with suppress(OSError, AttributeError):
        mallopt = ctypes.CDLL(None).mallopt
        mallopt(_M_MMAP_THRESHOLD, _KEPT)
        mallopt(_M_TRIM_THRESHOLD, 8 * _KEPT)
        mallopt(_M_ARENA_MAX, 1)


SMALLER = 5
"""Number of images after a much larger one at which its memory is released."""


class Sizes:
    """The sizes of one image after the other."""

    def __init__(self) -> None:
        self._largest, self._smaller = 0, 0  # and images with less than half of it

    def outgrown(self, size: int) -> bool:
        """Whether more memory is held than the last images needed, after one very large image.

        Args:
            size: Size of the next image, in any unit.
        """
        if 2 * size >= self._largest:
            self._largest, self._smaller = max(size, self._largest), 0
            return False
        self._smaller += 1
        if self._smaller < SMALLER:
            return False
        self._largest, self._smaller = size, 0
        return True


def trim_memory() -> None:
    """Return all free memory to the kernel, after a large object was released."""
    with suppress(OSError, AttributeError):
        ctypes.CDLL(None).malloc_trim(0)
