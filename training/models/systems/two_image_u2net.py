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

"""System 001: foreground mask and dense depth from an image and a background image.

U2NETP, the small U2-Net of Qin et al. (2020), on the two images concatenated to six channels, with
one encoder and a separate decoder for each task.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from ..base import Prediction, System
from ..blocks import resize, shrink, without_autocast


class TwoImageU2Net(System):
    """Nested U-Nets: each stage of the encoder and of the decoders is a U-Net."""

    inputs = ("background", "image")
    depth_kind = "normalised"
    depth_limits = (0.0, 1.0)

    def __init__(
        self,
        num_classes: int = 1,
        tasks: Sequence[str] = ("segmentation", "depth"),
        middle: int = 16,
        width: int = 64,
    ) -> None:
        """Build the network; with default arguments it has 1,769,306 parameters.

        Args:
            num_classes: Semantic classes; 1: a mask with one foreground logit.
            tasks: Tasks with a decoder.
            middle: Channels inside a stage.
            width: Channels between stages.

        Raises:
            TrainingError: `tasks` is wrong.
        """
        super().__init__(tasks)
        self.encoder = nn.ModuleList(
            [
                ResidualU(7, 6, middle, width),
                *(ResidualU(height, width, middle, width) for height in (6, 5, 4)),
                *(ResidualU(4, width, middle, width, dilated=True) for _ in range(2)),
            ]
        )
        self.segmentation = (
            FusedDecoder(middle, width, num_classes) if "segmentation" in tasks else None
        )
        self.depth = FusedDecoder(middle, width, 1) if "depth" in tasks else None

    def forward(self, background_N3HW: Tensor, image_N3HW: Tensor) -> Prediction:
        """Predict mask and depth.

        Args:
            background_N3HW: Image without the object, values 0 to 255, which are divided by 255.
            image_N3HW: Image with the object, values 0 to 255.

        Returns:
            `logits` (N, num_classes, H, W) and `depth` (N, 1, H, W), 0 to 1, at the image size. In
            training also `side_logits` and `side_depths`: the six side outputs before fusion,
            resized to the image size for deep supervision as in the paper. Depths are float32 for
            the binary cross-entropy.
        """
        x = torch.cat([background_N3HW, image_N3HW], 1) / 255
        features: list[Tensor] = []
        for stage in self.encoder:
            x = stage(shrink(features[-1]) if features else x)
            features.append(x)
        outputs: Prediction = {}
        if self.segmentation is not None:
            outputs["logits"], sides = self.segmentation(features)
            if self.training:
                outputs["side_logits"] = sides
        if self.depth is not None:
            depth, sides = self.depth(features)
            outputs["depth"] = depth.float().sigmoid()
            if self.training:
                outputs["side_depths"] = [side.float().sigmoid() for side in sides]
        return outputs


class FusedDecoder(nn.Module):
    """Decoder up to the image size that fuses the side outputs of all stages."""

    def __init__(self, middle: int, width: int, outputs: int) -> None:
        """Build a decoder with `outputs` channels; for the others see `TwoImageU2Net`."""
        super().__init__()
        self.stages = nn.ModuleList(
            ResidualU(height, 2 * width, middle, width, dilated)
            for height, dilated in ((4, True), (4, False), (5, False), (6, False), (7, False))
        )
        self.sides = nn.ModuleList(nn.Conv2d(width, outputs, 3, padding=1) for _ in range(6))
        self.fuse = nn.Conv2d(6 * outputs, outputs, 1)

    def forward(self, features: list[Tensor]) -> tuple[Tensor, list[Tensor]]:
        """Decode features (fine to coarse); returns fused output and side outputs."""
        *skips, x = features
        decoded = [x]
        for stage, skip in zip(self.stages, reversed(skips), strict=True):
            x = stage(join(x, skip))
            decoded.append(x)
        size = features[0].shape[2:]
        decoded.reverse()
        sides = [
            resize(without_autocast(side, x), size)
            for side, x in zip(self.sides, decoded, strict=True)
        ]
        return without_autocast(self.fuse, torch.cat(sides, 1)), sides


class ResidualU(nn.Module):
    """Residual U-block (RSU): a U-Net with a shortcut.

    RSU-L halves the resolution L - 2 times. RSU-4F keeps the resolution and dilates its
    convolutions by 1, 2, 4 and 8.
    """

    def __init__(
        self, height: int, inputs: int, middle: int, outputs: int, dilated: bool = False
    ) -> None:
        """Build RSU-`height` with `middle` channels inside."""
        super().__init__()
        levels = range(height - 1)
        dilations = [2**level if dilated else 1 for level in levels]
        self.dilated = dilated
        self.first = BiasedConvNormRelu(inputs, outputs)
        self.down = nn.ModuleList(
            BiasedConvNormRelu(middle if level else outputs, middle, dilations[level])
            for level in levels
        )
        self.bottom = BiasedConvNormRelu(middle, middle, 2 * dilations[-1])
        self.up = nn.ModuleList(
            BiasedConvNormRelu(2 * middle, middle if level else outputs, dilations[level])
            for level in reversed(levels)
        )

    def forward(self, x_NCHW: Tensor) -> Tensor:
        """(N, inputs, H, W) -> (N, outputs, H, W)."""
        x = shortcut = self.first(x_NCHW)
        skips: list[Tensor] = []
        for level in self.down:
            x = level(shrink(x) if skips and not self.dilated else x)
            skips.append(x)
        x = self.bottom(x)
        for level, skip in zip(self.up, reversed(skips), strict=True):
            x = level(join(x, skip))
        return x + shortcut


class BiasedConvNormRelu(nn.Sequential):
    """3x3 convolution, batch norm, ReLU; as in the paper, with a bias that has no effect."""

    def __init__(self, inputs: int, outputs: int, dilation: int = 1) -> None:
        """(N, inputs, H, W) -> (N, outputs, H, W)."""
        super().__init__(
            nn.Conv2d(inputs, outputs, 3, padding=dilation, dilation=dilation),
            nn.BatchNorm2d(outputs),
            nn.ReLU(inplace=True),
        )


def join(x_NCHW: Tensor, skip_NCHW: Tensor) -> Tensor:
    """Resize to the size of the skip features if needed, and concatenate both."""
    if x_NCHW.shape[2:] != skip_NCHW.shape[2:]:
        x_NCHW = resize(x_NCHW, skip_NCHW.shape[2:])
    return torch.cat([x_NCHW, skip_NCHW], 1)
