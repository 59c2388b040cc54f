"""Pinhole geometry: intrinsics and what follows from them and a depth image.

Pixel centres lie at integer coordinates, as in OpenCV and `sensor_msgs/CameraInfo`; the camera
looks along +z with x to the right and y down (REP-103, optical frame). Depth is metres along z.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import cv2
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

# Depths are counted by the upper bits of their float32: 256 levels an octave, 0.4 % wide, from
# 1/32 m on, over 15 octaves to 1024 m. Positive floats are in the order of their bits, and as
# unsigned numbers all others come after them.
_SHIFT = 15
_FIRST = np.float32(1 / 32).view(np.uint32) >> _SHIFT
_LEVELS = 15 * 256


def class_distances(
    labels: NDArray[np.uint8], depth: NDArray[np.float32] | None, names: Mapping[int, str]
) -> list[ClassDistance]:
    """Distances of every class that a picture shows, in ascending order of class id.

    Args:
        labels: (H, W) class ids; ids that `names` lacks are left out.
        depth: (H, W) metres, NaN where there is none, or None; what is not 1/32 to 1024 m counts as
            none.
        names: Class id -> name.

    Returns:
        Distances to within 0.2 %: one histogram of all classes takes a quarter of the time of
        sorting out and partitioning the pixels of each.
    """
    ids = sorted(names)
    rows = len(ids) + 1  # the last one is of pixels without a class
    table = np.full(256, len(ids), np.uint8)
    table[ids] = range(len(ids))
    row = cv2.LUT(labels, table)
    if depth is None:
        counts = np.bincount(row.ravel(), minlength=rows)[:, None]
    else:
        level = np.ascontiguousarray(depth).view(np.uint32) >> _SHIFT
        level -= _FIRST  # what is less wraps around
        np.minimum(level, _LEVELS, out=level)  # the last one is of no depth
        level += row.astype(np.uint32) * np.uint32(_LEVELS + 1)
        counts = np.bincount(level.ravel(), minlength=rows * (_LEVELS + 1))
        counts = counts.reshape(rows, _LEVELS + 1)
    distances = []
    for class_id, of_class in zip(ids, counts, strict=False):
        if not (total := int(of_class.sum())):
            continue
        nearest = median = math.nan
        up_to = of_class[:-1].cumsum()
        if up_to.size and up_to[-1]:
            nearest, median = (
                _depth_at(int(np.searchsorted(up_to, share * up_to[-1])))
                for share in (NEAREST_PERCENTILE / 100, 0.5)
            )
        distances.append(
            ClassDistance(class_id, names[class_id], total / labels.size, nearest, median)
        )
    return distances


def _depth_at(level: int) -> float:
    """The middle of a level of the histogram, metres."""
    bits = ((level + int(_FIRST)) << _SHIFT) + (1 << (_SHIFT - 1))
    return float(np.uint32(bits).view(np.float32))
