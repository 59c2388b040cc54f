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

"""Cars, vans, buses and lorries as a few patches around their own centre.

A vehicle stands on y = 0 and faces +z. Its sides are outlines with wheels, the rest are panels
from bumper to bumper.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.random import Generator

from depthseg_ros.street.renderer import Batch, Colour, Patch, Texture
from depthseg_ros.street.sketch import CAR, Sketch, pick, plain, varied

PAINTS = (
    (40, 42, 46), (180, 184, 188), (228, 228, 226), (128, 24, 28), (30, 48, 92), (96, 100, 106),
    (24, 60, 48), (150, 152, 150), (196, 40, 36), (52, 84, 130), (206, 196, 160), (30, 30, 32),
)  # fmt: skip
GLASS = np.array([44.0, 52.0, 58.0])
SCALE = 80
"""Texels per metre."""


class Shape(NamedTuple):
    """Shape of a car: metres, and positions as fractions of the length from the front bumper."""

    length: float
    width: float
    height: float
    waist: float
    bonnet: float
    """Height of the bonnet."""
    screen: float
    """End of the bonnet, start of the windscreen."""
    roof: float
    """Start of the roof."""
    roof_end: float
    rear: float
    """End of the rear window."""


SHAPES = {
    "hatch": Shape(4.0, 1.72, 1.45, 0.92, 0.74, 0.24, 0.42, 0.86, 0.97),
    "saloon": Shape(4.6, 1.8, 1.43, 0.92, 0.72, 0.27, 0.44, 0.7, 0.85),
    "estate": Shape(4.7, 1.8, 1.5, 0.93, 0.74, 0.26, 0.42, 0.93, 0.99),
    "suv": Shape(4.6, 1.88, 1.72, 1.08, 0.95, 0.24, 0.38, 0.9, 0.98),
    "van": Shape(5.0, 1.95, 2.05, 1.12, 0.95, 0.14, 0.3, 1.0, 1.0),
}
# Length, width and height.
BOXES = {"bus": (11.0, 2.5, 3.0), "double-decker": (10.5, 2.5, 4.3), "lorry": (7.5, 2.4, 3.2)}


class Vehicle:
    """A vehicle; place it with `Batch.moved`.

    Attributes:
        length: length, metres.
        width: width, metres.
        height: height, metres.
        batch: its patches.
    """

    def __init__(self, rng: Generator, kind: str):
        colour = varied(rng, pick(rng, PAINTS), 6)
        if kind in BOXES:
            self.length, self.width, self.height = BOXES[kind]
            patches = _box_body(rng, kind, colour)
        else:
            self.length, self.width, self.height = SHAPES[kind][:3]
            patches = _car_body(rng, kind, colour)
        self.batch = Batch(patches)


def _wheels(sheet: Sketch, height: float, places: tuple[float, ...], radius: float) -> None:
    for x in places:
        sheet.disc(x, height - radius, radius * 1.18, radius * 1.18, (16, 16, 18))
        sheet.disc(x, height - radius, radius, radius, (30, 30, 32))
        sheet.disc(x, height - radius, radius * 0.62, radius * 0.62, (128, 130, 132))
        sheet.disc(x, height - radius, radius * 0.2, radius * 0.2, (60, 60, 62))


def _glossy(sheet: Sketch) -> None:
    """Reflections in the paint: sky in the upper part, road in the lower."""
    rise = np.linspace(0, 1, sheet.labels.shape[0], dtype=np.float32)[:, None]
    sheet.shade(1.12 - 0.4 * rise)


def _side(shape: Shape, colour: Colour) -> Texture:
    """Draw the side below the windows, front to the left."""
    length, waist = shape.length, shape.waist
    sheet = Sketch(length, waist, SCALE, CAR)
    nose = waist - shape.bonnet
    sheet.polygon(
        [
            (0.0, nose + 0.18), (0.12, nose), (shape.screen * length, 0), (length - 0.1, 0),
            (length, 0.15), (length, waist - 0.28), (length - 0.15, waist - 0.2),
            (0.15, waist - 0.2), (0.0, waist - 0.3),
        ],
        colour,
    )  # fmt: skip
    _glossy(sheet)
    sheet.box(0.1, waist - 0.3, length - 0.2, 0.1, np.asarray(colour) * 0.3)
    for x in (0.28, 0.54, 0.76):
        sheet.box(x * length, 0.04, 0.015, waist - 0.35, np.asarray(colour) * 0.45)
    for x in (0.5, 0.72):
        sheet.box(x * length, 0.14, 0.16, 0.03, np.asarray(colour) * 0.6)
    sheet.box(0.06, nose + 0.1, 0.3, 0.15, (206, 206, 198))
    sheet.box(length - 0.2, 0.1, 0.18, 0.2, (160, 24, 22))
    _wheels(sheet, waist, (0.19 * length, 0.81 * length), 0.31 if waist < 1 else 0.34)
    return sheet.texture()


def _cabin_side(shape: Shape, colour: Colour, panelled: bool) -> Texture:
    """Draw the side windows, front to the left; a panelled van has only the door's."""
    length, rise = shape.length, shape.height - shape.waist
    bottom0, top0, top1, bottom1 = (m * length for m in shape[5:])
    sheet = Sketch(length, rise, SCALE, CAR)
    outline = [(bottom0, rise), (top0, 0), (top1, 0), (bottom1, rise)]
    sheet.polygon(outline, colour)
    if panelled:
        door = top0 + 0.9
        sheet.polygon(
            [(bottom0 + 0.2, rise), (top0 + 0.1, 0.12), (door, 0.12), (door, rise)], GLASS
        )
    else:
        sheet.polygon(
            [
                (bottom0 + 0.16, rise), (top0 + 0.06, 0.08), (top1 - 0.06, 0.08),
                (bottom1 - 0.2, rise),
            ],
            GLASS,
        )  # fmt: skip
        for x in (0.5, 0.74):
            sheet.box(x * length, 0.05, 0.07, rise, np.asarray(colour) * 0.5)
        sheet.box(top0 + 0.15, 0.12, (top1 - top0) * 0.5, 0.08, GLASS * 1.9)
    return sheet.texture()


