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

"""Metrics of labels, confidence and depth against ground truth.

The metrics of depth are those of Eigen et al. (2014), means over images; IoU comes from one
confusion matrix over all pixels (Everingham et al. 2015); the calibration error is that of Guo et
al. (2017), in `BINS` bins.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ..model_card import UNLABELLED, DepthRange

BINS = 15
DISTANCES = (0.0, 5.0, 10.0, 20.0, 40.0, 80.0)
"""Bounds of the distance bins of the depth error, metres; the last ends at the model's range."""


@dataclass(frozen=True)
class DepthErrors:
    """Depth errors of one image or the mean of several; NaN if no depth is known."""

    abs_rel: float
    """Mean of |predicted - true| / true."""
    rmse: float
    """Root of the mean square error, metres."""
    delta1: float
    """Share of pixels where max(predicted / true, true / predicted) is below 1.25."""


class Measures:
    """Metrics over a set of images, which are added one by one.

    Args:
        depth: The model's depth range, or None if it has no depth. True depth outside of the range
            is ignored; a predicted NaN counts as the maximum of the range.
    """

    def __init__(self, depth: DepthRange | None) -> None:
        self._range = depth
        self.confusion = np.zeros((256, 256), np.int64)
        """Pixels by true and predicted class id."""
        self.reliability = np.zeros((3, BINS), np.float64)
        """By confidence: pixels, sum of their confidence, correct pixels."""
        self.errors: list[DepthErrors] = []
        """Errors of each image."""
        self._far = np.zeros((2, len(DISTANCES)))  # by distance: pixels, sum of relative errors

    def add_labels(
        self,
        labels: NDArray[np.uint8],
        true: NDArray[np.uint8],
        confidence: NDArray[np.uint8] | None = None,
    ) -> float:
        """Add an image's labels; returns the image's mean IoU.

        Args:
            labels: (H, W) predicted class ids.
            true: (H, W) true class ids; 255 (unlabelled) is ignored.
            confidence: (H, W), 0 to 255.
        """
        known = true != UNLABELLED
        pairs = true[known].astype(np.int64) * 256 + labels[known]
        matrix = np.bincount(pairs, minlength=256**2).reshape(256, 256)
        self.confusion += matrix
        if confidence is not None:
            share = confidence[known] / 255
            bins = np.minimum((share * BINS).astype(int), BINS - 1)
            right = labels[known] == true[known]
            for row, weights in enumerate((None, share, right)):
                self.reliability[row] += np.bincount(bins, weights, minlength=BINS)
        return _mean_iou(matrix)

    def add_depth(self, depth: NDArray[np.float32], true: NDArray[np.float32]) -> DepthErrors:
        """Add an image's depth, (H, W) each, NaN if unknown; returns the image's errors."""
        limits = self._range
        if limits is None:
            raise ValueError("the model has no depth output")
        known = (true >= limits.min) & (true <= limits.max)  # NaN is not
        wanted = true[known].astype(np.float64)
        predicted = np.nan_to_num(depth[known].astype(np.float64), nan=limits.max)
        predicted = predicted.clip(limits.min, limits.max)
        if not wanted.size:
            return DepthErrors(*[float("nan")] * 3)
        relative = np.abs(predicted / wanted - 1)
        ratio = np.maximum(predicted / wanted, wanted / predicted)
        found = DepthErrors(
            float(relative.mean()),
            float(np.sqrt(np.mean((predicted - wanted) ** 2))),
            float(np.mean(ratio < 1.25)),
        )
        self.errors.append(found)
        bins = np.searchsorted(DISTANCES, wanted, side="right") - 1
        self._far[0] += np.bincount(bins, minlength=len(DISTANCES))
        self._far[1] += np.bincount(bins, relative, minlength=len(DISTANCES))
        return found

    @property
    def ious(self) -> dict[int, float]:
        """IoU of each class that is true or predicted anywhere, by id."""
        return {int(i): float(iou) for i, iou in enumerate(_ious(self.confusion)) if iou == iou}

    @property
    def miou(self) -> float:
        """Mean of `ious`; NaN without labels."""
        return _mean_iou(self.confusion)

    @property
    def accuracy(self) -> float:
        """Share of pixels whose label is right; NaN without labels."""
        total = self.confusion.sum()
        return float(np.trace(self.confusion) / total) if total else float("nan")

    @property
    def ece(self) -> float:
        """Expected calibration error (ECE) of the confidence, over pixels."""
        pixels, confidence, right = self.reliability
        total = pixels.sum()
        return float(np.abs(confidence - right).sum() / total) if total else float("nan")

    @property
    def depth(self) -> DepthErrors:
        """Mean over images."""
        if not self.errors:
            return DepthErrors(*[float("nan")] * 3)
        names = ("abs_rel", "rmse", "delta1")
        return DepthErrors(*(float(np.mean([getattr(e, n) for e in self.errors])) for n in names))

    @property
    def abs_rel_by_distance(self) -> list[tuple[float, float]]:
        """Start of each distance bin [m] and the mean relative error in it, over pixels."""
        return [
            (start, error / pixels)
            for start, pixels, error in zip(DISTANCES, *self._far, strict=True)
            if pixels
        ]


def _ious(matrix: NDArray[np.int64]) -> NDArray[np.float64]:
    """(256,), NaN for classes that are neither true nor predicted."""
    hit = np.diag(matrix).astype(np.float64)
    union = matrix.sum(0) + matrix.sum(1) - hit
    return np.divide(hit, union, out=np.full(256, np.nan), where=union > 0)


def _mean_iou(matrix: NDArray[np.int64]) -> float:
    ious = _ious(matrix)[:UNLABELLED]  # unlabelled is not a class
    return float(np.nanmean(ious)) if np.isfinite(ious).any() else float("nan")
