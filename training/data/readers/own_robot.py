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

"""A robot's own recordings, as `python -m training bag` writes and `pseudo-label` labels them.

A DATASET has `card.json` and parts (`parts`) of frames: `KEY.jpg` or `KEY.png`, the views
`KEY.previous.*` and `KEY.next.*`, and where the recording had truth `KEY.truth_depth.png` (uint16
metres * 256, 0 unknown) and `KEY.truth_labels.png` (uint8 ids, 255 unknown); the index says of each
frame its size and camera. Parts of the same names in `labels` have the teachers' output:
`KEY.labels.png` and `KEY.depth.png` in the same encoding, their confidence,
`KEY.labels_trust.png` and `KEY.depth_trust.png` (uint8), and how the camera moves to the views,
`KEY.motion.json`. `hand/KEY.png` are labels drawn by hand, also with
a palette. A folder of DATASETs is read as one.
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
from ..images import labels_of, read_ids, require_ids, warn_of_masks
from ..parts import Shard, complete_parts
from ..sample import Sample
from ..teacher_terms import TERMS as TEACHERS

SOURCE = "a robot's own recording"
TERMS = "as the recording's owner says"

TRUSTED = 128
"""Minimum confidence where pixels are not weighted by it."""


class _Frame(NamedTuple):
    """A frame and where it lies."""

    folder: Path
    part: Shard
    key: str
    about: dict[str, Any]

    def gray(self, part: Shard, name: str, kind: type[np.generic]) -> NDArray[Any] | None:
        """An image of one channel, (H, W) of a type, None if there is none."""
        array, size = part.gray(self.key, name), (self.about["height"], self.about["width"])
        if array is not None and (array.shape != size or array.dtype != kind):
            raise TrainingError(
                f"{part.path(self.key, name)}.png is {array.shape} {array.dtype}, expected {size}"
                f" (height, width) {np.dtype(kind)}"
            )
        return array

    def depth(self, part: Shard, name: str) -> NDArray[np.float32] | None:
        """Metres, NaN where unknown; None where there is none, or no focal length to learn it."""
        stored = self.gray(part, name, np.uint16) if self.about["camera"] else None
        if stored is None:
            return None
        return np.where(stored > 0, stored.astype(np.float32) / 256, np.float32(np.nan))


class _Frames(Dataset[Sample]):
    """The frames of a split, with their views; what is known of them, others add."""

    def __init__(self, root: str | Path, split: str, neighbours: bool = True) -> None:
        """List a split.

        Args:
            root: A DATASET, or a folder of them.
            split: `train` (the first four fifths of each recording), `val` (the rest) or `all`.
            neighbours: Whether to give the views `previous` and `next`, where they are there.

        Raises:
            TrainingError: there is none, or the split has no frames.
        """
        root = Path(root)
        self.neighbours, self.split = neighbours, split
        self.folders = sorted(path.parent for path in root.glob("[!.]*/card.json"))
        if (root / "card.json").is_file():
            self.folders = [root]
        if not self.folders:
            raise TrainingError(
                f"{root} has no card.json: expected what `python -m training bag` has written, or a"
                " folder of such"
            )
        if split not in ("train", "val", "all"):
            raise TrainingError(f"got split {split!r}, a recording has train, val and all")
        recordings: dict[tuple[Path, str], list[_Frame]] = {}
        for folder in self.folders:
            for part in complete_parts(folder):
                frames = recordings.setdefault((folder, part.about.get("recording", "")), [])
                frames += [_Frame(folder, part, f["key"], f) for f in part.frames]
        self.frames = []
        for frames in recordings.values():
            end = len(frames) * 4 // 5
            self.frames += {"train": frames[:end], "val": frames[end:], "all": frames}[split]
        self.keys = {(f.folder, f.key) for frames in recordings.values() for f in frames}
        """Of all splits."""
        self._keep(lambda _: True)

    def __len__(self) -> int:
        """Number of frames."""
        return len(self.frames)

    @property
    def aspects(self) -> list[float]:
        """Width over height of each image."""
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

    def _keep(self, wanted: Callable[[_Frame], bool], what: str = "") -> None:
        """Leave out other frames; raise `TrainingError` where none is left."""
        self.frames = [frame for frame in self.frames if wanted(frame)]
        if not self.frames:
            folders = ", ".join(map(str, self.folders))
            raise TrainingError(f"{folders} has no frames{what} in split {self.split!r}")


class OwnRobot(_Frames):
    """Labels and depth from teachers with their confidence; in `val` only confident pixels.

    `terms` names the teachers, whose terms hold for what learns from them.
    """

    def __init__(self, root: str | Path, split: str, neighbours: bool = True) -> None:
        """As `_Frames`; raises `TrainingError` also where parts are not labelled."""
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
                    f"{card} cannot be read ({error!r}): python -m training pseudo-label --data"
                    f" {folder} makes it"
                ) from None
            self.labels |= {(folder, part.name): part for part in complete_parts(card.parent)}
        if len(classes) > 1:
            other = ", ".join(f"{folder} the classes {name}" for name, folder in classes.items())
            raise TrainingError(f"recordings are labelled in different classes: {other}")
        (self.classes,) = classes
        self.terms = "; ".join((TERMS, *map(_terms_of, labelled_by)))
        parts = {(frame.folder, frame.part.name): frame.part for frame in self.frames}
        for place, part in parts.items():
            if place not in self.labels or self.labels[place].keys != part.keys:
                raise TrainingError(
                    f"{part.folder / part.name} is not labelled, or anew since then: give"
                    f" python -m training pseudo-label --data {place[0]} again"
                )

    def _add(self, frame: _Frame, sample: Sample) -> None:
        part = self.labels[frame.folder, frame.part.name]
        sample.labels = frame.gray(part, "labels", np.uint8)
        sample.depth = frame.depth(part, "depth")
        sample.labels_trust = frame.gray(part, "labels_trust", np.uint8)
        if sample.depth is not None:
            sample.depth_trust = frame.gray(part, "depth_trust", np.uint8)
        motions = json.loads(part.read(frame.key, "motion.json") or b"{}")
        sample.motions = {
            name: np.array(motion, np.float64)
            for name, motion in motions.items()
            if motion is not None and name in sample.views
        }
        if self.split == "val":
            if sample.labels is not None and sample.labels_trust is not None:
                sure = sample.labels_trust >= TRUSTED
                sample.labels = np.where(sure, sample.labels, np.uint8(UNLABELLED))
            if sample.depth is not None and sample.depth_trust is not None:
                sure = sample.depth_trust >= TRUSTED
                sample.depth = np.where(sure, sample.depth, np.float32(np.nan))
            sample.labels_trust = sample.depth_trust = None


def _terms_of(teacher: str) -> str:
    """What holds for labels of a teacher, of which the file system's folders are left out."""
    name = Path(teacher).name if Path(teacher).is_absolute() else teacher
    return f"labels by {name}, which {TEACHERS.get(teacher, 'has terms of its own')}"


