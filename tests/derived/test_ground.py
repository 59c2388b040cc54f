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

import math
from functools import cache

import cv2
import numpy as np
import pytest

from depthseg_ros.derived.ground import FEWEST_PIXELS, Ground, fit_ground
from depthseg_ros.street import CLASS_NAMES, Street

WIDTH, HEIGHT = 320, 240
ROAD, PAVEMENT = CLASS_NAMES.index("road"), CLASS_NAMES.index("pavement")
EVERYWHERE = np.ones((HEIGHT, WIDTH), bool)
SEEDS = range(20)


def rays_of(fx: float, fy: float, cx: float, cy: float) -> np.ndarray:
    v, u = np.mgrid[:HEIGHT, :WIDTH]
    return np.stack([(u - cx) / fx, (v - cy) / fy]).astype(np.float32)


RAYS = rays_of(280, 280, 159.5, 119.5)  # 60 degrees


def depth_of(ground: Ground) -> np.ndarray:
    """What a camera above an endless plane sees, up to 100 m."""
    x, y, z = ground.up
    with np.errstate(divide="ignore"):
        depth = -ground.height / (x * RAYS[0] + y * RAYS[1] + z)
    return np.where((depth > 0) & (depth < 100), depth, np.nan).astype(np.float32)


def errors(fitted: Ground, true: Ground) -> tuple[float, float, float]:
    """Of the height, relative, and of pitch and roll, degrees; without signs."""
    return (
        abs(fitted.height / true.height - 1),
        math.degrees(abs(fitted.pitch - true.pitch)),
        math.degrees(abs(fitted.roll - true.roll)),
    )


def noise(rng: np.random.Generator) -> np.ndarray:
    return (1 + 0.05 * rng.standard_normal((HEIGHT, WIDTH))).astype(np.float32)


@pytest.mark.parametrize(
    ("pitch", "roll", "up"),
    [
        (0, 0, (0, -1, 0)),
        (30, 0, (0, -math.sqrt(0.75), -0.5)),  # what is ahead is lower
        (-30, 0, (0, -math.sqrt(0.75), 0.5)),
        (0, 30, (-0.5, -math.sqrt(0.75), 0)),  # what is to the right is lower
        (90, 0, (0, 0, -1)),
        (45, 90, (-math.sqrt(0.5), 0, -math.sqrt(0.5))),  # on its right side, before it is pitched
    ],
)
def test_a_mounting_turns_the_body_frame_as_rep_103_has_it(pitch, roll, up):
    ground = Ground.from_mounting(1.2, math.radians(pitch), math.radians(roll))
    assert ground.up == pytest.approx(up)
    assert ground.height == 1.2


@pytest.mark.parametrize("pitch", [-80, -3, 0, 20, 80])
@pytest.mark.parametrize("roll", [-170, -1, 0, 30, 90])
def test_pitch_and_roll_are_those_of_the_mounting(pitch, roll):
    ground = Ground.from_mounting(1.2, math.radians(pitch), math.radians(roll))
    assert math.degrees(ground.pitch) == pytest.approx(pitch)
    assert math.degrees(ground.roll) == pytest.approx(roll)
    assert math.hypot(*ground.up) == pytest.approx(1)


@pytest.mark.parametrize("height", [0, -1.5, math.nan, math.inf])
def test_a_camera_that_is_not_above_the_ground_is_refused(height):
    with pytest.raises(ValueError, match=r"height above the ground is .* m, expected more than 0"):
        Ground.from_mounting(height)


def test_heights_are_measured_along_the_grounds_up():
    ground = Ground.from_mounting(1.5, math.radians(30))
    rays = np.zeros((2, 2, 3), np.float32)
    rays[1, 1] = 1  # downwards by 45 degrees
    rays[:, 0, 2] = np.nan
    heights = ground.heights(rays, np.array([[0.5, 3, 1], [0.5, 0.1, np.nan]], np.float32))
    slant = 0.5 + math.cos(math.radians(30))
    expected = [[1.25, 0, np.nan], [1.5 - 0.5 * slant, 1.5 - 0.1 * slant, np.nan]]
    np.testing.assert_allclose(heights, expected, atol=1e-6)
    assert heights.dtype == np.float32


