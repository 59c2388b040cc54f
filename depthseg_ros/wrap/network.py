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

"""Load an ONNX file of any origin and prepare its graph for a model file."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import (
    AttributeProto,
    GraphProto,
    ModelProto,
    NodeProto,
    TensorProto,
    helper,
    numpy_helper,
)

from ..model_card import MAX_BYTES, METADATA_KEY, ModelFileError, load_onnx
from ..texts import one_line, shortened
from .schema import WrapError

OPSET, IR_VERSION = 18, 8
"""Versions of written files, which every supported runtime reads."""

_CHANGED = {"DFT", "GroupNormalization", "GridSample"}
"""Operators with another meaning after opset 18, so that relabelling is not enough."""
_MOVES = {"Transpose", "Reshape", "Squeeze", "Unsqueeze", "Identity", "Flatten"}
"""Operators that move values of any type."""
_FLOATS = (TensorProto.FLOAT, TensorProto.FLOAT16, TensorProto.DOUBLE)


@dataclass(frozen=True)
class Tensor:
    """An input or output of a graph."""

    name: str
    element: int
    """Element type of `TensorProto`."""
    shape: tuple[int | str, ...] | None
    """Lengths; text, which may be empty, for lengths that are not fixed. None: unknown rank."""

    @property
    def dtype(self) -> str:
        """NumPy's name of the element type; `?` if the file does not give it."""
        try:
            return str(helper.tensor_dtype_to_np_dtype(self.element))
        except (KeyError, ValueError):
            return "?"

    def __str__(self) -> str:
        shape = "x".join(str(n or "?") for n in self.shape) if self.shape is not None else "?"
        return f"{self.name} ({self.dtype} {shape})"


def load(path: Path) -> ModelProto:
    """Read an ONNX file with all its weights, and check that it can become part of a model file.

    Raises:
        WrapError: It is missing, broken or too large, or has operators that are not of ONNX itself.
    """
    try:
        found = path.is_file()
    except OSError as error:  # e.g. the name is too long
        raise WrapError(f"{shortened(str(path))} cannot be read: {error.strerror}") from None
    if not found:
        exists = path.exists() and not path.is_dir()
        raise WrapError(f"{path} is not a regular file" if exists else f"there is no file {path}")
    try:
        model: ModelProto = load_onnx(path)
    except ModelFileError as error:
        raise WrapError(str(error)) from None
    if any(entry.key == METADATA_KEY for entry in model.metadata_props):
        raise WrapError(f"{path} is a model file already: it has a model card")
    if not model.graph.output:
        raise WrapError(f"{path} has no outputs")
    if opset_of(model) > (known := onnx.defs.onnx_opset_version()):
        raise WrapError(
            f"{path} has opset {opset_of(model)}, but onnx {onnx.__version__} knows those up to"
            f" {known}: update onnx, or export the network with opset {OPSET}"
        )
    _check_operators(model, path)
    _shorten_domain(model)
    _load_weights(model, path)
    model = _inlined(model, path)
    _strip(model)
    _check_quantised(model, path)
    _take_one_view(model)
    return model


def _take_one_view(model: ModelProto) -> None:
    """Let a network of several views, (N, views, ...) as Depth Anything 3, take one: (N, ...)."""
    for value in model.graph.input:
        dims = value.type.tensor_type.shape.dim
        if len(dims) != 5 or dims[1].dim_value > 1:
            continue
        del dims[1]
        views = f"{value.name}/views"
        for node in _nodes(model.graph):
            node.input[:] = [views if name == value.name else name for name in node.input]
        reshape = helper.make_node("Unsqueeze", [value.name], [views], f"n_{views}", axes=[1])
        if opset_of(model) >= 13:
            del reshape.attribute[:]
            reshape.input.append(f"{views}/axis")
            model.graph.initializer.append(numpy_helper.from_array(np.array([1]), f"{views}/axis"))
        model.graph.node.insert(0, reshape)


