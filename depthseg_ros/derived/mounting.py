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

"""Compare the ground in the depth with the camera's mounting."""

from __future__ import annotations

import statistics
from collections import deque
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from .ground import Ground

LIMIT = 0.15
"""Relative error of the camera height or the ground's depth above which they disagree."""
LEAST_SHARE = 0.7
"""Minimum share of ground pixels on the fitted plane for a comparison."""
LEAST_GROUND = 0.05
"""Minimum share of the image with ground pixels with depth for a comparison."""
FEWEST, MEMORY = 5, 15
"""Number of images over which medians are taken, so that a ramp or a bump is ignored."""


class Comparison(NamedTuple):
    """The ground fitted to the depth of one image, and that of the mounting."""

    height: float
    """Height of the camera above the fitted ground, metres."""
    pitch: float
    """Pitch of the camera to the fitted ground, rad, positive is down."""
    known_height: float
    """Height according to the mounting, metres."""
    known_pitch: float
    """Pitch according to the mounting, rad."""
    depth: float
    """The fitted ground's depth divided by the mounting's, the median over ground pixels; 0 where
    those lie above the mounting's horizon."""


def compare(fitted: Ground, mounted: Ground, rays: NDArray[np.float32]) -> Comparison:
    """Compare two grounds, in the axes of the upright image, where pixels show the ground.

    Args:
        fitted: The ground fitted to the depth, metres.
        mounted: The ground according to the mounting.
        rays: (2, n) x/z and y/z of the ground pixels, at least one of them below the fitted
            ground's horizon.
    """

    def nearness(ground: Ground) -> NDArray[np.float64]:
        """1 / depth, at most 0 above the horizon."""
        x, y, z = ground.up
        return -(x * rays[0] + y * rays[1] + z).astype(np.float64) / ground.height

    of_fitted, of_mounted = nearness(fitted), nearness(mounted)
    below = of_fitted > 0
    ratio = float(np.median(np.maximum(of_mounted[below], 0) / of_fitted[below]))
    return Comparison(fitted.height, fitted.pitch, mounted.height, mounted.pitch, ratio)


class MountingCheck:
    """Compares the ground of a camera's last images with the mounting."""

    def __init__(self) -> None:
        self._last: deque[Comparison] = deque(maxlen=MEMORY)

    def add(self, comparison: Comparison) -> None:
        """Add the comparison of one image."""
        self._last.append(comparison)

    def disagreement(self) -> str:
        """A line about the disagreement; empty if there is none or too few images."""
        if len(self._last) < FEWEST:
            return ""
        height, pitch, known_height, known_pitch, depth = (
            statistics.median(values) for values in zip(*self._last, strict=True)
        )
        error = max(abs(height / known_height - 1), abs(depth - 1))
        if error <= LIMIT:
            return ""
        return (
            f"the ground in the depth is {height:.2f} m below the camera at a pitch of"
            f" {pitch:.2f} rad, the mounting has {known_height:.2f} m and {known_pitch:.2f} rad:"
            f" they disagree by {100 * error:.0f} %"
        )
