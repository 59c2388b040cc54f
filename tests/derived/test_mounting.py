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

"""Whether the ground in the depth lies where the mounting puts it."""

import numpy as np
import pytest

from depthseg_ros.derived.ground import Ground
from depthseg_ros.derived.mounting import FEWEST, MEMORY, MountingCheck, compare

MOUNTING = Ground.from_mounting(1.0, 0.1)


def rays(of):
    """Those of an image of 60 by 45 degrees, as far as they look at a ground."""
    v, u = np.mgrid[-0.41:0.41:40j, -0.58:0.58:40j]
    x, y, z = of.up
    return np.stack([u, v])[:, x * u + y * v + z < -0.02].astype(np.float32)


def after(count, fitted, mounted=MOUNTING):
    check = MountingCheck()
    for _ in range(count):
        check.add(compare(fitted, mounted, rays(fitted)))
    return check.disagreement()


@pytest.mark.parametrize(
    ("height", "pitch", "roll", "warns"),
    [
        (1.0, 0.1, 0.0, False),
        (1.13, 0.1, 0.0, False),
        (0.88, 0.1, 0.0, False),
        (1.0, 0.11, 0.02, False),
        (1.3, 0.1, 0.0, True),
        (0.8, 0.1, 0.0, True),
        (1.0, 0.3, 0.0, True),
        (1.0, -0.1, 0.0, True),
        (1.3, 0.2, 0.0, True),  # although the ground in the middle is as deep
    ],
)
def test_what_is_warned_of(height, pitch, roll, warns):
    said = after(FEWEST, Ground.from_mounting(height, pitch, roll))
    assert bool(said) == warns, said
    if warns:
        assert f"{height:.2f} m below the camera at a pitch of {pitch:.2f} rad" in said
        assert "the mounting has 1.00 m and 0.10 rad: they disagree by" in said


def test_a_mounting_that_looks_above_the_ground_is_warned_of():
    assert "by 100 %" in after(FEWEST, MOUNTING, Ground.from_mounting(1.0, -1.0))


def test_it_takes_several_images_and_the_last_ones_count():
    wrong = Ground.from_mounting(2.0, 0.1)
    assert not after(FEWEST - 1, wrong)
    check = MountingCheck()
    for fitted, count in ((wrong, MEMORY), (MOUNTING, MEMORY // 2 + 1)):
        for _ in range(count):
            check.add(compare(fitted, MOUNTING, rays(fitted)))
    assert not check.disagreement()
