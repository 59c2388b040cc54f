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

"""`python -m training compare`: train variants with the same budget and compare them in a table.

A comparison is a YAML file with `config` (the configuration of all runs; its path is relative to
the file), `overrides` of it with dotted keys, `runs` (name -> further overrides) and optionally
`sum` (runs whose parameters, operations and time are added in a column, for example to compare two
single-task networks with a joint one). With several seeds, the table has means and standard
deviations, and each run's difference to the first run with its 95 % interval, over pairs with the
same seed, samples and order; `*` marks intervals without 0. The folder gets results.csv, results.md
and results.png. Finished runs are not repeated, so a comparison that was stopped can be resumed.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

from ..engine.pictures import save_figure
from ..evaluation.accuracy import markdown
from ..evaluation.comparison import added_up, costs, measure, override, read, train_all
from ..evaluation.seeds import cells, differences, figure, write_csv
from .arguments import add_format, add_settings, positive, print_results, read_settings


def main(arguments: list[str]) -> None:
    """Run a comparison and print its table."""
    parser = argparse.ArgumentParser(prog="python -m training compare", description=__doc__)
    parser.add_argument("--config", type=Path, required=True, help="the comparison's YAML")
    parser.add_argument("--folder", type=Path, help="default: runs/compare/NAME_OF_THE_YAML")
    parser.add_argument(
        "--seeds", type=positive, default=1, help="train each run with seeds 0, 1 ..."
    )
    parser.add_argument("--jobs", type=positive, default=1, help="trainings at a time")
    add_settings(parser, "more overrides for all runs, e.g. data.folders.camvid=PATH")
    parser.add_argument(
        "--count", type=positive, default=100, help="generated test samples (default: %(default)s)"
    )
    add_format(parser)
    options = parser.parse_args(arguments)
    more = read_settings(options.set)
    comparison = read(options.config)
    root = options.folder or Path("runs/compare") / options.config.stem
    folders = {
        name: [root / name.replace(" ", "_") / f"seed_{seed}" for seed in range(options.seeds)]
        for name in comparison["runs"]
    }
    shared = comparison["config"], {**comparison["overrides"], **more}
    train_all(
        {
            folder: override(shared[0], {**shared[1], **own, "seed_everything": seed})
            for name, own in comparison["runs"].items()
            for seed, folder in enumerate(folders[name])
        },
        options.jobs,
    )
    cost = costs({name: seeds[0] for name, seeds in folders.items()})
    results = {
        name: [measure(folder, options.count) | cost[name] for folder in seeds]
        for name, seeds in folders.items()
    }
    added = {}
    if comparison["sum"]:
        added["+".join(comparison["sum"])] = added_up([cost[name] for name in comparison["sum"]])
    if options.seeds == 1:
        print_results({name: seeds[0] for name, seeds in results.items()} | added, options)
        return
    table = cells(results)
    for name, total in added.items():
        table[name] = {measure: f"{value:.4g}" for measure, value in total.items()}
    write_csv(root / "results.csv", results)
    (root / "results.md").write_text(markdown(table) + "\n")
    save_figure(root / "results.png", figure(results, folders))
    reference = next(iter(results))
    numbers: dict[str, Any] = {
        f"{name} - {reference}": {m: d._asdict() for m, d in measures.items()}
        for name, measures in differences(results).items()
    }
    if options.json:
        print(json.dumps(results | numbers, indent=2))
    else:
        print_results(table, options)
