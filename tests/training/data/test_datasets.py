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

import resource

import cv2
import numpy as np
import pytest
from PIL import Image

from depthseg_ros import street
from training.data.classes import CAMVID
from training.data.readers.camvid import CamVid
from training.data.synthetic import rendered
from training.data.synthetic.rendered import (
    ASPECTS,
    FIRST_SEED,
    MOMENTS_APART,
    RenderedStreets,
    random_camera,
)
from training.errors import TrainingError


def make_camvid(root, labels=None, names=("b", "a")):
    (root / "train").mkdir(parents=True)
    (root / "trainannot").mkdir()
    rng = np.random.default_rng(0)
    pictures = {}
    for name in names:
        picture = rng.integers(0, 255, (36, 48, 3), np.uint8)
        ids = rng.integers(0, 12, (36, 48)).astype(np.uint8) if labels is None else labels
        cv2.imwrite(str(root / "train" / f"{name}.png"), picture[..., ::-1])
        cv2.imwrite(str(root / "trainannot" / f"{name}.png"), ids)
        pictures[name] = (picture, ids)
    return pictures


def test_camvid_is_read_to_the_last_bit(tmp_path):
    pictures = make_camvid(tmp_path)
    data = CamVid(tmp_path, "train")
    assert len(data) == 2
    for sample, name in zip((data[0], data[1]), ("a", "b"), strict=True):
        picture, ids = pictures[name]
        assert (sample.image == picture).all()
        assert (sample.labels == np.where(ids == 11, 255, ids)).all()
        assert sample.depth is None and sample.fx is None


def test_camvid_takes_every_ending_and_skips_what_a_mac_left(tmp_path, caplog):
    names = ("1", "2", "3", "4")
    pictures = make_camvid(tmp_path, names=names)
    train, annot = tmp_path / "train", tmp_path / "trainannot"
    for name, ending in zip(names, ("png", "PNG", "JPG", "jpeg"), strict=True):
        picture = pictures[name][0]
        kind = ".png" if ending.lower() == "png" else ".jpg"
        (train / f"{name}.png").unlink()
        (train / f"{name}.{ending}").write_bytes(cv2.imencode(kind, picture)[1].tobytes())
        (annot / f"{name}.png").rename(annot / f"{name}.{'PNG' if name == '1' else 'png'}")
    palette = Image.fromarray(pictures["2"][1])
    palette.putpalette([(9 * i) % 256 for i in range(36)])
    palette.save(annot / "2.png")  # its indices are the ids
    for folder in (train, annot):
        (folder / "._1.png").write_bytes(b"\0\5\26\7")
        (folder / ".DS_Store").write_bytes(b"\0")
    assert not caplog.records
    (train / "notes.txt").write_text("no image")
    (annot / "5.png").write_bytes((annot / "2.png").read_bytes())
    data = CamVid(tmp_path, "train")
    assert len(data) == 4
    for sample, name in zip(data, names, strict=True):
        assert (sample.labels == np.where(pictures[name][1] == 11, 255, pictures[name][1])).all()
    assert [record.message.partition(": ")[2] for record in caplog.records] == [
        "1 files are left out, not images by their names: 1 .txt",
        "1 files are left out, labels without an image: 1 .png",
    ]
    (train / "1.jpg").write_bytes(b"")
    with pytest.raises(TrainingError, match=r"1\.jpg and 1\.png have the same name except"):
        CamVid(tmp_path, "train")


def test_masks_in_place_of_class_ids_are_reported(tmp_path, caplog):
    make_camvid(tmp_path, np.repeat(np.uint8([[0, 255]]), 24, 1).repeat(36, 0))
    CamVid(tmp_path, "train")
    (record,) = caplog.records
    assert "only the ids 0 and 255 (unlabelled)" in record.message


