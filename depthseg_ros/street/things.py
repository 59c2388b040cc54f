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

"""Place the objects of a block as patches, and their shadows."""

from __future__ import annotations

import math
from collections.abc import Sequence

import cv2
import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

from depthseg_ros.street.layout import Layout
from depthseg_ros.street.renderer import Patch, Texture
from depthseg_ros.street.sketch import pick
from depthseg_ros.street.vehicles import Vehicle


class Things:
    """Patches of a block and their shadows, placed at (s, z) with z from the block's start.

    All lengths are in metres; `side` is one of `SIDES`. `s` of a kerb or wall is `side` times
    its distance from the centre line.

    Attributes:
        patches: patches placed so far.
        shades: outlines (n, 2) of their shadows in (s, z), z from the street's start.
    """

    def __init__(self, layout: Layout, start: float):
        self._layout, self._start = layout, start
        self.patches: list[Patch] = []
        self.shades: list[NDArray[np.float64]] = []

    def _x(self, s: float, z: float) -> float:
        return self._layout.centre(self._start + z) + s

    def wall(
        self,
        s: float,
        z0: float,
        z1: float,
        height: float,
        texture: Texture,
        side: int,
        two_sided: bool = False,
    ) -> None:
        """Place a wall along the street, facing its centre."""
        # Seen from the street, the right-hand wall runs from far (left) to near (right).
        a, b = (z1, z0) if side > 0 else (z0, z1)
        xa, xb = self._x(s, a), self._x(s, b)
        self.patches.append(
            Patch(
                (xa, -height, self._start + a), (xb - xa, 0, b - a), (0, height, 0),
                texture, self._layout.light((-side, 0, 0)), two_sided,
            )
        )  # fmt: skip

    def across(
        self, s: float, z: float, width: float, height: float, texture: Texture, side: int
    ) -> None:
        """Place a wall across the street, from s outwards, visible from both sides."""
        x = self._x(s, z) - (width if side < 0 else 0)
        self.patches.append(
            Patch(
                (x, -height, self._start + z), (width, 0, 0), (0, height, 0),
                texture, self._layout.light((0, 0, -1)), True,
            )
        )  # fmt: skip

    def board(
        self, s: float, z: float, top: float, width: float, height: float, texture: Texture
    ) -> None:
        """Place a board across the street, centred on s, visible from both sides."""
        x = self._x(s, z) - width / 2
        light = self._layout.light((0, -0.5, -0.8))
        self.patches.append(
            Patch((x, -top, self._start + z), (width, 0, 0), (0, height, 0), texture, light, True)
        )

    def roof(
        self,
        s: float,
        z: float,
        width: float,
        height: float,
        depth: float,
        rise: float,
        texture: Texture,
        side: int,
    ) -> None:
        """Place one side of a roof, from the eaves to the ridge."""
        a, b = (z + width, z) if side > 0 else (z, z + width)
        xa, xb = self._x(s, a), self._x(s, b)
        light = self._layout.light((-side * 0.45, -0.9, 0))
        self.patches.append(
            Patch(
                (xa + side * depth, -height - rise, self._start + a), (xb - xa, 0, b - a),
                (-side * depth, rise, 0), texture, light,
            )
        )  # fmt: skip

    def box(
        self,
        s: float,
        z: float,
        width: float,
        depth: float,
        top: float,
        bottom: float,
        texture: Texture,
    ) -> None:
        """Place a box without top and bottom between two heights."""
        x, near, far = self._x(s, z) - width / 2, self._start + z, self._start + z + depth
        down = (0, top - bottom, 0)
        light = self._layout.light
        self.patches += [
            Patch((x, -top, near), (width, 0, 0), down, texture, light((0, 0, -1))),
            Patch((x, -top, far), (0, 0, -depth), down, texture, light((-1, 0, 0))),
            Patch((x + width, -top, near), (0, 0, depth), down, texture, light((1, 0, 0))),
            Patch((x + width, -top, far), (-width, 0, 0), down, texture, light((0, 0, 1))),
        ]

    def lamp(self, side: int, s: float, z: float, height: float, steel: Texture) -> None:
        """Place a lamp post with its arm over the road."""
        self.board(side * s, z, height, 0.15, height, steel)
        self.board(side * (s - 0.6), z, height, 1.3, 0.1, steel)
        self.board(side * (s - 1.3), z, height + 0.05, 0.55, 0.16, steel)
        self.shade(side * s - 0.07, side * s + 0.07, z, 0.14, height)

    def sign_post(
        self,
        rng: Generator,
        s: float,
        z: float,
        steel: Texture,
        signs: Sequence[tuple[float, float, Texture]],
    ) -> None:
        """Place a post with one or two signs."""
        top = rng.uniform(2.3, 3.4)
        self.board(s, z, top, 0.1, top, steel)
        width, height, texture = pick(rng, signs)
        self.board(s, z - 0.08, top + 0.1, width, height, texture)
        if height < 1 and rng.random() < 0.3:
            self.board(s, z - 0.08, top - height, *pick(rng, signs))

    def place(self, car: Vehicle, s: float, z: float, turn: float) -> None:
        """Place a vehicle at (s, z)."""
        heading = turn + self._layout.heading(self._start + z)
        moved = car.batch.moved(self._x(s, z), self._start + z, heading)
        for texture, (origin, u, v) in zip(moved.textures, moved.geometry, strict=True):
            normal = np.cross(v, u)
            light = 0.5 + 0.5 * self._layout.light(normal / np.linalg.norm(normal))
            self.patches.append(Patch(origin, u, v, texture, light))
        half, rear = car.width / 2, z - car.length / 2
        self.shade(s - half, s + half, rear, car.length, car.height * 0.9)
        # The ground under and close to it is dark for every position of the sun.
        left, right, front = s - half - 0.12, s + half + 0.12, rear + car.length + 0.12
        outline = [(left, rear - 0.12), (right, rear - 0.12), (right, front), (left, front)]
        self.shades.append(np.add(outline, (0, self._start)))

    def shade(self, left: float, right: float, z: float, length: float, height: float) -> None:
        """Add the shadow of an upright box from z to z + length."""
        near = self._start + z
        base = np.array([(s, z) for z in (near, near + length) for s in (left, right)])
        points = np.concatenate([base, base + self._away(height)]).astype(np.float32)
        self.shades.append(cv2.convexHull(points)[:, 0].astype(np.float64))

    def shade_crown(self, s: float, z: float, height: float, radius: float) -> None:
        """Add the shadow of a round crown at this height."""
        turns = np.linspace(0, 2 * math.pi, 16, endpoint=False)
        ring = radius * np.stack([np.cos(turns), np.sin(turns)], 1)
        self.shades.append(np.add(ring, (s, z + self._start)) + self._away(height))

    def _away(self, height: float) -> NDArray[np.float64]:
        """Offset (s, z) of a point's shadow from the point's foot."""
        sun = self._layout.sun
        return np.array([sun[0], sun[2]]) / sun[1] * height
