"""What is measured: one confusion matrix for classes, the usual figures for depth."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn
from torchmetrics import Metric
from torchmetrics.classification import MulticlassConfusionMatrix

from depthseg_ros.model_card import UNLABELLED, ModelCard


class SegmentationMetrics(MulticlassConfusionMatrix):
    """Intersection over union from one confusion matrix over all pixels of a data set."""

    def __init__(self, names: Sequence[str]) -> None:
        """`names` are the classes', in order of id."""
        super().__init__(len(names), ignore_index=UNLABELLED)
        self.names = tuple(names)

    def compute(self) -> dict[str, float]:  # type: ignore[override]
        """`iou/NAME` of each class that is in truth or prediction, and their mean `miou`."""
        matrix = super().compute().double()
        hit = matrix.diag()
        union = matrix.sum(0) + matrix.sum(1) - hit
        ious = {
            f"iou/{name}": float(h / u)
            for name, h, u in zip(self.names, hit, union, strict=True)
            if u > 0
        }
        return {"miou": sum(ious.values()) / len(ious), **ious} if ious else {}


class DepthMetrics(Metric):
    """The figures of Eigen et al. (2014), of each picture's pixels, then their mean over pictures.

    Counted is every pixel whose true depth lies within the range. Predictions are clamped to the
    range; a missing one (NaN) counts as the range's far end, which is what it says.
    """

    full_state_update = False

    def __init__(self, min_depth: float, max_depth: float) -> None:
        """The range is in metres."""
        super().__init__()
        self.range = (min_depth, max_depth)
        self.add_state("sums", torch.zeros(5, dtype=torch.float64), dist_reduce_fx="sum")
        self.add_state("pictures", torch.zeros(()), dist_reduce_fx="sum")

    def update(self, prediction_NHW: Tensor, truth_NHW: Tensor) -> None:
        """Add a batch, metres."""
        near, far = self.range
        for prediction, truth in zip(prediction_NHW, truth_NHW, strict=True):
            counted = (truth >= near) & (truth <= far)
            if not counted.any():
                continue
            t = truth[counted].double()
            p = prediction[counted].double().nan_to_num(nan=far).clamp(near, far)
            ratio = torch.maximum(p / t, t / p)
            figures = [((p - t).abs() / t).mean(), (p - t).square().mean().sqrt()]
            figures += [(ratio < 1.25**power).double().mean() for power in (1, 2, 3)]
            self.sums += torch.stack(figures)
            self.pictures += 1

    def compute(self) -> dict[str, float]:
        """`abs_rel`, `rmse` in metres, `delta1` to `delta3`; nothing where no depth was known."""
        if self.pictures == 0:
            return {}
        names = ("abs_rel", "rmse", "delta1", "delta2", "delta3")
        return dict(zip(names, (self.sums / self.pictures).tolist(), strict=True))


class Evaluation(nn.Module):
    """Everything that is measured on one data set."""

    def __init__(self, card: ModelCard) -> None:
        """Measure what the card says the model gives."""
        super().__init__()
        self.segmentation = SegmentationMetrics([c.name for c in card.classes])
        self.depth = DepthMetrics(card.depth.min, card.depth.max)  # type: ignore[union-attr]

    def update(self, labels_NHW: Tensor, depth_NHW: Tensor, truth: Mapping[str, Tensor]) -> None:
        """Add a batch of predictions; `truth` is a batch of `transforms.Whole`."""
        self.segmentation.update(labels_NHW, truth["labels"])
        self.depth.update(depth_NHW, truth["depth"])

    def compute(self) -> dict[str, float]:
        """Of what was known of the data: `miou`, `iou/NAME`, `abs_rel`, `rmse`, `delta1..3`."""
        return {**self.segmentation.compute(), **self.depth.compute()}

    def reset(self) -> None:
        """Begin anew."""
        self.segmentation.reset()
        self.depth.reset()
