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

"""Textures of houses: facades, end walls and roofs, drawn from random numbers.

Colours are RGB from 0 to 255; sizes are metres, x to the right and y downwards from the top left.
"""

from __future__ import annotations

import numpy as np
from numpy.random import Generator

from depthseg_ros.street.renderer import Colour, Texture
from depthseg_ros.street.sketch import BUILDING, Sketch, pick, varied

WALLS = (
    (138, 84, 66), (152, 104, 82), (120, 78, 66), (182, 156, 118), (170, 142, 106),
    (206, 200, 186), (222, 216, 200), (190, 178, 158), (158, 152, 142), (128, 122, 116),
    (206, 190, 160), (176, 128, 104), (100, 88, 80), (196, 206, 206), (214, 196, 190),
)  # fmt: skip
ROOFS = ((92, 88, 92), (112, 74, 60), (78, 80, 88), (128, 96, 78), (104, 100, 96))
SHOPS = (
    (150, 30, 34), (26, 60, 120), (24, 84, 60), (60, 52, 50), (196, 160, 50),
    (230, 226, 214), (96, 40, 90), (40, 40, 44), (200, 90, 40),
)  # fmt: skip


def facade(
    rng: Generator, width: float, height: float, wall: Colour, style: str, scale: float
) -> Texture:
    """Draw a facade: storeys of windows above doors, a shop or an office's glass.

    Args:
        rng: random numbers.
        width: metres.
        height: metres to the eaves.
        wall: colour of brick, stucco or stone.
        style: "house", "shop", "office" or "glass".
        scale: texels per metre.
    """
    sheet = Sketch(width, height, scale, BUILDING, wall)
    sheet.grain(rng, 0.06, (0.25, 0.08))
    sheet.grain(rng, 0.05, (2.0, 1.5))
    storeys = max(1, round(height / 3.1))
    storey = height / storeys
    frame = pick(rng, ((232, 230, 224), (232, 230, 224), (70, 66, 62), (120, 90, 66)))
    trim = varied(rng, np.asarray(wall) * 1.2 if rng.random() < 0.6 else (216, 210, 196))
    if style in ("office", "glass"):
        _office_front(rng, sheet, storeys, storey, style == "glass", frame)
    else:
        _house_front(rng, sheet, storeys, storey, frame, trim)
        if rng.random() < 0.7:
            x = rng.uniform(0.05, 0.95) * width
            sheet.box(x, 0, 0.1, height, np.asarray(wall) * 0.45)
    if style == "shop":
        _shop_front(rng, sheet, storey)
    sheet.box(0, 0, width, rng.uniform(0.12, 0.4), trim * rng.uniform(0.6, 1.05))
    if rng.random() < 0.5 and storeys > 1:
        sheet.box(0, height - storey, width, 0.14, trim)
    # Grime gathers under the eaves and at the foot; the edge between neighbours is dark.
    rise = np.linspace(0, 1, sheet.labels.shape[0], dtype=np.float32)[:, None]
    sheet.shade(1.04 - 0.16 * rise**4 - 0.12 * np.exp(-rise * height / 0.3))
    sheet.rgb[:, :1] //= 2
    return sheet.texture()


def _window(
    rng: Generator,
    sheet: Sketch,
    x: float,
    y: float,
    w: float,
    h: float,
    frame: Colour,
    trim: Colour | None,
) -> None:
    """Draw a window with frame, bars, sill, and sky or a curtain in its panes."""
    if trim is not None:
        sheet.box(x - 0.12, y - 0.22, w + 0.24, 0.2, trim)
        sheet.box(x - 0.1, y + h, w + 0.2, 0.12, trim)
    sheet.box(x - 0.03, y - 0.03, w + 0.06, h + 0.06, frame)
    dark = rng.uniform(22, 70) * np.array([0.92, 1.0, 1.1])
    bright = dark + rng.choice([10, 30, 80]) * np.array([0.95, 1.0, 1.05])
    if rng.random() < 0.06:
        bright = dark = np.array([226, 196, 140])
    pane = (x + 0.07, w - 0.14)
    sheet.box(pane[0], y + 0.06, pane[1], h * 0.45, bright)
    sheet.box(pane[0], y + h * 0.5, pane[1], h * 0.5 - 0.06, dark)
    if rng.random() < 0.3:
        curtain = rng.uniform(120, 215) * np.array([1, 0.98, 0.93])
        side = rng.uniform(0.15, 0.3) * pane[1]
        sheet.box(pane[0], y + 0.06, side, h - 0.12, curtain)
        sheet.box(pane[0] + pane[1] - side, y + 0.06, side, h - 0.12, curtain)
    sheet.box(x, y + h * 0.47, w, 0.05, frame)
    if w > 1.0:
        sheet.box(x + w / 2 - 0.025, y, 0.05, h, frame)