def test_whole_drives_of_camvid_are_held_out(tmp_path):
    make_camvid(tmp_path / "a", names=("01TP_1", "01TP_2", "06R0_1"))
    make_camvid(tmp_path / "b", names=("06R0_2", "16E5_1"))
    for name in ("train", "trainannot"):
        (tmp_path / "b" / name).rename(tmp_path / "a" / name.replace("train", "val"))
    root = tmp_path / "a"

    def names(split, held_out):
        return [picture.stem for picture, _ in CamVid(root, split, held_out).pairs]

    assert names("train", "06R0") == ["01TP_1", "01TP_2", "16E5_1"]
    assert names("val", "06R0") == ["06R0_1", "06R0_2"]
    assert names("val", ["01TP", "16E5"]) == ["01TP_1", "01TP_2", "16E5_1"]
    assert len(names("train", [])) == 5 and len(names("train", None)) == 3
    with pytest.raises(
        TrainingError, match=r"no drive 06R1 in train and val, only 01TP, 06R0, 16E5"
    ):
        CamVid(root, "val", "06R1")
    with pytest.raises(TrainingError, match=r"has no images for 'val' if held_out is \[\]"):
        CamVid(root, "val", [])


def test_a_folder_without_camvid_is_named(tmp_path):
    with pytest.raises(TrainingError, match=r"no CamVid images found as .*train/\*"):
        CamVid(tmp_path, "train")


def test_missing_labels_are_counted_and_named(tmp_path):
    make_camvid(tmp_path)
    (tmp_path / "trainannot" / "a.png").unlink()
    with pytest.raises(TrainingError, match=r"1 label files are missing, the first is .*a\.png"):
        CamVid(tmp_path, "train")


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        (np.full((36, 48), 12, np.uint8), r"has the class ids 12 \(1728 pixels\), expected 0..11,"),
        (np.full((36, 48, 3), (1, 2, 3), np.uint8), "3 channels of colours, expected one"),
        (np.zeros((10, 48), np.uint8), r"\(36, 48\), its labels \(10, 48\)"),
    ],
)
def test_wrong_labels_are_refused(tmp_path, labels, message):
    make_camvid(tmp_path, labels)
    with pytest.raises(TrainingError, match=message):
        CamVid(tmp_path, "train")[0]


def test_the_real_camvid_is_complete(shared_data):
    assert len(CamVid(shared_data / "camvid", "train")) == 367
    val = CamVid(shared_data / "camvid", "val")
    assert len(val) == 101
    assert val[0].image.shape == (360, 480, 3)


def test_the_streets_classes_are_camvids():
    assert tuple(c.name for c in CAMVID) == street.CLASS_NAMES
    assert [c.id for c in CAMVID] == list(range(11))


def test_rendered_streets_come_back_from_disk_as_they_were_rendered(tmp_path):
    data = RenderedStreets("val", 1, 2, (96, 72), tmp_path)
    data.render()
    (folder,) = tmp_path.iterdir()
    first = FIRST_SEED["val"]
    assert sorted(p.name for p in folder.iterdir()) == [
        f"{first}-0.npz", f"{first}-{MOMENTS_APART}.npz"
    ]  # fmt: skip
    frame = street.Street(first, 96, 72).frame(MOMENTS_APART)
    sample = data[1]
    assert (sample.image == frame.image).all() and (sample.labels == frame.labels).all()
    assert (np.isnan(sample.depth) == np.isnan(frame.depth)).all()
    np.testing.assert_allclose(sample.depth, frame.depth, rtol=5e-4)
    assert sample.fx == pytest.approx(frame.intrinsics.fx)
    assert sample.views == {} and sample.baseline is None


def test_splits_share_no_street():
    seeds = {split: {s.seed for s in RenderedStreets(split, 1000).moments} for split in FIRST_SEED}
    assert all(len(of_split) == 1000 for of_split in seeds.values())
    assert not seeds["train"] & seeds["val"] and not seeds["val"] & seeds["test"]


