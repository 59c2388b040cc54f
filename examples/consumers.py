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

"""Draw what planners compute from the node's topics, for one rendered street.

tools/env.sh python examples/consumers.py consumers.jpg

The rules are those of Nav2's layer with config/nav2_costmap.yaml, depthimage_to_laserscan, RTAB-Map
and octomap_server, see docs/planners.md. The packages themselves do not run.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import cv2
import numpy as np
import yaml

from depthseg_ros import model_card, street
from depthseg_ros.derived.ground import fit_ground
from depthseg_ros.derived.masks import cut_out
from depthseg_ros.derived.scan import obstacle_scan
from depthseg_ros.files import whole
from depthseg_ros.imaging import rendering
from depthseg_ros.imaging.geometry import rays, sample
from depthseg_ros.perception import Perception

SIZE = 480
SEED, STEP = 0, 2
CONFIG = Path(__file__).parents[1] / "config" / "nav2_costmap.yaml"


def tiles(points: np.ndarray, values: np.ndarray, side: float, reach: float) -> np.ndarray:
    """Maximum value per tile in a view from above; the camera is at the bottom, NaN is unknown."""
    count = round(reach / side)
    known = np.isfinite(points).all(axis=1)
    across = np.floor(points[known, 0] / side).astype(int) + count // 2
    ahead = np.floor(points[known, 2] / side).astype(int)
    inside = (across >= 0) & (across < count) & (ahead >= 0) & (ahead < count)
    grid = np.full((count, count), -np.inf)
    np.maximum.at(grid, (count - 1 - ahead[inside], across[inside]), values[known][inside])
    return np.where(np.isfinite(grid), grid, np.nan)


def colored(grid: np.ndarray, low: float, high: float) -> np.ndarray:
    """Draw a grid in colours, (SIZE, SIZE, 3) RGB; unknown tiles are dark."""
    level = 255 * (np.nan_to_num(grid) - low) / (high - low)
    colors = cv2.applyColorMap(level.clip(0, 255).astype(np.uint8), cv2.COLORMAP_TURBO)
    colors[np.isnan(grid)] = 24
    large = cv2.resize(colors, (SIZE, SIZE), interpolation=cv2.INTER_NEAREST)
    return cv2.cvtColor(large, cv2.COLOR_BGR2RGB)


def ends(bearings: np.ndarray, ranges: np.ndarray) -> np.ndarray:
    """End points of beams with a finite range, (n, 2) metres to the right and ahead."""
    finite = np.isfinite(ranges)
    directions = np.stack([-np.sin(bearings), np.cos(bearings)], axis=1)[finite]
    return np.asarray(directions * ranges[finite, None], np.float32)


def draw() -> np.ndarray:
    """Draw the results of the four packages side by side, RGB."""
    perception = Perception(model_card.default_model())
    classes = perception.card.classes
    frame = street.Street(SEED).frame(0)
    output = perception(frame.image, frame.intrinsics.fx)
    grid = sample(480, STEP), sample(640, STEP)
    view, depth, labels = rays(frame.intrinsics, STEP), output.depth[grid], output.labels[grid]
    cloud = np.dstack([*(view * depth), depth]).reshape(-1, 3)
    distance = np.linalg.norm(cloud, axis=1)

    layer = yaml.safe_load(CONFIG.read_text())["/**"]["local_costmap"]["ros__parameters"]
    source = layer["semantic_segmentation_layer"]["camera"]
    cost = np.full(256, np.nan)
    for kind in source["class_types"]:
        for c in classes:
            if c.name in source[kind]["classes"]:
                cost[c.id] = source[kind]["max_cost"]
    costs, near = cost[labels].ravel(), cloud.copy()
    near[~(distance < 2 * source["max_obstacle_distance"]) | np.isnan(costs)] = np.nan
    nav2 = colored(tiles(near, costs, layer["resolution"], 12.0), 0, 254)

    obstacles = [c.id for c in classes if "obstacle" in c.flags]
    flat = [c.id for c in classes if not {"obstacle", "sky"} & set(c.flags)]
    ground, _ = fit_ground(view, depth, np.isin(labels, flat))
    ours = obstacle_scan(view, depth, np.isin(labels, obstacles), ground, (0.2, 2.5), 20.0)
    bearings = ours.angle_min + ours.angle_increment * np.arange(len(ours.ranges))
    top = int(frame.intrinsics.cy - 10)
    rows, slope = output.depth[top : top + 20], rays(frame.intrinsics)[0][0]
    theirs = np.fmin.reduce(rows, axis=0) * np.hypot(1, slope)
    theirs[~(theirs < 20)] = np.nan
    both = rendering.from_above(
        cloud.astype(np.float32), rendering.color_table(classes)[labels].reshape(-1, 3) // 3,
        (SIZE, SIZE), 24.0, ends(bearings, ours.ranges),
    )  # fmt: skip
    for right, ahead in ends(-np.arctan(slope), theirs):
        at = round(SIZE / 2 + right * SIZE / 24), round(SIZE - ahead * SIZE / 24)
        cv2.circle(both, at, 2, (80, 220, 255), -1, cv2.LINE_AA)

    movable = [c.id for c in classes if "movable" in c.flags]
    cut = cut_out(output.depth, output.labels, movable)
    masked = np.where(np.isfinite(cut)[..., None], frame.image, frame.image // 4)
    rtabmap = cv2.resize(masked, (640, SIZE))

    kept = cloud.copy()
    kept[np.isin(labels, movable).ravel() | ~(distance < 16)] = np.nan
    octomap = colored(tiles(kept, ground.height - cloud[:, 1], 0.2, 16.0), 0, 4)
    titled = []
    for title, tile in {
        "Nav2's layer: cost, 12 m": nav2,
        "~/scan (red), depthimage_to_laserscan (blue)": both,
        "RTAB-Map: where cut depth leaves features": rtabmap,
        "octomap: height of voxels, 16 m, cut": octomap,
    }.items():
        strip = np.full((32, tile.shape[1], 3), 24, np.uint8)
        cv2.putText(
            strip, title, (8, 22), cv2.FONT_HERSHEY_DUPLEX, 0.58, (255,) * 3, 1, cv2.LINE_AA
        )
        titled.append(np.vstack([strip, tile]))
    return np.hstack(titled)


def main() -> int:
    """Draw and write the image; returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("output", type=Path, help="the .jpg or .png to write")
    options = parser.parse_args()
    if options.output.suffix not in (".jpg", ".png") or not options.output.parent.is_dir():
        parser.error(f"{options.output}: expected a .jpg or .png in a folder that exists")
    image = cv2.cvtColor(draw(), cv2.COLOR_RGB2BGR)
    try:
        with whole(options.output) as unfinished:
            unfinished.write_bytes(cv2.imencode(options.output.suffix, image)[1].tobytes())
    except OSError as error:
        print(f"consumers: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        sys.exit(130)
