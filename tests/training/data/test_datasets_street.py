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

import json
from pathlib import Path

import cv2
import numpy as np
import pytest
from torch.utils.data import ConcatDataset, DataLoader

from training.data.readers.cityscapes import Cityscapes, depth_from_disparity, read_train_ids
from training.data.readers.kitti import KittiDepth, KittiSemantics
from training.data.readers.virtual_kitti2 import BASELINE, SPLITS, VirtualKitti2
from training.data.street_classes import CITYSCAPES, MASK, VIRTUAL_KITTI2
from training.errors import TrainingError

H, W = 12, 20
RNG = np.random.default_rng(0)

# The ids that Cityscapes evaluates, in the order of the classes, by their names.
ID_OF = {
    "road": 7,
    "sidewalk": 8,
    "building": 11,
    "wall": 12,
    "fence": 13,
    "pole": 17,
    "traffic light": 19,
    "traffic sign": 20,
    "vegetation": 21,
    "terrain": 22,
    "sky": 23,
    "person": 24,
    "rider": 25,
    "car": 26,
    "truck": 27,
    "bus": 28,
    "train": 31,
    "motorcycle": 32,
    "bicycle": 33,
}


def write(path: Path, array: np.ndarray) -> np.ndarray:
    path.parent.mkdir(parents=True, exist_ok=True)
    assert cv2.imwrite(str(path), array[..., ::-1] if array.ndim == 3 else array)
    return array


def picture() -> np.ndarray:
    return RNG.integers(0, 256, (H, W, 3), np.uint8)


def any_ids() -> np.ndarray:
    return RNG.choice([*range(34), 255], (H, W)).astype(np.uint8)


def message_of(make) -> str:
    """The one line with which something is refused."""
    with pytest.raises(TrainingError) as error:
        make()
    assert "\n" not in str(error.value)
    return str(error.value)


# Cityscapes

CAMERA = {"extrinsic": {"baseline": 0.25, "pitch": 0.05}, "intrinsic": {"fx": 2048.0, "fy": 2047.0}}
FRAMES = ("aachen/aachen_000001_000019", "ulm/ulm_000000_000000")


def make_cityscapes(root, split="train", labels="gtFine", disparity=True, stems=FRAMES):
    truth = {}
    for stem in stems:
        encoded = RNG.integers(0, 65536, (H, W)).astype(np.uint16)
        encoded[0, :4] = 0, 1, 2, 257
        parts = {
            "leftImg8bit": picture(),
            "rightImg8bit": picture(),
            f"{labels}_labelIds": any_ids(),
            "disparity": encoded,
        }
        for name, array in parts.items():
            if name != "disparity" or disparity:
                folder = name.removesuffix("_labelIds")
                write(root / folder / split / f"{stem}_{name}.png", array)
        camera = root / "camera" / split / f"{stem}_camera.json"
        camera.parent.mkdir(parents=True, exist_ok=True)
        camera.write_text(json.dumps(CAMERA))
        truth[stem] = parts
    return truth


def test_cityscapes_is_read_to_the_last_bit(tmp_path):
    truth = make_cityscapes(tmp_path)
    data = Cityscapes(tmp_path, "train")
    assert len(data) == 2
    for index, stem in enumerate(FRAMES):
        sample, parts = data[index], truth[stem]
        assert (sample.image == parts["leftImg8bit"]).all()
        ids, labels = parts["gtFine_labelIds"], sample.labels
        assert labels.dtype == np.uint8
        for c in CITYSCAPES:
            assert ((labels == c.id) == (ids == ID_OF[c.name])).all()
        assert sample.fx == 2048.0
        depth, p = sample.depth, parts["disparity"].astype(np.float64)
        assert depth.dtype == np.float32
        assert (np.isnan(depth) == (p < 2)).all()
        # baseline * fx = 512, disparity = (p - 1) / 256
        np.testing.assert_array_equal(
            depth[p > 1], (512 / ((p[p > 1] - 1) / 256)).astype(np.float32)
        )
        assert depth[0, 2:4].tolist() == [131072.0, 512.0]
        assert sample.views == {} and sample.baseline is None


