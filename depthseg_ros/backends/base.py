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

"""The interface of backends, and how they fail."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

import numpy as np
from numpy.typing import NDArray


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
