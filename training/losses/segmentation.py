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

"""Segmentation losses.

All take logits (N, C, H, W), labels (N, H, W) uint8 with 255 for unknown, and optional class
weights. With C = 1, the logit is that of the foreground, labels are 0 and 1, and there are two
weights: background and foreground.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from depthseg_ros.model_card import UNLABELLED

from ..models.blocks import with_background_logit
from . import depth
from .numerics import in_float32, normalised


@in_float32
def cross_entropy(
    logits_NCHW: Tensor,
    labels_NHW: Tensor,
    class_weights: Tensor | None = None,
    sets: Tensor | None = None,
) -> Tensor:
    """Mean cross-entropy over the labelled pixels.

    A label C + k means that the pixel has one of the classes in row k of `sets` (S, C) bool. The
    loss uses the sum of their probabilities, and the mean of their weights.
    """
    if sets is None or not len(sets):
        return _mean(_cross_entropies(logits_NCHW, labels_NHW), labels_NHW, class_weights)
    log_shares = logits_NCHW.log_softmax(1)
    of_sets = [log_shares[:, members].logsumexp(1, keepdim=True) for members in sets]
    if class_weights is not None:
        means = sets.to(class_weights) @ class_weights / sets.sum(1)
        class_weights = torch.cat([class_weights, means])
    loss_NHW = F.nll_loss(
        torch.cat([log_shares, *of_sets], 1),
        labels_NHW.long(),
        ignore_index=UNLABELLED,
        reduction="none",
    )
    return _mean(loss_NHW, labels_NHW, class_weights)


@in_float32
def binary_cross_entropy(
    logits_NCHW: Tensor, labels_NHW: Tensor, class_weights: Tensor | None = None
) -> Tensor:
    """Mean sigmoid cross-entropy over pixels and classes, each class against all others.

    Pixels are weighted by their true class.
    """
    loss_NCHW = F.binary_cross_entropy_with_logits(
        logits_NCHW, _one_hot(logits_NCHW, labels_NHW), reduction="none"
    )
    return _mean(loss_NCHW.mean(1), labels_NHW, class_weights)


@in_float32
def dice(
    logits_NCHW: Tensor,
    labels_NHW: Tensor,
    class_weights: Tensor | None = None,
    smoothing: float = 1.0,
) -> Tensor:
    """1 - soft Dice of the labelled pixels of a micro-batch (Milletari et al. 2016).

    Averaged over the classes in the labels; with C = 1, only the foreground, without weights. The
    denominator is a sum of probabilities, not of squares. `smoothing`, in pixels, gives a gradient
    against false foreground if there is none in the labels.
    """
    foreground = logits_NCHW.shape[1] == 1
    probability = logits_NCHW.sigmoid() if foreground else logits_NCHW.softmax(1)
    known = labels_NHW != UNLABELLED
    probability = probability.where(known[:, None], 0)
    truth = _one_hot(logits_NCHW, labels_NHW)
    pixels_C = truth.sum((0, 2, 3))
    both_C = (probability * truth).sum((0, 2, 3))
    dice_C = (2 * both_C + smoothing) / (probability.sum((0, 2, 3)) + pixels_C + smoothing)
    if foreground:
        loss = (1 - dice_C).sum()
    else:
        weights_C = (pixels_C > 0).to(dice_C)
        if class_weights is not None:
            weights_C = weights_C * class_weights
        loss = ((1 - dice_C) * weights_C).sum() / weights_C.sum().clamp(min=1e-6)
    # Dice is not a mean over pixels: weight the micro-batch by its number of pixels.
    return normalised(loss * known.sum(), known.sum())


@in_float32
def focal(
    logits_NCHW: Tensor,
    labels_NHW: Tensor,
    class_weights: Tensor | None = None,
    alpha: float = 0.25,
    gamma: float = 2.0,
) -> Tensor:
    """Mean focal loss, -alpha (1 - p)^gamma ln p for the true class (Lin et al. 2017).

    With C = 1, the factor is alpha for foreground and 1 - alpha for background, as in the paper.
    With more classes, p is the softmax and alpha is the same for all; use `class_weights` for
    different weights. `gamma` is 0 or at least 1.
    """
    entropy_NHW = _cross_entropies(logits_NCHW, labels_NHW)
    loss_NHW = (-torch.expm1(-entropy_NHW)) ** gamma * entropy_NHW
    if logits_NCHW.shape[1] == 1:
        loss_NHW = loss_NHW * torch.where(labels_NHW == 1, alpha, 1 - alpha)
    else:
        loss_NHW = loss_NHW * alpha
    return _mean(loss_NHW, labels_NHW, class_weights)


@in_float32
def sobel(logits_NCHW: Tensor, labels_NHW: Tensor, class_weights: Tensor | None = None) -> Tensor:
    """Mean L1 norm of the difference of Sobel gradients of probabilities and one-hot labels.

    Averaged over pixels and classes; the probability map of each class has its weight. Pixels with
    an unlabelled pixel in their 3x3 window are ignored.
    """
    foreground = logits_NCHW.shape[1] == 1
    probability = logits_NCHW.sigmoid() if foreground else logits_NCHW.softmax(1)
    unlabelled = (labels_NHW == UNLABELLED)[:, None]
    truth = _one_hot(logits_NCHW, labels_NHW).masked_fill(unlabelled, torch.nan)
    if class_weights is not None and not foreground:
        weights_C11 = class_weights[:, None, None]
        probability, truth = probability * weights_C11, truth * weights_C11
    return depth.sobel(probability.flatten(0, 1), truth.flatten(0, 1))


def _cross_entropies(logits_NCHW: Tensor, labels_NHW: Tensor) -> Tensor:
    """Cross-entropy of each pixel (N, H, W), zero for unlabelled."""
    # The softmax of (0, z) is the sigmoid of z.
    logits_NCHW = with_background_logit(logits_NCHW)
    return F.cross_entropy(
        logits_NCHW, labels_NHW.long(), ignore_index=UNLABELLED, reduction="none"
    )


def _one_hot(logits_NCHW: Tensor, labels_NHW: Tensor) -> Tensor:
    """One-hot labels (N, C, H, W) with the type of the logits, all zero for unlabelled."""
    classes = logits_NCHW.shape[1]
    ids = torch.arange(classes, device=labels_NHW.device) if classes > 1 else labels_NHW.new_ones(1)
    return (labels_NHW[:, None] == ids[:, None, None]).to(logits_NCHW)


def _mean(loss_NHW: Tensor, labels_NHW: Tensor, class_weights: Tensor | None) -> Tensor:
    """Mean over the labelled pixels, weighted by their classes."""
    known = labels_NHW != UNLABELLED
    weights = known.to(loss_NHW)
    if class_weights is not None:
        weights = weights * class_weights[labels_NHW.long().where(known, 0)]
    return normalised((loss_NHW * weights).sum(), weights.sum())
