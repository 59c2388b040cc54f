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
from functools import partial

import numpy as np
import pytest

from depthseg_ros.derived.distances import class_distances
from depthseg_ros.imaging.geometry import Intrinsics, rays
from depthseg_ros.imaging.lens import Lens


def test_distances_of_the_classes_in_the_picture():
    labels = np.zeros((10, 10), np.uint8)
    labels[:5] = 8
    labels[9, 9] = 255
    depth = np.full((10, 10), 7, np.float32)
    depth[:5] = np.linspace(4, 24, 50, dtype=np.float32).reshape(5, 10)
    road, car = class_distances(labels, depth=depth, names={0: "road", 8: "car", 9: "pedestrian"})
    assert (road.class_id, road.class_name, road.pixel_share) == (0, "road", 0.49)
    assert (road.nearest, road.median) == pytest.approx((7, 7), rel=0.002)
    assert car.pixel_share == 0.5
    assert car.nearest == pytest.approx(depth[0, 0], rel=0.002)  # of 50 pixels 2 % are the first
    assert car.median == pytest.approx(np.sort(depth[:5].ravel())[24], rel=0.002)


def test_distances_are_those_of_sorting_the_pixels_of_each_class():
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 5, (300, 400), np.uint8)
    depth = np.exp(rng.uniform(np.log(0.05), np.log(200), labels.shape)).astype(np.float32)
    depth *= 1 + labels
    depth[rng.random(labels.shape) < 0.3] = np.nan
    names = {0: "a", 1: "b", 3: "d"}
    distances = class_distances(labels, depth=depth, names=names)
    assert [d.class_id for d in distances] == [0, 1, 3]
    for d in distances:
        pixels = depth[labels == d.class_id]
        assert d.pixel_share == pytest.approx(pixels.size / labels.size)
        nearest, median = np.nanpercentile(pixels, (2, 50))
        assert d.nearest == pytest.approx(nearest, rel=0.005)
        assert d.median == pytest.approx(median, rel=0.005)


@pytest.mark.parametrize("size", [(480, 640), (721, 1283)])
def test_distances_of_large_pictures_are_those_of_all_pixels(size):
    height, width = size
    depth = np.geomspace(50, 3, height, dtype=np.float32)[:, None].repeat(width, axis=1)
    labels = np.zeros(size, np.uint8)
    labels[height // 3 :, width // 4 : width // 3] = 1
    for d in class_distances(labels, depth=depth, names={0: "road", 1: "car"}):
        pixels = depth[labels == d.class_id]
        assert d.pixel_share == pytest.approx(pixels.size / labels.size, rel=0.03)
        nearest, median = np.percentile(pixels, (2, 50))
        assert (d.nearest, d.median) == pytest.approx((nearest, median), rel=0.02)


def test_one_wrong_pixel_is_not_the_nearest_point():
    labels, depth = np.zeros((20, 20), np.uint8), np.full((20, 20), 30, np.float32)
    depth[3, 3] = 0.5
    assert class_distances(labels, depth=depth, names={0: "car"})[0].nearest == pytest.approx(
        30, rel=0.002
    )


def test_a_class_without_depth_has_no_distance():
    labels = np.zeros((4, 4), np.uint8)
    negative_nan = np.full((4, 4), 0xFFC00000, np.uint32).view(np.float32)
    none = [np.full((4, 4), value, np.float32) for value in (np.nan, np.inf, -np.inf, -3, 0, 5000)]
    for depth in (*none, negative_nan, None):
        (sky,) = class_distances(labels, depth=depth, names={0: "sky"})
        assert sky.pixel_share == 1
        assert math.isnan(sky.nearest) and math.isnan(sky.median)


def test_the_bearing_is_that_of_the_nearest_part_to_the_left_positive():
    camera = Intrinsics.from_fov(320, 240, math.radians(90))  # fx is 160
    labels, depth = np.zeros((240, 320), np.uint8), np.full((240, 320), 30, np.float32)
    labels[100:140, 40:80] = labels[100:140, 260:300] = 8
    depth[100:140, 40:80], depth[100:140, 260:300] = 12, 9
    names = {0: "road", 8: "car"}
    _, car = class_distances(labels, names, depth=depth, rays=partial(rays, camera))
    assert math.tan(-car.bearing) == pytest.approx((280 - 159.5) / 160, abs=20 / 160)
    depth[100:140, 40:80] = 9  # two as near: at one of them, not between
    _, car = class_distances(labels, names, depth=depth, rays=partial(rays, camera))
    assert abs(math.tan(car.bearing)) > 0.5
    _, car = class_distances(labels, names, depth=depth)
    assert math.isnan(car.bearing)


def test_a_pixel_that_the_lens_does_not_see_has_no_bearing():
    lens = Lens("equidistant", (0.01, 0.0, 0.0, 0.0))
    camera = Intrinsics(64, 48, 15, 15, 32, 24, lens)
    labels = np.zeros((48, 64), np.uint8)
    labels[0, 0] = 1
    depth = np.ones(labels.shape, np.float32)
    assert math.isnan(
        class_distances(labels, {1: "sign"}, depth=depth, rays=partial(rays, camera))[0].bearing
    )


def test_confidence_is_the_mean_of_the_class():
    labels = np.repeat(np.array([[0], [1]], np.uint8), 4, axis=1)
    confidence = np.array([[255, 255, 0, 0], [51, 51, 51, 51]], np.uint8)
    road, car = class_distances(labels, {0: "road", 1: "car"}, confidence)
    assert (road.confidence, car.confidence) == pytest.approx((0.5, 0.2))
    assert math.isnan(class_distances(labels, {0: "road"})[0].confidence)
