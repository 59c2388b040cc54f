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

"""System 002: a background and the same place with an object -> the object's depth and mask.

A fully convolutional network of residual blocks: the two pictures pass streams of their own down
to 1/4 of their size, a shared trunk to 1/32, and one decoder for each task.
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
        """Build the network; with the values given here it has 10,343,490 parameters.

        Args:
            num_classes: Semantic classes; 1 is a mask, whose logit is that of the foreground.
            tasks: What to build decoders for: "segmentation", "depth" or both.
            streams: Channels of each picture's blocks, at full size and halves of it.
            trunk: Channels of the shared blocks that follow.

        Raises:
            TrainingError: `tasks` is empty or names another task.
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
        """Perceive.

        Args:
            background_N3HW: The place without the object, values 0 to 255; the network sees them
                divided by 255, without a mean taken off.
            image_N3HW: The place with the object, likewise.

        Returns:
            At the pictures' size, of the tasks it was built for: `logits` (N, num_classes, H, W)
            and `depth` (N, 1, H, W) float32, 0 to 1.
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
    """Back up to full size: narrow, enlarge, join the skip, a residual block."""

    def __init__(self, streams: Sequence[int], trunk: Sequence[int], outputs: int) -> None:
        """Widths as of `TwoStreamFcn`, `outputs` channels in the result."""
        super().__init__()
        widths = [*streams, *trunk][::-1]
        self.narrow = nn.ModuleList(
            nn.Conv2d(before, width, 1) for before, width in itertools.pairwise(widths)
        )
        # A skip of the streams is that of the background upon that of the scene.
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
    """Twice a 3x3 convolution, ReLU and batch norm, beside a 1x1 convolution; no ReLU follows."""

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
    """One block after the other, each of the width given."""
    before = (inputs, *widths[:-1])
    return nn.ModuleList(ResidualBlock(b, w) for b, w in zip(before, widths, strict=True))
