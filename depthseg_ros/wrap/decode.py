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

"""ONNX operators from a network's outputs to labels, confidence and depth."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ..model_card import UNLABELLED
from .nodes import FLOAT, INT32, UINT8, Nodes
from .preprocess import Frame
from .resize import Size, resize
from .spec import Class, Depth, Labels

_NEAREST = {"opencv": "nearest-floor", "pillow": "nearest"}


class Output:
    """A network's output as (N, C, h, w) float32, and where the image lies in it."""

    def __init__(self, nodes: Nodes, name: str, frame: Frame, at_network_size: bool) -> None:
        """Describe an output; `at_network_size`: whether h and w are always the network's."""
        self.nodes, self.name, self.frame = nodes, name, frame
        self.at_network_size = at_network_size

    def _with(self, name: str, at_network_size: bool | None = None) -> Output:
        same = self.at_network_size if at_network_size is None else at_network_size
        return Output(self.nodes, name, self.frame, same)

    def op(self, kind: str, *others: str, **attributes: object) -> Output:
        """Apply an operator that does not change h and w; `others` are its further inputs."""
        return self._with(self.nodes.op(kind, self.name, *others, **attributes))

    def enlarged(self, mode: str = "linear", align_corners: bool = False) -> Output:
        """Resize to the network's size."""
        if self.at_network_size:
            return self
        old = self.nodes.size(self.name)
        name = resize(
            self.nodes, self.name, old, self.frame.size, mode, align_corners=align_corners
        )
        return self._with(name, True)

    def on_image(self, mode: str = "linear", align_corners: bool = False) -> str:
        """Cut off the border and resize to the image's size."""
        nodes, frame = self.nodes, self.frame
        if frame.offset is None:
            old = nodes.size(self.name)
            return resize(nodes, self.name, old, frame.image, mode, align_corners=align_corners)
        if self.at_network_size or align_corners:
            source, content = self.enlarged(mode, align_corners).name, frame.content
        else:
            source, content = self._enlarged_if_cut(mode)
        source = _cut(nodes, source, frame.offset, content)
        # The image's corners were not aligned when it was reduced, and the cut keeps to that.
        return resize(nodes, source, content, frame.image, mode)

    def _enlarged_if_cut(self, mode: str) -> tuple[str, Size]:
        """Resize to the network's size if the image has a border; returns the image's size there.

        Without a border there is nothing to cut, and the output is resized once, not twice.
        """
        nodes, frame = self.nodes, self.frame
        border = [nodes.op("Sub", a, b) for a, b in zip(frame.size, frame.content, strict=True)]
        none = nodes.op("Equal", nodes.op("Add", *border), nodes.constant([0]))
        own = nodes.size(self.name)

        def unless_none(size: Size) -> Size:
            return nodes.op("Where", none, own[0], size[0]), nodes.op(
                "Where", none, own[1], size[1]
            )

        size = unless_none(frame.size)
        return resize(nodes, self.name, own, size, mode), unless_none(frame.content)


def _cut(nodes: Nodes, x: str, offset: Size, content: Size) -> str:
    ends = [nodes.op("Add", a, b) for a, b in zip(offset, content, strict=True)]
    return nodes.op(
        "Slice",
        x,
        nodes.op("Concat", *offset, axis=0),
        nodes.op("Concat", *ends, axis=0),
        nodes.constant([2, 3]),
    )


# --- Labels ----------------------------------------------------------------------------------


def classify(
    output: Output, spec: Labels, classes: Sequence[Class], channels: int
) -> tuple[str, str]:
    """Add the operators for labels and confidence.

    Args:
        output: Channels of the classes, or class numbers.
        spec: The SPEC's labels.
        classes: The classes of the model file.
        channels: Number of channels; 1 for class numbers.

    Returns:
        Names of class ids and of confidence 0 to 1, both (N, 1, H, W) float32.
    """
    nodes = output.nodes
    if spec.kind == "ids":
        numbers = output.on_image(_NEAREST[spec.nearest])
        labels = _looked_up(nodes, numbers, _table(classes, 65536), classes)
        return labels, _where_labelled(nodes, labels, nodes.constant(1.0))
    if channels == 1:
        numbers, confidence = _foreground(output, spec)
        return _known(nodes, _looked_up(nodes, numbers, _table(classes, 2), classes), confidence)
    kept = [n for n in range(channels) if n not in spec.ignore]
    table = _table(classes, channels)[kept]
    if len(kept) < channels:
        output = output.op("Gather", nodes.constant(kept), axis=1)
    if spec.argmax_at == "network":
        best = output.enlarged("linear", spec.align_corners)
        number = nodes.op("ArgMax", best.name, axis=1, keepdims=1)
        numbers = best._with(nodes.cast(number, FLOAT)).on_image(_NEAREST[spec.nearest])
    else:
        enlarged = output.on_image("linear", spec.align_corners)
        number = nodes.op("ArgMax", enlarged, axis=1, keepdims=1)
        numbers = nodes.cast(number, FLOAT)
    labels = _looked_up(nodes, numbers, table, classes)
    share = _confidence(output, spec, table)
    return _known(nodes, labels, share.on_image("linear", spec.align_corners))


