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

"""Lightning data module that mixes several data sets, and its sampler."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import lightning as L
import numpy as np
import torch
from lightning.pytorch.trainer.states import TrainerFn
from lightning.pytorch.utilities import rank_zero_warn
from torch import Tensor
from torch.utils.data import ConcatDataset, DataLoader, Sampler

from depthseg_ros.model_card import fitted_size

from ..errors import TrainingError
from .label_spaces import ClassSets
from .sources import Source, open_source
from .transforms import EvalDataset, TrainDataset


class MultiDataModule(L.LightningDataModule):
    """A mixture of data sets with labels, depth or both.

    The task of the trainer determines the views, canonical camera and scale of the samples.
    """

    trainer: L.Trainer  # never None while Lightning calls, unlike in the base class

    def __init__(
        self,
        train: dict[str, int],
        val: dict[str, int],
        folders: dict[str, Path] | None = None,
        options: dict[str, dict[str, Any]] | None = None,
        crop: tuple[int, int] = (384, 288),
        aspects: Sequence[float] = (),
        scale_range: tuple[float, float] = (0.6, 1.3),
        crop_schedule: Sequence[tuple[float, float]] = ((0.0, 1.0),),
        color_jitter_prob: float = 1.0,
        hflip_prob: float = 0.5,
        batch_size: int = 8,
        workers: int = 1,
    ) -> None:
        """Open the data sets.

        Args:
            train: Training data sets -> number of random samples per epoch; samples are repeated
                if the data set has fewer; 0: each sample once.
            val: Validation data sets -> number of samples; 0: all.
            folders: Folders of the data sets, except generated ones.
            options: Additional arguments of the readers, by data set.
            crop: Width and height of training crops, pixels.
            aspects: Aspect ratios (width / height) of crops, with the pixel count of `crop`. All
                crops of a batch have the same one: the nearest to that of the images if the data
                set has `aspects` (one per sample), otherwise a random one.
            scale_range: Least and greatest scale of images relative to the network's scale.
            crop_schedule: Pairs of a fraction of the epochs and, from there on, a scale factor of
                `crop` and `scale_range`. Starting with small crops saves most of the training
                time. Needs `trainer.reload_dataloaders_every_n_epochs: 1`.
            color_jitter_prob: Probability of colour jitter, and of degradations such as blur and
                noise if the network and the objective need no other views.
            hflip_prob: Probability of a horizontal flip.
            batch_size: Samples in a batch.
            workers: Number of loader processes.
        """
        super().__init__()
        if not 0 < scale_range[0] <= scale_range[1]:
            raise TrainingError(
                f"data.scale_range is {scale_range}, expected two increasing positive numbers"
            )
        if min(crop) < 32 or batch_size < 1 or workers < 0:
            raise TrainingError(
                f"data.crop is {crop}, data.batch_size {batch_size} and data.workers {workers},"
                " expected at least 32 x 32 pixels, 1 and 0"
            )
        starts = [start for start, _ in crop_schedule]
        if (
            starts != sorted(starts)
            or starts[:1] != [0.0]
            or min(scale for _, scale in crop_schedule) <= 0
        ):
            raise TrainingError(
                f"data.crop_schedule is {crop_schedule},"
                " expected increasing fractions that start at 0, and scales above 0"
            )
        if not train or min([*train.values(), *val.values()]) < 0:
            raise TrainingError(
                f"data.train is {train}, data.val {val}, expected data sets with counts from 0"
            )
        self.save_hyperparameters()
        folders, options = folders or {}, options or {}
        unused = [name for name in (*folders, *options) if name not in train and name not in val]
        if unused:
            raise TrainingError(
                "data.folders or data.options has entries for unused data sets"
                f" {', '.join(dict.fromkeys(unused))}: remove them"
            )
        self.samples_per_epoch = train

        def opened(split: str, counts: dict[str, int]) -> list[Source]:
            return [
                open_source(name, split, folders.get(name), count, options.get(name))
                for name, count in counts.items()
            ]

        self._opened = opened("train", dict.fromkeys(train, 0)), opened("val", val)
        self._open_test = lambda: opened("test", val)
        self.train, self.val = self._opened
        self.sets: ClassSets | None = None
        if not all(1 / 8 <= aspect <= 8 for aspect in aspects):
            raise TrainingError(f"data.aspects is {aspects}, expected numbers of 1/8 to 8")
        self.crop, self.scale_range, self.crop_schedule = crop, scale_range, tuple(crop_schedule)
        self.aspects = tuple(aspects)
        self.color_jitter_prob, self.hflip_prob = color_jitter_prob, hflip_prob
        self.batch_size, self.workers = batch_size, workers

    @property
    def provenance(self) -> dict[str, object]:
        """Sources and terms of use of the data, for the model card."""
        return {
            "trained_on": [f"{s.source} train" for s in self.train],
            "terms": "; ".join(dict.fromkeys(s.terms for s in self.train)),
        }

    def prepare_data(self) -> None:
        """Render the generated data sets that are not cached yet."""
        stage = self.trainer.state.fn
        fitting = stage == TrainerFn.FITTING
        tested = self._open_test() if stage == TrainerFn.TESTING else self.val
        for source in (*(self.train if fitting else ()), *tested):
            source.render()

    def setup(self, stage: str) -> None:
        """Map all labels to the model's classes; open the test splits for testing.

        Also passes the sets of classes to the objective. This cannot wait for the setup of the
        task, since callbacks copy the task before.
        """
        train, val = self._opened
        if stage == "test":
            val = self._open_test()
        task = self._task
        classes = task.card.classes
        self.sets = sets = ClassSets(classes)
        self.train = [source.mapped(classes, sets, scored=False) for source in train]
        self.val = [source.mapped(classes, sets) for source in val]
        objective = task.objective
        if len(sets) and "cross_entropy" not in getattr(objective, "segmentation", ()):
            rank_zero_warn(
                "Some labels refer to a set of classes, which only the loss cross_entropy supports:"
                " add it to model.objective.init_args.segmentation"
            )
        objective.sets = torch.from_numpy(sets.table).to(task.class_weights.device)

    @property
    def _task(self) -> Any:
        return self.trainer.lightning_module

    def class_shares(self, samples: int = 200) -> np.ndarray:
        """Estimate the fraction of each class among the labelled training pixels, (classes,).

        Uses at most `samples` samples of each data set. The pixels of a set of classes are divided
        among its classes in proportion to their own pixels.
        """
        number = len(self._task.card.classes)
        table = np.zeros((0, number), bool) if self.sets is None else self.sets.table
        counts = np.ones(number + len(table))
        for source in self.train:
            if source.classes is None:
                continue
            of_source = np.zeros(256)
            step = -(-len(source) // samples)
            for index in range(0, len(source), step):
                labels = source.samples[index].labels
                if labels is not None:
                    of_source += np.bincount(labels[::8, ::8].ravel(), minlength=256)
            of_source = of_source[: len(counts)]
            if of_source.sum():
                weight = self.samples_per_epoch[source.name] or len(source)
                counts += 1e6 * weight * of_source / of_source.sum()
        single = counts[:number].copy()
        for members, pixels in zip(table, counts[number:], strict=True):
            counts[:number] += pixels * np.where(members, single, 0) / single[members].sum()
        return counts[:number] / counts[:number].sum()

    def scale(self) -> float:
        """Scale of crops and of `scale_range` in the current epoch, from `crop_schedule`."""
        epochs = self.trainer.max_epochs or 0  # -1 or None: use the last scale
        share = self.trainer.current_epoch / epochs if epochs > 0 else 1.0
        return [scale for start, scale in self.crop_schedule if start <= share][-1]

    def train_dataloader(self) -> DataLoader[dict[str, Tensor]]:
        """Load augmented random crops of the training data sets."""
        lengths = [len(source) for source in self.train]
        counts = [self.samples_per_epoch[s.name] or len(s) for s in self.train]
        if sum(counts) < self.batch_size:
            raise TrainingError(
                f"an epoch has {sum(counts)} samples, a batch {self.batch_size}: raise data.train"
            )
        if len(self.crop_schedule) > 1 and not self.trainer.reload_dataloaders_every_n_epochs:  # type: ignore[attr-defined]  # Trainer does not declare it
            raise TrainingError(
                "data.crop_schedule has several steps:"
                " set trainer.reload_dataloaders_every_n_epochs: 1"
            )
        scale, task, trainer = self.scale(), self._task, self.trainer
        crop = (round(self.crop[0] * scale), round(self.crop[1] * scale))
        crops = [fitted_size(round(1000 * a), 1000, crop[0] * crop[1]) for a in self.aspects]
        shapes = [
            nearest(getattr(source.samples, "aspects", [math.nan] * len(source)), self.aspects)
            for source in self.train
        ]
        return DataLoader(
            TrainDataset(
                ConcatDataset([source.samples for source in self.train]),  # type: ignore[misc]  # typed as torch's Dataset, but needs no more than Samples
                crop,
                task.card,
                (self.scale_range[0] * scale, self.scale_range[1] * scale),
                views=(*task.system.inputs, *task.system.views, *task.objective.views),
                color_jitter_prob=self.color_jitter_prob,
                hflip_prob=self.hflip_prob,
                sets=0 if self.sets is None else len(self.sets),
            ),
            self.batch_size,
            sampler=MultiDataSampler(
                lengths,
                counts,
                task.seed,
                lambda: trainer.current_epoch,
                crops or [crop],
                np.concatenate(shapes),
                self.batch_size * trainer.world_size,
            ),
            generator=torch.Generator(),  # so that reloading does not use the global generator
            drop_last=True,
            num_workers=self.workers,
        )

    def val_dataloader(self) -> list[DataLoader[dict[str, Tensor]]]:
        """Load the full images of each validation data set, with batch size 1."""
        card, inputs = self._task.card, self._task.system.inputs
        return [
            DataLoader(
                EvalDataset(source.samples, card, inputs, source.sets), num_workers=self.workers
            )
            for source in self.val
        ]

    test_dataloader = predict_dataloader = val_dataloader


def nearest(aspects: Sequence[float], choices: Sequence[float]) -> np.ndarray:
    """Return the index of the choice with the nearest ratio to each aspect; -1 for NaN."""
    if not choices:
        return np.zeros(len(aspects), int)
    gaps = np.abs(np.log(np.asarray(aspects)[:, None] / np.asarray(choices)))
    return np.where(np.isnan(aspects), -1, np.nan_to_num(gaps).argmin(1))


class MultiDataSampler(Sampler[tuple[int, int, tuple[int, int]]]):
    """Samples a given number of items from each of several concatenated data sets.

    The indices, augmentation seeds and crop sizes depend only on seed and epoch. So all processes
    of a distributed run agree on them, and a resumed run continues with the same samples.
    """

    def __init__(
        self,
        lengths: Sequence[int],
        counts: Sequence[int],
        seed: int = 0,
        epoch: Callable[[], int] = lambda: 0,
        crops: Sequence[tuple[int, int]] = ((0, 0),),
        shapes: np.ndarray | None = None,
        batch: int = 1,
    ) -> None:
        """Define the epochs.

        Args:
            lengths: Number of samples in each data set.
            counts: Number of samples per epoch from each; all are used once before any is repeated.
            seed: Seed of the run.
            epoch: Returns the current epoch. (Counting the iterators would be wrong, since
                Lightning creates more of them than it has epochs.)
            crops: Widths and heights of crops.
            shapes: Index into `crops` for each sample of the concatenation, -1 for a random one.
            batch: Number of consecutive samples that have the same crop size. Samples that do not
                fill a batch are mixed in the last batches.
        """
        self.lengths, self.counts, self.seed, self.epoch = lengths, counts, seed, epoch
        self.crops, self.batch = crops, batch
        self.shapes = np.zeros(sum(lengths), int) if shapes is None else shapes

    def __len__(self) -> int:
        """Samples in an epoch."""
        return sum(self.counts)

    def __iter__(self) -> Iterator[tuple[int, int, tuple[int, int]]]:
        """Yield an index into the concatenation, a seed and a crop size per sample, shuffled."""
        rng = np.random.default_rng([self.seed, self.epoch()])
        firsts = np.cumsum([0, *self.lengths])
        chosen = [
            first
            + np.concatenate([rng.permutation(length) for _ in range(-(-count // length))])[:count]
            for first, length, count in zip(firsts, self.lengths, self.counts, strict=False)
        ]
        indices = rng.permutation(np.concatenate(chosen))
        seeds = rng.integers(2**63, size=len(indices))
        shapes = self.shapes[indices]
        if len(self.crops) > 1:
            anywhere = shapes < 0
            shapes = np.where(anywhere, rng.integers(len(self.crops), size=len(shapes)), shapes)
            order = self._batches(shapes, rng)
            indices, seeds, shapes = indices[order], seeds[order], shapes[order]
            # A mixed batch has the crop of its first sample.
            shapes = shapes[np.arange(len(shapes)) // self.batch * self.batch]
        crops = (self.crops[max(shape, 0)] for shape in shapes)
        yield from zip(indices.tolist(), seeds.tolist(), crops, strict=True)

    def _batches(self, shapes: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """Order the samples so that all batches except the last ones have one shape."""
        full, rest = [], []
        for shape in range(len(self.crops)):
            places = np.flatnonzero(shapes == shape)
            end = len(places) // self.batch * self.batch
            full += np.split(places[:end], end // self.batch) if end else []
            rest.append(places[end:])
        shuffled = [full[i] for i in rng.permutation(len(full))]
        return np.concatenate([*shuffled, *rest])
