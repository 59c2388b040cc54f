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

"""`python -m benchmarks.planners`: what planners get of the default model, against the truth.

On rendered streets that no training has seen: the ground plane that is fitted to the network's
labels and depth, and its scan of obstacles, both against those of the true labels and depth.
"""

from __future__ import annotations

import argparse
import json
import math
import sys

import cv2
import numpy as np
from rich.console import Console
from rich.progress import track
from rich.table import Table

from benchmarks import run
from depthseg_ros import model_card, street
from depthseg_ros.derived.ground import Ground, fit_ground
from depthseg_ros.derived.scan import obstacle_scan
from depthseg_ros.imaging.geometry import rays
from depthseg_ros.perception import Perception, View
from training.data.synthetic.rendered import FIRST_SEED

COLUMNS = 320
"""At which ground and scan are computed, as the node does it."""
HEIGHTS = (0.2, 2.5)
"""Of obstacles above the ground, metres: the node's default."""
NEAR = 20.0
"""Metres within which obstacles count here."""


def main(arguments: list[str] | None = None) -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.planners", description=__doc__)
    parser.add_argument("--count", type=int, default=50, help="streets (default: 50)")
    parser.add_argument("--json", action="store_true", help="print JSON instead of a table")
    options = parser.parse_args(arguments)
    if options.count < 1:
        parser.error("--count: at least 1")
    perception = Perception(model_card.default_model())
    classes = perception.card.classes
    obstacles = [c.id for c in classes if "obstacle" in c.flags]
    flat = [c.id for c in classes if not {"obstacle", "sky"} & set(c.flags)]
    errors: dict[str, list[float]] = {
        name: [] for name in ("height, %", "pitch, degrees", "roll, degrees", "range, %")
    }
    missed = invented = seen = free = unfitted = 0
    for seed in track(range(options.count), "streets", transient=True, disable=options.json):
        frame = street.Street(FIRST_SEED["test"] + seed).frame(0)
        [said] = perception.batch([View(frame.image, frame.intrinsics.fx)], reduced=True)
        rows, columns = said.labels.shape
        size = COLUMNS, round(rows * COLUMNS / columns)
        view = rays(frame.intrinsics.scaled(*size))
        labels, depth, true_labels, true_depth = (
            cv2.resize(array, size, interpolation=cv2.INTER_NEAREST_EXACT)
            for array in (said.labels, said.depth, frame.labels, frame.depth)
        )
        turn = frame.pose[:3, :3]  # camera to world, whose y points down and is 0 on the ground
        truth = Ground(tuple((turn.T @ (0.0, -1.0, 0.0)).tolist()), float(-frame.pose[1, 3]))
        fitted = fit_ground(view, depth, np.isin(labels, flat))
        if fitted is None:
            unfitted += 1
            continue
        ground, _ = fitted
        errors["height, %"].append(100 * abs(ground.height / truth.height - 1))
        errors["pitch, degrees"].append(math.degrees(abs(ground.pitch - truth.pitch)))
        errors["roll, degrees"].append(math.degrees(abs(ground.roll - truth.roll)))
        reach = perception.card.depth.max
        ours, true = (
            obstacle_scan(view, d, np.isin(ids, obstacles), g, HEIGHTS, reach).ranges
            for d, ids, g in (
                (depth, labels, ground),
                (true_depth, true_labels, truth),
            )
        )
        both = (true < NEAR) & np.isfinite(ours)
        errors["range, %"] += (100 * np.abs(ours[both] / true[both] - 1)).tolist()
        seen += int((true < NEAR).sum())
        missed += int(((true < NEAR) & (ours > 1.5 * true)).sum())
        free += int((true >= NEAR).sum())
        invented += int(((true >= NEAR) & (ours < NEAR / 1.5)).sum())
    results: dict[str, dict[str, float]] = {
        name: {"median": float(np.median(e)), "p90": float(np.percentile(e, 90))}
        for name, e in errors.items()
    }
    shares = {
        "streets without a ground, %": 100 * unfitted / options.count,
        f"bearings with an obstacle within {NEAR:.0f} m, missed, %": 100 * missed / max(seen, 1),
        f"bearings free up to {NEAR:.0f} m, blocked, %": 100 * invented / max(free, 1),
    }
    if options.json:
        print(json.dumps({"errors": results, "shares": shares}, indent=2))
        return
    table = Table(f"{options.count} streets", "median", "90th percentile")
    for name, result in results.items():
        table.add_row(name, f"{result['median']:.2f}", f"{result['p90']:.2f}")
    for name, share in shares.items():
        table.add_row(name, f"{share:.1f}", "")
    Console().print(table)


if __name__ == "__main__":
    sys.exit(run("planners", main))
