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

"""Subscriptions that follow the publishers over real DDS, and what the node logs about inputs."""

from functools import partial
from pathlib import Path

import cv2
import numpy as np
import pytest

pytest.importorskip("rclpy", reason="needs ROS 2")
pytest.importorskip("depthseg_ros.msg", reason="needs the built package: tools/env.sh pytest")

import rclpy
from ament_index_python.packages import get_package_prefix
from rclpy.parameter import Parameter
from rclpy.qos import (
    QoSDurabilityPolicy,
    QoSProfile,
    qos_profile_sensor_data,
)
from sensor_msgs.msg import CameraInfo, CompressedImage, Image
from std_msgs.msg import Header

from depthseg_ros.imaging.geometry import Intrinsics
from depthseg_ros.node import subscriptions
from depthseg_ros.node.messages import camera_info_message, image_message
from depthseg_ros.node.subscriptions import FollowingSubscription

pytestmark = pytest.mark.ros

RELIABLE, BEST_EFFORT = QoSProfile(depth=5), qos_profile_sensor_data
LATCHED = QoSProfile(depth=1, durability=QoSDurabilityPolicy.TRANSIENT_LOCAL)
DEPTHSEG = Path(get_package_prefix("depthseg_ros"), "lib", "depthseg_ros", "depthseg")


@pytest.fixture
def follower(observer, monkeypatch):
    """Makes a `FollowingSubscription` in the observer's context, and lets it follow."""
    monkeypatch.setattr(subscriptions, "SETTLE", 0.0)
    monkeypatch.setattr(subscriptions, "ALONE", 0.0)
    nodes = []

    def make(kind, *topics, overrides=(), **others):
        node = rclpy.create_node(
            "follower", context=observer.context, parameter_overrides=list(overrides)
        )
        observer._executor.add_node(node)
        nodes.append(node)
        came = []
        return FollowingSubscription(node, kind, topics, came.append, **others), came

    yield make
    for node in nodes:
        observer._executor.remove_node(node)
        node.destroy_node()


def qos_of(observer, topic):
    """Reliability and durability of the follower's subscriptions of a topic."""
    return [
        (each.qos_profile.reliability.name, each.qos_profile.durability.name)
        for each in observer.node.get_subscriptions_info_by_topic(topic)
        if each.node_name == "follower"
    ]


def follows(observer, subscription, topic, *expected):
    def followed():
        subscription.follow()
        return qos_of(observer, topic) == [expected]

    observer.until(followed, lambda: f"{expected}: {qos_of(observer, topic)}")


def test_reliability_follows_the_publishers_as_they_come_and_go(observer, follower):
    publisher, topic = partial(observer.node.create_publisher, Image), "/follow/image"
    subscription, came = follower(Image, topic)
    follows(observer, subscription, topic, "BEST_EFFORT", "VOLATILE")
    first = publisher(topic, RELIABLE)
    follows(observer, subscription, topic, "RELIABLE", "VOLATILE")
    second = publisher(topic, BEST_EFFORT)
    follows(observer, subscription, topic, "BEST_EFFORT", "VOLATILE")

    def heard(sender, name):
        sender.publish(Image(encoding=name))
        return any(message.encoding == name for message in came)

    observer.until(lambda: heard(first, "reliable") and heard(second, "best"), "both")
    observer.node.destroy_publisher(second)
    follows(observer, subscription, topic, "RELIABLE", "VOLATILE")
    before = subscription._subscription
    observer.node.destroy_publisher(first)  # as a driver that is restarted
    observer.until(lambda: not subscription.offers(), "no publisher")
    subscription.follow()
    assert subscription._subscription is before


def test_a_publisher_that_comes_and_goes_causes_no_churn(observer, follower, monkeypatch):
    topic = "/churn/image"
    kept = observer.node.create_publisher(Image, topic, RELIABLE)
    subscription, _ = follower(Image, topic)
    follows(observer, subscription, topic, "RELIABLE", "VOLATILE")
    monkeypatch.setattr(subscriptions, "SETTLE", 1e6)
    other = observer.node.create_publisher(Image, topic, BEST_EFFORT)
    follows(observer, subscription, topic, "BEST_EFFORT", "VOLATILE")  # at once
    observer.node.destroy_publisher(other)
    observer.until(lambda: len(subscription.offers()) == 1, "one publisher")
    subscription.follow()
    assert not subscription.reliable
    observer.node.destroy_publisher(kept)


def test_a_qos_override_wins(observer, follower):
    topic = "/override/image"
    name = f"qos_overrides.{topic}.subscription.reliability"
    publisher = observer.node.create_publisher(Image, topic, RELIABLE)
    subscription, _ = follower(Image, topic, overrides=[Parameter(name, value="best_effort")])
    observer.until(subscription.offers, "the publisher")
    subscription.follow()
    assert not subscription.reliable
    observer.node.destroy_publisher(publisher)


def test_what_was_latched_before_is_received_where_all_publishers_latch(observer, follower):
    topic = "/latched/camera_info"
    publisher = observer.node.create_publisher(CameraInfo, topic, LATCHED)
    publisher.publish(CameraInfo(width=7))
    subscription, came = follower(CameraInfo, topic, latched=True)
    follows(observer, subscription, topic, "RELIABLE", "TRANSIENT_LOCAL")
    observer.until(lambda: came, "the latched message")
    other = observer.node.create_publisher(CameraInfo, topic, RELIABLE)
    follows(observer, subscription, topic, "RELIABLE", "VOLATILE")
    for each in (publisher, other):
        observer.node.destroy_publisher(each)


