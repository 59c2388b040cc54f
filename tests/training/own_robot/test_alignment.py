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

"""Depth that a teacher says, made metric by truth, and by the height of the camera."""

import math

import numpy as np
import pytest

from depthseg_ros.street import Street
from training.data.classes import CAMVID
from training.own_robot.alignment import FARTHEST, MEMORY, Alignment, camera_of, fit_line


def street(seed, width=320, height=240):
    scene = Street(seed, width, height)
    return scene, scene.frame(30)


def mounted(scene, **options):
    """By the height and pitch that the street's camera has; its pitch is positive upwards."""
    return Alignment(
        "metric", CAMVID, height=scene.camera_height, **{"pitch": -scene.pitch, **options}
    )


def as_relative(scene, **options):
    return Alignment(
        "relative", CAMVID, height=scene.camera_height, **{"pitch": -scene.pitch, **options}
    )


def inverse(depth):
    """As a network says it that knows no scale: the sky is as far as can be."""
    return (70 * np.nan_to_num(1 / depth) + 3).astype(np.float32)


def error(depth, truth, limit=40):
    near = np.isfinite(depth) & (truth < limit)
    return float(np.median(np.abs(depth[near] / truth[near] - 1)))


def test_a_line_is_found_though_a_third_of_the_points_are_wrong():
    rng = np.random.default_rng(0)
    x = rng.uniform(0, 5, 3000)
    y = 2 * x + 0.5 + rng.normal(0, 0.01, x.size)
    y[rng.random(x.size) < 0.33] = rng.uniform(10, 20)
    assert fit_line(x, y) == pytest.approx((2, 0.5), abs=0.01)


@pytest.mark.parametrize("x", [np.zeros(500), np.ones(500), np.arange(50.0), np.full(500, np.nan)])
def test_no_line_where_points_do_not_tell(x):
    assert fit_line(x, np.arange(len(x), dtype=float)) is None


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("factor", [0.6, 1.3])
def test_camera_height_corrects_metric_depth(seed, factor):
    scene, frame = street(seed)
    rng = np.random.default_rng(seed)
    noisy = frame.depth * factor * rng.normal(1, 0.05, frame.depth.shape)
    # The pitch is not needed: the plane is fitted.
    alignment = mounted(scene, pitch=None)
    line = alignment.line(noisy.astype(np.float32), frame.labels, frame.intrinsics, None)
    assert line == pytest.approx((1 / factor, 0), rel=0.04)
    depth = alignment.metres((frame.depth * factor).astype(np.float32), line)
    assert error(depth, frame.depth) < 0.04


@pytest.mark.parametrize("seed", range(3))
def test_camera_height_makes_relative_depth_metric_for_any_pitch_if_sky_is_visible(seed):
    scene, frame = street(seed)
    predicted = inverse(frame.depth)
    for pitch in (-scene.pitch, -scene.pitch + math.radians(4)):
        alignment = as_relative(scene, pitch=pitch)
        line = alignment.line(predicted, frame.labels, frame.intrinsics, None)
        depth = alignment.metres(predicted, line)
        assert error(depth, frame.depth) < 0.05
        assert np.isnan(depth[frame.labels == 0]).mean() > 0.99  # 1 / z is 0 there


def test_without_the_sky_the_pitch_must_be_known():
    scene, frame = street(1)
    labels = np.where(frame.labels == 0, 255, frame.labels).astype(np.uint8)
    predicted = inverse(frame.depth)
    errors = []
    for pitch in (-scene.pitch, -scene.pitch + math.radians(2)):
        alignment = as_relative(scene, pitch=pitch)
        line = alignment.line(predicted, labels, frame.intrinsics, None)
        errors.append(error(alignment.metres(predicted, line), frame.depth))
    assert errors[0] < 0.05 < errors[1]


@pytest.mark.parametrize("kind", ["metric", "relative"])
def test_sparse_truth_makes_depth_metric(kind):
    _, frame = street(2)
    rng = np.random.default_rng(0)
    truth = np.where(rng.random(frame.depth.shape) < 0.02, frame.depth, 0)
    truth[rng.random(truth.shape) < 0.002] = 3  # what a sensor sees wrongly
    predicted = (frame.depth * 1.4 if kind == "metric" else inverse(frame.depth)).astype(np.float32)
    alignment = Alignment(kind, CAMVID, truth=True)
    line = alignment.line(predicted, frame.labels, None, truth.astype(np.float32))
    assert error(alignment.metres(predicted, line), frame.depth, 80) < 0.02
    assert alignment.line(predicted, frame.labels, None, None) is None


