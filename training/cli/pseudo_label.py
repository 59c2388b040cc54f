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

"""`python -m training pseudo-label`: label a robot's images and their metric depth with teachers.

The teachers predict each image in several views: mirrored and at several scales. The label is the
class with the highest mean probability, which is also its confidence ("trust" in files and
options). Depth is the median. Its confidence falls with the spread of the views: exp(-(s / 0.1)^2)
for a standard deviation s of the logarithm of depth, times the share of views with depth. Pixels
with a confidence below `--min-trust` are unlabelled or have no depth; sky has no depth.
`own_robot.alignment` describes how depth becomes metric.

For a data set of images (`--data NAME=FOLDER`) labels are refined instead, see `own_robot.refine`.

The parts of a recording's data set are labelled independently. So a stopped run resumes at the next
part, and several processes (torchrun, or --parts on a cluster) can label different parts.
"""

from __future__ import annotations

import argparse
import math
from pathlib import Path

from ..data.classes import CLASS_LISTS
from ..own_robot.alignment import DEPTH_KINDS
from ..own_robot.labeller import refine_labels, run
from ..own_robot.teachers import PRECISIONS


def main(arguments: list[str]) -> None:
    """Label this process's parts that are not labelled; the last process writes the report."""
    parser = argparse.ArgumentParser(
        prog="python -m training pseudo-label",
        description="Label a robot's images and their metric depth with teachers.",
    )
    add, teacher = parser.add_argument, "name on the Hugging Face hub, folder, or model file"
    add(
        "--data",
        required=True,
        metavar="FOLDER|NAME=FOLDER",
        help="data set of `training bag`; or a data set of images, whose labels are refined",
    )
    add(
        "--options",
        default="{}",
        metavar="YAML",
        help="options of the reader of images, e.g. '{description: mine.yaml}'",
    )
    add("--output", type=Path, metavar="LABELS", help="folder for refined labels")
    add("--depth-teacher", metavar="NAME|FOLDER|FILE.onnx", help=f"{teacher}; for recordings")
    add(
        "--segmentation-teacher",
        required=True,
        nargs="+",
        metavar="NAME|FOLDER|FILE.onnx|none",
        help=f"{teacher}; none for depth only; several to refine labels",
    )
    add(
        "--classes",
        type=Path,
        nargs="+",
        metavar="NAME|YAML",
        help="teacher's class: student's class, list of them, or ignore; e.g. cityscapes_to_camvid;"
        " one for all teachers, or one for each",
    )
    add("--student-classes", choices=CLASS_LISTS, default="camvid", help="default: %(default)s")
    add("--camera-height", type=float, help="metres above the ground")
    add("--camera-pitch", type=float, help="rad, positive is down; omit if unknown")
    add("--align", choices=["truth"], help="scale depth by the measured depth of the recording")
    add("--depth-kind", choices=DEPTH_KINDS, help="if the depth teacher does not specify it")
    add(
        "--scales",
        type=float,
        nargs="+",
        default=[1.0, 0.75, 1.25],
        help="scales of the views (default: 1 0.75 1.25)",
    )
    add(
        "--min-trust",
        type=float,
        default=0.5,
        help="minimum confidence of labels and depth, 0 to 1 (default: %(default)s)",
    )
    add(
        "--teacher-size",
        type=int,
        metavar="PIXELS",
        help="shorter side of the input of plain ONNX teachers (default: as in their description)",
    )
    add("--batch", type=int, default=8, help="images per batch (default: %(default)s)")
    add("--precision", choices=PRECISIONS, default="fp32", help="default: %(default)s")
    add("--device", default="auto", help="cpu, cuda, cuda:1, ... (default: auto)")
    add("--parts", metavar="FIRST-LAST", help="label only parts with these numbers")
    add(
        "--pictures", type=int, default=12, help="frames shown in the report (default: %(default)s)"
    )
    options = parser.parse_args(arguments)
    if options.batch < 1 or options.pictures < 0:
        parser.error("--batch: at least 1; --pictures: at least 0")
    if not 0 <= options.min_trust <= 1 or not all(0.1 <= s <= 4 for s in options.scales):
        parser.error("--min-trust: 0 to 1; --scales: 0.1 to 4")
    if options.align and options.camera_height is not None:
        parser.error("--align truth and --camera-height: give only one of them")
    if options.camera_height is not None and not 0 < options.camera_height < math.inf:
        parser.error("--camera-height: metres, above 0")
    if "=" in options.data and not Path(options.data).exists():
        if options.output is None:
            parser.error("--data NAME=FOLDER needs --output LABELS")
        refine_labels(options)
        return
    teachers, maps = options.segmentation_teacher, options.classes or [None]
    if options.depth_teacher is None or len(teachers) > 1 or len(maps) > 1:
        parser.error("a recording needs --depth-teacher, one --segmentation-teacher, one --classes")
    options.data, options.segmentation_teacher = Path(options.data), teachers[0]
    options.classes = maps[0]
    run(options)
