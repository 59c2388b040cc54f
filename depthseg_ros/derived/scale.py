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

"""How far off depth is, by what is known of the camera."""

from __future__ import annotations

import math
import statistics
from collections import deque

MEMORY = 30
"""Pictures whose median counts: about as long as it takes to drive over a bump."""


class ScaleEstimate:
    """What depth is to be multiplied by, from the camera's height above the ground by its depth."""

    def __init__(self) -> None:
        self._heights: deque[float] = deque(maxlen=MEMORY)

    def add(self, height: float) -> None:
        """Take one picture into account; a height that is not above 0 and finite tells nothing.

        Args:
            height: The camera's above the ground, in the units of its depth.
        """
        if 0 < height < math.inf:
            self._heights.append(height)

    def of(self, height: float) -> float:
        """What brings the median of the last heights to the known one; NaN before the first."""
        return height / statistics.median(self._heights) if self._heights else math.nan
