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

"""Each reader on files of the published layout and encoding, made here with known values."""

import csv
import pickle

import cv2
import h5py
import numpy as np
import pytest
import scipy.io
from torch.utils.data import DataLoader

from training.data.images import read_gray, read_rgb, read_uint16
from training.data.indoor_classes import NYU13, NYU40, SUNRGBD37
from training.data.readers import sun_rgbd
from training.data.readers.hypersim import SPLIT_FILE, Hypersim, depth_from_distance
from training.data.readers.nyuv2 import NyuV2
from training.data.readers.rgbd_sequence import RgbdSequence
from training.data.readers.sun_rgbd import SunRgbd
from training.errors import TrainingError

RNG = np.random.default_rng(0)
HEIGHT, WIDTH = 6, 8
NAN = float("nan")


def random_picture():
    return RNG.integers(0, 256, (HEIGHT, WIDTH, 3), np.uint8)


def write_picture(path, picture):
    path.parent.mkdir(parents=True, exist_ok=True)
    assert cv2.imwrite(str(path), picture[..., ::-1] if picture.ndim == 3 else picture)


def write_hdf5(path, **arrays):
    path.parent.mkdir(parents=True, exist_ok=True)
    with h5py.File(path, "w") as file:
        for name, array in arrays.items():
            file[name] = array


def write_mat(path, **variables):
    path.parent.mkdir(parents=True, exist_ok=True)
    scipy.io.savemat(path, variables)


def cells(*texts):
    """A MATLAB cell array (1, n) of texts."""
    array = np.empty((1, len(texts)), object)
    array[0] = texts
    return array


# The pictures


def test_a_colour_picture_is_read_as_rgb_and_turned_by_no_exif(tmp_path):
    picture = random_picture()
    write_picture(tmp_path / "a.png", picture)
    assert (read_rgb(tmp_path / "a.png") == picture).all()

    # A JPEG that asks to be turned by 90 degrees stays as it is stored, like its labels.
    encoded = cv2.imencode(".jpg", picture)[1].tobytes()
    tiff = b"II*\0\x08\0\0\0\x01\0" + b"\x12\x01\x03\0\x01\0\0\0\x06\0\0\0" + b"\0\0\0\0"
    exif = b"Exif\0\0" + tiff
    marker = b"\xff\xe1" + (len(exif) + 2).to_bytes(2, "big") + exif
    turned = tmp_path / "turned.jpg"
    turned.write_bytes(encoded[:2] + marker + encoded[2:])
    assert cv2.imread(str(turned)).shape == (WIDTH, HEIGHT, 3)
    assert read_rgb(turned).shape == (HEIGHT, WIDTH, 3)


def test_gray_pictures_keep_type_and_values(tmp_path):
    ids = RNG.integers(0, 256, (HEIGHT, WIDTH), np.uint8)
    depth = RNG.integers(0, 65536, (HEIGHT, WIDTH), np.uint16)
    write_picture(tmp_path / "ids.png", ids)
    write_picture(tmp_path / "depth.png", depth)
    assert (read_gray(tmp_path / "ids.png", np.uint8, "ids") == ids).all()
    assert read_uint16(tmp_path / "depth.png").dtype == np.uint16
    assert (read_uint16(tmp_path / "depth.png") == depth).all()


def test_wrong_pictures_are_named_with_what_was_expected(tmp_path):
    write_picture(tmp_path / "rgb.png", random_picture())
    (tmp_path / "text.png").write_text("no picture")
    with pytest.raises(TrainingError, match=r"text\.png cannot be read as an image; expected a"):
        read_rgb(tmp_path / "text.png")
    with pytest.raises(TrainingError, match=r"gone\.png is missing, expected ids in one channel"):
        read_gray(tmp_path / "gone.png", np.uint8, "ids")
    with pytest.raises(TrainingError, match=r"has 3 channels of uint8, expected masks in one"):
        read_gray(tmp_path / "rgb.png", np.uint8, "masks")
    write_picture(tmp_path / "8bit.png", random_picture()[..., 0])
    with pytest.raises(TrainingError, match=r"1 channels of uint8, .* one channel of uint16"):
        read_uint16(tmp_path / "8bit.png")


# RGB-D sequence


