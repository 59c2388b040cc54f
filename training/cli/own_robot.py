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

"""`python -m training own-robot`: from a robot's recordings to a model file, in one command.

The stages are the commands `bag`, `pseudo-label`, `fit`, `evaluate` and `export`. Each resumes
where it was stopped. docs/own_robot.md describes the steps.
"""

from __future__ import annotations

import argparse
import json
import shlex
import sys
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from rich.console import Console

from ..data.shards import write_json
from ..data.sources import Source, open_source
from ..data.transforms import EvalDataset
from ..engine.pictures import row, write_rows
from ..engine.weights import provenance_of
from ..errors import check_output
from ..evaluation.accuracy import evaluate, load, table
from ..evaluation.comparison import override, train
from ..options import read_yaml
from . import bag, export, pseudo_label
from .arguments import add_settings, read_settings

CONFIGS = Path(__file__).parents[1] / "configs"
STUDENT = Path(__file__).parents[2] / "models" / "street.onnx"
DEPTH_TEACHER = "depth-anything/Depth-Anything-V2-Metric-Outdoor-Small-hf"
SEGMENTATION_TEACHER = "nvidia/segformer-b5-finetuned-cityscapes-1024-1024"


def main(arguments: list[str]) -> None:
    """Run all stages, or those that are not finished."""
    parser = argparse.ArgumentParser(
        prog="python -m training own-robot",
        description="From a robot's recordings to a model file for its camera.",
    )
    parser.add_argument("--bag", type=Path, nargs="+", required=True, help="rosbag2 recordings")
    parser.add_argument("--output", type=Path, required=True, help="the .onnx to write")
    parser.add_argument(
        "--folder",
        type=Path,
        default=Path("runs/own_robot"),
        help="folder for intermediate results; a stopped run resumes there (default: %(default)s)",
    )
    parser.add_argument("--topic", help="image topic, if the bag has several")
    parser.add_argument("--depth-teacher", default=DEPTH_TEACHER, help="default: %(default)s")
    parser.add_argument(
        "--segmentation-teacher", default=SEGMENTATION_TEACHER, help="default: %(default)s"
    )
    parser.add_argument(
        "--classes",
        type=Path,
        help="YAML: the teacher's classes to the student's, see pseudo-label",
    )
    parser.add_argument(
        "--camera-height", type=float, help="metres above the ground; omit if unknown"
    )
    parser.add_argument("--camera-pitch", type=float, help="rad, positive is down; omit if unknown")
    parser.add_argument(
        "--student", type=Path, default=STUDENT, help="model file or checkpoint to start from"
    )
    parser.add_argument(
        "--config",
        type=Path,
        default=CONFIGS / "own_robot.yaml",
        help="configuration of the training",
    )
    add_settings(parser, "changes of the configuration, e.g. trainer.max_epochs=40")
    parser.add_argument(
        "--bag-options",
        default="",
        metavar="TEXT",
        help="more options of 'bag', e.g. '--every 0.2'",
    )
    parser.add_argument(
        "--label-options", default="", metavar="TEXT", help="more options of 'pseudo-label'"
    )
    options = parser.parse_args(arguments)
    check_output(options.output)
    dataset = options.folder / "dataset"
    if options.segmentation_teacher == SEGMENTATION_TEACHER and options.classes is None:
        options.classes = CONFIGS / "classes" / "cityscapes_to_camvid.yaml"

    # Check the configuration first, before hours of labelling.
    changes: dict[str, Any] = {
        "model.weights": str(options.student),
        "data.folders.own_robot": str(dataset),
    }
    changes |= read_settings(options.set)
    config = override(read_yaml(options.config, "a configuration"), changes)
    provenance_of(options.student)

    _report("1. Extract frames from the recordings")
    topic = ["--topic", options.topic] if options.topic else []
    bags = [str(path) for path in options.bag]
    more = shlex.split(options.bag_options)
    bag.main(["--input", *bags, "--output", str(dataset), *topic, *more])

    _report("2. Label the frames with the teachers")
    label_options = {
        "--data": dataset,
        "--depth-teacher": options.depth_teacher,
        "--segmentation-teacher": options.segmentation_teacher,
        "--classes": options.classes,
        "--camera-height": options.camera_height,
        "--camera-pitch": options.camera_pitch,
    }
    given = [str(x) for item in label_options.items() if item[1] is not None for x in item]
    pseudo_label.main([*given, *shlex.split(options.label_options)])

    _report("3. Train the student")
    if "data.aspects" not in changes:  # train with the shape of the camera's images
        samples: Any = open_source("own_robot", "train", dataset).samples
        shapes = sorted({round(aspect, 3) for aspect in samples.aspects})
        config = override(config, {"data.aspects": shapes})
    checkpoint = train(config, options.folder / "student")

    _report("4. Compare the student with its initial model on the held-out part of the recordings")
    sources = held_out(dataset)
    named = {"before": options.student, "own": checkpoint}
    results = {
        f"{name}: {data}": evaluation.compute()
        for name, path in named.items()
        for data, evaluation in evaluate(path, sources).items()
    }
    metrics = options.folder / "metrics.json"
    write_json(metrics, {data: results[f"own: {data}"] for data in sources})
    draw(options.folder / "compare.png", named, list(sources.values())[-1])
    export.main(
        [f"--checkpoint={checkpoint}", f"--output={options.output}", f"--metrics={metrics}"]
    )
    Console().print(table(results))
    print(f"{options.output}; images of both: {options.folder / 'compare.png'}")


def held_out(dataset: Path) -> dict[str, Source]:
    """Open the held-out frames: with the teachers' labels, and with ground truth if any."""
    recordings = json.loads((dataset / "card.json").read_text())["recordings"]
    names = ["own_robot"]
    if any(r.get("depth_topic") or r.get("labels_topic") for r in recordings):
        names.append("own_robot_truth")
    return {name: open_source(name, "val", dataset) for name in names}


def draw(path: Path, models: dict[str, Path], source: Source, count: int = 5) -> None:
    """Write an image of both models' predictions for some frames, with labels and depth."""
    chosen = [i * len(source) // count for i in range(min(count, len(source)))]
    rows: list[list[np.ndarray]] = []
    for name, file in models.items():
        card, inputs, predict = load(file)
        rows.append([])
        data = EvalDataset(source.samples, card, inputs)
        for index in sorted(set(chosen)):
            batch = {key: value[None] for key, value in data[index].items()}
            with torch.inference_mode():
                outputs = predict(*(batch[i] for i in inputs))
            strip = row(batch, dict(zip(card.outputs, outputs, strict=True)), card)
            cv2.putText(strip, name, (6, 18), cv2.FONT_HERSHEY_DUPLEX, 0.6, (255, 255, 0), 1)
            rows[-1].append(strip)
    write_rows(path, [strip for strips in zip(*rows, strict=True) for strip in strips])


def _report(text: str) -> None:
    print(text, file=sys.stderr)
