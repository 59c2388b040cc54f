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

"""System 000, DepthSegNet: one encoder, a depth decoder and a segmentation decoder, for streets.

Encoders and depth decoder follow unsupervised monocular depth from stereo pairs (Godard et al.
2017): no normalisation layers, ELU, and disparities at four scales, each an input of the next finer
one. The segmentation decoder has the same architecture and input. Parameters of encoder and depth
decoder: 31,600,072 with the VGG-like encoder and 58,452,008 with the ResNet-50. With segmentation:
about 48.9 and 78.9 million.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from itertools import pairwise
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ...errors import TrainingError
from ..base import Prediction, System
from ..blocks import Normalize, without_autocast
from ..encoders import Encoder, load_weights

SCALES = 4


class DepthSegNet(System):
    """Encoder, depth decoder, segmentation decoder."""

    depth_kind = "metric"
    depth_limits = (0.0, math.inf)
    views = ("right",)

    def __init__(
        self,
        num_classes: int = 19,
        tasks: Sequence[str] = ("segmentation", "depth"),
        encoder: Encoder | None = None,
        decoder: Sequence[int] = (16, 32, 64, 128, 256, 512, 512),
        focal_baseline: float = 0.231,
        freeze_depth: bool = False,
        depth_weights: Path | None = None,
    ) -> None:
        """Build the network.

        Args:
            num_classes: Semantic classes.
            tasks: Tasks with a decoder.
            encoder: An encoder with at least four features at 1/2, 1/4, ... of the image size:
                `Vgg` (None), `ResNet50`, or one of `training.models.encoders` with `half`.
            decoder: Channels of the decoders at 1/1, 1/2, ...; at least as many as the encoder has
                features.
            focal_baseline: Canonical depth in metres times disparity as a fraction of the image
                width: canonical_fx * baseline / width of the training images. The default 0.231 is
                for full images of Cityscapes and its camera: 2262.5 px * 0.2093 m / 2048 px.
            freeze_depth: Freeze encoder and depth decoder, including batch norm statistics, and
                train only the segmentation decoder.
            depth_weights: A training checkpoint of this system to load encoder and depth decoder
                from.

        Raises:
            TrainingError: an option is wrong or the checkpoint does not fit.
        """
        super().__init__(tasks)
        if freeze_depth and "segmentation" not in tasks:
            raise TrainingError(
                "freeze_depth without the task segmentation: there is nothing to train"
            )
        self.encoder = Vgg() if encoder is None else encoder
        channels = self.encoder.channels
        if not SCALES <= len(channels) <= len(decoder):
            raise TrainingError(
                f"the encoder has features at {len(channels)} resolutions, "
                f"expected {SCALES} to {len(decoder)}, one for each width of the decoder"
            )
        self.depth = self.segmentation = None
        if "depth" in tasks:
            self.depth = SkipDecoder(channels, decoder, 2, SCALES, to_disparity)
        if "segmentation" in tasks:
            self.segmentation = SkipDecoder(channels, decoder, num_classes)
        self.focal_baseline = focal_baseline
        self.normalize = Normalize()
        if depth_weights is not None:
            load_weights(self.encoder, depth_weights, prefix="system.encoder.")
            if self.depth is not None:
                load_weights(self.depth, depth_weights, prefix="system.depth.")
        self.needs_weights = freeze_depth and depth_weights is None
        self.frozen: list[nn.Module] = []
        if freeze_depth:
            self.frozen = [m for m in (self.encoder, self.depth) if m is not None]
            for module in self.frozen:
                module.requires_grad_(False)

    def train(self, mode: bool = True) -> DepthSegNet:
        """Set the training mode; frozen parts stay in evaluation mode."""
        super().train(mode)
        for module in self.frozen:
            module.eval()
        return self

    def forward(self, image_N3HW: Tensor) -> Prediction:
        """Predict `logits` and `depth` (canonical metres) at the image size; values 0 to 255.

        In training also `disparities` at four scales, and `side_depths` at the three coarser
        scales from the disparities of the left image.
        """
        size = image_N3HW.shape[2:]
        features = self.encoder(self.normalize(image_N3HW))
        prediction: Prediction = {}
        if self.segmentation is not None:
            prediction["logits"] = self.segmentation(features, size)[0]
        if self.depth is not None:
            disparities = self.depth(features, size)
            # The minimum disparity keeps depth finite; it is thousands of baselines away.
            depths = [self.focal_baseline / d[:, :1].clamp(min=1e-4) for d in disparities]
            prediction["depth"] = depths[0]
            if self.training:
                prediction |= {"disparities": disparities, "side_depths": depths[1:]}
        return prediction


class SkipDecoder(nn.Module):
    """Decoder with skip connections up to the image size.

    Each level upsamples, convolves, concatenates the skip features and the output of the next
    coarser scale, and convolves again.
    """

    def __init__(
        self,
        channels: Sequence[int],
        widths: Sequence[int],
        outputs: int,
        scales: int = 1,
        activation: Callable[[Tensor], Tensor] | None = None,
    ) -> None:
        """Build a decoder.

        Args:
            channels: Channels of the features at 1/2, 1/4, ...
            widths: Channels of the levels at 1/1, 1/2, ...; extra ones are ignored.
            outputs: Channels of the output.
            scales: Number of scales with an output: 1/1, 1/2, ...
            activation: Activation of the outputs.
        """
        super().__init__()
        self.activation = activation
        self.enlarge, self.join, self.heads = nn.ModuleList(), nn.ModuleList(), nn.ModuleList()
        before = channels[-1]
        for level in reversed(range(len(channels))):
            skip = channels[level - 1] if level > 0 else 0
            coarser = outputs if level + 1 < scales else 0
            self.enlarge.append(conv_elu(before, widths[level]))
            self.join.append(conv_elu(widths[level] + skip + coarser, widths[level]))
            if level < scales:
                self.heads.append(conv(widths[level], outputs))
            before = widths[level]

    def forward(self, features: list[Tensor], size: torch.Size) -> list[Tensor]:
        """Decode features (fine to coarse) to `size`; returns the outputs, fine to coarse."""
        x, *skips = reversed(features)
        first_head = len(self.join) - len(self.heads)
        outputs: list[Tensor] = []
        for level, (enlarge, join) in enumerate(zip(self.enlarge, self.join, strict=True)):
            skip = skips[level : level + 1]  # the last level has none
            level_size = tuple(skip[0].shape[2:] if skip else size)
            inputs = [enlarge(F.interpolate(x, size=level_size)), *skip]
            inputs += [F.interpolate(o, size=level_size).to(x.dtype) for o in outputs[:1]]
            x = join(torch.cat(inputs, 1))
            if level >= first_head:
                output = without_autocast(self.heads[level - first_head], x)
                outputs.insert(0, output if self.activation is None else self.activation(output))
        return outputs


class Vgg(Encoder):
    """Pairs of convolutions, the second of stride 2: features at 1/2, 1/4, ... 1/128."""

    def __init__(
        self,
        widths: Sequence[int] = (32, 64, 128, 256, 512, 512, 512),
        kernels: Sequence[int] = (7, 5, 3, 3, 3, 3, 3),
    ) -> None:
        """Build the encoder.

        Args:
            widths: Channels of the pairs.
            kernels: Kernel sizes of the pairs; extra ones are ignored.
        """
        super().__init__()
        self.channels = tuple(widths)
        self.pairs = nn.ModuleList(
            nn.Sequential(conv_elu(before, after, kernel), conv_elu(after, after, kernel, 2))
            for (before, after), kernel in zip(pairwise((3, *widths)), kernels, strict=False)
        )

    def forward(self, image_N3HW: Tensor) -> list[Tensor]:
        """See `Encoder`."""
        x = image_N3HW
        features = []
        for pair in self.pairs:
            x = pair(x)
            features.append(x)
        return features


class ResNet50(Encoder):
    """ResNet-50 of Godard et al.: ELU, no normalisation, a projection in every block.

    The last block of each stage has the stride. Features at 1/2 (stem), 1/4 (max pooling), 1/8,
    1/16, 1/32 and 1/64. For ImageNet weights use
    `training.models.encoders.StandardResNet(50, half=True)`.
    """

    def __init__(self, width: int = 64, depths: Sequence[int] = (3, 4, 6, 3)) -> None:
        """Build the encoder.

        Args:
            width: Channels of the stem.
            depths: Blocks of the stages.
        """
        super().__init__()
        self.channels = (width, width, *(4 * width * 2**stage for stage in range(len(depths))))
        self.stem = conv_elu(3, width, 7, 2)
        stages = []
        before = width
        for stage, depth in enumerate(depths):
            blocks = []
            for block in range(depth):
                stride = 2 if block == depth - 1 else 1
                blocks.append(ProjectedBottleneck(before, width * 2**stage, stride))
                before = 4 * width * 2**stage
            stages.append(nn.Sequential(*blocks))
        self.stages = nn.ModuleList(stages)

    def forward(self, image_N3HW: Tensor) -> list[Tensor]:
        """See `Encoder`."""
        stem = self.stem(image_N3HW)
        x = F.max_pool2d(stem, 3, 2, 1)
        features = [stem, x]
        for stage in self.stages:
            x = stage(x)
            features.append(x)
        return features


class ProjectedBottleneck(nn.Module):
    """1x1, 3x3 and 1x1 convolutions with a 1x1 convolution as shortcut."""

    def __init__(self, inputs: int, width: int, stride: int) -> None:
        """(N, inputs, H, W) -> (N, 4 width, H / stride, W / stride)."""
        super().__init__()
        self.convolutions = nn.Sequential(
            conv_elu(inputs, width, 1),
            conv_elu(width, width, 3, stride),
            conv(width, 4 * width, 1),
        )
        self.projection = conv(inputs, 4 * width, 1, stride)

    def forward(self, x_NCHW: Tensor) -> Tensor:
        """See the class."""
        return F.elu(self.convolutions(x_NCHW) + self.projection(x_NCHW))


def to_disparity(x_NCHW: Tensor) -> Tensor:
    """Convert to disparity as a fraction of the image width, 0 to 0.3, float32."""
    return 0.3 * torch.sigmoid(x_NCHW.float())


def conv(inputs: int, outputs: int, kernel: int = 3, stride: int = 1) -> nn.Conv2d:
    """Create a convolution with "same" padding and Glorot initialisation (2010)."""
    layer = nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2)
    nn.init.xavier_uniform_(layer.weight)
    nn.init.zeros_(layer.get_parameter("bias"))
    return layer


def conv_elu(inputs: int, outputs: int, kernel: int = 3, stride: int = 1) -> nn.Sequential:
    """Create a `conv` with ELU (Clevert et al. 2016)."""
    return nn.Sequential(conv(inputs, outputs, kernel, stride), nn.ELU(inplace=True))
