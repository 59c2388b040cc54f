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

"""Read a SPEC: which networks become a model file, and what their inputs and outputs mean."""

from __future__ import annotations

import json
import math
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar

import yaml

from ..model_card import SemanticClass
from ..texts import shortened
from .schema import SCHEMA, WrapError, checked

MAX_SPEC = 2**20
"""Maximum size of a SPEC or a file with classes, bytes."""

MAX_METRES = 1000.0
"""Maximum of metric depth, if the SPEC has none."""

NO_MAX = 1e30
"""Maximum of depth up to scale, if the SPEC has none: 1 / 0 alone is beyond it."""


@dataclass(frozen=True)
class Input:
    """How a network takes an image; see `schema.SCHEMA` for the entries."""

    scale: float
    name: str = ""
    layout: str = ""
    color: str = "rgb"
    dtype: str = ""
    size: tuple[int, int] | int | None = None
    fit: str = ""
    multiple_of: int = 0
    offset: int = 0
    resize: str = "linear"
    antialias: bool = False
    round: bool = True
    pad: tuple[float, float, float] = (114.0, 114.0, 114.0)
    tolerance: float = 0.0
    mean: tuple[float, float, float] = (0.0, 0.0, 0.0)
    std: tuple[float, float, float] = (1.0, 1.0, 1.0)

    @property
    def normalises(self) -> bool:
        """Whether values differ from 0 to 255."""
        return (self.scale, self.mean, self.std) != (1.0, (0.0,) * 3, (1.0,) * 3)


@dataclass(frozen=True)
class Labels:
    """How labels follow from an output."""

    output: str
    kind: str
    layout: str = ""
    ignore: tuple[int, ...] = ()
    drop: tuple[int, ...] = ()
    argmax_at: str = "image"
    nearest: str = "opencv"
    align_corners: bool = False


@dataclass(frozen=True)
class Sky:
    """An output that marks pixels without depth."""

    output: str
    layout: str = ""
    above: float | None = None
    below: float | None = None


@dataclass(frozen=True)
class Depth:
    """How depth follows from an output."""

    output: str
    kind: str
    metric: bool = False
    layout: str = ""
    offset: float = 0.0
    scale: float = 1.0
    canonical_fx: float | None = None
    min: float = 0.0
    max: float = MAX_METRES
    resize: str = "linear"
    align_corners: bool = False
    sky: Sky | None = None

    @property
    def card_kind(self) -> str:
        """The kind in the model card."""
        if self.kind == "normalised":
            return "normalised"
        return "metric" if self.kind == "metric" or self.metric else "up-to-scale"


@dataclass(frozen=True)
class Network:
    """One of the networks."""

    file: Path
    input: Input
    labels: Labels | None = None
    depth: Depth | None = None
    missing: str = ""
    """Where the file was searched for, if it does not exist."""


@dataclass(frozen=True)
class Class:
    """A class and the classes of the network that become it."""

    card: SemanticClass
    sources: tuple[int, ...]


@dataclass(frozen=True)
class Spec:
    """A whole SPEC."""

    name: str
    models: tuple[Network, ...]
    classes: tuple[Class, ...] = ()
    terms: str = ""
    trained_on: tuple[str, ...] = ()


def read_spec(spec: Mapping[str, Any] | str | os.PathLike[str]) -> Spec:
    """Read and check a SPEC, without opening its networks.

    Args:
        spec: Entries, or the path of a YAML or JSON file. Paths in a file start from its
            folder, or else from the working folder.

    Raises:
        WrapError: The SPEC is wrong, in one line.
    """
    if isinstance(spec, Mapping):
        return _build(spec, Path())
    path = Path(spec)
    try:
        return _build(_load(path), path.parent)
    except WrapError as error:
        raise _prefixed(str(path), path, error) from None


def _prefixed(where: str, path: Path, error: WrapError) -> WrapError:
    """The error with the place of a file's content, unless it begins with the file."""
    return error if str(error).startswith(str(path)) else WrapError(f"{where}: {error}")


def _build(entries: Any, folder: Path) -> Spec:
    found = checked(entries, SCHEMA)
    models = tuple(_network(m, f"models[{i}]", folder) for i, m in enumerate(found["models"]))
    for task in ("labels", "depth"):
        having = [model for model in models if getattr(model, task) is not None]
        if len(having) > 1:
            raise WrapError(f"both models have {task}, expected {task} in one of them")
    labels = [model.labels for model in models if model.labels is not None]
    if labels and "classes" not in found:
        raise WrapError("the entry classes is missing, because a model has labels")
    if "classes" in found and not labels:
        raise WrapError("classes are given, but no model has labels")
    classes = _classes(found.get("classes", []), folder, labels[0] if labels else None)
    return Spec(
        found["name"],
        models,
        classes,
        found.get("terms", ""),
        tuple(found.get("trained_on", ())),
    )


