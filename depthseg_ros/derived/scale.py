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

"""Estimate the scale error of depth from the camera's known height."""

from __future__ import annotations

import math
import statistics
from collections import deque

MEMORY = 30
"""Number of images over which the median is taken: about the time to drive over a bump."""


class ScaleEstimate:
    """Scale factor for depth, from the camera's height above the ground in the depth."""

    def __init__(self) -> None:
        self._heights: deque[float] = deque(maxlen=MEMORY)

    def add(self, height: float) -> None:
        """Add the height from one image; it is ignored if it is not positive and finite.

        Args:
            height: The camera's above the ground, in the units of its depth.
        """
        if 0 < height < math.inf:
            self._heights.append(height)

    def of(self, height: float) -> float:
        """Ratio of the known height to the median of the last heights; NaN before the first."""
        return height / statistics.median(self._heights) if self._heights else math.nan
