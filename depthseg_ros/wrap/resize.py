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
"""ONNX operators that resize images as OpenCV and Pillow do, and outputs.

Networks react to differences of one grey level: with another rounding, a label changes at one pixel
in a hundred. So images are resized with the rounding of the library that a network's authors use.
"""

from __future__ import annotations

from .nodes import FLOAT, IMAGE, INT32, Nodes
from .spec import Input

Size = tuple[str, str]
"""Names of a height and a width, int64 [1]."""

_UNIT = 2048.0
"""OpenCV's weights for 8-bit images are multiples of 1 / 2048."""

_HIGH, _LOW = 2**15, 2**7
"""Pillow's weights for 8-bit images are multiples of 1 / (_HIGH * _LOW)."""


def resized_image(nodes: Nodes, old: Size, new: Size, spec: Input) -> str:
    """The camera's image, (N, H, W, 3) uint8, as (N, 3, h, w) float32 with values 0 to 255."""
    # Cast first: uint8 at the edges alone is what every runtime can do.
    image = nodes.cast(IMAGE, FLOAT)
    if spec.round and spec.antialias:
        return _as_pillow(nodes, image, old, new, spec.resize)
    if spec.round and spec.resize == "linear":
        return _as_opencv(nodes, image, old, new)
    x = nodes.op("Transpose", image, perm=[0, 3, 1, 2])
    if spec.resize == "linear" and not spec.antialias:
        return nodes.resize(x, new, "linear")
    rows, columns = (
        _weights(nodes, n, m, spec.resize, spec.antialias) for n, m in zip(old, new, strict=True)
    )
    if not spec.antialias:
        x = _with_edge(nodes, x)
    x = nodes.op("MatMul", x, nodes.op("Transpose", columns, perm=[1, 0]))
    x = nodes.op("MatMul", rows, x)
    return _clipped(nodes, nodes.op("Round", x)) if spec.round else x


def _as_pillow(nodes: Nodes, image: str, old: Size, new: Size, mode: str) -> str:
    """(N, H, W, 3) to (N, 3, h, w), as Pillow's BILINEAR or BICUBIC for 8-bit images.

    Pillow resizes one axis after the other, in integers, and rounds in between. Version 13 begins
    with the columns, unless that leaves more to do for the rows: so the image is transposed then.
    """
    c = nodes.constant
    excess = nodes.op("Sub", old[0], new[0])
    saved = nodes.op("Mul", nodes.op("Sub", old[1], new[1]), c([2]))
    swap = nodes.op("And", nodes.op("Greater", excess, c([0])), nodes.op("Greater", excess, saved))
    axes = [
        (nodes.op("Where", swap, size[1], size[0]), nodes.op("Where", swap, size[0], size[1]))
        for size in (old, new)
    ]
    flat = nodes.op("Reshape", image, c([0, -1, 3]))
    flat = nodes.op("Gather", flat, _places(nodes, swap, old, axes[0]), axis=1)
    shape = nodes.op("Concat", c([0]), *axes[0], c([3]), axis=0)
    x = nodes.op("Transpose", nodes.op("Reshape", flat, shape), perm=[0, 3, 1, 2])
    for axis in (1, 0):
        high, low = _parts(nodes, axes[0][axis], axes[1][axis], mode)
        if axis:
            high, low = (nodes.op("Transpose", part, perm=[1, 0]) for part in (high, low))
        sums = [nodes.op("MatMul", *((x, part) if axis else (part, x))) for part in (high, low)]
        value = nodes.op("Add", sums[0], nodes.op("Floor", nodes.op("Mul", sums[1], c(1 / _LOW))))
        value = nodes.op("Mul", nodes.op("Add", value, c(_HIGH / 2.0)), c(1 / _HIGH))
        x = _clipped(nodes, nodes.op("Floor", value))
    flat = nodes.op("Reshape", x, c([0, 3, -1]))
    flat = nodes.op("Gather", flat, _places(nodes, swap, axes[1], new), axis=2)
    return nodes.op("Reshape", flat, nodes.op("Concat", c([0, 3]), *new, axis=0))


