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

"""Simple tests of the image quality."""

from __future__ import annotations

from typing import Any, NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

DARK = 25.0
"""Grey level (0 to 255) that the brightest twentieth of an image reaches unless it is dark."""
OVER_EXPOSED = 0.4
"""Share of white pixels from which an image is over-exposed."""
BLANK = 1.5
"""Mean grey levels between neighbouring patches, below which an image has no detail."""
NOISE = 30.0
"""Grey levels between neighbouring pixels, in the median, above which an image is noise."""
LOW_CONFIDENCE = 0.91
"""Mean probability of the labels below which the default model has low confidence."""
STILL = 1.0
"""Seconds that an image stays the same to the last bit before it is called frozen: drivers and
video encoders repeat images for shorter times, and a sensor's noise never does for so long."""
REPEATS = 3
"""Minimum number of identical images, for the same reason."""

_SIZE = 80, 60
"""Columns and rows of patches."""
_WHITE = 250


class Measurements(NamedTuple):
    """What the tests compare with their thresholds."""

    light: float
    """Grey level that the brightest twentieth of the patches reaches."""
    over_exposed: float
    """Share of patches that are white."""
    detail: float
    """Mean difference of a patch from the mean of its neighbours, grey levels."""
    noise: float
    """Median difference of a pixel from the mean of its neighbours, grey levels."""
    confidence: float
    """Mean probability of the labels; 1 where the model has none."""


def measure(image: NDArray[np.uint8], confidence: NDArray[np.uint8] | None) -> Measurements:
    """Measure one image, on some of its rows.

    Args:
        image: (H, W, 3) uint8 RGB.
        confidence: (H, W) uint8, probability of the labels from 0 to 255.
    """
    step, across = (
        max(1, length // count) for length, count in zip(image.shape[:2], (120, 640), strict=True)
    )
    patches: Any = cv2.resize(image[::step, ::across], _SIZE, interpolation=cv2.INTER_AREA)
    grey = cv2.cvtColor(patches, cv2.COLOR_RGB2GRAY)
    wide: Any = grey.astype(np.int16)
    green = image[:: 4 * step * across, :, 1].astype(np.int16)
    return Measurements(
        light=float(np.partition(grey, -grey.size // 20, axis=None)[-grey.size // 20]),
        over_exposed=float(np.count_nonzero(grey >= _WHITE) / grey.size),
        detail=float(np.abs(_bend(wide)).mean() / 2),
        noise=float(np.median(np.abs(_bend(green))) / 2) if green.shape[1] > 2 else 0.0,
        confidence=1.0 if confidence is None else float(confidence[::8, ::8].mean() / 255),
    )


def _bend(rows: NDArray[np.int16]) -> NDArray[np.int16]:
    """Twice each pixel's difference from the mean of the ones to its left and right."""
    bend: NDArray[np.int16] = 2 * rows[:, 1:-1] - rows[:, :-2] - rows[:, 2:]
    return bend


class ImageQuality:
    """Finds quality issues of one camera's images, which come one after the other."""

    def __init__(self) -> None:
        self._last: NDArray[np.uint8] | None = None
        self._since = 0.0
        self._repeats = 0

    def issues(
        self,
        image: NDArray[np.uint8],
        confidence: NDArray[np.uint8] | None,
        stamp: float,
        low_confidence: float = LOW_CONFIDENCE,
    ) -> tuple[str, ...]:
        """List the quality issues of the next image; () if there are none.

        Args:
            image: (H, W, 3) uint8 RGB.
            confidence: (H, W) uint8, probability of the labels from 0 to 255; None: not known.
            stamp: Of the image, seconds.
            low_confidence: Mean probability of the labels below which confidence is low.

        Returns:
            Of "dark", "over-exposed", "covered" (or a blank wall fills the view), "noisy",
            "frozen" and "low confidence" those that hold.
        """
        seen = measure(image, confidence)
        found = {
            "dark": seen.light < DARK,
            "over-exposed": seen.over_exposed > OVER_EXPOSED,
            "covered": seen.detail < BLANK
            and seen.light >= DARK
            and seen.over_exposed <= OVER_EXPOSED,
            "noisy": seen.noise > NOISE,
            "frozen": self._frozen(image, stamp),
            "low confidence": seen.confidence < low_confidence,
        }
        return tuple(name for name, holds in found.items() if holds)

    def _frozen(self, image: NDArray[np.uint8], stamp: float) -> bool:
        pixels = image[::8, ::8].copy()
        same = self._last is not None and np.array_equal(pixels, self._last)
        if not same or stamp < self._since:
            self._last, self._since, self._repeats = pixels, stamp, 0
            return False
        self._repeats += 1
        return self._repeats >= REPEATS and stamp - self._since >= STILL
