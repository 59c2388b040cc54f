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

`{split}/NAME.png` (or .jpg and the like) beside `{split}annot/NAME.png`, ids 0..10, 11 for
unlabelled.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from torch.utils.data import Dataset

from depthseg_ros.imaging.image_files import report_left_out
from depthseg_ros.model_card import UNLABELLED

from ...errors import TrainingError
from ..classes import CAMVID
from ..images import images_of, labels_of, read_ids, read_rgb, require_same_size, warn_of_masks
from ..sample import Sample

SOURCE = "CamVid (11 classes)"
TERMS = "CamVid is for research use"
CLASSES = "camvid"
_UNLABELLED_ID = len(CAMVID)


class CamVid(Dataset[Sample]):
    """Labels only; the pictures' focal length and depth are not known."""

    def __init__(
        self, root: str | Path, split: str, held_out: str | list[str] | None = None
    ) -> None:
        """List a split.

        Args:
            root: The data set's folder.
            split: `train`, `val` or `test`.
            held_out: A drive or several, by what the file names begin with before `_`, such as
                0006R0: `val` is these drives' images in train and val, `train` all others there;
                `[]` trains on all. By default the published splits, whose val lies between train's
                frames of the same drive and says little about other streets.

        Raises:
            TrainingError: images or their labels are missing, or there is no such drive.
        """
        folders = [split] if held_out is None or split == "test" else ["train", "val"]
        self.pairs = [pair for folder in folders for pair in _pairs(Path(root), folder)]
        if held_out is not None and split != "test":
            drives = [held_out] if isinstance(held_out, str) else held_out
            known = sorted({_drive(picture) for picture, _ in self.pairs})
            unknown = [drive for drive in drives if drive not in known]
            if unknown:
                raise TrainingError(
                    f"{root} has no drive {', '.join(unknown)} in train and val, only"
                    f" {', '.join(known)}"
                )
            self.pairs = [p for p in self.pairs if (_drive(p[0]) in drives) == (split == "val")]
            if not self.pairs:
                raise TrainingError(
                    f"{root} has nothing for {split!r} where held_out is {held_out!r}"
                )
        warn_of_masks([file for _, file in self.pairs])

    def __len__(self) -> int:
        """Number of pictures."""
        return len(self.pairs)

    def __getitem__(self, index: int) -> Sample:
        """Read one picture and its labels."""
        picture, label_file = self.pairs[index]
        image = read_rgb(picture)
        labels = read_labels(label_file)
        require_same_size(picture, image, labels=labels)
        return Sample(image, labels)


def _pairs(root: Path, split: str) -> list[tuple[Path, Path]]:
    """Images and labels of a folder."""
    folder, label_folder = root / split, root / f"{split}annot"
    pictures, labels = images_of(folder), labels_of(label_folder)
    if not pictures:
        raise TrainingError(f"no CamVid pictures found as {folder}/*.png or *.jpg")
    missing = [stem for stem in sorted(pictures) if stem not in labels]
    if missing:
        raise TrainingError(
            f"{len(missing)} label files are missing, the first is {label_folder / missing[0]}.png"
        )
    unused = [file for stem, file in labels.items() if stem not in pictures]
    report_left_out(label_folder, unused, "labels of no image")
    return [(pictures[stem], labels[stem]) for stem in sorted(pictures)]


def _drive(picture: Path) -> str:
    return picture.name.partition("_")[0]


def read_labels(path: Path) -> np.ndarray:
    """Read a label file: (H, W) uint8 ids, 255 for unlabelled; `TrainingError` if it is not one."""
    labels = read_ids(path, range(_UNLABELLED_ID + 1))
    labels[labels == _UNLABELLED_ID] = UNLABELLED
    return labels
