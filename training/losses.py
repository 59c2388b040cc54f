"""Losses over what is known of a batch; where nothing is known a loss is zero, never NaN."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from depthseg_ros.model_card import UNLABELLED


def cross_entropy(
    logits_NCHW: Tensor, labels_NHW: Tensor, class_weights: Tensor | None = None
) -> Tensor:
    """Mean cross-entropy over the labelled pixels, weighted by class if asked."""
    labels = labels_NHW.long()
    total = F.cross_entropy(
        logits_NCHW, labels, class_weights, ignore_index=UNLABELLED, reduction="sum"
    )
    known = labels != UNLABELLED
    if class_weights is None:
        return total / known.sum().clamp(min=1)
    return total / class_weights[labels[known]].sum().clamp(min=1e-6)


def relative_l1(log_depth_NHW: Tensor, depth_NHW: Tensor, log_range: tuple[float, float]) -> Tensor:
    """Mean of |prediction - truth| / truth over the pixels with depth: the measure abs-rel.

    Unlike a difference of logarithms it takes what is said too far more heavily than what is said
    too near, which is how a robot should err. From e times the truth on it goes on in proportion
    to the logarithm, so that no pixel outweighs the rest. Truth beyond the range that the network
    can express is drawn to the range's end, so that what is far is at least told to be far.
    """
    known = depth_NHW.isfinite()
    truth = depth_NHW.where(known, 1.0).log().clamp(*log_range)
    error = log_depth_NHW - truth
    relative = (error.clamp(max=1).exp() - 1).abs() + math.e * (error - 1).clamp(min=0)
    return (relative * known).sum() / known.sum().clamp(min=1)


def log_gradient(
    log_depth_NHW: Tensor, depth_NHW: Tensor, log_range: tuple[float, float], scales: int = 3
) -> Tensor:
    """Mean absolute difference of the log depths' gradients at several scales.

    It makes borders sharp and surfaces even; after the gradient matching term of MegaDepth (Li and
    Snavely 2018). A difference counts where both its pixels have depth.
    """
    known = depth_NHW.isfinite()
    error = (log_depth_NHW - depth_NHW.where(known, 1.0).log().clamp(*log_range)) * known
    total = log_depth_NHW.new_zeros(())
    for scale in range(scales):
        e, k = error[:, :: 2**scale, :: 2**scale], known[:, :: 2**scale, :: 2**scale]
        for axis in (1, 2):
            both = k.narrow(axis, 1, k.shape[axis] - 1) & k.narrow(axis, 0, k.shape[axis] - 1)
            difference = torch.diff(e, dim=axis).abs() * both
            total = total + difference.sum() / both.sum().clamp(min=1)
    return total / scales
