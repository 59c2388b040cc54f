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

"""`depthseg view` of a node that runs."""

import subprocess
import sys

import pytest

pytest.importorskip("rclpy", reason="needs ROS 2")
pytest.importorskip("depthseg_ros.msg", reason="needs the built package: tools/env.sh pytest")
pytest.importorskip("rerun", reason="needs rerun-sdk")

pytestmark = pytest.mark.ros


def view(*arguments):
    command = [sys.executable, "-m", "depthseg_ros.cli", "view", "street", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True)


def test_a_node_is_viewed_by_its_topics(start, tmp_path):
    start("camera_node", "/viewed", rate=5.0, width=160, height=120)
    start("depthseg", "/viewed")
    recording = tmp_path / "node.rrd"
    done = view(
        "topic:/viewed/depthseg", "--image-topic", "/viewed/image", "--frames", 2,
        "--save", recording,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    command = [sys.executable, "-m", "rerun", "rrd", "stats", str(recording)]
    shown = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    assert "/camera/labels: " in shown and "/points: " in shown
