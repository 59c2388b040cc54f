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

"""Read Hypersim: rendered rooms with exact distances and the 40 classes of NYUv2.

Images are `ai_VVV_NNN/images/scene_cam_XX_final_preview/frame.IIII.tonemap.jpg`. Ground truth is
`ai_VVV_NNN/images/scene_cam_XX_geometry_hdf5/frame.IIII.{depth_meters,semantic}.hdf5` (key
`dataset`). Splits need the published `metadata_images_split_scene_v1.csv` in the root folder. Some
of the scenes are enough. `depth_meters` is the distance from the camera centre, NaN for no surface.

All images get the same focal length, as in most readers. Scenes with tilt-shift cameras (see
metadata_camera_parameters.csv of the data set) deviate from it.
"""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from torch.utils.data import Dataset

from depthseg_ros.imaging.image_files import is_image

from ...errors import TrainingError
from ..arrays import from_one_based, hdf5_dataset
from ..images import read_rgb, require_files, require_same_size
from ..sample import Sample

SOURCE = "Hypersim"
TERMS = "Hypersim is under CC BY-SA 3.0"
CLASSES = "nyu40"

SPLIT_FILE = "metadata_images_split_scene_v1.csv"
_SPLIT_COLUMNS = (
    "scene_name",
    "camera_name",
    "frame_id",
    "included_in_public_release",
    "split_partition_name",
)
_IMAGES = "ai_*/images/scene_cam_*_final_preview/frame.*.tonemap.*"
_FX_PER_WIDTH = 886.81 / 1024


class Hypersim(Dataset[Sample]):
    """Labels and metric depth."""

    def __init__(self, root: str | Path, split: str) -> None:
        """List the existing images of a split: `train`, `val`, `test` or `all`.

        Raises:
            TrainingError: the split is unknown or has no images, or a file is missing.
        """
        if split not in ("train", "val", "test", "all"):
            raise TrainingError(f"got split {split!r}, Hypersim has train, val, test and all")
        root = Path(root)
        self.images = sorted(file for file in root.glob(_IMAGES) if is_image(file))
        if not self.images:
            raise TrainingError(f"no Hypersim images found as {root / _IMAGES}")
        if split != "all":
            members = _members(root / SPLIT_FILE, split)
            self.images = [p for p in self.images if _frame(p) in members]
            if not self.images:
                raise TrainingError(f"none of the images in {root} is in split {split!r}")
        for what in ("depth_meters", "semantic"):
            require_files([_geometry(p, what) for p in self.images], f"{what} files")

    def __len__(self) -> int:
        """Number of images."""
        return len(self.images)

    def __getitem__(self, index: int) -> Sample:
        """Read one image, its labels and depth."""
        image_file = self.images[index]
        image = read_rgb(image_file)
        with hdf5_dataset(_geometry(image_file, "depth_meters"), "dataset") as dataset:
            distance = dataset[()]
        semantic = _geometry(image_file, "semantic")
        with hdf5_dataset(semantic, "dataset") as dataset:
            ids = dataset[()]
        require_same_size(image_file, image, labels=ids, depth=distance)
        labels = from_one_based(np.where(ids == -1, 0, ids), 40, semantic)
        fx = _FX_PER_WIDTH * image.shape[1]
        return Sample(image, labels, depth_from_distance(distance, fx), fx)


def depth_from_distance(distance_HW: NDArray[np.floating], fx: float) -> NDArray[np.float32]:
    """Convert distances from the camera centre to depth along the optical axis.

    z = D * f / |(x, y, f)| for a pixel at (x, y) relative to the image centre, square pixels.

    Args:
        distance_HW: (H, W) metres.
        fx: Focal length, pixels.

    Returns:
        (H, W) metres, NaN if the distance is not finite or not positive.
    """
    height, width = distance_HW.shape
    x = np.arange(width) - (width - 1) / 2
    y = np.arange(height)[:, None] - (height - 1) / 2
    depth = distance_HW * (fx / np.sqrt(x**2 + y**2 + fx**2))
    return np.where((depth > 0) & (depth < np.inf), depth, np.nan).astype(np.float32)


def _frame(image_file: Path) -> tuple[str, str, int]:
    """Scene, camera and frame number as in the split file."""
    camera = image_file.parent.name.removeprefix("scene_").removesuffix("_final_preview")
    return image_file.parts[-4], camera, int(image_file.name.split(".")[1])


def _geometry(image_file: Path, what: str) -> Path:
    folder = image_file.parent.name.replace("final_preview", "geometry_hdf5")
    return image_file.parents[1] / folder / image_file.stem.replace("tonemap", f"{what}.hdf5")


def _members(path: Path, split: str) -> set[tuple[str, str, int]]:
    """Read scene, camera and frame number of the released images of a split."""
    if not path.is_file():
        raise TrainingError(
            f"{path} is missing, which defines split {split!r}: copy it from"
            " evermotion_dataset/analysis of github.com/apple/ml-hypersim (or use split 'all')"
        )
    with path.open(newline="", encoding="utf-8-sig") as file:
        rows = csv.DictReader(file)
        if not set(_SPLIT_COLUMNS) <= set(rows.fieldnames or ()):
            raise TrainingError(
                f"{path} has the columns {rows.fieldnames}, expected {_SPLIT_COLUMNS}"
            )
        try:
            return {
                (row["scene_name"], row["camera_name"], int(row["frame_id"]))
                for row in rows
                if row["included_in_public_release"] == "True"
                and row["split_partition_name"] == split
            }
        except ValueError as error:
            raise TrainingError(f"{path} has a wrong frame_id: {error}") from None
