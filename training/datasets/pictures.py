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

"""Read the picture files of data sets; one clear error where a file is not what it should be."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from ..errors import TrainingError


def read_rgb(path: Path) -> NDArray[np.uint8]:
    """Read a colour picture: (H, W, 3) uint8 RGB; `TrainingError` where that is not possible."""
    # As stored, without turning by EXIF: so are the labels and depth that belong to it.
    image = cv2.imread(str(path), cv2.IMREAD_COLOR | cv2.IMREAD_IGNORE_ORIENTATION)
    if image is None:
        raise TrainingError(f"{path} {_fault(path)}, expected a colour picture")
    return cv2.cvtColor(image, cv2.COLOR_BGR2RGB)


def read_uint16(path: Path) -> NDArray[np.uint16]:
    """Read encoded depth: (H, W) uint16; `TrainingError` if it is not of one 16-bit channel."""
    return read_gray(path, np.uint16, "encoded depth")


def read_gray(path: Path, dtype: type[np.generic], what: str) -> NDArray[Any]:
    """Read a picture of one channel as it is stored.

    Args:
        path: The file.
        dtype: Of the pixels, exactly.
        what: What the picture holds, for the message.

    Returns:
        (H, W) of `dtype`.

    Raises:
        TrainingError: if the file is missing or no picture, or has other channels or another type.
    """
    wanted = f"{what} in one channel of {np.dtype(dtype)}"
    picture = cv2.imread(str(path), cv2.IMREAD_UNCHANGED)
    if picture is None:
        raise TrainingError(f"{path} {_fault(path)}, expected {wanted}")
    if picture.ndim != 2 or picture.dtype != dtype:
        channels = 1 if picture.ndim == 2 else picture.shape[2]
        raise TrainingError(f"{path} has {channels} channels of {picture.dtype}, expected {wanted}")
    return picture


def require_same_size(path: Path, image: NDArray[Any], **others: NDArray[Any]) -> None:
    """Raise `TrainingError` unless each of `others` (by what it is) has the picture's (H, W)."""
    for what, array in others.items():
        if array.shape[:2] != image.shape[:2]:
            raise TrainingError(
                f"{path} is {image.shape[:2]}, its {what} {array.shape[:2]} (height, width)"
            )


def require_files(files: Iterable[Path], what: str = "files") -> None:
    """Raise `TrainingError` with the count and the first of those that are missing."""
    missing = [file for file in files if not file.is_file()]
    if missing:
        raise TrainingError(f"{len(missing)} {what} are missing, the first is {missing[0]}")


def _fault(path: Path) -> str:
    return "cannot be read as a picture" if path.is_file() else "is missing"
