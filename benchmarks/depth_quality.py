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

"""`python -m benchmarks.depth_quality`: edges, points and stability of depth, with each filter.

Rendered drives, which no training has seen, with exact depth and poses. At edges, a model's depth
differs from the truth for two reasons: the distance of the surfaces is wrong, or the pixel lies on
the slope between them. Only the second can be filtered, so it is also measured against the model's
own surfaces: the depth that it gives, near the edge, to the near and to the far true surface.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.progress import track

from benchmarks import run
from depthseg_ros import model_card, street
from depthseg_ros.backends import BACKENDS
from depthseg_ros.derived.sharpening import sharpened
from depthseg_ros.derived.stability import StableDepth, step
from depthseg_ros.imaging.geometry import rays, sample
from depthseg_ros.imaging.rendering import color_table, from_above
from depthseg_ros.memory import keep_memory
from depthseg_ros.perception import Perception, Prediction, View
from depthseg_ros.shaping import resized, resized_depth
from depthseg_ros.street.camera import FRAME_RATE
from training.data.synthetic.rendered import FIRST_SEED
from training.evaluation.accuracy import markdown

CONSOLE = Console(stderr=True)
BAND, FAR, NEARER_THAN = 3, 1.3, 40.0
"""An edge: pixels within BAND of surfaces whose depths have the ratio FAR; the near one, metres."""
OFF = 1.1
"""Ratio by which depth is off a surface."""
FOLLOWED = 12
"""Frames over which world points are followed."""

Depth = NDArray[np.float32]


class Drive(NamedTuple):
    """The frames of one street, with the model's predictions."""

    frames: list[street.StreetFrame]
    found: list[Prediction]
    """At the network's size, as the node gets them."""
    movable: list[NDArray[np.bool_]]
    """(H, W) each: true labels of things that can move."""


@dataclass
class Edges:
    """Counts of pixels, to be added up."""

    edge: int = 0
    between: int = 0
    of_both: int = 0
    between_own: int = 0
    on_right_side: int = 0
    known: int = 0
    flying: int = 0
    right: int = 0
    lost: int = 0

    def add(self, frame: street.StreetFrame, before: Depth, after: Depth) -> None:
        """Count what of the model's depth `before` became what in `after`, (H, W) each."""
        truth = frame.depth
        near, far = surfaces(truth)
        edge = (far > FAR * near) & (near < NEARER_THAN) & np.isfinite(truth) & np.isfinite(before)
        self.edge += np.count_nonzero(edge)
        self.between += np.count_nonzero(edge & (after > OFF * near) & (after < far / OFF))
        own = own_surfaces(truth, before)
        both = edge & (own[1] > OFF**2 * own[0])  # NaN is not
        self.of_both += np.count_nonzero(both)
        self.between_own += np.count_nonzero(both & (after > OFF * own[0]) & (after < own[1] / OFF))
        side = np.where(truth * truth < near * far, own[0], own[1])
        self.on_right_side += np.count_nonzero(both & is_at(after, side))
        seen = np.isfinite(after) & np.isfinite(truth)
        self.known += np.count_nonzero(seen)
        self.flying += np.count_nonzero(seen & is_flying(frame, after))
        right = is_at(before, truth)
        self.right += np.count_nonzero(right)
        self.lost += np.count_nonzero(right & ~is_at(after, truth))

    def figures(self) -> dict[str, float]:
        """Shares in percent."""
        return {
            "between the true surfaces, of pixels at edges [%]": 100 * self.between / self.edge,
            "between the model's own surfaces [%]": 100 * self.between_own / self.of_both,
            "at the right one of them [%]": 100 * self.on_right_side / self.of_both,
            "points off any true surface [%]": 100 * self.flying / self.known,
            "true points lost [%]": 100 * self.lost / self.right,
        }


def surfaces(depth: Depth) -> tuple[Depth, Depth]:
    """The nearest and the farthest true depth within `BAND` pixels; the sky is far."""
    filled = np.nan_to_num(depth, nan=1e4)
    window = np.ones((2 * BAND + 1, 2 * BAND + 1), np.uint8)
    return np.asarray(cv2.erode(filled, window)), np.asarray(cv2.dilate(filled, window))


