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
import torch

from depthseg_ros import model_card
from depthseg_ros.cli.measures import Measures
from depthseg_ros.model_card import DepthRange
from training.engine.metrics import DepthMetrics, Evaluation, SegmentationMetrics, at_borders
from training.evaluation.accuracy import protocols


def test_iou_is_computed_from_one_confusion_matrix_over_all_images():
    metrics = SegmentationMetrics(["a", "b", "c"])
    metrics.update(torch.tensor([[[0, 0, 1]]]), torch.tensor([[[0, 1, 1]]]))
    metrics.update(torch.tensor([[[1, 1, 0]]]), torch.tensor([[[1, 255, 0]]]))
    # Pixels that count: (0,0) (0,1) (1,1) (1,1) (0,0) as (prediction, truth).
    result = metrics.compute()
    # By picture: a 1/2, b 1/2, then a 1/1, b 1/1.
    assert result == {
        "miou": pytest.approx(2 / 3), "iou/a": 2 / 3, "iou/b": 2 / 3, "per_image_miou": 0.75
    }  # fmt: skip


def test_depth_figures_against_numpy():
    rng = np.random.default_rng(0)
    truths, predictions = rng.uniform(0.1, 120, (2, 3, 20, 20)).astype(np.float32)
    truths[rng.random(truths.shape) < 0.2] = np.nan
    predictions[0, :5] = np.nan
    metrics = DepthMetrics(1.0, 80.0)
    metrics.update(torch.from_numpy(predictions), torch.from_numpy(truths))
    rows = []
    for truth, prediction in zip(truths, predictions, strict=True):
        counted = (truth >= 1) & (truth <= 80)
        t = truth[counted].astype(float)
        p = np.clip(np.where(np.isnan(prediction), 80, prediction)[counted].astype(float), 1, 80)
        ratio = np.maximum(p / t, t / p)
        log = np.log(p / t)
        rows.append(
            {
                "abs_rel": np.mean(abs(p - t) / t),
                "sq_rel": np.mean((p - t) ** 2 / t),
                "rmse": np.sqrt(np.mean((p - t) ** 2)),
                "rmse_log": np.sqrt(np.mean(log**2)),
                "silog": 100 * np.std(log),
                "bias": np.exp(np.mean(log)) - 1,
                **{f"delta{k}": np.mean(ratio < 1.25**k) for k in (1, 2, 3)},
                "abs_rel/0-10m": np.mean((abs(p - t) / t)[t < 10]),
                "abs_rel/10-30m": np.mean((abs(p - t) / t)[(t >= 10) & (t < 30)]),
                "abs_rel/30m+": np.mean((abs(p - t) / t)[t >= 30]),
            }
        )
    expected = {name: np.mean([row[name] for row in rows]) for name in rows[0]}
    assert metrics.compute() == pytest.approx(expected)


def test_a_normalised_depth_has_no_bands_of_metres():
    metrics = DepthMetrics(0.001, 1.0)
    metrics.update(torch.rand(1, 4, 4) + 0.01, torch.rand(1, 4, 4) * 0.9 + 0.01)
    figures = metrics.compute()
    assert "abs_rel" in figures and not [name for name in figures if name.endswith("m")]


def test_pooled_figures_are_over_all_pixels():
    truth = torch.tensor([[[10.0, 10.0, 10.0]], [[10.0, math.nan, math.nan]]])
    said = torch.tensor([[[10.0, 10.0, 10.0]], [[14.0, 1.0, 1.0]]])
    pooled, by_picture = DepthMetrics(1, 80, "pooled"), DepthMetrics(1, 80)
    for metrics in (pooled, by_picture):
        metrics.update(said[:1], truth[:1])
        metrics.update(said[1:], truth[1:])
    assert pooled.compute()["rmse"] == pytest.approx(2.0)  # sqrt(16 / 4)
    assert by_picture.compute()["rmse"] == pytest.approx(2.0)  # (0 + 4) / 2
    assert pooled.compute()["abs_rel"] == pytest.approx(0.1)
    assert by_picture.compute()["abs_rel"] == pytest.approx(0.2)


