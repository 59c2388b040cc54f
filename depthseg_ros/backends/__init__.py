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

"""What runs a model file: one small interface, one module a runtime."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from importlib import import_module
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

BACKENDS = ("auto", "onnxruntime", "openvino", "tensorrt", "tensorrt_rtx")
MAX_THREADS = 256


class BackendError(RuntimeError):
    """A runtime is missing, refuses the model, or fails while running it."""


class UnservedError(BackendError):
    """A runtime works, but not for pictures of this size."""


class Backend(Protocol):
    """A loaded model."""

    name: str
    """The runtime and where it runs, for people, e.g. `onnxruntime (CPUExecutionProvider)`."""
    state: str = ""
    """What `run` is busy with beside running, e.g. `compiling, 40 %`; for other threads to read."""
    memory: tuple[int, int] | None = None
    """Bytes in use of the GPU's memory and all of it, as of the last second with a picture; None
    without a GPU, or where that is not known; for other threads to read."""

    def ready_for(self, size: tuple[int, int]) -> tuple[int, int] | None:
        """A width and height of pictures that need no compilation now.

        `size` itself where nothing is ever compiled; None where every size would be.
        """
        return size

    def run(self, inputs: Mapping[str, NDArray[np.generic]]) -> dict[str, NDArray[np.generic]]:
        """Run the graph once: input name -> array in, output name -> array out.

        The arrays are those of `docs/model_file.md`, batch axis first. Outputs are owned by the
        caller. Raises `BackendError`.
        """
        ...

    def interrupt(self) -> None:
        """Ask a `run` that is under way in another thread to give up what takes it long."""
        return

    def close(self) -> None:
        """Give back what the model holds; `run` must not be called afterwards."""
        ...


def why_not(name: str) -> str:
    """What keeps a backend from running on this machine, in words; empty: nothing."""
    from . import compiler, cuda

    try:
        if name in compiler.FLAVOURS:
            if name not in compiler.installed():
                compiler.load_flavour(name)  # which says what to install
            device = cuda.open_device()  # first: it costs next to nothing where there is none
            device.close()
            trt = compiler.load_flavour(name)
            if served := getattr(trt, "ComputeCapability", None):
                kind = f"SM{device.compute_capability.replace('.', '')}"
                # Turing is listed, but served from Ampere on only.
                if kind == "SM75" or kind not in served.__members__:
                    return f"{compiler.FLAVOURS[name].title} does not serve {device.name}, {kind}"
        else:
            import_module(name)
    except (BackendError, ImportError) as error:
        return str(error)
    return ""


def choose() -> tuple[str, str]:
    """The backend that `auto` takes on this machine, and why, in words."""
    from .compiler import installed

    reasons = []
    for flavour in installed():
        reason = why_not(flavour)
        if not reason:
            return flavour, "it is installed, and there is a GPU"
        reasons.append(f"not {flavour}: {reason}")
    reasons = reasons or ["no TensorRT is installed"]
    return "onnxruntime", f"the fastest measured on CPUs; {'; '.join(reasons)}"


def open_backend(
    model: str | os.PathLike[str],
    name: str = "auto",
    providers: Sequence[str] = (),
    threads: int = 0,
    engine: str | os.PathLike[str] = "",
) -> Backend:
    """Load the model file with the backend of that name.

    Args:
        model: Path of the `.onnx` file.
        name: One of `BACKENDS`; `auto` takes what `choose` says.
        providers: ONNX Runtime execution providers in order of preference; empty: all it has but
            TensorRT's and Azure's.
        threads: Threads within one operator, on a CPU; 0: the runtime's own choice.
        engine: TensorRT's: a file that `depthseg compile --output` wrote; empty: the cache's.

    Raises:
        BackendError: unknown or missing backend, it refuses the model, or has no such option.
        ValueError: `threads` is negative or more than `MAX_THREADS`.
    """
    if name not in BACKENDS:
        raise BackendError(f"unknown backend {name!r}, expected one of {', '.join(BACKENDS)}")
    if not 0 <= threads <= MAX_THREADS:
        raise ValueError(f"threads is {threads}, expected 0 to {MAX_THREADS}")
    if name == "auto":
        name = "onnxruntime" if providers else choose()[0]
    if providers and name != "onnxruntime":
        raise BackendError(f"providers are ONNX Runtime's; {name} takes none")
    if engine and not name.startswith("tensorrt"):
        raise BackendError(f"an engine is TensorRT's; {name} takes none")
    if name.startswith("tensorrt"):
        from .tensorrt import TensorRtBackend

        return TensorRtBackend(Path(model), name, Path(engine) if engine else None)
    if name == "openvino":
        from .openvino import OpenVinoBackend

        return OpenVinoBackend(Path(model), threads)
    from .onnxruntime import OnnxRuntimeBackend

    return OnnxRuntimeBackend(Path(model), providers, threads)
