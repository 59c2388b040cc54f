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

"""Write model files that compute in 8 bits (int8)."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import onnx
from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static
from onnxruntime.quantization.shape_inference import quant_pre_process
from rich.progress import track

from depthseg_ros import model_card
from depthseg_ros.model_card import ModelCard
from depthseg_ros.wrap.nodes import PREFIX

from ..data.sample import Sample, WrappedDataset
from ..data.sources import Source
from ..data.transforms import EvalDataset
from ..errors import TrainingError, check_output

QUANTIZED = ("Conv", "Add", "Concat", "Relu", "Clip", "Resize")
"""Operators that run in 8 bits. Relu and Clip (ReLU6) become part of the range of the convolution
before them. Pre- and postprocessing are not quantised."""

_CPU = {"activation_type": QuantType.QUInt8}
_TENSORRT = {
    "activation_type": QuantType.QInt8,
    # No zero points; biases in fp32; weights in fp32 before their own QuantizeLinear.
    "extra_options": {
        "ActivationSymmetric": True,
        "WeightSymmetric": True,
        "QuantizeBias": False,
        "AddQDQPairToWeight": True,
    },
}
TARGETS = {"cpu": _CPU, "tensorrt": _TENSORRT}
"""What runs the int8 file -> options of `quantize_static`."""


def quantize_beside(model: Path, sources: Sequence[Source]) -> Path:
    """Write the int8 file, for CPUs, of a model file in fp32.

    Args:
        model: The model file.
        sources: As for `quantize`.

    Returns:
        The int8 file, `model_card.int8_beside(model)`.

    Raises:
        ModelFileError: `model` is missing or wrong.
        TrainingError: It does not compute in fp32, or the int8 file cannot be written.
    """
    card, path = model_card.read(model), model_card.int8_beside(model)
    if card.precision != "fp32":
        raise TrainingError(f"{model} computes in {card.precision}, expected a file in fp32")
    check_output(path)
    card = dataclasses.replace(card, precision="int8")
    quantize(onnx.load(model), card, sources, path, fp32=model)
    return path


def quantize(
    graph: onnx.ModelProto,
    card: ModelCard,
    sources: Sequence[Source],
    path: Path,
    target: str = "cpu",
    fp32: Path | None = None,
) -> None:
    """Write a model file with weights and activations in 8 bits.

    Weights are signed, per channel, and use 7 of the 8 bits: x86 without VNNI adds pairs of
    products in 16 bits, which would overflow with 8 bits. So a file computes the same on every
    machine. The ranges of activations are measured on images. For CPUs activations are unsigned,
    which ONNX Runtime and OpenVINO run fastest. TensorRT needs them signed and symmetric, and all
    weights and biases in fp32.

    Args:
        graph: In fp32, see `model_file.to_onnx`.
        card: The int8 file's card.
        sources: Images to measure the ranges on, preferably training data of the network.
        path: The file to write.
        target: One of `TARGETS`.
        fp32: The model file of the same graph in fp32, to which the int8 file then refers.
    """
    for source in sources:
        source.render()
    with TemporaryDirectory() as folder:
        unprepared, prepared, quantized = (Path(folder) / f"{n}.onnx" for n in ("a", "b", "c"))
        onnx.save(graph, unprepared)
        quant_pre_process(unprepared, prepared, skip_symbolic_shape=True)
        quantize_static(
            prepared,
            quantized,
            _Images(card, sources),
            quant_format=QuantFormat.QDQ,
            op_types_to_quantize=list(QUANTIZED),
            nodes_to_exclude=_excluded(onnx.load(prepared).graph),
            per_channel=True,
            weight_type=QuantType.QInt8,
            reduce_range=True,
            **TARGETS[target],
        )
        result = onnx.load(quantized)
        # The quantizer adds operator sets that no node uses, in versions that ONNX Runtime 1.16
        # rejects.
        used = {"", *(node.domain for node in result.graph.node)}
        kept = [opset for opset in result.opset_import if opset.domain in used]
        del result.opset_import[:]
        result.opset_import.extend(kept)
        model_card.write(path, result, card, fp32)


def _excluded(graph: onnx.GraphProto) -> list[str]:
    """Names of the nodes that are not quantised.

    These are Resize nodes whose outputs no node in 8 bits reads, because rounding would not save
    anything, and nodes that `depthseg wrap` added: they compute sizes and exact grey levels.
    """
    taken = {name for node in graph.node if node.op_type in QUANTIZED for name in node.input}
    return [
        n.name
        for n in graph.node
        if n.name.startswith(PREFIX) or (n.op_type == "Resize" and not taken & {*n.output})
    ]


class _Unlabelled(WrappedDataset):
    """A data set without its labels, whose classes may differ from the model's."""

    def __getitem__(self, index: int) -> Sample:
        sample = self.samples[index]
        return Sample(sample.image, fx=sample.fx, views=sample.views)


class _Images(CalibrationDataReader):
    """The images of data sets as inputs of the graph."""

    def __init__(self, card: ModelCard, sources: Sequence[Source]) -> None:
        self.feeds = self._feeds(card, sources)

    def get_next(self) -> dict[str, np.ndarray] | None:
        return next(self.feeds, None)

    @staticmethod
    def _feeds(card: ModelCard, sources: Sequence[Source]) -> Iterator[dict[str, np.ndarray]]:
        for source in sources:
            samples = EvalDataset(_Unlabelled(source.samples), card, card.inputs)
            for index in track(range(len(samples)), f"measure {source.name}", transient=True):
                sample = samples[index]
                yield {name: sample[name].numpy()[None] for name in card.inputs}
