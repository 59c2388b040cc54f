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

"""The interface of backends and their errors."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

import numpy as np
from numpy.typing import NDArray


class BackendError(RuntimeError):
    """A runtime is missing, refuses the model, or fails while running it."""


class UnservedError(BackendError):
    """A runtime works, but not for images of this size."""


class Backend(Protocol):
    """A loaded model."""

    name: str
    """The runtime and its device, for display, e.g. `onnxruntime (CPUExecutionProvider)`."""
    state: str = ""
    """Other work of `run`, e.g. `compiling, 40 %`; other threads may read it."""
    memory: tuple[int, int] | None = None
    """Used and total bytes of the GPU's memory, updated once a second while images arrive; None
    without a GPU or if unknown; other threads may read it."""

    whole_images: bool = False
    """Whether it is to get whole images even if they may be reduced (`ModelCard.reducible`): its
    engines are compiled for the camera's size."""

    def ready_for(self, size: tuple[int, int]) -> tuple[int, int] | None:
        """A width and height of images that need no compilation now.

        `size` itself if this backend compiles nothing; None if every size needs a compilation.
        """
        return size

    def run(self, inputs: Mapping[str, NDArray[np.generic]]) -> dict[str, NDArray[np.generic]]:
        """Run the graph once: maps input names to arrays, returns output names with arrays.

        The arrays are those of `docs/model_file.md`, batch axis first. Outputs are owned by the
        caller. Raises `BackendError`.
        """
        ...

    def interrupt(self) -> None:
        """Ask a `run` in another thread to stop a long compilation."""
        return

    def close(self) -> None:
        """Release the model; do not call `run` afterwards."""
        ...
