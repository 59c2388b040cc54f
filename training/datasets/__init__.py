"""Readers and generators of samples, one file a data set.

A data set is a `torch.utils.data.Dataset` of `Sample`s; a sample may lack labels or depth.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass
class Sample:
    """A picture and what is known of it."""

    image: NDArray[np.uint8]
    """(H, W, 3) RGB."""
    labels: NDArray[np.uint8] | None = None
    """(H, W) class ids, 255 where unlabelled."""
    depth: NDArray[np.float32] | None = None
    """(H, W) metres along the optical axis, NaN where unknown or endless."""
    fx: float | None = None
    """Focal length in pixels; needed where there is depth."""
