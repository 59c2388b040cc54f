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

"""Colours and flags for the classes of a model of the hub, derived from their names."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from depthseg_ros.model_card import MAX_NAME

from ..data.classes import CLASS_LISTS
from ..data.label_spaces import read_map

_TRAVERSABLE = {
    *("road", "floor", "rug", "carpet", "floor mat", "runway", "path", "dirt track"),
    *("lane marking", "lane marking - general", "lane marking - crosswalk", "crosswalk"),
}
_MOVABLE = {
    *("person", "rider", "pedestrian", "bicyclist", "motorcyclist", "animal", "dog", "cat"),
    *("car", "truck", "bus", "van", "train", "trailer", "caravan", "motorcycle", "bicycle"),
    *("minibike", "airplane", "boat", "ship"),
}
_NO_FLAG = {
    *("sidewalk", "pavement", "terrain", "grass", "field", "earth", "land", "sand", "ceiling"),
    *("background", "other", "void", "unlabeled", "unlabelled", "ego vehicle", "ground"),
}
"""Classes that are neither traversable nor obstacles, or may be either."""


def plain_name(name: str) -> str:
    """Remove the synonyms from a class's name: `pier, wharf` -> `pier`."""
    return name.split(",")[0].strip()


def class_entries(names: Sequence[str]) -> tuple[list[dict[str, Any]], str]:
    """Build the entries of `classes` in a SPEC.

    Args:
        names: Names of the network's classes, in order.

    Returns:
        The entries, and one line that lists the flags derived from the names.
    """
    short = [plain_name(name)[:MAX_NAME] for name in names]
    # Two classes may differ in their synonyms only.
    own = [
        n if short.count(n) == 1 and n else f"{name[: MAX_NAME - 4]} {i}"
        for i, (n, name) in enumerate(zip(short, names, strict=True))
    ]
    colors = _colors(short)
    entries = []
    for name, plain in zip(own, short, strict=True):
        entry: dict[str, Any] = {"name": name, "flags": _flags(plain.lower())}
        if colors:
            entry["color"] = list(colors[plain.lower()])
        entries.append(entry)
    return entries, _report(entries)


def _colors(names: Sequence[str]) -> dict[str, tuple[int, int, int]]:
    """The colours of a class list that has all the names; empty (default colours) if none has."""
    for classes in CLASS_LISTS.values():
        known = {c.name: c.color for c in classes}
        if {name.lower() for name in names} <= set(known):
            return known
    return {}


def _flags(name: str) -> list[str]:
    if name == "sky":
        return ["sky"]
    if name in _TRAVERSABLE:
        return ["traversable"]
    if name in _MOVABLE:
        return ["obstacle", "movable"]
    if name in _NO_FLAG:
        return []
    # All other classes of known lists are obstacles.
    listed = {c.name for classes in CLASS_LISTS.values() for c in classes}
    return ["obstacle"] if name in listed | set(read_map("ade20k_to_camvid")) else []


def _report(entries: Sequence[dict[str, Any]]) -> str:
    def having(flag: str) -> list[str]:
        return [e["name"] for e in entries if flag in e["flags"]]

    def some(names: Sequence[str]) -> str:
        return ", ".join(names[:6]) + (f" and {len(names) - 6} more" if len(names) > 6 else "")

    parts = [f"{flag}: {some(having(flag)) or 'none'}" for flag in ("sky", "traversable")]
    parts += [f"{len(having(flag))} {flag}" for flag in ("obstacle", "movable")]
    parts.append(
        f"without a flag: {some([e['name'] for e in entries if not e['flags']]) or 'none'}"
    )
    return f"{len(entries)} classes, flags by their names: {'; '.join(parts)}"
