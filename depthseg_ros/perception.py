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

"""Image in, prediction out: a model file, its card and the backend that runs it."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from . import model_card
from .backends import BackendError, open_backend
from .precision import choose_file
from .shaping import Shaping


@dataclass(frozen=True)
class Prediction:
    """What the network says of one picture, at the picture's own size H x W."""

    labels: NDArray[np.uint8] | None
    """(H, W) class ids, 255 unlabelled; None for a model without classes."""
    confidence: NDArray[np.uint8] | None
    """(H, W) probability of the label, 0 to 255; None for a model without classes."""
    depth: NDArray[np.float32] | None
    """(H, W) along the optical axis, metres if the card says metric, else up to an unknown scale or
    0 to 1 as the card says; NaN where there is none; None for a model without depth."""


class View(NamedTuple):
    """A picture to be perceived, and what is known of it."""

    image: NDArray[np.uint8]
    """(H, W, 3) uint8 RGB."""
    fx: float | None = None
    """Focal length in pixels at that size; needed for metric depth, else ignored."""
    background: NDArray[np.uint8] | None = None
    """(H', W', 3) uint8 RGB, the same view without foreground, for the models that need it and for
    no others. One of another size is resized to H x W."""
    fy: float | None = None
    """Vertical focal length in pixels; None: that of square pixels, `fx`."""
    rotation: int = 0
    """Degrees clockwise, one of `shaping.ROTATIONS`, that make the image upright, as the network
    has to see it. The prediction is of the image as it is."""


