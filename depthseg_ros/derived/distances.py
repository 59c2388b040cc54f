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

"""Compute the distance of each class, and the bearing of its nearest part."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from ..imaging.geometry import sample


@dataclass(frozen=True)
class ClassDistance:
    """Distance of a class and its share of the image."""

    class_id: int
    class_name: str
    pixel_share: float
    """Share of all pixels, 0 to 1."""
    confidence: float
    """Mean probability of its labels, 0 to 1; NaN if the model gives none."""
    nearest: float
    """The depth that 2 % of the class's pixels stay below, metres; robust against single wrong
    pixels, NaN if the class has no depth."""
    bearing: float
    """Bearing of a pixel with the nearest depth, radians; 0 ahead, positive left (REP-103)."""
    median: float
    """Median depth, metres; NaN if the class has no depth."""


NEAREST_PERCENTILE = 2

_SAMPLES = 240 * 160
"""Number of pixels used for distances; images with four times as many are subsampled."""

# Depths are counted by the upper bits of their float32: 256 levels an octave, 0.4 % wide, from
# 1/32 m on, over 15 octaves to 1024 m. Positive floats are in the order of their bits, and as
# unsigned numbers all others come after them.
_SHIFT = 15
_FIRST = np.float32(1 / 32).view(np.uint32) >> _SHIFT
_LEVELS = 15 * 256


def class_distances(
    labels: NDArray[np.uint8],
    names: Mapping[int, str],
    confidence: NDArray[np.uint8] | None = None,
    depth: NDArray[np.float32] | None = None,
    rays: Callable[[int], NDArray[np.float32]] | None = None,
) -> list[ClassDistance]:
    """Compute the distances of every class in an image, in ascending order of class id.

    Args:
        labels: (H, W) class ids; ids that are not in `names` are ignored.
        names: Class id -> name.
        confidence: (H, W) probability of the label, 0 to 255.
        depth: (H, W) metres, NaN if unknown; values outside 1/32 to 1024 m count as unknown.
        rays: Returns the image's rays at a step, see `geometry.rays`; without it there are no
            bearings.

    Returns:
        Distances with an error below 0.2 %, from one histogram of all classes. From 480 x 320 on,
        every second row and column is used, and so on. No depth is lost: networks compute it at
        half their own size or less.
    """
    ids = sorted(names)
    step = max(1, math.isqrt(labels.size // _SAMPLES))
    grid = sample(labels.shape[0], step), sample(labels.shape[1], step)
    rows = len(ids) + 1  # the last one is of pixels without a class
    table = np.full(256, len(ids) * (_LEVELS + 1), np.int32)
    table[ids] = np.arange(len(ids)) * (_LEVELS + 1)
    sampled = np.ascontiguousarray(labels[grid])
    cell = np.asarray(cv2.LUT(sampled, table), np.int32)
    if depth is None:
        cell += _LEVELS
    else:
        level = depth[grid].view(np.uint32) >> _SHIFT
        level -= _FIRST  # what is less wraps around
        cell += np.minimum(level, _LEVELS).view(np.int32)  # the last one is of no depth
    counts = np.bincount(cell.ravel(), minlength=rows * (_LEVELS + 1))
    counts = counts.reshape(rows, _LEVELS + 1)[:-1]
    up_to = counts[:, :-1].cumsum(axis=1)
    known, totals = up_to[:, -1], counts.sum(axis=1)
    shares = np.array([NEAREST_PERCENTILE / 100, 0.5])
    found = [np.searchsorted(row, shares * count) for row, count in zip(up_to, known, strict=True)]
    levels = np.reshape(found, (-1, 2)).T.astype(np.int64)
    nearest, median = np.where(known > 0, _depth_at(levels), np.nan).tolist()
    means = np.full(256, np.nan)
    if confidence is not None:
        both = [sampled, np.ascontiguousarray(confidence[grid])]
        joint = cv2.calcHist(both, [0, 1], None, [256, 256], [0, 256, 0, 256])
        means = (joint @ np.arange(256, dtype=np.float32)) / np.maximum(joint.sum(axis=1), 1) / 255
    bearings = np.full(len(ids), np.nan)
    if rays is not None and known.any():
        is_nearest = np.zeros(rows * (_LEVELS + 1), bool)
        is_nearest[(np.arange(len(ids)) * (_LEVELS + 1) + levels[0])[known > 0]] = True
        pixels = np.flatnonzero(is_nearest.take(cell))
        row, across = cell.flat[pixels] // (_LEVELS + 1), rays(step)[0]
        for i in np.flatnonzero(known):
            own = pixels[row == i]
            # One of the nearest: of two things as near, not between them.
            bearings[i] = -math.atan(across.flat[own[len(own) // 2]])
    return [
        ClassDistance(
            class_id=ids[i],
            class_name=names[ids[i]],
            pixel_share=totals[i] / cell.size,
            confidence=float(means[ids[i]]),
            nearest=nearest[i],
            bearing=float(bearings[i]),
            median=median[i],
        )
        for i in np.flatnonzero(totals).tolist()
    ]


def _depth_at(levels: NDArray[np.int64]) -> NDArray[np.float32]:
    """Centre of histogram bins, metres."""
    bits = ((levels + int(_FIRST)) << _SHIFT) + (1 << (_SHIFT - 1))
    return bits.astype(np.uint32).view(np.float32)
