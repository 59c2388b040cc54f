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

"""Losses by the names used in configurations.

Missing labels and depth are masked. If a batch has none, a loss is zero, never NaN.

- Segmentation losses are `f(logits_NCHW, labels_NHW, class_weights=None)`. Labels are uint8, 255
  for unknown. A single channel is the logit of the foreground, which has the label 1.
- Depth losses are `f(prediction_NHW, truth_NHW)`, both linear and positive. Truth is NaN for
  unknown.

A loss is a float32 scalar, also under autocast: the mean over the pixels of all processes and
accumulated micro-batches. Losses that are not means (`rmse`, `silog`, `dice`) are computed for each
micro-batch and averaged, weighted by the number of pixels; see `numerics`. Losses of
self-supervised depth are in `reprojection`, of semantic guidance in `guidance`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from ..models.blocks import resize
from . import depth, segmentation
from .depth import laplace as laplace
from .numerics import accumulated_counts, in_float32

SEGMENTATION: dict[str, Callable[..., Tensor]] = {
    "cross_entropy": segmentation.cross_entropy,
    "binary_cross_entropy": segmentation.binary_cross_entropy,
    "dice": segmentation.dice,
    "focal": segmentation.focal,
    "sobel": segmentation.sobel,
}

DEPTH: dict[str, Callable[..., Tensor]] = {
    "l1": depth.l1,
    "berhu": depth.berhu,
    "rmse": depth.rmse,
    "silog": depth.silog,
    "ssim": depth.ssim,
    "attention": depth.attention,
    "sobel": depth.sobel,
    "relative_l1": depth.relative_l1,
    "log_l1": depth.log_l1,
    "log_gradient": depth.log_gradient,
    "binary_cross_entropy": depth.binary_cross_entropy,
}


@in_float32
def multi_output(
    loss: Callable[[Tensor, Tensor], Tensor],
    outputs: Sequence[Tensor],
    truth_NHW: Tensor,
    truths_of_step: Sequence[Tensor] = (),
) -> Tensor:
    """Sum a loss over side outputs: deep supervision (Lee et al. 2015), as in U2-Net.

    Args:
        loss: Called with each output, resized to the size of the truth, and the truth. For a depth
            loss, select the channel: `lambda output, truth: l1(output[:, 0], truth)`.
        outputs: (N, C, h, w), each of any size.
        truth_NHW: Labels or depth.
        truths_of_step: Truths of all micro-batches of the optimizer step, including this one. The
            loss is the mean over all their pixels. Empty: there is only this one.
    """
    channels = outputs[0].shape[1]

    def counted(truth: Tensor) -> Tensor:
        return loss(outputs[0].new_ones(len(truth), channels, *truth.shape[1:]), truth)

    total = []
    for output in outputs:
        with accumulated_counts(counted, truths_of_step):
            total.append(loss(resize(output, truth_NHW.shape[1:]), truth_NHW))
    return torch.stack(total).sum()
