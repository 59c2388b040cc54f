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

"""The folder reader: descriptions of made-up folders, and of the public data sets that have one."""

import json

import cv2
import numpy as np
import pytest
from PIL import Image

from training.data.classes import CAMVID
from training.data.sources import DESCRIPTIONS, open_source
from training.errors import TrainingError

SIZE = (6, 8)
CLASSES = "classes: {0: drive, 7: verge, 9: null, 255: house}\n"


def write(path, array):
    path.parent.mkdir(parents=True, exist_ok=True)
    image = array[..., ::-1] if array.ndim == 3 else array
    kind = ".png" if path.suffix.lower() == ".png" else path.suffix
    path.write_bytes(cv2.imencode(kind, image)[1].tobytes())


def image(seed=0):
    return np.random.default_rng(seed).integers(0, 255, (*SIZE, 3), np.uint8)


def bands(values, dtype=np.uint8):
    return np.resize(np.array(values, dtype), SIZE[1])[None].repeat(SIZE[0], 0)


@pytest.fixture
def folder(tmp_path):
    """Ten images with masks of ids, below folders of their own."""
    for number in range(10):
        name = f"{'ab'[number % 2]}/{number}"
        write(tmp_path / f"images/{name}.png", image(number))
        write(tmp_path / f"masks/{name}.png", bands([0, 7, 9, 255]))
    describe(tmp_path, CLASSES)
    return tmp_path


def describe(folder, text):
    (folder / "dataset.yaml").write_text(text)


def opened(folder, split="all", name="folder", **options):
    return open_source(name, split, folder, options=options)


def names(source):
    return [path.relative_to(source.samples.root).as_posix() for path in source.samples._paths]


# --- Labels


def test_masks_of_ids_are_read_to_the_last_bit(folder):
    source = opened(folder)
    assert len(source) == 10 and (source.source, source.terms) == (
        folder.name,
        "those of the images' owner",
    )
    ids = {c.name: c.id for c in source.classes}
    assert ids == {"drive": 0, "verge": 7, "house": 254}  # no class of a model has the id 255
    sample = source.samples[0]
    assert (sample.image == image(0)).all() and sample.depth is None and sample.fx is None
    assert (sample.labels == bands([0, 7, 255, 254])).all()
    assert source.samples.aspects == [8 / 6] * 10
    assert source.keys[0] == "images/a/0"


def test_labels_are_mapped_by_names_and_by_the_files_ids(folder):
    describe(folder, CLASSES + "map: {drive: road, 7: [pavement, tree], house: ignore}\n")
    source = opened(folder).mapped(CAMVID)
    assert (source.samples[0].labels == bands([3, 11, 255, 255])).all()
    assert source.groups.names == ("road", "pavement+tree")
    (folder / "mine.yaml").write_text("{drive: sky, verge: sky, house: sky}")
    describe(folder, CLASSES + "map: mine.yaml\n")
    assert (opened(folder).mapped(CAMVID).samples[0].labels == bands([0, 0, 255, 0])).all()
    other = {"drive": "car", "verge": "car", "house": "car"}  # an option goes before the file
    assert opened(folder, map=other).mapped(CAMVID).samples[0].labels[0, 0] == 8


def test_masks_of_colors(folder):
    colors = np.uint8([[255, 0, 0], [0, 255, 0], [0, 0, 0]])
    for path in (folder / "masks").rglob("*.png"):
        write(path, colors[bands([0, 1, 2])])
    palette = Image.fromarray(bands([5, 6, 7]))
    palette.putpalette([0, 0, 0] * 5 + colors.ravel().tolist())
    palette.save(folder / "masks/a/2.png")
    describe(
        folder,
        "mask_values: colors\n"
        'classes: [{name: road, color: "#ff0000"}, {name: tree, color: [0, 255, 0]},\n'
        "          {name: null, color: [0, 0, 0]}]\n",
    )
    source = opened(folder)
    for index in (0, 1):  # 0.png and 2.png
        assert (source.samples[index].labels == bands([0, 1, 255])).all()
    assert source.mapped(CAMVID).samples[0].labels[0, :3].tolist() == [3, 5, 255]  # by their names
    write(
        folder / "masks/a/0.png", np.where(np.arange(8)[None, :, None] < 1, 9, colors[bands([0])])
    )
    with pytest.raises(TrainingError, match=r"0\.png has the colors \[9, 9, 9\] \(6 pixels\), whi"):
        opened(folder).samples[0]


