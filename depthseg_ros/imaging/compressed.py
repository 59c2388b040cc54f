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

"""Decode compressed images, JPEG or PNG, to arrays.

OpenCV decodes. This module refuses data that OpenCV would accept: truncated images, for which
versions before 5 return the upper part over grey, and small files that unpack to gigabytes or take
minutes.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Callable
from typing import Any, TypeAlias

import cv2
import numpy as np
from numpy.typing import NDArray

from ..texts import shortened

MAX_SIZE = 8192
"""Maximum width or height of an image, pixels."""
MAX_SCANS = 100
"""Maximum scans of a JPEG: each takes as long as an image, and a small file can have thousands."""

Least: TypeAlias = Callable[[int, int], tuple[int, int]]
"""Returns the width and height that are enough for an image of a width and height."""

_REDUCED = {8: cv2.IMREAD_REDUCED_COLOR_8, 4: cv2.IMREAD_REDUCED_COLOR_4}
_REDUCED |= {2: cv2.IMREAD_REDUCED_COLOR_2}
_JPEG, _PNG = b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n"
_MARKER = re.compile(rb"\xff([\x01-\xfe])")
_BARE = {0x01, *range(0xD0, 0xD9)}  # JPEG's markers that no length follows
_FRAMES = {*range(0xC0, 0xD0)} - {0xC4, 0xC8, 0xCC}  # one for each kind of compression
_SCAN, _END = 0xDA, 0xD9


def decode(data: bytes, least: Least | None = None) -> NDArray[np.uint8]:
    """Decode an image as it is stored: EXIF orientation and alpha are ignored.

    16-bit samples keep their upper 8 bits. Damage within a JPEG, except a missing end, cannot be
    detected and is visible in the image.

    Args:
        data: A whole JPEG or PNG file; bytes after its end are ignored.
        least: Decode a JPEG at 1/2, 1/4 or 1/8 of its size if that is enough, in less time. Odd
            numbers of pixels are rounded up.

    Returns:
        (H, W, 3) uint8 RGB, contiguous.

    Raises:
        ValueError: The data are empty, neither JPEG nor PNG, cut off or corrupt, or the image is
            larger than `MAX_SIZE` or has more than `MAX_SCANS`.
    """
    flags = cv2.IMREAD_COLOR
    size = stored_size(data) if data.startswith(_JPEG) else None
    if least is not None and size is not None and min(size) > 0 and max(size) <= MAX_SIZE:
        wanted = least(*size)
        for part, reduced in _REDUCED.items():
            if size[0] >= part * wanted[0] and size[1] >= part * wanted[1]:
                flags = reduced
                break
    flags |= cv2.IMREAD_IGNORE_ORIENTATION
    return np.asarray(cv2.cvtColor(unpack(data, flags), cv2.COLOR_BGR2RGB), np.uint8)


def unpack(data: bytes, flags: int) -> NDArray[Any]:
    """What `cv2.imdecode` makes of a JPEG or PNG; raises `ValueError` as `decode` does."""
    size, kind = stored_size(data), "JPEG" if data.startswith(_JPEG) else "PNG"
    if size is None:
        raise ValueError(f"the {kind} is cut off or corrupt, after {len(data)} bytes")
    width, height = size
    if not (0 < width <= MAX_SIZE and 0 < height <= MAX_SIZE):
        raise ValueError(
            f"the {kind} has {width}x{height} pixels, expected 1x1 to {MAX_SIZE}x{MAX_SIZE}"
        )
    try:
        stored = cv2.imdecode(np.frombuffer(data, np.uint8), flags)
    except cv2.error as error:
        reason = shortened(str(error), 200)
        raise ValueError(f"the {kind} cannot be decoded: {reason}") from None
    if stored is None:
        raise ValueError(f"the {kind} of {width}x{height} pixels is cut off or corrupt")
    return stored


def stored_size(data: bytes) -> tuple[int, int] | None:
    """Width and height of a JPEG or PNG by its header; None if it is cut off or corrupt.

    Raises `ValueError` if the data are neither, and as `jpeg_size`.
    """
    if data.startswith(_JPEG):
        return jpeg_size(data)
    if data.startswith(_PNG):
        return _png_size(data)
    if data:
        raise ValueError(f"neither JPEG nor PNG: the data begin with {data[:8].hex(' ')}")
    raise ValueError("the compressed image is empty: 0 bytes")


def _png_size(data: bytes) -> tuple[int, int] | None:
    """Width and height by the header, which is always the first chunk."""
    if len(data) < 24 or data[12:16] != b"IHDR":
        return None
    width, height = struct.unpack_from(">II", data, 16)
    return width, height


def jpeg_size(data: bytes) -> tuple[int, int] | None:
    """Width and height by the frame header; None without it or without an end after the scan.

    Raises `ValueError` where there are more than `MAX_SCANS` scans.
    """
    size, at = None, 2
    while marker := _MARKER.search(data, at):
        kind, at = marker[1][0], marker.end()
        if kind in _BARE:
            continue
        if kind in _FRAMES and size is None and len(data) >= at + 7:
            height, width = struct.unpack_from(">HH", data, at + 3)
            size = width, height
        if kind == _END:
            break
        at += int.from_bytes(data[at : at + 2], "big")
        if kind == _SCAN:  # in what follows, 0xff is escaped; a thumbnail's end came before
            if data.count(bytes((0xFF, _SCAN)), at) >= MAX_SCANS:
                raise ValueError(f"the JPEG has more than {MAX_SCANS} scans")
            return size if data.rfind(bytes((0xFF, _END)), at) >= 0 else None
    return None
