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

"""Rotate, resize and pad an image for the graph of a model file, and undo this on its outputs."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from .model_card import ModelCard

ROTATIONS = (0, 90, 180, 270)
"""Allowed clockwise rotations of an image, degrees."""
_CLOCKWISE = {90: cv2.ROTATE_90_CLOCKWISE, 180: cv2.ROTATE_180, 270: cv2.ROTATE_90_COUNTERCLOCKWISE}
_TOLERANCE = 0.02
"""Relative difference of pixel sides or aspect ratios up to which nothing is changed."""


@dataclass(frozen=True)
class Shaping:
    """Changes of an image before the graph, which are undone on the outputs.

    A graph needs upright images with square pixels. Graphs of schema version 1 also stretch every
    image to the network's shape, which distorts depth; for them the image is padded to that shape.
    """

    rotation: int
    """Degrees clockwise."""
    size: tuple[int, int]
    """Width and height of the upright image."""
    square: tuple[int, int]
    """Width and height of the upright image with square pixels."""
    padding: tuple[int, int]
    """Pixels added on the left and the right, and above and below."""
    focal: float | None
    """Focal length in pixels at the size `square`."""

    @classmethod
    def of(
        cls,
        card: ModelCard,
        width: int,
        height: int,
        fx: float | None = None,
        fy: float | None = None,
        rotation: int = 0,
    ) -> Shaping:
        """Compute the changes that a camera image needs.

        Args:
            card: Model card.
            width: Width of the original image, pixels.
            height: Height of the original image, pixels.
            fx: Focal length in pixels at that size; needed for metric depth. Without metric
                depth, an unknown or wrong one is ignored.
            fy: Vertical focal length; None: square pixels.
            rotation: Clockwise rotation, one of `ROTATIONS`, that makes the image upright.

        Raises:
            ValueError: An argument is not as described.
        """
        if rotation not in ROTATIONS:
            raise ValueError(f"rotation is {rotation}, expected one of {ROTATIONS} degrees")
        fy = fx if fy is None else fy
        for name, length in (("fx", fx), ("fy", fy)):
            if length is None or not 1e-3 < length < 1e9:  # also excludes NaN
                if card.needs_fx:
                    raise ValueError(
                        f"{name} is {length}, metric depth needs a focal length in pixels"
                    )
                fx = fy = None
        if rotation in (90, 270):
            width, height, fx, fy = height, width, fy, fx
        square, focal = (width, height), None
        if fx is not None and fy is not None:
            focal = math.sqrt(fx * fy)
            if abs(math.log(fx / fy)) > _TOLERANCE:  # reduces the axis with smaller pixels
                focal = min(fx, fy)
                square = (max(1, round(width * focal / fx)), max(1, round(height * focal / fy)))
        padding = (0, 0)
        if card.schema_version < 2:
            aspect = card.network_size[0] / card.network_size[1] * square[1] / square[0]
            if aspect > 1 + _TOLERANCE:
                padding = (round(square[0] * (aspect - 1) / 2), 0)
            elif aspect < 1 - _TOLERANCE:
                padding = (0, round(square[1] * (1 / aspect - 1) / 2))
        return cls(rotation, (width, height), square, padding, focal)

    def apply(self, image: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """The image (H, W, 3) for the graph; unchanged if nothing is needed."""
        shaped: Any = image
        if self.rotation:
            shaped = cv2.rotate(shaped, _CLOCKWISE[self.rotation])
        if self.square != self.size:
            shaped = cv2.resize(shaped, self.square, interpolation=cv2.INTER_AREA)
        if any(self.padding):
            x, y = self.padding
            shaped = cv2.copyMakeBorder(shaped, y, y, x, x, cv2.BORDER_CONSTANT, value=(127,) * 3)
        return shaped

    def undo(self, output: NDArray[Any]) -> NDArray[Any]:
        """Convert an output (H', W') of the graph to the original image, (H, W)."""
        shaped: Any = output
        if any(self.padding):
            (width, height), (x, y) = self.square, self.padding
            shaped = shaped[y : y + height, x : x + width]
        if self.square != self.size:  # no interpolation, because depth contains NaN
            shaped = cv2.resize(shaped, self.size, interpolation=cv2.INTER_NEAREST)
        if self.rotation:
            shaped = cv2.rotate(shaped, _CLOCKWISE[360 - self.rotation])
        return np.ascontiguousarray(shaped)