class Perception:
    """A model file ready to be shown pictures. One thread at a time."""

    def __init__(
        self,
        model: str | os.PathLike[str],
        backend: str = "auto",
        providers: Sequence[str] = (),
        threads: int = 0,
        engine: str | os.PathLike[str] = "",
        precision: str = "auto",
    ) -> None:
        """Load a model file; the arguments are those of `backends.open_backend`.

        `model` may also be a name, `street` or `indoor`, the package's own, or a path without its
        `.onnx`: `precision` says whether the file of that name runs, or the int8 file beside it
        (`precision.choose_file`). `path` is the file that runs, `why` says why in words, empty
        where there was no choice.

        Raises:
            ModelFileError: the file is missing, is not ONNX, is of another precision, or its card
                is missing or wrong.
            BackendError: the backend is missing or refuses the model.
        """
        chosen = choose_file(model, precision, backend, providers, threads)
        self.path, self.why = chosen.path, chosen.why
        self.card = card = model_card.read(self.path)
        self._promised = {name: _OUTPUTS[name] for name in card.outputs}
        self._known = np.full(256, model_card.UNLABELLED, np.uint8)
        for known in card.classes:
            self._known[known.id] = known.id
        self.backend = chosen.backend or open_backend(
            self.path, backend, providers, threads, engine
        )

    def __call__(
        self,
        image: NDArray[np.uint8],
        fx: float | None = None,
        background: NDArray[np.uint8] | None = None,
        fy: float | None = None,
        rotation: int = 0,
    ) -> Prediction:
        """Perceive one picture; the arguments are those of `View`, the errors those of `batch`."""
        return self.batch([View(image, fx, background, fy, rotation)])[0]

    def batch(self, views: Sequence[View]) -> list[Prediction]:
        """Perceive pictures of one size, at least one, in one run of the network.

        Raises:
            ValueError: a view is not as described, or their sizes differ.
            BackendError: the backend failed.
        """
        stacks: dict[str, list[Any]] = {}
        shapings = []
        for view in views:
            _check_picture("image", view.image)
            height, width = view.image.shape[:2]
            shaping = Shaping.of(self.card, width, height, view.fx, view.fy, view.rotation)
            shapings.append(shaping)
            for name, value in self._inputs(view, shaping).items():
                stacks.setdefault(name, []).append(value)
        shapes = {view.image.shape for view in views}, {image.shape for image in stacks["image"]}
        if max(map(len, shapes)) > 1:
            raise ValueError("pictures of several sizes cannot be perceived at once")
        # Of one picture no copy is made.
        inputs = {
            name: np.stack(values) if len(values) > 1 else np.asarray(values[0])[None]
            for name, values in stacks.items()
        }
        outputs = dict(self.backend.run(inputs))
        self._check(outputs, inputs["image"].shape[:3])
        return [
            Prediction(
                *(shaping.undo(outputs[n][i]) if n in outputs else None for n in _OUTPUTS)  # type: ignore[arg-type]
            )
            for i, shaping in enumerate(shapings)
        ]

    def _check(self, outputs: dict[str, Any], shape: tuple[int, ...]) -> None:
        """Hold outputs, by name, to the model file's contract, whatever the runtime gave.

        What is out of the card's range, infinite or negative depth, is NaN from then on; labels
        that the card does not know are unlabelled.
        """
        for name, kind in self._promised.items():
            output = outputs.get(name)
            if output is None or output.shape != shape or output.dtype != kind:
                got = "nothing" if output is None else f"{output.dtype} {output.shape}"
                raise BackendError(f"output {name}: got {got}, expected {kind.__name__} {shape}")
        if self.card.classes:
            flat = outputs["labels"].reshape(shape[0], -1)
            outputs["labels"] = cv2.LUT(flat, self._known).reshape(shape)
        if limits := self.card.depth:
            depth = outputs["depth"].reshape(shape[0], -1)  # float32's rounding is no fault
            inside = cv2.inRange(depth, limits.min * (1 - 1e-3), limits.max * (1 + 1e-3))
            if cv2.countNonZero(inside) < depth.size:
                depth = np.where(inside, depth, np.float32(np.nan))
            outputs["depth"] = depth.reshape(shape)

    def _inputs(self, view: View, shaping: Shaping) -> dict[str, Any]:
        """The network's inputs for one picture, without the batch axis."""
        image, background = view.image, view.background
        inputs: dict[str, Any] = {"image": np.ascontiguousarray(shaping.apply(image))}
        if self.card.needs_background and background is None:
            raise ValueError(f"the model {self.card.name} needs a background")
        if background is not None:
            if not self.card.needs_background:
                raise ValueError(f"the model {self.card.name} takes no background")
            _check_picture("background", background)
            if background.shape != image.shape:
                size = image.shape[1::-1]  # width, height
                background = cv2.resize(background, size, interpolation=cv2.INTER_AREA)  # type: ignore[assignment]
            inputs["background"] = np.ascontiguousarray(shaping.apply(background))
        if self.card.needs_fx:
            inputs["fx"] = np.float32(shaping.focal)  # type: ignore[arg-type]  # checked above
        return inputs

    def warm_up(self) -> None:
        """Run once on a black picture, so that the first real one is not slower than the rest.

        Of a size that needs no compilation; where all do, nothing is run.
        """
        if size := self.backend.ready_for(self.card.network_size):
            width, height = size
            black = np.zeros((height, width, 3), np.uint8)
            self(black, float(width), black if self.card.needs_background else None)

    def close(self) -> None:
        """Give back the backend's memory."""
        self.backend.close()


_OUTPUTS: dict[str, Any] = {"labels": np.uint8, "confidence": np.uint8, "depth": np.float32}


def median_picture(pictures: Sequence[NDArray[np.uint8]]) -> NDArray[np.uint8]:
    """What stands still in pictures of one view: the median over time of each sample.

    Args:
        pictures: (H, W, 3) uint8 each, all of one size; of an even number of them the median is
            the upper one of the middle two.

    Raises:
        ValueError: there are none, or their sizes differ.
    """
    shapes = sorted({picture.shape for picture in pictures})
    if len(shapes) != 1:
        raise ValueError(f"got pictures of {len(shapes)} shapes {shapes}, expected one")
    median = np.empty_like(pictures[0])
    for y in range(len(median)):  # row by row: a copy of all pictures may be more than fits
        rows = np.stack([picture[y] for picture in pictures])
        rows.partition(len(pictures) // 2, axis=0)
        median[y] = rows[len(pictures) // 2]
    return median


def _check_picture(name: str, picture: NDArray[np.uint8]) -> None:
    if picture.ndim != 3 or picture.shape[2] != 3 or picture.dtype != np.uint8 or not picture.size:
        raise ValueError(
            f"{name}: got {picture.dtype} {picture.shape}, expected uint8 (H, W, 3), not empty"
        )