def make_sequence(root, count=10, step=2):
    """Frames 0, 2, 4, ... with one pixel of each kind of unknown depth."""
    frames = {}
    for i in range(count):
        stem = f"frame-{i * step:06d}"
        picture = random_picture()
        depth = RNG.integers(1, 65535, (HEIGHT, WIDTH)).astype(np.uint16)
        depth[0, :2] = 0, 65535
        write_picture(root / f"{stem}.color.png", picture)
        write_picture(root / f"{stem}.depth.png", depth)
        pose = np.eye(4)
        pose[:3, 3] = i, 0.25, -1
        np.savetxt(root / f"{stem}.pose.txt", pose)
        frames[i * step] = picture, depth
    np.savetxt(root / "camera-intrinsics.txt", [[585.5, 0, 320], [0, 586, 240], [0, 0, 1]])
    return frames


def test_a_sequence_is_read_to_the_last_bit(tmp_path):
    frames = make_sequence(tmp_path)
    data = RgbdSequence(tmp_path, "all")
    assert len(data) == 10
    for sample, (picture, stored) in zip((data[0], data[9]), (frames[0], frames[18]), strict=True):
        assert (sample.image == picture).all()
        expected = stored.astype(np.float32) / np.float32(1000)
        expected[0, :2] = NAN
        assert sample.depth.dtype == np.float32
        np.testing.assert_array_equal(sample.depth, expected)
        assert (sample.labels, sample.fx, sample.views) == (None, 585.5, {})


def test_a_sequence_is_split_in_time(tmp_path):
    frames = make_sequence(tmp_path)
    train, val = RgbdSequence(tmp_path, "train"), RgbdSequence(tmp_path, "val")
    assert (len(train), len(val)) == (8, 2)
    assert (train[7].image == frames[14][0]).all()
    assert (val[0].image == frames[16][0]).all()


def test_views_lie_so_many_frames_apart_and_never_in_another_split(tmp_path):
    frames = make_sequence(tmp_path)
    train = RgbdSequence(tmp_path, "train", neighbours=4)
    assert set(train[0].views) == {"next"}
    assert set(train[3].views) == {"previous", "next"}
    assert (train[3].views["previous"] == frames[2][0]).all()
    assert (train[3].views["next"] == frames[10][0]).all()
    assert set(train[7].views) == {"previous"}  # what comes next is for validation
    assert RgbdSequence(tmp_path, "all", neighbours=1)[4].views == {}  # there is no odd frame


def test_wrong_sequences_are_refused(tmp_path):
    with pytest.raises(TrainingError, match=r"no RGB-D images found as .*color\.jpg or \.png"):
        RgbdSequence(tmp_path, "all")
    make_sequence(tmp_path, count=5)
    with pytest.raises(TrainingError, match="got split 'test', an RGB-D sequence has"):
        RgbdSequence(tmp_path, "test")
    with pytest.raises(TrainingError, match="got neighbours -1"):
        RgbdSequence(tmp_path, "all", neighbours=-1)
    write_picture(tmp_path / "frame-000002.depth.png", np.ones((3, 3), np.uint16))
    with pytest.raises(TrainingError, match=r"\(6, 8\), its depth \(3, 3\)"):
        RgbdSequence(tmp_path, "all")[1]
    (tmp_path / "frame-000002.depth.png").unlink()
    with pytest.raises(TrainingError, match=r"1 depth files are missing, the first is .*000002"):
        RgbdSequence(tmp_path, "all")
    for text, message in (
        ("1 2 3", "has 3 numbers, expected 3x3"),
        ("fx 2 3", "cannot be read, expected 3x3 numbers"),
        ("0 0 0 0 0 0 0 0 1", r"has the focal length 0\.0"),
    ):
        (tmp_path / "camera-intrinsics.txt").write_text(text)
        with pytest.raises(TrainingError, match=message):
            RgbdSequence(tmp_path, "val")


def test_the_real_sequence_is_complete(shared_data):
    root = shared_data / "redkitchen"
    train, val = RgbdSequence(root, "train", neighbours=2), RgbdSequence(root, "val")
    assert (len(train), len(val)) == (320, 80)
    sample = train[0]
    assert sample.image.shape == (480, 640, 3) and sample.depth.shape == (480, 640)
    assert sample.fx == 585.0 and set(sample.views) == {"next"}
    assert np.nanmin(sample.depth) > 0.5 and np.nanmax(sample.depth) < 10


