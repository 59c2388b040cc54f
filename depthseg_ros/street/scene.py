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

"""Houses and objects along a street, in blocks of 24 m that are made when they come in sight.

The seed determines them. A block is sheared with the bend of the street (`layout`), so that
neighbouring blocks meet without gaps.
"""

from __future__ import annotations

import math
from functools import cached_property, lru_cache
from typing import NamedTuple

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

from depthseg_ros.street import houses
from depthseg_ros.street import textures as paint
from depthseg_ros.street.ground import Ground
from depthseg_ros.street.layout import BLOCK, SIDES, Layout
from depthseg_ros.street.renderer import Batch, Patch
from depthseg_ros.street.sketch import BUILDING, POLE, pick, plain, varied
from depthseg_ros.street.things import Things
from depthseg_ros.street.traffic import Traffic
from depthseg_ros.street.vehicles import Vehicle

_SIGHT = 200.0
"""Distance up to which blocks are drawn, metres."""

_DETAIL = 85.0
"""Distance up to which objects on the pavements are drawn, metres."""


class Block(NamedTuple):
    """Houses and objects of one block."""

    afar: Batch
    """Houses, and trees and fences between them."""
    near: Batch
    """Everything."""
    shades: list[NDArray[np.float64]]
    """Outlines (n, 2) in (s, z), metres, of the shadows on the ground."""


