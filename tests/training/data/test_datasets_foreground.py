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

from pathlib import Path

import cv2
import numpy as np
import pytest
from torch.utils.data import ConcatDataset, DataLoader

from training.data.readers.background_foreground import BackgroundForeground, in_split
from training.data.readers.museum import Museum
from training.errors import TrainingError

SIZE = 16
LEFT, RIGHT = np.s_[:, :8], np.s_[:, 8:]  # whole blocks of a JPEG, which stay apart


def write(path: Path, array: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = array[..., ::-1] if array.ndim == 3 else array
    assert cv2.imwrite(str(path), pixels, [cv2.IMWRITE_JPEG_QUALITY, 100])


def two_values(left: int, right: int) -> np.ndarray:
    array = np.full((SIZE, SIZE), left, np.uint8)
    array[RIGHT] = right
    return array


def flat(value: int) -> np.ndarray:
    return np.full((SIZE, SIZE, 3), value, np.uint8)


def message_of(make) -> str:
    """The one line with which something is refused."""
    with pytest.raises(TrainingError) as error:
        make()
    assert "\n" not in str(error.value)
    return str(error.value)


# The museum


def make_museum(root, backgrounds, foregrounds, places=2):
    lines = []
    for b in backgrounds:
        write(root / "bg" / f"bg{b:03}.jpeg", flat(b))
        for f in foregrounds:
            for k in range(1, places + 1):
                name = f"bg{b:03}_fg{f:03}_{k:02}"
                lines.append(f"bg{b:03}\t{name}\t{name}_mask\t{name}_depth_map")
                write(root / "bg_fg" / f"{name}.jpeg", flat(100 + f))
                write(root / "bg_fg_mask" / f"{name}_mask.jpeg", two_values(0, 255))
                write(root / "bg_fg_depth_map" / f"{name}_depth_map.jpeg", two_values(51, 102))
    (root / "file_map.txt").write_text("\n".join(lines) + "\n")
    return lines


def test_the_museum_is_read_as_published(tmp_path):
    make_museum(tmp_path, [29], [10], places=1)
    data = Museum(tmp_path, "all")
    assert len(data) == 1
    sample = data[0]
    assert np.abs(sample.image.astype(int) - 110).max() <= 1
    assert set(sample.views) == {"background"}
    assert np.abs(sample.views["background"].astype(int) - 29).max() <= 1
    assert sample.labels.dtype == np.uint8
    assert (sample.labels[LEFT] == 0).all() and (sample.labels[RIGHT] == 1).all()
    assert sample.depth.dtype == np.float32
    np.testing.assert_allclose(sample.depth[LEFT], 0.2, atol=2 / 255)
    np.testing.assert_allclose(sample.depth[RIGHT], 0.4, atol=2 / 255)
    assert sample.fx is None and sample.baseline is None


def test_the_museum_takes_any_ending_and_a_list_with_a_byte_order_mark(tmp_path):
    lines = make_museum(tmp_path, [29], [10], places=2)
    for file in tmp_path.rglob("*.jpeg"):
        file.rename(file.with_suffix(".JPG"))
        file.with_name(f"._{file.name}").write_bytes(b"\0\5\26\7")
    text = "\r\n".join(["# stems", *lines, ""])
    (tmp_path / "file_map.txt").write_text(text, encoding="utf-8-sig")
    data = Museum(tmp_path, "all")
    assert [Path(file).suffix for files in data.files for file in files] == [".JPG"] * 8
    assert data[1].labels.any()
    scene = tmp_path / data.files[0].scene
    scene.with_suffix(".png").write_bytes(b"")
    assert "remove one" in message_of(lambda: Museum(tmp_path, "all"))


def test_masks_are_cut_at_one_half_in_one_channel_or_three(tmp_path):
    make_museum(tmp_path, [1], [1], places=1)
    mask = tmp_path / "bg_fg_mask" / "bg001_fg001_01_mask.jpeg"
    for pixels in (two_values(120, 136), np.dstack([two_values(120, 136)] * 3)):
        write(mask, pixels)
        labels = Museum(tmp_path, "all")[0].labels
        assert (labels[LEFT] == 0).all() and (labels[RIGHT] == 1).all()


def test_the_museums_splits_share_neither_background_nor_foreground(tmp_path):
    lines = make_museum(tmp_path, range(1, 11), (1, 2, 5, 10), places=1)

    def parts(split, leaking=False):
        stems = [
            Path(files.scene).stem.split("_") for files in Museum(tmp_path, split, leaking).files
        ]
        return {b for b, _, _ in stems}, {f for _, f, _ in stems}, len(stems)

    train, val = parts("train"), parts("val")
    assert train[0] == {f"bg{n:03}" for n in (1, 2, 3, 4, 6, 7, 8, 9)}
    assert val[0] == {"bg005", "bg010"}
    assert train[1] == {"fg001", "fg002"} and val[1] == {"fg005", "fg010"}
    assert train[2] == 8 * 2 and val[2] == 2 * 2 and parts("all")[2] == len(lines) == 40
    # A random split is offered, and leaks.
    train, val = parts("train", leaking=True), parts("val", leaking=True)
    assert train[2] + val[2] == 40 and 0 < val[2] < train[2]
    assert train[0] & val[0] and train[1] & val[1]


def test_a_random_split_never_has_a_picture_in_both_and_is_always_the_same(tmp_path):
    numbers = np.arange(1000)
    train, val = (in_split(split, numbers, numbers, leaking=True) for split in ("train", "val"))
    assert (train != val).all() and 150 < val.sum() < 250
    assert (in_split("val", numbers, numbers, leaking=True) == val).all()


def test_a_wrong_museum_is_named(tmp_path):
    message = message_of(lambda: Museum(tmp_path, "train"))
    assert f"the museum's {tmp_path}/file_map.txt cannot be read" in message
    lines = make_museum(tmp_path, [1], [1])
    message = message_of(lambda: Museum(tmp_path, "val"))
    assert "none of 2 composites is in split 'val'" in message
    message = message_of(lambda: Museum(tmp_path, "test"))
    assert "'test' of composites, expected one of ['train', 'val', 'all']" in message
    mask = tmp_path / "bg_fg_mask" / "bg001_fg001_02_mask.jpeg"
    mask.unlink()
    message = message_of(lambda: Museum(tmp_path, "train"))
    assert f"1 images of {tmp_path}/file_map.txt are missing, the first is {mask}" in message
    for line in (
        lines[0].replace("\t", " "),
        lines[0] + "\tmore",
        lines[0].replace("bg001\t", "bg002\t"),
        "bg001\tscene\tmask\tdepth",
    ):
        (tmp_path / "file_map.txt").write_text(f"{lines[0]}\n{line}\n")
        assert "line 2 is" in message_of(lambda: Museum(tmp_path, "train"))
    (tmp_path / "file_map.txt").write_text("\n")
    assert "is empty" in message_of(lambda: Museum(tmp_path, "train"))


def test_a_damaged_museum_is_named(tmp_path):
    make_museum(tmp_path, [1], [1], places=1)
    data = Museum(tmp_path, "train")
    depth = tmp_path / "bg_fg_depth_map" / "bg001_fg001_01_depth_map.jpeg"
    write(depth, np.zeros((8, 8), np.uint8))
    assert "its depth (8, 8) (height, width)" in message_of(lambda: data[0])
    depth.write_bytes(b"no picture")
    assert f"{depth} cannot be read" in message_of(lambda: data[0])


# Background/foreground

NAMES = ("bg", "fg_bg", "fg_bg_mask", "dense_depth")


def make_composites(root, backgrounds, count, names=NAMES, first=1):
    """Scenes numbered on over all backgrounds, so that their order is no order of text."""
    number = first
    for b in backgrounds:
        write(root / names[0] / f"{b}.jpg", flat(b))
        for _ in range(count):
            write(root / names[1] / str(b) / f"{number}.jpg", flat(number))
            # Masks and depth are numbered in another way: only positions pair them.
            write(root / names[2] / str(b) / f"{number + 95}.jpg", two_values(0, 255))
            write(root / names[3] / str(b) / f"{number + 95}.jpg", two_values(number, 2 * number))
            number += 1


def test_composites_are_paired_by_position_in_the_order_of_numbers(tmp_path):
    make_composites(tmp_path, [2, 10], 4, first=8)
    data = BackgroundForeground(tmp_path, "all", variants=2)
    assert len(data) == 8
    for index, sample in enumerate(data):
        number = 8 + index  # 8, 9, 10, 11: as text 10 would come first; 103 before 99 likewise
        assert np.abs(sample.image.astype(int) - number).max() <= 1
        background = 2 if index < 4 else 10
        assert np.abs(sample.views["background"].astype(int) - background).max() <= 1
        assert (sample.labels[LEFT] == 0).all() and (sample.labels[RIGHT] == 1).all()
        paths = data.files[index]
        assert Path(paths.mask).stem == Path(paths.depth).stem == str(number + 95)


def test_depth_is_divided_by_each_pictures_own_maximum(tmp_path):
    make_composites(tmp_path, [1], 2, first=100)
    data = BackgroundForeground(tmp_path, "all", variants=1)
    depth = data[0].depth
    assert depth.dtype == np.float32 and depth.max() == 1.0
    np.testing.assert_allclose(depth[LEFT], 0.5, atol=0.01)
    np.testing.assert_allclose(depth[RIGHT], 1.0, atol=0.01)
    write(tmp_path / data.files[1].depth, two_values(0, 0))
    assert np.isnan(data[1].depth).all()


def test_composites_splits_share_neither_background_nor_foreground(tmp_path):
    make_composites(tmp_path, [4, 5], 12, first=1)  # six foregrounds, two variants of each

    def scenes(split, leaking=False):
        files = BackgroundForeground(tmp_path, split, variants=2, leaking=leaking).files
        return [(f.background, int(Path(f.scene).stem)) for f in files]

    # Foreground 5 is at the positions 8 and 9, of the scenes numbered 9, 10 and 21, 22.
    assert scenes("val") == [("bg/5.jpg", 21), ("bg/5.jpg", 22)]
    assert scenes("train") == [("bg/4.jpg", n) for n in (*range(1, 9), 11, 12)]
    assert len(scenes("all")) == 24
    train, val = scenes("train", leaking=True), scenes("val", leaking=True)
    assert sorted(train + val) == scenes("all") and train and val


def test_composites_folders_have_the_names_they_are_given(tmp_path):
    names = ("backgrounds", "scenes", "masks", "depth")
    make_composites(tmp_path, [1], 1, names)
    assert len(BackgroundForeground(tmp_path, "train", names, variants=1)) == 1
    message = message_of(lambda: BackgroundForeground(tmp_path, "train", variants=1))
    assert message == f"no images found as {tmp_path}/bg/N.jpg"


def test_composites_take_any_ending_and_skip_what_a_mac_left(tmp_path):
    make_composites(tmp_path, [1], 4)
    for file in list(tmp_path.rglob("*.jpg")):
        file.with_name(f"._{file.name}").write_bytes(b"\0\5\26\7")
        file.rename(file.with_suffix(".JPG"))
    data = BackgroundForeground(tmp_path, "all", variants=1)
    assert len(data) == 4 and data[0].labels.any()
    mask = tmp_path / data.files[0].mask
    mask.unlink()
    write(mask.with_suffix(".png"), two_values(0, 1))
    data = BackgroundForeground(tmp_path, "all", variants=1)
    assert "is a mask of 0 and 1, expected 0 and 255" in message_of(lambda: data[0])
    mask.with_suffix(".bmp").write_bytes(b"")
    message = message_of(lambda: BackgroundForeground(tmp_path, "all", variants=1))
    assert "has 2 images with number" in message and "remove one" in message


def test_wrong_composites_are_named(tmp_path):
    make_composites(tmp_path, [1], 4)
    message = message_of(lambda: BackgroundForeground(tmp_path, "train"))
    assert f"{tmp_path}/fg_bg/1 has 4 images, expected a multiple of 40" in message
    message = message_of(lambda: BackgroundForeground(tmp_path, "val", variants=1))
    assert "none of 4 composites is in split 'val'" in message
    (tmp_path / "fg_bg_mask" / "1" / "99.jpg").rename(tmp_path / "fg_bg_mask" / "1" / "a.jpg")
    message = message_of(lambda: BackgroundForeground(tmp_path, "train", variants=1))
    assert f"{tmp_path}/fg_bg_mask/1 has a.jpg, expected only images N.jpg" in message
    (tmp_path / "fg_bg_mask" / "1" / "a.jpg").unlink()
    message = message_of(lambda: BackgroundForeground(tmp_path, "train", variants=1))
    assert f"{tmp_path} has {{'fg_bg/1': 4, 'fg_bg_mask/1': 3, 'dense_depth/1': 4}}" in message
    write(tmp_path / "bg" / "7.jpg", flat(7))
    (tmp_path / "bg" / "1.jpg").unlink()
    message = message_of(lambda: BackgroundForeground(tmp_path, "train", variants=1))
    assert f"no images found as {tmp_path}/fg_bg/7/N.jpg" in message


def test_composite_readers_work_in_a_worker_process(tmp_path):
    make_museum(tmp_path / "museum", [1], [1])
    make_composites(tmp_path / "composites", [1], 2)
    data = ConcatDataset(
        [
            Museum(tmp_path / "museum", "train"),
            BackgroundForeground(tmp_path / "composites", "train", variants=1),
        ]
    )
    samples = list(DataLoader(data, batch_size=None, num_workers=1))
    assert len(samples) == 4
    for index, sample in enumerate(samples):
        assert (sample.image == data[index].image).all()
        assert (sample.depth == data[index].depth).all()
        assert set(sample.views) == {"background"}
