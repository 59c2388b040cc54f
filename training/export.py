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

import argparse
import copy
import dataclasses
import json
import logging
from pathlib import Path

import onnx
import torch
from onnx import TensorProto, helper, numpy_helper
from torch import nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from depthseg_ros import model_card
from depthseg_ros.model_card import ModelCard

from .checkpoints import folded_pairs
from .errors import TrainingError, check_output
from .served import TRANSLATIONS, ServedModel

OPSET = 18
IR_VERSION = (
    8  # what opset 18 needs; ONNX Runtime 1.16, the oldest that setup.py allows, reads up to 9
)


def main(arguments: list[str]) -> None:
    """`python -m training export`."""
    parser = argparse.ArgumentParser(
        prog="python -m training export", description="Write a checkpoint's model file."
    )
    parser.add_argument("--checkpoint", type=Path, required=True, help="a .ckpt of training")
    parser.add_argument("--output", type=Path, required=True, help="the .onnx to write")
    parser.add_argument(
        "--metrics", type=Path, help="what 'evaluate --json' printed of it, for the card"
    )
    parser.add_argument(
        "--precision",
        choices=model_card.PRECISIONS,
        default="fp32",
        help="what the file computes in; int8 needs --data",
    )
    parser.add_argument(
        "--with-int8",
        action="store_true",
        help="beside OUTPUT.onnx in fp32 write OUTPUT-int8.onnx, which depthseg takes on a CPU"
        " where it is faster; needs --data",
    )
    parser.add_argument(
        "--for",
        dest="target",
        choices=("cpu", "tensorrt"),
        default="cpu",
        help="what runs an int8 file fastest (default: cpu)",
    )
    parser.add_argument(
        "--data",
        nargs="+",
        default=[],
        metavar="NAME[=FOLDER]",
        help="data sets to calibrate on: confidence on their val split, int8 on their train split",
    )
    parser.add_argument(
        "--count", type=int, default=100, help="pictures of each to calibrate on (default: 100)"
    )
    options = parser.parse_args(arguments)
    if options.count < 1:
        parser.error("--count: at least 1")
    if options.precision == "int8" and not options.data:
        parser.error("--precision int8 needs --data: the ranges of activations are measured on it")

    if options.with_int8 and (options.precision != "fp32" or not options.data):
        parser.error("--with-int8 needs --data, and --precision fp32: it writes two files")
    if options.target != "cpu" and options.precision != "int8":
        parser.error("--for tensorrt is about int8; fp32 and fp16 files run everywhere")

    check_output(options.output)
    from .calibration import temperature
    from .checkpoints import load_checkpoint
    from .quantization import quantize, quantize_beside
    from .sources import Source, open_source, parse

    task, provenance = load_checkpoint(options.checkpoint)
    metrics = {} if options.metrics is None else read_metrics(options.metrics)
    card = dataclasses.replace(
        task.card, **provenance, metrics=metrics, precision=options.precision
    )

    def opened(split: str) -> list[Source]:
        named = parse(options.data).items()
        return [open_source(name, split, folder, options.count) for name, folder in named]

    labelled = [source for source in opened("val") if source.classes is not None]
    scale = temperature(task.served, labelled) if card.classes and labelled else 1.0
    if options.precision == "int8":
        quantize(
            graph(task.system, card, scale), card, opened("train"), options.output, options.target
        )
    else:
        export(task.system, card, options.output, scale)
    if options.with_int8:
        quantize_beside(options.output, opened("train"))


def read_metrics(path: Path) -> dict[str, float]:
    """Read the JSON of `evaluate` as the card has it: `DATA/MEASURE` -> value, four digits."""
    try:
        results = json.loads(path.read_text())
        metrics = {f"{d}/{m}": v for d, r in results.items() for m, v in r.items()}
        return {name: round(float(value), 4) for name, value in metrics.items()}
    except (OSError, ValueError, AttributeError, TypeError):
        raise TrainingError(
            f"{path} is not what 'evaluate --json' prints, which is"
            ' {"DATA": {"MEASURE": NUMBER, ...}, ...}'
        ) from None


def export(system: nn.Module, card: ModelCard, path: Path, temperature: float = 1.0) -> None:
    """Write the model file of a trained system, in fp32 or fp16 as its card says.

    Weights are stored as fp16 and computed with in fp32, which halves the file: whoever runs it
    folds the casts away when loading.
    """
    write(graph(system, card, temperature), card, path)


def write(model: onnx.ModelProto, card: ModelCard, path: Path) -> None:
    """Write a graph with its card, see `export`; the graph itself stays as it is."""
    if card.precision == "fp32":
        model = copy.deepcopy(model)
        store_weights_as_half(model)
    onnx.checker.check_model(model)
    model_card.write(path, model, card)


def graph(system: nn.Module, card: ModelCard, temperature: float = 1.0) -> onnx.ModelProto:
    """The graph of a trained system, with its weights as they are computed with."""
    served = rounded(system, card, temperature)
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
    model = program.model_proto
    model.ir_version = IR_VERSION
    _name_axes(model)
    return model


def rounded(system: nn.Module, card: ModelCard, temperature: float = 1.0) -> ServedModel:
    """The graph of the file, with batch norms folded and weights rounded to what is stored."""
    served = ServedModel(fold_batch_norms(system), card, temperature).eval()
    for parameter in served.parameters():
        parameter.data = parameter.data.half()
        if card.precision != "fp16":
            parameter.data = parameter.data.float()
    if card.precision == "fp16":
        served.half()
    return served


def fold_batch_norms(system: nn.Module) -> nn.Module:
    """A copy, set to evaluate, with each batch norm that follows a convolution folded into it."""
    system = copy.deepcopy(system).eval()
    for convolution, norm in list(folded_pairs(system)):
        first, second = system.get_submodule(convolution), system.get_submodule(norm)
        system.set_submodule(convolution, fuse_conv_bn_eval(first, second))  # type: ignore[type-var]
        system.set_submodule(norm, nn.Identity())
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
