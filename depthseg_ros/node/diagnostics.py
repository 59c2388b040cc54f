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

"""The diagnostics of one camera: counts, rates, times and problems."""

from __future__ import annotations

import math
import re
import statistics
import threading
import time
from collections import Counter

import numpy as np
from diagnostic_msgs.msg import DiagnosticStatus, KeyValue

COUNTS = ("received", "processed", "dropped", "unwanted", "rejected", "failed", "lost")
"""Counts of frames: dropped for a newer one or after waiting for an engine; unwanted without
subscribers or because of `max_rate`; rejected because of their content; failed in the backend; lost
by the middleware, so never received."""
STAGES = ("take", "wait", "convert", "infer", "derive", "publish")
"""Stages of a frame: from its stamp to the callback; until the worker has it and its camera_info;
message to image; network; computing the output messages; publishing them."""
SUMS = ("overhead", "latency", "age")
"""Sums of stages: all except take and infer, all except take, all. The age is that of a result when
it is published, from its stamp."""


class StageTimer:
    """Seconds that one frame spends in each of `STAGES`.

    Args:
        received: Time of its callback, `time.monotonic()`.
        age: Seconds from its stamp to then, by the node's clock.
    """

    def __init__(self, received: float, age: float) -> None:
        self._last = received
        self.seconds = dict.fromkeys(STAGES, 0.0) | {"take": age}

    def lap(self, stage: str) -> None:
        """Add the time since the last call to a stage."""
        now = time.monotonic()
        self.seconds[stage] += now - self._last
        self._last = now

    def with_sums(self) -> dict[str, float]:
        """The seconds of each of `STAGES` and `SUMS`."""
        age = sum(self.seconds.values())
        latency = age - self.seconds["take"]
        overhead = latency - self.seconds["infer"]
        return self.seconds | {"overhead": overhead, "latency": latency, "age": age}


LINES, SPAN = 10, 10.0
"""Maximum number of warnings of a camera, and the seconds in which they are counted."""