def _load_weights(model: ModelProto, path: Path) -> None:
    """Read the weights that are in other files."""
    tensors = [
        tensor
        for tensor in (*model.graph.initializer, *_attributes(model))
        if tensor.data_location == TensorProto.EXTERNAL
    ]
    size = model.ByteSize()
    for tensor in tensors:
        kind = helper.tensor_dtype_to_np_dtype(tensor.data_type)
        size += int(np.prod(tensor.dims, dtype=np.float64)) * kind.itemsize
    if size >= MAX_BYTES:
        raise WrapError(f"{path} has 2 GiB of weights or more, expected less: convert it to fp16")
    try:
        onnx.load_external_data_for_model(model, str(path.parent))
    except Exception as error:  # of several kinds, by the version of onnx
        raise WrapError(
            f"the weights of {path} in another file cannot be read: {one_line(error)}"
        ) from None


def _attributes(model: ModelProto) -> Iterator[TensorProto]:
    """Yield the tensors that are attributes of nodes."""
    for node in _nodes(model.graph):
        for attribute in node.attribute:
            if attribute.type == AttributeProto.TENSOR:
                yield attribute.t


def _inlined(model: ModelProto, path: Path) -> ModelProto:
    """The model with its local functions replaced by their nodes."""
    if not model.functions:
        return model
    try:
        from onnx import inliner  # onnx 1.15
    except ImportError:
        name = model.functions[0].name
        raise WrapError(f"{path} has the function {name}: update onnx to inline it") from None
    # A function may have another opset than the graph.
    result: ModelProto = inliner.inline_local_functions(model, convert_version=True)
    if result.functions:
        name = shortened(result.functions[0].name)
        raise WrapError(
            f"{path} has the function {name} of another opset, which cannot be converted: export"
            " the network with one opset"
        )
    return result


def _check_operators(model: ModelProto, path: Path) -> None:
    own = {(function.domain, function.name) for function in model.functions}
    inside = [node for function in model.functions for node in function.node]
    for node in (*_nodes(model.graph), *inside):
        if node.domain not in ("", "ai.onnx") and (node.domain, node.op_type) not in own:
            raise WrapError(
                f"{path} has the node {_title(node)} with the operator {node.domain}."
                f"{node.op_type}, expected operators of ONNX itself, which every runtime has:"
                " export the network without it"
            )
    for tensor in (*model.graph.input, *model.graph.output):
        if not tensor.type.HasField("tensor_type"):
            raise WrapError(f"{path}: {tensor.name} is not a tensor")


def _check_quantised(model: ModelProto, path: Path) -> None:
    """Refuse 16 bits, for which OpenVINO has other results."""
    elements = _elements(model.graph)
    for node in _nodes(model.graph):
        if node.op_type in ("QuantizeLinear", "DequantizeLinear"):
            kinds = [elements.get(name) for name in node.input]
            kinds += [a.i for a in node.attribute if a.name == "output_dtype"]
            if {TensorProto.UINT16, TensorProto.INT16} & {*kinds}:
                raise WrapError(
                    f"{path} is quantised in 16 bits (node {_title(node)}), which OpenVINO computes"
                    " wrong, expected 8 bits or floats: quantise it in 8 bits, or not at all"
                )


def _shorten_domain(model: ModelProto) -> None:
    """Write the domain of ONNX's own operators as "", its usual form."""
    for owner in (model, *model.functions):
        versions: dict[str, int] = {}
        for each in owner.opset_import:
            domain = "" if each.domain == "ai.onnx" else each.domain
            versions[domain] = max(each.version, versions.get(domain, 0))
        del owner.opset_import[:]
        owner.opset_import.extend(helper.make_opsetid(*pair) for pair in versions.items())
    for node in (*_nodes(model.graph), *(n for f in model.functions for n in f.node)):
        if node.domain == "ai.onnx":
            node.domain = ""


def _title(node: NodeProto) -> str:
    return shortened(repr(node.name or "of " + ", ".join(node.output)))


