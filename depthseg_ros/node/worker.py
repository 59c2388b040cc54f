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

"""The thread that runs the network on frames, and its supervision.

A runtime may fail, or get stuck where nothing can interrupt it. Then the thread is abandoned: if it
returns, its result is out of date and is not published, and it releases its model itself.
"""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable, Sequence

from ..backends import BackendError, UnservedError
from ..perception import Perception
from ..texts import one_line
from .stream import Frame, Task, Waiting

FAILURES = 3
"""Number of consecutive failed runs after which the model is reloaded."""
COMPILING = 600.0
"""Seconds within which a compilation must progress by a tenth; otherwise it is stuck."""
SLOW = 1.0
"""Seconds for one image from which the network may be reported as slow."""


class Worker:
    """Takes frames, runs the network and publishes, until it is stopped.

    Args:
        frames: Source of the frames; is opened.
        perception: The model.
        together: Number of cameras whose frames form a batch, if all have one waiting.
        release: Called by an abandoned thread to release its model when it returns.
    """

    def __init__(
        self,
        frames: Waiting,
        perception: Perception,
        together: int,
        release: Callable[[Perception], None],
    ) -> None:
        self._frames, self._perception, self._together = frames, perception, together
        self._release = release
        self._abandoned = False
        self._tasks: Sequence[Task] = ()
        self._since = math.nan  # when the network began to run, or its state changed
        self._state = ""
        self._longest = 0.0
        self._failed, self._reason = 0, ""
        self.succeeded = False
        """Whether the network has run successfully at least once."""
        frames.open()
        self.thread = threading.Thread(target=self._work, name="worker", daemon=True)
        self.thread.start()

    # --- The executor's thread ------------------------------------------------------------------

    def busy(self) -> float:
        """Seconds since the network began with its image or its compilation last progressed."""
        if (state := self._perception.backend.state) != self._state:
            self._state, self._since = state, time.monotonic()
        return float(max(0.0, time.monotonic() - self._since)) if self._tasks else 0.0

    def slow(self) -> bool:
        """Whether it takes much longer for the current image than for any before."""
        return self.busy() > max(SLOW, 2 * self._longest)

    def trouble(self, deadline: float) -> str:
        """The reason why the model must be reloaded; empty if there is none.

        Args:
            deadline: Time limit of the network for one image, seconds.
        """
        if not self.thread.is_alive():
            return "the inference thread died (internal error)"
        busy, state = self.busy(), self._state
        if busy > (max(COMPILING, deadline) if state else deadline):
            return f"the network has been running on one image for {busy:.0f} s" + (
                f", {state}" if state else ""
            )
        if self._failed >= FAILURES:
            return f"the network failed {self._failed} times, most recently: {self._reason}"
        return ""

    def stop(self, deadline: float) -> bool:
        """Stop the thread after its current image; returns whether the model can be used again.

        If the thread takes more than `deadline` seconds, for the image or to interrupt a
        compilation, it is abandoned together with its model.
        """
        self._frames.close()
        began = time.monotonic()
        while self.thread.is_alive():
            self._perception.backend.interrupt()  # a compilation, which takes minutes
            self.thread.join(0.1)
            waited = time.monotonic() - began
            if self._tasks and (waited > deadline or (not self._state and self.busy() > deadline)):
                self._abandoned = True
                error = BackendError(f"the network timed out after {deadline:g} s")
                for task in self._tasks:
                    task.stream.lose(task.watch, error)
                return False
        return True

    # --- The worker's thread --------------------------------------------------------------------

    def _work(self) -> None:
        while not self._abandoned and (taken := self._frames.take(self._together)):
            self._process(taken)
        if self._abandoned:
            self._release(self._perception)

    def _process(self, frames: Sequence[Frame]) -> None:
        """Run the network on frames and publish the wanted outputs; logs errors, raises nothing.

        Runs them in one batch if all are wanted and have the same size. So batches have one image
        or one of each camera: for other numbers TensorRT would compile another engine.
        """
        prepared = [frame.stream.prepare(frame, self._perception) for frame in frames]
        tasks = [task for task in prepared if task is not None]
        at_once = len(tasks) == len(frames) and len({task.view.image.shape for task in tasks}) == 1
        for batch in [tasks] if at_once else [[task] for task in tasks]:
            for task in batch:
                task.watch.lap("wait")
            self._since, self._tasks = time.monotonic(), batch
            try:
                predictions = self._perception.batch([t.view for t in batch], reduced=True)
            except Exception as error:  # anything a backend raises: the next frame may work
                predictions, reason = None, error
            took, self._tasks = time.monotonic() - self._since, ()
            if self._abandoned:
                return
            if predictions is None:
                if not isinstance(reason, (ValueError, UnservedError)):  # caused by the image
                    self._failed, self._reason = self._failed + 1, one_line(reason)
                for task in batch:
                    task.stream.lose(task.watch, reason)
                continue
            self._failed, self.succeeded = 0, True
            if not self._state:  # without compiling
                self._longest = max(self._longest, took)
            for task in batch:
                task.watch.lap("infer")
            for task, prediction in zip(batch, predictions, strict=True):
                task.stream.publish(task, prediction, self._perception.card)
