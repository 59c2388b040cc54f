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

"""Estimate the confidence of depth for models that do not predict it."""

from __future__ import annotations

import math
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from ..imaging.geometry import sample

COLUMNS = 320
"""About the number of columns at which it is computed: networks do not resolve more."""

_WINDOW = np.ones((5, 5), np.uint8)
_SLOPE = 0.25
"""Range of ln depth in a window up to which there is a surface and no edge."""
# ln b = base + edge * (range of ln depth - _SLOPE, at most 1) + the last term.
_BASE, _EDGE, _LABEL = -2.58, 1.52, 2.83  # times the probability that the label is wrong
_BASE_ALONE, _EDGE_ALONE, _DISTANCE = -2.22, 2.32, 0.1  # without labels: times ln(depth / maximum)
_LEVELS, _LOWEST = 48.0, -3.0
"""Levels per unit of ln b, and ln b at level 0."""
_TABLE = np.rint(
    255 * (1 - np.exp(-math.log(1.1) / np.exp(_LOWEST + np.arange(256) / _LEVELS)))
).astype(np.uint8)


def estimate_depth_confidence(
    depth: NDArray[np.float32], max_depth: float, confidence: NDArray[np.uint8] | None = None
) -> NDArray[np.uint8]:
    """Estimate the probability that depth is within 10 % of the truth, for every pixel.

    The error of ln depth is assumed to have a Laplace distribution with scale b. ln b grows with
    the depth edge within 5 x 5 pixels (of about `COLUMNS` columns), and with the probability that
    the label is wrong; without labels, with the distance.

    The constants were fitted to the default model on 300 rendered streets of training seeds with
    all mountings. So the result is a ranking of the pixels of an image rather than a probability:
    on such streets it is right to about 0.03, and for other models and scenes it can be too high
    or too low everywhere.

    Args:
        depth: (H, W) along the optical axis, in any unit, NaN if unknown.
        max_depth: Maximum depth of the model, in the same unit.
        confidence: (H, W) probability of the label, 0 to 255; None: unknown.

    Returns:
        (H, W) uint8, 0 to 255; 0 where depth is NaN.
    """
    height, width = depth.shape
    step = max(1, round(width / COLUMNS))
    grid = sample(height, step), sample(width, step)
    log = np.log(np.maximum(depth[grid], np.float32(1e-4 * max_depth)))
    # NaN is neither the least nor the greatest of a window, so the sky makes no edge.
    least, greatest = log.copy(), log
    cv2.patchNaNs(least, 99)
    cv2.patchNaNs(greatest, -99)
    edge: Any = cv2.dilate(greatest, _WINDOW) - cv2.erode(least, _WINDOW)
    edge = np.clip(edge, _SLOPE, 1 + _SLOPE, out=edge) - np.float32(_SLOPE)
    if confidence is None:
        distance = greatest - np.float32(math.log(max_depth))
        log_b = cv2.addWeighted(edge, _EDGE_ALONE, distance, _DISTANCE, _BASE_ALONE)
    else:
        right = np.ascontiguousarray(confidence[grid]).astype(np.float32)
        log_b = cv2.addWeighted(edge, _EDGE, right, -_LABEL / 255, _BASE + _LABEL)
    # Rounded and limited to 0..255, where the table has the probability.
    above = np.maximum(log_b, np.float32(_LOWEST)) - np.float32(_LOWEST)
    levels = cv2.convertScaleAbs(above, None, _LEVELS)
    coarse = cv2.LUT(levels, _TABLE)
    fine: Any = cv2.resize(coarse, (width, height), interpolation=cv2.INTER_LINEAR)
    known = cv2.compare(depth, depth, cv2.CMP_EQ)  # NaN is not equal to NaN
    return np.asarray(cv2.bitwise_and(fine, known), np.uint8)