def _network(entries: dict[str, Any], where: str, folder: Path) -> Network:
    if "labels" not in entries and "depth" not in entries:
        raise WrapError(f"{where} has neither labels nor depth, expected one or both")
    labels = Labels(**_tuples(entries["labels"])) if "labels" in entries else None
    depth = _depth(entries["depth"], f"{where}.depth") if "depth" in entries else None
    if labels is not None and (both := set(labels.ignore) & set(labels.drop)):
        raise WrapError(f"{where}.labels: ignore and drop both have {min(both)}")
    file = _found(folder, entries["file"])
    if file.is_dir():
        raise WrapError(f"{where}.file: {file} is a folder, expected an ONNX file")
    return Network(
        file,
        _input(entries["input"], f"{where}.input"),
        labels,
        depth,
        "" if file.exists() else _missing(file, entries["file"]),
    )


def _input(entries: dict[str, Any], where: str) -> Input:
    if ("fit" in entries) == ("multiple_of" in entries):
        count = "both fit and" if "fit" in entries else "neither fit nor"
        raise WrapError(
            f"{where} has {count} multiple_of, expected fit: letterbox, fit: stretch or"
            " multiple_of: N"
        )
    if "fit" in entries:
        if "offset" in entries:
            raise WrapError(f"{where}.offset belongs to multiple_of, but fit is given")
        if isinstance(entries.get("size"), int):
            raise WrapError(
                f"{where}.size is {entries['size']}, expected [width, height] with"
                f" fit: {entries['fit']}"
            )
    for key in ("pad", "tolerance"):
        if key in entries and entries.get("fit") != "letterbox":
            raise WrapError(f"{where}.{key} belongs to fit: letterbox")
    if entries.get("offset", 0) >= entries.get("multiple_of", math.inf):
        raise WrapError(
            f"{where}.offset is {entries['offset']}, expected less than multiple_of"
            f" {entries['multiple_of']}"
        )
    for key in ("mean", "std", "pad"):
        if isinstance(entries.get(key), int | float):
            entries[key] = [entries[key]] * 3
        if key in entries:
            entries[key] = [float(v) for v in entries[key]]
    return Input(**_tuples(entries))


def _depth(entries: dict[str, Any], where: str) -> Depth:
    kind = entries["kind"]
    if entries.get("metric") and kind not in ("inverse", "log", "metric"):
        raise WrapError(f"{where}.metric is true, but depth of the kind {kind} is not in metres")
    if kind == "normalised":
        entries.setdefault("max", 1.0)
        for key in ("scale", "canonical_fx"):
            if key in entries:
                raise WrapError(f"{where}.{key} is given, but normalised depth has no unit")
    if "sky" in entries:
        sky = entries["sky"] = Sky(**entries["sky"])
        if (sky.above is None) == (sky.below is None):
            raise WrapError(f"{where}.sky needs either above or below")
    depth = Depth(**_tuples(entries))
    if "max" not in entries and depth.card_kind == "up-to-scale":
        depth = replace(depth, max=NO_MAX)
    if depth.canonical_fx is not None and depth.card_kind != "metric":
        raise WrapError(
            f"{where}.canonical_fx is given, but depth of the kind {kind} is not in metres"
            + ("; if it is, add metric: true" if kind in ("inverse", "log") else "")
        )
    if not depth.min < depth.max:
        raise WrapError(f"{where}: min is {depth.min:g} and max {depth.max:g}, expected min < max")
    return depth


def _found(folder: Path, name: str) -> Path:
    """A file of a SPEC: from the SPEC's folder, or else from the working folder."""
    path = Path(name).expanduser()
    return path if path.exists() and not (folder / path).exists() else folder / path


def _missing(path: Path, name: str) -> str:
    """That there is no file, for a result of `_found`."""
    both = path != Path(name).expanduser()
    return f"there is no file {path}" + f", and no file {name} in the working folder" * both


def _tuples(entries: dict[str, Any]) -> dict[str, Any]:
    return {key: tuple(v) if isinstance(v, list) else v for key, v in entries.items()}


# --- Classes ---------------------------------------------------------------------------------


def _classes(given: Any, folder: Path, labels: Labels | None) -> tuple[Class, ...]:
    if labels is None:
        return ()
    where = "classes"
    if isinstance(given, str):
        path = _found(folder, given)
        if not path.exists():
            raise WrapError(f"{where}: {_missing(path, given)}")
        where = f"classes in {path}"
        try:
            loaded = _names(path) if path.suffix == ".txt" else _load(path)
        except WrapError as error:
            raise _prefixed(where, path, error) from None
        if isinstance(loaded, dict) and set(loaded) == {"classes"}:
            loaded = loaded["classes"]
        choice = SCHEMA["properties"]["classes"]["anyOf"][0]
        given = checked(loaded, choice, where)
    named = sum("from" in entry for entry in given)
    if named not in (0, len(given)):
        missing = next(entry["name"] for entry in given if "from" not in entry)
        raise WrapError(f"{where}: {missing} has no from, but other classes have one")
    skipped = {*labels.ignore, *labels.drop}
    free = (n for n in range(len(given) + len(skipped)) if n not in skipped)
    classes = []
    for number, entry in enumerate(given):
        color = tuple(entry.get("color", default_color(number)))
        card = SemanticClass(number, entry["name"], color, tuple(entry.get("flags", ())))
        classes.append(Class(card, tuple(entry["from"]) if named else (next(free),)))
    sources = [source for each in classes for source in each.sources] + [*labels.ignore]
    sources += labels.drop
    twice = sorted({n for n in sources if sources.count(n) > 1})
    if twice:
        raise WrapError(
            f"{where}: the network's class {twice[0]} is used twice in from, ignore and drop"
        )
    names = [each.card.name for each in classes]
    again = sorted({name for name in names if names.count(name) > 1})
    if again:
        raise WrapError(f"{where}: the name {shortened(again[0])} is used twice")
    return tuple(classes)


