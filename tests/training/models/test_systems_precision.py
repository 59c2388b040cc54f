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

"""All systems under bfloat16 autocast: depth and logits keep float32's resolution."""

import copy

import pytest
import torch

from training.models.encoders import ResNet
from training.models.systems.depthsegnet import DepthSegNet, Vgg
from training.models.systems.lateral_sharing import LateralSharing
from training.models.systems.semantic_guided import SemanticGuided
from training.models.systems.shared_encoder import SharedEncoder
from training.models.systems.two_image_u2net import TwoImageU2Net
from training.models.systems.two_stream_fcn import TwoStreamFcn


def encoder(half=False):
    return ResNet((8, 8, 12, 16), (1, 1, 1, 1), half=half)


SYSTEMS = {
    "depthsegnet": lambda: DepthSegNet(5, encoder=Vgg((8, 8, 12, 16)), decoder=(8, 8, 12, 16, 16)),
    "lateral_sharing": lambda: LateralSharing(5, encoder=encoder(), widths=(12, 10, 8)),
    "semantic_guided": lambda: SemanticGuided(
        5, encoder=encoder(half=True), decoder=(16, 12, 8, 8, 8)
    ),
    "shared_encoder": lambda: SharedEncoder(
        5, encoder=encoder(half=True), context=12, decoder=(8,) * 3, heads=(8, 8)
    ),
    "two_image_u2net": lambda: TwoImageU2Net(1, middle=4, width=8),
    "two_stream_fcn": lambda: TwoStreamFcn(1, streams=(4, 8), trunk=(8, 12)),
}


@pytest.mark.parametrize("name", SYSTEMS)
@torch.no_grad()
def test_depth_is_as_fine_in_mixed_precision(name):
    torch.manual_seed(1)
    system = SYSTEMS[name]()
    inputs = [torch.rand(1, 3, 64, 64) * 255 for _ in system.inputs]
    for training in (False, True):
        exact = copy.deepcopy(system).train(training)(*inputs)
        with torch.autocast("cpu", torch.bfloat16):
            mixed = copy.deepcopy(system).train(training)(*inputs)
        for output in ("depth", "logits"):
            assert mixed[output].dtype == torch.float32
            # An untrained network's outputs are near each other: bfloat16 would express a few.
            assert len(mixed[output].unique()) > 0.9 * len(exact[output].unique())
        if not training:  # a batch norm over a single small image multiplies what is rounded away
            assert torch.allclose(mixed["depth"], exact["depth"], rtol=1e-2, atol=0)
        for side in ("side_depths", "disparities", "side_logits"):
            assert all(x.dtype == torch.float32 for x in mixed.get(side, []))


@torch.no_grad()
def test_pose_is_as_fine_in_mixed_precision():
    torch.manual_seed(1)
    system = SYSTEMS["semantic_guided"]()
    views = torch.rand(2, 16, 3, 64, 64) * 255
    with torch.autocast("cpu", torch.bfloat16):
        shift = system.pose(*views)[:, 0, 3]
    assert shift.dtype == torch.float32 and (shift != shift.bfloat16()).any()