def _house_front(
    rng: Generator, sheet: Sketch, storeys: int, storey: float, frame: Colour, trim: Colour
) -> None:
    columns = max(1, int(sheet.width / rng.uniform(1.9, 3.2)))
    pitch = sheet.width / columns
    w = min(rng.uniform(0.85, 1.5), pitch * 0.6)
    h = rng.uniform(1.25, 1.8)
    edged = trim if rng.random() < 0.7 else None
    door_every = int(rng.integers(2, 4))
    door_at = int(rng.integers(door_every))
    for row in range(storeys):
        y = row * storey + (storey - h) * 0.5
        for column in range(columns):
            x = (column + 0.5) * pitch - w / 2
            if row == storeys - 1 and column % door_every == door_at:
                door = rng.uniform(20, 150, 3)
                sheet.box(x - 0.12, sheet.height - 2.5, 1.24, 2.5, trim)
                sheet.box(x, sheet.height - 2.12, 1.0, 2.12, door)
                sheet.box(x + 0.12, sheet.height - 2.42, 0.76, 0.25, (60, 66, 72))
                sheet.box(x + 0.2, sheet.height - 1.95, 0.6, 0.8, door * 0.75)
            else:
                _window(rng, sheet, x, y, w, h, frame, edged)


def _office_front(
    rng: Generator, sheet: Sketch, storeys: int, storey: float, glass: bool, frame: Colour
) -> None:
    band = rng.uniform(0.72, 0.92) if glass else rng.uniform(0.45, 0.6)
    pitch = sheet.width / max(2, round(sheet.width / rng.uniform(1.2, 2.4)))
    tint = varied(rng, (52, 66, 78), 10)
    for row in range(storeys):
        y = row * storey + storey * (1 - band) / 2
        sheet.box(0.2, y, sheet.width - 0.4, storey * band, tint)
        x = 0.2
        while x < sheet.width - 0.3:
            pane = tint * rng.choice([0.6, 0.85, 1.0, 1.5, 2.0])
            sheet.box(x, y + 0.05, pitch - 0.08, storey * band - 0.1, pane)
            sheet.box(x + pitch - 0.08, y, 0.08, storey * band, frame)
            x += pitch


def _shop_front(rng: Generator, sheet: Sketch, storey: float) -> None:
    """Draw the ground floor of a shop: fascia with lettering, display and door."""
    top, colour = sheet.height - storey * 1.02, varied(rng, pick(rng, SHOPS))
    sheet.box(0.1, top, sheet.width - 0.2, storey * 1.02, colour * 0.8)
    sheet.box(0.05, top, sheet.width - 0.1, 0.62, colour)
    letters = (235, 230, 215) if colour.mean() < 130 else (40, 36, 40)
    x = rng.uniform(0.4, 1.2)
    end = min(sheet.width - 0.5, x + rng.uniform(2.0, 5.0))
    while x < end:
        w = rng.uniform(0.1, 0.26)
        if rng.random() < 0.85:
            sheet.box(x, top + 0.17 + rng.uniform(0, 0.06), w, 0.28, letters)
        x += w + 0.07
    door = rng.uniform(0.1, 0.85) * max(0.5, sheet.width - 1.4)
    x = 0.35
    while x < sheet.width - 0.6:
        w = min(rng.uniform(1.4, 2.6), sheet.width - 0.35 - x)
        sheet.box(x, top + 0.72, w - 0.1, storey - 1.25, rng.uniform(24, 64) * np.ones(3))
        for _ in range(int(rng.integers(1, 6))):
            sheet.box(
                x + rng.uniform(0, max(0.05, w - 0.7)),
                top + rng.uniform(0.9, storey - 1.1),
                rng.uniform(0.1, 0.5),
                rng.uniform(0.1, 0.5),
                rng.uniform(50, 235, 3),
            )
        x += w
    sheet.box(door, sheet.height - 2.15, 0.95, 2.15, colour * 0.5)
    sheet.box(door + 0.12, sheet.height - 2.0, 0.7, 1.6, (44, 50, 56))


def end_wall(
    rng: Generator, width: float, height: float, rise: float, wall: Colour, scale: float
) -> Texture:
    """Draw the side of a house: `height` to the eaves, gable `rise` above them, metres."""
    sheet = Sketch(width, height + rise, scale, BUILDING)
    outline = [(0, rise), (width / 2, 0), (width, rise), (width, height + rise), (0, height + rise)]
    sheet.polygon(outline, np.asarray(wall) * 0.95)
    sheet.grain(rng, 0.06, (0.25, 0.08))
    sheet.grain(rng, 0.06, (2.0, 1.5))
    if rng.random() < 0.6:
        for y in np.arange(rise + 0.8, height + rise - 1.8, 3.0):
            x = rng.uniform(0.15, 0.75) * width
            _window(rng, sheet, x, y, 0.8, 1.2, (225, 222, 214), None)
    return sheet.texture()


def roof(rng: Generator, width: float, depth: float, colour: Colour, scale: float) -> Texture:
    """Draw a roof, sometimes with a window."""
    sheet = Sketch(width, depth, scale, BUILDING, varied(rng, colour))
    sheet.grain(rng, 0.10, (0.3, 0.25))
    sheet.grain(rng, 0.06, (2, 1))
    if rng.random() < 0.3:
        sheet.box(rng.uniform(0.2, 0.7) * width, depth * 0.4, 0.8, 1.1, (60, 70, 84))
    return sheet.texture()
