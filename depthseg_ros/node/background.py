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

"""The background image (the view without foreground) that some models need.

It is read from a file, or captured as the median of frames. The worker collects them for the
service that waits for them; a capture ends in the executor's thread.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rclpy.task import Future

from ..perception import median_picture
from ..texts import one_line


@dataclass
class Capture:
    """A background capture in progress."""

    frames: int
    """Number of images that it needs."""
    pictures: list[NDArray[np.uint8]] = field(default_factory=list)
    newest: float = field(default_factory=time.monotonic)
    """Time of the newest image; before the first, the time when the capture began."""
    outcome: Any = field(default_factory=Future)
    """Success, and a line about it."""


class Background:
    """One camera's background image and its capture.

    Args:
        patience: Seconds without an image after which a capture times out.
        later: Schedules a call, function and arguments, in the executor's thread.
        says: Adds the camera's name to a line.
    """

    def __init__(
        self, patience: float, later: Callable[..., Any], says: Callable[[str], str]
    ) -> None:
        self.picture: NDArray[np.uint8] | None = None
        """(H, W, 3) uint8 RGB, or None."""
        self._patience, self._later, self._says = patience, later, says
        self._capture: Capture | None = None

    @property
    def awaited(self) -> bool:
        """Whether a capture waits for images."""
        return self._capture is not None

    def capture(self, frames: int) -> Capture:
        """Start to capture a background from `frames` frames."""
        self._capture = Capture(frames)
        return self._capture

    def on_second(self) -> None:
        """Abort a capture that receives no images."""
        capture = self._capture
        if capture is not None and time.monotonic() - capture.newest > self._patience:
            self._end(
                capture,
                f"received {len(capture.pictures)} of {capture.frames} frames, and no usable one"
                f" for {self._patience:.0f} s: check that the camera runs",
            )

    def abort(self) -> None:
        """Abort a running capture, after the worker has ended."""
        if self._capture is not None:
            self._end(self._capture, "the node was deactivated")

    def _end(
        self, capture: Capture, message: str, picture: NDArray[np.uint8] | None = None
    ) -> None:
        """Answer the service; without a picture, with failure."""
        if capture.outcome.done():  # the first of two ends counts
            return
        self._capture = None
        if picture is not None:
            self.picture = picture
        capture.outcome.set_result((picture is not None, self._says(message)))

    # --- The worker's thread --------------------------------------------------------------------

    def collect(self, image: NDArray[np.uint8]) -> None:
        """Add an image to a capture; the last one ends it."""
        capture = self._capture
        if capture is None:
            return
        capture.pictures.append(image)
        capture.newest = time.monotonic()
        (first_height, first_width), (height, width) = (
            picture.shape[:2] for picture in (capture.pictures[0], image)
        )
        changed = (first_width, first_height) != (width, height)
        if not changed and len(capture.pictures) < capture.frames:
            return
        self._capture = None  # nothing more is collected, and it cannot time out
        if changed:
            background = None
            message = (
                f"the image size changed from {first_width}x{first_height} to {width}x{height}"
            )
        else:
            try:
                background = median_picture(capture.pictures)
                message = f"background image of {capture.frames} frames, {width}x{height}"
            except MemoryError as error:  # the service must answer in any case
                background, message = None, one_line(error)
        self._later(self._end, capture, message, background)
