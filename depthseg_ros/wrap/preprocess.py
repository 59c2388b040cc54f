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

"""ONNX operators between the camera image and a network's input."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from onnx import TensorProto, helper

from ..model_card import NetworkFit
from .nodes import FLOAT, IMAGE, INT64, Nodes
from .resize import Size, resized_image
from .spec import Input


@dataclass(frozen=True)
class Frame:
    """Where an image lies in a network's input; everything is a name of int64 [1]."""

    image: Size
    """The image's size."""
    size: Size
    """The network's size."""
    content: Size
    """The size of the image in the network's input, without the border."""
    offset: Size | None = None
    """The border above and on the left; None: no border."""


@dataclass(frozen=True)
class Fit:
    """How a network gets its size."""

    card: NetworkFit
    size: tuple[int, int]
    """Width and height, see `ModelCard.network_size`."""
    tolerance: float = 0.0
    """Share of the width or height up to which a border is left out, and the image stretched."""


def fit_of(spec: Input, fixed: tuple[int, int] | None) -> Fit:
    """The fit of a SPEC's input.

    Args:
        spec: The SPEC's input.
        fixed: Width and height, if the network or the SPEC fixes them.
    """
    if not spec.multiple_of:
        assert fixed is not None
        return Fit(NetworkFit(spec.fit), fixed, spec.tolerance)
    step, offset = spec.multiple_of, spec.offset
    if isinstance(spec.size, tuple):
        return Fit(NetworkFit("area", step, offset), spec.size)
    if isinstance(spec.size, int):
        return Fit(NetworkFit("short-side", step, offset), (spec.size * 4 // 3, spec.size))
    card = NetworkFit("image", step, offset)
    return Fit(card, card.size_for(640, 480, (1, 1)))


def preprocess(nodes: Nodes, spec: Input, fit: Fit, layout: str, element: int) -> tuple[Frame, str]:
    """Add the operators from the image to a network's input.

    Args:
        nodes: Where to add them.
        spec: The SPEC's input.
        fit: How the network gets its size.
        layout: `NCHW` or `NHWC`.
        element: Element type of the network's input.

    Returns:
        Where the image lies in the network's input, and the name of the input.
    """
    image = nodes.size(IMAGE, (1, 2))
    frame = _frame(nodes, image, fit)
    x = resized_image(nodes, image, frame.content, spec)
    if frame.offset is not None:
        rest = [
            nodes.op("Sub", nodes.op("Sub", whole, part), before)
            for whole, part, before in zip(frame.size, frame.content, frame.offset, strict=True)
        ]
        none = nodes.constant([0, 0])
        pads = nodes.op("Concat", none, *frame.offset, none, *rest, axis=0)
        border = spec.pad[::-1] if spec.color == "bgr" else spec.pad
        if len(set(border)) == 1:
            x = nodes.op("Pad", x, pads, nodes.constant(border[0]))
        else:  # Pad has one value for all channels
            value = nodes.constant(np.array(border).reshape(1, 3, 1, 1))
            x = nodes.op("Add", nodes.op("Pad", nodes.op("Sub", x, value), pads), value)
    if spec.color == "bgr":
        x = nodes.op("Gather", x, nodes.constant([2, 1, 0]), axis=1)
    if spec.normalises:
        std = np.array(spec.std).reshape(1, 3, 1, 1)
        mean = np.array(spec.mean).reshape(1, 3, 1, 1)
        x = nodes.op("Mul", x, nodes.constant(spec.scale / std))
        if mean.any():
            x = nodes.op("Sub", x, nodes.constant(mean / std))
    if layout == "NHWC":
        x = nodes.op("Transpose", x, perm=[0, 2, 3, 1])
    if element != FLOAT:
        if helper.tensor_dtype_to_np_dtype(element).kind in "iu":
            x = nodes.op("Round", x)
        x = nodes.cast(x, element)
    return frame, x


def _frame(nodes: Nodes, image: Size, fit: Fit) -> Frame:
    kind = fit.card.kind
    if kind == "area":
        size = _area(nodes, image, fit)
        return Frame(image, size, size)
    if kind in ("image", "short-side"):
        size = _shape_of(nodes, image, fit)
        return Frame(image, size, size)
    width, height = fit.size
    fixed = nodes.constant([height]), nodes.constant([width])
    if kind == "stretch":
        return Frame(image, fixed, fixed)
    content = _content(nodes, image, fixed, fit)
    two = nodes.constant([2])
    top, left = (
        nodes.op("Div", nodes.op("Sub", whole, part), two)
        for whole, part in zip(fixed, content, strict=True)
    )
    return Frame(image, fixed, content, (top, left))


def _content(nodes: Nodes, image: Size, fixed: Size, fit: Fit) -> Size:
    """The largest size of the image's shape inside a fixed one, or that one if they nearly agree.

    TensorRT computes shapes in floats by few operators; this takes integers alone.
    """
    (rows, columns), (width, height) = image, fit.size

    def share(length: str, other: str, side: int, most: int) -> str:
        """`length * side / other`, rounded, at least 1; `most` if it is nearly that."""
        doubled = nodes.op("Mul", length, nodes.constant([2 * side]))
        whole = nodes.op("Add", doubled, other)
        result = nodes.op("Div", whole, nodes.op("Mul", other, nodes.constant([2])))
        result = nodes.op("Max", result, nodes.constant([1]))
        if not fit.tolerance:
            return result
        least = nodes.constant([math.ceil(most * (1 - fit.tolerance))])
        near = nodes.op("GreaterOrEqual", result, least)
        return nodes.op("Where", near, nodes.constant([most]), result)

    wide = nodes.op(
        "GreaterOrEqual",
        nodes.op("Mul", columns, nodes.constant([height])),
        nodes.op("Mul", rows, nodes.constant([width])),
    )
    return (
        nodes.op("Where", wide, share(rows, columns, width, height), fixed[0]),
        nodes.op("Where", wide, fixed[1], share(columns, rows, height, width)),
    )


def _shape_of(nodes: Nodes, image: Size, fit: Fit) -> Size:
    """The image's own size, or its shape with a short side, as `NetworkFit.size_for` rounds it."""
    step, offset = fit.card.multiple_of, fit.card.offset
    share, unit = nodes.constant([1]), nodes.constant([1])
    if fit.card.kind == "short-side":
        share, unit = nodes.constant([min(fit.size)]), nodes.op("Min", *image)
    twice = nodes.op("Mul", unit, nodes.constant([2 * step]))
    added = nodes.op("Mul", unit, nodes.constant([step - 2 * offset]))

    def fitted(length: str) -> str:
        doubled = nodes.op("Mul", nodes.op("Mul", length, share), nodes.constant([2]))
        number = nodes.op("Div", nodes.op("Add", doubled, added), twice)
        number = nodes.op("Max", number, nodes.constant([1]))
        return nodes.op(
            "Add", nodes.op("Mul", number, nodes.constant([step])), nodes.constant([offset])
        )

    return fitted(image[0]), fitted(image[1])


def _area(nodes: Nodes, image: Size, fit: Fit) -> Size:
    """`model_card.fitted_size` in the graph."""
    step, offset = float(fit.card.multiple_of), float(fit.card.offset)
    area, one = nodes.constant([float(fit.size[0] * fit.size[1])]), nodes.constant([1])

    def steps(length: str) -> str:
        length = nodes.op("Sub", length, nodes.constant([offset])) if offset else length
        number = nodes.op("Round", nodes.op("Div", length, nodes.constant([step])))
        return nodes.cast(number, INT64)

    def length_of(number: str) -> str:
        length = nodes.op("Mul", number, nodes.constant([int(step)]))
        return nodes.op("Add", length, nodes.constant([int(offset)])) if offset else length

    height, width = image
    short, long = nodes.op("Min", height, width), nodes.op("Max", height, width)
    least_of, most_of = nodes.cast(short, FLOAT), nodes.cast(long, FLOAT)
    root = nodes.op("Sqrt", nodes.op("Div", nodes.op("Mul", area, least_of), most_of))
    least = nodes.op("Max", steps(root), one)
    side = nodes.cast(length_of(least), FLOAT)
    limit = nodes.op("Div", nodes.op("Mul", nodes.constant([2.0]), area), side)
    most = steps(nodes.op("Div", nodes.op("Mul", side, most_of), least_of))
    most = nodes.op("Max", nodes.op("Min", most, steps(limit)), one)
    upright = nodes.op("Equal", height, short)
    rows = nodes.op("Where", upright, least, most)
    columns = nodes.op("Where", upright, most, least)
    # Never more than `most` by much, but TensorRT plans its memory by such bounds of each side.
    ratio = nodes.op("Div", nodes.cast(height, FLOAT), nodes.cast(width, FLOAT))
    half_more = nodes.constant([1.5])
    highest = steps(nodes.op("Mul", half_more, nodes.op("Sqrt", nodes.op("Mul", area, ratio))))
    widest = steps(nodes.op("Mul", half_more, nodes.op("Sqrt", nodes.op("Div", area, ratio))))
    rows = nodes.op("Min", rows, nodes.op("Max", highest, one))
    columns = nodes.op("Min", columns, nodes.op("Max", widest, one))
    return length_of(rows), length_of(columns)


ELEMENTS = (
    TensorProto.FLOAT,
    TensorProto.FLOAT16,
    TensorProto.DOUBLE,
    TensorProto.UINT8,
    TensorProto.INT8,
    TensorProto.UINT16,
    TensorProto.INT32,
    TensorProto.INT64,
)
"""Element types of inputs that can be wrapped."""
