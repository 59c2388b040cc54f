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

"""The JSON schema of a SPEC, and its check.

`SCHEMA` is what the check, `config/wrap/schema.json` and the reference page are made from.
"""

from __future__ import annotations

import difflib
import math
import reprlib
from collections.abc import Mapping
from typing import Any

from ..model_card import CLASS_FLAGS, MAX_NAME, MAX_SIZE, UNLABELLED, ModelFileError
from ..texts import shortened

Schema = Mapping[str, Any]


class WrapError(ModelFileError):
    """A SPEC is wrong or its network cannot be wrapped; the message is one line."""


def _text(about: str, **more: Any) -> Schema:
    return {"type": "string", "minLength": 1, "description": about, **more}


def _one_of(about: str, *choices: str, **more: Any) -> Schema:
    return {"enum": list(choices), "description": about, **more}


def _number(about: str, **more: Any) -> Schema:
    return {"type": "number", "description": about, **more}


def _flag(about: str) -> Schema:
    return {"type": "boolean", "default": False, "description": about}


def _entries(about: str, required: tuple[str, ...], **properties: Schema) -> Schema:
    return {
        "type": "object",
        "description": about,
        "properties": properties,
        "required": list(required),
        "additionalProperties": False,
    }


def _list(about: str, items: Schema, least: int = 1, **more: Any) -> Schema:
    return {"type": "array", "description": about, "items": items, "minItems": least, **more}


def _either(about: str, *schemas: Schema, **more: Any) -> Schema:
    return {"anyOf": list(schemas), "description": about, **more}


_ANY_NUMBER = {"type": "number"}
_FLOAT = {"minimum": -1e30, "maximum": 1e30}  # of float32
_POSITIVE = {"minimum": 1e-30, "maximum": 1e30}
_CLASS_NUMBER = {"type": "integer", "minimum": 0, "maximum": 65535}
_SIDE = {"type": "integer", "minimum": 1, "maximum": MAX_SIZE}
_LAYOUT = "Order of the axes; by default, it follows from the shape."
_CLASSES_OF = "Classes of the network, counted from 0"
_ALIGN = (
    "Whether enlarging keeps the centres of the corner pixels in the corners (PyTorch's"
    " `align_corners=True`)."
)


def _three(about: str, default: float, **more: Any) -> Schema:
    number = {"type": "number", **more}
    several = {"type": "array", "items": number, "minItems": 3, "maxItems": 3}
    return _either(about, number, several, default=default)


_INPUT = _entries(
    "How the network takes an image. Its values are (value * scale - mean) / std, with value 0"
    " to 255.",
    ("scale",),
    name=_text("Name of the input, compared with the file's."),
    layout=_one_of(_LAYOUT, "NCHW", "NHWC"),
    color=_one_of("Order of the channels.", "rgb", "bgr", default="rgb"),
    dtype=_one_of(
        "Element type, compared with the file's.",
        *("float32", "float16", "uint8", "int8", "uint16", "int32", "int64", "float64"),
    ),
    size=_either(
        "[width, height] in pixels. With `multiple_of`: about as many pixels as this; or one"
        " number, the length of the short side; or nothing, the size of the image itself.",
        {"type": "array", "items": _SIDE, "minItems": 2, "maxItems": 2},
        _SIDE,
    ),
    fit=_one_of(
        "How an image of another shape gets this size: `letterbox` keeps its shape and adds a"
        " border, `stretch` does not keep its shape.",
        "letterbox",
        "stretch",
    ),
    multiple_of={
        "type": "integer",
        "minimum": 1,
        "maximum": 1024,
        "description": "In place of `fit`: the network's size follows the shape of the image. Its"
        " width and height are multiples of this number.",
    },
    offset={
        "type": "integer",
        "minimum": 0,
        "maximum": 1023,
        "default": 0,
        "description": "With `multiple_of`: added to each multiple, e.g. 1 for sizes of 16k+1.",
    },
    resize=_one_of(
        "Interpolation of the image. Without `antialias`, the result is that of OpenCV's"
        " INTER_LINEAR and INTER_CUBIC for 8-bit images.",
        "linear",
        "cubic",
        default="linear",
    ),
    antialias=_flag(
        "Whether reducing the image averages all its pixels, as Pillow's BILINEAR and BICUBIC do,"
        " which torchvision and `transformers` also use for images."
    ),
    round={
        "type": "boolean",
        "default": True,
        "description": "Whether the resized values are rounded to integers, as in 8-bit images;"
        " false for networks whose image is resized as floats, e.g. by PyTorch's interpolate.",
    },
    pad=_three(
        "Value of the border, 0 to 255; three values in the order of `color`.",
        114,
        minimum=0,
        maximum=255,
    ),
    tolerance=_number(
        "With `letterbox`: an image whose border would be at most this share of the network's"
        " width or height is stretched instead.",
        minimum=0,
        maximum=0.5,
        default=0,
    ),
    scale=_number(
        "Factor of the value, e.g. 0.00392156862745098 (1/255); 1: values 0 to 255.",
        exclusiveMinimum=0,
    ),
    mean=_three("Subtracted after scaling; three values in the order of `color`.", 0),
    std=_three("Divisor after that.", 1, exclusiveMinimum=0),
)

