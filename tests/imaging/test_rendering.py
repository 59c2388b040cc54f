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

from depthseg_ros.imaging import rendering
from depthseg_ros.model_card import SemanticClass

CLASSES = (SemanticClass(0, "sky", (10, 20, 30)), SemanticClass(4, "car", (200, 100, 0)))


def test_labels_take_their_classes_colours_and_unknown_ids_are_black():
    labels = np.array([[0, 4, 255]], np.uint8)
    assert rendering.color_labels(labels, CLASSES).tolist() == [
        [[10, 20, 30], [200, 100, 0], [0, 0, 0]]
    ]


def test_overlay_mixes_by_opacity_and_leaves_the_picture_alone():
    image = np.full((200, 300, 3), 100, np.uint8)
    labels = np.zeros((200, 300), np.uint8)
    labels[:, 150:] = 4
    for opacity, sky in ((0.0, [100, 100, 100]), (0.5, [55, 60, 65]), (1.0, [10, 20, 30])):
        shown = rendering.overlay(image, labels, CLASSES, opacity)
        assert shown.shape == image.shape and shown.dtype == np.uint8
        assert np.abs(shown[199, 0].astype(int) - sky).max() <= 1
    assert (image == 100).all()


def test_the_legend_names_only_what_the_picture_shows():
    image = np.zeros((200, 300, 3), np.uint8)
    one, two = np.zeros((200, 300), np.uint8), np.zeros((200, 300), np.uint8)
    two[199, 299] = 4
    with_one, with_two = (rendering.overlay(image, lab, CLASSES, 0.0) for lab in (one, two))
    assert with_one.any()
    second_row = np.s_[14:24, :100]  # of letters of the first none reach so far
    assert with_two[second_row].any() and not with_one[second_row].any()


def test_without_classes_there_is_no_legend():
    image = np.zeros((200, 300, 3), np.uint8)
    rendering.draw_legend(image, ())
    assert not image.any()


def test_depth_colours_tell_near_from_far_and_none():
    depth = np.array([[1, 2, 10, 80, 500, np.nan]], np.float32)
    colors = rendering.color_depth(depth)[0].astype(int)
    assert (colors[0] == colors[1]).all() and (colors[3] == colors[4]).all()
    assert colors[1][0] > colors[1][2] and colors[3][2] > colors[3][0]  # warm near, cold far
    assert (colors[5] == 0).all()


def test_from_above_what_is_higher_hides_what_is_lower():
    road, roof = (0.0, 1.5, 15.0), (0.0, -1.0, 15.0)
    points = np.array([roof, road, (5.0, 1.5, 25.0), (np.nan, 0, 5.0), (0, 1, 90)], np.float32)
    colors = np.array([[200, 0, 0], [0, 200, 0], [0, 0, 200], [9, 9, 9], [9, 9, 9]], np.uint8)
    marks = np.array([[-5.0, 30.0]], np.float32)
    shown = rendering.from_above(points, colors, (400, 400), reach=40.0, marks=marks)
    assert shown.shape == (400, 400, 3)
    assert shown[251, 201].tolist() == [200, 0, 0]
    assert shown[151, 251].tolist() == [0, 0, 200]  # to the right, farther up
    assert shown[100, 150].tolist() == [255, 60, 60]
    assert not (shown == 9).all(axis=2).any()
