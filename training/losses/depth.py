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

"""Depth losses.

Prediction and truth are (N, H, W), linear and positive: in metres, up to scale, or 0 to 1. Truth is
NaN or infinite for unknown. Depth is clamped to at least `MIN_DEPTH` before a logarithm.
"""

from __future__ import annotations

import math

import kornia
import torch
import torch.nn.functional as F
from torch import Tensor

from .numerics import in_float32, local_mean_over, mean_over, normalised

MIN_DEPTH = 1e-6
"""Minimum depth for logarithms."""


@in_float32
def l1(prediction_NHW: Tensor, truth_NHW: Tensor) -> Tensor:
    """Mean absolute error."""
    truth, known = _known(truth_NHW)
    return mean_over((prediction_NHW - truth).abs(), known)


@in_float32
def berhu(prediction_NHW: Tensor, truth_NHW: Tensor, share: float = 0.2) -> Tensor:
    """Reverse Huber (Laina et al. 2016): |e| up to a threshold c, from there (e^2 + c^2) / 2c.

    c is `share` times the maximum error of the batch, without gradient. Each process has its own
    batch and c.
    """
    truth, known = _known(truth_NHW)
    error = (prediction_NHW - truth).abs().where(known, 0)
    c = (share * error.detach().max()).clamp(min=1e-6)
    return mean_over(error.where(error <= c, (error.square() + c.square()) / (2 * c)), known)


@in_float32
def rmse(prediction_NHW: Tensor, truth_NHW: Tensor) -> Tensor:
    """Root mean square error, sqrt(MSE + 1e-6) for a finite gradient at 0, for each micro-batch."""
    truth, known = _known(truth_NHW)
    squared = local_mean_over((prediction_NHW - truth).square(), known)
    return _weighted((squared + 1e-6).sqrt(), known)


@in_float32
def silog(prediction_NHW: Tensor, truth_NHW: Tensor, variance_focus: float = 0.85) -> Tensor:
    """Scale-invariant log error (Eigen et al. 2014), with the square root as in BTS.

    sqrt(mean d^2 - lambda (mean d)^2), d = ln prediction - ln truth, lambda = `variance_focus`.
    With 1, the loss is fully scale-invariant. Pixels with zero depth are ignored. Computed for each
    micro-batch.
    """
    truth, known = _known(truth_NHW)
    known = known & (truth > 0)
    d = _log(prediction_NHW) - _log(truth)
    mean = local_mean_over(d, known)
    # Equivalent to the formula, but never negative by rounding.
    squared = local_mean_over((d - mean).square(), known) + (1 - variance_focus) * mean.square()
    return _weighted((squared + 1e-12).sqrt(), known)


@in_float32
def ssim(prediction_NHW: Tensor, truth_NHW: Tensor, window: int = 11) -> Tensor:
    """Mean of 1 - SSIM (Wang et al. 2004) with a Gaussian window, over the known pixels.

    Unknown pixels of the truth are replaced by the prediction, without gradient, so they do not
    contribute. The dynamic range is the maximum depth of the image, at least 1. Height and width
    must be greater than half the window. For predictions above about 50 times the range, float32 is
    too coarse for variances, and the gradient may be zero.
    """
    truth, known = _known(truth_NHW)
    scale = truth.where(known, 0).amax((1, 2), keepdim=True).clamp(min=1)
    unknown = prediction_NHW.detach()
    a, b = ((x.where(known, unknown) / scale)[:, None] for x in (prediction_NHW, truth))
    similarity = kornia.metrics.ssim(a, b, window_size=window)[:, 0]
    return mean_over(1 - similarity.clamp(-1, 1), known)


@in_float32
def attention(prediction_NHW: Tensor, truth_NHW: Tensor) -> Tensor:
    """Attention-driven depth loss (Jiao et al. 2018), with a higher weight for far regions.

    mean (y + lambda) |y - p| for truth y and prediction p, lambda = 1 - min(ln y, ln p) /
    max(ln y, ln p), as in the paper if both depths are above 1. Below 1, logarithms are negative
    and the quotient can leave 0 to 1. So it uses magnitudes if both logarithms are negative, and is
    0 (lambda = 1) if only one is negative or both are 0. This keeps lambda continuous and within 0
    to 1.
    """
    truth, known = _known(truth_NHW)
    a, b = _log(truth), _log(prediction_NHW)
    # For equal signs, a b / max(a^2, b^2) is the smaller magnitude divided by the larger one.
    quotient = (a * b).clamp(min=0) / torch.maximum(a.square(), b.square()).clamp(min=1e-8)
    return mean_over((truth + 1 - quotient) * (prediction_NHW - truth).abs(), known)


