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

import pickle

import cv2
import numpy as np
import pytest

from depthseg_ros.imaging.geometry import Intrinsics
from training.data.synthetic.composites import FARTHEST, Composites, level_of
from training.errors import TrainingError

WIDTH, HEIGHT = 64, 48
CENTRE = (HEIGHT - 1) / 2


def ground_plane():
    """Metres to a plane 1.5 m below a level camera of fx 64, and 30 m above the horizon."""
    below = np.arange(HEIGHT) - CENTRE
    depth = np.where(below > 0, 1.5 * WIDTH / np.maximum(below, 0.5), 30.0)
    return np.repeat(depth[:, None], WIDTH, 1)


def make_backgrounds(root, depth=None, number=12):
    """Pictures without red, green from left to right, blue of their own."""
    root.mkdir()
    for n in range(number):
        picture = np.zeros((HEIGHT, WIDTH, 3), np.uint8)
        picture[..., 0] = 60 + 10 * n  # BGR
        picture[..., 1] = 2 * np.arange(WIDTH)
        cv2.imwrite(str(root / f"{n}.png"), picture)
        if depth is not None:
            (root / "depth").mkdir(exist_ok=True)
            millimetres = np.rint(1000 * depth).astype(np.uint16)
            cv2.imwrite(str(root / "depth" / f"{n}.png"), millimetres)
    return root


def make_figures(root, number=12):
    """Squares in a transparent rim: red all over, the left half with green, the right with blue."""
    root.mkdir()
    for n in range(number):
        picture = np.zeros((60, 60, 4), np.uint8)
        picture[10:50, 10:50] = (0, 200, 220, 255)
        picture[10:50, 30:50, :2] = (200, 0)
        cv2.imwrite(str(root / f"{n}.png"), picture)
    return root


@pytest.fixture
def folders(tmp_path):
    return {
        "backgrounds": make_backgrounds(tmp_path / "bg", ground_plane()),
        "foregrounds": make_figures(tmp_path / "fg"),
    }


def test_the_mask_is_exactly_where_scene_and_background_differ(folders):
    data = Composites("train", 20, (WIDTH, HEIGHT), **folders)
    shares = []
    for index in range(20):
        made = data.composite(index)
        np.testing.assert_array_equal(made.mask, (made.scene != made.background).any(-1))
        np.testing.assert_array_equal(made.mask, made.scene[..., 0] > 0)
        assert (data[index].labels == made.mask).all()
        shares.append(made.mask.mean())
    assert min(shares) > 0 and max(shares) < 0.9


def test_figures_are_nearer_than_what_they_hide_and_stand_on_the_ground(folders):
    data = Composites("train", 20, (WIDTH, HEIGHT), **folders)
    stood = 0
    for index in range(20):
        made = data.composite(index)
        nearer = made.depth[made.mask] < made.background_depth[made.mask]
        assert nearer.mean() > 0.95  # the feet touch the ground, to the last bit
        assert (made.depth <= made.background_depth).all()
        np.testing.assert_array_equal(made.depth[~made.mask], made.background_depth[~made.mask])
        lowest = np.nonzero(made.mask)[0].max()
        if lowest < HEIGHT - 2:  # feet in the picture: between the ground of this row and the next
            stood += 1
            feet = made.depth[lowest][made.mask[lowest]]
            assert feet.min() > made.background_depth[lowest + 1, 0] * 0.95
            assert feet.max() <= made.background_depth[lowest, 0]
    assert stood > 5