# NYU Depth v2

MAP40 = RNG.integers(1, 41, 894)  # to 1..40, as the published one
MAP13 = RNG.integers(1, 14, 40)


def test_a_sequence_takes_any_ending_and_skips_what_a_mac_left(tmp_path):
    frames = make_sequence(tmp_path, count=3)
    for file in tmp_path.glob("*.png"):
        file.with_name(f"._{file.name}").write_bytes(b"\0\5\26\7")
        file.rename(file.with_suffix(".PNG"))
    intrinsics = (tmp_path / "camera-intrinsics.txt").read_text()
    text = f"# of the colour camera\n{intrinsics}".replace("\n", "\r\n")
    (tmp_path / "camera-intrinsics.txt").write_text(text, encoding="utf-8-sig")
    data = RgbdSequence(tmp_path, "all")
    assert len(data) == 3 and data.fx == 585.5
    assert (data[1].image == frames[2][0]).all() and np.isfinite(data[1].depth).any()


def make_nyu(root, labels=None, count=5):
    images = RNG.integers(0, 256, (count, 3, WIDTH, HEIGHT), np.uint8)
    if labels is None:
        labels = RNG.integers(0, 895, (count, WIDTH, HEIGHT)).astype(np.uint16)
        labels[:, 0, 0] = 0
        labels[:, 0, 1] = 894
    depths = RNG.uniform(0.7, 9.9, (count, WIDTH, HEIGHT)).astype(np.float32)
    depths[:, 1, 0] = 0
    write_hdf5(root / "nyu_depth_v2_labeled.mat", images=images, labels=labels, depths=depths)
    write_mat(
        root / "splits.mat",
        trainNdxs=np.array([[3], [5]], np.uint16),
        testNdxs=np.array([[1], [2], [4]], np.uint16),
    )
    write_mat(root / "classMapping40.mat", mapClass=MAP40[None].astype(np.uint8))
    names = cells(*(c.name for c in NYU13))
    write_mat(
        root / "class13Mapping.mat",
        classMapping13={"labels13": MAP13[None].astype(np.uint8), "className": names},
    )
    return images, labels, depths


@pytest.mark.parametrize("classes", [40, 13])
def test_nyu_is_read_to_the_last_bit(tmp_path, classes):
    images, labels, depths = make_nyu(tmp_path)
    train, test = NyuV2(tmp_path, "train", classes), NyuV2(tmp_path, "test", classes)
    assert (len(train), len(test), train.classes) == (2, 3, f"nyu{classes}")
    for sample, i in ((train[0], 2), (train[1], 4), (test[0], 0), (test[2], 3)):
        for y in range(HEIGHT):
            for x in range(WIDTH):
                assert sample.image[y, x].tolist() == images[i, :, x, y].tolist()
                label = labels[i, x, y]
                if label == 0:
                    assert sample.labels[y, x] == 255
                else:  # MATLAB counts from 1: label n stands at n - 1 here
                    of40 = MAP40[label - 1]
                    wanted = of40 if classes == 40 else MAP13[of40 - 1]
                    assert sample.labels[y, x] == wanted - 1
                if (x, y) != (1, 0):
                    assert sample.depth[y, x] == depths[i, x, y]
        assert np.isnan(sample.depth[0, 1]) and np.isnan(sample.depth).sum() == 1
        assert sample.depth.dtype == np.float32 and sample.labels.dtype == np.uint8
        assert sample.image.flags.c_contiguous and sample.fx == 518.8579011745019


