"""The data of a run: which data sets, how they are mixed, and what the card says of them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import lightning as L
import numpy as np
import torch
from torch import Tensor
from torch.utils.data import ConcatDataset, DataLoader, Dataset, Sampler

from .classes import CAMVID
from .datasets import Sample, camvid, rendered
from .errors import TrainingError
from .transforms import Augmented, Whole


class StreetData(L.LightningDataModule):
    """Rendered streets with both tasks' truth, mixed with CamVid, which has labels only."""

    def __init__(
        self,
        camvid: Path | None = None,
        streets: int = 400,
        moments: int = 5,
        draws: int = 200,
        val_streets: int = 32,
        cache: Path = rendered.CACHE,
        crop: tuple[int, int] = (320, 240),
        zoom: tuple[float, float] = (0.6, 1.6),
        half_size_until: float = 0.0,
        network_width: int = 480,
        canonical_fx: float = 420.0,
        batch_size: int = 8,
        workers: int = 1,
    ) -> None:
        """Choose the data.

        Args:
            camvid: Folder of CamVid; streets alone if not given.
            streets: Rendered streets to train on.
            moments: Pictures of each of them.
            draws: Pictures of streets in an epoch, beside the whole of CamVid.
            val_streets: Rendered streets to validate on, one picture each.
            cache: Folder for what is rendered.
            crop: Width and height of training crops.
            zoom: Least and greatest enlargement of pictures against the network's scale.
            half_size_until: Share of the epochs, the first ones, in which crops and zoom are
                halved: most of what there is to learn is learned there at a third of the time.
                Needs `trainer.reload_dataloaders_every_n_epochs: 1`.
            network_width: As the task's `network_size`.
            canonical_fx: As the task's.
            batch_size: Samples in a batch.
            workers: Processes that load.
        """
        super().__init__()
        if not 0 < zoom[0] <= zoom[1]:
            raise TrainingError(f"data.zoom is {zoom}, expected two growing positive numbers")
        if min(crop) < 32 or batch_size < 1:
            raise TrainingError(
                f"data.crop is {crop} and data.batch_size {batch_size},"
                " expected at least 32 x 32 pixels and 1"
            )
        self.save_hyperparameters()
        self.camvid, self.draws = camvid, draws
        self.crop, self.zoom, self.half_size_until = crop, zoom, half_size_until
        self.network_width, self.canonical_fx = network_width, canonical_fx
        self.batch_size, self.workers = batch_size, workers
        self.train_streets = rendered.RenderedStreets("train", streets, moments, cache=cache)
        self.val_streets = rendered.RenderedStreets("val", val_streets, cache=cache)

    @property
    def provenance(self) -> dict[str, object]:
        """What the card says of the data: sources and terms."""
        if self.camvid is None:
            return {"trained_on": [rendered.SOURCE], "terms": rendered.TERMS}
        return {
            "trained_on": [rendered.SOURCE, f"{camvid.SOURCE} train"],
            "terms": f"{camvid.TERMS}; {rendered.TERMS}",
        }

    def prepare_data(self) -> None:
        """Look for CamVid, then render what has not been rendered yet."""
        if self.camvid is not None:
            camvid.CamVid(self.camvid, "train")
            camvid.CamVid(self.camvid, "val")
        self.train_streets.render()
        self.val_streets.render()

    def class_shares(self) -> np.ndarray:
        """Share of each class among the labelled pixels, (classes,); CamVid's where it is used."""
        counts = np.ones(256)
        for labels in self._some_labels():
            counts += np.bincount(labels[::8, ::8].ravel(), minlength=256)
        counts = counts[: len(CAMVID)]
        return counts / counts.sum()

    def _some_labels(self) -> Iterable[np.ndarray]:
        if self.camvid is not None:
            return (camvid.read_labels(p) for _, p in camvid.CamVid(self.camvid, "train").pairs)
        few = range(0, len(self.train_streets), max(1, len(self.train_streets) // 200))
        return (self.train_streets[i].labels for i in few)  # type: ignore[misc]

    def train_dataloader(self) -> DataLoader[dict[str, Tensor]]:
        """Random crops of CamVid and of so many streets."""
        parts: list[Dataset[Sample]] = [self.train_streets]
        draws = [min(self.draws, len(self.train_streets))]
        if self.camvid is not None:
            pictures = camvid.CamVid(self.camvid, "train")
            parts.append(pictures)
            draws.append(len(pictures))
        if sum(draws) < self.batch_size:
            raise TrainingError(
                f"an epoch has {sum(draws)} samples, a batch {self.batch_size}:"
                " give data.camvid or more data.draws"
            )
        crop, zoom = self.crop, self.zoom
        trainer = self.trainer
        if (
            trainer is not None
            and trainer.current_epoch < self.half_size_until * trainer.max_epochs
        ):  # type: ignore[operator]
            crop, zoom = (crop[0] // 2, crop[1] // 2), (zoom[0] / 2, zoom[1] / 2)
        return DataLoader(
            Augmented(ConcatDataset(parts), crop, self.network_width, self.canonical_fx, zoom),
            self.batch_size,
            sampler=MixtureSampler([len(part) for part in parts], draws),  # type: ignore[arg-type]
            drop_last=True,
            num_workers=self.workers,
        )

    @property
    def val_names(self) -> list[str]:
        """Names of the validation data, in the order of `val_dataloader`."""
        return ["streets"] if self.camvid is None else ["camvid", "streets"]

    def val_dataloader(self) -> list[DataLoader[dict[str, Tensor]]]:
        """Whole pictures of each data set, one at a time."""
        parts: list[Dataset[Sample]] = [self.val_streets]
        if self.camvid is not None:
            parts.insert(0, camvid.CamVid(self.camvid, "val"))
        return [DataLoader(Whole(part), num_workers=self.workers) for part in parts]


class MixtureSampler(Sampler[int]):
    """Draws so many samples of each of several concatenated data sets, anew in every epoch."""

    def __init__(self, lengths: Sequence[int], draws: Sequence[int]) -> None:
        """`draws` of each are taken out of its `lengths`, without repetition."""
        self.lengths, self.draws = lengths, draws

    def __len__(self) -> int:
        """Samples in an epoch."""
        return sum(self.draws)

    def __iter__(self) -> Iterator[int]:
        """Indices into the concatenation, in random order."""
        drawn = []
        first = 0
        for length, draws in zip(self.lengths, self.draws, strict=True):
            drawn.append(first + torch.randperm(length)[:draws])
            first += length
        indices = torch.cat(drawn)
        yield from indices[torch.randperm(len(indices))].tolist()
