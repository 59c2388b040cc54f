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

import rclpy
from builtin_interfaces.msg import Time
from sensor_msgs.msg import Image
from std_msgs.msg import Header

from depthseg_ros.model_card import default_model, read
from depthseg_ros.node import live

pytestmark = pytest.mark.ros


def view(model, *arguments):
    command = [sys.executable, "-m", "depthseg_ros.cli.main", "view", model, *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True)


@pytest.mark.parametrize("model", ["street", "indoor"])  # which has no classes
def test_a_node_is_viewed_by_its_topics(start, tmp_path, model):
    node = f"/viewed_{model}"
    start("camera_node", node, rate=5.0, width=160, height=120)
    start("depthseg", node, model=str(default_model().with_stem(model)))
    recording = tmp_path / "node.rrd"
    done = view(
        model, f"topic:{node}/depthseg", "--image-topic", f"{node}/image", "--frames", 2,
        "--save", recording,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    command = [sys.executable, "-m", "rerun", "rrd", "stats", str(recording)]
    shown = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    assert ("/camera/labels: " in shown) == (model == "street") and "/points: " in shown


def test_a_bag_that_begins_anew_is_viewed_as_before():
    def header(stamp):
        return Header(stamp=Time(sec=stamp))

    rclpy.init()
    listener = live._Listener("/none", "image", read(default_model()))
    try:
        for _ in range(2):
            seen = 0
            for stamp in range(100, 200):
                listener._on_message("image", Image(header=header(stamp)))
                if stamp < 170:  # of the last ones no outputs come before the end
                    for name in ("label/image", "depth/image", "depth/camera_info"):
                        listener._on_message(name, Image(header=header(stamp)))
                seen += listener.complete is not None
                listener.complete = None
            assert seen == 70
    finally:
        listener.destroy_node()
        rclpy.shutdown()
