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

"""The robot that carries the street's camera: its pose in odom, and how commands move it.

Axes of a robot (REP 103): x forward, y left, z up. Poses are (4, 4) float64, metres.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

Pose = NDArray[np.float64]

OPTICAL = np.array([[0.0, 0, 1, 0], [-1, 0, 0, 0], [0, -1, 0, 0], [0, 0, 0, 1]])
"""From axes with z forward and y down (the street's, and those of images) to a robot's."""


def mounting(height: float, pitch: float, roll: float) -> Pose:
    """Pose of a camera, x forward, on its robot.

    Args:
        height: height above the robot's origin, which is on the ground, metres.
        pitch: rad, positive looks up.
        roll: rad, positive turns the camera clockwise.
    """
    cos, sin = math.cos(pitch), math.sin(pitch)
    up = np.array([[cos, 0, -sin], [0, 1, 0], [sin, 0, cos]])
    cos, sin = math.cos(roll), math.sin(roll)
    pose = np.eye(4)
    pose[:3, :3] = up @ [[1, 0, 0], [0, cos, -sin], [0, sin, cos]]
    pose[2, 3] = height
    return pose


class Robot:
    """Converts between poses of a street's camera and of the robot below it, in the odom frame.

    The origin of odom is the robot at the start: on the ground, with x along its heading.

    Args:
        start: camera to world, as of a `StreetFrame`, at the start.
        camera: pose of the camera, x forward, on the robot.
    """

    def __init__(self, start: Pose, camera: Pose) -> None:
        self._from_optical = np.linalg.inv(camera @ OPTICAL)
        self._to_odom = np.linalg.inv(start @ self._from_optical)

    def pose(self, camera: Pose) -> Pose:
        """Pose of the robot in odom, of a pose of the camera to the world."""
        return self._to_odom @ camera @ self._from_optical

    def camera(self, pose: Pose) -> Pose:
        """Pose of the camera to the world, of a pose of the robot in odom."""
        return np.linalg.inv(self._to_odom) @ pose @ np.linalg.inv(self._from_optical)


def moved(pose: Pose, forward: float, turn: float, seconds: float) -> Pose:
    """Move a robot with two driven wheels (unicycle): exact for constant velocities.

    Args:
        pose: pose of the robot.
        forward: velocity along x, m/s.
        turn: angular velocity about z, rad/s, positive to the left.
        seconds: duration.
    """
    angle = turn * seconds
    chord = forward * seconds * np.sinc(angle / (2 * math.pi))
    cos, sin = math.cos(angle), math.sin(angle)
    step = np.array([[cos, -sin, 0, 0], [sin, cos, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1]])
    step[:2, 3] = chord * math.cos(angle / 2), chord * math.sin(angle / 2)
    return pose @ step


def velocity(before: Pose, after: Pose, seconds: float) -> tuple[float, float]:
    """Forward (m/s) and angular (rad/s) velocity that `moved` needs between two poses."""
    step = np.linalg.inv(before) @ after
    angle = math.atan2(step[1, 0], step[0, 0])
    along = step[0, 3] * math.cos(angle / 2) + step[1, 3] * math.sin(angle / 2)
    return along / np.sinc(angle / (2 * math.pi)) / seconds, angle / seconds


def quaternion(pose: Pose) -> NDArray[np.float64]:
    """Rotation of a pose as a unit quaternion (4,) in the order x, y, z, w; w is not negative."""
    r = pose[:3, :3]
    # Of the four rows of the outer product of the quaternion with itself, the longest is exact.
    products = np.array(
        [
            [r[0, 0] - r[1, 1] - r[2, 2], r[0, 1] + r[1, 0], r[0, 2] + r[2, 0], r[2, 1] - r[1, 2]],
            [r[0, 1] + r[1, 0], r[1, 1] - r[0, 0] - r[2, 2], r[1, 2] + r[2, 1], r[0, 2] - r[2, 0]],
            [r[0, 2] + r[2, 0], r[1, 2] + r[2, 1], r[2, 2] - r[0, 0] - r[1, 1], r[1, 0] - r[0, 1]],
            [r[2, 1] - r[1, 2], r[0, 2] - r[2, 0], r[1, 0] - r[0, 1], r[0, 0] + r[1, 1] + r[2, 2]],
        ]
    ) + np.eye(4)
    row = products[np.argmax(np.diag(products))]
    row = row / np.linalg.norm(row)
    return -row if row[3] < 0 else row
