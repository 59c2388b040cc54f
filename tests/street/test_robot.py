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

"""The robot below the street's camera: its axes, its motion, and the street seen from any side."""

import math

import numpy as np
import pytest

from depthseg_ros.street import CLASS_NAMES, Camera, Street
from depthseg_ros.street.robot import OPTICAL, Robot, mounting, moved, quaternion, velocity


def test_axes_are_those_of_rep_103():
    street = Street(3, 64, 48, Camera(height=0.8, pitch=-0.2, roll=0.05))
    camera = mounting(0.8, -0.2, 0.05)
    robot = Robot(street.pose(0), camera)
    np.testing.assert_allclose(robot.pose(street.pose(0)), np.eye(4), atol=1e-12)
    pose = moved(np.eye(4), 1.0, 0.0, 2.0)
    np.testing.assert_allclose(pose[:3, 3], (2, 0, 0))
    np.testing.assert_allclose(robot.pose(robot.camera(pose)), pose, atol=1e-12)
    # In the street's axes the camera has moved along its heading and stays at its height.
    start, end = street.pose(0), robot.camera(pose)
    assert end[1, 3] == pytest.approx(start[1, 3]) == -0.8
    heading = start[:3, 2] - (0, start[1, 2], 0)
    np.testing.assert_allclose(end[:3, 3] - start[:3, 3], 2 * heading / np.linalg.norm(heading))
    # Pitched down, its optical axis points below the horizon; rolled, its y is not vertical.
    optical = camera @ OPTICAL
    assert optical[2, 2] == pytest.approx(math.sin(-0.2))
    assert optical[2, 0] == pytest.approx(-math.sin(0.05) * math.cos(-0.2))  # right side is down


@pytest.mark.parametrize("turn", [0.0, 1e-9, 0.7, -2.5])
def test_a_turn_is_an_arc_and_its_velocity_is_found_again(turn):
    pose = moved(moved(np.eye(4), 0.5, 0.3, 1.0), 1.2, turn, 0.8)
    steps = moved(np.eye(4), 0.5, 0.3, 1.0)
    for _ in range(1000):
        steps = moved(steps, 1.2, turn, 0.0008)
    np.testing.assert_allclose(pose, steps, atol=1e-9)
    found = velocity(moved(np.eye(4), 0.5, 0.3, 1.0), pose, 0.8)
    assert found == pytest.approx((1.2, turn), abs=1e-9)
    assert moved(np.eye(4), 1.0, 0.5, 1.0)[1, 3] > 0  # positive turns are to the left


def test_quaternions_rotate_as_the_matrix_does():
    rng = np.random.default_rng(0)
    for axis_angle in [*rng.uniform(-np.pi, np.pi, (50, 3)), (np.pi, 0, 0), (0, np.pi, 0)]:
        angle = np.linalg.norm(axis_angle)
        x, y, z = np.asarray(axis_angle) / angle
        cross = np.array([[0, -z, y], [z, 0, -x], [-y, x, 0]])
        pose = np.eye(4)
        pose[:3, :3] += math.sin(angle) * cross + (1 - math.cos(angle)) * cross @ cross
        q = quaternion(pose)
        expected = np.array([*(math.sin(angle / 2) * np.array([x, y, z])), math.cos(angle / 2)])
        assert q[3] >= 0 and np.linalg.norm(q) == pytest.approx(1)
        assert abs(q @ expected) == pytest.approx(1)


def test_the_street_is_there_on_all_sides():
    street = Street(3, 64, 48, Camera(height=1.0, pitch=0.0))
    robot = Robot(street.pose(0), mounting(1.0, 0.0, street.roll))
    for quarter in range(4):
        frame = street.frame(0, pose=robot.camera(moved(np.eye(4), 0, quarter * np.pi / 2, 1)))
        assert np.isfinite(frame.depth).mean() > 0.7
        houses = frame.labels == CLASS_NAMES.index("building")
        assert houses.mean() > 0.1 and frame.depth[houses].min() < 60
