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

import numpy as np
import pytest

from depthseg_ros.derived.ground import Ground
from depthseg_ros.derived.scan import NEAREST_PIXELS, Scan, obstacle_scan
from depthseg_ros.street import CLASS_NAMES, Street

WIDTH, HEIGHT = 320, 240
FREE = [CLASS_NAMES.index(name) for name in ("sky", "road", "pavement")]
EVERYWHERE = np.ones((HEIGHT, WIDTH), bool)
BAND = (0.2, 2.0)
SEEDS = range(8)


def rays_of(fx: float, fy: float, cx: float, cy: float) -> np.ndarray:
    v, u = np.mgrid[:HEIGHT, :WIDTH]
    return np.stack([(u - cx) / fx, (v - cy) / fy]).astype(np.float32)


RAYS = rays_of(280, 280, 159.5, 119.5)  # 59 degrees
LEVEL = Ground.from_mounting(1.0)


def wall(metres: float = 10) -> np.ndarray:
    """Depth of a wall across the view."""
    return np.full((HEIGHT, WIDTH), metres, np.float32)


def bearings(scan: Scan) -> np.ndarray:
    return scan.angle_min + scan.angle_increment * np.arange(len(scan.ranges))


def to_world(pitch: float, roll: float) -> np.ndarray:
    """Rotation (3, 3) from the optical frame into a level body frame: x forward, y left, z up."""
    sin, cos = math.sin(roll), math.cos(roll)
    rolled = np.array([[1, 0, 0], [0, cos, -sin], [0, sin, cos]])
    sin, cos = math.sin(pitch), math.cos(pitch)
    pitched = np.array([[cos, 0, sin], [0, 1, 0], [-sin, 0, cos]])
    return pitched @ rolled @ np.array([[0, 0, 1], [-1, 0, 0], [0, -1, 0]])


def ends_of(scan: Scan) -> np.ndarray:
    """Where beams end, (n, 3) metres in the optical frame."""
    ends = np.isfinite(scan.ranges)
    angle, ranges = bearings(scan)[ends], scan.ranges[ends]
    return np.stack([-ranges * np.sin(angle), 0 * ranges, ranges * np.cos(angle)], axis=-1)


