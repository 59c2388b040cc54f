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

"""`python -m training own-robot` on a real sequence, where that is at hand, written as a bag."""

import json

import cv2
import numpy as np
import pytest
from rosbags.rosbag2 import StoragePlugin, Writer
from rosbags.typesys import Stores, get_typestore

from depthseg_ros import model_card
from training.__main__ import main

STORE = get_typestore(Stores.ROS2_JAZZY)
FRAMES, SECOND = 60, 10**9
LITTLE = {
    "model.system.init_args": "{tasks: [depth], min_depth: 0.2, max_depth: 15}",
    "model.network_size": "[320, 240]",
    "model.canonical_fx": "280.0",
    "model.min_depth": "0.3",
    "model.max_depth": "10.0",
    "data.crop": "[160, 128]",
    "data.scale_range": "[0.5, 0.7]",
    "data.crop_schedule": "[[0, 1]]",
    "data.batch_size": "2",
    "data.workers": "0",
    "data.train": "{own_robot: 60}",
    "trainer.max_epochs": "3",
    "trainer.check_val_every_n_epoch": "3",
}


def write_bag(path, sequence):
    """A sequence as an RGB-D camera would be recorded: JPEG, 16UC1 and their camera_info."""
    kinds = {name: f"sensor_msgs/msg/{name}" for name in ("CompressedImage", "Image", "CameraInfo")}
    make = {name: STORE.types[kind] for name, kind in kinds.items()}
    k = np.loadtxt(sequence / "camera-intrinsics.txt").ravel()
    roi = STORE.types["sensor_msgs/msg/RegionOfInterest"](0, 0, 0, 0, False)
    with Writer(path, version=9, storage_plugin=StoragePlugin.MCAP) as writer:
        topics = {
            "image/compressed": "CompressedImage",
            "depth/image": "Image",
            "camera_info": "CameraInfo",
        }
        opened = {
            topic: writer.add_connection(f"/camera/{topic}", kinds[kind], typestore=STORE)
            for topic, kind in topics.items()
        }
        pictures = sorted(sequence.glob("frame-*.color.jpg"))
        for number, picture in enumerate(pictures[:: len(pictures) // FRAMES][:FRAMES]):
            stamp = 10**18 + number * SECOND // 2
            time = STORE.types["builtin_interfaces/msg/Time"](stamp // SECOND, stamp % SECOND)
            header = STORE.types["std_msgs/msg/Header"](time, "camera")
            depth = cv2.imread(str(picture).replace("color.jpg", "depth.png"), cv2.IMREAD_UNCHANGED)
            depth[depth == 65535] = 0
            height, width = depth.shape
            p = np.c_[k.reshape(3, 3), np.zeros(3)].ravel()
            messages = {
                "image/compressed": make["CompressedImage"](
                    header, "jpeg", np.frombuffer(picture.read_bytes(), np.uint8)
                ),
                "depth/image": make["Image"](
                    header, height, width, "16UC1", 0, 2 * width, depth.view(np.uint8).ravel()
                ),
                "camera_info": make["CameraInfo"](
                    header, height, width, "plumb_bob", np.zeros(5), k, np.eye(3).ravel(), p, 0, 0,
                    roi,
                ),
            }  # fmt: skip
            for topic, message in messages.items():
                raw = STORE.serialize_cdr(message, kinds[topics[topic]])
                writer.write(opened[topic], stamp, bytes(raw))


def test_a_kitchen_that_was_recorded_makes_a_model_for_it(shared_data, tmp_path, capsys):
    sequence = shared_data / "redkitchen"
    if not sequence.is_dir():
        pytest.skip("needs shared/data/redkitchen")
    street = str(model_card.default_model())
    write_bag(tmp_path / "kitchen", sequence)
    arguments = {
        "--bag": tmp_path / "kitchen",
        "--output": tmp_path / "own.onnx",
        "--folder": tmp_path / "run",
        "--student": street,
        "--depth-teacher": street,
        "--segmentation-teacher": "none",
        "--bag-options": "--depth-topic /camera/depth/image --neighbours 0 --every 0",
        # The sensor tells the scale of each picture, and nothing else.
        "--label-options": "--align truth --scales 1",
    }
    given = [str(x) for pair in arguments.items() for x in pair]
    code = main(["own-robot", *given, "--set", *(f"{k}={value}" for k, value in LITTLE.items())])
    assert code == 0, capsys.readouterr().err
    card = model_card.read(tmp_path / "own.onnx")
    assert card.classes == () and card.depth.max == 10
    own = json.loads((tmp_path / "run" / "metrics.json").read_text())["own_robot_truth"]
    assert own["abs_rel"] < 0.5  # the default model, made for streets: above 1
