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

"""Measure how well the depth confidence ranks the pixels, and how reliable it is."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor
from torchmetrics import Metric

WITHIN = 0.1
"""Relative error up to which depth counts as right: within a factor of 1.1."""
LEVELS = 256
ERROR_BINS = 2000
"""Bins of the abs-rel error, equally wide in its logarithm; they sort pixels in the ideal order."""
_LEAST_ERROR, _GREATEST_ERROR = 1e-4, 1e2


def reliability(pixels: Tensor, right: Tensor, bins: int = 15) -> Tensor:
    """Reliability of a confidence in bins of equal width.

    Args:
        pixels: (LEVELS,) float64, number of pixels with each level of confidence.
        right: (LEVELS,) float64, number of pixels whose prediction is right.
        bins: Number of bins.

    Returns:
        (bins, 3): mean confidence, share of right predictions, and the bin's share of all pixels.
        The first two are NaN if the bin is empty.
    """
    levels = torch.arange(LEVELS, dtype=torch.float64, device=pixels.device)
    values = torch.stack([pixels, pixels * levels / (LEVELS - 1), right], 1)
    of_bin = (levels / LEVELS * bins).long()
    count, confidence, hits = values.new_zeros(bins, 3).index_add(0, of_bin, values).T
    return torch.stack([confidence / count, hits / count, count / count.sum().clamp(min=1)], 1)


class Sparsification(NamedTuple):
    """Abs-rel of the remaining pixels when a fraction of the pixels is dropped (Ilg et al. 2018).

    Each curve is (fractions,) float64. The order of dropping is by confidence, by the true error,
    or random.
    """

    dropped: Tensor
    """Fraction of all pixels that is dropped, 0 to 0.99."""
    model: Tensor
    """Lowest confidence first; ties in random order."""
    ideal: Tensor
    """Greatest true error first."""
    random: Tensor
    """Random order: constant, the abs-rel of all pixels."""

    @property
    def ause(self) -> float:
        """Area under the sparsification error: mean of model minus ideal."""
        return float((self.model - self.ideal).mean())

    @property
    def random_ause(self) -> float:
        """Area under the sparsification error of the random order."""
        return float((self.random - self.ideal).mean())

    def kept(self, dropped: float = 0.2) -> float:
        """Abs-rel after a fraction of the pixels is dropped, relative to that of all pixels."""
        index = int((self.dropped - dropped).abs().argmin())
        return float(self.model[index] / self.random[index])


class DepthConfidenceMetrics(Metric):
    """Sparsification and reliability over all pixels with true and predicted depth."""

    full_state_update = False
    levels: Tensor
    errors: Tensor

    def __init__(self, min_depth: float, max_depth: float, median_scaling: bool = False) -> None:
        """Set up.

        Args:
            min_depth: Smallest true depth that counts, in the unit of depth.
            max_depth: Greatest true depth that counts.
            median_scaling: First scale each image's depth by the ratio of the medians.
        """
        super().__init__()
        self.range, self.median_scaling = (min_depth, max_depth), median_scaling
        # For each level of confidence: number of pixels, sum of abs-rel errors, number within 10 %.
        self.add_state("levels", torch.zeros(LEVELS, 3, dtype=torch.float64), dist_reduce_fx="sum")
        # For each bin of error: number of pixels, sum of abs-rel errors.
        zeros = torch.zeros(ERROR_BINS, 2, dtype=torch.float64)
        self.add_state("errors", zeros, dist_reduce_fx="sum")

    def update(self, depth_NHW: Tensor, confidence_NHW: Tensor, truth_NHW: Tensor) -> None:
        """Add a batch: depth and truth float32, NaN if unknown; confidence uint8."""
        near, far = self.range
        for depth, confidence, truth in zip(depth_NHW, confidence_NHW, truth_NHW, strict=True):
            counted = (truth >= near) & (truth <= far) & depth.isfinite()
            if not counted.any():
                continue
            d, t, level = depth[counted].double(), truth[counted].double(), confidence[counted]
            if self.median_scaling:
                d = d * (t.median() / d.median())
            error, right = (d - t).abs() / t, torch.maximum(d / t, t / d) < 1 + WITHIN
            values = torch.stack([torch.ones_like(error), error, right.double()], 1)
            self.levels.index_add_(0, level.long(), values)
            span = torch.log(torch.tensor(_GREATEST_ERROR / _LEAST_ERROR, dtype=torch.float64))
            place = (error.clamp(min=_LEAST_ERROR) / _LEAST_ERROR).log() / span * ERROR_BINS
            self.errors.index_add_(0, place.long().clamp(max=ERROR_BINS - 1), values[:, :2])

    def sparsification(self) -> Sparsification:
        """Return the curves in steps of one per cent."""
        dropped = torch.arange(100, dtype=torch.float64, device=self.levels.device) / 100
        model = _means(self.levels[:, :2].flip(0), 1 - dropped)
        ideal = _means(self.errors, 1 - dropped)
        return Sparsification(dropped, model, ideal, model[:1].expand(100))

    def table(self) -> Tensor:
        """Reliability: whether depth is within 10 %, see `reliability`."""
        return reliability(self.levels[:, 0], self.levels[:, 2])

    def compute(self) -> dict[str, float]:
        """Return `ause`, `ause/random` (in abs-rel), `kept_80`, `within_10`, `depth_ece` etc.

        `kept_80` is the abs-rel of the 80 % of the pixels with the highest confidence, relative to
        that of all pixels; `kept_80/ideal` is that of the 80 % with the smallest error. `within_10`
        is the share of pixels within 10 %, and `depth_confidence` the mean confidence: they should
        be equal. `depth_ece` is the expected calibration error.
        """
        if not self.levels[:, 0].any():
            return {}
        curves = self.sparsification()
        confidence, right, share = self.table().unbind(1)
        return {
            "ause": curves.ause,
            "ause/random": curves.random_ause,
            "kept_80": curves.kept(),
            "kept_80/ideal": curves._replace(model=curves.ideal).kept(),
            "within_10": float((right * share).nansum()),
            "depth_confidence": float((confidence * share).nansum()),
            "depth_ece": float(((confidence - right).abs() * share).nansum()),
        }


def _means(groups: Tensor, kept: Tensor) -> Tensor:
    """Mean error of the first pixels, for several fractions of all pixels.

    Args:
        groups: (G, 2) number of pixels and sum of their errors; the pixels of a group are in random
            order.
        kept: (F,) fractions, above 0.

    Returns:
        (F,)
    """
    pixels, errors = (torch.cat([c.new_zeros(1), c.cumsum(0)]) for c in groups.T)
    wanted = kept * pixels[-1]
    after = torch.searchsorted(pixels, wanted).clamp(1, len(groups))
    part = (wanted - pixels[after - 1]) / (pixels[after] - pixels[after - 1]).clamp(min=1e-12)
    return (errors[after - 1] + part * (errors[after] - errors[after - 1])) / wanted
