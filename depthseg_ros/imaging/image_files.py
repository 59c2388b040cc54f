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

"""Image files: found in folders, and read whole or refused. The runtime and training use it.

Pixels are read as they are stored: an EXIF orientation is ignored, here and in training alike, so
that an image fits its label and depth files, which have no such flag.
"""

from __future__ import annotations

import logging
import os
import re
import struct
import zlib
from collections import Counter
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from ..files import LFS_POINTER, is_lfs_pointer
from .compressed import jpeg_size

_LOG = logging.getLogger(__name__)
_reported: list[str] = []
"""The file whose orientation was reported in this process."""

LOSSLESS = frozenset({".bmp", ".pgm", ".png", ".tif", ".tiff"})
"""Suffixes of files that can contain labels or depth, in lower case."""
IMAGES = LOSSLESS | {".jfif", ".jp2", ".jpe", ".jpeg", ".jpg", ".ppm", ".webp"}
"""Suffixes of image files in a folder, in lower case."""
BESIDE = (".labels", ".depth", ".overlay")
"""Ends of the stems of files that belong to an image but are not camera images."""

_PNG = b"\x89PNG\r\n\x1a\n"
_WHOLE = (b"\xff\xd8\xff", _PNG, b"BM", b"II*\0", b"MM\0*", b"RIFF")  # what OpenCV surely knows
_OTHERS = {  # file formats that cameras write and OpenCV, as a rule, does not read
    "an AVIF image": re.compile(rb"....ftypavi", re.DOTALL),
    "a HEIC image": re.compile(rb"....ftyp(he[ivx]|mif1|msf1)", re.DOTALL),
    "a JPEG XL image": re.compile(rb"\xff\x0a|\0\0\0\x0cJXL "),
}
_EXIF = ((b"Exif\0\0", 6), (b"eXIf", 4), (b"EXIF", 8))  # of JPEG and WebP, of PNG, of WebP


# --- Folders ------------------------------------------------------------------------------------


def visible_files(folder: Path) -> list[Path]:
    """A folder's files in natural order, 2.png before 10.png.

    Names that begin with a dot are ignored: `._a.jpg`, which a Mac writes beside `a.jpg`, is not an
    image.

    Raises:
        OSError: The folder cannot be read.
    """
    with os.scandir(folder) as entries:  # faster than a query for each of a million paths
        names = [e.name for e in entries if not e.name.startswith(".") and not e.is_dir()]
    return [folder / name for name in sorted(names, key=_natural)]


def _natural(name: str) -> list[Any]:
    return [int(s) if i % 2 else s for i, s in enumerate(re.split(r"(\d+)", name))]


def is_image(path: Path) -> bool:
    """Whether a folder's file is an image, according to its name in upper or lower case."""
    if path.suffix.lower() not in IMAGES:
        return False
    return not (path.suffix.lower() in LOSSLESS and path.stem.lower().endswith(BESIDE))


def report_left_out(
    folder: Path, files: Iterable[Path], why: str = "not images by their names"
) -> None:
    """Log in one line how many files of a folder are ignored, if any."""
    endings = Counter(file.suffix.lower() or "without an ending" for file in files)
    if endings:
        listed = ", ".join(f"{count} {ending}" for ending, count in endings.most_common(5))
        count = sum(endings.values())
        _LOG.warning("%s: %d files are left out, %s: %s", folder, count, why, listed)


def list_images(folder: Path) -> list[Path]:
    """A folder's images in natural order; other files are reported.

    Raises:
        OSError: The folder cannot be read.
    """
    files = visible_files(folder)
    report_left_out(folder, (f for f in files if f.suffix.lower() not in IMAGES))
    return [file for file in files if is_image(file)]


def by_stem(files: Iterable[Path]) -> dict[str, Path]:
    """Files by their names without the suffix.

    Raises:
        ValueError: Two files have the same name without the suffix.
    """
    found: dict[str, Path] = {}
    for file in files:
        other = found.setdefault(file.stem, file)
        if other != file:
            raise ValueError(
                f"{other} and {file.name} have the same name except for the ending: remove one"
            )
    return found


# --- Files --------------------------------------------------------------------------------------


def read_image(path: str | os.PathLike[str]) -> NDArray[np.uint8]:
    """Read an image file as it is stored.

    Returns:
        (H, W, 3) uint8 RGB.

    Raises:
        ValueError: It is missing, cut off, or not an image.
    """
    return np.asarray(cv2.cvtColor(read_stored(path, cv2.IMREAD_COLOR), cv2.COLOR_BGR2RGB))


def read_stored(path: str | os.PathLike[str], flags: int) -> NDArray[Any]:
    """Read an image file with OpenCV's `flags`, without rotation; errors as in `read_image`."""
    data = _content(path)
    try:
        image = decode(data, flags)
    except ValueError as error:
        raise ValueError(f"{path} {error}") from None
    turned, _ = _orientation(data)
    if turned != 1 and flags != cv2.IMREAD_UNCHANGED:
        _report_orientation(os.fspath(path), turned)
    return image


def read_labels(path: str | os.PathLike[str]) -> NDArray[np.uint8]:
    """Read a file of class ids.

    The colours of a palette are ignored: its indices are the ids. 16 bits are accepted if all ids
    fit into 8, and three channels if they are equal.

    Returns:
        (H, W) uint8 class ids as stored.

    Raises:
        ValueError: It is missing, cut off, not an image, or has colours or ids above 255.
    """
    data = _content(path)
    try:
        return _decode_labels(data)
    except ValueError as error:
        raise ValueError(f"{path} {error}") from None


