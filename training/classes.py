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

"""Class lists: the one place where ids, names, colours and flags of a data set's classes stand."""

from depthseg_ros.model_card import SemanticClass

from .datasets.indoor_classes import NYU13, NYU40, SUNRGBD37
from .datasets.street_classes import CITYSCAPES, MASK, VIRTUAL_KITTI2

# The ids of the 11-class CamVid of SegNet's tutorial, and Cityscapes' colours, which most people
# who look at segmentations know. The order of the ids is that of `street.CLASS_NAMES` too.
CAMVID = (
    SemanticClass(0, "sky", (70, 130, 180), ("sky",)),
    SemanticClass(1, "building", (70, 70, 70), ("obstacle",)),
    SemanticClass(2, "pole", (153, 153, 153), ("obstacle",)),
    SemanticClass(3, "road", (128, 64, 128), ("traversable",)),
    SemanticClass(4, "pavement", (244, 35, 232), ()),
    SemanticClass(5, "tree", (107, 142, 35), ("obstacle",)),
    SemanticClass(6, "sign", (220, 220, 0), ("obstacle",)),
    SemanticClass(7, "fence", (190, 153, 153), ("obstacle",)),
    SemanticClass(8, "car", (0, 0, 142), ("obstacle", "movable")),
    SemanticClass(9, "pedestrian", (220, 20, 60), ("obstacle", "movable")),
    SemanticClass(10, "bicyclist", (119, 11, 32), ("obstacle", "movable")),
)

CLASS_LISTS = {
    "camvid": CAMVID,
    "cityscapes": CITYSCAPES,
    "mask": MASK,
    "nyu13": NYU13,
    "nyu40": NYU40,
    "sunrgbd37": SUNRGBD37,
    "virtual_kitti2": VIRTUAL_KITTI2,
}