def test_nyu_labels_outside_the_mapping_are_refused(tmp_path):
    labels = np.zeros((5, WIDTH, HEIGHT), np.uint16)
    labels[2, 3, 3] = 895
    make_nyu(tmp_path, labels)
    with pytest.raises(TrainingError, match=r"has label 895 in image 3, .* ends at 894"):
        NyuV2(tmp_path, "train")[0]


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda r: (r / "splits.mat").unlink(), r"splits\.mat is missing, expected a MATLAB file"),
        (lambda r: (r / "splits.mat").write_text("x" * 200), "cannot be read as a MATLAB file"),
        (lambda r: write_mat(r / "splits.mat", x=1), "has no variable trainNdxs"),
        (lambda r: write_mat(r / "splits.mat", trainNdxs=[[0]]), r"indices outside 1\.\.5"),
        (lambda r: write_mat(r / "splits.mat", trainNdxs=[[6]]), r"indices outside 1\.\.5"),
        (lambda r: write_mat(r / "classMapping40.mat", mapClass=[[41]]), r"maps to 0\.\.41"),
        (lambda r: write_mat(r / "class13Mapping.mat", classMapping13=[[1]]), "no MATLAB struct"),
        (
            lambda r: write_mat(r / "class13Mapping.mat", classMapping13={"labels13": [[1, 2]]}),
            "maps 2 classes, expected 40",
        ),
        (lambda r: (r / "nyu_depth_v2_labeled.mat").unlink(), "is missing, expected HDF5"),
        (lambda r: (r / "nyu_depth_v2_labeled.mat").write_text("x"), "cannot be read as HDF5"),
        (lambda r: write_hdf5(r / "nyu_depth_v2_labeled.mat", a=[1]), r"no array images, .*'a'"),
    ],
)
def test_wrong_nyu_files_are_refused_at_construction(tmp_path, damage, message):
    make_nyu(tmp_path)
    damage(tmp_path)
    with pytest.raises(TrainingError, match=message):
        NyuV2(tmp_path, "train", 13)


def test_nyu_refuses_other_splits_and_classes_and_shapes(tmp_path):
    with pytest.raises(TrainingError, match="got split 'val', NYU Depth v2 has 'train' and"):
        NyuV2(tmp_path, "val")
    with pytest.raises(TrainingError, match="got 37 classes, NYU Depth v2 is read with 13 or 40"):
        NyuV2(tmp_path, "train", 37)
    images, labels, depths = make_nyu(tmp_path)
    turned = labels.transpose(0, 2, 1)
    write_hdf5(tmp_path / "nyu_depth_v2_labeled.mat", images=images, labels=turned, depths=depths)
    with pytest.raises(TrainingError, match=r"shapes .*\(6, 8\).* expected \(3, width, height\)"):
        NyuV2(tmp_path, "train")[0]
    few = labels[:2]
    write_hdf5(tmp_path / "nyu_depth_v2_labeled.mat", images=images, labels=few, depths=depths)
    with pytest.raises(TrainingError, match="cannot be read as HDF5 with labels"):
        NyuV2(tmp_path, "train")[0]


# SUN RGB-D

SUN_FOLDERS = (
    "SUNRGBD/kv1/NYUdata/NYU0001",
    "SUNRGBD/kv2/kinect2data/000002_2014-05-26",
    "SUNRGBD/realsense/sa/2014_10_21",
)


def make_sun(root, ids=None):
    """Three pictures: the second and the first to train, the third to test."""
    truth = []
    authors = [f"/n/fs/sun3d/data/{folder}" for folder in SUN_FOLDERS]
    meta = np.zeros(
        (1, 3), [(n, object) for n in ("sequenceName", "rgbname", "rgbpath", "depthname")]
    )
    for i, folder in enumerate(SUN_FOLDERS):
        picture = random_picture()
        depth = RNG.integers(1, 12000, (HEIGHT, WIDTH)).astype(np.uint16)
        depth[0, :4] = 0, 1, 8000, 8001
        stored = (depth << 3) | (depth >> 13)  # left by three: the inverse of the reader's
        labels = RNG.integers(0, 38, (HEIGHT, WIDTH)).astype(np.uint8) if ids is None else ids
        write_picture(root / folder / "image" / f"{i}.png", picture)
        write_picture(root / folder / "depth_bfx" / f"d{i}.png", stored)
        (root / folder / "intrinsics.txt").write_text(f"{500 + i} 0 365 0 529 265 0 0 1 ")
        meta[0, i] = folder, f"{i}.png", f"{authors[i]}/image/{i}.png", f"d{i}.png"
        truth.append((picture, depth, labels))
    toolbox = root / "SUNRGBDtoolbox"
    write_mat(toolbox / "Metadata" / "SUNRGBDMeta.mat", SUNRGBDMeta=meta)
    write_mat(
        toolbox / "traintestSUNRGBD" / "allsplit.mat",
        alltrain=cells(authors[1], authors[0].replace("/kv1", "//kv1")),
        alltest=cells(authors[2]),
    )
    with h5py.File(toolbox / "Metadata" / "SUNRGBD2Dseg.mat", "w") as file:
        references = file.create_dataset("SUNRGBD2Dseg/seglabel", (3, 1), h5py.ref_dtype)
        for i, (_, _, labels) in enumerate(truth):
            file[f"#refs#/{i}"] = labels.T
            references[i, 0] = file[f"#refs#/{i}"].ref
    return truth


