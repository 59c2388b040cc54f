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

"""What a system is, and what it predicts: the contract that all of training relies on."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Literal, TypedDict

from torch import Tensor, nn

from ..errors import TrainingError

TASKS = ("segmentation", "depth")


class Prediction(TypedDict, total=False):
    """Output of a system: `logits` and `depth`, each only if the system has that task.

    Both have the same height and width h x w, which the system chooses, at most those of the image.
    Both are float32 also under autocast: the last layers run in `blocks.without_autocast`, and a
    sigmoid or exponential of depth follows a `float()`. The other outputs exist only in training
    mode, for the objective; their lists are ordered from fine to coarse, if not stated otherwise.
    """

    logits: Tensor
    """(N, classes, h, w), or (N, 1, h, w): the logit of the foreground."""
    depth: Tensor
    """(N, 1, h, w), positive, see `System.depth_kind`."""
    log_scale: Tensor
    """(N, 1, h', w') of systems with `predicts_scale`: ln b; the error of ln depth has a Laplace
    distribution with scale b. It may be coarser than `depth`."""
    side_logits: list[Tensor]
    """More outputs like `logits`, each of its own size, for deep supervision."""
    side_depths: list[Tensor]
    """More outputs like `depth`, each of its own size."""
    disparities: list[Tensor]
    """(N, 2, h, w): disparity of the left and the right image of a stereo pair, as a share of the
    width of the image."""
    features: list[Tensor]
    """(N, C, h, w): feature maps of the depth decoder at 1/8, 1/4 and 1/2 of the image's size."""


class System(nn.Module):
    """Base class of the networks that are trained.

    Normalisation is part of the system. The graph has plain operators only, works for any image
    size, and has no control flow that depends on the data.
    """

    inputs: tuple[str, ...] = ("image",)
    """The images that `forward` takes, in order: `("image",)` or `("background", "image")`."""
    views: tuple[str, ...] = ()
    """More images that only the training of this system needs, such as `("right",)`."""
    depth_kind: Literal["metric", "up-to-scale", "normalised"]
    """What depth means: metres in the canonical camera, metres times an unknown factor, or 0..1."""
    depth_limits: tuple[float, float]
    """Least and greatest depth that the system can predict."""
    tasks: tuple[str, ...]
    """What the system was built for, see `TASKS`."""
    needs_weights: bool = False
    """Whether a part that does not train has random weights, so that others must be loaded."""

    predicts_scale: bool = False
    """Whether it predicts the size of its depth error, `Prediction.log_scale`."""

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
