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

"""System 004: self-supervised depth from video, guided by semantic classes.

Depth and pose networks follow Monodepth2 (Godard et al. 2019). A segmentation decoder on the same
encoder guides the depth decoder with its features and refines depth at class borders.

(R) marks details that the description of the system does not define.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ...errors import TrainingError
from ..base import Prediction, System
from ..blocks import Normalize, without_autocast
from ..encoders import Encoder, StandardResNet

DISPARITY_SCALES = 4


class SemanticGuided(System):
    """One encoder, a segmentation decoder, a guided depth decoder, and a pose network."""

    depth_kind = "up-to-scale"
    depth_limits = (0.0, math.inf)
    views: tuple[str, ...] = ("previous", "next")

    def __init__(
        self,
        num_classes: int = 19,
        tasks: Sequence[str] = ("segmentation", "depth"),
        encoder: Encoder | None = None,
        decoder: Sequence[int] = (256, 128, 64, 32, 16),
        guidance: Literal["modulation", "attention", "none"] = "modulation",
        refine: bool = True,
        pose_encoder: Encoder | None = None,
        min_depth: float = 0.1,
        max_depth: float = 100.0,
    ) -> None:
        """Build the network.

        Args:
            num_classes: Semantic classes.
            tasks: Tasks with a decoder.
            encoder: An encoder with at least four features, each with half the resolution of the
                one before. None: ResNet-18 with features from 1/2.
            decoder: Channels of the decoders, coarse to fine; as many are used as the encoder has
                features. The last level has twice the resolution of the finest features.
            guidance: How segmentation features guide the depth decoder at each level (R):
                `Modulation`, `NeighborhoodAttention`, or "none" for plain self-supervised depth.
                Ignored unless there are both tasks.
            refine: Whether to refine depth at class borders, see `BorderRefinement`. Ignored unless
                there are both tasks.
            pose_encoder: An encoder for two normalised images concatenated to six channels; only
                its coarsest features are used. `PairResNet` (None) or `LightPoseEncoder`.
            min_depth: Minimum depth, in an unknown unit.
            max_depth: Maximum depth, in the same unit.

        Raises:
            TrainingError: an argument is invalid.
        """
        super().__init__(tasks)
        if guidance not in GUIDANCE:
            raise TrainingError(f"guidance is {guidance!r}, expected one of {list(GUIDANCE)}")
        if not 0 < min_depth < max_depth:
            raise TrainingError(
                f"min_depth is {min_depth}, max_depth {max_depth}, expected 0 < min < max"
            )
        self.normalize = Normalize()
        self.encoder = StandardResNet(18, half=True) if encoder is None else encoder
        channels = self.encoder.channels
        if not DISPARITY_SCALES <= len(channels) <= len(decoder):
            raise TrainingError(
                f"the encoder has {len(channels)} features, the decoder {len(decoder)} widths,"
                f" expected at least {DISPARITY_SCALES} features and as many widths"
            )
        widths = tuple(decoder[: len(channels)])
        self.disparities = (1 / max_depth, 1 / min_depth)
        self.segmentation = Branch(channels, widths) if "segmentation" in tasks else None
        if self.segmentation is not None:
            self.classify = nn.Conv2d(widths[-1], num_classes, 3, padding=1)
        self.depth: Branch | None = None
        self.refinement: BorderRefinement | None = None
        if "depth" in tasks:
            joint = self.segmentation is not None
            self.depth = Branch(channels, widths, guidance if joint else "none")
            self.heads = nn.ModuleList(
                nn.Conv2d(width, 1, 3, padding=1) for width in widths[-DISPARITY_SCALES:]
            )
            if refine and joint:
                self.refinement = BorderRefinement(2 * widths[-1], num_classes)
            self.pose_network = PoseNetwork(PairResNet() if pose_encoder is None else pose_encoder)
        else:
            self.views = ()  # segmentation does not need video

    def forward(self, image_N3HW: Tensor) -> Prediction:
        """Predict segmentation and depth.

        Args:
            image_N3HW: Image with values 0 to 255.

        Returns:
            `logits` (N, num_classes, h, w) and `depth` (N, 1, h, w) float32, up to scale, at twice
            the resolution of the finest encoder features. In training also `side_depths` at the
            three coarser scales, and `features` of the depth decoder at 1/8, 1/4 and 1/2 of the
            image size (levels 3, 2, 1) for the semantic triplet loss.
        """
        features = self.encoder(self.normalize(image_N3HW))
        # Feature sizes are rounded up for odd images: limit the output to the image size.
        size = [
            min(2 * fine, full)
            for fine, full in zip(features[0].shape[2:], image_N3HW.shape[2:], strict=True)
        ]
        outputs: Prediction = {}
        semantics = None
        if self.segmentation is not None:
            semantics = self.segmentation(features, size)
            outputs["logits"] = without_autocast(self.classify, semantics[-1])
        if self.depth is not None:
            decoded = self.depth(features, size, semantics)
            disparity = without_autocast(self.heads[-1], decoded[-1])
            if self.refinement is not None and semantics is not None:
                finest = torch.cat([decoded[-1], semantics[-1]], 1)
                disparity = disparity + self.refinement(disparity, finest, outputs["logits"])
            outputs["depth"] = self.depth_of(disparity)
            if self.training:
                coarser = zip(self.heads[:-1], decoded[-DISPARITY_SCALES:-1], strict=True)
                side_depths = [self.depth_of(without_autocast(head, x)) for head, x in coarser]
                outputs["side_depths"] = side_depths[::-1]
                outputs["features"] = decoded[1:4]
        return outputs

    def pose(self, image_N3HW: Tensor, neighbor_N3HW: Tensor) -> Tensor:
        """Estimate the camera motion.

        Args:
            image_N3HW: Image with values 0 to 255.
            neighbor_N3HW: The previous or next image.

        Returns:
            (N, 4, 4) float32: transforms points from the camera frame of the image to that of the
            neighbour. Translation is in the unit of `depth`.
        """
        pair = torch.cat([self.normalize(image_N3HW), self.normalize(neighbor_N3HW)], 1)
        return transform(*self.pose_network(pair).float().split(3, 1))

    def depth_of(self, disparity_N1HW: Tensor) -> Tensor:
        """Convert disparity before the sigmoid to depth, in float32 (Godard et al. 2019)."""
        least, greatest = self.disparities
        return 1 / (least + (greatest - least) * disparity_N1HW.float().sigmoid())


class Branch(nn.Module):
    """Decoder of Monodepth2, up to twice the resolution of the finest features.

    Unlike there, convolutions use zero padding, which costs nothing and works for a single row.
    """

    def __init__(
        self, channels: Sequence[int], widths: Sequence[int], guidance: str = "none"
    ) -> None:
        """Build a decoder.

        Args:
            channels: Channels of the encoder features, fine to coarse.
            widths: Channels after each level, coarse to fine.
            guidance: A name in `GUIDANCE`.
        """
        super().__init__()
        before = (channels[-1], *widths[:-1])
        skips = (*channels[-2::-1], 0)
        self.narrow = nn.ModuleList(
            ConvElu(b, width) for b, width in zip(before, widths, strict=True)
        )
        self.join = nn.ModuleList(
            ConvElu(width + skip, width) for width, skip in zip(widths, skips, strict=True)
        )
        guide = GUIDANCE[guidance]
        self.guides = None if guide is None else nn.ModuleList(guide(width) for width in widths)

    def forward(
        self, features: list[Tensor], size: Sequence[int], guides: list[Tensor] | None = None
    ) -> list[Tensor]:
        """Decode features.

        Args:
            features: Encoder features, fine to coarse.
            size: Height and width of the last level.
            guides: Semantic features of each level, coarse to fine.

        Returns:
            Features of each level, coarse to fine.
        """
        *skips, x = features
        decoded = []
        for level, (narrow, join) in enumerate(zip(self.narrow, self.join, strict=True)):
            skip = [skips[-1 - level]] if level < len(skips) else []  # the last level has none
            to = skip[0].shape[2:] if skip else size
            x = F.interpolate(narrow(x), size=tuple(to), mode="nearest")
            x = join(torch.cat([x, *skip], 1))
            if self.guides is not None and guides is not None:
                x = self.guides[level](x, guides[level])
            decoded.append(x)
        return decoded


class ConvElu(nn.Sequential):
    """3x3 convolution and ELU."""

    def __init__(self, inputs: int, outputs: int) -> None:
        """(N, inputs, H, W) -> (N, outputs, H, W)."""
        super().__init__(nn.Conv2d(inputs, outputs, 3, padding=1), nn.ELU(inplace=True))


class Modulation(nn.Module):
    """Scale and shift depth features by values predicted from semantic features, per pixel.

    x -> (1 + gamma) x + beta, a spatial feature transform (Wang et al. 2018). This is SPADE (Park
    et al. 2019) without its normalisation, since these decoders have none.
    """

    def __init__(self, width: int) -> None:
        """Build the module for two feature maps with `width` channels."""
        super().__init__()
        self.gamma_and_beta = nn.Conv2d(width, 2 * width, 3, padding=1)

    def forward(self, depth_NCHW: Tensor, semantic_NCHW: Tensor) -> Tensor:
        """See the class."""
        gamma, beta = self.gamma_and_beta(semantic_NCHW).chunk(2, 1)
        return depth_NCHW * (1 + gamma) + beta


class NeighborhoodAttention(nn.Module):
    """Cross-attention from depth features to semantic features in a 3x3 window.

    Like the self-attention of Hassani et al. (2023). The cost is linear in the number of pixels, so
    it can be used at every level. Implemented with nine shifted copies, which are exported as
    slices.
    """

    def __init__(self, width: int) -> None:
        """Build the module for two feature maps with `width` channels."""
        super().__init__()
        self.query = nn.Conv2d(width, width, 1)
        self.key_and_value = nn.Conv2d(width, 2 * width, 1)
        self.merge = nn.Conv2d(width, width, 1)

    def forward(self, depth_NCHW: Tensor, semantic_NCHW: Tensor) -> Tensor:
        """Add attended semantic features to the depth features."""
        width, height, columns = depth_NCHW.shape[1:]
        query = self.query(depth_NCHW) * width**-0.5
        padded = F.pad(self.key_and_value(semantic_NCHW), (1, 1, 1, 1), mode="replicate")
        around = [
            padded[:, :, y : y + height, x : x + columns].chunk(2, 1)
            for y in range(3)
            for x in range(3)
        ]
        scores = torch.cat([(query * key).sum(1, keepdim=True) for key, _ in around], 1)
        weights = scores.softmax(1).split(1, 1)
        attended = [weight * value for weight, (_, value) in zip(weights, around, strict=True)]
        return depth_NCHW + self.merge(sum(attended[1:], attended[0]))


GUIDANCE: dict[str, type[nn.Module] | None] = {
    "modulation": Modulation,
    "attention": NeighborhoodAttention,
    "none": None,
}


class BorderRefinement(nn.Module):
    """Disparity residual at class borders from a small point-wise network (R).

    PointRend (Kirillov et al. 2020) applies a small MLP to the most uncertain points. Here, all
    points at class borders are refined. The MLP consists of 1x1 convolutions over the full image,
    and its output is masked, because fixed-shape runtimes cannot select points.
    """

    def __init__(self, features: int, num_classes: int, width: int = 32) -> None:
        """Build the network for `features` channels, with `width` hidden channels."""
        super().__init__()
        self.points = nn.Sequential(
            nn.Conv2d(1 + features + num_classes, width, 1),
            nn.ReLU(inplace=True),
            nn.Conv2d(width, width, 1),
            nn.ReLU(inplace=True),
            nn.Conv2d(width, 1, 1),
        )

    def forward(self, disparity_N1HW: Tensor, features_NCHW: Tensor, logits_NCHW: Tensor) -> Tensor:
        """Predict the residual (N, 1, H, W) of disparity before the sigmoid, 0 off the borders."""
        # Detached, so that only labels supervise the classes.
        classes = class_probabilities(logits_NCHW.detach())
        x = torch.cat([disparity_N1HW, features_NCHW, classes], 1)
        residual = without_autocast(self.points[-1], self.points[:-1](x))
        return residual * class_borders(logits_NCHW)


def class_probabilities(logits_NCHW: Tensor) -> Tensor:
    """Softmax over the classes, or sigmoid of a single foreground logit."""
    return logits_NCHW.sigmoid() if logits_NCHW.shape[1] == 1 else logits_NCHW.softmax(1)


def class_borders(logits_NCHW: Tensor) -> Tensor:
    """Mark pixels with different predicted classes in their 3x3 window: (N, 1, H, W), 1 or 0."""
    if logits_NCHW.shape[1] == 1:
        labels = (logits_NCHW > 0).to(logits_NCHW.dtype)
    else:
        labels = logits_NCHW.argmax(1, keepdim=True).to(logits_NCHW.dtype)
    highest = F.max_pool2d(labels, 3, 1, 1)
    lowest = -F.max_pool2d(-labels, 3, 1, 1)
    return (highest > lowest).to(logits_NCHW.dtype)


class PairResNet(StandardResNet):
    """ResNet for two images.

    Pretrained weights of the first convolution are duplicated and halved, so that two equal images
    give the same features as one (Godard et al. 2019).
    """

    def __init__(self, layers: int = 18, weights: Path | None = None, width: int = 64) -> None:
        """Build the encoder, see `StandardResNet`."""
        super().__init__(layers, weights, width=width)
        pretrained = self.conv1.weight.detach()
        self.conv1 = nn.Conv2d(6, width, 7, 2, 3, bias=False)
        if weights is not None:
            self.conv1.weight = nn.Parameter(torch.cat([pretrained, pretrained], 1) / 2)


class LightPoseEncoder(Encoder):
    """Seven convolutions with stride 2, from the pose network of SfMLearner (Zhou et al. 2017)."""

    def __init__(self, widths: Sequence[int] = (16, 32, 64, 128, 256, 256, 256)) -> None:
        """Build the encoder; `widths` are the channels of the convolutions."""
        super().__init__()
        self.channels = tuple(widths)
        layers: list[nn.Module] = []
        for level, (before, width) in enumerate(zip((6, *widths[:-1]), widths, strict=True)):
            kernel = (7, 5)[level] if level < 2 else 3
            layers += [nn.Conv2d(before, width, kernel, 2, kernel // 2), nn.ReLU(inplace=True)]
        self.layers = nn.Sequential(*layers)

    def forward(self, pair_N6HW: Tensor) -> list[Tensor]:
        """Extract only the coarsest features from two normalised images."""
        return [self.layers(pair_N6HW)]


class PoseNetwork(nn.Module):
    """Camera motion from two images, with the decoder of Monodepth2's pose network."""

    def __init__(self, encoder: Encoder, width: int = 256) -> None:
        """Build the network with `width` channels in the decoder."""
        super().__init__()
        self.encoder = encoder
        self.decoder = nn.Sequential(
            nn.Conv2d(encoder.channels[-1], width, 1),
            nn.ReLU(inplace=True),
            nn.Conv2d(width, width, 3, padding=1),
            nn.ReLU(inplace=True),
            nn.Conv2d(width, width, 3, padding=1),
            nn.ReLU(inplace=True),
            nn.Conv2d(width, 6, 1),
        )

    def forward(self, pair_N6HW: Tensor) -> Tensor:
        """Predict (N, 6): rotation vector in radians and translation, initially small."""
        features = self.decoder[:-1](self.encoder(pair_N6HW)[-1])
        return 0.01 * without_autocast(self.decoder[-1], features).mean((2, 3))


def transform(rotation_N3: Tensor, translation_N3: Tensor) -> Tensor:
    """Convert rotation vector (axis times angle in radians) and translation to (N, 4, 4).

    Rodrigues' formula, R = cos(a) I + sin(a)/a [v]x + (1 - cos(a))/a^2 v v^T with a = |v|. It uses
    sinc, so values and gradients are correct at zero rotation too.
    """
    angle = torch.linalg.vector_norm(rotation_N3, dim=1)[:, None, None]
    x, y, z = rotation_N3.unbind(1)
    zero = torch.zeros_like(x)
    cross = torch.stack([zero, -z, y, z, zero, -x, -y, x, zero], 1).unflatten(1, (3, 3))
    outer = rotation_N3[:, :, None] * rotation_N3[:, None, :]
    rotation = (
        angle.cos() * torch.eye(3, device=x.device, dtype=x.dtype)
        + torch.sinc(angle / torch.pi) * cross
        + 0.5 * torch.sinc(angle / (2 * torch.pi)) ** 2 * outer
    )
    last = torch.tensor([0, 0, 0, 1], device=x.device, dtype=x.dtype).expand(len(x), 1, 4)
    return torch.cat([torch.cat([rotation, translation_N3[:, :, None]], 2), last], 1)