def test_a_wall_is_farther_to_the_sides():
    scan = obstacle_scan(RAYS, wall(), EVERYWHERE, LEVEL, BAND, 50)
    assert scan.ranges.dtype == np.float32
    assert scan.ranges * np.cos(bearings(scan)) == pytest.approx(10, rel=0.005)
    assert scan.ranges[len(scan.ranges) // 2] == pytest.approx(10, rel=1e-5)


def test_beams_go_from_right_to_left_and_one_straight_ahead():
    right = EVERYWHERE & (RAYS[0] > 0.3)
    scan = obstacle_scan(RAYS, wall(), right, LEVEL, BAND, 50, math.radians(1))
    assert scan.angle_increment == math.radians(1)
    assert math.degrees(scan.angle_min) == pytest.approx(-30)  # to the nearest of 29.7
    assert math.degrees(scan.angle_max) == pytest.approx(30)
    ends = np.degrees(bearings(scan)[np.isfinite(scan.ranges)])
    assert ends == pytest.approx(np.arange(-30, -16))  # atan(0.3) is 16.7 degrees
    assert np.isposinf(scan.ranges[14:]).all()


def test_which_beams_there_are_does_not_depend_on_what_is_seen():
    scans = [
        obstacle_scan(RAYS, depth, mask, ground, BAND, 50)
        for depth in (wall(), wall(np.nan))
        for mask in (EVERYWHERE, ~EVERYWHERE)
        for ground in (LEVEL, Ground.from_mounting(2, 0.4, 0.1))
    ]
    assert len({(s.angle_min, s.angle_increment, s.ranges.shape) for s in scans}) == 1


@pytest.mark.parametrize(("pitch", "roll"), [(0, 0), (20, 0), (-15, 0), (0, 12), (15, -10)])
def test_a_post_is_where_it_stands_however_the_camera_is_tilted(pitch, roll):
    pitch, roll = math.radians(pitch), math.radians(roll)
    turn = to_world(pitch, roll)
    slopes = np.concatenate([RAYS, np.ones_like(RAYS[:1])])
    forward, left, _ = np.einsum("ij,jhw->ihw", turn, slopes)
    depth = (8 / forward).astype(np.float32)  # a wall 8 m ahead, of which the post is a part
    post = (forward > 0) & (left * depth > -1.5) & (left * depth < -1.2)
    ground = Ground.from_mounting(1.3, pitch, roll)
    scan = obstacle_scan(RAYS, depth, post, ground, BAND, 50)
    ends = ends_of(scan) @ turn.T
    half_a_beam = 8.2 * scan.angle_increment / 2
    assert 4 <= len(ends) <= 6  # 0.3 m are 2.1 degrees
    assert ends[:, 0] == pytest.approx(8, abs=0.03)
    assert ((ends[:, 1] > -1.5 - half_a_beam) & (ends[:, 1] < -1.2 + half_a_beam)).all()
    assert np.isposinf(scan.ranges).sum() == len(scan.ranges) - len(ends)


def test_what_a_camera_that_looks_down_sees_behind_itself_is_in_no_beam():
    pitch = math.radians(75)
    slopes = np.concatenate([RAYS, np.ones_like(RAYS[:1])])
    behind = np.einsum("j,jhw->hw", to_world(pitch, 0)[0], slopes) < 0
    assert behind.mean() > 0.1
    ground, band = Ground.from_mounting(1.3, pitch), (-9.0, 9.0)
    assert not np.isfinite(obstacle_scan(RAYS, wall(1), behind, ground, band, 50).ranges).any()
    assert np.isfinite(obstacle_scan(RAYS, wall(1), ~behind, ground, band, 50).ranges).all()


@pytest.mark.parametrize(
    ("band", "seen"),
    [
        ((0.2, 2.0), True),
        ((2.4, 9.0), True),  # the picture shows 5 m ahead what is up to 3.1 m above the ground
        ((3.2, 9.0), False),
        ((-0.9, -0.5), True),  # and down to 1.1 m below it
        ((-9.0, -1.2), False),
    ],
)
def test_only_what_is_in_the_band_of_heights_counts(band, seen):
    scan = obstacle_scan(RAYS, wall(5), EVERYWHERE, LEVEL, band, 50)
    assert (np.isfinite(scan.ranges) == seen).all()
    assert not np.isnan(scan.ranges).any()


def test_what_is_out_of_range_is_no_obstacle():
    scan = obstacle_scan(RAYS, wall(), EVERYWHERE, LEVEL, BAND, 10.5)
    ahead = np.abs(np.degrees(bearings(scan)))
    assert np.isfinite(scan.ranges[ahead < 17]).all()  # 10 / cos is 10.46
    assert np.isposinf(scan.ranges[ahead > 18.5]).all()  # and here 10.54


def test_a_few_wrong_pixels_make_no_obstacle():
    depth = wall(np.nan)
    for wrong in range(NEAREST_PIXELS):
        scan = obstacle_scan(RAYS, depth, EVERYWHERE, LEVEL, BAND, 50)
        assert np.isposinf(scan.ranges).all()
        depth[120 + wrong, 100] = 4 + wrong
    scan = obstacle_scan(RAYS, depth, EVERYWHERE, LEVEL, BAND, 50)
    (end,) = ends_of(scan)
    last = 3 + NEAREST_PIXELS
    assert end == pytest.approx([last * RAYS[0, 0, 100], 0, last], abs=0.05)


def test_a_few_wrong_pixels_do_not_hide_what_is_behind_them():
    depth = wall()
    depth[120 : 120 + NEAREST_PIXELS - 1, 100] = 4
    scan = obstacle_scan(RAYS, depth, EVERYWHERE, LEVEL, BAND, 50)
    assert scan.ranges * np.cos(bearings(scan)) == pytest.approx(10, rel=0.005)


def test_what_was_not_seen_is_not_known_and_what_was_seen_is_free():
    rays, depth = RAYS.copy(), wall()
    rays[:, :, 100:120] = np.nan  # such as behind the robot's own mast
    depth[:, 200:] = np.nan  # the sky, or farther than the model can say
    scan = obstacle_scan(rays, depth, RAYS[0] > -0.1, LEVEL, BAND, 50)
    slopes = -np.tan(bearings(scan))

    def between(first: int, last: int) -> np.ndarray:
        """Ranges of the beams well within these columns of the picture."""
        return scan.ranges[(slopes > RAYS[0, 0, first + 2]) & (slopes < RAYS[0, 0, last - 2])]

    assert np.isposinf(between(0, 100)).all()
    assert np.isnan(between(100, 120)).all()
    assert np.isposinf(between(120, 131)).all()
    assert np.isfinite(between(132, 200)).all()
    assert np.isposinf(between(200, 319)).all()


def test_beams_narrower_than_a_pixel_leave_gaps():
    scan = obstacle_scan(RAYS, wall(), EVERYWHERE, LEVEL, BAND, 50, math.radians(0.1))
    assert 0.4 < np.isnan(scan.ranges).mean() < 0.5  # a pixel is 0.2 degrees, less at the sides
    assert not np.isinf(scan.ranges).any()


@pytest.mark.parametrize(
    ("rays", "ground", "increment"),
    [
        pytest.param(RAYS * np.nan, LEVEL, 0.01, id="no rays"),
        pytest.param(RAYS, LEVEL, 0.0, id="no increment"),
        pytest.param(RAYS, Ground.from_mounting(2, math.radians(88)), 0.01, id="looks down"),
        pytest.param(RAYS, Ground.from_mounting(2, 0, math.radians(-90)), 0.01, id="on its side"),
    ],
)
def test_what_no_scan_can_be_made_of_is_refused(rays, ground, increment):
    with pytest.raises(ValueError, match="a scan needs"):
        obstacle_scan(rays, wall(), EVERYWHERE, ground, BAND, 50, increment)


@cache
def street_picture(seed: int) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray, Ground]:
    """Rays, depth, obstacles, pose and the ground of a rendered street."""
    frame = Street(seed, WIDTH, HEIGHT).frame(40 * seed)
    k = frame.intrinsics
    ground = Ground(tuple((-frame.pose[1, :3]).tolist()), -float(frame.pose[1, 3]))
    obstacles = ~np.isin(frame.labels, FREE)
    return rays_of(k.fx, k.fy, k.cx, k.cy), frame.depth, obstacles, frame.pose, ground


