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

"""How the losses of the tasks become the one loss that is minimised.

Shapes: T tasks, P elements of all shared parameters together. The buffers of a balancer are the
same on all processes at any time, and go into checkpoints.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from ..errors import TrainingError
from ..processes import processes, summed

TASKS = ("segmentation", "depth")
# Gradients of one task are computed on the side, where no GradScaler helps: times this, those of
# pixels do not vanish in half precision. A power of two costs nothing in the other precisions.
GRADIENT_SCALE = 1024.0
TINY = torch.finfo(torch.float32).tiny


class Balancer(nn.Module):
    """Base of all: sorts the losses by task and leaves their sum to `total`."""

    def __init__(self, tasks: Sequence[str] = TASKS) -> None:
        """Balance these tasks; their order is that of the state in checkpoints."""
        super().__init__()
        self.tasks = tuple(tasks)

    def forward(
        self,
        losses: Mapping[str, Tensor],
        present: Mapping[str, bool],
        shared: Sequence[nn.Parameter],
    ) -> Tensor:
        """Combine the losses of a batch.

        Args:
            losses: Task -> scalar loss, whose mean over processes and accumulated micro-batches is
                the task's (`losses.numerics`); zero but attached to the graph where the batch has
                no truth of the task. A task that the system does not have may be left out.
            present: Task -> whether the batch of this process, or one accumulated with it, has
                truth of it.
            shared: Parameters that all tasks use, in the network's order; may be empty.

        Returns:
            The scalar to call `backward` on, once. All parameters that the losses reach get their
            gradients from it, so mixed precision, accumulation and DDP go on as with any loss.

        Raises:
            TrainingError: there is a loss of a task that is not balanced here.
        """
        unknown = set(losses) - set(self.tasks)
        if unknown or not losses:
            raise TrainingError(
                f"losses of the tasks {sorted(losses)}, expected some of {list(self.tasks)}"
            )
        nothing = next(iter(losses.values())).new_zeros(())
        ordered = [losses.get(task, nothing).float() for task in self.tasks]
        here = [float(task in losses and present[task]) for task in self.tasks]
        there = [bool(n) for n in summed(torch.tensor(here, device=nothing.device)).tolist()]
        # In validation nothing is measured: no gradients are there to look at.
        learning = self.training and torch.is_grad_enabled()
        with torch.autocast(nothing.device.type, enabled=False):
            return self.total(
                ordered, there, [p for p in shared if p.requires_grad] if learning else []
            )

    def total(
        self, losses: list[Tensor], present: list[bool], shared: list[nn.Parameter]
    ) -> Tensor:
        """The same with losses and presence in the order of `tasks`.

        Args:
            losses: Float32 scalars.
            present: Whether each counts: any process has truth of it.
            shared: Those that are trained; empty also where no gradients are computed.
        """
        raise NotImplementedError

    @torch.no_grad()
    def on_step(self) -> None:
        """Look back on the batches of an optimizer step; to be called on all processes."""

    @torch.no_grad()
    def on_epoch_end(self) -> None:
        """Look back on an epoch of training; to be called on all processes."""


class Fixed(Balancer):
    """Weights that stay as they are."""

    weights_T: Tensor

    def __init__(
        self, weights: dict[str, float] | None = None, tasks: Sequence[str] = TASKS
    ) -> None:
        """Weigh each task.

        Args:
            weights: Task -> weight; 1 for those left out.
            tasks: Names of the tasks.

        Raises:
            TrainingError: a weight is negative, or of no such task.
        """
        super().__init__(tasks)
        weights = weights or {}
        for task, weight in weights.items():
            if task not in self.tasks:
                raise TrainingError(f"a weight of {task!r}, expected any of {list(self.tasks)}")
            if not 0 <= weight < float("inf"):
                raise TrainingError(f"the weight of {task} is {weight}, expected 0 or more")
        # They are the configuration's, not the checkpoint's.
        self.register_buffer(
            "weights_T", torch.tensor([weights.get(t, 1.0) for t in self.tasks]), persistent=False
        )

    def total(
        self, losses: list[Tensor], present: list[bool], shared: list[nn.Parameter]
    ) -> Tensor:
        """The weighted sum."""
        return (self.weights_T * torch.stack(losses)).sum()


class Uncertainty(Balancer):
    """Each task's uncertainty is learned and divides its loss (Kendall et al. 2018).

    exp(-s) L + s / 2 with s = log sigma^2. Kendall's regression has another 1/2 before the first
    term, which only shifts s by log 2: the weights that it settles at, 1 / (2 L), are the same.
    """

    def __init__(self, tasks: Sequence[str] = TASKS) -> None:
        """Start with weights of 1. The optimizer must get `log_variances_T`, without decay."""
        super().__init__(tasks)
        self.log_variances_T = nn.Parameter(torch.zeros(len(self.tasks)))

    def total(
        self, losses: list[Tensor], present: list[bool], shared: list[nn.Parameter]
    ) -> Tensor:
        """The weighted sum, and what keeps the weights from going to zero."""
        s_T = self.log_variances_T
        counts_T = torch.tensor(present, device=s_T.device).float()
        return ((-s_T).exp() * torch.stack(losses) + 0.5 * s_T * counts_T).sum()


class DynamicWeightAverage(Balancer):
    """Tasks whose loss falls slower weigh more: DWA (Liu et al. 2019).

    w = T softmax(r / temperature), where r is the ratio of the mean losses of the last two epochs
    in which the task was there; r = 1 before there are two.
    """

    weights_T: Tensor
    sums_T: Tensor
    counts_T: Tensor
    last_T: Tensor
    previous_T: Tensor

    def __init__(self, temperature: float = 2.0, tasks: Sequence[str] = TASKS) -> None:
        """Start with weights of 1.

        Args:
            temperature: The greater, the more alike are the weights.
            tasks: Names of the tasks.

        Raises:
            TrainingError: the temperature is not positive.
        """
        super().__init__(tasks)
        if not temperature > 0:
            raise TrainingError(f"the temperature is {temperature}, expected a positive number")
        self.temperature = temperature
        count = len(self.tasks)
        self.register_buffer("weights_T", torch.ones(count))
        self.register_buffer("sums_T", torch.zeros(count))
        self.register_buffer("counts_T", torch.zeros(count))
        self.register_buffer("last_T", torch.full((count,), torch.nan))
        self.register_buffer("previous_T", torch.full((count,), torch.nan))

    def total(
        self, losses: list[Tensor], present: list[bool], shared: list[nn.Parameter]
    ) -> Tensor:
        """The weighted sum; the losses are remembered for the epoch's means."""
        losses_T = torch.stack(losses)
        if self.training:
            # Averaged over processes here and not once an epoch: DDP overwrites all processes'
            # buffers with the first one's before every step.
            means_T = process_mean(losses_T)
            measured_T = torch.tensor(present, device=means_T.device) & means_T.isfinite()
            self.sums_T += means_T.where(measured_T, 0.0)
            self.counts_T += measured_T
        return (self.weights_T * losses_T).sum()

    @torch.no_grad()
    def on_epoch_end(self) -> None:
        """Set the weights of the next epoch."""
        measured_T = self.counts_T > 0
        self.previous_T.copy_(self.last_T.where(measured_T, self.previous_T))
        self.last_T.copy_((self.sums_T / self.counts_T).where(measured_T, self.last_T))
        self.sums_T.zero_()
        self.counts_T.zero_()
        ratios_T = self.last_T / self.previous_T
        ratios_T = ratios_T.where(ratios_T.isfinite(), 1.0)
        # A task that never was there takes no share.
        known_T = self.last_T.isfinite()
        logits_T = (ratios_T / self.temperature).where(known_T, -torch.inf)
        self.weights_T.copy_((known_T.sum() * logits_T.softmax(0)).where(known_T, 1.0))


