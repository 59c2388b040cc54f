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

"""Building blocks shared by the systems.

Shapes: N batch, C channels, H and W height and width at the resolution of the block.
All convolutions are standard ones, which are fast in every runtime.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

# Mean and standard deviation of ImageNet's pixels, as expected by encoders with its weights.
MEAN, DEVIATION = (123.675, 116.28, 103.53), (58.395, 57.12, 57.375)


class Normalize(nn.Module):
    """Normalise images with values 0 to 255 to zero mean and unit variance."""

    mean: Tensor
    variance: Tensor

    def __init__(
        self, mean: Sequence[float] = MEAN, deviation: Sequence[float] = DEVIATION
    ) -> None:
        """Set mean and standard deviation of red, green and blue, for values 0 to 255."""
        super().__init__()
        self.register_buffer("mean", torch.tensor(mean), persistent=False)
        self.register_buffer("variance", torch.tensor(deviation).square(), persistent=False)

    def forward(self, image_N3HW: Tensor) -> Tensor:
        """See the class."""
        # One operator takes half the time of subtraction and division. torch 2.11 rejects eps=0.
        return F.batch_norm(image_N3HW, self.mean, self.variance, eps=1e-12)


class ConvNormRelu(nn.Sequential):
    """Convolution with "same" padding, batch norm, ReLU."""

    def __init__(
        self, inputs: int, outputs: int, kernel: int = 3, stride: int = 1, dilation: int = 1
    ) -> None:
        """Build the block; `kernel` is odd, the output size is divided by `stride`, rounded up."""
        padding = dilation * (kernel // 2)
        super().__init__(
            nn.Conv2d(inputs, outputs, kernel, stride, padding, dilation, bias=False),
            nn.BatchNorm2d(outputs),
            nn.ReLU(inplace=True),
        )


class Context(nn.Module):
    """Parallel dilated convolutions and global average pooling, merged.

    Like atrous spatial pyramid pooling in DeepLabv3 (Chen et al. 2017), but the average is added
    instead of concatenated.
    """

    def __init__(self, inputs: int, outputs: int, dilations: tuple[int, ...] = (1, 2, 4)) -> None:
        """(N, inputs, H, W) -> (N, outputs, H, W)."""
        super().__init__()
        width = outputs // 2
        self.reduce = ConvNormRelu(inputs, width, kernel=1)
        self.branches = nn.ModuleList(ConvNormRelu(width, width, dilation=d) for d in dilations)
        self.whole = nn.Conv2d(inputs, outputs, 1)
        self.merge = nn.Sequential(
            nn.Conv2d(width * (1 + len(dilations)), outputs, 1, bias=False),
            nn.BatchNorm2d(outputs),
        )

    def forward(self, x_NCHW: Tensor) -> Tensor:
        """See the class."""
        reduced = self.reduce(x_NCHW)
        near_and_far = self.merge(torch.cat([reduced, *(b(reduced) for b in self.branches)], 1))
        return F.relu(near_and_far + self.whole(x_NCHW.mean((2, 3), keepdim=True)))


class Decoder(nn.Module):
    """Decoder of a feature pyramid network (Lin et al. 2017).

    Skip features are added instead of concatenated, which needs half the operations.
    """

    def __init__(self, inputs: int, skips: Sequence[int], widths: Sequence[int]) -> None:
        """Build a decoder.

        Args:
            inputs: Channels of the coarsest features.
            skips: Channels of the skip features, coarse to fine.
            widths: Channels after each level, one for each skip.
        """
        super().__init__()
        before = (inputs, *widths[:-1])
        self.narrow = nn.ModuleList(nn.Conv2d(b, w, 1) for b, w in zip(before, widths, strict=True))
        self.lateral = nn.ModuleList(nn.Conv2d(s, w, 1) for s, w in zip(skips, widths, strict=True))
        self.levels = nn.ModuleList(ConvNormRelu(w, w) for w in widths)

    def forward(self, x_NCHW: Tensor, skips: Sequence[Tensor]) -> Tensor:
        """Decode `x_NCHW`, with `skips` coarse to fine, to the size of the last skip."""
        for narrow, lateral, level, skip in zip(
            self.narrow, self.lateral, self.levels, skips, strict=True
        ):
            x_NCHW = level(F.relu(double(narrow(x_NCHW), skip.shape[2:]) + lateral(skip)))
        return x_NCHW


def resize(x_NCHW: Tensor, size: torch.Size | tuple[int, int]) -> Tensor:
    """Resize bilinearly with half-pixel centres (`align_corners=False`)."""
    if torch.compiler.is_exporting():
        return torch.ops.depthseg_ros.bilinear(x_NCHW, *size)  # see `served`
    return F.interpolate(x_NCHW, size=tuple(size), mode="bilinear", align_corners=False)


def double(x_NCHW: Tensor, size: torch.Size | tuple[int, int]) -> Tensor:
    """Resize to about twice the size; sizes of odd images are not exactly doubled.

    Exact doubling is exported with a constant scale, for which ONNX Runtime has a faster kernel.
    """
    if tuple(size) == (2 * x_NCHW.shape[2], 2 * x_NCHW.shape[3]):
        if torch.compiler.is_exporting():
            return torch.ops.depthseg_ros.bilinear_double(x_NCHW)  # see `served`
        return F.interpolate(x_NCHW, scale_factor=2.0, mode="bilinear", align_corners=False)
    return resize(x_NCHW, size)


def shrink(x_NCHW: Tensor) -> Tensor:
    """Halve the resolution by max pooling, rounded up, so that sizes never become 0."""
    return F.max_pool2d(x_NCHW, 2, ceil_mode=True)


def with_background_logit(logits_NCHW: Tensor) -> Tensor:
    """Add a background logit of 0 if there is only a foreground logit, (N, 1, h, w)."""
    if logits_NCHW.shape[1] == 1:
        return torch.cat([torch.zeros_like(logits_NCHW), logits_NCHW], 1)
    return logits_NCHW


def without_autocast(head: Callable[[Tensor], Tensor], x_NCHW: Tensor) -> Tensor:
    """Run the last layers of a head in float32 instead of the lower precision of autocast.

    bfloat16 has 8 significant bits: adjacent depth values would differ by 1 to 4 %. Heads have few
    channels, so float32 costs little. Without autocast, the layers run in the precision of their
    weights.
    """
    device = x_NCHW.device.type
    if not (torch.amp.is_autocast_available(device) and torch.is_autocast_enabled(device)):
        return head(x_NCHW)
    with torch.autocast(device, enabled=False):
        return head(x_NCHW.float())