def test_sun_is_read_to_the_last_bit(tmp_path):
    truth = make_sun(tmp_path)
    train, test = SunRgbd(tmp_path, "train"), SunRgbd(tmp_path, "test")
    assert (len(train), len(test)) == (2, 1)
    for sample, i in ((train[0], 1), (train[1], 0), (test[0], 2)):
        picture, depth, labels = truth[i]
        assert (sample.image == picture).all()
        metres = np.minimum(depth, 8000).astype(np.float32) / np.float32(1000)
        metres[depth == 0] = NAN
        np.testing.assert_array_equal(sample.depth, metres)
        assert sample.depth.dtype == np.float32 and sample.labels.dtype == np.uint8
        for label in range(1, 38):
            assert (sample.labels[labels == label] == label - 1).all()
        assert (sample.labels[labels == 0] == 255).all()
        assert sample.fx == 500 + i


def test_suns_depth_bits_turn_right_by_three():
    stored = np.array([[0b1000, 0b1, 0, 0xFFFF]], np.uint16)
    decoded = sun_rgbd.decode_depth(stored)
    # 8 -> 1 mm; the lowest bit becomes 2^13 = 8192 mm, which is clipped.
    np.testing.assert_array_equal(decoded, np.float32([[0.001, 8, NAN, 8]]))


def rewrite_split(root, *paths):
    split = root / "SUNRGBDtoolbox" / "traintestSUNRGBD" / "allsplit.mat"
    write_mat(split, alltrain=cells(*paths))


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (
            lambda r: (r / "SUNRGBDtoolbox/Metadata/SUNRGBDMeta.mat").unlink(),
            "SUNRGBDMeta.mat is missing",
        ),
        (
            lambda r: write_mat(r / "SUNRGBDtoolbox/Metadata/SUNRGBDMeta.mat", SUNRGBDMeta=[[1]]),
            "no struct array with rgbpath and depthname",
        ),
        (
            lambda r: (r / "SUNRGBDtoolbox/Metadata/SUNRGBD2Dseg.mat").write_text("x"),
            "cannot be read as HDF5 with SUNRGBD2Dseg/seglabel",
        ),
        (
            lambda r: write_hdf5(
                r / "SUNRGBDtoolbox/Metadata/SUNRGBD2Dseg.mat",
                **{"SUNRGBD2Dseg/seglabel": np.zeros((2, 1))},
            ),
            r"of shape \(2, 1\), expected \(3, 1\)",
        ),
        (lambda r: rewrite_split(r, "/elsewhere/SUNRGBD/a", "/b"), "expected a path below /n/fs"),
        (
            lambda r: rewrite_split(r, "/n/fs/sun3d/data/SUNRGBD/a", "/n/fs/sun3d/data/SUNRGBD/b"),
            "lists 2 folders, 2 of them are not in .* the first is SUNRGBD/a",
        ),
        (lambda r: (r / SUN_FOLDERS[0] / "image/0.png").unlink(), r"1 images are missing"),
        (lambda r: (r / SUN_FOLDERS[1] / "depth_bfx/d1.png").unlink(), r"1 depth files are miss"),
        (lambda r: (r / SUN_FOLDERS[1] / "intrinsics.txt").unlink(), r"1 intrinsics are missing"),
    ],
)
def test_wrong_sun_files_are_refused_at_construction(tmp_path, damage, message):
    make_sun(tmp_path)
    damage(tmp_path)
    with pytest.raises(TrainingError, match=message):
        SunRgbd(tmp_path, "train")


