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

"""Find, read and check the image files of data sets."""

from __future__ import annotations

import logging
import os
import struct
from collections.abc import Iterable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from depthseg_ros.imaging import image_files
from depthseg_ros.imaging.compressed import jpeg_size
from depthseg_ros.imaging.image_files import IMAGES, LOSSLESS
from depthseg_ros.model_card import UNLABELLED

from ..errors import TrainingError

_LOG = logging.getLogger(__name__)


def read_rgb(path: Path) -> NDArray[np.uint8]:
    """Read a colour image as (H, W, 3) uint8 RGB; raises `TrainingError`."""
    # Not rotated by EXIF, since its labels and depth are stored in the same orientation.
    image = _read(path, cv2.IMREAD_COLOR, "a colour image")
    return np.asarray(cv2.cvtColor(image, cv2.COLOR_BGR2RGB), np.uint8)


def image_size(path: Path) -> tuple[int, int]:
    """Read width and height of an image, from the header if possible; raises `TrainingError`."""
    with suppress(OSError, ValueError, struct.error):
        data = path.read_bytes()
        if data.startswith(b"\xff\xd8\xff"):
            size = jpeg_size(data)
            if size is not None:
                return size
        if data.startswith(b"\x89PNG"):
            width, height = struct.unpack_from(">II", data, 16)
            return width, height
    height, width = read_rgb(path).shape[:2]
    return width, height


def read_uint16(path: Path) -> NDArray[np.uint16]:
    """Read encoded depth as (H, W) uint16; raises `TrainingError`."""
    return read_gray(path, np.uint16, "encoded depth")


def read_gray(path: Path, dtype: type[np.generic], what: str) -> NDArray[Any]:
    """Read an image with one channel, without conversion.

    Args:
        path: The file.
        dtype: The required pixel type.
        what: The content of the image, for error messages.

    Returns:
        (H, W) of `dtype`.

    Raises:
        TrainingError: the file is missing, not an image, or has other channels or another type.
    """
    wanted = f"{what} in one channel of {np.dtype(dtype)}"
    image = read_unchanged(path, wanted)
    if image.ndim != 2 or image.dtype != dtype:
        channels = 1 if image.ndim == 2 else image.shape[2]
        raise TrainingError(f"{path} has {channels} channels of {image.dtype}, expected {wanted}")
    return image


def read_unchanged(path: Path, wanted: str) -> NDArray[Any]:
    """Read an image of any type without conversion; a `TrainingError` names what was `wanted`."""
    return _read(path, cv2.IMREAD_UNCHANGED, wanted)


def read_ids(path: Path, known: Iterable[int]) -> NDArray[np.uint8]:
    """Read class ids.

    Args:
        path: A label file: gray, palette indices, or 16 bits with values up to 255.
        known: The valid ids, in addition to 255 for unlabelled.

    Returns:
        (H, W) uint8 ids.

    Raises:
        TrainingError: the file is missing, is not a label file, or has other ids.
    """
    if not path.is_file():
        raise TrainingError(f"{path} is missing, expected class ids")
    try:
        ids = image_files.read_labels(path)
    except ValueError as error:
        raise TrainingError(str(error)) from None
    require_ids(ids, known, path)
    return ids


def require_ids(ids: NDArray[np.uint8], known: Iterable[int], path: Path) -> None:
    """Raise `TrainingError` if ids (H, W) are neither known nor 255; counts their pixels."""
    counts = np.bincount(ids.ravel(), minlength=256)
    wanted = sorted(known)
    foreign = [i for i in np.flatnonzero(counts) if i not in {*wanted, UNLABELLED}]
    if foreign:
        listed = ", ".join(f"{i} ({counts[i]} pixels)" for i in foreign[:8])
        more = f" and {len(foreign) - 8} more" if len(foreign) > 8 else ""
        raise TrainingError(
            f"{path} has the class ids {listed}{more}, expected {_ranges(wanted)}, or {UNLABELLED}"
            " for unlabelled: does the file use another class list?"
        )


