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
from pathlib import Path

from ..evaluation.compare import added_up, measure, override, read, train
from .arguments import add_format, add_settings, positive, print_results, read_settings


def main(arguments: list[str]) -> None:
    """Run a comparison and print its table."""
    parser = argparse.ArgumentParser(prog="python -m training compare", description=__doc__)
    parser.add_argument("--config", type=Path, required=True, help="the comparison's YAML")
    parser.add_argument("--folder", type=Path, help="default: runs/compare/NAME_OF_THE_YAML")
    add_settings(parser, "more overrides for all runs, e.g. data.folders.camvid=PATH")
    parser.add_argument("--count", type=positive, default=100, help="generated test samples")
    add_format(parser)
    options = parser.parse_args(arguments)
    more = read_settings(options.set)
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
    print_results(results, options)
