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

"""System 002: foreground mask and depth from an image and a background image.

A fully convolutional network of residual blocks: a separate stream for each image down to 1/4 of
the size, a shared trunk down to 1/32, and one decoder for each task.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from ..base import Prediction, System
from ..blocks import resize, shrink, without_autocast


class TwoStreamFcn(System):
    """Two streams, a shared trunk, a decoder for each task."""

    inputs = ("background", "image")
    depth_kind = "normalised"
    depth_limits = (0.0, 1.0)

    def __init__(
        self,
        num_classes: int = 1,
        tasks: Sequence[str] = ("segmentation", "depth"),
        streams: Sequence[int] = (16, 32),
        trunk: Sequence[int] = (64, 128, 256, 512),
    ) -> None:
        """Build the network; with default arguments it has 10,343,490 parameters.

        Args:
            num_classes: Semantic classes; 1: a mask with one foreground logit.
            tasks: Tasks with a decoder.
            streams: Channels of the blocks for each image, at 1/1, 1/2, ...
            trunk: Channels of the shared blocks.

        Raises:
            TrainingError: `tasks` is wrong.
        """
        super().__init__(tasks)
        self.background, self.scene = (blocks(3, streams) for _ in range(2))
        self.merge = nn.Conv2d(2 * streams[-1], streams[-1], 1)
        self.trunk = blocks(streams[-1], trunk)
        self.segmentation = (
            TwoStreamDecoder(streams, trunk, num_classes) if "segmentation" in tasks else None
        )
        self.depth = TwoStreamDecoder(streams, trunk, 1) if "depth" in tasks else None

    def forward(self, background_N3HW: Tensor, image_N3HW: Tensor) -> Prediction:
        """Predict mask and depth.

        Args:
            background_N3HW: Image without the object, values 0 to 255, which are divided by 255.
            image_N3HW: Image with the object, values 0 to 255.

        Returns:
            `logits` (N, num_classes, H, W) and `depth` (N, 1, H, W) float32, 0 to 1, at the image
            size.
        """
        background, scene = background_N3HW / 255, image_N3HW / 255
        pairs = []
        for of_background, of_scene in zip(self.background, self.scene, strict=True):
            background, scene = of_background(background), of_scene(scene)
            pairs.append(torch.cat([background, scene], 1))
            background, scene = shrink(background), shrink(scene)
        x = self.merge(torch.cat([background, scene], 1))
        features: list[Tensor] = []
        for block in self.trunk:
            x = block(shrink(features[-1]) if features else x)
            features.append(x)
        skips = [*pairs, *features[:-1]]
        skips.reverse()
        outputs: Prediction = {}
        if self.segmentation is not None:
            outputs["logits"] = self.segmentation(x, skips)
        if self.depth is not None:
            outputs["depth"] = self.depth(x, skips).float().sigmoid()
        return outputs


class TwoStreamDecoder(nn.Module):
    """Decoder up to the image size: 1x1 convolution, resize, concatenate skip, residual block."""

    def __init__(self, streams: Sequence[int], trunk: Sequence[int], outputs: int) -> None:
        """Build a decoder with `outputs` channels; for the others see `TwoStreamFcn`."""
        super().__init__()
        widths = [*streams, *trunk][::-1]
        self.narrow = nn.ModuleList(
            nn.Conv2d(before, width, 1) for before, width in itertools.pairwise(widths)
        )
        # The skip features of the streams are those of background and scene, concatenated.
        self.skips = nn.ModuleList(
            [nn.Identity() for _ in trunk[:-1]]
            + [nn.Conv2d(2 * width, width, 1) for width in reversed(streams)]
        )
        self.blocks = nn.ModuleList(ResidualBlock(2 * width, width) for width in widths[1:])
        self.head = nn.Conv2d(widths[-1], outputs, 1)

    def forward(self, x_NCHW: Tensor, skips: list[Tensor]) -> Tensor:
        """Decode the coarsest features, with `skips` coarse to fine."""
        levels = zip(self.narrow, self.skips, self.blocks, skips, strict=True)
        for narrow, merge, block, skip in levels:
            x_NCHW = resize(narrow(x_NCHW), skip.shape[2:])
            x_NCHW = block(torch.cat([x_NCHW, merge(skip)], 1))
        return without_autocast(self.head, x_NCHW)


class ResidualBlock(nn.Module):
    """Two 3x3 convolutions with ReLU and batch norm, and a 1x1 convolution as shortcut."""

    def __init__(self, inputs: int, outputs: int) -> None:
        """(N, inputs, H, W) -> (N, outputs, H, W)."""
        super().__init__()
        self.convolutions = nn.Sequential(
            nn.Conv2d(inputs, outputs, 3, padding=1),
            nn.ReLU(inplace=True),
            nn.BatchNorm2d(outputs),
            nn.Conv2d(outputs, outputs, 3, padding=1),
            nn.ReLU(inplace=True),
            nn.BatchNorm2d(outputs),
        )
        self.shortcut = nn.Conv2d(inputs, outputs, 1)

    def forward(self, x_NCHW: Tensor) -> Tensor:
        """See the class."""
        return self.convolutions(x_NCHW) + self.shortcut(x_NCHW)


def blocks(inputs: int, widths: Sequence[int]) -> nn.ModuleList:
    """Create a sequence of residual blocks with the given widths."""
    before = (inputs, *widths[:-1])
    return nn.ModuleList(ResidualBlock(b, w) for b, w in zip(before, widths, strict=True))
