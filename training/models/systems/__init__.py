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

"""The systems, one readable file each.

A system is an `nn.Module` that says of itself, as class attributes,

- `inputs`: the pictures that it takes, in order: `("image",)` or `("background", "image")`;
- `depth_kind`: what its depth means: "metric" (metres in the canonical camera), "up-to-scale" or
  "normalised" (0 to 1);
- `views`: pictures that only its training needs, such as `("right",)`; mostly none;
- `tasks`: what it was built for, "segmentation", "depth" or both;
- `depth_limits`: between which values its depth can lie.

It maps (N, 3, H, W) float pictures with values 0 to 255, one for each of `inputs`, to a dict with

- `logits` (N, classes, h, w), or with one channel the foreground's logit;
- `depth` (N, 1, h, w), positive;

both at any one resolution h x w of its own that is not larger than the picture's, and each only if
the system was built for that task. Under autocast both are computed in float32: the last layers by
`blocks.without_autocast`, and a sigmoid or exponential of depth after `float()`.

While it trains, there may be more, for its objective: `side_logits` and `side_depths`, lists of the
same besides the result, finest first; `features`, a list of a decoder's feature maps;
`disparities`, a list of (N, 2, h, w), finest first, for the left and the right picture of a stereo
pair, as shares of the picture's width.

`shared_parameters()` lists the parameters that the losses of both tasks reach, which is what
balancing them is about, last those that both tasks start from; it is empty where there is one task.
Normalisation happens inside. Graphs are of plain operators, for any H and W, without control flow
that depends on the data.
"""
