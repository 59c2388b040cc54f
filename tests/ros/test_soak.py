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

"""What `make soak` runs, with small pictures and for seconds."""

import csv
import json
import signal
import subprocess
import sys
import time
from pathlib import Path

import cv2
import pytest

pytest.importorskip("rclpy", reason="needs ROS 2")
pytest.importorskip("depthseg_ros.msg", reason="needs the built package: tools/env.sh pytest")

ROOT = Path(__file__).parents[2]
sys.path.append(str(ROOT / "benchmarks" / "node"))  # as of the scripts there
import soak  # noqa: E402

pytestmark = pytest.mark.ros


def start(folder, *arguments):
    command = [sys.executable, "-m", "benchmarks.soak", "--output", str(folder), *arguments]
    return subprocess.Popen(
        [*command, "--size", "96x64"],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        # Where the tests themselves run in a shell's background, SIGINT is ignored from the start.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    )


def test_seconds_of_soaking_give_a_table_and_a_figure_and_grow_no_descriptors_or_threads(tmp_path):
    process = start(tmp_path / "soak", "--seconds", "12", "--json")
    said, errors = process.communicate(timeout=120)
    assert process.returncode == 0, errors
    result = json.loads(said)
    assert result["frames"]["processed"] > 0 and result["frames"]["failed"] == 0
    for name in ("node descriptors", "node threads"):
        values = result["values"][name]
        assert values["start"] == values["end"] > 0
    with (tmp_path / "soak" / "soak.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert len(rows) > 5  # one a second, where the machine has time for it
    assert all(float(row["node RSS [MB]"]) > 50 for row in rows)
    assert cv2.imread(str(tmp_path / "soak" / "soak.png")).std() > 5
    assert len(list((tmp_path / "soak").iterdir())) == 2  # nothing unfinished is left


def test_ctrl_c_keeps_the_table_as_far_as_it_came(tmp_path):
    process = start(tmp_path, "--seconds", "600")
    end = time.monotonic() + 60
    while not any(p.stat().st_size for p in tmp_path.iterdir()) and time.monotonic() < end:
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 130 and "Traceback" not in errors
    assert [path.name for path in tmp_path.iterdir()] == ["soak.csv"]
    with (tmp_path / "soak.csv").open() as file:
        assert float(next(csv.DictReader(file))["time [s]"]) > 0


def rows_of(seconds, **end):
    """Rows of a run in which all stands still but for what grows steadily to another end."""
    names = (*soak.JUDGED, *soak.REPORTED, *(f"frames {name}" for name in soak.COUNTS))
    still = dict.fromkeys(names, 100.0) | {"frames rejected": 0.0, "frames failed": 0.0}
    for second in range(1, seconds + 1):
        grown = {name: 100 + (value - 100) * second / seconds for name, value in end.items()}
        yield still | grown | {"time [s]": float(second)}


@pytest.mark.parametrize(
    ("seconds", "end", "faults"),
    [
        (600, {}, []),
        (600, {"node RSS [MB]": 101.0}, []),
        (600, {"node RSS [MB]": 103.0}, ["node RSS [MB] grew"]),
        (60, {"node RSS [MB]": 103.0}, []),  # the allocator's own warm-up
        (60, {"node threads": 110.0}, ["node threads grew"]),
        (600, {"latency [ms]": 200.0, "camera RSS [MB]": 200.0}, []),  # told, not judged
        (600, {"frames failed": 2.0}, ["2 frames failed"]),
    ],
)
def test_what_grows_by_more_than_a_hundredth_is_a_fault(seconds, end, faults):
    result = soak.judge(list(rows_of(seconds, **end)), float(seconds))
    assert result["faults"] == faults
    assert set(result["above_bound"]) <= set(end)