def test_a_class_list_by_name(folder):
    for path in (folder / "masks").rglob("*.png"):
        write(path, bands([3, 255]))
    describe(folder, "classes: camvid\n")
    source = opened(folder)
    assert source.classes == "camvid" and source.mapped(CAMVID) is source
    assert (source.samples[0].labels == bands([3, 255])).all()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", r"expected KEY: VALUE lines"),
        ("- a", r"expected KEY: VALUE lines"),
        ("classes: [", r"dataset\.yaml cannot be read as the description"),
        ("terms: x", r"has no `classes`, which are required"),
        ("class: camvid", r"has the entries class, expected some of name, terms, images"),
        ("classes: campus", r"there are no classes 'campus', expected id: NAME lines, or one of"),
        ("classes: {a: b}", r"the class a: expected an id of 0 to 255"),
        ("classes: {300: b}", r"the class 300: expected an id of 0 to 255"),
        ("classes: {0: 3}", r"the class 0 is 3, expected a name"),
        ("classes: {0: {nam: a}}", r"the class 0 is \{'nam': 'a'\}, expected a name"),
        ("classes: {0: {name: a, color: red}}", r"the class 0 has the color 'red', expected"),
        ("classes: {0: {name: a, flags: [x]}}", r"the class 0: .*flags"),
        ("classes: {}", r"has no classes"),
        ("classes: [a]\nclasses: [b]", r"has 'classes' twice, the second time in line 2"),
        ("classes: [a]\nmask_values: rgb", r"mask_values is 'rgb', expected ids or colors"),
        (
            "classes: [a]\nmask_values: colors",
            r"the class 0 has no color, required for mask_values",
        ),
        ("classes: [a]\nprotocol: x", r"protocol is 'x', expected one of whole"),
        ("classes: [a]\nfx: wide", r"dataset\.yaml: .*fx"),
        ("classes: [a]\nfx: -1", r"has fx -1\.0, expected pixels above 0"),
        ("classes: [a]\nfx: 1\ncamera: k.txt", r"has both `fx` and `camera`"),
        ("classes: [a]\nmap: none.yaml", r"none\.yaml cannot be read as a map of classes"),
        ("classes: [a]\nsplits: some", r"splits is 'some', expected `all` or a mapping"),
        ("classes: [a]\nsplits: {evry: 2}", r"the splits of .*evry"),
        ("classes: [a]\nsplits: {every: 1}", r"splits: every is 1"),
        ("classes: [a]\nsplits: {every: 2, share: 0.5}", r"expected one of them"),
        (
            "classes: [a]\nsplits: {held_out: [c], group: '/([ab])/'}",
            r"no group 'c' to hold out, o",
        ),
        ("classes: [a]\nsplits: {group: 'images'}", r"one group, 'images', so none can be held"),
        ("classes: [a]\nsplits: {group: 'x'}", r"group 'x' finds nothing in images/a/0\.png"),
        ("classes: [a]\nsplits: {group: '['}", r"group '\[' is not valid"),
        ("classes: [a]\nimages: photos/*.jpg", r"has the wildcards \['\*\*/', '\*'\], expected"),
        ("classes: [a]\nimages: photos/**/*", r"has no images photos/\*\*/\* of the split 'train'"),
        ("classes: [a]\nmasks: masks/**/*.jpg", r"cannot store labels or depth"),
        (
            "classes: [a]\nmasks: masks/**/*_m",
            r"8 of 8 images have no masks, the first is images",
        ),
        (
            "classes: [a]\ndepth: masks/**/*",
            r"has the depth_unit None, expected metres per ste",
        ),
    ],
)
def test_wrong_descriptions_are_one_clear_line(folder, text, message):
    describe(folder, text)
    with pytest.raises(TrainingError, match=message) as error:
        opened(folder, "train")
    assert "\n" not in str(error.value)


