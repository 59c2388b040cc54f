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

"""Who may do what: the SROS2 policy is what the nodes open, and an engine is the user's choice."""

import importlib.util
import os
import xml.etree.ElementTree as ElementTree
from pathlib import Path

import pytest

pytest.importorskip("rclpy", reason="needs ROS 2")
pytest.importorskip("depthseg_ros.msg", reason="needs the built package: tools/env.sh pytest")

from rclpy.node import NodeNameNonExistentError

from depthseg_ros.srv import LoadModel

pytestmark = pytest.mark.ros

POLICY = Path(__file__).parents[2] / "config" / "sros2_policy.xml"
# SROS2's schema: the rights that a list of names may have.
RIGHTS = {"topics": {"publish", "subscribe"}, "services": {"reply", "request"}}
NOT_HERE = set()
"""What the nodes would open of a ROS 2 that has more than the one that is here."""
if importlib.util.find_spec("tf2_ros") is None:
    NOT_HERE |= {("subscribe", "/tf"), ("subscribe", "/tf_static")}
if importlib.util.find_spec("type_description_interfaces") is None:  # Humble
    NOT_HERE |= {("reply", f"/{name}/get_type_description") for name in ("depthseg", "camera")}


def profile(name):
    (found,) = ElementTree.parse(POLICY).iterfind(f".//profile[@node='{name}']")
    return found


def allowed(name):
    """The rights that the policy gives to a node: (right, full name)."""
    of_node = profile(name)
    assert of_node.get("ns") == "/"
    return {
        (right, entry.text.replace("~", f"/{name}") if entry.text[0] in "~/" else f"/{entry.text}")
        for entries in of_node
        for right in entries.attrib
        for entry in entries
    }


def opened(observer, name, namespace):
    """The rights that a node needs now, as if it had no namespace: (right, full name)."""
    graph = observer.node
    found = set()
    for right, ask in {
        "publish": graph.get_publisher_names_and_types_by_node,
        "subscribe": graph.get_subscriber_names_and_types_by_node,
        "reply": graph.get_service_names_and_types_by_node,
        "request": graph.get_client_names_and_types_by_node,
    }.items():
        try:
            found |= {(right, full) for full, _ in ask(name, namespace)}
        except NodeNameNonExistentError:  # not discovered yet
            return set()
    return {(right, full.removeprefix(namespace)) for right, full in found}


def test_the_policy_is_of_the_form_that_sros2_reads():
    policy = ElementTree.parse(POLICY).getroot()
    assert (policy.tag, policy.attrib) == ("policy", {"version": "0.2.0"})
    (enclaves,) = policy
    for enclave in enclaves:
        assert (enclave.tag, *enclave.attrib) == ("enclave", "path")
        (profiles,) = enclave
        assert [p.tag for p in profiles] == ["profile"] and profiles.tag == "profiles"
        for entries in profiles[0]:
            assert set(entries.attrib) <= RIGHTS[entries.tag]
            assert set(entries.attrib.values()) == {"ALLOW"}
            names = [entry.text for entry in entries]
            assert {entry.tag for entry in entries} == {entries.tag.removesuffix("s")}
            assert not any("*" in name or name.strip() != name for name in names)


def test_the_policy_allows_what_the_node_opens_in_any_state_and_nothing_else(
    start_depthseg, observer
):
    raw = start_depthseg(autostart=False, use_sim_time=True, ground="tf")
    compressed = start_depthseg(image_transport="compressed")
    needed = set()

    def until(node, what, condition):
        def asked():
            now = opened(observer, "depthseg", node.namespace)
            needed.update(now)
            return condition(now)

        observer.until(asked, f"{what}: {sorted(needed ^ allowed('depthseg'))}")

    until(raw, "unconfigured", lambda now: ("reply", "/depthseg/load_model") in now)
    assert raw.change("configure")
    until(raw, "configured", lambda now: ("publish", "/depthseg/class_distances") in now)
    assert raw.change("activate")
    until(raw, "active", lambda now: ("subscribe", "/image") in now)
    compressed.process.says("Model street on onnxruntime")
    until(compressed, "compressed", lambda now: ("subscribe", "/image/compressed") in now)
    until(raw, "all that is allowed", lambda _: needed >= allowed("depthseg") - NOT_HERE)
    assert needed <= allowed("depthseg")


def test_the_policy_allows_what_the_camera_opens_and_nothing_else(start, observer):
    start("camera_node", "/secured", use_sim_time=True, odom_frame_id="odom", cmd_vel_timeout=0.5)
    wanted = allowed("camera") - NOT_HERE
    observer.until(lambda: opened(observer, "camera", "/secured") >= wanted, str(wanted))
    assert opened(observer, "camera", "/secured") == wanted


def test_no_engine_is_run_that_was_not_named_at_the_start(start_depthseg):
    node = start_depthseg(autostart=False, engine="/mine.engine")
    refused = node.set("engine", "/another.engine")
    assert not refused.successful
    assert refused.reason == (
        "engine is '/another.engine': an engine contains code, so the node only runs the"
        " engine that it was started with; restart the node with this one"
    )
    assert node.get("engine") == "/mine.engine"
    assert node.set("engine", "").successful
    assert not node.set("engine", "/another.engine").successful
    assert node.set("engine", "/mine.engine").successful


def test_what_is_no_regular_file_is_not_opened_as_a_model(start_depthseg, observer, tmp_path):
    node = start_depthseg()
    node.process.says("Model street on onnxruntime")
    os.mkfifo(tmp_path / "pipe")  # whoever opened it would wait for ever
    for path in ("/dev/zero", str(tmp_path), str(tmp_path / "pipe")):
        request = LoadModel.Request(model=path)
        response = observer.call(LoadModel, f"{node.name}/load_model", request, again=True)
        assert (response.success, response.message) == (False, f"there is no model file {path}")
