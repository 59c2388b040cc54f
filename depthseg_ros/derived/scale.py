"""How far off depth is, by what is known of the camera."""

from __future__ import annotations

import math
import statistics
from collections import deque

MEMORY = 30
"""Pictures whose median counts: about as long as it takes to drive over a bump."""


class ScaleEstimate:
    """What depth is to be multiplied by, from ratios of known to measured height."""

    def __init__(self) -> None:
        self._ratios: deque[float] = deque(maxlen=MEMORY)

    def add(self, ratio: float) -> None:
        """Take one picture's ratio into account; one that is not above 0 and finite tells nothing.

        Args:
            ratio: The camera's height above the ground by its depth divides the known one.
        """
        if 0 < ratio < math.inf:
            self._ratios.append(ratio)

    @property
    def now(self) -> float:
        """The median of the last ratios; NaN before the first."""
        return statistics.median(self._ratios) if self._ratios else math.nan