_LABELS = _entries(
    "How labels follow from an output.",
    ("output", "kind"),
    output=_text("Name of the output."),
    kind=_one_of(
        "`logits` and `probabilities` have one channel for each class, or one channel for"
        " foreground against background; `ids` are class numbers.",
        "logits",
        "probabilities",
        "ids",
    ),
    layout=_one_of(_LAYOUT, "NCHW", "NHWC"),
    ignore=_list(f"{_CLASSES_OF}, that never become the label.", _CLASS_NUMBER),
    drop=_list(f"{_CLASSES_OF}, whose pixels become unlabelled ({UNLABELLED}).", _CLASS_NUMBER),
    argmax_at=_one_of(
        "`image`: enlarges the channels to the image's size and takes the largest, as most"
        " authors do. `network`: takes the largest at the network's size and enlarges the labels"
        " by nearest neighbour, which is much faster for large images or many classes.",
        "image",
        "network",
        default="image",
    ),
    nearest=_one_of(
        "How class numbers are enlarged: `opencv` rounds the place down, as OpenCV's INTER_NEAREST"
        " and PyTorch's nearest do, `pillow` as Pillow's NEAREST and PyTorch's nearest-exact,"
        " which keeps pixel centres.",
        "opencv",
        "pillow",
        default="opencv",
    ),
    align_corners=_flag(_ALIGN),
)

_SKY = _entries(
    "An output that marks pixels without depth. Give `above` or `below`.",
    ("output",),
    output=_text("Name of the output, with one channel."),
    layout=_one_of(_LAYOUT, "NCHW", "NHWC"),
    above=_number("Pixels with a larger value have no depth.", **_FLOAT),
    below=_number("Pixels with a smaller value have no depth.", **_FLOAT),
)

_DEPTH = _entries(
    "How depth along the optical axis follows from an output.",
    ("output", "kind"),
    output=_text("Name of the output, with one channel."),
    kind=_one_of(
        "`metric`: metres. `inverse`: 1 / depth. `log`: the natural logarithm of depth."
        " `disparity`: 1 / depth, up to a factor. `up-to-scale`: depth up to a factor."
        " `normalised`: depth from 0 to 1.",
        *("metric", "inverse", "disparity", "log", "up-to-scale", "normalised"),
    ),
    metric=_flag("With `inverse` and `log`: whether depth is in metres; else it is up to scale."),
    layout=_one_of(_LAYOUT, "NCHW", "NHWC"),
    offset=_number(
        "Added to the output first, e.g. 0.001001 for Monodepth2, whose output x means the depth"
        " 1 / (0.01 + 9.99 x): `kind: inverse`, `scale: 0.1001`.",
        default=0,
        **_FLOAT,
    ),
    scale=_number("Factor of depth, e.g. 0.001 for millimetres.", **_POSITIVE, default=1),
    canonical_fx=_number(
        "For metric depth: the focal length in pixels, at the network's size, of the camera that"
        " the output is for. Depth is multiplied by the real camera's focal length at that size"
        " and divided by this. Without it, the output is taken as metres for every camera.",
        **_POSITIVE,
    ),
    min=_number("Minimum; smaller depth is set to it.", minimum=0, maximum=1e30, default=0),
    max=_number(
        "Maximum; larger depth becomes NaN. By default 1000 for metric depth, 1 for `normalised`,"
        " and else none.",
        **_POSITIVE,
    ),
    resize=_one_of(
        "Interpolation of the output; `nearest` keeps pixel centres, as PyTorch's nearest-exact and"
        " `nearest: pillow` of labels.",
        "linear",
        "cubic",
        "nearest",
        default="linear",
    ),
    align_corners=_flag(_ALIGN),
    sky=_SKY,
)

_CLASS = _entries(
    "A class of the label image; its id is its position.",
    ("name",),
    name=_text("Name, unique.", maxLength=MAX_NAME),
    color=_list(
        "Red, green and blue, 0 to 255; by default one of a fixed list.",
        {"type": "integer", "minimum": 0, "maximum": 255},
        3,
        maxItems=3,
    ),
    flags=_list("Meaning for planners.", {"enum": list(CLASS_FLAGS)}, 0),
    **{
        "from": _list(
            f"{_CLASSES_OF}, that become this class; several are merged. Without any `from`, the"
            " first class is the network's class 0, and so on.",
            _CLASS_NUMBER,
        )
    },
)

SCHEMA: Schema = {
    "$schema": "https://json-schema.org/draft/2020-12/schema",
    "title": "SPEC of depthseg wrap",
    **_entries(
        "How one or two ONNX files become one model file.",
        ("name", "models"),
        name=_text("Name of the model.", maxLength=MAX_NAME),
        terms=_text("Terms of use of the weights, and of the data that they were trained on."),
        trained_on=_list("Data sources.", {"type": "string"}),
        models=_list(
            "One network, or two: one for labels and one for depth.",
            _entries(
                "A network.",
                ("file", "input"),
                file=_text(
                    "Path of the ONNX file, from the folder of the SPEC or the working folder."
                ),
                input=_INPUT,
                labels=_LABELS,
                depth=_DEPTH,
            ),
            maxItems=2,
        ),
        classes=_either(
            "The classes, or the path of a file with them: a YAML or JSON list like this one, or"
            " a text file with a name in each line and comments after #.",
            {"type": "array", "items": _CLASS, "minItems": 1, "maxItems": UNLABELLED},
            {"type": "string", "minLength": 1},
        ),
    ),
}

