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

"""The smallest planner: drives ahead, slows down before obstacles, stops where it does not know.

It keeps two rules that any planner should: what is older than it may be is not driven by, and
neither is an image with quality issues.

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
"""Metres to the nearest obstacle ahead: here it stands, and from there on it is slower."""
WAY = 0.6
"""Half the width of what must be free [m]."""
OLD = 0.5
"""Seconds after which a picture is not driven by."""
PERIOD = 0.1


class Ahead(NamedTuple):
    """What is known of a picture."""

    stamp: Time
    metres: float
    """To the nearest obstacle in the way; inf: there is none."""


class ImageQuality(NamedTuple):
    """Quality issues of an image."""

    stamp: Time
    names: list[str]


def nearest_ahead(scan: LaserScan) -> float:
    """Metres to the nearest obstacle within the way; inf where there is none, 0 if it is not seen.

    NaN is where the scan saw nothing at all, and inf where it saw that nothing is there.
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
    """Metres a second: all of `cruise` beyond SLOW, none within STOP, in between in proportion."""
    return cruise * min(1.0, max(0.0, (metres - STOP) / (SLOW - STOP)))


class Planner(Node):
    """Publishes `cmd_vel` ten times a second, whether anything came or not."""

    def __init__(self) -> None:
        super().__init__("planner")
        self._cruise = self.declare_parameter("cruise", 0.5).value
        self._ahead: Ahead | None = None
        self._quality_issues: ImageQuality | None = None
        self._told = ""
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
        why = self._why_not()
        if not why and self._ahead is not None:
            command.linear.x = speed(self._ahead.metres, self._cruise)
            why = "an obstacle" if command.linear.x == 0 else "driving"
        if why != self._told:
            self.get_logger().info(why)
            self._told = why
        self._command.publish(command)

    def _why_not(self) -> str:
        """Why it does not know enough to drive; empty: it does."""
        if self._ahead is None or self._quality_issues is None:
            return "standing: nothing has come yet"
        if self._quality_issues.names:
            return f"standing: {', '.join(self._quality_issues.names)}"
        now = self.get_clock().now()
        ages = [(now - of.stamp).nanoseconds / 1e9 for of in (self._ahead, self._quality_issues)]
        if min(ages) < -OLD:
            return "standing: the pictures' clock is ahead of mine"
        return "standing: the last picture is old" if max(ages) > OLD else ""


if __name__ == "__main__":
    sys.exit(run(Planner, "planner_stub"))  # until Ctrl-C, as the package's own nodes
