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

"""The ground of a street, block by block: asphalt, lines, paving, and the shadows on it."""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from itertools import pairwise

import cv2
import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

from depthseg_ros.street.layout import BLOCK, SIDES, Layout
from depthseg_ros.street.renderer import Batch, Colour, Patch, Texture
from depthseg_ros.street.sketch import PAVEMENT, ROAD, TREE, Sketch, varied

_PIECE = 8.0
"""Metres of ground in a patch, and between the corners of a bend."""


class Ground:
    """The ground of all blocks.

    Attributes:
        colour: RGB of the ground beside the street, without lighting.
        label: its class id.
        patches: function (block index, texels per metre) -> ground of the block; cached.
    """

    def __init__(
        self,
        layout: Layout,
        seed: int,
        rng: Generator,
        shades: Callable[[int], list[NDArray[np.float64]]],
    ):
        """Choose materials and markings.

        Args:
            layout: layout of the street.
            seed: seed of the street.
            rng: random numbers for colours and markings.
            shades: function block index -> outlines (n, 2) in (s, z), metres, of the shadows on the
                ground.
        """
        self._layout, self._seed, self._shades = layout, seed, shades
        self._markings = rng.random(4)
        self._asphalt = np.full(3, rng.uniform(78, 132)) * rng.uniform(0.97, 1.03, 3)
        self._slabs = np.full(3, rng.uniform(118, 168)) * rng.uniform(0.95, 1.04, 3)
        self._grass = varied(rng, (84, 96, 52), 8)
        green = layout.kind == "suburb"
        self.colour = self._grass if green else self._slabs * 0.8
        self.label = TREE if green else PAVEMENT
        self.patches = lru_cache(24)(self._patches)

    def _patches(self, index: int, scale: int) -> Batch:
        """Draw the ground of a block with shadows, at `scale` texels per metre."""
        rng = np.random.default_rng([self._seed, 11, index + (1 << 20)])
        layout = self._layout
        left = -(layout.kerb[-1] + layout.footway[-1] + layout.setback[-1] + 4)
        right = layout.kerb[1] + layout.footway[1] + layout.setback[1] + 4
        # Texture rows run from the far end to the near one.
        sheet = Sketch(right - left, BLOCK, scale, ROAD, self._asphalt)
        ends_here = layout.end - (index + 1) * BLOCK < 1
        sheet.grain(rng, 0.05, (3.0, 8.0))
        sheet.grain(rng, 0.03, (0.25, 0.5))
        self._wear(rng, sheet, left)
        if not ends_here:
            self._lines(rng, sheet, left)
        for side in SIDES:
            self._paving(sheet, left, side, ends_here)
        sheet.grain(rng, 0.035)
        if layout.sunshine > 0.1:
            self._cast(sheet, left, index)
        light = layout.light((0, -1, 0))
        patches = []
        pieces = int(BLOCK / _PIECE)
        cuts = [round(len(sheet.rgb) * piece / pieces) for piece in range(pieces + 1)]
        for piece, (top, bottom) in enumerate(pairwise(cuts)):
            texture = Texture(sheet.rgb[top:bottom], sheet.labels[top:bottom])
            far = (index + 1) * BLOCK - piece * _PIECE
            x = layout.centre(far)
            u, v = (right - left, 0, 0), (layout.centre(far - _PIECE) - x, 0, -_PIECE)
            patches.append(Patch((x + left, 0, far), u, v, texture, light))
        return Batch(patches)

    def _wear(self, rng: Generator, sheet: Sketch, left: float) -> None:
        """Draw repairs, cracks, stains, manholes and darker wheel tracks."""
        layout = self._layout
        for _ in range(int(rng.poisson(1.2))):
            w, h = rng.uniform(0.6, 2.5), rng.uniform(1, 9)
            x, y = (
                rng.uniform(-layout.kerb[-1], layout.kerb[1] - w) - left,
                rng.uniform(0, BLOCK - h),
            )
            sheet.box(x, y, w, h, self._asphalt * rng.uniform(0.7, 1.15))
        for _ in range(int(rng.poisson(2.5))):
            x, y = rng.uniform(-layout.kerb[-1], layout.kerb[1]) - left, rng.uniform(0, BLOCK)
            for _ in range(12):
                step = (x + rng.normal(0, 0.12), y + rng.uniform(0.1, 0.5))
                sheet.line((x, y), step, 0.03, self._asphalt * 0.6)
                x, y = step
        for _ in range(int(rng.poisson(1.0))):
            x, y = rng.uniform(-layout.kerb[-1], layout.kerb[1]) - left, rng.uniform(0, BLOCK)
            r = rng.uniform(0.25, 0.4)
            sheet.disc(x, y, r, r, self._asphalt * rng.uniform(0.5, 0.75))
        across = (np.arange(sheet.labels.shape[1], dtype=np.float32) + 0.5) / sheet.scale + left
        track = np.zeros_like(across)
        for lane in SIDES:
            for wheel in (-0.8, 0.8):
                track += np.exp(-(((across - lane * layout.lane_width / 2 - wheel) / 0.3) ** 2))
        sheet.shade(1 - 0.07 * track[None])

    def _lines(self, rng: Generator, sheet: Sketch, left: float) -> None:
        """Draw centre line, bays, lines along the kerb, and sometimes a crossing or an arrow."""
        layout = self._layout
        white = np.array([214, 212, 206]) * rng.uniform(0.75, 1.0)
        yellow = np.array([206, 172, 74])
        centre, edge, zebra, _ = self._markings
        if centre < 0.85:
            dash, gap = (2.0, 4.0) if centre < 0.5 else (4.0, 2.0)
            for y in np.arange(0.5, BLOCK, dash + gap):
                sheet.box(-left - 0.06, y, 0.12, dash, white)
        for side in SIDES:
            kerb = side * layout.kerb[side] - left
            if layout.parking[side]:
                bay = kerb - side * 2.05
                for y in np.arange(0, BLOCK, 1.5 if edge < 0.5 else 6):
                    sheet.box(bay - 0.05, y, 0.1, 0.8, white)
            elif edge < 0.6:
                colour = yellow if edge < 0.45 else white
                for inset in (0.25, 0.45) if edge < 0.35 else (0.3,):
                    sheet.box(kerb - side * inset - 0.05, 0, 0.1, BLOCK, colour)
        if rng.random() < 0.05 + 0.1 * zebra:
            y = rng.uniform(4, 16)
            for x in np.arange(-layout.kerb[-1] + 0.3, layout.kerb[1] - 0.4, 1.0):
                sheet.box(x - left, y, 0.5, 2.8, white)
            if layout.drive_side < 0:
                sheet.box(-layout.kerb[-1] - left, y + 4.2, layout.kerb[-1], 0.2, white)
        elif rng.random() < 0.08:
            x, y = layout.lane - left, rng.uniform(4, 16)
            sheet.box(x - 0.08, y, 0.16, 3.0, white)
            sheet.polygon([(x - 0.4, y + 0.6), (x + 0.4, y + 0.6), (x, y - 0.6)], white)

    def _paving(self, sheet: Sketch, left: float, side: int, ends_here: bool) -> None:
        """Draw kerb, gutter, footway and the ground behind it on one side."""
        layout = self._layout
        kerb, back = layout.kerb[side], layout.kerb[side] + layout.footway[side]
        top = 10.0 if ends_here else 0.0
        height = BLOCK - top

        def strip(a: float, b: float, colour: Colour, label: int) -> None:
            lo, hi = sorted((side * a - left, side * b - left))
            sheet.box(lo, top, hi - lo, height, colour, label)

        colour = self._grass if self.label == TREE else self._slabs * 0.85
        strip(back, back + layout.setback[side] + 6, colour, self.label)
        strip(kerb, back, self._slabs, PAVEMENT)
        if self._markings[3] < 0.6 and sheet.scale > 20:
            x = min(side * kerb, side * back) - left
            for y in np.arange(top, BLOCK, 0.6):
                sheet.box(x, y, back - kerb, 0.02, self._slabs * 0.82, PAVEMENT)
            for s in np.arange(kerb, back, 0.6):
                strip(s, s + 0.02, self._slabs * 0.82, PAVEMENT)
        if layout.verge:
            strip(kerb + 0.2, kerb + 1.0, self._grass, TREE)
        strip(kerb, kerb + 0.15, self._slabs * 1.15, PAVEMENT)
        strip(kerb - 0.22, kerb, self._asphalt * 0.72, ROAD)
        strip(kerb - 0.02, kerb + 0.01, self._asphalt * 0.5, PAVEMENT)

    def _cast(self, sheet: Sketch, left: float, index: int) -> None:
        """Darken the shadows of the objects of this block and its neighbours."""
        layout = self._layout
        shade = np.zeros(sheet.labels.shape, np.uint8)
        for near in (index - 1, index, index + 1):
            if near * BLOCK >= layout.end:
                continue
            for outline in self._shades(near):
                texels = np.add((outline - (left, 0)) * (1, -1), (0, (index + 1) * BLOCK))
                cv2.fillPoly(shade, [np.round(texels * sheet.scale).astype(np.int32)], (1,))
        ambient = np.mean(layout.light((0, -1, 0)))
        dark = (ambient - 0.85 * layout.sunshine * -layout.sun[1]) / ambient
        factor = 1 - (1 - dark) * cv2.blur(shade.astype(np.float32), (3, 3))
        sheet.shade(factor)
