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

"""Masks of classes."""

from __future__ import annotations

from collections.abc import Collection

import cv2
import numpy as np
from numpy.typing import NDArray


def class_mask(labels: NDArray[np.uint8], ids: Collection[int]) -> NDArray[np.uint8]:
    """(H, W) uint8 mask: 255 where `labels` (H, W) has one of the class ids, otherwise 0."""
    table = np.zeros(256, np.uint8)
    table[list(ids)] = 255
    return cv2.LUT(labels, table)  # type: ignore[return-value]  # cv2's types leave the dtype open


def cut_out(
    depth: NDArray[np.float32], labels: NDArray[np.uint8], ids: Collection[int]
) -> NDArray[np.float32]:
    """Set depth (H, W) to NaN where `labels` (H, W) has one of the class ids."""
    if not ids:
        return depth
    return np.where(class_mask(labels, ids) > 0, np.float32(np.nan), depth)