def test_every_cityscapes_id_becomes_its_class_or_unlabelled(tmp_path):
    # The licence plate's id is -1; 8 bits hold it as 255.
    ids = np.array([[*range(34), -1]]).astype(np.uint8)
    write(tmp_path / "a.png", ids)
    found = dict(zip(ids[0].tolist(), read_train_ids(tmp_path / "a.png")[0].tolist(), strict=True))
    known = {ID_OF[c.name]: c.id for c in CITYSCAPES}
    assert found == {i: known.get(i, 255) for i in [*range(34), 255]}
    write(tmp_path / "a.png", ids + np.uint8(1))  # of another list
    assert "has the class ids 34 (1 pixels), expected 0..33, or 255" in message_of(
        lambda: read_train_ids(tmp_path / "a.png")
    )


def test_disparity_without_value_or_of_zero_is_unknown_depth():
    encoded = np.array([[0, 1, 2, 257, 65535]], np.uint16)
    depth = depth_from_disparity(encoded, 2262.52, 0.209313)
    bf = 2262.52 * 0.209313
    np.testing.assert_allclose(depth, [[np.nan, np.nan, bf * 256, bf, bf * 256 / 65534]], rtol=1e-6)


def test_cityscapes_without_disparity_lacks_depth(tmp_path):
    make_cityscapes(tmp_path, disparity=False)
    sample = Cityscapes(tmp_path, "train")[0]
    assert sample.depth is None and sample.fx == 2048.0 and sample.labels is not None


def test_coarse_labels_are_a_choice(tmp_path):
    truth = make_cityscapes(tmp_path, "train_extra", "gtCoarse")
    sample = Cityscapes(tmp_path, "train_extra", "gtCoarse")[0]
    ids = truth[FRAMES[0]]["gtCoarse_labelIds"]
    assert ((sample.labels == 13) == (ids == 26)).all()
    assert "gtFine or gtCoarse" in message_of(lambda: Cityscapes(tmp_path, "train", "gtfine"))


def test_cityscapes_pairs_and_neighbours_are_there_when_asked_for(tmp_path):
    truth = make_cityscapes(tmp_path)
    folder = tmp_path / "leftImg8bit_sequence" / "train"
    before = write(folder / "aachen/aachen_000001_000018_leftImg8bit.png", picture())
    after = write(folder / "aachen/aachen_000001_000020_leftImg8bit.png", picture())
    data = Cityscapes(tmp_path, "train", stereo=True, neighbours=True)
    views = data[0].views
    assert (views["right"] == truth[FRAMES[0]]["rightImg8bit"]).all()
    assert (views["previous"] == before).all() and (views["next"] == after).all()
    assert data[0].baseline == 0.25
    assert set(data[1].views) == {"right"}  # the first frame, and its successor is not there
    assert set(Cityscapes(tmp_path, "train", neighbours=True)[0].views) == {"previous", "next"}


def test_wrong_cityscapes_is_named(tmp_path):
    make_cityscapes(tmp_path)
    message = message_of(lambda: Cityscapes(tmp_path, "val"))
    assert f"no Cityscapes images found as {tmp_path}/leftImg8bit/val/*/*" in message
    message = message_of(lambda: Cityscapes(tmp_path, "train", neighbours=True))
    assert f"found in {tmp_path}/leftImg8bit_sequence/train, expected" in message
    for kind, name in [
        ("gtFine", "gtFine_labelIds.png"),
        ("disparity", "disparity.png"),
        ("camera", "camera.json"),
        ("rightImg8bit", "rightImg8bit.png"),
    ]:
        file = tmp_path / kind / "train" / f"{FRAMES[1]}_{name}"
        file.rename(tmp_path / "aside")
        message = message_of(lambda: Cityscapes(tmp_path, "train", stereo=True))
        assert message == f"1 files are missing, the first is {file}"
        (tmp_path / "aside").rename(file)


