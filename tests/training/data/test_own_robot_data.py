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

"""Readers of robots' recordings, on data sets made here with known values."""

import json

import cv2
import numpy as np
import pytest
from PIL import Image
from torch.utils.data import DataLoader

from depthseg_ros.model_card import UNLABELLED
from training.cli.own_robot import DEPTH_TEACHER, SEGMENTATION_TEACHER
from training.data.readers.own_robot import OwnRobot, OwnRobotHand, OwnRobotTruth
from training.data.shards import ShardWriter, depth_to_png, to_png, write_json
from training.data.sources import open_source
from training.errors import TrainingError

SIZE = HEIGHT, WIDTH = 6, 8
CAMERA = {
    "fx": 9.0,
    "fy": 9.0,
    "cx": 3.5,
    "cy": 2.5,
    "lens": {"model": "plumb_bob", "coefficients": []},
}
MOTION = np.eye(4).tolist()


def flat(value, kind=np.uint8, shape=SIZE):
    return np.full(shape, value, kind)


def jpeg(value):
    return cv2.imencode(".jpg", flat(value, shape=(*SIZE, 3)))[1].tobytes()


def make(folder, recordings=(10,), packed=False, camera=CAMERA, truth=(), labelled=True, size=4,
         classes="camvid"):  # fmt: skip
    """A data set whose frames count on: pictures, labels, trust and depth are of the number."""
    number = part = 0
    for recording, count in enumerate(recordings):
        for begin in range(0, count, size):
            writer = ShardWriter(folder, f"part-{part:05}", packed)
            labels = ShardWriter(folder / "labels", f"part-{part:05}", packed)
            for _ in range(min(size, count - begin)):
                key = f"{recording:03}-{number:019}"
                frame = {
                    "key": key, "stamp": number, "width": WIDTH, "height": HEIGHT, "camera": camera,
                    "picture": "jpg", "previous": 0.1, "next": None,
                }  # fmt: skip
                files = {"jpg": jpeg(10 * number), "previous.jpg": jpeg(10 * number + 5)}
                if "depth" in truth:
                    files["truth_depth.png"] = depth_to_png(flat(100 + number, np.float32))
                if "labels" in truth:
                    files["truth_labels.png"] = to_png(flat(number % 3))
                writer.add(frame, files)
                depth, trust = flat(1 + number, np.float32), flat(100)
                depth[0, 0], trust[:, 4:] = np.nan, 200
                said = {
                    "labels.png": to_png(flat(number % 11)), "labels_trust.png": to_png(trust),
                    "depth.png": depth_to_png(depth), "depth_trust.png": to_png(255 - trust),
                    "motion.json": json.dumps({"previous": MOTION, "next": None}).encode(),
                }  # fmt: skip
                labels.add({"key": key}, said)
                number += 1
            writer.finish(recording=f"{recording:03}")
            if labelled:
                labels.finish()
            writer.close()
            labels.close()
            part += 1
    write_json(folder / "card.json", {"format": 1})
    write_json(folder / "labels" / "card.json", {"format": 1, "classes": classes})
    return folder


def numbers(data):
    return [round(sample.image.mean() / 10) for sample in (data[i] for i in range(len(data)))]


@pytest.mark.parametrize("packed", [False, True])
def test_a_frame_has_what_teachers_said_and_how_sure_they_were(packed, tmp_path):
    data = OwnRobot(make(tmp_path, packed=packed), "train")
    sample = data[3]
    assert sample.image.shape == (*SIZE, 3) and abs(int(sample.image[0, 0, 0]) - 30) < 3
    assert (sample.labels == 3).all() and sample.fx == 9
    assert np.isnan(sample.depth[0, 0]) and (sample.depth.ravel()[1:] == 4).all()
    assert sample.depth.dtype == np.float32
    assert (sample.labels_confidence[:, :4] == 100).all() and (
        sample.labels_confidence[:, 4:] == 200
    ).all()
    assert (sample.depth_confidence == 255 - sample.labels_confidence).all()
    assert list(sample.views) == ["previous"] == list(sample.motions)
    assert abs(int(sample.views["previous"][0, 0, 0]) - 35) < 3
    assert sample.motions["previous"].shape == (4, 4)
    assert data.classes == "camvid"
    assert OwnRobot(tmp_path, "train", neighbours=False)[3].views == {}


