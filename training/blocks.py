"""Building blocks that the systems share.

Shapes: N batch, C channels, H and W at whatever resolution the block is used.
Plain convolutions only, so that every runtime that matters has a fast kernel for them.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class ConvNormRelu(nn.Sequential):
    """Convolution with "same" padding, batch norm, ReLU."""

    def __init__(
        self, inputs: int, outputs: int, kernel: int = 3, stride: int = 1, dilation: int = 1
    ) -> None:
        """`kernel` is odd; the output is 1/`stride` of the input's size, rounded up."""
        padding = dilation * (kernel // 2)
        super().__init__(
            nn.Conv2d(inputs, outputs, kernel, stride, padding, dilation, bias=False),
            nn.BatchNorm2d(outputs),
            nn.ReLU(inplace=True),
        )


class Context(nn.Module):
    """Surroundings of a pixel at growing distances and of the whole picture, merged.

    Parallel dilated convolutions and a global average, after the atrous spatial pyramid pooling of
    DeepLabv3 (Chen et al. 2017), with the average added rather than stacked.
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
    """From the coarsest features up to the finest: enlarge, join the skip, convolve, repeat."""

    def __init__(
        self, inputs: int, skips: tuple[int, ...], widths: tuple[int, ...], outputs: int
    ) -> None:
        """Build a decoder.

        Args:
            inputs: Channels of the coarsest features.
            skips: Channels of the skips, coarse to fine.
            widths: Channels after each level, one for each skip.
            outputs: Channels of the result, which has the last skip's resolution.
        """
        super().__init__()
        before = (inputs, *widths[:-1])
        self.levels = nn.ModuleList(
            ConvNormRelu(b + s, w) for b, s, w in zip(before, skips, widths, strict=True)
        )
        self.head = nn.Conv2d(widths[-1], outputs, 1)

    def forward(self, x_NCHW: Tensor, skips: list[Tensor]) -> Tensor:
        """Decode `x_NCHW`, with `skips` coarse to fine; returns (N, outputs, H, W)."""
        for level, skip in zip(self.levels, skips, strict=True):
            x_NCHW = level(torch.cat([resize(x_NCHW, skip.shape[2:]), skip], 1))
        return self.head(x_NCHW)


def resize(x_NCHW: Tensor, size: torch.Size | tuple[int, int]) -> Tensor:
    """Bilinear, with the corners of the outermost pixels in place (half-pixel centres)."""
    return F.interpolate(x_NCHW, size=tuple(size), mode="bilinear", align_corners=False)
