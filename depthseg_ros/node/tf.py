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

"""The ground plane from tf; the only module that imports tf2, which may not be installed."""

from __future__ import annotations

from typing import Any

from builtin_interfaces.msg import Time as Stamp
from rclpy.node import Node
from rclpy.time import Time

from ..derived.ground import Ground

try:
    import tf2_ros
except ImportError:
    tf2_ros = None


class Transforms:
    """Transforms from tf; call `listen` in the executor's thread, `ground` in any."""

    def __init__(self) -> None:
        self._buffer: Any = None
        self._listener: Any = None

    def listen(self, node: Node) -> None:
        """Subscribe to tf, if tf2 is installed and it has not been done."""
        if tf2_ros is not None and self._listener is None:
            self._buffer = tf2_ros.Buffer()
            self._listener = tf2_ros.TransformListener(self._buffer, node)

    def ground(self, ground_frame: str, optical_frame: str, stamp: Stamp) -> Ground:
        """The plane z = 0 of a frame, in the camera's optical frame.

        Raises:
            ValueError: tf2 is not installed, or tf has no such transform (yet).
        """
        if tf2_ros is None:
            raise ValueError(
                "tf2_ros is not installed: apt install ros-$ROS_DISTRO-tf2-ros-py, or set"
                " camera_height and ground: mounting"
            )
        if self._listener is None:
            raise ValueError("the subscription to tf has not started yet")
        time = Time.from_msg(stamp)
        try:
            if not self._buffer.can_transform(optical_frame, ground_frame, time):
                time = Time()  # the newest: the mounting is fixed, and tf may be delayed
            found = self._buffer.lookup_transform(optical_frame, ground_frame, time).transform
        except tf2_ros.TransformException as error:
            raise ValueError(
                f"tf has no transform from {ground_frame} to {optical_frame}: {error}"
            ) from None
        t, r = found.translation, found.rotation
        return Ground.from_pose((t.x, t.y, t.z), (r.x, r.y, r.z, r.w))
