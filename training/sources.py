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

"""The data sets by name: what a configuration and the command line call them.

`NAME` alone is a generated one, `NAME=FOLDER` on the command line one that lies in a folder.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

import yaml
from jsonargparse import ArgumentError, ArgumentParser
from torch.utils.data import Dataset, Subset

from .datasets import Sample
from .errors import TrainingError

# name -> module and class in `training.datasets`.
GENERATED = {
    "streets": ("rendered", "RenderedStreets"),
    "composites": ("composites", "Composites"),
}
READERS = {
    "camvid": ("camvid", "CamVid"),
    "cityscapes": ("cityscapes", "Cityscapes"),
    "kitti_depth": ("kitti", "KittiDepth"),
    "kitti_semantics": ("kitti", "KittiSemantics"),
    "virtual_kitti2": ("virtual_kitti2", "VirtualKitti2"),
    "nyuv2": ("nyuv2", "NyuV2"),
    "sun_rgbd": ("sun_rgbd", "SunRgbd"),
    "hypersim": ("hypersim", "Hypersim"),
    "rgbd_sequence": ("rgbd_sequence", "RgbdSequence"),
    "museum": ("museum", "Museum"),
    "background_foreground": ("background_foreground", "BackgroundForeground"),
    "own_robot": ("own_robot", "OwnRobot"),
    "own_robot_truth": ("own_robot", "OwnRobotTruth"),
    "own_robot_hand": ("own_robot", "OwnRobotHand"),
}
NO_VAL = ("nyuv2", "sun_rgbd")
NO_TEST = (
    "background_foreground", "cityscapes", "kitti_semantics", "museum", "own_robot",
    "own_robot_hand", "own_robot_truth", "rgbd_sequence", "virtual_kitti2",
)  # fmt: skip
"""Of two splits only: where `val` is asked for, the first give `test`, the others the reverse."""


@dataclass
class Source:
    """A split of a data set, and what a model card says of it."""

    name: str
    split: str
    """The one that was opened, which is another than was asked for where that does not exist."""
    samples: Dataset[Sample]
    classes: str | None
    """Name of its class list in `classes.CLASS_LISTS`; None where it has no labels."""
    source: str
    terms: str

    def __len__(self) -> int:
        """Number of samples."""
        return len(self.samples)  # type: ignore[arg-type]

    def render(self) -> None:
        """Make what a generated data set keeps on disk and has not made yet."""
        if hasattr(self.samples, "render"):
            self.samples.render()


def open_source(
    name: str,
    split: str,
    folder: str | Path | None = None,
    count: int = 0,
    options: Mapping[str, Any] | None = None,
) -> Source:
    """Open a split of a data set.

    Args:
        name: One of `GENERATED` or `READERS`.
        split: `train`, `val` or `test`, or what else the reader knows.
        folder: Where it lies; a generated one has none.
        count: At most so many samples, spread over the split; 0: all. Of a generated set: how
            many to generate, over what `options` say.
        options: More arguments of the reader.

    Raises:
        TrainingError: an unknown name, a missing or wrong folder, or wrong options.
    """
    options = dict(options or {})
    if split == "val" and name in NO_VAL:
        split = "test"
    elif split == "test" and name in NO_TEST:
        split = "val"
    if name not in GENERATED and name not in READERS:
        known = ", ".join([*GENERATED, *READERS])
        raise TrainingError(f"there is no data set {name!r}, expected one of {known}")
    if (folder is None) != (name in GENERATED):
        raise TrainingError(
            f"{name} is generated and has no folder"
            if folder
            else f"{name} needs the folder it lies in: --data.folders.{name} FOLDER when training,"
            f" {name}=FOLDER when evaluating"
        )
    module_name, kind = GENERATED.get(name) or READERS[name]
    module = import_module(f"training.datasets.{module_name}")
    arguments = (split,) if folder is None else (folder, split)
    if name == "streets" and count:
        options |= {"streets": count, "moments": 1}
    elif name == "composites" and count:
        options["count"] = count
    reader = getattr(module, kind)
    samples = reader(*arguments, **_checked(options, reader, len(arguments), name))
    # A reader's own word comes first: some have a choice, some no labels beside others' labels.
    classes = getattr(samples, "classes", getattr(module, "CLASSES", None))
    terms = getattr(samples, "terms", module.TERMS)
    total = len(samples)
    if 0 < count < total:
        samples = Subset(samples, [i * total // count for i in range(count)])
    return Source(name, split, samples, classes, module.SOURCE, terms)


def _checked(options: Mapping[str, Any], reader: type, given: int, name: str) -> dict[str, Any]:
    """Options by the types that a reader is annotated with, after `given` arguments.

    Checked before the reader runs: what it raises itself, other than a `TrainingError`, is a fault
    of its program and no mistake in the options.
    """
    parser = ArgumentParser(exit_on_error=False)
    try:
        parser.add_class_arguments(reader, skip={given}, fail_untyped=False)
        checked = parser.parse_object(dict(options))
    except ArgumentError as error:
        reason = " ".join(str(error).split())
        raise TrainingError(f"the options {options} of {name}: {reason}") from None
    return {option: checked[option] for option in options}


def parse(texts: list[str]) -> dict[str, str | None]:
    """`NAME` and `NAME=FOLDER` of the command line -> name: folder."""
    pairs = (text.partition("=") for text in texts)
    return {name: folder or None for name, _, folder in pairs}


def parse_yaml(text: str) -> Any:
    """A value given as YAML on the command line; raises `TrainingError`."""
    try:
        return yaml.safe_load(text)
    except yaml.YAMLError as error:
        reason = str(error).splitlines()[0]
        raise TrainingError(f"{text!r} is not YAML: {reason}") from None