def test_multiplying_depth_scales_the_ground():
    ground = Ground.from_mounting(1.5, 0.1, 0.02)
    depth = depth_of(ground) * np.float32(0.8)
    assert np.nanmax(np.abs(ground.scaled(0.8).heights(RAYS, depth))) < 1e-4
    assert ground.scaled(0.8) == Ground(ground.up, 1.5 * 0.8)


@pytest.mark.parametrize("height", [0.2, 1.5, 8])
@pytest.mark.parametrize("pitch", [-5, 0, 12, 40])
@pytest.mark.parametrize("roll", [-20, 0, 2])
def test_a_plane_is_found_exactly(height, pitch, roll):
    true = Ground.from_mounting(height, math.radians(pitch), math.radians(roll))
    fitted, share = fit_ground(RAYS, depth_of(true), EVERYWHERE)
    assert errors(fitted, true) == pytest.approx((0, 0, 0), abs=1e-5)
    assert math.hypot(*fitted.up) == pytest.approx(1)
    assert share == 1


def test_the_plane_is_of_the_marked_pixels_that_have_depth_and_rays():
    true = Ground.from_mounting(1.5, 0.1)
    depth, rays = depth_of(true), RAYS.copy()
    rays[:, :, :40] = np.nan
    depth[:, 280:] = 3  # not marked
    depth[150:160] = np.nan
    depth[160:165] = np.inf
    depth[165:170] = 0
    marked = EVERYWHERE.copy()
    marked[:, 280:] = False
    fitted, share = fit_ground(rays, depth, marked)
    assert errors(fitted, true) == pytest.approx((0, 0, 0), abs=1e-5)
    assert share == 1


OUTLIERS = {
    "anywhere": lambda d, rng: d * rng.uniform(0.3, 1.5, d.shape),
    "a wall": lambda d, rng: np.full_like(d, 4),
    "a step of 1 m": lambda d, rng: d / 3,
    "nearer by half": lambda d, rng: d / 2,
}


@pytest.mark.parametrize("outliers", OUTLIERS)
@pytest.mark.parametrize("in_one_place", [False, True])
def test_noise_and_two_fifths_of_outliers_hardly_move_the_plane(outliers, in_one_place):
    rng = np.random.default_rng(1)
    true = Ground.from_mounting(1.5, math.radians(4), math.radians(1))
    depth = depth_of(true) * noise(rng)
    wrong = np.broadcast_to(np.arange(WIDTH) < 0.4 * WIDTH, depth.shape)
    if not in_one_place:
        wrong = rng.random(depth.shape) < 0.4
    below_horizon = np.isfinite(depth)
    depth = np.where(wrong, OUTLIERS[outliers](depth, rng), depth).astype(np.float32)
    fitted, share = fit_ground(RAYS, depth, below_horizon)
    height, pitch, roll = errors(fitted, true)
    assert height < 0.01 and pitch < 0.1 and roll < 0.4
    assert 0.5 < share < 0.75


def test_noise_alone_does_not_lift_the_camera():
    true = Ground.from_mounting(1.5, math.radians(4))
    rng = np.random.default_rng(2)
    fits = [fit_ground(RAYS, depth_of(true) * noise(rng), EVERYWHERE) for _ in range(30)]
    assert np.mean([fitted.height for fitted, _ in fits]) == pytest.approx(1.5, rel=0.001)
    assert np.mean([share for _, share in fits]) == pytest.approx(0.954, abs=0.005)  # two sigma


@pytest.mark.parametrize(("noisy", "bounds"), [(False, (1e-5, 1e-4, 1e-4)), (True, (0.05, 0.2, 2))])
def test_a_pavement_draws_the_plane_only_where_noise_hides_the_kerb(noisy, bounds):
    rng = np.random.default_rng(3)
    true = Ground.from_mounting(1.5, math.radians(4))
    raised = depth_of(Ground(true.up, 1.5 - 0.12))
    left = np.arange(WIDTH) < 0.4 * WIDTH
    depth = np.where(left, raised, depth_of(true))
    fitted, _ = fit_ground(RAYS, depth * noise(rng) if noisy else depth, EVERYWHERE)
    assert (np.array(errors(fitted, true)) < bounds).all()


