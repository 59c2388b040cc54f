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

"""System 004: depth learned from video without depth truth, guided by semantic classes.

A depth network and a pose network after Monodepth2 (Godard et al. 2019); a segmentation branch on
the same encoder, whose features guide the depth decoder and whose class borders sharpen the depth.

R below marks what is reconstructed here because the system's description leaves it open.
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
    """One encoder, a segmentation decoder, a depth decoder that it guides, and a pose network."""

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
            tasks: What to build decoders for: "segmentation", "depth" or both.
            encoder: Normalised picture -> features, at least four, fine to coarse, each of half
                the resolution of the one before; with their `channels`. None: ResNet-18's from 1/2.
            decoder: Channels of the decoders, coarse to fine; so many of them are used as the
                encoder has features. The last level has twice the finest features' resolution.
            guidance: How the segmentation decoder's features act on the depth decoder's at each
                level (R): by `Modulation`, by `NeighborhoodAttention` or not at all, which is plain
                self-supervised depth. Needs both tasks; a network with one has none.
            refine: Whether to refine depth along class borders, see `BorderRefinement`. Needs both
                tasks; a network with one does not.
            pose_encoder: Like `encoder`, but of two normalised pictures stacked to six channels;
                only its coarsest features are used: `PairResNet` (None) or `LightPoseEncoder`.
            min_depth: Least depth that can be expressed, in a unit that nobody knows.
            max_depth: Greatest depth that can be expressed, in the same unit.

        Raises:
            TrainingError: An argument is none of the values above.
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
            self.views = ()  # nothing is learned from video

    def forward(self, image_N3HW: Tensor) -> Prediction:
        """Perceive.

        Args:
            image_N3HW: Picture with values 0 to 255.

        Returns:
            Of the tasks it was built for, at twice the resolution of the encoder's finest features:
            `logits` (N, num_classes, h, w) and `depth` (N, 1, h, w) float32, up to scale. In
            training also `side_depths`, the depth at the three coarser scales, finest first; and
            `features`, the depth decoder's at 1/8, 1/4 and 1/2 of the picture's
            size (levels 3, 2, 1), for the semantic triplet loss.
        """
        features = self.encoder(self.normalize(image_N3HW))
        # A picture of odd size has features rounded up: not beyond the picture.
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
        """How the camera moved.

        Args:
            image_N3HW: Picture with values 0 to 255.
            neighbor_N3HW: The one before or after it.

        Returns:
            (N, 4, 4) float32: takes points in the camera of the picture to that of the neighbour.
            Translation is in the unit of `depth`.
        """
        pair = torch.cat([self.normalize(image_N3HW), self.normalize(neighbor_N3HW)], 1)
        return transform(*self.pose_network(pair).float().split(3, 1))

    def depth_of(self, disparity_N1HW: Tensor) -> Tensor:
        """Disparity before its sigmoid -> depth, in float32 (Godard et al. 2019)."""
        least, greatest = self.disparities
        return 1 / (least + (greatest - least) * disparity_N1HW.float().sigmoid())


class Branch(nn.Module):
    """A decoder: from the coarsest features up to twice the finest ones' resolution.

    As Monodepth2's, except that convolutions pad with zeros, which every runtime does at no cost
    and features of a single row allow.
    """

    def __init__(
        self, channels: Sequence[int], widths: Sequence[int], guidance: str = "none"
    ) -> None:
        """Build a decoder.

        Args:
            channels: Of the encoder's features, fine to coarse.
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
        """Decode.

        Args:
            features: The encoder's, fine to coarse.
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
    """Semantic features scale and shift the depth features, each place and channel by its own.

    x -> (1 + gamma) x + beta, a spatial feature transform (Wang et al. 2018); that is SPADE
    (Park et al. 2019) without its norm, as these decoders have no norm either.
    """

    def __init__(self, width: int) -> None:
        """Both features have `width` channels."""
        super().__init__()
        self.gamma_and_beta = nn.Conv2d(width, 2 * width, 3, padding=1)

    def forward(self, depth_NCHW: Tensor, semantic_NCHW: Tensor) -> Tensor:
        """See the class."""
        gamma, beta = self.gamma_and_beta(semantic_NCHW).chunk(2, 1)
        return depth_NCHW * (1 + gamma) + beta


class NeighborhoodAttention(nn.Module):
    """Each place of the depth features attends to the semantic features around it.

    Cross-attention over a 3x3 window (Hassani et al. 2023, there of features to themselves): the
    cost grows with the number of pixels, not with its square, so it is fit for every level.
    Written as nine shifted copies, which are plain slices in an exported graph.
    """

    def __init__(self, width: int) -> None:
        """Both features have `width` channels."""
        super().__init__()
        self.query = nn.Conv2d(width, width, 1)
        self.key_and_value = nn.Conv2d(width, 2 * width, 1)
        self.merge = nn.Conv2d(width, width, 1)

    def forward(self, depth_NCHW: Tensor, semantic_NCHW: Tensor) -> Tensor:
        """Return the depth features with what they found added."""
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
        found = [weight * value for weight, (_, value) in zip(weights, around, strict=True)]
        return depth_NCHW + self.merge(sum(found[1:], found[0]))


GUIDANCE: dict[str, type[nn.Module] | None] = {
    "modulation": Modulation,
    "attention": NeighborhoodAttention,
    "none": None,
}


class BorderRefinement(nn.Module):
    """A residual of the disparity from a small point-wise network, along class borders only (R).

    PointRend (Kirillov et al. 2020) picks the most uncertain points and passes each through a small
    MLP. Here the points are all those at borders between classes, certain or not. The MLP is 1x1
    convolutions over all points, its residual multiplied by the mask of the borders: picking points
    is what graphs for fixed-shape runtimes cannot express.
    """

    def __init__(self, features: int, num_classes: int, width: int = 32) -> None:
        """`features` channels of depth and semantic features, `width` channels inside."""
        super().__init__()
        self.points = nn.Sequential(
            nn.Conv2d(1 + features + num_classes, width, 1),
            nn.ReLU(inplace=True),
            nn.Conv2d(width, width, 1),
            nn.ReLU(inplace=True),
            nn.Conv2d(width, 1, 1),
        )

    def forward(self, disparity_N1HW: Tensor, features_NCHW: Tensor, logits_NCHW: Tensor) -> Tensor:
        """Residual (N, 1, H, W) of the disparity before its sigmoid, zero off the borders."""
        # Detached: classes are for labels to teach, not for whatever suits the depth.
        classes = class_probabilities(logits_NCHW.detach())
        said = torch.cat([disparity_N1HW, features_NCHW, classes], 1)
        residual = without_autocast(self.points[-1], self.points[:-1](said))
        return residual * class_borders(logits_NCHW)


def class_probabilities(logits_NCHW: Tensor) -> Tensor:
    """Softmax over the classes; of a single one, the foreground's, the sigmoid."""
    return logits_NCHW.sigmoid() if logits_NCHW.shape[1] == 1 else logits_NCHW.softmax(1)


