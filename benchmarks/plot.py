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

"""`python -m benchmarks.plot RESULT.json ... --output FILE`: draws JSON of `node_latency`.

Left, where a frame's time goes at each picture size; right, of results with `--cameras`, frames a
second and memory of one node against as many nodes as cameras.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import sys
from pathlib import Path
from typing import Any

from matplotlib import pyplot as plt

from benchmarks import run
from training.engine.pictures import save_figure
from training.errors import TrainingError, check_output

STAGES = ("wait", "convert", "infer", "derive", "publish")
NEEDED = {"size", "stages_ms", "network_ms", "plain_overhead_ms"}


def main(arguments: list[str] | None = None) -> None:
    """Read, draw and save."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.plot", description=__doc__)
    parser.add_argument("results", type=Path, nargs="+", help="JSON of node_latency")
    parser.add_argument("--output", type=Path, required=True, help="picture to write")
    options = parser.parse_args(arguments)
    check_output(options.output)
    results = [result for path in options.results for result in read(path)]
    cameras = [result["cameras"] for result in results if "cameras" in result]
    cameras.sort(key=lambda result: result["count"])
    sizes: dict[str, dict[str, Any]] = {}
    for result in results:
        sizes.setdefault(result["size"], result)  # the first of each

    width = max(4.0, 1.3 * len(sizes))
    figure, axes = plt.subplots(
        1, 3, figsize=(8 + width, 3.6), layout="constrained", width_ratios=(width, 4, 4)
    )
    bottom = [0.0] * len(sizes)
    for stage in STAGES:
        values = [result["stages_ms"][stage] for result in sizes.values()]
        axes[0].bar(list(sizes), values, bottom=bottom, label=stage, width=0.6)
        bottom = [low + value for low, value in zip(bottom, values, strict=True)]
    plain = [r["network_ms"] + r["plain_overhead_ms"] for r in sizes.values()]
    axes[0].plot(list(sizes), plain, "k_", markersize=30, label="the plain way, all stages")
    room = 1.5 * max(plain)  # for the legend
    axes[0].set(ylabel="ms", title="A frame's time, by stage", ylim=(0, room))
    axes[0].legend(fontsize=8, ncols=2, loc="upper left", markerscale=0.5)
    counts = [result["count"] for result in cameras]
    for ax, name, title in (
        (axes[1], "frames_per_second", "frames/s, all cameras"),
        (axes[2], "pss_mb", "memory [MB]"),
    ):
        for which, label in (("one_node", "one node"), ("nodes", "a node each")):
            ax.plot(counts, [result[which][name] for result in cameras], "o-", label=label)
        ax.set(title=title, xlabel="cameras", xticks=counts, ylim=(0, None))
        ax.legend(fontsize=8)
    save_figure(options.output, figure)


def read(path: Path) -> list[dict[str, Any]]:
    """What `node_latency --json` printed into a file: a result for each size.

    Raises:
        TrainingError: it is something else.
    """
    with contextlib.suppress(ValueError):  # no text, or no JSON
        results = json.loads(path.read_text())
        if isinstance(results, list) and all(
            isinstance(result, dict) and result.keys() >= NEEDED for result in results
        ):
            return results
    raise TrainingError(f"{path} is not what python -m benchmarks.node_latency --json prints")


if __name__ == "__main__":
    sys.exit(run("plot", main))
