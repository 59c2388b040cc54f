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

"""Lightning's command line with the project's task, data and callbacks."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import lightning as L
from lightning.pytorch.callbacks import RichProgressBar
from lightning.pytorch.cli import LightningCLI
from lightning.pytorch.utilities import rank_zero_info

from ..data.module import MultiDataModule
from ..errors import TrainingError
from .task import JointTask
from .weights import read_checkpoint


class DivergenceCheck(L.Callback):
    """Ends a run whose loss has become infinite or NaN, before that is saved."""

    def on_train_epoch_end(self, trainer: L.Trainer, task: L.LightningModule) -> None:
        """Look at the last step's loss: a single one may be skipped by mixed precision."""
        loss = trainer.callback_metrics["loss_step"]
        if not loss.isfinite():
            raise TrainingError(
                f"the loss is {loss.item()} in epoch {trainer.current_epoch}: lower"
                " model.learning_rate, or lower or set trainer.gradient_clip_val"
            )


class ProgressBar(RichProgressBar):
    """Lightning's, which counts epochs from 1: the last of two is `2/2`, not `1/1`."""

    def _get_train_description(self, current_epoch: int) -> str:
        total = self.trainer.max_epochs
        shown = f"Epoch {current_epoch + 1}" + (f"/{total}" if total and total > 0 else "")
        return shown.ljust(len(self.validation_description))


class CommandLine(LightningCLI):
    """Lightning's, with the project's task and data."""

    checkpoint: Path | None = None
    """What is resumed or measured."""

    def __init__(self, arguments: list[str], **options: Any) -> None:
        """Parse the arguments and, unless told not to (`run=False`), run what they say."""
        super().__init__(
            JointTask,
            MultiDataModule,
            args=arguments,
            save_config_kwargs={"overwrite": True},
            seed_everything_default=0,
            # Lightning's summary counts no operations of this task: "Total FLOPs: 0".
            trainer_defaults={"callbacks": DivergenceCheck(), "enable_model_summary": False},
            **options,
        )

    @staticmethod
    def subcommands() -> dict[str, set[str]]:
        """Lightning's commands, each with what it is not asked for."""
        commands = LightningCLI.subcommands()
        return {**commands, "predict": {*commands["predict"], "return_predictions"}}

    def before_fit(self) -> None:
        """Log what is trained."""
        card = self.model.card
        rank_zero_info(f"{card.name}: {card.system}, {card.parameters:,} parameters")

    def predict(self, **options: Any) -> None:
        """Run the pictures through the network and keep none: the callback writes them down."""
        self.trainer.predict(**options, return_predictions=False)

    def instantiate_classes(self) -> None:
        """Make the parts; what is wrong with one, or with it and the checkpoint, in one line."""
        try:
            super().instantiate_classes()
        except ValueError as error:  # jsonargparse's, which tells of its parser, not of the part
            inner: BaseException | None = error
            while inner is not None and not isinstance(inner, TrainingError):
                inner = inner.__cause__ or inner.__context__
            if inner is None:
                raise
            raise inner from None
        if self.checkpoint is not None:
            self._check_shapes(self.checkpoint)
        elif self.subcommand not in (None, "fit") and self.model.hparams["weights"] is None:
            raise TrainingError(
                f"{self.subcommand}: the network's weights are random; give --ckpt_path FILE"
            )

    def _parse_ckpt_path(self) -> None:
        """Refuse a checkpoint that is none, in one line, and what Lightning would look for itself.

        Lightning's own would lay the checkpoint's options over those of the configuration and the
        command line, which here have the last word on resuming too.
        """
        command = self.config.get("subcommand")
        path = command and self.config[command].get("ckpt_path")
        if path:
            self.checkpoint = Path(path)
            self._shapes = {
                name: tuple(value.shape)
                for name, value in read_checkpoint(self.checkpoint)["state_dict"].items()
            }

    def _check_shapes(self, path: Path) -> None:
        own = {name: tuple(value.shape) for name, value in self.model.state_dict().items()}
        for name in sorted(own.keys() | self._shapes.keys()):
            stored, wanted = self._shapes.get(name), own.get(name)
            if stored != wanted:
                raise TrainingError(
                    f"{path} is of another network: its {name} is {stored}, the configuration's"
                    f" {wanted}; to start from the weights that fit, give --model.weights instead"
                )
