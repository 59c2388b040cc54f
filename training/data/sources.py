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

"""Open data sets by the names that configurations and the command line use.

On the command line, `NAME` is a generated data set and `NAME=FOLDER` one on disk.
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass, replace
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from torch.utils.data import Subset

from depthseg_ros.model_card import SemanticClass

from ..errors import TrainingError
from ..options import checked
from . import label_spaces
from .classes import CLASS_LISTS
from .label_spaces import ClassSets, Groups, MappedLabels
from .refined_labels import RefinedLabels, read_card
from .sample import Samples, WrappedDataset

# name -> module and class, in `synthetic` and in `readers`.
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
FOLDER = "folder"
"""Name of a folder with its own `dataset.yaml`; `folder_NAME` are additional such folders."""
DESCRIPTIONS = Path(__file__).parents[1] / "configs" / "datasets"
"""Descriptions of public data sets for `readers.folder`."""
NO_VAL = ("nyuv2", "sun_rgbd")
NO_TEST = (
    "background_foreground", "cityscapes", "kitti_semantics", "museum", "own_robot",
    "own_robot_hand", "own_robot_truth", "rgbd_sequence", "virtual_kitti2",
)  # fmt: skip
"""Data sets without this split: `val` opens `test` for the first, `test` opens `val` for these."""

MAPS = ("map", "groups")
"""Options that all data sets have."""


@dataclass
class Source:
    """A split of a data set, with its metadata."""

    name: str
    split: str
    """The split that was opened; not always the requested one, see `NO_VAL` and `NO_TEST`."""
    samples: Samples
    classes: str | tuple[SemanticClass, ...] | None
    """Its class list, or the name of one in `classes.CLASS_LISTS`; None: no labels."""
    source: str
    """Description for the model card."""
    terms: str
    """Terms of use for the model card."""
    map: dict[Hashable, Any] | None = None
    """Map to the model's classes, see `label_spaces`."""
    group_map: dict[Hashable, Any] | None = None
    """Map to the model's classes for scoring; None: `map`."""
    protocol: str | None = None
    """Depth evaluation protocol, one of `protocols.PROTOCOLS`; None: chosen by `name`."""
    keys: list[str] | None = None
    """Key of each sample for refined labels; None if the reader does not provide keys."""
    refined: Path | None = None
    """Folder of refined labels, used for training but never for scoring."""
    sets: int = 0
    """Number of class sets that the labels of a mapped source may refer to."""
    groups: Groups | None = None
    """Groups for scoring a mapped source; None: score the model's classes."""

    def __len__(self) -> int:
        """Number of samples."""
        return len(self.samples)

    def render(self) -> None:
        """Render the samples of a generated data set that are not cached on disk yet."""
        samples: Any = self.samples
        while isinstance(samples, WrappedDataset):
            samples = samples.samples
        if hasattr(samples, "render"):
            samples.render()

    def mapped(
        self, model: Sequence[SemanticClass], sets: ClassSets | None = None, scored: bool = True
    ) -> Source:
        """Map the labels to the classes of a model.

        Args:
            model: The model's classes; if empty, labels are not used.
            sets: Collects the sets of classes that labels refer to.
            scored: Whether the source is for evaluation: its groups must not overlap then, and
                refined labels are not used.

        Raises:
            TrainingError: the classes differ from the model's and the map is missing or wrong.
        """
        source = self._mapped(model, sets, scored)
        if not model or scored or self.refined is None or self.keys is None:
            return source
        made_for = read_card(self.refined).get("classes")
        names = [c.name for c in model]
        if made_for != names:
            raise TrainingError(f"{self.refined} has the classes {made_for}, the model {names}")
        samples = RefinedLabels(source.samples, self.refined, self.keys)
        # A source without labels gets those of the model.
        return replace(source, samples=samples, classes=self.classes or tuple(model))

    def _mapped(
        self, model: Sequence[SemanticClass], sets: ClassSets | None, scored: bool
    ) -> Source:
        if not model or self.classes is None:
            return self
        own_classes = label_spaces.class_list(self.classes)
        own = {c.id: c.name for c in own_classes}
        content = self.map
        if content is None:
            if own_classes == tuple(model):
                return self
            if isinstance(self.classes, str) or set(own.values()) - {c.name for c in model}:
                raise TrainingError(self._not_the_models(model))
            content = label_spaces.same_names(own)
        sets = ClassSets(model) if sets is None else sets
        where = f"the map of {self.name}"
        rows = label_spaces.members(content, own, model, self.name, where)
        labels = np.array([sets.label(row) for row in rows], np.uint8)
        groups = None
        if scored:
            if self.group_map is not None:
                where = f"the groups of {self.name}"
                rows = label_spaces.members(self.group_map, own, model, self.name, where)
            groups = label_spaces.groups(labels, rows, model, self.name)
        samples = MappedLabels(self.samples, own, labels, self.name)
        return replace(self, samples=samples, sets=len(sets), groups=groups)

    def _not_the_models(self, model: Sequence[SemanticClass]) -> str:
        known = next((name for name, listed in CLASS_LISTS.items() if listed == tuple(model)), None)
        own = label_spaces.class_list(self.classes or ())
        named = isinstance(self.classes, str)
        return (
            f"{self.name} has the classes"
            f" {repr(self.classes) if named else ', '.join(c.name for c in own)}, which are not the"
            f" model's, {repr(known) if known else ', '.join(c.name for c in model)}: set the"
            f" option `map` of {self.name}, see docs/training.md"
        )


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
        split: `train`, `val`, `test`, or another split of the reader.
        folder: Its folder; None for generated data sets.
        count: Maximum number of samples, spread evenly over the split; 0: all. For a generated data
            set, the number to generate, which overrides `options`.
        options: Additional arguments of the reader. All data sets with labels have `map` (to the
            model's classes) and `groups` (for scoring), see `label_spaces`. Folders of images have
            `refined`: the folder of labels refined by teachers.

    Raises:
        TrainingError: the name is unknown, the folder missing or wrong, or the options wrong.
    """
    options = dict(options or {})
    maps = {key: label_spaces.read_map(options.pop(key)) for key in MAPS if options.get(key)}
    if split == "val" and name in NO_VAL:
        split = "test"
    elif split == "test" and name in NO_TEST:
        split = "val"
    described = {path.stem: path for path in DESCRIPTIONS.glob("*.yaml")}
    own = name == FOLDER or name.startswith(f"{FOLDER}_")
    if not (name in GENERATED or name in READERS or name in described or own):
        known = ", ".join([*GENERATED, *READERS, *sorted(described), FOLDER])
        raise TrainingError(
            f"there is no data set {name!r}, expected one of {known}, or {FOLDER}_NAME for more"
            " folders of your own"
        )
    if (folder is None) != (name in GENERATED):
        raise TrainingError(
            f"{name} is generated and has no folder"
            if folder
            else f"{name} needs its folder: --data.folders.{name} FOLDER for training,"
            f" {name}=FOLDER for evaluation"
        )
    if name in described:
        options = {"description": described[name], **options}
    module_name, kind = GENERATED.get(name) or READERS.get(name) or ("folder", "Folder")
    folder_name = "synthetic" if name in GENERATED else "readers"
    module = import_module(f"training.data.{folder_name}.{module_name}")
    arguments = (split,) if folder is None else (folder, split)
    if name == "streets" and count:
        options |= {"streets": count, "moments": 1}
    elif name == "composites" and count:
        options["count"] = count
    reader = getattr(module, kind)
    refined = options.pop("refined", None)
    what = f"the options {options} of {name}"
    samples = reader(*arguments, **checked(options, reader, {len(arguments)}, what))
    # Attributes of the reader override those of its module: they can depend on its options.
    classes = getattr(samples, "classes", getattr(module, "CLASSES", None))
    terms = getattr(samples, "terms", module.TERMS)
    source = getattr(samples, "source", module.SOURCE)
    split, protocol = getattr(samples, "split", split), getattr(samples, "protocol", None)
    for key, attribute in (("map", "map"), ("groups", "group_map")):
        maps.setdefault(key, getattr(samples, attribute, None))
    keys = getattr(samples, "image_keys", None)
    if refined is not None:
        if keys is None:
            raise TrainingError(f"{name} has no option `refined`: only folders of images have it")
        refined = Path(refined).expanduser()
        terms = "; ".join(dict.fromkeys([terms, *read_card(refined).get("terms", [])]))
    total = len(samples)
    if 0 < count < total:
        chosen = [i * total // count for i in range(count)]
        samples = Subset(samples, chosen)
        keys = keys and [keys[i] for i in chosen]
    return Source(
        name, split, samples, classes, source, terms, maps["map"], maps["groups"], protocol,
        keys, refined,
    )  # fmt: skip


def parse(texts: list[str]) -> dict[str, str | None]:
    """Parse `NAME` and `NAME=FOLDER` from the command line to {name: folder or None}."""
    pairs = (text.partition("=") for text in texts)
    return {name: folder or None for name, _, folder in pairs}


def parse_yaml(text: str) -> Any:
    """Parse a YAML value from the command line; raises `TrainingError`."""
    try:
        return yaml.safe_load(text)
    except yaml.YAMLError as error:
        reason = str(error).splitlines()[0]
        raise TrainingError(f"{text!r} is not YAML: {reason}") from None