def points_of(rays: np.ndarray, depth: np.ndarray, pose: np.ndarray) -> np.ndarray:
    """Points (H, W, 3) in the street's world, whose ground is y = 0 and whose y is down."""
    slopes = np.stack([*rays.astype(np.float64), np.ones(depth.shape)], axis=-1)
    return (slopes * depth[..., None]) @ pose[:3, :3].T + pose[:3, 3]


def slow_scan(seed: int, like: Scan, range_max: float) -> np.ndarray:
    """Ranges pixel by pixel, from points in the world that are moved up or down there."""
    rays, depth, obstacles, pose, _ = street_picture(seed)
    points = points_of(rays, depth, pose)
    with np.errstate(invalid="ignore"):
        counts = obstacles & (-points[..., 1] >= BAND[0]) & (-points[..., 1] <= BAND[1])
    found: list[list[float]] = [[] for _ in like.ranges]
    # Where verticals through the points meet the plane of the camera's x and z.
    axes = np.column_stack([pose[:3, 0], pose[:3, 2], [0, -1, 0]])
    for x, z, _ in np.linalg.solve(axes, (points[counts] - pose[:3, 3]).T).T.tolist():
        beam = round((math.atan2(-x, z) - like.angle_min) / like.angle_increment)
        if 0 <= beam < len(found) and math.hypot(x, z) <= range_max:
            found[beam].append(math.hypot(x, z))
    nth = NEAREST_PIXELS - 1
    return np.array([sorted(beam)[nth] if len(beam) > nth else math.inf for beam in found])


@pytest.mark.parametrize("seed", SEEDS)
def test_on_streets_the_ranges_are_those_of_every_pixel_by_itself(seed):
    rays, depth, obstacles, _, ground = street_picture(seed)
    scan = obstacle_scan(rays, depth, obstacles, ground, BAND, 30)
    np.testing.assert_allclose(scan.ranges, slow_scan(seed, scan, 30), rtol=1e-5)
    assert np.isfinite(scan.ranges).sum() > 20
    assert np.nanmax(scan.ranges[np.isfinite(scan.ranges)]) <= 30


@pytest.mark.parametrize("seed", SEEDS)
def test_on_streets_every_beam_ends_at_an_obstacle(seed):
    rays, depth, obstacles, pose, ground = street_picture(seed)
    scan = obstacle_scan(rays, depth, obstacles, ground, BAND, 50)
    points = points_of(rays, depth, pose)[obstacles]
    points = points[(-points[:, 1] >= BAND[0]) & (-points[:, 1] <= BAND[1])]
    ends = ends_of(scan) @ pose[:3, :3].T + pose[:3, 3]
    gaps = [np.hypot(*(points[:, ::2] - end[::2]).T).min() for end in ends]
    # Seen from above; a beam is as wide as it is, and nothing else is added to that.
    reach = scan.ranges[np.isfinite(scan.ranges)]
    assert (gaps <= reach * scan.angle_increment / 2 + 0.002).all()


@pytest.mark.parametrize("seed", SEEDS)
def test_on_streets_the_ground_is_no_obstacle_even_if_it_is_taken_for_one(seed):
    rays, depth, obstacles, _, ground = street_picture(seed)
    for mask in (~EVERYWHERE, ~obstacles):
        scan = obstacle_scan(rays, depth, mask, ground, BAND, 50)
        assert np.isposinf(scan.ranges).all()


@pytest.mark.parametrize("seed", SEEDS)
def test_on_streets_single_wrong_labels_bring_no_obstacle_nearer(seed, monkeypatch):
    rays, depth, obstacles, _, ground = street_picture(seed)
    low = (-1.0, 2.0)  # so that the height of the road does not tell
    # The nearest one in each tenth column: beams are up to four columns wide.
    road = np.flatnonzero(~obstacles & (depth < 30))[::-1]
    columns, first = np.unique(road % WIDTH, return_index=True)
    wrong = road[first[columns % 10 == 0]]
    assert len(wrong) > 25
    corrupted = obstacles.copy()
    corrupted.flat[wrong] = True
    scan = obstacle_scan(rays, depth, corrupted, ground, low, 50)
    monkeypatch.setattr("depthseg_ros.derived.scan.NEAREST_PIXELS", 1)
    nearest = obstacle_scan(rays, depth, obstacles, ground, low, 50)
    assert (scan.ranges >= nearest.ranges).all()
    naive = obstacle_scan(rays, depth, corrupted, ground, low, 50)
    assert (naive.ranges < nearest.ranges).sum() > 10  # they would have
