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

"""`python -m benchmarks.depth_confidence`: does the depth confidence know where depth is wrong?

Rendered streets that no training has seen, from a car and from any mounting, and the frames of a
folder of KITTI if one is given. Pixels are dropped in the order of their confidence, the lowest
first (sparsification), and compared with the order of their true error (ideal) and with any order
(random). Reliability compares the confidence with the share of pixels within 10 % of the truth.
Three confidences stand side by side: that of the model file, that which the node estimates for
models without this output, and that of the labels.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from rich.console import Console
from rich.progress import track

from benchmarks import run
from benchmarks.cameras import Shot, kitti, streets
from depthseg_ros import model_card
from depthseg_ros.derived.depth_confidence import estimate_depth_confidence
from depthseg_ros.model_card import ModelCard
from depthseg_ros.perception import Perception, Prediction
from training.data.synthetic.rendered import RenderedStreets
from training.engine.depth_confidence import DepthConfidenceMetrics
from training.engine.metrics import BANDS
from training.engine.pictures import save_figure
from training.evaluation.accuracy import markdown

CONSOLE = Console(stderr=True)
MODEL, ESTIMATED, LABELS = "model", "estimated", "label confidence"


def main(arguments: list[str] | None = None) -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.depth_confidence", description=__doc__
    )
    parser.add_argument("--model", type=Path, default=model_card.default_model())
    parser.add_argument("--count", type=int, default=30, help="streets (default: 30)")
    parser.add_argument(
        "--kitti", type=Path, metavar="FOLDER", help="frames as of benchmarks.cameras"
    )
    parser.add_argument("--plot", type=Path, metavar="PNG", help="draw the curves")
    parser.add_argument("--json", action="store_true", help="print JSON instead of tables")
    options = parser.parse_args(arguments)
    if options.count < 1:
        parser.error("--count: at least 1")
    perception = Perception(options.model)
    sources: dict[str, Iterable[Shot]] = {
        "streets": track(
            streets(640, 480, options.count), "streets", options.count, console=CONSOLE
        ),
        "streets, any mounting": track(
            any_mounting(options.count), "mountings", options.count, console=CONSOLE
        ),
    }
    if options.kitti:
        sources["KITTI"] = kitti(options.kitti)
    found = {name: measure(perception, shots) for name, shots in sources.items()}
    tables = {
        "all": {
            f"{source}, {order}": parts["all"].compute()
            for source, orders in found.items()
            for order, parts in orders.items()
        },
        **{
            source: {part: m.compute() for part, m in next(iter(orders.values())).items()}
            for source, orders in found.items()
        },
    }
    if options.plot:
        draw(options.plot, {s: {o: p["all"] for o, p in of.items()} for s, of in found.items()})
    if options.json:
        print(json.dumps(tables, indent=2))
    else:
        print(*(f"{name}\n\n{markdown(table)}" for name, table in tables.items()), sep="\n\n")


Metrics = dict[str, DepthConfidenceMetrics]
"""Part of the pixels (`all`, a range of distances, a class) -> what was measured of it."""


def measure(perception: Perception, shots: Iterable[Shot]) -> dict[str, Metrics]:
    """Measure the confidences of a model on images with true depth.

    Returns:
        Confidence (`model` if the file has it, `estimated`, `label confidence`) -> by part of the
        pixels.
    """
    card, results = perception.card, {}
    assert card.depth is not None
    limits = (card.depth.min, card.depth.max)
    for image, fx, labels, depth in shots:
        prediction = perception(image, fx)
        parts: dict[str, Any] = {"all": depth == depth}
        for near, far in BANDS:
            name = f"{near:.0f}-{far:.0f} m" if far < 1e9 else f"{near:.0f} m or more"
            parts[name] = (depth >= near) & (depth < far)
        if labels is not None:
            parts |= {c.name: labels == c.id for c in card.classes if "sky" not in c.flags}
        for order, confidence in confidences(prediction, card).items():
            metrics = results.setdefault(order, {})
            for part, mask in parts.items():
                if part not in metrics:
                    metrics[part] = DepthConfidenceMetrics(*limits)
                metrics[part].update(
                    torch.from_numpy(prediction.depth[mask][None]),
                    torch.from_numpy(confidence[mask][None]),
                    torch.from_numpy(depth[mask][None]),
                )
    return results


def confidences(prediction: Prediction, card: ModelCard) -> dict[str, NDArray[Any]]:
    """The confidences of a prediction, each (H, W) uint8, by name."""
    found = {}
    if prediction.depth_confidence is not None:
        found[MODEL] = prediction.depth_confidence
    assert prediction.depth is not None and card.depth is not None
    found[ESTIMATED] = estimate_depth_confidence(
        prediction.depth, card.depth.max, prediction.confidence
    )
    if prediction.confidence is not None:
        found[LABELS] = prediction.confidence
    return found


def any_mounting(count: int) -> Iterator[Shot]:
    """Test streets, each with a camera of its own, see `rendered.random_camera`."""
    samples = RenderedStreets("test", count, size=(640, 480), cache=None, mountings=True)
    for index in range(count):
        sample = samples[index]
        yield sample.image, sample.fx, sample.labels, sample.depth


def draw(path: Path, found: dict[str, dict[str, DepthConfidenceMetrics]]) -> None:
    """Draw sparsification (top) and reliability (bottom) of each source into a PNG."""
    from matplotlib.figure import Figure  # without pyplot no display is looked for

    figure = Figure(figsize=(4.2 * len(found), 7.5), layout="constrained")
    axes = figure.subplots(2, len(found), squeeze=False)
    for (source, orders), top, bottom in zip(found.items(), *axes, strict=True):
        for color, (order, metrics) in enumerate(orders.items()):
            dropped, model, ideal, random = (100 * c.numpy() for c in metrics.sparsification())
            if color == 0:
                top.plot(dropped, random, ":", color="0.4", label="random order")
                top.plot(dropped, ideal, "--", color="0.4", label="order of the true error (ideal)")
            top.plot(dropped, model, color=f"C{color}", label=order)
            if order != LABELS:  # which is not a probability of depth
                confidence, right, share = metrics.table().numpy().T
                bottom.plot(confidence, right, "o-", color=f"C{color}", label=order)
                middles = (np.arange(len(share)) + 0.5) / len(share)
                bottom.bar(middles, share, 1 / len(share), color=f"C{color}", alpha=0.2)
        bottom.plot([0, 1], [0, 1], "--", color="0.4")
        top.set(title=source, xlabel="dropped pixels [%]", ylabel="abs-rel of the others [%]")
        bottom.set(xlabel="depth confidence", ylabel="share within 10 %; bars: share of pixels")
        bottom.set(xlim=(0, 1), ylim=(0, 1))
        for each in (top, bottom):
            each.grid(alpha=0.3)
    handles, names = axes[0, 0].get_legend_handles_labels()
    figure.legend(handles, names, loc="outside lower center", ncols=len(names))
    save_figure(path, figure)


if __name__ == "__main__":
    sys.exit(run("depth_confidence", main))
