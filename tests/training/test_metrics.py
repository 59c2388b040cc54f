import math

import numpy as np
import pytest
import torch

from training.metrics import DepthMetrics, SegmentationMetrics


def test_iou_comes_from_one_confusion_matrix_over_all_pictures():
    metrics = SegmentationMetrics(["a", "b", "c"])
    metrics.update(torch.tensor([[[0, 0, 1]]]), torch.tensor([[[0, 1, 1]]]))
    metrics.update(torch.tensor([[[1, 1, 0]]]), torch.tensor([[[1, 255, 0]]]))
    # Pixels that count: (0,0) (0,1) (1,1) (1,1) (0,0) as (prediction, truth).
    result = metrics.compute()
    assert result == {"miou": pytest.approx(2 / 3), "iou/a": 2 / 3, "iou/b": 2 / 3}


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
        rows.append(
            [np.mean(abs(p - t) / t), np.sqrt(np.mean((p - t) ** 2))]
            + [np.mean(ratio < 1.25**k) for k in (1, 2, 3)]
        )
    expected = dict(
        zip(("abs_rel", "rmse", "delta1", "delta2", "delta3"), np.mean(rows, 0), strict=True)
    )
    assert metrics.compute() == pytest.approx(expected)


def test_pictures_without_truth_do_not_count():
    metrics = DepthMetrics(0.5, 80)
    metrics.update(torch.ones(1, 2, 2), torch.full((1, 2, 2), math.nan))
    assert metrics.compute() == {}
    segmentation = SegmentationMetrics(["a", "b"])
    segmentation.update(torch.zeros(1, 2, 2), torch.full((1, 2, 2), 255))
    assert segmentation.compute() == {}
