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

"""Read Virtual KITTI 2 (Cabon et al. 2020): five rendered scenes in ten variants.

The folder has `SceneXX/VARIANT/frames/{rgb,depth,classSegmentation}/Camera_{0,1}`, and
`intrinsic.txt` and `colors.txt` in `SceneXX/VARIANT`, as in the archives.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from torch.utils.data import Dataset

from depthseg_ros.model_card import UNLABELLED

from ...errors import TrainingError
from ..arrays import read_lines, read_text
from ..images import StemIndex, read_gray, read_rgb, require_files, require_same_size
from ..sample import Sample
from ..street_classes import VIRTUAL_KITTI2

SOURCE = "Virtual KITTI 2"
TERMS = "Virtual KITTI 2 is licensed CC BY-NC-SA 3.0, for non-commercial use"
CLASSES = "virtual_kitti2"

BASELINE = 0.532725
"""Metres from Camera_0 to Camera_1."""
SPLITS = {
    "train": ("Scene01", "Scene06", "Scene18", "Scene20"),
    "val": ("Scene02",),
    "all": ("Scene01", "Scene02", "Scene06", "Scene18", "Scene20"),
}
"""Scenes of each split; the data set defines none. All variants of a scene show the same drive, so
scenes must not be divided. Scene02 (233 of the 2126 frames) has both a street and a crossing."""

_TOO_FAR = 65535
_IDS = {c.name.replace(" ", ""): c.id for c in VIRTUAL_KITTI2} | {"undefined": UNLABELLED}


@dataclass(frozen=True)
class _Frame:
    image: Path
    depth: Path | None
    labels: Path | None
    right: Path | None
    fx: float


class VirtualKitti2(Dataset[Sample]):
    """Depth and labels of the left camera, depending on which archives are unpacked."""

    def __init__(
        self,
        root: str | Path,
        split: str,
        variants: Sequence[str] | None = None,
        stereo: bool = False,
    ) -> None:
        """List the images of the scenes of a split.

        Args:
            root: The parent folder of `Scene01`.
            split: A name in `SPLITS`.
            variants: Variants to read, for example `clone` or `fog`; default: all.
            stereo: Read the image of Camera_1 as the view `right`, and the baseline.

        Raises:
            TrainingError: a scene, a variant or a file is missing.
        """
        if split not in SPLITS:
            raise TrainingError(f"split {split!r} of Virtual KITTI 2, expected one of {[*SPLITS]}")
        self.stereo = stereo
        self.frames: list[_Frame] = []
        self.colors: dict[Path, dict[int, int]] = {}
        """Folder of a variant -> colour as an integer -> class."""
        for scene in SPLITS[split]:
            folder = Path(root) / scene
            names = variants or sorted(p.parent.name for p in folder.glob("[!.]*/frames"))
            if not names:
                raise TrainingError(f"no variants of {scene} found as {folder}/*/frames")
            for name in names:
                self._add(folder / name)
        for part in ("image", "depth", "labels", "right"):
            files = (getattr(frame, part) for frame in self.frames)
            require_files(file for file in files if file is not None)

    def __len__(self) -> int:
        """Number of images."""
        return len(self.frames)

    def __getitem__(self, index: int) -> Sample:
        """Read one sample."""
        frame = self.frames[index]
        sample = Sample(read_rgb(frame.image), fx=frame.fx)
        if frame.depth is not None:
            centimetres = read_gray(frame.depth, np.uint16, "depth")
            require_same_size(frame.image, sample.image, depth=centimetres)
            metres = centimetres.astype(np.float32) / np.float32(100)
            metres[centimetres == _TOO_FAR] = np.nan
            sample.depth = metres
        if frame.labels is not None:
            labels = _read_labels(frame.labels, self.colors[frame.labels.parents[3]])
            require_same_size(frame.image, sample.image, labels=labels)
            sample.labels = labels
        if frame.right is not None:
            sample.views = {"right": read_rgb(frame.right)}
            sample.baseline = BASELINE
            require_same_size(frame.image, sample.image, **sample.views)
        return sample

    def _add(self, variant: Path) -> None:
        frames = variant / "frames"
        camera, find = frames / "rgb" / "Camera_0", StemIndex()
        stems = sorted(stem for stem in find.stems(camera) if stem.startswith("rgb_"))
        images = [find(camera / f"{stem}.jpg") for stem in stems]
        if not images:
            raise TrainingError(f"no images found as {frames}/rgb/Camera_0/rgb_*.jpg")
        depth, labels = frames / "depth" / "Camera_0", frames / "classSegmentation" / "Camera_0"
        if not depth.is_dir() and not labels.is_dir():
            raise TrainingError(f"neither depth nor labels found as {depth} or {labels}")
        if labels.is_dir():
            self.colors[variant] = _read_colors(variant / "colors.txt")
        focal_lengths = _read_focal_lengths(variant / "intrinsic.txt")
        for image_file in images:
            number = image_file.stem.removeprefix("rgb_")
            if not number.isdecimal() or int(number) not in focal_lengths:
                raise TrainingError(
                    f"{variant / 'intrinsic.txt'} has no line for {image_file.name}"
                )
            self.frames.append(
                _Frame(
                    image_file,
                    find(depth / f"depth_{number}.png", True) if depth.is_dir() else None,
                    find(labels / f"classgt_{number}.png", True) if labels.is_dir() else None,
                    find(frames / "rgb" / "Camera_1" / image_file.name) if self.stereo else None,
                    focal_lengths[int(number)],
                )
            )


def _read_labels(path: Path, colors: dict[int, int]) -> NDArray[np.uint8]:
    """Read labels as (H, W) uint8 classes, 255 for Undefined."""
    known = np.array(sorted(colors))
    ids = np.array([colors[color] for color in known], np.uint8)
    packed = read_rgb(path).astype(np.int32) @ np.array([1 << 16, 1 << 8, 1], np.int32)
    nearest = np.searchsorted(known, packed).clip(max=len(known) - 1)
    unknown = packed[known[nearest] != packed]
    if unknown.size:
        rgb = tuple(int(unknown[0]).to_bytes(3, "big"))
        raise TrainingError(f"{path} has the colour {rgb}, which is not in colors.txt")
    return ids[nearest]


def _read_colors(path: Path) -> dict[int, int]:
    """Read `Category r g b` lines: colour as an integer -> class."""
    try:
        rows = [line.split() for _, line in read_lines(path)[1:]]
        if not rows:
            raise ValueError("no colours")
        return {
            int.from_bytes([int(r), int(g), int(b)], "big"): _IDS[name.lower()]
            for name, r, g, b in rows
        }
    except (OSError, ValueError, KeyError) as error:
        raise TrainingError(
            f"{path} cannot be read as Virtual KITTI 2's colours ({error!r}),"
            f" expected lines 'Category r g b' of {list(_IDS)}"
        ) from None


def _read_focal_lengths(path: Path) -> dict[int, float]:
    """Read `frame cameraID K[0,0] ...` lines: the focal length of Camera_0 in each frame."""
    try:
        rows = np.loadtxt(read_text(path).splitlines(), skiprows=1, usecols=(0, 1, 2), ndmin=2)
    except (OSError, ValueError) as error:
        raise TrainingError(
            f"{path} cannot be read as Virtual KITTI 2's intrinsics ({error}),"
            " expected lines 'frame cameraID K[0,0] ...'"
        ) from None
    return {int(frame): float(fx) for frame, camera, fx in rows if camera == 0}