def class_borders(logits_NCHW: Tensor) -> Tensor:
    """(N, 1, H, W): 1 where the best class is not the same in the 3x3 pixels around, else 0."""
    if logits_NCHW.shape[1] == 1:
        labels = (logits_NCHW > 0).to(logits_NCHW.dtype)
    else:
        labels = logits_NCHW.argmax(1, keepdim=True).to(logits_NCHW.dtype)
    highest = F.max_pool2d(labels, 3, 1, 1)
    lowest = -F.max_pool2d(-labels, 3, 1, 1)
    return (highest > lowest).to(logits_NCHW.dtype)


class PairResNet(StandardResNet):
    """ResNet of two pictures.

    From a file of weights, the first convolution has those of one picture twice and halved, so that
    of two pictures that are the same it makes what it would make of one (Godard et al. 2019).
    """

    def __init__(self, layers: int = 18, weights: Path | None = None, width: int = 64) -> None:
        """As `StandardResNet`."""
        super().__init__(layers, weights, width=width)
        of_one = self.conv1.weight.detach()
        self.conv1 = nn.Conv2d(6, width, 7, 2, 3, bias=False)
        if weights is not None:
            self.conv1.weight = nn.Parameter(torch.cat([of_one, of_one], 1) / 2)


class LightPoseEncoder(Encoder):
    """Seven convolutions of stride 2, as the pose network of SfMLearner (Zhou et al. 2017)."""

    def __init__(self, widths: Sequence[int] = (16, 32, 64, 128, 256, 256, 256)) -> None:
        """`widths` are the channels of each convolution."""
        super().__init__()
        self.channels = tuple(widths)
        layers: list[nn.Module] = []
        for level, (before, width) in enumerate(zip((6, *widths[:-1]), widths, strict=True)):
            kernel = (7, 5)[level] if level < 2 else 3
            layers += [nn.Conv2d(before, width, kernel, 2, kernel // 2), nn.ReLU(inplace=True)]
        self.layers = nn.Sequential(*layers)

    def forward(self, pair_N6HW: Tensor) -> list[Tensor]:
        """Two normalised pictures -> the coarsest features alone."""
        return [self.layers(pair_N6HW)]


class PoseNetwork(nn.Module):
    """Two pictures -> small motion, with the decoder of Monodepth2's pose network."""

    def __init__(self, encoder: Encoder, width: int = 256) -> None:
        """`width` channels in the decoder."""
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
        """(N, 6): rotation vector in radians and translation, both scaled to start out small."""
        features = self.decoder[:-1](self.encoder(pair_N6HW)[-1])
        return 0.01 * without_autocast(self.decoder[-1], features).mean((2, 3))


def transform(rotation_N3: Tensor, translation_N3: Tensor) -> Tensor:
    """Rotation vector (axis times angle in radians) and translation -> (N, 4, 4).

    Rodrigues' formula, R = cos(a) I + sin(a)/a [v]x + (1 - cos(a))/a^2 v v^T with a = |v|, in terms
    of sinc, so that values and gradients are right down to no rotation at all.
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