class Scene(Layout):
    """Layout, objects and traffic of the street of one seed.

    Attributes:
        ground: ground of the street.
        walkers: appearances of pedestrians, from `textures.walker`.
        vehicles: cars and vans.
        block: function index -> `Block`; cached.
    """

    def __init__(self, seed: int):
        self._seed = seed
        rng = np.random.default_rng([seed, 1])
        super().__init__(rng)
        self.ground = Ground(self, seed, rng, lambda index: self.block(index).shades)

        pool = np.random.default_rng([seed, 2])
        kinds = ["conifer" if pool.random() < 0.12 else self.season for _ in range(4)]
        self._trees = [paint.tree(pool, kind) for kind in kinds]
        self.walkers = [paint.walker(pool) for _ in range(6)]
        cyclists = [paint.cyclist(pool) for _ in range(3)]
        self.vehicles = [
            Vehicle(pool, kind) for kind in pool.permutation(["hatch", "saloon", "estate", "suv"])
        ] + [Vehicle(pool, str(pool.choice(["hatch", "saloon", "van"]))) for _ in range(4)]
        large = [
            Vehicle(pool, str(pool.choice(["bus", "double-decker", "lorry"]))) for _ in range(2)
        ]
        self._signs = [paint.sign(pool) for _ in range(6)]
        self._steel = plain(varied(pool, (104, 106, 106), 18), POLE)
        self._fences = [
            paint.fence(pool, 8.0, str(pool.choice(["railings", "boards", "wall"])))
            for _ in range(3)
        ]
        leaf = pick(pool, paint.LEAVES)
        self._hedge = paint.foliage(pool, 8.0, 1.5, leaf, 24)
        self._rows = [
            paint.foliage(pool, 24.0, pool.uniform(5, 11), np.asarray(leaf) * 0.9, 9)
            for _ in range(2)
        ]
        self._traffic = Traffic(self, seed, self.vehicles, large, cyclists, self.walkers)
        self.block = lru_cache(24)(self._block)

    def patches(
        self, z: float, time: float, camera_x: float, texels: int = 30, behind: float = 2.0
    ) -> tuple[Batch, Batch]:
        """Patches in sight of the camera at (camera_x, z), and soft shadows under moving objects.

        Args:
            z: position along the street, metres.
            time: seconds.
            camera_x: x of the camera, metres.
            texels: texels per metre of the near ground.
            behind: what is drawn behind z, metres.
        """
        first = math.floor((z - behind) / BLOCK)
        here = math.floor((z - 2) / BLOCK)
        last = math.floor(min(z + _SIGHT, self.end - 1) / BLOCK)
        batches = []
        for index in range(first, last + 1):
            block = self.block(index)
            batches.append(block.near if index * BLOCK - z < _DETAIL else block.afar)
            batches.append(self.ground.patches(index, texels if -2 < index - here < 2 else 10))
        if self.end - z < _SIGHT:
            batches.append(self._closing)
        moving, shadows = self._traffic.patches(z, time, camera_x, behind)
        return Batch.joined(batches + moving), Batch(shadows)

    # --- Static objects ---------------------------------------------------------------------

    def _block(self, index: int) -> Block:
        """Place houses, objects in front of them and parked cars on both sides."""
        rng = np.random.default_rng([self._seed, 10, index + (1 << 20)])
        things = Things(self, index * BLOCK)
        for side in SIDES:
            self._row_of_houses(rng, things, side)
        afar = Batch(things.patches)
        for side in SIDES:
            self._footway_things(rng, things, side)
            if self.parking[side]:
                self._parked(rng, things, side)
        return Block(afar, Batch(things.patches), things.shades)

    def _row_of_houses(self, rng: Generator, things: Things, side: int) -> None:
        front = self.kerb[side] + self.footway[side] + self.setback[side]
        z = 0.0
        gap_share = {"city": 0.08, "town": 0.2, "suburb": 0.4}[self.kind]
        back = side * (front + rng.uniform(12, 22))
        row = pick(rng, self._rows)
        things.wall(back, 0, BLOCK, rng.uniform(5, 11), row, side)
        while z < BLOCK - 1:
            width = min(rng.uniform(6, 14), BLOCK - z)
            if BLOCK - z - width < 5:
                width = BLOCK - z
            if rng.random() < gap_share:
                width = min(width, 8.0)
                self._gap(rng, things, side, front, z, width)
            else:
                inset = rng.uniform(0, 0.8) if self.kind != "suburb" else rng.uniform(0, 2)
                trimmed = width - (rng.uniform(1.5, 3) if self.kind == "suburb" else 0)
                self._house(rng, things, side, front + inset, z, max(4.5, trimmed))
            z += width

    def _house(
        self, rng: Generator, things: Things, side: int, front: float, z: float, width: float
    ) -> None:
        storeys = int(rng.integers(self.storeys[0], self.storeys[1] + 1))
        height = storeys * rng.uniform(2.8, 3.3)
        styles, p = {
            "city": (["shop", "house", "office", "glass"], [0.5, 0.15, 0.25, 0.1]),
            "town": (["shop", "house", "office"], [0.3, 0.6, 0.1]),
            "suburb": (["house"], [1.0]),
        }[self.kind]
        style = str(rng.choice(styles, p=p))
        height += 1.0 if style == "shop" else 0.0
        wall = varied(rng, pick(rng, houses.WALLS), 8)
        texture = houses.facade(rng, width, height, wall, style, 22)
        things.wall(side * front, z, z + width, height, texture, side)
        flat = style in ("office", "glass") or rng.random() < 0.25
        depth, rise = rng.uniform(8, 11), 0.0 if flat else rng.uniform(1.8, 3.2)
        end = houses.end_wall(rng, depth, height, rise, wall, 14)
        things.across(side * front, z, depth, height + rise, end, side)
        if not flat:
            slope = math.hypot(depth / 2, rise)
            tiles = houses.roof(rng, width, slope, pick(rng, houses.ROOFS), 12)
            things.roof(side * front, z, width, height, depth / 2, rise, tiles, side)
            if rng.random() < 0.6:
                brick = plain(wall * 0.85, BUILDING)
                top = height + rise + rng.uniform(0.6, 1.2)
                along = z + rng.choice([0.1, width - 0.9])
                ridge = side * (front + depth / 2 - 0.4)
                things.box(ridge, along, 0.8, 0.8, top, height + rise * 0.7, brick)
        if self.kind != "suburb" and rng.random() < 0.4:
            _, h, board = paint.sign(rng)
            things.board(side * (front - 0.5), z + rng.uniform(1, width - 1), 3.6, 0.8, h, board)
        things.shade(side * front, side * (front + depth), z, width, height + rise)

    def _gap(
        self, rng: Generator, things: Things, side: int, front: float, z: float, width: float
    ) -> None:
        if rng.random() < 0.6:
            height, texture = pick(rng, self._fences)
            things.wall(side * front, z, z + width, height, texture, side)
        for _ in range(int(rng.integers(1, 3))):
            self._tree(rng, things, side * (front + rng.uniform(2, 7)), z + rng.uniform(0, width))

    def _tree(self, rng: Generator, things: Things, s: float, z: float) -> None:
        width, height, layers = pick(rng, self._trees)
        size = rng.uniform(0.75, 1.15)
        for layer, texture in enumerate(layers):
            offset = (0, -0.22, 0.22)[layer] * width * size
            things.board(s, z + offset, height * size, width * size, height * size, texture)
        things.shade(s - 0.15, s + 0.15, z, 0.2, height * size * 0.5)
        things.shade_crown(s, z, height * size * 0.62, width * size * 0.4)

    def _footway_things(self, rng: Generator, things: Things, side: int) -> None:
        kerb, footway = self.kerb[side], self.footway[side]
        back = kerb + footway
        if self.setback[side] > 1:
            for z in np.arange(0, BLOCK, 8.0):
                choice = rng.random()
                if choice < 0.5:
                    height, texture = pick(rng, self._fences)
                    things.wall(side * back, z, z + 7.2, min(height, 1.3), texture, side)
                elif choice < 0.8:
                    height = rng.uniform(0.8, 1.9)
                    things.wall(side * back, z, z + 6.5, height, self._hedge, side)
                    things.shade(side * back, side * (back + 0.6), z, 6.5, height)
        elif rng.random() < 0.2:
            height, texture = self._fences[0]
            for z in (0.0, 8.0):
                things.wall(side * (kerb + 0.35), z, z + 8, min(height, 1.1), texture, side, True)
        tree_share = {"city": 0.25, "town": 0.45, "suburb": 0.9}[self.kind]
        for z in (5.0, 17.0):
            if rng.random() < tree_share:
                deep = self.setback[side] > 3 and rng.random() < 0.7
                s = back + rng.uniform(1, self.setback[side]) if deep else kerb + 0.9
                self._tree(rng, things, side * s, z + rng.uniform(-2, 2))
        if rng.random() < 0.6:
            things.lamp(side, kerb + 0.45, rng.uniform(1, 23), rng.uniform(5.5, 9), self._steel)
        for _ in range(int(rng.poisson(1.5))):
            things.sign_post(
                rng, side * (kerb + 0.5), rng.uniform(0, BLOCK), self._steel, self._signs
            )
        if rng.random() < 0.2:
            for z in np.arange(0, 12, 1.8):
                things.box(side * (kerb + 0.4), z, 0.13, 0.13, 1.0, 0.0, self._steel)
        for _ in range(int(rng.poisson({"city": 1.1, "town": 0.6, "suburb": 0.25}[self.kind]))):
            width, height, phases = pick(rng, self.walkers)
            s = side * (kerb + rng.uniform(0.5, max(0.6, footway - 0.4)))
            z = rng.uniform(0, BLOCK)
            things.board(s, z, height, width, height, phases[1])
            things.shade(s - 0.2, s + 0.2, z, 0.2, height)

    def _parked(self, rng: Generator, things: Things, side: int) -> None:
        z = rng.uniform(0, 2)
        while z < BLOCK - 5:
            if rng.random() < 0.62:
                car = pick(rng, self.vehicles)
                s = side * (self.kerb[side] - 0.15 - car.width / 2)
                ahead = 0.0 if side == self.drive_side or rng.random() < 0.3 else math.pi
                things.place(car, s, z + car.length / 2, ahead)
            z += rng.uniform(5.3, 7)

    @cached_property
    def _closing(self) -> Batch:
        """Houses and trees across the end of the street."""
        rng = np.random.default_rng([self._seed, 12])
        patches, x, z = [], self.centre(self.end) - 60.0, self.end + 3.0
        light = self.light((0, 0, -1))
        while x < self.centre(self.end) + 60:
            width = rng.uniform(8, 14)
            if rng.random() < 0.75:
                height = 3.0 * int(rng.integers(self.storeys[0], self.storeys[1] + 1))
                wall = varied(rng, pick(rng, houses.WALLS), 8)
                texture = houses.facade(rng, width, height, wall, "house", 16)
                patches.append(
                    Patch((x, -height, z), (width, 0, 0), (0, height, 0), texture, light)
                )
            else:
                for _ in range(2):
                    w, h, layers = pick(rng, self._trees)
                    there = (x, -h, z + rng.uniform(0, 6))
                    patches.append(Patch(there, (w, 0, 0), (0, h, 0), layers[0], light))
                patches.append(Patch((x, -5, z + 9), (24, 0, 0), (0, 5, 0), self._rows[0], light))
            x += width
        return Batch(patches)
