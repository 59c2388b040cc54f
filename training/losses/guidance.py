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

"""Losses that use semantic classes to supervise depth, assuming depth steps at class borders."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from depthseg_ros.model_card import UNLABELLED

from .depth import MIN_DEPTH
from .numerics import in_float32, mean_over


@in_float32
def semantic_triplet(
    features_NCHW: Tensor,
    labels_NHW: Tensor,
    margin: float = 0.3,
    patch: int = 5,
    minimum: int = 3,
) -> Tensor:
    """Semantics-guided triplet loss on depth features (FSRE, Jung et al. 2021).

    Each pixel is the anchor of the patch around it. Other pixels of the patch are positives if they
    have the same class, otherwise negatives. The loss is the mean over anchors of
    max(0, d+ - d- + margin), where d+ and d- are the mean distances of the anchor's normalised
    features to those of positives and negatives.

    Args:
        features_NCHW: Features of a decoder, at any resolution.
        labels_NHW: Labels or pseudo-labels, 255 for unknown (neither positive nor negative); they
            are resized to the features by nearest neighbour.
        margin: Desired difference of the distances to negatives and positives.
        patch: Width of the patches, odd.
        minimum: Anchors need at least this number of positives, and more negatives than it. As in
            the authors' code: `patch` - 1 of each, counting the anchor as a positive.
    """
    height, width = features_NCHW.shape[2:]
    labels = F.interpolate(labels_NHW[:, None].float(), (height, width), mode="nearest-exact")[:, 0]
    # eps bounds the gradient of features that are all zero (dead ReLUs).
    features = F.normalize(features_NCHW, dim=1, eps=1e-3)
    lengths = features.square().sum(1)
    reach = patch // 2
    around = (reach, reach, reach, reach)
    all_features, all_lengths = F.pad(features, around), F.pad(lengths, around)
    all_labels = F.pad(labels, around, value=UNLABELLED)
    sums = [torch.zeros_like(lengths) for _ in range(2)]
    counts = [torch.zeros_like(labels) for _ in range(2)]
    # Loop over positions in a patch: unfold would copy all features `patch` ** 2 times.
    for place in range(patch**2):
        if place == patch**2 // 2:
            continue
        at = (
            ...,
            slice(place // patch, place // patch + height),
            slice(place % patch, place % patch + width),
        )
        products = (features * all_features[at]).sum(1)
        # The minimum distance bounds the gradient of the square root.
        distances = (lengths + all_lengths[at] - 2 * products).clamp(min=1e-9).sqrt()
        same = labels == all_labels[at]
        for i, chosen in enumerate((same, ~same & (all_labels[at] != UNLABELLED))):
            sums[i] = sums[i] + distances * chosen
            counts[i] = counts[i] + chosen
    positive, negative = (s / c.clamp(min=1) for s, c in zip(sums, counts, strict=True))
    anchors = (labels != UNLABELLED) & (counts[0] >= minimum) & (counts[1] > minimum)
    return mean_over((positive - negative + margin).clamp(min=0), anchors)


@in_float32
def ranking(
    depth_NHW: Tensor,
    order_NHW: Tensor,
    labels_NHW: Tensor,
    pairs: int = 3000,
    reach: int = 5,
    tolerance: float = 0.03,
) -> Tensor:
    """Structure-guided ranking loss across class borders (Xian et al. 2020).

    For two points with predicted depths p0, p1 and reference depths t0, t1, let d = ln p0 - ln p1
    and l = 1 if t0 / t1 >= 1 + tolerance, -1 if t1 / t0 >= 1 + tolerance, otherwise 0. The loss is

        ln(1 + exp(-l d)) if l is not 0, else d^2

    averaged over random pairs of points on both sides of a class border. In contrast to the paper,
    d is a difference of logarithms, so the loss is scale-invariant, and borders are those of labels
    instead of image edges.

    Args:
        depth_NHW: Predicted depth, positive, at any scale.
        order_NHW: Ground truth, or pseudo-depth of another network, NaN for unknown.
        labels_NHW: Labels or pseudo-labels of the same size, 255 for unknown.
        pairs: Number of pairs sampled in each image; pairs of equal class are ignored.
        reach: Maximum distance of a point to the border in x and in y, pixels.
        tolerance: Minimum relative difference for depths to be ordered.
    """
    height, width = depth_NHW.shape[1:]
    border = torch.zeros_like(labels_NHW, dtype=torch.bool)
    border[:, 1:] |= labels_NHW[:, 1:] != labels_NHW[:, :-1]
    border[:, :, 1:] |= labels_NHW[:, :, 1:] != labels_NHW[:, :, :-1]
    # Images without borders need positive probabilities too; their pairs are ignored below.
    probabilities = border.flatten(1).float() + 1e-9
    middle = torch.multinomial(probabilities, pairs, replacement=True)
    offset = torch.randint(-reach, reach + 1, (2, *middle.shape), device=middle.device)
    ends = [
        (middle // width + sign * offset[0]).clamp(0, height - 1) * width
        + (middle % width + sign * offset[1]).clamp(0, width - 1)
        for sign in (1, -1)
    ]
    known = order_NHW.isfinite() & (order_NHW > 0) & (labels_NHW != UNLABELLED)
    log_order, log_depth = order_NHW.where(known, 1.0).log(), depth_NHW.clamp(min=MIN_DEPTH).log()
    class_0, class_1 = (labels_NHW.flatten(1).gather(1, end) for end in ends)
    known_0, known_1 = (known.flatten(1).gather(1, end) for end in ends)
    expected, predicted = (
        x.flatten(1).gather(1, ends[0]) - x.flatten(1).gather(1, ends[1])
        for x in (log_order, log_depth)
    )
    order = expected.sign() * (expected.abs() >= math.log1p(tolerance))
    loss = F.softplus(-order * predicted).where(order != 0, predicted.square())
    return mean_over(loss, known_0 & known_1 & (class_0 != class_1))