def _pane(width: float, height: float, inset: float, colour: Colour, bright: float) -> Texture:
    """Draw windscreen or rear window, narrower at the top by `inset` on each side."""
    height = max(height, 0.1)
    sheet = Sketch(width, height, SCALE, CAR)
    sheet.polygon([(0, height), (inset, 0), (width - inset, 0), (width, height)], colour)
    edge = 0.06
    sheet.polygon(
        [
            (edge * 2, height - edge), (inset + edge, edge), (width - inset - edge, edge),
            (width - edge * 2, height - edge),
        ],
        GLASS * bright,
    )  # fmt: skip
    sheet.polygon(
        [
            (width * 0.5, height * 0.5), (inset + 0.3, edge), (width - inset - edge, edge),
            (width - inset - edge, height * 0.35),
        ],
        GLASS * bright * 1.5,
    )  # fmt: skip
    return sheet.texture()


def _end(rng: Generator, width: float, height: float, colour: Colour, rear: bool) -> Texture:
    """Draw front or rear, from tyres and bumper to bonnet or boot."""
    sheet = Sketch(width, height, SCALE, CAR)
    sheet.box(0, 0, width, height - 0.2, colour)
    _glossy(sheet)
    for x in (0.06, width - 0.28):
        sheet.box(x, height - 0.32, 0.22, 0.32, (24, 24, 26))
    dark = np.asarray(colour) * (0.55 if rng.random() < 0.6 else 0.25)
    sheet.box(0, height - 0.42, width, 0.22, dark)
    if rear:
        for x in (0.03, width - 0.27):
            sheet.box(x, 0.08, 0.24, 0.26, (186, 28, 26))
            sheet.box(x, 0.16, 0.24, 0.06, (226, 120, 60))
        sheet.box(width / 2 - 0.26, height - 0.56, 0.52, 0.12, (226, 196, 60))
        sheet.box(0.3, height - 0.46, width - 0.6, 0.015, dark)
    else:
        lit = (250, 248, 236) if rng.random() < 0.4 else (190, 194, 194)
        for x in (0.06, width - 0.42):
            sheet.box(x, 0.06, 0.36, 0.17, lit)
        sheet.box(0.46, 0.08, width - 0.92, 0.16, (30, 30, 32))
        sheet.box(width / 2 - 0.26, height - 0.4, 0.52, 0.12, (232, 232, 228))
    return sheet.texture()


