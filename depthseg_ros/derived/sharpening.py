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

from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

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


def sharpened(depth: NDArray[np.float32]) -> tuple[NDArray[np.float32], NDArray[np.uint8] | None]:
    """Move depth that lies on the slope of an edge to one of its sides.

    Args:
        depth: (H, W) float32, positive, in any unit, NaN if unknown.

    Returns:
        (H, W) float32, NaN where `depth` is, and (H, W) uint8, 1 at edges: whoever enlarges the
        depth must not interpolate there. `depth` itself and None if there is no edge.
    """
    height, width = depth.shape
    size = min(width, COLUMNS), max(1, round(height * min(width, COLUMNS) / width))
    radius = min(RADIUS, round(RADIUS * width / COLUMNS))
    if radius == 0:
        return depth, None
    coarse: Any = cv2.resize(depth, size, interpolation=cv2.INTER_NEAREST_EXACT)
    inverse, unknown = 1 / coarse, np.isnan(coarse).view(np.uint8)
    near, far = inverse.copy(), inverse  # as 1/depth: the greatest and the least known one nearby
    cv2.patchNaNs(near, 0)
    cv2.patchNaNs(far, 1e30)
    window = cv2.getStructuringElement(cv2.MORPH_RECT, (2 * radius + 1, 2 * radius + 1))
    near, far = cv2.dilate(near, window), cv2.erode(far, window)
    beside = cv2.dilate(unknown, window)
    twice = cv2.getStructuringElement(cv2.MORPH_RECT, (4 * radius + 1, 4 * radius + 1))
    limit = cv2.dilate(unknown, twice, borderType=cv2.BORDER_CONSTANT, borderValue=1)
    most = np.where(limit, np.float32(STEPNESS_AT_LIMIT), np.float32(STEPNESS))
    wide = cv2.subtract(cv2.dilate(near, window), cv2.erode(far, window))
    edge = ((near > RATIO * far) & (wide < most * (near - far))).view(np.uint8)
    if not edge.any():
        return depth, None
    far[beside.view(np.bool_)] = 0  # beside the sky, the far end of a slope is no surface
    with np.errstate(divide="ignore"):
        near, far = 1 / near, 1 / far
    near, far, middle, edge = (
        cv2.resize(a, (width, height), interpolation=cv2.INTER_NEAREST_EXACT)
        for a in (near, far, np.sqrt(near * far), edge)
    )
    result = depth.copy()
    for side, where in ((near, cv2.CMP_LT), (far, cv2.CMP_GE)):  # NaN is neither
        cv2.copyTo(side, cv2.bitwise_and(edge, cv2.compare(depth, middle, where)), result)
    return result, np.asarray(edge, np.uint8)