def _nodes(graph: GraphProto) -> Iterator[NodeProto]:
    """Yield the nodes of a graph and of the graphs inside."""
    for node in graph.node:
        yield node
        for inside in _subgraphs(node):
            yield from _nodes(inside)


def _subgraphs(node: NodeProto) -> Iterator[GraphProto]:
    for attribute in node.attribute:
        if attribute.type == AttributeProto.GRAPH:
            yield attribute.g
        yield from attribute.graphs


def _strip(model: ModelProto) -> None:
    """Remove what may be wrong in another graph, or is only about how it was exported."""
    del model.graph.value_info[:]
    model.ir_version = max(model.ir_version, 4)  # the first whose initializers need no inputs
    stored = {tensor.name for tensor in model.graph.initializer}
    inputs = [value for value in model.graph.input if value.name not in stored]
    taken = {name for node in model.graph.node for name in _taken(node)}
    used = [value for value in inputs if value.name in taken]
    del model.graph.input[:]
    model.graph.input.extend(used or inputs)
    for node in _nodes(model.graph):
        node.ClearField("doc_string")
        for field in ("metadata_props", "overload"):
            if field in NodeProto.DESCRIPTOR.fields_by_name:
                node.ClearField(field)
        for inside in _subgraphs(node):
            del inside.value_info[:]


def inputs_of(model: ModelProto) -> list[Tensor]:
    """The inputs of a graph."""
    return [_tensor(value) for value in model.graph.input]


def outputs_of(model: ModelProto) -> list[Tensor]:
    """The outputs of a graph."""
    return [_tensor(value) for value in model.graph.output]


def _tensor(value: Any) -> Tensor:
    kind = value.type.tensor_type
    shape: tuple[int | str, ...] | None = None
    if kind.HasField("shape"):
        shape = tuple(
            d.dim_value if d.HasField("dim_value") and d.dim_value > 0 else d.dim_param
            for d in kind.shape.dim
        )
    return Tensor(value.name, kind.elem_type, shape)


# --- Versions --------------------------------------------------------------------------------


def opset_of(model: ModelProto) -> int:
    """The model's version of ONNX's operators."""
    return max((o.version for o in model.opset_import if o.domain in ("", "ai.onnx")), default=1)


def needed_opset(model: ModelProto) -> int:
    """The lowest opset from `OPSET` on to which the model can be changed."""
    opset = opset_of(model)
    needed = OPSET
    elements = _elements(model.graph) if opset > OPSET else {}
    for node in _nodes(model.graph):
        with suppress(onnx.defs.SchemaError):
            since = onnx.defs.get_schema(node.op_type, opset, "").since_version
            if since > OPSET and not _fits(node, OPSET, elements):
                needed = max(needed, since)
    return needed


def _elements(graph: GraphProto) -> dict[str, int]:
    """Element types of stored values, in which the newer ones begin: 4 bits, 16 bits, bfloat16."""
    result = {tensor.name: tensor.data_type for tensor in graph.initializer}
    for node in graph.node:
        if node.op_type == "Constant" and node.attribute[0].type == AttributeProto.TENSOR:
            result[node.output[0]] = node.attribute[0].t.data_type
        for inside in _subgraphs(node):
            result |= _elements(inside)
    return result


def _fits(node: NodeProto, opset: int, elements: dict[str, int]) -> bool:
    """Whether a node of a later opset means the same in this one."""
    try:
        schema = onnx.defs.get_schema(node.op_type, opset, "")
    except onnx.defs.SchemaError:
        return False
    attributes = {a.name for a in node.attribute if a.name != "saturate"}
    if (
        node.op_type in _CHANGED
        or not attributes <= set(schema.attributes)
        or len(node.input) > schema.max_input
    ):
        return False
    kinds = [
        (elements[name], schema.inputs[min(number, len(schema.inputs) - 1)])
        for number, name in enumerate(node.input)
        if name in elements
    ]
    if node.op_type == "Cast":
        kinds += [(a.i, schema.outputs[0]) for a in node.attribute if a.name == "to"]
    names = TensorProto.DataType.Name
    return all(f"tensor({names(kind).lower()})" in place.types for kind, place in kinds)


