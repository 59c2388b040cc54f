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

"""A camera's intrinsics from camera_info, or assumed without a usable camera_info."""

from __future__ import annotations

import threading
from collections.abc import Callable

from sensor_msgs.msg import CameraInfo

from ..imaging.geometry import Intrinsics
from ..imaging.images import camera_of, intrinsics

PATIENCE = 1.0
"""Seconds that the first frame waits for camera_info: cameras send both in any order."""


class Calibration:
    """The newest camera_info; set by the executor's thread, used by the worker's.

    Args:
        image: Returns the base topic of image_transport for the images.
        topic: Returns the topic of camera_info.
        why: Returns why no camera_info arrives, as the end of a line.
        log: Logs a line once, as information.
        warn: Logs a line, with the text that the callable `hint` returns.
        trouble: Sets a problem in diagnostics, see `StreamDiagnostics.trouble`.
    """

    def __init__(
        self,
        image: Callable[[], str],
        topic: Callable[[], str],
        why: Callable[[], str],
        log: Callable[[str], None],
        warn: Callable[..., None],
        trouble: Callable[[str, str], None],
    ) -> None:
        self._image, self._topic, self._why = image, topic, why
        self._log, self._warn, self._trouble = log, warn, trouble
        self._info: CameraInfo | None = None
        self._awaited = threading.Event()  # set when waiting for the first one ends

    def forget(self) -> None:
        """Start again without a camera_info."""
        self._info = None
        self._awaited.clear()

    def hear(self, message: CameraInfo) -> None:
        """Store a message of camera_info."""
        if self._info is None:
            self._trouble("camera_info", "")  # the next frame shows whether it is usable
        self._info = message
        self._awaited.set()

    def await_no_more(self) -> None:
        """End all waiting for a camera_info."""
        self._awaited.set()

    def of(
        self, width: int, height: int, fov: float, waited: float
    ) -> tuple[CameraInfo | None, Intrinsics]:
        """The newest camera_info, None if not usable, and the intrinsics of an image.

        Args:
            width: Width of the image, pixels.
            height: Height of the image, pixels.
            fov: Horizontal field of view assumed without a usable camera_info, radians.
            waited: Seconds since the image arrived.
        """
        if not self._awaited.wait(max(0.0, PATIENCE - waited)):
            self._awaited.set()  # wait only once
        info = self._info
        try:
            if info is None:
                raise ValueError(f"no camera_info received on {self._topic()}")
            # In ROS, topics of rectified images are named image_rect or image_rect_color.
            rectified = self._image().rsplit("/", 1)[-1].startswith("image_rect")
            described = intrinsics(info, rectified)
            camera, assumed = camera_of(info, width, height, rectified)
        except ValueError as error:
            text = f"{error}; assuming a horizontal field of view of {fov} rad"
            hint = self._why if info is None else lambda: ""
            self._warn(f"{text} (parameter default_fov)", hint=hint)
            self._trouble("camera_info", text)
            return None, Intrinsics.from_fov(width, height, fov)
        if (width, height) != (described.width, described.height):
            self._log(
                f"camera_info describes {described.width}x{described.height} pixels, the image has"
                f" {width}x{height}: using the focal length {camera.fx:.1f} for {described.fx:.1f}"
            )
        if assumed:
            self._warn(assumed)
        self._trouble("camera_info", assumed)
        return info, camera