def _known(nodes: Nodes, labels: str, confidence: str) -> tuple[str, str]:
    """Labels and confidence; without a label where the confidence is NaN, as of NaN outputs."""
    c = nodes.constant
    labels = nodes.op("Where", _is_number(nodes, confidence), labels, c(float(UNLABELLED)))
    return labels, _where_labelled(nodes, labels, confidence)


def _is_number(nodes: Nodes, value: str) -> str:
    """Whether a value is not NaN; NaN is `GreaterOrEqual` to anything in OpenVINO."""
    return nodes.op("LessOrEqual", value, nodes.constant(float("inf")))


def _or_nan(output: Output, valid: str) -> Output:
    """The output, or NaN where `valid` is false."""
    nodes = output.nodes
    return output._with(nodes.op("Where", valid, output.name, nodes.constant(float("nan"))))


def _where_labelled(nodes: Nodes, labels: str, confidence: str) -> str:
    unlabelled = nodes.op("Equal", labels, nodes.constant(float(UNLABELLED)))
    return nodes.op("Where", unlabelled, nodes.constant(0.0), confidence)


def _foreground(output: Output, spec: Labels) -> tuple[str, str]:
    """Class numbers 0 and 1 of one channel, and their probability."""
    nodes = output.nodes
    c = nodes.constant
    value = output.on_image("linear", spec.align_corners)
    if spec.kind == "logits":
        certain = output.op("Abs").op("Sigmoid")
        found = nodes.op("Greater", value, c(0.0))
    else:
        other = nodes.op("Sub", c(1.0), output.name)
        certain = output.op("Max", other)
        found = nodes.op("Greater", value, c(0.5))
    certain = _or_nan(certain, _is_number(nodes, output.name))
    confidence = certain.on_image("linear", spec.align_corners)
    return nodes.op("Where", found, c(1.0), c(0.0)), confidence


def _confidence(output: Output, spec: Labels, table: np.ndarray) -> Output:
    """The probability of the largest channel, at the network's own resolution.

    If classes of the network are merged, it is the sum of theirs.
    """
    nodes = output.nodes
    best = output.op("ReduceMax", axes_of(nodes, 1), keepdims=1)
    if spec.kind == "logits":
        shares = output.op("Sub", best.name).op("Exp")
        # The softmax of the best channel, without a Softmax, which is slow over the channel axis.
        total = shares.op("ReduceSum", axes_of(nodes, 1), keepdims=1)
        result = total.op("Reciprocal")
    else:
        shares, total, result = output, None, best
    # Of NaN and numbers, runtimes have different maxima, but the same sum; and OpenVINO's Exp of
    # NaN is infinite.
    valid = _is_number(nodes, output.op("ReduceSum", axes_of(nodes, 1), keepdims=1).name)
    merged = [i for i in np.unique(table) if i != UNLABELLED and (table == i).sum() > 1]
    if not merged:
        return _or_nan(result, valid)
    # For each channel, the sum over those that become the same class.
    same = (table[:, None] == table[None, :]) & (table != UNLABELLED)[:, None]
    same |= np.eye(len(table), dtype=bool)
    sums = shares.op("Conv", nodes.constant(same.astype(np.float32)[:, :, None, None]))
    number = nodes.op("ArgMax", output.name, axis=1, keepdims=1)
    own = sums.op("GatherElements", number, axis=1)
    return _or_nan(own.op("Div", total.name) if total is not None else own, valid)


def axes_of(nodes: Nodes, *axes: int) -> str:
    """Axes as an operator's input."""
    return nodes.constant(list(axes))


def _table(classes: Sequence[Class], length: int) -> np.ndarray:
    """(length,) class id of each class of the network; `UNLABELLED` for those without one."""
    table = np.full(length, UNLABELLED, np.float32)
    for each in classes:
        for source in each.sources:
            if source < length:
                table[source] = each.card.id
    return table


