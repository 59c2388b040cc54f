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

"""Read a hand-held RGB-D sequence like 7-Scenes, in the layout of tsdf-fusion.

The folder has `frame-%06d.color.jpg` (or another image format), `frame-%06d.depth.png` (uint16
millimetres, 0 and 65535 unknown) and `camera-intrinsics.txt` (3x3). Poses are not read.
The depth camera is not registered to the colour camera: depth errors below 2 % are not meaningful.
"""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
from torch.utils.data import Dataset

from ...errors import TrainingError
from ..arrays import read_focal_length
from ..images import StemIndex, read_rgb, read_uint16, require_files, require_same_size
from ..sample import Sample

SOURCE = "7-Scenes"
TERMS = "7-Scenes is for research use"


class RgbdSequence(Dataset[Sample]):
    """Metric depth, no labels; optionally neighbouring images as views."""

    def __init__(self, root: str | Path, split: str, neighbours: int = 0) -> None:
        """List a split.

        Args:
            root: The folder of the sequence.
            split: `train` (the first four fifths in time), `val` (the rest) or `all`.
            neighbours: Distance in frame numbers to the views `previous` and `next`; 0: no views.
                Views from another split are omitted.

        Raises:
            TrainingError: the split is unknown or empty, or depth or intrinsics are missing.
        """
        root = Path(root)
        self.find = StemIndex()
        images = {
            int(match[1]): self.find(root / f"{stem}.jpg")
            for stem in self.find.stems(root)
            if (match := re.fullmatch(r"frame-(\d+)\.color", stem))
        }
        if not images:
            raise TrainingError(f"no RGB-D images found as {root}/frame-NUMBER.color.jpg or .png")
        numbers = sorted(images)
        first_of_val = len(numbers) * 4 // 5
        parts = {"train": numbers[:first_of_val], "val": numbers[first_of_val:], "all": numbers}
        if split not in parts:
            raise TrainingError(f"got split {split!r}, an RGB-D sequence has {sorted(parts)}")
        if not parts[split]:
            raise TrainingError(f"{root} has {len(numbers)} images, too few for split {split!r}")
        if neighbours < 0:
            raise TrainingError(
                f"got neighbours {neighbours}, expected a number of frames of 0 or more"
            )
        self.neighbours = neighbours
        self.numbers = parts[split]
        self.images = {number: images[number] for number in self.numbers}
        require_files([self._beside(n, "depth.png") for n in self.numbers], "depth files")
        self.fx = read_focal_length(root / "camera-intrinsics.txt")

    def __len__(self) -> int:
        """Number of images."""
        return len(self.numbers)

    def __getitem__(self, index: int) -> Sample:
        """Read one image, its depth and its views."""
        number = self.numbers[index]
        image_file = self.images[number]
        image = read_rgb(image_file)
        millimetres = read_uint16(self._beside(number, "depth.png"))
        require_same_size(image_file, image, depth=millimetres)
        known = (millimetres > 0) & (millimetres < 65535)
        depth = np.where(known, millimetres.astype(np.float32) / 1000, np.float32(np.nan))
        views = {}
        if self.neighbours:
            for name, other in (("previous", -self.neighbours), ("next", self.neighbours)):
                if number + other in self.images:
                    views[name] = read_rgb(self.images[number + other])
        return Sample(image, depth=depth, fx=self.fx, views=views)

    def _beside(self, number: int, ending: str) -> Path:
        image_file = self.images[number]
        path = image_file.with_name(f"{image_file.name.split('.')[0]}.{ending}")
        return self.find(path, lossless=True) if ending == "depth.png" else path