def _places(nodes: Nodes, swap: str, old: Size, new: Size) -> str:
    """For each pixel of the transposed image, or of the same, its number in the image: int32."""
    c = nodes.constant
    rows, columns = (
        nodes.op("Mul", _range(nodes, c(0), n), nodes.op("Where", swap, *steps))
        for n, steps in zip(new, ((c([1]), old[1]), (old[1], c([1]))), strict=True)
    )
    rows = nodes.op("Unsqueeze", rows, c([1]))
    places = nodes.op("Add", rows, nodes.op("Unsqueeze", columns, c([0])))
    return nodes.cast(nodes.op("Reshape", places, c([-1])), INT32)


def _parts(nodes: Nodes, old: str, new: str, mode: str) -> tuple[str, str]:
    """Pillow's weights of one axis as integers, _LOW * high + low; two names, (new, old) float32.

    Sums of pixels times one part are below 2^24, hence exact in float32. The weights of `linear`
    are exact, too; those of `cubic` may be off by some 2^-22.
    """
    c = nodes.constant
    if mode == "cubic":
        weight = nodes.op("Mul", _weights(nodes, old, new, mode, True), c(float(_HIGH * _LOW)))
        weight = nodes.op("Round", weight)
        high = nodes.op("Floor", nodes.op("Mul", weight, c(1 / _LOW)))
        return high, nodes.op("Sub", weight, nodes.op("Mul", high, c(float(_LOW))))
    # Long division of small integers: some runtimes compute int64 as int32.
    apart, unit = _distances(nodes, old, new, antialias=True)
    weight = nodes.cast(nodes.op("Max", nodes.op("Sub", unit, apart), c(0)), INT32)
    total = nodes.op("ReduceSum", weight, c([1]), keepdims=1)
    whole = nodes.op("Mul", weight, nodes.cast(c(_HIGH), INT32))
    high = nodes.op("Div", whole, total)
    rest = nodes.op("Sub", whole, nodes.op("Mul", high, total))
    rest = nodes.op("Add", nodes.op("Mul", rest, nodes.cast(c(2 * _LOW), INT32)), total)
    low = nodes.op("Div", rest, nodes.op("Mul", total, nodes.cast(c(2), INT32)))
    return nodes.cast(high, FLOAT), nodes.cast(low, FLOAT)


def _clipped(nodes: Nodes, x: str) -> str:
    return nodes.op("Clip", x, nodes.constant(0.0), nodes.constant(255.0))


def _as_opencv(nodes: Nodes, image: str, old: Size, new: Size) -> str:
    """(N, H, W, 3) to (N, 3, h, w), as OpenCV's INTER_LINEAR for 8-bit images.

    OpenCV computes in integers: it drops 4 bits after the rows and 16 bits of each product after
    that. Every step is exact in float32. In between, the axes are (N, W, 3, H): so runtimes copy
    and multiply long rows.
    """
    c = nodes.constant
    above, below, row_weights = _neighbours(nodes, old[0], new[0], [-1], over_edge=True)
    left, right, weights = _neighbours(nodes, old[1], new[1], [-1, 1, 1])
    total = None
    for row, row_weight in zip((above, below), row_weights, strict=True):
        line = nodes.op("Transpose", nodes.op("Gather", image, row, axis=1), perm=[0, 2, 3, 1])
        parts = [
            nodes.op("Mul", nodes.op("Gather", line, column, axis=1), weight)
            for column, weight in zip((left, right), weights, strict=True)
        ]
        value = nodes.op("Floor", nodes.op("Mul", nodes.op("Add", *parts), c(1 / 16)))
        value = nodes.op("Mul", nodes.op("Mul", value, row_weight), c(1 / 65536))
        value = nodes.op("Floor", value)
        total = value if total is None else nodes.op("Add", total, value)
    assert total is not None
    total = nodes.op("Floor", nodes.op("Mul", nodes.op("Add", total, c(2.0)), c(0.25)))
    return nodes.op("Transpose", total, perm=[0, 2, 3, 1])


