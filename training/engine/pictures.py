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

"""Pictures: what a network says, beside the truth, and figures written to files."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import cv2
import lightning as L
import numpy as np
import torch
from lightning.pytorch.loggers import TensorBoardLogger
from torch import Tensor

from depthseg_ros.files import whole
from depthseg_ros.imaging.rendering import color_depth, overlay
from depthseg_ros.model_card import ModelCard

from ..processes import dataset_index

if TYPE_CHECKING:  # it takes long to import
    from matplotlib.figure import Figure


class PredictionPictures(L.Callback):
    """Writes sheets of a few validation pictures every few epochs, and one per picture predicted.

    TensorBoard, where the run logs to it, gets the sheets too, beside its curves.

    `FOLDER/DATA/epoch_NNN.png` has one row a picture: the picture, the labels said and true, the
    depth said and true. `FOLDER/DATA/NNNNN.png` are rows of `python -m training predict`, NNNNN the
    image's index in its data set.
    """

    def __init__(
        self, folder: Path = Path("runs/pictures"), every_n_epochs: int = 10, count: int = 4
    ) -> None:
        """Set up.

        Args:
            folder: Where to write.
            every_n_epochs: How often; the last epoch's are always written.
            count: Pictures of each data set.
        """
        self.folder, self.every_n_epochs, self.count = Path(folder), every_n_epochs, count
        self._rows: dict[int, list[np.ndarray]] = {}

    def on_validation_epoch_start(self, trainer: L.Trainer, task: L.LightningModule) -> None:
        """Begin new sheets."""
        self._rows = {}

    def on_validation_batch_end(
        self,
        trainer: L.Trainer,
        task: Any,
        outputs: Any,
        batch: Mapping[str, Tensor],
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Keep every so manieth picture."""
        epoch = trainer.current_epoch + 1
        due = epoch % self.every_n_epochs == 0 or epoch == trainer.max_epochs
        batches = trainer.num_val_batches[dataloader_idx]
        if trainer.sanity_checking or not due or not trainer.is_global_zero:
            return
        chosen = {i * int(batches) // self.count for i in range(self.count)}
        if batch_idx in chosen:
            with torch.inference_mode():
                said = task.predict_step(batch, batch_idx)
            self._rows.setdefault(dataloader_idx, []).append(row(batch, said, task.card))

    def on_validation_epoch_end(self, trainer: L.Trainer, task: Any) -> None:
        """Write the sheets."""
        for index, rows in self._rows.items():
            name = task.data_module.val[index].name
            sheet = write_rows(
                self.folder / name / f"epoch_{trainer.current_epoch + 1:03}.png", rows
            )
            for logger in trainer.loggers:
                if isinstance(logger, TensorBoardLogger):
                    board, step = logger.experiment, trainer.global_step
                    board.add_image(f"predictions/{name}", sheet, step, dataformats="HWC")

    def on_predict_batch_end(
        self,
        trainer: L.Trainer,
        task: Any,
        outputs: Any,
        batch: Mapping[str, Tensor],
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Write a picture's row."""
        name = task.data_module.val[dataloader_idx].name
        index = dataset_index(trainer.predict_dataloaders, dataloader_idx, batch_idx)
        if index is not None:
            write_rows(self.folder / name / f"{index:05}.png", [row(batch, outputs, task.card)])


def write_rows(path: Path, rows: Sequence[np.ndarray]) -> np.ndarray:
    """Write images, (h, w, 3) RGB, below each other as one PNG file; returns it, (H, W, 3) RGB."""
    width = max(r.shape[1] for r in rows)
    sheet = np.vstack([np.pad(r, ((0, 4), (0, width - r.shape[1]), (0, 0))) for r in rows])
    path.parent.mkdir(parents=True, exist_ok=True)
    with whole(path) as unfinished:
        unfinished.write_bytes(cv2.imencode(".png", sheet[..., ::-1])[1].tobytes())
    return sheet


def save_figure(path: Path, figure: Figure) -> None:
    """Write a figure as PNG, which is there wholly or not at all; its folder is made if need be."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with whole(path) as unfinished:
        figure.savefig(unfinished, format="png", dpi=120)


def row(
    truth: Mapping[str, Tensor], said: Mapping[str, Tensor], card: ModelCard, width: int = 320
) -> np.ndarray:
    """One picture with what is said and what is true of it, side by side, (h, n * width, 3) RGB."""
    image = truth["image"][0].cpu().numpy()
    tiles = [image]
    if card.classes:
        tiles += [overlay(image, x["labels"][0].cpu().numpy(), card.classes) for x in (said, truth)]
    if card.depth:
        depths = [x["depth"][0].cpu().numpy() for x in (said, truth)]
        far = card.depth.max
        if card.depth.kind != "metric":  # any scale: as if the middle were at 10 m
            far = 80.0
            known = [np.nanmedian(d) if np.isfinite(d).any() else 1.0 for d in depths]
            depths = [10 * d / max(k, 1e-6) for d, k in zip(depths, known, strict=True)]
        tiles += [color_depth(d.astype(np.float32), far / 40, far) for d in depths]
    height = round(image.shape[0] * width / image.shape[1])
    return np.hstack([cv2.resize(t, (width, height), interpolation=cv2.INTER_AREA) for t in tiles])
