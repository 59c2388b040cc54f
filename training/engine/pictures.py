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

"""Pictures of predictions beside the ground truth, and figures, written to files."""

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


class PredictionImages(L.Callback):
    """Write images of predictions beside the ground truth, in validation and by `predict`.

    `FOLDER/DATA/epoch_NNN.png` has a row for each of a few validation images: the image, predicted
    and true labels, predicted and true depth. TensorBoard, if the run logs to it, gets the same
    images. `python -m training predict` writes one row per image to `FOLDER/DATA/NNNNN.png`, where
    NNNNN is the image's index in its data set.
    """

    def __init__(
        self, folder: Path = Path("runs/pictures"), every_n_epochs: int = 10, count: int = 4
    ) -> None:
        """Set up.

        Args:
            folder: Where to write.
            every_n_epochs: Period in epochs; images of the last epoch are always written.
            count: Validation images of each data set.
        """
        self.folder, self.every_n_epochs, self.count = Path(folder), every_n_epochs, count
        self._rows: dict[int, list[np.ndarray]] = {}

    def on_validation_epoch_start(self, trainer: L.Trainer, task: L.LightningModule) -> None:
        """Discard the rows of the last validation."""
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
        """Predict and keep `count` images, at equal distances in the data set."""
        epoch = trainer.current_epoch + 1
        due = epoch % self.every_n_epochs == 0 or epoch == trainer.max_epochs
        if trainer.sanity_checking or not due or not trainer.is_global_zero:
            return
        batches = int(trainer.num_val_batches[dataloader_idx])
        if batch_idx in {i * batches // self.count for i in range(self.count)}:
            with torch.inference_mode():
                prediction = task.predict_step(batch, batch_idx)
            self._rows.setdefault(dataloader_idx, []).append(row(batch, prediction, task.card))

    def on_validation_epoch_end(self, trainer: L.Trainer, task: Any) -> None:
        """Write the images."""
        for index, rows in self._rows.items():
            name = task.data_module.val[index].name
            path = self.folder / name / f"epoch_{trainer.current_epoch + 1:03}.png"
            sheet = write_rows(path, rows)
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
        """Write the row of one image."""
        name = task.data_module.val[dataloader_idx].name
        index = dataset_index(trainer.predict_dataloaders, dataloader_idx, batch_idx)
        if index is not None:
            write_rows(self.folder / name / f"{index:05}.png", [row(batch, outputs, task.card)])


PredictionPictures = PredictionImages  # the name in configurations of earlier versions


def write_rows(path: Path, rows: Sequence[np.ndarray]) -> np.ndarray:
    """Stack images, (h, w, 3) RGB each, vertically; write and return the result, (H, W, 3)."""
    width = max(r.shape[1] for r in rows)
    sheet = np.vstack([np.pad(r, ((0, 4), (0, width - r.shape[1]), (0, 0))) for r in rows])
    path.parent.mkdir(parents=True, exist_ok=True)
    with whole(path) as unfinished:
        unfinished.write_bytes(cv2.imencode(".png", sheet[..., ::-1])[1].tobytes())
    return sheet


def save_figure(path: Path, figure: Figure) -> None:
    """Write a figure as PNG, atomically; create its folder if necessary."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with whole(path) as unfinished:
        figure.savefig(unfinished, format="png", dpi=120)


def row(
    truth: Mapping[str, Tensor], prediction: Mapping[str, Tensor], card: ModelCard, width: int = 320
) -> np.ndarray:
    """Draw an image, predicted and true labels, predicted and true depth side by side.

    Args:
        truth: A batch of one image of `transforms.EvalDataset`.
        prediction: The model's outputs for it, by name.
        card: The model's card.
        width: Width of each part, pixels.

    Returns:
        (h, n * width, 3) RGB uint8.
    """
    image = truth["image"][0].cpu().numpy()
    both = (prediction, truth)
    tiles = [image]
    if card.classes:
        tiles += [overlay(image, x["labels"][0].cpu().numpy(), card.classes) for x in both]
    if card.depth:
        depths = [x["depth"][0].cpu().numpy() for x in both]
        far = card.depth.max
        if card.depth.kind != "metric":  # unknown scale: show the median at 10 m
            far = 80.0
            medians = [np.nanmedian(d) if np.isfinite(d).any() else 1.0 for d in depths]
            depths = [10 * d / max(m, 1e-6) for d, m in zip(depths, medians, strict=True)]
        tiles += [color_depth(d.astype(np.float32), far / 40, far) for d in depths]
    height = round(image.shape[0] * width / image.shape[1])
    return np.hstack([cv2.resize(t, (width, height), interpolation=cv2.INTER_AREA) for t in tiles])
