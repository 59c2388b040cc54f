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

"""The node's states: what it holds, hears and says in each."""

from itertools import count

import numpy as np
import pytest

pytest.importorskip("rclpy", reason="needs ROS 2")
pytest.importorskip("depthseg_ros.msg", reason="needs the built package: tools/env.sh pytest")

from ament_index_python.packages import get_package_share_directory
from builtin_interfaces.msg import Time
from lifecycle_msgs.msg import Transition
from lifecycle_msgs.srv import ChangeState
from std_msgs.msg import Header

from depthseg_ros.node.messages import image_message

pytestmark = pytest.mark.ros

STAMPS = count(1)


def frame():
    header = Header(stamp=Time(sec=next(STAMPS)), frame_id="camera")
    return image_message(np.zeros((48, 64, 3), np.uint8), "rgb8", header)


def says(node, message):
    return node.diagnostics().get("message") == message


def exists(node, topic):
    return node.observer.node.count_publishers(f"{node.name}/{topic}") > 0


def test_the_node_works_only_while_it_is_active(start_depthseg, observer):
    node = start_depthseg(autostart=False)
    assert node.state() == "unconfigured"
    assert not exists(node, "label/image")

    assert node.change("configure")
    assert node.state() == "inactive"
    labels = node.collect("label/image")
    assert node.image.get_subscription_count() == 0

    for _ in range(2):
        assert node.change("activate")
        assert node.state() == "active"
        node.perceive(frame(), None, labels)

        assert node.change("deactivate")
        assert node.state() == "inactive"
        observer.until(lambda: node.image.get_subscription_count() == 0, "the camera left alone")
        came = len(labels)
        node.image.publish(frame())
        node.until_diagnostics(lambda: says(node, "inactive"), "diagnostics")
        assert len(labels) == came

    assert not node.set("threads", 1).successful
    assert node.change("cleanup")
    assert node.state() == "unconfigured"
    observer.until(lambda: not exists(node, "label/image"), "no outputs")
    assert node.set("threads", 1).successful
    assert not node.change("activate")

    assert node.change("configure")
    assert node.change("activate")
    node.perceive(frame(), None, labels)
    assert node.change("shutdown")
    assert node.state() == "finalized"
    assert node.process.stop() == 0


def test_a_wrong_model_is_one_line_and_can_be_mended(start_depthseg, tmp_path):
    model = tmp_path / "model.onnx"
    node = start_depthseg(model=model)
    (line,) = node.process.says("Cannot configure")
    assert f"there is no model file {model}" in line
    assert "ros2 lifecycle set /camera1/depthseg configure" in line
    assert node.state() == "unconfigured"

    model.write_text("no model")
    assert not node.change("configure")
    assert len(node.process.lines("not an ONNX file")) == 1

    default = f"{get_package_share_directory('depthseg_ros')}/models/street.onnx"
    assert node.set("model", default).successful
    assert node.set("providers", ["NoSuchProvider"]).successful
    assert not node.change("configure")
    assert len(node.process.lines("no provider NoSuchProvider")) == 1

    assert node.set("providers", [""]).successful
    assert not node.set("backend", "abacus").successful
    assert node.change("configure")
    assert node.change("activate")
    node.perceive(frame(), None, node.collect("label/image"))
    assert len(node.process.lines("Cannot configure")) == 3


def test_wrong_qos_overrides_are_said(start_depthseg):
    node = start_depthseg(image_qos={"reliability": "perhaps"})
    (line,) = node.process.says("Cannot activate")
    assert "perhaps" in line
    assert node.state() == "inactive"


def test_a_transition_by_number_that_the_state_has_not_is_refused(start_depthseg, observer):
    node = start_depthseg(autostart=False)
    for number in (Transition.TRANSITION_ACTIVATE, Transition.TRANSITION_CLEANUP, 99):
        request = ChangeState.Request(transition=Transition(id=number))
        response = observer.call(ChangeState, f"{node.name}/change_state", request, again=True)
        assert not response.success
    assert node.process.lines(r"ERROR.*transition 3\b")  # ours, or from Kilted on rclpy's
    assert node.state() == "unconfigured"
    assert node.change("configure")
