"""The node `camera`: pictures from a rendered street, a folder, a video or a device, as topics.

It stands in for a camera's driver in demonstrations and tests. Its publishers are reliable, unlike
a real driver's: reliable publishers serve best-effort subscribers too, and nothing is lost to those
who want every picture.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import chain, count
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
from rcl_interfaces.msg import FloatingPointRange, IntegerRange, ParameterDescriptor
from rclpy.duration import Duration
from rclpy.node import Node
from rclpy.qos import QoSProfile
from sensor_msgs.msg import CameraInfo, Image
from std_msgs.msg import Header

from .geometry import Intrinsics
from .messages import camera_info_message, image_message
from .process import Finished, run
from .street import Camera, Street

QOS = QoSProfile(depth=5)
PICTURES = frozenset({".bmp", ".jpeg", ".jpg", ".png", ".tif", ".tiff", ".webp"})
"""File names' endings that make a picture of a folder's file."""

DEFAULT_FOV = 1.2
"""Horizontal, rad, of what is not known to have another."""


@dataclass(frozen=True)
class Frame:
    """A picture, and the truth about it where that is known."""

    image: NDArray[np.uint8]
    """(H, W, 3)"""
    encoding: str
    """Of the image, rgb8 or bgr8."""
    intrinsics: Intrinsics
    labels: NDArray[np.uint8] | None = None
    """(H, W) class ids."""
    depth: NDArray[np.float32] | None = None
    """(H, W) metres, NaN where there is none."""


def street_frames(seed: int, width: int, height: int, camera: Camera) -> Iterator[Frame]:
    """An endless drive along a rendered street, with its truth."""
    street = Street(seed, width, height, camera)
    for index in count():
        frame = street.frame(index)
        yield Frame(frame.image, "rgb8", frame.intrinsics, frame.labels, frame.depth)


def folder_frames(folder: Path, loop: bool, fov: float) -> Iterator[Frame]:
    """The pictures of a folder in natural order, so that 2.png comes before 10.png.

    Raises:
        ValueError: the folder has no pictures, or one of them cannot be read.
    """
    paths = sorted(
        (path for path in folder.iterdir() if path.suffix.lower() in PICTURES),
        key=lambda path: [int(s) if s.isdigit() else s for s in re.split(r"(\d+)", path.name)],
    )
    if not paths:
        raise ValueError(f"source {folder} has no pictures ({', '.join(sorted(PICTURES))})")
    while True:
        for path in paths:
            try:
                image = cv2.imread(str(path), cv2.IMREAD_COLOR)
            except cv2.error:  # larger than OpenCV takes
                image = None
            if image is None:
                raise ValueError(f"{path} cannot be read as a picture")
            yield _bgr_frame(image, fov)
        if not loop:
            return


def video_frames(video: Path, loop: bool, fov: float) -> Iterator[Frame]:
    """The pictures of a video file.

    Raises:
        ValueError: the file is not a video that OpenCV can read.
    """
    while True:
        capture = cv2.VideoCapture(str(video))
        try:
            read, image = capture.read()
            if not read:
                raise ValueError(f"source {video} cannot be read as a video")
            while read:
                yield _bgr_frame(image, fov)
                read, image = capture.read()
        finally:
            capture.release()
        if not loop:
            return


def device_frames(device: Path, width: int, height: int, fov: float) -> Iterator[Frame]:
    """The pictures of a camera at `/dev/videoN`, as near to the wanted size as it can.

    Raises:
        ValueError: the device is no camera, or gives no pictures.
    """
    video = re.fullmatch(r"/dev/video(\d+)", str(device.resolve()))  # of /dev/v4l/by-id/..., too
    if video is None:
        raise ValueError(f"source {device} is no camera, expected /dev/videoN")
    capture = cv2.VideoCapture(int(video[1]), cv2.CAP_V4L2)
    try:
        capture.set(cv2.CAP_PROP_FRAME_WIDTH, width)
        capture.set(cv2.CAP_PROP_FRAME_HEIGHT, height)
        capture.set(cv2.CAP_PROP_BUFFERSIZE, 1)  # no old pictures
        while True:
            read, image = capture.read()
            if not read:
                raise ValueError(f"source {device} gives no pictures")
            yield _bgr_frame(image, fov)
    finally:
        capture.release()


def _bgr_frame(image: Any, fov: float) -> Frame:
    height, width = image.shape[:2]
    return Frame(image, "bgr8", Intrinsics.from_fov(width, height, fov))


def open_source(
    source: str, *, loop: bool, width: int, height: int, seed: int, fov: float, camera: Camera
) -> Iterator[Frame]:
    """The pictures of a source, which is `street`, a folder, a video or a device.

    Args:
        source: Which of them, or where.
        loop: Whether folders and videos start again.
        width: Of street and device, pixels.
        height: Of street and device, pixels.
        seed: Of the street.
        fov: Horizontal field of view of all but the street, radians.
        camera: The street's.

    Raises:
        ValueError: there is no such source. (That it cannot be read shows at its first picture.)
    """
    if source == "street":
        return street_frames(seed, width, height, camera)
    path = Path(source).expanduser()
    if path.is_dir():
        return folder_frames(path, loop, fov)
    if path.is_char_device():
        return device_frames(path, width, height, fov)
    if path.is_file():
        return video_frames(path, loop, fov)
    raise ValueError(
        f"source {source!r} does not exist; expected 'street', a folder of pictures, a video or"
        " /dev/videoN"
    )


class CameraNode(Node):
    """Publishes a source's pictures at a steady rate.

    Raises:
        ValueError: the source does not exist or cannot be read.
    """

    def __init__(self) -> None:
        super().__init__("camera")
        source = self._declare(
            "source", "street", "'street', a folder of pictures, a video, or /dev/videoN."
        )
        rate = self._declare("rate", 15.0, "Pictures per second.", (0.1, 1000.0))
        self._frame_id = self._declare("frame_id", "camera_optical_frame", "Of the headers.")
        fov = self._declare(
            "fov",
            0.0,
            f"Horizontal field of view, radians; 0.0: the street's own, {DEFAULT_FOV:g} of others.",
            (0.0, 3.1),
        )
        camera = self._street_camera(fov if source == "street" else 0.0)
        fov = fov or DEFAULT_FOV
        frames = open_source(
            source,
            loop=self._declare("loop", True, "Whether folders and videos start again."),
            width=self._declare("width", 640, "Of street and device, pixels.", (16, 8192)),
            height=self._declare("height", 480, "Of street and device, pixels.", (16, 8192)),
            seed=self._declare("seed", 0, "Of the street.", (0, 2**31 - 1)),
            fov=fov,
            camera=camera,
        )
        self._live = Path(source).is_char_device()
        first = next(frames)
        self._frames = chain([first], frames)
        self._image = self.create_publisher(Image, "image", QOS)
        self._camera_info = self.create_publisher(CameraInfo, "camera_info", QOS)
        if first.labels is not None:
            self._true_labels = self.create_publisher(Image, "truth/label/image", QOS)
            self._true_depth = self.create_publisher(Image, "truth/depth/image", QOS)
        height, width = first.image.shape[:2]
        self.get_logger().info(f"Pictures of {source}, {width}x{height}, at {rate:g} Hz")
        if first.labels is None:
            self.get_logger().warning(
                f"camera_info is a guess, a horizontal field of view of {fov:g} rad (parameter"
                " fov): metric depth is in proportion to the focal length"
            )
        # rcl's timers are due at multiples of their period, so that the rate does not drift.
        self._timer = self.create_timer(1 / rate, self._on_timer)

    def _declare(
        self, name: str, default: Any, description: str, bounds: tuple[Any, Any] | None = None
    ) -> Any:
        descriptor = ParameterDescriptor(description=description, read_only=True)
        if bounds and isinstance(default, int):
            descriptor.integer_range = [IntegerRange(from_value=bounds[0], to_value=bounds[1])]
        elif bounds:
            descriptor.floating_point_range = [
                FloatingPointRange(from_value=bounds[0], to_value=bounds[1])
            ]
        return self.declare_parameter(name, default, descriptor).value

    def _street_camera(self, fov: float) -> Camera:
        """The street's camera, as far as parameters choose it; `fov` 0 does not.

        Raises:
            ValueError: there can be no such camera in the street.
        """
        height = self._declare(
            "camera_height", 0.0, "Above the street, metres; 0.0: the street's own.", (0.0, 3.0)
        )
        pitch = self._declare(
            "camera_pitch",
            0.0,
            "In the street, radians, positive looks down; goes with camera_height.",
            (-0.5, 0.5),
        )
        gains = self._declare(
            "gains", [1.0, 1.0, 1.0], "Factors on the street's red, green and blue."
        )
        gamma = self._declare(
            "gamma", 1.0, "Exponent of the street's brightness; above 1 darkens.", (0.2, 5.0)
        )
        if pitch and not height:
            raise ValueError(
                f"camera_pitch is {pitch:g}, but camera_height 0, the street's own mounting;"
                " set both"
            )
        return Camera(
            fov=fov or None,
            height=height or None,
            pitch=-pitch if height else None,
            gains=tuple(gains),
            gamma=gamma,
        )

    def _on_timer(self) -> None:
        # While nobody looks everything but a live camera stands still, so that whoever subscribes
        # sees a folder or a video from its first picture.
        if not self._live and self._image.get_subscription_count() == 0:
            return
        frame = next(self._frames, None)
        if frame is None:
            self.get_logger().info("End of the source")
            self._image.wait_for_all_acked(Duration(seconds=1))  # the last pictures, too
            raise Finished
        header = Header(stamp=self.get_clock().now().to_msg(), frame_id=self._frame_id)
        self._camera_info.publish(camera_info_message(frame.intrinsics, header))
        self._image.publish(image_message(frame.image, frame.encoding, header))
        if frame.labels is not None and self._true_labels.get_subscription_count() > 0:
            self._true_labels.publish(image_message(frame.labels, "mono8", header))
        if frame.depth is not None and self._true_depth.get_subscription_count() > 0:
            self._true_depth.publish(image_message(frame.depth, "32FC1", header))


def main() -> int:
    """Run the node until its source ends or it is told to stop; returns the exit code."""
    return run(CameraNode, "camera")
