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

"""A node that is sent nonsense over DDS goes on, counts it, and does not grow."""

import time

import cv2
import hypothesis
import hypothesis.strategies as st
import pytest

pytest.importorskip("rclpy", reason="needs ROS 2")
pytest.importorskip("depthseg_ros.msg", reason="needs the built package: tools/env.sh pytest")

from builtin_interfaces.msg import Time
from rclpy.qos import qos_profile_sensor_data
from sensor_msgs.msg import CameraInfo, CompressedImage, Image, RegionOfInterest
from std_msgs.msg import Header

from depthseg_ros import street
from depthseg_ros.imaging.geometry import Intrinsics
from depthseg_ros.node.messages import camera_info_message, image_message
from tests.fuzz.hostile import camera_infos, compressed_images, images, texts
from tests.fuzz.property import LINE, LONG, RESULTS, examples, memory

pytestmark = pytest.mark.ros

WIDTH, HEIGHT = 96, 64
COUNT = 500 if LONG else 60
"""Messages of each kind, sent three times: the first two fill caches."""
GROWTH = 64.0
"""MB that the node may grow by when it is sent all of them once more."""
PACE = 0.01
"""Seconds between messages: a node looks at a camera's newest picture alone."""

headers = st.builds(
    Header,
    stamp=st.builds(
        Time,
        sec=st.sampled_from([0, 1, 10, -5, 2**31 - 1, -(2**31)]),
        nanosec=st.sampled_from([0, 5, 10**9, 2**32 - 1]),
    ),
    frame_id=texts,
)


def of_ros(kind, header, fields):
    """A message of ROS with the fields that were generated."""
    values = dict(vars(fields))
    if kind is CameraInfo:
        values["roi"] = RegionOfInterest(**vars(fields.roi))
    return kind(header=header, **values)


@pytest.mark.parametrize("transport", ["raw", "compressed"])
def test_a_node_outlives_nonsense(transport, start_depthseg, observer):
    node = start_depthseg(image_transport=transport)
    labels = node.collect("label/image")
    for name in ("depth/image", "points", "class_distances"):
        node.collect(name)
    rgb = street.Street(0, WIDTH, HEIGHT).frame(0).image
    info = camera_info_message(Intrinsics.from_fov(WIDTH, HEIGHT, 1.0), Header())
    kind, topic = Image, f"{node.namespace}/image"
    if transport == "compressed":
        kind, topic = CompressedImage, f"{topic}/compressed"
        data = cv2.imencode(".png", rgb[..., ::-1])[1].tobytes()
    publisher = observer.node.create_publisher(kind, topic, qos_profile_sensor_data)
    observer.until(publisher.get_subscription_count, topic)

    def send_good(stamp):
        """Until its labels come: the network may lose it."""
        header = Header(stamp=Time(sec=stamp), frame_id="camera")
        if transport == "raw":
            good = image_message(rgb, "rgb8", header)
        else:
            good = CompressedImage(header=header, format="rgb8; png", data=data)

        def came():
            node.camera_info.publish(info)
            publisher.publish(good)
            return any(message.header.stamp.sec == stamp for message in labels)

        observer.until(came, f"labels of a good picture\n{node.process.log}")

    @examples(COUNT)
    @hypothesis.given(
        images() if transport == "raw" else compressed_images(), camera_infos(), headers
    )
    def send_all(fields, camera, header):
        if header.stamp.sec % 2 == 0:
            node.camera_info.publish(of_ros(CameraInfo, header, camera))
        publisher.publish(of_ros(kind, header, fields))
        time.sleep(PACE)

    send_good(100)
    for _ in range(2):
        send_all()
    send_good(200)
    before = memory(node.process.process.pid)
    send_all()
    send_good(300)
    grown = memory(node.process.process.pid) - before
    node.until_diagnostics(lambda: node.frames("rejected") > COUNT / 2, "frames rejected")
    assert node.frames("failed") == 0
    assert all(len(line) < 2 * LINE for line in node.process.log.splitlines())
    assert "Traceback" not in node.process.log
    assert grown < GROWTH, grown
    RESULTS.append(
        {
            "what": f"node, {kind.__name__} over DDS",
            "tried": node.frames("received"),
            "refused": node.frames("rejected"),
            "crashes": node.frames("failed"),
            "growth_mb": round(grown, 1),
        }
    )
