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

"""The data of a run: which data sets, how they are mixed, and what the card says of them."""

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
    """Any mixture of data sets, each with labels, depth or both.

    What the network needs of a sample (its views, canonical camera and scale) is asked of the task
    that the trainer runs.
    """

    trainer: L.Trainer  # not None, as the base class has it, whenever Lightning calls

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
        """Choose the data.

        Args:
            train: Data sets to train on -> samples of each in an epoch, drawn anew every time, and
                repeatedly where there are not so many; 0: each once.
            val: Data sets to validate on -> samples of each; 0: all.
            folders: Where those lie that are not generated.
            options: More arguments of the readers, by data set.
            crop: Width and height of training crops.
            aspects: Widths over heights that crops have in place of `crop`'s, with as many pixels:
                a batch has one of them. Samples go where their images' own is nearest, if the data
                set has `aspects` (one each), others anywhere.
            scale_range: Least and greatest enlargement of pictures against the network's scale.
            crop_schedule: Pairs of a share of the epochs and a scale of crops and of `scale_range`
                that holds from there on. Small crops at first learn most of what there is to learn
                in a fraction of the time. Needs `trainer.reload_dataloaders_every_n_epochs: 1`.
            color_jitter_prob: Probability that a sample is recoloured, and degraded by blur, noise
                and the like where the network and the objective need no other views.
            hflip_prob: Probability that a sample is mirrored.
            batch_size: Samples in a batch.
            workers: Processes that load.
        """
        super().__init__()
        if not 0 < scale_range[0] <= scale_range[1]:
            raise TrainingError(
                f"data.scale_range is {scale_range}, expected two growing positive numbers"
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
                f"data.crop_schedule is {crop_schedule}, expected growing shares from 0, scales > 0"
            )
        if not train or min([*train.values(), *val.values()]) < 0:
            raise TrainingError(f"data.train is {train}, data.val {val}: expected counts, or 0")
        self.save_hyperparameters()
        folders, options = folders or {}, options or {}
        unused = [name for name in (*folders, *options) if name not in train and name not in val]
        if unused:
            raise TrainingError(
                "data.folders or data.options has entries for unused data sets"
                f" {', '.join(dict.fromkeys(unused))}: remove them"
            )
        self.draws = train

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
        """What the card says of the data: sources and terms."""
        return {
            "trained_on": [f"{s.source} train" for s in self.train],
            "terms": "; ".join(dict.fromkeys(s.terms for s in self.train)),
        }

    def prepare_data(self) -> None:
        """Render what has not been rendered yet."""
        stage = self.trainer.state.fn
        fitting = stage == TrainerFn.FITTING
        tested = self._open_test() if stage == TrainerFn.TESTING else self.val
        for source in (*(self.train if fitting else ()), *tested):
            source.render()

    def setup(self, stage: str) -> None:
        """Give labels one meaning, that of the model's classes; take the test splits to be tested.

        The objective hears which sets of classes labels stand for. It does here, since callbacks
        copy the task before its own setup.
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
                "Some labels stand for a set of classes, which only the loss cross_entropy learns"
                " from: add it to model.objective.init_args.segmentation"
            )
        objective.sets = torch.from_numpy(sets.table).to(task.class_weights.device)

    @property
    def _task(self) -> Any:
        return self.trainer.lightning_module

    def class_shares(self, samples: int = 200) -> np.ndarray:
        """Share of each class among the labelled pixels of the training mixture, (classes,).

        Estimated from at most so many samples of each data set. The pixels of a set of classes are
        shared among these in proportion to what is labelled as one class.
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
                drawn = self.draws[source.name] or len(source)
                counts += 1e6 * drawn * of_source / of_source.sum()
        single = counts[:number].copy()
        for members, pixels in zip(table, counts[number:], strict=True):
            counts[:number] += pixels * np.where(members, single, 0) / single[members].sum()
        return counts[:number] / counts[:number].sum()

    def scale(self) -> float:
        """Scale of crops and of `scale_range` in the present epoch, by `crop_schedule`."""
        epochs = self.trainer.max_epochs or 0  # -1 or none: as if at the end
        share = self.trainer.current_epoch / epochs if epochs > 0 else 1.0
        return [scale for start, scale in self.crop_schedule if start <= share][-1]

    def train_dataloader(self) -> DataLoader[dict[str, Tensor]]:
        """Random crops of so many samples of each data set."""
        lengths = [len(source) for source in self.train]
        draws = [self.draws[s.name] or len(s) for s in self.train]
        if sum(draws) < self.batch_size:
            raise TrainingError(
                f"an epoch has {sum(draws)} samples, a batch {self.batch_size}: raise data.train"
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
                ConcatDataset([source.samples for source in self.train]),  # type: ignore[misc]  # torch wants its own class, and uses as much
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
                draws,
                task.seed,
                lambda: trainer.current_epoch,
                crops or [crop],
                np.concatenate(shapes),
                self.batch_size * trainer.world_size,
            ),
            generator=torch.Generator(),  # beginning anew takes nothing from the run's own chance
            drop_last=True,
            num_workers=self.workers,
        )

    def val_dataloader(self) -> list[DataLoader[dict[str, Tensor]]]:
        """The whole images of each data set, one at a time."""
        card, inputs = self._task.card, self._task.system.inputs
        return [
            DataLoader(
                EvalDataset(source.samples, card, inputs, source.sets), num_workers=self.workers
            )
            for source in self.val
        ]

    test_dataloader = predict_dataloader = val_dataloader


