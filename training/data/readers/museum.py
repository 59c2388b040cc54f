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

"""Read MODEST museum, the data of system 002: people pasted into museums, with estimated depth.

The folder has `bg/bg001.jpeg`, `bg_fg/bg001_fg001_01.jpeg`, `bg_fg_mask/..._mask.jpeg` and
`bg_fg_depth_map/..._depth_map.jpeg`. Each line of `file_map.txt` has the four stems of a sample.
"""

from __future__ import annotations

import os
import re
from pathlib import Path

import numpy as np
from torch.utils.data import Dataset

from ...errors import TrainingError
from ..arrays import read_lines
from ..images import image_names
from ..sample import Sample
from .background_foreground import Composite, in_split, read_composite

SOURCE = "MODEST museum"
TERMS = "MODEST museum's terms are not stated; its images were collected from the web"
CLASSES = "mask"

FOLDERS = ("bg", "bg_fg", "bg_fg_mask", "bg_fg_depth_map")
"""Folders of background, scene, mask and depth, in the order of `file_map.txt`."""

_SCENE = re.compile(r"(bg(\d+))_fg(\d+)_\d+")


class Museum(Dataset[Sample]):
    """Masks as labels, depth from 0 to 1, and the view `background`."""

    def __init__(self, root: str | Path, split: str, leaking: bool = False) -> None:
        """List a split.

        A foreground and its horizontal flip have the same number, so both are held out together.

        Args:
            root: The parent folder of `file_map.txt`.
            split: `train`, `val` or `all`, see `background_foreground.in_split`.
            leaking: Split at random, see `background_foreground.in_split`.

        Raises:
            TrainingError: `file_map.txt` is missing or damaged, or images are missing.
        """
        self.root = Path(root)
        backgrounds, foregrounds, files = [], [], []
        for number, line in _read_lines(self.root / "file_map.txt"):
            stems = line.split("\t")
            scene = _SCENE.fullmatch(stems[1]) if len(stems) == 4 else None
            if scene is None or scene[1] != stems[0]:
                raise TrainingError(
                    f"{self.root / 'file_map.txt'} line {number} is {line!r}, expected the stems"
                    " bgN, bgN_fgM_K, and those of the mask and the depth, separated by tabs"
                )
            backgrounds.append(int(scene[2]))
            foregrounds.append(int(scene[3]))
            paths = (f"{f}/{stem}.jpeg" for f, stem in zip(FOLDERS, stems, strict=True))
            files.append(Composite(*paths))
        kept = in_split(split, backgrounds, foregrounds, leaking)
        self.files = self._with_endings([files[i] for i in np.flatnonzero(kept)])

    def __len__(self) -> int:
        """Number of scenes."""
        return len(self.files)

    def __getitem__(self, index: int) -> Sample:
        """Read one scene."""
        sample, depth = read_composite(self.root, self.files[index])
        sample.depth = depth.astype(np.float32) / np.float32(255)
        return sample

    def _with_endings(self, expected: list[Composite]) -> list[Composite]:
        """Find the files with any image extension; raises `TrainingError` if one is missing."""
        # Listing four folders is much faster than checking each of 1.2 million files.
        there: dict[str, str] = {}
        for folder in FOLDERS:
            for name in image_names(self.root / folder):
                other = there.setdefault(f"{folder}/{os.path.splitext(name)[0]}.jpeg", name)
                if other != name:
                    raise TrainingError(f"{self.root / folder} has {other} and {name}: remove one")
        missing = [file for files in expected for file in files if file not in there]
        if missing:
            raise TrainingError(
                f"{len(missing)} images of {self.root / 'file_map.txt'} are missing,"
                f" the first is {self.root / missing[0]}"
            )
        return [
            Composite(*(f"{file.partition('/')[0]}/{there[file]}" for file in files))
            for files in expected
        ]


def _read_lines(path: Path) -> list[tuple[int, str]]:
    try:
        lines = read_lines(path)
    except (OSError, ValueError) as error:
        raise TrainingError(f"the museum's {path} cannot be read ({error})") from None
    if not lines:
        raise TrainingError(f"the museum's {path} is empty, expected four stems per line")
    return lines
