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

"""A subscriber that prints the distance of each class and quality issues of the image.

python examples/print_distances.py
"""

from __future__ import annotations

import math
import sys

from rclpy.node import Node

from depthseg_ros.msg import ClassDistances
from depthseg_ros.node.process import run


class Printer(Node):
    """Prints each message in one line."""

    def __init__(self) -> None:
        super().__init__("print_distances")
        self.create_subscription(ClassDistances, "depthseg/class_distances", self._show, 1)

    def _show(self, message: ClassDistances) -> None:
        stamp = message.header.stamp
        found = [
            f"{c.class_name} {c.nearest:.1f} m"
            for c in sorted(message.classes, key=lambda c: c.nearest)
            if not math.isnan(c.nearest)
        ]
        issues = f"  ({', '.join(message.quality_issues)})" if message.quality_issues else ""
        print(f"{stamp.sec}.{stamp.nanosec // 10**6:03}: {', '.join(found)}{issues}", flush=True)


if __name__ == "__main__":
    sys.exit(run(Printer, "print_distances"))  # until Ctrl-C, like the package's nodes