def warn_if_masks(files: Sequence[Path]) -> None:
    """Log a warning if (a sample of) the label files have only the ids 0 and 255."""
    counts = np.zeros(256, np.int64)
    for file in files[:: max(1, len(files) // 8)]:
        with suppress(ValueError):  # reported when the sample is loaded
            counts += np.bincount(image_files.read_labels(file).ravel(), minlength=256)
    if counts[0] and counts[UNLABELLED] and counts.sum() == counts[0] + counts[UNLABELLED]:
        _LOG.warning(
            "%s and others have only the ids 0 and 255 (unlabelled). Expected class ids: are these"
            " binary masks?",
            files[0],
        )


def _ranges(ids: list[int]) -> str:
    """Format sorted ids as ranges: 0, 1, 2, 3, 7 become `0..3, 7`."""
    ends = [i for i in ids if i - 1 not in ids], [i for i in ids if i + 1 not in ids]
    return ", ".join(f"{a}..{b}" if a < b else str(a) for a, b in zip(*ends, strict=True))


def require_same_size(path: Path, image: NDArray[Any], **others: NDArray[Any]) -> None:
    """Raise `TrainingError` unless all `others` have the same height and width as the image."""
    for what, array in others.items():
        if array.shape[:2] != image.shape[:2]:
            orientation = image_files.orientation(path)
            why = f"; its EXIF orientation {orientation} is ignored: rotate the file"
            raise TrainingError(
                f"{path} is {image.shape[:2]}, its {what} {array.shape[:2]} (height, width)"
                + (why if orientation != 1 else "")
            )


def require_files(files: Iterable[Path], what: str = "files") -> None:
    """Raise `TrainingError` if files are missing; reports their number and the first one."""
    missing = [file for file in files if not file.is_file()]
    if missing:
        raise TrainingError(f"{len(missing)} {what} are missing, the first is {missing[0]}")


def images_by_stem(folder: Path) -> dict[str, Path]:
    """List the images of a folder by stem and log its other files. Empty if there is no folder.

    Raises:
        TrainingError: two images have the same stem.
    """
    return unique_stems(image_files.list_images(folder)) if folder.is_dir() else {}


def label_files_by_stem(folder: Path) -> dict[str, Path]:
    """List the lossless images of a folder by stem; raises `TrainingError` like the above."""
    files = image_files.visible_files(folder) if folder.is_dir() else []
    return unique_stems(file for file in files if file.suffix.lower() in LOSSLESS)


def image_names(folder: Path) -> list[str]:
    """List the image file names of a folder, unordered. Fast for a million files."""
    names = os.listdir(folder) if folder.is_dir() else []
    return [n for n in names if os.path.splitext(n)[1].lower() in IMAGES and n[0] != "."]


class StemIndex:
    """Finds image files by folder and stem, with any extension. Lists each folder once."""

    def __init__(self) -> None:
        self._folders: dict[Path, dict[str, list[Path]]] = {}

    def __call__(self, path: Path, lossless: bool = False) -> Path:
        """Find the image with the folder and stem of a path; returns `path` if there is none.

        Args:
            path: The file to find; its extension is ignored.
            lossless: Labels or depth, which JPEG and WebP cannot store.

        Raises:
            TrainingError: there are two such files.
        """
        suffixes = LOSSLESS if lossless else IMAGES
        files = self.stems(path.parent).get(path.stem, ())
        found = [file for file in files if file.suffix.lower() in suffixes]
        unique_stems(found)
        return found[0] if found else path

    def stems(self, folder: Path) -> dict[str, list[Path]]:
        """List the images of a folder by stem, sorted by name. Empty if there is no folder."""
        if folder not in self._folders:
            stems = self._folders[folder] = {}
            for file in image_files.visible_files(folder) if folder.is_dir() else ():
                if file.suffix.lower() in IMAGES:
                    stems.setdefault(file.stem, []).append(file)
        return self._folders[folder]


def unique_stems(files: Iterable[Path]) -> dict[str, Path]:
    """Index files by stem; raises `TrainingError` if two have the same."""
    try:
        return image_files.by_stem(files)
    except ValueError as error:
        raise TrainingError(str(error)) from None


def _read(path: Path, flags: int, wanted: str) -> NDArray[Any]:
    if not path.is_file():
        raise TrainingError(f"{path} is missing, expected {wanted}")
    try:
        return image_files.read_stored(path, flags)
    except ValueError as error:
        raise TrainingError(f"{error}; expected {wanted}") from None
