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

"""Image sources without ROS: a rendered street, a folder, a video, a device or a stream."""

from __future__ import annotations

import logging
import re
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from .imaging.geometry import Intrinsics
from .imaging.image_files import IMAGES, list_images, other_format, read_stored
from .street import Street

_LOG = logging.getLogger(__name__)

STREAM_TIMEOUT = 5.0
"""Time limit of a stream for connecting and for its next image, seconds."""
RECONNECT = 1.0
"""Seconds from a stream's end to the next attempt to connect."""
_CONTAINERS = re.compile(
    rb"....(ftyp|moov|mdat|wide)|\x1aE\xdf\xa3|RIFF....AVI |\0\0\x01[\xb3\xba]|FLV\x01|OggS"
    rb"|0&\xb2\x75\x8e\x66|G.{187}G|.{4}G.{191}G",
    re.DOTALL,
)
"""First bytes of videos: MP4, MOV and 3GP; Matroska and WebM; AVI; MPEG; FLV; Ogg; WMV; TS; MTS."""


@dataclass(frozen=True)
class Frame:
    """An image, with ground truth if known."""

    image: NDArray[np.uint8]
    """(H, W, 3)"""
    encoding: str
    """Encoding of the image, rgb8 or bgr8."""
    intrinsics: Intrinsics
    labels: NDArray[np.uint8] | None = None
    """(H, W) class ids."""
    depth: NDArray[np.float32] | None = None
    """(H, W) metres, NaN if unknown."""
    pose: NDArray[np.float64] | None = None
    """(4, 4) camera to world, axes of `StreetFrame`."""


def street_frames(
    street: Street, pose: Callable[[], NDArray[np.float64] | None] = lambda: None
) -> Iterator[Frame]:
    """Yield images of a rendered street, with ground truth.

    Args:
        street: The street, whose time advances by 1/30 s per image.
        pose: Called for each image; returns the camera's pose, or None: an endless drive along
            the street.
    """
    for index in count():
        frame = street.frame(index, pose=pose())
        yield Frame(frame.image, "rgb8", frame.intrinsics, frame.labels, frame.depth, frame.pose)


def folder_frames(folder: Path, loop: bool, fov: float) -> Iterator[Frame]:
    """Yield the images of a folder in natural order (2.png before 10.png).

    Raises:
        ValueError: The folder has no images, or one of them cannot be read.
    """
    paths = list_images(folder)
    if not paths:
        raise ValueError(f"source {folder} has no images ({', '.join(sorted(IMAGES))})")
    while True:
        for path in paths:
            yield _bgr_frame(read_stored(path, cv2.IMREAD_COLOR), fov)
        if not loop:
            return


def is_video(path: Path, try_it: bool = False) -> bool:
    """Whether a file is a video, according to its content.

    Args:
        path: A file; one with an image's suffix is not a video.
        try_it: Let OpenCV open it if its container is unknown. FFmpeg also opens files that are not
            videos, such as point clouds, so use this only for files that a user has named.
    """
    if path.suffix.lower() in IMAGES or not path.is_file():
        return False
    with path.open("rb") as file:
        head = file.read(4096)
    if other_format(head):  # HEIC: FFmpeg reads its tiles as a video
        return False
    if _CONTAINERS.match(head):
        return True
    if not try_it or b"\0" not in head:  # FFmpeg renders text files as video
        return False
    try:
        read_stored(path, cv2.IMREAD_COLOR)
    except ValueError:
        with suppress(ValueError):
            return open_video(path).isOpened()
    return False


def file_frames(path: Path, fov: float) -> Iterator[Frame]:
    """Yield the image of an image file, or the images of a video.

    Raises:
        ValueError: It cannot be read as either.
    """
    if is_video(path, try_it=True):
        yield from video_frames(path, False, fov)
        return
    try:
        image = read_stored(path, cv2.IMREAD_COLOR)
    except ValueError as error:
        reason = str(error)
        if path.suffix.lower() not in IMAGES and reason.endswith("as an image"):
            reason += " or video"
        raise ValueError(reason) from None
    yield _bgr_frame(image, fov)


def open_video(video: Path) -> cv2.VideoCapture:
    """Open a video file with OpenCV; raises `ValueError` if the name is not UTF-8."""
    try:
        str(video).encode()
    except UnicodeEncodeError:
        raise ValueError(f"the name of the video {str(video)!a} is not UTF-8") from None
    return cv2.VideoCapture(str(video))


