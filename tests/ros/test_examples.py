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

"""The examples that are nodes, beside the real ones."""

import re
import signal
import sys
from pathlib import Path

import pytest

pytest.importorskip("rclpy", reason="needs ROS 2")
pytest.importorskip("depthseg_ros.msg", reason="needs the built package: tools/env.sh pytest")

from geometry_msgs.msg import Twist
from rclpy.duration import Duration
from sensor_msgs.msg import LaserScan
from std_msgs.msg import Header

from depthseg_ros.msg import ClassDistances

pytestmark = pytest.mark.ros

EXAMPLES = Path(__file__).parents[2] / "examples"


def example(name):
    return [sys.executable, "-u", str(EXAMPLES / name)]


def test_print_distances_prints_what_the_node_sees_of_the_camera(start):
    start("camera_node", "/shown", rate=5.0, width=160, height=120)
    start("depthseg", "/shown")
    printer = start(example("print_distances.py"), "/shown")
    line = printer.says(r"road [\d.]+ m")[0]
    assert re.match(r"\d+\.\d{3}: \w+ [\d.]+ m, ", line)
    assert printer.stop() == 0


def test_the_planner_slows_down_stops_and_does_not_drive_by_what_it_cannot_trust(start, observer):
    planner = start(example("planner_stub.py"), "/planned", cruise=1.0)
    commands = observer.collect(Twist, "/planned/cmd_vel")
    node = observer.node
    scans = node.create_publisher(LaserScan, "/planned/depthseg/scan", 1)
    distances = node.create_publisher(ClassDistances, "/planned/depthseg/class_distances", 1)

    def header():
        return Header(stamp=node.get_clock().now().to_msg(), frame_id="camera")

    def scan(ahead):
        """Free but for what is straight ahead, at `ahead` metres."""
        ranges = [float("inf")] * 5 + [float(ahead)] + [float("inf")] * 5
        return LaserScan(header=header(), angle_min=-0.5, angle_increment=0.1, ranges=ranges)

    def until(wanted, ahead, issues):
        def seen():
            if ahead is not None:
                scans.publish(scan(ahead))
            if issues is not None:
                distances.publish(ClassDistances(header=header(), quality_issues=issues))
            return commands and commands[-1].linear.x == pytest.approx(wanted)

        observer.until(seen, f"{wanted} m/s: {commands[-1:]}")

    until(1.0, 9.0, [])
    until(0.5, 2.5, [])
    until(0.0, 0.8, [])
    planner.says("an obstacle")
    until(1.0, 9.0, [])
    until(0.0, 9.0, ["covered"])
    planner.says("stopped: covered")
    until(1.0, 9.0, [])
    until(0.0, float("nan"), [])  # it does not see
    for ahead, issues in ((None, []), (9.0, None)):  # either alone is not enough
        until(1.0, 9.0, [])
        until(0.0, ahead, issues)
        assert planner.lines("stopped: the last image is old")
    until(1.0, 9.0, [])
    ahead = (node.get_clock().now() + Duration(seconds=100)).to_msg()  # and so never old
    distances.publish(ClassDistances(header=Header(stamp=ahead)))
    observer.until(lambda: planner.lines("stamps are in the future"), "that it stops")
    assert planner.stop(signal.SIGTERM) == 0
