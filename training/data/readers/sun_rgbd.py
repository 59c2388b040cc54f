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

"""Read SUN RGB-D with 37 classes: 5285 train and 5050 test images from four depth cameras.

The folder has the two published archives, unpacked. They are interpreted as in the public readers
of ESANet, RDFNet and VoteNet:

- `SUNRGBD/{kv1,kv2,realsense,xtion}/.../SAMPLE/` with `image/*.jpg`, `depth_bfx/*.png` (holes
  filled; uint16 with the bits rotated left by three) and `intrinsics.txt` (3x3).
- `SUNRGBDtoolbox/Metadata/SUNRGBDMeta.mat`: struct array (1, N) `SUNRGBDMeta` with `rgbpath`
  (`/n/fs/sun3d/data/SUNRGBD/.../SAMPLE/image/NAME.jpg`, paths of the authors) and `depthname`.
- `SUNRGBDtoolbox/Metadata/SUNRGBD2Dseg.mat`: HDF5, `SUNRGBD2Dseg/seglabel` (N, 1) of references to
  (width, height) arrays, in the order of SUNRGBDMeta; 1..37, 0 unlabelled.
- `SUNRGBDtoolbox/traintestSUNRGBD/allsplit.mat`: cells (1, n) `alltrain` and `alltest` of the
  folders `/n/fs/sun3d/data/SUNRGBD/.../SAMPLE`.
"""

from __future__ import annotations

from pathlib import Path, PurePosixPath

import h5py
import numpy as np
from numpy.typing import NDArray
from torch.utils.data import Dataset

from ...errors import TrainingError
from ..arrays import from_one_based, hdf5_dataset, read_focal_length, read_mat
from ..images import read_rgb, read_uint16, require_files, require_same_size
from ..sample import Sample

SOURCE = "SUN RGB-D (37 classes)"
TERMS = "SUN RGB-D names no licence: treat it as for research use"
CLASSES = "sunrgbd37"

MAX_DEPTH = 8.0
"""Metres; greater depth is clipped, as in the authors' toolbox."""

_AUTHORS_ROOT = "/n/fs/sun3d/data/"
_LABELS = "SUNRGBD2Dseg/seglabel"


class SunRgbd(Dataset[Sample]):
    """Labels and metric depth; size and focal length depend on the camera."""

    def __init__(self, root: str | Path, split: str) -> None:
        """List a split, `train` or `test`. Reading SUNRGBDMeta.mat takes a few seconds.

        Raises:
            TrainingError: a file is missing or damaged, the lists do not match each other, or the
                split is unknown.
        """
        if split not in ("train", "test"):
            raise TrainingError(f"got split {split!r}, SUN RGB-D has 'train' and 'test'")
        root = Path(root)
        toolbox = root / "SUNRGBDtoolbox"
        listed = toolbox / "Metadata" / "SUNRGBDMeta.mat"
        meta = read_mat(listed, "SUNRGBDMeta")
        if not {"rgbpath", "depthname"} <= set(meta.dtype.names or ()):
            raise TrainingError(f"{listed} has no struct array with rgbpath and depthname")
        self.label_file = toolbox / "Metadata" / "SUNRGBD2Dseg.mat"
        with hdf5_dataset(self.label_file, _LABELS) as cells:
            shape = cells.shape
        if shape != (meta.size, 1):
            raise TrainingError(
                f"{self.label_file} has {_LABELS} of shape {shape}, expected {(meta.size, 1)},"
                f" one for each image of {listed}"
            )
        images = [_below_root(path, listed) for path in _texts(meta["rgbpath"], listed)]
        row_of = {image_file.parent.parent: row for row, image_file in enumerate(images)}
        split_file = toolbox / "traintestSUNRGBD" / "allsplit.mat"
        folders = [
            _below_root(path, split_file)
            for path in _texts(read_mat(split_file, f"all{split}"), split_file)
        ]
        unknown = [str(folder) for folder in folders if folder not in row_of]
        if unknown or not folders:
            raise TrainingError(
                f"{split_file} lists {len(folders)} folders, {len(unknown)} of them are not in"
                f" {listed}, the first is {(unknown or ['none'])[0]}"
            )
        self.rows = [row_of[folder] for folder in folders]
        depth_names = _texts(meta["depthname"], listed)
        self.folders = [root / folder for folder in folders]
        self.images = [root / images[row] for row in self.rows]
        self.depths = [
            folder / "depth_bfx" / depth_names[row]
            for folder, row in zip(self.folders, self.rows, strict=True)
        ]
        require_files(self.images, "images")
        require_files(self.depths, "depth files")
        require_files([folder / "intrinsics.txt" for folder in self.folders], "intrinsics")

    def __len__(self) -> int:
        """Number of images."""
        return len(self.rows)

    def __getitem__(self, index: int) -> Sample:
        """Read one image, its labels, depth and intrinsics."""
        image_file = self.images[index]
        image = read_rgb(image_file)
        depth = decode_depth(read_uint16(self.depths[index]))
        with hdf5_dataset(self.label_file, _LABELS) as cells:
            reference = cells[self.rows[index], 0]
            if not isinstance(reference, h5py.Reference) or not reference:
                raise TrainingError(f"{self.label_file} holds no labels for {image_file}")
            ids = cells.file[reference][()]
        labels = from_one_based(ids.T, 37, self.label_file)
        require_same_size(image_file, image, labels=labels, depth=depth)
        return Sample(
            image, labels, depth, read_focal_length(self.folders[index] / "intrinsics.txt")
        )


def decode_depth(stored: NDArray[np.uint16]) -> NDArray[np.float32]:
    """Convert stored depth (bits rotated by three) to clipped metres, NaN for unknown (0)."""
    millimetres = (stored >> 3) | (stored << 13)
    metres = np.minimum(millimetres.astype(np.float32) / 1000, np.float32(MAX_DEPTH))
    return np.where(millimetres == 0, np.float32(np.nan), metres)


def _texts(cells: NDArray[np.object_], path: Path) -> list[str]:
    """Convert a MATLAB cell array, or a field of a struct array, to strings."""
    texts = [np.ravel(cell) for cell in cells.ravel()]
    if any(text.size != 1 or text.dtype.kind != "U" for text in texts):
        raise TrainingError(f"{path} has other values, expected strings")
    return [str(text[0]) for text in texts]


def _below_root(path: str, source: Path) -> PurePosixPath:
    """Convert a path of the authors to a relative path `SUNRGBD/...`."""
    if not path.startswith(_AUTHORS_ROOT):
        raise TrainingError(f"{source} has {path}, expected a path below {_AUTHORS_ROOT}")
    return PurePosixPath(path.removeprefix(_AUTHORS_ROOT))
