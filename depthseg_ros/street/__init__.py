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

"""A rendered street with exact depth and labels: the demo's camera, and training data.

Imports only `imaging.geometry`. Start with `camera.Street`, then `scene` (houses and objects),
`layout` (shape of the street) and `renderer` (draws textured planes into an image). `robot` has the
axes of ROS.
"""

from depthseg_ros.street.camera import Camera, Street, StreetFrame
from depthseg_ros.street.sketch import CLASS_NAMES

__all__ = ["CLASS_NAMES", "Camera", "Street", "StreetFrame"]
