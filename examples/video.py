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

"""A video, or a camera at /dev/videoN, without ROS: one with labels and depth beside it.

python examples/video.py drive.mp4 --output drive_seen.mp4 --fov 65
"""

from __future__ import annotations

import argparse
import math
import sys
from pathlib import Path

import cv2
import numpy as np

from depthseg_ros.geometry import Intrinsics
from depthseg_ros.model_card import default_model
from depthseg_ros.perception import Perception
from depthseg_ros.rendering import color_depth, overlay

parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
parser.add_argument("source", help="a video, or a device such as /dev/video0")
parser.add_argument("--output", type=Path, required=True, help="an .mp4 to write")
parser.add_argument("--fov", type=float, required=True, help="horizontal, degrees")
parser.add_argument("--model", type=Path, default=default_model(), help="a model file")
parser.add_argument("--frames", type=int, default=0, help="at most; 0: all")
options = parser.parse_args()

perception = Perception(options.model)
card = perception.card
video = cv2.VideoCapture(options.source)
rate = video.get(cv2.CAP_PROP_FPS) or 30
writer, count = None, 0
while not options.frames or count < options.frames:
    read, frame = video.read()
    if not read:
        break
    image = np.ascontiguousarray(frame[..., ::-1])
    height, width = image.shape[:2]
    seen = perception(image, Intrinsics.from_fov(width, height, math.radians(options.fov)).fx)
    classes = overlay(image, seen.labels, card.classes)
    depth = color_depth(seen.depth)
    row = np.hstack([image, classes, depth])[..., ::-1]
    if writer is None:
        code = cv2.VideoWriter.fourcc(*"mp4v")
        writer = cv2.VideoWriter(str(options.output), code, rate, row.shape[1::-1])
    writer.write(np.ascontiguousarray(row))
    count += 1
if writer is None:
    sys.exit(f"video: {options.source} cannot be read as a video or camera")
writer.release()
print(f"{options.output}: {count} frames")