class GradNorm(Balancer):
    """All tasks pull at the last shared layer alike, the slower learners more (Chen et al. 2018).

    With g_i the norm of the gradient of task i and r_i its loss relative to its first one, over
    the mean of that, the weights descend along sum |w_i g_i - mean(w g) r_i^alpha|, whose gradient
    is +-g_i: no graph of gradients is needed. Norms are measured in their mean, so that the
    learning rate does not depend on the losses' scale (as it does not with the paper's Adam), and
    no step goes beyond the zero of its |.|, so that weights stay positive.
    """

    weights_T: Tensor
    initial_T: Tensor

    def __init__(
        self, alpha: float = 1.5, learning_rate: float = 0.025, tasks: Sequence[str] = TASKS
    ) -> None:
        """Start with weights of 1.

        Args:
            alpha: How much more those pull that have learned less; 0: all alike.
            learning_rate: Of the weights.
            tasks: Names of the tasks.

        Raises:
            TrainingError: alpha is negative, or the learning rate not positive.
        """
        super().__init__(tasks)
        if not alpha >= 0:
            raise TrainingError(f"alpha is {alpha}, expected 0 or more")
        if not learning_rate > 0:
            raise TrainingError(
                f"the weights' learning rate is {learning_rate}, expected a positive number"
            )
        self.alpha, self.learning_rate = alpha, learning_rate
        self.register_buffer("weights_T", torch.ones(len(self.tasks)))
        self.register_buffer("initial_T", torch.full((len(self.tasks),), torch.nan))
        # Of the optimizer step: each micro-batch's losses and gradients, and who was there.
        self._batches: list[tuple[Tensor, Tensor, Tensor]] = []

    def total(
        self, losses: list[Tensor], present: list[bool], shared: list[nn.Parameter]
    ) -> Tensor:
        """The weighted sum; the gradients are remembered for the step's norms."""
        losses_T = torch.stack(losses)
        weighted = (self.weights_T * losses_T).sum()
        if shared:
            # The weights of the last layer; its norm or bias alone says little.
            last = [p for p in shared if p.ndim > 1][-1:] or shared
            size = sum(p.numel() for p in last)
            gradients_TP = torch.stack(
                [
                    gradient(loss, last) if there else loss.new_zeros(size)
                    for loss, there in zip(losses, present, strict=True)
                ]
            )
            there_T = torch.tensor(present, device=losses_T.device)
            self._batches.append((losses_T.detach(), gradients_TP, there_T))
        return weighted

    @torch.no_grad()
    def on_step(self) -> None:
        """Move the weights for the next step by what this one's batches have together."""
        if not self._batches:
            return
        losses_T, gradients_TP, there_T = (
            torch.stack(values) for values in zip(*self._batches, strict=True)
        )
        self._batches.clear()
        means_T = process_mean(losses_T.mean(0))
        norms_T = process_mean(gradients_TP.mean(0)).norm(dim=1)
        measured_T = there_T.any(0) & means_T.isfinite() & norms_T.isfinite()
        values_2T = torch.stack([means_T, norms_T]).where(measured_T, 0.0)
        self.move(values_2T, measured_T)

    @torch.no_grad()
    def move(self, losses_and_norms_2T: Tensor, measured_T: Tensor) -> None:
        """Move the weights of the measured tasks one step; their sum stays."""
        losses_T, norms_T = losses_and_norms_2T

        def mean(values_T: Tensor) -> Tensor:
            chosen_T = values_T.where(measured_T, 0.0)
            return (chosen_T.sum() / measured_T.sum().clamp(min=1)).clamp(min=TINY)

        first_T = measured_T & self.initial_T.isnan() & (losses_T > 0)
        self.initial_T.copy_(losses_T.where(first_T, self.initial_T))
        left_T = losses_T / self.initial_T
        left_T = left_T.where(left_T.isfinite(), 1.0).clamp(min=0)
        rates_T = left_T / mean(left_T)
        targets_T = mean(self.weights_T * norms_T) * rates_T**self.alpha
        steps_T = self.learning_rate * norms_T / mean(norms_T)
        wanted_T = targets_T / norms_T.clamp(min=TINY) - self.weights_T
        moved_T = self.weights_T + wanted_T.clamp(-steps_T, steps_T)
        moved_T = moved_T * mean(self.weights_T) / mean(moved_T)
        self.weights_T.copy_(moved_T.where(measured_T, self.weights_T))


