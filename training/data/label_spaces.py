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

"""Map the classes of a data set, or of a teacher, to the classes of the model.

A map has one line per own class: `OWN CLASS: MODEL CLASS | [MODEL CLASSES] | ignore`. The own class
is a name or an id. `null` means `ignore`. Several own classes may map to one model class. A coarser
own class may map to a set of model classes. Every own class needs a line.

For a data set, each set of classes becomes an additional label, numbered after the model's classes
by `ClassSets`. The loss sums the probabilities of its classes. For a teacher, the probability of a
class that maps to a set is divided equally among the classes of the set.

Shapes: K own classes, C model classes, S sets.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from depthseg_ros.model_card import UNLABELLED, SemanticClass

from ..errors import TrainingError
from ..options import read_yaml
from .classes import CLASS_LISTS
from .sample import Sample, Samples, WrappedDataset

MAPS = Path(__file__).parents[1] / "configs" / "classes"
"""Folder of the named maps."""
IGNORE = "ignore"


def read_map(given: str | Path | Mapping[Hashable, Any], beside: Path | None = None) -> Any:
    """Read a map of classes.

    Args:
        given: The map itself, the name of a map in `MAPS`, or a file.
        beside: Folder to search first for a file.

    Raises:
        TrainingError: there is no such file, or it is not a map.
    """
    if isinstance(given, Mapping):
        return dict(given)
    path = Path(given).expanduser()
    if beside is not None and (beside / path).is_file():
        path = beside / path
    elif (MAPS / f"{given}.yaml").is_file():
        path = MAPS / f"{given}.yaml"
    return read_yaml(path, "a map of classes")


def members(
    mapping: Mapping[Hashable, Any],
    own: Mapping[int, str],
    model: Sequence[SemanticClass],
    what: str,
    where: str = "the map of classes",
) -> NDArray[np.bool_]:
    """Convert a map to a boolean table of own and model classes.

    Args:
        mapping: Content of a map.
        own: Ids and names of the own classes. If several have the same name, a line with this name
            applies to all of them.
        model: The model's classes.
        what: Name of the data set or teacher, for error messages.
        where: Name of the map, for error messages.

    Returns:
        (K, C): whether an own class maps to a model class. Classes with an empty row are ignored.

    Raises:
        TrainingError: a class in the map is unknown, duplicated, or missing.
    """
    places: dict[str, list[int]] = {str(i): [row] for row, i in enumerate(own)}
    of_names: dict[str, list[int]] = {}
    for row, name in enumerate(own.values()):
        of_names.setdefault(name, []).append(row)
    places |= of_names  # a name that is a number takes precedence over the id
    columns = {c.name: column for column, c in enumerate(model)}
    rows = np.zeros((len(own), len(columns)), bool)
    done: dict[int, Hashable] = {}
    for key, value in mapping.items():
        name = str(key)
        if name not in places:
            raise TrainingError(
                f"{where} has the class {key!r}, which {what} does not have; its classes are"
                f" {listed(own.values())} (a line is OWN CLASS: MODEL CLASS)"
            )
        names = _wanted(value, f"{where}: {key!r}")
        unknown = [n for n in names if n not in columns]
        if unknown:
            raise TrainingError(
                f"{where} maps {key!r} to {listed(unknown)}, expected the model's classes,"
                f" {listed(columns)}, or {IGNORE}"
            )
        if len(set(names)) < len(names):
            twice = next(n for n in names if names.count(n) > 1)
            raise TrainingError(f"{where} maps {key!r} to {twice!r} twice")
        for row in places[name]:
            if row in done:
                raise TrainingError(
                    f"{where} has {list(own.values())[row]!r} twice: as {done[row]!r} and {key!r}"
                )
            done[row] = key
            rows[row, [columns[n] for n in names]] = True
    missing = [name for row, name in enumerate(own.values()) if row not in done]
    if missing:
        raise TrainingError(
            f"{where} lacks {listed(missing)} of {what}: map each to a class of the model, to a"
            f" list of them, or to {IGNORE}"
        )
    return rows


def _wanted(value: Any, where: str) -> list[str]:
    """Return the model class names in the value of a line."""
    if value is None or value == IGNORE:
        return []
    names = value if isinstance(value, list) else [value]
    if not names or not all(isinstance(name, str) for name in names):
        raise TrainingError(
            f"{where} is mapped to {value!r}, expected the name of a class, a list of names, or"
            f" {IGNORE}"
        )
    return names


def same_names(own: Mapping[int, str]) -> dict[Hashable, Any]:
    """Map each class to the model class with the same name."""
    return {name: name for name in own.values()}


def listed(names: Iterable[object]) -> str:
    """Format names for an error message."""
    return ", ".join(repr(name) for name in names)


class ClassSets:
    """The sets of classes that labels of all data sets refer to. Set k has the label C + k."""

    def __init__(self, classes: Sequence[SemanticClass]) -> None:
        """Start with no sets of the model's `classes`."""
        self.classes = tuple(classes)
        self._rows: list[tuple[bool, ...]] = []

    def __len__(self) -> int:
        """Number of sets, S."""
        return len(self._rows)

    @property
    def table(self) -> NDArray[np.bool_]:
        """(S, C): the classes of each set."""
        return np.array(self._rows, bool).reshape(len(self), len(self.classes))

    def label(self, row: NDArray[np.bool_]) -> int:
        """Return the label for a row (C,): its class, its set of classes, or 255 if it is empty.

        Raises:
            TrainingError: the sets do not fit into 8-bit labels.
        """
        if row.sum() < 2:
            return self.classes[int(row.argmax())].id if row.any() else UNLABELLED
        key = tuple(row.tolist())
        if key not in self._rows:
            self._rows.append(key)
            if len(self.classes) + len(self) > UNLABELLED:
                raise TrainingError(
                    f"the data sets have more than {len(self) - 1} sets of classes, which with"
                    f" {len(self.classes)} classes do not fit into labels of 8 bits"
                )
        return len(self.classes) + self._rows.index(key)


