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

"""Define the interface of systems: `System` and its output `Prediction`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Literal, TypedDict

from torch import Tensor, nn

from ..errors import TrainingError

TASKS = ("segmentation", "depth")


class Prediction(TypedDict, total=False):
    """Output of a system: `logits` and `depth`, each only if the system has this task.

    Both have the same height and width h x w, chosen by the system, at most those of the image.
    Both are float32, also under autocast: the last layers run in `blocks.without_autocast`, and
    depth is converted with `float()` before a sigmoid or exponential. The other outputs exist only
    in training mode, for the objective. Lists are ordered from fine to coarse.
    """

    logits: Tensor
    """(N, classes, h, w), or (N, 1, h, w) with the foreground logit."""
    depth: Tensor
    """(N, 1, h, w), positive, see `System.depth_kind`."""
    log_scale: Tensor
    """(N, 1, h', w'), with `predicts_scale`: ln b, where the error of ln depth has a Laplace
    distribution with scale b. May be coarser than `depth`."""
    side_logits: list[Tensor]
    """Additional outputs like `logits`, of any size, for deep supervision."""
    side_depths: list[Tensor]
    """Additional outputs like `depth`, of any size."""
    disparities: list[Tensor]
    """(N, 2, h, w): disparity of the left and the right image of a stereo pair, as a fraction of
    the image width."""
    features: list[Tensor]
    """(N, C, h, w): feature maps of the depth decoder at 1/8, 1/4 and 1/2 of the image size, in
    this order."""


class System(nn.Module):
    """Base class of the networks.

    Normalisation is part of the system. The network must use exportable operators, work for any
    image size, and have no data-dependent control flow.
    """

    inputs: tuple[str, ...] = ("image",)
    """The images that `forward` takes, in order: `("image",)` or `("background", "image")`."""
    views: tuple[str, ...] = ()
    """Additional images for training only, for example `("right",)`."""
    depth_kind: Literal["metric", "up-to-scale", "normalised"]
    """Unit of depth: metres in the canonical camera, metres times an unknown factor, or 0..1."""
    depth_limits: tuple[float, float]
    """Minimum and maximum depth that the system can predict."""
    tasks: tuple[str, ...]
    """The tasks that the system was built for, a subset of `TASKS`."""
    needs_weights: bool = False
    """Whether a frozen part has random weights, so that weights must be loaded before training."""

    predicts_scale: bool = False
    """Whether the system predicts the scale of its depth error, `Prediction.log_scale`."""

    forward: Callable[..., Prediction]
    """(N, 3, H, W) float images with values 0 to 255, one for each of `inputs` -> `Prediction`."""
    __call__: Callable[..., Prediction]

    def __init__(self, tasks: Sequence[str] = TASKS) -> None:
        """Set `tasks`.

        Raises:
            TrainingError: `tasks` is empty, or has an unknown task.
        """
        super().__init__()
        if isinstance(tasks, str) or not tasks or not set(tasks) <= set(TASKS):
            raise TrainingError(f"tasks is {tasks!r}, expected one or both of {list(TASKS)}")
        self.tasks = tuple(tasks)
