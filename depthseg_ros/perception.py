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

"""Predict labels and depth of images with a model file and a backend."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from . import model_card
from .backends import BackendError, open_backend
from .precision import choose_file
from .shaping import Shaping, resized, resized_depth


@dataclass(frozen=True)
class Prediction:
    """The network's prediction for one image, at the image's size H x W.

    With `Perception.batch(views, reduced=True)`, at the size H x W at which the graph ran.
    """

    labels: NDArray[np.uint8] | None
    """(H, W) class ids, 255 unlabelled; None for a model without classes."""
    confidence: NDArray[np.uint8] | None
    """(H, W) probability of the label, 0 to 255; None for a model without classes."""
    depth: NDArray[np.float32] | None
    """(H, W) along the optical axis, NaN if unknown. The model card gives the kind: metres, up to
    an unknown scale, or 0 to 1. None for a model without depth."""
    depth_confidence: NDArray[np.uint8] | None = None
    """(H, W) probability that depth is within 10 % of the truth, 0 to 255; 0 where depth is NaN.
    None for a model without this output; see `derived.depth_confidence`."""
    image: NDArray[np.uint8] | None = None
    """(H, W, 3) uint8 RGB, the image at the size of the outputs."""


class View(NamedTuple):
    """An image with its camera parameters."""

    image: NDArray[np.uint8]
    """(H, W, 3) uint8 RGB."""
    fx: float | None = None
    """Focal length in pixels at that size; needed for metric depth, otherwise ignored."""
    background: NDArray[np.uint8] | None = None
    """(H', W', 3) uint8 RGB, the same view without foreground; must be given for models that need
    it and only for them. It is resized to H x W."""
    fy: float | None = None
    """Vertical focal length in pixels; None: square pixels, as `fx`."""
    rotation: int = 0
    """Clockwise rotation, one of `shaping.ROTATIONS` degrees, that makes the image upright before
    it enters the network. The prediction keeps the image's original orientation."""


