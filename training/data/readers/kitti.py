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

"""Read KITTI (Geiger et al. 2013): raw recordings with depth, and the semantics benchmark.

`KittiDepth` reads the raw recordings `{date}/{drive}/image_0{2,3}/data/*.png` (or `.jpg`) with the
"improved" ground truth of the depth benchmark (Uhrig et al. 2017). `KittiSemantics` reads the 200
labelled images of the semantics benchmark.
"""

from __future__ import annotations

import functools
import re
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from torch.utils.data import Dataset

from ...errors import TrainingError
from ..arrays import read_lines
from ..images import StemIndex, read_gray, read_rgb, require_files, require_same_size
from ..sample import Sample
from .cityscapes import read_train_ids

SOURCE = "KITTI"
TERMS = "KITTI is licensed CC BY-NC-SA 3.0, for non-commercial use"
CLASSES = "cityscapes"

SEMANTICS_SPLITS = {"train": range(0, 160), "val": range(160, 200), "all": range(0, 200)}
"""Numbers of the labelled images. The benchmark has no validation split. Images of a drive are
consecutive, so these splits share at most one drive."""

_UNKNOWN = np.float32(np.nan)
_LINE = re.compile(
    r"(?P<date>\d{4}_\d\d_\d\d)/(?P<drive>[^\s/]+)\s+(?P<frame>\d+)\s+(?P<side>[lr])"
)


@dataclass(frozen=True)
class _Frame:
    image: Path
    depth: Path | None
    views: dict[str, Path]
    fx: float
    baseline: float


class KittiDepth(Dataset[Sample]):
    """The images of a list, for example the Eigen split; some have depth, none has labels."""

    classes = None

    def __init__(
        self,
        root: str | Path,
        split: str,
        lists: str | Path | None = None,
        depth_root: str | Path | None = None,
        stereo: bool = False,
        neighbours: bool = False,
    ) -> None:
        """List the frames of a split.

        The depth of frame 7 of the left camera is `proj_depth/groundtruth/image_02/0000000007.png`
        in `train/{drive}`, `val/{drive}`, `{drive}` or `{date}/{drive}`. Frames without this file
        have no depth: 45 of the 697 test images, and the first and last frames of each drive.

        Args:
            root: The folder of the dates, each with its `calib_cam_to_cam.txt`.
            split: Name of a list `{split}_files.txt` in `lists`, for example `train`, with lines
                `date/drive frame l|r`; or the path of a list, ending in `.txt`.
            lists: Folder of the lists; default: `{root}/splits/eigen`.
            depth_root: Parent folder of the depth's `train` and `val`; default: `root`.
            stereo: Read the other camera's image as the view `right`, and the baseline: positive
                for lines `l`; negative for lines `r`, since the other camera is on the left.
            neighbours: Read the views `previous` and `next`, if they exist.

        Raises:
            TrainingError: the list, images in it, their calibration, or all depth files of a given
                `depth_root` are missing.
        """
        root = Path(root)
        default = Path(lists or root / "splits" / "eigen") / f"{split}_files.txt"
        listed = Path(split) if split.endswith(".txt") else default
        depth_folder = Path(depth_root or root)
        numbered = functools.cache(functools.partial(_numbered, StemIndex()))
        cameras = functools.cache(_read_cameras)

        def frame_of(date: str, drive: str, number: int, camera: int) -> _Frame:
            def folder(which: int) -> Path:
                return root / date / drive / f"image_0{which}" / "data"

            def image_file(which: int, number: int) -> Path:
                name = folder(which) / f"{number:010}.png"
                return numbered(folder(which)).get(number, name)

            truth = Path("proj_depth", "groundtruth", f"image_0{camera}")
            places = (Path("train", drive), Path("val", drive), Path(drive), Path(date, drive))
            depths = [numbered(depth_folder / place / truth, True).get(number) for place in places]
            other = 5 - camera
            views = {"right": image_file(other, number)} if stereo else {}
            for name, beside in (("previous", number - 1), ("next", number + 1)):
                if neighbours and beside in numbered(folder(camera)):
                    views[name] = image_file(camera, beside)
            positions = cameras(root / date / "calib_cam_to_cam.txt")
            (fx, x), (_, other_x) = positions[camera], positions[other]
            depth = next((file for file in depths if file), None)
            return _Frame(image_file(camera, number), depth, views, fx, other_x - x)

        self.frames = [frame_of(*line) for line in _read_split(listed)]
        self.stereo = stereo
        require_files(frame.image for frame in self.frames)
        require_files(frame.views["right"] for frame in self.frames if stereo)
        if depth_root is not None and not any(frame.depth for frame in self.frames):
            raise TrainingError(
                f"no depth of any frame of {listed} found as"
                f" {depth_folder}/train|val/DRIVE/proj_depth/groundtruth/image_02|03/*.png"
            )

    def __len__(self) -> int:
        """Number of frames."""
        return len(self.frames)

    def __getitem__(self, index: int) -> Sample:
        """Read one frame."""
        frame = self.frames[index]
        sample = Sample(read_rgb(frame.image), fx=frame.fx)
        if frame.depth is not None:
            encoded = read_gray(frame.depth, np.uint16, "encoded depth")
            require_same_size(frame.image, sample.image, depth=encoded)
            sample.depth = np.where(encoded > 0, encoded.astype(np.float32) / 256, _UNKNOWN)
        sample.views = {name: read_rgb(file) for name, file in frame.views.items()}
        require_same_size(frame.image, sample.image, **sample.views)
        if self.stereo:
            sample.baseline = frame.baseline
        return sample


