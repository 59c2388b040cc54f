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

"""Sharpen depth at edges: no point between an object and its background.

A network's depth is smooth. At an edge it slopes over some pixels, and points there ("flying
pixels") are obstacles that do not exist. Each of these pixels is moved to the near or to the far
side, whichever is nearer to its depth (half of the ratio). None is dropped: an edge that is removed
makes obstacles thinner. Unknown depth is no side.
"""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from ..imaging.geometry import sample

COLUMNS = 320
"""Approximate number of columns at which edges are found; networks do not resolve more."""

RADIUS = 2
"""Half of the width of an edge, in those columns; less in narrower images."""

RATIO = 1.15
"""Minimum ratio of far to near depth at an edge."""

STEPNESS, STEPNESS_AT_LIMIT = 1.9, 1.4
"""An edge is where 1/depth differs in twice the neighbourhood by less than this factor. Of a step
it is 1. Of a plane it is 2, since 1/depth is linear on planes: so a road that is seen at a grazing
angle is no edge. Near the image's border and unknown depth, of a plane it is 1.5 or more."""


def sharpened(depth: NDArray[np.float32]) -> NDArray[np.float32]:
    """Move depth that lies on the slope of an edge to one of its sides.

    Args:
        depth: (H, W) float32, positive, in any unit, NaN if unknown.

    Returns:
        (H, W) float32, NaN where `depth` is; `depth` itself if there is no edge.
    """
    height, width = depth.shape
    step = max(1, round(width / COLUMNS))
    radius = min(RADIUS, round(RADIUS * width / COLUMNS))
    if radius == 0:
        return depth
    coarse = np.ascontiguousarray(depth[sample(height, step), sample(width, step)])
    unknown = np.isnan(coarse)
    window = cv2.getStructuringElement(cv2.MORPH_RECT, (2 * radius + 1, 2 * radius + 1))
    near = cv2.erode(np.where(unknown, np.float32(np.inf), coarse), window)
    far = cv2.dilate(np.where(unknown, np.float32(0), coarse), window)
    unknown = unknown.view(np.uint8)
    beside = cv2.dilate(unknown, window)
    twice = cv2.getStructuringElement(cv2.MORPH_RECT, (4 * radius + 1, 4 * radius + 1))
    limit = cv2.dilate(unknown, twice, borderType=cv2.BORDER_CONSTANT, borderValue=1)
    most = np.where(limit, np.float32(STEPNESS_AT_LIMIT), np.float32(STEPNESS))
    with np.errstate(all="ignore"):  # where nothing is known
        change = 1 / near - 1 / far
        wide = 1 / cv2.erode(near, window) - 1 / cv2.dilate(far, window)
        edge = ((far > RATIO * near) & (wide < most * change)).view(np.uint8)
    if not edge.any():
        return depth
    # Each pixel that is coarse stands for a square of `step` x `step`.
    squares = np.flatnonzero(edge)
    down, right = np.divmod(squares, coarse.shape[1])
    offsets = np.arange(step)
    rows = np.minimum(down[:, None] * step + offsets, height - 1)
    columns = np.minimum(right[:, None] * step + offsets, width - 1)
    pixels = rows[:, :, None] * width + columns[:, None, :]
    far[beside.view(np.bool_)] = np.inf  # beside the sky, the far end of a slope is no surface
    near, far = (a.ravel()[squares][:, None, None] for a in (near, far))
    own = depth.ravel()[pixels]
    result = depth.copy()
    result.ravel()[pixels] = np.where(
        np.isnan(own), own, np.where(own * own < near * far, near, far)
    )
    return result
