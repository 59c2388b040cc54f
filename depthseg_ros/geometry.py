"""Camera geometry: intrinsics, lenses and the rays of pixels.

Pixel centres lie at integer coordinates, as in OpenCV and `sensor_msgs/CameraInfo`; the camera
looks along +z with x to the right and y down (REP-103, optical frame). Depth is metres along z.
"""

from __future__ import annotations

import functools
import math
from dataclasses import dataclass, replace

import cv2
import numpy as np
from numpy.typing import NDArray

LENS_MODELS = {"plumb_bob": (4, 5), "rational_polynomial": (8,), "equidistant": (4,)}
"""Distortion models of `sensor_msgs/CameraInfo` -> how many coefficients they may have."""


@dataclass(frozen=True)
class Lens:
    """How a lens bends the rays of a pinhole camera; by default not at all."""

    model: str = "plumb_bob"
    """One of `LENS_MODELS`."""
    coefficients: tuple[float, ...] = ()
    """In OpenCV's order; none, or as many as the model has."""

    def __post_init__(self) -> None:
        """Raise `ValueError` for an unknown model, or coefficients that are not its own."""
        counts = LENS_MODELS.get(self.model)
        if counts is None:
            raise ValueError(f"lens {self.model!r}, expected one of {', '.join(LENS_MODELS)}")
        if self.coefficients and len(self.coefficients) not in counts:
            raise ValueError(
                f"{len(self.coefficients)} coefficients of a {self.model} lens, expected"
                f" {' or '.join(map(str, counts))}"
            )
        if not all(map(math.isfinite, self.coefficients)):
            raise ValueError(f"coefficients {self.coefficients} of a lens, expected finite ones")

    @property
    def bends(self) -> bool:
        """Whether it does anything."""
        return any(self.coefficients)


@dataclass(frozen=True)
class Intrinsics:
    """A camera: picture size and focal lengths and principal point, all in pixels, and its lens."""

    width: int
    height: int
    fx: float
    fy: float
    cx: float
    cy: float
    lens: Lens = Lens()

    @classmethod
    def from_fov(cls, width: int, height: int, fov: float) -> Intrinsics:
        """Square pixels, a centred principal point; `fov` is the horizontal one in radians."""
        focal = width / (2 * math.tan(fov / 2))
        return cls(width, height, focal, focal, (width - 1) / 2, (height - 1) / 2)

    def scaled(self, width: int, height: int) -> Intrinsics:
        """The same camera when its picture is resized to `width` x `height`."""
        sx, sy = width / self.width, height / self.height
        return replace(
            self,
            width=width,
            height=height,
            fx=self.fx * sx,
            fy=self.fy * sy,
            cx=(self.cx + 0.5) * sx - 0.5,
            cy=(self.cy + 0.5) * sy - 0.5,
        )

    @property
    def matrix(self) -> NDArray[np.float64]:
        """The camera matrix K, (3, 3)."""
        return np.array([[self.fx, 0, self.cx], [0, self.fy, self.cy], [0, 0, 1]], np.float64)


@functools.lru_cache(maxsize=8)
def rays(camera: Intrinsics, step: int = 1) -> NDArray[np.float32]:
    """Where pixels look: a pixel's point in space is (x/z, y/z, 1) times its depth.

    Args:
        camera: At the picture's size.
        step: Every so many rows and columns, from `step // 2` on.

    Returns:
        (2, H', W') float32, x/z and y/z; NaN where the lens sees nothing. Kept for the next call,
        and so not to be written to.
    """
    u = np.arange(step // 2, camera.width, step)
    v = np.arange(step // 2, camera.height, step)
    x = np.broadcast_to((u - camera.cx) / camera.fx, (len(v), len(u)))
    y = np.broadcast_to(((v - camera.cy) / camera.fy)[:, None], x.shape)
    found = np.stack([x, y]).astype(np.float32)
    if camera.lens.bends:
        found = _unbent(found.reshape(2, -1), camera.lens).reshape(found.shape)
    found.flags.writeable = False
    return found


_ITERATIONS = 30
_TOLERANCE = 1e-3
"""Of x/z and y/z: how far off a ray may come out of the lens again; half a pixel at fx = 500."""


def _unbent(bent: NDArray[np.float32], lens: Lens) -> NDArray[np.float32]:
    """Rays (2, N) before a lens bent them; NaN where there is none that it would bend so."""
    one, d, zero = np.eye(3), np.array(lens.coefficients), np.zeros(3)
    points = np.ascontiguousarray(bent.T[:, None], np.float64)
    if lens.model == "equidistant":
        straight = cv2.fisheye.undistortPoints(points, one, d)
        error = cv2.fisheye.distortPoints(straight, one, d) - points
    else:
        straight = cv2.undistortPoints(points, one, d)  # five steps, too few at the corners
        for _ in range(_ITERATIONS):
            there = cv2.convertPointsToHomogeneous(straight)
            error = cv2.projectPoints(there, zero, zero, one, d)[0] - points
            if np.abs(error).max() < _TOLERANCE / 100:
                break
            straight = straight - error
    # Beyond a lens's field of view the polynomials turn back, and iterations end anywhere.
    straight[~(np.abs(error).max(axis=(1, 2)) < _TOLERANCE)] = np.nan
    return straight[:, 0].T.astype(np.float32)


def to_millimetres(depth: NDArray[np.float32]) -> NDArray[np.uint16]:
    """Depth in metres as REP-118's 16UC1: millimetres, 0 where there is none or it does not fit."""
    scaled = np.rint(np.nan_to_num(depth, posinf=0, neginf=0) * 1000)
    return np.where((scaled > 0) & (scaled < 2**16), scaled, 0).astype(np.uint16)
