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

"""What each output of the node costs, beside the network, on one rendered street.

tools/env.sh python benchmarks/node/outputs.py

An output's time includes what it is the first to need: the scan's that of fitting the ground.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys

from rclpy.time import Time
from rich.console import Console
from rich.table import Table
from std_msgs.msg import Header

from depthseg_ros import model_card, street
from depthseg_ros.cli.speed import in_turn
from depthseg_ros.derived.scale import ScaleEstimate
from depthseg_ros.derived.stability import StableDepth
from depthseg_ros.imaging.geometry import RayCache
from depthseg_ros.memory import keep_memory
from depthseg_ros.node.outputs import OUTPUTS, FrameOutputs
from depthseg_ros.node.parameters import Settings
from depthseg_ros.node.tf import Transforms
from depthseg_ros.perception import Perception, View


def main() -> int:
    """Measure and print; returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=20, help="to measure (default: 20)")
    parser.add_argument("--json", action="store_true", help="print JSON instead of a table")
    options = parser.parse_args()
    if options.rounds < 1:
        parser.error("--rounds: at least 1")
    perception = Perception(model_card.default_model())
    frame = street.Street(0).frame(0)
    fx, header = frame.intrinsics.fx, Header(frame_id="camera_optical_frame")
    view = View(frame.image, fx)
    [prediction] = perception.batch([view], reduced=True)
    seen: list[FrameOutputs] = []
    kept, stable = RayCache(), StableDepth()
    keep_memory()  # as the node does

    def see() -> None:
        header.stamp = Time(nanoseconds=Time.from_msg(header.stamp).nanoseconds + 10**8).to_msg()
        seen[:] = [
            FrameOutputs(
                header,
                frame.image,
                prediction,
                perception.card,
                frame.intrinsics,
                None,
                Settings(),
                ScaleEstimate(),
                stable,
                kept,
                Transforms(),
            )
        ]

    runs = {"the network": lambda: perception.batch([view], reduced=True), "": see} | {
        name: lambda output=output: output.make(seen[0])
        for name, output in OUTPUTS.items()
        if output.given_by(perception.card)
    }
    times = in_turn(list(runs.values()), options.rounds)
    ms = {name: 1e3 * statistics.median(own) for name, own in zip(runs, times, strict=True)}
    del ms[""]
    results = {
        name: {"ms": value, "of_the_network": value / ms["the network"]}
        for name, value in ms.items()
    }
    if options.json:
        print(json.dumps(results, indent=2))
        return 0
    table = Table("640 x 480", "ms", "of the network [%]")
    for name, result in results.items():
        table.add_row(name, f"{result['ms']:.2f}", f"{100 * result['of_the_network']:.1f}")
    Console().print(table)
    return 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        sys.exit(130)
