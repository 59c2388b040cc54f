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

"""Where the ground is, by tf; the only place that knows tf2, which not every installation has."""

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
    """What tf says; `listen` is the executor's, `ground` any thread's."""

    def __init__(self) -> None:
        self._buffer: Any = None
        self._listener: Any = None

    def listen(self, node: Node) -> None:
        """Hear tf from now on, where tf2 is installed; once is enough."""
        if tf2_ros is not None and self._listener is None:
            self._buffer = tf2_ros.Buffer()
            self._listener = tf2_ros.TransformListener(self._buffer, node)

    def ground(self, ground_frame: str, optical_frame: str, stamp: Stamp) -> Ground:
        """The plane z = 0 of a frame, in the camera's optical frame.

        Raises:
            ValueError: tf2 is not installed, or tf does not know the way, at least not yet.
        """
        if tf2_ros is None:
            raise ValueError(
                "tf2_ros is not installed: apt install ros-$ROS_DISTRO-tf2-ros-py, or give"
                " camera_height and ground: mounting"
            )
        if self._listener is None:
            raise ValueError("tf is not listened to yet")
        time = Time.from_msg(stamp)
        try:
            if not self._buffer.can_transform(optical_frame, ground_frame, time):
                time = Time()  # the newest: a camera is mounted, and tf comes late
            found = self._buffer.lookup_transform(optical_frame, ground_frame, time).transform
        except tf2_ros.TransformException as error:
            raise ValueError(
                f"tf does not tell where {ground_frame} is from {optical_frame}: {error}"
            ) from None
        t, r = found.translation, found.rotation
        return Ground.from_pose((t.x, t.y, t.z), (r.x, r.y, r.z, r.w))
