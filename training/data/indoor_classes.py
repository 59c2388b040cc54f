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

"""Class lists of indoor data sets: the 40 and 13 classes of NYUv2, and the 37 of SUN RGB-D."""

from __future__ import annotations

from depthseg_ros.model_card import SemanticClass

# Names from classMapping40.mat, with its ids minus one, and the well-known colours of ScanNet.
# A ceiling does not obstruct a ground robot.
NYU40 = (
    SemanticClass(0, "wall", (174, 199, 232), ("obstacle",)),
    SemanticClass(1, "floor", (152, 223, 138), ("traversable",)),
    SemanticClass(2, "cabinet", (31, 119, 180), ("obstacle",)),
    SemanticClass(3, "bed", (255, 187, 120), ("obstacle",)),
    SemanticClass(4, "chair", (188, 189, 34), ("obstacle",)),
    SemanticClass(5, "sofa", (140, 86, 75), ("obstacle",)),
    SemanticClass(6, "table", (255, 152, 150), ("obstacle",)),
    SemanticClass(7, "door", (214, 39, 40), ("obstacle",)),
    SemanticClass(8, "window", (197, 176, 213), ("obstacle",)),
    SemanticClass(9, "bookshelf", (148, 103, 189), ("obstacle",)),
    SemanticClass(10, "picture", (196, 156, 148), ("obstacle",)),
    SemanticClass(11, "counter", (23, 190, 207), ("obstacle",)),
    SemanticClass(12, "blinds", (178, 76, 76), ("obstacle",)),
    SemanticClass(13, "desk", (247, 182, 210), ("obstacle",)),
    SemanticClass(14, "shelves", (66, 188, 102), ("obstacle",)),
    SemanticClass(15, "curtain", (219, 219, 141), ("obstacle",)),
    SemanticClass(16, "dresser", (140, 57, 197), ("obstacle",)),
    SemanticClass(17, "pillow", (202, 185, 52), ("obstacle",)),
    SemanticClass(18, "mirror", (51, 176, 203), ("obstacle",)),
    SemanticClass(19, "floor mat", (200, 54, 131), ("traversable",)),
    SemanticClass(20, "clothes", (92, 193, 61), ("obstacle",)),
    SemanticClass(21, "ceiling", (78, 71, 183), ()),
    SemanticClass(22, "books", (172, 114, 82), ("obstacle",)),
    SemanticClass(23, "refrigerator", (255, 127, 14), ("obstacle",)),
    SemanticClass(24, "television", (91, 163, 138), ("obstacle",)),
    SemanticClass(25, "paper", (153, 98, 156), ("obstacle",)),
    SemanticClass(26, "towel", (140, 153, 101), ("obstacle",)),
    SemanticClass(27, "shower curtain", (158, 218, 229), ("obstacle",)),
    SemanticClass(28, "box", (100, 125, 154), ("obstacle",)),
    SemanticClass(29, "whiteboard", (178, 127, 135), ("obstacle",)),
    SemanticClass(30, "person", (120, 185, 128), ("obstacle", "movable")),
    SemanticClass(31, "night stand", (146, 111, 194), ("obstacle",)),
    SemanticClass(32, "toilet", (44, 160, 44), ("obstacle",)),
    SemanticClass(33, "sink", (112, 128, 144), ("obstacle",)),
    SemanticClass(34, "lamp", (96, 207, 209), ("obstacle",)),
    SemanticClass(35, "bathtub", (227, 119, 194), ("obstacle",)),
    SemanticClass(36, "bag", (213, 92, 176), ("obstacle",)),
    SemanticClass(37, "other structure", (94, 106, 211), ("obstacle",)),
    SemanticClass(38, "other furniture", (82, 84, 163), ("obstacle",)),
    SemanticClass(39, "other prop", (100, 85, 144), ("obstacle",)),
)

# seg37list.mat of the SUN RGB-D toolbox is the NYU list without the three "other" classes.
SUNRGBD37 = NYU40[:37]

# Couprie et al., Indoor Semantic Segmentation using depth information, ICLR 2013, in the order of
# class13Mapping.mat, with the colour of the most similar of the 40 classes. "objects" includes
# people.
NYU13 = (
    SemanticClass(0, "bed", (255, 187, 120), ("obstacle",)),
    SemanticClass(1, "books", (172, 114, 82), ("obstacle",)),
    SemanticClass(2, "ceiling", (78, 71, 183), ()),
    SemanticClass(3, "chair", (188, 189, 34), ("obstacle",)),
    SemanticClass(4, "floor", (152, 223, 138), ("traversable",)),
    SemanticClass(5, "furniture", (82, 84, 163), ("obstacle",)),
    SemanticClass(6, "objects", (100, 85, 144), ("obstacle", "movable")),
    SemanticClass(7, "picture", (196, 156, 148), ("obstacle",)),
    SemanticClass(8, "sofa", (140, 86, 75), ("obstacle",)),
    SemanticClass(9, "table", (255, 152, 150), ("obstacle",)),
    SemanticClass(10, "television", (91, 163, 138), ("obstacle",)),
    SemanticClass(11, "wall", (174, 199, 232), ("obstacle",)),
    SemanticClass(12, "window", (197, 176, 213), ("obstacle",)),
)