def test_another_topic_is_used_until_the_preferred_one_has_a_publisher(observer, follower):
    first, second = "/own/camera_info", "/beside/camera_info"
    beside = observer.node.create_publisher(CameraInfo, second, RELIABLE)
    subscription, _ = follower(CameraInfo, first, second)

    def uses(topic):
        subscription.follow()
        return subscription.topic == topic

    observer.until(lambda: uses(second), "the other topic")
    own = observer.node.create_publisher(CameraInfo, first, BEST_EFFORT)
    observer.until(lambda: uses(first), "the preferred topic")
    observer.node.destroy_publisher(own)
    observer.until(lambda: not subscription.offers(), "no publisher")
    assert not subscription.follow()  # back only by a restart of the node
    observer.node.destroy_publisher(beside)


def info():
    return camera_info_message(Intrinsics.from_fov(96, 64, 1.0), Header())


def test_camera_info_beside_the_image_is_found_and_logged(start_depthseg, observer):
    command = [str(DEPTHSEG), "--ros-args", "-r", "image:=/cam/color/image_raw"]
    node = start_depthseg(executable=command)
    for each in (node.image, node.camera_info):
        observer.node.destroy_publisher(each)
    latched = observer.node.create_publisher(CameraInfo, "/cam/color/camera_info", LATCHED)
    latched.publish(info())  # once, before anyone listens
    camera = observer.node.create_publisher(Image, "/cam/color/image_raw", RELIABLE)
    depth_infos = observer.collect(CameraInfo, f"{node.name}/depth/camera_info")
    line = rf"Subscribed to /cam/color/camera_info, because {node.namespace}/camera_info has no pub"
    node.process.says(line)
    pixels = np.zeros((64, 96, 3), np.uint8)

    def calibrated():
        camera.publish(image_message(pixels, "rgb8", Header(frame_id="camera")))
        return depth_infos and depth_infos[-1].k[0] == pytest.approx(info().k[0])

    observer.until(calibrated, f"depth with the camera's focal length\n{node.process.log}")
    node.until_diagnostics(
        lambda: "camera_info" not in node.diagnostics().get("message", "camera_info"), "no warning"
    )
    for each in (latched, camera):
        observer.node.destroy_publisher(each)


@pytest.mark.parametrize(
    ("transport", "cameras"),
    [
        (
            "raw",
            {
                "a": (
                    CompressedImage,
                    "image",
                    "a/image has the type .*CompressedImage.* to compr",
                ),
                "b": (CompressedImage, "image/compressed", "b/image/compressed has .* to compr"),
                "c": (
                    CameraInfo,
                    "image",
                    "has the type sensor_msgs/msg/CameraInfo, expected .*/Image",
                ),
                "d": (
                    Image,
                    "image_raw",
                    "nobody publishes .*; remap 'd/image' .*d/image_raw",
                ),
            },
        ),
        (
            "compressed",
            {
                "e": (Image, "image", "image has the type sensor_msgs/msg/Image.* to raw"),
                "f": (CompressedImage, "image", ""),
            },
        ),
    ],
)
def test_why_no_image_comes_is_logged(start_depthseg, observer, transport, cameras):
    node = start_depthseg(image_transport=transport, cameras=f"[{','.join(cameras)}]")
    nodes, publishers = {}, {}
    for camera, (kind, name, _) in cameras.items():
        nodes[camera] = type(node)(observer, node.process, node.namespace, camera)
        observer.node.destroy_publisher(nodes[camera].image)
        topic = f"{node.namespace}/{camera}/{name}"
        publishers[camera] = observer.node.create_publisher(kind, topic, RELIABLE)
    for camera, (_, _, says) in cameras.items():
        of_camera = nodes[camera]
        if says:
            node.process.says(f"{camera}: No image for 5 s: .*{says}")
            of_camera.until_diagnostics(
                lambda of=of_camera: of.diagnostics().get("message", "").startswith("no images; "),
                "diagnostics",
            )
            continue
        labels = of_camera.collect("label/image")  # found on the image's own topic
        data = cv2.imencode(".jpg", np.zeros((64, 96, 3), np.uint8))[1].tobytes()

        def perceived(camera=camera, data=data, labels=labels):
            header = Header(frame_id="camera")
            message = CompressedImage(header=header, format="jpeg", data=data)
            publishers[camera].publish(message)
            return labels

        observer.until(perceived, f"labels\n{node.process.log}")
    for publisher in publishers.values():
        observer.node.destroy_publisher(publisher)


def test_images_that_are_lost_on_the_way_are_reported(start_depthseg, observer):
    # Without room for whole images in this process's shared memory, as with most drivers.
    node = start_depthseg(image_qos={"reliability": "best_effort"}, max_rate=1.0)
    observer.node.destroy_publisher(node.image)
    publisher = observer.node.create_publisher(Image, node.image.topic, RELIABLE)
    large = image_message(np.zeros((960, 1280, 3), np.uint8), "rgb8", Header(frame_id="camera"))

    def reported():
        publisher.publish(large)
        return node.process.lines("images were lost .*; remove qos_overrides.*its publisher is rel")

    observer.until(reported, f"losses\n{node.process.log}")
    node.until_diagnostics(
        lambda: "were lost" in node.diagnostics()["message"] and node.frames("lost") > 2, "losses"
    )
    observer.node.destroy_publisher(publisher)
