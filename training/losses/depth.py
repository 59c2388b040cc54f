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

"""Losses of depth.

All take a prediction and a truth, (N, H, W), both linear and positive: metres, up to scale, or
0 to 1. The truth is NaN (or infinite) where unknown. Logarithms are taken inside, of no less than
`LEAST`, so that a prediction of zero has a finite one.
"""

from __future__ import annotations

import math

import kornia
import torch
import torch.nn.functional as F
from torch import Tensor

from .numerics import in_float32, local_mean_over, mean_over, normalised

LEAST = 1e-6
"""Least depth that logarithms are taken of."""


@in_float32
def l1(prediction_NHW: Tensor, truth_NHW: Tensor) -> Tensor:
    """Mean absolute error."""
    truth, known = _known(truth_NHW)
    return mean_over((prediction_NHW - truth).abs(), known)


@in_float32
def berhu(prediction_NHW: Tensor, truth_NHW: Tensor, share: float = 0.2) -> Tensor:
    """Reverse Huber (Laina et al. 2016): |e| up to a threshold c, from there (e^2 + c^2) / 2c.

    c is `share` of the batch's greatest error, and constant to the gradient. The batch is that of
    one process: with several, each has its own c.
    """
    truth, known = _known(truth_NHW)
    error = (prediction_NHW - truth).abs().where(known, 0)
    c = (share * error.detach().max()).clamp(min=1e-6)
    return mean_over(error.where(error <= c, (error.square() + c.square()) / (2 * c)), known)


@in_float32
def rmse(prediction_NHW: Tensor, truth_NHW: Tensor) -> Tensor:
    """sqrt(mean squared error + 1e-6): finite slope at zero error; of each process's batch."""
    truth, known = _known(truth_NHW)
    squared = local_mean_over((prediction_NHW - truth).square(), known)
    return _weighed((squared + 1e-6).sqrt(), known)


@in_float32
def silog(prediction_NHW: Tensor, truth_NHW: Tensor, variance_focus: float = 0.85) -> Tensor:
    """Scale-invariant log error (Eigen et al. 2014), as the root that BTS takes of it.

    sqrt(mean d^2 - lambda (mean d)^2), d = ln prediction - ln truth, lambda = `variance_focus`:
    1 leaves scale free. A truth of zero has no logarithm and does not count. The root is that of
    each process's batch.
    """
    truth, known = _known(truth_NHW)
    known = known & (truth > 0)
    d = _log(prediction_NHW) - _log(truth)
    mean = local_mean_over(d, known)
    # The same as the formula, but no rounding makes it negative.
    squared = local_mean_over((d - mean).square(), known) + (1 - variance_focus) * mean.square()
    return _weighed((squared + 1e-12).sqrt(), known)


@in_float32
def ssim(prediction_NHW: Tensor, truth_NHW: Tensor, window: int = 11) -> Tensor:
    """Mean of 1 - SSIM (Wang et al. 2004), of a Gaussian window, over the known pixels.

    Unknown pixels of the truth get the prediction's value: they add nothing, and no gradient. The
    dynamic range is 1, or where a picture's truth goes beyond 1 (metres) its greatest depth. Height
    and width must be greater than half the window. A prediction of some 50 times the range is
    where float32 no longer tells variances, and the gradient may be cut there.
    """
    truth, known = _known(truth_NHW)
    scale = truth.where(known, 0).amax((1, 2), keepdim=True).clamp(min=1)
    unknown = prediction_NHW.detach()
    said, true = ((x.where(known, unknown) / scale)[:, None] for x in (prediction_NHW, truth))
    similarity = kornia.metrics.ssim(said, true, window_size=window)[:, 0]
    return mean_over(1 - similarity.clamp(-1, 1), known)


@in_float32
def attention(prediction_NHW: Tensor, truth_NHW: Tensor) -> Tensor:
    """Depth-aware loss, the attention-driven one of Jiao et al. (2018): far regions weigh more.

    mean (y + lambda) |y - prediction|, lambda = 1 - min(ln y, ln p) / max(ln y, ln p). That is the
    paper's where both depths are beyond 1. Nearer than 1 a logarithm is negative, and the quotient
    would leave 0 to 1: here it is that of the magnitudes where both logarithms are negative, and 0
    (lambda = 1) where one is or where both are 0. So lambda stays within 0 to 1, without a jump.
    """
    truth, known = _known(truth_NHW)
    a, b = _log(truth), _log(prediction_NHW)
    # Of one sign, a b / max(a^2, b^2) is the lesser magnitude over the greater.
    quotient = (a * b).clamp(min=0) / torch.maximum(a.square(), b.square()).clamp(min=1e-8)
    return mean_over((truth + 1 - quotient) * (prediction_NHW - truth).abs(), known)


