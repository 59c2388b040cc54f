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