class OwnRobotTruth(_Frames):
    """The truth of the frames whose recording had some."""

    def __init__(
        self, root: str | Path, split: str, neighbours: bool = False, classes: str = "camvid"
    ) -> None:
        """As `_Frames`; `classes` names those of the labels, in `classes.CLASS_LISTS`."""
        super().__init__(root, split, neighbours)
        self._keep(_has_truth, " with truth (bag --depth-topic or --labels-topic)")
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
    """The frames with labels drawn by hand."""

    def __init__(
        self, root: str | Path, split: str, neighbours: bool = False, classes: str = "camvid"
    ) -> None:
        """As `_Frames`; `classes` names those of the labels, in `classes.CLASS_LISTS`."""
        super().__init__(root, split, neighbours)
        self.classes = classes
        self._known = [c.id for c in CLASS_LISTS[classes]]
        self._drawn: dict[tuple[Path, str], Path] = {}
        for folder in self.folders:
            hand = folder / "hand"
            files = image_files.visible_files(hand) if hand.is_dir() else []
            labels = labels_of(hand)
            self._drawn |= {(folder, stem): path for stem, path in labels.items()}
            left_out = set(files) - set(labels.values())
            image_files.report_left_out(hand, left_out, "not label files by their names")
        for place in self._drawn.keys() - self.keys:
            raise TrainingError(f"{self._drawn[place]} is named after no frame")
        self._keep(lambda frame: (frame.folder, frame.key) in self._drawn, " with labels in hand/")
        warn_of_masks(list(self._drawn.values()))

    def _add(self, frame: _Frame, sample: Sample) -> None:
        path = self._drawn[frame.folder, frame.key]
        sample.labels = read_ids(path, self._known)
        if sample.labels.shape != sample.image.shape[:2]:
            raise TrainingError(
                f"{path} is {sample.labels.shape}, its picture {sample.image.shape[:2]} (height,"
                " width)"
            )
