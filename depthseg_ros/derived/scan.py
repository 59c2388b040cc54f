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

"""Compute a laser scan for planners: the distance of the nearest obstacle in each direction."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from .ground import Ground

BEAM = math.radians(0.5)
"""Angle between two beams, unless pixels are farther apart."""

NEAREST_PIXELS = 8
"""Rank by distance of the obstacle pixel at which a beam ends, to ignore a few wrong pixels. On
rendered streets, 8 in place of 3 invents fewer obstacles and misses no more."""


@dataclass(frozen=True)
class Scan:
    """Ranges in the camera's body frame (x forward, y left, z up), in its xy plane.

    Beam i is the sector of `angle_increment` about `angle_min` + i * `angle_increment`.
    """

    angle_min: float
    """Bearing of the first beam, the rightmost, rad; 0 is forward, positive is left."""
    angle_increment: float
    """Angle between two beams, rad."""
    ranges: NDArray[np.float32]
    """(N,) metres as in REP-117: +inf if there is no obstacle, NaN without any measurement."""

    @property
    def angle_max(self) -> float:
        """Bearing of the last beam, rad."""
        return self.angle_min + (len(self.ranges) - 1) * self.angle_increment


def obstacle_scan(
    rays: NDArray[np.float32],
    depth: NDArray[np.float32],
    is_obstacle: NDArray[np.bool_],
    ground: Ground,
    heights: tuple[float, float],
    range_max: float,
    increment: float = BEAM,
) -> Scan:
    """Compute the nearest obstacles around the camera, seen from above.

    Points are projected along the ground's up vector into the plane of the scan, for any pitch and
    roll of the camera. So in a level frame the scan has their true position, at another height, and
    all points in one direction of the ground are in one beam.

    +inf means that no pixel of the beam shows an obstacle. There can still be one: outside of the
    image, below its lower edge, or without depth because it is out of the model's range. If beams
    are narrower than a pixel, some of them are NaN.

    Args:
        rays: (2, H, W) x/z and y/z of the pixels, NaN if unknown. They define the range of the
            beams; points that tilt moves out of it are ignored.
        depth: (H, W) metres along the optical axis, NaN if unknown.
        is_obstacle: (H, W) whether a pixel shows an obstacle.
        ground: The ground plane.
        heights: Minimum and maximum height of obstacles above the ground, metres.
        range_max: Maximum distance of obstacles, metres.
        increment: Angle between beams, rad; at least a pixel in the middle of the image.

    Raises:
        ValueError: No pixel has a ray, the increment is not positive, or the camera looks along
            the ground's up vector or lies on its side, within 6 degrees.
    """
    right, left = np.fmax.reduce(rays[0], axis=None), np.fmin.reduce(rays[0], axis=None)
    if not (increment > 0 and math.isfinite(right)):
        raise ValueError(f"a scan needs rays and a positive increment, got {increment} rad")
    x, y, z = ground.up
    if abs(y) < 0.1:
        raise ValueError(
            f"a scan needs a camera that looks along the ground, but its up vector is {(x, y, z)}"
        )
    # Whole multiples, so that there is a beam straight ahead.
    first = round(-math.atan(right) / increment)
    ranges = np.full(round(-math.atan(left) / increment) - first + 1, np.nan, np.float32)

    # A pixel's ray, moved along up, has one bearing whatever the depth.
    forward = 1 - np.float32(z / y) * rays[1]
    forward[forward <= 0] = np.nan  # behind the camera, where no beam is
    rightward = rays[0] - np.float32(x / y) * rays[1]
    beams = np.rint(np.arctan(rightward / forward) * np.float32(-1 / increment)) - first
    seen = (beams >= 0) & (beams < len(ranges))
    ranges[beams[seen].astype(np.intp)] = np.inf

    pixels = np.flatnonzero(seen & is_obstacle)
    metres = depth.ravel()[pixels]
    height = ground.heights(rays.reshape(2, -1).take(pixels, axis=1), metres)
    metres *= np.hypot(forward.ravel()[pixels], rightward.ravel()[pixels])
    counts = (height >= heights[0]) & (height <= heights[1]) & (metres > 0) & (metres <= range_max)
    # Sorted by beam, then by range: positive floats are in the order of their bits.
    order = beams.ravel()[pixels][counts].astype(np.int64) << 32
    order |= metres[counts].view(np.int32)
    order.sort()
    beam, start, size = np.unique(order >> 32, return_index=True, return_counts=True)
    enough = size >= NEAREST_PIXELS
    nearest = order[start[enough] + NEAREST_PIXELS - 1]
    ranges[beam[enough]] = nearest.astype(np.int32).view(np.float32)
    return Scan(first * increment, increment, ranges)
