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

"""Trains the networks that `depthseg_ros` runs; run from the checkout as `python -m training`.

`data` gives samples, `models` the networks, `objectives` and `losses` what they learn; `engine`
trains, `evaluation` measures, `export` writes the model file, `own_robot` labels recordings. Of the
runtime it imports the model card and what is pure arithmetic, never ROS. Start with `engine.task`.
"""