_TYPES: Mapping[str, tuple[type | tuple[type, ...], str]] = {
    "string": (str, "text"),
    "integer": (int, "an integer"),
    "number": ((int, float), "a number"),
    "boolean": (bool, "true or false"),
    "array": (list, "a list"),
    "object": (dict, "entries (key: value)"),
}


def checked(value: Any, schema: Schema = SCHEMA, where: str = "") -> Any:
    """Compare a value with a schema.

    Args:
        value: As from YAML or JSON.
        schema: Of the kinds of entries that `SCHEMA` uses.
        where: Path of the value for messages, e.g. `models[0].input`.

    Returns:
        The value, with numbers that YAML reads as text, such as 1e-3, as numbers.

    Raises:
        WrapError: The value is wrong; the message names the entry and what was expected.
    """
    if "anyOf" in schema:
        return _any_of(value, schema, where)
    if "enum" in schema:
        if not isinstance(value, str) or value not in schema["enum"]:
            raise _wrong(where, value, f"one of {', '.join(schema['enum'])}", schema["enum"])
        return value
    kind = schema["type"]
    if kind == "number" and isinstance(value, str):
        try:
            value = float(value)
        except ValueError:
            raise _wrong(where, value, "a number") from None
    expected, name = _TYPES[kind]
    if not isinstance(value, expected) or (isinstance(value, bool) and kind != "boolean"):
        quotes = kind == "string" and isinstance(value, int | float)
        raise _wrong(where, value, f"{name}: write it in quotes" if quotes else name)
    right: Any = value  # of the type that the schema names
    if kind in ("number", "integer"):
        _check_number(right, schema, where)
        return float(right) if kind == "number" else right
    elif kind == "string":
        _check_length(where, right, len(right), schema, "Length", "characters")
    elif kind == "array":
        _check_length(where, right, len(right), schema, "Items", "entries")
        return [checked(v, schema["items"], f"{where}[{i}]") for i, v in enumerate(right)]
    elif kind == "object":
        return _object(right, schema, where)
    return right


def _object(value: Mapping[Any, Any], schema: Schema, where: str) -> dict[str, Any]:
    known = schema["properties"]
    for key in value:
        if key not in known:
            path = f"{where}.{key}" if where else str(key)
            close = difflib.get_close_matches(str(key), known, 1)
            hint = f"; did you mean {close[0]}?" if close else ""
            raise WrapError(
                f"{shortened(path, 200)} is not a known entry, expected any of"
                f" {', '.join(known)}{hint}"
            )
    for key in schema["required"]:
        if key not in value:
            raise WrapError(f"{where + ': ' if where else ''}the entry {key} is missing")
    prefix = f"{where}." if where else ""
    return {key: checked(value[key], known[key], f"{prefix}{key}") for key in value}


def _any_of(value: Any, schema: Schema, where: str) -> Any:
    """Check against the alternative that has the value's type."""
    for choice in schema["anyOf"]:
        expected, _ = _TYPES[choice["type"]]
        if isinstance(value, expected) or (choice["type"] == "number" and isinstance(value, str)):
            return checked(value, choice, where)
    raise _wrong(where, value, " or ".join(_TYPES[c["type"]][1] for c in schema["anyOf"]))


def _check_number(value: float, schema: Schema, where: str) -> None:
    low, above = schema.get("minimum", -math.inf), schema.get("exclusiveMinimum", -math.inf)
    high = schema.get("maximum", math.inf)
    finite = abs(value) < 2**1023  # NaN is not
    if not (finite and low <= value <= high and value > above):
        limits = [f"more than {above:g}"] if math.isfinite(above) else []
        limits += [f"{low:g} or more"] if math.isfinite(low) else []
        limits += [f"at most {high:g}"] if math.isfinite(high) else []
        raise _wrong(where, value, " and ".join(limits) or "a finite number")


def _check_length(
    where: str, value: Any, length: int, schema: Schema, what: str, unit: str
) -> None:
    least, most = schema.get(f"min{what}", 0), schema.get(f"max{what}", math.inf)
    if not least <= length <= most:
        span = f"{least}" if least == most else f"{least} to {most}"
        span = span if math.isfinite(most) else f"{least} or more"
        raise _wrong(where, value, f"{span} {unit}")


def _wrong(where: str, value: Any, expected: str, choices: list[str] | None = None) -> WrapError:
    close = difflib.get_close_matches(str(value), choices or [], 1)
    hint = f"; did you mean {close[0]}?" if close else ""
    got = shortened(reprlib.repr(value), 60)  # of limited size, whatever YAML's aliases make
    return WrapError(f"{where or 'the SPEC'} is {got}, expected {expected}{hint}")
