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

"""`python -m benchmarks.int8`: what a model's int8 file gains and loses against the one in fp32.

Speed is measured in turn on one image of noise, in every CPU runtime that is installed; accuracy as
`python -m training evaluate` does, on the data sets given.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
from collections.abc import Mapping
from functools import partial

import numpy as np

from benchmarks import run
from depthseg_ros import model_card
from depthseg_ros.backends import BackendError
from depthseg_ros.cli.speed import in_turn
from depthseg_ros.perception import Perception
from training.data.sources import GENERATED, open_source, parse
from training.evaluation.accuracy import evaluate, markdown

MEASURES = ("miou", "abs_rel", "delta1")
SIZES = ((640, 480), (640, 360))


def main(arguments: list[str] | None = None) -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.int8", description=__doc__)
    parser.add_argument("--model", default=model_card.DEFAULT, help="name (default: %(default)s)")
    parser.add_argument(
        "--data",
        nargs="*",
        default=[],
        metavar="NAME[=FOLDER]",
        help="data sets to measure accuracy on: their test split, or --split",
    )
    parser.add_argument("--split", default="test", help="of those in folders (default: test)")
    parser.add_argument(
        "--count", type=int, default=100, help="images of each at most (default: 100)"
    )
    parser.add_argument("--rounds", type=int, default=20, help="of speed (default: 20)")
    parser.add_argument("--json", action="store_true", help="print JSON instead of a table")
    options = parser.parse_args(arguments)
    if options.rounds < 1 or options.count < 1:
        parser.error("--count and --rounds: at least 1")
    results = speeds(options.model, options.rounds) | accuracy(
        options.model, options.data, options.split, options.count
    )
    if options.json:
        print(json.dumps(results, indent=2))
    else:
        print(markdown(columns(results)))


def speeds(model: str, rounds: int) -> dict[str, dict[str, float]]:
    """Milliseconds of both files, medians of rounds in turn, and how much faster int8 is."""
    results = {}
    for backend in ("onnxruntime", "openvino"):
        try:
            both = [Perception(model, backend, precision=p) for p in ("fp32", "int8")]
        except BackendError as error:
            print(error, file=sys.stderr)
            continue
        for width, height in SIZES:
            image = np.random.default_rng(0).integers(0, 256, (height, width, 3), np.uint8)
            background = image if both[0].card.needs_background else None
            runs = [partial(perception, image, float(width), background) for perception in both]
            times = in_turn(runs, rounds)
            fp32, int8 = (1e3 * statistics.median(own) for own in times)
            name = f"{backend}, {width} x {height} [ms]"
            results[name] = {"fp32": fp32, "int8": int8, "fp32 / int8": fp32 / int8}
    return results


def accuracy(model: str, data: list[str], split: str, count: int) -> dict[str, dict[str, float]]:
    """Figures of both files on the data sets, and their ratio."""
    fp32 = model_card.find_model(model)
    int8 = model_card.int8_beside(fp32)
    model_card.check_int8(int8, fp32)
    sources = {}
    for name, folder in parse(data).items():
        source = open_source(name, "test" if name in GENERATED else split, folder, count)
        sources[f"{name}-{source.split}"] = source
    measured = [
        {name: evaluation.compute() for name, evaluation in evaluate(path, sources).items()}
        for path in (fp32, int8)
    ]
    return {
        f"{name} {measure}": {
            "fp32": measured[0][name][measure],
            "int8": measured[1][name][measure],
            "fp32 / int8": measured[0][name][measure] / measured[1][name][measure],
        }
        for name in sources
        for measure in MEASURES
        if measure in measured[0][name]
    }


def columns(results: Mapping[str, Mapping[str, float]]) -> dict[str, dict[str, float]]:
    """The results with rows and columns exchanged, as tables have them."""
    names = dict.fromkeys(name for row in results.values() for name in row)
    return {name: {row: values[name] for row, values in results.items()} for name in names}


if __name__ == "__main__":
    sys.exit(run("int8", main))
