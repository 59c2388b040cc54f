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

"""Depth that a teacher says, made metres: by true depth, or by how high the camera is mounted.

What a teacher says of depth is `metric`, though perhaps off by a factor, metres = scale * said; or
`relative`: inverse depth but for a factor and an offset, 1 / metres = scale * said + shift, as
networks give that learned from images of unknown scale. A `ScaleShift` is (scale, shift); the
shift of metric depth is 0.

Truth gives a line directly. A known height gives it through the ground: metric depth is multiplied
by what brings the plane fitted to its ground pixels to that height, whatever the pitch. Relative
depth is fitted to the depth of the mounted camera's ground plane. There an unknown pitch is an
unknown offset (the ground's inverse depth is a line in the picture's rows), unless the sky is seen:
it has 1 / metres = 0, which tells the offset, and the pitch is estimated, too.

Where height and pitch are known, metric depth need not be off by one factor alone. A network that
never saw the world from so low, or so high, gets the ground wrong by another factor than what it
knows the size of. The ground is then where the mounting has it, as far as a small error of pitch
does no harm, and all else stands on it: the scale is that of the places where things meet the
ground below them, or 1 where there are none.
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
"""Metres; what is farther is not known (the files hold 16 bits of metres * 256)."""

MEMORY = 31
"""Frames whose median counts, those with a line that are nearest in time."""
MOST_CHANGE = 1.5
"""A relative line whose scale is farther off its neighbours' median is taken for wrong."""
MOST_TILT = math.radians(12)
"""By which an estimated pitch may differ from the given one."""
FEWEST = 100
"""Pixels below which nothing is fitted."""
LEAST_DIP = 0.06
"""Rad below the horizon, from where on the mounting tells how far the ground is: an error of pitch
of 0.006 rad is one of 10 % there."""
FEWEST_CONTACTS = 30
"""Pixels of things that stand on the ground, below which a frame does not tell their scale."""

_GROUND_NAMES = ("pavement", "sidewalk", "terrain", "road", "floor")
_COLUMNS, _PIXELS, _ROUNDS = 240, 3000, 10
"""Of the picture that are looked at, pixels that are enough for a line, and reweightings."""

ScaleShift = tuple[float, float]


