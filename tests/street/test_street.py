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

"""The rendered street: what it shows and what it says of each pixel agree."""

from functools import cache

import numpy as np
import pytest

from depthseg_ros.imaging.geometry import Intrinsics
from depthseg_ros.street import CLASS_NAMES, Camera, Street
from depthseg_ros.street.renderer import Batch, Canvas, Patch, Texture

ROAD = CLASS_NAMES.index("road")
MOVING = [CLASS_NAMES.index(name) for name in ("car", "pedestrian", "bicyclist")]

LOW = Camera(fov=1.8, height=0.5, pitch=-0.05)
"""A delivery robot's: wide, and near to the ground."""
HIGH = Camera(fov=1.2, height=2.5, pitch=-0.26)
"""A lorry's."""


@cache
def street_of(seed: int, camera: Camera | None = None) -> Street:
    """Kept, since setting a street up takes most of the time."""
    return Street(seed, 320, 240, camera)


def rays(intrinsics: Intrinsics) -> np.ndarray:
    """Camera-frame directions (H, W, 3) with z = 1."""
    y, x = np.mgrid[: intrinsics.height, : intrinsics.width].astype(np.float64)
    x, y = (x - intrinsics.cx) / intrinsics.fx, (y - intrinsics.cy) / intrinsics.fy
    return np.stack([x, y, np.ones_like(x)], -1)


def world_points(frame) -> np.ndarray:
    points = rays(frame.intrinsics) * frame.depth[..., None]
    return points @ frame.pose[:3, :3].T + frame.pose[:3, 3]


def depth_agreement(frame, other) -> np.ndarray:
    """Relative difference to `other`'s depth where `frame`'s static points fall in its picture."""
    static = ~np.isnan(frame.depth) & ~np.isin(frame.labels, MOVING) & (frame.depth < 100)
    points = (world_points(frame)[static] - other.pose[:3, 3]) @ other.pose[:3, :3]
    points = points[points[:, 2] > 0.5]
    k = other.intrinsics
    u = np.rint(points[:, 0] / points[:, 2] * k.fx + k.cx).astype(int)
    v = np.rint(points[:, 1] / points[:, 2] * k.fy + k.cy).astype(int)
    inside = (u >= 0) & (u < k.width) & (v >= 0) & (v < k.height)
    seen = np.nan_to_num(other.depth[v[inside], u[inside]], nan=np.inf)
    return np.abs(seen / points[inside, 2] - 1)


def plain(label: int, colour: int = 128) -> Texture:
    return Texture(np.full((8, 8, 3), colour, np.uint8), label)


@pytest.fixture
def canvas() -> Canvas:
    return Canvas(Intrinsics.from_fov(160, 120, 1.0), np.eye(4))


def drawn(canvas: Canvas, *patches: Patch) -> Canvas:
    canvas.draw(Batch(patches), haze_colour=np.zeros(3), haze_rate=0.0)
    return canvas


@pytest.fixture(scope="module")
def frame():
    return street_of(3).frame(7)


def test_frame_has_the_stated_shapes_and_types(frame):
    assert frame.image.shape == (240, 320, 3) and frame.image.dtype == np.uint8
    assert frame.depth.shape == (240, 320) and frame.depth.dtype == np.float32
    assert frame.labels.shape == (240, 320) and frame.labels.dtype == np.uint8
    assert frame.pose.shape == (4, 4) and frame.pose.dtype == np.float64


def test_same_seed_and_index_give_the_same_frame_in_any_order(frame):
    street = Street(3, 320, 240)
    street.frame(200)
    again = street.frame(7)
    for name in ("image", "depth", "labels", "pose"):
        np.testing.assert_array_equal(getattr(frame, name), getattr(again, name))


def test_seeds_differ(frame):
    assert (street_of(4).frame(7).image != frame.image).mean() > 0.5


@pytest.mark.parametrize("camera", [None, LOW, HIGH], ids=["own", "low", "high"])
@pytest.mark.parametrize("seed", [0, 3, 4])
def test_road_is_as_far_as_the_ground_plane(seed, camera):
    street = street_of(seed, camera)
    frame = street.frame(30)
    assert frame.pose[1, 3] == pytest.approx(-street.camera_height)
    downward = rays(frame.intrinsics) @ frame.pose[1, :3]
    road = frame.labels == ROAD
    assert road.mean() > 0.1
    np.testing.assert_allclose(frame.depth[road], street.camera_height / downward[road], rtol=1e-3)


