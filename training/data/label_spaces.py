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

"""Label spaces: how the classes of a data set, or of a teacher, become those of the model.

A map has one line a class, `OWN CLASS: MODEL CLASS | [MODEL CLASSES] | ignore`. The own class is a
name or an id, `null` is the same as `ignore`. Several own classes may become one; one may become a
set of the model's classes, where its label says less than the model's would. Every own class has a
line, so that none is forgotten.

Of a data set, a set is a label of its own: the id after the model's classes under which `ClassSets`
keeps it. The loss sums the probabilities of its classes. Of a teacher, the probability of a class
that becomes a set is shared equally among the set's classes.

Shapes: K own classes, C of the model, S sets.
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
from .sample import Sample, Samples, Wrapped

MAPS = Path(__file__).parents[1] / "configs" / "classes"
"""Maps by name."""
IGNORE = "ignore"


def read_map(given: str | Path | Mapping[Hashable, Any], beside: Path | None = None) -> Any:
    """The content of a map.

    Args:
        given: The content itself, the name of a map in `MAPS`, or a file.
        beside: Folder that a file's path is relative to, where there is such a file.

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
    """Which of the model's classes each own class stands for.

    Args:
        mapping: Content of a map.
        own: Ids and names of the own classes, in their order. Where several have one name, a line
            with the name holds for all of them.
        model: The model's classes.
        what: Whose the own classes are, for messages.
        where: What to call the map in messages.

    Returns:
        (K, C); a row without any is ignored.

    Raises:
        TrainingError: the map has a class that is unknown, twice, or missing.
    """
    places: dict[str, list[int]] = {str(i): [row] for row, i in enumerate(own)}
    of_names: dict[str, list[int]] = {}
    for row, name in enumerate(own.values()):
        of_names.setdefault(name, []).append(row)
    places |= of_names  # a name that is a number goes before the id
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
    """Names of the model's classes that a line has."""
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
    """The map of classes that have the names of the model's."""
    return {name: name for name in own.values()}


def listed(names: Iterable[object]) -> str:
    """Names for a message."""
    return ", ".join(repr(name) for name in names)


class ClassSets:
    """The sets of classes that labels stand for, collected over data sets.

    The set of row k is the label C + k.
    """

    def __init__(self, classes: Sequence[SemanticClass]) -> None:
        """Start without sets of the model's `classes`."""
        self.classes = tuple(classes)
        self._rows: list[tuple[bool, ...]] = []

    def __len__(self) -> int:
        """How many sets there are, S."""
        return len(self._rows)

    @property
    def table(self) -> NDArray[np.bool_]:
        """(S, C): the classes of each set."""
        return np.array(self._rows, bool).reshape(len(self), len(self.classes))

    def label(self, row: NDArray[np.bool_]) -> int:
        """The label of the classes that a row (C,) has: theirs, their set's, 255 for none.

        Raises:
            TrainingError: there are more sets than labels of 8 bits.
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
    """How a data set is scored that does not tell all of the model's classes apart."""

    names: tuple[str, ...]
    """Of the groups: the model's classes that one has, joined by +."""
    of_class: NDArray[np.uint8]
    """(256,) The group that has a predicted class; their number where none has."""
    of_label: NDArray[np.uint8]
    """(256,) The group that a label (a class or a set) means; 255 where it is not scored."""


def groups(
    labels: NDArray[np.uint8], rows: NDArray[np.bool_], model: Sequence[SemanticClass], what: str
) -> Groups | None:
    """The groups that a data set is scored by.

    Args:
        labels: (K,) The label of each own class, of `ClassSets`.
        rows: (K, C) The classes of the model that count as right for each own class.
        model: The model's classes.
        what: The data set's name, for messages.

    Returns:
        None where every class of the model is a group of its own: then the data set is scored by
        the model's classes.

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
                f"{what}: two classes have the same entry in `map`, but others in `groups`"
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


class MappedLabels(Wrapped):
    """A data set whose labels become those of the model."""

    def __init__(
        self, samples: Samples, own: Iterable[int], labels: NDArray[np.uint8], what: str
    ) -> None:
        """Wrap a data set.

        Args:
            samples: The data set.
            own: Its ids.
            labels: (K,) What each becomes: a label of `ClassSets`, or 255.
            what: Its name, for messages.
        """
        super().__init__(samples)
        self.what = what
        self.table = np.full(256, UNLABELLED, np.uint8)
        self.known = np.zeros(256, bool)
        ids = list(own)
        self.table[ids], self.known[[*ids, UNLABELLED]] = labels, True

    def __getitem__(self, index: int) -> Sample:
        """Read a sample; raises `TrainingError` where it has ids that the data set's list lacks."""
        sample = self.samples[index]
        if sample.labels is not None:
            if not self.known[sample.labels].all():
                foreign = np.unique(sample.labels[~self.known[sample.labels]])
                raise TrainingError(
                    f"sample {index} of {self.what} has the class ids {foreign.tolist()}, which its"
                    " class list does not have"
                )
            sample.labels = self.table[sample.labels]
        return sample


def class_list(classes: str | Sequence[SemanticClass]) -> tuple[SemanticClass, ...]:
    """A class list by name, or itself."""
    return CLASS_LISTS[classes] if isinstance(classes, str) else tuple(classes)
