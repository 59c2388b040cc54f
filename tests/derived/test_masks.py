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

import numpy as np

from depthseg_ros.derived.masks import class_mask, cut_out

LABELS = np.array([[0, 3, 8], [3, 255, 8]], np.uint8)


def test_a_mask_is_255_where_the_classes_are():
    assert class_mask(LABELS, [3, 255]).tolist() == [[0, 255, 0], [255, 255, 0]]
    assert not class_mask(LABELS, []).any()


def test_classes_are_cut_out_of_depth():
    depth = np.full(LABELS.shape, 2, np.float32)
    cut = cut_out(depth, LABELS, {8})
    assert cut.dtype == np.float32
    np.testing.assert_array_equal(np.isnan(cut), LABELS == 8)
    assert (depth == 2).all() and cut_out(depth, LABELS, ()) is depth
