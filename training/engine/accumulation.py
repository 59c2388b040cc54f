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

"""What a micro-batch has to know of the others that its optimizer step accumulates."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Any

from lightning.pytorch.utilities import CombinedLoader

TRUTHS = ("labels", "depth")


class AccumulatedLoader(CombinedLoader):
    """Batches of a loader, each with the truths of all that are accumulated into one step.

    A loss is a mean over the known pixels of all of them, so their number has to be known at the
    first one: as many batches as a step accumulates are loaded ahead. Each batch gets `step`, a
    list of the truths of all of them, its own too. Lightning does with the loader inside what it
    does with any, such as giving each process samples of its own.
    """

    def __init__(self, loader: Any, batches: Callable[[], int]) -> None:
        """Wrap a loader; `batches` tells how many a step accumulates, and may change by epoch."""
        super().__init__(loader, "max_size_cycle")
        self.batches = batches
        self._ahead: deque[tuple[Any, int, int]] = deque()

    def __iter__(self) -> AccumulatedLoader:
        """Begin an epoch."""
        self._ahead.clear()
        super().__iter__()
        return self

    def __next__(self) -> tuple[Any, int, int]:
        """Batch, its index and its loader's, as of `CombinedLoader`."""
        if not self._ahead:
            loaded: list[tuple[Any, int, int]] = []
            while len(loaded) < self.batches() and (item := self._load()) is not None:
                loaded.append(item)
            if self.batches() > 1:
                step = [{t: batch[t] for t in TRUTHS if t in batch} for batch, _, _ in loaded]
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
