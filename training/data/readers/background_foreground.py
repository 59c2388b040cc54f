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

"""Read composites of foregrounds and backgrounds, in the layout of the data of system 001.

The folder has `bg/N.jpg` and `{fg_bg,fg_bg_mask,dense_depth}/N/*.jpg`. The k-th file, by number, of
each folder belongs to one sample. The foregrounds have the same order for each background, with
`variants` consecutive images (positions and flips) of each.

Such data combine every background with every foreground. A random split leaks: the same
backgrounds and foregrounds are in train and val. `in_split` offers both kinds of splits.
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
from ..images import image_names, read_rgb, require_same_size
from ..sample import Sample

SOURCE = "background/foreground composites"
TERMS = "the composites' terms are not stated"
CLASSES = "mask"

_HELD_OUT = 5
"""Backgrounds and foregrounds with a number divisible by this are held out."""


class Composite(NamedTuple):
    """Files of one sample, relative to the root of the data set."""

    background: str
    scene: str
    mask: str
    depth: str


class BackgroundForeground(Dataset[Sample]):
    """Masks as labels, depth from 0 to 1, and the view `background`."""

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
            root: The parent folder of `names`.
            split: `train`, `val` or `all`, see `in_split`.
            names: Folders of the backgrounds, scenes, masks and depth.
            variants: Number of consecutive images with the same foreground; identifies the
                foreground. The published sets have 4000 images of 100 foregrounds for each
                background.
            leaking: Split at random, see `in_split`.

        Raises:
            TrainingError: folders or images are missing, or do not match each other.
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
                raise TrainingError(f"{self.root} has {found} images, expected equal numbers")
            if variants < 1 or counts[0] % variants:
                raise TrainingError(
                    f"{self.root / folders[0]} has {counts[0]} images, expected a multiple of"
                    f" {variants}: set `variants` to the number of consecutive images with the same"
                    " foreground"
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
        # Depth is unknown if all values are 0.
        sample.depth = depth.astype(np.float32) / (float(depth.max()) or np.nan)
        return sample


def in_split(
    split: str, backgrounds: Sequence[int], foregrounds: Sequence[int], leaking: bool = False
) -> NDArray[np.bool_]:
    """Select the samples of a split.

    By default, `train` and `val` share neither backgrounds nor foregrounds. Every fifth background
    and foreground is held out. `val` (4 %) combines held-out ones only, `train` (64 %) combines the
    others, and mixed samples are not used.

    With `leaking`, a random fifth of the samples is `val` and the others are `train`, as in the
    original systems. Both contain all backgrounds and foregrounds, so metrics on `val` are too
    optimistic.

    Args:
        split: `train`, `val` or `all`.
        backgrounds: Background number of each sample.
        foregrounds: Foreground number of each sample.
        leaking: Split at random.

    Returns:
        Whether each sample is in the split.

    Raises:
        TrainingError: the split is unknown or empty.
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
            f"none of {len(backgrounds)} composites is in split {split!r}, which needs backgrounds"
            f" and foregrounds with numbers up to at least {_HELD_OUT}"
        )
    return choices[split]


def read_composite(root: Path, files: Composite) -> tuple[Sample, NDArray[np.uint8]]:
    """Read a sample without depth, and its depth as stored, (H, W) uint8 without a scale."""
    image = read_rgb(root / files.scene)
    background = read_rgb(root / files.background)
    mask = _read_brightness(root / files.mask)
    if mask.max() == 1:
        raise TrainingError(f"{root / files.mask} is a mask of 0 and 1, expected 0 and 255")
    depth = _read_brightness(root / files.depth)
    require_same_size(root / files.scene, image, background=background, mask=mask, depth=depth)
    # JPEG compression changes the values 0 and 255 of masks.
    labels = (mask > 127).astype(np.uint8)
    return Sample(image, labels, views={"background": background}), depth


def _read_brightness(path: Path) -> NDArray[np.uint8]:
    """Read a gray image, stored in one or three channels, as (H, W)."""
    brightness: NDArray[Any] = cv2.cvtColor(read_rgb(path), cv2.COLOR_RGB2GRAY)
    return brightness


def _by_number(root: Path, folder: str) -> list[str]:
    """List the images of a folder, relative to `root`, sorted by number."""
    # There are more than a million files: strings are faster than paths.
    names = [(os.path.splitext(name)[0], name) for name in image_names(root / folder)]
    if not names:
        raise TrainingError(f"no images found as {root / folder}/N.jpg")
    invalid = [name for stem, name in names if not stem.isdecimal()]
    if invalid:
        raise TrainingError(f"{root / folder} has {min(invalid)}, expected only images N.jpg")
    numbers = Counter(int(stem) for stem, _ in names)
    number, count = numbers.most_common(1)[0]
    if count > 1:
        raise TrainingError(f"{root / folder} has {count} images with number {number}: remove one")
    return [f"{folder}/{name}" for _, name in sorted(names, key=lambda name: int(name[0]))]
