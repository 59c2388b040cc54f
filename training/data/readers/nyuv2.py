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

"""Read the 1449 labelled images of NYU Depth v2, with 40 or 13 classes.

The folder has four files, in which 0 always means unlabelled:

- `nyu_depth_v2_labeled.mat`: HDF5 with `images` (N, 3, 640, 480) uint8, `labels` and `depths`
  (N, 640, 480), in MATLAB's order of axes. `depths` is in metres, with holes filled by the authors.
- `splits.mat`: `trainNdxs` and `testNdxs`, 795 and 654 indices that start at 1.
- `classMapping40.mat`: `mapClass` maps the 894 labels to 1..40.
- `class13Mapping.mat`: the first field of `classMapping13` maps 1..40 to 1..13; for 13 classes.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from torch.utils.data import Dataset

from ...errors import TrainingError
from ..arrays import from_one_based, hdf5_dataset, read_mat
from ..sample import Sample

SOURCE = "NYU Depth v2"
TERMS = "NYU Depth v2 names no licence: treat it as for research use"
CLASSES = "nyu40"
"""The default class list; `NyuV2.classes` is the one in use."""

FX = 518.85790117450188
"""Focal length in pixels for a width of 640: `fx_rgb` in camera_params.m of the toolbox."""


class NyuV2(Dataset[Sample]):
    """Labels and metric depth."""

    def __init__(self, root: str | Path, split: str, classes: int = 40) -> None:
        """List a split.

        Args:
            root: The folder of the four files.
            split: `train` or `test`.
            classes: 40 or 13.

        Raises:
            TrainingError: a file is missing or damaged, or `split` or `classes` is unknown.
        """
        if split not in ("train", "test"):
            raise TrainingError(f"got split {split!r}, NYU Depth v2 has 'train' and 'test'")
        if classes not in (13, 40):
            raise TrainingError(f"got {classes} classes, NYU Depth v2 is read with 13 or 40")
        root = Path(root)
        self.classes = f"nyu{classes}"
        self.file = root / "nyu_depth_v2_labeled.mat"
        with hdf5_dataset(self.file, "images") as images:
            count = len(images)
        splits = root / "splits.mat"
        numbers = read_mat(splits, f"{split}Ndxs").ravel().astype(np.int64)
        if not numbers.size or numbers.min() < 1 or numbers.max() > count:
            raise TrainingError(
                f"{splits} has indices outside 1..{count}, the images of {self.file}"
            )
        self.indices = numbers - 1
        self.mapping = _mapping40(root / "classMapping40.mat")
        if classes == 13:
            self.mapping = _mapping13(root / "class13Mapping.mat")[self.mapping]

    def __len__(self) -> int:
        """Number of images."""
        return len(self.indices)

    def __getitem__(self, index: int) -> Sample:
        """Read one image, its labels and depth."""
        row = self.indices[index]
        with hdf5_dataset(self.file, "images") as images:
            image = images[row]
        with hdf5_dataset(self.file, "labels") as all_labels:
            labels = all_labels[row]
        with hdf5_dataset(self.file, "depths") as depths:
            depth = depths[row]
        shapes = (image.shape, labels.shape, depth.shape)
        if image.ndim != 3 or shapes != ((3, *image.shape[1:]), *[image.shape[1:]] * 2):
            raise TrainingError(
                f"{self.file} has image, labels and depth of the shapes {shapes},"
                " expected (3, width, height), (width, height), (width, height)"
            )
        if labels.max() >= len(self.mapping):
            raise TrainingError(
                f"{self.file} has label {labels.max()} in image {row + 1},"
                f" the class mapping ends at {len(self.mapping) - 1}"
            )
        return Sample(
            np.ascontiguousarray(image.transpose(2, 1, 0)),
            from_one_based(self.mapping[labels.T], int(self.classes[3:]), self.file),
            np.where(depth > 0, depth, np.nan).astype(np.float32).T.copy(),
            FX,
        )


def _mapping40(path: Path) -> NDArray[np.int64]:
    """Read the mapping (895,) from labels of the file to 0..40."""
    return _with_zero(read_mat(path, "mapClass")[0], 40, path)


def _mapping13(path: Path) -> NDArray[np.int64]:
    """Read the mapping (41,) from 0..40 to 0..13."""
    struct = read_mat(path, "classMapping13")
    if struct.dtype.names is None:
        raise TrainingError(f"{path} has no MATLAB struct classMapping13")
    mapping = _with_zero(struct[0][0][0][0], 13, path)
    if len(mapping) != 41:
        raise TrainingError(f"{path} maps {len(mapping) - 1} classes, expected 40")
    return mapping


def _with_zero(ids: NDArray[np.integer], count: int, path: Path) -> NDArray[np.int64]:
    mapping = np.insert(ids.astype(np.int64), 0, 0)
    if mapping.min() < 0 or mapping.max() > count:
        raise TrainingError(f"{path} maps to {mapping.min()}..{mapping.max()}, expected 0..{count}")
    return mapping
