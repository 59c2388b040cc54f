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

"""`depthseg view`: show predictions for a source, or those of a running node."""

from __future__ import annotations

import argparse
import itertools
import math
from collections.abc import Iterator
from pathlib import Path
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from .. import model_card
from ..imaging.geometry import Intrinsics
from ..perception import Perception, Prediction
from ..sources import Frame, device_frames, file_frames, folder_frames, street_frames
from ..street import Street
from .usage import UsageError, check_target

_View: TypeAlias = tuple[NDArray[np.uint8], Intrinsics, Prediction]


def run(options: argparse.Namespace) -> None:
    """Show predictions for a source, or those of a running node."""
    try:
        from .viewer import Viewer
    except ImportError as error:
        raise UsageError(f"the viewer is missing ({error}): pip install rerun-sdk") from None
    card = model_card.read(options.model)
    if card.needs_background:
        raise UsageError(
            f"the model {card.name} needs a background image: view does not support it"
        )
    if options.save is not None:
        check_target("--save", options.save)
    shown = _live(options, card) if options.source.startswith("topic:") else _views(options)
    first = next(shown)  # a source that cannot be read raises here, before a window opens
    viewer = Viewer(card.name, card.classes, options.save)
    try:
        for number, each in enumerate(itertools.chain([first], shown), 1):
            viewer.show(number, *each)
            if number == options.frames:
                break
    finally:
        viewer.close()


def _live(options: argparse.Namespace, card: model_card.ModelCard) -> Iterator[_View]:
    try:
        from ..node.live import views
    except ImportError as error:
        raise UsageError(f"a topic needs ROS 2 ({error}): source its setup.bash") from None
    node, fov = options.source.removeprefix("topic:"), math.radians(options.fov)
    return views(node, options.image_topic, card, fov, patience=30)


def _views(options: argparse.Namespace) -> Iterator[_View]:
    perception = Perception(options.model, options.backend, precision=options.precision)
    for frame in _frames(options.source, math.radians(options.fov)):
        image = frame.image if frame.encoding == "rgb8" else frame.image[..., ::-1]
        image = np.ascontiguousarray(image)
        yield image, frame.intrinsics, perception(image, frame.intrinsics.fx)


def _frames(source: str, fov: float) -> Iterator[Frame]:
    """The images of a street, image, folder, video or device; raises `ValueError` if none."""
    path = Path(source)
    if source == "street":
        return street_frames(Street(0))
    if path.is_dir():
        return folder_frames(path, False, fov)
    if path.is_char_device():
        return device_frames(path, 640, 480, fov)
    if not path.is_file():
        raise UsageError(
            f"{source} does not exist: expected street, an image, folder, video or device"
        )
    return file_frames(path, fov)
