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

"""The learning-rate range test (Smith 2017): the loss while the rate rises."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import NamedTuple

import lightning as L
import numpy as np
from lightning.pytorch.tuner.tuning import Tuner
from scipy.ndimage import gaussian_filter1d

from ..errors import TrainingError
from .pictures import save_figure

MIN_STEPS = 20
# Lightning gives out the losses as a running mean with this share of the past, which lags by so
# many steps that the curve is of little use.
RUNNING_MEAN = 0.98


class RangeTest(NamedTuple):
    """What a range test found; S steps."""

    rates: np.ndarray
    """Learning rate of each step, (S,)."""
    losses: np.ndarray
    """Training loss before each step, (S,); not finite where it diverged."""
    proposal: float
    """The proposed peak learning rate."""


def range_test(
    trainer: L.Trainer,
    task: L.LightningModule,
    data: object,
    min_rate: float = 1e-6,
    max_rate: float = 1.0,
    steps: int = 100,
) -> RangeTest:
    """Train with a growing learning rate; the task's weights are put back afterwards.

    Args:
        trainer: A fresh one. Its limits on epochs and its validation are changed.
        task: What is trained. Its schedule is not used, its optimizer is.
        data: A data module or training loader; begun anew when it ends.
        min_rate: Learning rate of the first step.
        max_rate: Learning rate of the last step.
        steps: Steps of the optimizer.

    Returns:
        The curve and the proposal.

    Raises:
        TrainingError: the rates are not in order, the steps are too few, or the loss did not fall.
    """
    if not 0 < min_rate < max_rate < float("inf"):
        raise TrainingError(
            f"the rates go from {min_rate:g} to {max_rate:g}, expected positive numbers that grow"
        )
    if steps < MIN_STEPS:
        raise TrainingError(f"too few steps: {steps}, expected at least {MIN_STEPS}")
    if trainer.fast_dev_run:  # type: ignore[attr-defined]  # Trainer does not declare it
        raise TrainingError("trainer.fast_dev_run leaves no steps to test: turn it off")
    if trainer.max_epochs not in (None, -1):  # an epoch has one step at least
        trainer.fit_loop.max_epochs = max(trainer.max_epochs, steps)
    trainer.check_val_every_n_epoch = sys.maxsize
    trainer.val_check_interval = 1.0
    finder = Tuner(trainer).lr_find(
        task,
        train_dataloaders=data,
        min_lr=min_rate,
        max_lr=max_rate,
        num_training=steps,
        # Its criterion is wrong for losses below zero. Going on costs no more than the steps.
        early_stop_threshold=None,
        update_attr=False,
    )
    assert finder is not None  # only with fast_dev_run
    rates = np.array(finder.results["lr"])
    averages = np.array(finder.results["loss"])
    # Its number by its rate: at ends of epochs steps are missing if gradients are accumulated.
    numbers = np.rint(steps * np.log(rates / min_rate) / np.log(max_rate / min_rate)).clip(min=1)
    # Of accumulated batches each loss is told as its share of the step's.
    losses = unaveraged(averages, numbers) * trainer.accumulate_grad_batches
    return RangeTest(rates, losses, propose(rates, losses))


def unaveraged(averages: np.ndarray, numbers: np.ndarray) -> np.ndarray:
    """Get the losses back of which Lightning tells the running mean; (S,).

    Args:
        averages: The running means, which Lightning divides by 1 - RUNNING_MEAN^(number + 1), (S,).
        numbers: Number of each step, from 1, (S,).
    """
    means = averages * (1 - RUNNING_MEAN ** (numbers + 1))
    past = np.concatenate([[0.0], means[:-1]])
    with np.errstate(invalid="ignore"):  # infinite less infinite, where it diverged
        return (means - RUNNING_MEAN * past) / (1 - RUNNING_MEAN)


def smoothed(losses: np.ndarray) -> np.ndarray:
    """Smooth the losses over the logarithm of the rate, where they are evenly spaced; (S,).

    Those above the first tenth's greatest are drawn down to it: how far a diverged loss goes says
    nothing of the rates before.
    """
    ceiling = losses[: max(1, len(losses) // 10)].max()
    capped = np.where(losses < ceiling, losses, ceiling)
    return gaussian_filter1d(capped, len(losses) / 25, mode="nearest")


def propose(rates: np.ndarray, losses: np.ndarray) -> float:
    """The rate at which the smoothed loss falls fastest over the logarithm of the rate.

    Raises:
        TrainingError: the losses are too few, or do not fall.
    """
    if len(losses) < MIN_STEPS:
        raise TrainingError(
            f"too few steps: the data gave {len(losses)}, expected at least {MIN_STEPS}"
        )
    span = f"between the rates {rates[0]:.2g} and {rates[-1]:.2g}"
    curve = smoothed(losses)
    if not np.isfinite(curve).all():
        raise TrainingError(f"the loss diverged at once {span}: lower --min-rate")
    lowest = int(curve.argmin())
    if lowest < 2 and curve[-1] > curve[lowest]:
        raise TrainingError(f"the loss only rises {span}: lower --min-rate")
    falls = curve[: lowest + 1].max() - curve[lowest]
    scatters = (losses - curve)[: lowest + 1].std()
    if not falls > scatters:
        raise TrainingError(
            f"the loss falls by {falls:.2g} {span} and scatters by {scatters:.2g}:"
            " raise --max-rate, --steps or the batch size"
        )
    slopes = np.gradient(curve[: lowest + 1], np.log(rates[: lowest + 1]))
    return float(rates[slopes.argmin()])


def draw(path: Path, rates: np.ndarray, losses: np.ndarray, proposal: float) -> None:
    """Draw the curve into a PNG, which is there wholly or not at all.

    Args:
        path: The file; its folder is made if there is none.
        rates: Learning rates, (S,).
        losses: Their losses, (S,).
        proposal: The rate to mark.
    """
    from matplotlib.figure import Figure  # without pyplot no display is looked for

    curve = smoothed(losses)
    figure = Figure(figsize=(8, 5), layout="constrained")
    axes = figure.add_subplot(
        title="Learning-rate range test",
        xlabel="learning rate (logarithmic)",
        ylabel="training loss",
        xscale="log",
    )
    axes.plot(rates, losses, ".", color="0.7", label="each step")
    axes.plot(rates, curve, label="smoothed")
    axes.axvline(proposal, color="C3", linestyle="--", label=f"proposed: {proposal:.2g}")
    margin = 0.1 * (curve.max() - curve.min())
    axes.set_ylim(curve.min() - 2 * margin, curve.max() + 2 * margin)
    axes.grid(alpha=0.3)
    axes.legend()
    save_figure(path, figure)
