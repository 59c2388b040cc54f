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

"""Combine the losses of both tasks into the one loss that is minimised."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from ..errors import TrainingError
from ..models.base import TASKS
from ..processes import summed


class Balancer(nn.Module):
    """Base class of the balancers."""

    def forward(self, losses: Mapping[str, Tensor], present: Mapping[str, bool]) -> Tensor:
        """Combine the losses of a batch.

        Args:
            losses: Task -> scalar loss, for the tasks of the system. The task's loss is its mean
                over processes and accumulated micro-batches (`losses.numerics`). It is zero, but
                attached to the graph, if the batch has no ground truth of the task.
            present: Task -> whether the batch of this process, or one that is accumulated with it,
                has ground truth of the task.

        Returns:
            The scalar for `backward`, float32.
        """
        raise NotImplementedError


class Fixed(Balancer):
    """A constant weight for each task."""

    def __init__(self, weights: dict[str, float] | None = None) -> None:
        """Set the weights.

        Args:
            weights: Task -> weight; the default is 1.

        Raises:
            TrainingError: A weight is negative or not finite, or its task is unknown.
        """
        super().__init__()
        self.weights = weights or {}
        for task, weight in self.weights.items():
            if task not in TASKS:
                raise TrainingError(f"a weight of {task!r}, expected any of {list(TASKS)}")
            if not 0 <= weight < float("inf"):
                raise TrainingError(f"the weight of {task} is {weight}, expected 0 or more")

    def forward(self, losses: Mapping[str, Tensor], present: Mapping[str, bool]) -> Tensor:
        """Return the weighted sum."""
        weighted = [self.weights.get(task, 1.0) * loss.float() for task, loss in losses.items()]
        return torch.stack(weighted).sum()


class Uncertainty(Balancer):
    """The uncertainty of each task is learned and divides its loss (Kendall et al. 2018).

    exp(-s) L + s / 2 with s = log sigma^2. Kendall's regression has another 1/2 before the first
    term, which only shifts s by log 2: the weights converge to the same, 1 / (2 L).
    """

    def __init__(self) -> None:
        """Start with weights of 1. The optimizer must get `log_variances_T`, without decay."""
        super().__init__()
        self.log_variances_T = nn.Parameter(torch.zeros(len(TASKS)))

    def forward(self, losses: Mapping[str, Tensor], present: Mapping[str, bool]) -> Tensor:
        """Return the weighted sum, plus the term that keeps the weights from going to zero."""
        s_T = self.log_variances_T
        losses_T = torch.stack([losses[t].float() if t in losses else 0 * s_T[0] for t in TASKS])
        # A task counts if any process has ground truth of it.
        here_T = torch.tensor([float(t in losses and present[t]) for t in TASKS], device=s_T.device)
        return ((-s_T).exp() * losses_T + 0.5 * s_T * (summed(here_T) > 0)).sum()


BALANCERS: dict[str, type[Balancer]] = {"fixed": Fixed, "uncertainty": Uncertainty}