def camera_of(frame: Mapping[str, Any]) -> Intrinsics | None:
    """The camera of a part's frame; None where the recording has no calibration."""
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
    """The a, b and, with `other`, c of y = a x + b + c other, whatever some of the points say.

    Least squares, reweighted first towards the median error, then (Tukey's biweight) without what
    is far off.

    Args:
        x: (n,)
        y: (n,)
        weights: (n,) of the errors.
        other: (n,)

    Returns:
        (2,) or (3,); None where the points do not tell.
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
    """How a teacher's depth becomes metres."""

    kind: str
    """One of `DEPTH_KINDS`."""
    classes: tuple[SemanticClass, ...]
    """Of the labels that tell ground and sky."""
    truth: bool = False
    """By true depth, which may be sparse."""
    height: float | None = None
    """Of the camera above the ground, metres."""
    pitch: float | None = None
    """Of the camera, rad, positive looks down; None: not known."""
    _rays: RayCache = field(default_factory=RayCache, compare=False, repr=False)

    @property
    def needed(self) -> bool:
        """Whether lines are measured at all; else depth is taken as the teacher says it."""
        return self.truth or self.height is not None

    def describe(self) -> str:
        """What a card and a report say of it."""
        if self.truth:
            return "by the recording's true depth"
        if self.height is None:
            return "as the teacher says"
        pitch = "unknown" if self.pitch is None else f"{self.pitch:g} rad"
        return f"by the camera's height of {self.height:g} m, pitch {pitch}"

    @property
    def _stands(self) -> bool:
        """Whether things stand on the mounting's ground."""
        known = self.height is not None and self.pitch is not None
        return self.kind == "metric" and known and not self.truth

    @property
    def _mounted(self) -> Ground:
        return Ground.from_mounting(self.height or math.nan, self.pitch or 0.0)

    def line(
        self,
        said: NDArray[np.float32],
        labels: NDArray[np.uint8],
        camera: Intrinsics | None,
        truth: NDArray[np.float32] | None,
    ) -> ScaleShift | None:
        """Measure one frame's line.

        Args:
            said: (H, W) what the teacher says of depth, NaN where it says nothing.
            labels: (H, W) class ids; needed for a height.
            camera: At the picture's size; needed for a height.
            truth: (H, W) metres, NaN or 0 where unknown.

        Returns:
            None where the frame does not tell.
        """
        if self.truth:
            return None if truth is None else self._by_truth(said, truth)
        if camera is None or self.height is None:
            return None
        step = max(1, camera.width // _COLUMNS)
        if self._stands:
            return self._by_contact(said, labels, camera)
        some = np.s_[sample(camera.height, step), sample(camera.width, step)]
        rays, said, labels = self._rays(camera, step), said[some], labels[some]
        is_ground = np.isin(labels, [c.id for c in self.classes if _is_ground(c)])
        mounted = self._mounted
        if self.kind == "relative":
            is_sky = np.isin(labels, [c.id for c in self.classes if "sky" in c.flags])
            return self._by_plane(said, rays, is_ground, is_sky, mounted)
        fit = fit_ground(rays, said, is_ground)
        return None if fit is None else (self.height / fit[0].height, 0.0)

    def smoothed(self, lines: Sequence[ScaleShift | None]) -> list[ScaleShift | None]:
        """Lines of a recording's frames, in order of time, with its median's help.

        Metric depth takes the median of the nearest frames with a line, so that one bad frame does
        no harm. Relative depth differs from picture to picture: it keeps its own line where that
        is near the median's. None is left only where no frame has a line.
        """
        if not self.needed:
            return [(1.0, 0.0)] * len(lines)
        known = [i for i, line in enumerate(lines) if line is not None]
        smooth: list[ScaleShift | None] = []
        for i, own in enumerate(lines):
            near = sorted(known, key=lambda k: abs(k - i))[:MEMORY]
            if not near:
                smooth.append((1.0, 0.0) if self._stands else None)
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
        said: NDArray[np.float32],
        line: ScaleShift | None,
        labels: NDArray[np.uint8] | None = None,
        camera: Intrinsics | None = None,
    ) -> NDArray[np.float32]:
        """Depth (H, W) in metres, NaN where it is not known or beyond `FARTHEST`.

        `labels` and `camera` as of `line`, needed where height and pitch are known.
        """
        if line is None:
            return np.full_like(said, np.nan)
        with np.errstate(divide="ignore", invalid="ignore"):
            if self._stands and labels is not None and camera is not None:
                depth = said * line[0]
                ground, near = self._plane(camera)
                on_ground = np.isin(labels, self._ids(_is_ground)) & near & np.isfinite(said)
                depth[on_ground] = ground[on_ground]
            else:
                depth = said * line[0] + line[1]
                depth = 1 / depth if self.kind == "relative" else depth
            depth[~((depth > 0) & (depth <= FARTHEST))] = np.nan
        return depth.astype(np.float32)

    def _ids(self, wanted: Callable[[SemanticClass], bool]) -> list[int]:
        return [c.id for c in self.classes if wanted(c)]

    def _plane(self, camera: Intrinsics) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
        """Depth (H, W) of the mounting's ground, and where it is near enough to be believed."""
        up, rays = np.array(self._mounted.up, np.float32), self._rays(camera)
        rise = np.tensordot(up[:2], rays, 1) + up[2]
        with np.errstate(divide="ignore", invalid="ignore"):
            return np.float32(self._mounted.height) / -rise, rise < -LEAST_DIP

    def _by_contact(
        self, said: NDArray[np.float32], labels: NDArray[np.uint8], camera: Intrinsics
    ) -> ScaleShift | None:
        """What obstacles say where they meet the ground, against how far the ground is there."""
        ground, near = self._plane(camera)
        is_ground = np.isin(labels, self._ids(_is_ground))
        stands = np.isin(labels, self._ids(lambda c: "obstacle" in c.flags))
        # A little above, where depth is the thing's own and not between its and the ground's.
        above = max(2, len(said) // 120)
        meets = stands[above:-1] & (labels[above:-1] == labels[: -above - 1])
        meets &= is_ground[above + 1 :] & near[above + 1 :]
        x, y = said[: -above - 1][meets], ground[above + 1 :][meets]
        told = np.isfinite(x) & np.isfinite(y) & (x > 0)
        if np.count_nonzero(told) < FEWEST_CONTACTS:
            return None
        return float(np.median(y[told] / x[told])), 0.0

    def _by_truth(self, said: NDArray[np.float32], truth: NDArray[np.float32]) -> ScaleShift | None:
        with np.errstate(invalid="ignore"):
            known = (truth > 0) & np.isfinite(truth) & np.isfinite(said)
            known &= (said > 0) | (self.kind == "relative")
        if np.count_nonzero(known) < FEWEST:
            return None
        x, z = said[known].astype(np.float64), truth[known].astype(np.float64)
        if self.kind != "relative":
            return float(np.median(z / x)), 0.0
        some = slice(None, None, max(1, len(x) // _PIXELS))
        # Errors of inverse depth times depth: relative ones, which count alike near and far.
        return _rising(fit_line(x[some], 1 / z[some], z[some]))

    def _by_plane(
        self,
        said: NDArray[np.float32],
        rays: NDArray[np.float32],
        is_ground: NDArray[np.bool_],
        is_sky: NDArray[np.bool_],
        mounted: Ground,
    ) -> ScaleShift | None:
        up = np.array(mounted.up)
        rise = np.tensordot(up[:2], rays, 1) + up[2]
        ground = np.flatnonzero(is_ground & (rise < 0) & np.isfinite(said))
        sky = np.flatnonzero(is_sky & np.isfinite(said))
        if ground.size < FEWEST:
            return None
        ground = ground[:: max(1, ground.size // _PIXELS)]
        x, inverse = said.ravel()[ground], -rise.ravel()[ground] / mounted.height
        if sky.size < FEWEST:
            found = fit_line(x, inverse)
        else:
            sky = sky[:: math.ceil(sky.size / ground.size)]
            # By how much inverse depth grows with the pitch.
            tilt = (up[2] * rays[1].ravel()[ground] - up[1]) / mounted.height
            zeros = np.zeros(len(sky))
            found = fit_line(
                np.r_[x, said.ravel()[sky]],
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
    """Whether it is what a camera's height is measured from."""
    return "traversable" in kind.flags or (not kind.flags and kind.name in _GROUND_NAMES)


def _rising(found: NDArray[np.float64] | None) -> ScaleShift | None:
    """A line's numbers, if what is nearer has more inverse depth by them."""
    return None if found is None or not found[0] > 0 else (float(found[0]), float(found[1]))
