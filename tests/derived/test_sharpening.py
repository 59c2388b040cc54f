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

import cv2
import numpy as np
import pytest

from depthseg_ros.derived.sharpening import sharpened as sharpened_with_edges
from depthseg_ros.imaging.geometry import Intrinsics, rays
from depthseg_ros.shaping import resized_depth
from depthseg_ros.street import Street

NEAR, FAR = 5.0, 20.0


def sharpened(depth: np.ndarray) -> np.ndarray:
    return sharpened_with_edges(depth)[0]


def smooth(depth: np.ndarray, sigma: float = 2.0) -> np.ndarray:
    """Depth whose edges slope, as a network's do; it is blurred as ln(depth)."""
    return np.exp(cv2.GaussianBlur(np.log(depth), (0, 0), sigma)).astype(np.float32)


def between(depth: np.ndarray) -> int:
    return np.count_nonzero((depth > 1.1 * NEAR) & (depth < FAR / 1.1))


def step_edge(width: int = 640, height: int = 480) -> np.ndarray:
    depth = np.full((height, width), FAR, np.float32)
    depth[:, : width // 2] = NEAR
    return depth


def test_an_edge_becomes_a_step_where_it_was():
    edge = step_edge()
    slope = smooth(edge)
    found = sharpened(slope)
    assert between(found) < 0.2 * between(slope)
    # Its ends are all that stays of the slope.
    assert (
        np.mean(np.abs(np.log(found / edge)) > 0.2)
        == 0
        < np.mean(np.abs(np.log(slope / edge)) > 0.2)
    )


@pytest.mark.parametrize("size", [(320, 240), (1280, 720), (480, 640), (641, 479), (3840, 2160)])
def test_edges_are_found_in_images_of_any_size(size):
    edge = step_edge(*size)
    slope = smooth(edge, 2.0 * size[0] / 640)
    assert between(sharpened(slope)) < 0.2 * between(slope)


@pytest.mark.parametrize("size", [(640, 480), (641, 479), (1920, 1440)])
def test_enlarged_edges_stay_steps(size):
    slope = smooth(step_edge(480, 360), 1.5)
    depth, edges = sharpened_with_edges(slope)
    assert between(resized_depth(depth, size, True, edges)) < 0.2 * between(
        resized_depth(slope, size)
    )
    assert between(resized_depth(depth, size)) > 0  # and so they need this


def test_a_thin_pole_stays():
    depth = np.full((480, 640), FAR, np.float32)
    depth[100:, 318:323] = NEAR
    found = sharpened(smooth(depth, 1.0))
    assert np.all(found[200:, 320] < 1.1 * NEAR)
    assert between(found[200:]) == 0


@pytest.mark.parametrize("size", [(640, 480), (160, 120), (1280, 720)])
@pytest.mark.parametrize("farthest", [20, 100, 1000])
@pytest.mark.parametrize("up", [(0, -1, 0), (0.05, -0.97, -0.24), (1, 0, 0), (-0.98, 0.1, 0.15)])
def test_a_plane_at_a_grazing_angle_has_no_edge(size, farthest, up):
    """Road or wall, up to its horizon or to where depth ends, and to the image's border."""
    x, y = rays(Intrinsics.from_fov(*size, 1.2))
    with np.errstate(divide="ignore"):
        depth = (-0.4 / (up[0] * x + up[1] * y + up[2])).astype(np.float32)
    depth[(depth <= 0) | (depth > farthest)] = np.nan
    assert np.count_nonzero(np.isfinite(depth)) > 0.1 * depth.size
    assert np.array_equal(sharpened(depth), depth, equal_nan=True)


def test_depth_without_edges_is_not_copied():
    wall = np.full((480, 640), 7.0, np.float32)
    assert sharpened(wall) is wall
    assert sharpened(wall[:1, :1]).shape == (1, 1)
    nothing = np.full((480, 640), np.nan, np.float32)
    assert sharpened(nothing) is nothing


def test_beside_the_sky_depth_belongs_to_the_near_side():
    depth = np.full((480, 640), 60.0, np.float32)
    depth[:, :300] = 10.0
    depth[:, 304:] = np.nan  # 4 columns between
    found = sharpened(depth)
    assert np.array_equal(np.isnan(found), np.isnan(depth))
    assert np.all(found[:, :304] == 10.0)


def test_the_unit_does_not_matter():
    slope = smooth(step_edge())
    assert np.array_equal(sharpened(slope * np.float32(8)), sharpened(slope) * np.float32(8))


def test_a_street_has_fewer_pixels_between_surfaces_and_keeps_the_others():
    truth = Street(3, 640, 480).frame(0).depth
    filled = np.nan_to_num(truth, nan=300)
    window = np.ones((7, 7), np.uint8)
    near, far = cv2.erode(filled, window), cv2.dilate(filled, window)
    edge = np.isfinite(truth) & (far > 1.3 * near) & (near < 40)
    slope = smooth(filled)
    slope[np.isnan(truth)] = np.nan

    def lost(depth):
        return np.count_nonzero(edge & (depth > 1.1 * near) & (depth < far / 1.1))

    found = sharpened(slope)
    assert lost(found) < 0.4 * lost(slope)
    right = np.abs(slope / truth - 1) < 0.1
    assert np.mean(np.abs(found / truth - 1)[right] < 0.1) > 0.97
