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

"""Build the nodes of an ONNX graph from Python."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike
from onnx import NodeProto, TensorProto, helper, numpy_helper

FLOAT, UINT8 = TensorProto.FLOAT, TensorProto.UINT8
INT32, INT64 = TensorProto.INT32, TensorProto.INT64

IMAGE = "image"
"""Name of the graph's input: (N, H, W, 3) uint8 RGB."""

PREFIX = "depthseg/"
"""Start of the names of nodes that are not a network's own."""


class Nodes:
    """Nodes and constants of a graph under construction.

    The same operator with the same inputs is added once, so that two networks share what they have
    in common. Integers are int64, other numbers float32.
    """

    def __init__(self) -> None:
        """Start with no nodes."""
        self.nodes: list[NodeProto] = []
        self.constants: list[TensorProto] = []
        self._known: dict[Any, str] = {}

    def op(self, kind: str, *inputs: str, **attributes: Any) -> str:
        """Add a node with one output; returns the output's name.

        An empty input name leaves out an optional input.
        """
        key = (kind, inputs, repr(sorted(attributes.items())))
        if key not in self._known:
            name = f"{PREFIX}{kind.lower()}_{len(self.nodes)}"
            self.nodes.append(helper.make_node(kind, inputs, [name], name=name, **attributes))
            self._known[key] = name
        return self._known[key]

    def constant(self, value: ArrayLike) -> str:
        """Add a constant; returns its name."""
        array = np.asarray(value)
        array = array.astype(np.int64 if array.dtype.kind in "iu" else np.float32)
        key = (array.dtype, array.shape, array.tobytes())
        if key not in self._known:
            name = f"{PREFIX}constant_{len(self.constants)}"
            self.constants.append(numpy_helper.from_array(array, name))
            self._known[key] = name
        return self._known[key]

    def cast(self, value: str, to: int) -> str:
        """Cast to an element type of `TensorProto`."""
        return self.op("Cast", value, to=to)

    def resize(
        self, value: str, size: tuple[str, str], mode: str = "linear", **attributes: Any
    ) -> str:
        """Resize (N, C, H, W) to a height and a width, which are int64 [1].

        `mode` is `linear` or `nearest`, which keep pixel centres.
        """
        if mode == "nearest":
            attributes.setdefault("nearest_mode", "round_prefer_ceil")
        attributes.setdefault("coordinate_transformation_mode", "half_pixel")
        sizes = self.op("Concat", self.op("Shape", value, end=2), *size, axis=0)
        return self.op("Resize", value, "", "", sizes, mode=mode, **attributes)

    def size(self, value: str, axes: Sequence[int] = (2, 3)) -> tuple[str, str]:
        """The lengths of two axes, int64 [1] each."""
        first, second = (self.op("Shape", value, start=a, end=a + 1) for a in axes)
        return first, second

    def rename(self, value: str, name: str) -> None:
        """Give an output of a node another name, when the graph is complete."""
        for node in self.nodes:
            for names in (node.input, node.output):
                for number, each in enumerate(names):
                    if each == value:
                        names[number] = name
