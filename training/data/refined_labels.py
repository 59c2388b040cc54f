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

"""Read the labels that teachers refined, see `refine`, beside those of the data set itself."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from depthseg_ros.model_card import UNLABELLED

from ..errors import TrainingError
from .images import read_gray, require_same_size
from .sample import Sample, Samples, Wrapped

CARD = "card.json"


def files_of(folder: Path, key: str) -> tuple[Path, Path]:
    """Of an image's key: its labels and their trust."""
    return folder / f"{key}.png", folder / f"{key}.trust.png"


def read_card(folder: Path) -> dict[str, Any]:
    """What refined labels depend on; raises `TrainingError`."""
    try:
        return dict(json.loads((folder / CARD).read_text()))
    except (OSError, ValueError) as error:
        raise TrainingError(
            f"{folder / CARD} cannot be read ({error}): python -m training pseudo-label makes it"
        ) from None


class RefinedLabels(Wrapped):
    """A data set of the model's labels, with refined ones where teachers decided."""

    def __init__(self, samples: Samples, folder: Path, keys: Sequence[str]) -> None:
        """Wrap a data set whose images have these keys; raises `TrainingError` if files lack."""
        super().__init__(samples)
        self.folder, self.keys = folder, keys
        missing = [f for key in keys for f in files_of(folder, key) if not f.is_file()]
        if missing:
            raise TrainingError(
                f"{folder} lacks {len(missing)} files, the first is {missing[0]}: give the command"
                " python -m training pseudo-label that began it again"
            )

    def __getitem__(self, index: int) -> Sample:
        """Read a sample and its refined labels."""
        sample = self.samples[index]
        files = files_of(self.folder, self.keys[index])
        labels, trust = (
            read_gray(file, np.uint8, what)
            for file, what in zip(files, ("refined labels", "their trust"), strict=True)
        )
        require_same_size(files[0], sample.image, labels=labels, trust=trust)
        decided = labels != UNLABELLED
        own = labels if sample.labels is None else sample.labels
        sample.labels = np.where(decided, labels, own)
        sample.labels_trust = np.where(decided, trust, np.uint8(255))
        return sample