def decode(data: bytes, flags: int) -> NDArray[Any]:
    """Decode an image file's content with OpenCV's `flags`, without rotation.

    Raises:
        ValueError: The message continues a sentence that begins with the file's name.
    """
    # OpenCV before 4.11 reads a JPEG that is cut off, grey below.
    if data.startswith(b"\xff\xd8\xff") and jpeg_size(data) is None:
        raise ValueError("is cut off: a JPEG without its end")
    turned, at = _orientation(data)
    if turned != 1 and at and data[:2] in (b"II", b"MM"):  # of TIFF, OpenCV obeys it always
        data = data[:at] + struct.pack("<H" if data[:1] == b"I" else ">H", 1) + data[at + 2 :]
    image = None
    with suppress(cv2.error):  # empty, or larger than OpenCV takes
        # It reads from memory: from a file it crashes on a name that is not UTF-8.
        image = cv2.imdecode(np.frombuffer(data, np.uint8), flags | cv2.IMREAD_IGNORE_ORIENTATION)
    if image is None:
        raise ValueError(_why_not(data))
    return image


def other_format(data: bytes) -> str:
    """The format of a file that is not a readable image, from its first bytes; empty if unknown."""
    if is_lfs_pointer(data):
        return LFS_POINTER
    known = next((name for name, pattern in _OTHERS.items() if pattern.match(data)), "")
    return f"{known}, which this OpenCV cannot read: convert it to JPEG or PNG" if known else ""


def orientation(path: Path) -> int:
    """The EXIF orientation of an image file, 1 to 8; 1 (as stored) if it has none."""
    try:
        return _orientation(_content(path))[0]
    except ValueError:
        return 1


def _content(path: str | os.PathLike[str]) -> bytes:
    path = Path(path)
    if not path.is_file():
        raise ValueError(f"there is no image {path}")
    try:
        return path.read_bytes()
    except OSError as error:
        raise ValueError(f"{path} cannot be read: {error.strerror}") from None


def _why_not(data: bytes) -> str:
    if not data:
        return "is empty"
    if other := other_format(data):
        return f"is {other}"
    if data.startswith(_WHOLE):
        return "cannot be read as an image: it is cut off, damaged or too large"
    return "cannot be read as an image"


def _decode_labels(data: bytes) -> NDArray[np.uint8]:
    bits = data[24] if data.startswith(_PNG) and len(data) > 25 else 8
    stored = decode(_palette_to_gray(data) if bits <= 8 else data, cv2.IMREAD_UNCHANGED)
    if stored.ndim == 3 and stored.shape[2] in (3, 4):
        opaque = stored.shape[2] == 3 or stored[..., 3].min() == stored[..., 3].max()
        if opaque and (stored[..., :3] == stored[..., :1]).all():
            stored = stored[..., 0]
    if stored.ndim != 2:
        raise ValueError(
            f"has {stored.shape[2]} channels of colours, expected one channel of class ids"
        )
    if bits < 8:  # OpenCV spreads them over 0 to 255
        stored = stored // (255 // (2**bits - 1))
    if stored.dtype not in (np.uint8, np.uint16) or stored.max() > 255:
        raise ValueError(
            f"has ids from {stored.min()} to {stored.max()} in {stored.dtype}, expected 0 to 255"
        )
    return stored.astype(np.uint8)


def _palette_to_gray(data: bytes) -> bytes:
    """A PNG with a palette as a gray one of its indices; anything else as it is."""
    if not data.startswith(_PNG) or data[25:26] != b"\x03":
        return data
    parts, at = [_PNG], 8
    while at + 12 <= len(data):
        end = at + 12 + int.from_bytes(data[at : at + 4], "big")
        kind, chunk = data[at + 4 : at + 8], data[at:end]
        if kind == b"IHDR":  # its colour type is at byte 9
            header = b"IHDR" + chunk[8:17] + b"\0" + chunk[18:21]
            chunk = chunk[:4] + header + zlib.crc32(header).to_bytes(4, "big")
        if kind not in (b"PLTE", b"tRNS", b"bKGD", b"hIST", b"sBIT"):
            parts.append(chunk)
        at = end
    return b"".join(parts)


def _orientation(data: bytes) -> tuple[int, int]:
    """The orientation from EXIF or TIFF and the offset of its two bytes; (1, 0) if none."""
    places = [0, *(found + skip for mark, skip in _EXIF if (found := data.find(mark)) >= 0)]
    for start in places:
        order = {b"II*\0": "<", b"MM\0*": ">"}.get(data[start : start + 4])
        if order is None:
            continue
        try:
            at = start + struct.unpack_from(f"{order}I", data, start + 4)[0]
            count = struct.unpack_from(f"{order}H", data, at)[0]
            for entry in range(at + 2, at + 2 + 12 * count, 12):
                tag, _, _, value = struct.unpack_from(f"{order}HHIH", data, entry)
                if tag == 0x0112:
                    return (value, entry + 8) if 1 <= value <= 8 else (1, 0)
        except struct.error:  # it ends before: of no use
            pass
    return 1, 0


def _report_orientation(path: str, turned: int) -> None:
    """Log once in a process that images are not rotated."""
    if not _reported:
        _reported.append(path)
        _LOG.warning(
            "%s has the EXIF orientation %d, which is ignored, also in other files: images are read"
            " as their pixels are stored. If the scene lies on its side or upside down, rotate the"
            " files first (for example: mogrify -auto-orient)",
            path,
            turned,
        )