def test_the_same_picture_gives_the_same_plane():
    depth = depth_of(Ground.from_mounting(1.5, 0.1)) * noise(np.random.default_rng(4))
    first = fit_ground(RAYS, depth, EVERYWHERE)
    state = str(np.random.get_state())
    assert fit_ground(RAYS, depth, EVERYWHERE) == first
    assert str(np.random.get_state()) == state


@pytest.mark.parametrize(
    "expected",
    [Ground.from_mounting(1.5, 0.1), Ground.from_mounting(9, -0.6, 0.4), Ground((0, 1, 0), 1)],
)
def test_the_expected_plane_is_not_favoured(expected):
    depth = depth_of(Ground.from_mounting(1.5, 0.1)) * noise(np.random.default_rng(5))
    fitted, share = fit_ground(RAYS, depth, EVERYWHERE, expected)
    alone, its_share = fit_ground(RAYS, depth, EVERYWHERE)
    assert errors(fitted, alone) == pytest.approx((0, 0, 0), abs=1e-3)
    assert share == pytest.approx(its_share, abs=1e-3)


def only(rows: slice, columns: slice) -> np.ndarray:
    marked = np.zeros_like(EVERYWHERE)
    marked[rows, columns] = True
    return marked


ROAD_AHEAD = depth_of(Ground.from_mounting(1.5, 0.1))


@pytest.mark.parametrize(
    ("depth", "marked"),
    [
        pytest.param(ROAD_AHEAD, ~EVERYWHERE, id="nothing is marked"),
        pytest.param(ROAD_AHEAD * np.nan, EVERYWHERE, id="nothing has depth"),
        pytest.param(ROAD_AHEAD, only(slice(200, 209), slice(0, 11)), id="too few pixels"),
        pytest.param(ROAD_AHEAD, only(slice(200, 201), slice(None)), id="one row"),
        pytest.param(ROAD_AHEAD, only(slice(None), slice(40, 41)), id="one column"),
        pytest.param(ROAD_AHEAD, np.eye(HEIGHT, WIDTH, 40) > 0, id="one slanting line"),
        pytest.param(ROAD_AHEAD, only(slice(200, 212), slice(150, 162)), id="one spot"),
        pytest.param(np.full_like(RAYS[0], 5), EVERYWHERE, id="a wall across"),
        pytest.param(ROAD_AHEAD[::-1].copy(), EVERYWHERE, id="a ceiling"),
        pytest.param(
            np.random.default_rng(6).uniform(1, 50, RAYS[0].shape).astype(np.float32),
            EVERYWHERE,
            id="no plane at all",
        ),
    ],
)
@pytest.mark.parametrize("noisy", [False, True])
def test_what_cannot_be_told_is_refused(depth, marked, noisy):
    if noisy:
        depth = depth * noise(np.random.default_rng(7))
    assert fit_ground(RAYS, depth, marked) is None
    assert fit_ground(RAYS, depth, marked, Ground.from_mounting(1.5, 0.1)) is None


def test_few_pixels_are_enough_where_they_are_spread():
    marked = np.zeros_like(EVERYWHERE)
    marked[120::12, ::32] = True
    assert marked.sum() == FEWEST_PIXELS
    true = Ground.from_mounting(1.5, 0.1)
    fitted, _ = fit_ground(RAYS, depth_of(true), marked)
    assert errors(fitted, true) == pytest.approx((0, 0, 0), abs=1e-5)
    marked[228] = False
    assert fit_ground(RAYS, depth_of(true), marked) is None


@cache
def street_picture(seed: int) -> tuple[np.ndarray, np.ndarray, np.ndarray, Ground]:
    """Rays, depth, labels and the ground of a rendered street."""
    frame = Street(seed, WIDTH, HEIGHT).frame(11 * seed)
    k = frame.intrinsics
    ground = Ground(tuple((-frame.pose[1, :3]).tolist()), -float(frame.pose[1, 3]))
    return rays_of(k.fx, k.fy, k.cx, k.cy), frame.depth, frame.labels, ground


def smooth_noise(rng: np.random.Generator) -> np.ndarray:
    """Also 5 %, but alike over a sixth of the picture, as a network's errors are."""
    coarse = cv2.resize(rng.standard_normal((6, 8)), (WIDTH, HEIGHT), interpolation=cv2.INTER_CUBIC)
    return (1 + 0.05 * coarse / coarse.std()).astype(np.float32)