def test_damaged_cityscapes_is_named(tmp_path):
    make_cityscapes(tmp_path, stems=FRAMES[:1])
    data = Cityscapes(tmp_path, "train")
    disparity = tmp_path / "disparity" / "train" / f"{FRAMES[0]}_disparity.png"
    write(disparity, np.zeros((H, W), np.uint8))
    assert f"{disparity} has 1 channels of uint8" in message_of(lambda: data[0])
    write(disparity, np.zeros((H, W + 1), np.uint16))
    assert f"its disparity ({H}, {W + 1}) (height, width)" in message_of(lambda: data[0])
    camera = tmp_path / "camera" / "train" / f"{FRAMES[0]}_camera.json"
    for text in ("{", '{"intrinsic": {}}', '{"intrinsic": 1}'):
        camera.write_text(text)
        message = message_of(lambda: data[0])
        assert f"{camera} cannot be read" in message and "intrinsic.fx" in message
    (tmp_path / "leftImg8bit" / "train" / f"{FRAMES[0]}_leftImg8bit.png").write_bytes(b"no")
    assert "cannot be read as an image" in message_of(lambda: data[0])


# KITTI

DATE, DRIVE = "2011_09_26", "2011_09_26_drive_0001_sync"
# Real numbers of a calibration: focal length 721.5377, cameras 0.47 m and -0.06 m to the right.
P2 = [721.5377, 0, 609.5593, 44.85728, 0, 721.5377, 172.854, 0.2163791, 0, 0, 1, 0.002745884]
P3 = [721.5377, 0, 609.5593, -339.5242, 0, 721.5377, 172.854, 2.199936, 0, 0, 1, 0.002729905]


def make_kitti(root, lines, depth="train/{drive}", end="png"):
    folder = root / DATE / DRIVE
    truth = {}
    for camera in (2, 3):
        for frame in (4, 5, 6):
            file = folder / f"image_0{camera}" / "data" / f"{frame:010}.{end}"
            truth[camera, frame] = write(file, picture())
        encoded = RNG.integers(1, 65536, (H, W)).astype(np.uint16)
        encoded[0, :3] = 0, 1, 80 * 256
        place = root / depth.format(drive=DRIVE, date=DATE)
        write(place / f"proj_depth/groundtruth/image_0{camera}/{5:010}.png", encoded)
        truth[camera, "depth"] = encoded
    calibration = "calib_time: 09-Jan-2012 13:57:47\ncorner_dist: 9.95e-02\n"
    for name, matrix in (("P_rect_02", P2), ("P_rect_03", P3)):
        calibration += f"{name}: {' '.join(f'{v:e}' for v in matrix)}\n"
    (root / DATE / "calib_cam_to_cam.txt").write_text(calibration)
    (root / "splits" / "eigen").mkdir(parents=True)
    (root / "splits" / "eigen" / "val_files.txt").write_text("\n".join(lines) + "\n\n")
    return truth


@pytest.mark.parametrize("depth", ["train/{drive}", "val/{drive}", "{drive}", "{date}/{drive}"])
def test_kitti_depth_is_read_to_the_last_bit_wherever_it_lies(tmp_path, depth):
    truth = make_kitti(tmp_path, [f"{DATE}/{DRIVE} 5 l", f"{DATE}/{DRIVE} 0000000005 r"], depth)
    data = KittiDepth(tmp_path, "val")
    assert len(data) == 2
    for sample, camera in ((data[0], 2), (data[1], 3)):
        assert (sample.image == truth[camera, 5]).all()
        encoded = truth[camera, "depth"]
        assert sample.depth.dtype == np.float32
        assert (np.isnan(sample.depth) == (encoded == 0)).all()
        assert (sample.depth[encoded > 0] == encoded[encoded > 0] / 256).all()
        assert sample.depth[0, 1:3].tolist() == [0.00390625, 80.0]
        assert sample.fx == pytest.approx(721.5377)
        assert sample.labels is None and sample.views == {} and sample.baseline is None


