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

"""What examples/record.py writes of real topics, read back by rosbags."""

import signal
import sys
import time
from collections import defaultdict
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("rclpy", reason="needs ROS 2")
pytest.importorskip("depthseg_ros.msg", reason="needs the built package: tools/env.sh pytest")

from rclpy.qos import QoSProfile, qos_profile_sensor_data
from rosbags.highlevel import AnyReader
from sensor_msgs.msg import CompressedImage
from std_msgs.msg import String

from depthseg_ros.street import Camera, Street

pytestmark = pytest.mark.ros

RECORD = Path(__file__).resolve().parents[2] / "examples" / "record.py"
WIDTH, HEIGHT = 96, 64


@pytest.fixture
def record(start_process):
    def record(output, *arguments):
        return start_process([sys.executable, str(RECORD), "--output", str(output), *arguments])

    return record


def read(bag):
    """Of each topic its messages, in the order in which they came, and when that was (ns)."""
    found = defaultdict(list)
    with AnyReader([bag]) as reader:
        for connection, time_ns, data in reader.messages():
            message = reader.deserialize(data, connection.msgtype)
            found[connection.topic].append((time_ns, message))
    return found


def stamp(message):
    return message.header.stamp.sec * 10**9 + message.header.stamp.nanosec


def pixels(message, kind=np.uint8, channels=()):
    return np.frombuffer(message.data, kind).reshape(message.height, message.width, *channels)


@pytest.mark.parametrize("storage", ["mcap", "sqlite3"])
def test_a_street_is_recorded_with_its_truth_as_it_was_rendered(start, record, tmp_path, storage):
    namespace = f"/recorded/{storage}"
    size = {"width": WIDTH, "height": HEIGHT}
    chosen = {"fov": 1.8, "camera_height": 0.5, "gamma": 0.8}
    camera = start("camera_node", namespace, seed=3, rate=20.0, **size, **chosen)
    names = ["camera_info", "truth/label/image", "truth/depth/image"]
    topics = [f"{namespace}/{name}" for name in ("image", *names)]
    bag = tmp_path / "bag"
    process = record(bag, "--count", "6", "--storage", storage, "--topics", *topics)
    assert process.wait() == 0, process.log
    assert process.lines(f"has {namespace}/image 6, {namespace}/camera_info ")
    assert list(bag.glob("*.mcap" if storage == "mcap" else "*.db3"))
    found = read(bag)
    assert set(found) == set(topics)
    pictures = found[topics[0]]
    assert len(pictures) == 6
    infos, labels, depths = ({stamp(m): m for _, m in found[topic]} for topic in topics[1:])

    street = Street(3, WIDTH, HEIGHT, Camera(fov=1.8, height=0.5, pitch=0.0, gamma=0.8))
    index, complete = 0, 0
    for came, picture in pictures:
        assert 0 <= came - stamp(picture) < 2e9
        assert (picture.encoding, picture.header.frame_id) == ("rgb8", "camera_optical_frame")
        while not np.array_equal(street.frame(index).image, pixels(picture, channels=(3,))):
            index += 1
            assert index < 300
        now, frame = stamp(picture), street.frame(index)
        if now in infos and now in labels and now in depths:
            complete += 1
            np.testing.assert_array_equal(pixels(labels[now]), frame.labels)
            np.testing.assert_array_equal(pixels(depths[now], np.float32), frame.depth)
            np.testing.assert_allclose(infos[now].k.reshape(3, 3), street.intrinsics.matrix)
    assert complete >= 4  # the camera may have known of one topic's recorder before the others'
    assert camera.stop() == 0


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_recording_that_is_stopped_is_whole(observer, record, tmp_path, number):
    # A driver's publisher is best effort, and what is latched was said before anyone listened.
    node, name = observer.node, f"/stopped_{int(number)}"
    driver = node.create_publisher(CompressedImage, f"{name}/compressed", qos_profile_sensor_data)
    latched = node.create_publisher(String, f"{name}/said", QoSProfile(depth=1, durability=1))
    latched.publish(String(data="before"))
    process = record(tmp_path / "bag", "--topics", driver.topic_name, latched.topic_name)
    observer.until(driver.get_subscription_count, f"the recorder\n{process.log}")
    for n in range(5):
        driver.publish(CompressedImage(format="jpeg", data=[n, 1, 2]))
        time.sleep(0.1)
    time.sleep(0.5)
    assert process.stop(number) == 0
    assert process.lines(f"bag has {name}/compressed 5, {name}/said 1")
    found = read(tmp_path / "bag")
    assert [m.data.tolist() for _, m in found[driver.topic_name]] == [[n, 1, 2] for n in range(5)]
    assert [m.data for _, m in found[latched.topic_name]] == ["before"]


def test_a_recording_ends_after_its_seconds(observer, record, tmp_path):
    publisher = observer.node.create_publisher(String, "/ticks", 10)
    process = record(tmp_path / "bag", "--topics", "ticks", "--seconds", "1")
    observer.until(publisher.get_subscription_count, f"the recorder\n{process.log}")
    start = time.monotonic()
    while process.process.poll() is None:
        publisher.publish(String(data="tick"))
        time.sleep(0.1)
        assert time.monotonic() - start < 10
    times = [at for at, _ in read(tmp_path / "bag")["/ticks"]]
    assert 0.5e9 < times[-1] - times[0] < 1.5e9


def test_a_topic_without_publisher_is_named_with_the_existing_ones(observer, record, tmp_path):
    publisher = observer.node.create_publisher(String, "/there", 10)
    bag = tmp_path / "bag"
    process = record(bag, "--topics", "/there", "/never", "/nor_this", "--patience", "8")
    assert process.wait() == 1
    message = "record: /never, /nor_this has no publisher; existing topics are .*/there"
    assert process.lines(message), process.log
    assert not bag.exists()
    observer.node.destroy_publisher(publisher)


def test_waiting_for_a_topic_can_be_stopped(record, tmp_path):
    process = record(tmp_path / "bag", "--topics", "/never")
    process.says("waiting for /never")
    assert process.stop() == 1
    assert process.lines("stopped while waiting for /never; nothing is recorded")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("wrong", [["a topic!"], [""], ["/a", "--patience", "nan"]])
def test_wrong_arguments_are_reported_at_once(record, tmp_path, wrong):
    process = record(tmp_path / "bag", "--topics", *wrong)
    assert process.wait() == 2
    assert process.lines("^record.py: error: ")


def test_an_output_that_exists_is_left_alone(record, tmp_path):
    (tmp_path / "kept.txt").write_text("mine")
    process = record(tmp_path, "--topics", "/image")
    assert process.wait() == 2
    assert process.lines("exists; expected a new folder")
    assert [path.name for path in tmp_path.iterdir()] == ["kept.txt"]


def test_a_count_needs_an_image_topic(observer, record, tmp_path):
    publisher = observer.node.create_publisher(String, "/words", 10)
    process = record(tmp_path / "bag", "--topics", "/words", "--count", "3")
    assert process.wait() == 1
    assert process.lines("--count needs an image topic, and /words has none")
    assert not (tmp_path / "bag").exists()
    observer.node.destroy_publisher(publisher)