def test_files_of_earlier_versions_are_still_read(tmp_path):
    folder = tmp_path / f"{rendered._renderer()}-8x6"
    folder.mkdir()
    arrays = {
        "image": np.full((6, 8, 3), 7, np.uint8),
        "labels": np.full((6, 8), 3, np.uint8),
        "depth": np.full((6, 8), 2.5, np.float16),
        "fx": np.array(9.0),
    }
    np.savez(folder / f"{FIRST_SEED['val']}-0.npz", **arrays)
    sample = RenderedStreets("val", 1, 1, (8, 6), tmp_path)[0]
    assert (sample.image == 7).all() and (sample.labels == 3).all() and sample.fx == 9.0
    assert (sample.depth == 2.5).all() and sample.depth.dtype == np.float32


VIDEO = 4
SIZE = (160, 120)


@pytest.fixture(scope="module")
def kept(tmp_path_factory):
    """A street with all views, from files, and the folder of these."""
    folder = tmp_path_factory.mktemp("streets")
    data = RenderedStreets("val", 1, 1, SIZE, folder, stereo=True, video=VIDEO)
    data.render()
    return data, folder


def seen_from(sample, pose, view):
    """`view` drawn as this camera sees it, by depth and pose, and where it can be, (H, W) bool."""
    height, width = sample.depth.shape
    v, u = np.mgrid[:height, :width].astype(np.float64)
    centre = np.array([(width - 1) / 2, (height - 1) / 2])
    rays = np.stack([(u - centre[0]) / sample.fx, (v - centre[1]) / sample.fx, np.ones_like(u)], -1)
    points = (rays * sample.depth[..., None]) @ pose[:3, :3].T + pose[:3, 3]
    at = (points[..., :2] / points[..., 2:] * sample.fx + centre).astype(np.float32)
    inside = ((at > 0) & (at < (width - 1, height - 1))).all(-1) & (sample.depth < 100)
    return cv2.remap(view, np.nan_to_num(at, nan=-9), None, cv2.INTER_LINEAR), inside


def share_alike(a, b, where):
    return (np.abs(a.astype(int) - b).max(-1) < 20)[where].mean()


def test_the_right_picture_is_the_left_one_moved_by_the_disparity(kept):
    sample = kept[0][0]
    height, width = sample.depth.shape
    assert sample.baseline == 0.54
    v, u = np.mgrid[:height, :width].astype(np.float32)
    disparity = np.nan_to_num(sample.fx * sample.baseline / sample.depth).astype(np.float32)
    warped = cv2.remap(sample.views["right"], u - disparity, v, cv2.INTER_LINEAR)
    near = (u > disparity) & (disparity > 3)
    assert near.mean() > 0.2
    assert share_alike(warped, sample.image, near) > 0.93
    assert share_alike(sample.views["right"], sample.image, near) < 0.85


@pytest.mark.parametrize("name", ["right", "previous", "next"])
def test_depth_and_pose_lead_from_each_view_back_to_the_picture(kept, name):
    data, _ = kept
    sample, pose = data[0], data.poses(0)[name]
    warped, inside = seen_from(sample, pose, sample.views[name])
    moved = share_alike(warped, sample.image, inside)
    assert moved > 0.8
    assert moved > share_alike(sample.views[name], sample.image, inside) + 0.05


def test_the_true_poses_are_those_of_a_second_eye_and_of_a_drive_forwards(kept):
    poses = kept[0].poses(0)
    beside = np.eye(4)
    beside[0, 3] = -0.54
    np.testing.assert_allclose(poses["right"], beside, atol=1e-9)
    # 5 to 11 m/s at 30 frames a second: what stays where it is comes nearer.
    metres = -poses["next"][2, 3] / (VIDEO / 30)
    assert 4.9 < metres < 11.1
    assert poses["previous"][2, 3] == pytest.approx(-poses["next"][2, 3], rel=0.02)


def test_views_are_the_streets_own_frames(kept):
    own = street.Street(FIRST_SEED["val"], *SIZE)
    sample = kept[0][0]
    assert (sample.image == own.frame(MOMENTS_APART).image).all()
    assert (sample.views["previous"] == own.frame(MOMENTS_APART - VIDEO).image).all()
    assert (sample.views["next"] == own.frame(MOMENTS_APART + VIDEO).image).all()
    assert (sample.views["right"] == own.frame(MOMENTS_APART, 0.54).image).all()


