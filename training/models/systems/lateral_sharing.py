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

"""System 003: a depth branch and a semantic branch that share features laterally, for rooms.

A ResNet-50 whose last two stages keep stride 1 (240x320 -> 30x40x2048), and for each task a branch
of four 2x2 deconvolutions. Lateral sharing units carry what either branch has found over to both
(Jiao et al. 2018). What a branch says is the sum of its up-skips: the backbone's output and each
deconvolution's, brought to the picture's size.

Parameters: the original's count of 32,876,002 is for a target of three colours, and counts the
running statistics of the backbone's norms (53,120) and biases of its convolutions (26,560), which
the norms make idle and which are not here. So this network has 32,796,322 with three outputs in
place of its class logits, and C classes cost 3014 C + C^2: 32,826,622 with 13. In the original the
depth's second deconvolution reads the semantic branch by a slip; the right wiring counts the same.

What the original does not say is settled so: ReLU behind all deconvolutions but the last; units
start as the mean of both branches; the last up-skip has no ReLU, so that logits take either sign;
depth is the softplus of the sum, which is the sum itself where that is large and always positive.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from itertools import pairwise
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..base import Prediction, System
from ..blocks import Normalize, resize, without_autocast
from ..encoders import Encoder, StandardResNet

# A millimetre: far below what is seen, and logarithms of the depth stay finite.
LEAST_DEPTH = 1e-3


class LateralSharing(System):
    """One backbone, two branches, lateral sharing units between them."""

    depth_kind = "metric"
    depth_limits = (0.0, math.inf)
    branches: Mapping[str, Branch]

    def __init__(
        self,
        num_classes: int = 13,
        tasks: Sequence[str] = ("segmentation", "depth"),
        sharing: bool = True,
        weights: Path | None = None,
        encoder: Encoder | None = None,
        widths: tuple[int, int, int] = (512, 128, 64),
    ) -> None:
        """Build the network.

        Args:
            num_classes: Semantic classes.
            tasks: What to build branches for; one alone has nothing to share.
            sharing: Whether there are lateral sharing units; without them it is the same network,
                for comparison.
            weights: torchvision's file of the ResNet-50's weights on ImageNet; None: start from
                random weights.
            encoder: Of `training.models.encoders`, in place of the ResNet-50; its coarsest
                features are taken, at 1/8 or smaller.
            widths: Channels of the first three deconvolutions.

        Raises:
            TrainingError: `tasks` has none or an unknown one, or the weights do not fit.
        """
        super().__init__(tasks)
        if encoder is None:
            encoder = StandardResNet(50, weights, output_stride=8)
        self.encoder = encoder
        outputs = {"segmentation": num_classes, "depth": 1}
        self.branches = nn.ModuleDict(  # type: ignore[assignment]  # its values are Branch
            {task: Branch(encoder.channels[-1], widths, outputs[task]) for task in tasks}
        )
        self.units = nn.ModuleList()
        if sharing and len(self.branches) == 2:
            self.units.extend(LateralSharingUnit(a, b) for a, b in pairwise(widths))
        self.normalize = Normalize()

    def forward(self, image_N3HW: Tensor) -> Prediction:
        """Picture with values 0 to 255 -> `logits` and `depth` (canonical metres), at its size."""
        backbone = self.encoder(self.normalize(image_N3HW))[-1]
        maps = {task: [backbone] for task in self.branches}
        for index in range(4):
            # What the deconvolution before the last one gave goes beside what the last one gave.
            shared = None
            if self.units and index >= 2:
                unit = self.units[index - 2]
                shared = unit(maps["depth"][index - 1], maps["segmentation"][index - 1])
            for task, branch in self.branches.items():
                x = maps[task][-1]
                x = x if shared is None else x + shared
                if index < 3:
                    maps[task].append(F.relu(branch.deconvolutions[index](x)))
                else:
                    maps[task].append(without_autocast(branch.deconvolutions[index], x))
        prediction: Prediction = {}
        for task, branch in self.branches.items():
            said = branch.sum_up(maps[task], image_N3HW.shape[2:])
            if task == "depth":
                prediction["depth"] = F.softplus(said.float()) + LEAST_DEPTH
            else:
                prediction["logits"] = said
        return prediction


class Branch(nn.Module):
    """What one task has of its own: four deconvolutions and five up-skips."""

    def __init__(self, inputs: int, widths: Sequence[int], outputs: int) -> None:
        """Build it for (N, inputs, H, W), where `widths` are those of the first deconvolutions."""
        super().__init__()
        channels = (inputs, *widths, outputs)
        self.deconvolutions = nn.ModuleList(
            nn.ConvTranspose2d(before, after, 2, 2) for before, after in pairwise(channels)
        )
        self.up_skips = nn.ModuleList(nn.Conv2d(width, outputs, 1) for width in channels)
        for skip in self.up_skips[:-1]:
            # With a single output, a ReLU that starts below zero everywhere would stay there.
            nn.init.ones_(skip.get_parameter("bias"))

    def sum_up(self, maps: Sequence[Tensor], size: torch.Size) -> Tensor:
        """Sum the up-skips of the backbone's output and of the deconvolutions', at `size`."""
        # Resizing and 1x1 convolutions may change places; this way there is less to resize.
        *skips, said = (
            resize(without_autocast(skip, x), size)
            for skip, x in zip(self.up_skips, maps, strict=True)
        )
        for skip in skips:
            said = said + F.relu(skip)
        return said


class LateralSharingUnit(nn.Module):
    """Mixes both branches' features channel by channel and deconvolves them to the next width."""

    def __init__(self, inputs: int, outputs: int) -> None:
        """Twice (N, inputs, H, W) -> (N, outputs, 2H, 2W)."""
        super().__init__()
        self.alpha = nn.Parameter(torch.full((inputs, 1, 1), 0.5))
        self.gamma = nn.Parameter(torch.full((inputs, 1, 1), 0.5))
        self.deconvolution = nn.ConvTranspose2d(inputs, outputs, 2, 2)

    def forward(self, depth_NCHW: Tensor, semantic_NCHW: Tensor) -> Tensor:
        """See the class."""
        return self.deconvolution(self.alpha * depth_NCHW + self.gamma * semantic_NCHW)
