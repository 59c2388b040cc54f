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


"""A pretrained vision transformer with a small head for each task.

The transformer (DINOv2, DINOv3, EUPE) is frozen, or fine-tuned with low-rank adapters. Its tokens
at 1/16 of the image size provide the semantics, and three convolutions of the image add borders.
As in the default system, both tasks share the decoder up to 1/4. The last level, to 1/2, is
separate for each task.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from ..base import Prediction, System
from ..blocks import ConvNormRelu, Decoder, Normalize
from ..vit import Vit
from .shared_encoder import Head, ScaleHead


class FoundationEncoder(System):
    """A vision transformer, fused tokens, one decoder, two heads."""

    depth_kind = "metric"

    def __init__(
        self,
        vit: str | dict[str, Any],
        num_classes: int = 11,
        layers: int = 4,
        rank: int = 0,
        width: int = 128,
        detail: tuple[int, int, int] = (16, 32, 48),
        decoder: tuple[int, int] = (96, 64),
        heads: tuple[int, int] = (32, 16),
        min_depth: float = 0.15,
        max_depth: float = 300.0,
        tasks: Sequence[str] = ("segmentation", "depth"),
        depth_scale: bool = False,
    ) -> None:
        """Build the network.

        Args:
            vit: A name on the Hugging Face hub, a folder, a weight file, or a description, see
                `Vit`.
            num_classes: Semantic classes.
            layers: Number of transformer layers to take tokens from.
            rank: Rank of the adapters of its queries and values; 0: frozen.
            width: Channels of the fused tokens.
            detail: Channels of the convolutions of the image at 1/2, 1/4 and 1/8.
            decoder: Channels of the decoder at 1/8 and 1/4.
            heads: Channels of the segmentation and depth heads at 1/2.
            min_depth: Minimum canonical depth, metres.
            max_depth: Maximum canonical depth, metres.
            tasks: Tasks with a head.
            depth_scale: See `SharedEncoder`.

        Raises:
            TrainingError: see `Vit` and `System`.
        """
        super().__init__(tasks)
        self.encoder = Vit(vit, layers, rank)
        self.normalize = Normalize()
        self.detail = nn.ModuleList(
            ConvNormRelu(before, after, stride=2)
            for before, after in zip((3, *detail[:-1]), detail, strict=True)
        )
        self.fuse = nn.Sequential(
            ConvNormRelu(sum(self.encoder.channels), width, kernel=1), ConvNormRelu(width, width)
        )
        self.decoder = Decoder(width, detail[:0:-1], decoder)
        self.segmentation = self.depth = None
        if "segmentation" in tasks:
            self.segmentation = Head(decoder[-1], detail[0], heads[0], num_classes)
        if "depth" in tasks:
            self.depth = Head(decoder[-1], detail[0], heads[1], 1)
        self.predicts_scale = depth_scale and "depth" in tasks
        if self.predicts_scale:
            self.scale = ScaleHead(decoder[-1])
        self.depth_limits = (min_depth, max_depth)
        self.log_range = (math.log(min_depth), math.log(max_depth))

    def forward(self, image_N3HW: Tensor) -> Prediction:
        """Predict `logits` and `depth` (canonical metres) at 1/2; image values 0 to 255."""
        x = self.normalize(image_N3HW)
        details = []
        for level in self.detail:
            x = level(x)
            details.append(x)
        tokens = self.fuse(torch.cat(self.encoder(image_N3HW), 1))
        features = self.decoder(tokens, details[:0:-1])
        prediction: Prediction = {}
        if self.segmentation is not None:
            prediction["logits"] = self.segmentation(features, details[0])
        if self.depth is not None:
            near, far = self.log_range
            share = torch.sigmoid(self.depth(features, details[0]).float())
            prediction["depth"] = torch.exp(near + (far - near) * share)
        if self.predicts_scale:
            prediction["log_scale"] = self.scale(features).float()
        return prediction
