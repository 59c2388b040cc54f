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

"""`python -m benchmarks.image_shapes`: labels and depth of a model file by the image's shape.

The same rendered streets, which no training has seen, through cameras of several image sizes, and
beside them the frames of a folder of KITTI, if one is given. Depth that depends on the shape of the
image is wrong without a word: every row should be as good as the first.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.progress import track

from benchmarks import run
from depthseg_ros import model_card, street
from depthseg_ros.backends import BACKENDS
from depthseg_ros.measures import Measures
from depthseg_ros.perception import Perception
from training.datasets.rendered import FIRST_SEED
from training.evaluate import markdown

CONSOLE = Console(stderr=True)
SIZES = ((640, 480), (640, 360), (1280, 720), (960, 480), (1242, 375), (480, 640))

Shot = tuple[NDArray[np.uint8], float, NDArray[np.uint8] | None, NDArray[np.float32]]
"""Image, focal length in pixels, labels and depth in metres (NaN where unknown)."""


def main(arguments: list[str] | None = None) -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.image_shapes", description=__doc__)
    parser.add_argument("--model", type=Path, default=model_card.default_model())
    parser.add_argument("--backend", choices=BACKENDS, default="auto", help="what runs the model")
    parser.add_argument("--count", type=int, default=30, help="streets (default: 30)")
    parser.add_argument(
        "--kitti",
        type=Path,
        metavar="FOLDER",
        help="frames NAME.jpg with NAME.depth.png (uint16 metres * 256) and camera-intrinsics.txt",
    )
    parser.add_argument("--json", action="store_true", help="print JSON instead of a table")
    options = parser.parse_args(arguments)
    if options.count < 1:
        parser.error("--count: at least 1")
    perception = Perception(options.model, options.backend)
    results = {}
    for width, height in SIZES:
        shots = streets(width, height, options.count)
        name = f"{width} x {height}"
        results[name] = measure(
            perception, track(shots, name, options.count, console=CONSOLE, transient=True)
        )
        # What counts is against the first row.
        results[name]["abs-rel, ratio"] = (
            results[name]["abs-rel"] / next(iter(results.values()))["abs-rel"]
        )
    if options.kitti:
        results[f"KITTI, {options.kitti.name}"] = measure(perception, kitti(options.kitti))
    if options.json:
        print(json.dumps(results, indent=2))
    else:
        print(markdown(results))


def measure(perception: Perception, shots: Iterator[Shot]) -> dict[str, float]:
    """Figures over images: mIoU, abs-rel (mean over images) and what its median pixel is off by."""
    measures, ratios = Measures(perception.card.depth), []
    for image, fx, labels, depth in shots:
        prediction = perception(image, fx)
        if labels is not None and prediction.labels is not None:
            measures.add_labels(prediction.labels, labels, prediction.confidence)
        measures.add_depth(prediction.depth, depth)
        known = np.isfinite(depth) & np.isfinite(prediction.depth)
        ratios.append(float(np.median(prediction.depth[known] / depth[known])))
    errors = measures.depth
    result = {"abs-rel": errors.abs_rel, "median depth / truth - 1": float(np.mean(ratios)) - 1}
    return result | ({"mIoU": measures.miou} if labels is not None else {})


def streets(width: int, height: int, count: int) -> Iterator[Shot]:
    """Rendered streets of the seeds that are kept for testing."""
    for seed in range(FIRST_SEED["test"], FIRST_SEED["test"] + count):
        frame = street.Street(seed, width, height).frame(0)
        yield frame.image, frame.intrinsics.fx, frame.labels, frame.depth


def kitti(folder: Path) -> Iterator[Shot]:
    """Frames with lidar; 1 to 60 m within the crop of Garg et al. (2016)."""
    fx = float(np.loadtxt(folder / "camera-intrinsics.txt")[0, 0])
    for path in sorted(folder.glob("*.jpg")):
        stored = cv2.imread(str(path.with_suffix(".depth.png")), cv2.IMREAD_UNCHANGED)
        depth = stored.astype(np.float32) / 256
        height, width = depth.shape
        inside = np.zeros(depth.shape, bool)
        rows = slice(int(0.40810811 * height), int(0.99189189 * height))
        inside[rows, int(0.03594771 * width) : int(0.96405229 * width)] = True
        depth[~inside | (depth < 1) | (depth > 60)] = np.nan
        yield cv2.imread(str(path))[..., ::-1], fx, None, depth


if __name__ == "__main__":
    sys.exit(run("image_shapes", main))
