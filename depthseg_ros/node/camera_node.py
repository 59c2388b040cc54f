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

"""The node `camera`: publishes images of a rendered street, folder, video, device or stream.

It is a substitute for a camera driver in demonstrations and tests. Unlike those of many drivers,
its publishers are reliable: best-effort subscribers receive them too, and subscribers that want
every image lose none.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from itertools import chain
from pathlib import Path

from rclpy.duration import Duration
from rclpy.node import Node
from rclpy.qos import QoSProfile
from sensor_msgs.msg import CameraInfo, Image
from std_msgs.msg import Header

from ..imaging.geometry import DEFAULT_FOV
from ..sources import (
    Frame,
    Newest,
    device_frames,
    folder_frames,
    is_stream,
    public,
    stream_frames,
    street_frames,
    video_frames,
)
from ..street import Camera, Street
from .messages import camera_info_message, image_message
from .odometry import StreetOdometry
from .process import Finished, run
from .settings import declare, parameter

QOS = QoSProfile(depth=5)

_parameter = partial(parameter, read_only=True)


@dataclass(frozen=True)
class CameraSettings:
    """Values of the parameters, which can only be set at the start."""

    source: str = _parameter(
        "street",
        "'street', a folder of images, a video, /dev/videoN, or the address of a stream, e.g."
        " rtsp://camera/live or http://camera/video, which needs OpenCV with FFmpeg.",
    )
    rate: float = _parameter(
        15.0, "Images per second; for a stream, the maximum.", within=(0.1, 1000.0)
    )
    width: int = _parameter(640, "Image width [pixels], for street and device.", within=(16, 8192))
    height: int = _parameter(
        480, "Image height [pixels], for street and device.", within=(16, 8192)
    )
    seed: int = _parameter(
        0, "Seed of the street: each number gives another street.", within=(0, 2**31 - 1)
    )
    loop: bool = _parameter(True, "Restart folders and videos at their end; reconnect streams.")
    fov: float = _parameter(
        0.0,
        "Horizontal field of view [rad]. 0.0: the street's own for the street,"
        f" {DEFAULT_FOV:g} for other sources. An error in it causes an error in the depth scale.",
        within=(0.0, 3.1),
    )
    camera_height: float = _parameter(
        0.0,
        "Height of the camera above the street [m]. 0.0: the street's own height and pitch.",
        within=(0.0, 3.0),
    )
    camera_pitch: float = _parameter(
        0.0,
        "Pitch of the camera in the street [rad], positive is down. Needs camera_height.",
        within=(-0.5, 0.5),
    )
    gains: tuple[float, float, float] = _parameter(
        (1.0, 1.0, 1.0),
        "Factors for red, green and blue of the street, to simulate another sensor.",
    )
    gamma: float = _parameter(
        1.0, "Exponent of the street's brightness; above 1 is darker.", within=(0.2, 5.0)
    )
    frame_id: str = _parameter("camera_optical_frame", "Frame in the messages' headers.")
    odom_frame_id: str = _parameter(
        "",
        "Frame in which the street's camera publishes its true pose, e.g. odom: tf from it to"
        " base_frame_id and on to frame_id, and the topic odom. Its origin is the first pose."
        " Empty: off.",
    )
    base_frame_id: str = _parameter(
        "base_link", "Frame of the robot that carries the camera, on the ground below it."
    )
    cmd_vel_timeout: float = _parameter(
        0.0,
        "Drive by the velocities of cmd_vel (linear.x and angular.z) instead of along the street,"
        " and stop if none comes for this time [s]. 0.0: along the street. Needs odom_frame_id.",
        within=(0.0, 60.0),
    )

    def street_camera(self) -> Camera:
        """The camera in the street, according to the parameters.

        Raises:
            ValueError: The parameters contradict each other.
        """
        height, pitch = self.camera_height, self.camera_pitch
        if pitch and not height:
            raise ValueError(
                f"camera_pitch is {pitch:g} but camera_height is 0 (the street's own mounting);"
                " set both"
            )
        return Camera(
            fov=self.fov or None,
            height=height or None,
            pitch=-pitch if height else None,
            gains=self.gains,
            gamma=self.gamma,
        )


def open_source(settings: CameraSettings) -> Iterator[Frame]:
    """Open a source of images other than the street.

    Raises:
        ValueError: The source does not exist. (A source that cannot be read raises at its first
            image.)
    """
    s = settings
    fov = s.fov or DEFAULT_FOV
    if is_stream(s.source):
        return stream_frames(s.source, s.loop, fov)
    path = Path(s.source).expanduser()
    if path.is_dir():
        return folder_frames(path, s.loop, fov)
    if path.is_char_device():
        return device_frames(path, s.width, s.height, fov)
    if path.is_file():
        return video_frames(path, s.loop, fov)
    raise ValueError(
        f"source {s.source!r} does not exist; expected 'street', a folder of images, a video,"
        " /dev/videoN or an address such as rtsp://camera/live"
    )


class CameraNode(Node):
    """Publishes a source's images at a steady rate.

    Raises:
        ValueError: The source does not exist or cannot be read.
    """

    def __init__(self) -> None:
        super().__init__("camera")
        settings = CameraSettings(**declare(self, CameraSettings))
        source, self._frame_id = settings.source, settings.frame_id
        self._odometry: StreetOdometry | None = None
        frames = self._street(settings) if source == "street" else open_source(settings)
        if self._odometry is None and (settings.odom_frame_id or settings.cmd_vel_timeout):
            raise ValueError(
                f"source is {source!r} and odom_frame_id {settings.odom_frame_id!r}: odom_frame_id"
                " needs the source 'street', and cmd_vel_timeout needs both"
            )
        self._live = is_stream(source) or Path(source).is_char_device()
        first = next(frames)
        self._frames = chain([first], frames)
        # A stream that is not read as fast as it comes falls behind, and one that stops blocks.
        self._newest = Newest(frames) if is_stream(source) else None
        self._image = self.create_publisher(Image, "image", QOS)
        self._camera_info = self.create_publisher(CameraInfo, "camera_info", QOS)
        if first.labels is not None:
            self._true_labels = self.create_publisher(Image, "truth/label/image", QOS)
            self._true_depth = self.create_publisher(Image, "truth/depth/image", QOS)
        height, width = first.image.shape[:2]
        self.get_logger().info(
            f"Publishing images of {public(source)}, {width}x{height}, at {settings.rate:g} Hz"
        )
        if first.labels is None:
            self.get_logger().warning(
                "camera_info is not calibrated: it assumes a horizontal field of view of"
                f" {settings.fov or DEFAULT_FOV:g} rad (parameter fov); an error in it scales the"
                " metric depth"
            )
        # rcl's timers are due at multiples of their period, so that the rate does not drift.
        self._timer = self.create_timer(1 / settings.rate, self._on_timer)

    def _street(self, settings: CameraSettings) -> Iterator[Frame]:
        """Images of the street, and the odometry if it is asked for."""
        s = settings
        street = Street(s.seed, s.width, s.height, s.street_camera())
        if not s.odom_frame_id:
            return street_frames(street)
        names = s.odom_frame_id, s.base_frame_id, s.frame_id
        self._odometry = StreetOdometry(self, street, names, s.cmd_vel_timeout)
        return street_frames(street, self._odometry.camera)

    def _on_timer(self) -> None:
        # Without subscribers every source except a live camera is paused, so that the first
        # subscriber receives a folder or a video from its first image. A robot is never paused.
        live = self._live or self._odometry is not None
        if not live and self._image.get_subscription_count() == 0:
            return
        if self._odometry is not None:  # a robot that moves is rendered where it is now
            stamp = self.get_clock().now().to_msg()
            self._odometry.move(stamp)
        if self._newest is None:
            frame = next(self._frames, None)
        elif (frame := self._newest.take()) is None and not self._newest.ended:
            return
        if frame is None:
            self.get_logger().info("The source has ended")
            self._image.wait_for_all_acked(Duration(seconds=1))  # the last images, too
            raise Finished
        if self._odometry is None:
            stamp = self.get_clock().now().to_msg()
        header = Header(stamp=stamp, frame_id=self._frame_id)
        if self._odometry is not None and frame.pose is not None:  # tf comes before the image
            self._odometry.publish(frame.pose, header.stamp)
        self._camera_info.publish(camera_info_message(frame.intrinsics, header))
        self._image.publish(image_message(frame.image, frame.encoding, header))
        if frame.labels is not None and self._true_labels.get_subscription_count() > 0:
            self._true_labels.publish(image_message(frame.labels, "mono8", header))
        if frame.depth is not None and self._true_depth.get_subscription_count() > 0:
            self._true_depth.publish(image_message(frame.depth, "32FC1", header))


def main() -> int:
    """Run the node until its source ends or it is stopped; returns the exit code."""
    return run(CameraNode, "camera")
