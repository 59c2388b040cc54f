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

"""Refine the labels of a data set with teachers: they choose a class for sets and missing labels.

The output folder has two files for each image: `KEY.png` with the model's class ids, uint8, 255 to
keep the data set's label; and `KEY.trust.png` with the confidence, 0 to 255. `card.json` names the
teachers. KEY is the image's path relative to the data set's folder, without extension.

For a label that is a set of classes, the teachers choose the class of the set with the highest mean
probability. Its share of the set's probability must be above `WITHIN`, and the set's probability
above `SET`. The confidence is that share. For a missing label, the probability of the class must be
above `ALONE`; it is the confidence.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from rich.console import Console
from rich.progress import track

from depthseg_ros.files import whole
from depthseg_ros.model_card import UNLABELLED, SemanticClass

from ..data.label_spaces import ClassSets
from ..data.refined_labels import CARD, files_of, read_card
from ..data.shards import to_png, write_json
from ..data.sources import Source
from ..errors import TrainingError
from ..options import check_same
from .teachers import PlainOnnx, Teacher

WITHIN, SET, ALONE = 0.7, 0.3, 0.5


def decide(
    labels: NDArray[np.uint8], shares: NDArray[np.float32], sets: NDArray[np.bool_]
) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """Choose classes for labels that are sets of classes or missing.

    Args:
        labels: (H, W) ids: below C classes, from C on sets of classes, 255 unlabelled.
        shares: (C, H, W) the teachers' mean probabilities.
        sets: (S, C) the classes of each set.

    Returns:
        (H, W) class ids, 255 if none is chosen, and (H, W) confidence, 0 to 255.
    """
    classes = len(shares)
    decided = np.full(labels.shape, UNLABELLED, np.uint8)
    trust = np.zeros(labels.shape, np.uint8)
    anything = np.ones((1, classes), bool)
    ids = [*range(classes, classes + len(sets)), UNLABELLED]
    for label, members in zip(ids, [*sets, *anything], strict=True):
        here = labels == label
        if not here.any():
            continue
        own = shares[members][:, here]
        total, best = own.sum(0), own.max(0)
        if label == UNLABELLED:
            share, is_confident = best, best > ALONE
        else:
            share = best / np.maximum(total, 1e-6)
            is_confident = (share > WITHIN) & (total > SET)
        chosen = np.flatnonzero(members).astype(np.uint8)[own.argmax(0)]
        decided[here] = np.where(is_confident, chosen, UNLABELLED)
        trust[here] = np.where(is_confident, np.rint(255 * share), 0).astype(np.uint8)
    return decided, trust


def refine(
    source: Source,
    teachers: Sequence[Teacher],
    classes: tuple[SemanticClass, ...],
    folder: Path,
    card: dict[str, Any],
) -> None:
    """Write the refined labels of a data set; existing files stay.

    Args:
        source: The data set, not mapped, with a key for each image.
        teachers: They predict the model's classes.
        classes: The model's classes.
        folder: The output folder.
        card: The options that the labels depend on, stored with them.

    Raises:
        TrainingError: The folder has labels with other options, or the source has no keys.
    """
    keys = source.keys
    if keys is None:
        raise TrainingError(
            f"{source.name}: only data sets of folders can be refined, see docs/training.md"
        )
    if (folder / CARD).is_file():
        check_same(folder, read_card(folder), card)
    folder.mkdir(parents=True, exist_ok=True)
    write_json(folder / CARD, card)
    sets = ClassSets(classes)
    samples = source.mapped(classes, sets, scored=False).samples
    console = Console(stderr=True)
    numbers = range(len(keys))
    for index in track(numbers, source.name, console=console, disable=not console.is_terminal):
        files = files_of(folder, keys[index])
        if all(file.is_file() for file in files):
            continue
        sample = samples[index]
        shape = sample.image.shape[:2]
        labels = np.full(shape, UNLABELLED, np.uint8) if sample.labels is None else sample.labels
        made = decide(labels, _shares(teachers, sample.image), sets.table)
        files[0].parent.mkdir(parents=True, exist_ok=True)
        for file, array in zip(files, made, strict=True):
            with whole(file) as unfinished:
                unfinished.write_bytes(to_png(array))


@torch.inference_mode()
def _shares(teachers: Sequence[Teacher], image: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Mean probabilities, (C, H, W), over teachers, the image and its mirror image."""
    view = torch.from_numpy(image)[None]
    total = torch.zeros(())
    for teacher in teachers:
        for mirrored in (False, True):
            shares = teacher(view.flip(2) if mirrored else view, None, 1.0).shares
            if shares is None:
                raise TrainingError("a teacher that predicts no labels cannot refine them")
            total = total + (shares.flip(3) if mirrored else shares)
    return (total[0] / (2 * len(teachers))).cpu().numpy()


def terms(names: Sequence[str], teachers: Sequence[Teacher]) -> list[str]:
    """Terms of the labels, for the card of a model that is trained on them."""
    result = []
    for name, teacher in zip(names, teachers, strict=True):
        known = teacher.trained_on if isinstance(teacher, PlainOnnx) else ""
        terms_of = f"was trained on {known}" if known else "has terms of its own"
        result.append(f"labels by {Path(name).name}, which {terms_of}")
    return result