def test_what_is_nearer_hides_a_figure(tmp_path):
    depth = ground_plane()
    depth[: HEIGHT // 2, :32] = 0.5
    data = Composites(
        "train",
        40,
        (WIDTH, HEIGHT),
        make_backgrounds(tmp_path / "bg", depth),
        make_figures(tmp_path / "fg"),
    )
    behind = above = 0
    for index in range(40):
        made = data.composite(index)
        behind += made.mask[made.background_depth == 0.5].sum()
        above += made.mask[made.background_depth == 30].sum()
    assert behind == 0 and above > 0


def test_a_sample_has_two_pictures_a_mask_and_depth_of_its_own_maximum(folders):
    data = Composites("val", 5, (32, 40), **folders)
    for sample in (data[n] for n in range(5)):
        for picture in (sample.image, sample.views["background"]):
            assert picture.shape == (40, 32, 3) and picture.dtype == np.uint8
        assert sample.labels.dtype == np.uint8 and set(np.unique(sample.labels)) == {0, 1}
        assert sample.depth.dtype == np.float32 and sample.depth.min() > 0
        assert sample.depth.max() == 1
        assert sample.fx is None and sample.baseline is None


def test_both_pictures_have_noise_and_exposure_of_their_own(folders):
    data = Composites("train", 10, (WIDTH, HEIGHT), **folders)
    differences = []
    for index in range(10):
        sample, made = data[index], data.composite(index)
        scene = sample.image.astype(float) - sample.views["background"]
        far = ~cv2.dilate(made.mask.astype(np.uint8), np.ones((7, 7))).astype(bool)
        differences.append(scene[far].mean())
        assert 0.5 < scene[far].std() < 15
    assert np.std(differences) > 0.5


def test_without_the_backgrounds_depth_a_sample_has_none(tmp_path):
    data = Composites(
        "train", 8, (WIDTH, HEIGHT), make_backgrounds(tmp_path / "bg"), make_figures(tmp_path / "f")
    )
    samples = [data[n] for n in range(8)]
    assert all(sample.depth is None for sample in samples)
    assert all(sample.labels.any() for sample in samples)


def test_unknown_depth_stays_unknown_beside_the_figures(tmp_path):
    depth = ground_plane()
    depth[:20] = 0
    data = Composites(
        "train",
        20,
        (WIDTH, HEIGHT),
        make_backgrounds(tmp_path / "bg", depth),
        make_figures(tmp_path / "fg"),
    )
    over_unknown = 0
    for index in range(20):
        sample, made = data[index], data.composite(index)
        unknown = np.isnan(made.background_depth)
        assert unknown[:20].all() and not unknown[20:].any()
        np.testing.assert_array_equal(np.isnan(sample.depth), unknown & ~made.mask)
        assert np.nanmax(sample.depth) == 1
        over_unknown += (unknown & made.mask).sum()
    assert over_unknown > 0


def test_pictures_and_figures_are_seen_mirrored_too(folders):
    data = Composites("train", 40, (WIDTH, HEIGHT), **folders)
    picture_ways, figure_ways = set(), set()
    for index in range(40):
        made = data.composite(index)
        green = made.background[0, :, 1].astype(int)
        picture_ways.add(bool(green[0] < green[-1]))
        with_green = made.mask & (made.scene[..., 1] > made.scene[..., 2])
        with_blue = made.mask & (made.scene[..., 1] < made.scene[..., 2])
        if with_green.any() and with_blue.any():
            columns = [np.nonzero(part)[1].mean() for part in (with_green, with_blue)]
            figure_ways.add(bool(columns[0] < columns[1]))
    assert picture_ways == figure_ways == {True, False}


def equal(a, b):
    return (
        (a.image == b.image).all()
        and (a.views["background"] == b.views["background"]).all()
        and (a.labels == b.labels).all()
        and np.array_equal(a.depth, b.depth, equal_nan=True)
    )


def test_an_index_always_gives_the_same_sample(folders):
    data, again = (Composites("train", 6, (32, 32), **folders) for _ in range(2))
    forwards = [data[n] for n in range(6)]
    backwards = [again[n] for n in reversed(range(6))][::-1]
    assert all(map(equal, forwards, backwards))
    assert equal(pickle.loads(pickle.dumps(data))[3], forwards[3])
    assert equal(data[-1], forwards[5])
    with pytest.raises(IndexError):
        data[6]


def test_indices_seeds_and_splits_give_other_samples(folders):
    data = Composites("train", 6, (32, 32), **folders)
    others = (
        data[1],
        Composites("train", 6, (32, 32), seed=1, **folders)[0],
        Composites("val", 6, (32, 32), **folders)[0],
    )
    assert not any(equal(data[0], other) for other in others)


def test_splits_share_neither_pictures_nor_figures(folders):
    splits = [Composites(s, 1, (32, 32), **folders) for s in ("train", "val", "test")]
    for source in ("backdrops", "figures"):
        files = [getattr(data, source).files for data in splits]
        assert [len(f) for f in files] == [10, 1, 1]
        assert len(set().union(*files)) == 12
    drawn = [Composites(s, 1, streets=500, figures=500) for s in ("train", "val", "test")]
    for seeds in (
        [{shot.seed for shot in data.backdrops.streets.moments} for data in drawn],
        [set(data.figures.seeds) for data in drawn],
    ):
        assert len(set().union(*seeds)) == 1500


def test_people_and_cars_are_put_into_streets_without_any_folder(tmp_path):
    data = Composites("val", 12, (96, 80), streets=1, figures=8, cache=tmp_path)
    data.render()
    (file,) = tmp_path.rglob("*.npz")
    assert file.name == "2000000-0.npz" and file.parent.name.endswith("-480x360")
    masked = 0
    for index in range(12):
        made = data.composite(index)
        assert not (made.scene != made.background).any(-1)[~made.mask].any()
        assert (made.depth <= made.background_depth).all()
        assert made.depth.max() <= FARTHEST
        masked += made.mask.any()
    assert masked >= 10
    sample = data[0]
    assert sample.depth.max() == 1 and not np.isnan(sample.depth).any()


@pytest.mark.parametrize(("pitch", "roll"), [(0.0, 0.0), (4.0, 0.0), (-3.0, 1.0)])
def test_down_is_found_from_the_ground(pitch, roll):
    camera = Intrinsics(64, 48, 60.0, 60.0, 31.5, 23.5)
    turn = cv2.Rodrigues(np.radians([pitch, 0.0, 0.0]))[0]
    turn = turn @ cv2.Rodrigues(np.radians([0.0, 0.0, roll]))[0]
    v, u = np.mgrid[:48, :64]
    rays = np.stack([(u - 31.5) / 60, (v - 23.5) / 60, np.ones(u.shape)], -1)
    with np.errstate(divide="ignore"):
        depth = 1.5 / (rays @ turn[1])  # what is 1.5 m below
    ground = np.where((depth > 0) & (depth < 60), depth, np.nan).astype(np.float32)
    level = level_of(ground, camera)
    np.testing.assert_allclose(level[1], turn[1], atol=1e-5)
    np.testing.assert_allclose(level @ level.T, np.eye(3), atol=1e-9)
    assert np.linalg.det(level) == pytest.approx(1)


def test_too_little_or_too_steep_ground_leaves_the_camera_level():
    camera = Intrinsics(64, 48, 60.0, 60.0, 31.5, 23.5)
    little = np.full((48, 64), np.nan, np.float32)
    little[40, :20] = 3
    wall = np.full((48, 64), 3, np.float32)
    for ground in (little, wall):
        np.testing.assert_array_equal(level_of(ground, camera), np.eye(3))


def refused(message, **arguments):
    with pytest.raises(TrainingError, match=message) as caught:
        Composites(**{"split": "train", "count": 1, "size": (WIDTH, HEIGHT), **arguments})[0]
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"split": "dev"}, "split is 'dev', expected one of train, val, test"),
        ({"count": 0}, "count is 0, streets 100, .* expected at least 1 of each"),
    ],
)
def test_wrong_arguments_are_refused(arguments, message):
    refused(message, **arguments)


