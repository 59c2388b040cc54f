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

"""OpenVINO, for x86 CPUs; only on request: ONNX Runtime is faster (docs/performance.md)."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import onnx
from numpy.typing import NDArray

from ..imports import MissingError, explained
from .base import Backend, BackendError


class OpenVinoBackend(Backend):
    """A model file compiled by OpenVINO for the CPU; see `Backend`."""

    def __init__(self, model: Path, threads: int) -> None:
        """Compile `model`; raises `BackendError` if that fails."""
        try:
            with explained():
                import openvino
        except MissingError as error:
            raise BackendError(str(error)) from None
        # By default it computes an fp32 model in bf16 if the CPU can. The model file sets the
        # precision.
        options: dict[str, str | int] = {
            "INFERENCE_PRECISION_HINT": "f32",
            "PERFORMANCE_HINT": "LATENCY",
        }
        if threads:
            options["INFERENCE_NUM_THREADS"] = threads
        try:
            self._request = (
                openvino.Core().compile_model(str(model), "CPU", options).create_infer_request()
            )
            # In the graph's order; OpenVINO may rename outputs that are copies of others.
            self._outputs = [output.name for output in onnx.load(model).graph.output]
        except Exception as error:  # its exceptions have no common base
            raise BackendError(f"OpenVINO refuses {model}: {_last_line(error)}") from None
        self.name = "openvino (CPU)"

    def run(self, inputs: Mapping[str, NDArray[np.generic]]) -> dict[str, NDArray[np.generic]]:
        """Run the graph once; see `Backend.run`."""
        try:
            results = self._request.infer(dict(inputs))
        except Exception as error:  # its exceptions have no common base
            raise BackendError(f"OpenVINO failed: {_last_line(error)}") from None
        # Copies: the request writes its next outputs into the same memory.
        return {
            name: np.array(array)
            for name, array in zip(self._outputs, results.values(), strict=True)
        }

    def close(self) -> None:
        """Release the compiled model; see `Backend.close`."""
        del self._request


def _last_line(error: Exception) -> str:
    """The last line, which has the reason; the lines before are positions in its sources."""
    return (str(error).strip().splitlines() or [type(error).__name__])[-1]
