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

"""Export a trained network as a model file; `docs/model_file.md` describes the format."""

from __future__ import annotations

import copy
import logging
from pathlib import Path

import onnx
import torch
from onnx import TensorProto, helper, numpy_helper
from torch import nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from depthseg_ros import model_card
from depthseg_ros.model_card import ModelCard

from ..engine.weights import folded_pairs
from ..models.base import System
from ..models.served import TRANSLATIONS, ServedModel
from ..models.vit import LowRank

OPSET = 18
# Opset 18 needs 8; ONNX Runtime 1.16, the oldest version that setup.py allows, reads up to 9.
IR_VERSION = 8


def export(
    system: System,
    card: ModelCard,
    path: Path,
    temperature: float = 1.0,
    spread: tuple[float, float] = (1.0, 1.0),
) -> None:
    """Write the model file of a trained system, in the card's precision, fp32 or fp16.

    A file in fp32 stores the weights as fp16 with casts to fp32, which halves its size. Runtimes
    fold the casts when they load it.
    """
    write(to_onnx(system, card, temperature, spread), card, path)


def write(model: onnx.ModelProto, card: ModelCard, path: Path) -> None:
    """Write a graph with its card, see `export`; the given graph does not change."""
    if card.precision == "fp32":
        model = copy.deepcopy(model)
        store_weights_as_half(model)
    onnx.checker.check_model(model)
    model_card.write(path, model, card)


def to_onnx(
    system: System,
    card: ModelCard,
    temperature: float = 1.0,
    spread: tuple[float, float] = (1.0, 1.0),
) -> onnx.ModelProto:
    """Convert a trained system to an ONNX graph, with weights in the card's precision."""
    served = prepare_for_export(system, card, temperature, spread)
    dynamic = {0: torch.export.Dim.DYNAMIC}
    image = {**dynamic, 1: torch.export.Dim.DYNAMIC, 2: torch.export.Dim.DYNAMIC}
    # A batch of 2, because the exporter assumes that a size of 1 is constant.
    width, height = card.network_size
    examples = {
        name: torch.full((2,), float(width))
        if name == "fx"
        else torch.zeros(2, height, width, 3, dtype=torch.uint8)
        for name in served.inputs
    }
    logging.getLogger("torch.onnx").setLevel(logging.ERROR)
    program = torch.onnx.export(
        served,
        tuple(examples.values()),
        dynamo=True,
        opset_version=OPSET,
        input_names=list(served.inputs),
        output_names=list(served.outputs),
        # One entry for the variadic argument of `forward`.
        dynamic_shapes=(tuple(dynamic if name == "fx" else image for name in examples),),
        custom_translation_table=TRANSLATIONS,
        verbose=False,
    )
    assert program is not None  # only without dynamo
    model = program.model_proto
    model.ir_version = IR_VERSION
    _name_axes(model)
    return model


def prepare_for_export(
    system: System,
    card: ModelCard,
    temperature: float = 1.0,
    spread: tuple[float, float] = (1.0, 1.0),
) -> ServedModel:
    """Build the module to export: batch norms folded, weights rounded to fp16."""
    served = ServedModel(fold_batch_norms(system), card, temperature, spread).eval()
    for parameter in served.parameters():
        parameter.data = parameter.data.half()
        if card.precision != "fp16":
            parameter.data = parameter.data.float()
    if card.precision == "fp16":
        served.half()
    return served


def fold_batch_norms(system: System) -> System:
    """Return a copy in evaluation mode with batch norms folded into the convolutions before them.

    Low-rank adapters are merged into their linear layers.
    """
    system = copy.deepcopy(system).eval()
    for convolution, norm, first, second in list(folded_pairs(system)):
        system.set_submodule(convolution, fuse_conv_bn_eval(first, second))
        system.set_submodule(norm, nn.Identity())
    adapters = [(n, m) for n, m in system.named_modules() if isinstance(m, LowRank)]
    for name, adapter in adapters:
        system.set_submodule(name, adapter.merged())
    return system


def store_weights_as_half(model: onnx.ModelProto) -> None:
    """Replace each float32 weight by a float16 weight and a Cast to float32."""
    casts = []
    for tensor in list(model.graph.initializer):
        if tensor.data_type != TensorProto.FLOAT or len(tensor.dims) < 2:
            continue
        half = numpy_helper.from_array(numpy_helper.to_array(tensor).astype("float16"))
        half.name = f"{tensor.name}.half"
        casts.append(helper.make_node("Cast", [half.name], [tensor.name], to=TensorProto.FLOAT))
        model.graph.initializer.remove(tensor)
        model.graph.initializer.append(half)
    nodes = [*casts, *model.graph.node]
    del model.graph.node[:]
    model.graph.node.extend(nodes)
    # The exporter's type information does not hold any more for tensors that are now computed.
    del model.graph.value_info[:]


def _name_axes(model: onnx.ModelProto) -> None:
    """Name the dynamic axes N, H and W, as in the documentation."""
    for value in (*model.graph.input, *model.graph.output):
        for axis, name in zip(value.type.tensor_type.shape.dim, "NHW", strict=False):
            axis.dim_param = name