def test_what_is_not_kept_equals_what_is(kept):
    data, _ = kept
    fresh = RenderedStreets("val", 1, 1, SIZE, None, stereo=True, video=VIDEO)
    fresh.render()
    a, b = data[0], fresh[0]
    for name in ("image", "labels", "depth"):
        np.testing.assert_array_equal(getattr(a, name), getattr(b, name))
    assert a.fx == b.fx and a.views.keys() == b.views.keys()
    assert all((a.views[name] == b.views[name]).all() for name in a.views)
    assert all((data.poses(0)[name] == fresh.poses(0)[name]).all() for name in a.views)


def test_views_leave_the_plain_set_as_it_is(kept):
    data, folder = kept
    file = f"{FIRST_SEED['val']}-{MOMENTS_APART}.npz"
    sets = {path.name: [p.name for p in path.iterdir()] for path in folder.iterdir()}
    plain = f"{rendered._renderer()}-160x120"
    assert sets.pop(plain) == [file]
    assert len(sets) == 3 and all(files == [file] for files in sets.values())
    times = {p: p.stat().st_mtime_ns for p in folder.rglob("*.npz")}
    data.render()
    assert times == {p: p.stat().st_mtime_ns for p in folder.rglob("*.npz")}


def test_where_the_drive_begins_anew_there_is_no_neighbour_across():
    # This street's 460 frames end between its moments at 420 and 480.
    data = RenderedStreets("test", 1, 8, (32, 24), None, video=60)
    assert [shot.frame for shot in data.moments[-2:]] == [420, 480]
    assert data[5].views.keys() == {"previous", "next"}
    assert data[6].views.keys() == {"previous"}
    assert data[7].views.keys() == {"next"}


def test_half_written_files_do_not_remain(tmp_path):
    data = RenderedStreets("val", 1, 1, (160, 120), tmp_path)
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (40_000, before[1]))  # the picture has 57 600 bytes
    try:
        with pytest.raises(OSError, match="too large"):
            data[0]
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert [p for p in tmp_path.rglob("*") if p.is_file()] == []
    assert data[0].image.shape == (120, 160, 3)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"split": "dev"}, "split is 'dev', expected one of train, val, test"),
        ({"split": "val", "video": 61}, r"video is 61 frames, expected 0 \(none\) to 60"),
    ],
)
def test_what_cannot_be_rendered_is_said_at_once(arguments, message):
    with pytest.raises(TrainingError, match=message):
        RenderedStreets(streets=1, **arguments)


def test_mountings_bring_other_cameras_and_shapes_and_stay_the_same(tmp_path):
    data = RenderedStreets("val", 3, 2, (96, 72), tmp_path, mountings=True)
    data.render()
    samples = [data[i] for i in range(len(data))]
    again = RenderedStreets("val", 3, 2, (96, 72), None, mountings=True)[0]
    np.testing.assert_array_equal(samples[0].image, again.image)
    for sample, aspect in zip(samples, data.aspects, strict=True):
        height, width = sample.image.shape[:2]
        assert sample.depth.shape == sample.labels.shape == (height, width)
        assert width / height == aspect
        assert 0.9 < width * height / (96 * 72) < 1.1
    shapes = {sample.image.shape for sample in samples[::2]}
    assert len(shapes) > 1 and len({s.fx for s in samples[::2]}) == 3


def test_mountings_cover_what_robots_and_cars_have():
    cameras = [random_camera(seed, 480 * 360) for seed in range(500)]
    heights = np.array([camera.height for _, camera in cameras])
    pitches = np.degrees([camera.pitch for _, camera in cameras])
    assert heights.min() < 0.3 and heights.max() > 2.5
    assert pitches.min() < -20 and pitches.max() <= 5
    aspects = {round(width / height, 1) for (width, height), _ in cameras}
    assert aspects == {round(aspect, 1) for aspect in ASPECTS}
