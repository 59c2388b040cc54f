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

"""Moving objects: cars, cyclists and pedestrians, in endless streams.

The slots of a stream move at constant speed, so all positions at any time follow without a
simulation.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import TypeVar

import cv2
import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

from depthseg_ros.street import textures as paint
from depthseg_ros.street.layout import SIDES, Layout
from depthseg_ros.street.renderer import Batch, Patch, Texture, Vector
from depthseg_ros.street.sketch import ROAD
from depthseg_ros.street.vehicles import Vehicle

_T = TypeVar("_T")


@dataclass(frozen=True)
class Stream:
    """Vehicles or pedestrians with the same speed, in slots of which some are empty.

    Attributes:
        kind: "car", "leader" (a car in front of the camera), "cyclist", "walker" or "crosser" (a
            pedestrian who walks across the street and back).
        speed: speed along z, m/s.
        s: position to the right of the centre line, metres.
        spacing: distance between slots, metres.
        share: share of filled slots, 0 to 1.
    """

    kind: str
    speed: float
    s: float
    spacing: float
    share: float


class Traffic:
    """All streams of a street."""

    def __init__(
        self,
        layout: Layout,
        seed: int,
        small: Sequence[Vehicle],
        large: Sequence[Vehicle],
        cyclists: Sequence[paint.Cyclist],
        walkers: Sequence[tuple[float, float, list[Texture]]],
    ):
        """Choose the streams.

        Args:
            layout: layout of the street.
            seed: seed of the street.
            small: cars and vans.
            large: buses and lorries.
            cyclists: appearances of cyclists, from `textures.cyclist`.
            walkers: appearances of pedestrians, from `textures.walker`.
        """
        self._layout, self._seed = layout, seed
        self._small, self._large, self._cyclists, self._walkers = small, large, cyclists, walkers
        self._contact = _contact_shadow()
        self._streams = self._make_streams(np.random.default_rng([seed, 3]))
        self._draw = lru_cache(512)(self._draw_of)

    def _make_streams(self, rng: Generator) -> list[Stream]:
        layout = self._layout
        own, other, edge = layout.lane, -layout.lane, layout.drive_side * 0.9
        share = rng.uniform(0.1, 0.9, 2)
        streams = [
            Stream("car", -rng.uniform(6, 12), other, rng.uniform(18, 50), rng.uniform(0.3, 0.8)),
            Stream("cyclist", rng.uniform(3.5, 5), own + edge, 30, share[0]),
            Stream("cyclist", -rng.uniform(3.5, 5), other - edge, 40, share[1]),
        ]
        for side in SIDES:
            for way in (-1, 1):
                s = side * (layout.kerb[side] + rng.uniform(0.6, layout.footway[side] - 0.4))
                spacing = {"city": 18, "town": 30, "suburb": 60}[layout.kind]
                streams.append(Stream("walker", way * rng.uniform(1.1, 1.6), s, spacing, 0.6))
        if rng.random() < 0.7:
            streams.append(Stream("leader", layout.speed, own, rng.uniform(22, 45), 0.75))
        if rng.random() < 0.4:
            streams.append(Stream("crosser", 0.0, 0.0, 45, 0.7))
        return streams

    def _draw_of(self, stream: int, slot: int) -> NDArray[np.float64]:
        """Random numbers (4,) of what is in a slot of a stream."""
        return np.random.default_rng([self._seed, 20 + stream, slot + (1 << 20)]).random(4)

    def patches(
        self, z: float, time: float, camera_x: float, behind: float = 2.0
    ) -> tuple[list[Batch], list[Patch]]:
        """What is in sight from z at a time in seconds, and the soft shadows under it.

        Args:
            z: position of the camera along the street, metres.
            time: seconds.
            camera_x: x of the camera, metres.
            behind: what is drawn behind z, metres.
        """
        batches, shadows = [], []
        light = self._layout.light((0, -1, 0))
        for stream, there, which, more in self._in_sight(z, time, behind):
            heading = self._layout.heading(there) + (math.pi if stream.speed < 0 else 0.0)
            x = self._layout.centre(there) + stream.s + 0.3 * (more - 0.5)
            if stream.kind in ("car", "leader"):
                car = _chosen(self._large if more < 0.1 else self._small, which)
                batches.append(car.batch.moved(x, there, heading))
                width, length = car.width, car.length
            elif stream.kind == "cyclist":
                if abs(x - camera_x) < 1.3 and abs(there - z) < 5:
                    continue  # the camera would collide with it
                rider = _chosen(self._cyclists, which)
                batches.append(self._rider(rider, x, there, 1 if stream.speed > 0 else -1, light))
                width, length = 0.5, 1.8
            else:
                step = there
                if stream.kind == "crosser":
                    span = self._layout.kerb[-1] + self._layout.kerb[1] + 3
                    step = (1.3 * time + 60 * more) % (2 * span)
                    x += span / 2 - abs(step - span)
                wide, tall, phases = _chosen(self._walkers, which)
                phase = phases[int(step / (paint.STRIDE / 4)) % 4]
                origin, right, down = (x - wide / 2, -tall, there), (wide, 0, 0), (0, tall, 0)
                batches.append(Batch([Patch(origin, right, down, phase, light, True)]))
                width, length = 0.5, 0.5
            shadows.append(self._under(x, there, width, length, heading))
        return batches, shadows

    def _in_sight(
        self, z: float, time: float, behind: float
    ) -> Iterator[tuple[Stream, float, float, float]]:
        """Yield stream, z and two random numbers (0 to 1) of each object in sight."""
        for number, stream in enumerate(self._streams):
            travelled = stream.speed * time
            reach = 80.0 if stream.kind in ("walker", "crosser") else 140.0
            nearest = {"leader": 9.0, "crosser": 7.0}.get(stream.kind, -max(6.0, behind))
            first = math.floor((z + nearest - travelled) / stream.spacing) - 1
            last = math.ceil((z + reach - travelled) / stream.spacing)
            for slot in range(first, last + 1):
                chance, jitter, which, more = self._draw(number, slot)
                there = (slot + 0.15 + 0.6 * jitter) * stream.spacing + travelled
                if stream.kind == "leader":
                    there += 2.5 * math.sin(0.4 * time + 6 * more)
                in_sight = nearest < there - z < reach and there < self._layout.end - 4
                if chance < stream.share and in_sight:
                    yield stream, there, which, more

    def _rider(self, rider: paint.Cyclist, x: float, z: float, way: int, light: Vector) -> Batch:
        front, down = (x, -1.75, z + 0.9 * way), (0, 1.75, 0)
        return Batch(
            [
                Patch(front, (0, 0, -1.8 * way), down, rider.side, light, True),
                Patch((x - 0.35, -1.75, z), (0.7, 0, 0), down, rider.back, light, True),
            ]
        )

    def _under(self, x: float, z: float, width: float, length: float, heading: float) -> Patch:
        """The soft shadow under a moving object."""
        w, h = width * 1.25, length * 1.15
        sin, cos = math.sin(heading), math.cos(heading)
        u, v = np.array([w * cos, 0, -w * sin]), np.array([-h * sin, 0, -h * cos])
        drift = self._layout.sunshine * 0.35 * self._layout.sun / self._layout.sun[1]
        origin = np.array([x + drift[0], 0, z + drift[2]]) - u / 2 - v / 2
        return Patch(origin, u, v, self._contact)


def _chosen(options: Sequence[_T], which: float) -> _T:
    """Select an option by a number from 0 to 1."""
    return options[int(which * len(options))]


def _contact_shadow() -> Texture:
    y, x = np.mgrid[-1:1:48j, -1:1:32j]
    dark = np.clip(1.5 - 1.5 * np.maximum(np.abs(x), np.abs(y)) ** 3, 0, 1)
    grey = (255 * (1 - 0.65 * dark)).astype(np.uint8)
    return Texture(cv2.merge([grey] * 3), ROAD)
