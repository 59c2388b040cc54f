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

"""What is done to images before a graph and undone on its outputs."""

import math
from dataclasses import replace

import cv2
import numpy as np
import pytest

from depthseg_ros.model_card import DepthRange, ModelCard, SemanticClass, fitted_size
from depthseg_ros.shaping import ROTATIONS, Shaping, resized, resized_depth

CARD = ModelCard(
    name="any",
    system="by hand",
    classes=(),
    depth=DepthRange("metric", 0.5, 100.0),
    network_size=(480, 360),
    canonical_fx=420.0,
)
STRETCHING = replace(CARD, schema_version=1)


LABELS_ALONE = replace(CARD, depth=None, classes=(SemanticClass(0, "all", (0, 0, 0)),))


def image_of(width, height):
    """Columns in red, rows in green."""
    y, x = np.mgrid[:height, :width]
    return np.stack([x % 256, y % 256, 0 * x], 2).astype(np.uint8)


@pytest.mark.parametrize("rotation", ROTATIONS)
@pytest.mark.parametrize("card", [CARD, STRETCHING])
@pytest.mark.parametrize("size", [(64, 48), (96, 32), (31, 57)])
def test_what_is_done_is_undone(rotation, card, size):
    image = image_of(*size)
    shaping = Shaping.of(card, *size, 50.0, 50.0, rotation)
    shaped = shaping.apply(image)
    for channel in range(2):
        np.testing.assert_array_equal(shaping.undo(shaped[..., channel]), image[..., channel])


@pytest.mark.parametrize(
    "rotation, corner", [(0, (0, 0)), (90, (0, -1)), (180, (-1, -1)), (270, (-1, 0))]
)
def test_an_image_is_rotated_clockwise(rotation, corner):
    image = np.zeros((4, 6, 3), np.uint8)
    image[0, 0] = 255
    assert Shaping.of(LABELS_ALONE, 6, 4, rotation=rotation).apply(image)[corner].all()


def test_an_upright_image_of_square_pixels_is_taken_as_it_is():
    image = image_of(64, 48)
    shaping = Shaping.of(CARD, 64, 48, 50.0, 50.2)
    assert shaping.apply(image) is image
    assert shaping.focal == pytest.approx(math.sqrt(50 * 50.2))


def test_pixels_become_square_and_the_finer_direction_gives_way():
    tall = Shaping.of(CARD, 640, 480, 500.0, 1000.0)  # every row twice
    assert (tall.square, tall.focal) == ((640, 240), 500.0)
    wide = Shaping.of(CARD, 640, 480, 1000.0, 500.0)
    assert (wide.square, wide.focal) == ((320, 480), 500.0)
    on_its_side = Shaping.of(CARD, 640, 480, 500.0, 1000.0, 90)
    assert (on_its_side.size, on_its_side.square, on_its_side.focal) == (
        (480, 640),
        (240, 640),
        500.0,
    )
    depth = np.arange(240 * 640, dtype=np.float32).reshape(240, 640)
    assert tall.undo(depth) is depth
    assert on_its_side.undo(depth.T).shape == depth.shape


@pytest.mark.parametrize("size", [(640, 360), (480, 640), (1242, 375), (640, 480)])
def test_files_that_stretch_get_images_of_the_networks_shape(size):
    shaped = Shaping.of(STRETCHING, *size, 500.0).apply(image_of(*size))
    height, width = shaped.shape[:2]
    assert width / height == pytest.approx(480 / 360, rel=0.01)
    assert min(width - size[0], height - size[1]) == 0  # padded in one direction alone


REDUCIBLE = replace(CARD, reducible=True)


def test_a_large_image_is_reduced_if_the_card_allows_it():
    image = image_of(1280, 720)
    shaping = Shaping.of(REDUCIBLE, 1280, 720, 800.0, whole=False)
    assert shaping.apply(image).shape == (320, 576, 3)
    assert shaping.focal == pytest.approx(800 * math.sqrt(320 * 576 / (1280 * 720)))
    for card, whole in ((REDUCIBLE, True), (CARD, False)):
        assert Shaping.of(card, 1280, 720, 800.0, whole=whole).apply(image) is image
    usual = Shaping.of(REDUCIBLE, 640, 480, 500.0, whole=False)  # derived outputs take less time
    assert usual.apply(image_of(640, 480)).shape == (352, 480, 3)
    stretched = Shaping.of(REDUCIBLE, 1280, 720, 1600.0, 800.0, whole=False)
    assert stretched.apply(image).shape[:2] == stretched.reduced[::-1] == (448, 384)
    small = image_of(320, 240)
    assert Shaping.of(REDUCIBLE, 320, 240, 300.0, whole=False).apply(small) is small
    odd = image_of(900, 700)  # for 448 x 352 the network would be 480 x 384
    assert Shaping.of(REDUCIBLE, 900, 700, 800.0, whole=False).apply(odd) is odd
    on_its_side = Shaping.of(REDUCIBLE, 1280, 720, 800.0, rotation=90, whole=False)
    assert on_its_side.apply(image).shape == (576, 320, 3)
    whole = Shaping.of(REDUCIBLE, 1280, 720, 800.0, rotation=90).apply(image)
    np.testing.assert_allclose(  # but for the rounding of bytes
        on_its_side.apply(image).astype(int), cv2.resize(whole, (320, 576)).astype(int), atol=2
    )
    assert on_its_side.undo(np.zeros((576, 320), np.uint8)).shape == (320, 576)


