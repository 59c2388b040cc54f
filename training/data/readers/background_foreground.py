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

"""Scenes made by pasting foregrounds into backgrounds: system 001's layout, and what it shares.

`bg/N.jpg` beside `{fg_bg,fg_bg_mask,dense_depth}/N/*.jpg`, which for each background N belong
together by their position in the order of their numbers. The foregrounds come in the same order
for each background, `variants` pictures (places and mirrorings) of each in a row.

Such data are every background with every foreground, so that a random split has seen all of both:
`in_split` says which splits leak, and which do not.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray
from torch.utils.data import Dataset

from ...errors import TrainingError
from ..images import names_of_images, read_rgb, require_same_size
from ..sample import Sample

SOURCE = "background/foreground composites"
TERMS = "the composites' terms are not stated"
CLASSES = "mask"

_HELD_OUT = 5
"""One background, and one foreground, of so many is held out: those whose number it divides."""


class Composite(NamedTuple):
    """Files of one sample, relative to the data set's root."""

    background: str
    scene: str
    mask: str
    depth: str


class BackgroundForeground(Dataset[Sample]):
    """Masks as labels, depth of 0 to 1, and the view `background`."""

    def __init__(
        self,
        root: str | Path,
        split: str,
        names: tuple[str, str, str, str] = ("bg", "fg_bg", "fg_bg_mask", "dense_depth"),
        variants: int = 40,
        leaking: bool = False,
    ) -> None:
        """List a split.

        Args:
            root: The folder that has those of `names`.
            split: `train`, `val` or `all`, see `in_split`.
            names: Folders of the backgrounds, the scenes, the masks and the depth.
            variants: How many pictures in a row show the same foreground: the only way to tell
                which it is. The published sets have 4000 pictures of 100 foregrounds for each
                background.
            leaking: Split at random, see `in_split`.

        Raises:
            TrainingError: if folders or pictures are missing, or do not pair.
        """
        self.root = Path(root)
        files: list[Composite] = []
        backgrounds: list[int] = []
        foregrounds: list[int] = []
        for background in _by_number(self.root, names[0]):
            number = Path(background).stem
            folders = [f"{name}/{number}" for name in names[1:]]
            parts = [_by_number(self.root, folder) for folder in folders]
            counts = [len(part) for part in parts]
            if len(set(counts)) > 1:
                found = dict(zip(folders, counts, strict=True))
                raise TrainingError(f"{self.root} has {found} pictures, expected as many of each")
            if variants < 1 or counts[0] % variants:
                raise TrainingError(
                    f"{self.root / folders[0]} has {counts[0]} pictures, no multiple of variants"
                    f" {variants}: give how many pictures in a row show the same foreground"
                )
            files += [Composite(background, *group) for group in zip(*parts, strict=True)]
            backgrounds += [int(number)] * counts[0]
            foregrounds += [1 + position // variants for position in range(counts[0])]
        kept = in_split(split, backgrounds, foregrounds, leaking)
        self.files = [files[i] for i in np.flatnonzero(kept)]

    def __len__(self) -> int:
        """Number of scenes."""
        return len(self.files)

    def __getitem__(self, index: int) -> Sample:
        """Read one scene; its depth is divided by its own maximum."""
        sample, depth = read_composite(self.root, self.files[index])
        # Black all over says nothing about depth.
        sample.depth = depth.astype(np.float32) / (float(depth.max()) or np.nan)
        return sample


def in_split(
    split: str, backgrounds: Sequence[int], foregrounds: Sequence[int], leaking: bool = False
) -> NDArray[np.bool_]:
    """Choose the samples of a split.

    `train` and `val` have neither a background nor a foreground in common: every fifth of both is
    held out, `val` (4 %) has only those, `train` (64 %) none of them, the rest is left out.

    Where `leaking`, each sample is in `val` with a chance of a fifth, and else in `train`, like in
    the original systems: all backgrounds and foregrounds are in both, and what is measured on such
    a `val` reads too high.

    Args:
        split: `train`, `val` or `all`.
        backgrounds: Number of each sample's background.
        foregrounds: Number of each sample's foreground.
        leaking: Split at random.

    Returns:
        For each sample whether it is in.

    Raises:
        TrainingError: if there is no such split, or nothing is in it.
    """
    if leaking:
        val = np.random.default_rng(0).random(len(backgrounds)) < 1 / _HELD_OUT
        train = ~val
    else:
        background_out = np.array(backgrounds) % _HELD_OUT == 0
        foreground_out = np.array(foregrounds) % _HELD_OUT == 0
        train, val = ~background_out & ~foreground_out, background_out & foreground_out
    choices = {"train": train, "val": val, "all": train | True}
    if split not in choices:
        raise TrainingError(f"split {split!r} of composites, expected one of {list(choices)}")
    if not choices[split].any():
        raise TrainingError(
            f"none of {len(backgrounds)} composites is in split {split!r}:"
            f" that needs backgrounds and foregrounds numbered up to {_HELD_OUT} at least"
        )
    return choices[split]


def read_composite(root: Path, files: Composite) -> tuple[Sample, NDArray[np.uint8]]:
    """Read all but the depth's scale: a sample without depth, and (H, W) uint8 depth as stored."""
    image = read_rgb(root / files.scene)
    background = read_rgb(root / files.background)
    mask = _read_brightness(root / files.mask)
    if mask.max() == 1:
        raise TrainingError(f"{root / files.mask} is a mask of 0 and 1, expected 0 and 255")
    depth = _read_brightness(root / files.depth)
    require_same_size(root / files.scene, image, background=background, mask=mask, depth=depth)
    # JPEG blurs the mask's 0 and 255.
    labels = (mask > 127).astype(np.uint8)
    return Sample(image, labels, views={"background": background}), depth


def _read_brightness(path: Path) -> NDArray[np.uint8]:
    """(H, W), whether it is stored in one channel or in three that are equal."""
    brightness: NDArray[Any] = cv2.cvtColor(read_rgb(path), cv2.COLOR_RGB2GRAY)
    return brightness


def _by_number(root: Path, folder: str) -> list[str]:
    """Pictures of a folder in the order of their numbers, relative to `root`."""
    # There are more than a million files: names are quicker to handle than paths.
    names = [(os.path.splitext(name)[0], name) for name in names_of_images(root / folder)]
    if not names:
        raise TrainingError(f"no pictures found as {root / folder}/N.jpg")
    strange = [name for stem, name in names if not stem.isdecimal()]
    if strange:
        raise TrainingError(f"{root / folder} has {min(strange)}, expected only pictures N.jpg")
    numbers = Counter(int(stem) for stem, _ in names)
    number, count = numbers.most_common(1)[0]
    if count > 1:
        raise TrainingError(f"{root / folder} has {count} pictures of number {number}: remove one")
    return [f"{folder}/{name}" for _, name in sorted(names, key=lambda name: int(name[0]))]
