"""The default system: one encoder, a decoder for depth and one for semantic classes.

The shape is that of system 000 (DepthSegNet), at a size for real time: a narrow ResNet, context
at 1/32, and two decoders of the same build with weights of their own, up to 1/2.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from ..blocks import Context, Decoder, Normalize, checked_tasks
from ..encoders import Encoder, ResNet


class SharedEncoder(nn.Module):
    """One encoder, two decoders."""

    inputs: tuple[str, ...] = ("image",)
    depth_kind = "metric"
    views: tuple[str, ...] = ()

    def __init__(
        self,
        num_classes: int = 11,
        widths: Sequence[int] = (32, 64, 128, 256),
        depths: Sequence[int] = (1, 2, 2, 2),
        context: int = 192,
        decoder: Sequence[int] = (64, 48, 32),
        min_depth: float = 0.5,
        max_depth: float = 150.0,
        encoder: Encoder | None = None,
        tasks: Sequence[str] = ("segmentation", "depth"),
    ) -> None:
        """Build the network.

        Args:
            num_classes: Semantic classes.
            widths: Channels of the built-in encoder at 1/4, 1/8, 1/16 and 1/32.
            depths: Residual blocks at each of them.
            context: Channels of the coarsest features that both decoders start from.
            decoder: Channels of the decoders at 1/16, 1/8 and 1/4.
            min_depth: Least canonical depth that can be expressed, metres.
            max_depth: Greatest canonical depth that can be expressed, metres.
            encoder: One of `training.encoders`, in place of the built-in narrow `ResNet`.
            tasks: What to build decoders for.

        Raises:
            TrainingError: `tasks` has none, or an unknown one.
        """
        super().__init__()
        self.tasks = tasks = checked_tasks(tasks)
        self.encoder = ResNet(widths, depths) if encoder is None else encoder
        coarsest, *skips = reversed(self.encoder.channels)
        self.context = Context(coarsest, context)
        self.segmentation = self.depth = None
        if "segmentation" in tasks:
            self.segmentation = Decoder(context, tuple(skips), tuple(decoder), num_classes)
        if "depth" in tasks:
            self.depth = Decoder(context, tuple(skips), tuple(decoder), 1)
        self.depth_limits = (min_depth, max_depth)
        self.log_range = (math.log(min_depth), math.log(max_depth))
        self.normalize = Normalize()

    def forward(self, image_N3HW: Tensor) -> dict[str, Tensor]:
        """Picture with values 0 to 255 -> `logits` and `depth` (canonical metres), at 1/2."""
        *skips, coarsest = self.encoder(self.normalize(image_N3HW))
        context = self.context(coarsest)
        skips.reverse()
        prediction = {}
        if self.segmentation is not None:
            prediction["logits"] = self.segmentation(context, skips)
        if self.depth is not None:
            near, far = self.log_range
            share = torch.sigmoid(self.depth(context, skips))
            prediction["depth"] = torch.exp(near + (far - near) * share)
        return prediction

    def shared_parameters(self) -> list[nn.Parameter]:
        """Those of the encoder and the context."""
        if self.segmentation is None or self.depth is None:
            return []
        return [*self.encoder.parameters(), *self.context.parameters()]
