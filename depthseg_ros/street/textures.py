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

"""Textures of trees, street furniture and people, drawn from random numbers.

Colours are RGB from 0 to 255; sizes are metres, x to the right and y downwards from the top left.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

from depthseg_ros.street.houses import WALLS
from depthseg_ros.street.renderer import Colour, Texture
from depthseg_ros.street.sketch import (
    BICYCLIST,
    FENCE,
    PEDESTRIAN,
    SIGN,
    TREE,
    Sketch,
    pick,
    varied,
)

# --- Trees and hedges ---------------------------------------------------------------------------

LEAVES = ((74, 92, 48), (60, 80, 44), (90, 104, 56), (54, 70, 46), (104, 108, 60))
AUTUMN = ((150, 104, 50), (128, 84, 44), (160, 124, 60))
BARK = (84, 74, 64)
TWIGS = (112, 104, 98)

_TREE_SCALE = 26
"""Texels per metre."""


def tree(rng: Generator, kind: str) -> tuple[float, float, list[Texture]]:
    """Draw a tree in up to three layers, one behind the other, so that its crown has depth.

    Args:
        rng: random numbers.
        kind: "leafy", "autumn", "bare" or "conifer".

    Returns:
        Width and height in metres, and the layers; the middle one has the trunk.
    """
    height = rng.uniform(6.0, 12.0)
    width = height * (rng.uniform(0.3, 0.42) if kind == "conifer" else rng.uniform(0.6, 0.9))
    if kind == "bare":
        sheet = Sketch(width, height, _TREE_SCALE, TREE)
        # Twigs are labelled as one solid crown, as annotators do and as a planner needs it.
        _crown(rng, sheet, varied(rng, TWIGS, 12), False, 0.95)
        sheet.grain(rng, 0.3)
        bark = varied(rng, BARK, 10)
        _branch(
            rng, sheet, (width / 2, height), -math.pi / 2, height * 0.25, height * 0.03, bark, 6
        )
        return width, height, [sheet.texture()]
    colour = varied(rng, pick(rng, AUTUMN if kind == "autumn" else LEAVES), 8)
    layers = []
    for layer, size in enumerate((1.0, 0.8, 0.8)):
        sheet = Sketch(width, height, _TREE_SCALE, TREE)
        if layer == 0:
            lean = rng.uniform(-0.2, 0.2)
            foot, trunk = width / 2, height * 0.03
            sheet.polygon(
                [(foot - trunk, height), (foot + trunk, height), (foot + lean, height * 0.3)],
                varied(rng, BARK, 8),
            )
            for side in (-1, 1):
                sheet.line(
                    (foot, height * 0.72),
                    (foot + side * width * 0.25, height * 0.5),
                    trunk * 0.8,
                    np.asarray(BARK) * 0.8,
                )
        _crown(rng, sheet, colour, kind == "conifer", size)
        sheet.grain(rng, 0.16)
        layers.append(sheet.texture())
    return width, height, layers


def _crown(rng: Generator, sheet: Sketch, colour: Colour, conifer: bool, size: float) -> None:
    """Draw clumps of leaves, dark ones below and inside, light ones above and outside."""
    w, h = sheet.width, sheet.height
    clumps = []
    for _ in range(130):
        if conifer:
            y = rng.uniform(0.03, 0.9)
            x = 0.5 + rng.uniform(-0.48, 0.48) * y * size
            clumps.append((y, x * w, y * h, w * rng.uniform(0.04, 0.1)))
        else:
            turn, r = rng.uniform(0, 2 * math.pi), math.sqrt(rng.random()) * size
            x, y = 0.5 + 0.42 * r * math.cos(turn), 0.38 + 0.3 * r * math.sin(turn)
            clumps.append((y + 0.12 * rng.normal(), x * w, y * h, w * rng.uniform(0.035, 0.1)))
    for y, cx, cy, radius in sorted(clumps, reverse=True):
        light = (1.15 - 0.75 * y) * rng.uniform(0.7, 1.2)
        sheet.disc(cx, cy, radius, radius * rng.uniform(0.6, 1.0), np.asarray(colour) * light)


def _branch(
    rng: Generator,
    sheet: Sketch,
    start: Sequence[float],
    turn: float,
    length: float,
    width: float,
    bark: NDArray[np.float64],
    more: int,
) -> None:
    """Draw a branch from `start` and `more` generations of smaller branches on it."""
    end = (start[0] + length * math.cos(turn), start[1] + length * math.sin(turn))
    sheet.line(start, end, width, bark * rng.uniform(0.8, 1.25))
    if not more:
        return
    for k in range(3):
        along = rng.uniform(0.55, 1.0) if k else 1.0
        fork = [a + (b - a) * along for a, b in zip(start, end, strict=True)]
        bend = rng.normal(0, 0.3 if k == 0 else 0.65)
        upwards = 0.12 * math.cos(turn)
        _branch(
            rng, sheet, fork, turn + bend - upwards, length * rng.uniform(0.62, 0.88),
            width * (0.7 if k == 0 else 0.5), bark, more - 1,
        )  # fmt: skip


def foliage(rng: Generator, width: float, height: float, colour: Colour, scale: float) -> Texture:
    """Draw a hedge or a row of distant crowns with a ragged top."""
    sheet = Sketch(width, height, scale, TREE)
    x, ragged = 0.0, min(0.35 * height, 2.5)
    sheet.box(0, ragged, width, height, np.asarray(colour) * 0.6)
    while x < width:
        radius = rng.uniform(0.5, 1.0) * ragged
        sheet.disc(x, ragged * 1.05, radius, radius, np.asarray(colour) * rng.uniform(0.6, 1.1))
        x += radius
    for _ in range(min(150, int(width * height * 0.8) + 20)):
        x, y = rng.uniform(0, width), rng.uniform(ragged, height)
        light = rng.uniform(0.45, 1.2) * (1.15 - 0.5 * y / height)
        r = rng.uniform(0.1, 0.3) * max(1.0, height * 0.2)
        sheet.disc(x, y, r, r * 0.8, np.asarray(colour) * light)
    sheet.grain(rng, 0.14)
    return sheet.texture()


# --- Fences, signs, poles -------------------------------------------------------------------------


def fence(rng: Generator, width: float, kind: str) -> tuple[float, Texture]:
    """Draw a fence, "railings", "boards" or "wall"; returns its height in metres and texture."""
    if kind == "railings":
        height = rng.uniform(1.0, 1.5)
        sheet = Sketch(width, height, 40, FENCE)
        steel = pick(rng, ((34, 34, 38), (44, 56, 50), (120, 122, 124)))
        for y in (0.08, height - 0.2):
            sheet.box(0, y, width, 0.06, steel)
        for x in np.arange(0, width, 0.13):
            sheet.box(x, 0, 0.05, height, steel)
        for x in np.arange(0, width, 2.6):
            sheet.box(x, 0, 0.14, height, np.asarray(steel) * 0.8)
        return height, sheet.texture()
    height = rng.uniform(0.8, 1.9)
    colour = varied(rng, (140, 112, 84) if kind == "boards" else pick(rng, WALLS[:5]))
    sheet = Sketch(width, height, 30, FENCE, colour)
    if kind == "boards":
        sheet.grain(rng, 0.12, (0.14, 9.0))
        for x in np.arange(0, width, 2.0):
            sheet.box(x, 0, 0.1, height, np.asarray(colour) * 0.7)
    else:
        sheet.grain(rng, 0.1, (0.22, 0.075))
        sheet.box(0, 0, width, 0.09, np.asarray(colour) * 1.25)
    sheet.grain(rng, 0.05, (1.5, 0.6))
    return height, sheet.texture()


def sign(rng: Generator) -> tuple[float, float, Texture]:
    """Draw a traffic sign or traffic light; returns width, height (metres) and texture."""
    kind = pick(rng, ("ring", "ring", "triangle", "blue", "panel", "lights", "lights"))
    if kind == "lights":
        sheet = Sketch(0.36, 1.0, 110, SIGN, (26, 26, 28))
        lit = int(rng.integers(3))
        for k, colour in enumerate(((250, 60, 40), (250, 180, 50), (70, 240, 150))):
            sheet.disc(0.18, 0.2 + 0.3 * k, 0.11, 0.11, np.array(colour) * (1 if k == lit else 0.2))
        return 0.36, 1.0, sheet.texture()
    if kind == "panel":
        w, h = rng.uniform(0.6, 1.6), rng.uniform(0.5, 1.2)
        ground = pick(rng, ((24, 96, 62), (30, 70, 150), (236, 236, 230), (230, 190, 40)))
        sheet = Sketch(w, h, 90, SIGN, (236, 236, 232))
        sheet.box(0.03, 0.03, w - 0.06, h - 0.06, ground)
        letters = (236, 236, 230) if np.mean(ground) < 140 else (30, 30, 34)
        for y in np.arange(0.1, h - 0.16, 0.2):
            sheet.box(0.1, y, rng.uniform(0.3, 1.0) * (w - 0.2), 0.1, letters)
        return w, h, sheet.texture()
    size = rng.uniform(0.6, 0.85)
    sheet = Sketch(size, size, 110, SIGN)
    half = size / 2
    if kind == "triangle":
        sheet.polygon([(half, 0), (size, size), (0, size)], (196, 34, 40))
        sheet.polygon([(half, 0.2), (size - 0.15, size - 0.1), (0.15, size - 0.1)], (236, 234, 230))
        sheet.box(half - 0.04, size * 0.45, 0.08, size * 0.35, (30, 30, 30))
    elif kind == "blue":
        sheet.disc(half, half, half, half, (30, 76, 160))
        sheet.polygon([(half, 0.12), (size - 0.15, half), (0.15, half)], (236, 236, 236))
        sheet.box(half - 0.05, half, 0.1, half - 0.12, (236, 236, 236))
    else:
        sheet.disc(half, half, half, half, (196, 34, 40))
        sheet.disc(half, half, half * 0.76, half * 0.76, (238, 236, 232))
        sheet.box(half * 0.62, half * 0.65, half * 0.28, half * 0.7, (30, 30, 34))
        sheet.box(half * 1.1, half * 0.65, half * 0.28, half * 0.7, (30, 30, 34))
    return size, size, sheet.texture()


# --- People ---------------------------------------------------------------------------------------

CLOTHES = (
    (36, 38, 46), (44, 50, 78), (90, 34, 36), (64, 72, 60), (150, 146, 138), (196, 60, 50),
    (30, 30, 32), (110, 90, 72), (60, 96, 140), (206, 196, 180), (78, 70, 88),
)  # fmt: skip
SKIN = ((222, 178, 150), (196, 150, 120), (128, 88, 66), (92, 62, 48), (232, 192, 168))
HAIR = ((40, 30, 26), (24, 22, 22), (110, 80, 50), (150, 120, 80), (150, 148, 146))
STRIDE = 1.4
"""Distance that a pedestrian walks in one cycle of the four phases, metres."""


def walker(rng: Generator) -> tuple[float, float, list[Texture]]:
    """Draw a person; returns width, height (metres) and textures of four phases of a stride."""
    height = rng.uniform(1.5, 1.92)
    top, legs, skin = varied(rng, pick(rng, CLOTHES)), pick(rng, CLOTHES), pick(rng, SKIN)
    hair, coat, girth = pick(rng, HAIR), rng.random() < 0.4, rng.uniform(0.85, 1.2)
    bag = rng.random() < 0.3
    phases = []
    for phase in range(4):
        swing = (0.1, 0.02, -0.1, -0.02)[phase]
        sheet = Sketch(0.9, height, 90, PEDESTRIAN)
        x, hip, shoulder = 0.45, height * 0.52, height * 0.19
        half = 0.2 * girth
        sole = height - 0.04
        foot = (x - 0.08 - swing, sole - max(0, swing) * 0.8)
        sheet.line((x - 0.07, hip - 0.05), foot, 0.16, np.multiply(legs, 0.85))
        foot = (x + 0.08 + swing * 0.6, sole + min(0, swing) * 0.8)
        sheet.line((x + 0.07, hip - 0.05), foot, 0.16, legs)
        hem = hip + (0.28 if coat else 0.06)
        sheet.polygon(
            [
                (x - half, shoulder), (x - 0.07, shoulder - 0.05), (x + 0.07, shoulder - 0.05),
                (x + half, shoulder), (x + half * 0.9, hem), (x - half * 0.9, hem),
            ],
            top,
        )  # fmt: skip
        for side in (-1, 1):
            hand = (x + side * (half + 0.03), hip + 0.04 - side * swing * 0.5)
            sheet.line((x + side * (half - 0.03), shoulder + 0.05), hand, 0.1, top * 0.8)
            sheet.disc(*hand, 0.045, 0.055, skin)
        if bag:
            sheet.box(x + half - 0.02, hip - 0.15, 0.17, 0.32, (70, 50, 40))
        head = height * 0.075
        sheet.box(x - 0.05, head * 1.6, 0.1, 0.14, np.asarray(skin) * 0.8)
        sheet.disc(x, head, 0.095, head, hair)
        if phase % 2 == 0 or not coat:
            sheet.disc(x + 0.01, head * 1.15, 0.075, head * 0.75, skin)
        sheet.grain(rng, 0.07, (0.06, 0.1))
        phases.append(sheet.texture())
    return 0.9, height, phases


class Cyclist(NamedTuple):
    """Textures of a cyclist, 1.8 m long, 0.7 m wide and 1.75 m high."""

    side: Texture
    """Riding to the left."""
    back: Texture


def cyclist(rng: Generator) -> Cyclist:
    """Draw a person on a bicycle."""
    top, legs, skin = varied(rng, pick(rng, CLOTHES)), pick(rng, CLOTHES), pick(rng, SKIN)
    if rng.random() < 0.25:
        top = np.array([214, 226, 60])
    frame = rng.uniform(30, 200, 3)
    helmet = pick(rng, ((220, 220, 220), (40, 40, 44), (40, 30, 26)))
    side = Sketch(1.8, 1.75, 90, BICYCLIST)
    for x in (0.36, 1.42):
        side.disc(x, 1.41, 0.34, 0.34, (28, 28, 30))
        side.disc(x, 1.41, 0.27, 0.27, (110, 110, 108))
    for a, b in (
        ((0.36, 1.41), (0.55, 0.82)), ((0.55, 0.95), (1.1, 0.92)), ((0.6, 1.0), (0.92, 1.38)),
        ((0.92, 1.38), (1.12, 0.84)), ((0.92, 1.38), (1.42, 1.41)), ((1.1, 0.92), (1.42, 1.41)),
        ((0.45, 0.8), (0.66, 0.78)),
    ):  # fmt: skip
        side.line(a, b, 0.05, frame)
    for a, b, width, colour in (
        ((1.12, 0.82), (0.82, 1.08), 0.17, legs), ((0.82, 1.08), (0.94, 1.45), 0.13, legs),
        ((1.14, 0.8), (0.9, 0.34), 0.3, top), ((0.9, 0.4), (0.66, 0.62), 0.1, top),
        ((0.66, 0.62), (0.54, 0.78), 0.09, skin),
    ):  # fmt: skip
        side.line(a, b, width, colour)
    side.disc(0.78, 0.16, 0.11, 0.13, skin)
    side.disc(0.8, 0.11, 0.13, 0.1, helmet)
    back = Sketch(0.7, 1.75, 90, BICYCLIST)
    back.disc(0.35, 1.42, 0.04, 0.33, (28, 28, 30))
    for k in (-1, 1):
        back.line((0.35 + 0.1 * k, 0.85), (0.35 + 0.13 * k, 1.45 - 0.12 * k), 0.14, legs)
        back.line((0.35 + 0.17 * k, 0.42), (0.35 + 0.22 * k, 0.8), 0.1, np.asarray(top) * 0.85)
    back.polygon([(0.17, 0.36), (0.53, 0.36), (0.5, 0.95), (0.2, 0.95)], top)
    back.disc(0.35, 0.17, 0.1, 0.14, skin)
    back.disc(0.35, 0.12, 0.11, 0.11, helmet)
    for sheet in (side, back):
        sheet.grain(rng, 0.06, (0.06, 0.1))
    return Cyclist(side.texture(), back.texture())
