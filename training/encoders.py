"""Encoders: a picture in, features at falling resolutions out."""

from __future__ import annotations

from collections.abc import Sequence

import torch.nn.functional as F
from torch import Tensor, nn

from .blocks import ConvNormRelu


class ResNet(nn.Module):
    """Residual network of basic blocks (He et al. 2016) with a stem of small kernels.

    Features at 1/4, 1/8, 1/16 and 1/32 of the picture's size. `channels` says how many each has.
    """

    def __init__(
        self,
        widths: Sequence[int] = (64, 128, 256, 512),
        depths: Sequence[int] = (2, 2, 2, 2),
    ) -> None:
        """Build the encoder.

        Args:
            widths: Channels of the four stages; ResNet-18 has 64, 128, 256, 512.
            depths: Blocks in each stage.
        """
        super().__init__()
        self.channels = tuple(widths)
        stem = widths[0] // 2
        self.stem = nn.Sequential(ConvNormRelu(3, stem, stride=2), ConvNormRelu(stem, stem))
        stages = []
        before = stem
        for width, depth in zip(widths, depths, strict=True):
            blocks = [BasicBlock(before, width, stride=2)]
            blocks += [BasicBlock(width, width) for _ in range(depth - 1)]
            stages.append(nn.Sequential(*blocks))
            before = width
        self.stages = nn.ModuleList(stages)

    def forward(self, image_N3HW: Tensor) -> list[Tensor]:
        """Normalised picture -> features, fine to coarse."""
        x = self.stem(image_N3HW)
        features = []
        for stage in self.stages:
            x = stage(x)
            features.append(x)
        return features


class BasicBlock(nn.Module):
    """Two 3x3 convolutions beside a shortcut."""

    def __init__(self, inputs: int, outputs: int, stride: int = 1) -> None:
        """The shortcut is a 1x1 convolution where shape or width change."""
        super().__init__()
        self.convolutions = nn.Sequential(
            ConvNormRelu(inputs, outputs, stride=stride),
            nn.Conv2d(outputs, outputs, 3, padding=1, bias=False),
            nn.BatchNorm2d(outputs),
        )
        self.shortcut: nn.Module = nn.Identity()
        if stride != 1 or inputs != outputs:
            self.shortcut = nn.Sequential(
                nn.Conv2d(inputs, outputs, 1, stride, bias=False), nn.BatchNorm2d(outputs)
            )

    def forward(self, x_NCHW: Tensor) -> Tensor:
        """See the class."""
        return F.relu(self.convolutions(x_NCHW) + self.shortcut(x_NCHW))