def test_sun_refuses_other_splits_labels_and_sizes(tmp_path):
    with pytest.raises(TrainingError, match="got split 'val', SUN RGB-D has 'train' and 'test'"):
        SunRgbd(tmp_path, "val")
    make_sun(tmp_path / "a", np.full((HEIGHT, WIDTH), 38, np.uint8))
    with pytest.raises(TrainingError, match=r"has labels 38\.\.38, expected 0\.\.37"):
        SunRgbd(tmp_path / "a", "train")[0]
    make_sun(tmp_path / "b", np.ones((WIDTH, HEIGHT), np.uint8))
    with pytest.raises(TrainingError, match=r"is \(6, 8\), its labels \(8, 6\)"):
        SunRgbd(tmp_path / "b", "train")[0]


# Hypersim


def make_hypersim(root, with_split=True):
    """Two scenes of one camera with two frames each; what follows is by scene, frame."""
    truth, rows = {}, []
    for scene, split in (("ai_001_001", "train"), ("ai_003_010", "val")):
        for frame in (0, 17):
            images = root / scene / "images"
            picture = random_picture()
            jpeg = images / "scene_cam_01_final_preview" / f"frame.{frame:04d}.tonemap.jpg"
            write_picture(jpeg, picture)
            geometry = images / "scene_cam_01_geometry_hdf5"
            distance = RNG.uniform(1, 9, (HEIGHT, WIDTH)).astype(np.float16)
            distance[0, 0] = NAN
            ids = RNG.integers(1, 41, (HEIGHT, WIDTH)).astype(np.int16)
            ids[1, 1] = -1
            write_hdf5(geometry / f"frame.{frame:04d}.depth_meters.hdf5", dataset=distance)
            write_hdf5(geometry / f"frame.{frame:04d}.semantic.hdf5", dataset=ids)
            truth[scene, frame] = cv2.imread(str(jpeg))[..., ::-1], distance, ids
            released = (scene, frame) != ("ai_001_001", 17)
            rows.append([scene, "cam_01", frame, released, split, ""])
    if with_split:
        with (root / SPLIT_FILE).open("w", newline="") as file:
            header = ("scene_name", "camera_name", "frame_id", "included_in_public_release")
            columns = (*header, "split_partition_name", "exclude_reason")
            csv.writer(file).writerows(
                [columns, *rows, ["ai_055_010", "cam_00", 3, True, "val", ""]]
            )
    return truth


def test_hypersim_is_read_to_the_last_bit(tmp_path):
    truth = make_hypersim(tmp_path)
    train, val = Hypersim(tmp_path, "train"), Hypersim(tmp_path, "val")
    assert (len(train), len(val), len(Hypersim(tmp_path, "all"))) == (1, 2, 4)
    focal = 886.81 * WIDTH / 1024
    for sample, key in ((train[0], ("ai_001_001", 0)), (val[1], ("ai_003_010", 17))):
        picture, distance, ids = truth[key]
        assert (sample.image == picture).all()
        assert sample.labels[1, 1] == 255 and sample.labels.dtype == np.uint8
        assert (np.delete(sample.labels, WIDTH + 1) == np.delete(ids, WIDTH + 1) - 1).all()
        assert sample.fx == pytest.approx(focal, rel=1e-15)
        assert sample.depth.dtype == np.float32
        assert np.isnan(sample.depth[0, 0]) and np.isnan(sample.depth).sum() == 1
        # The pixel at row 5, column 2 looks along (2 - 3.5, 5 - 2.5, f).
        ray = (1.5**2 + 2.5**2 + focal**2) ** 0.5
        assert sample.depth[5, 2] == pytest.approx(float(distance[5, 2]) * focal / ray, rel=1e-6)


def test_a_plane_before_the_camera_has_one_depth():
    fx, z = 886.81, 2.5
    y, x = np.mgrid[:768, :1024]
    distance = z * np.sqrt(((x - 511.5) / fx) ** 2 + ((y - 383.5) / fx) ** 2 + 1)
    np.testing.assert_allclose(depth_from_distance(distance, fx), z, rtol=1e-6)
    assert distance.max() > 1.2 * z


