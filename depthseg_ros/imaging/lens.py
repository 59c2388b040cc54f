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

"""Distort and undistort rays with the lens models of `sensor_msgs/CameraInfo`.

The formulas are OpenCV's (calib3d and its fisheye model, Kannala and Brandt 2006). Rays are x/z and
y/z in the camera's optical frame.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ..texts import shortened

MODELS = {"plumb_bob": (4, 5), "rational_polynomial": (8, 12, 14), "equidistant": (4,)}
"""Distortion models -> how many coefficients they may have.

As in OpenCV, 12 coefficients of a rational_polynomial include a thin prism, 14 a tilted sensor.
"""
_OPENCV = {
    **dict.fromkeys((0, 5), "plumb_bob"),
    **dict.fromkeys((8, 12, 14), "rational_polynomial"),
}
_FISHEYE = {4: "equidistant"}
NAMES: dict[str, dict[int, str]] = {
    **dict.fromkeys(("plumb_bob", "rational_polynomial", "radtan", "radial_tangential"), _OPENCV),
    **dict.fromkeys(("brown_conrady", "pinhole", ""), _OPENCV),
    **dict.fromkeys(("equidistant", "equi", "fisheye"), _FISHEYE),
    **dict.fromkeys(("kannala_brandt", "kannala_brandt4"), _FISHEYE),
    "none": {0: "plumb_bob"},
}
"""Names of distortion models -> the number of coefficients, in ascending order -> our model."""

_ANGLES = np.linspace(0, math.radians(89.9), 4096)
"""Off the optical axis, at which the radial part is tabled."""
_STEPS = 5
_TOLERANCE = 1e-5
"""Of x/z and y/z: how far off a ray may come out of the lens again."""

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Lens:
    """Distortion of a lens; by default none."""

    model: str = "plumb_bob"
    """One of `MODELS`."""
    coefficients: tuple[float, ...] = ()
    """In OpenCV's order, as many as the model has; () is a plumb_bob that does nothing."""

    def __post_init__(self) -> None:
        """Check model and coefficients; raises `ValueError`."""
        counts = MODELS.get(self.model)
        if counts is None:
            raise ValueError(f"lens {shortened(self.model)!r}, expected one of {', '.join(MODELS)}")
        pinhole = self.model != "equidistant" and not self.coefficients
        if not pinhole and len(self.coefficients) not in counts:
            raise ValueError(
                f"{len(self.coefficients)} coefficients of a {self.model} lens, expected"
                f" {' or '.join(map(str, counts))}"
            )
        if not all(map(math.isfinite, self.coefficients)):
            raise ValueError(f"coefficients {self.coefficients} of a lens, expected finite ones")

    @property
    def bends(self) -> bool:
        """Whether it distorts; a fisheye without coefficients still does."""
        return self.model == "equidistant" or any(self.coefficients)

    @classmethod
    def named(cls, name: str, coefficients: Sequence[float]) -> Lens:
        """Make a lens from the names that drivers and calibration tools use.

        Zeros at the end are dropped and missing coefficients are zero, as in OpenCV, where their
        number alone tells a plumb_bob from a rational_polynomial.

        Args:
            name: Name of the distortion model, one of `NAMES`, in any case, with `_`, `-` or blank.
            coefficients: In OpenCV's order.

        Raises:
            ValueError: The name is unknown, a coefficient is not finite, or there are more of them
                than the model has.
        """
        models = NAMES.get(name.strip().lower().replace("-", "_").replace(" ", "_"))
        if models is None:
            known = ", ".join(filter(None, NAMES))
            raise ValueError(f"unknown lens {shortened(name)!r}, expected one of {known}")
        given = [float(coefficient) for coefficient in coefficients]
        while given and given[-1] == 0:
            given.pop()
        for count, model in models.items():
            if len(given) <= count:
                return cls(model, (*given, *[0.0] * (count - len(given))))
        raise ValueError(
            f"{len(given)} coefficients of a lens {shortened(name)!r}, expected {max(models)} at"
            " most"
        )

    def unbent(self, x: Array, y: Array) -> tuple[Array, Array]:
        """The rays (N,) that come out of the lens as (x, y).

        NaN beyond the angle at which the distortion is no longer monotonic, which is outside of the
        image for a well calibrated lens.
        """
        with np.errstate(all="ignore"):  # coefficients may be anything
            slopes = np.tan(_ANGLES)
            out = (
                self._fisheye(_ANGLES)
                if self.model == "equidistant"
                else slopes * self._radial(slopes**2)[0]
            )
            turns = np.flatnonzero(~(np.diff(out) > 0))
            rising = slice(0, turns[0] + 1 if turns.size else None)
            if len(self.coefficients) == 14:
                x, y = self._untilted(x, y)
            radius = np.hypot(x, y)
            angle = np.interp(radius, out[rising], _ANGLES[rising], right=np.nan)
            grown = np.where(radius > 0, np.tan(angle) / radius, 1)
            if self.model != "equidistant":
                return self._polished(x, y, x * grown, y * grown)
            for _ in range(2):
                k = np.array(self.coefficients) * (3, 5, 7, 9)
                slope = 1 + sum(c * angle ** (2 * i + 2) for i, c in enumerate(k))
                angle = angle - (self._fisheye(angle) - radius) / slope
            grown = np.where(radius > 0, np.tan(angle) / radius, 1)
            return x * grown, y * grown

    def _fisheye(self, angle: Array) -> Array:
        """How far from the centre light from that far off the axis arrives."""
        powers = (c * angle ** (2 * i + 2) for i, c in enumerate(self.coefficients))
        return np.asarray(angle * (1 + sum(powers)))

    def _radial(self, r2: Array) -> tuple[Array, Array]:
        """The factor by which rays of squared length r2 are lengthened, and its derivative."""
        k1, k2, _, _, k3, k4, k5, k6 = (*self.coefficients, *[0.0] * 8)[:8]
        above = 1 + r2 * (k1 + r2 * (k2 + r2 * k3))
        below = 1 + r2 * (k4 + r2 * (k5 + r2 * k6))
        above_slope = k1 + r2 * (2 * k2 + r2 * 3 * k3)
        below_slope = k4 + r2 * (2 * k5 + r2 * 3 * k6)
        factor = above / below
        return factor, (above_slope - factor * below_slope) / below

    def _untilted(self, x: Array, y: Array) -> tuple[Array, Array]:
        """What arrives at a sensor that is not tilted where (x, y) arrives at the tilted one."""
        a, b = self.coefficients[12:]
        about_x = [[1, 0, 0], [0, math.cos(a), math.sin(a)], [0, -math.sin(a), math.cos(a)]]
        about_y = [[math.cos(b), 0, -math.sin(b)], [0, 1, 0], [math.sin(b), 0, math.cos(b)]]
        turned = np.array(about_y) @ about_x
        # The inverse up to a factor, which the division takes out; a sensor edge-on has none.
        back = np.transpose(turned) @ [
            [1.0, 0.0, turned[0, 2]],
            [0.0, 1.0, turned[1, 2]],
            [0.0, 0.0, turned[2, 2]],
        ]
        u, v, w = np.tensordot(back, np.stack([x, y, np.ones_like(x)]), 1)
        return u / w, v / w

    def _polished(self, x: Array, y: Array, u: Array, v: Array) -> tuple[Array, Array]:
        """Rays near (u, v) that come out as (x, y), with what is not radial; Newton."""
        p1, p2 = self.coefficients[2:4]
        s1, s2, s3, s4 = (*self.coefficients, *[0.0] * 8)[8:12]
        for step in range(_STEPS + 1):
            r2 = u * u + v * v
            factor, slope = self._radial(r2)
            dx = u * factor + 2 * p1 * u * v + p2 * (r2 + 2 * u * u) + r2 * (s1 + r2 * s2) - x
            dy = v * factor + p1 * (r2 + 2 * v * v) + 2 * p2 * u * v + r2 * (s3 + r2 * s4) - y
            if step == _STEPS:
                break
            prism_x, prism_y = 2 * s1 + 4 * s2 * r2, 2 * s3 + 4 * s4 * r2
            xx = factor + 2 * u * u * slope + 2 * p1 * v + 6 * p2 * u + prism_x * u
            xy = 2 * u * v * slope + 2 * p1 * u + 2 * p2 * v
            yx, xy = xy + prism_y * u, xy + prism_x * v
            yy = factor + 2 * v * v * slope + 6 * p1 * v + 2 * p2 * u + prism_y * v
            determinant = xx * yy - xy * yx
            u = u - (yy * dx - xy * dy) / determinant
            v = v - (xx * dy - yx * dx) / determinant
        found = np.abs(dx) + np.abs(dy) < _TOLERANCE
        return np.where(found, u, np.nan), np.where(found, v, np.nan)


PINHOLE = Lens()
