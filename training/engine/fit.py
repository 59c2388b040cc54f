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
from lightning.pytorch.callbacks import LearningRateMonitor, ModelCheckpoint, RichProgressBar
from lightning.pytorch.callbacks import ProgressBar as AnyProgressBar
from lightning.pytorch.cli import LightningCLI
from lightning.pytorch.loggers import CSVLogger, TensorBoardLogger
from lightning.pytorch.utilities import rank_zero_info

from ..data.module import MultiDataModule
from ..errors import TrainingError
from .pictures import PredictionImages
from .task import JointTask
from .weights import read_checkpoint


class DivergenceCheck(L.Callback):
    """End the run before a checkpoint is saved if the loss is infinite or NaN."""

    def on_train_epoch_end(self, trainer: L.Trainer, task: L.LightningModule) -> None:
        """Check the last step's loss only: mixed precision may skip a step with an infinite one."""
        loss = trainer.callback_metrics["loss_step"]
        if not loss.isfinite():
            raise TrainingError(
                f"the loss is {loss.item()} in epoch {trainer.current_epoch}: lower"
                " model.learning_rate, or lower or set trainer.gradient_clip_val"
            )


class ProgressBar(RichProgressBar):
    """Lightning's progress bar, but epochs count from 1: the last of two is `2/2`, not `1/1`."""

    def _get_train_description(self, current_epoch: int) -> str:
        total = self.trainer.max_epochs
        shown = f"Epoch {current_epoch + 1}" + (f"/{total}" if total and total > 0 else "")
        return shown.ljust(len(self.validation_description))


class CommandLine(LightningCLI):
    """Lightning's command line with the project's task, data, loggers and callbacks.

    A run writes to `trainer.default_root_dir`, by default `runs/NAME` with the model's name: the
    logs of `CSVLogger` and `TensorBoardLogger`, `last.ckpt`, and images of predictions. A logger or
    a callback of the same kind in the configuration replaces the default one.
    """

    checkpoint: Path | None = None
    """The checkpoint to resume or evaluate."""

    def __init__(self, arguments: list[str], **options: Any) -> None:
        """Parse the arguments and run the command; with `run=False`, build the objects only."""
        super().__init__(
            JointTask,
            MultiDataModule,
            args=arguments,
            save_config_kwargs={"overwrite": True},
            seed_everything_default=0,
            trainer_defaults={
                "callbacks": DivergenceCheck(),
                # Lightning cannot count the operations of this task: "Total FLOPs: 0".
                "enable_model_summary": False,
                "log_every_n_steps": 10,
                "reload_dataloaders_every_n_epochs": 1,
            },
            **options,
        )

    @staticmethod
    def subcommands() -> dict[str, set[str]]:
        """Lightning's commands, each with the arguments that are not offered."""
        commands = LightningCLI.subcommands()
        return {**commands, "predict": {*commands["predict"], "return_predictions"}}

    def before_fit(self) -> None:
        """Log the model's name, system and size."""
        card = self.model.card
        rank_zero_info(f"{card.name}: {card.system}, {card.parameters:,} parameters")

    def predict(self, **options: Any) -> None:
        """Predict without collecting the outputs: `PredictionImages` writes them to files."""
        self.trainer.predict(**options, return_predictions=False)

    def instantiate_trainer(self, **options: Any) -> L.Trainer:
        """Build the trainer, with the default loggers and callbacks that are not configured."""
        config = self._get(self.config_init, "trainer")
        folder = Path(config["default_root_dir"] or f"runs/{self.model.card.name}")
        logger = config["logger"]
        if logger is None or logger is True:
            board = TensorBoardLogger(folder, name="")
            logger = [CSVLogger(folder, name="", version=board.version), board]
        callbacks = config["callbacks"] or []
        callbacks = list(callbacks) if isinstance(callbacks, list) else [callbacks]

        def is_missing(kind: type[L.Callback]) -> bool:
            return not any(isinstance(callback, kind) for callback in callbacks)

        if config["enable_checkpointing"] is not False and is_missing(ModelCheckpoint):
            # Keep the last checkpoint only: the learning rate schedule ends with the best one.
            checkpoint = ModelCheckpoint(
                folder, "last", save_on_train_epoch_end=True, enable_version_counter=False
            )
            callbacks.append(checkpoint)
        if logger and is_missing(LearningRateMonitor):
            callbacks.append(LearningRateMonitor())
        if is_missing(PredictionImages):
            every_n_epochs = config["check_val_every_n_epoch"] or 1
            callbacks.append(PredictionImages(folder / "images", every_n_epochs))
        if config["enable_progress_bar"] is not False and is_missing(AnyProgressBar):
            callbacks.append(ProgressBar())
        defaults = {"default_root_dir": folder, "logger": logger, "callbacks": callbacks}
        return super().instantiate_trainer(**defaults, **options)

    def instantiate_classes(self) -> None:
        """Build all objects; report a wrong option or checkpoint in one line."""
        try:
            super().instantiate_classes()
        except ValueError as error:  # jsonargparse's error is about its parser, not about the part
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
        """Read the checkpoint's shapes; a file that is not a checkpoint is an error of one line.

        This replaces Lightning's method, which lets the checkpoint's options override those of the
        configuration and the command line, and accepts names such as `last`.
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