def to_opset(model: ModelProto, opset: int, path: Path) -> ModelProto:
    """Change a model to an opset; see `needed_opset`.

    Raises:
        WrapError: A node has no equivalent.
    """
    own = opset_of(model)
    if own < opset and any(_differs(node, own, opset) for node in _nodes(model.graph)):
        try:
            model = onnx.version_converter.convert_version(model, opset)
        except Exception as error:  # of several kinds, from C++
            raise WrapError(
                f"{path} has opset {own}, which cannot be converted to {opset}:"
                f" {shortened(str(error), 300)}; export it with opset {opset}"
            ) from None
        _strip(model)
        if own < 11:
            for node in _nodes(model.graph):
                _place_as_before(node)
    elif own > opset:
        for node in _nodes(model.graph):
            kept = [a for a in node.attribute if a.name != "saturate"]
            if len(kept) < len(node.attribute):
                del node.attribute[:]
                node.attribute.extend(kept)
    del model.opset_import[:]
    model.opset_import.extend([helper.make_opsetid("", opset)])
    model.ir_version = ir_version(opset)
    return model


def _place_as_before(node: NodeProto) -> None:
    """Place the pixels of a converted Resize as before opset 11, which the converter forgets."""
    if node.op_type == "Resize":
        kept = [a for a in node.attribute if a.name == "mode"]
        del node.attribute[:]
        node.attribute.extend(kept)
        places = {"coordinate_transformation_mode": "asymmetric", "nearest_mode": "floor"}
        node.attribute.extend(helper.make_attribute(*pair) for pair in places.items())


def _differs(node: NodeProto, first: int, second: int) -> bool:
    """Whether an operator changed between two opsets."""
    try:
        return bool(
            onnx.defs.get_schema(node.op_type, first, "").since_version
            != onnx.defs.get_schema(node.op_type, second, "").since_version
        )
    except onnx.defs.SchemaError:
        return True


def ir_version(opset: int) -> int:
    """The version of the file format for an opset."""
    if opset <= OPSET:
        return IR_VERSION
    return int(helper.find_min_ir_version_for([helper.make_opsetid("", opset)]))


# --- Running it ------------------------------------------------------------------------------


def run(
    model: ModelProto, feeds: dict[str, NDArray[Any]], what: str
) -> dict[str, NDArray[np.generic]]:
    """Run a model once on the CPU, as it is, without optimisation.

    Raises:
        WrapError: ONNX Runtime refuses it or fails; `what` starts the message.
    """
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_BASIC
    try:
        session = onnxruntime.InferenceSession(
            model.SerializeToString(), options, providers=["CPUExecutionProvider"]
        )
        names = [output.name for output in session.get_outputs()]
        return dict(zip(names, session.run(names, feeds), strict=True))
    except Exception as error:  # its exceptions have no common base
        raise WrapError(f"{what}: {shortened(str(error), 400)}") from None


# --- Merging ---------------------------------------------------------------------------------


def renamed(graph: GraphProto, prefix: str, given: dict[str, str]) -> GraphProto:
    """A copy of a graph whose names start with a prefix, also in graphs inside.

    Args:
        graph: The graph.
        prefix: Start of every name.
        given: Names that become others instead.
    """
    result = GraphProto()
    result.CopyFrom(graph)
    _rename(result, prefix, given)
    return result


def _rename(graph: GraphProto, prefix: str, given: dict[str, str]) -> None:
    def new(name: str) -> str:
        return given.get(name, f"{prefix}{name}") if name else name

    for value in (*graph.input, *graph.output, *graph.initializer):
        value.name = new(value.name)
    for sparse in graph.sparse_initializer:
        sparse.values.name = new(sparse.values.name)
    for number, node in enumerate(graph.node):
        node.name = f"{prefix}{node.name or f'unnamed/{node.op_type}_{number}'}"
        for names in (node.input, node.output):
            changed = [new(name) for name in names]
            del names[:]
            names.extend(changed)
        for inside in _subgraphs(node):
            _rename(inside, prefix, given)


