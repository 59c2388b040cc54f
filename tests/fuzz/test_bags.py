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

"""Recordings that were cut off or damaged: what is left is read, and what is lost is said."""

import shutil

import hypothesis.strategies as st
import numpy as np
import pytest

pytest.importorskip("rosbags", reason="needs rosbags")

from rosbags.rosbag2 import CompressionFormat, CompressionMode, StoragePlugin, Writer
from rosbags.typesys import Stores, get_typestore

from tests.fuzz.hostile import damaged
from tests.fuzz.property import check_line
from training.errors import TrainingError
from training.own_robot.recordings import CAMERA_INFO, IMAGE, Recording
from training.own_robot.selection import read_camera, read_image

STORE = get_typestore(Stores.ROS2_JAZZY)
STORAGES = [
    (StoragePlugin.MCAP, CompressionMode.NONE),
    (StoragePlugin.MCAP, CompressionMode.STORAGE),
    (StoragePlugin.MCAP, CompressionMode.FILE),
    (StoragePlugin.SQLITE3, CompressionMode.NONE),
    (StoragePlugin.SQLITE3, CompressionMode.MESSAGE),
]
YAML = [b"2001-99-99", b"[]", b".inf", b"{}", b"'", b"&a [*a]", b"null", b"-1", b"9" * 5000, b"\0"]
"""What may stand in metadata instead of what stood there."""


def write(path, plugin, mode):
    """A bag of eight pictures and their camera."""
    types, second = STORE.types, 10**9
    rng = np.random.default_rng(0)
    writer = Writer(path, version=9, storage_plugin=plugin)
    writer.set_compression(mode, CompressionFormat.ZSTD)
    with writer:
        image = writer.add_connection("/image", IMAGE, typestore=STORE)
        info = writer.add_connection("/camera_info", CAMERA_INFO, typestore=STORE)
        for i in range(8):
            time = types["builtin_interfaces/msg/Time"](i, 0)
            header = types["std_msgs/msg/Header"](time, "camera")
            rows = rng.integers(0, 256, 48 * 64 * 3, np.uint8)
            picture = types[IMAGE](header, 48, 64, "rgb8", 0, 64 * 3, rows)
            roi = types["sensor_msgs/msg/RegionOfInterest"](0, 0, 0, 0, False)
            k = np.array([50.0, 0, 31, 0, 51, 23, 0, 0, 1])
            camera = types[CAMERA_INFO](
                header, 48, 64, "plumb_bob", np.zeros(5), k, k, np.zeros(12), 0, 0, roi
            )
            for connection, kind, message in ((image, IMAGE, picture), (info, CAMERA_INFO, camera)):
                raw = bytes(STORE.serialize_cdr(message, kind))
                writer.write(connection, (i + 1) * second, raw)
    return path


@pytest.fixture(scope="module")
def bags(tmp_path_factory):
    folder = tmp_path_factory.mktemp("bags")
    return [write(folder / f"bag{i}", *storage) for i, storage in enumerate(STORAGES)]


@st.composite
def damages(draw, bags):
    """A bag, one of its files, and what that holds instead."""
    bag = draw(st.sampled_from(bags))
    file = draw(st.sampled_from(sorted(bag.iterdir())))
    data = draw(damaged(st.just(file.read_bytes()), most=30))
    if file.suffix == ".yaml" and draw(st.booleans()):
        lines = file.read_bytes().splitlines()
        at = draw(st.integers(0, len(lines) - 1))
        lines[at] = lines[at].partition(b":")[0] + b": " + draw(st.sampled_from(YAML))
        data = b"\n".join(lines)
    return bag, file.name, data


def test_damaged_bags(bags, tmp_path, fuzz):
    def read(case):
        bag, name, data = case
        shutil.rmtree(tmp_path / "bag", ignore_errors=True)
        shutil.copytree(bag, tmp_path / "bag")
        (tmp_path / "bag" / name).write_bytes(data)
        recording, pictures = Recording(tmp_path / "bag"), 0
        for topic, kind, _, raw in recording.messages(["/image", "/camera_info"]):
            if topic == "/camera_info":
                read_camera(raw, 64, 48, rectified=False)
                continue
            try:
                pictures += read_image(raw, kind).rgb.size > 0
            except ValueError as error:
                check_line(str(error))
        return recording, pictures

    def what_is_lost_is_said(case, result):
        recording, pictures = result
        if recording.lost:
            check_line(recording.lost)
        if case[1] == "metadata.yaml":
            assert pictures == 8 or recording.lost

    cases = damages(bags)
    fuzz.run("bag", cases, read, what_is_lost_is_said, (TrainingError,), short=40, long=400)
