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

"""`depthseg predict`: write labels, depth and an overlay of images and videos."""

from __future__ import annotations

import argparse
import itertools
import math
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from .. import model_card
from ..files import whole
from ..imaging import rendering
from ..imaging.geometry import Intrinsics, to_millimetres
from ..imaging.image_files import (
    BESIDE,
    IMAGES,
    is_image,
    read_image,
    report_left_out,
    visible_files,
)
from ..perception import Perception, Prediction
from ..sources import file_frames, is_video, open_video
from .usage import UsageError, progress_bar


def run(options: argparse.Namespace) -> None:
    """Write labels, depth and an overlay for every image."""
    sources = list(_sources(options.paths))
    perception = Perception(
        options.model, options.backend, threads=options.threads, precision=options.precision
    )
    background = None if options.background is None else read_image(options.background)
    if perception.card.needs_background != (background is not None):
        raise UsageError(
            f"the model {perception.card.name} needs --background, an image of the same view"
            " without foreground"
            if background is None
            else f"the model {perception.card.name} does not use --background: remove it"
        )
    if perception.card.depth and perception.card.depth.kind != "metric":
        print(
            f"depthseg predict: the model's depth is {perception.card.depth.kind}, not metres;"
            " NAME.depth.png holds thousandths of it",
            file=sys.stderr,
        )
    if perception.card.needs_fx and options.fx is None:
        print(
            f"depthseg predict: no --fx given; assuming a horizontal field of view of"
            f" {options.fov:g} degrees; an error in it scales all depth",
            file=sys.stderr,
        )
    for source in sources:
        for end in BESIDE:
            target = options.output / f"{source.stem}{end}.png"
            if target.exists() and target.parent.samefile(source.path.parent):
                raise UsageError(
                    f"{target} already exists and could be the ground truth of {source.path.name}:"
                    " choose another --output"
                )
    try:
        options.output.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UsageError(f"--output {options.output} cannot be a folder: {error}") from None
    unreadable = []
    with progress_bar() as progress:
        task = progress.add_task("predict", total=sum(source.frames for source in sources))
        for source in sources:
            images = _images(source.path)
            for frame in itertools.count():
                try:
                    image = next(images, None)
                except ValueError as error:
                    unreadable.append(str(error))
                    break
                if image is None:
                    break
                name = f"{source.stem}_{frame:06}" if source.video else source.stem
                height, width = image.shape[:2]
                view = Intrinsics.from_fov(width, height, math.radians(options.fov))
                prediction = perception(image, options.fx or view.fx, background)
                _write(options.output / name, image, prediction, perception.card)
                progress.advance(task)
    if unreadable:
        raise ValueError(
            f"{len(unreadable)} of {len(sources)} files could not be read: "
            + "; ".join(unreadable[:5])
        )


class _Source(NamedTuple):
    """An image or video file of the arguments."""

    path: Path
    video: bool
    frames: int
    """Number of frames according to the file; at least 1."""

    @property
    def stem(self) -> str:
        """Beginning of the names of its output files."""
        return self.path.stem


def _sources(paths: list[Path]) -> Iterator[_Source]:
    """List every image and video of the arguments; report other files in folders."""
    stems: dict[str, Path] = {}
    for path in paths:
        if path.is_dir():
            files = visible_files(path)
            videos = {file for file in files if is_video(file)}
            report_left_out(
                path,
                (f for f in files if f.suffix.lower() not in IMAGES and f not in videos),
                "neither image file names nor videos",
            )
            files = [file for file in files if file in videos or is_image(file)]
            if not files:
                raise UsageError(f"the folder {path} contains no images or videos")
        elif path.exists():
            files, videos = [path], {path} if is_video(path, try_it=True) else set()
        else:
            raise UsageError(f"{path} does not exist")
        for file in files:
            known = stems.setdefault(file.stem, file)
            if known != file:
                raise UsageError(f"{known} and {file} would both be written as {file.stem}.*")
            count = 1
            if file in videos:
                count = int(open_video(file).get(cv2.CAP_PROP_FRAME_COUNT))
            yield _Source(file, file in videos, max(count, 1))


def _images(path: Path) -> Iterator[NDArray[np.uint8]]:
    """The RGB images of an image file or a video; raises `ValueError` if it cannot be read."""
    for frame in file_frames(path, 1.0):
        yield np.asarray(cv2.cvtColor(frame.image, cv2.COLOR_BGR2RGB))


def _write(
    stem: Path, image: NDArray[np.uint8], prediction: Prediction, card: model_card.ModelCard
) -> None:
    if prediction.labels is not None:
        _write_png(stem, "labels", prediction.labels)
        blended = rendering.overlay(image, prediction.labels, card.classes)
        _write_png(stem, "overlay", cv2.cvtColor(blended, cv2.COLOR_RGB2BGR))
    if prediction.depth is not None:
        # If depth is not metric, these are thousandths of its unit.
        _write_png(stem, "depth", to_millimetres(prediction.depth))


def _write_png(stem: Path, what: str, image: np.ndarray) -> None:
    """Write `STEM.WHAT.png` atomically."""
    with whole(stem.with_name(f"{stem.name}.{what}.png")) as unfinished:
        unfinished.write_bytes(cv2.imencode(".png", image)[1].tobytes())
