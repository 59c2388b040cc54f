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

"""Keep depth stable over time: fuse it with the previous images' depth, moved with the camera.

A network sees each image for itself, so the depth of a static point fluctuates. `StableDepth`
estimates the camera's motion from tracked corners and the depth itself, moves the previous result
to the new image and takes a weighted mean. All of that happens at a low resolution, and the image's
depth is multiplied by the smooth factor that results: edges stay where they are.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from ..imaging.geometry import sample

COLUMNS = 128
"""Approximate number of columns at which depth is fused."""

WEIGHT = 0.93
"""Maximum weight of the previous depth. Before, it is a mean of all images that show the place."""

FADE = 3
"""Nearer views are more exact: approaching a place to a share r of its depth, what was seen before
counts for r to this power. Otherwise a camera that drives on would keep the errors of far depth."""

GATE = 0.35
"""Maximum difference of ln(depth) between both for the same surface."""

ALONG = 0.1
"""Difference of ln(depth) from which on what fits its own pixel better than the motion is taken to
move along with the camera, such as the robot's own body, and keeps its own depth."""

GREY_GATE = 25
"""Maximum difference in brightness, 0 to 255, between both for the same surface."""

LONGEST_GAP = 1.0
"""Seconds between two images after which fusing begins again."""

_CORNERS, _FEWEST, _LEAST_SHARE, _ROUNDS = 100, 25, 0.5, 4
"""Corners to track; minimum number and share that must agree on the motion; rounds of the fit."""

Floats = NDArray[np.float32]


class _State(NamedTuple):
    """The previous image, at low resolution h x w."""

    stamp: float
    grey: NDArray[np.uint8]
    """(h, w)"""
    inverse: Floats
    """(h, w) fused 1 / depth, NaN if unknown. It is linear on planes, so it can be interpolated."""
    images: Floats
    """(h, w) number of images that show the place."""
    motion: tuple[NDArray[np.float64], NDArray[np.float64]]
    """The camera's previous motion: the start value of the next estimate."""


class _Grid:
    """The pixels of the low resolution, h x w, of one camera."""

    def __init__(self, rays: Floats, shape: tuple[int, int]) -> None:
        self.given = rays
        self.rays = np.ascontiguousarray(rays[:, : shape[0], : shape[1]])
        """(2, h, w)"""
        v, u = np.mgrid[: shape[0], : shape[1]].astype(np.float32)
        # The pixel of a ray by one Newton step from a pixel nearby; exact without distortion.
        self._scale = 1 / np.gradient(self.rays[0], axis=1), 1 / np.gradient(self.rays[1], axis=0)
        self._offset = (u - self.rays[0] * self._scale[0], v - self.rays[1] * self._scale[1])
        self.pixel = float(np.nanmedian(np.abs(1 / self._scale[0])))
        """Size of a pixel in x/z."""

    def pixels(self, x: Floats, y: Floats) -> tuple[Floats, Floats]:
        """Columns and rows of rays (h, w) that are near those of each pixel."""
        return self._offset[0] + x * self._scale[0], self._offset[1] + y * self._scale[1]


class StableDepth:
    """Fuses the depth of a camera's images, in their order. Not thread-safe."""

    def __init__(self) -> None:
        self._last: _State | None = None
        self._grid: _Grid | None = None

    def forget(self) -> None:
        """Begin again with the next image."""
        self._last = None

    def __call__(
        self,
        image: NDArray[np.uint8],
        depth: NDArray[np.float32],
        rays: NDArray[np.float32],
        stamp: float,
        moving: NDArray[np.bool_] | None = None,
    ) -> NDArray[np.float32]:
        """Fuse the depth of one image with that of the images before.

        Args:
            image: (H, W, 3) uint8 RGB.
            depth: (H, W) float32 in any unit, NaN if unknown.
            rays: (2, H', W') of every `step(W)`-th pixel, see `geometry.rays`. The same array as
                for the previous image if the camera is the same.
            stamp: Time of the image, seconds.
            moving: (H', W') pixels that keep the image's own depth, such as those of classes that
                can move; the same as of `rays`.

        Returns:
            (H, W) float32, NaN where `depth` is. It is `depth` itself if the motion is unknown:
            after a gap, a cut, or if there is nothing to track.
        """
        height, width = depth.shape
        every = step(width)
        rows, columns = shape = height // every, width // every
        if min(shape) < 16:
            return depth
        if self._grid is None or self._grid.given is not rays:
            self._grid, self._last = _Grid(rays, shape), None
        grid, last = self._grid, self._last
        picked = sample(height, every), sample(width, every)
        own = depth[picked][:rows, :columns]
        reduced = cv2.resize(
            image[: rows * every, : columns * every], (columns, rows), interpolation=cv2.INTER_AREA
        )
        grey = np.asarray(cv2.cvtColor(reduced, cv2.COLOR_RGB2GRAY), np.uint8)
        fixed = np.isfinite(own)
        if moving is not None:
            fixed &= ~moving[:rows, :columns]
        motion = None
        if last is not None and 0 < stamp - last.stamp <= LONGEST_GAP:
            motion = _motion(last, grey, grid, fixed)
        if last is None or motion is None:
            once = np.ones(shape, np.float32)
            self._last = _State(stamp, grey, np.reciprocal(own), once, (np.eye(3), np.zeros(3)))
            return depth
        factor, count = _factor(last, motion, grey, own, grid, fixed)
        self._last = _State(stamp, grey, np.reciprocal(own * factor), count, motion)
        return np.asarray(cv2.multiply(depth, cv2.resize(factor, (width, height))), np.float32)