@pytest.mark.parametrize(
    "encoding", ["utf-8", "utf-8-sig", "utf-16"], ids=["plain", "byte-order-mark", "PowerShell"]
)
def test_kitti_lists_may_have_comments_and_any_line_ends_and_files_any_ending(tmp_path, encoding):
    truth = make_kitti(tmp_path, [], end="PNG")
    for file in tmp_path.rglob("*.png"):
        file.rename(file.with_suffix(".PNG"))
    for file in tmp_path.rglob("*.PNG"):
        file.with_name(f"._{file.name}").write_bytes(b"\0\5\26\7")
    lines = ["# of the left camera", f"{DATE}/{DRIVE} 5 l  # the first", "", f"{DATE}/{DRIVE} 5 r "]
    listed = tmp_path / "splits" / "eigen" / "val_files.txt"
    listed.write_bytes("\r\n".join(lines).encode(encoding))
    data = KittiDepth(tmp_path, "val", stereo=True)
    assert len(data) == 2
    assert (data[0].image == truth[2, 5]).all() and (data[0].views["right"] == truth[3, 5]).all()
    assert np.isfinite(data[1].depth).any()
    (file,) = tmp_path.rglob("image_02/data/0000000005.PNG")
    file.with_suffix(".jpg").write_bytes(b"")
    assert "have the same name except" in message_of(lambda: KittiDepth(tmp_path, "val"))


def test_street_readers_take_upper_case_and_skip_what_a_mac_left(tmp_path):
    make_cityscapes(tmp_path / "cityscapes")
    make_virtual_kitti2(tmp_path / "virtual", variants=["clone"])
    for kind in ("image_2", "semantic"):
        write(tmp_path / "kitti" / "training" / kind / "000000_10.png", any_ids())
    for file in tmp_path.rglob("*.[jp][pn]g"):
        file.rename(file.with_suffix(file.suffix.upper()))
    before = [
        *Cityscapes(tmp_path / "cityscapes", "train", stereo=True),
        *VirtualKitti2(tmp_path / "virtual", "val", stereo=True),
        *KittiSemantics(tmp_path / "kitti", "train"),
    ]
    for file in list(tmp_path.rglob("*.*")):
        file.with_name(f"._{file.name}").write_bytes(b"\0\5\26\7")
    (tmp_path / "cityscapes" / "leftImg8bit" / "train" / ".DS_Store").write_bytes(b"")
    assert len(before) == 2 + 1 + 1
    assert len(Cityscapes(tmp_path / "cityscapes", "train")) == 2
    assert len(VirtualKitti2(tmp_path / "virtual", "val")) == 1
    assert len(KittiSemantics(tmp_path / "kitti", "train")) == 1


def test_the_other_view_of_kittis_right_camera_has_a_negative_baseline(tmp_path):
    truth = make_kitti(tmp_path, [f"{DATE}/{DRIVE} 5 l", f"{DATE}/{DRIVE} 5 r"])
    left, right = KittiDepth(tmp_path, "val", stereo=True)
    assert left.baseline == pytest.approx(0.5327, abs=1e-4)
    assert right.baseline == pytest.approx(-0.5327, abs=1e-4)
    assert (left.views["right"] == truth[3, 5]).all()
    assert (right.views["right"] == truth[2, 5]).all()


def test_kitti_neighbours_are_those_that_are_there(tmp_path):
    truth = make_kitti(tmp_path, [f"{DATE}/{DRIVE} {n} l" for n in (4, 5, 6)])
    first, middle, last = KittiDepth(tmp_path, "val", neighbours=True)
    assert set(first.views) == {"next"} and set(last.views) == {"previous"}
    assert (middle.views["previous"] == truth[2, 4]).all()
    assert (middle.views["next"] == truth[2, 6]).all()
    assert first.depth is None and middle.depth is not None and middle.baseline is None


def test_kitti_takes_jpeg_another_list_and_another_place_of_depth(tmp_path):
    make_kitti(tmp_path, [], end="jpg")
    (tmp_path / "mine.txt").write_text(f"{DATE}/{DRIVE} 5 l\n")
    (tmp_path / "train").rename(tmp_path / "depth")
    assert KittiDepth(tmp_path, str(tmp_path / "mine.txt"))[0].depth is None
    (tmp_path / "mine.txt").rename(tmp_path / "train_files.txt")
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "depth").rename(tmp_path / "elsewhere" / "val")
    data = KittiDepth(tmp_path, "train", lists=tmp_path, depth_root=tmp_path / "elsewhere")
    assert data[0].depth.shape == data[0].image.shape[:2] == (H, W)


