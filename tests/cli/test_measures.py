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

import numpy as np
import pytest

from depthseg_ros.cli.measures import BINS, Measures
from depthseg_ros.model_card import DepthRange

RANGE = DepthRange("metric", 0.5, 100.0)


def labels(*rows):
    return np.array(rows, np.uint8)


def depth(*values):
    return np.array([values], np.float32)


def test_what_is_right_is_perfect():
    measures = Measures(RANGE)
    true = labels([0, 0, 1, 255])
    assert measures.add_labels(labels([0, 0, 1, 7]), true, labels([255, 255, 255, 0])) == 1
    far = depth(1, 20, np.nan, 100)
    assert measures.add_depth(far, far).abs_rel == 0
    assert (measures.miou, measures.accuracy, measures.ece) == (1, 1, 0)
    assert (measures.depth.rmse, measures.depth.delta1) == (0, 1)


def test_iou_is_of_all_pixels_and_unlabelled_truth_does_not_count():
    measures = Measures(None)
    assert measures.add_labels(labels([0, 1, 1]), labels([0, 0, 255])) == pytest.approx(0.25)
    measures.add_labels(labels([0, 0]), labels([0, 0]))
    assert measures.ious == {0: pytest.approx(3 / 4), 1: 0}
    assert measures.accuracy == pytest.approx(3 / 4)
    assert measures.miou == pytest.approx(3 / 8)


def test_the_calibration_error_is_how_far_confidence_and_accuracy_are_apart():
    measures = Measures(None)
    said = np.full((1, 100), 51, np.uint8)  # 0.2
    true = labels([0] * 60 + [1] * 40)
    measures.add_labels(np.zeros((1, 100), np.uint8), true, said)
    assert measures.ece == pytest.approx(0.6 - 0.2)
    pixels, confidence, right = measures.reliability
    assert (pixels.sum(), right.sum()) == (100, 60)
    assert confidence[int(0.2 * BINS)] == pytest.approx(20)


def test_depth_counts_within_the_models_range_and_none_is_its_far_end():
    measures = Measures(RANGE)
    found = measures.add_depth(depth(2, 12, np.nan, 3, 3), depth(1, 10, 50, 0.4, 200))
    assert found.abs_rel == pytest.approx((1 + 0.2 + 1) / 3)
    assert found.rmse == pytest.approx(math.sqrt((1 + 4 + 2500) / 3), rel=1e-6)
    assert found.delta1 == pytest.approx(1 / 3)
    assert measures.abs_rel_by_distance == [
        (0.0, pytest.approx(1)),
        (10.0, pytest.approx(0.2)),
        (40.0, pytest.approx(1)),
    ]


def test_depth_is_the_mean_over_pictures():
    measures = Measures(RANGE)
    measures.add_depth(depth(1, 1, 1), depth(1, 1, 1))
    measures.add_depth(depth(2), depth(1))
    assert measures.depth.abs_rel == pytest.approx(0.5)


def test_without_truth_there_is_no_number():
    measures = Measures(RANGE)
    assert math.isnan(measures.add_depth(depth(1), depth(np.nan)).abs_rel)
    assert math.isnan(measures.add_labels(labels([1]), labels([255])))
    values = (measures.miou, measures.accuracy, measures.ece, measures.depth.rmse)
    assert all(map(math.isnan, values))
    with pytest.raises(ValueError, match="no depth"):
        Measures(None).add_depth(depth(1), depth(1))
