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

"""The training task by itself: what decays, and tasks that are built in Python."""

import torch

from training.encoders import ResNet
from training.systems.lateral_sharing import LateralSharing
from training.task import decaying


def lateral_sharing():
    encoder = ResNet((8, 8, 12, 16), (1, 1, 1, 1))
    return LateralSharing(11, encoder=encoder, widths=(12, 10, 8))


def test_weights_decay_and_scales_do_not():
    system = lateral_sharing()
    unit = system.units[0]
    assert unit.alpha.ndim > 1
    decay = decaying(system)
    assert unit.alpha not in decay and unit.gamma not in decay
    assert unit.deconvolution.weight in decay and unit.deconvolution.bias not in decay
    # Even where a kernel has a single input or output.
    head = system.branches["depth"].up_skips[-1]
    assert head.weight.numel() == 1 and head.weight in decay
    norms = [m for m in system.modules() if isinstance(m, torch.nn.BatchNorm2d)]
    assert norms and not decay & {p for norm in norms for p in norm.parameters()}
