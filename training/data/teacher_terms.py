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

"""Terms of use of teacher models, for the model cards of their students."""

from __future__ import annotations

TERMS = {
    "depth-anything/DA3METRIC-LARGE": "is licensed Apache-2.0 by its authors",
    "depth-anything/Depth-Anything-V2-Metric-Outdoor-Small-hf": "was trained on Virtual KITTI 2,"
    " which is licensed CC BY-NC-SA 3.0, for non-commercial use",
    "nvidia/segformer-b5-finetuned-cityscapes-1024-1024": "was trained on Cityscapes, which is for"
    " non-commercial use",
}
"""Teacher -> its terms: the default teachers of `own-robot`, and DA3METRIC-LARGE."""
