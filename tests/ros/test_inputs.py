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

"""How pictures and models reach the node, and what diagnostics say when they do not."""

import itertools
import re
import time
from functools import cache
from itertools import count
from pathlib import Path

import cv2
import numpy as np
import pytest

pytest.importorskip("rclpy", reason="needs ROS 2")
pytest.importorskip("depthseg_ros.msg", reason="needs the built package: tools/env.sh pytest")

from ament_index_python.packages import get_package_share_directory
from builtin_interfaces.msg import Time
from rclpy.qos import qos_profile_sensor_data
from rosgraph_msgs.msg import Clock
from sensor_msgs.msg import CompressedImage, Image
from std_msgs.msg import Header

from depthseg_ros import street
from depthseg_ros.imaging.geometry import Intrinsics
from depthseg_ros.imaging.images import image_to_rgb, intrinsics
from depthseg_ros.node.messages import camera_info_message, image_message
from depthseg_ros.srv import LoadModel

pytestmark = pytest.mark.ros

WIDTH, HEIGHT = 96, 64
STAMPS = count(1)


def header():
    return Header(stamp=Time(sec=next(STAMPS)), frame_id="camera_optical_frame")


@cache
def image():
    return street.Street(0, WIDTH, HEIGHT).frame(0).image


def info():
    return camera_info_message(Intrinsics.from_fov(WIDTH, HEIGHT, 1.0), Header())


def send_until(node, publisher, make, condition, what):
    """Publish again and again, as the network may lose it."""

    def sent():
        node.observer.until(publisher.get_subscription_count, publisher.topic_name)
        publisher.publish(make())
        return condition()

    return node.observer.until(sent, f"{what}\n{node.process.log}")


@pytest.mark.parametrize("kind", ["jpeg", "png"])
def test_compressed_pictures_are_perceived(start_depthseg, observer, kind):
    node = start_depthseg(image_transport="compressed")
    labels = node.collect("label/image")
    publisher = observer.node.create_publisher(
        CompressedImage, f"{node.namespace}/image/compressed", qos_profile_sensor_data
    )
    _, data = cv2.imencode(f".{kind}", cv2.cvtColor(image(), cv2.COLOR_RGB2BGR))

    def compressed(content=None):
        content = data.tobytes() if content is None else content
        return CompressedImage(
            header=header(), format=f"rgb8; {kind} compressed bgr8", data=content
        )

    send_until(node, publisher, compressed, lambda: labels, "labels")
    assert (labels[0].width, labels[0].height) == (WIDTH, HEIGHT)
    assert labels[0].header.frame_id == "camera_optical_frame"

    # At a part of its size, which only a JPEG can be decoded at.
    told, overlays = node.collect("depth/camera_info"), node.collect("label/overlay")
    assert node.set("output_width", 321).successful
    large = street.Street(0, 1283, 961).frame(0)
    picture = cv2.cvtColor(large.image, cv2.COLOR_RGB2BGR)
    content = cv2.imencode(f".{kind}", picture)[1].tobytes()
    expected = large.intrinsics.scaled(321, 240)

    def sent():
        node.camera_info.publish(camera_info_message(large.intrinsics, header()))
        return compressed(content)

    def come():
        return (
            overlays
            and told
            and told[-1].width == overlays[-1].width == labels[-1].width == 321
            and intrinsics(told[-1]).fx == pytest.approx(expected.fx)
        )

    send_until(node, publisher, sent, come, "small outputs")
    assert (labels[-1].width, labels[-1].height) == (321, 240)
    got = intrinsics(told[-1])
    assert (got.height, got.fx, got.fy) == pytest.approx((240, expected.fx, expected.fy))
    assert (got.cx, got.cy) == pytest.approx((expected.cx, expected.cy))
    shown = image_to_rgb(overlays[-1])[:, 160:].astype(int)  # without the legend
    whole = cv2.resize(large.image, (321, 240), interpolation=cv2.INTER_AREA)[:, 160:].astype(int)
    colours = 2 * shown - whole  # of classes, so where they do not change they stay the same
    assert np.median(np.abs(np.diff(colours, axis=1))) < 20
    send_until(
        node, publisher, lambda: compressed(b"nothing"), lambda: node.frames("rejected"), "refusal"
    )
    assert len(node.process.lines("Rejected a frame")) == 1
    assert "cannot be changed while" in node.set("image_transport", "raw").reason


def test_a_greatest_rate_leaves_pictures_out(start_depthseg):
    node = start_depthseg(max_rate=2.0)
    node.collect("label/image")
    node.send(image_message(image(), "rgb8", header()), info())
    began = time.monotonic()
    while (took := time.monotonic() - began) < 3.0:
        node.send(image_message(image(), "rgb8", header()))
        time.sleep(0.05)
    node.until_diagnostics(
        lambda: node.frames("unwanted") > 20 and node.frames("processed") > 1, "frames left out"
    )
    assert node.frames("processed") <= 2 + took / 0.5