def test_depth_that_falls_with_distance_is_not_turned_about():
    scene, frame = street(0)
    predicted = -inverse(frame.depth)
    assert as_relative(scene).line(predicted, frame.labels, frame.intrinsics, None) is None


def test_one_bad_frame_does_no_harm_and_one_without_ground_takes_the_others():
    alignment = Alignment("metric", CAMVID, height=1.5)
    lines = [(1.3, 0.0)] * 20
    lines[4], lines[9] = (40.0, 0.0), None
    assert alignment.smoothed(lines) == [(1.3, 0.0)] * 20
    assert alignment.smoothed([None, None]) == [None, None]
    drifting = [(1 + i / 100, 0.0) for i in range(4 * MEMORY)]
    smooth = np.array(alignment.smoothed(drifting))[MEMORY:-MEMORY, 0]
    np.testing.assert_allclose(smooth, np.array(drifting)[MEMORY:-MEMORY, 0], rtol=0.01)


def test_relative_depth_keeps_its_own_line_unless_it_is_far_off():
    alignment = Alignment("relative", CAMVID, height=1.5)
    lines = [(0.01, 0.1), (0.011, 0.12), (0.5, 3.0), None, (0.01, 0.11)]
    smooth = alignment.smoothed(lines)
    assert smooth[:2] == lines[:2] and smooth[4] == lines[4]
    assert smooth[2] == smooth[3] == pytest.approx((0.0105, 0.115))


def test_depth_is_unchanged_without_height_or_truth():
    alignment = Alignment("metric", CAMVID)
    assert not alignment.needed and "teacher" in alignment.describe()
    assert alignment.smoothed([None]) == [(1.0, 0.0)]
    predicted = np.array([[2.0, -1.0, np.nan, 2 * FARTHEST]], np.float32)
    np.testing.assert_equal(alignment.metres(predicted, (1.0, 0.0)), [[2, np.nan, np.nan, np.nan]])
    assert np.isnan(alignment.metres(predicted, None)).all()


def test_the_camera_comes_with_its_lens():
    lens = {"model": "plumb_bob", "coefficients": [0.1, 0.0, 0.0, 0.0]}
    frame = {"width": 640, "height": 480, "camera": {"fx": 500, "fy": 510, "cx": 320, "cy": 240}}
    camera = camera_of({**frame, "camera": {**frame["camera"], "lens": lens}})
    assert (camera.width, camera.fx, camera.fy, camera.lens.bends) == (640, 500, 510, True)
    assert camera_of({**frame, "camera": None}) is None


def test_a_known_mounting_puts_the_ground_where_it_is_and_things_onto_it():
    scene, frame = street(1)
    ground = np.isin(frame.labels, [3, 4])
    # As a network says it that never saw streets from there: the ground is not what it takes it
    # for, and all else a little too far.
    predicted = (frame.depth * np.where(ground, 1.9, 1.2)).astype(np.float32)
    alignment = mounted(scene)
    line = alignment.line(predicted, frame.labels, scene.intrinsics, None)
    assert line == pytest.approx((1 / 1.2, 0), rel=0.08)
    depth = alignment.metres(predicted, line, frame.labels, scene.intrinsics)
    assert error(depth[~ground], frame.depth[~ground]) < 0.08
    near = ground & (frame.depth < 15)
    assert error(depth[near], frame.depth[near]) < 0.03
    # A factor for all, which is what the height alone gives, does harm to one or the other.
    alone = Alignment("metric", CAMVID, height=scene.camera_height)
    factor = alone.line(predicted, frame.labels, scene.intrinsics, None)
    assert error(alone.metres(predicted, factor)[~ground], frame.depth[~ground]) > 0.3


def test_where_nothing_stands_in_sight_the_teachers_scale_is_kept():
    scene, frame = street(1)
    alignment = mounted(scene)
    empty = np.where(frame.labels == 3, 3, 0).astype(np.uint8)
    line = alignment.line(frame.depth, empty, scene.intrinsics, None)
    assert line is None and alignment.smoothed([line]) == [(1.0, 0.0)]
