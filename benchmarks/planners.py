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
labels and depth, and its scan of obstacles, both against those of the true labels and depth. With
--costmap: the obstacles that config/nav2_costmap.yaml puts into a costmap, of the model and of the
truth in its place, by the rules of Nav2's layers.
"""

from __future__ import annotations

import argparse
import json
import math
import sys
from pathlib import Path
from typing import Any, NamedTuple

import cv2
import numpy as np
import yaml
from numpy.typing import NDArray
from rich.console import Console
from rich.progress import track
from rich.table import Table

from benchmarks import run
from depthseg_ros import model_card, street
from depthseg_ros.derived.ground import Ground, fit_ground
from depthseg_ros.derived.scan import obstacle_scan
from depthseg_ros.derived.sharpening import sharpened
from depthseg_ros.imaging.geometry import rays, sample
from depthseg_ros.model_card import SemanticClass
from depthseg_ros.perception import Perception, View
from depthseg_ros.street.robot import OPTICAL, mounting
from training.data.synthetic.rendered import FIRST_SEED

COLUMNS = 320
"""At which ground and scan are computed, as the node does it."""
POINTS_STEP = 2
"""The node's `points_step`."""
HEIGHTS = (0.2, 2.5)
"""Of obstacles above the ground, metres: the node's default."""
NEAR = 20.0
"""Metres within which obstacles count here."""
MOUNTINGS = ((2.0, 0.2), (1.5, 0.0), (1.0, 0.1), (0.6, 0.1), (0.3, 0.0))
"""Height of the camera, metres, and pitch, rad, positive is down."""
LENS = 1.2
"""Horizontal field of view of the mounted cameras, rad."""
CERTAIN = 0.5
"""Of the parameter min_depth_confidence."""
CONFIG = Path(__file__).parents[1] / "config" / "nav2_costmap.yaml"
CELLS, MARGIN = 160, 2.0
"""Of a costmap's side; metres beyond its obstacles up to which the truth is known."""

Grid = NDArray[np.bool_]
"""(CELLS, CELLS), x forward and y left of the robot, which is in the middle."""


class Output(NamedTuple):
    """Labels, confidence and depth of the pixels of an image, (H, W)."""

    labels: NDArray[np.uint8]
    confidence: NDArray[np.uint8]
    depth: NDArray[np.float32]
    """Of the scan; its ground is fitted to it."""
    sharp: NDArray[np.float32]
    """Of the points."""
    certain: NDArray[np.bool_]
    """Where depth is confident enough."""


def main(arguments: list[str] | None = None) -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.planners", description=__doc__)
    parser.add_argument("--count", type=int, default=50, help="streets (default: 50)")
    parser.add_argument("--json", action="store_true", help="print JSON instead of a table")
    parser.add_argument("--costmap", action="store_true", help="measure costmaps instead")
    options = parser.parse_args(arguments)
    if options.count < 1:
        parser.error("--count: at least 1")
    perception = Perception(model_card.default_model())
    if options.costmap:
        shares = {
            f"{height:g} m, {pitch:g} rad": costmaps(perception, options, height, pitch)
            for height, pitch in MOUNTINGS
        }
        show_costmaps(shares, options)
        return
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


# --- Costmaps -----------------------------------------------------------------------------------


def costmaps(
    perception: Perception, options: argparse.Namespace, height: float, pitch: float
) -> dict[str, float]:
    """Shares of obstacle cells, and the depth error of obstacles, in percent, of a mounting.

    A true cell is covered if a lethal one is within the robot's radius: it then does not drive
    there. A lethal cell is true if a true one is within the same distance.
    """
    settings = yaml.safe_load(CONFIG.read_text())["/**"]["local_costmap"]["ros__parameters"]
    cell = settings["resolution"]
    radius = round(settings["robot_radius"] / cell)
    disc = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * radius + 1, 2 * radius + 1))
    farthest = settings["obstacle_layer"]["scan"]["obstacle_max_range"]
    obstacles = [c.id for c in perception.card.classes if "obstacle" in c.flags]
    camera = street.Camera(LENS, height, -pitch, roll=0.0)
    counts: dict[str, list[int]] = {}
    errors: list[NDArray[np.float32]] = []
    for seed in track(range(options.count), "streets", transient=True, disable=options.json):
        drive = street.Street(FIRST_SEED["test"] + seed, camera=camera)
        frame = drive.frame(0)
        pose = mounting(height, -pitch, 0.0) @ OPTICAL
        said = perception(frame.image, frame.intrinsics.fx)
        sharp, sure = sharpened(said.depth)[0], np.full_like(frame.labels, 255)
        outputs = {
            name: Output(said.labels, said.confidence, said.depth, sharp, certain)
            for name, certain in {
                "model": sure > 0,
                f"model, min_depth_confidence {CERTAIN:g}": said.depth_confidence >= 255 * CERTAIN,
            }.items()
        }
        outputs["model's labels, true depth"] = Output(
            said.labels, said.confidence, frame.depth, frame.depth, sure > 0
        )
        outputs["truth"] = Output(frame.labels, sure, frame.depth, frame.depth, sure > 0)
        points = in_robot(pose, rays(frame.intrinsics), frame.depth)
        near = np.isin(frame.labels, obstacles) & (np.hypot(*points[:2]) < farthest)
        errors.append(said.depth[near] / frame.depth[near] - 1)
        standing = np.isin(frame.labels, obstacles) & (points[2] < HEIGHTS[1])
        low = standing & (points[2] > HEIGHTS[0])
        true = grid(points[:, standing], cell, farthest + MARGIN)
        needed = grid(points[:, low], cell, farthest)
        near_true = cv2.dilate(true.astype(np.uint8), disc).astype(bool)
        step = rays(frame.intrinsics, POINTS_STEP)
        pixels = tuple(sample(length, POINTS_STEP) for length in frame.depth.shape)
        for name, full in outputs.items():
            output = Output(*(array[pixels] for array in full))
            semantic = of_labels(settings, perception.card.classes, pose, step, output)
            scan = of_scan(settings, perception.card.classes, pose, step, output)
            for layer, lethal in {
                "semantic layer": semantic, "scan": scan, "both": semantic | scan
            }.items():  # fmt: skip
                covered = cv2.dilate(lethal.astype(np.uint8), disc).astype(bool)
                found = counts.setdefault(f"{name}, {layer}", [0, 0, 0, 0])
                found[0] += int((needed & covered).sum())
                found[1] += int(needed.sum())
                found[2] += int((lethal & near_true).sum())
                found[3] += int(lethal.sum())
    ratios = np.concatenate(errors)
    shares = {
        "depth of obstacles, median error": 100 * float(np.nanmedian(ratios)),
        "depth of obstacles, median of its size": 100 * float(np.nanmedian(np.abs(ratios))),
    }
    for name, (covered, needed_count, right, lethal_count) in counts.items():
        shares[f"{name}: covered"] = 100 * covered / max(needed_count, 1)
        shares[f"{name}: true"] = 100 * right / max(lethal_count, 1)
    return shares


