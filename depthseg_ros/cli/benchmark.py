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

"""`depthseg benchmark`: print how fast a model file's network runs."""

from __future__ import annotations

import argparse
import json

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from ..backends import BACKENDS, why_not


def run(options: argparse.Namespace) -> None:
    """Print how fast a model file's network runs."""
    from .speed import benchmark  # which needs more of onnx than reading a card does

    names = [options.backend]
    if options.backend == "all":
        names = [name for name in BACKENDS if name != "auto" and not why_not(name)]
    every = options.precision == "all"
    precisions = ("fp32", "int8") if every else (options.precision,)
    speeds = benchmark(
        options.model, options.size, names, options.threads, options.rounds, precisions
    )
    if options.json:
        known = [{k: v if v == v else None for k, v in vars(s).items()} for s in speeds]  # no NaN
        print(json.dumps(known, indent=2))
        return
    table = Table(
        "backend", "precision", "ms", "p95", "frames/s", "GFLOP/s", "% of matmul",
        *(["speed-up"] if every else []),
        title=escape(f"{options.model}: {speeds[0].gflop:.2f} GFLOP"),
        caption="% of matmul: GFLOP/s compared with this runtime's own fp32 matrix multiplication",
    )  # fmt: skip
    for number, s in enumerate(speeds):
        table.add_row(
            s.backend, s.precision, f"{s.ms:.1f}", f"{s.ms_p95:.1f}", f"{s.frames_per_second:.1f}",
            f"{s.gflops:.0f}",
            f"{100 * s.share_of_matmul:.0f}" if s.share_of_matmul == s.share_of_matmul else "",
            *([f"{speeds[number - number % 2].ms / s.ms:.2f}"] if every else []),
        )  # fmt: skip
    Console().print(table)
