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

"""What `make demo` runs, with fewer frames."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import cv2
import pytest

DEMO = Path(__file__).resolve().parents[2] / "examples" / "demo.py"

pytestmark = pytest.mark.ros


def test_the_demo_writes_pictures_a_video_and_a_summary(tmp_path):
    result = subprocess.run(
        [sys.executable, DEMO, "--frames", "12", "--rate", "4", "--output", tmp_path / "demo"],
        capture_output=True,
        text=True,
        timeout=200,
    )
    assert result.returncode == 0, result.stderr
    assert [p.name for p in tmp_path.iterdir()] == ["demo"]  # nothing unfinished is left
    summary = json.loads((tmp_path / "demo" / "summary.json").read_text())
    assert summary["frames_processed"] >= 12
    assert summary["frames_sent"] >= summary["frames_processed"] + summary["frames_dropped"]
    assert (summary["width"], summary["height"]) == (640, 360)
    assert (summary["label_encoding"], summary["depth_encoding"]) == ("mono8", "32FC1")
    assert summary["stamps_match"] is True
    assert summary["fps"] > 0 and 0 < summary["latency_ms"]["p50"] <= summary["latency_ms"]["p95"]
    assert 0 < summary["miou"] <= 1 and summary["abs_rel"] > 0
    assert cv2.imread(str(tmp_path / "demo" / "frame_010.png")).shape == (2 * 396, 4 * 640, 3)
    video = cv2.VideoCapture(str(tmp_path / "demo" / "demo.mp4"))
    assert video.get(cv2.CAP_PROP_FRAME_COUNT) == 12
    for name in summary:
        assert name in result.stdout


def test_the_demo_replaces_only_what_a_demo_made(tmp_path):
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "mine.png").touch()
    result = subprocess.run(
        [sys.executable, DEMO, "--output", tmp_path / "photos"],
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert result.returncode == 2 and "is not of an earlier demo" in result.stderr
    assert (tmp_path / "photos" / "mine.png").exists()


def test_a_demo_that_fails_leaves_what_an_earlier_one_made(tmp_path):
    (tmp_path / "demo").mkdir()
    (tmp_path / "demo" / "depthseg.log").touch()
    result = subprocess.run(
        [sys.executable, DEMO, "--rate", "99999", "--output", tmp_path / "demo"],
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert result.returncode == 1 and "camera_node ended" in result.stderr
    assert [path.name for path in (tmp_path / "demo").iterdir()] == ["depthseg.log"]
    assert (tmp_path / "demo-failed" / "camera_node.log").read_text()
    assert "demo-failed/" in result.stdout


def test_ctrl_c_ends_the_demo_and_its_nodes(tmp_path):
    process = subprocess.Popen(
        [sys.executable, DEMO, "--output", tmp_path / "demo"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        start_new_session=True,
        # Where the tests themselves run in a shell's background, SIGINT is ignored from the start.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    )
    deadline = time.monotonic() + 60
    while not list(tmp_path.glob(".demo-*/depthseg.log")) and time.monotonic() < deadline:
        time.sleep(0.05)
    os.killpg(process.pid, signal.SIGINT)  # as a terminal does
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 130 and b"Traceback" not in errors
    assert not list(tmp_path.iterdir())
    with pytest.raises(ProcessLookupError):
        os.killpg(process.pid, 0)  # nobody of them is left


def test_what_consumers_make_of_a_street_is_drawn(tmp_path):
    script, output = DEMO.with_name("consumers.py"), tmp_path / "consumers.png"
    result = subprocess.run(
        [sys.executable, script, output], capture_output=True, text=True, timeout=60
    )
    assert result.returncode == 0 and not result.stderr, result.stderr
    picture = cv2.imread(str(output))
    assert picture.shape == (512, 3 * 480 + 640, 3)
    costs = picture[32:, :480].reshape(-1, 3)
    assert len({tuple(c) for c in costs.tolist()}) >= 4  # unseen, free, costly, lethal
    wrong = subprocess.run([sys.executable, script, tmp_path], capture_output=True, text=True)
    assert wrong.returncode == 2 and "expected a .jpg or .png" in wrong.stderr
