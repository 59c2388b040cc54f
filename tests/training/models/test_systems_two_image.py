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

"""Systems 001 and 002: two pictures in, a mask and normalised depth out."""

import pytest
import torch
import torch.nn.functional as F

from training.errors import TrainingError
from training.models.systems.two_image_u2net import ResidualU, TwoImageU2Net
from training.models.systems.two_stream_fcn import TwoStreamFcn

SMALL = {
    TwoImageU2Net: {"middle": 8, "width": 16},
    TwoStreamFcn: {"streams": (8, 16), "trunk": (16, 24, 32, 48)},
}
both = pytest.mark.parametrize("system", list(SMALL))


def small(system, **arguments):
    torch.manual_seed(0)
    return system(**SMALL[system], **arguments)


def pictures(height, width, number=2):
    """A noisy background, and the same with a bright square: -> both, mask, depth."""
    generator = torch.Generator().manual_seed(0)
    background = torch.rand(number, 3, height, width, generator=generator) * 100
    image = background.clone()
    mask = torch.zeros(number, 1, height, width)
    for index in range(number):
        square = (index, slice(None), slice(4, height // 2), slice(4 + 4 * index, width // 2))
        image[square] = 220
        mask[square] = 1
    return background, image, mask, mask * torch.linspace(0.2, 1, width)


def parameters(system, *args, **kwargs):
    with torch.device("meta"):
        return sum(p.numel() for p in system(*args, **kwargs).parameters())


def test_parameters_are_those_of_the_originals():
    assert parameters(TwoImageU2Net) == 1_769_306
    assert parameters(TwoStreamFcn) == 10_343_490


@pytest.mark.parametrize("task", ["segmentation", "depth"])
def test_one_task_alone_is_u2netp_with_three_more_channels(task):
    # U2NETP as published has 1,131,181 parameters; its first convolution is 3x3 to 64 channels.
    assert parameters(TwoImageU2Net, tasks=[task]) == 1_131_181 + 3 * 9 * 64


@both
@pytest.mark.parametrize("task", ["segmentation", "depth"])
def test_one_task_alone_has_the_encoder_and_the_outputs_of_both(system, task):
    joint, single = small(system), small(system, tasks=[task])
    other = {"segmentation": "depth", "depth": "segmentation"}[task]
    expected = {k: v.shape for k, v in joint.state_dict().items() if not k.startswith(f"{other}.")}
    assert {k: v.shape for k, v in single.state_dict().items()} == expected
    background, image, *_ = pictures(32, 32)
    output = {"segmentation": "logits", "depth": "depth"}[task]
    assert set(single.eval()(background, image)) == {output}


@both
@pytest.mark.parametrize("size", [(33, 47), (20, 64)])
@pytest.mark.parametrize("training", [True, False])
def test_any_size_comes_back_at_that_size(system, size, training):
    joint = small(system).train(training)
    with torch.no_grad():
        prediction = joint(*pictures(*size)[:2])
    sides = {"side_logits", "side_depths"} if training and system is TwoImageU2Net else set()
    assert set(prediction) == {"logits", "depth"} | sides
    assert prediction["logits"].shape == prediction["depth"].shape == (2, 1, *size)
    for depth in [prediction["depth"], *prediction.get("side_depths", [])]:
        assert depth.min() >= 0 and depth.max() <= 1
    for name in sides:
        assert [side.shape for side in prediction[name]] == [(2, 1, *size)] * 6


def test_several_classes_have_a_logit_each():
    for system in SMALL:
        background, image, *_ = pictures(32, 32)
        prediction = small(system, num_classes=3).eval()(background, image)
        assert prediction["logits"].shape == (2, 3, 32, 32)
        assert prediction["depth"].shape == (2, 1, 32, 32)


@both
def test_background_and_scene_are_not_the_same_to_it(system):
    joint = small(system).eval()
    background, image, *_ = pictures(32, 32)
    there, back = joint(background, image), joint(image, background)
    for output in there:
        assert not torch.allclose(there[output], back[output], atol=1e-4)


def test_the_result_is_fused_from_the_side_outputs():
    joint = small(TwoImageU2Net)
    prediction = joint(*pictures(32, 32)[:2])
    fused = joint.segmentation.fuse(torch.cat(prediction["side_logits"], 1))
    torch.testing.assert_close(fused, prediction["logits"])
    fused = joint.depth.fuse(torch.cat([side.logit() for side in prediction["side_depths"]], 1))
    torch.testing.assert_close(fused.sigmoid(), prediction["depth"], atol=1e-4, rtol=1e-4)


def test_depth_is_float32_for_its_cross_entropy_whatever_the_rest_is():
    background, image, *_ = pictures(32, 32)
    with torch.autocast("cpu", torch.bfloat16), torch.no_grad():
        prediction = small(TwoImageU2Net)(background, image)
        assert small(TwoStreamFcn)(background, image)["depth"].dtype == torch.float32
    assert prediction["logits"].dtype == torch.float32
    for depth in [prediction["depth"], *prediction["side_depths"]]:
        assert depth.dtype == torch.float32


def test_a_dilated_block_sees_as_far_as_its_dilations_add_up_to():
    torch.manual_seed(0)
    block = ResidualU(4, 3, 8, 8, dilated=True).eval()
    picture = torch.rand(1, 3, 64, 64, requires_grad=True)
    block(picture)[:, :, 32, 32].sum().backward()
    columns = picture.grad.abs().sum((0, 1, 2)).nonzero()[:, 0]
    reach = 1 + (1 + 2 + 4) + 8 + (4 + 2 + 1)  # before, down, at the bottom, up
    assert (columns.min(), columns.max()) == (32 - reach, 32 + reach)


@both
def test_every_parameter_is_taught(system):
    joint = small(system)
    prediction = joint(*pictures(32, 32)[:2])
    outputs = [prediction["logits"], prediction["depth"]]
    outputs += [*prediction.get("side_logits", []), *prediction.get("side_depths", [])]
    sum((output * torch.randn_like(output)).sum() for output in outputs).backward()
    untaught = [
        name
        for name, p in joint.named_parameters()
        # A bias before a batch norm has no say, so only weights need to have a gradient.
        if p.grad is None or (p.ndim > 1 and not p.grad.abs().sum() > 0)
    ]
    assert untaught == []


@both
def test_a_few_steps_learn_a_few_pictures(system):
    network = small(system)
    background, image, mask, depth = pictures(32, 32)
    optimizer = torch.optim.Adam(network.parameters(), lr=0.01)
    losses = []
    for _ in range(10):
        prediction = network(background, image)
        logits = [prediction["logits"], *prediction.get("side_logits", [])]
        depths = [prediction["depth"], *prediction.get("side_depths", [])]
        loss = sum(F.binary_cross_entropy_with_logits(x, mask) for x in logits)
        loss = loss + sum(F.l1_loss(x, depth) for x in depths)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.7 * losses[0]


@both
@pytest.mark.parametrize("tasks", [[], ["segmentation", "normals"]])
def test_unknown_tasks_are_named(system, tasks):
    with pytest.raises(TrainingError, match="expected one or both of"):
        system(tasks=tasks)