def test_wrong_kitti_is_named(tmp_path):
    make_kitti(tmp_path, [f"{DATE}/{DRIVE} 5 l"])
    lists = tmp_path / "splits" / "eigen"
    message = message_of(lambda: KittiDepth(tmp_path, "train"))
    assert f"the list of frames {lists}/train_files.txt cannot be read" in message
    (lists / "train_files.txt").write_text("")
    assert "is empty, expected lines" in message_of(lambda: KittiDepth(tmp_path, "train"))
    for line in (f"{DRIVE} 5 l", f"{DATE}/{DRIVE} 5", f"{DATE}/{DRIVE} 5 x", "a.png b.png 721.5"):
        (lists / "train_files.txt").write_text(f"{DATE}/{DRIVE} 5 l\n{line}\n")
        message = message_of(lambda: KittiDepth(tmp_path, "train"))
        assert f"line 2 is {line!r}, expected 'date/drive frame l|r'" in message
    (lists / "train_files.txt").write_text(f"{DATE}/{DRIVE} 7 l\n")
    file = tmp_path / DATE / DRIVE / "image_02" / "data" / "0000000007.png"
    message = message_of(lambda: KittiDepth(tmp_path, "train"))
    assert message == f"1 files are missing, the first is {file}"
    message = message_of(lambda: KittiDepth(tmp_path, "val", depth_root=tmp_path / "none"))
    assert f"no depth of any frame of {lists}/val_files.txt found as {tmp_path}/none/" in message
    (tmp_path / DATE / DRIVE / "image_03" / "data" / "0000000005.png").unlink()
    assert len(KittiDepth(tmp_path, "val")) == 1
    assert "image_03/data" in message_of(lambda: KittiDepth(tmp_path, "val", stereo=True))
    calibration = tmp_path / DATE / "calib_cam_to_cam.txt"
    for text in ("P_rect_02: 1 2\n", "P_rect_02: " + " 1" * 12, "", None):
        calibration.unlink() if text is None else calibration.write_text(text)
        message = message_of(lambda: KittiDepth(tmp_path, "val"))
        assert f"{calibration} cannot be read as KITTI's calibration" in message


def test_kitti_semantics_is_read_to_the_last_bit_and_split_by_number(tmp_path):
    truth = {}
    for number in (0, 159, 160, 199):
        name = f"{number:06}_10.png"
        truth[number] = (
            write(tmp_path / "training" / "image_2" / name, picture()),
            write(tmp_path / "training" / "semantic" / name, any_ids()),
        )
    splits = {name: KittiSemantics(tmp_path, name) for name in ("train", "val", "all")}
    assert {name: len(data) for name, data in splits.items()} == {"train": 2, "val": 2, "all": 4}
    for sample, number in zip(splits["all"], truth, strict=True):
        image, ids = truth[number]
        assert (sample.image == image).all() and sample.depth is None
        for c in CITYSCAPES:
            assert ((sample.labels == c.id) == (ids == ID_OF[c.name])).all()
    assert (splits["val"][0].image == truth[160][0]).all()
    assert "expected one of ['train'" in message_of(lambda: KittiSemantics(tmp_path, "test"))
    message = message_of(lambda: KittiSemantics(tmp_path / "training", "val"))
    assert "000160_10.png to 000199_10.png" in message
    (tmp_path / "training" / "semantic" / "000160_10.png").unlink()
    assert "1 files are missing" in message_of(lambda: KittiSemantics(tmp_path, "val"))


# Virtual KITTI 2

