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

"""`tools/env.sh python -m benchmarks.own_robot`: what a robot's own recordings are worth.

A camera that the default model does not know, near the ground, wide and with colours of its own,
drives along rendered streets. Its drives are recorded over DDS and given to
`python -m training own-robot`; the teacher is the default model itself, as it sees an image
mirrored, and the camera's mounting is known. No truth plays a part in the
training: the recordings' truth is only what both models are measured against afterwards, on the
time that was held out and on a drive along a street of which nothing was learned.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import subprocess
import sys
from contextlib import redirect_stdout
from pathlib import Path
from typing import Any

from ament_index_python.packages import get_package_prefix
from rich.console import Console

from benchmarks import run
from training.cli import own_robot
from training.cli.own_robot import STUDENT
from training.data.sources import open_source
from training.evaluation.accuracy import Results, evaluate, markdown, table

ROOT = Path(__file__).parents[1]
CAMERA: dict[str, Any] = {
    "fov": 1.75,
    "camera_height": 0.6,
    "camera_pitch": 0.05,
    "gains": [1.2, 1.0, 0.6],
    "gamma": 0.7,
}
FIRST_STREET = 900
"""Seeds of the recorded streets from here on: not those of training, of tests or of the demo."""

TRUTH = "--depth-topic /robot/truth/depth/image --labels-topic /robot/truth/label/image"
TOPICS = ("image", "camera_info", "truth/label/image", "truth/depth/image")


def main(arguments: list[str] | None = None) -> None:
    """Record what is not recorded yet, go the whole way and print."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.own_robot", description=__doc__)
    parser.add_argument("--folder", type=Path, default=Path("runs/own_robot_street"))
    parser.add_argument("--streets", type=int, default=24, help="recorded (default: 24)")
    parser.add_argument("--images", type=int, default=24, help="of each (default: 24)")
    parser.add_argument("--size", type=int, nargs=2, default=(640, 480), metavar=("W", "H"))
    parser.add_argument("--set", nargs="+", default=[], metavar="KEY=VALUE", help="of training")
    shape = parser.add_mutually_exclusive_group()
    shape.add_argument("--json", action="store_true", help="print JSON instead of a table")
    shape.add_argument("--markdown", action="store_true", help="print a Markdown table")
    options = parser.parse_args(arguments)
    if options.streets < 1 or options.images < 10:
        parser.error("expected --streets of 1 or more, --images of 10 or more")
    bags = [
        record(options.folder / "bags", FIRST_STREET + i, options.images, options.size)
        for i in range(options.streets + 1)
    ]
    other = options.folder / "other_street"
    bag_options = f"--every 0.1 --change 0 --neighbours 0 {TRUTH}"
    model = options.folder / "own_robot.onnx"
    with redirect_stdout(sys.stderr):  # the stages' output; here the table is the output
        own_robot.main(
            ["--bag", *map(str, bags[:-1]), "--output", str(model)]
            + ["--folder", str(options.folder / "run"), "--bag-options", bag_options]
            + ["--depth-teacher", str(STUDENT), "--segmentation-teacher", str(STUDENT)]
            + ["--camera-height", str(CAMERA["camera_height"])]
            + ["--camera-pitch", str(CAMERA["camera_pitch"])]
            + ["--label-options", "--scales 1"]  # its own size is what a model file sees anyway
            + (["--set", *options.set] if options.set else [])
        )
        own_robot.bag.main(["--input", str(bags[-1]), "--output", str(other), *bag_options.split()])
    spans = {
        "time held out": open_source("own_robot_truth", "val", options.folder / "run" / "dataset"),
        "another street": open_source("own_robot_truth", "all", other),
    }
    results: Results = {}
    for name, file in {"default model": STUDENT, "own model": model}.items():
        for span, evaluation in evaluate(file, spans).items():
            results[f"{name}, {span}"] = evaluation.compute()
    if options.json:
        print(json.dumps(results, indent=2))
    elif options.markdown:
        print(markdown(results))
    else:
        Console().print(table(results))


def record(folder: Path, seed: int, images: int, size: tuple[int, int]) -> Path:
    """Record a drive along a street over DDS, unless it is there; returns the bag."""
    bag = folder / str(seed)
    if (bag / "metadata.yaml").is_file():
        return bag
    folder.mkdir(parents=True, exist_ok=True)
    width, height = size
    parameters = {"seed": seed, "rate": 4.0, "width": width, "height": height, **CAMERA}
    camera = [f"{get_package_prefix('depthseg_ros')}/lib/depthseg_ros/camera_node"]
    camera += ["--ros-args", "-r", "__ns:=/robot"]
    for name, value in parameters.items():
        camera += ["-p", f"{name}:={value}"]
    recorder = [sys.executable, str(ROOT / "examples" / "record.py"), "--output", str(bag)]
    recorder += ["--count", str(images), "--topics", *(f"/robot/{topic}" for topic in TOPICS)]
    driving = subprocess.Popen(camera, stderr=subprocess.DEVNULL, start_new_session=True)
    try:
        subprocess.run(recorder, check=True, stdout=sys.stderr)
    except subprocess.CalledProcessError as error:
        raise RuntimeError(f"the recorder ended with {error.returncode}") from None
    finally:
        os.killpg(driving.pid, signal.SIGINT)
        driving.wait(30)
    return bag


if __name__ == "__main__":
    sys.exit(run("own_robot", main))
