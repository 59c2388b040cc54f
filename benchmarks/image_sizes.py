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

"""`python -m benchmarks.image_sizes`: the time of `Perception` by the size of the image.

Each size with the image reduced before the graph, as CPUs do it, and with the whole image in the
graph, in turn.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.table import Table

from benchmarks import run
from depthseg_ros import model_card, street
from depthseg_ros.backends import BACKENDS
from depthseg_ros.cli.speed import in_turn
from depthseg_ros.memory import keep_memory
from depthseg_ros.perception import Perception

SIZES = ((640, 360), (640, 480), (1280, 720), (1920, 1080), (3840, 2160))


def main(arguments: list[str] | None = None) -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.image_sizes", description=__doc__)
    parser.add_argument("--model", type=Path, default=model_card.default_model())
    parser.add_argument("--backend", choices=BACKENDS, default="auto", help="what runs the model")
    parser.add_argument("--rounds", type=int, default=15, help="to measure (default: 15)")
    parser.add_argument("--json", action="store_true", help="print JSON instead of a table")
    options = parser.parse_args(arguments)
    keep_memory()  # as the node does
    if options.rounds < 1:
        parser.error("--rounds: at least 1")
    reduced = Perception(options.model, options.backend)
    whole = Perception(options.model, options.backend)
    if not reduced.card.reducible or reduced.backend.whole_images:
        raise ValueError(f"{options.model} on {reduced.backend.name} always gets whole images")
    whole.backend.whole_images = True
    both = {"reduced": reduced, "whole": whole}
    shots = {size: street.Street(3_000_000, *size).frame(0) for size in SIZES}
    runs = {
        (size, name): lambda p=perception, f=frame: p(f.image, f.intrinsics.fx)
        for size, frame in shots.items()
        for name, perception in both.items()
    }
    times = in_turn(list(runs.values()), options.rounds)
    ms = {key: 1e3 * statistics.median(own) for key, own in zip(runs, times, strict=True)}
    results = {}
    for size, frame in shots.items():
        one, other = (p(frame.image, frame.intrinsics.fx) for p in both.values())
        results[f"{size[0]} x {size[1]}"] = {
            "reduced [ms]": ms[size, "reduced"],
            "whole [ms]": ms[size, "whole"],
            "reduced, of 640 x 360": ms[size, "reduced"] / ms[SIZES[0], "reduced"],
            "whole, of 640 x 360": ms[size, "whole"] / ms[SIZES[0], "whole"],
            "equal labels [%]": 100 * float(np.mean(one.labels == other.labels)),
        }
    if options.json:
        print(json.dumps(results, indent=2))
        return
    table = Table("image", *next(iter(results.values())))
    for name, found in results.items():
        table.add_row(name, *(f"{value:.2f}" for value in found.values()))
    Console().print(table)


if __name__ == "__main__":
    sys.exit(run("image_sizes", main))