def _neighbours(
    nodes: Nodes, old: str, new: str, shape: list[int], over_edge: bool = False
) -> tuple[str, str, tuple[str, str]]:
    """For each place of an axis, the indices of both neighbours, and their weights times `_UNIT`.

    Where an image is enlarged, some places lie beyond its centres of pixels. There OpenCV moves
    columns to the last one, but for rows (`over_edge`) it takes the last one twice, which rounds
    twice.

    Returns:
        Two names of int64 [new], and two of float32 of `shape`.
    """
    c = nodes.constant
    # Pixel i of `new` lies at ((2 i + 1) old - new) / (2 new). OpenCV rounds that to float32, whose
    # last bit shows in the weights, and OpenVINO divides floats less exactly: so in integers.
    odd = nodes.op("Add", nodes.op("Mul", _range(nodes, c(0), new), c(2)), c(1))
    place = nodes.op("Sub", nodes.op("Mul", odd, old), new)
    doubled = nodes.op("Mul", new, c(2))
    end = nodes.op("Sub", old, c(1))
    if not over_edge:
        place = nodes.op("Max", nodes.op("Min", place, nodes.op("Mul", end, doubled)), c(0))
    place = nodes.op("Add", place, doubled)  # not negative: runtimes divide towards zero
    whole = nodes.op("Div", place, doubled)
    rest = nodes.op("Sub", place, nodes.op("Mul", whole, doubled))
    share = nodes.op("Div", nodes.cast(rest, FLOAT), nodes.cast(doubled, FLOAT))
    first, last = nodes.cast(nodes.op("Sub", whole, c(1)), FLOAT), nodes.cast(end, FLOAT)
    share = nodes.op("Sub", nodes.op("Add", first, share), first)
    weights = (
        nodes.op("Round", nodes.op("Mul", nodes.op("Sub", c(1.0), share), c(_UNIT))),
        nodes.op("Round", nodes.op("Mul", share, c(_UNIT))),
    )
    second = nodes.op("Min", nodes.op("Add", first, c(1.0)), last)
    return (
        nodes.cast(nodes.op("Max", first, c(0.0)), INT32),
        nodes.cast(second, INT32),
        (
            nodes.op("Reshape", weights[0], c(shape)),
            nodes.op("Reshape", weights[1], c(shape)),
        ),
    )


def resize(
    nodes: Nodes, x: str, old: Size, new: Size, mode: str, align_corners: bool = False
) -> str:
    """Resize an output, (N, C, H, W) float32.

    `mode` is `cubic`, `nearest-floor`, which takes the pixel at the rounded down place, or one of
    `Nodes.resize`.
    """
    if mode == "nearest-floor":
        # As Resize, but the places are exact: runtimes multiply by a scale in float32.
        for axis, (before, after) in enumerate(zip(old, new, strict=True), 2):
            place = nodes.op("Mul", _range(nodes, nodes.constant(0), after), before)
            places = nodes.cast(nodes.op("Div", place, after), INT32)
            x = nodes.op("Gather", x, places, axis=axis)
        return x
    if mode != "cubic":
        corners = {"coordinate_transformation_mode": "align_corners"} if align_corners else {}
        return nodes.resize(x, new, mode, **corners)
    rows, columns = (
        _weights(nodes, n, m, mode, align_corners=align_corners)
        for n, m in zip(old, new, strict=True)
    )
    x = nodes.op("MatMul", _with_edge(nodes, x), nodes.op("Transpose", columns, perm=[1, 0]))
    return nodes.op("MatMul", rows, x)