def test_wrong_files_are_one_clear_line(folder, tmp_path):
    with pytest.raises(
        TrainingError, match=r"there is no data set 'mine', .* folder_NAME for more"
    ):
        opened(folder, name="mine")
    assert len(opened(folder, name="folder_mine")) == 10
    with pytest.raises(TrainingError, match=r"nothing is not a folder"):
        opened(tmp_path / "nothing")
    write(folder / "masks/a/0.png", bands([0, 3]))
    with pytest.raises(
        TrainingError, match=r"0\.png has the class ids 3 \(24 pixels\), expected 0,"
    ):
        opened(folder).samples[0]
    write(folder / "masks/a/0.png", image())
    with pytest.raises(TrainingError, match=r"0\.png has 3 channels of colours, expected one ch"):
        opened(folder).samples[0]
    write(folder / "masks/a/0.png", bands([0])[:3])
    with pytest.raises(TrainingError, match=r"its labels \(3, 8\)"):
        opened(folder).samples[0]
    (folder / "masks/b/3.png").unlink()
    expected = (
        r"1 of 10 images have no masks, the first is images/b/3\.png, expected masks/b/3\.png"
    )
    with pytest.raises(TrainingError, match=expected):
        opened(folder)
    write(folder / "images/a/0.jpg", image())
    with pytest.raises(TrainingError, match=r"0\.\w+ and 0\.\w+ have the same name except for th"):
        opened(folder)
    (folder / "dataset.yaml").unlink()
    with pytest.raises(TrainingError, match=r"dataset\.yaml is missing.*own_images\.md"):
        opened(folder)


def test_entries_without_their_files_are_refused(folder):
    (folder / "masks").rename(folder / "labels")
    with pytest.raises(TrainingError, match=r"has `classes`, but .* no folder masks: set `masks`"):
        opened(folder)
    describe(folder, "depth_unit: 0.001")
    with pytest.raises(TrainingError, match=r"has `depth_unit`, but .* no folder depth"):
        opened(folder)


def test_what_is_left_out_is_reported(folder, caplog):
    (folder / "images/a/._0.png").write_bytes(b"\0")
    (folder / "images/.cache").mkdir()
    (folder / "images/a/Thumbs.db").write_text("x")
    write(folder / "masks/a/x.png", bands([0]))
    assert len(opened(folder)) == 10
    assert [record.message.partition(": ")[2] for record in caplog.records] == [
        "1 files are left out, not images by the description: 1 .db",
        "1 files are left out, masks without an image: 1 .png",
    ]


# --- Depth


def test_depth_becomes_metres_and_what_is_unknown_nan(tmp_path):
    for kind, (array, unit) in {
        "png": (bands([0, 1500, 65535, 40], np.uint16), 0.001),
        "tif": (bands([np.nan, 1.5, np.inf, 0.04], np.float32), 1.0),
    }.items():
        folder = tmp_path / kind
        write(folder / "images/x.JPG", image())
        write(folder / f"depth/x.{kind}", array)
        describe(folder, f"depth_unit: {unit}\nfx: 7")
        source = opened(folder)
        sample = source.samples[0]
        assert source.classes is None and sample.labels is None and sample.fx == 7
        expected = bands([np.nan, 1.5, np.nan, 0.04], np.float32)
        np.testing.assert_allclose(sample.depth, expected, rtol=1e-6)
    write(folder / "depth/x.tif", image())
    with pytest.raises(TrainingError, match=r"x\.tif has 3 channels of uint8, expected depth in"):
        opened(folder).samples[0]