class Perception:
    """A loaded model file. Not thread-safe."""

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

        `model` may also be a name: `street` or `indoor`, which come with the package, or a path
        without `.onnx`. Then `precision` selects the file of that name or the int8 file beside it
        (`precision.choose_file`). `path` is the selected file and `why` the reason, empty if there
        was no choice.

        Raises:
            ModelFileError: The file is missing, is not ONNX, has another precision, or its card
                is missing or wrong.
            BackendError: The backend is missing or refuses the model.
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
        """Predict for one image; arguments as in `View`, errors as in `batch`."""
        return self.batch([View(image, fx, background, fy, rotation)])[0]

    def batch(self, views: Sequence[View], reduced: bool = False) -> list[Prediction]:
        """Predict for one or more images of the same size in one run of the network.

        A network that takes one image at a time runs once for each.

        Args:
            views: The images.
            reduced: Whether predictions keep the size at which the graph ran; otherwise they have
                the image's.

        Raises:
            ValueError: A view is not as described, or the sizes differ.
            BackendError: The backend failed.
        """
        if self.card.single_image and len(views) > 1:
            return [self.batch([view], reduced)[0] for view in views]
        stacks: dict[str, list[Any]] = {}
        shapings = []
        for view in views:
            _check_picture("image", view.image)
            height, width = view.image.shape[:2]
            shaping = Shaping.of(
                self.card,
                width,
                height,
                view.fx,
                view.fy,
                view.rotation,
                self.backend.whole_images,
            )
            shapings.append(shaping)
            for name, value in self._inputs(view, shaping).items():
                stacks.setdefault(name, []).append(value)
        shapes = {view.image.shape for view in views}, {image.shape for image in stacks["image"]}
        if max(map(len, shapes)) > 1:
            raise ValueError("the images of a batch have different sizes, expected one size")
        # A single image is not copied.
        inputs = {
            name: np.stack(values) if len(values) > 1 else np.asarray(values[0])[None]
            for name, values in stacks.items()
        }
        outputs = dict(self.backend.run(inputs))
        self._check(outputs, inputs["image"].shape[:3])
        arrays, names = outputs | {"image": inputs["image"]}, (*_OUTPUTS, "image")
        found = [
            Prediction(*(shaping.undo(arrays[n][i]) if n in arrays else None for n in names))
            for i, shaping in enumerate(shapings)
        ]
        if reduced:
            return found
        return [self._whole(p, view.image) for p, view in zip(found, views, strict=True)]

    def _whole(self, found: Prediction, image: NDArray[np.uint8]) -> Prediction:
        """A prediction at the size of the image."""
        height, width = image.shape[:2]
        outputs: dict[str, Any] = {
            name: None if output is None else resized(name, output, (width, height))
            for name, output in vars(found).items()
            if name not in ("depth", "image")
        }
        if found.depth is not None:
            outputs["depth"] = resized_depth(found.depth, (width, height), self.card.logarithmic)
        return replace(found, **outputs, image=image)

    def _check(self, outputs: dict[str, Any], shape: tuple[int, ...]) -> None:
        """Check the outputs against the model file's contract.

        Depth outside of the card's range, infinite or negative depth is replaced by NaN, and has
        no confidence; labels that the card does not have are replaced by unlabelled.
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
            depth = outputs["depth"].reshape(shape[0], -1)  # tolerance for float32 rounding
            inside = cv2.inRange(depth, limits.min * (1 - 1e-3), limits.max * (1 + 1e-3))
            if cv2.countNonZero(inside) + np.count_nonzero(np.isnan(depth)) < depth.size:
                depth = np.where(inside, depth, np.float32(np.nan))
            outputs["depth"] = depth.reshape(shape)
            if self.card.depth_confidence:
                share = outputs["depth_confidence"].reshape(inside.shape)
                outputs["depth_confidence"] = cv2.bitwise_and(share, inside).reshape(shape)

    def _inputs(self, view: View, shaping: Shaping) -> dict[str, Any]:
        """The network's inputs for one image, without the batch axis."""
        image, background = view.image, view.background
        inputs: dict[str, Any] = {"image": np.ascontiguousarray(shaping.apply(image))}
        if self.card.needs_background and background is None:
            raise ValueError(f"the model {self.card.name} needs a background image")
        if background is not None:
            if not self.card.needs_background:
                raise ValueError(f"the model {self.card.name} does not use a background image")
            _check_picture("background", background)
            if background.shape != image.shape:
                size = image.shape[1::-1]  # width, height
                background = cv2.resize(background, size, interpolation=cv2.INTER_AREA)  # type: ignore[assignment]  # cv2's types leave the dtype open
            inputs["background"] = np.ascontiguousarray(shaping.apply(background))
        if self.card.needs_fx:
            inputs["fx"] = np.float32(shaping.focal)
        return inputs

    def warm_up(self) -> None:
        """Run once on a black image, so that the first real image is not slower.

        Uses a size that needs no compilation; does nothing if all sizes need one.
        """
        if size := self.backend.ready_for(self.card.network_size):
            width, height = size
            black = np.zeros((height, width, 3), np.uint8)
            self(black, float(width), black if self.card.needs_background else None)

    def close(self) -> None:
        """Release the backend's memory."""
        self.backend.close()


_OUTPUTS: dict[str, Any] = {
    "labels": np.uint8,
    "confidence": np.uint8,
    "depth": np.float32,
    "depth_confidence": np.uint8,
}


def median_picture(pictures: Sequence[NDArray[np.uint8]]) -> NDArray[np.uint8]:
    """Compute the background of images of one view: the median of each sample over time.

    Args:
        pictures: (H, W, 3) uint8 each, all of one size; for an even number of images the median
            is the upper one of the middle two.

    Raises:
        ValueError: There are no images, or their sizes differ.
    """
    shapes = sorted({picture.shape for picture in pictures})
    if len(shapes) != 1:
        raise ValueError(f"got images of {len(shapes)} shapes {shapes}, expected one")
    median = np.empty_like(pictures[0])
    for y in range(len(median)):  # row by row: a copy of all images may not fit into memory
        rows = np.stack([picture[y] for picture in pictures])
        rows.partition(len(pictures) // 2, axis=0)
        median[y] = rows[len(pictures) // 2]
    return median


def _check_picture(name: str, picture: NDArray[np.uint8]) -> None:
    if picture.ndim != 3 or picture.shape[2] != 3 or picture.dtype != np.uint8 or not picture.size:
        raise ValueError(
            f"{name}: got {picture.dtype} {picture.shape}, expected uint8 (H, W, 3), not empty"
        )
