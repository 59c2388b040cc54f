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

"""System 003: a depth branch and a semantic branch with lateral sharing, for indoor scenes.

The encoder is a ResNet-50 with stride 1 in the last two stages (240x320 -> 30x40x2048). Each task
has a branch of four 2x2 deconvolutions. Lateral sharing units exchange features between the
branches (Jiao et al. 2018). The output of a branch is the sum of its up-skips: the encoder's output
and that of each deconvolution, projected and resized to the image size.

Parameters: the original count of 32,876,002 is for three colour outputs. It includes the running
statistics of batch norms (53,120) and convolution biases before batch norms (26,560), which have no
effect and are omitted here. So this network has 32,796,322 parameters with three outputs instead of
class logits, and 32,826,622 with 13 classes (3014 C + C^2 for C classes). In the original, the
second depth deconvolution reads the semantic branch by mistake; this does not change the count.

Details that the original does not define: ReLU after all deconvolutions except the last; sharing
units are initialised to the mean of both branches; the last up-skip has no ReLU, so that logits can
be negative; depth is the softplus of the sum, which is always positive.
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

# 1 mm, so that the logarithm of depth is finite.
MIN_DEPTH = 1e-3


class LateralSharing(System):
    """One encoder and two branches with lateral sharing units."""

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
            tasks: Tasks with a branch; with one task, nothing is shared.
            sharing: Whether to use lateral sharing units; False for comparison.
            weights: torchvision's weight file of a ResNet-50; None: random weights.
            encoder: One of `training.models.encoders` to use instead of the ResNet-50; only its
                coarsest features are used, at 1/8 or less.
            widths: Channels of the first three deconvolutions.

        Raises:
            TrainingError: `tasks` is wrong, or the weights do not fit.
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
        """Predict `logits` and `depth` (canonical metres) at the image size; values 0 to 255."""
        backbone = self.encoder(self.normalize(image_N3HW))[-1]
        maps = {task: [backbone] for task in self.branches}
        for index in range(4):
            # Add the shared features of the level before to the input of this level.
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
            output = branch.sum_up(maps[task], image_N3HW.shape[2:])
            if task == "depth":
                prediction["depth"] = F.softplus(output.float()) + MIN_DEPTH
            else:
                prediction["logits"] = output
        return prediction


class Branch(nn.Module):
    """The branch of one task: four deconvolutions and five up-skips."""

    def __init__(self, inputs: int, widths: Sequence[int], outputs: int) -> None:
        """Build a branch; `widths` are the channels of all deconvolutions except the last."""
        super().__init__()
        channels = (inputs, *widths, outputs)
        self.deconvolutions = nn.ModuleList(
            nn.ConvTranspose2d(before, after, 2, 2) for before, after in pairwise(channels)
        )
        self.up_skips = nn.ModuleList(nn.Conv2d(width, outputs, 1) for width in channels)
        for skip in self.up_skips[:-1]:
            # With a single output, a ReLU that is zero everywhere would never recover.
            nn.init.ones_(skip.get_parameter("bias"))

    def sum_up(self, maps: Sequence[Tensor], size: torch.Size) -> Tensor:
        """Sum the up-skips of the encoder's output and of the deconvolutions at `size`."""
        # Resizing and 1x1 convolutions commute; resizing fewer channels is faster.
        *skips, output = (
            resize(without_autocast(skip, x), size)
            for skip, x in zip(self.up_skips, maps, strict=True)
        )
        for skip in skips:
            output = output + F.relu(skip)
        return output


class LateralSharingUnit(nn.Module):
    """Weighted sum of the features of both branches, followed by a deconvolution."""

    def __init__(self, inputs: int, outputs: int) -> None:
        """Build a unit: two (N, inputs, H, W) -> (N, outputs, 2H, 2W)."""
        super().__init__()
        self.alpha = nn.Parameter(torch.full((inputs, 1, 1), 0.5))
        self.gamma = nn.Parameter(torch.full((inputs, 1, 1), 0.5))
        self.deconvolution = nn.ConvTranspose2d(inputs, outputs, 2, 2)

    def forward(self, depth_NCHW: Tensor, semantic_NCHW: Tensor) -> Tensor:
        """See the class."""
        return self.deconvolution(self.alpha * depth_NCHW + self.gamma * semantic_NCHW)
