"""Pinhole geometry: intrinsics and what follows from them and a depth image.

Pixel centres lie at integer coordinates, as in OpenCV and `sensor_msgs/CameraInfo`; the camera
looks along +z with x to the right and y down (REP-103, optical frame). Depth is metres along z.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Intrinsics:
    """A pinhole camera: picture size and focal lengths and principal point, all in pixels."""

    width: int
    height: int
    fx: float
    fy: float
    cx: float
    cy: float

    @classmethod
    def from_fov(cls, width: int, height: int, fov: float) -> Intrinsics:
        """Square pixels, a centred principal point; `fov` is the horizontal one in radians."""
        focal = width / (2 * math.tan(fov / 2))
        return cls(width, height, focal, focal, (width - 1) / 2, (height - 1) / 2)

    def scaled(self, width: int, height: int) -> Intrinsics:
        """The same camera when its picture is resized to `width` x `height`."""
        sx, sy = width / self.width, height / self.height
        return Intrinsics(
            width,
            height,
            self.fx * sx,
            self.fy * sy,
            (self.cx + 0.5) * sx - 0.5,
            (self.cy + 0.5) * sy - 0.5,
        )

    @property
    def matrix(self) -> NDArray[np.float64]:
        """The camera matrix K, (3, 3)."""
        return np.array([[self.fx, 0, self.cx], [0, self.fy, self.cy], [0, 0, 1]], np.float64)


@dataclass(frozen=True)
class ClassDistance:
    """How far a class is and how much of the picture it fills."""

    class_id: int
    class_name: str
    pixel_share: float
    """Of all pixels, 0 to 1."""
    nearest: float
    """The depth that 2 % of the class's pixels stay below, metres; robust against single wrong
    pixels, NaN where the class has no depth."""
    median: float
    """Median depth, metres; NaN where the class has no depth."""


NEAREST_PERCENTILE = 2


def class_distances(
    labels: NDArray[np.uint8], depth: NDArray[np.float32] | None, names: Mapping[int, str]
) -> list[ClassDistance]:
    """Distances of every class that a picture shows, in ascending order of class id.

    Args:
        labels: (H, W) class ids; ids that `names` lacks are left out.
        depth: (H, W) metres, NaN where there is none, or None.
        names: Class id -> name.
    """
    counts = np.bincount(labels.ravel(), minlength=256)
    distances = []
    for class_id, name in sorted(names.items()):
        if counts[class_id] == 0:
            continue
        nearest = median = math.nan
        if depth is not None:
            of_class = depth[labels == class_id]
            of_class = of_class[np.isfinite(of_class)]
            if of_class.size:
                nearest, median = np.percentile(of_class, (NEAREST_PERCENTILE, 50))
        share = counts[class_id] / labels.size
        distances.append(ClassDistance(class_id, name, share, float(nearest), float(median)))
    return distances