def test_what_is_no_distance_is_unknown():
    depth = depth_from_distance(np.array([[NAN, np.inf, 0, -1, 1]]), 5.0)
    assert np.isnan(depth).tolist() == [[True, True, True, True, False]]


def test_wrong_hypersim_folders_are_refused(tmp_path):
    with pytest.raises(TrainingError, match=r"no Hypersim images found as .*tonemap\.\*"):
        Hypersim(tmp_path, "all")
    make_hypersim(tmp_path, with_split=False)
    with pytest.raises(TrainingError, match=r"split_scene_v1\.csv is missing, .* split 'train'"):
        Hypersim(tmp_path, "train")
    assert len(Hypersim(tmp_path, "all")) == 4
    with pytest.raises(TrainingError, match="got split 'nyu', Hypersim has train, val, test and"):
        Hypersim(tmp_path, "nyu")
    make_hypersim(tmp_path)
    with pytest.raises(TrainingError, match=r"none of the images in .* is in split 'test'"):
        Hypersim(tmp_path, "test")
    for text, message in (
        ("scene,camera\n", r"has the columns \['scene', 'camera'\], expected"),
        (
            "scene_name,camera_name,frame_id,included_in_public_release,split_partition_name\n"
            "ai_001_001,cam_01,x,True,train\n",
            "has a wrong frame_id",
        ),
    ):
        (tmp_path / SPLIT_FILE).write_text(text)
        with pytest.raises(TrainingError, match=message):
            Hypersim(tmp_path, "train")


def test_wrong_hypersim_files_are_refused(tmp_path):
    make_hypersim(tmp_path)
    geometry = tmp_path / "ai_001_001" / "images" / "scene_cam_01_geometry_hdf5"
    semantic, depth = (geometry / f"frame.0000.{n}.hdf5" for n in ("semantic", "depth_meters"))
    data = Hypersim(tmp_path, "train")
    write_hdf5(semantic, dataset=np.full((HEIGHT, WIDTH), 41, np.int16))
    with pytest.raises(TrainingError, match=r"0000\.semantic\.hdf5 has labels 41\.\.41"):
        data[0]
    write_hdf5(semantic, dataset=np.ones((WIDTH, HEIGHT), np.int16))
    with pytest.raises(TrainingError, match=r"is \(6, 8\), its labels \(8, 6\)"):
        data[0]
    depth.write_bytes(depth.read_bytes()[:600])
    with pytest.raises(TrainingError, match="cannot be read as HDF5 with dataset"):
        data[0]
    semantic.unlink()
    with pytest.raises(TrainingError, match="1 semantic files are missing"):
        Hypersim(tmp_path, "train")


# All of them


@pytest.mark.parametrize(
    ("make", "reader"),
    [
        (make_sequence, RgbdSequence),
        (make_nyu, NyuV2),
        (make_sun, SunRgbd),
        (make_hypersim, Hypersim),
    ],
)
def test_every_reader_works_in_a_loaders_process(tmp_path, make, reader):
    make(tmp_path)
    data = reader(tmp_path, "train")
    here = [data[i] for i in range(len(data))]  # read here first: nothing open may go along
    there = list(DataLoader(data, batch_size=None, num_workers=1))
    sent = pickle.loads(pickle.dumps(data))  # as a process that is spawned gets it
    assert len(there) == len(here) == len(sent)
    for a, b, c in zip(here, there, [sent[i] for i in range(len(sent))], strict=True):
        assert (a.image == b.image).all() and (a.image == c.image).all()
        np.testing.assert_array_equal(a.depth, b.depth)
        np.testing.assert_array_equal(a.depth, c.depth)


def test_class_lists_have_consecutive_ids_and_distinct_names_and_colours():
    assert NYU40[:37] == SUNRGBD37
    for classes, count in ((NYU13, 13), (NYU40, 40), (SUNRGBD37, 37)):
        assert [c.id for c in classes] == list(range(count))
        assert len({c.name for c in classes}) == len({c.color for c in classes}) == count
        assert {c.name for c in classes if "traversable" in c.flags} <= {"floor", "floor mat"}
        assert not any({"traversable", "obstacle"} <= set(c.flags) for c in classes)
