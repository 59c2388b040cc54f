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

"""A hand-held RGB-D sequence with poses, in the style of 7-Scenes (tsdf-fusion's layout).

One folder of `frame-%06d.color.jpg` (or another image), `frame-%06d.depth.png` (uint16
millimetres, 0 and 65535 unknown) and `camera-intrinsics.txt` (3x3). Poses are not read.
The depth camera is not registered to the colour camera: errors below 2 % are noise.
"""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
from torch.utils.data import Dataset

from ...errors import TrainingError
from ..arrays import read_focal_length
from ..images import AnyEnding, read_rgb, read_uint16, require_files, require_same_size
from ..sample import Sample

SOURCE = "7-Scenes"
TERMS = "7-Scenes is for research use"


class RgbdSequence(Dataset[Sample]):
    """Metric depth, no labels; optionally the images before and after each as views."""

    def __init__(self, root: str | Path, split: str, neighbours: int = 0) -> None:
        """List a part of the sequence.

        Args:
            root: The sequence's folder.
            split: `train` (the first four fifths in time), `val` (the rest) or `all`.
            neighbours: How far before and after an image, in frame numbers, its views `previous`
                and `next` lie; 0 for no views. A view which is not in the same split is left out.

        Raises:
            TrainingError: No images, or missing depth or intrinsics, or an unknown split.
        """
        root = Path(root)
        self.find = AnyEnding()
        pictures = {
            int(match[1]): self.find(root / f"{stem}.jpg")
            for stem in self.find.stems(root)
            if (match := re.fullmatch(r"frame-(\d+)\.color", stem))
        }
        if not pictures:
            raise TrainingError(f"no RGB-D pictures found as {root}/frame-NUMBER.color.jpg or .png")
        numbers = sorted(pictures)
        first_of_val = len(numbers) * 4 // 5
        parts = {"train": numbers[:first_of_val], "val": numbers[first_of_val:], "all": numbers}
        if split not in parts:
            raise TrainingError(f"got split {split!r}, an RGB-D sequence has {sorted(parts)}")
        if not parts[split]:
            raise TrainingError(f"{root} has {len(numbers)} pictures, too few for split {split!r}")
        if neighbours < 0:
            raise TrainingError(
                f"got neighbours {neighbours}, expected a number of frames, 0 or up"
            )
        self.neighbours = neighbours
        self.numbers = parts[split]
        self.pictures = {number: pictures[number] for number in self.numbers}
        require_files([self._beside(n, "depth.png") for n in self.numbers], "depth files")
        self.fx = read_focal_length(root / "camera-intrinsics.txt")

    def __len__(self) -> int:
        """Number of images."""
        return len(self.numbers)

    def __getitem__(self, index: int) -> Sample:
        """Read one image, its depth and its views."""
        number = self.numbers[index]
        picture = self.pictures[number]
        image = read_rgb(picture)
        millimetres = read_uint16(self._beside(number, "depth.png"))
        require_same_size(picture, image, depth=millimetres)
        known = (millimetres > 0) & (millimetres < 65535)
        depth = np.where(known, millimetres.astype(np.float32) / 1000, np.float32(np.nan))
        views = {}
        if self.neighbours:
            for name, other in (("previous", -self.neighbours), ("next", self.neighbours)):
                if number + other in self.pictures:
                    views[name] = read_rgb(self.pictures[number + other])
        return Sample(image, depth=depth, fx=self.fx, views=views)

    def _beside(self, number: int, ending: str) -> Path:
        picture = self.pictures[number]
        path = picture.with_name(f"{picture.name.split('.')[0]}.{ending}")
        return self.find(path, lossless=True) if ending == "depth.png" else path