def test_empty_folders_are_named(folders, tmp_path):
    empty = tmp_path / "empty"
    empty.mkdir()
    refused(r"empty has 0 files \*\.bmp, .*\*\.jpeg, \*\.jpg", backgrounds=empty)
    refused(r"absent has 0 files \*\.png", **{**folders, "foregrounds": tmp_path / "absent"})


def test_what_a_mac_left_is_skipped_and_what_else_is_there_is_counted(folders, caplog):
    before = Composites("train", 3, (WIDTH, HEIGHT), **folders)[2].image
    for folder in (*folders.values(), folders["backgrounds"] / "depth"):
        for file in list(folder.glob("*.png")):
            file.with_name(f"._{file.name}").write_bytes(b"\0\5\26\7")
    (folders["foregrounds"] / "notes.txt").write_text("no image")
    after = Composites("train", 3, (WIDTH, HEIGHT), **folders)[2].image
    np.testing.assert_array_equal(before, after)
    (message,) = {record.message for record in caplog.records}
    assert message.endswith("1 files are left out, not *.png, *.webp: 1 .txt")


def test_a_picture_without_transparency_is_no_cut_out(folders):
    for file in folders["foregrounds"].iterdir():
        cv2.imwrite(str(file), np.zeros((20, 20, 3), np.uint8))
    refused(r"\.png has shape \(20, 20, 3\) .* transparency: 8-bit RGBA", **folders)
    for file in folders["foregrounds"].iterdir():
        cv2.imwrite(str(file), np.zeros((20, 20, 4), np.uint8))
    refused("fully transparent", **folders)
    for file in folders["foregrounds"].iterdir():
        file.write_bytes(b"no picture")
    refused("cannot be read as an image", **folders)


def test_large_pictures_and_cut_outs_are_shrunk_to_what_is_needed(folders):
    large = np.full((700, 1400, 4), 255, np.uint8)
    for file in folders["foregrounds"].iterdir():
        cv2.imwrite(str(file), large)
    data = Composites("train", 2, (8, 8), **folders)
    backdrop, figure = data.backdrops[0], data.figures[0]
    assert backdrop.image.shape == (16, 22, 3) and backdrop.depth.shape == (16, 22)
    assert backdrop.camera.fx == 22
    assert figure.batch.textures[0].size == (512, 256)
    assert figure.width == 3 and figure.height == 1.5
    assert data[1].labels.any()


def test_small_pictures_are_refused(folders):
    refused("is 64x48 pixels, smaller than the samples, 64x49", **folders, size=(64, 49))


def test_missing_and_wrong_depths_are_named(folders):
    depths = sorted((folders["backgrounds"] / "depth").iterdir())
    for file in depths:
        cv2.imwrite(str(file), np.zeros((HEIGHT, WIDTH), np.uint8))
    refused(r"has 1 channels of uint8, expected encoded depth in one channel of uint16", **folders)
    for file in depths:
        file.unlink()
    refused("10 depth files are missing, the first is .*depth", **folders)
