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

"""Gradient accumulation: give each micro-batch the ground truth of all batches of its step."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Any

from lightning.pytorch.utilities import CombinedLoader

GROUND_TRUTH = ("labels", "depth")


class AccumulatedLoader(CombinedLoader):
    """Batches of a loader, each with the ground truth of all batches of its optimizer step.

    A loss is a mean over the known pixels of all batches of a step. Their number is needed for the
    first batch already, so all batches of a step are loaded before it. Each batch gets `step`: a
    list with the ground truth of all of them, including its own. Lightning treats the wrapped
    loader as usual, for example it gives each process its own samples.
    """

    def __init__(self, loader: Any, batches: Callable[[], int]) -> None:
        """Wrap a loader; `batches` returns how many a step has, which may change by epoch."""
        super().__init__(loader, "max_size_cycle")
        self.batches = batches
        self._ahead: deque[tuple[Any, int, int]] = deque()

    def __iter__(self) -> AccumulatedLoader:
        """Start an epoch."""
        self._ahead.clear()
        super().__iter__()
        return self

    def __next__(self) -> tuple[Any, int, int]:
        """Return a batch, its index and its loader's index, as `CombinedLoader` does."""
        if not self._ahead:
            loaded: list[tuple[Any, int, int]] = []
            while len(loaded) < self.batches() and (item := self._load()) is not None:
                loaded.append(item)
            if self.batches() > 1:
                step = [{t: batch[t] for t in GROUND_TRUTH if t in batch} for batch, _, _ in loaded]
                loaded = [({**batch, "step": step}, i, j) for batch, i, j in loaded]
            self._ahead.extend(loaded)
        if not self._ahead:
            raise StopIteration
        return self._ahead.popleft()

    def _load(self) -> tuple[Any, int, int] | None:
        try:
            return super().__next__()
        except StopIteration:
            return None
