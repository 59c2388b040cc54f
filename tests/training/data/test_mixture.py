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

"""What is drawn of several data sets, and at which crop."""

import math

import numpy as np
import pytest

from training.data.module import MultiDataSampler, nearest

CROPS = ((64, 64), (96, 32), (32, 96))


def drawn(batch, epoch=0, seed=0):
    shapes = np.array([0] * 10 + [1] * 7 + [-1] * 20)
    return list(MultiDataSampler([17, 20], [30, 15], seed, lambda: epoch, CROPS, shapes, batch))


@pytest.mark.parametrize("batch", [1, 4, 5])
def test_a_batch_has_one_crop_which_is_that_of_its_images(batch):
    samples = drawn(batch)
    assert len(samples) == 45
    mixed = 0
    for start in range(0, len(samples), batch):
        together = samples[start : start + batch]
        assert len({crop for _, _, crop in together}) == 1
        own = {CROPS[0 if index < 10 else 1] for index, _, _ in together if index < 17}
        mixed += not own <= {together[0][2]}
    assert mixed <= len(CROPS)  # what is left over of each shape
    assert {crop for _, _, crop in samples} == set(CROPS)


def test_every_sample_is_drawn_as_often_as_without_crops():
    plain = MultiDataSampler([17, 20], [30, 15])
    assert sorted(i for i, _, _ in drawn(4)) == sorted(i for i, _, _ in plain)


def test_seed_and_epoch_alone_decide():
    assert drawn(4) == drawn(4)
    assert drawn(4) != drawn(4, epoch=1) and drawn(4) != drawn(4, seed=1)


def test_shapes_go_where_they_are_nearest():
    choices = (4 / 3, 16 / 9, 0.75)
    assert nearest([640 / 480, 1.7, 0.6, 3.0, math.nan], choices).tolist() == [0, 1, 2, 1, -1]
    assert nearest([1.0, 2.0], ()).tolist() == [0, 0]
