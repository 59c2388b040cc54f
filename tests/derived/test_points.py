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

import numpy as np
import pytest

from depthseg_ros import street
from depthseg_ros.derived.points import POINT, picture_points
from depthseg_ros.imaging.geometry import Intrinsics, rays
from depthseg_ros.imaging.lens import Lens


def test_points_lie_where_the_picture_shows_them():
    frame = street.Street(1, 160, 120).frame(0)
    confidence = np.arange(160 * 120, dtype=np.uint32).astype(np.uint8).reshape(120, 160)
    points = picture_points(
        frame.image, frame.depth, rays(frame.intrinsics), frame.labels, confidence, 255 - confidence
    )
    assert points.shape == (120, 160) and points.dtype == POINT
    k = frame.intrinsics
    for v, u in ((119, 3), (80, 100), (60, 159)):
        p = points[v, u]
        assert p["x"] / p["z"] * k.fx + k.cx == pytest.approx(u, abs=1e-3)
        assert p["y"] / p["z"] * k.fy + k.cy == pytest.approx(v, abs=1e-3)
        red, green, blue = frame.image[v, u].tolist()
        assert p["rgb"] == red << 16 | green << 8 | blue
    np.testing.assert_array_equal(points["z"], frame.depth)
    np.testing.assert_array_equal(points["label"], frame.labels)
    np.testing.assert_array_equal(points["confidence"], confidence)
    np.testing.assert_array_equal(points["depth_confidence"], 255 - confidence)
    # The street is flat: what is road lies on the ground.
    xyz = np.stack([points[axis] for axis in "xyz"], axis=-1)[frame.labels == 3]
    world = xyz @ frame.pose[:3, :3].T + frame.pose[:3, 3]
    assert np.abs(world[:, 1]).max() < 0.02


def test_a_point_without_depth_or_ray_is_not_finite_in_any_coordinate():
    image, depth = np.zeros((48, 64, 3), np.uint8), np.ones((48, 64), np.float32)
    depth[5, 5] = np.nan
    camera = Intrinsics(64, 48, 15, 15, 32, 24, Lens("equidistant", (0.01, 0.0, 0.0, 0.0)))
    points = picture_points(image, depth, rays(camera))
    assert np.isnan(rays(camera)[0, 0, 0])
    for v, u in ((5, 5), (0, 0)):
        assert all(np.isnan(points[v, u][axis]) for axis in "xyz")
    assert np.isfinite([points[24, 32][axis] for axis in "xyz"]).all()
    assert (points["label"] == 255).all() and (points["confidence"] == 0).all()
    assert (points["depth_confidence"] == 0).all()
