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

"""Print the distance and direction of each class in one image, without ROS.

python examples/image.py docs/images/street.jpg --fx 541
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
    """Predict labels and depth of an image, and print the distances."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("image", type=Path)
    parser.add_argument("--fx", type=float, required=True, help="focal length, pixels")
    parser.add_argument(
        "--model", type=Path, default=default_model(), help="a model file with classes and depth"
    )
    parser.add_argument(
        "--overlay", type=Path, help="a .jpg or .png to write: the image with coloured classes"
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
    image = read_image(options.image)  # (H, W, 3) uint8 RGB
    prediction = perception(image, options.fx)

    height, width = image.shape[:2]
    camera = Intrinsics.from_fov(width, height, 2 * math.atan(width / 2 / options.fx))
    names = {c.id: c.name for c in card.classes}
    for found in class_distances(
        prediction.labels, names, prediction.confidence, prediction.depth, partial(rays, camera)
    ):
        where = f"from {found.nearest:6.2f} m at {math.degrees(found.bearing):+4.0f} degrees"
        if math.isnan(found.nearest):  # sky, for example
            where = "no depth"
        print(f"{found.class_name:12} {100 * found.pixel_share:5.1f} %  {where}")
    if options.overlay:
        rgb = overlay(image, prediction.labels, card.classes)
        encoded = cv2.imencode(options.overlay.suffix, cv2.cvtColor(rgb, cv2.COLOR_RGB2BGR))[1]
        with whole(options.overlay) as unfinished:
            unfinished.write_bytes(encoded.tobytes())


if __name__ == "__main__":
    try:
        main()
    except (ValueError, BackendError, OSError) as error:
        sys.exit(f"image: {error}")
    except KeyboardInterrupt:
        sys.exit(130)
