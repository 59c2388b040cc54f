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

"""`python -m training import`: convert a model of the Hugging Face hub to a model file."""

from __future__ import annotations

import argparse
from pathlib import Path

from ..errors import check_output


def main(arguments: list[str]) -> None:
    """`python -m training import`."""
    parser = argparse.ArgumentParser(
        prog="python -m training import",
        description="Convert a network for depth, one for semantic segmentation, or both, from the"
        " Hugging Face hub to a model file.",
    )
    add, where = parser.add_argument, "name on the hub, or folder"
    add(
        "--depth",
        metavar="HUB|FOLDER",
        help=f"{where}: Depth Anything V2 and V3, Depth Pro, DPT, GLPN, ZoeDepth",
    )
    add(
        "--segmentation",
        metavar="HUB|FOLDER",
        help=f"{where}: BEiT, DPT, EoMT, Mask2Former, MaskFormer, SegFormer, UperNet",
    )
    add("--output", type=Path, required=True, metavar="MODEL.onnx", help="the file to write")
    add(
        "--classes",
        type=Path,
        metavar="FILE",
        help="names, colours and flags of the classes, as in a SPEC of 'depthseg wrap' (default:"
        " the model's names, with flags derived from them)",
    )
    add(
        "--image-size",
        default="640x480",
        metavar="WIDTHxHEIGHT",
        help="size of the camera's images: networks that keep the shape of images are exported for"
        " this shape; images of another shape get a border (default: %(default)s)",
    )
    add(
        "--depth-kind",
        choices=("metric", "inverse", "up-to-scale"),
        help="kind of depth, if the model does not specify it",
    )
    options = parser.parse_args(arguments)
    if options.depth is None and options.segmentation is None:
        parser.error("give --depth, --segmentation or both")
    if options.classes is not None and options.segmentation is None:
        parser.error("--classes needs --segmentation")
    width, _, height = options.image_size.partition("x")
    if not (width.isdigit() and height.isdigit() and min(int(width), int(height)) >= 16):
        parser.error(f"--image-size {options.image_size}: expected WIDTHxHEIGHT, such as 640x480")
    check_output(options.output)
    from ..hub.importing import import_model

    card = import_model(
        options.depth,
        options.segmentation,
        options.output,
        options.classes,
        (int(width), int(height)),
        options.depth_kind,
    )
    print(f"{options.output}: {card.name}, {card.parameters / 1e6:.1f} million weights")