def is_at(depth: Depth, surface: Depth) -> NDArray[np.bool_]:
    """Where depth is within `OFF` of a surface."""
    return np.asarray((depth < OFF * surface) & (depth > surface / OFF))


def own_surfaces(truth: Depth, found: Depth, window: int = 25) -> tuple[Depth, Depth]:
    """What depth the model gives to the near and the far true surface of each pixel at an edge.

    The mean of ln(depth) over pixels in the window that are not at an edge and whose true depth is
    that of the surface, within some 7 %; NaN with fewer than 9 of them.
    """
    near, far = surfaces(truth)
    edge = far > FAR * near
    usable = np.isfinite(found) & np.isfinite(truth) & ~edge
    level = np.floor(np.log(np.where(usable, truth, 1)) / np.log(1.05)).astype(int)
    logs = np.log(np.where(usable, found, 1)).astype(np.float32)
    results = []
    for surface in (near, far):
        wanted = np.floor(np.log(surface) / np.log(1.05)).astype(int)
        result = np.full(truth.shape, np.nan, np.float32)
        for each in np.unique(wanted[edge]):
            of_it = (usable & (np.abs(level - each) <= 1)).astype(np.float32)
            size = (window, window)
            total = cv2.boxFilter(of_it * logs, -1, size, normalize=False)
            count = cv2.boxFilter(of_it, -1, size, normalize=False)
            there = edge & (wanted == each) & (count > 8.5)
            result[there] = np.exp(total[there] / count[there])
        results.append(result)
    return results[0], results[1]


def is_flying(frame: street.StreetFrame, depth: Depth, reach: int = 4) -> NDArray[np.bool_]:
    """Whose points are over 0.3 m and 10 % of their depth from each true point `reach` around."""
    x, y = rays(frame.intrinsics)
    true = np.nan_to_num(frame.depth, nan=1e4)
    points = np.stack([x * depth, y * depth, depth])
    surface = np.stack([x * true, y * true, true])
    height, width = depth.shape
    nearest = np.full(depth.shape, np.inf, np.float32)
    for down in range(-reach, reach + 1):
        for right in range(-reach, reach + 1):
            here = np.s_[
                max(0, -down) : height - max(0, down), max(0, -right) : width - max(0, right)
            ]
            there = np.s_[
                max(0, down) : height + min(0, down), max(0, right) : width + min(0, right)
            ]
            gaps = [np.square(a[here] - b[there]) for a, b in zip(points, surface, strict=True)]
            gap = np.sum(gaps, axis=0)
            nearest[here] = np.fmin(nearest[here], gap)
    distance = np.sqrt(nearest)
    return np.asarray((distance > 0.3) & (distance > 0.1 * depth))