def test_the_focal_length_comes_from_a_file(tmp_path):
    write(tmp_path / "images/x.png", image())
    (tmp_path / "k.txt").write_text("9 0 4\n0 9 3\n0 0 1\n")
    describe(tmp_path, "camera: k.txt")
    assert opened(tmp_path).samples[0].fx == 9
    about = {"image_width": 8, "image_height": 6, "camera_matrix": {"data": [5.5, 0, 4]}}
    (tmp_path / "k.yaml").write_text(json.dumps(about))
    describe(tmp_path, "camera: k.yaml")
    assert opened(tmp_path).samples[0].fx == 5.5
    (tmp_path / "k.yaml").write_text(json.dumps({**about, "image_width": 16}))
    with pytest.raises(TrainingError, match=r"is for images of \(16, 6\), .* is \(8, 6\) \(width"):
        opened(tmp_path)
    (tmp_path / "k.yaml").write_text("K: 1")
    with pytest.raises(TrainingError, match=r"k\.yaml is not a camera's calibration, expected"):
        opened(tmp_path)


# --- Splits


def test_by_default_every_fifth_image_is_held_out(folder):
    train, val = opened(folder, "train"), opened(folder, "val")
    assert names(val) == ["images/a/4.png", "images/b/5.png"]
    assert not set(names(train)) & set(names(val)) and len(train) == 8
    test = opened(folder, "test")
    assert test.split == "val" and names(test) == names(val)
    with pytest.raises(TrainingError, match=r"got split 'foo', .* has train, val and all"):
        opened(folder, "foo")


@pytest.mark.parametrize(
    ("splits", "val"),
    [
        ("{group: '/([ab])/', every: 2}", "b"),
        ("{group: '/([ab])/'}", "b"),  # of two groups, the last
        ("{group: '/([ab])/', held_out: [a]}", "a"),
        ("{group: '/([ab])/', share: 0.5}", "b"),
        ("{group: '/([ab])/', share: 0.1}", "a"),  # at least one
        (r"{group: '\D+', held_out: [images/a/.png]}", "a"),
    ],
)
def test_groups_stay_together(folder, splits, val):
    describe(folder, CLASSES + f"splits: {splits}")
    held_out, rest = opened(folder, "val"), opened(folder, "train")
    assert {name.split("/")[1] for name in names(held_out)} == {val}
    assert len(held_out) == len(rest) == 5 and not set(names(held_out)) & set(names(rest))


def test_groups_to_hold_out_that_are_missing_are_reported(folder, caplog):
    describe(folder, CLASSES + "splits: {group: '/([ab])/', held_out: [a, c]}")
    assert len(opened(folder, "val")) == 5
    (line,) = caplog.messages
    assert line == "splits: there is no group 'c' to hold out, only 'a', 'b'"


def test_all_images_may_be_in_every_split(folder):
    for split in ("train", "val", "test"):
        source = opened(folder, split, splits="all")
        assert (source.split, len(source)) == (split, 10)


def test_a_share_changes_little_when_groups_come(tmp_path):
    def held_out(count):
        for number in range(count):
            write(tmp_path / f"images/{number}.png", image())
        describe(tmp_path, "splits: {share: 0.25}")
        return set(names(opened(tmp_path, "val")))

    before, after = held_out(40), held_out(44)
    assert len(before) == 10 and len(after) == 11
    assert len(before & after) >= 8