@pytest.mark.parametrize("camera", [None, LOW, HIGH], ids=["own", "low", "high"])
@pytest.mark.parametrize("seed", range(4))
def test_depth_is_missing_exactly_in_the_sky(seed, camera):
    frame = street_of(seed, camera).frame(100)
    np.testing.assert_array_equal(np.isnan(frame.depth), frame.labels == 0)
    assert frame.labels.max() < len(CLASS_NAMES)
    assert np.nanmin(frame.depth) > 0 and np.nanmax(frame.depth) < 300


def test_all_classes_appear():
    frames = [street_of(seed).frame(60) for seed in range(5)]
    shares = np.mean([np.bincount(f.labels.ravel(), minlength=11) for f in frames], 0)
    assert (shares > 20).all(), dict(zip(CLASS_NAMES, shares, strict=True))


@pytest.mark.parametrize("seed", [1, 4])
def test_the_next_frame_sees_static_things_where_they_were(seed):
    street = street_of(seed)
    difference = depth_agreement(street.frame(20), street.frame(21))
    assert np.median(difference) < 0.01
    assert (difference < 0.03).mean() > 0.85


def test_a_second_eye_sees_the_disparity_that_depth_says():
    street, baseline = street_of(2), 0.2
    left, right = street.frame(5), street.frame(5, offset_x=baseline)
    np.testing.assert_allclose((right.pose - left.pose)[:3, 3], baseline * left.pose[:3, 0])
    v, u = np.nonzero(left.depth < 60)
    z = left.depth[v, u]
    shifted = np.rint(u - left.intrinsics.fx * baseline / z).astype(int)
    v, z, shifted = v[shifted >= 0], z[shifted >= 0], shifted[shifted >= 0]
    difference = np.abs(np.nan_to_num(right.depth[v, shifted], nan=np.inf) / z - 1)
    assert np.median(difference) < 0.01
    assert (difference < 0.03).mean() > 0.9


def test_two_eyes_have_no_noise_in_common():
    camera = street_of(3)
    gray = np.full((240, 320, 3), 128, np.uint8)
    left, again, right = (
        camera._photograph(gray, 5, eye).astype(float) - camera._photograph(gray, 6, eye)
        for eye in (0.0, 0.0, 0.54)
    )
    assert (left == again).all() and left.std() > 0
    assert abs(np.corrcoef(left.ravel(), right.ravel())[0, 1]) < 0.05


@pytest.mark.parametrize(("width", "height"), [(321, 201), (64, 200), (1, 1)])
def test_any_size_of_picture_works(width, height):
    frame = Street(5, width, height).frame(0)
    assert frame.labels.shape == (height, width)
    assert (frame.intrinsics.width, frame.intrinsics.height) == (width, height)


@pytest.mark.parametrize(("width", "height"), [(0, 480), (640, 0), (-1, 10)])
def test_a_picture_without_pixels_is_refused(width, height):
    with pytest.raises(ValueError, match=f"got {width}x{height}"):
        Street(0, width, height)


def test_a_negative_seed_is_refused():
    with pytest.raises(ValueError, match="seed"):
        Street(-1)


@pytest.mark.parametrize("seed", [0, 3])
def test_choosing_what_the_seed_has_anyway_changes_nothing(seed):
    own = street_of(seed)
    fov = 2 * np.arctan(160 / own.intrinsics.fx)
    same = Camera(fov, own.camera_height, own.pitch, (1.0, 1.0, 1.0), 1.0)
    for camera in (Camera(), same):
        street = Street(seed, 320, 240, camera)
        for name in ("image", "depth", "labels", "pose"):
            np.testing.assert_allclose(
                getattr(street.frame(9), name), getattr(own.frame(9), name), rtol=1e-6
            )


def test_a_chosen_camera_stands_and_sees_as_it_was_chosen():
    street, own = street_of(3, LOW), street_of(3)
    assert street.intrinsics == Intrinsics.from_fov(320, 240, 1.8)
    assert (street.camera_height, street.pitch) == (0.5, -0.05)
    pose = street.frame(0).pose
    assert pose[1, 3] == -0.5
    assert np.arcsin(pose[1, 2]) == pytest.approx(0.05, abs=0.002)  # looks down; it nods a little
    np.testing.assert_array_equal(pose[[0, 2], 3], own.frame(0).pose[[0, 2], 3])
    only_low = Street(3, 320, 240, Camera(height=0.5))
    assert (only_low.intrinsics, only_low.pitch) == (own.intrinsics, own.pitch)


@pytest.mark.parametrize("camera", [LOW, HIGH], ids=["low", "high"])
@pytest.mark.parametrize("seed", [1, 4])
def test_another_camera_sees_static_things_where_the_seeds_own_does(seed, camera):
    difference = depth_agreement(street_of(seed, camera).frame(20), street_of(seed).frame(20))
    assert difference.size > 5000
    assert np.median(difference) < 0.01
    assert (difference < 0.03).mean() > 0.8  # the rest is hidden from one of the two


