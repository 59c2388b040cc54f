"""Image in, prediction out: a model file, its card and the backend that runs it."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from . import model_card
from .backends import BackendError, open_backend


@dataclass(frozen=True)
class Prediction:
    """What the network says of one picture, at the picture's own size H x W."""

    labels: NDArray[np.uint8] | None
    """(H, W) class ids, 255 unlabelled; None for a model without classes."""
    confidence: NDArray[np.uint8] | None
    """(H, W) probability of the label, 0 to 255; None for a model without classes."""
    depth: NDArray[np.float32] | None
    """(H, W) along the optical axis, metres if the card says metric, NaN where there is none;
    None for a model without depth."""


class Perception:
    """A model file ready to be shown pictures. One thread at a time."""

    def __init__(
        self,
        model: str | os.PathLike[str],
        backend: str = "auto",
        providers: Sequence[str] = (),
        threads: int = 0,
    ) -> None:
        """Load a model file; the arguments are those of `backends.open_backend`.

        Raises:
            ModelFileError: the file is missing, is not ONNX, or its card is missing or wrong.
            BackendError: the backend is missing or refuses the model.
        """
        self.card = model_card.read(model)
        self.backend = open_backend(model, backend, providers, threads)

    def __call__(self, image: NDArray[np.uint8], fx: float | None = None) -> Prediction:
        """Perceive one picture.

        Args:
            image: (H, W, 3) uint8 RGB.
            fx: Focal length in pixels at that size; needed for metric depth.

        Raises:
            ValueError: `image` or `fx` is not as described.
            BackendError: the backend failed.
        """
        if image.ndim != 3 or image.shape[2] != 3 or image.dtype != np.uint8 or image.size == 0:
            raise ValueError(f"got {image.dtype} {image.shape}, expected uint8 (H, W, 3)")
        inputs: dict[str, NDArray[np.generic]] = {"image": np.ascontiguousarray(image)[None]}
        if self.card.needs_fx:
            if fx is None or not 1e-3 < fx < 1e9:  # NaN is not, either
                raise ValueError(f"fx is {fx}, metric depth needs a focal length in pixels")
            inputs["fx"] = np.array([fx], np.float32)
        outputs = self.backend.run(inputs)
        for name, output in outputs.items():
            if output.shape != (1, *image.shape[:2]):
                raise BackendError(
                    f"output {name} has shape {output.shape}, expected {(1, *image.shape[:2])}"
                )
        return Prediction(*(outputs[n][0] if n in outputs else None for n in _OUTPUTS))  # type: ignore[arg-type]

    def warm_up(self, width: int, height: int) -> None:
        """Run once on a black picture, so that the first real one is not slower than the rest."""
        self(np.zeros((height, width, 3), np.uint8), float(width))

    def close(self) -> None:
        """Give back the backend's memory."""
        self.backend.close()


_OUTPUTS = ("labels", "confidence", "depth")