class PCGrad(Balancer):
    """Of each task's gradient on the shared parameters, what conflicts is cut (Yu et al. 2020).

    The sum of the losses is corrected by a term of value zero, linear in the shared parameters,
    whose gradient is the projected minus the plain one: `backward` then does all the rest, with
    the gradients of the other parameters untouched. It costs one more backward pass through the
    shared part for each task. Over several processes the tasks' gradients are averaged before they
    are projected, so that the result is that of one process with the whole batch.
    """

    def total(
        self, losses: list[Tensor], present: list[bool], shared: list[nn.Parameter]
    ) -> Tensor:
        """The sum of the losses, with the projected gradient on the shared parameters."""
        plain = torch.stack(losses).sum()
        if not shared:
            return plain
        sizes = [p.numel() for p in shared]
        gradients_TP = torch.stack(
            [
                gradient(loss, shared) if there else loss.new_zeros(sum(sizes))
                for loss, there in zip(losses, present, strict=True)
            ]
        )
        gradients_TP = process_mean(gradients_TP)
        correction_P = (projected(gradients_TP) - gradients_TP).sum(0)
        # Where half precision overflows, this step is the plain sum's.
        correction_P = correction_P.where(correction_P.isfinite().all(), 0.0)
        term = torch.stack(
            [
                (part.view(p.shape) * p).sum()
                for part, p in zip(correction_P.split(sizes), shared, strict=True)
            ]
        ).sum()
        return plain + (term - term.detach())


BALANCERS: dict[str, type[Balancer]] = {
    "fixed": Fixed,
    "uncertainty": Uncertainty,
    "dwa": DynamicWeightAverage,
    "gradnorm": GradNorm,
    "pcgrad": PCGrad,
}


def gradient(loss: Tensor, parameters: Sequence[nn.Parameter]) -> Tensor:
    """Gradient of a loss as one float32 vector; `.grad` and hooks are left alone."""
    parts = torch.autograd.grad(
        loss * GRADIENT_SCALE, parameters, retain_graph=True, materialize_grads=True
    )
    return torch.cat([part.flatten().float() for part in parts]) / GRADIENT_SCALE


def projected(gradients_TP: Tensor) -> Tensor:
    """Project each task's gradient off those it conflicts with, in random order; (T, P)."""
    squares_T = gradients_TP.square().sum(1).clamp(min=TINY)
    result_TP = gradients_TP.clone()
    for i, result_P in enumerate(result_TP):
        for j in torch.randperm(len(gradients_TP)).tolist():
            if j != i:
                dot = (result_P * gradients_TP[j]).sum()
                result_P -= dot.clamp(max=0) / squares_T[j] * gradients_TP[j]
    return result_TP


def process_mean(values: Tensor) -> Tensor:
    """Average over all processes, without gradients."""
    return summed(values) / processes()
