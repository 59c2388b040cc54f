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

"""Draw textures in metres, colours and labels together; the street's classes."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, TypeAlias, TypeVar

import cv2
import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

from depthseg_ros.street.renderer import HOLE, Colour, Texture

CLASS_NAMES = (
    "sky",
    "building",
    "pole",
    "road",
    "pavement",
    "tree",
    "sign",
    "fence",
    "car",
    "pedestrian",
    "bicyclist",
)
"""CamVid's eleven classes; the index is the label."""

SKY, BUILDING, POLE, ROAD, PAVEMENT, TREE, SIGN, FENCE, CAR, PEDESTRIAN, BICYCLIST = range(11)

_T = TypeVar("_T")

Points: TypeAlias = "Sequence[Sequence[float]] | NDArray[np.floating[Any]]"
"""(n, 2) metres on a sheet, x to the right and y downwards from its top left."""

_TURNS = np.linspace(0, 2 * math.pi, 20, endpoint=False)
_CIRCLE = np.stack([np.cos(_TURNS), np.sin(_TURNS)], 1)


class Sketch:
    """A texture whose colours and labels are drawn together, in metres.

    Args:
        width: metres.
        height: metres.
        scale: texels per metre.
        label: class id of the shapes. The sheet is transparent at first, or has this label if a
            `ground` colour is given.
        ground: background colour, RGB.
    """

    def __init__(
        self, width: float, height: float, scale: float, label: int, ground: Colour | None = None
    ):
        size = (max(2, round(height * scale)), max(2, round(width * scale)))
        self.width, self.height, self.scale, self.label = width, height, scale, label
        self.rgb = np.empty((*size, 3), np.uint8)
        self.rgb[:] = (128, 128, 128) if ground is None else np.clip(ground, 0, 255)
        self.labels = np.full(size, HOLE if ground is None else label, np.uint8)

    def polygon(self, points: Points, colour: Colour) -> None:
        """Fill a polygon (n, 2)."""
        # In 1/16 texel, from the centre of the first.
        texels = np.rint((np.asarray(points) * self.scale - 0.5) * 16).astype(np.int32)
        cv2.fillPoly(self.rgb, [texels], _scalar(colour), cv2.LINE_8, 4)
        cv2.fillPoly(self.labels, [texels], (self.label,), cv2.LINE_8, 4)

    def box(
        self, x: float, y: float, w: float, h: float, colour: Colour, label: int | None = None
    ) -> None:
        """Fill a rectangle with this top left corner, at least one texel wide and high."""
        x0, y0 = max(0, round(x * self.scale)), max(0, round(y * self.scale))
        x1 = max(x0, round((x + w) * self.scale) - 1)
        y1 = max(y0, round((y + h) * self.scale) - 1)
        cv2.rectangle(self.rgb, (x0, y0), (x1, y1), _scalar(colour), cv2.FILLED)
        value = (self.label if label is None else label,)
        cv2.rectangle(self.labels, (x0, y0), (x1, y1), value, cv2.FILLED)

    def disc(self, x: float, y: float, rx: float, ry: float, colour: Colour) -> None:
        """Fill an ellipse with this centre and these radii."""
        self.polygon(np.add(_CIRCLE * (rx, ry), (x, y)), colour)

    def line(self, a: Sequence[float], b: Sequence[float], width: float, colour: Colour) -> None:
        """Draw a thick line from `a` to `b`, (2,) each."""
        # Thousands of twigs are drawn: with arrays of two numbers a line takes 2.5 times as long.
        start = [round((x * self.scale - 0.5) * 16) for x in a]
        end = [round((x * self.scale - 0.5) * 16) for x in b]
        thickness = max(1, round(width * self.scale))
        cv2.line(self.rgb, start, end, _scalar(colour), thickness, cv2.LINE_8, 4)
        cv2.line(self.labels, start, end, (self.label,), thickness, cv2.LINE_8, 4)

    def grain(self, rng: Generator, strength: float, cell: tuple[float, float] = (0, 0)) -> None:
        """Vary the brightness randomly, in cells of this width and height (metres)."""
        h, w = self.labels.shape
        columns = max(2, round(w / max(1, cell[0] * self.scale)))
        rows = max(2, round(h / max(1, cell[1] * self.scale)))
        noise = rng.standard_normal((rows, columns)).astype(np.float32) * strength
        if (rows, columns) != (h, w):
            noise = np.asarray(cv2.resize(noise, (w, h), interpolation=cv2.INTER_LINEAR))
        self.shade(1 + noise)

    def shade(self, factor: NDArray[np.floating[Any]]) -> None:
        """Multiply the brightness by (h, w), (h, 1) or (1, w)."""
        full = np.broadcast_to(factor, self.labels.shape).astype(np.float32)
        cv2.multiply(self.rgb, cv2.merge([full] * 3), self.rgb, dtype=cv2.CV_8U)

    def texture(self) -> Texture:
        """Make the texture."""
        solid = np.equal(self.labels, self.label).all()
        return Texture(self.rgb, self.label if solid else self.labels)


def _scalar(colour: Colour) -> tuple[float, float, float]:
    """Convert a colour for OpenCV, which clips it."""
    r, g, b = colour
    return float(r), float(g), float(b)


def plain(colour: Colour, label: int) -> Texture:
    """A texture of one colour."""
    return Texture(np.full((2, 2, 3), np.clip(colour, 0, 255), np.uint8), label)


def pick(rng: Generator, options: Sequence[_T]) -> _T:
    """One of the options."""
    return options[int(rng.integers(len(options)))]


def varied(rng: Generator, colour: Colour, spread: float = 12.0) -> NDArray[np.float64]:
    """Vary a colour randomly."""
    return np.asarray(colour) + rng.normal(0, spread) + rng.normal(0, spread / 2, 3)
