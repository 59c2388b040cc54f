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

"""Readers and generators of samples, one file a data set.

A data set is a `torch.utils.data.Dataset` of `Sample`s; a sample may lack labels or depth.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray
from torch.utils.data import Dataset


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
    """Focal length in pixels; needed where there is metric depth."""
    views: dict[str, NDArray[np.uint8]] = field(default_factory=dict)
    """Other pictures, (H, W, 3) RGB: `background` (the same camera before anything came into it),
    `right` (of a rectified stereo pair), `previous` and `next` (of a video)."""
    baseline: float | None = None
    """Metres from the camera to that of `right`, negative where that lies to the left."""
    labels_trust: NDArray[np.uint8] | None = None
    """(H, W) how likely each label is right, 0 to 255; None: all of them are."""
    depth_trust: NDArray[np.uint8] | None = None
    """(H, W) the same of depth."""
    motions: dict[str, NDArray[np.float64]] = field(default_factory=dict)
    """Of some of the views: (4, 4), takes points of this camera's axes to the view's, metres."""


class Samples(Protocol):
    """A data set that knows its length, as all readers do."""

    def __len__(self) -> int: ...

    def __getitem__(self, index: int, /) -> Sample: ...


class Wrapped(Dataset[Sample]):
    """A data set whose samples are changed as they are read, by what derives from this."""

    def __init__(self, samples: Samples) -> None:
        """Wrap a data set."""
        self.samples = samples

    def __len__(self) -> int:
        """As many as the data set has."""
        return len(self.samples)

    @property
    def aspects(self) -> Any:
        """Of the data set, where it has them."""
        return self.samples.aspects  # type: ignore[attr-defined]  # only some have it