def test_of_each_recording_the_last_fifth_of_its_time_is_held_out(tmp_path):
    make(tmp_path, recordings=(10, 5))
    assert numbers(OwnRobot(tmp_path, "train")) == [0, 1, 2, 3, 4, 5, 6, 7, 10, 11, 12, 13]
    assert numbers(OwnRobot(tmp_path, "val")) == [8, 9, 14]
    assert numbers(OwnRobot(tmp_path, "all")) == list(range(15))


def test_where_nothing_weighs_by_trust_only_what_is_trusted_is_there(tmp_path):
    sample = OwnRobot(make(tmp_path), "val")[0]
    assert sample.labels_confidence is None and sample.depth_confidence is None
    assert (sample.labels[:, :4] == UNLABELLED).all() and (sample.labels[:, 4:] == 8).all()
    assert np.isnan(sample.depth[:, 4:]).all() and (sample.depth[1:, :4] == 9).all()


def test_truth_takes_the_place_of_what_teachers_said(tmp_path):
    folder = make(tmp_path, truth=("depth", "labels"), labelled=False)
    data = OwnRobotTruth(folder, "val")
    assert numbers(data) == [8, 9] and data.classes == "camvid"
    assert (data[0].depth == 108).all() and (data[0].labels == 2).all()
    assert data[0].labels_confidence is None and data[0].views == {}
    assert OwnRobotTruth(folder, "val", classes="cityscapes").classes == "cityscapes"


def test_frames_without_truth_are_left_out(tmp_path):
    folder = make(tmp_path, truth=("depth",))
    for index in (8, 0):
        (folder / f"part-0000{index // 4}" / f"000-{index:019}.truth_depth.png").unlink()
    data = OwnRobotTruth(folder, "val")
    assert numbers(data) == [9] and data.classes is None and data[0].labels is None
    with pytest.raises(
        TrainingError, match=r"no frames with ground truth .*--depth-topic.* in split 'val'"
    ):
        OwnRobotTruth(make(tmp_path / "other"), "val")


def test_without_a_focal_length_there_is_no_depth(tmp_path):
    sample = OwnRobot(make(tmp_path, camera=None, truth=("depth", "labels")), "train")[0]
    assert sample.depth is None and sample.depth_confidence is None and sample.fx is None
    assert OwnRobotTruth(tmp_path, "val")[0].depth is None


def test_frames_that_were_labelled_by_hand(tmp_path):
    folder = make(tmp_path)
    (folder / "hand").mkdir()
    for number, value in ((2, 7), (9, 1)):
        (folder / "hand" / f"000-{number:019}.png").write_bytes(to_png(flat(value)))
    data = OwnRobotHand(folder, "train")
    assert numbers(data) == [2] and (data[0].labels == 7).all()
    assert data[0].depth is None and data[0].fx == 9 and data.classes == "camvid"
    assert numbers(OwnRobotHand(folder, "val")) == [9]
    palette = Image.fromarray(flat(7))
    palette.putpalette([(9 * i) % 256 for i in range(36)])
    first = folder / "hand" / f"000-{2:019}.png"
    palette.save(first)
    (folder / "hand" / f"._000-{2:019}.png").write_bytes(b"\0\5\26\7")  # as a Mac leaves it
    data = OwnRobotHand(folder, "train")
    assert (data[0].labels == 7).all()
    first.write_bytes(to_png(flat(11)))
    with pytest.raises(TrainingError, match=r"has the class ids 11 \(48 pixels\), expected 0..10,"):
        data[0]
    (folder / "hand" / f"000-{2:019}.png").write_bytes(to_png(flat(7, shape=(3, 3))))
    with pytest.raises(TrainingError, match=r"is \(3, 3\), its image \(6, 8\)"):
        data[0]
    (folder / "hand" / "000-7.png").write_bytes(to_png(flat(7)))
    with pytest.raises(TrainingError, match=r"000-7\.png does not belong to a frame"):
        OwnRobotHand(folder, "train")


def test_a_folder_of_data_sets_is_read_as_one(tmp_path):
    make(tmp_path / "monday", recordings=(5,))
    make(tmp_path / "tuesday", recordings=(5, 10))
    assert len(OwnRobot(tmp_path, "train")) == 4 + 4 + 8
    assert numbers(OwnRobot(tmp_path, "val")) == [4, 4, 13, 14]
    make(tmp_path / "wednesday", recordings=(5,), classes="cityscapes")
    with pytest.raises(TrainingError, match=r"different classes: .*monday.* camvid, .*cityscapes"):
        OwnRobot(tmp_path, "train")


