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

import math

import pytest

from depthseg_ros.derived.scale import MEMORY, ScaleEstimate


def test_the_scale_is_that_of_the_median_height():
    scale = ScaleEstimate()
    assert math.isnan(scale.of(1.5))
    for height in (0.5, 0.5, 40.0, math.nan, math.inf, 0.0, -1.0):
        scale.add(height)
    assert scale.of(1.5) == 3.0
    assert scale.of(0.5) == 1.0  # another mounting counts at once


def test_old_pictures_are_forgotten():
    scale = ScaleEstimate()
    for height in [1.0] * MEMORY + [2.0] * MEMORY:
        scale.add(height)
    assert scale.of(3.0) == pytest.approx(1.5)
