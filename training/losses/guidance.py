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

"""Losses by which semantic classes guide depth: borders of classes are borders of depth."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from depthseg_ros.model_card import UNLABELLED

from .depth import LEAST
from .numerics import in_float32, mean_over


@in_float32
def semantic_triplet(
    features_NCHW: Tensor,
    labels_NHW: Tensor,
    margin: float = 0.3,
    patch: int = 5,
    minimum: int = 3,
) -> Tensor:
    """Semantics-guided triplet loss over depth features (FSRE, Jung et al. 2021).

    Each pixel is the anchor of the patch around it; the patch's other pixels of its class are the
    positives, those of other classes the negatives. The loss is the mean over the anchors of
    max(0, d+ - d- + margin), where d+ and d- are the mean distances of the features, of length 1,
    from the anchor's to the positives' and to the negatives'.

    Args:
        features_NCHW: A decoder's features, at any resolution.
        labels_NHW: Truth or pseudo-labels, 255 unknown (neither positive nor negative), resized to
            the features by nearest neighbour.
        margin: By how much the negatives should be farther than the positives.
        patch: Width of the patches, odd.
        minimum: Anchors count that have so many positives at least, and more negatives. As in the
            authors' program: `patch` - 1 of each in the patch, where the anchor is a positive.
    """
    height, width = features_NCHW.shape[2:]
    labels = F.interpolate(labels_NHW[:, None].float(), (height, width), mode="nearest-exact")[:, 0]
    # The least length keeps the gradient of features that are all zero (dead ReLUs) in bounds.
    features = F.normalize(features_NCHW, dim=1, eps=1e-3)
    lengths = features.square().sum(1)
    reach = patch // 2
    around = (reach, reach, reach, reach)
    all_features, all_lengths = F.pad(features, around), F.pad(lengths, around)
    all_labels = F.pad(labels, around, value=UNLABELLED)
    sums = [torch.zeros_like(lengths) for _ in range(2)]
    counts = [torch.zeros_like(labels) for _ in range(2)]
    # Over the places in a patch, vectorised over pixels: unfolding would copy all features
    # `patch` ** 2 times.
    for place in range(patch**2):
        if place == patch**2 // 2:
            continue
        at = (
            ...,
            slice(place // patch, place // patch + height),
            slice(place % patch, place % patch + width),
        )
        products = (features * all_features[at]).sum(1)
        # The least distance keeps the root's gradient in bounds.
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
    """Ranking of depths across class borders (structure-guided ranking, Xian et al. 2020).

    For two points with depths p0, p1 and trusted depths t0, t1, d = ln p0 - ln p1 and
    l = 1 if t0 / t1 >= 1 + tolerance, -1 if t1 / t0 >= 1 + tolerance, else 0:

        ln(1 + exp(-l d)) if l is not 0, else d^2

    The mean over pairs of points that face each other across a border of classes, sampled anew at
    each call from torch's generator. Unlike in the paper d is of the logarithms, so that the scale
    of the depth is free, and the borders are those of the labels and not of the picture.

    Args:
        depth_NHW: Prediction, positive; its scale does not matter.
        order_NHW: Truth, or pseudo-depth of another network, NaN unknown; depth, not disparity.
        labels_NHW: Truth or pseudo-labels of the same size, 255 unknown.
        pairs: Pairs that are drawn in each picture; those not across a border do not count.
        reach: Farthest that a point of a pair lies from the border, in x and in y, pixels.
        tolerance: Least relative difference of depths that are taken to differ.
    """
    height, width = depth_NHW.shape[1:]
    border = torch.zeros_like(labels_NHW, dtype=torch.bool)
    border[:, 1:] |= labels_NHW[:, 1:] != labels_NHW[:, :-1]
    border[:, :, 1:] |= labels_NHW[:, :, 1:] != labels_NHW[:, :, :-1]
    # A picture without borders needs some chances too, to draw pairs from that do not count.
    chances = border.flatten(1).float() + 1e-9
    middle = torch.multinomial(chances, pairs, replacement=True)
    offset = torch.randint(-reach, reach + 1, (2, *middle.shape), device=middle.device)
    ends = [
        (middle // width + sign * offset[0]).clamp(0, height - 1) * width
        + (middle % width + sign * offset[1]).clamp(0, width - 1)
        for sign in (1, -1)
    ]
    known = order_NHW.isfinite() & (order_NHW > 0) & (labels_NHW != UNLABELLED)
    log_order, log_depth = order_NHW.where(known, 1.0).log(), depth_NHW.clamp(min=LEAST).log()
    class_0, class_1 = (labels_NHW.flatten(1).gather(1, end) for end in ends)
    known_0, known_1 = (known.flatten(1).gather(1, end) for end in ends)
    true, said = (
        x.flatten(1).gather(1, ends[0]) - x.flatten(1).gather(1, ends[1])
        for x in (log_order, log_depth)
    )
    order = true.sign() * (true.abs() >= math.log1p(tolerance))
    loss = F.softplus(-order * said).where(order != 0, said.square())
    return mean_over(loss, known_0 & known_1 & (class_0 != class_1))
