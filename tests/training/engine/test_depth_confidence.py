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

"""Sparsification and reliability of the depth confidence, against numpy and made errors."""

import math

import numpy as np
import pytest
import torch

from training.engine.depth_confidence import DepthConfidenceMetrics
from training.engine.metrics import Evaluation
from training.engine.task import JointTask
from training.models.systems.shared_encoder import SharedEncoder


@pytest.fixture(scope="module")
def made():
    """Depth whose error is Laplace, with a scale of its own for each pixel, and the truth."""
    rng = np.random.default_rng(0)
    b = np.exp(rng.uniform(-4, -0.5, (2, 200, 300)))
    truth = rng.uniform(1, 50, b.shape).astype(np.float32)
    depth = (truth * np.exp(rng.laplace(0, b))).astype(np.float32)
    confidence = np.rint(255 * (1 - np.exp(-math.log(1.1) / b))).astype(np.uint8)
    return depth, confidence, truth


def measured(depth, confidence, truth, **options):
    metrics = DepthConfidenceMetrics(0.5, 100.0, **options)
    for each in zip(depth, confidence, truth, strict=True):
        metrics.update(*(torch.from_numpy(a)[None] for a in each))
    return metrics


def test_the_curves_are_those_of_sorted_pixels(made):
    depth, confidence, truth = made
    error = (np.abs(depth - truth) / truth).ravel().astype(np.float64)
    curves = measured(*made).sparsification()
    order, ideal = np.argsort(-confidence.ravel().astype(int), kind="stable"), np.sort(error)
    for index in (0, 20, 50, 90):
        kept = round(error.size * (1 - index / 100))
        assert curves.dropped[index] == index / 100
        assert curves.ideal[index] == pytest.approx(ideal[:kept].mean(), rel=0.01)
        assert curves.model[index] == pytest.approx(error[order[:kept]].mean(), rel=0.02)
        assert curves.random[index] == pytest.approx(error.mean())
    assert curves.kept(0.2) == pytest.approx(float(curves.model[20] / curves.model[0]))
    assert 0 < curves.ause < 0.5 * curves.random_ause


def test_a_true_probability_is_calibrated_and_a_wrong_one_is_not(made):
    depth, confidence, truth = made
    good = measured(*made).compute()
    assert good["depth_ece"] < 0.01
    assert good["within_10"] == pytest.approx(good["depth_confidence"], abs=0.005)
    bad = measured(depth, confidence // 2, truth).compute()
    assert bad["depth_ece"] == pytest.approx(good["within_10"] / 2, abs=0.01)
    assert bad["kept_80"] == pytest.approx(good["kept_80"], abs=0.01)  # the order is the same


def test_the_ideal_order_has_no_area_and_equal_confidence_that_of_the_random_one(made):
    depth, _, truth = made
    rank = np.abs(np.log(depth / truth)).ravel().argsort().argsort().reshape(depth.shape)
    best = (255 - rank * 256 // rank.size).astype(np.uint8)
    found = measured(depth, best, truth).compute()
    assert found["ause"] < 0.05 * found["ause/random"]
    equal = measured(depth, np.full_like(best, 9), truth).compute()
    assert equal["ause"] == pytest.approx(equal["ause/random"]) and equal["kept_80"] == 1


def test_pixels_without_depth_or_truth_do_not_count_and_scale_can_be_free(made):
    depth, confidence, truth = (a.copy() for a in made)
    whole, scaled = (
        measured(factor * depth, confidence, truth, median_scaling=True).compute()
        for factor in (1, 3)
    )
    assert scaled == pytest.approx(whole, rel=1e-3) and whole["within_10"] > 0.5
    depth[0, :50], truth[1, :50] = np.nan, np.nan
    assert measured(depth, confidence, truth).levels[:, 0].sum() == 150 * 300 * 2
    assert measured(depth * np.nan, confidence, truth).compute() == {}


def test_evaluation_reports_it_for_models_that_have_it(made):
    for scale in (False, True):
        card = JointTask(SharedEncoder(tasks=["depth"], depth_scale=scale)).card
        evaluation = Evaluation(card, "streets")
        outputs = [torch.from_numpy(a) for a in made[: 1 + scale]]
        truth = torch.from_numpy(made[2])
        labels = torch.full(truth.shape, 255, dtype=torch.uint8)
        evaluation.update(outputs, {"depth": truth, "labels": labels})
        assert ("ause" in evaluation.compute()) == scale