def street_as_perceived(case: str, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Depth, and which pixels are said to be ground."""
    _, depth, labels, ground = street_picture(seed)
    rng = np.random.default_rng(seed)
    road = labels == ROAD
    match case:
        case "true":
            return depth, road
        case "with pavement":
            return depth, road | (labels == PAVEMENT)
        case "noise":
            return depth * noise(rng), road
        case "smooth noise":
            return depth * smooth_noise(rng), road
        case "noise and outliers":
            wrong = np.where(rng.random(depth.shape) < 0.4, rng.uniform(0.3, 1.5, depth.shape), 1)
            return (depth * noise(rng) * wrong).astype(np.float32), road
        case "noise and ragged edges":  # 8 pixels of what stands on the road are road, too
            grown = cv2.dilate(road.astype(np.uint8), np.ones((17, 17), np.uint8)) > 0
            return depth * noise(rng), grown
        case "noise and raised pavement":
            step = np.where(labels == PAVEMENT, 1 - 0.12 / ground.height, 1)
            return (depth * noise(rng) * step).astype(np.float32), road | (labels == PAVEMENT)
    raise ValueError(case)


# Errors of the height, relative, and of pitch and roll, degrees. Bounds are about twice what was
# measured, which stands beside them: the medians, then the greatest of the 20 streets.
@pytest.mark.parametrize(
    ("case", "median", "most"),
    [
        # 3e-8, 7e-7, 2e-7; 5e-8, 2e-6, 9e-7
        ("true", (1e-6, 1e-5, 1e-5), (1e-6, 1e-5, 1e-5)),
        ("with pavement", (1e-6, 1e-5, 1e-5), (1e-6, 1e-5, 1e-5)),
        # 0.0013, 0.012, 0.03; 0.006, 0.14, 0.17
        ("noise", (0.003, 0.025, 0.07), (0.012, 0.25, 0.35)),
        # 0.0102, 0.127, 0.55; 0.059, 1.05, 1.74
        ("smooth noise", (0.02, 0.25, 1.0), (0.1, 1.8, 2.8)),
        # 0.0012, 0.009, 0.04; 0.003, 0.04, 0.14
        ("noise and outliers", (0.003, 0.02, 0.08), (0.008, 0.1, 0.3)),
        # 0.0009, 0.016, 0.04; 0.005, 0.06, 0.14
        ("noise and ragged edges", (0.003, 0.03, 0.08), (0.01, 0.12, 0.3)),
        # 0.0064, 0.089, 0.55; 0.030, 0.89, 1.16
        ("noise and raised pavement", (0.013, 0.18, 1.0), (0.05, 1.5, 2.0)),
    ],
)
def test_the_ground_of_streets(case, median, most):
    found = []
    for seed in SEEDS:
        rays, _, _, true = street_picture(seed)
        fitted, share = fit_ground(rays, *street_as_perceived(case, seed))
        found.append(errors(fitted, true))
        assert share > (0.6 if case == "noise and outliers" else 0.75)
    assert (np.median(found, axis=0) < median).all()
    assert (np.max(found, axis=0) < most).all()


@pytest.mark.parametrize("pitch, roll", [(0.0, 0.0), (0.2, 0.0), (-0.1, 0.3)])
def test_the_pose_of_a_frame_on_the_ground_gives_what_the_mounting_does(pitch, roll):
    expected = Ground.from_mounting(1.2, pitch, roll)
    up = np.array(expected.up)
    # A frame on the ground, anywhere, turned about its z: axes in columns, in the optical frame.
    ahead = np.cross(up, (-1.0, 0.3, 0.1))
    ahead /= np.linalg.norm(ahead)
    axes = np.stack([ahead, np.cross(up, ahead), up], axis=1)
    w = math.sqrt(1 + np.trace(axes)) / 2
    x, y, z = (axes[2, 1] - axes[1, 2], axes[0, 2] - axes[2, 0], axes[1, 0] - axes[0, 1])
    rotation = (x / (4 * w), y / (4 * w), z / (4 * w), w)
    found = Ground.from_pose(-1.2 * up + 3 * ahead, rotation)
    assert found.up == pytest.approx(expected.up, abs=1e-9)
    assert (found.height, found.pitch, found.roll) == pytest.approx((1.2, pitch, roll), abs=1e-9)
