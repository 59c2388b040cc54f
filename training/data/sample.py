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

"""The interface of data sets: a `torch.utils.data.Dataset` of `Sample`s with labels or depth."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray
from torch.utils.data import Dataset


@dataclass
class Sample:
    """An image with its ground truth; labels or depth may be missing."""

    image: NDArray[np.uint8]
    """(H, W, 3) RGB."""
    labels: NDArray[np.uint8] | None = None
    """(H, W) class ids, 255 for unlabelled."""
    depth: NDArray[np.float32] | None = None
    """(H, W) metres along the optical axis, NaN for unknown or infinite."""
    fx: float | None = None
    """Focal length in pixels; required for metric depth."""
    views: dict[str, NDArray[np.uint8]] = field(default_factory=dict)
    """Other images, (H, W, 3) RGB: `background` (the same scene without foreground objects),
    `right` (of a rectified stereo pair), `previous` and `next` (of a video)."""
    baseline: float | None = None
    """Metres from the camera to the camera of `right`; negative if that one is on the left."""
    labels_confidence: NDArray[np.uint8] | None = None
    """(H, W) confidence of the labels, 0 to 255; None: all are correct."""
    depth_confidence: NDArray[np.uint8] | None = None
    """(H, W) confidence of the depth, 0 to 255; None: all is correct."""
    motions: dict[str, NDArray[np.float64]] = field(default_factory=dict)
    """Pose of this camera in the frame of a view, (4, 4), metres; for some of the views."""


class Samples(Protocol):
    """Type of all readers: a data set with a length."""

    def __len__(self) -> int: ...

    def __getitem__(self, index: int, /) -> Sample: ...


class WrappedDataset(Dataset[Sample]):
    """Base class of data sets that modify the samples of another one while reading."""

    def __init__(self, samples: Samples) -> None:
        """Wrap a data set."""
        self.samples = samples

    def __len__(self) -> int:
        """Number of samples."""
        return len(self.samples)

    @property
    def aspects(self) -> Any:
        """Aspect ratio of each sample, if the wrapped data set has this attribute."""
        return self.samples.aspects  # type: ignore[attr-defined]  # only some have it
