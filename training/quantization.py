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

"""Model files that compute in 8 bits."""

from __future__ import annotations

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

from .sources import Source
from .transforms import Whole

QUANTIZED = ("Conv", "Add", "Concat", "Relu", "Resize")
"""Operators that run in 8 bits; what is around the network stays as it is."""

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
"""What an int8 file is made for -> options of `quantize_static`."""


def quantize(
    graph: onnx.ModelProto,
    card: ModelCard,
    sources: Sequence[Source],
    path: Path,
    target: str = "cpu",
) -> None:
    """Write a model file with weights and activations in 8 bits.

    Weights are signed, per channel, and use 7 of the 8 bits, since x86 without VNNI adds pairs of
    products in 16 bits, which more would overflow: whatever a file is made for, it computes the
    same everywhere. Activations have ranges as the pictures show them. For CPUs they are unsigned,
    what ONNX Runtime and OpenVINO run fastest; TensorRT wants them signed and symmetric, and all
    weights and biases in fp32.

    Args:
        graph: In fp32, see `export.graph`.
        card: Of the file.
        sources: Pictures to measure on; they should be of those that the network was trained on.
        path: The file to write.
        target: One of `TARGETS`.
    """
    for source in sources:
        source.render()
    with TemporaryDirectory() as folder:
        plain, prepared, quantized = (Path(folder) / f"{n}.onnx" for n in ("a", "b", "c"))
        onnx.save(graph, plain)
        quant_pre_process(plain, prepared, skip_symbolic_shape=True)
        quantize_static(
            prepared,
            quantized,
            _Pictures(card, sources),
            quant_format=QuantFormat.QDQ,
            op_types_to_quantize=list(QUANTIZED),
            per_channel=True,
            weight_type=QuantType.QInt8,
            reduce_range=True,
            **TARGETS[target],
        )
        model_card.write(path, onnx.load(quantized), card)


class _Pictures(CalibrationDataReader):
    """The sources' pictures, one after the other, as the graph takes them."""

    def __init__(self, card: ModelCard, sources: Sequence[Source]) -> None:
        self.feeds = self._feeds(card, sources)

    def get_next(self) -> dict[str, np.ndarray] | None:
        return next(self.feeds, None)

    @staticmethod
    def _feeds(card: ModelCard, sources: Sequence[Source]) -> Iterator[dict[str, np.ndarray]]:
        for source in sources:
            samples = Whole(source.samples, card, card.inputs)
            for index in track(range(len(samples)), f"measure {source.name}", transient=True):
                sample = samples[index]
                yield {name: sample[name].numpy()[None] for name in card.inputs}
