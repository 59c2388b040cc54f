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

"""Bring a network's outputs into one form, (N, C, h, w) float32."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .decode import Output
from .nodes import FLOAT, Nodes
from .preprocess import Frame
from .schema import WrapError
from .spec import Class, Labels


@dataclass(frozen=True)
class Source:
    """A network's output, and an example of it."""

    title: str
    """For messages, with the output's name."""
    name: str
    """Name in the merged graph."""
    array: NDArray[Any]
    """The output for one image of `size`."""
    size: tuple[int, int]
    """Width and height of the network's input for that."""

    @property
    def shape(self) -> str:
        """The shape for messages."""
        return "x".join(map(str, self.array.shape))


def plane(nodes: Nodes, source: Source, layout: str, frame: Frame) -> Output:
    """An output with one channel.

    Its shape is (N, 1, h, w), (N, h, w, 1), (N, h, w), (h, w), or with further axes of length 1.

    Raises:
        WrapError: It has several channels.
    """
    shape = list(source.array.shape)
    name = _as_float(nodes, source)
    last = layout == "NHWC" or (not layout and shape[-1] == 1 and len(shape) == 4 and shape[1] > 1)
    if last and len(shape) == 4:
        name, shape = (
            nodes.op("Transpose", name, perm=[0, 3, 1, 2]),
            [shape[i] for i in (0, 3, 1, 2)],
        )
    if len(shape) == 2:
        name, shape = nodes.op("Unsqueeze", name, nodes.constant([0])), [1, *shape]
    if len(shape) == 3:
        name, shape = nodes.op("Unsqueeze", name, nodes.constant([1])), [shape[0], 1, *shape[1:]]
    if len(shape) > 4 and set(shape[2:-2]) == {1}:
        axes = list(range(2, len(shape) - 2))
        name, shape = nodes.op("Squeeze", name, nodes.constant(axes)), [*shape[:2], *shape[-2:]]
    if len(shape) != 4 or shape[:2] != [1, 1]:
        raise WrapError(
            f"{source.title} has the shape {source.shape}, expected one channel (1x1xHxW,"
            " 1xHxWx1 or 1xHxW)"
        )
    return Output(nodes, name, frame, (shape[3], shape[2]) == source.size)


def channels(
    nodes: Nodes, source: Source, spec: Labels, classes: Sequence[Class], frame: Frame
) -> tuple[Output, int]:
    """An output with a channel for each class of the network, and their number.

    Raises:
        WrapError: It has no such channels, or a channel is not used by the SPEC.
    """
    used = {n for each in classes for n in each.sources} | {*spec.ignore, *spec.drop}
    shape = source.array.shape
    if len(shape) != 4 or source.array.dtype.kind != "f":
        raise WrapError(
            f"{source.title} is {source.array.dtype} with the shape {source.shape}, expected"
            f" {spec.kind} as floats with 4 axes; for class numbers, kind is ids"
        )
    layout = spec.layout or _layout(source, max(used) + 1)
    number = shape[1] if layout == "NCHW" else shape[3]
    expected = set(range(max(number, 2)))
    if used != expected:
        missing, unknown = sorted(expected - used), sorted(used - expected)
        what = (
            f"its channel {missing[0]} is not used: add it to classes, ignore or drop"
            if missing and not unknown
            else f"it has no channel {unknown[0]}, which classes, ignore or drop use"
        )
        raise WrapError(f"{source.title} has the shape {source.shape} ({layout}): {what}")
    name = _as_float(nodes, source)
    size = (shape[3], shape[2])
    if layout == "NHWC":
        name, size = nodes.op("Transpose", name, perm=[0, 3, 1, 2]), (shape[2], shape[1])
    if number == 1 and spec.ignore:
        raise WrapError(f"{source.title} has one channel, of which no class can be ignored")
    return Output(nodes, name, frame, size == source.size), number


def _layout(source: Source, number: int) -> str:
    """The layout in which there are as many channels as classes."""
    wanted = {number, 1} if number == 2 else {number}
    shape = source.array.shape
    fitting = [name for name, n in (("NCHW", shape[1]), ("NHWC", shape[3])) if n in wanted]
    if len(fitting) == 2:
        raise WrapError(f"{source.title} has the shape {source.shape}: add layout")
    if fitting:
        return fitting[0]
    # As is usual: the fewest are the channels.
    return "NHWC" if shape[3] < min(shape[1:3]) else "NCHW"


def _as_float(nodes: Nodes, source: Source) -> str:
    return source.name if source.array.dtype == np.float32 else nodes.cast(source.name, FLOAT)