# --- Weights -----------------------------------------------------------------------------------
#
# Resizing with matrices of weights, computed from the sizes, in place of ONNX's Resize: TensorRT
# refuses antialiasing, OpenVINO leaves it out without a word, and ONNX Runtime is slow for cubic.


def _with_edge(nodes: Nodes, x: str) -> str:
    """(N, C, H, W) with two pixels more on each side, which are those at the edge."""
    return nodes.op("Pad", x, nodes.constant([0, 0, 2, 2, 0, 0, 2, 2]), mode="edge")


def _weights(
    nodes: Nodes,
    old: str,
    new: str,
    mode: str,
    antialias: bool = False,
    align_corners: bool = False,
) -> str:
    """The weights of one axis: (new, old), or without antialiasing (new, old + 4)."""
    apart, unit = _distances(nodes, old, new, antialias, align_corners)
    distance = nodes.op("Div", nodes.cast(apart, FLOAT), nodes.cast(unit, FLOAT))
    weight = _linear(nodes, distance) if mode == "linear" else _cubic(nodes, distance, antialias)
    if antialias:  # where the window reaches over the edge, the rest counts for more
        total = nodes.op("ReduceSum", weight, nodes.constant([1]), keepdims=1)
        weight = nodes.op("Div", weight, total)
    return weight


def _distances(
    nodes: Nodes, old: str, new: str, antialias: bool = False, align_corners: bool = False
) -> tuple[str, str]:
    """How far pixels of one axis are from places of the resized axis, in integers.

    Returns:
        Names of the distances, int64 (new, old) or without antialiasing (new, old + 4), and of the
        distance that is 1 to the kernel, int64 [1].
    """
    c = nodes.constant
    first, end = (c(0), old) if antialias else (c(-2), nodes.op("Add", old, c([2])))
    place = nodes.op("Unsqueeze", _range(nodes, c(0), new), c([1]))
    other = nodes.op("Unsqueeze", _range(nodes, first, end), c([0]))
    # Pixel i of `new` lies at ((2 i + 1) old - new) / (2 new), or with its corners aligned at
    # i (old - 1) / (new - 1).
    if align_corners:
        unit = nodes.op("Max", nodes.op("Sub", new, c([1])), c([1]))
        centre = nodes.op("Mul", place, nodes.op("Sub", old, c([1])))
    else:
        unit = nodes.op("Mul", new, c([2]))
        odd = nodes.op("Add", nodes.op("Mul", place, c(2)), c(1))
        centre = nodes.op("Sub", nodes.op("Mul", odd, old), new)
    apart = nodes.op("Abs", nodes.op("Sub", nodes.op("Mul", other, unit), centre))
    # Where an antialiased image gets smaller, the kernel gets wider.
    return apart, nodes.op("Mul", nodes.op("Max", old, new), c([2])) if antialias else unit


def _range(nodes: Nodes, first: str, end: str) -> str:
    """Integers from `first` to before `end`, which is int64 [1]."""
    c = nodes.constant
    return nodes.op("Range", first, nodes.op("Gather", end, c(0), axis=0), c(1))


def _linear(nodes: Nodes, distance: str) -> str:
    return nodes.op("Relu", nodes.op("Sub", nodes.constant(1.0), distance))


def _cubic(nodes: Nodes, t: str, antialias: bool) -> str:
    """Keys' kernel, with a = -0.5 as in Pillow, or -0.75 as in OpenCV."""
    c, a = nodes.constant, -0.5 if antialias else -0.75

    def polynomial(*factors: float) -> str:
        value = c(factors[0])
        for factor in factors[1:]:
            value = nodes.op("Add", nodes.op("Mul", value, t), c(factor))
        return value

    near = polynomial(a + 2, -(a + 3), 0.0, 1.0)
    far = polynomial(a, -5 * a, 8 * a, -4 * a)
    outside = nodes.op("Where", nodes.op("Less", t, c(2.0)), far, c(0.0))
    return nodes.op("Where", nodes.op("Less", t, c(1.0)), near, outside)