def _car_body(rng: Generator, kind: str, colour: Colour) -> list[Patch]:
    shape = SHAPES[kind]
    length, w, height, waist, bonnet, *marks = shape
    # Distances along the car from its centre, forwards.
    screen, roof0, roof1, rear = (length / 2 - m * length for m in marks)
    x, front, back, lean = w / 2, length / 2, -length / 2, 0.16
    rise = height - waist
    side = _side(shape, colour)
    cabin = _cabin_side(shape, colour, kind == "van")
    paint = plain(np.asarray(colour) * 1.1, CAR)
    windscreen = _pane(w, np.hypot(rise, screen - roof0), lean, colour, 1.25)
    rear_pane = _pane(w, np.hypot(rise, roof1 - rear), lean, colour, 1.0)
    return [
        Patch((-x, -waist, front), (0, 0, -length), (0, waist, 0), side),
        Patch((x, -waist, back), (0, 0, length), (0, waist, 0), side.mirrored()),
        Patch((-x + lean, -height, front), (0, 0, -length), (-lean, rise, 0), cabin),
        Patch((x - lean, -height, back), (0, 0, length), (lean, rise, 0), cabin.mirrored()),
        Patch((-x, -waist, back), (w, 0, 0), (0, waist, 0), _end(rng, w, waist, colour, True)),
        Patch((x, -bonnet, front), (-w, 0, 0), (0, bonnet, 0), _end(rng, w, bonnet, colour, False)),
        Patch((x, -waist, screen), (-w, 0, 0), (0, waist - bonnet, front - screen), paint),
        Patch((x, -height, roof0), (-w, 0, 0), (0, rise, screen - roof0), windscreen),
        Patch((-x, -height, roof1), (w, 0, 0), (0, rise, rear - roof1), rear_pane),
        Patch((-x, -waist, rear), (w, 0, 0), (0, 0, back - rear - 1e-3), paint),
        Patch((-x + lean, -height, roof0), (w - 2 * lean, 0, 0), (0, 0, roof1 - roof0), paint),
    ]


def _box_body(rng: Generator, kind: str, colour: Colour) -> list[Patch]:
    length, w, height = BOXES[kind]
    decks = {"bus": (0.5,), "double-decker": (0.45, 2.35), "lorry": ()}[kind]
    band = varied(rng, pick(rng, PAINTS))
    if kind == "lorry":
        colour = pick(rng, ((214, 214, 210), colour, (190, 196, 204)))
    side = Sketch(length, height, 40, CAR)
    side.box(0, 0, length, height - 0.3, colour)
    side.box(0, height * 0.62, length, 0.35, band)
    _glossy(side)
    if kind == "lorry":
        side.box(0, 0, 1.7, 0.7, (150, 154, 160))
        side.box(0.1, 0.9, 1.2, 0.7, GLASS)
        side.box(1.7, 0, 0.12, height - 0.4, (30, 30, 30))
    for y in decks:
        side.box(0.3, y, length - 0.6, 0.95, GLASS)
        for x in np.arange(0.3, length, 1.5):
            side.box(x, y, 0.09, 0.95, np.asarray(colour) * 0.5)
    _wheels(side, height, (0.2 * length, 0.78 * length), 0.48)
    ends = []
    for rear in (True, False):
        end = Sketch(w, height, 50, CAR)
        end.box(0, 0, w, height - 0.3, colour)
        end.box(0, height * 0.62, w, 0.35, band)
        _glossy(end)
        end.box(0.1, height - 0.45, 0.3, 0.45, (22, 22, 24))
        end.box(w - 0.4, height - 0.45, 0.3, 0.45, (22, 22, 24))
        for y in decks or ((1.0,) if not rear else ()):
            end.box(0.2, y, w - 0.4, 0.95 if rear else 1.2, GLASS * rng.uniform(0.8, 1.4))
        lamp = (190, 30, 28) if rear else (226, 226, 216)
        for x in (0.12, w - 0.4):
            end.box(x, height - 0.85, 0.28, 0.22, lamp)
        end.box(w / 2 - 0.26, height - 0.6, 0.52, 0.12, (226, 196, 60) if rear else (230, 230, 230))
        if decks and rng.random() < 0.8:
            end.box(w * 0.3, 0.14, w * 0.4, 0.28, (30, 30, 30))
            end.box(w * 0.36, 0.2, w * 0.25, 0.16, (236, 190, 60))
        ends.append(end.texture())
    x, z = w / 2, length / 2
    side_texture = side.texture()
    return [
        Patch((-x, -height, z), (0, 0, -length), (0, height, 0), side_texture),
        Patch((x, -height, -z), (0, 0, length), (0, height, 0), side_texture.mirrored()),
        Patch((-x, -height, -z), (w, 0, 0), (0, height, 0), ends[0]),
        Patch((x, -height, z), (-w, 0, 0), (0, height, 0), ends[1]),
    ]