class Fluctuations:
    """Depth of static world points over `FOLLOWED` frames."""

    def __init__(self) -> None:
        self._deviations: list[NDArray[np.float64]] = []
        self._scales: list[float] = []
        self._errors: list[tuple[float, float]] = []

    def add(self, drive: Drive, depths: list[Depth], apart: int = 12) -> None:
        """Follow every `apart`-th pixel of a drive."""
        for first in range(0, len(depths) - FOLLOWED + 1, FOLLOWED // 2):
            ratios = np.array(list(self._followed(drive, depths, first, apart)))
            ratios = ratios[:, np.isfinite(ratios).all(axis=0)]
            if ratios.shape[1] >= 30:
                self._deviations.append(ratios.std(axis=0))
                self._scales.append(float(np.median(ratios - ratios.mean(axis=0), axis=1).std()))
        for frame, depth, movable in zip(drive.frames, depths, drive.movable, strict=True):
            error = np.abs(depth / frame.depth - 1)
            known = np.isfinite(error)
            moving = known & movable
            of_moving = error[moving].mean() if np.count_nonzero(moving) > 200 else np.nan
            self._errors.append((float(error[known].mean()), float(of_moving)))

    @staticmethod
    def _followed(drive: Drive, depths: list[Depth], first: int, apart: int) -> Iterable[Any]:
        """ln(depth / truth) of the points in each frame, NaN where they are hidden."""
        start = drive.frames[first]
        camera, truth = start.intrinsics, start.depth
        rows, columns = np.mgrid[
            apart // 2 : camera.height : apart, apart // 2 : camera.width : apart
        ]
        kept = (truth[rows, columns] < 60) & ~drive.movable[first][rows, columns]
        x, y = rays(camera)[:, rows[kept], columns[kept]]
        z = truth[rows[kept], columns[kept]]
        world = start.pose @ np.stack([x * z, y * z, z, np.ones_like(z)])
        for frame, depth in zip(
            drive.frames[first : first + FOLLOWED], depths[first : first + FOLLOWED], strict=True
        ):
            x, y, z, _ = np.linalg.inv(frame.pose) @ world
            u = np.rint(camera.fx * x / z + camera.cx).astype(int)
            v = np.rint(camera.fy * y / z + camera.cy).astype(int)
            inside = (z > 0.5) & (u >= 0) & (u < camera.width) & (v >= 0) & (v < camera.height)
            u, v = u.clip(0, camera.width - 1), v.clip(0, camera.height - 1)
            visible = inside & (np.abs(frame.depth[v, u] / z - 1) < 0.02)
            with np.errstate(invalid="ignore"):
                yield np.where(visible, np.log(depth[v, u] / z), np.nan)

    def figures(self) -> dict[str, float]:
        """Standard deviations in percent of the depth; abs-rel."""
        deviations = np.concatenate(self._deviations)
        return {
            "standard deviation over time, mean of points [%]": 100 * float(deviations.mean()),
            "the same, median point [%]": 100 * float(np.median(deviations)),
            "of the scale [%]": 100 * float(np.mean(self._scales)),
            "abs-rel": float(np.mean([e for e, _ in self._errors])),
            "abs-rel of movable classes": float(np.nanmean([m for _, m in self._errors])),
        }


def drives(perception: Perception, count: int, frames: int, every: int) -> Iterable[Drive]:
    """Render and predict; `every`: of the street's frames, which come at 30 Hz."""
    ids = [i for i, name in enumerate(street.CLASS_NAMES) if name in MOVABLE]
    for seed in range(FIRST_SEED["test"], FIRST_SEED["test"] + count):
        made = street.Street(seed, 640, 480)
        seen = [made.frame(i * every) for i in range(frames)]
        views = [View(f.image, f.intrinsics.fx) for f in seen]
        found = [perception.batch([view], reduced=True)[0] for view in views]
        yield Drive(seen, found, [np.isin(f.labels, ids) for f in seen])


MOVABLE = ("car", "pedestrian", "bicyclist")


def fused(drive: Drive, perception: Perception, every: int, seconds: list[float]) -> list[Depth]:
    """The depth of a drive, fused over time as the node does it."""
    stable = StableDepth()
    height, width = drive.found[0].depth.shape
    ids = [c.id for c in perception.card.classes if "movable" in c.flags]
    every_th = step(width)
    grid = sample(height, every_th), sample(width, every_th)
    kept, results = rays(drive.frames[0].intrinsics.scaled(width, height), every_th), []
    for i, found in enumerate(drive.found):
        moving = None if found.labels is None else np.isin(found.labels[grid], ids)
        begun = time.perf_counter()
        assert found.depth is not None and found.image is not None
        results.append(stable(found.image, found.depth, kept, every * i / FRAME_RATE, moving))
        seconds.append(time.perf_counter() - begun)
    return results


def shown(
    drive: Drive, depths: list[Depth], sharpen: bool, seconds: list[float] | None = None
) -> list[Depth]:
    """Depth at the size of the images, enlarged as the node does it."""
    results, camera = [], drive.frames[0].intrinsics
    for depth in depths:
        begun = time.perf_counter()
        small, edges = sharpened(depth) if sharpen else (depth, None)
        if seconds is not None:
            seconds.append(time.perf_counter() - begun)
        results.append(resized_depth(small, (camera.width, camera.height), True, edges))
    return results


def drawn(
    perception: Perception, drive: Drive, i: int, depths: dict[str, list[Depth]]
) -> NDArray[np.uint8]:
    """Frame i, and from above: true points, the model's, and those of filtered depth; RGB."""
    frame, found = drive.frames[i], drive.found[i]
    assert found.labels is not None
    own = resized("labels", found.labels, (frame.intrinsics.width, frame.intrinsics.height))
    x, y = rays(frame.intrinsics)
    colors = color_table(perception.card.classes)
    views = [cv2.resize(frame.image, (560, 420), interpolation=cv2.INTER_AREA)]
    for name, depth, labels in (
        ("truth", frame.depth, frame.labels),
        ("the network", depths["the network"][i], own),
        ("fused and sharpened", depths["both"][i], own),
    ):
        points = np.stack([x * depth, y * depth, depth], axis=-1).reshape(-1, 3)
        views.append(from_above(points, colors[labels].reshape(-1, 3), (360, 420), 30.0))
        cv2.putText(views[-1], name, (8, 410), 0, 0.5, (255, 255, 255), 1, cv2.LINE_AA)
    return np.asarray(np.hstack(views), np.uint8)


def write_video(path: Path, images: list[NDArray[np.uint8]]) -> None:
    """Write RGB images as a video of 10 Hz, or the last one, if the path is not of a video."""
    if path.suffix == ".mp4":
        size = images[0].shape[1], images[0].shape[0]
        writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"mp4v"), 10, size)
        written = writer.isOpened()
        for image in images:
            writer.write(image[..., ::-1])
        writer.release()
    else:
        written = cv2.imwrite(str(path), images[-1][..., ::-1])
    if not written:
        raise ValueError(f"{path} could not be written")