@in_float32
def sobel(prediction_NHW: Tensor, truth_NHW: Tensor) -> Tensor:
    """Mean L1 norm of the difference of Sobel gradients, in depth per pixel.

    Pixels with an unknown pixel in their 3x3 window are ignored.
    """
    truth, known = _known(truth_NHW)
    error = (prediction_NHW - truth).where(known, 0)
    gradient_NHW = kornia.filters.spatial_gradient(error[:, None])[:, 0].abs().sum(1)
    near_unknown = F.max_pool2d((~known)[:, None].to(error), 3, stride=1, padding=1)[:, 0] > 0
    return mean_over(gradient_NHW, ~near_unknown)


@in_float32
def relative_l1(prediction_NHW: Tensor, truth_NHW: Tensor) -> Tensor:
    """Mean of |prediction - truth| / truth: the metric abs-rel.

    Unlike `log_l1`, it penalises depth that is too far more than depth that is too near, which is
    the safer error for robots. For predictions of more than e times the truth, the loss grows
    linearly with the logarithm, so that single pixels do not dominate.
    """
    truth, known = _known(truth_NHW)
    error = _log(prediction_NHW) - _log(truth)
    relative = (error.clamp(max=1).exp() - 1).abs() + math.e * (error - 1).clamp(min=0)
    return mean_over(relative, known)


@in_float32
def log_l1(prediction_NHW: Tensor, truth_NHW: Tensor) -> Tensor:
    """Mean of |ln prediction - ln truth| (Eigen et al. 2014 use the square).

    If the scale of an image is ambiguous, its optimum is the median of the possible depths; the
    optimum of `relative_l1` is nearer.
    """
    truth, known = _known(truth_NHW)
    return mean_over((_log(prediction_NHW) - _log(truth)).abs(), known)


@in_float32
def log_gradient(prediction_NHW: Tensor, truth_NHW: Tensor, scales: int = 3) -> Tensor:
    """Mean absolute difference of the gradients of log depth at several scales.

    It sharpens borders and smooths surfaces, like the gradient matching term of MegaDepth (Li and
    Snavely 2018). Only differences of two pixels with known depth are used.
    """
    truth, known = _known(truth_NHW)
    error = _log(prediction_NHW) - _log(truth)
    parts = []
    for scale in range(scales):
        e, k = error[:, :: 2**scale, :: 2**scale], known[:, :: 2**scale, :: 2**scale]
        for axis in (1, 2):
            both = k.narrow(axis, 1, k.shape[axis] - 1) & k.narrow(axis, 0, k.shape[axis] - 1)
            parts.append(mean_over(torch.diff(e, dim=axis).abs(), both))
    return torch.stack(parts).sum() / scales


@in_float32
def laplace(log_scale_NHW: Tensor, prediction_NHW: Tensor, truth_NHW: Tensor) -> Tensor:
    """Negative log-likelihood of a Laplace distribution of ln depth, for its scale b only.

    mean of |ln prediction - ln truth| / b + ln 2b. Its optimum is b equal to the expected error. In
    contrast to Kendall and Gal (2017), depth gets no gradient: a large b must not reduce the weight
    of its own losses. `log_scale_NHW` is ln b, clamped to at least -7.
    """
    truth, known = _known(truth_NHW)
    log_scale = log_scale_NHW.clamp(min=-7)
    error = (_log(prediction_NHW.detach()) - _log(truth)).abs()
    return mean_over(error * torch.exp(-log_scale) + log_scale + math.log(2), known)


@in_float32
def binary_cross_entropy(prediction_NHW: Tensor, truth_NHW: Tensor) -> Tensor:
    """Mean binary cross-entropy of depth from 0 to 1; zero is valid depth.

    Predictions are clamped to 1e-6 and 1 - 1e-6.
    """
    truth, known = _known(truth_NHW)
    # Clamp the value, but not the gradient, so that saturated predictions can recover.
    clamped = prediction_NHW.detach().clamp(1e-6, 1 - 1e-6)
    p = clamped + (prediction_NHW - prediction_NHW.detach())
    return mean_over(-(truth * p.log() + (1 - truth) * torch.log1p(-p)), known)


def _known(truth_NHW: Tensor) -> tuple[Tensor, Tensor]:
    """Return the truth with 1 in place of unknown values, and the mask of known pixels."""
    known = truth_NHW.isfinite()
    return truth_NHW.where(known, 1.0), known


def _weighted(loss: Tensor, known: Tensor) -> Tensor:
    """Weight the loss of a micro-batch by its number of known pixels, see `local_mean_over`."""
    count = known.sum()
    return normalised(loss * count, count)


def _log(depth: Tensor) -> Tensor:
    return depth.clamp(min=MIN_DEPTH).log()