def step(width: int) -> int:
    """Distance of the rows and columns that are fused, of an image of this width."""
    return max(1, round(width / COLUMNS))


def _factor(
    last: _State,
    motion: tuple[NDArray[np.float64], NDArray[np.float64]],
    grey: NDArray[np.uint8],
    depth: Floats,
    grid: _Grid,
    fixed: NDArray[np.bool_],
) -> tuple[Floats, Floats]:
    """By what to multiply depth (h, w), and the number of images that show the place.

    Both are 1 where the previous image does not show it.
    """
    rotation, translation = (m.astype(np.float32) for m in motion)
    # Where each point of the new depth was in the previous image.
    points = np.stack([grid.rays[0] * depth, grid.rays[1] * depth, depth]).reshape(3, -1)
    before = rotation.T @ (points - translation[:, None])
    x, y = (before[:2] / before[2]).reshape(2, *depth.shape)
    u, v = grid.pixels(x, y)
    seen = cv2.remap(last.inverse, u, v, cv2.INTER_LINEAR, borderValue=math.nan)
    brightness = cv2.remap(last.grey, u, v, cv2.INTER_LINEAR)
    count = cv2.remap(last.images, u, v, cv2.INTER_NEAREST)
    # The depth of what was seen there, from the new place.
    moved = (rotation[2, 0] * x + rotation[2, 1] * y + rotation[2, 2]) / seen + translation[2]
    with np.errstate(invalid="ignore", divide="ignore"):
        change = np.log(moved / depth)
        still = np.log(last.inverse * depth)
    along = (np.abs(change) > ALONG) & (np.abs(still) < np.abs(change) / 2)
    same = fixed & ~along & (np.abs(change) < GATE) & (cv2.absdiff(brightness, grey) < GREY_GATE)
    count = count * np.clip(moved * seen, 0, 1) ** FADE
    weight = np.minimum(count / (count + 1), np.float32(WEIGHT))
    factor = np.exp(np.where(same, weight * change, np.float32(0)))
    return factor, np.where(same, count + 1, np.float32(1))


def _motion(
    last: _State, grey: NDArray[np.uint8], grid: _Grid, fixed: NDArray[np.bool_]
) -> tuple[NDArray[np.float64], NDArray[np.float64]] | None:
    """Rotation (3, 3) and translation (3,) of points from the previous camera to this one.

    The rigid motion for which tracked corners with the previous depth appear where they are
    (Gauss-Newton on the reprojection error, with Tukey's biweight). None if too few agree.
    """
    corners: Floats | None = cv2.goodFeaturesToTrack(last.grey, _CORNERS, 0.003, 4)  # type: ignore[assignment]  # cv2's types
    if corners is None:
        return None
    found, status, _ = cv2.calcOpticalFlowPyrLK(  # type: ignore[call-overload]  # cv2's types
        last.grey, grey, corners, None, winSize=(9, 9), maxLevel=3
    )
    kept = status.ravel() > 0
    if np.count_nonzero(kept) < _FEWEST:
        return None
    old, new = corners[kept, 0], found[kept, 0]

    def at(array: Floats, place: Floats) -> NDArray[np.float64]:
        values = cv2.remap(array, place[:, 0], place[:, 1], cv2.INTER_LINEAR, borderValue=math.nan)
        return values.ravel().astype(np.float64)

    x, y, inverse = at(grid.rays[0], old), at(grid.rays[1], old), at(last.inverse, old)
    u, v = at(grid.rays[0], new), at(grid.rays[1], new)
    is_fixed = at(np.where(fixed, np.float32(1), np.float32(np.nan)), new)
    kept = np.isfinite(x + u + inverse + is_fixed)
    if np.count_nonzero(kept) < _FEWEST:
        return None
    x, y, u, v, depth = x[kept], y[kept], u[kept], v[kept], 1 / inverse[kept]
    points, (rotation, translation) = np.stack([x * depth, y * depth, depth]), last.motion
    slopes = np.zeros((6, 2, x.size))
    for _ in range(_ROUNDS):
        p, q, z = rotation @ points + translation[:, None]
        if not z.min() > 0:
            return None
        inverse = 1 / z
        p, q = p * inverse, q * inverse
        error = np.stack([u - p, v - q])
        size = np.hypot(*error)
        cut = max(3.5 * float(np.median(size)), grid.pixel / 8)
        weight = np.square(np.maximum(1 - np.square(size / cut), 0))
        slopes[0], slopes[1], slopes[2] = (-p * q, -1 - q * q), (1 + p * p, p * q), (-q, p)
        slopes[3, 0] = slopes[4, 1] = inverse
        slopes[5] = -p * inverse, -q * inverse
        flat = slopes.reshape(6, -1)
        weighted = (slopes * weight).reshape(6, -1)
        normal = weighted @ flat.T + 1e-9 * np.eye(6)
        change = np.linalg.solve(normal, weighted @ error.ravel())
        turn = cv2.Rodrigues(change[:3])[0]
        rotation, translation = turn @ rotation, turn @ translation + change[3:]
    agree = size < grid.pixel
    if np.count_nonzero(agree) < _FEWEST or np.mean(agree) < _LEAST_SHARE:
        return None
    return rotation, translation