def test_a_greatest_rate_holds_after_a_pause_too(start_depthseg):
    node = start_depthseg(max_rate=0.5)
    labels = node.collect("label/image")
    node.perceive(image_message(image(), "rgb8", header()), info(), labels)
    before = len(labels)
    began = time.monotonic()
    while time.monotonic() - began < 3.0:
        node.send(image_message(image(), "rgb8", header()))
        time.sleep(0.1)
    node.observer.until(lambda: len(labels) > before, "labels")
    stamps = sorted({m.header.stamp.sec + m.header.stamp.nanosec / 1e9 for m in labels})
    assert all(b - a > 1.0 for a, b in itertools.pairwise(stamps)), stamps


def test_a_quality_issue_ends_with_the_subscription_and_with_the_camera(start_depthseg, observer):
    node = start_depthseg(deadline=20.0)
    labels = node.collect("label/image")
    dark = np.zeros_like(image())

    def reports(poor):
        return lambda: ("poor image quality" in node.diagnostics().get("message", "")) == poor

    def poor_quality():
        node.send(image_message(dark, "rgb8", header()), info())
        return reports(True)()

    node.until_diagnostics(poor_quality, "the issue")
    node.until_diagnostics(reports(False), "that nothing is known of a camera that is gone")
    node.until_diagnostics(poor_quality, "the issue")
    for subscription in list(observer.node.subscriptions):
        if subscription.topic_name == f"{node.name}/label/image":
            observer.node.destroy_subscription(subscription)

    def certain():
        node.send(image_message(dark, "rgb8", header()), info())
        return reports(False)()

    node.until_diagnostics(certain, "that nobody looks any more")
    assert len(labels) > 0
    assert "input [Hz]" in node.diagnostics() and "output [Hz]" in node.diagnostics()


def test_a_publisher_whose_qos_does_not_fit_is_named(start_depthseg, observer):
    node = start_depthseg(image_qos={"reliability": "reliable"})  # its publisher is best effort
    node.process.says(r"camera0?[0-9]*/image: a publisher has incompatible QoS \(reliability\)")
    node.until_diagnostics(
        lambda: "incompatible QoS (reliability)" in node.diagnostics().get("message", ""),
        "a warning",
    )

    def silent_and_why():  # after some seconds still
        said = node.diagnostics().get("message", "")
        return said.startswith("no images") and "incompatible QoS (reliability)" in said

    node.until_diagnostics(silent_and_why, "both")
    observer.node.destroy_publisher(node.image)
    node.image = observer.node.create_publisher(Image, node.image.topic, 5)
    labels = node.collect("label/image")
    node.perceive(image_message(image(), "rgb8", header()), info(), labels)
    node.until_diagnostics(
        lambda: "incompatible" not in node.diagnostics()["message"], "no warning"
    )


def test_diagnostics_say_that_every_frame_is_rejected(start_depthseg):
    node = start_depthseg()
    node.collect("label/image")

    def rejected():
        node.send(image_message(image()[..., :1], "odd", header()), info())
        return node.diagnostics().get("message", "").startswith("all frames are rejected: unknown")

    node.until_diagnostics(rejected, "a warning")


def test_a_missing_camera_info_is_a_warning_until_it_comes(start_depthseg):
    node = start_depthseg(precision="fp32")
    labels = node.collect("label/image")
    node.perceive(image_message(image(), "rgb8", header()), None, labels)
    node.until_diagnostics(
        lambda: "assuming a horizontal field of view" in node.diagnostics().get("message", ""),
        "a warning",
    )
    node.camera_info.publish(info())  # that it comes is enough
    node.until_diagnostics(lambda: "camera_info" not in node.diagnostics()["message"], "no warning")
    node.perceive(image_message(image(), "rgb8", header()), info(), labels)
    values = node.diagnostics()
    assert values["precision"] == "fp32" and values["model file"].endswith("street.onnx")
    assert float(values["last frame [s ago]"]) >= 0


def test_in_a_simulation_ages_are_its_own_and_a_jump_of_its_clock_is_told(start_depthseg, observer):
    node = start_depthseg(use_sim_time="true")
    labels = node.collect("label/image")
    clock = observer.node.create_publisher(Clock, "/clock", 10)
    clock.publish(Clock(clock=Time(sec=100)))

    def seen_at(seconds, stamp):
        def frame():
            clock.publish(Clock(clock=Time(sec=seconds)))
            stamped = Header(stamp=Time(sec=stamp), frame_id="camera")
            node.camera_info.publish(info())
            return image_message(image(), "rgb8", stamped)

        before = len(labels)
        send_until(node, node.image, frame, lambda: len(labels) > before + 3, "labels")

    seen_at(100, 98)
    node.until_diagnostics(
        lambda: 1900 < float(node.diagnostics().get("age [ms]", "nan")) < 4000, "the age"
    )
    assert not node.process.lines("The clock jumped")  # its first word is no jump
    seen_at(40, 39)
    node.process.says(r"The clock jumped by -60\.0 s")
    node.until_diagnostics(
        lambda: "clock jumped" in node.diagnostics().get("message", ""), "a warning"
    )


