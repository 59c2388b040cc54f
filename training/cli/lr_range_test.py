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

"""`python -m training lr-range-test`: plot the loss over the learning rate and suggest a rate.

Lightning's learning rate finder (Smith 2017) trains some steps with a rate that grows
exponentially. The suggestion is the rate at which the loss falls fastest.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path

import lightning as L
import numpy as np
from lightning.pytorch.tuner.tuning import Tuner
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter1d

from ..errors import TrainingError, check_output

# Lightning reports a running mean with this share of the past. It lags by half of a test of 100
# steps, and so does Lightning's own suggestion.
RUNNING_MEAN = 0.98


def main(arguments: list[str]) -> None:
    """Train with a configuration and a growing rate, draw the curve and print the suggestion."""
    parser = argparse.ArgumentParser(
        prog="python -m training lr-range-test",
        description=__doc__.splitlines()[0] if __doc__ else None,
        epilog="All other arguments, --config CONFIG first of all, are those of 'fit'.",
        allow_abbrev=False,
    )
    parser.add_argument("--min-rate", type=float, default=1e-6, help="default: %(default)g")
    parser.add_argument("--max-rate", type=float, default=1.0, help="default: %(default)g")
    parser.add_argument("--steps", type=int, default=100, help="at least 20; default: %(default)s")
    parser.add_argument(
        "--output", type=Path, default=Path("lr-range-test.png"), help="default: %(default)s"
    )
    options, of_fit = parser.parse_known_args(arguments)
    if not 0 < options.min_rate < options.max_rate < float("inf") or options.steps < 20:
        parser.error("expected 0 < --min-rate < --max-rate, and --steps of 20 or more")
    check_output(options.output)
    from ..engine.fit import CommandLine  # it imports all of training

    with tempfile.TemporaryDirectory(prefix="lr-range-test-") as folder:
        off = ("logger", "enable_checkpointing", "enable_progress_bar", "enable_model_summary")
        command_line = CommandLine(
            [
                *of_fit,
                f"--trainer.default_root_dir={folder}",
                "--trainer.callbacks=null",
                *(f"--trainer.{name}=false" for name in off),
            ],
            run=False,
            save_config_callback=None,
        )
        trainer, task = command_line.trainer, command_line.model
        rates, losses = range_test(
            trainer, task, command_line.datamodule,
            options.min_rate, options.max_rate, options.steps,
        )  # fmt: skip
    suggested = suggest(rates, losses)
    if trainer.is_global_zero:
        draw(options.output, rates, losses, suggested)
        print(
            f"suggested learning rate: {suggested:.2g}"
            f" (configured: {task.hparams.learning_rate:.2g}; curve: {options.output})"
        )


def range_test(
    trainer: L.Trainer,
    task: L.LightningModule,
    data: object,
    min_rate: float,
    max_rate: float,
    steps: int,
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Train with a growing learning rate, then restore the task's weights.

    Args:
        trainer: A new one. Its limit of epochs and its validation are changed.
        task: Its optimizer is used, its schedule is not.
        data: A data module or a loader of training batches.
        min_rate: Learning rate of the first step.
        max_rate: Learning rate of the last step.
        steps: Steps of the optimizer.

    Returns:
        The learning rate of each step, (S,), and the training loss before it, (S,), which is not
        finite where it diverged.

    Raises:
        TrainingError: There are no steps, or few, because of the trainer's options.
    """
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
        early_stop_threshold=None,  # its criterion is wrong for losses below zero
        update_attr=False,
    )
    assert finder is not None  # only with fast_dev_run
    rates = np.array(finder.results["lr"])
    if len(rates) < 10:
        raise TrainingError(
            f"only {len(rates)} of {steps} steps have a loss: lower trainer.accumulate_grad_batches"
        )
    # Undo the running mean, which is divided by 1 - RUNNING_MEAN^(n + 1) for step n. The step
    # follows from the rate, because some are missing at the end of epochs with accumulation.
    n = np.rint(steps * np.log(rates / min_rate) / np.log(max_rate / min_rate)).clip(min=1)
    means = np.array(finder.results["loss"]) * (1 - RUNNING_MEAN ** (n + 1))
    with np.errstate(invalid="ignore"):  # infinite less infinite, where it diverged
        losses = (means - RUNNING_MEAN * np.r_[0, means[:-1]]) / (1 - RUNNING_MEAN)
    # Accumulated batches report their share of the step's loss.
    return rates, losses * trainer.accumulate_grad_batches


def smoothed(losses: NDArray[np.float64]) -> NDArray[np.float64]:
    """Smooth the losses, (S,), after clipping to the maximum of the first tenth."""
    ceiling = losses[: max(1, len(losses) // 10)].max()
    capped = np.where(losses < ceiling, losses, ceiling)
    return gaussian_filter1d(capped, len(losses) / 25, mode="nearest")


def suggest(rates: NDArray[np.float64], losses: NDArray[np.float64]) -> float:
    """The rate at which the smoothed loss falls fastest over the logarithm of the rate.

    Raises:
        TrainingError: The loss does not fall by more than its noise.
    """
    curve = smoothed(losses)
    lowest = int(curve.argmin())
    with np.errstate(invalid="ignore"):  # infinite losses give NaN, which is not above NaN
        fall = curve[: lowest + 1].max() - curve[lowest]
        falls = fall > (losses - curve)[: lowest + 1].std()
    if not falls:
        raise TrainingError(
            f"the loss does not fall between the rates {rates[0]:.2g} and {rates[-1]:.2g}: lower"
            " --min-rate if it diverges, otherwise raise --max-rate, --steps or the batch size"
        )
    return float(rates[np.gradient(curve[: lowest + 1], np.log(rates[: lowest + 1])).argmin()])


def draw(
    path: Path, rates: NDArray[np.float64], losses: NDArray[np.float64], suggested: float
) -> None:
    """Draw the curve and the suggested rate into a PNG, which is written atomically."""
    from matplotlib.figure import Figure  # without pyplot no display is needed

    from ..engine.pictures import save_figure

    curve = smoothed(losses)
    figure = Figure(figsize=(8, 5), layout="constrained")
    axes = figure.add_subplot(xlabel="learning rate", ylabel="training loss", xscale="log")
    axes.plot(rates, losses, ".", color="0.7", label="each step")
    axes.plot(rates, curve, label="smoothed")
    axes.axvline(suggested, color="C3", linestyle="--", label=f"suggested: {suggested:.2g}")
    margin = 0.2 * (curve.max() - curve.min())
    axes.set_ylim(curve.min() - margin, curve.max() + margin)
    axes.legend()
    save_figure(path, figure)
