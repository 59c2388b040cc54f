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

"""The node and TensorRT, as far as that goes without a GPU."""

import sys

import numpy as np
import pytest

pytest.importorskip("rclpy", reason="needs ROS 2")
pytest.importorskip("depthseg_ros.msg", reason="needs the built package: tools/env.sh pytest")
pytest.importorskip("tensorrt_rtx", reason="needs TensorRT for RTX: pip install .[tensorrt-rtx]")

from std_msgs.msg import Header

from depthseg_ros.backends import why_not
from depthseg_ros.node.messages import image_message

pytestmark = [
    pytest.mark.ros,
    pytest.mark.skipif(
        not why_not("tensorrt_rtx"), reason="says what is the case without an NVIDIA GPU"
    ),
]


def test_without_a_gpu_the_node_refuses_to_configure_and_can_be_mended(start_depthseg):
    node = start_depthseg(backend="tensorrt_rtx")
    (line,) = node.process.says("Cannot configure")
    assert "there is no NVIDIA driver here" in line
    assert node.state() == "unconfigured"
    assert node.set("backend", "auto").successful
    assert node.change("configure")
    (line,) = node.process.says("Model street on onnxruntime")
    assert "not tensorrt_rtx: there is no NVIDIA driver here" in line


def test_an_engine_of_another_backend_is_refused(start_depthseg):
    node = start_depthseg(backend="onnxruntime", engine="/none.engine")
    node.process.says(
        "Cannot configure: engine is only for TensorRT, but the backend is onnxruntime"
    )
    assert node.set("engine", "").successful and node.change("configure")
    assert not node.set("engine", "/other.engine").successful


COMPILING = """
import contextlib, sys, time
from depthseg_ros.node import node
from depthseg_ros.backends import tensorrt

class NoDevice:  # only opened; compiling needs none
    name, compute_capability, library, stream = "no GPU", "8.6", "none", 0
    active = contextlib.nullcontext
    close = lambda self: None
    memory = lambda self: (500_000_000, 8_000_000_000)

class Slowly(tensorrt.TensorRtBackend):
    def _on_progress(self, share, phase):
        time.sleep(0.2)
        return super()._on_progress(share, phase)

tensorrt.TensorRtBackend = Slowly
tensorrt.why_not, tensorrt.open_device = lambda flavour: "", NoDevice
sys.exit(node.main())
"""


def test_while_an_engine_is_compiled_the_node_says_so_and_obeys(
    start_depthseg, tmp_path, monkeypatch
):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    program = [sys.executable, "-c", COMPILING]
    node = start_depthseg(executable=program, backend="tensorrt_rtx")
    node.collect("label/image")
    node.process.says("The first image waits until its engine is compiled")
    picture = image_message(np.zeros((1080, 1920, 3), np.uint8), "rgb8", Header())

    def compiling():
        node.send(picture)  # again and again, as the network may lose it
        return node.diagnostics().get("message", "").startswith("compiling, ")

    node.until_diagnostics(compiling, "compiling")
    values = node.diagnostics()
    assert (values["GPU memory used [MB]"], values["GPU memory [MB]"]) == ("500", "8000")
    assert node.set("overlay_opacity", 0.2).successful and node.state() == "active"
    assert node.change("deactivate") and node.state() == "inactive"
    node.process.says("the compilation was stopped")
    assert not list(tmp_path.rglob("*.engine"))
