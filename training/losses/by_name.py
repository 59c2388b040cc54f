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

"""Losses over what is known of a batch; where nothing is known a loss is zero, never NaN.

Segmentation losses are `f(logits_NCHW, labels_NHW, class_weights=None)`: labels uint8, 255
unknown; one channel is the logit of the foreground, whose label is 1. Depth losses are
`f(prediction_NHW, truth_NHW)`: both linear and positive, the truth NaN where unknown. All give one
float32 number, also under autocast: a mean over the pixels of all processes and accumulated
micro-batches, or where a loss is no mean (`rmse`, `silog`, `dice`) the mean of those of each, by
their numbers of pixels; see `numerics`. `reprojection` and `guidance` have what self-supervised
depth and segmentation that guides depth need.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from ..models.blocks import resize
from . import depth, segmentation
from .depth import laplace as laplace
from .numerics import in_float32, window

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
    """Sum of a loss over side outputs: deep supervision (Lee et al. 2015), as U2-Net has it.

    Args:
        loss: Called with each output, at the truth's size, and the truth. A depth loss has to be
            given the one channel: `lambda output, truth: l1(output[:, 0], truth)`.
        outputs: (N, C, h, w), each of any size; they are resized bilinearly.
        truth_NHW: Labels or depth.
        truths_of_step: Those of all micro-batches that an optimizer step accumulates, also this
            one's, over whose pixels the loss is a mean; empty: of this one alone.
    """
    channels = outputs[0].shape[1]

    def counted(truth: Tensor) -> Tensor:
        return loss(outputs[0].new_ones(len(truth), channels, *truth.shape[1:]), truth)

    total = []
    for output in outputs:
        with window(counted, truths_of_step):
            total.append(loss(resize(output, truth_NHW.shape[1:]), truth_NHW))
    return torch.stack(total).sum()
