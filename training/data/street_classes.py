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

"""Class lists of street data sets, and of foreground masks."""

from __future__ import annotations

from depthseg_ros.model_card import SemanticClass

# Ids, names and colours of the 19 "train ids" of the benchmark (Cordts et al. 2016).
CITYSCAPES = (
    SemanticClass(0, "road", (128, 64, 128), ("traversable",)),
    SemanticClass(1, "sidewalk", (244, 35, 232), ()),
    SemanticClass(2, "building", (70, 70, 70), ("obstacle",)),
    SemanticClass(3, "wall", (102, 102, 156), ("obstacle",)),
    SemanticClass(4, "fence", (190, 153, 153), ("obstacle",)),
    SemanticClass(5, "pole", (153, 153, 153), ("obstacle",)),
    SemanticClass(6, "traffic light", (250, 170, 30), ("obstacle",)),
    SemanticClass(7, "traffic sign", (220, 220, 0), ("obstacle",)),
    SemanticClass(8, "vegetation", (107, 142, 35), ("obstacle",)),
    SemanticClass(9, "terrain", (152, 251, 152), ()),
    SemanticClass(10, "sky", (70, 130, 180), ("sky",)),
    SemanticClass(11, "person", (220, 20, 60), ("obstacle", "movable")),
    SemanticClass(12, "rider", (255, 0, 0), ("obstacle", "movable")),
    SemanticClass(13, "car", (0, 0, 142), ("obstacle", "movable")),
    SemanticClass(14, "truck", (0, 0, 70), ("obstacle", "movable")),
    SemanticClass(15, "bus", (0, 60, 100), ("obstacle", "movable")),
    SemanticClass(16, "train", (0, 80, 100), ("obstacle", "movable")),
    SemanticClass(17, "motorcycle", (0, 0, 230), ("obstacle", "movable")),
    SemanticClass(18, "bicycle", (119, 11, 32), ("obstacle", "movable")),
)

# Order and colours from colors.txt of the data set, without its last entry "Undefined".
VIRTUAL_KITTI2 = (
    SemanticClass(0, "terrain", (210, 0, 200), ()),
    SemanticClass(1, "sky", (90, 200, 255), ("sky",)),
    SemanticClass(2, "tree", (0, 199, 0), ("obstacle",)),
    SemanticClass(3, "vegetation", (90, 240, 0), ("obstacle",)),
    SemanticClass(4, "building", (140, 140, 140), ("obstacle",)),
    SemanticClass(5, "road", (100, 60, 100), ("traversable",)),
    SemanticClass(6, "guard rail", (250, 100, 255), ("obstacle",)),
    SemanticClass(7, "traffic sign", (255, 255, 0), ("obstacle",)),
    SemanticClass(8, "traffic light", (200, 200, 0), ("obstacle",)),
    SemanticClass(9, "pole", (255, 130, 0), ("obstacle",)),
    SemanticClass(10, "misc", (80, 80, 80), ("obstacle",)),
    SemanticClass(11, "truck", (160, 60, 60), ("obstacle", "movable")),
    SemanticClass(12, "car", (255, 127, 80), ("obstacle", "movable")),
    SemanticClass(13, "van", (0, 139, 139), ("obstacle", "movable")),
)

MASK = (
    SemanticClass(0, "background", (0, 0, 0), ()),
    SemanticClass(1, "foreground", (220, 20, 60), ("obstacle",)),
)