def _looked_up(nodes: Nodes, numbers: str, table: np.ndarray, classes: Sequence[Class]) -> str:
    """Class ids of the network's class numbers; `numbers` is float32 of any integer value."""
    used = np.flatnonzero(table != UNLABELLED)
    short = table[: used[-1] + 1] if len(used) else table[:1]
    if len(table) <= 256 and (table == np.arange(len(table))).all():
        return numbers
    c = nodes.constant
    short = np.append(short, np.float32(UNLABELLED))
    last = float(len(short) - 1)
    inside = nodes.op(
        "And",
        nodes.op("GreaterOrEqual", numbers, c(0.0)),
        nodes.op("Less", numbers, c(last)),
    )
    index = nodes.op("Where", inside, numbers, c(last))
    return nodes.op("Gather", c(short), nodes.cast(index, INT32), axis=0)


# --- Depth -----------------------------------------------------------------------------------


def measure(
    output: Output, spec: Depth, fx: str | None, sky: Output | None, no_depth: str | None
) -> str:
    """Add the operators for depth.

    Args:
        output: The depth output, one channel.
        spec: The SPEC's depth.
        fx: Name of the focal lengths, (N,) float32, if depth depends on them.
        sky: The output that marks pixels without depth.
        no_depth: Name of a bool (N, 1, H, W), true for pixels without depth.

    Returns:
        Name of depth, (N, 1, H, W) float32.
    """
    nodes = output.nodes
    c = nodes.constant
    value = output.on_image(spec.resize, spec.align_corners)
    if spec.offset:
        value = nodes.op("Add", value, c(spec.offset))
    if spec.kind in ("inverse", "disparity"):
        depth = nodes.op("Div", c(spec.scale), value)
    else:
        depth = nodes.op("Exp", value) if spec.kind == "log" else value
        if spec.scale != 1:
            depth = nodes.op("Mul", depth, c(spec.scale))
    if fx is not None:
        assert spec.canonical_fx is not None
        factor = nodes.op("Mul", fx, _zoom(nodes, output.frame))
        factor = nodes.op("Mul", factor, c(1 / spec.canonical_fx))
        factor = nodes.op("Reshape", factor, c([-1, 1, 1, 1]))
        depth = nodes.op("Mul", depth, factor)
    good = nodes.op("LessOrEqual", depth, c(spec.max))  # NaN is not
    if spec.kind != "normalised":
        good = nodes.op("And", good, nodes.op("Greater", depth, c(0.0)))
    if sky is not None and spec.sky is not None:
        mask = sky.on_image(spec.resize, spec.align_corners)
        if spec.sky.above is not None:
            hidden = nodes.op("Greater", mask, c(spec.sky.above))
        else:
            hidden = nodes.op("Less", mask, c(spec.sky.below or 0.0))
        no_depth = hidden if no_depth is None else nodes.op("Or", no_depth, hidden)
    if no_depth is not None:
        good = nodes.op("And", good, nodes.op("Not", no_depth))
    return nodes.op("Where", good, nodes.op("Max", depth, c(spec.min)), c(float("nan")))


def _zoom(nodes: Nodes, frame: Frame) -> str:
    """The network's pixels per pixel of the image, the mean of both directions, float32 [1]."""
    ratios = [
        nodes.op("Div", nodes.cast(new, FLOAT), nodes.cast(old, FLOAT))
        for new, old in zip(frame.content, frame.image, strict=True)
    ]
    return nodes.op("Mul", nodes.op("Add", *ratios), nodes.constant([0.5]))


def is_class(nodes: Nodes, labels: str, ids: Sequence[int]) -> str | None:
    """Name of a bool (N, 1, H, W): whether the label is one of the ids; None without ids."""
    result = None
    for number in ids:
        equal = nodes.op("Equal", labels, nodes.constant(float(number)))
        result = equal if result is None else nodes.op("Or", result, equal)
    return result


def to_uint8(nodes: Nodes, value: str, share: bool = False) -> str:
    """(N, 1, H, W) float32 as (N, H, W) uint8; a share, 0 to 1, as 0 to 255."""
    if share:
        value = nodes.op("Clip", value, nodes.constant(0.0), nodes.constant(1.0))
        value = nodes.op("Mul", value, nodes.constant(255.0))
        value = nodes.op("Add", value, nodes.constant(0.5))
    return nodes.cast(squeezed(nodes, value), UINT8)


def squeezed(nodes: Nodes, value: str) -> str:
    """(N, 1, H, W) as (N, H, W)."""
    return nodes.op("Squeeze", value, axes_of(nodes, 1))
