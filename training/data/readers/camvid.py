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

"""Read CamVid with 11 classes, in the layout of SegNet's tutorial.

Images are `{split}/NAME.png` (or another image format). Labels are `{split}annot/NAME.png` with the
ids 0..10, and 11 for unlabelled.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from torch.utils.data import Dataset

from depthseg_ros.imaging.image_files import report_left_out
from depthseg_ros.model_card import UNLABELLED

from ...errors import TrainingError
from ..classes import CAMVID
from ..images import (
    images_by_stem,
    label_files_by_stem,
    read_ids,
    read_rgb,
    require_same_size,
    warn_if_masks,
)
from ..sample import Sample

SOURCE = "CamVid (11 classes)"
TERMS = "CamVid is for research use"
CLASSES = "camvid"
_UNLABELLED_ID = len(CAMVID)


class CamVid(Dataset[Sample]):
    """Labels only; focal length and depth are unknown."""

    def __init__(
        self, root: str | Path, split: str, held_out: str | list[str] | None = None
    ) -> None:
        """List a split.

        Args:
            root: The folder of the data set.
            split: `train`, `val` or `test`.
            held_out: One or more drives (file name prefixes up to `_`, for example 0006R0) to use
                for `val` instead of the published split: `train` has all other images of train and
                val, so `[]` trains on all. In the published split, val and train frames come from
                the same drives, so it does not measure generalisation to other streets.

        Raises:
            TrainingError: images or labels are missing, or a drive is unknown.
        """
        folders = [split] if held_out is None or split == "test" else ["train", "val"]
        self.pairs = [pair for folder in folders for pair in _pairs(Path(root), folder)]
        if held_out is not None and split != "test":
            drives = [held_out] if isinstance(held_out, str) else held_out
            known = sorted({_drive(image_file) for image_file, _ in self.pairs})
            unknown = [drive for drive in drives if drive not in known]
            if unknown:
                raise TrainingError(
                    f"{root} has no drive {', '.join(unknown)} in train and val, only"
                    f" {', '.join(known)}"
                )
            self.pairs = [p for p in self.pairs if (_drive(p[0]) in drives) == (split == "val")]
            if not self.pairs:
                raise TrainingError(
                    f"{root} has no images for {split!r} if held_out is {held_out!r}"
                )
        warn_if_masks([file for _, file in self.pairs])

    def __len__(self) -> int:
        """Number of images."""
        return len(self.pairs)

    def __getitem__(self, index: int) -> Sample:
        """Read one image and its labels."""
        image_file, label_file = self.pairs[index]
        image = read_rgb(image_file)
        labels = read_labels(label_file)
        require_same_size(image_file, image, labels=labels)
        return Sample(image, labels)


def _pairs(root: Path, split: str) -> list[tuple[Path, Path]]:
    """List the pairs of image and label file of a published split."""
    folder, label_folder = root / split, root / f"{split}annot"
    images, labels = images_by_stem(folder), label_files_by_stem(label_folder)
    if not images:
        raise TrainingError(f"no CamVid images found as {folder}/*.png or *.jpg")
    missing = [stem for stem in sorted(images) if stem not in labels]
    if missing:
        raise TrainingError(
            f"{len(missing)} label files are missing, the first is {label_folder / missing[0]}.png"
        )
    unused = [file for stem, file in labels.items() if stem not in images]
    report_left_out(label_folder, unused, "labels without an image")
    return [(images[stem], labels[stem]) for stem in sorted(images)]


def _drive(image_file: Path) -> str:
    return image_file.name.partition("_")[0]


def read_labels(path: Path) -> np.ndarray:
    """Read a label file as (H, W) uint8 ids, 255 for unlabelled; raises `TrainingError`."""
    labels = read_ids(path, range(_UNLABELLED_ID + 1))
    labels[labels == _UNLABELLED_ID] = UNLABELLED
    return labels
