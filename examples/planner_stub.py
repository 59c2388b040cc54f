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

"""A minimal planner: drives ahead, slows down before obstacles, stops without valid data.

It follows two rules that every planner should follow: it ignores old data, and images with quality
issues.

python examples/planner_stub.py --ros-args -p cruise:=0.5
"""

from __future__ import annotations

import math
import sys
from typing import NamedTuple

from geometry_msgs.msg import Twist
from rclpy.node import Node
from rclpy.time import Time
from sensor_msgs.msg import LaserScan

from depthseg_ros.msg import ClassDistances
from depthseg_ros.node.process import run

STOP, SLOW = 1.0, 4.0
"""Distance of the nearest obstacle ahead at which the robot stops or slows down [m]."""
WAY = 0.6
"""Half of the width that must be free [m]."""
OLD = 0.5
"""Age at which data is ignored [s]."""
PERIOD = 0.1


class Ahead(NamedTuple):
    """The nearest obstacle in an image."""

    stamp: Time
    metres: float
    """Distance to the nearest obstacle in the way; inf: there is none."""


class ImageQuality(NamedTuple):
    """Quality issues of an image."""

    stamp: Time
    names: list[str]


def nearest_ahead(scan: LaserScan) -> float:
    """Distance to the nearest obstacle in the way [m]; inf if there is none, 0 if unknown.

    A range of NaN is unknown, inf means that there is no obstacle.
    """
    found = math.inf
    for index, distance in enumerate(scan.ranges):
        angle = scan.angle_min + index * scan.angle_increment
        if math.isnan(distance) and abs(STOP * math.sin(angle)) < WAY and math.cos(angle) > 0:
            return 0.0
        if distance < found and abs(distance * math.sin(angle)) < WAY:
            found = distance * math.cos(angle)
    return found


def speed(metres: float, cruise: float) -> float:
    """Speed [m/s]: `cruise` from SLOW on, 0 up to STOP, linear in between."""
    return cruise * min(1.0, max(0.0, (metres - STOP) / (SLOW - STOP)))


class Planner(Node):
    """Publishes `cmd_vel` ten times a second, with or without new data."""

    def __init__(self) -> None:
        super().__init__("planner")
        self._cruise = self.declare_parameter("cruise", 0.5).value
        self._ahead: Ahead | None = None
        self._quality_issues: ImageQuality | None = None
        self._logged = ""
        self.create_subscription(LaserScan, "depthseg/scan", self._on_scan, 1)
        self.create_subscription(ClassDistances, "depthseg/class_distances", self._on_distances, 1)
        self._command = self.create_publisher(Twist, "cmd_vel", 1)
        self.create_timer(PERIOD, self._on_timer)

    def _on_scan(self, scan: LaserScan) -> None:
        self._ahead = Ahead(Time.from_msg(scan.header.stamp), nearest_ahead(scan))

    def _on_distances(self, message: ClassDistances) -> None:
        self._quality_issues = ImageQuality(
            Time.from_msg(message.header.stamp), list(message.quality_issues)
        )

    def _on_timer(self) -> None:
        command = Twist()
        state = self._reason_to_stop()
        if not state and self._ahead is not None:
            command.linear.x = speed(self._ahead.metres, self._cruise)
            state = "an obstacle" if command.linear.x == 0 else "driving"
        if state != self._logged:
            self.get_logger().info(state)
            self._logged = state
        self._command.publish(command)

    def _reason_to_stop(self) -> str:
        """Why the data is not valid; empty if it is."""
        if self._ahead is None or self._quality_issues is None:
            return "stopped: no data yet"
        if self._quality_issues.names:
            return f"stopped: {', '.join(self._quality_issues.names)}"
        now = self.get_clock().now()
        ages = [(now - of.stamp).nanoseconds / 1e9 for of in (self._ahead, self._quality_issues)]
        if min(ages) < -OLD:
            return "stopped: stamps are in the future"
        return "stopped: the last image is old" if max(ages) > OLD else ""


if __name__ == "__main__":
    sys.exit(run(Planner, "planner_stub"))  # until Ctrl-C, like the package's nodes