COLORS = """Category r g b
Terrain 210 0 200
Sky 90 200 255
Tree 0 199 0
Vegetation 90 240 0
Building 140 140 140
Road 100 60 100
GuardRail 250 100 255
TrafficSign 255 255 0
TrafficLight 200 200 0
Pole 255 130 0
Misc 80 80 80
Truck 160 60 60
Car 255 127 80
Van 0 139 139
Undefined 0 0 0
"""
PALETTE = np.array([line.split()[1:] for line in COLORS.splitlines()[1:]], np.uint8)


def make_virtual_kitti2(root, scenes=("Scene02",), variants=("fog", "clone")):
    truth = {}
    for scene in scenes:
        for variant in variants:
            folder = root / scene / variant
            ids = RNG.integers(0, 15, (H, W))
            ids[0, :15] = range(15)
            depth = RNG.integers(1, 65536, (H, W)).astype(np.uint16)
            depth[0, :3] = 1, 65534, 65535
            write(folder / "frames/depth/Camera_0/depth_00007.png", depth)
            write(folder / "frames/classSegmentation/Camera_0/classgt_00007.png", PALETTE[ids])
            for camera in (0, 1):
                write(
                    folder / f"frames/rgb/Camera_{camera}/rgb_00007.jpg",
                    np.full((H, W, 3), 100 + 50 * camera, np.uint8),
                )
            (folder / "colors.txt").write_text(COLORS)
            (folder / "intrinsic.txt").write_text(
                "frame cameraID K[0,0] K[1,1] K[0,2] K[1,2]\n"
                "6 0 1 1 2 3\n7 0 725.0087 725.1 620.5 187\n7 1 2 2 620.5 187\n"
            )
            truth[scene, variant] = (ids, depth)
    return truth


def test_virtual_kitti2_is_read_to_the_last_bit(tmp_path):
    truth = make_virtual_kitti2(tmp_path)
    data = VirtualKitti2(tmp_path, "val")
    assert len(data) == 2
    for sample, variant in zip(data, ("clone", "fog"), strict=True):
        ids, centimetres = truth["Scene02", variant]
        assert np.abs(sample.image.astype(int) - 100).max() <= 2  # JPEG
        assert (sample.labels == np.where(ids == 14, 255, ids)).all()
        far = centimetres == 65535
        assert (np.isnan(sample.depth) == far).all() and sample.depth.dtype == np.float32
        assert (sample.depth[~far] == (centimetres[~far] / 100).astype(np.float32)).all()
        assert sample.fx == 725.0087 and sample.views == {} and sample.baseline is None


def test_virtual_kitti2s_other_camera_is_the_right_view(tmp_path):
    make_virtual_kitti2(tmp_path)
    data = VirtualKitti2(tmp_path, "val", ["fog"], stereo=True)
    assert len(data) == 1
    assert np.abs(data[0].views["right"].astype(int) - 150).max() <= 2
    assert data[0].baseline == BASELINE == 0.532725


def test_virtual_kitti2s_splits_share_no_scene(tmp_path):
    make_virtual_kitti2(tmp_path, SPLITS["all"], ["clone"])
    files = {split: {f.image for f in VirtualKitti2(tmp_path, split).frames} for split in SPLITS}
    assert not files["train"] & files["val"]
    assert files["train"] | files["val"] == files["all"] and len(files["all"]) == 5


def test_virtual_kitti2_may_lack_labels_or_depth_but_not_both(tmp_path):
    make_virtual_kitti2(tmp_path, variants=["clone"])
    frames = tmp_path / "Scene02" / "clone" / "frames"
    (frames / "depth").rename(tmp_path / "depth")
    sample = VirtualKitti2(tmp_path, "val")[0]
    assert sample.depth is None and sample.labels is not None
    (frames / "classSegmentation").rename(tmp_path / "labels")
    assert "neither depth nor labels" in message_of(lambda: VirtualKitti2(tmp_path, "val"))
    (tmp_path / "depth").rename(frames / "depth")
    sample = VirtualKitti2(tmp_path, "val")[0]
    assert sample.labels is None and sample.depth is not None


