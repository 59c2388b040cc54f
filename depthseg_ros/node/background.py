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

"""The view without foreground, which some models compare the picture with.

It is a file, or the median of frames, which the worker collects for the service that waits for
them; whatever ends a capture happens in the executor's thread.
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
    """A background in the making, from the worker to the service."""

    frames: int
    """How many pictures it takes."""
    pictures: list[NDArray[np.uint8]] = field(default_factory=list)
    newest: float = field(default_factory=time.monotonic)
    """When the newest picture came; at first, when the capture began."""
    outcome: Any = field(default_factory=Future)
    """Success, and a line about it."""


class Background:
    """One camera's background, and how it is taken.

    Args:
        patience: Seconds without a picture after which a capture is given up.
        later: Lets the executor's thread call a function with arguments.
        says: Makes of a line one about this camera.
    """

    def __init__(
        self, patience: float, later: Callable[..., Any], says: Callable[[str], str]
    ) -> None:
        self.picture: NDArray[np.uint8] | None = None
        """(H, W, 3) uint8 RGB, if there is one yet."""
        self._patience, self._later, self._says = patience, later, says
        self._capture: Capture | None = None

    @property
    def awaited(self) -> bool:
        """Whether a capture waits for pictures."""
        return self._capture is not None

    def capture(self, frames: int) -> Capture:
        """Begin to take a background from so many frames."""
        self._capture = Capture(frames)
        return self._capture

    def on_second(self) -> None:
        """Give up a capture for which nothing comes."""
        capture = self._capture
        if capture is not None and time.monotonic() - capture.newest > self._patience:
            self._end(
                capture,
                f"{len(capture.pictures)} of {capture.frames} frames came, and none that could be"
                f" used for {self._patience:.0f} s: is the camera running?",
            )

    def give_up(self) -> None:
        """End a capture that is under way, once the worker has ended."""
        if self._capture is not None:
            self._end(self._capture, "the node was deactivated")

    def _end(
        self, capture: Capture, message: str, picture: NDArray[np.uint8] | None = None
    ) -> None:
        """Let the service answer; without a picture, that it failed."""
        if capture.outcome.done():  # of two ends the first counts
            return
        self._capture = None
        if picture is not None:
            self.picture = picture
        capture.outcome.set_result((picture is not None, self._says(message)))

    # --- The worker's thread --------------------------------------------------------------------

    def collect(self, image: NDArray[np.uint8]) -> None:
        """Add a picture to a capture, and end it with the last one."""
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
        self._capture = None  # nothing more is collected, and no silence ends it
        if changed:
            background = None
            message = f"the frames changed from {first_width}x{first_height} to {width}x{height}"
        else:
            try:
                background = median_picture(capture.pictures)
                message = f"background of {capture.frames} frames, {width}x{height}"
            except MemoryError as error:  # the service is to answer all the same
                background, message = None, one_line(error)
        self._later(self._end, capture, message, background)
