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

"""The ground plane, from the camera's mounting or fitted to the depth of ground pixels.

Uses the camera's optical frame, x right, y down, z forward (REP-103). `rays` are x/z and y/z of the
pixels, so their points are (rays[0] * depth, rays[1] * depth, depth).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from ..imaging.geometry import turned

TOLERANCE = 0.1
"""Maximum relative error in depth of a pixel that lies on a plane."""

FEWEST_PIXELS = 100
"""Minimum number of ground pixels with depth for fitting a plane."""

LEAST_SHARE = 0.5
"""Minimum share of ground pixels on the plane; otherwise the fit is rejected."""

STEEPEST = math.radians(45)
"""Maximum angle between the image's up and the ground's for an accepted fit, rad."""

_POINTS, _SCORED, _TRIALS, _ROUNDS = 2500, 500, 150, 10
"""Maximum number of pixels for the fit and for the score of candidates; number of candidates (if
40 % of the pixels are wrong, one in five has no wrong pixel); maximum number of reweightings."""

_SPREAD = 0.1
"""Errors of depth may be amplified by at most 1 / _SPREAD in the plane. If all pixels lie near a
line or a spot of the image, the plane's rotation about it is not determined."""


@dataclass(frozen=True)
class Ground:
    """A ground plane: the height of a point p above it is `height` + `up` . p."""

    up: tuple[float, float, float]
    """Unit vector that points up from the ground."""
    height: float
    """Height of the camera above the ground, metres; must be positive (ValueError)."""

    def __post_init__(self) -> None:
        if not 0 < self.height < math.inf:
            raise ValueError(
                f"the camera height above the ground is {self.height} m, expected more than 0"
            )

    @classmethod
    def from_mounting(cls, height: float, pitch: float = 0.0, roll: float = 0.0) -> Ground:
        """The ground below a camera `height` metres above it.

        The angles, rad, rotate the camera's body frame (x forward, y left, z up) as in REP-103:
        first `roll` about x, positive is right side down; then `pitch` about the level y, positive
        is down.
        """
        sin, cos = math.sin(pitch), math.cos(pitch)
        return cls((-cos * math.sin(roll), -cos * math.cos(roll), -sin), height)

    @classmethod
    def from_pose(cls, translation: Sequence[float], rotation: Sequence[float]) -> Ground:
        """The plane z = 0 of a frame with z up, such as base_footprint (REP-120).

        Args:
            translation: (x, y, z) of its origin in the camera's optical frame, metres.
            rotation: (x, y, z, w), the quaternion that rotates its axes to the optical frame.
        """
        x, y, z, w = rotation
        up = (2 * (x * z + w * y), 2 * (y * z - w * x), 1 - 2 * (x * x + y * y))
        return cls(up, -sum(u * t for u, t in zip(up, translation, strict=True)))

    @property
    def pitch(self) -> float:
        """Pitch as in `from_mounting`, rad, -pi/2 to pi/2."""
        return math.asin(max(-1.0, min(1.0, -self.up[2])))

    @property
    def roll(self) -> float:
        """Roll as in `from_mounting`, rad, -pi to pi."""
        return math.atan2(-self.up[0], -self.up[1])

    def heights(self, rays: NDArray[np.float32], depth: NDArray[np.float32]) -> NDArray[np.float32]:
        """Heights (H, W) above the ground, metres, of pixels with rays (2, H, W) and depth (H, W).

        NaN if there is no ray or no depth. Other shapes are possible, such as (2, n) and (n,).
        """
        x, y, z = np.array(self.up, np.float32)
        rise = rays[0] * x + rays[1] * y + z
        return np.asarray(rise * depth + np.float32(self.height))

    def turned(self, degrees: int) -> Ground:
        """The ground in the axes of the image rotated clockwise by a multiple of 90 degrees."""
        x, y = turned(np.array(self.up[:2]), degrees).tolist()
        return replace(self, up=(x, y, self.up[2]))

    def scaled(self, factor: float) -> Ground:
        """The ground after all depth is multiplied by `factor`, which is positive."""
        return replace(self, height=self.height * factor)


