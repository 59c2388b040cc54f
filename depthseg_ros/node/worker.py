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

"""The thread that shows frames to the network, and what is to be known of it from outside.

A runtime may fail, or hang where nothing can interrupt it. Then the thread is given up: whatever
it comes back with is stale and is not published, and it gives back its model by itself.
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
"""So many runs of the network that fail one after another are no accident."""
COMPILING = 600.0
"""Seconds in which a compilation gets on by a tenth, or it hangs."""
SLOW = 1.0
"""Seconds at one picture from which the network may be called slow."""


class Worker:
    """Takes frames, runs the network and publishes, from its beginning until it is stopped.

    Args:
        frames: Where frames come from; opened.
        perception: The model.
        together: How many cameras' frames go through the network at once, if all wait.
        give_back: What a thread that was given up does with its model in the end.
    """

    def __init__(
        self,
        frames: Waiting,
        perception: Perception,
        together: int,
        give_back: Callable[[Perception], None],
    ) -> None:
        self._frames, self._perception, self._together = frames, perception, together
        self._give_back = give_back
        self._given_up = False
        self._tasks: Sequence[Task] = ()
        self._since = math.nan  # when the network began to run, or its state changed
        self._state = ""
        self._longest = 0.0
        self._failed, self._reason = 0, ""
        self.succeeded = False
        """Whether the network has run well yet."""
        frames.open()
        self.thread = threading.Thread(target=self._work, name="worker", daemon=True)
        self.thread.start()

    # --- The executor's thread ------------------------------------------------------------------

    def busy(self) -> float:
        """Seconds for which the network has been at its picture, or got no further compiling."""
        if (state := self._perception.backend.state) != self._state:
            self._state, self._since = state, time.monotonic()
        return float(max(0.0, time.monotonic() - self._since)) if self._tasks else 0.0

    def slow(self) -> bool:
        """Whether it is at a picture for much longer than at any before."""
        return self.busy() > max(SLOW, 2 * self._longest)

    def trouble(self, deadline: float) -> str:
        """What calls for the model to be loaded anew, in words; empty: nothing.

        Args:
            deadline: Seconds that the network may take for a picture.
        """
        if not self.thread.is_alive():
            return "the thread of the network has ended by a fault of ours"
        busy, state = self.busy(), self._state
        if busy > (max(COMPILING, deadline) if state else deadline):
            return f"the network has been at one picture for {busy:.0f} s" + (
                f", {state}" if state else ""
            )
        if self._failed >= FAILURES:
            return f"the network failed {self._failed} times, at last: {self._reason}"
        return ""

    def stop(self, deadline: float) -> bool:
        """End the thread after what it does now; whether it gives the model back to the caller.

        It does not where it has been at one picture for `deadline` seconds, or goes on compiling
        for as long when it is told to end.
        """
        self._frames.close()
        began = time.monotonic()
        while self.thread.is_alive():
            self._perception.backend.interrupt()  # a compilation, which takes minutes
            self.thread.join(0.1)
            waited = time.monotonic() - began
            if self._tasks and (waited > deadline or (not self._state and self.busy() > deadline)):
                self._given_up = True
                error = BackendError(f"the network did not answer in {deadline:g} s")
                for task in self._tasks:
                    task.stream.lose(task.watch, error)
                return False
        return True

    # --- The worker's thread --------------------------------------------------------------------

    def _work(self) -> None:
        while not self._given_up and (taken := self._frames.take(self._together)):
            self._process(taken)
        if self._given_up:
            self._give_back(self._perception)

    def _process(self, frames: Sequence[Frame]) -> None:
        """Perceive frames and publish what is wanted, or say why not; raises nothing.

        Several at once if all of them are wanted and of one size, so that the network is run in
        batches of one or of all cameras: for another number TensorRT would compile another engine.
        """
        prepared = [frame.stream.prepare(frame, self._perception) for frame in frames]
        tasks = [task for task in prepared if task is not None]
        at_once = len(tasks) == len(frames) and len({task.view.image.shape for task in tasks}) == 1
        for batch in [tasks] if at_once else [[task] for task in tasks]:
            for task in batch:
                task.watch.lap("wait")
            self._since, self._tasks = time.monotonic(), batch
            try:
                predictions = self._perception.batch([task.view for task in batch])
            except Exception as error:  # anything a backend raises: the next frame may do
                predictions, reason = None, error
            took, self._tasks = time.monotonic() - self._since, ()
            if self._given_up:
                return
            if predictions is None:
                if not isinstance(reason, (ValueError, UnservedError)):  # the picture's fault
                    self._failed, self._reason = self._failed + 1, one_line(reason)
                for task in batch:
                    task.stream.lose(task.watch, reason)
                continue
            self._failed, self.succeeded = 0, True
            if not self._state:  # compiling is another matter
                self._longest = max(self._longest, took)
            for task in batch:
                task.watch.lap("infer")
            for task, prediction in zip(batch, predictions, strict=True):
                task.stream.publish(task, prediction, self._perception.card)
