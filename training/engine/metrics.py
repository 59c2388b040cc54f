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

"""Metrics: a confusion matrix for classes, the standard figures for depth, and calibration."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torchmetrics import Metric
from torchmetrics.classification import MulticlassConfusionMatrix

from depthseg_ros.model_card import UNLABELLED, ModelCard

from ..data.label_spaces import Groups
from ..data.protocols import METRIC, PROTOCOLS
from .depth_confidence import LEVELS, DepthConfidenceMetrics, reliability

BANDS = ((0.0, 10.0), (10.0, 30.0), (30.0, math.inf))
"""Ranges of distance, metres, with an abs-rel each."""
BORDER = 5
"""Pixels within this distance of a border between classes count as border."""


class SegmentationMetrics(MulticlassConfusionMatrix):
    """Intersection over union from one confusion matrix over all pixels of a data set.

    `per_image_miou` follows the original of system 000: IoU of each image, for the classes in both
    ground truth and prediction, averaged over images and then over classes. It is higher.
    """

    prefix = ""
    iou_sums: Tensor
    iou_counts: Tensor

    def __init__(self, names: Sequence[str], others: int = 0) -> None:
        """Set up.

        Args:
            names: Names of the classes, in order of id.
            others: Number of further ids that occur only in predictions. They count as misses of
                the true class and have no IoU.
        """
        super().__init__(len(names) + others, ignore_index=UNLABELLED)
        self.names = tuple(names)
        for state in ("iou_sums", "iou_counts"):
            zeros = torch.zeros(len(names), dtype=torch.float64)
            self.add_state(state, zeros, dist_reduce_fx="sum")

    def update(self, labels_NHW: Tensor, truth_NHW: Tensor) -> None:
        """Add a batch of class ids."""
        before = self.confmat.clone()
        for labels, truth in zip(labels_NHW, truth_NHW, strict=True):
            super().update(labels[None], truth[None])
            matrix = self.confmat - before
            hit, union = (x[: len(self.names)] for x in _hit_and_union(matrix))
            before = self.confmat.clone()
            both = ((matrix.sum(0) > 0) & (matrix.sum(1) > 0))[: len(self.names)]
            self.iou_sums += torch.where(both, hit / union.clamp(min=1), 0)
            self.iou_counts += both

    def compute(self) -> dict[str, float]:  # type: ignore[override]  # the base returns a tensor
        """Return `miou` of the classes in truth or prediction, `iou/NAME`, `per_image_miou`."""
        hit, union = (x[: len(self.names)] for x in _hit_and_union(super().compute()))
        ious = {
            f"iou/{name}": float(h / u)
            for name, h, u in zip(self.names, hit, union, strict=True)
            if u > 0
        }
        if not ious:
            return {}
        found = self.iou_counts > 0
        per_image = self.iou_sums[found] / self.iou_counts[found]
        return {
            f"{self.prefix}miou": sum(ious.values()) / len(ious),
            **ious,
            f"{self.prefix}per_image_miou": float(per_image.mean()) if found.any() else 0.0,
        }


class GroupMetrics(SegmentationMetrics):
    """Intersection over union of groups of classes, for data with coarser labels than the model.

    A prediction is right if its class is in the true group, and wrong if its class is in no group.
    There are fewer groups than classes, so `group_miou`, `iou/GROUP` and `group_per_image_miou` are
    higher than the figures of classes.
    """

    prefix = "group_"
    of_class: Tensor
    of_label: Tensor

    def __init__(self, groups: Groups) -> None:
        """Set up for these groups."""
        super().__init__(groups.names, others=1)
        self.register_buffer("of_class", torch.from_numpy(groups.of_class), persistent=False)
        self.register_buffer("of_label", torch.from_numpy(groups.of_label), persistent=False)

    def update(self, labels_NHW: Tensor, truth_NHW: Tensor) -> None:
        """Add a batch of ids; ids of the ground truth may stand for sets of classes."""
        super().update(self.of_class[labels_NHW.long()], self.of_label[truth_NHW.long()])


class CalibrationMetrics(Metric):
    """Difference between the confidence and the share of labels that are right."""

    full_state_update = False
    right: Tensor
    counted: Tensor

    def __init__(self) -> None:
        """Set up."""
        super().__init__()
        for state in ("right", "counted"):  # for each level of confidence
            self.add_state(state, torch.zeros(LEVELS, dtype=torch.float64), dist_reduce_fx="sum")

    def update(self, labels_NHW: Tensor, confidence_NHW: Tensor, truth_NHW: Tensor) -> None:
        """Add a batch of class ids and confidences, uint8."""
        known = truth_NHW != UNLABELLED
        confidence = confidence_NHW[known].long()
        right = labels_NHW[known] == truth_NHW[known]
        self.counted += torch.bincount(confidence, minlength=LEVELS)
        self.right += torch.bincount(confidence[right], minlength=LEVELS)

    def table(self) -> Tensor:
        """Reliability of the labels, see `reliability`."""
        return reliability(self.counted, self.right)

    def compute(self) -> dict[str, float]:
        """Return `ece`, the expected calibration error (Naeini et al. 2015) of 15 bins."""
        if not self.counted.any():
            return {}
        confidence, right, share = self.table().unbind(1)
        return {"ece": float(((confidence - right).abs() * share).nansum())}


def _hit_and_union(matrix: Tensor) -> tuple[Tensor, Tensor]:
    matrix = matrix.double()
    hit = matrix.diag()
    return hit, matrix.sum(0) + matrix.sum(1) - hit


class DepthMetrics(Metric):
    """The figures of Eigen et al. (2014): of all pixels, at borders and by distance.

    Every pixel whose true depth is within the range counts. Predictions are clamped to the range; a
    missing prediction (NaN) counts as the far end of the range, because NaN means too far.
    """

    full_state_update = False
    sums: Tensor

    def __init__(self, min_depth: float, max_depth: float, protocol: str = "whole") -> None:
        """Set up for a range in metres and a protocol of `PROTOCOLS`."""
        super().__init__()
        self.protocol = PROTOCOLS[protocol]
        self.range = (
            max(min_depth, self.protocol.min_depth),
            min(max_depth, self.protocol.max_depth),
        )
        # A row for all pixels, for borders, and for each band: weight, then sums of the figures.
        shape = torch.zeros(2 + len(BANDS), 1 + len(_FIGURES), dtype=torch.float64)
        self.add_state("sums", shape, dist_reduce_fx="sum")

    def update(
        self, prediction_NHW: Tensor, truth_NHW: Tensor, labels_NHW: Tensor | None = None
    ) -> None:
        """Add a batch; borders are those of the true labels, if they are given."""
        near, far = self.range
        for index, (prediction, truth) in enumerate(zip(prediction_NHW, truth_NHW, strict=True)):
            counted = (truth >= near) & (truth <= far) & self._cropped(truth)
            if not counted.any():
                continue
            t = truth.double()
            p = prediction.double()
            if self.protocol.median_scaling:
                both = counted & p.isfinite()
                if both.any():
                    p = p * (t[both].median() / p[both].median())
            p = p.nan_to_num(nan=far).clamp(near, far)
            border = torch.zeros_like(counted)
            if labels_NHW is not None:
                border = at_borders(labels_NHW[index])
            regions = [counted, counted & border]
            regions += [counted & (t >= low) & (t < high) for low, high in BANDS]
            for row, region in zip(self.sums, regions, strict=True):
                if region.any():
                    weight = float(region.sum()) if self.protocol.pooled else 1.0
                    figures = _pixel_means(p[region], t[region])
                    if not self.protocol.pooled:
                        figures = _finish(figures)
                    row += torch.cat([figures.new_ones(1), figures]) * weight

    def _cropped(self, truth_HW: Tensor) -> Tensor:
        inside = torch.zeros_like(truth_HW, dtype=torch.bool)
        top, bottom, left, right = self.protocol.crop or (0, 1, 0, 1)
        height, width = truth_HW.shape
        inside[_slice(top, bottom, height), _slice(left, right, width)] = True
        return inside

    def compute(self) -> dict[str, float]:
        """Return `abs_rel`, `sq_rel`, `rmse` in metres, `rmse_log`, `silog`, `delta1` to `delta3`.

        `bias` is the geometric mean of prediction / truth, minus 1: positive if depth is too far.
        `abs_rel/border` is that within `BORDER` pixels of a border between classes, and
        `abs_rel/A-Bm` that of a range of distance; both are left out if they have no pixels.
        """
        rows = [row[1:] / row[0] if row[0] > 0 else None for row in self.sums]
        if self.protocol.pooled:
            rows = [None if row is None else _finish(row) for row in rows]
        if rows[0] is None:
            return {}
        result = dict(zip(_FIGURES, rows[0].tolist(), strict=True))
        names = ["border"]
        if self.range[1] > 1:  # a normalised depth, from 0 to 1, has no metres
            names += [f"{a:.0f}-{b:.0f}m" if b < math.inf else f"{a:.0f}m+" for a, b in BANDS]
        for name, row in zip(names, rows[1:], strict=False):
            if row is not None:
                result[f"abs_rel/{name}"] = float(row[0])
        return result


def _slice(first: float, last: float, size: int) -> slice:
    # Rounded down as in the published crops; 1e-6 keeps 45 / 480 * 480 at 45.
    return slice(int(first * size + 1e-6), int(last * size + 1e-6))


_FIGURES = ("abs_rel", "sq_rel", "rmse", "rmse_log", "silog", "bias", "delta1", "delta2", "delta3")


def _pixel_means(p: Tensor, t: Tensor) -> Tensor:
    """Means over pixels, one for each figure; `_finish` computes the figures from them."""
    error, log_error = p - t, p.log() - t.log()
    ratio = torch.maximum(p / t, t / p)
    means = [error.abs() / t, error.square() / t, error.square(), log_error.square(), log_error]
    means.append(log_error)  # once for silog, once for the bias
    means += [(ratio < 1.25**power).double() for power in (1, 2, 3)]
    return torch.stack([mean.mean() for mean in means])


def _finish(means: Tensor) -> Tensor:
    abs_rel, sq_rel, square, log_square, log, _, *deltas = means
    # Scale-invariant log error as KITTI defines it: a standard deviation, in per cent.
    silog = 100 * (log_square - log.square()).clamp(min=0).sqrt()
    figures = [abs_rel, sq_rel, square.sqrt(), log_square.sqrt(), silog, log.exp() - 1, *deltas]
    return torch.stack(figures)


def at_borders(labels_HW: Tensor, distance: int = BORDER) -> Tensor:
    """Pixels within `distance` rows and columns of a border between two classes, (H, W) bool.

    The edge of an unlabelled region is not a border.
    """
    labels = labels_HW[None, None].float()
    known = labels != UNLABELLED
    window, half = 2 * distance + 1, distance
    greatest = F.max_pool2d(labels.where(known, -1), window, 1, half)
    least = -F.max_pool2d((-labels).where(known, -UNLABELLED), window, 1, half)
    return (greatest > least)[0, 0]


class Evaluation(nn.Module):
    """All metrics of a model on one data set."""

    def __init__(
        self,
        card: ModelCard,
        data: str,
        protocol: str = "metric",
        groups: Groups | None = None,
        own_protocol: str | None = None,
    ) -> None:
        """Set up for the outputs of a model.

        Args:
            card: The model's card.
            data: Name of the data set.
            protocol: One of `PROTOCOLS`, or `metric` for the protocol of the data set. For
                up-to-scale depth `metric` means `median`, on KITTI `kitti_selfsup`.
            groups: Groups of classes to score; None: score each class.
            own_protocol: The protocol of the data set; None: look it up by the data set's name.
        """
        super().__init__()
        self.outputs, self.classes = card.outputs, len(card.classes)
        names = [c.name for c in card.classes] or ["none", "none"]
        self.segmentation = GroupMetrics(groups) if groups else SegmentationMetrics(names)
        self.calibration = CalibrationMetrics()
        if protocol == "metric":
            protocol = own_protocol or METRIC.get(data, "whole")
            if card.depth and card.depth.kind == "up-to-scale":
                protocol = "kitti_selfsup" if protocol.startswith("kitti") else "median"
        self.protocol = protocol
        near, far = (card.depth.min, card.depth.max) if card.depth else (0.0, 1.0)
        # A normalised depth of zero has no logarithm; it is the image's nearest point, and rare.
        self.depth = DepthMetrics(max(near, 1e-3), far, self.protocol)
        scaling = PROTOCOLS[self.protocol].median_scaling
        self.depth_confidence = DepthConfidenceMetrics(*self.depth.range, scaling)

    def update(self, outputs: Sequence[Tensor], truth: Mapping[str, Tensor]) -> None:
        """Add a batch of the model's outputs; `truth` is a batch of `transforms.EvalDataset`."""
        prediction = dict(zip(self.outputs, outputs, strict=True))
        if "labels" in prediction:
            labels = prediction["labels"]
            self.segmentation.update(labels, truth["labels"])
            # If the ground truth is a set of classes, it is unknown whether the class is right.
            one_class = truth["labels"].where(truth["labels"] < self.classes, UNLABELLED)
            self.calibration.update(labels, prediction["confidence"], one_class)
        if "depth" in prediction:
            self.depth.update(prediction["depth"], truth["depth"], truth["labels"])
        if "depth_confidence" in prediction:
            confidence = prediction["depth_confidence"]
            self.depth_confidence.update(prediction["depth"], confidence, truth["depth"])

    def compute(self) -> dict[str, float]:
        """Return the figures of all metrics that the data set has ground truth for."""
        # Chosen by the model's outputs, not by the data: all processes must compute the same ones.
        metrics: list[Metric] = []
        if "labels" in self.outputs:
            metrics += [self.segmentation, self.calibration]
        if "depth" in self.outputs:
            metrics.append(self.depth)
        if "depth_confidence" in self.outputs:
            metrics.append(self.depth_confidence)
        return {name: value for metric in metrics for name, value in metric.compute().items()}

    def reset(self) -> None:
        """Reset all metrics."""
        for metric in (self.segmentation, self.calibration, self.depth, self.depth_confidence):
            metric.reset()
