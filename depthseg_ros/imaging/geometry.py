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

"""Camera geometry: intrinsics and the rays of pixels.

Pixel centres lie at integer coordinates, as in OpenCV and `sensor_msgs/CameraInfo`; the camera
looks along +z with x to the right and y down (REP-103, optical frame). Depth is metres along z.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from .lens import PINHOLE, Lens

DEFAULT_FOV = 1.2
"""Default horizontal field of view, radians."""


@dataclass(frozen=True)
class Intrinsics:
    """A camera: image size, focal lengths and principal point, all in pixels, and its lens."""

    width: int
    height: int
    fx: float
    fy: float
    cx: float
    cy: float
    lens: Lens = PINHOLE

    @classmethod
    def from_fov(cls, width: int, height: int, fov: float) -> Intrinsics:
        """Square pixels, a centred principal point; `fov` is the horizontal one in radians."""
        focal = width / (2 * math.tan(fov / 2))
        return cls(width, height, focal, focal, (width - 1) / 2, (height - 1) / 2)

    def scaled(self, width: int, height: int) -> Intrinsics:
        """The same camera with images resized to `width` x `height`."""
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


def sample(size: int, step: int) -> slice:
    """Slice of every `step`-th of `size` rows or columns; at least one."""
    return slice(min(step // 2, (size - 1) // 2), None, step)


def rays(camera: Intrinsics, step: int = 1) -> NDArray[np.float32]:
    """Compute the rays of pixels: a pixel's point in space is (x/z, y/z, 1) times its depth.

    Args:
        camera: Intrinsics at the image's size.
        step: Distance between rows and columns, see `sample`.

    Returns:
        (2, H', W') float32, x/z and y/z; NaN outside of the lens's view.
    """
    u = np.arange(camera.width)[sample(camera.width, step)]
    v = np.arange(camera.height)[sample(camera.height, step)]
    x, y = np.meshgrid((u - camera.cx) / camera.fx, (v - camera.cy) / camera.fy)
    if camera.lens.bends:
        x, y = camera.lens.unbent(x, y)
    return np.stack([x, y]).astype(np.float32)


def turned(rays: NDArray[np.float32], degrees: int) -> NDArray[np.float32]:
    """Convert rays to the axes of an image that is rotated clockwise.

    Args:
        rays: (2, ...) x/z and y/z of a camera.
        degrees: A multiple of 90.

    Returns:
        (2, ...) x/z and y/z of the same pixels, along the axes of the rotated image.
    """
    quarters = degrees // 90 % 4
    cos, sin = (1, 0, -1, 0)[quarters], (0, 1, 0, -1)[quarters]
    return (
        rays
        if quarters == 0
        else np.stack([cos * rays[0] - sin * rays[1], sin * rays[0] + cos * rays[1]])
    )


class RayCache:
    """Cache of `rays` of a few sizes and steps, for as long as the camera stays the same."""

    def __init__(self) -> None:
        self._camera: Intrinsics | None = None
        self._kept: dict[tuple[int, tuple[int, int]], NDArray[np.float32]] = {}

    def __call__(
        self, camera: Intrinsics, step: int = 1, size: tuple[int, int] | None = None
    ) -> NDArray[np.float32]:
        """As `rays`, of the camera at another width and height; do not write to the result."""
        if camera != self._camera:
            self._camera, self._kept = camera, {}
        key = step, size or (camera.width, camera.height)
        if key not in self._kept:
            if len(self._kept) >= _KEPT:  # the size of the outputs changes
                self._kept.clear()
            self._kept[key] = rays(camera.scaled(*key[1]), step)
            self._kept[key].flags.writeable = False
        return self._kept[key]


_KEPT = 8


def to_millimetres(depth: NDArray[np.float32]) -> NDArray[np.uint16]:
    """Convert depth in metres to 16UC1 of REP-118: millimetres, 0 if unknown or too large."""
    scaled = np.rint(np.nan_to_num(depth, posinf=0, neginf=0) * 1000)
    return np.where((scaled > 0) & (scaled < 2**16), scaled, 0).astype(np.uint16)