def test_median_scaling_makes_the_scale_free():
    truth = torch.rand(2, 20, 20) * 50 + 5
    metrics = DepthMetrics(1, 80, "median")
    metrics.update(truth * torch.tensor([0.01, 7.0])[:, None, None], truth)
    assert metrics.compute()["abs_rel"] == pytest.approx(0, abs=1e-6)


@pytest.mark.parametrize(
    ("protocol", "size", "rows", "columns"),
    [("kitti", (375, 1242), (153, 371), (44, 1197)), ("nyu", (480, 640), (45, 471), (41, 601))],
)
def test_a_protocols_crop_leaves_the_rest_uncounted(protocol, size, rows, columns):
    truth = torch.full((1, *size), 5.0)
    said = torch.full_like(truth, 10.0)
    said[:, slice(*rows), slice(*columns)] = 5.0
    metrics = DepthMetrics(1, 80, protocol)
    metrics.update(said, truth)
    assert metrics.compute()["abs_rel"] == 0
    said[:, rows[0], columns[0]] = said[:, rows[1] - 1, columns[1] - 1] = 10.0  # within it
    metrics.update(said, truth)
    assert metrics.compute()["abs_rel"] == pytest.approx(
        2 / (rows[1] - rows[0]) / (columns[1] - columns[0]) / 2
    )


def test_a_table_names_each_protocol_once():
    card = model_card.read(model_card.default_model())
    streets = Evaluation(card, "streets")
    assert protocols({"a.onnx: streets": streets, "b.onnx: streets": streets}) == (
        "depth protocol: whole"
    )
    assert protocols({"streets": streets, "nyu": Evaluation(card, "nyuv2")}) == (
        "depth protocols: streets: whole, nyu: nyu"
    )


def test_borders_have_their_own_error():
    labels = torch.zeros(1, 40, 60, dtype=torch.uint8)
    labels[..., 30:] = 1
    border = at_borders(labels[0])
    assert border[:, 25:35].all() and not border[:, :25].any() and not border[:, 35:].any()
    truth = torch.full((1, 40, 60), 10.0)
    said = truth.clone()
    said[..., 25:35] = 15.0
    metrics = DepthMetrics(1, 80)
    metrics.update(said, truth, labels)
    result = metrics.compute()
    assert result["abs_rel/border"] == pytest.approx(0.5)
    assert result["abs_rel"] == pytest.approx(0.5 / 6)


def test_images_without_truth_do_not_count():
    metrics = DepthMetrics(0.5, 80)
    metrics.update(torch.ones(1, 2, 2), torch.full((1, 2, 2), math.nan))
    assert metrics.compute() == {}
    segmentation = SegmentationMetrics(["a", "b"])
    segmentation.update(torch.zeros(1, 2, 2), torch.full((1, 2, 2), 255))
    assert segmentation.compute() == {}


def test_the_runtimes_own_measures_are_the_same():
    """`depthseg report` and the demo count without torch."""
    rng = np.random.default_rng(1)
    truths, predictions = rng.uniform(0.1, 120, (2, 3, 20, 20)).astype(np.float32)
    predictions[0, :5] = np.nan
    labels, said = rng.integers(0, 3, (2, 3, 20, 20), np.uint8)
    labels[1, :7] = 255
    depth, classes = DepthMetrics(1.0, 80.0), SegmentationMetrics(["a", "b", "c"])
    depth.update(torch.from_numpy(predictions), torch.from_numpy(truths))
    classes.update(torch.from_numpy(said).long(), torch.from_numpy(labels).long())
    measures = Measures(DepthRange("metric", 1.0, 80.0))
    for picture in range(3):
        measures.add_depth(predictions[picture], truths[picture])
        measures.add_labels(said[picture], labels[picture])
    theirs = depth.compute() | classes.compute()
    assert measures.miou == pytest.approx(theirs["miou"], rel=1e-5)
    assert measures.depth.abs_rel == pytest.approx(theirs["abs_rel"], rel=1e-5)
    assert measures.depth.rmse == pytest.approx(theirs["rmse"], rel=1e-5)
    assert measures.depth.delta1 == pytest.approx(theirs["delta1"], rel=1e-5)
