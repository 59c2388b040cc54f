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

"""What is done to a camera's image before the graph of a model file, and undone on its outputs."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from .model_card import ModelCard

ROTATIONS = (0, 90, 180, 270)
"""Degrees clockwise by which an image may have to be rotated to be upright."""
_CLOCKWISE = {90: cv2.ROTATE_90_CLOCKWISE, 180: cv2.ROTATE_180, 270: cv2.ROTATE_90_COUNTERCLOCKWISE}
_TOLERANCE = 0.02
"""Share by which sides of pixels or shapes may differ before an image is resized or padded."""


@dataclass(frozen=True)
class Shaping:
    """What is done to an image before the graph, and undone on its outputs.

    A graph takes upright images of square pixels. Those of schema version 1 besides stretch every
    shape to the network's, which spoils depth: for them the image is padded to that shape.
    """

    rotation: int
    """Degrees clockwise."""
    size: tuple[int, int]
    """Width and height of the image when it is upright."""
    square: tuple[int, int]
    """The same once its pixels are square."""
    padding: tuple[int, int]
    """Pixels added on the left and on the right each, and above and below each."""
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
        """What an image of a camera needs.

        Args:
            card: Of the model.
            width: Of the image as it is, pixels.
            height: Likewise.
            fx: Focal length in pixels at that size; needed for metric depth. Without metric
                depth, one that is unknown or wrong is ignored.
            fy: The vertical one; None: that of square pixels.
            rotation: One of `ROTATIONS`, clockwise, that makes the image upright.

        Raises:
            ValueError: an argument is not as described.
        """
        if rotation not in ROTATIONS:
            raise ValueError(f"rotation is {rotation}, expected one of {ROTATIONS} degrees")
        fy = fx if fy is None else fy
        for name, length in (("fx", fx), ("fy", fy)):
            if length is None or not 1e-3 < length < 1e9:  # NaN is not, either
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
            if abs(math.log(fx / fy)) > _TOLERANCE:  # made smaller where pixels are finer
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
        """The image (H, W, 3) as the graph takes it; itself where nothing is to be done."""
        shaped: Any = image
        if self.rotation:
            shaped = cv2.rotate(shaped, _CLOCKWISE[self.rotation])
        if self.square != self.size:
            shaped = cv2.resize(shaped, self.square, interpolation=cv2.INTER_AREA)
        if any(self.padding):
            x, y = self.padding
            shaped = cv2.copyMakeBorder(shaped, y, y, x, x, cv2.BORDER_CONSTANT, value=(127,) * 3)
        return shaped  # type: ignore[no-any-return]

    def undo(self, output: NDArray[Any]) -> NDArray[Any]:
        """An output (H', W') of the graph as it is of the original image, (H, W)."""
        shaped: Any = output
        if any(self.padding):
            (width, height), (x, y) = self.square, self.padding
            shaped = shaped[y : y + height, x : x + width]
        if self.square != self.size:  # depth has NaN, which nothing may be mixed with
            shaped = cv2.resize(shaped, self.size, interpolation=cv2.INTER_NEAREST)
        if self.rotation:
            shaped = cv2.rotate(shaped, _CLOCKWISE[360 - self.rotation])
        return np.ascontiguousarray(shaped)