def test_wrong_virtual_kitti2_is_named(tmp_path):
    make_virtual_kitti2(tmp_path, variants=["clone"])
    folder = tmp_path / "Scene02" / "clone"
    assert "expected one of ['train'" in message_of(lambda: VirtualKitti2(tmp_path, "test"))
    message = message_of(lambda: VirtualKitti2(tmp_path, "train"))
    assert f"no variants of Scene01 found as {tmp_path}/Scene01/*/frames" in message
    message = message_of(lambda: VirtualKitti2(tmp_path, "val", ["rain"]))
    assert f"{tmp_path}/Scene02/rain/frames/rgb/Camera_0/rgb_*.jpg" in message
    data = VirtualKitti2(tmp_path, "val")
    labels = folder / "frames/classSegmentation/Camera_0/classgt_00007.png"
    for color in ((1, 2, 3), (255, 255, 255)):
        write(labels, np.full((H, W, 3), color, np.uint8))
        assert f"has the colour {color}, which is not in" in message_of(lambda: data[0])
    labels.unlink()
    assert f"the first is {labels}" in message_of(lambda: VirtualKitti2(tmp_path, "val"))
    for text in ("Category r g b\nRoad 1 2\n", "Category r g b\nSea 1 2 3\n", "Category\n"):
        (folder / "colors.txt").write_text(text)
        message = message_of(lambda: VirtualKitti2(tmp_path, "val"))
        assert f"{folder}/colors.txt cannot be read" in message
    (folder / "colors.txt").write_text(COLORS)
    (folder / "intrinsic.txt").write_text("frame cameraID\n6 0 725.0\n")
    assert "has no line for rgb_00007" in message_of(lambda: VirtualKitti2(tmp_path, "val"))
    for text in ("frame cameraID\n7 0\n", "frame cameraID\n7 0 x\n", None):
        (folder / "intrinsic.txt").write_text(text) if text else (folder / "intrinsic.txt").unlink()
        message = message_of(lambda: VirtualKitti2(tmp_path, "val"))
        assert f"{folder}/intrinsic.txt" in message


# All of them


def test_street_class_lists_are_the_data_sets_own():
    assert [(c.id, c.name) for c in CITYSCAPES] == list(enumerate(ID_OF))
    names = [line.split()[0].lower() for line in COLORS.splitlines()[1:]]
    assert [c.name.replace(" ", "") for c in VIRTUAL_KITTI2] + ["undefined"] == names
    assert [c.color for c in VIRTUAL_KITTI2] == [tuple(c) for c in PALETTE[:14].tolist()]
    assert [c.id for c in VIRTUAL_KITTI2] == list(range(14))
    assert [(c.id, c.name) for c in MASK] == [(0, "background"), (1, "foreground")]
    for classes in (CITYSCAPES, VIRTUAL_KITTI2):
        flagged = {
            flag: {c.name for c in classes if flag in c.flags} for flag in ("sky", "movable")
        }
        assert flagged["sky"] == {"sky"}
        assert {"car", "truck"} < flagged["movable"]
        assert {c.name for c in classes if "traversable" in c.flags} == {"road"}


def test_street_readers_work_in_a_worker_process(tmp_path):
    make_cityscapes(tmp_path / "cityscapes")
    make_kitti(tmp_path / "kitti", [f"{DATE}/{DRIVE} 5 l"])
    write(tmp_path / "kitti/training/image_2/000160_10.png", picture())
    write(tmp_path / "kitti/training/semantic/000160_10.png", any_ids())
    make_virtual_kitti2(tmp_path / "virtual", variants=["clone"])
    data = ConcatDataset(
        [
            Cityscapes(tmp_path / "cityscapes", "train", stereo=True),
            KittiDepth(tmp_path / "kitti", "val", stereo=True),
            KittiSemantics(tmp_path / "kitti", "val"),
            VirtualKitti2(tmp_path / "virtual", "val", stereo=True),
        ]
    )
    samples = list(DataLoader(data, batch_size=None, num_workers=1))
    assert [set(sample.views) for sample in samples] == [
        {"right"},
        {"right"},
        {"right"},
        set(),
        {"right"},
    ]
    for index, sample in enumerate(samples):
        assert (sample.image == data[index].image).all()
