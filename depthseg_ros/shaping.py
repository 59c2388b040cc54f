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
bytes: for a file whose card is `reducible`, it is reduced to the network's size before. Outputs
have that size, too; `resized` enlarges those that are wanted.
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
            if size[0] * size[1] < square[0] * square[1] and card.size_for(*size) == size:
                reduced = size
                if focal is not None:  # the mean of both directions, as in the graph
                    focal *= math.sqrt(size[0] * size[1] / (square[0] * square[1]))
        return cls(rotation, (width, height), square, padding, focal, reduced)

    def apply(self, image: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """The image (H, W, 3) for the graph; unchanged if nothing is needed."""
        shaped: Any = image
        if reduces := self.reduced != self.square and not any(self.padding):
            size = self.reduced[::-1] if self.rotation in (90, 270) else self.reduced
            shaped = cv2.resize(shaped, size, interpolation=cv2.INTER_LINEAR)
        if self.rotation:
            shaped = cv2.rotate(shaped, _CLOCKWISE[self.rotation])
        if self.square != self.size and not reduces:
            shaped = cv2.resize(shaped, self.square, interpolation=cv2.INTER_AREA)
        if any(self.padding):
            x, y = self.padding
            shaped = cv2.copyMakeBorder(shaped, y, y, x, x, cv2.BORDER_CONSTANT, value=(127,) * 3)
        return shaped

    def undo(self, output: NDArray[Any]) -> NDArray[Any]:
        """Crop and rotate an output (H', W', ...) of the graph as the original image.

        Its size is still that of the graph, see `resized`.
        """
        shaped: Any = output
        if any(self.padding):
            (width, height), (x, y) = self.square, self.padding
            shaped = shaped[y : y + height, x : x + width]
        if self.rotation:
            shaped = cv2.rotate(shaped, _CLOCKWISE[360 - self.rotation])
        return np.ascontiguousarray(shaped)


def resized(name: str, output: NDArray[Any], size: tuple[int, int]) -> NDArray[Any]:
    """Resize one of the outputs labels, confidence and depth confidence, by its name.

    Args:
        name: Name of the output: confidence is interpolated, others are that of the nearest pixel.
        output: (H, W) uint8.
        size: Width and height of the result.
    """
    if output.shape == size[::-1]:
        return output
    between = cv2.INTER_LINEAR if name == "confidence" else cv2.INTER_NEAREST_EXACT
    return np.asarray(cv2.resize(output, size, interpolation=between))


def resized_depth(
    depth: NDArray[np.float32],
    size: tuple[int, int],
    logarithmic: bool = True,
    edges: NDArray[np.uint8] | None = None,
) -> NDArray[np.float32]:
    """Resize depth as the graph does: interpolate between known neighbours.

    Args:
        depth: (H, W) float32, NaN if unknown.
        size: Width and height of the result.
        logarithmic: Whether to interpolate ln(depth), of depth that is positive.
        edges: (H, W) uint8, not 0 where the nearest depth is taken instead; None: nowhere. So it is
            everywhere if the size becomes less.
    """
    if depth.shape == size[::-1]:
        return depth
    nearest: Any = cv2.resize(depth, size, interpolation=cv2.INTER_NEAREST_EXACT)
    if size[0] < depth.shape[1]:
        return np.asarray(nearest)
    unknown, known = np.isnan(depth).view(np.uint8), depth.copy()
    cv2.patchNaNs(known, 1e-30 if logarithmic else -1e30)  # less than any known neighbour
    if logarithmic:
        cv2.log(known, known)
    cv2.copyTo(cv2.dilate(known, np.ones((3, 3), np.uint8)), unknown, known)
    larger: Any = cv2.resize(known, size, interpolation=cv2.INTER_LINEAR)
    if logarithmic:
        cv2.exp(larger, larger)
    kept = unknown if edges is None else cv2.bitwise_or(edges, unknown)
    kept = cv2.resize(kept, size, interpolation=cv2.INTER_NEAREST_EXACT)
    return np.asarray(cv2.copyTo(nearest, kept, larger))