@dataclass(frozen=True)
class Groups:
    """Groups of model classes, for scoring on a data set that does not distinguish all classes."""

    names: tuple[str, ...]
    """Group names: the model classes in a group, separated by +."""
    of_class: NDArray[np.uint8]
    """(256,) Group of each predicted class; the number of groups if it is in no group."""
    of_label: NDArray[np.uint8]
    """(256,) Group of each label (a class or a set); 255 if it is not scored."""


def groups(
    labels: NDArray[np.uint8], rows: NDArray[np.bool_], model: Sequence[SemanticClass], what: str
) -> Groups | None:
    """Compute the groups for scoring on a data set.

    Args:
        labels: (K,) The label of each own class, from `ClassSets`.
        rows: (K, C) The model classes that are correct for each own class.
        model: The model's classes.
        what: Name of the data set, for error messages.

    Returns:
        The groups; None if every model class is a group of its own.

    Raises:
        TrainingError: two groups share a class, or a label has two groups.
    """
    members_of: list[tuple[bool, ...]] = []
    of_label = np.full(256, UNLABELLED, np.uint8)
    for label, row in zip(labels.tolist(), rows, strict=True):
        if label == UNLABELLED or not row.any():
            continue
        key = tuple(row.tolist())
        if key not in members_of:
            members_of.append(key)
        group = members_of.index(key)
        if of_label[label] not in (UNLABELLED, group):
            raise TrainingError(
                f"{what}: two classes have the same entry in `map`, but different ones in `groups`"
            )
        of_label[label] = group
    table = np.array(members_of, bool).reshape(len(members_of), len(model))
    names = tuple(
        "+".join(c.name for c, has in zip(model, row, strict=True) if has) for row in table
    )
    shared = table.sum(0) > 1
    if shared.any():
        column = int(shared.argmax())
        overlapping = listed(n for n, row in zip(names, table, strict=True) if row[column])
        raise TrainingError(
            f"{what} cannot be scored: {overlapping} share the class {model[column].name!r}; give"
            " `groups`, a map whose lists have no class in common"
        )
    if len(table) == len(model) and (table.sum(1) == 1).all():
        return None
    of_class = np.full(256, len(table), np.uint8)
    for c, members in zip(model, table.T, strict=True):
        if members.any():
            of_class[c.id] = members.argmax()
    return Groups(names, of_class, of_label)


class MappedLabels(WrappedDataset):
    """A data set with its labels mapped to the model's classes."""

    def __init__(
        self, samples: Samples, own: Iterable[int], labels: NDArray[np.uint8], what: str
    ) -> None:
        """Wrap a data set.

        Args:
            samples: The data set.
            own: Its class ids.
            labels: (K,) The new label of each: from `ClassSets`, or 255.
            what: Its name, for error messages.
        """
        super().__init__(samples)
        self.what = what
        self.table = np.full(256, UNLABELLED, np.uint8)
        self.known = np.zeros(256, bool)
        ids = list(own)
        self.table[ids], self.known[[*ids, UNLABELLED]] = labels, True

    def __getitem__(self, index: int) -> Sample:
        """Read a sample; raises `TrainingError` if it has ids that are not in the class list."""
        sample = self.samples[index]
        if sample.labels is not None:
            if not self.known[sample.labels].all():
                foreign = np.unique(sample.labels[~self.known[sample.labels]])
                raise TrainingError(
                    f"sample {index} of {self.what} has the class ids {foreign.tolist()}, which are"
                    " not in its class list"
                )
            sample.labels = self.table[sample.labels]
        return sample


def class_list(classes: str | Sequence[SemanticClass]) -> tuple[SemanticClass, ...]:
    """Look up a class list by name; other lists are returned as they are."""
    return CLASS_LISTS[classes] if isinstance(classes, str) else tuple(classes)
