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

"""The true pose of the camera in the rendered street, as a robot publishes it, and `cmd_vel`."""

from __future__ import annotations

import math

import numpy as np
from builtin_interfaces.msg import Time
from geometry_msgs.msg import Point, Quaternion, Transform, TransformStamped, Twist, Vector3
from nav_msgs.msg import Odometry
from rclpy.node import Node
from rclpy.qos import DurabilityPolicy, QoSProfile
from std_msgs.msg import Header

from ..street import Street
from ..street.robot import OPTICAL, Pose, Robot, mounting, moved, quaternion, velocity
from .messages import camera_frame

try:
    from tf2_msgs.msg import TFMessage
except ImportError:
    TFMessage = None

_JUMP = 20.0
"""Metres between two images: the drive has restarted at the beginning of its street."""
_VARIANCE = (np.eye(6) * 1e-6).ravel().tolist()
"""Of the truth; filters do not accept 0."""


class StreetOdometry:
    """Publishes tf and `odom` for images of a street, and moves the camera by `cmd_vel`.

    Args:
        node: The node.
        street: The street.
        frames: Names of the frames: odometry, robot, images.
        timeout: Seconds after which a command of `cmd_vel` ends; 0 for the drive along the street.

    Raises:
        ValueError: The names of the frames are not a chain.
    """

    def __init__(
        self, node: Node, street: Street, frames: tuple[str, str, str], timeout: float
    ) -> None:
        self._odom, self._base, optical = frames
        chain = [self._odom, self._base, *dict.fromkeys((camera_frame(optical), optical))]
        if "" in chain or len(set(chain)) < len(chain):
            raise ValueError(f"the frames of tf are {chain}, expected different names")
        self._node, self._timeout = node, timeout
        camera = mounting(street.camera_height, street.pitch, street.roll)
        self._robot = Robot(street.pose(0), camera)
        self._publisher = node.create_publisher(Odometry, "odom", 10)
        self._last: tuple[float, Pose] | None = None
        self._start_tf(chain, camera)
        self._pose, self._command, self._since, self._end = np.eye(4), (0.0, 0.0), 0.0, 0.0
        if timeout:
            node.create_subscription(Twist, "cmd_vel", self._on_command, 10)

    def _start_tf(self, chain: list[str], camera: Pose) -> None:
        self._tf = None
        if TFMessage is None:
            self._node.get_logger().warning(
                "tf2_msgs is not installed, so only odom is published, no tf: apt install"
                " ros-$ROS_DISTRO-tf2-msgs"
            )
            return
        self._tf = self._node.create_publisher(TFMessage, "/tf", QoSProfile(depth=100))
        latched = QoSProfile(depth=1, durability=DurabilityPolicy.TRANSIENT_LOCAL)
        self._static = self._node.create_publisher(TFMessage, "/tf_static", latched)
        poses = [camera, OPTICAL] if len(chain) == 4 else [camera @ OPTICAL]
        stamp = self._node.get_clock().now().to_msg()
        self._static.publish(
            TFMessage(
                transforms=[
                    _transform(pose, Header(stamp=stamp, frame_id=parent), child)
                    for pose, parent, child in zip(poses, chain[1:], chain[2:], strict=False)
                ]
            )
        )

    # --- Steering -------------------------------------------------------------------------------

    def camera(self) -> Pose | None:
        """Pose of the camera, camera to world; None for the drive along the street."""
        return self._robot.camera(self._pose) if self._timeout else None

    def move(self, stamp: Time) -> None:
        """Move until a time, or until the command has timed out."""
        now = _seconds(stamp)
        seconds = max(0.0, min(now, self._end) - self._since)
        self._pose, self._since = moved(self._pose, *self._command, seconds), now

    def _on_command(self, message: Twist) -> None:
        now = self._node.get_clock().now().to_msg()
        self.move(now)
        command = message.linear.x, message.angular.z
        if not all(map(math.isfinite, command)):
            self._node.get_logger().warning(
                f"cmd_vel has the velocities {command}, expected numbers: stopped",
                throttle_duration_sec=5.0,
            )
            command = (0.0, 0.0)
        self._command, self._end = command, _seconds(now) + self._timeout

    # --- Publishing -----------------------------------------------------------------------------

    def publish(self, camera: Pose, stamp: Time) -> None:
        """Publish where the robot is.

        Args:
            camera: Camera to world.
            stamp: Time of the image.
        """
        pose, now = self._robot.pose(camera), _seconds(stamp)
        forward = turn = 0.0
        if self._last is not None and now > self._last[0]:
            forward, turn = velocity(self._last[1], pose, now - self._last[0])
            if not self._timeout and math.dist(pose[:2, 3], self._last[1][:2, 3]) > _JUMP:
                forward = turn = 0.0
                self._node.get_logger().info(
                    "The street has ended: the drive restarts, and odom jumps to its beginning"
                )
        self._last = now, pose
        header = Header(stamp=stamp, frame_id=self._odom)
        transform = _transform(pose, header, self._base)
        if self._tf is not None:
            self._tf.publish(TFMessage(transforms=[transform]))
        message = Odometry(header=header, child_frame_id=self._base)
        t = transform.transform.translation
        message.pose.pose.position = Point(x=t.x, y=t.y, z=t.z)
        message.pose.pose.orientation = transform.transform.rotation
        message.twist.twist.linear.x, message.twist.twist.angular.z = forward, turn
        message.pose.covariance = message.twist.covariance = _VARIANCE
        self._publisher.publish(message)


def _seconds(stamp: Time) -> float:
    return float(stamp.sec + stamp.nanosec * 1e-9)


def _transform(pose: Pose, header: Header, child: str) -> TransformStamped:
    x, y, z, w = quaternion(pose).tolist()
    position = dict(zip("xyz", pose[:3, 3].tolist(), strict=True))
    transform = Transform(translation=Vector3(**position), rotation=Quaternion(x=x, y=y, z=z, w=w))
    return TransformStamped(header=header, child_frame_id=child, transform=transform)