def in_robot(
    pose: NDArray[np.float64], view: NDArray[np.float32], depth: NDArray[np.float32]
) -> NDArray[np.float64]:
    """Points (3, H, W) of pixels in the robot's frame, by the camera's pose in it."""
    local = np.stack([*(view * depth), depth]).astype(np.float64)
    return np.asarray(np.einsum("ij,jhw->ihw", pose[:3, :3], local) + pose[:3, 3, None, None])


def grid(points: NDArray[np.float64], cell: float, farthest: float) -> Grid:
    """The cells with points (2 or 3, n) of the robot's frame that are not too far away."""
    near = points[:2, np.hypot(points[0], points[1]) < farthest]
    cells = np.floor(near / cell).astype(int) + CELLS // 2
    result = np.zeros((CELLS, CELLS), bool)
    result[tuple(cells)] = True
    return result


def of_labels(
    settings: dict[str, Any],
    classes: tuple[SemanticClass, ...],
    pose: NDArray[np.float64],
    view: NDArray[np.float32],
    output: Output,
) -> Grid:
    """Lethal cells of the semantic_segmentation_layer, as of enough images for its costs."""
    source = settings["semantic_segmentation_layer"]["camera"]
    lethal = np.zeros(output.labels.shape, bool)
    depth = np.where(output.certain, output.sharp, np.float32(np.nan))
    for kind in (source[name] for name in source["class_types"]):
        if kind["max_cost"] == 254:
            ids = [c.id for c in classes if c.name in kind["classes"]]
            sure = output.confidence >= kind["mark_confidence"]
            lethal |= np.isin(output.labels, ids) & sure
    points = in_robot(pose, view, depth)
    distance = np.linalg.norm(points - pose[:3, 3, None, None], axis=0)
    lethal &= distance < source["max_obstacle_distance"]
    lethal &= distance > source["min_obstacle_distance"]
    return grid(points[:, lethal], settings["resolution"], math.inf)


def of_scan(
    settings: dict[str, Any],
    classes: tuple[SemanticClass, ...],
    pose: NDArray[np.float64],
    view: NDArray[np.float32],
    output: Output,
) -> Grid:
    """Lethal cells of the obstacle_layer with the node's scan, whose ground is fitted."""
    source = settings["obstacle_layer"]["scan"]
    obstacles = [c.id for c in classes if "obstacle" in c.flags]
    flat = [c.id for c in classes if not {"obstacle", "sky"} & set(c.flags)]
    fitted = fit_ground(view, output.depth, np.isin(output.labels, flat))
    up = tuple((pose[:3, :3].T @ (0.0, 0.0, 1.0)).tolist())
    ground = fitted[0] if fitted else Ground(up, float(pose[2, 3]))
    scan, nearest = (
        obstacle_scan(view, depth, np.isin(output.labels, obstacles), ground, HEIGHTS, NEAR)
        for depth in (np.where(output.certain, output.depth, np.float32(np.nan)), output.depth)
    )
    scan.ranges[scan.ranges > 1.1 * nearest.ranges] = np.nan  # as the node does
    bearings = scan.angle_min + scan.angle_increment * np.arange(len(scan.ranges))
    near = scan.ranges < source["obstacle_max_range"]
    near &= scan.ranges > source["obstacle_min_range"]
    ends = scan.ranges[near] * np.stack([np.cos(bearings[near]), np.sin(bearings[near])])
    forward = (pose @ np.linalg.inv(OPTICAL))[:2, :2]  # of the scan's frame
    return grid(forward @ ends.astype(np.float64), settings["resolution"], math.inf)


def show_costmaps(shares: dict[str, dict[str, float]], options: argparse.Namespace) -> None:
    """Print the shares by mounting."""
    if options.json:
        print(json.dumps(shares, indent=2))
        return
    table = Table(f"{options.count} streets, cells [%]", *shares)
    for name in next(iter(shares.values())):
        table.add_row(name, *(f"{found[name]:.1f}" for found in shares.values()))
    Console().print(table)


if __name__ == "__main__":
    sys.exit(run("planners", main))
