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

"""Convert a teacher's depth to metres, with measured depth or the camera's mounting height.

A teacher's depth is `metric`, but possibly with a wrong scale: metres = scale * depth. Or it is
`relative`, which is inverse depth with unknown scale and shift: 1 / metres = scale * depth + shift.
Networks that are trained on images of unknown scale predict relative depth. A `ScaleShift` is
(scale, shift); the shift of metric depth is 0.

With measured depth, scale and shift are fitted to it. With a known camera height, they follow from
the ground. Metric depth is scaled so that the plane fitted to its ground pixels is at that height;
this does not need the pitch. Relative depth is fitted to the depth of the ground plane of the
mounted camera. An error of the pitch is then an error of the shift, because the ground's inverse
depth is linear in the image rows. If sky is visible, its inverse depth of 0 determines the shift,
and the pitch is estimated.

If height and pitch are known, one scale for metric depth is often not enough: a network that was
not trained with such a low or high camera has another scale error on the ground than on objects of
known size. So the depth of ground pixels is computed from the mounting, up to a distance at which a
small error of the pitch does not matter. The scale of all other pixels comes from the points where
obstacles touch the ground; it is 1 if there are none.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from depthseg_ros.derived.ground import Ground, fit_ground
from depthseg_ros.imaging.geometry import Intrinsics, RayCache, sample
from depthseg_ros.imaging.lens import Lens
from depthseg_ros.model_card import SemanticClass

DEPTH_KINDS = ("metric", "relative")
FARTHEST = 255.0
"""Greatest depth, metres; greater depth is unknown (files store metres * 256 in 16 bits)."""

MEMORY = 31
"""Number of frames in the median for smoothing: those nearest in time with a fit."""
MOST_CHANGE = 1.5
"""Greatest factor between the scale of a relative fit and its neighbours' median."""
MOST_TILT = math.radians(12)
"""Greatest difference of the estimated pitch from the given one, rad."""
FEWEST = 100
"""Minimum number of pixels of a fit."""
LEAST_DIP = 0.06
"""Minimum angle below the horizon, rad, at which ground depth follows from the mounting: there
an error of the pitch of 0.006 rad is an error of depth of 10 %."""
FEWEST_CONTACTS = 30
"""Minimum number of pixels where obstacles touch the ground."""

_GROUND_NAMES = ("pavement", "sidewalk", "terrain", "road", "floor")
_COLUMNS, _PIXELS, _ROUNDS = 240, 3000, 10
"""Columns and pixels that are used for a fit, and number of reweightings."""

ScaleShift = tuple[float, float]


def camera_of(frame: Mapping[str, Any]) -> Intrinsics | None:
    """The camera of a part's frame; None if the recording has no camera_info."""
    camera = frame.get("camera")
    if camera is None:
        return None
    lens = Lens(camera["lens"]["model"], tuple(camera["lens"]["coefficients"]))
    fx, fy, cx, cy = (float(camera[name]) for name in ("fx", "fy", "cx", "cy"))
    return Intrinsics(frame["width"], frame["height"], fx, fy, cx, cy, lens)


def fit_line(
    x: NDArray[np.floating[Any]],
    y: NDArray[np.floating[Any]],
    weights: NDArray[np.floating[Any]] | float = 1.0,
    other: NDArray[np.floating[Any]] | None = None,
) -> NDArray[np.float64] | None:
    """Fit a, b and, with `other`, c of y = a x + b + c other, robust to outliers.

    Reweighted least squares, first for the smallest sum of absolute errors, then with Tukey's
    biweight.

    Args:
        x: (n,)
        y: (n,)
        weights: (n,) factors of the errors.
        other: (n,)

    Returns:
        (2,) or (3,); None if the points are too few or do not determine the fit.
    """
    columns = [x, np.ones(len(x))] + ([] if other is None else [other])
    weights = np.broadcast_to(weights, len(x))
    rows = np.stack(columns, 1).astype(np.float64) * weights[:, None]
    target = y * weights
    scales = np.linalg.norm(rows, axis=0)
    if len(x) < FEWEST or not np.all(scales > 0) or not np.isfinite(rows).all():
        return None
    rows = rows / scales
    factors = np.ones(len(x))
    for turn in range(2 * _ROUNDS):
        root = np.sqrt(factors)
        found, _, rank, _ = np.linalg.lstsq(rows * root[:, None], target * root, rcond=1e-6)
        if rank < rows.shape[1]:
            return None
        error = np.abs(rows @ found - target)
        middle = float(np.median(error))
        if middle <= 1e-9 * float(np.abs(target).max()):
            break
        if turn < _ROUNDS:
            factors = 1 / np.maximum(error, middle / 10)
        else:
            factors = np.square(np.maximum(1 - np.square(error / (6 * middle)), 0))
    return np.asarray(found / scales)


