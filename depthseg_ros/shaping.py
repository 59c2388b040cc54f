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

"""Rotate, resize and pad an image for the graph of a model file, and undo this on its outputs.

Graphs take any size. But a large image costs more inside of a graph, in floats, than here, in
bytes: for a file whose card is `reducible`, it is reduced to the network's size before.
"""

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
_LARGE = 2.0
"""Ratio of the image's pixels to the network's from which reducing outside of the graph pays."""
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
    """Focal length in pixels at the size `reduced`."""
    reduced: tuple[int, int]
    """Width and height of what the graph gets."""
    logarithmic: bool = True
    """Whether depth is enlarged as its logarithm."""

    @classmethod
    def of(
        cls,
        card: ModelCard,
        width: int,
        height: int,
        fx: float | None = None,
        fy: float | None = None,
        rotation: int = 0,
        whole: bool = True,
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
            whole: Whether the graph gets the whole image even if the card is `reducible`.

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
        reduced = (square[0] + 2 * padding[0], square[1] + 2 * padding[1])
        if card.reducible and not whole:
            size = card.size_for(*square)
            # Of some shapes the graph would choose another size for the reduced image.
            large = _LARGE * size[0] * size[1] <= square[0] * square[1]
            if large and card.size_for(*size) == size:
                reduced = size
                if focal is not None:  # the mean of both directions, as in the graph
                    focal *= math.sqrt(size[0] * size[1] / (square[0] * square[1]))
        logarithmic = card.depth is None or card.depth.kind != "normalised"
        return cls(rotation, (width, height), square, padding, focal, reduced, logarithmic)

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
        elif self.reduced != self.square:
            shaped = cv2.resize(shaped, self.reduced, interpolation=cv2.INTER_LINEAR)
        return shaped

    def undo(self, name: str, output: NDArray[Any]) -> NDArray[Any]:
        """Convert an output (H', W') of the graph, by its name, to the original image, (H, W)."""
        shaped: Any = output
        if self.reduced != self.square and not any(self.padding):
            shaped = self._enlarged(name, shaped)
        if any(self.padding):
            (width, height), (x, y) = self.square, self.padding
            shaped = shaped[y : y + height, x : x + width]
        if self.square != self.size:  # no interpolation, because depth contains NaN
            shaped = cv2.resize(shaped, self.size, interpolation=cv2.INTER_NEAREST)
        if self.rotation:
            shaped = cv2.rotate(shaped, _CLOCKWISE[360 - self.rotation])
        return np.ascontiguousarray(shaped)

    def _enlarged(self, name: str, output: Any) -> Any:
        """An output of the reduced image at the size `square`, as the graph enlarges it."""
        if name in ("labels", "depth_confidence"):  # the latter is 0 where depth is NaN
            return cv2.resize(output, self.square, interpolation=cv2.INTER_NEAREST_EXACT)
        if name != "depth":
            return cv2.resize(output, self.square, interpolation=cv2.INTER_LINEAR)
        depth = cv2.log(output) if self.logarithmic else output.copy()
        unknown = np.isnan(output)
        if unknown.all():
            return np.full(self.square[::-1], np.nan, np.float32)
        if hidden := unknown.any():  # interpolate with known neighbours only
            depth[unknown] = depth[~unknown].min()
            depth = np.where(unknown, cv2.dilate(depth, np.ones((3, 3), np.uint8)), depth)
        depth = cv2.resize(depth, self.square, interpolation=cv2.INTER_LINEAR)
        if self.logarithmic:
            cv2.exp(depth, depth)
        if hidden:
            nothing = np.where(unknown, np.float32(np.nan), np.float32(0))
            nothing = cv2.resize(nothing, self.square, interpolation=cv2.INTER_NEAREST_EXACT)
            cv2.add(depth, nothing, depth)
        return depth