def test_outputs_are_enlarged():
    size = (1280, 720)
    labels = np.arange(320 * 576).reshape(320, 576).astype(np.uint8)
    enlarged = resized("labels", labels, size)
    v, u = np.mgrid[:720, :1280]
    nearest = ((v + 0.5) * 320 / 720).astype(int), ((u + 0.5) * 576 / 1280).astype(int)
    assert np.mean(enlarged == labels[nearest]) > 0.95  # but for ties
    depth = np.full((320, 576), 4.0, np.float32)
    depth[:, 300:] = 9.0
    depth[:100] = np.nan
    enlarged = resized_depth(depth, size)
    assert np.isnan(enlarged[:225]).all() and np.isfinite(enlarged[225:]).all()
    assert np.nanmin(enlarged) == pytest.approx(4) and np.nanmax(enlarged) == pytest.approx(9)
    assert np.all(np.diff(enlarged[600]) >= -1e-4)  # from 4 to 9 without overshoot
    assert np.isnan(resized_depth(np.full_like(depth, np.nan), size)).all()
    assert resized_depth(np.zeros_like(depth), size, logarithmic=False).max() == 0
    assert np.isnan(resized_depth(depth, size, False)[:225]).all()
    assert resized_depth(depth, (576, 320)) is depth
    everywhere = np.ones(depth.shape, np.uint8)
    assert set(np.unique(resized_depth(depth, size, True, everywhere)[300:])) == {4.0, 9.0}


def test_reduced_depth_is_not_interpolated():
    depth = np.full((320, 576), 4.0, np.float32)
    depth[:, 300:] = 9.0
    depth[:100] = np.nan
    reduced = resized_depth(depth, (101, 57))
    assert reduced.shape == (57, 101)
    assert set(np.unique(reduced[~np.isnan(reduced)])) == {4.0, 9.0}
    assert np.isnan(reduced[:17]).all() and np.isfinite(reduced[19:]).all()


@pytest.mark.parametrize(
    "wrong", [{"fx": 0.0}, {"fx": math.nan}, {"fx": 5.0, "fy": -1.0}, {"rotation": 45}]
)
def test_cameras_that_cannot_be_are_refused(wrong):
    with pytest.raises(ValueError, match=r"expected|needs a focal length"):
        Shaping.of(CARD, 64, 48, **wrong)


def test_labels_need_no_focal_length():
    assert Shaping.of(LABELS_ALONE, 64, 48, math.nan).focal is None


SHAPES = [
    (640, 480),
    (640, 360),
    (1920, 1080),
    (960, 480),
    (1242, 375),
    (480, 640),
    (1280, 1024),
    (752, 480),
    (1, 1),
    (8192, 3),
]


@pytest.mark.parametrize("size", SHAPES)
@pytest.mark.parametrize("pixels", [480 * 360, 320 * 240, 224 * 224])
def test_the_networks_size_has_the_images_shape(size, pixels):
    width, height = fitted_size(*size, pixels)
    assert width % 32 == height % 32 == 0 and min(width, height) >= 32
    assert (width >= height) == (size[0] >= size[1]) or width == height
    assert width * height <= 2.5 * pixels
    if max(size) / min(size) < 4:
        assert pixels / 1.4 < width * height < 1.4 * pixels
        uneven = (width / height) / (size[0] / size[1])
        most = 16 / (max(width, height) - 16)  # half a stride of the long side
        assert abs(math.log(uneven)) < 1.1 * most


def test_the_documented_sizes_are_the_networks():
    sizes = {(640, 480): (480, 352), (1280, 720): (576, 320), (960, 480): (576, 288)}
    sizes |= {(1242, 375): (736, 224), (480, 640): (352, 480)}
    assert {size: CARD.size_for(*size) for size in sizes} == sizes
    assert STRETCHING.size_for(1242, 375) == (480, 360)