def test_parts_that_are_not_labelled_are_named(tmp_path):
    folder = make(tmp_path)
    (folder / "labels" / "part-00001.json").unlink()
    with pytest.raises(TrainingError, match=r"part-00001 is not labelled.*pseudo-label --data"):
        OwnRobot(folder, "train")
    assert len(OwnRobot(folder, "val")) == 2  # which lie in another part
    (folder / "labels" / "card.json").unlink()
    with pytest.raises(TrainingError, match=r"labels/card\.json cannot be read.*pseudo-label"):
        OwnRobot(folder, "val")


def test_labels_of_other_frames_than_these_are_refused(tmp_path):
    folder = make(tmp_path)
    index = folder / "labels" / "part-00000.json"
    about = json.loads(index.read_text())
    about["frames"][0]["key"] = "000-5"
    index.write_text(json.dumps(about))
    with pytest.raises(TrainingError, match="part-00000 is not labelled, or has changed"):
        OwnRobot(folder, "train")


@pytest.mark.parametrize(
    ("root", "split", "says"),
    [
        ("nothing", "train", r"nothing has no card\.json: expected an output .*training bag"),
        ("", "test", "got split 'test', a recording has train, val and all"),
        ("short", "train", "short has no frames in split 'train'"),
    ],
)
def test_what_is_no_data_set_is_refused(root, split, says, tmp_path):
    make(tmp_path)
    make(tmp_path / "short", recordings=(1,))
    with pytest.raises(TrainingError, match=says):
        OwnRobot(tmp_path / root, split)


def test_damaged_files_are_named(tmp_path):
    folder = make(tmp_path)
    path = folder / "part-00000" / f"000-{0:019}.jpg"
    path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(TrainingError, match=r"part-00000/000-0+\.jpg: the JPEG is cut off"):
        OwnRobot(folder, "train")[0]
    path = folder / "labels" / "part-00000" / f"000-{1:019}.labels.png"
    path.write_bytes(to_png(flat(1, np.uint16)))
    with pytest.raises(TrainingError, match=r"\.labels\.png is \(.*, expected \(6, 8\)"):
        OwnRobot(folder, "train")[1]


def test_the_names_of_the_readers_are_known(tmp_path):
    make(tmp_path, truth=("labels",))
    source = open_source("own_robot", "test", tmp_path)
    assert (source.split, source.classes, len(source)) == ("val", "camvid", 2)
    assert (source.source, source.terms) == (
        "a robot's own recording", "as the recording's owner says"
    )  # fmt: skip
    truth = open_source("own_robot_truth", "val", tmp_path)
    assert (len(truth), truth.terms) == (2, "as the recording's owner says")
    with pytest.raises(TrainingError, match="no frames with labels in hand/"):
        open_source("own_robot_hand", "train", tmp_path)


@pytest.mark.parametrize(
    ("depth", "labels", "says"),
    [
        (DEPTH_TEACHER, "none", f"says; labels by {DEPTH_TEACHER}, which was trained on Virtual"
         " KITTI 2, which is licensed CC BY-NC-SA 3.0, for non-commercial use"),
        (DEPTH_TEACHER, SEGMENTATION_TEACHER, f"use; labels by {SEGMENTATION_TEACHER}, which was"
         " trained on Cityscapes, which is for non-commercial use"),
        ("/home/me/mine.onnx", "/home/me/mine.onnx", "says; labels by mine.onnx, which has terms of"
         " its own"),
    ],
)  # fmt: skip
def test_the_teachers_terms_hold_for_what_learns_from_them(depth, labels, says, tmp_path):
    card = {"format": 1, "classes": "camvid", "depth_teacher": depth}
    write_json(make(tmp_path) / "labels" / "card.json", {**card, "segmentation_teacher": labels})
    source = open_source("own_robot", "train", tmp_path, count=3)
    assert source.terms.startswith("as the recording's owner says; ")
    assert source.terms.endswith(says)


def test_a_loaders_processes_read_packed_parts(tmp_path):
    data = OwnRobot(make(tmp_path, packed=True), "train")
    loader = DataLoader(data, batch_size=None, num_workers=2)
    assert [int(sample.labels[0, 0]) for sample in loader] == list(range(8))
