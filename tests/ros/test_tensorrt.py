"""The node and TensorRT, as far as that goes without a GPU."""

import pytest

pytest.importorskip("rclpy", reason="needs ROS 2")
pytest.importorskip("depthseg_ros.msg", reason="needs the built package: tools/env.sh pytest")
pytest.importorskip("tensorrt_rtx", reason="needs TensorRT for RTX: pip install .[tensorrt-rtx]")

from depthseg_ros.backends import why_not

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
    node.process.says("Cannot configure: an engine is TensorRT's; onnxruntime takes none")
    assert node.set("engine", "").successful and node.change("configure")
    assert not node.set("engine", "/other.engine").successful
