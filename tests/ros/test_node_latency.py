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

"""The benchmark of the whole node, as its users call it."""

import json
import math
import shlex
import subprocess
import sys
from pathlib import Path

import cv2
import pytest

pytest.importorskip("rclpy", reason="needs ROS 2")
pytest.importorskip("depthseg_ros.msg", reason="needs the built package: tools/env.sh pytest")

from benchmarks import plot, run
from depthseg_ros import model_card
from training.errors import TrainingError

pytestmark = pytest.mark.ros

ROOT = Path(__file__).parents[2]


def node_latency(*arguments):
    return subprocess.run(
        [sys.executable, "-m", "benchmarks.node_latency", *arguments],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=240,
    )


def test_every_stage_is_measured_beside_other_nodes_with_two_cameras_and_drawn(tmp_path):
    peer = shlex.join([str(ROOT / "benchmarks/node/plain.py"), "/benchmark", "MODEL", "auto", "1"])
    outcome = node_latency(
        *("--seconds", "3", "--rate", "2", "--sizes", "96x64", "--cameras", "2", "--json"),
        *("--outputs", "label/image", "depth/image", "--parameter", "output_width:=48"),
        *("--against", peer.replace("MODEL", str(model_card.default_model()))),
    )
    assert outcome.returncode == 0, outcome.stderr
    [results] = json.loads(outcome.stdout)
    peer = results["against"]
    assert peer["cpu_ms"] > 0 and peer["end_to_end_ms"]["p50"] > 0 and peer["peak_rss_mb"] > 50
    stages = results["stages_ms"]
    assert set(stages) == {"take", "wait", "convert", "infer", "derive", "publish"}
    figures = [results[name] for name in ("network_ms", "overhead_ms", "plain_overhead_ms")]
    figures += [*stages.values(), *results["end_to_end_ms"].values(), *results["age_ms"].values()]
    assert all(math.isfinite(figure) and figure > 0 for figure in figures)
    assert results["peak_rss_mb"] > 50
    cameras = results["cameras"]
    assert cameras["one_node"]["frames_per_second"] > 0
    assert cameras["memory_ratio"] < 0.8  # one model, one interpreter

    printed, picture = tmp_path / "latency.json", tmp_path / "figures" / "latency.png"
    printed.write_text(outcome.stdout)
    plot.main([str(printed), "--output", str(picture)])
    assert cv2.imread(str(picture)).std() > 5
    printed.write_text("[{}]")
    with pytest.raises(TrainingError, match=r"latency.json is not what .*node_latency"):
        plot.main([str(printed), "--output", str(picture)])


def test_a_missing_model_is_one_line():
    outcome = node_latency("--model", "none.onnx")
    assert outcome.returncode == 2
    assert "there is no model file none.onnx" in outcome.stderr


def test_what_a_benchmark_cannot_do_is_one_line_and_its_exit_code(capsys):
    def fail():
        raise TrainingError("no such data")

    assert run("backends", fail) == 1
    assert capsys.readouterr().err == "backends: no such data\n"


def test_every_output_is_timed_beside_the_network():
    command = [sys.executable, ROOT / "benchmarks/node/outputs.py", "--rounds", "2", "--json"]
    outcome = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert outcome.returncode == 0, outcome.stderr
    results = json.loads(outcome.stdout)
    assert {"the network", "points", "scan", "ground", "label/overlay"} <= set(results)
    assert all(result["ms"] > 0 for result in results.values())
    assert results["the network"]["of_the_network"] == 1