def fit_ground(
    rays: NDArray[np.float32],
    depth: NDArray[np.float32],
    is_ground: NDArray[np.bool_],
    expected: Ground | None = None,
) -> tuple[Ground, float] | None:
    """Fit the plane that most ground pixels lie on, with minimum relative error in depth.

    Errors of depth from one image are relative. Up to 40 % of the pixels may be wrong. With a road
    and a pavement, the result is the plane with more pixels, or one in between if noise hides the
    step.

    Args:
        rays: (2, H, W), NaN if unknown.
        depth: (H, W) metres, NaN if unknown.
        is_ground: (H, W) whether a pixel is labelled as ground.
        expected: Another candidate, such as the plane of the mounting; it is not preferred.

    Returns:
        The plane and the share of ground pixels with depth, 0 to 1, within `TOLERANCE` of it. None
        if there are fewer than `FEWEST_PIXELS`, if all are near a line or a spot of the image, or
        if there is no plane below the camera within `STEEPEST` with `LEAST_SHARE` of them.
    """
    rng = np.random.default_rng(0)  # the same plane for the same image
    known = is_ground & (depth > 0) & np.isfinite(depth) & np.isfinite(rays[0] + rays[1])
    pixels = np.flatnonzero(known)
    if pixels.size < FEWEST_PIXELS:
        return None
    pixels = rng.choice(pixels, min(pixels.size, _POINTS), replace=False)
    points = np.ones((3, pixels.size))
    points[:2] = rays.reshape(2, -1)[:, pixels]
    points *= depth.ravel()[pixels]

    # A plane is the q with q . p = 1 for its points p: -up / height. For others q . p is their
    # depth over the plane's. First planes go through three points each.
    a, b, c = points.T[rng.integers(0, pixels.size, (3, _TRIALS))]
    normal = np.cross(b - a, c - a)
    with np.errstate(divide="ignore", invalid="ignore"):
        planes = normal / np.sum(normal * a, axis=1)[:, None]
    if expected is not None:
        planes = np.vstack([planes, -np.array(expected.up) / expected.height])
    planes = planes[_is_believable(planes)]
    if not len(planes):
        return None
    # By the median, which sees two planes in road and pavement where depth is exact enough: means
    # up to some limit are least for one tilted between them.
    errors = np.abs(planes.astype(np.float32) @ points[:, :_SCORED].astype(np.float32) - 1)
    middle = errors.shape[1] // 2
    q = _refined(planes[np.partition(errors, middle)[:, middle].argmin()], points)
    if q is None or not _is_believable(q):
        return None
    share = float(np.mean(np.abs(q @ points - 1) <= TOLERANCE))
    if share < LEAST_SHARE:
        return None
    height = 1 / float(np.linalg.norm(q))
    x, y, z = (-q * height).tolist()
    return Ground((x, y, z), height), share


def _is_believable(planes: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Which of the planes (..., 3) are finite, below the camera and not too steep."""
    length = np.linalg.norm(planes, axis=-1)
    return np.asarray((planes[..., 1] > math.cos(STEEPEST) * length) & np.isfinite(length))


def _refined(q: NDArray[np.float64], points: NDArray[np.float64]) -> NDArray[np.float64] | None:
    """The plane near q of least squares without far points (Tukey's biweight), if they hold it."""
    for _ in range(_ROUNDS):
        error = q @ points - 1
        # The ground's noise as of its better pixels, were it normal. The floor is for exact depth;
        # above the ceiling anything would be ground.
        rank = int(0.4 * error.size)
        deviation = float(np.partition(np.abs(error), rank)[rank]) / 0.5244
        cut = 3 * min(max(deviation, TOLERANCE / 50), TOLERANCE / 2)
        weights = np.square(np.maximum(1 - np.square(error / cut), 0))
        # Where rays meet the plane: of the points themselves noise, squared, would lift the camera.
        there = points / np.maximum(error + 1, 0.5)
        weighted = there * weights
        moments = weighted @ there.T
        least_shown = np.linalg.eigvalsh(moments)[0] * (q @ q)  # in depth, of errors relative to q
        if not least_shown > _SPREAD**2 * weights.sum():
            return None
        q = q - np.linalg.solve(moments, weighted @ error)
    return q
