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

"""The default system: one encoder, one decoder, and a head for each task.

The architecture is similar to system 000 (DepthSegNet), but small enough for real time: a narrow
ResNet, and a context block at 1/32. Both tasks share the decoder up to 1/4: object borders are
often depth borders, and one larger decoder is better than two small ones. The last level, to 1/2,
is separate for each task: sharing its few channels would reduce the accuracy of rare classes
(docs/results.md).
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from ...errors import TrainingError
from ..base import Prediction, System
from ..blocks import Context, Decoder, Normalize, without_autocast
from ..encoders import Encoder, ResNet


class Head(nn.Module):
    """The head of a task: the last decoder level and the output layer."""

    def __init__(self, inputs: int, skip: int, width: int, outputs: int) -> None:
        """Build a head of `width` channels on features of `inputs`, with a skip of `skip`."""
        super().__init__()
        self.level = Decoder(inputs, [skip], [width])
        self.output = nn.Conv2d(width, outputs, 1)

    def forward(self, features_NCHW: Tensor, skip_NCHW: Tensor) -> Tensor:
        """Decode to the skip's size, (N, outputs, H, W)."""
        return without_autocast(self.output, self.level(features_NCHW, [skip_NCHW]))


class ScaleHead(nn.Sequential):
    """Predicts ln b, where the error of ln depth has a Laplace distribution with scale b.

    The features of the decoder at 1/4 are fine enough: if the depth head could locate an error more
    precisely, it could avoid it.
    """

    def __init__(self, inputs: int, width: int = 16) -> None:
        """Build a head with one hidden layer on features with `inputs` channels."""
        super().__init__(nn.Conv2d(inputs, width, 1), nn.ReLU(inplace=True), nn.Conv2d(width, 1, 1))

    def forward(self, features_NCHW: Tensor) -> Tensor:
        """Predict (N, 1, H, W) at the size of the features, without gradients for the features."""
        return without_autocast(super().forward, features_NCHW.detach())


class SharedEncoder(System):
    """One encoder, one decoder, two heads."""

    depth_kind = "metric"

    def __init__(
        self,
        num_classes: int = 11,
        widths: Sequence[int] = (32, 64, 128, 256),
        depths: Sequence[int] = (1, 2, 2, 2),
        context: int = 192,
        decoder: Sequence[int] = (64, 64, 48),
        heads: tuple[int, int] = (32, 16),
        min_depth: float = 0.15,
        max_depth: float = 300.0,
        encoder: Encoder | None = None,
        tasks: Sequence[str] = ("segmentation", "depth"),
        depth_scale: bool = False,
    ) -> None:
        """Build the network.

        Args:
            num_classes: Semantic classes.
            widths: Channels of the built-in encoder at 1/4, 1/8, 1/16 and 1/32.
            depths: Number of residual blocks at each of these.
            context: Channels of the context block at 1/32.
            decoder: Channels of the decoder at 1/16, 1/8 and 1/4.
            heads: Channels of the segmentation and depth heads at 1/2.
            min_depth: Minimum canonical depth, metres.
            max_depth: Maximum canonical depth, metres.
            encoder: One of `training.models.encoders` with `half`, to use instead of the built-in
                `ResNet`.
            tasks: Tasks with a head.
            depth_scale: Whether to predict the scale of the depth error, for the output
                `depth_confidence`. Its training does not affect the other outputs.

        Raises:
            TrainingError: `tasks` is wrong, or the encoder has no features at 1/2.
        """
        super().__init__(tasks)
        self.encoder = ResNet(widths, depths, half=True) if encoder is None else encoder
        if len(self.encoder.channels) != 5:
            raise TrainingError(
                f"{type(encoder).__name__} does not return features at 1/2: set half: true"
            )
        finest, *skips, coarsest = self.encoder.channels
        self.context = Context(coarsest, context)
        self.decoder = Decoder(context, skips[::-1], decoder)
        self.segmentation = self.depth = None
        if "segmentation" in tasks:
            self.segmentation = Head(decoder[-1], finest, heads[0], num_classes)
        if "depth" in tasks:
            self.depth = Head(decoder[-1], finest, heads[1], 1)
        self.predicts_scale = depth_scale and "depth" in tasks
        if self.predicts_scale:
            self.scale = ScaleHead(decoder[-1])
        self.depth_limits = (min_depth, max_depth)
        self.log_range = (math.log(min_depth), math.log(max_depth))
        self.normalize = Normalize()

    def forward(self, image_N3HW: Tensor) -> Prediction:
        """Predict `logits` and `depth` (canonical metres) at 1/2; image values 0 to 255."""
        finest, *skips, coarsest = self.encoder(self.normalize(image_N3HW))
        features = self.decoder(self.context(coarsest), skips[::-1])
        prediction: Prediction = {}
        if self.segmentation is not None:
            prediction["logits"] = self.segmentation(features, finest)
        if self.depth is not None:
            near, far = self.log_range
            share = torch.sigmoid(self.depth(features, finest).float())
            prediction["depth"] = torch.exp(near + (far - near) * share)
        if self.predicts_scale:
            prediction["log_scale"] = self.scale(features).float()
        return prediction
