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

"""What a camera's way tells of itself, as far as that needs no node."""

import math
import threading

import pytest

pytest.importorskip("diagnostic_msgs", reason="needs ROS 2")

from diagnostic_msgs.msg import DiagnosticStatus

from depthseg_ros.node import diagnostics
from depthseg_ros.node.diagnostics import LINES, SPAN, LogThrottle, StreamDiagnostics


@pytest.fixture
def clock(monkeypatch):
    """The time that the module sees, which the test sets."""
    now = [100.0]
    monkeypatch.setattr(diagnostics.time, "monotonic", lambda: now[0])
    return now


def test_a_warning_comes_again_only_after_a_while_whatever_its_numbers(clock):
    gate = LogThrottle()
    assert gate.admits("the image has 17 bytes", 5)
    assert not gate.admits("the image has 18 bytes", 5)
    assert gate.admits("the image is empty", 5)
    clock[0] += 5.1
    assert gate.admits("the image has 19 bytes", 5)


def test_a_warning_that_is_said_once_is_said_again_with_other_numbers_only(clock):
    gate = LogThrottle()
    assert gate.admits("the image of 64x48", math.inf)
    assert gate.admits("the image of 96x48", math.inf)
    clock[0] += 1e6
    assert not gate.admits("the image of 64x48", math.inf)
    gate.forget()
    assert gate.admits("the image of 64x48", math.inf)


def test_ever_new_warnings_do_not_flood_the_log(clock):
    gate = LogThrottle()
    words = [f"{chr(97 + i // 26)}{chr(97 + i % 26)}" for i in range(600)]
    assert sum(gate.admits(word, 5) for word in words[:300]) == LINES
    clock[0] += SPAN
    assert sum(gate.admits(word, 5) for word in words[300:]) == LINES


def test_what_was_logged_is_not_kept_for_ever(clock):
    gate = LogThrottle()
    for i in range(50 * LINES):
        assert gate.admits(f"{chr(97 + i // 26)}{chr(97 + i % 26)}", math.inf)
        clock[0] += SPAN / LINES * 1.01
    assert len(gate._logged) <= 11 * LINES


def test_frames_that_all_fail_are_an_error_and_rejected_ones_a_warning():
    health = StreamDiagnostics(silence=5.0)
    state = DiagnosticStatus.OK, "active", {}
    health.count("failed", None, "out of memory")
    status = health.status("/node", *state)
    assert status.level == DiagnosticStatus.ERROR
    assert status.message == "all frames fail: out of memory"
    health.count("rejected", None, "17 bytes")
    status = health.status("/node", *state)
    assert status.level == DiagnosticStatus.WARN
    assert status.message == "all frames are rejected: 17 bytes"
    assert health.status("/node", *state).level == DiagnosticStatus.OK


def test_threads_may_ask_at_once():
    gate, failed = LogThrottle(), []

    def ask(name):
        try:
            for i in range(20000):
                gate.admits(f"{name} {i}", math.inf)
                if i % 7 == 0:
                    gate.forget()  # so that more are admitted
        except RuntimeError as error:
            failed.append(error)

    threads = [threading.Thread(target=ask, args=(name,)) for name in "abcd"]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failed


@pytest.mark.parametrize("rate, patience", [(30.0, 0.75), (2.0, 1.0), (0.1, 5.0)])
def test_a_frame_is_missing_after_a_time_that_fits_the_camera(clock, rate, patience):
    health = StreamDiagnostics(silence=5.0)
    for _ in range(60):
        health.receive(clock[0])
        clock[0] += 1 / rate
    clock[0] += patience - 1 / rate - 0.01
    assert not health.overdue(0.0)
    clock[0] += 0.02
    assert health.overdue(0.0)


def test_a_camera_that_never_sent_a_frame_is_given_the_whole_time(clock):
    health = StreamDiagnostics(silence=5.0)
    assert not health.overdue(clock[0] - 4.9) and health.overdue(clock[0] - 5.1)
