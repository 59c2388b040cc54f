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

"""One picture, without ROS: how far each class is, and where.

python examples/picture.py docs/images/street.jpg --fx 541
"""

from __future__ import annotations

import argparse
import math
import sys
from functools import partial
from pathlib import Path

import cv2

from depthseg_ros.backends import BackendError
from depthseg_ros.derived.distances import class_distances
from depthseg_ros.files import whole
from depthseg_ros.imaging.geometry import Intrinsics, rays
from depthseg_ros.imaging.image_files import read_image
from depthseg_ros.imaging.rendering import overlay
from depthseg_ros.model_card import default_model
from depthseg_ros.perception import Perception


def main() -> None:
    """Look at a picture, and print what is seen."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("picture", type=Path)
    parser.add_argument("--fx", type=float, required=True, help="focal length, pixels")
    parser.add_argument(
        "--model", type=Path, default=default_model(), help="a model file with classes and depth"
    )
    parser.add_argument(
        "--overlay", type=Path, help="a .jpg or .png to write, with the classes' colours"
    )
    options = parser.parse_args()
    if not 0 < options.fx < math.inf:
        parser.error("--fx: expected pixels above 0")
    if options.overlay and options.overlay.suffix not in (".jpg", ".png"):
        parser.error(f"--overlay {options.overlay}: expected a .jpg or .png")

    perception = Perception(options.model)
    card = perception.card
    if not (card.classes and card.depth) or card.needs_background:
        parser.error(f"--model {options.model}: expected one with classes and depth")
    image = read_image(options.picture)  # (H, W, 3) uint8 RGB
    seen = perception(image, options.fx)

    height, width = image.shape[:2]
    camera = Intrinsics.from_fov(width, height, 2 * math.atan(width / 2 / options.fx))
    names = {c.id: c.name for c in card.classes}
    for found in class_distances(
        seen.labels, names, seen.confidence, seen.depth, partial(rays, camera)
    ):
        where = f"from {found.nearest:6.2f} m at {math.degrees(found.bearing):+4.0f} degrees"
        if math.isnan(found.nearest):  # of the sky, for example
            where = "no depth"
        print(f"{found.class_name:12} {100 * found.pixel_share:5.1f} %  {where}")
    if options.overlay:
        drawn = cv2.cvtColor(overlay(image, seen.labels, card.classes), cv2.COLOR_RGB2BGR)
        with whole(options.overlay) as unfinished:
            unfinished.write_bytes(cv2.imencode(options.overlay.suffix, drawn)[1].tobytes())


if __name__ == "__main__":
    try:
        main()
    except (ValueError, BackendError, OSError) as error:
        sys.exit(f"picture: {error}")
    except KeyboardInterrupt:
        sys.exit(130)
