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

"""Backends, which run a model file: one small interface, one module for each runtime.

Imports the model card, `files`, `imports` and `memory`; a runtime's own package is only imported
when it is used. Start with `base.Backend` and `open_backend`.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from .base import Backend, BackendError, UnservedError
from .choice import choose, why_not

__all__ = [
    "BACKENDS",
    "MAX_THREADS",
    "Backend",
    "BackendError",
    "UnservedError",
    "choose",
    "open_backend",
    "why_not",
]

BACKENDS = ("auto", "onnxruntime", "openvino", "tensorrt", "tensorrt_rtx")
MAX_THREADS = 256


def open_backend(
    model: str | os.PathLike[str],
    name: str = "auto",
    providers: Sequence[str] = (),
    threads: int = 0,
    engine: str | os.PathLike[str] = "",
) -> Backend:
    """Load a model file with a backend.

    Args:
        model: Path of the `.onnx` file.
        name: One of `BACKENDS`; `auto` uses the result of `choose`.
        providers: ONNX Runtime execution providers in order of preference; empty: all that are
            available, except those of TensorRT and Azure.
        threads: Threads within one operator, on a CPU; 0: the runtime chooses.
        engine: For TensorRT: a file written by `depthseg compile --output`; empty: the cache.

    Raises:
        BackendError: The backend is unknown or missing, refuses the model, or has no such option.
        ValueError: `threads` is negative or more than `MAX_THREADS`.
    """
    if name not in BACKENDS:
        raise BackendError(f"unknown backend {name!r}, expected one of {', '.join(BACKENDS)}")
    if not 0 <= threads <= MAX_THREADS:
        raise ValueError(f"threads is {threads}, expected 0 to {MAX_THREADS}")
    if name == "auto":
        name = "onnxruntime" if providers else choose()[0]
    if providers and name != "onnxruntime":
        raise BackendError(f"providers are only for onnxruntime, but the backend is {name}")
    if engine and not name.startswith("tensorrt"):
        raise BackendError(f"engine is only for TensorRT, but the backend is {name}")
    if name.startswith("tensorrt"):
        from .tensorrt import TensorRtBackend

        return TensorRtBackend(Path(model), name, Path(engine) if engine else None)
    if name == "openvino":
        from .openvino import OpenVinoBackend

        return OpenVinoBackend(Path(model), threads)
    from .onnxruntime import OnnxRuntimeBackend

    return OnnxRuntimeBackend(Path(model), providers, threads)