class LogThrottle:
    """Limits the rate of warnings in the log; thread-safe."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._logged: dict[str, float] = {}  # what, and when, `time.monotonic()`

    def admits(self, text: str, repeat: float) -> bool:
        """Whether a warning may be logged; if so, it counts as logged.

        Args:
            text: The warning.
            repeat: Seconds until a similar warning (other numbers) may be logged; infinite: the
                same text is never logged again.
        """
        now = time.monotonic()
        kind = text if repeat == math.inf else re.sub(r"[0-9.]+", "#", text)
        with self._lock:
            recent = sum(now - at < SPAN for at in self._logged.values())
            known = kind in self._logged and now - self._logged[kind] <= repeat
            if known or recent >= LINES:
                return False
            if len(self._logged) >= 10 * LINES:  # limits the memory
                self._logged = {k: at for k, at in self._logged.items() if now - at < SPAN}
            self._logged[kind] = now
            return True

    def forget(self) -> None:
        """Allow all warnings again."""
        with self._lock:
            self._logged.clear()


LOSSES, LOSS_SPAN = 0.1, 5.0
"""Share of frames that may be lost before they are received, and the seconds over which it is
measured."""
OVERDUE = 0.75
"""Seconds without a frame of a fast camera after which this is reported."""


class StreamDiagnostics:
    """Counts, times and problems of a camera's frames; thread-safe.

    Args:
        silence: Seconds after which a frame is missing, for the slowest cameras.
    """

    def __init__(self, silence: float) -> None:
        self.last_frame = math.nan
        """Time of the last frame, `time.monotonic()`."""
        self._silence = silence
        self._usual = silence / 2  # the longest recent time between frames, seconds
        self._lock = threading.Lock()
        self._counts: Counter[str] = Counter()
        self._laps: list[dict[str, float]] = []
        self._loss = ("", "")
        self._troubles: dict[str, str] = {}
        self._before: Counter[str] = Counter()
        self._reported = time.monotonic()
        self._span: tuple[float, Counter[str]] = (self._reported, Counter())
        self._losses = ""

    def receive(self, now: float) -> None:
        """Count a frame that arrives now, `time.monotonic()`."""
        if not math.isnan(self.last_frame):
            pause = min(now - self.last_frame, self._silence / 2)
            self._usual = max(pause, 0.9 * self._usual)
        self.last_frame = now
        self.count("received")

    def overdue(self, since: float) -> bool:
        """Whether a frame is missing; `since` is the start of the subscription, monotonic."""
        heard = float(np.fmax(since, self.last_frame))  # NaN if there is none
        return time.monotonic() - heard > max(OVERDUE, 2 * self._usual)

    def losses(self) -> str:
        """A line about frames lost in the last `LOSS_SPAN` s; empty if few or none."""
        now, (began, before) = time.monotonic(), self._span
        if now - began >= LOSS_SPAN:
            with self._lock:
                counts = self._counts.copy()
            lost, received = (counts[what] - before[what] for what in ("lost", "received"))
            much = lost >= 3 and lost > LOSSES * (lost + received)
            self._losses = (
                f"{lost} of {lost + received} images were lost between the camera and the node"
                f" in {now - began:.0f} s"
                if much
                else ""
            )
            self._span = now, counts
        return self._losses

    def count(
        self, outcome: str, watch: StageTimer | None = None, reason: str = "", frames: int = 1
    ) -> None:
        """Count frames under one of `COUNTS`, with a reason if rejected or failed."""
        with self._lock:
            self._counts[outcome] += frames
            if reason:
                self._loss = outcome, reason
            if watch is not None and outcome == "processed":
                self._laps.append(watch.with_sums())

    def trouble(self, about: str, text: str) -> None:
        """Set a problem, which is reported until it is cleared with an empty text."""
        with self._lock:
            if text:
                self._troubles[about] = text
            else:
                self._troubles.pop(about, None)

    def troubled(self, about: str) -> bool:
        """Whether this problem is set."""
        return about in self._troubles

    def forget(self) -> None:
        """Forget the last frame and all problems, for a new subscription."""
        with self._lock:
            self._troubles.clear()
            self.last_frame, self._usual = math.nan, self._silence / 2
            self._span, self._losses = (time.monotonic(), self._counts.copy()), ""

    def status(
        self, name: str, level: bytes, message: str, values: dict[str, str]
    ) -> DiagnosticStatus:
        """The state, counts, rates, and medians of the frames since the last call.

        Args:
            name: Name of node and camera, `/node` or `/node/camera`.
            level: Level of the state, from `DiagnosticStatus`.
            message: The state in words. Problems replace it if it is OK.
            values: More keys and values.
        """
        with self._lock:
            laps, self._laps = self._laps, []
            (outcome, reason), self._loss = self._loss, ("", "")
            troubles, counts = list(self._troubles.values()), self._counts.copy()
        if level == DiagnosticStatus.ERROR:
            pass  # its message says what is done
        elif outcome == "failed" and not laps:
            level, message = DiagnosticStatus.ERROR, f"all frames fail: {reason}"
        elif outcome and not laps and level == DiagnosticStatus.OK:
            level, message = DiagnosticStatus.WARN, f"all frames are rejected: {reason}"
        elif troubles and level != DiagnosticStatus.STALE:
            states = [] if level == DiagnosticStatus.OK else [message]
            level, message = DiagnosticStatus.WARN, "; ".join(states + troubles)
        milliseconds = dict.fromkeys((*STAGES, *SUMS, "age p95"), math.nan)
        if laps:
            for stage in (*STAGES, *SUMS):
                milliseconds[stage] = 1e3 * statistics.median(lap[stage] for lap in laps)
            milliseconds["age p95"] = 1e3 * float(np.percentile([lap["age"] for lap in laps], 95))
        now = time.monotonic()
        rates = {
            key: (counts[what] - self._before[what]) / max(now - self._reported, 1e-3)
            for key, what in (("input [Hz]", "received"), ("output [Hz]", "processed"))
        }
        self._before, self._reported = counts, now
        texts = {f"frames {what}": str(counts[what]) for what in COUNTS}
        texts |= {key: f"{rate:.1f}" for key, rate in rates.items()}
        texts["last frame [s ago]"] = f"{now - self.last_frame:.1f}"
        texts |= {f"{stage} [ms]": f"{value:.2f}" for stage, value in milliseconds.items()}
        return DiagnosticStatus(
            level=level,
            name=f"{name.lstrip('/')}: frames",
            message=message,
            hardware_id=name,
            values=[KeyValue(key=key, value=value) for key, value in (texts | values).items()],
        )
