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

"""`python -m training export`: write the model file of a checkpoint."""

from __future__ import annotations

import argparse
import dataclasses
import json
from pathlib import Path

from depthseg_ros import model_card

from ..errors import TrainingError, check_output
from ..export.model_file import export, to_onnx
from .arguments import DATA, positive


def main(arguments: list[str]) -> None:
    """`python -m training export`."""
    parser = argparse.ArgumentParser(
        prog="python -m training export", description="Write the model file of a checkpoint."
    )
    parser.add_argument("--checkpoint", type=Path, required=True, help="a .ckpt of training")
    parser.add_argument("--output", type=Path, required=True, help="the .onnx to write")
    parser.add_argument("--metrics", type=Path, help="output of 'evaluate --json' for the card")
    parser.add_argument(
        "--precision",
        choices=model_card.PRECISIONS,
        default="fp32",
        help="precision of the computation; int8 needs --data",
    )
    parser.add_argument(
        "--with-int8",
        action="store_true",
        help="also write OUTPUT-int8.onnx, which depthseg uses on a CPU if it is faster;"
        " needs --data",
    )
    parser.add_argument(
        "--for",
        dest="target",
        choices=("cpu", "tensorrt"),
        default="cpu",
        help="what will run an int8 file (default: cpu)",
    )
    parser.add_argument(
        "--data",
        **DATA,
        default=[],
        help="data sets for calibration: the val split for the confidence of labels and depth, the"
        " train split for int8",
    )
    parser.add_argument(
        "--count", type=positive, default=100, help="images of each data set (default: %(default)s)"
    )
    options = parser.parse_args(arguments)
    if options.precision == "int8" and not options.data:
        parser.error("--precision int8 needs --data: the ranges of activations are measured on it")
    if options.with_int8 and (options.precision != "fp32" or not options.data):
        parser.error("--with-int8 needs --data, and --precision fp32: it writes two files")
    if options.target != "cpu" and options.precision != "int8":
        parser.error("--for tensorrt is about int8; fp32 and fp16 files run everywhere")

    check_output(options.output)
    from ..data.sources import Source, open_source, parse
    from ..engine.checkpoints import load_checkpoint
    from ..evaluation.spread import spread
    from ..evaluation.temperature import temperature
    from ..export.quantization import quantize, quantize_beside

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
    shares = (1.0, 1.0)
    if card.depth_confidence and options.data:
        shares = spread(task.served, opened("val"))
    if options.precision == "int8":
        quantize(
            to_onnx(task.system, card, scale, shares),
            card,
            opened("train"),
            options.output,
            options.target,
        )
    else:
        export(task.system, card, options.output, scale, shares)
    if options.with_int8:
        quantize_beside(options.output, opened("train"))


def read_metrics(path: Path) -> dict[str, float]:
    """Read the JSON of `evaluate` for the card: `DATA/MEASURE` -> value, four decimals."""
    try:
        results = json.loads(path.read_text())
        metrics = {f"{d}/{m}": v for d, r in results.items() for m, v in r.items()}
        return {name: round(float(value), 4) for name, value in metrics.items()}
    except (OSError, ValueError, AttributeError, TypeError):
        raise TrainingError(
            f"{path} is not what 'evaluate --json' prints, which is"
            ' {"DATA": {"MEASURE": NUMBER, ...}, ...}'
        ) from None
