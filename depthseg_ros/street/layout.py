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

"""Layout of a street: width, bend, both sides and light, determined by the seed.

Along the street is z; across it is `s`, the metres to the right of the centre line, which bends
gently: x = `centre(z)` + s.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

from depthseg_ros.street.renderer import Vector

BLOCK = 24.0
"""Length of a block, metres."""

SIDES = (-1, 1)
"""Left and right of the centre line."""


class Layout:
    """Shape and light of one street.

    Properties of one side are dictionaries with the keys -1 (left) and 1 (right).

    Attributes:
        kind: "city", "town" or "suburb".
        season: "leafy", "autumn" or "bare".
        drive_side: side of the traffic, -1 or 1.
        lane_width: width of a lane, metres.
        lane: `s` of the centre of the camera's lane.
        parking: whether cars are parked there.
        kerb: distance from the centre line to the kerb, metres.
        footway: width of the footway, metres.
        setback: distance from the footway to the houses, metres.
        storeys: minimum and maximum number of storeys of the houses.
        verge: whether there is grass along the kerb.
        speed: speed of the camera, m/s.
        end: z of the end of the street, infinite if it has none.
        drive: distance after which the camera restarts, metres.
        sun: (3,) unit vector to the sun, world axes.
        sunshine: 0 overcast to 1 clear.
    """

    def __init__(self, rng: Generator):
        self.kind = str(rng.choice(["city", "town", "suburb"], p=[0.35, 0.4, 0.25]))
        self.season = str(rng.choice(["leafy", "autumn", "bare"], p=[0.5, 0.15, 0.35]))
        left_hand = rng.random() < 0.8
        self.drive_side = -1 if left_hand else 1
        self.lane_width = rng.uniform(3.0, 3.6)
        self.parking = {side: bool(rng.random() < 0.45) for side in SIDES}
        self.kerb = {
            side: self.lane_width * (1 if self.kind != "city" or rng.random() < 0.7 else 1.8)
            + 2.1 * self.parking[side]
            for side in SIDES
        }
        self.footway = {side: rng.uniform(1.8, 3.6) for side in SIDES}
        self.setback = {
            side: {"city": 0.0, "town": rng.choice([0, 1.5, 3.0]), "suburb": rng.uniform(4, 9)}[
                self.kind
            ]
            for side in SIDES
        }
        self.storeys = {"city": (3, 5), "town": (2, 4), "suburb": (2, 2)}[self.kind]
        self.verge = self.kind == "suburb" and rng.random() < 0.6
        self.lane = self.drive_side * self.lane_width / 2
        self.speed = rng.uniform(5.0, 11.0)
        ends = rng.random() < 0.35
        self.end = BLOCK * int(rng.integers(5, 11)) if ends else math.inf
        self.drive = self.end - 45.0 if ends else math.inf
        self._bend = rng.uniform(0, 14) * (rng.random() < 0.6)
        self._bend_length = rng.uniform(260, 520)
        self._bend_phase = rng.uniform(0, 2 * math.pi)

        self.sunshine = float(rng.choice([0.0, rng.uniform(0.2, 0.6), rng.uniform(0.6, 1.0)]))
        turn, rise = rng.uniform(0, 2 * math.pi), math.radians(rng.uniform(18, 60))
        self.sun = np.array(
            [math.cos(rise) * math.sin(turn), -math.sin(rise), math.cos(rise) * math.cos(turn)]
        )

    def centre(self, z: float) -> float:
        """Coordinate x of the centre line at z, metres."""
        return self._bend * math.sin(2 * math.pi * z / self._bend_length + self._bend_phase)

    def heading(self, z: float) -> float:
        """Direction of the street at z, rad, positive to the right."""
        return math.atan((self.centre(z + 4) - self.centre(z - 4)) / 8)

    def light(self, normal: Vector) -> NDArray[np.float64]:
        """RGB factor (3,) of the light on a surface with this unit normal."""
        direct = max(0.0, float(np.dot(normal, self.sun))) * self.sunshine
        upward = 0.5 - 0.5 * normal[1]
        sky = (0.72 + 0.2 * upward) * (1 - 0.42 * self.sunshine)
        warm = np.array([1.05, 1.0, 0.9])
        cool = 1 + self.sunshine * np.array([-0.05, 0.0, 0.06])
        return sky * cool + 0.85 * direct * warm
