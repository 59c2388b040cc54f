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

from depthseg_ros.derived.depth_confidence import estimate_depth_confidence

NAN = np.float32("nan")


def step(near=4.0, far=12.0, size=(480, 640)):
    """A near surface on the left, a far one on the right."""
    depth = np.full(size, near, np.float32)
    depth[:, size[1] // 2 :] = far
    return depth


@pytest.mark.parametrize("size", [(480, 640), (1080, 1920), (120, 160), (333, 517), (3, 5), (1, 1)])
def test_confidence_is_low_at_edges_and_where_labels_are_uncertain(size):
    depth, labels = step(size=size), np.full(size, 255, np.uint8)
    labels[: size[0] // 3] = 51
    found = estimate_depth_confidence(depth, 100.0, labels)
    assert found.shape == size and found.dtype == np.uint8
    if min(size) < 100:
        return
    middle, width = size[1] // 2, size[1]
    sure = found[size[0] // 2 :]
    edge, flat = sure[:, middle], sure[:, [width // 4, 3 * width // 4]]
    # From the constants: ln b = -2.58 without an edge, at most 1.52 more at one.
    assert flat == pytest.approx(255 * (1 - np.exp(-np.log(1.1) / np.exp(-2.58))), abs=2)
    rise = 1.52 * (np.log(3) - 0.25)
    assert edge == pytest.approx(255 * (1 - np.exp(-np.log(1.1) / np.exp(-2.58 + rise))), abs=2)
    uncertain = found[: size[0] // 4, width // 4]
    b = np.exp(-2.58 + 2.83 * 0.8)
    assert uncertain == pytest.approx(255 * (1 - np.exp(-np.log(1.1) / b)), abs=2)


def test_a_slope_and_the_skyline_are_not_edges_and_unknown_depth_has_no_confidence():
    height, width = 480, 640
    below = np.arange(1, 241, dtype=np.float32)[:, None]
    depth = np.full((height, width), NAN)
    depth[240:] = 400 / below  # the ground from 1.7 m to the horizon
    depth[240:, 300:] = np.minimum(depth[240:, 300:], 9.0)  # a wall on it, up to the sky
    found = estimate_depth_confidence(depth, 100.0, np.full(depth.shape, 255, np.uint8))
    np.testing.assert_array_equal(found == 0, np.isnan(depth))
    assert np.ptp(found[244:, 310:]) <= 1  # also right below the sky
    assert np.ptp(found[300:, :280]) <= 1


def test_without_labels_distance_counts_and_the_unit_does_not():
    depth = step()
    found = estimate_depth_confidence(depth, 100.0)
    assert found[0, 0] > found[0, -1] > found[0, 320] > 0
    np.testing.assert_array_equal(found, estimate_depth_confidence(depth / 100, 1.0))
    assert (estimate_depth_confidence(np.full((8, 9), NAN), 1.0) == 0).all()
    assert (estimate_depth_confidence(np.zeros((8, 9), np.float32), 1.0) > 0).all()


def test_true_edges_of_interpolated_depth_are_found():
    """Where depth lies between two surfaces, confidence is among the lowest tenth."""
    depth = step()
    blurred = np.exp(cv2.blur(np.log(depth), (9, 9)))
    between = np.abs(np.log(blurred / depth)) > np.log(1.1)
    found = estimate_depth_confidence(blurred, 100.0, np.full(depth.shape, 255, np.uint8))
    assert between.any() and found[between].max() < np.median(found)
