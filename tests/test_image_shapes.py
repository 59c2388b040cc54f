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

"""Depth is right whatever the shape of the image and the lens, on streets whose depth is known."""

import math

import numpy as np
import pytest

from depthseg_ros import model_card
from depthseg_ros.perception import Perception
from depthseg_ros.street import Camera, Street

SEED = 3_200_000
"""Of streets that no training and no choice has seen."""


@pytest.fixture(scope="module", params=["onnxruntime", "openvino"])
def perception(request):
    pytest.importorskip(request.param)
    perception = Perception(model_card.default_model(), request.param)
    yield perception
    perception.close()


@pytest.fixture(scope="module")
def cameras():
    """Streets through cameras of random shapes and lenses; the renderer is slow."""
    rng = np.random.default_rng(1)
    frames = []
    for number in range(8):
        aspect = math.exp(rng.uniform(math.log(0.7), math.log(3.3)))
        height = round(math.sqrt(rng.uniform(2e5, 4e5) / aspect))
        fov = rng.uniform(0.8, 1.5)  # of the longer side
        if aspect < 1:
            fov = 2 * math.atan(math.tan(fov / 2) * aspect)
        camera = Camera(fov=fov, height=1.5)
        frames.append(Street(SEED + number, round(height * aspect), height, camera).frame(60))
    return frames


def errors(prediction, depth, limits):
    """Mean and median relative error over what is within the model's range."""
    known = (depth > limits.min) & (depth < limits.max) & np.isfinite(prediction)
    relative = prediction[known] / depth[known] - 1
    return np.abs(relative).mean(), np.median(relative)


def test_depth_holds_for_every_shape_and_lens(perception, cameras):
    found = []
    for frame in cameras:
        prediction = perception(frame.image, frame.intrinsics.fx)
        found.append(errors(prediction.depth, frame.depth, perception.card.depth))
    means, medians = np.array(found).T
    # Stretched to one shape, wide ones came out at half their depth and tall ones at twice.
    assert np.abs(medians).max() < 0.15, medians
    assert means.mean() < 0.15, means
    assert abs(medians.mean()) < 0.05, medians


@pytest.mark.parametrize("factor", [0.5, 2.0])
def test_pixels_that_are_not_square_change_nothing(perception, cameras, factor):
    import cv2

    frame = cameras[0]
    height, width = frame.depth.shape
    squeezed = cv2.resize(
        frame.image, (width, round(height * factor)), interpolation=cv2.INTER_AREA
    )
    fx = frame.intrinsics.fx
    whole = perception(frame.image, fx).depth
    depth = perception(squeezed, fx, fy=fx * factor).depth
    rows = np.linspace(0, len(depth) - 1, height).round().astype(int)
    assert np.nanmedian(np.abs(depth[rows] / whole - 1)) < 0.05


@pytest.mark.parametrize("rotation", [90, 180, 270])
def test_a_camera_that_is_mounted_otherwise_sees_the_same(perception, cameras, rotation):
    frame = cameras[1]
    fx = frame.intrinsics.fx
    upright = perception(frame.image, fx)
    turns = rotation // 90  # the image as such a camera takes it, against the clock
    turned = perception(np.rot90(frame.image, turns), fx, rotation=rotation)
    for name in ("labels", "confidence", "depth"):
        seen = np.rot90(getattr(turned, name), -turns)
        np.testing.assert_array_equal(seen, getattr(upright, name))
