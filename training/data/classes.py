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

"""Define the class lists of data sets: ids, names, colours and flags."""

from __future__ import annotations

import colorsys
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from depthseg_ros.model_card import UNLABELLED, SemanticClass

from ..errors import TrainingError
from ..options import read_yaml
from .indoor_classes import NYU13, NYU40, SUNRGBD37
from .street_classes import CITYSCAPES, MASK, VIRTUAL_KITTI2

# The ids of the 11-class CamVid in SegNet's tutorial, with the well-known colours of Cityscapes.
# `street.CLASS_NAMES` has the same order.
CAMVID = (
    SemanticClass(0, "sky", (70, 130, 180), ("sky",)),
    SemanticClass(1, "building", (70, 70, 70), ("obstacle",)),
    SemanticClass(2, "pole", (153, 153, 153), ("obstacle",)),
    SemanticClass(3, "road", (128, 64, 128), ("traversable",)),
    SemanticClass(4, "pavement", (244, 35, 232), ()),
    SemanticClass(5, "tree", (107, 142, 35), ("obstacle",)),
    SemanticClass(6, "sign", (220, 220, 0), ("obstacle",)),
    SemanticClass(7, "fence", (190, 153, 153), ("obstacle",)),
    SemanticClass(8, "car", (0, 0, 142), ("obstacle", "movable")),
    SemanticClass(9, "pedestrian", (220, 20, 60), ("obstacle", "movable")),
    SemanticClass(10, "bicyclist", (119, 11, 32), ("obstacle", "movable")),
)

CLASS_LISTS = {
    "camvid": CAMVID,
    "cityscapes": CITYSCAPES,
    "mask": MASK,
    "nyu13": NYU13,
    "nyu40": NYU40,
    "sunrgbd37": SUNRGBD37,
    "virtual_kitti2": VIRTUAL_KITTI2,
}


def parse_classes(given: list[Any] | dict[Any, Any], where: str) -> dict[int, SemanticClass | None]:
    """Parse a class list from YAML values.

    Args:
        given: Id -> name, or id -> `{name, color, flags}`; or a list of these with the ids 0, 1,
            and so on. A null name means unlabelled. A color is [R, G, B] or "#rrggbb"; a class
            without one gets a generated color.
        where: The origin of the class list, for error messages.

    Returns:
        Mask id (0 to 255) -> class, in the given order; None for unlabelled. A class with the mask
        id 255 gets the greatest free id, since model classes cannot use 255.

    Raises:
        TrainingError: an id, a name, a color or a flag is wrong.
    """
    entries = dict(enumerate(given)) if isinstance(given, list) else dict(given)
    free = next(i for i in reversed(range(UNLABELLED)) if i not in entries)
    classes: dict[int, SemanticClass | None] = {}
    for number, entry in entries.items():
        what = f"{where}: the class {number}"
        if type(number) is not int or not 0 <= number <= 255:
            raise TrainingError(f"{what}: expected an id of 0 to 255")
        fields = entry if isinstance(entry, Mapping) else {"name": entry}
        name, flags = fields.get("name"), fields.get("flags") or []
        known = set(fields) <= {"name", "color", "flags"} and isinstance(flags, list)
        if not known or not isinstance(name, str | None):
            raise TrainingError(f"{what} is {entry!r}, expected a name, or {{name, color, flags}}")
        color = _color(fields.get("color"), len(classes), what)
        own = free if number == UNLABELLED else number
        try:
            classes[number] = (
                None if name is None else SemanticClass(own, name, color, tuple(flags))
            )
        except ValueError as error:
            raise TrainingError(f"{what}: {error}") from None
    if not any(classes.values()):
        raise TrainingError(f"{where} has no classes, expected id: NAME lines")
    return classes


def _color(given: Any, number: int, where: str) -> tuple[int, int, int]:
    """Parse a color; generate a distinct one from `number` if none is given."""
    if given is None:
        rgb = colorsys.hsv_to_rgb(number * 0.618 % 1, 0.65, 0.9)
        return (round(255 * rgb[0]), round(255 * rgb[1]), round(255 * rgb[2]))
    if isinstance(given, str) and re.fullmatch("#[0-9a-fA-F]{6}", given):
        given = list(bytes.fromhex(given[1:]))
    if (
        not isinstance(given, list)
        or len(given) != 3
        or not all(type(c) is int and 0 <= c <= 255 for c in given)
    ):
        raise TrainingError(f'{where} has the color {given!r}, expected [R, G, B] or "#rrggbb"')
    return (given[0], given[1], given[2])


def model_classes(given: str | list[dict[str, Any]]) -> tuple[SemanticClass, ...]:
    """Load the classes of a model and number them 0, 1, and so on.

    Args:
        given: A name in `CLASS_LISTS`, a YAML file with `classes` (for example the `dataset.yaml`
            of a folder), or the output of `describe`.

    Raises:
        TrainingError: the class list is unknown or wrong, or two classes have the same name.
    """
    if isinstance(given, str):
        if given in CLASS_LISTS:
            return CLASS_LISTS[given]
        path = Path(given).expanduser()
        if path.suffix.lower() not in (".yaml", ".yml"):
            raise TrainingError(
                f"unknown classes {given!r}, expected one of {list(CLASS_LISTS)}, or a YAML file"
                " with `classes`"
            )
        entries = read_yaml(path, "a description with classes").get("classes")
        if isinstance(entries, str):
            return model_classes(entries)
        parsed = parse_classes(entries if isinstance(entries, dict | list) else {}, str(path))
    else:
        parsed = parse_classes(given, "model.classes")
    known = [c for c in parsed.values() if c is not None]
    names = [c.name for c in known]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise TrainingError(f"model.classes has {', '.join(twice)} twice: give names once")
    return tuple(SemanticClass(i, c.name, c.color, c.flags) for i, c in enumerate(known))


def describe(classes: tuple[SemanticClass, ...]) -> list[dict[str, Any]]:
    """Convert classes to plain YAML values, the inverse of `model_classes`."""
    return [{"name": c.name, "color": list(c.color), "flags": list(c.flags)} for c in classes]
