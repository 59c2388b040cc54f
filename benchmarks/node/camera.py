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

"""A camera for benchmarks: one rendered image on N topics, at a rate, at next to no cost.

python camera.py NAMESPACE CAMERAS RATE WIDTH HEIGHT
"""

from __future__ import annotations

import contextlib
import sys

import rclpy
from rclpy.executors import ExternalShutdownException
from rclpy.node import Node
from rclpy.qos import QoSProfile
from sensor_msgs.msg import CameraInfo, Image

from depthseg_ros.node.messages import camera_info_message, image_message
from depthseg_ros.street import Street


class FastCamera(Node):
    """Publishes the same image again and again, each camera at its own time."""

    def __init__(self, namespace: str, cameras: int, rate: float, width: int, height: int) -> None:
        super().__init__("camera", namespace=namespace)
        frame = Street(0, width, height).frame(30)
        self._cameras = []
        for name in camera_names(cameras):
            topics = f"{name}/" if name else ""
            header = Image().header
            header.frame_id = f"{name or 'camera'}_optical"
            self._cameras.append(
                (
                    self.create_publisher(Image, f"{topics}image", QoSProfile(depth=2)),
                    image_message(frame.image, "rgb8", header),
                    self.create_publisher(CameraInfo, f"{topics}camera_info", QoSProfile(depth=2)),
                    camera_info_message(frame.intrinsics, header),
                )
            )
        self._next = 0
        self.create_timer(1 / rate / cameras, self._on_timer)

    def _on_timer(self) -> None:
        images, image, infos, info = self._cameras[self._next]
        self._next = (self._next + 1) % len(self._cameras)
        image.header.stamp = self.get_clock().now().to_msg()  # info shares the header
        infos.publish(info)
        images.publish(image)


def camera_names(count: int) -> list[str]:
    """The cameras' namespaces; one camera has none."""
    return [f"camera{number}" for number in range(count)] if count > 1 else [""]


if __name__ == "__main__":
    rclpy.init()
    with contextlib.suppress(KeyboardInterrupt, ExternalShutdownException):
        rclpy.spin(
            FastCamera(sys.argv[1], int(sys.argv[2]), float(sys.argv[3]), *map(int, sys.argv[4:]))
        )