def test_another_model_is_loaded_while_the_camera_goes_on(start_depthseg, observer):
    node = start_depthseg()
    node.process.says("Model street on")
    street_model = f"{get_package_share_directory('depthseg_ros')}/models/street.onnx"
    indoor = f"{get_package_share_directory('depthseg_ros')}/models/indoor.onnx"
    depth = node.collect("depth/image")
    picture = lambda: image_message(image(), "rgb8", header())  # noqa: E731
    node.perceive(picture(), info(), depth)

    def load(**request):
        return observer.call(LoadModel, f"{node.name}/load_model", LoadModel.Request(**request))

    topics = lambda: dict(observer.node.get_topic_names_and_types())  # noqa: E731
    response = load(model="indoor", backend="onnxruntime")
    assert response.success, response.message
    assert "Model indoor on onnxruntime" in response.message
    assert node.get("model") == "indoor" and node.get("backend") == "onnxruntime"
    node.perceive(picture(), info(), depth)
    observer.until(lambda: f"{node.name}/label/image" not in topics(), "no labels")
    for request, says in (
        ({"model": "/none.onnx"}, "there is no model file /none.onnx"),
        (
            {"model": "kitchen"},
            "there is no model file kitchen; the package has indoor, street",
        ),
        ({"model": street_model, "backend": "abacus"}, "backend is 'abacus', expected one of"),
    ):
        response = load(**request)
        assert not response.success and says in response.message
    node.perceive(picture(), info(), depth)  # the old one goes on
    assert load(model="").success
    labels = node.collect("label/image")
    node.perceive(picture(), info(), depth, labels)
    assert node.state() == "active" and node.get("model") == ""
    assert node.change("deactivate") and node.change("cleanup")
    response = load(model=indoor)
    assert not response.success and "no model is loaded" in response.message
    assert len(node.process.lines("Model not loaded")) == 4


def test_outputs_that_cannot_be_announced_leave_the_old_model_in_place(
    start_depthseg, start_process, observer
):
    models = f"{get_package_share_directory('depthseg_ros')}/models"
    # Started once for its namespace, which the override names.
    node = start_depthseg(model=f"{models}/indoor.onnx")
    node.process.says("Model indoor on")
    name = f"qos_overrides.{node.name}/label/image.publisher.reliability"
    node.process.stop()
    command = [*node.process.process.args, "-p", f"{name}:=nonsense"]
    again = type(node)(observer, start_process(command), node.namespace)
    again.process.says("Model indoor on")
    depth = again.collect("depth/image")
    again.perceive(image_message(image(), "rgb8", header()), info(), depth)
    response = observer.call(LoadModel, f"{node.name}/load_model", LoadModel.Request())
    assert not response.success and "nonsense" in response.message
    again.perceive(image_message(image(), "rgb8", header()), info(), depth)
    assert not observer.node.count_publishers(f"{node.name}/label/image")
    assert again.process.stop() == 0


@pytest.mark.parametrize("seconds", [0.0, 0.05, 0.15, 0.3])
def test_a_signal_while_a_model_is_loaded_ends_the_node_in_order(start_depthseg, observer, seconds):
    node = start_depthseg()
    node.process.says("Model street on")
    client = observer.node.create_client(LoadModel, f"{node.name}/load_model")
    observer.until(client.service_is_ready, "the service")
    client.call_async(LoadModel.Request())
    time.sleep(seconds)
    assert node.process.stop() == 0
    observer.node.destroy_client(client)


def test_the_memory_of_a_very_large_image_is_released(start_depthseg):
    node = start_depthseg(deadline=60.0)
    node.observer.node.destroy_publisher(node.image)
    node.image = node.observer.node.create_publisher(Image, node.image.topic, 5)  # reliable
    outputs = [node.collect(name) for name in ("label/image", "depth/image")]

    def perceive(times, width, height):
        pixels = np.zeros((height, width, 3), np.uint8)
        camera = camera_info_message(Intrinsics.from_fov(width, height, 1.0), Header())
        for _ in range(times):
            node.perceive(image_message(pixels, "rgb8", header()), camera, *outputs)

    def resident():
        status = Path(f"/proc/{node.process.process.pid}/status").read_text()
        return int(re.search(r"VmRSS:\s+(\d+) kB", status)[1]) / 1e3

    perceive(10, 640, 480)
    before = resident()
    # Of the first shape, the graph gets the whole image, of the second a reduced one.
    for (width, height), held in (((3600, 2800), 300), ((4000, 3000), 60)):
        perceive(1, width, height)
        large = resident()
        perceive(10, 640, 480)
        after = resident()
        assert large > before + held  # MB: what there is to release
        assert after < before + held / 3, (before, large, after)
