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

"""CamVid, 11 classes, in the layout of SegNet's tutorial.

`{split}/NAME.{png,jpg}` beside `{split}annot/NAME.png`, uint8 ids 0..10, 11 for unlabelled.
"""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
from torch.utils.data import Dataset

from depthseg_ros.model_card import UNLABELLED

from ..classes import CAMVID
from ..errors import TrainingError
from . import Sample
from .pictures import read_rgb

SOURCE = "CamVid (11 classes)"
TERMS = "CamVid is for research use"
CLASSES = "camvid"
_UNLABELLED_ID = len(CAMVID)


class CamVid(Dataset[Sample]):
    """Labels only; the pictures' focal length and depth are not known."""

    def __init__(self, root: str | Path, split: str) -> None:
        """List a split; raises `TrainingError` where pictures or their labels are missing."""
        root = Path(root)
        pictures = sorted(p for p in root.glob(f"{split}/*") if p.suffix in (".png", ".jpg"))
        if not pictures:
            raise TrainingError(f"no CamVid pictures found as {root / split}/*.png or *.jpg")
        self.pairs = [(p, root / f"{split}annot" / f"{p.stem}.png") for p in pictures]
        missing = [str(labels) for _, labels in self.pairs if not labels.is_file()]
        if missing:
            raise TrainingError(
                f"{len(missing)} label files are missing, the first is {missing[0]}"
            )

    def __len__(self) -> int:
        """Number of pictures."""
        return len(self.pairs)

    def __getitem__(self, index: int) -> Sample:
        """Read one picture and its labels."""
        picture, label_file = self.pairs[index]
        image = read_rgb(picture)
        labels = read_labels(label_file)
        if image.shape[:2] != labels.shape:
            raise TrainingError(
                f"{picture} is {image.shape[:2]}, its labels are {labels.shape} (height, width)"
            )
        return Sample(image, labels)


def read_labels(path: Path) -> np.ndarray:
    """Read a label file: (H, W) uint8 ids, 255 for unlabelled; `TrainingError` if it is not one."""
    labels = cv2.imread(str(path), cv2.IMREAD_UNCHANGED)
    if labels is None or labels.ndim != 2 or labels.dtype != np.uint8:
        raise TrainingError(f"{path} is not a label picture of one 8-bit channel")
    if labels.max() > _UNLABELLED_ID:
        raise TrainingError(f"{path} has label {labels.max()}, expected 0..{_UNLABELLED_ID}")
    labels[labels == _UNLABELLED_ID] = UNLABELLED
    return labels
