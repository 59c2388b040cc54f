"""What runs a model file: one small interface, one module a runtime."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

BACKENDS = ("auto", "onnxruntime", "openvino")
MAX_THREADS = 256


class BackendError(RuntimeError):
    """A runtime is missing, refuses the model, or fails while running it."""


class Backend(Protocol):
    """A loaded model."""

    name: str
    """The runtime and where it runs, for people, e.g. `onnxruntime (CPUExecutionProvider)`."""

    def run(self, inputs: Mapping[str, NDArray[np.generic]]) -> dict[str, NDArray[np.generic]]:
        """Run the graph once: input name -> array in, output name -> array out.

        The arrays are those of `docs/model_file.md`, batch axis first. Outputs are owned by the
        caller. Raises `BackendError`.
        """
        ...

    def close(self) -> None:
        """Give back what the model holds; `run` must not be called afterwards."""
        ...


def choose() -> tuple[str, str]:
    """The backend that `auto` takes on this machine, and why, in words."""
    return "onnxruntime", "the fastest measured on CPUs, see docs/performance.md"


def open_backend(
    model: str | os.PathLike[str],
    name: str = "auto",
    providers: Sequence[str] = (),
    threads: int = 0,
) -> Backend:
    """Load the model file with the backend of that name.

    Args:
        model: Path of the `.onnx` file.
        name: One of `BACKENDS`; `auto` takes what `choose` says.
        providers: ONNX Runtime execution providers in order of preference; empty: all it has.
        threads: Threads within one operator; 0: the runtime's own choice.

    Raises:
        BackendError: unknown or missing backend, or it refuses the model.
        ValueError: `threads` is negative or more than `MAX_THREADS`.
    """
    if name not in BACKENDS:
        raise BackendError(f"unknown backend {name!r}, expected one of {', '.join(BACKENDS)}")
    if not 0 <= threads <= MAX_THREADS:
        raise ValueError(f"threads is {threads}, expected 0 to {MAX_THREADS}")
    if name == "auto":
        name, _ = choose()
    if name == "openvino":
        if providers:
            raise BackendError("providers are ONNX Runtime's; openvino takes none")
        from .openvino import OpenVinoBackend

        return OpenVinoBackend(Path(model), threads)
    from .onnxruntime import OnnxRuntimeBackend

    return OnnxRuntimeBackend(Path(model), providers, threads)
