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

"""A camera's intrinsics, by what it says of itself on camera_info, or guessed where it does not."""

from __future__ import annotations

import threading
from collections.abc import Callable

from sensor_msgs.msg import CameraInfo

from ..imaging.geometry import Intrinsics
from ..imaging.images import camera_of

PATIENCE = 1.0
"""Seconds that the first frame waits for a camera_info: cameras send both, in either order."""


class Calibration:
    """The newest camera_info of a camera; heard by the executor's thread, used by the worker's.

    Args:
        image: Gives the topic of the images, as image_transport's base topic.
        topic: Gives the topic of camera_info.
        why: Gives why nothing comes on that, as the end of a line.
        warn: Logs a line, and what a callable gives to follow it.
        trouble: Tells diagnostics of a trouble, see `StreamDiagnostics.trouble`.
    """

    def __init__(
        self,
        image: Callable[[], str],
        topic: Callable[[], str],
        why: Callable[[], str],
        warn: Callable[..., None],
        trouble: Callable[[str, str], None],
    ) -> None:
        self._image, self._topic, self._why = image, topic, why
        self._warn, self._trouble = warn, trouble
        self._info: CameraInfo | None = None
        self._awaited = threading.Event()  # set when nothing shall wait for the first any more

    def forget(self) -> None:
        """Begin anew, without a camera_info."""
        self._info = None
        self._awaited.clear()

    def hear(self, message: CameraInfo) -> None:
        """What comes on camera_info."""
        if self._info is None:
            self._trouble("camera_info", "")  # the next frame tells whether it is of use
        self._info = message
        self._awaited.set()

    def await_no_more(self) -> None:
        """Let no frame wait for a camera_info."""
        self._awaited.set()

    def of(
        self, width: int, height: int, fov: float, waited: float
    ) -> tuple[CameraInfo | None, Intrinsics]:
        """What the camera said of itself last, if it is of use, and the intrinsics of a picture.

        Args:
            width: Of the picture in pixels.
            height: Likewise.
            fov: Its horizontal field of view in radians, where the camera says nothing of use.
            waited: Seconds for which the picture has waited.
        """
        if not self._awaited.wait(max(0.0, PATIENCE - waited)):
            self._awaited.set()  # once is enough
        info = self._info
        try:
            if info is None:
                raise ValueError(f"nothing came on {self._topic()}")
            # ROS names a rectified picture's topic image_rect or image_rect_color.
            rectified = self._image().rsplit("/", 1)[-1].startswith("image_rect")
            camera, assumed = camera_of(info, width, height, rectified)
        except ValueError as error:
            text = f"{error}; assuming a horizontal field of view of {fov} rad"
            hint = self._why if info is None else lambda: ""
            self._warn(f"{text} (parameter default_fov)", hint=hint)
            self._trouble("camera_info", text)
            return None, Intrinsics.from_fov(width, height, fov)
        if assumed:
            self._warn(assumed)
        self._trouble("camera_info", assumed)
        return info, camera