def video_frames(video: Path, loop: bool, fov: float) -> Iterator[Frame]:
    """Yield the images of a video file.

    Raises:
        ValueError: The file is not a video that OpenCV can read.
    """
    while True:
        capture = open_video(video)
        try:
            read, image = capture.read()
            if not read:
                with video.open("rb") as file:
                    other = other_format(file.read(100))
                reason = f"is {other}" if other else "cannot be read as a video"
                raise ValueError(f"source {video} {reason}")
            while read:
                yield _bgr_frame(image, fov)
                read, image = capture.read()
        finally:
            capture.release()
        if not loop:
            return


def is_stream(source: str) -> bool:
    """Whether a source is the address of a stream, such as rtsp://camera/live."""
    return re.match("(rtsps?|rtmp|https?|udp|tcp|srt)://", source) is not None


def public(source: str) -> str:
    """The source for logs: an address without user and password."""
    return re.sub("//[^/]*@", "//", source) if is_stream(source) else source


def stream_frames(address: str, loop: bool, fov: float) -> Iterator[Frame]:
    """Yield the images of a network camera with FFmpeg; reconnects at the end if `loop`.

    Raises:
        ValueError: OpenCV has no FFmpeg, or the first connection yields no image.
    """
    name = public(address)
    if not cv2.videoio_registry.hasBackend(cv2.CAP_FFMPEG):
        raise ValueError(
            f"source {name} needs FFmpeg, but this OpenCV ({cv2.__version__}) was built without"
            " it: pip install opencv-python"
        )
    timeout = int(1e3 * STREAM_TIMEOUT)
    limits = [cv2.CAP_PROP_OPEN_TIMEOUT_MSEC, timeout, cv2.CAP_PROP_READ_TIMEOUT_MSEC, timeout]
    connected = lost = False
    while True:
        capture = cv2.VideoCapture(address, cv2.CAP_FFMPEG, limits)
        try:
            read, image = capture.read()
            if not read and not connected:
                raise ValueError(
                    f"source {name} sends no images: check the address and the network; ffprobe"
                    " gives details"
                )
            if read and lost:
                _LOG.info("Source %s sends images again", name)
                lost = False
            connected = True
            while read:
                yield _bgr_frame(image, fov)
                read, image = capture.read()
        finally:
            capture.release()
        if not loop:
            return
        if not lost:
            _LOG.warning("Source %s has ended; reconnecting every %g s", name, RECONNECT)
        lost = True
        time.sleep(RECONNECT)


class Newest:
    """The newest frame of a live source, which is read in its own thread.

    Args:
        frames: The source.
    """

    def __init__(self, frames: Iterator[Frame]) -> None:
        self._frame: Frame | None = None
        self._thread = threading.Thread(target=self._read, args=(frames,), daemon=True)
        self._thread.start()

    def _read(self, frames: Iterator[Frame]) -> None:
        for frame in frames:
            self._frame = frame

    def take(self) -> Frame | None:
        """The newest frame, if it has not been taken yet."""
        frame, self._frame = self._frame, None
        return frame

    @property
    def ended(self) -> bool:
        """Whether no more frames will come."""
        return self._frame is None and not self._thread.is_alive()


def device_frames(device: Path, width: int, height: int, fov: float) -> Iterator[Frame]:
    """Yield the images of a camera at `/dev/videoN`, in the size nearest to the given one.

    Raises:
        ValueError: The device is not a camera or sends no images.
    """
    video = re.fullmatch(r"/dev/video(\d+)", str(device.resolve()))  # also for /dev/v4l/by-id/...
    if video is None:
        raise ValueError(f"source {device} is not a camera, expected /dev/videoN")
    capture = cv2.VideoCapture(int(video[1]), cv2.CAP_V4L2)
    try:
        capture.set(cv2.CAP_PROP_FRAME_WIDTH, width)
        capture.set(cv2.CAP_PROP_FRAME_HEIGHT, height)
        capture.set(cv2.CAP_PROP_BUFFERSIZE, 1)  # no old images
        while True:
            read, image = capture.read()
            if not read:
                raise ValueError(f"source {device} sends no images")
            yield _bgr_frame(image, fov)
    finally:
        capture.release()


def _bgr_frame(image: Any, fov: float) -> Frame:
    height, width = image.shape[:2]
    return Frame(image, "bgr8", Intrinsics.from_fov(width, height, fov))
