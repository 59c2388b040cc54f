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

"""Merge the labels of a data set with those refined by teachers, see `own_robot.refine`."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from depthseg_ros.model_card import UNLABELLED

from ..errors import TrainingError
from .images import read_gray, require_same_size
from .sample import Sample, Samples, WrappedDataset

CARD = "card.json"


def files_of(folder: Path, key: str) -> tuple[Path, Path]:
    """Paths of the refined labels and their confidence for an image key."""
    return folder / f"{key}.png", folder / f"{key}.trust.png"


def read_card(folder: Path) -> dict[str, Any]:
    """Read the description of refined labels; raises `TrainingError`."""
    try:
        return dict(json.loads((folder / CARD).read_text()))
    except (OSError, ValueError) as error:
        raise TrainingError(
            f"{folder / CARD} cannot be read ({error}): create it with python -m training"
            " pseudo-label"
        ) from None


class RefinedLabels(WrappedDataset):
    """A data set with refined labels wherever the teachers provide them."""

    def __init__(self, samples: Samples, folder: Path, keys: Sequence[str]) -> None:
        """Wrap a data set, given its image keys; raises `TrainingError` if files are missing."""
        super().__init__(samples)
        self.folder, self.keys = folder, keys
        missing = [f for key in keys for f in files_of(folder, key) if not f.is_file()]
        if missing:
            raise TrainingError(
                f"{folder} lacks {len(missing)} files, the first is {missing[0]}: run the same"
                " python -m training pseudo-label command again"
            )

    def __getitem__(self, index: int) -> Sample:
        """Read a sample and its refined labels."""
        sample = self.samples[index]
        files = files_of(self.folder, self.keys[index])
        labels = read_gray(files[0], np.uint8, "refined labels")
        confidence = read_gray(files[1], np.uint8, "confidence of refined labels")
        require_same_size(files[0], sample.image, labels=labels, confidence=confidence)
        refined = labels != UNLABELLED
        own = labels if sample.labels is None else sample.labels
        sample.labels = np.where(refined, labels, own)
        sample.labels_confidence = np.where(refined, confidence, np.uint8(255))
        return sample
