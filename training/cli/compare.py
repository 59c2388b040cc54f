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

"""`python -m training compare`: train variants on the same budget and put them in a table.

A comparison is a YAML of `config` (what all runs share, relative to it), `overrides` of that by
dotted keys, `runs` (name -> further overrides) and, if wanted, `sum` (runs whose parameters,
operations and time are added up in a column: two single-task networks against one joint one).
What has been trained is kept: a comparison that was stopped goes on where it was.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from rich.console import Console

from ..data.sources import parse_yaml
from ..evaluation.compare import added_up, measure, override, read, train
from ..evaluation.evaluate import markdown, table


def main(arguments: list[str]) -> None:
    """Run a comparison and print its table."""
    parser = argparse.ArgumentParser(prog="python -m training compare", description=__doc__)
    parser.add_argument("--config", type=Path, required=True, help="the comparison's YAML")
    parser.add_argument("--folder", type=Path, help="default: runs/compare/NAME_OF_THE_YAML")
    parser.add_argument(
        "--set",
        nargs="+",
        default=[],
        metavar="KEY=VALUE",
        help="more overrides for all runs, e.g. data.folders.camvid=PATH",
    )
    parser.add_argument("--count", type=int, default=100, help="generated test samples")
    shape = parser.add_mutually_exclusive_group()
    shape.add_argument("--json", action="store_true", help="print JSON instead of a table")
    shape.add_argument("--markdown", action="store_true", help="print a Markdown table")
    options = parser.parse_args(arguments)
    if options.count < 1:
        parser.error("--count: at least 1")
    more = {}
    for text in options.set:
        key, equals, value = text.partition("=")
        if not equals:
            parser.error(f"--set {text}: expected KEY=VALUE")
        more[key] = parse_yaml(value)
    comparison = read(options.config)
    folder = options.folder or Path("runs/compare") / options.config.stem
    checkpoints = {
        name: train(override(comparison["config"], {**comparison["overrides"], **more, **own}),
                    folder / name.replace(" ", "_"))
        for name, own in comparison["runs"].items()
    }  # fmt: skip
    results = measure(checkpoints, folder, options.count)
    if comparison["sum"]:
        results["+".join(comparison["sum"])] = added_up([results[n] for n in comparison["sum"]])
    if options.json:
        print(json.dumps(results, indent=2))
    elif options.markdown:
        print(markdown(results))
    else:
        Console().print(table(results))