def test_fixed_folders(tmp_path):
    for split, count in (("training", 3), ("validation", 2)):
        for number in range(count):
            write(tmp_path / f"{split}/{number}_rgb.png", image())
            write(tmp_path / f"truth/{split}/{number}.png", bands([0]))
    text = "images: '{split}/*_rgb.png'\nmasks: 'truth/{split}/*.png'\nclasses: [road]\n"
    describe(tmp_path, text + "splits: {folders: {train: training, val: validation}}")
    assert [len(opened(tmp_path, s)) for s in ("train", "val", "all")] == [3, 2, 5]
    assert opened(tmp_path, "test").split == "val"
    assert len(opened(tmp_path, "train", splits="all")) == 5
    describe(tmp_path, text)
    with pytest.raises(TrainingError, match=r"of the split 'train' \(train for \{split\}\)"):
        opened(tmp_path, "train")
    # A published test split is never trained on, even by who takes all.
    write(tmp_path / "testing/0_rgb.png", image())
    write(tmp_path / "truth/testing/0.png", bands([0]))
    folders = "{train: training, val: training, test: testing}"
    describe(tmp_path, text + f"splits: {{folders: {folders}, every: 3}}")
    assert [len(opened(tmp_path, s)) for s in ("train", "val", "test")] == [2, 1, 1]
    assert len(opened(tmp_path, "train", splits="all")) == 3


# --- Public data sets


def test_idd_lite(shared_data):
    train, val = (opened(shared_data / "idd_lite", s, "idd_lite") for s in ("train", "val"))
    assert (len(train), len(val), val.source) == (1078, 325, "IDD-Lite")
    sequences = [{name.split("/")[2] for name in names(s)} for s in (train, val)]
    assert [len(s) for s in sequences] == [247, 62] and not sequences[0] & sequences[1]
    mapped = val.mapped(CAMVID)
    assert mapped.sets == 5
    assert mapped.groups.names == (
        "road", "pavement", "pedestrian+bicyclist", "car", "pole+sign+fence", "building+tree",
        "sky",
    )  # fmt: skip
    sample = mapped.samples[3]
    assert sample.image.shape == (227, 320, 3) and set(np.unique(sample.labels)) >= {0, 3, 13, 15}


def test_labelmefacade(shared_data):
    folder = shared_data / "labelmefacade"
    train, val = (opened(folder, s, "labelmefacade") for s in ("train", "val"))
    assert (len(train), len(val)) == (603, 72)
    towns = ("barcelona", "gerona", "madrid", "galicia", "valladolid")
    assert [{any(town in name for town in towns) for name in names(s)} for s in (train, val)] == [
        {False}, {True},
    ]  # fmt: skip
    mapped = val.mapped(CAMVID)
    assert mapped.groups.names == ("building", "car", "pavement", "road", "sky", "tree")
    assert set(np.unique(mapped.samples[0].labels)) <= {0, 1, 3, 4, 5, 8, 255}


def test_kitti_lidar(shared_data):
    for split in ("train", "val", "test"):
        source = opened(shared_data / "kitti_lidar", split, "kitti_lidar")
        assert (source.split, len(source), source.protocol) == (split, 13, "kitti_60")
    sample = source.samples[0]
    assert sample.labels is None and sample.fx == pytest.approx(721.5377)
    known = np.isfinite(sample.depth)
    assert 0.03 < known.mean() < 0.05 and 2 < sample.depth[known].min() < 5
    assert sample.depth[known].max() < 90


def test_every_description_fits_the_default_model(tmp_path):
    """Without its images: what maps and groups say."""
    for path in DESCRIPTIONS.glob("*.yaml"):
        root = tmp_path / path.stem
        for file in (
            "leftImg8bit/train/7/1_image.jpg", "images/1.jpg", "1.jpg",
            "leftImg8bit/train/8/1_image.jpg", "images/madrid.jpg",
        ):  # fmt: skip
            write(root / file, image())
        for file in (
            "gtFine/train/7/1_label.png", "gtFine/train/8/1_label.png", "labels/1.png",
            "labels/madrid.png",
        ):  # fmt: skip
            write(root / file, bands([0, 255]))
        write(root / "1.depth.png", bands([256], np.uint16))
        (root / "camera-intrinsics.txt").write_text("9 0 4 0 9 3 0 0 1")
        source = opened(root, "val", path.stem).mapped(CAMVID)
        assert source.name == path.stem and source.samples[0].image.shape == (*SIZE, 3)