def default_color(number: int) -> tuple[int, int, int]:
    """Color of a class without one: distinct for each number, as in Pascal VOC."""
    channels = [0, 0, 0]
    rest = number + 1
    for bit in range(7, -1, -1):
        for channel in range(3):
            channels[channel] |= ((rest >> channel) & 1) << bit
        rest >>= 3
    return channels[0], channels[1], channels[2]


# --- Files -----------------------------------------------------------------------------------


class _Loader(yaml.SafeLoader):
    """Reads the types of YAML 1.2: `no` is text, 010 is 10, and 1:30 is text.

    It refuses a key that is given twice, of which YAML would keep the last, and merge keys.
    """

    yaml_implicit_resolvers: ClassVar[dict[Any, Any]] = {}

    def compose_mapping_node(self, anchor: Any) -> Any:
        node = super().compose_mapping_node(anchor)  # type: ignore[no-untyped-call]
        keys: set[tuple[str, str]] = set()
        for key, _ in node.value:
            line = key.start_mark.line + 1
            if key.tag == _TAG + "merge":
                raise WrapError(
                    f"the merge key << is not supported (line {line}): write the entries out"
                )
            name = key.tag, str(key.value)
            if name in keys:
                raise WrapError(
                    f"the entry {shortened(name[1])} is given twice"
                    f" (line {node.start_mark.line + 1})"
                )
            keys.add(name)
        return node


def _integer(_: _Loader, node: Any) -> int:
    return int(node.value, 0 if node.value[:2] in ("0o", "0x") else 10)


_TAG = "tag:yaml.org,2002:"
for _kind, _pattern, _first in (
    ("bool", "true|True|TRUE|false|False|FALSE", "tTfF"),
    ("int", "[-+]?[0-9]+|0o[0-7]+|0x[0-9a-fA-F]+", "-+0123456789"),
    (
        "float",
        r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?|[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)",
        "-+.0123456789",
    ),
    ("null", "~|null|Null|NULL|", ["~", "n", "N", ""]),
    ("merge", "<<", "<"),
):
    _Loader.add_implicit_resolver(_TAG + _kind, re.compile(f"^(?:{_pattern})$"), [*_first])
_Loader.add_constructor(_TAG + "int", _integer)


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """The entries of a JSON object; refuses a key that is given twice."""
    entries: dict[str, Any] = {}
    for key, value in pairs:
        if key in entries:
            raise WrapError(f"the entry {shortened(key)} is given twice")
        entries[key] = value
    return entries


def _load(path: Path) -> Any:
    """The content of a YAML or JSON file."""
    text = _text(path)
    try:
        if path.suffix == ".json":
            return json.loads(text, object_pairs_hook=_once)
        return _Loader(text).get_single_data()
    except WrapError:
        raise
    except (yaml.YAMLError, ValueError, RecursionError, TypeError) as error:
        mark = getattr(error, "problem_mark", None)
        line = f" in line {mark.line + 1}" if mark else ""
        reason = getattr(error, "problem", None) or str(error)
        kind = "JSON" if path.suffix == ".json" else "YAML"
        raise WrapError(f"{path.name} is not {kind}{line}: {shortened(reason, 200)}") from None


def _names(path: Path) -> list[dict[str, str]]:
    """The classes of a text file: a name in each line, and comments after #."""
    lines = [re.sub(r"(^|\s)#.*", "", line).strip() for line in _text(path).splitlines()]
    lines = [line for line in lines if line]
    if len(lines) > 1 and all(re.match(r"\d+[\s:;,.)]", line) for line in lines):
        raise WrapError(
            f"each line starts with a number, e.g. {shortened(lines[0])}, expected the names"
            " alone, in the order of the network's classes"
        )
    return [{"name": line} for line in lines]


def _text(path: Path) -> str:
    try:
        if path.exists() and not (path.is_file() or path.is_dir()):  # a FIFO might never end
            raise WrapError(f"{path} is not a regular file, expected a text file")
        if path.stat().st_size > MAX_SPEC:
            raise WrapError(f"{path} has more than {MAX_SPEC} bytes, expected a text file")
        return path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8 text"
        raise WrapError(f"{path} cannot be read: {reason}") from None
