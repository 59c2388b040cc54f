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

import math

import cv2
import lightning as L
import numpy as np
import pytest
import torch
from torch import nn

from training.cli.lr_range_test import draw, main, range_test, smoothed, suggest
from training.errors import TrainingError


class Quadratic(L.LightningModule):
    """Loss curvature * w^2 / 2 + constant: gradient descent diverges above 2 / curvature."""

    def __init__(self, curvature=10.0, constant=0.0, learning_rate=0.5):
        super().__init__()
        self.save_hyperparameters()
        self.w = nn.Parameter(torch.tensor([1.0]))
        self.seen = []

    def training_step(self, batch, index):
        loss = self.hparams.curvature * self.w.square().sum() / 2 + self.hparams.constant
        self.seen.append((self.optimizers().param_groups[0]["lr"], loss.item()))
        return loss

    def validation_step(self, batch, index):
        raise AssertionError("a range test needs no validation")

    def configure_optimizers(self):
        """As `JointTask` does."""
        optimizer = torch.optim.SGD(self.parameters(), self.hparams["learning_rate"])
        total = int(self.trainer.estimated_stepping_batches)
        schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: step / total)
        return {
            "optimizer": optimizer,
            "lr_scheduler": {"scheduler": schedule, "interval": "step"},
        }


class Data(L.LightningDataModule):
    def train_dataloader(self):
        return torch.utils.data.DataLoader(torch.zeros(7, 1), 1)

    def val_dataloader(self):
        return torch.utils.data.DataLoader(torch.zeros(1, 1), 1)


def run(folder, task, *arguments, **options):
    trainer = L.Trainer(
        accelerator="cpu",
        max_epochs=2,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        default_root_dir=folder,
        **options,
    )
    return range_test(trainer, task, Data(), *(arguments or (1e-6, 1.0, 20)))


def test_the_suggestion_is_of_the_order_that_the_curvature_asks_for(tmp_path):
    task = Quadratic(curvature=10.0)
    rates, losses = run(tmp_path, task, 1e-6, 10.0, 100)
    assert rates[0] == pytest.approx(1e-6) and rates[-1] == pytest.approx(10)
    assert len(rates) == len(losses) == 100  # of 7 batches in an epoch
    suggested = suggest(rates, losses)
    assert 0.002 < suggested < 0.2  # 2 / curvature, above which it diverges
    # Nothing is changed and nothing left behind.
    assert task.w.item() == 1 and task.hparams.learning_rate == 0.5
    assert list(tmp_path.iterdir()) == []

    # The rate is proportional to 1 / curvature; this loss ends infinite and then NaN.
    steeper = run(tmp_path, Quadratic(curvature=1000.0), 1e-6, 10.0, 100)
    assert not np.isfinite(steeper[1][-1])
    assert suggested / suggest(*steeper) == pytest.approx(100, rel=0.35)

    # Losses below zero are as good.
    below = run(tmp_path, Quadratic(curvature=10.0, constant=-20.0), 1e-6, 10.0, 100)
    assert below[1][0] == pytest.approx(-15)
    assert suggest(*below) == pytest.approx(suggested)

    # The PNG has the curve in it, and a mark.
    picture = tmp_path / "new" / "curve.png"
    draw(picture, *steeper, suggest(*steeper))
    pixels = cv2.imread(str(picture))
    assert pixels.shape == (600, 960, 3)
    blue, red = pixels[..., 0].astype(int), pixels[..., 2].astype(int)
    assert (blue - red > 80).sum() > 500 and (red - blue > 80).sum() > 200
    assert [p.name for p in picture.parent.iterdir()] == ["curve.png"]


@pytest.mark.parametrize("accumulate", [1, 3])
def test_the_losses_are_those_of_the_steps_and_no_running_mean(tmp_path, accumulate):
    task = Quadratic()
    rates, losses = run(tmp_path, task, 1e-4, 0.15, 30, accumulate_grad_batches=accumulate)
    seen = dict(task.seen)  # rate -> loss; batches of a step have the same
    # Of 7 batches accumulated by 3, the last step has one batch, which Lightning does not tell.
    assert len(rates) == (30 if accumulate == 1 else 20)
    for rate, loss in zip(rates, losses, strict=True):
        assert loss == pytest.approx(seen[rate], rel=1e-4, abs=1e-6)


@pytest.mark.parametrize(
    ("curvature", "rates"), [(10.0, (1.0, 100.0)), (1e9, (1e6, 1e9)), (0.0, (1e-6, 1.0))]
)
def test_a_loss_that_does_not_fall_gets_one_line(tmp_path, curvature, rates):
    with pytest.raises(
        TrainingError, match=r"does not fall between the rates .* --min-rate"
    ) as raised:
        suggest(*run(tmp_path, Quadratic(curvature), *rates, 20))
    assert "\n" not in str(raised.value)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "options", [("--steps", "19"), ("--min-rate", "1", "--max-rate", "0.1"), ("--min-rate", "0")]
)
def test_wrong_options_are_refused(capsys, options):
    with pytest.raises(SystemExit):
        main([*options])
    assert "0 < --min-rate < --max-rate, and --steps of 20" in capsys.readouterr().err


def test_a_run_without_steps_is_refused(tmp_path):
    with pytest.raises(TrainingError, match="fast_dev_run"):
        run(tmp_path, Quadratic(), fast_dev_run=True)
    with pytest.raises(TrainingError, match="only 0 of 20 steps have a loss: lower"):
        run(tmp_path, Quadratic(), accumulate_grad_batches=8)  # of 7 batches in an epoch


def valley(rates, noise=0.0):
    """A loss that falls fastest at 1e-3 over log(rate), and diverges from 1e-1 on."""
    falling = 2 - np.tanh(np.log(rates / 1e-3))
    scatter = noise * np.random.default_rng(0).standard_normal(len(rates))
    return falling + np.where(rates > 1e-1, (rates / 1e-1) ** 8 - 1, 0) + scatter


def test_the_steepest_fall_is_found_in_noise():
    rates = np.geomspace(1e-6, 1, 100)
    assert suggest(rates, valley(rates)) == pytest.approx(1e-3, rel=0.2)
    assert 3e-4 < suggest(rates, valley(rates, 0.15)) < 3e-3
    alone = np.random.default_rng(1).standard_normal(100)
    with pytest.raises(TrainingError, match="does not fall"):
        suggest(rates, alone)


def test_losses_after_divergence_have_no_effect():
    rates = np.geomspace(1e-6, 1, 100)
    losses = valley(rates)
    worse = losses.copy()
    worse[-5:] = math.nan, math.inf, 1e30, math.nan, -math.nan
    assert suggest(rates, worse) == suggest(rates, losses)
    assert smoothed(worse) == pytest.approx(smoothed(losses))


def test_a_plot_that_cannot_be_written_leaves_no_file(tmp_path):
    (tmp_path / "curve.png").mkdir()
    with pytest.raises(OSError):
        draw(tmp_path / "curve.png", np.geomspace(1e-3, 1, 20), np.linspace(2, 1, 20), 0.1)
    assert [p.name for p in tmp_path.iterdir()] == ["curve.png"]
