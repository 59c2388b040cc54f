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

"""`python -m training evaluate`: accuracy of checkpoints and model files on data sets."""

from __future__ import annotations

import argparse
from pathlib import Path

from ..data.protocols import PROTOCOLS
from ..data.sources import GENERATED, open_source, parse, parse_yaml
from ..engine.metrics import Evaluation
from ..errors import TrainingError, check_output
from ..evaluation.accuracy import evaluate, protocols
from ..evaluation.temperature import draw as draw_reliability
from .arguments import DATA, add_format, positive, print_results


def main(arguments: list[str]) -> None:
    """Evaluate on each data set and print a table, Markdown or JSON."""
    parser = argparse.ArgumentParser(prog="python -m training evaluate", description=__doc__)
    parser.add_argument(
        "--checkpoint",
        type=Path,
        nargs="+",
        required=True,
        metavar="FILE",
        help="a .ckpt of training or an exported .onnx; several are shown side by side",
    )
    parser.add_argument(
        "--data",
        **DATA,
        required=True,
        help="data sets; 'streets' and 'composites' are generated with seeds for testing",
    )
    parser.add_argument(
        "--split", default="val", help="split of data sets in folders (default: val)"
    )
    parser.add_argument(
        "--count", type=positive, default=100, help="samples to generate (default: 100)"
    )
    parser.add_argument(
        "--protocol",
        default="metric",
        choices=["metric", *PROTOCOLS],
        help="protocol for depth; default: metric, which is that of each data set",
    )
    parser.add_argument(
        "--options",
        default="{}",
        metavar="YAML",
        help="options of the readers, e.g. '{nyuv2: {classes: 13}}'",
    )
    parser.add_argument(
        "--reliability", type=Path, metavar="PNG", help="file for reliability diagrams"
    )
    add_format(parser)
    options = parser.parse_args(arguments)
    if options.reliability is not None:
        check_output(options.reliability)
    folders, readers = parse(options.data), parse_yaml(options.options)
    if not isinstance(readers, dict) or not all(isinstance(o, dict) for o in readers.values()):
        raise TrainingError(f"--options is {options.options}, expected {{NAME: {{OPTION: VALUE}}}}")
    if set(readers) - set(folders):
        raise TrainingError(f"--data does not name {', '.join(set(readers) - set(folders))}")
    sources = {}
    for name, folder in folders.items():
        generated = name in GENERATED
        split = "test" if generated else options.split
        count = options.count if generated else 0
        source = open_source(name, split, folder, count, readers.get(name))
        sources[f"{name}-{source.split}"] = source
    evaluations: dict[str, Evaluation] = {}
    for checkpoint in options.checkpoint:
        measured = evaluate(checkpoint, sources, options.protocol)
        several = len(options.checkpoint) > 1
        evaluations |= {f"{checkpoint}: {n}" if several else n: e for n, e in measured.items()}
    results = {name: evaluation.compute() for name, evaluation in evaluations.items()}
    print_results(results, options, protocols(evaluations))
    if options.reliability is not None:  # last: the results are printed in any case
        known = {n: e.calibration.table() for n, e in evaluations.items() if "ece" in results[n]}
        if not known:
            raise TrainingError("--reliability: no data set has labels, so there is no confidence")
        draw_reliability(
            options.reliability, {n: table.cpu().numpy() for n, table in known.items()}
        )
