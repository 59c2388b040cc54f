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

"""`depthseg benchmark`: the speed of a model file on this machine, compared with its peak.

Runtimes take turns, so that other load on the machine affects all of them: compare within a table.
"""

from __future__ import annotations

import math
import os
import statistics
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import onnx
import onnx.parser

from .. import model_card
from ..backends import Backend, open_backend
from ..perception import Perception

_MATRIX = 1024
_PRODUCT = """
<ir_version: 9, opset_import: ["" : 18]>
product (float[N, N] a, float[N, N] b) => (float[N, N] c) { c = MatMul (a, b) }
"""


@dataclass(frozen=True)
class Speed:
    """Speed of a runtime with a model file, including copies to and from the device."""

    backend: str
    """The runtime and its device."""
    precision: str
    """Precision of the file that ran."""
    ms: float
    """Median milliseconds per image."""
    ms_p95: float
    frames_per_second: float
    """From the median."""
    gflop: float
    """Per image: two for each multiplication of a convolution or matrix product, 1e9."""
    gflops: float
    """GFLOP per second, from the median."""
    share_of_matmul: float
    """Share of the GFLOP per second that the same runtime reaches in an fp32 matrix product of size
    1024; NaN for TensorRT, where this product is not measured."""


def benchmark(
    model: str | os.PathLike[str],
    size: tuple[int, int],
    backends: Sequence[str],
    threads: int = 0,
    rounds: int = 30,
    precisions: Sequence[str] = ("auto",),
) -> list[Speed]:
    """Measure a model file with images of one size, in several runtimes that take turns.

    Args:
        model: Path of the `.onnx` file, or a name, see `model_card.find_model`.
        size: Width and height of the images.
        backends: Names of `backends.BACKENDS`.
        threads: As for `backends.open_backend`.
        rounds: Measured runs of each; two warm-up runs come before them.
        precisions: Of `precision.PRECISIONS`; each backend runs each.

    Raises:
        ModelFileError: The file is missing or wrong.
        BackendError: A backend is missing or fails.
    """
    width, height = size
    image = np.random.default_rng(0).integers(0, 256, (height, width, 3), np.uint8)
    with tempfile.TemporaryDirectory() as folder:
        product = Path(folder, "product.onnx")
        onnx.save(onnx.parser.parse_model(_PRODUCT), product)
        pairs = [(backend, precision) for backend in backends for precision in precisions]
        perceptions = [
            Perception(model, backend, threads=threads, precision=precision)
            for backend, precision in pairs
        ]
        products = [
            None if _is_tensorrt(of) else open_backend(product, backend, threads=threads)
            for (backend, _), of in zip(pairs, perceptions, strict=True)
        ]
    background = image if perceptions[0].card.needs_background else None
    work = gflop(model_card.find_model(model), size)
    times = in_turn(
        [partial(p, image, float(width), background) for p in perceptions]
        + [partial(_multiply, p) for p in products],
        rounds,
    )
    speeds = []
    for perception, of_model, of_product in zip(
        perceptions, times, times[len(perceptions) :], strict=False
    ):
        seconds = statistics.median(of_model)
        peak = 2e-9 * _MATRIX**3 / statistics.median(of_product)
        if _is_tensorrt(perception):
            peak = math.nan
        speeds.append(
            Speed(
                perception.backend.name,
                perception.card.precision,
                1e3 * seconds,
                1e3 * float(np.percentile(of_model, 95)),
                1 / seconds,
                work,
                work / seconds,
                work / seconds / peak,
            )
        )
    return speeds


def _is_tensorrt(perception: Perception) -> bool:
    """Whether its backend is TensorRT, which only runs model files."""
    return perception.backend.name.startswith("tensorrt")


def gflop(model: str | os.PathLike[str], size: tuple[int, int]) -> float:
    """The operations of a model file's convolutions and matrix products for one image, 1e9.

    A multiplication and its addition count as two, as usual. NaN if shapes are unknown.
    """
    graph = onnx.load(os.fspath(model))
    for value in graph.graph.input:
        for dim, length in zip(value.type.tensor_type.shape.dim, (1, *size[::-1], 3), strict=False):
            dim.dim_value = length
    graph = onnx.shape_inference.infer_shapes(_folded(graph), data_prop=True)
    shapes = {
        value.name: [dim.dim_value for dim in value.type.tensor_type.shape.dim]
        for value in (*graph.graph.value_info, *graph.graph.input, *graph.graph.output)
    } | {weight.name: list(weight.dims) for weight in graph.graph.initializer}
    try:
        return 2e-9 * sum(_multiplications(node, shapes) for node in graph.graph.node)
    except KeyError:
        return math.nan


def _folded(graph: onnx.ModelProto) -> onnx.ModelProto:
    """Fold what depends only on the input's size, such as the network's size, into constants.

    Uses ONNX Runtime, because the shape inference of onnx does not compute floats. A graph that it
    does not accept is returned unchanged.
    """
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_BASIC
    options.log_severity_level = 3
    with tempfile.TemporaryDirectory() as folder:
        options.optimized_model_filepath = path = os.path.join(folder, "folded.onnx")
        try:
            onnxruntime.InferenceSession(
                graph.SerializeToString(), options, providers=["CPUExecutionProvider"]
            )
            return onnx.load(path)
        except Exception:  # ONNX Runtime has several kinds, none of them public
            return graph


def _multiplications(node: onnx.NodeProto, shapes: Mapping[str, Sequence[int]]) -> int:
    """Multiplications of one operator; raises `KeyError` if its shapes are unknown."""
    if node.op_type == "Conv":
        number = math.prod(shapes[node.output[0]]) * math.prod(shapes[node.input[1]][1:])
    elif node.op_type == "ConvTranspose":  # each input sample meets the kernel, not each output's
        number = math.prod(shapes[node.input[0]]) * math.prod(shapes[node.input[1]][1:])
    elif node.op_type == "MatMul":
        number = math.prod(shapes[node.output[0]]) * shapes[node.input[0]][-1]
    elif node.op_type == "Gemm":
        transposed = any(a.name == "transA" and a.i for a in node.attribute)
        number = math.prod(shapes[node.output[0]]) * shapes[node.input[0]][0 if transposed else 1]
    else:
        return 0
    if not number:  # an unknown length is 0
        raise KeyError(node.name)
    return number


def _multiply(backend: Backend | None) -> None:
    if backend is not None:
        backend.run({"a": _FACTOR, "b": _FACTOR})


_FACTOR = np.full((_MATRIX, _MATRIX), 0.5, np.float32)


def in_turn(runs: Sequence[Callable[[], object]], rounds: int) -> list[list[float]]:
    """Seconds of every round of each."""
    times: list[list[float]] = [[] for _ in runs]
    for number in range(rounds + 2):
        for run, own in zip(runs, times, strict=True):
            started = time.perf_counter()
            run()
            if number >= 2:
                own.append(time.perf_counter() - started)
    return times
