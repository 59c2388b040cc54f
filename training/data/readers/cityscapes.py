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

"""Read Cityscapes (Cordts et al. 2016): fine or coarse labels, stereo depth, stereo pairs, videos.

The files are `{type}/{split}/{city}/{city}_{seq:06}_{frame:06}_{type}{ext}`, as in the archives.
They must have their original size, since disparity is in pixels.
"""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from torch.utils.data import Dataset

from depthseg_ros.model_card import UNLABELLED

from ...errors import TrainingError
from ..arrays import read_text
from ..images import StemIndex, read_gray, read_ids, read_rgb, require_files, require_same_size
from ..sample import Sample

SOURCE = "Cityscapes"
TERMS = "Cityscapes is for non-commercial use"
CLASSES = "cityscapes"

EVALUATED_IDS = (7, 8, 11, 12, 13, 17, *range(19, 29), 31, 32, 33)
"""Ids in `_labelIds.png` of the classes 0 to 18. The id -1 (licence plate) is stored as 255."""

_CLASS_OF_ID = np.full(256, UNLABELLED, np.uint8)
_CLASS_OF_ID[list(EVALUATED_IDS)] = np.arange(len(EVALUATED_IDS))


class Cityscapes(Dataset[Sample]):
    """Labels; metric depth and focal length too if `disparity/{split}` exists."""

    def __init__(
        self,
        root: str | Path,
        split: str,
        labels: str = "gtFine",
        stereo: bool = False,
        neighbours: bool = False,
        cut_bottom: float = 0.0,
    ) -> None:
        """List a split.

        Args:
            root: The parent folder of `leftImg8bit`.
            split: `train` or `val`; with coarse labels also `train_extra`.
            labels: `gtFine` or `gtCoarse`.
            stereo: Read the view `right` and the baseline, from `rightImg8bit` and `camera`.
            neighbours: Read the views `previous` and `next`, the neighbouring frames in
                `leftImg8bit_sequence`, if they exist.
            cut_bottom: Fraction of the height to remove at the bottom, the bonnet of the car.

        Raises:
            TrainingError: there are no images, or files that belong to them are missing.
        """
        if not 0 <= cut_bottom < 1:
            raise TrainingError(f"cut_bottom is {cut_bottom}, expected a fraction below 1, or 0")
        self.kept = 1 - cut_bottom
        if labels not in ("gtFine", "gtCoarse"):
            raise TrainingError(f"Cityscapes labels are {labels!r}, expected gtFine or gtCoarse")
        self.root, self.split, self.labels = Path(root), split, labels
        folder, self.find = self.root / "leftImg8bit" / split, StemIndex()
        self.stems = sorted(
            f"{city.name}/{stem.removesuffix('_leftImg8bit')}"
            for city in (folder.glob("[!.]*") if folder.is_dir() else ())
            for stem in self.find.stems(city)
            if stem.endswith("_leftImg8bit")
        )
        """`{city}/{city}_{seq}_{frame}` of each sample."""
        if not self.stems:
            raise TrainingError(f"no Cityscapes images found as {folder}/*/*_leftImg8bit.png")
        self.stereo = stereo
        self.has_depth = (self.root / "disparity" / split).is_dir()
        self.has_camera = self.has_depth or stereo or (self.root / "camera" / split).is_dir()
        wanted = [(labels, "_labelIds.png")]
        wanted += [("disparity", ".png")] * self.has_depth
        wanted += [("camera", ".json")] * self.has_camera
        wanted += [("rightImg8bit", ".png")] * stereo
        require_files(self._file(kind, stem, end) for kind, end in wanted for stem in self.stems)
        self.neighbours = [self._neighbours(s) if neighbours else {} for s in self.stems]

    def __len__(self) -> int:
        """Number of labelled images."""
        return len(self.stems)

    def __getitem__(self, index: int) -> Sample:
        """Read one sample."""
        stem = self.stems[index]
        path = self._file("leftImg8bit", stem, ".png")
        image = read_rgb(path)
        labels = read_train_ids(self._file(self.labels, stem, "_labelIds.png"))
        sample = Sample(image, labels)
        require_same_size(path, image, labels=labels)
        views = dict(self.neighbours[index])
        if self.has_camera:
            sample.fx, baseline = read_camera(self._file("camera", stem, ".json"))
            if self.has_depth:
                disparity = read_gray(self._file("disparity", stem, ".png"), np.uint16, "disparity")
                require_same_size(path, image, disparity=disparity)
                sample.depth = depth_from_disparity(disparity, sample.fx, baseline)
            if self.stereo:
                views["right"] = self._file("rightImg8bit", stem, ".png")
                sample.baseline = baseline
        sample.views = {name: read_rgb(view) for name, view in views.items()}
        require_same_size(path, image, **sample.views)
        rows = round(self.kept * len(image))
        sample.image, sample.labels = image[:rows], labels[:rows]
        if sample.depth is not None:
            sample.depth = sample.depth[:rows]
        sample.views = {name: view[:rows] for name, view in sample.views.items()}
        return sample

    def _file(self, kind: str, stem: str, end: str) -> Path:
        path = self.root / kind / self.split / f"{stem}_{kind}{end}"
        return path if end == ".json" else self.find(path, lossless=not kind.endswith("8bit"))

    def _neighbours(self, stem: str) -> dict[str, Path]:
        folder = self.root / "leftImg8bit_sequence" / self.split
        sequence, _, frame = stem.rpartition("_")
        if not folder.is_dir() or not frame.isdecimal():
            raise TrainingError(
                f"no neighbours of {stem} found in {folder},"
                " expected {city}/{city}_{seq}_{frame}_leftImg8bit.png"
            )
        files = {
            name: self.find(folder / f"{sequence}_{int(frame) + step:06}_leftImg8bit.png")
            for name, step in (("previous", -1), ("next", 1))
        }
        return {name: file for name, file in files.items() if file.is_file()}


def read_train_ids(path: Path) -> NDArray[np.uint8]:
    """Read `_labelIds.png` as (H, W) uint8 classes 0 to 18, 255 for other classes."""
    return _CLASS_OF_ID[read_ids(path, range(34))]


def depth_from_disparity(
    encoded: NDArray[np.uint16], fx: float, baseline: float
) -> NDArray[np.float32]:
    """Convert Cityscapes disparity images to depth (H, W) in metres, NaN for unknown.

    The value 0 means unknown. Otherwise, disparity is (value - 1) / 256 pixels, and depth is
    fx * baseline / disparity. Infinite depth (disparity 0) becomes unknown.
    """
    known = encoded > 1
    depth = np.full(encoded.shape, np.nan, np.float32)
    depth[known] = fx * baseline / ((encoded[known] - np.float32(1)) / 256)
    return depth


def read_camera(path: Path) -> tuple[float, float]:
    """Read focal length (pixels) and stereo baseline (metres) from `_camera.json`."""
    try:
        camera = json.loads(read_text(path))
        return float(camera["intrinsic"]["fx"]), float(camera["extrinsic"]["baseline"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise TrainingError(
            f"{path} cannot be read as a camera ({error!r}),"
            " expected JSON with intrinsic.fx and extrinsic.baseline"
        ) from None