class KittiSemantics(Dataset[Sample]):
    """Labels only, with the classes of Cityscapes."""

    def __init__(self, root: str | Path, split: str) -> None:
        """List `training/{image_2,semantic}/*_10.png` of `root`.

        Raises:
            TrainingError: the split is unknown, there are no images, or labels are missing.
        """
        if split not in SEMANTICS_SPLITS:
            raise TrainingError(
                f"split {split!r} of KITTI, expected one of {list(SEMANTICS_SPLITS)}"
            )
        folder = Path(root) / "training"
        names = [f"{number:06}_10.png" for number in SEMANTICS_SPLITS[split]]
        find = StemIndex()
        self.pairs = [
            (find(folder / "image_2" / name), find(folder / "semantic" / name, lossless=True))
            for name in names
            if Path(name).stem in find.stems(folder / "image_2")
        ]
        if not self.pairs:
            raise TrainingError(
                f"no KITTI images found as {folder}/image_2/{names[0]} to {names[-1]}"
            )
        require_files(labels for _, labels in self.pairs)

    def __len__(self) -> int:
        """Number of images."""
        return len(self.pairs)

    def __getitem__(self, index: int) -> Sample:
        """Read one image and its labels."""
        image_file, label_file = self.pairs[index]
        image, labels = read_rgb(image_file), read_train_ids(label_file)
        require_same_size(image_file, image, labels=labels)
        return Sample(image, labels)


def _read_split(path: Path) -> list[tuple[str, str, int, int]]:
    """Read date, drive, frame and camera (2 left, 3 right) of each line."""
    try:
        lines = read_lines(path)
    except (OSError, ValueError) as error:
        raise TrainingError(
            f"the list of frames {path} cannot be read ({error}),"
            " expected lines 'date/drive frame l|r'"
        ) from None
    frames = []
    for number, line in lines:
        match = _LINE.fullmatch(line)
        if match is None:
            raise TrainingError(
                f"{path} line {number} is {line!r}, expected 'date/drive frame l|r'"
            )
        camera = 2 if match["side"] == "l" else 3
        frames.append((match["date"], match["drive"], int(match["frame"]), camera))
    if not frames:
        raise TrainingError(f"{path} is empty, expected lines 'date/drive frame l|r'")
    return frames


def _numbered(find: StemIndex, folder: Path, lossless: bool = False) -> dict[int, Path]:
    """Index the images of a folder by number; empty if there is no folder."""
    return {
        int(stem): find(folder / f"{stem}.png", lossless)
        for stem in find.stems(folder)
        if stem.isdecimal()
    }


def _read_cameras(path: Path) -> dict[int, tuple[float, float]]:
    """Read focal length (pixels) and x position (metres) of the rectified cameras 2 and 3.

    A line `P_rect_02:` has the projection matrix K [I | t], row by row. The position is -t[0].
    """
    try:
        entries = dict(line.split(":", 1) for _, line in read_lines(path) if ":" in line)
        cameras = {}
        for camera in (2, 3):
            p = np.array(entries[f"P_rect_0{camera}"].split(), float).reshape(3, 4)
            cameras[camera] = (float(p[0, 0]), float((p[0, 2] * p[2, 3] - p[0, 3]) / p[0, 0]))
    except (OSError, ValueError, KeyError) as error:
        raise TrainingError(
            f"{path} cannot be read as KITTI's calibration ({error!r}),"
            " expected lines P_rect_02 and P_rect_03 of 12 numbers"
        ) from None
    return cameras
