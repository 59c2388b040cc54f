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

"""Depth evaluation protocols: crop, depth range and scaling, as used in publications."""

from __future__ import annotations

import math
from dataclasses import dataclass


@dataclass(frozen=True)
class DepthProtocol:
    """How depth metrics are computed."""

    crop: tuple[float, float, float, float] | None = None
    """Top, bottom, left, right as fractions of height and width; None: the full image."""
    median_scaling: bool = False
    """Whether each prediction is scaled to the median of the ground truth, for unknown scale."""
    pooled: bool = False
    """Whether metrics are computed over the pixels of all images, not averaged over images."""
    max_depth: float = math.inf
    """Ground truth farther than this, or than the model's range, is ignored; metres."""
    min_depth: float = 0.0
    """Ground truth nearer than this is ignored; metres."""


PROTOCOLS = {
    # The model's range, all pixels, averaged over images (Eigen et al. 2014).
    "whole": DepthProtocol(),
    # NYUv2 with Eigen's crop, rows 45:471 and columns 41:601 of 480 x 640, up to 10 m.
    "nyu": DepthProtocol(
        (45 / 480, 471 / 480, 41 / 640, 601 / 640), max_depth=10.0, min_depth=1e-3
    ),
    # KITTI with the crop of Garg et al. 2016, up to 80 m.
    "kitti": DepthProtocol(
        (0.40810811, 0.99189189, 0.03594771, 0.96405229), max_depth=80.0, min_depth=1e-3
    ),
    # The same from 1 to 60 m, the range in which a lidar covers a street well.
    "kitti_60": DepthProtocol(
        (0.40810811, 0.99189189, 0.03594771, 0.96405229), max_depth=60.0, min_depth=1.0
    ),
    # The same for self-supervised depth with unknown scale.
    "kitti_selfsup": DepthProtocol(
        (0.40810811, 0.99189189, 0.03594771, 0.96405229), True, max_depth=80.0, min_depth=1e-3
    ),
    "median": DepthProtocol(median_scaling=True),
    "pooled": DepthProtocol(pooled=True),
}
"""Protocols by name. Every depth table names its protocol."""

METRIC = {"nyuv2": "nyu", "kitti_depth": "kitti"}
"""Data set -> the protocol that `metric` selects; `whole` for all other data sets."""
