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

"""`python -m benchmarks.cameras`: labels and depth by the image's shape and the camera's mounting.

Rendered streets, which no training has seen: the same ones through cameras of several image sizes,
and others from several heights, each with a pitch and a lens of its own. Beside the first stand
the frames of a folder of KITTI, if one is given. Depth that depends on shape or mounting is wrong
without a word: all rows should be alike. A wide image shows more of what is far away and hard, a
tall one more of what is near, so each shape is also compared with 640 x 480 where both see the
same part of the street.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.progress import track

from benchmarks import run
from depthseg_ros import model_card, street
from depthseg_ros.backends import BACKENDS
from depthseg_ros.cli.measures import Measures
from depthseg_ros.model_card import UNLABELLED
from depthseg_ros.perception import Perception
from training.data.synthetic.rendered import FIRST_SEED
from training.evaluation.accuracy import markdown

CONSOLE = Console(stderr=True)
HEIGHTS = (0.3, 0.6, 1.0, 1.4, 2.0)
"""Of the camera above the ground, metres."""
SIZES = ((640, 480), (640, 360), (1280, 720), (960, 480), (1242, 375), (480, 640))

Shot = tuple[NDArray[np.uint8], float, NDArray[np.uint8] | None, NDArray[np.float32]]
"""Image, focal length in pixels, labels and depth in metres (NaN where unknown)."""


def main(arguments: list[str] | None = None) -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.cameras", description=__doc__)
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

    def measured(size: tuple[int, int], part: float = 1.0) -> dict[str, float]:
        shots, name = streets(*size, options.count), f"{size[0]} x {size[1]}"
        tracked = track(shots, name, options.count, console=CONSOLE, transient=True)
        return measure(perception, tracked, part)

    results = {}
    for size in SIZES:
        name = f"{size[0]} x {size[1]}"
        own = results[name] = measured(size)
        first = next(iter(results.values()))
        own["abs-rel, ratio"] = own["abs-rel"] / first["abs-rel"]
        if (higher := size[1] / size[0] * SIZES[0][0] / SIZES[0][1]) != 1:
            both = measured(size, min(1, 1 / higher)), measured(SIZES[0], min(1, higher))
            own["same part: abs-rel, ratio"] = both[0]["abs-rel"] / both[1]["abs-rel"]
            own["same part: mIoU, difference"] = both[0]["mIoU"] - both[1]["mIoU"]
    if options.kitti:
        results[f"KITTI, {options.kitti.name}"] = measure(perception, kitti(options.kitti))
    mounted = {}
    for camera_height in HEIGHTS:
        name = f"{camera_height} m"
        shots = mountings(camera_height, options.count)
        mounted[name] = measure(
            perception, track(shots, name, options.count, console=CONSOLE, transient=True)
        )
    if options.json:
        print(json.dumps({"shapes": results, "mountings": mounted}, indent=2))
    else:
        print(markdown(results), markdown(mounted), sep="\n\n")


def measure(perception: Perception, shots: Iterable[Shot], part: float = 1.0) -> dict[str, float]:
    """Figures over images: mIoU, abs-rel (mean over images) and what its median pixel is off by.

    Args:
        perception: The model.
        shots: What it gets, and the truth.
        part: The share of an image's height, around its middle, that is compared.
    """
    measures, ratios = Measures(perception.card.depth), []
    by_class: dict[str, list[float]] = {"road": [], "car": []}
    ids = {c.name: c.id for c in perception.card.classes}
    for image, fx, labels, depth in shots:
        prediction = perception(image, fx)
        left_out = round((1 - part) / 2 * len(depth))
        depth[:left_out] = depth[len(depth) - left_out :] = np.nan
        if labels is not None and prediction.labels is not None:
            labels[:left_out] = labels[len(depth) - left_out :] = UNLABELLED
            measures.add_labels(prediction.labels, labels, prediction.confidence)
        measures.add_depth(prediction.depth, depth)
        known = np.isfinite(depth) & np.isfinite(prediction.depth)
        ratios.append(float(np.median(prediction.depth[known] / depth[known])))
        if labels is not None:
            for name, found in by_class.items():
                of_class = known & (labels == ids.get(name))
                if of_class.sum() >= 100:
                    found.append(float(np.median(prediction.depth[of_class] / depth[of_class])))
    errors = measures.depth
    result = {"abs-rel": errors.abs_rel, "median depth / truth - 1": float(np.mean(ratios)) - 1}
    for name, found in by_class.items():
        if found:
            result[f"the same, {name}"] = float(np.mean(found)) - 1
    return result | ({"mIoU": measures.miou} if labels is not None else {})


def streets(width: int, height: int, count: int) -> Iterator[Shot]:
    """Rendered streets of the seeds that are kept for testing."""
    for seed in range(FIRST_SEED["test"], FIRST_SEED["test"] + count):
        frame = street.Street(seed, width, height).frame(0)
        yield frame.image, frame.intrinsics.fx, frame.labels, frame.depth


def mountings(camera_height: float, count: int) -> Iterator[Shot]:
    """Streets from a height, 640 x 360, pitched 0 to 0.2 rad down, 0.8 to 1.7 rad wide."""
    for seed in range(FIRST_SEED["test"], FIRST_SEED["test"] + count):
        rng = np.random.default_rng(seed)
        camera = street.Camera(
            fov=rng.uniform(0.8, 1.7), height=camera_height, pitch=-rng.uniform(0, 0.2)
        )
        frame = street.Street(seed, 640, 360, camera).frame(0)
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
    sys.exit(run("cameras", main))