def main(arguments: list[str] | None = None) -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.depth_quality", description=__doc__)
    parser.add_argument("--model", type=Path, default=model_card.default_model())
    parser.add_argument("--backend", choices=BACKENDS, default="auto", help="what runs the model")
    parser.add_argument("--count", type=int, default=6, help="drives (default: 6)")
    parser.add_argument("--frames", type=int, default=24, help="of each drive (default: 24)")
    parser.add_argument(
        "--every", type=int, default=1, help="use every n-th frame at 30 Hz (default: 1)"
    )
    parser.add_argument(
        "--image", type=Path, help="image, or video (.mp4), of the first drive's points to write"
    )
    parser.add_argument("--json", action="store_true", help="print JSON instead of a table")
    options = parser.parse_args(arguments)
    keep_memory()  # as the node does
    if options.count < 1 or options.frames < FOLLOWED or options.every < 1:
        parser.error(f"--count and --every: at least 1; --frames: at least {FOLLOWED}")
    cv2.setNumThreads(1)
    perception = Perception(options.model, options.backend)
    if perception.card.depth is None:
        raise ValueError(f"{options.model} has no depth")
    edges = {name: Edges() for name in NAMES}
    stability = {name: Fluctuations() for name in NAMES}
    seconds: dict[str, list[float]] = {name: [] for name in NAMES}
    made = track(
        drives(perception, options.count, options.frames, options.every),
        "drives",
        options.count,
        console=CONSOLE,
        transient=True,
    )
    for drive in made:
        found = [f.depth for f in drive.found if f.depth is not None]
        steady = fused(drive, perception, options.every, seconds["fused"])
        depths = {
            "the network": shown(drive, found, False),
            "fused": shown(drive, steady, False),
            "sharpened": shown(drive, found, True, seconds["sharpened"]),
            "both": shown(drive, steady, True),
        }
        for name, each in depths.items():
            stability[name].add(drive, each)
            for i in range(FOLLOWED - 1, len(each), FOLLOWED):
                before = "fused" if name in ("fused", "both") else "the network"
                edges[name].add(drive.frames[i], depths[before][i], each[i])
        if options.image:
            write_video(
                options.image,
                [drawn(perception, drive, i, depths) for i in range(len(found))],
            )
            options.image = None
    results = {
        name: edges[name].figures()
        | stability[name].figures()
        | ({"time, one core [ms]": 1e3 * float(np.median(seconds[name]))} if seconds[name] else {})
        for name in NAMES
    }
    print(json.dumps(results, indent=2) if options.json else markdown(results))


NAMES = ("the network", "fused", "sharpened", "both")


if __name__ == "__main__":
    sys.exit(run("depth_quality", main))