@pytest.mark.parametrize("seed", [0, 3, 4])
def test_at_the_feet_of_a_low_camera_is_the_road_and_nothing_else(seed):
    frame = Street(seed, 160, 120, Camera(fov=2.1, height=0.2, pitch=-0.5)).frame(30)
    assert (frame.labels[70:, 40:120] == ROAD).all()
    assert frame.depth[-1].max() < 0.25


def test_gains_and_gamma_change_the_colours_and_nothing_else():
    own = street_of(2).frame(5)
    red = Street(2, 320, 240, Camera(gains=(1.2, 1.0, 0.5))).frame(5)
    dark = Street(2, 320, 240, Camera(gamma=2.0)).frame(5)
    for frame in (red, dark):
        np.testing.assert_array_equal(frame.labels, own.labels)
        np.testing.assert_array_equal(frame.depth, own.depth)
    middling = ((own.image > 60) & (own.image < 180)).all(-1)
    ratio = red.image[middling].mean(0) / own.image[middling].mean(0)
    np.testing.assert_allclose(ratio, [1.2, 1.0, 0.5], atol=0.02)
    light = own.image[middling].astype(float) / 255
    np.testing.assert_allclose(dark.image[middling].mean() / 255, (light**2).mean(), atol=0.02)


@pytest.mark.parametrize(
    ("chosen", "message"),
    [
        ({"fov": 3.0}, "camera fov: got 3.0, expected 0.1 to 2.1"),
        ({"height": 0.0}, "height"),
        ({"pitch": float("nan")}, "pitch"),
        ({"gains": (1.0, 1.0)}, "got 2, expected 3"),
        ({"gains": (1.0, 0.0, 1.0)}, "gains"),
        ({"gamma": -1.0}, "gamma"),
    ],
)
def test_a_camera_that_a_street_is_not_made_for_is_refused(chosen, message):
    with pytest.raises(ValueError, match=message):
        Camera(**chosen)


def test_a_slanted_patch_has_the_depth_of_its_plane(canvas):
    origin, u, v = np.array([-1.0, -2.0, 4.0]), np.array([2.0, 0.0, 5.0]), np.array([0.0, 4.0, 1.0])
    drawn(canvas, Patch(origin, u, v, plain(3), two_sided=True))
    normal = np.cross(u, v)
    expected = (normal @ origin) / (rays(Intrinsics.from_fov(160, 120, 1.0)) @ normal)
    covered = canvas.labels == 3
    assert covered.sum() > 1000
    np.testing.assert_allclose(1 / canvas.inverse_depth[covered], expected[covered], rtol=1e-5)


@pytest.mark.parametrize("nearer_first", [True, False])
def test_the_nearer_patch_gives_colour_depth_and_label(canvas, nearer_first):
    far = Patch((-9, -9, 10), (18, 0, 0), (0, 18, 0), plain(1, 50))
    near = Patch((-1, -1, 5), (2, 0, 0), (0, 2, 0), plain(8, 200))
    drawn(canvas, *((near, far) if nearer_first else (far, near)))
    is_near = canvas.labels == 8
    assert 0 < is_near.sum() < is_near.size
    np.testing.assert_allclose(1 / canvas.inverse_depth, np.where(is_near, 5, 10), rtol=1e-5)
    np.testing.assert_array_equal(canvas.image[..., 0], np.where(is_near, 200, 50))


def test_holes_show_what_is_behind(canvas):
    labels = np.full((8, 8), 5, np.uint8)
    labels[:, 4:] = 255
    leaves = Texture(np.full((8, 8, 3), 90, np.uint8), labels)
    drawn(
        canvas,
        Patch((-9, -9, 5), (18, 0, 0), (0, 18, 0), leaves),
        Patch((-20, -20, 10), (40, 0, 0), (0, 40, 0), plain(1)),
    )
    np.testing.assert_allclose(
        1 / canvas.inverse_depth, np.where(canvas.labels == 5, 5, 10), rtol=1e-5
    )
    assert (canvas.labels[:, :78] == 5).all() and (canvas.labels[:, 82:] == 1).all()


def test_a_patch_through_the_camera_is_cut_and_its_back_is_not_seen(canvas):
    wall = Patch((2, -3, 20), (0, 0, -40), (0, 6, 0), plain(1))
    behind = Patch((-9, -9, -5), (18, 0, 0), (0, 18, 0), plain(2))
    turned = Patch((9, -9, 5), (-18, 0, 0), (0, 18, 0), plain(3))
    drawn(canvas, wall, behind, turned)
    assert set(np.unique(canvas.labels[canvas.inverse_depth > 0])) == {1}
    right = canvas.labels[60] == 1
    assert right[-1] and not right[:80].any()
