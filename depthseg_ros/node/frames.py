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

"""Queue between the cameras' callbacks and the worker: only each camera's newest frame."""

from __future__ import annotations

import threading
from collections.abc import Hashable
from typing import Generic, TypeVar

Camera = TypeVar("Camera", bound=Hashable)
Frame = TypeVar("Frame")


class NewestFrames(Generic[Camera, Frame]):
    """Holds the newest frame of each camera; thread-safe."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._frames: dict[Camera, Frame] = {}
        self._closed = False

    def put(self, camera: Camera, frame: Frame) -> bool:
        """Store a frame; returns whether one is dropped: an older one or, if closed, this one."""
        with self._changed:
            if self._closed:
                return True
            displaced = camera in self._frames
            self._frames[camera] = frame  # a dict: the new frame keeps the turn of the old one
            self._changed.notify()
        return displaced

    def take(self, together: int = 1) -> list[Frame]:
        """Wait for a frame and return that of the camera that has waited longest; none if closed.

        If `together` cameras have one, returns all of them.
        """
        with self._changed:
            self._changed.wait_for(lambda: self._closed or self._frames)
            count = len(self._frames) if len(self._frames) >= together else 1
            first = [] if self._closed else list(self._frames)[:count]
            return [self._frames.pop(camera) for camera in first]

    def close(self) -> None:
        """Make `take` return none and refuse frames, until it is opened again."""
        with self._changed:
            self._closed = True
            self._frames.clear()
            self._changed.notify_all()

    def open(self) -> None:
        """Accept frames again."""
        with self._changed:
            self._closed = False
