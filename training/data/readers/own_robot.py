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

"""Read own recordings, written by `python -m training bag` and labelled by `pseudo-label`.

A DATASET has `card.json` and shards (see `shards`) of frames. Files of a frame:

- `KEY.jpg` or `KEY.png`, and the views `KEY.previous.*` and `KEY.next.*`.
- Ground truth, if recorded: `KEY.truth_depth.png` (uint16 metres * 256, 0 unknown) and
  `KEY.truth_labels.png` (uint8 ids, 255 unknown).

The index has the size and camera of each frame. The folder `labels` has shards of the same names
with the output of the teachers:

- `KEY.labels.png` and `KEY.depth.png`, encoded like ground truth.
- Their confidence, `KEY.labels_trust.png` and `KEY.depth_trust.png` (uint8).
- The camera motion to the views, `KEY.motion.json`.

`hand/KEY.png` are manual labels: gray or with a palette. A folder of DATASETs is read as one.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from torch.utils.data import Dataset

from depthseg_ros.imaging import image_files
from depthseg_ros.model_card import UNLABELLED

from ...errors import TrainingError
from ..classes import CLASS_LISTS
from ..images import label_files_by_stem, read_ids, require_ids, warn_if_masks
from ..sample import Sample
from ..shards import Shard, complete_shards
from ..teacher_terms import TERMS as TEACHERS

SOURCE = "a robot's own recording"
TERMS = "as the recording's owner says"

MIN_CONFIDENCE = 128
"""Minimum confidence (0 to 255) of the pixels used for validation."""


class _Frame(NamedTuple):
    """A frame and its shard."""

    folder: Path
    part: Shard
    key: str
    about: dict[str, Any]

    def gray(self, part: Shard, name: str, kind: type[np.generic]) -> NDArray[Any] | None:
        """Read an image with one channel, (H, W) of type `kind`; None if there is none."""
        array, size = part.gray(self.key, name), (self.about["height"], self.about["width"])
        if array is not None and (array.shape != size or array.dtype != kind):
            raise TrainingError(
                f"{part.path(self.key, name)}.png is {array.shape} {array.dtype}, expected {size}"
                f" (height, width) {np.dtype(kind)}"
            )
        return array

    def depth(self, part: Shard, name: str) -> NDArray[np.float32] | None:
        """Read depth (H, W) in metres, NaN for unknown; None without depth or focal length."""
        stored = self.gray(part, name, np.uint16) if self.about["camera"] else None
        if stored is None:
            return None
        return np.where(stored > 0, stored.astype(np.float32) / 256, np.float32(np.nan))


class _Frames(Dataset[Sample]):
    """Base class: the frames of a split with their views; subclasses add labels and depth."""

    def __init__(self, root: str | Path, split: str, neighbours: bool = True) -> None:
        """List a split.

        Args:
            root: A DATASET, or a folder of them.
            split: `train` (the first four fifths of each recording), `val` (the rest) or `all`.
            neighbours: Whether to read the views `previous` and `next`, if they exist.

        Raises:
            TrainingError: there is no DATASET, or the split has no frames.
        """
        root = Path(root)
        self.neighbours, self.split = neighbours, split
        self.folders = sorted(path.parent for path in root.glob("[!.]*/card.json"))
        if (root / "card.json").is_file():
            self.folders = [root]
        if not self.folders:
            raise TrainingError(
                f"{root} has no card.json: expected an output folder of `python -m training bag`,"
                " or a folder of these"
            )
        if split not in ("train", "val", "all"):
            raise TrainingError(f"got split {split!r}, a recording has train, val and all")
        recordings: dict[tuple[Path, str], list[_Frame]] = {}
        for folder in self.folders:
            for part in complete_shards(folder):
                frames = recordings.setdefault((folder, part.about.get("recording", "")), [])
                frames += [_Frame(folder, part, f["key"], f) for f in part.frames]
        self.frames = []
        for frames in recordings.values():
            end = len(frames) * 4 // 5
            self.frames += {"train": frames[:end], "val": frames[end:], "all": frames}[split]
        self.keys = {(f.folder, f.key) for frames in recordings.values() for f in frames}
        """Folder and key of the frames of all splits."""
        self._filter(lambda _: True)

    def __len__(self) -> int:
        """Number of frames."""
        return len(self.frames)

    @property
    def aspects(self) -> list[float]:
        """Aspect ratio (width / height) of each image."""
        return [frame.about["width"] / frame.about["height"] for frame in self.frames]

    def __getitem__(self, index: int) -> Sample:
        """Read one frame."""
        frame = self.frames[index]
        camera, views = frame.about["camera"], {}
        for name in ("previous", "next") if self.neighbours else ():
            if frame.about.get(name) is not None:
                views[name] = frame.part.image(frame.about, f"{name}.")
        sample = Sample(
            frame.part.image(frame.about), fx=camera["fx"] if camera else None, views=views
        )
        self._add(frame, sample)
        return sample

    def _add(self, frame: _Frame, sample: Sample) -> None:
        raise NotImplementedError

    def _filter(self, wanted: Callable[[_Frame], bool], what: str = "") -> None:
        """Keep only `wanted` frames; raises `TrainingError` if none is left."""
        self.frames = [frame for frame in self.frames if wanted(frame)]
        if not self.frames:
            folders = ", ".join(map(str, self.folders))
            raise TrainingError(f"{folders} has no frames{what} in split {self.split!r}")


class OwnRobot(_Frames):
    """Labels and depth from teachers with their confidence; in `val` only confident pixels.

    `terms` lists the teachers, since their terms of use apply to the trained model.
    """

    def __init__(self, root: str | Path, split: str, neighbours: bool = True) -> None:
        """List a split, see `_Frames`; raises `TrainingError` if shards are not labelled."""
        super().__init__(root, split, neighbours)
        self.labels: dict[tuple[Path, str], Shard] = {}
        classes: dict[str, Path] = {}
        labelled_by: dict[str, None] = {}
        for folder in self.folders:
            card = folder / "labels" / "card.json"
            try:
                about = json.loads(card.read_text())
                classes.setdefault(about["classes"], folder)
                named = (about.get("depth_teacher"), about.get("segmentation_teacher"))
                labelled_by |= dict.fromkeys(n for n in named if n not in (None, "none"))
            except (OSError, ValueError, LookupError, TypeError) as error:
                raise TrainingError(
                    f"{card} cannot be read ({error!r}): create it with python -m training"
                    f" pseudo-label --data {folder}"
                ) from None
            self.labels |= {(folder, part.name): part for part in complete_shards(card.parent)}
        if len(classes) > 1:
            other = ", ".join(f"{folder} the classes {name}" for name, folder in classes.items())
            raise TrainingError(f"recordings are labelled with different classes: {other}")
        (self.classes,) = classes
        self.terms = "; ".join((TERMS, *map(_terms_of, labelled_by)))
        parts = {(frame.folder, frame.part.name): frame.part for frame in self.frames}
        for place, part in parts.items():
            if place not in self.labels or self.labels[place].keys != part.keys:
                raise TrainingError(
                    f"{part.folder / part.name} is not labelled, or has changed since then: run"
                    f" python -m training pseudo-label --data {place[0]} again"
                )

    def _add(self, frame: _Frame, sample: Sample) -> None:
        part = self.labels[frame.folder, frame.part.name]
        sample.labels = frame.gray(part, "labels", np.uint8)
        sample.depth = frame.depth(part, "depth")
        sample.labels_confidence = frame.gray(part, "labels_trust", np.uint8)
        if sample.depth is not None:
            sample.depth_confidence = frame.gray(part, "depth_trust", np.uint8)
        motions = json.loads(part.read(frame.key, "motion.json") or b"{}")
        sample.motions = {
            name: np.array(motion, np.float64)
            for name, motion in motions.items()
            if motion is not None and name in sample.views
        }
        if self.split == "val":
            if sample.labels is not None and sample.labels_confidence is not None:
                confident = sample.labels_confidence >= MIN_CONFIDENCE
                sample.labels = np.where(confident, sample.labels, np.uint8(UNLABELLED))
            if sample.depth is not None and sample.depth_confidence is not None:
                confident = sample.depth_confidence >= MIN_CONFIDENCE
                sample.depth = np.where(confident, sample.depth, np.float32(np.nan))
            sample.labels_confidence = sample.depth_confidence = None


def _terms_of(teacher: str) -> str:
    """Terms of use for labels of a teacher; shortens a path to its last component."""
    name = Path(teacher).name if Path(teacher).is_absolute() else teacher
    return f"labels by {name}, which {TEACHERS.get(teacher, 'has terms of its own')}"


class OwnRobotTruth(_Frames):
    """The frames with recorded ground truth."""

    def __init__(
        self, root: str | Path, split: str, neighbours: bool = False, classes: str = "camvid"
    ) -> None:
        """List a split, see `_Frames`; `classes` is the class list of the labels, by name."""
        super().__init__(root, split, neighbours)
        self._filter(_has_truth, " with ground truth (bag --depth-topic or --labels-topic)")
        labelled = any(f.part.has(f.key, "truth_labels.png") for f in self.frames)
        self.classes = classes if labelled else None
        self._known = [c.id for c in CLASS_LISTS[classes]]

    def _add(self, frame: _Frame, sample: Sample) -> None:
        sample.labels = frame.gray(frame.part, "truth_labels", np.uint8)
        if sample.labels is not None:
            require_ids(sample.labels, self._known, frame.part.path(frame.key, "truth_labels.png"))
        sample.depth = frame.depth(frame.part, "truth_depth")


def _has_truth(frame: _Frame) -> bool:
    depth = frame.about["camera"] and frame.part.has(frame.key, "truth_depth.png")
    return bool(depth) or frame.part.has(frame.key, "truth_labels.png")


class OwnRobotHand(_Frames):
    """The frames with manual labels."""

    def __init__(
        self, root: str | Path, split: str, neighbours: bool = False, classes: str = "camvid"
    ) -> None:
        """List a split, see `_Frames`; `classes` is the class list of the labels, by name."""
        super().__init__(root, split, neighbours)
        self.classes = classes
        self._known = [c.id for c in CLASS_LISTS[classes]]
        self._label_files: dict[tuple[Path, str], Path] = {}
        for folder in self.folders:
            hand = folder / "hand"
            files = image_files.visible_files(hand) if hand.is_dir() else []
            labels = label_files_by_stem(hand)
            self._label_files |= {(folder, stem): path for stem, path in labels.items()}
            left_out = set(files) - set(labels.values())
            image_files.report_left_out(hand, left_out, "not label files by their names")
        for place in self._label_files.keys() - self.keys:
            raise TrainingError(
                f"{self._label_files[place]} does not belong to a frame, expected KEY.png"
            )
        self._filter(lambda f: (f.folder, f.key) in self._label_files, " with labels in hand/")
        warn_if_masks(list(self._label_files.values()))

    def _add(self, frame: _Frame, sample: Sample) -> None:
        path = self._label_files[frame.folder, frame.key]
        sample.labels = read_ids(path, self._known)
        if sample.labels.shape != sample.image.shape[:2]:
            raise TrainingError(
                f"{path} is {sample.labels.shape}, its image {sample.image.shape[:2]} (height,"
                " width)"
            )
