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

"""Protocols of depth: crop, cap and scale by which published figures are compared."""

from __future__ import annotations

import math
from dataclasses import dataclass


@dataclass(frozen=True)
class Protocol:
    """How depth is compared: where, at which scale, and how pictures are put together."""

    crop: tuple[float, float, float, float] | None = None
    """Shares of height and width: top, bottom, left, right; None: everything."""
    median_scaling: bool = False
    """Whether each prediction is scaled to its truth's median first, for depth up to scale."""
    pooled: bool = False
    """Whether figures are over the pixels of all pictures rather than means over pictures."""
    max_depth: float = math.inf
    """Truth beyond it does not count, metres; the model's own range bounds it, too."""
    min_depth: float = 0.0


PROTOCOLS = {
    # The model's own range, every pixel, each picture alike (Eigen et al. 2014).
    "whole": Protocol(),
    # NYUv2 with Eigen's crop, rows 45:471 and columns 41:601 of 480 x 640, to 10 m.
    "nyu": Protocol((45 / 480, 471 / 480, 41 / 640, 601 / 640), max_depth=10.0, min_depth=1e-3),
    # KITTI with the crop of Garg et al. 2016, to 80 m.
    "kitti": Protocol(
        (0.40810811, 0.99189189, 0.03594771, 0.96405229), max_depth=80.0, min_depth=1e-3
    ),
    # The same from 1 to 60 m, as far as a lidar's sweep sees a street well.
    "kitti_60": Protocol(
        (0.40810811, 0.99189189, 0.03594771, 0.96405229), max_depth=60.0, min_depth=1.0
    ),
    # The same for self-supervised depth, whose scale is free.
    "kitti_selfsup": Protocol(
        (0.40810811, 0.99189189, 0.03594771, 0.96405229), True, max_depth=80.0, min_depth=1e-3
    ),
    "median": Protocol(median_scaling=True),
    "pooled": Protocol(pooled=True),
}
"""Protocols by name; every table of depth says which it was."""

METRIC = {"nyuv2": "nyu", "kitti_depth": "kitti"}
"""What `metric` stands for: the crop and cap of the data set, `whole` of those that have none."""