@in_float32
def sobel(prediction_NHW: Tensor, truth_NHW: Tensor) -> Tensor:
    """Mean L1 norm of the difference of the Sobel gradients, in depth per pixel.

    A pixel counts where it and all its neighbours in the picture are known.
    """
    truth, known = _known(truth_NHW)
    error = (prediction_NHW - truth).where(known, 0)
    gradient_NHW = kornia.filters.spatial_gradient(error[:, None])[:, 0].abs().sum(1)
    near_unknown = F.max_pool2d((~known)[:, None].to(error), 3, stride=1, padding=1)[:, 0] > 0
    return mean_over(gradient_NHW, ~near_unknown)


@in_float32
def relative_l1(prediction_NHW: Tensor, truth_NHW: Tensor) -> Tensor:
    """Mean of |prediction - truth| / truth over the pixels with depth: the measure abs-rel.

    Unlike a difference of logarithms it takes what is said too far more heavily than what is said
    too near, which is how a robot should err. From e times the truth on it goes on in proportion
    to the logarithm, so that no pixel outweighs the rest.
    """
    truth, known = _known(truth_NHW)
    error = _log(prediction_NHW) - _log(truth)
    relative = (error.clamp(max=1).exp() - 1).abs() + math.e * (error - 1).clamp(min=0)
    return mean_over(relative, known)


@in_float32
def log_l1(prediction_NHW: Tensor, truth_NHW: Tensor) -> Tensor:
    """Mean |ln prediction - ln truth| over the pixels with depth (Eigen et al. 2014 square it).

    Where an image leaves the scale open its least is at the median of what is possible;
    `relative_l1`'s is nearer.
    """
    truth, known = _known(truth_NHW)
    return mean_over((_log(prediction_NHW) - _log(truth)).abs(), known)


@in_float32
def log_gradient(prediction_NHW: Tensor, truth_NHW: Tensor, scales: int = 3) -> Tensor:
    """Mean absolute difference of the log depths' gradients at several scales.

    It makes borders sharp and surfaces even; after the gradient matching term of MegaDepth (Li and
    Snavely 2018). A difference counts where both its pixels have depth.
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
    """Negative log-likelihood of a Laplace distribution of ln depth, for its scale b alone.

    mean |ln prediction - ln truth| / b + ln 2b over the pixels with depth (Kendall and Gal 2017 use
    it with a gradient for depth, too). The least is where b is the mean error of pixels that look
    alike. Depth gets no gradient: it has losses of its own, which errors must not weaken.
    `log_scale_NHW` is ln b, clamped to -7 or more.
    """
    truth, known = _known(truth_NHW)
    log_scale = log_scale_NHW.clamp(min=-7)
    error = (_log(prediction_NHW.detach()) - _log(truth)).abs()
    return mean_over(error * torch.exp(-log_scale) + log_scale + math.log(2), known)


@in_float32
def binary_cross_entropy(prediction_NHW: Tensor, truth_NHW: Tensor) -> Tensor:
    """Mean binary cross-entropy of depths from 0 to 1, taken as probabilities; zero is known too.

    Both are expected within 0 to 1; a prediction is drawn to 1e-6 from the ends.
    """
    truth, known = _known(truth_NHW)
    # Its value is clamped, its gradient is not cut: what is wrong at the end can still come back.
    clamped = prediction_NHW.detach().clamp(1e-6, 1 - 1e-6)
    p = clamped + (prediction_NHW - prediction_NHW.detach())
    return mean_over(-(truth * p.log() + (1 - truth) * torch.log1p(-p)), known)


def _known(truth_NHW: Tensor) -> tuple[Tensor, Tensor]:
    """The truth with 1 where it is unknown, and where it is known (bool)."""
    known = truth_NHW.isfinite()
    return truth_NHW.where(known, 1.0), known


def _weighed(loss: Tensor, known: Tensor) -> Tensor:
    """A loss of a batch that counts by its number of known pixels, see `local_mean_over`."""
    count = known.sum()
    return normalised(loss * count, count)


def _log(depth: Tensor) -> Tensor:
    return depth.clamp(min=LEAST).log()
