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
from dataclasses import replace

import numpy as np
import pytest

from depthseg_ros.imaging.geometry import Intrinsics, RayCache, rays, sample, to_millimetres
from depthseg_ros.imaging.lens import Lens


def test_field_of_view_gives_the_focal_length_and_a_centred_principal_point():
    camera = Intrinsics.from_fov(640, 480, math.radians(60))
    assert (camera.width, camera.height) == (640, 480)
    assert camera.fx == pytest.approx(320 * math.sqrt(3))
    assert camera.fy == camera.fx
    assert (camera.cx, camera.cy) == (319.5, 239.5)


def test_scaling_keeps_every_ray():
    camera = Intrinsics(640, 480, 500, 510, 300, 250)
    half = camera.scaled(320, 120)
    # The outer border of the picture, half a pixel outside the first centre, stays the border.
    for before, after in (
        ((-0.5 - camera.cx) / camera.fx, (-0.5 - half.cx) / half.fx),
        ((639.5 - camera.cx) / camera.fx, (319.5 - half.cx) / half.fx),
        ((-0.5 - camera.cy) / camera.fy, (-0.5 - half.cy) / half.fy),
        ((479.5 - camera.cy) / camera.fy, (119.5 - half.cy) / half.fy),
    ):
        assert after == pytest.approx(before)


def test_the_matrix_projects_to_the_principal_point():
    camera = Intrinsics(640, 480, 500, 510, 300, 250)
    assert camera.matrix @ [0, 0, 2] == pytest.approx([600, 500, 2])


CAMERA = Intrinsics(640, 480, 500, 510, 300, 250)
BARREL = Lens("plumb_bob", (-0.3, 0.1, 0.001, -0.002, 0.0))


@pytest.mark.parametrize("camera", [CAMERA, CAMERA.scaled(161, 97)])
@pytest.mark.parametrize("step", [1, 2, 5])
def test_rays_of_a_pinhole_go_through_its_pixels(camera, step):
    x, y = rays(camera, step)
    rows = np.arange(camera.height)[sample(camera.height, step)]
    columns = np.arange(camera.width)[sample(camera.width, step)]
    assert x.shape == y.shape == (len(rows), len(columns)) and x.dtype == np.float32
    assert x * camera.fx + camera.cx == pytest.approx(np.tile(columns, (len(rows), 1)), abs=1e-3)
    assert y.T * camera.fy + camera.cy == pytest.approx(np.tile(rows, (len(columns), 1)), abs=1e-3)


def test_of_few_pixels_the_middle_one_is_looked_at():
    for size in (1, 2, 3, 7):
        assert list(range(size)[sample(size, 32)]) == [(size - 1) // 2]
    assert list(range(7)[sample(7, 3)]) == [1, 4]
    assert list(range(12)[sample(12, 5)]) == [2, 7]
    assert rays(Intrinsics(3, 2, 5, 5, 1, 0.5), 32).shape == (2, 1, 1)


def test_rays_of_a_lens_are_computed_once_for_each_camera_and_step():
    bent, kept = replace(CAMERA, lens=BARREL), RayCache()
    first = kept(bent, 2)
    np.testing.assert_array_equal(first, rays(bent, 2))
    assert kept(replace(CAMERA, lens=Lens(BARREL.model, BARREL.coefficients)), 2) is first
    assert kept(bent, 4) is not first and kept(bent, 2) is first
    with pytest.raises(ValueError, match="read-only"):
        first[0] = 0
    np.testing.assert_array_equal(kept(CAMERA, 2), rays(CAMERA, 2))  # another camera
    np.testing.assert_array_equal(kept(CAMERA), rays(CAMERA))


def test_scaling_keeps_the_lens():
    camera = replace(CAMERA, lens=BARREL)
    full, half = rays(camera, 2), rays(camera.scaled(320, 240))
    assert camera.scaled(320, 240).lens == BARREL
    # The half's pixel lies between the full's: compare with the mean of two neighbours.
    np.testing.assert_allclose(half[0][:, :-1], full[0][:, :-1], atol=2e-3)


def test_millimetres_are_zero_where_there_is_no_depth_or_no_room_for_it():
    depth = [[1.2344, np.nan, 65.535, 65.536, 65.6, np.inf, -1.0, 0.0002, 0.001, -np.inf]]
    millimetres = to_millimetres(np.array(depth, np.float32))
    assert millimetres.tolist() == [[1234, 0, 65535, 0, 0, 0, 0, 0, 1, 0]]
    assert millimetres.dtype == np.uint16
