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

"""From a trained network to the model file, whose contract is in `docs/model_file.md`."""

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
IR_VERSION = (
    8  # what opset 18 needs; ONNX Runtime 1.16, the oldest that setup.py allows, reads up to 9
)


def export(
    system: System,
    card: ModelCard,
    path: Path,
    temperature: float = 1.0,
    spread: tuple[float, float] = (1.0, 1.0),
) -> None:
    """Write the model file of a trained system, in fp32 or fp16 as its card says.

    Weights are stored as fp16 and computed with in fp32, which halves the file: whoever runs it
    folds the casts away when loading.
    """
    write(graph(system, card, temperature, spread), card, path)


def write(model: onnx.ModelProto, card: ModelCard, path: Path) -> None:
    """Write a graph with its card, see `export`; the graph itself stays as it is."""
    if card.precision == "fp32":
        model = copy.deepcopy(model)
        store_weights_as_half(model)
    onnx.checker.check_model(model)
    model_card.write(path, model, card)


def graph(
    system: System,
    card: ModelCard,
    temperature: float = 1.0,
    spread: tuple[float, float] = (1.0, 1.0),
) -> onnx.ModelProto:
    """The graph of a trained system, with its weights as they are computed with."""
    served = rounded(system, card, temperature, spread)
    dynamic = {0: torch.export.Dim.DYNAMIC}
    picture = {**dynamic, 1: torch.export.Dim.DYNAMIC, 2: torch.export.Dim.DYNAMIC}
    # A batch of 2: the exporter takes an example of 1 for a constant.
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
        dynamic_shapes=(tuple(dynamic if name == "fx" else picture for name in examples),),
        custom_translation_table=TRANSLATIONS,
        verbose=False,
    )
    assert program is not None  # only without dynamo
    model = program.model_proto
    model.ir_version = IR_VERSION
    _name_axes(model)
    return model


def rounded(
    system: System,
    card: ModelCard,
    temperature: float = 1.0,
    spread: tuple[float, float] = (1.0, 1.0),
) -> ServedModel:
    """The graph of the file, with batch norms folded and weights rounded to what is stored."""
    served = ServedModel(fold_batch_norms(system), card, temperature, spread).eval()
    for parameter in served.parameters():
        parameter.data = parameter.data.half()
        if card.precision != "fp16":
            parameter.data = parameter.data.float()
    if card.precision == "fp16":
        served.half()
    return served


def fold_batch_norms(system: System) -> System:
    """A copy, set to evaluate, with each batch norm that follows a convolution folded into it.

    Low-rank adapters become part of their linear layers.
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
    """Turn each float32 weight into float16 and a Cast back to float32."""
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
    # Types that the exporter noted down of tensors that are computed now would only be in the way.
    del model.graph.value_info[:]


def _name_axes(model: onnx.ModelProto) -> None:
    """Call the free axes N, H and W, as the docs do."""
    for value in (*model.graph.input, *model.graph.output):
        for axis, name in zip(value.type.tensor_type.shape.dim, "NHW", strict=False):
            axis.dim_param = name
