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

"""Write a video with labels and depth beside each frame of a video or camera, without ROS.

python examples/video.py drive.mp4 --output drive_labels.mp4 --fov 65
"""

from __future__ import annotations

import argparse
import math
import sys
from pathlib import Path

import cv2
import numpy as np

from depthseg_ros.backends import BackendError
from depthseg_ros.files import whole
from depthseg_ros.imaging.geometry import Intrinsics
from depthseg_ros.imaging.rendering import color_depth, overlay
from depthseg_ros.model_card import default_model
from depthseg_ros.perception import Perception
from depthseg_ros.sources import open_video


def draw(perception: Perception, source: Path, output: Path, fov: float, most: int) -> int:
    """Write the frames, at most `most`, and return their number. Ctrl-C ends the video.

    Raises:
        ValueError: There is nothing to read, or the video cannot be written.
    """
    video = open_video(source)
    rate = video.get(cv2.CAP_PROP_FPS) or 30
    writer, count = None, 0
    try:
        while not most or count < most:
            read, frame = video.read()
            if not read:
                break
            image = cv2.cvtColor(frame, cv2.COLOR_BGR2RGB)
            height, width = image.shape[:2]
            prediction = perception(image, Intrinsics.from_fov(width, height, fov).fx)
            classes = overlay(image, prediction.labels, perception.card.classes)
            row = np.hstack([image, classes, color_depth(prediction.depth)])
            if writer is None:
                code = cv2.VideoWriter.fourcc(*"mp4v")
                writer = cv2.VideoWriter(str(output), code, rate, row.shape[1::-1])
                if not writer.isOpened():
                    raise ValueError(f"{output} cannot be written")
            writer.write(cv2.cvtColor(row, cv2.COLOR_RGB2BGR))
            count += 1
    except KeyboardInterrupt:
        if not count:
            raise
    finally:
        if writer is not None:
            writer.release()
    if not count:
        raise ValueError(f"{source} cannot be read as a video or camera")
    return count


def main() -> None:
    """Draw labels and depth beside each frame of a video."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("source", type=Path, help="a video, or a device such as /dev/video0")
    parser.add_argument("--output", type=Path, required=True, help="an .mp4 to write")
    parser.add_argument(
        "--fov", type=float, required=True, help="horizontal field of view, degrees"
    )
    parser.add_argument(
        "--model", type=Path, default=default_model(), help="a model file with classes and depth"
    )
    parser.add_argument("--frames", type=int, default=0, help="maximum; 0: all")
    options = parser.parse_args()
    if not 0 < options.fov < 180:
        parser.error("--fov: expected degrees between 0 and 180")
    if options.output.suffix != ".mp4" or not options.output.absolute().parent.is_dir():
        parser.error(f"--output {options.output}: expected an .mp4 in a folder that exists")
    if options.output.resolve() == options.source.resolve():
        parser.error(f"--output {options.output} is the video itself")
    perception = Perception(options.model)
    card = perception.card
    if not (card.classes and card.depth) or card.needs_background:
        parser.error(f"--model {options.model}: expected one with classes and depth")
    with whole(options.output) as unfinished:
        fov = math.radians(options.fov)
        count = draw(perception, options.source, unfinished, fov, options.frames)
    print(f"{options.output}: {count} frames")


if __name__ == "__main__":
    try:
        main()
    except (ValueError, BackendError, OSError) as error:
        sys.exit(f"video: {error}")
    except KeyboardInterrupt:
        sys.exit(130)
