"""The default system: one encoder, a decoder for depth and one for semantic classes.

The shape is that of system 000 (DepthSegNet), at a size for real time: a narrow ResNet, context
at 1/32, and two decoders of the same build with weights of their own, up to 1/4.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from ..blocks import Context, Decoder
from ..encoders import ResNet

# Mean and deviation of ImageNet's pixels; any fixed values would do for training from scratch.
MEAN, DEVIATION = (123.675, 116.28, 103.53), (58.395, 57.12, 57.375)


class SharedEncoder(nn.Module):
    """One encoder, two decoders."""

    mean: Tensor
    deviation: Tensor

    def __init__(
        self,
        num_classes: int = 11,
        widths: Sequence[int] = (32, 64, 128, 256),
        depths: Sequence[int] = (1, 2, 2, 2),
        context: int = 192,
        decoder: Sequence[int] = (64, 48, 32),
        min_depth: float = 0.5,
        max_depth: float = 150.0,
    ) -> None:
        """Build the network.

        Args:
            num_classes: Semantic classes.
            widths: Channels of the encoder at 1/4, 1/8, 1/16 and 1/32.
            depths: Residual blocks at each of them.
            context: Channels of the coarsest features that both decoders start from.
            decoder: Channels of the decoders at 1/16, 1/8 and 1/4.
            min_depth: Least canonical depth that can be expressed, metres.
            max_depth: Greatest canonical depth that can be expressed, metres.
        """
        super().__init__()
        self.encoder = ResNet(widths, depths)
        self.context = Context(widths[-1], context)
        skips = tuple(widths[-2::-1])
        self.segmentation = Decoder(context, skips, tuple(decoder), num_classes)
        self.depth = Decoder(context, skips, tuple(decoder), 1)
        self.log_range = (math.log(min_depth), math.log(max_depth))
        self.register_buffer("mean", torch.tensor(MEAN)[:, None, None], persistent=False)
        self.register_buffer("deviation", torch.tensor(DEVIATION)[:, None, None], persistent=False)

    def forward(self, image_N3HW: Tensor) -> dict[str, Tensor]:
        """Picture with values 0 to 255 -> `logits` and `log_depth`, at 1/4 of its size."""
        *skips, coarsest = self.encoder((image_N3HW - self.mean) / self.deviation)
        context = self.context(coarsest)
        skips.reverse()
        near, far = self.log_range
        return {
            "logits": self.segmentation(context, skips),
            "log_depth": near + (far - near) * torch.sigmoid(self.depth(context, skips)),
        }