@dataclass(frozen=True)
class Alignment:
    """Converts a teacher's depth to metres."""

    kind: str
    """One of `DEPTH_KINDS`."""
    classes: tuple[SemanticClass, ...]
    """Classes of the labels."""
    truth: bool = False
    """Whether to use measured depth, which may be sparse."""
    height: float | None = None
    """Height of the camera above the ground, metres."""
    pitch: float | None = None
    """Pitch of the camera, rad, positive is down; None: unknown."""
    _rays: RayCache = field(default_factory=RayCache, compare=False, repr=False)

    @property
    def needed(self) -> bool:
        """Whether scale and shift are fitted; otherwise the teacher's depth is used unchanged."""
        return self.truth or self.height is not None

    def describe(self) -> str:
        """Describe the method for cards and reports."""
        if self.truth:
            return "by the recording's true depth"
        if self.height is None:
            return "as the teacher says"
        pitch = "unknown" if self.pitch is None else f"{self.pitch:g} rad"
        return f"by the camera's height of {self.height:g} m, pitch {pitch}"

    @property
    def _uses_contacts(self) -> bool:
        """Whether ground depth comes from the mounting, and the scale from contacts with it."""
        known = self.height is not None and self.pitch is not None
        return self.kind == "metric" and known and not self.truth

    @property
    def _mounted(self) -> Ground:
        return Ground.from_mounting(self.height or math.nan, self.pitch or 0.0)

    def line(
        self,
        predicted: NDArray[np.float32],
        labels: NDArray[np.uint8],
        camera: Intrinsics | None,
        truth: NDArray[np.float32] | None,
    ) -> ScaleShift | None:
        """Fit scale and shift of one frame.

        Args:
            predicted: (H, W) the teacher's depth, NaN if unknown.
            labels: (H, W) class ids; needed for a height.
            camera: At the image's size; needed for a height.
            truth: (H, W) measured depth, metres, NaN or 0 if unknown.

        Returns:
            Scale and shift; None if the frame does not determine them.
        """
        if self.truth:
            return None if truth is None else self._by_truth(predicted, truth)
        if camera is None or self.height is None:
            return None
        step = max(1, camera.width // _COLUMNS)
        if self._uses_contacts:
            return self._by_contact(predicted, labels, camera)
        some = np.s_[sample(camera.height, step), sample(camera.width, step)]
        rays, predicted, labels = self._rays(camera, step), predicted[some], labels[some]
        is_ground = np.isin(labels, [c.id for c in self.classes if _is_ground(c)])
        mounted = self._mounted
        if self.kind == "relative":
            is_sky = np.isin(labels, [c.id for c in self.classes if "sky" in c.flags])
            return self._by_plane(predicted, rays, is_ground, is_sky, mounted)
        fit = fit_ground(rays, predicted, is_ground)
        return None if fit is None else (self.height / fit[0].height, 0.0)

    def smoothed(self, lines: Sequence[ScaleShift | None]) -> list[ScaleShift | None]:
        """Smooth the fits of consecutive frames with the median.

        Metric depth gets the median of the nearest frames with a fit, so that one wrong fit has no
        effect. Relative depth has another scale in each image: a frame keeps its own fit if its
        scale is close to the median. The result is None only if no frame has a fit.
        """
        if not self.needed:
            return [(1.0, 0.0)] * len(lines)
        known = [i for i, line in enumerate(lines) if line is not None]
        smooth: list[ScaleShift | None] = []
        for i, own in enumerate(lines):
            near = sorted(known, key=lambda k: abs(k - i))[:MEMORY]
            if not near:
                smooth.append((1.0, 0.0) if self._uses_contacts else None)
                continue
            scale, shift = np.median([lines[k] for k in near], axis=0).tolist()
            if self.kind == "relative" and own is not None:
                off = abs(math.log(own[0] / scale))
                smooth.append(own if off < math.log(MOST_CHANGE) else (scale, shift))
            else:
                smooth.append((scale, shift))
        return smooth

    def metres(
        self,
        predicted: NDArray[np.float32],
        line: ScaleShift | None,
        labels: NDArray[np.uint8] | None = None,
        camera: Intrinsics | None = None,
    ) -> NDArray[np.float32]:
        """Convert to metres, (H, W), NaN if unknown or greater than `FARTHEST`.

        `labels` and `camera` as in `line`, needed if height and pitch are known.
        """
        if line is None:
            return np.full_like(predicted, np.nan)
        with np.errstate(divide="ignore", invalid="ignore"):
            if self._uses_contacts and labels is not None and camera is not None:
                depth = predicted * line[0]
                ground, near = self._plane(camera)
                on_ground = np.isin(labels, self._ids(_is_ground)) & near & np.isfinite(predicted)
                depth[on_ground] = ground[on_ground]
            else:
                depth = predicted * line[0] + line[1]
                depth = 1 / depth if self.kind == "relative" else depth
            depth[~((depth > 0) & (depth <= FARTHEST))] = np.nan
        return depth.astype(np.float32)

    def _ids(self, wanted: Callable[[SemanticClass], bool]) -> list[int]:
        return [c.id for c in self.classes if wanted(c)]

    def _plane(self, camera: Intrinsics) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
        """Depth (H, W) of the ground plane, metres, and where it is near enough to be used."""
        up, rays = np.array(self._mounted.up, np.float32), self._rays(camera)
        rise = np.tensordot(up[:2], rays, 1) + up[2]
        with np.errstate(divide="ignore", invalid="ignore"):
            return np.float32(self._mounted.height) / -rise, rise < -LEAST_DIP

    def _by_contact(
        self, predicted: NDArray[np.float32], labels: NDArray[np.uint8], camera: Intrinsics
    ) -> ScaleShift | None:
        """Compare the depth of obstacles with that of the ground where they touch it."""
        ground, near = self._plane(camera)
        is_ground = np.isin(labels, self._ids(_is_ground))
        is_obstacle = np.isin(labels, self._ids(lambda c: "obstacle" in c.flags))
        # A few rows above the contact, where depth does not mix obstacle and ground.
        above = max(2, len(predicted) // 120)
        touches = is_obstacle[above:-1] & (labels[above:-1] == labels[: -above - 1])
        touches &= is_ground[above + 1 :] & near[above + 1 :]
        x, y = predicted[: -above - 1][touches], ground[above + 1 :][touches]
        known = np.isfinite(x) & np.isfinite(y) & (x > 0)
        if np.count_nonzero(known) < FEWEST_CONTACTS:
            return None
        return float(np.median(y[known] / x[known])), 0.0

    def _by_truth(
        self, predicted: NDArray[np.float32], truth: NDArray[np.float32]
    ) -> ScaleShift | None:
        with np.errstate(invalid="ignore"):
            known = (truth > 0) & np.isfinite(truth) & np.isfinite(predicted)
            known &= (predicted > 0) | (self.kind == "relative")
        if np.count_nonzero(known) < FEWEST:
            return None
        x, z = predicted[known].astype(np.float64), truth[known].astype(np.float64)
        if self.kind != "relative":
            return float(np.median(z / x)), 0.0
        some = slice(None, None, max(1, len(x) // _PIXELS))
        # The errors of inverse depth times depth are relative errors: near and far count equally.
        return _rising(fit_line(x[some], 1 / z[some], z[some]))

    def _by_plane(
        self,
        predicted: NDArray[np.float32],
        rays: NDArray[np.float32],
        is_ground: NDArray[np.bool_],
        is_sky: NDArray[np.bool_],
        mounted: Ground,
    ) -> ScaleShift | None:
        up = np.array(mounted.up)
        rise = np.tensordot(up[:2], rays, 1) + up[2]
        ground = np.flatnonzero(is_ground & (rise < 0) & np.isfinite(predicted))
        sky = np.flatnonzero(is_sky & np.isfinite(predicted))
        if ground.size < FEWEST:
            return None
        ground = ground[:: max(1, ground.size // _PIXELS)]
        x, inverse = predicted.ravel()[ground], -rise.ravel()[ground] / mounted.height
        if sky.size < FEWEST:
            found = fit_line(x, inverse)
        else:
            sky = sky[:: math.ceil(sky.size / ground.size)]
            # Derivative of inverse depth with respect to the pitch.
            tilt = (up[2] * rays[1].ravel()[ground] - up[1]) / mounted.height
            zeros = np.zeros(len(sky))
            found = fit_line(
                np.r_[x, predicted.ravel()[sky]],
                np.r_[inverse, zeros],
                np.r_[np.ones(len(x)), np.full(len(sky), math.sqrt(len(x) / len(sky)))],
                np.r_[-tilt, zeros],
            )
            if found is not None and abs(found[2]) > MOST_TILT:
                return None
            if found is not None:
                inverse = inverse + found[2] * tilt
        line = _rising(found)
        if line is None:
            return None
        off = np.abs(x * line[0] + line[1] - inverse)
        return line if np.median(off / np.maximum(inverse, 0.02)) < 0.2 else None


def _is_ground(kind: SemanticClass) -> bool:
    """Whether the camera's height is measured from this class."""
    return "traversable" in kind.flags or (not kind.flags and kind.name in _GROUND_NAMES)


def _rising(found: NDArray[np.float64] | None) -> ScaleShift | None:
    """Scale and shift of a fit; None if the scale is not positive."""
    return None if found is None or not found[0] > 0 else (float(found[0]), float(found[1]))
