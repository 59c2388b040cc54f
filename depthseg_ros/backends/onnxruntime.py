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

"""ONNX Runtime: the default without TensorRT, for any CPU and all devices with a provider."""

from __future__ import annotations

import io
import logging
from collections.abc import Mapping, Sequence
from contextlib import redirect_stdout, suppress
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ..imports import MissingError, explained
from ..memory import Sizes, trim_memory
from .base import Backend, BackendError

_LOG = logging.getLogger(__name__)

# Providers that are used only by name, not with `providers=()`: TensorRT's compile for minutes at
# the first frame, Azure's would send images to a server.
_ON_REQUEST = (
    "TensorrtExecutionProvider",
    "NvTensorRTRTXExecutionProvider",
    "AzureExecutionProvider",
)

_ON_CUDA = {
    "CUDAExecutionProvider",
    "TensorrtExecutionProvider",
    "NvTensorRTRTXExecutionProvider",
}


class OnnxRuntimeBackend(Backend):
    """A model file in an ONNX Runtime session; see `Backend`."""

    def __init__(self, model: Path, providers: Sequence[str], threads: int) -> None:
        """Load `model`; raises `BackendError` if that fails."""
        try:
            with explained():
                import onnxruntime
        except MissingError as error:
            raise BackendError(str(error)) from None
        available = onnxruntime.get_available_providers()
        missing = [provider for provider in providers if provider not in available]
        if missing:
            raise BackendError(
                f"ONNX Runtime has no provider {', '.join(missing)}, expected some of"
                f" {', '.join(available)}"
            )
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        # Its threads wait for work in a busy loop. That is fast during a run; after it, they only
        # take time from the computation of outputs.
        options.add_session_config_entry("session.force_spinning_stop", "1")
        options.log_severity_level = 3  # its warnings are for authors of graphs
        if tuple(map(int, onnxruntime.__version__.split(".")[:2])) < (1, 19):
            # It plans memory from the first run; from the second run on it overwrote the image's
            # size in graphs of `depthseg wrap`.
            options.enable_mem_pattern = False
        chosen = list(providers) or [p for p in available if p not in _ON_REQUEST]
        try:
            if _ON_CUDA.intersection(chosen) and hasattr(onnxruntime, "preload_dlls"):
                # Loads the CUDA libraries that pip installs, which the loader does not find. It
                # prints missing ones; the provider's own error reports them, too.
                with redirect_stdout(io.StringIO()):
                    onnxruntime.preload_dlls()
            self._session = onnxruntime.InferenceSession(str(model), options, providers=chosen)
        except Exception as error:  # its exceptions have no common base
            raise BackendError(f"ONNX Runtime refuses {model}: {_first_line(error)}") from None
        loaded = (
            self._session.get_providers()
        )  # providers that cannot be loaded are replaced by the CPU
        unloaded = ", ".join(provider for provider in providers if provider not in loaded)
        if unloaded and loaded[0] not in providers:
            raise BackendError(
                f"ONNX Runtime cannot load {unloaded}: there is no such GPU, or its libraries are"
                " missing or have another version (see the lines before); to fall back to the CPU,"
                " add CPUExecutionProvider as the last provider"
            )
        if unloaded:
            _LOG.warning("ONNX Runtime cannot load %s, running on %s", unloaded, loaded[0])
        self.name = f"onnxruntime ({loaded[0]})"
        self._outputs = [output.name for output in self._session.get_outputs()]
        self._sizes = Sizes()  # of inputs, bytes
        self._shrinking = onnxruntime.RunOptions()
        self._shrinking.add_run_config_entry("memory.enable_memory_arena_shrinkage", "cpu:0")

    def run(self, inputs: Mapping[str, NDArray[np.generic]]) -> dict[str, NDArray[np.generic]]:
        """Run the graph once; see `Backend.run`."""
        try:
            results = self._run(dict(inputs))
        except Exception as error:  # its exceptions have no common base
            raise BackendError(f"ONNX Runtime failed: {_first_line(error)}") from None
        return dict(zip(self._outputs, results, strict=True))

    def _run(self, inputs: dict[str, NDArray[np.generic]]) -> list[NDArray[np.generic]]:
        if self._sizes.outgrown(sum(each.nbytes for each in inputs.values())):
            # Its arena never shrinks by itself. The memory of a run's outputs is not free at its
            # end, so only a later, smaller run can release the memory of a large one.
            with suppress(Exception):  # without such an arena
                results = self._session.run(self._outputs, inputs, self._shrinking)
                trim_memory()
                return results
        return self._session.run(self._outputs, inputs)

    def close(self) -> None:
        """Release the session; see `Backend.close`."""
        del self._session


def _first_line(error: Exception) -> str:
    """The first line; of a long one mostly the end, which has the reason."""
    line = (str(error).splitlines() or [type(error).__name__])[0]
    return line if len(line) <= 300 else f"{line[:40]} ... {line[-255:]}"