def nearest(aspects: Sequence[float], choices: Sequence[float]) -> np.ndarray:
    """Index of the choice that is nearest to each aspect, by ratio; -1 where it is NaN."""
    if not choices:
        return np.zeros(len(aspects), int)
    gaps = np.abs(np.log(np.asarray(aspects)[:, None] / np.asarray(choices)))
    return np.where(np.isnan(aspects), -1, np.nan_to_num(gaps).argmin(1))


class MultiDataSampler(Sampler[tuple[int, int, tuple[int, int]]]):
    """Draws so many samples of each of several concatenated data sets, anew in every epoch.

    What is drawn, the seed by which it is augmented, and the size of its crop follow from seed and
    epoch alone: the processes of a distributed run agree on it, and a run that is resumed sees what
    it would have.
    """

    def __init__(
        self,
        lengths: Sequence[int],
        draws: Sequence[int],
        seed: int = 0,
        epoch: Callable[[], int] = lambda: 0,
        crops: Sequence[tuple[int, int]] = ((0, 0),),
        shapes: np.ndarray | None = None,
        batch: int = 1,
    ) -> None:
        """`draws` of each are taken out of its `lengths`, none twice before all once.

        The epoch is asked for, not counted: Lightning begins an epoch more often than it ends one.
        Each `batch` consecutive ones have one of the `crops` (width, height): that of the index
        which `shapes` has for a sample of the concatenation, or by chance where it has -1. What
        fills no batch of its own shares the last ones.
        """
        self.lengths, self.draws, self.seed, self.epoch = lengths, draws, seed, epoch
        self.crops, self.batch = crops, batch
        self.shapes = np.zeros(sum(lengths), int) if shapes is None else shapes

    def __len__(self) -> int:
        """Samples in an epoch."""
        return sum(self.draws)

    def __iter__(self) -> Iterator[tuple[int, int, tuple[int, int]]]:
        """Indices into the concatenation, in random order, a seed and a crop size for each."""
        rng = np.random.default_rng([self.seed, self.epoch()])
        firsts = np.cumsum([0, *self.lengths])
        drawn = [
            first
            + np.concatenate([rng.permutation(length) for _ in range(-(-draws // length))])[:draws]
            for first, length, draws in zip(firsts, self.lengths, self.draws, strict=False)
        ]
        indices = rng.permutation(np.concatenate(drawn))
        seeds = rng.integers(2**63, size=len(indices))
        shapes = self.shapes[indices]
        if len(self.crops) > 1:
            anywhere = shapes < 0
            shapes = np.where(anywhere, rng.integers(len(self.crops), size=len(shapes)), shapes)
            order = self._batches(shapes, rng)
            indices, seeds, shapes = indices[order], seeds[order], shapes[order]
            # A batch that several share has the crop of its first.
            shapes = shapes[np.arange(len(shapes)) // self.batch * self.batch]
        crops = (self.crops[max(shape, 0)] for shape in shapes)
        yield from zip(indices.tolist(), seeds.tolist(), crops, strict=True)

    def _batches(self, shapes: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """An order in which batches are of one shape, but for the last ones."""
        whole, rest = [], []
        for shape in range(len(self.crops)):
            places = np.flatnonzero(shapes == shape)
            end = len(places) // self.batch * self.batch
            whole += np.split(places[:end], end // self.batch) if end else []
            rest.append(places[end:])
        shuffled = [whole[i] for i in rng.permutation(len(whole))]
        return np.concatenate([*shuffled, *rest])