def remove_unused(graph: GraphProto) -> None:
    """Remove what no output of a graph needs, such as further heads of a network.

    TensorRT reads all nodes, and may refuse them.
    """
    wanted = {value.name for value in graph.output}
    for number, node in reversed(list(enumerate(graph.node))):
        if wanted & set(node.output):
            wanted.update(_taken(node))
        else:
            del graph.node[number]
    for tensors in (graph.initializer, graph.sparse_initializer):
        for number, tensor in reversed(list(enumerate(tensors))):
            if getattr(tensor, "values", tensor).name not in wanted:
                del tensors[number]


def _taken(node: NodeProto) -> Iterator[str]:
    """Yield the names that a node and the graphs inside take."""
    yield from node.input
    for inside in _subgraphs(node):
        yield from (value.name for value in inside.output)
        for each in inside.node:
            yield from _taken(each)


def takes_float(graph: GraphProto, name: str) -> bool:
    """Whether an integer tensor is only moved and then cast, so that it could be float.

    TensorRT has uint8 at the inputs and outputs of a graph alone.
    """
    users = [node for node in graph.node if name in node.input]
    inside = {
        n for node in graph.node for g in _subgraphs(node) for m in _nodes(g) for n in m.input
    }
    if name in inside or name in {value.name for value in graph.output}:
        return False
    return bool(users) and all(
        node.op_type == "Cast"
        or (
            node.op_type in _MOVES
            and node.input[0] == name
            and name not in node.input[1:]
            and takes_float(graph, node.output[0])
        )
        for node in users
    )


def before_casts(graph: GraphProto, name: str) -> str:
    """The result of ArgMax, int64, that an output is a cast of, or else the output itself.

    Only casts between integers are passed, and a last one from integers to floats: any other may
    change the values.
    """
    made = {output: node for node in graph.node for output in node.output}
    source, target = name, None
    while (node := made.get(source)) is not None and node.op_type == "Cast":
        (to,) = (a.i for a in node.attribute if a.name == "to")
        kind = helper.tensor_dtype_to_np_dtype(to).kind
        if kind not in ("iuf" if target is None else "iu"):
            return name
        source, target = node.input[0], kind
    return source if node is not None and node.op_type == "ArgMax" else name


# --- Facts -----------------------------------------------------------------------------------


def precision(model: ModelProto) -> str:
    """`int8`, `fp16` or `fp32`: how most of the weights are computed with."""
    kinds = Counter(node.op_type for node in _nodes(model.graph))
    if any("Linear" in kind and kind.startswith(("Quantize", "QLinear")) for kind in kinds) or (
        kinds["ConvInteger"] or kinds["MatMulInteger"]
    ):
        return "int8"
    weights = {tensor.name: tensor for tensor in model.graph.initializer}
    made = {output: node for node in model.graph.node for output in node.output}
    sizes: Counter[int] = Counter()
    for node in _nodes(model.graph):
        if node.op_type in ("Conv", "ConvTranspose", "Gemm", "MatMul"):
            for name in node.input[:2]:
                if name in weights:
                    sizes[weights[name].data_type] += int(np.prod(weights[name].dims))
                elif name in made and made[name].op_type == "Constant":
                    tensor = made[name].attribute[0].t
                    sizes[tensor.data_type] += int(np.prod(tensor.dims))
    return "fp16" if sizes and sizes.most_common(1)[0][0] == TensorProto.FLOAT16 else "fp32"


def parameters(model: ModelProto) -> int:
    """The number of weights."""
    tensors = list(model.graph.initializer)
    tensors += _attributes(model)
    kinds = (*_FLOATS, TensorProto.INT8, TensorProto.UINT8)
    return int(sum(np.prod(t.dims, dtype=np.int64) for t in tensors if t.data_type in kinds))
