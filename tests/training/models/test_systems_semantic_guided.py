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

"""System 004: semantic features guide depth that is learned from video."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from scipy.spatial.transform import Rotation
from torch import nn

from training.errors import TrainingError
from training.models.encoders import ResNet, StandardResNet
from training.models.systems.semantic_guided import (
    BorderRefinement,
    LightPoseEncoder,
    Modulation,
    NeighborhoodAttention,
    PairResNet,
    SemanticGuided,
    class_borders,
    transform,
)

GUIDANCE = ["modulation", "attention", "none"]


class TinyEncoder(nn.Module):
    """Features at 1/2 to 1/32, as ResNet-18 has them."""

    channels = (8, 8, 8, 16, 16)

    def __init__(self):
        super().__init__()
        before = (3, *self.channels[:-1])
        self.layers = nn.ModuleList(
            nn.Conv2d(b, c, 3, 2, 1) for b, c in zip(before, self.channels, strict=True)
        )

    def forward(self, x):
        features = []
        for layer in self.layers:
            x = F.elu(layer(x))
            features.append(x)
        return features


def tiny(**arguments):
    torch.manual_seed(0)
    settings = {
        "num_classes": 5,
        "encoder": TinyEncoder(),
        "decoder": (16, 12, 8, 8, 8),
        "pose_encoder": LightPoseEncoder((8, 8, 16, 16)),
        **arguments,
    }
    return SemanticGuided(**settings)


def pictures(height=32, width=48, number=2, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.rand(number, 3, height, width, generator=generator) * 255


@pytest.mark.parametrize("guidance", GUIDANCE)
def test_training_gets_four_scales_and_the_features_of_three_levels(guidance):
    prediction = tiny(guidance=guidance)(pictures(37, 53))
    assert set(prediction) == {"logits", "depth", "side_depths", "features"}
    assert prediction["logits"].shape == (2, 5, 37, 53)
    assert prediction["depth"].shape == (2, 1, 37, 53)
    sizes = [tuple(depth.shape[2:]) for depth in prediction["side_depths"]]
    assert sizes == [(19, 27), (10, 14), (5, 7)]
    assert [tuple(f.shape[2:]) for f in prediction["features"]] == [(5, 7), (10, 14), (19, 27)]


def test_serving_gets_logits_and_depth_alone():
    assert set(tiny().eval()(pictures())) == {"logits", "depth"}


def test_an_encoder_that_begins_at_a_quarter_gives_half_the_resolution():
    system = tiny(encoder=ResNet((8, 8, 16, 16), (1, 1, 1, 1)))
    prediction = system(pictures(33, 47))
    assert prediction["depth"].shape == (2, 1, 18, 24)
    sizes = [tuple(depth.shape[2:]) for depth in prediction["side_depths"]]
    assert sizes == [(9, 12), (5, 6), (3, 3)]


def test_disparity_is_spread_between_the_ends_of_depth():
    system = tiny(min_depth=0.5, max_depth=20.0)
    depth = system.depth_of(torch.tensor([-100.0, 0.0, 100.0]))
    # In the middle, the mean of 1/20 and 2: 1.025.
    torch.testing.assert_close(depth, torch.tensor([20.0, 1 / 1.025, 0.5]))


def test_depth_is_float32_and_within_its_range_in_half_precision_too():
    with torch.autocast("cpu", torch.bfloat16), torch.no_grad():
        prediction = tiny(guidance="attention")(pictures())
        pose = tiny().pose(pictures(), pictures(seed=1))
    assert prediction["logits"].dtype == torch.float32
    for depth in [prediction["depth"], *prediction["side_depths"]]:
        assert depth.dtype == torch.float32
        assert depth.min() >= 0.0999 and depth.max() <= 100.001
    assert pose.dtype == torch.float32


@pytest.mark.parametrize("guidance", GUIDANCE)
@torch.no_grad()
def test_semantic_features_act_on_depth_only_where_they_guide_it(guidance):
    system = tiny(guidance=guidance, refine=False).eval()
    before = system(pictures())
    for parameter in system.segmentation.parameters():
        parameter.mul_(1.5)
    after = system(pictures())
    assert not torch.equal(before["logits"], after["logits"])
    assert torch.equal(before["depth"], after["depth"]) == (guidance == "none")


@torch.no_grad()
def test_modulation_scales_and_shifts_by_what_the_semantic_features_say():
    modulation = Modulation(2)
    nn.init.zeros_(modulation.gamma_and_beta.weight)
    modulation.gamma_and_beta.weight[0, 0, 1, 1] = 1  # gamma of channel 0: semantic channel 0
    modulation.gamma_and_beta.bias.copy_(torch.tensor([0.0, 0.5, 3.0, -1.0]))
    depth = torch.tensor([4.0, 6.0])[None, :, None, None].expand(1, 2, 3, 3)
    semantic = torch.zeros(1, 2, 3, 3)
    semantic[0, 0, 1, 2] = 2
    expected = torch.empty(1, 2, 3, 3)
    expected[:, 0], expected[:, 1] = 4 * (1 + 0) + 3, 6 * (1 + 0.5) - 1
    expected[0, 0, 1, 2] = 4 * (1 + 2) + 3
    torch.testing.assert_close(modulation(depth, semantic), expected)


@torch.no_grad()
def test_attention_to_what_is_the_same_everywhere_finds_that():
    torch.manual_seed(0)
    attention = NeighborhoodAttention(4)
    depth, semantic = torch.randn(1, 4, 3, 5), torch.randn(1, 4, 1, 1).expand(1, 4, 3, 5)
    value = attention.key_and_value(semantic)[:, 4:]
    torch.testing.assert_close(attention(depth, semantic), depth + attention.merge(value))


@torch.no_grad()
def test_attention_takes_what_its_query_asks_for_of_the_window_around():
    attention = NeighborhoodAttention(1)
    for convolution in (attention.query, attention.key_and_value, attention.merge):
        nn.init.ones_(convolution.weight)
        nn.init.zeros_(convolution.bias)
    depth, semantic = torch.full((1, 1, 5, 5), 2.0), torch.zeros(1, 1, 5, 5)
    semantic[0, 0, 2, 2] = 1
    # In windows that hold it, one key of nine is 1: softmax of 2 against eight of 0.
    expected = torch.full((1, 1, 5, 5), 2.0)
    expected[:, :, 1:4, 1:4] += np.e**2 / (np.e**2 + 8)
    torch.testing.assert_close(attention(depth, semantic), expected)


def test_class_borders_are_the_pixels_beside_another_class():
    labels = torch.tensor([[0, 0, 0, 2, 2, 2], [0, 0, 0, 2, 2, 2], [0, 0, 0, 2, 2, 2]])
    logits = F.one_hot(labels, 3).permute(2, 0, 1)[None].float()
    expected = torch.tensor([0.0, 0, 1, 1, 0, 0]).expand(1, 1, 3, 6)
    assert torch.equal(class_borders(logits), expected)
    mask = (labels[None, None] - 1.0) * 7  # of one class: the foreground's logit, -7 and 7
    assert torch.equal(class_borders(mask), expected)


class LeftAndRight(nn.Module):
    """Logits of two classes, each on its half of the picture, in place of learned ones."""

    def forward(self, x):
        right = (
            (torch.arange(x.shape[3]) >= x.shape[3] // 2).float().expand(x.shape[0], *x.shape[2:])
        )
        return torch.stack([1 - right, right, *[torch.zeros_like(right)] * 3], 1)


@pytest.mark.parametrize("guidance", GUIDANCE)
@torch.no_grad()
def test_refinement_changes_depth_at_class_borders_and_nowhere_else(guidance):
    system = tiny(guidance=guidance, refine=True).eval()
    system.classify = LeftAndRight()
    refined = system(pictures())["depth"]
    system.refinement = None
    changed = (refined != system(pictures())["depth"]).any((0, 1))
    expected = torch.zeros(32, 48, dtype=torch.bool)
    expected[:, 23:25] = True
    assert torch.equal(changed, expected)


def test_refinement_does_not_pull_at_the_classes():
    torch.manual_seed(0)
    logits = torch.randn(1, 3, 8, 8, requires_grad=True)
    disparity, features = torch.randn(1, 1, 8, 8, requires_grad=True), torch.randn(1, 4, 8, 8)
    BorderRefinement(4, 3)(disparity, features, logits).sum().backward()
    assert logits.grad is None and disparity.grad.abs().sum() > 0


@pytest.mark.parametrize("task", ["segmentation", "depth"])
def test_one_task_alone_has_the_encoder_and_the_outputs_of_both(task):
    joint, single = tiny(guidance="none", refine=False), tiny(tasks=[task])
    shapes = {k: v.shape for k, v in joint.state_dict().items()}
    others = {
        "segmentation": ("depth.", "heads.", "pose_network."),
        "depth": ("segmentation.", "classify."),
    }[task]
    expected = {k: v for k, v in shapes.items() if not k.startswith(others)}
    assert {k: v.shape for k, v in single.state_dict().items()} == expected
    assert set(single.eval()(pictures())) == {"logits" if task == "segmentation" else "depth"}
    assert single.views == (() if task == "segmentation" else ("previous", "next"))


@pytest.mark.parametrize("encoder", [LightPoseEncoder, PairResNet])
@torch.no_grad()
def test_pose_is_a_small_rigid_motion_and_depends_on_the_order(encoder):
    torch.manual_seed(0)
    pose_encoder = (
        LightPoseEncoder((8, 8, 16)) if encoder is LightPoseEncoder else PairResNet(width=8)
    )
    system = tiny(pose_encoder=pose_encoder).eval()
    there = system.pose(pictures(), pictures(seed=1))
    back = system.pose(pictures(seed=1), pictures())
    same = system.pose(pictures(), pictures())
    assert not torch.allclose(there, back, atol=1e-6)
    for pose in (there, back, same):
        assert pose.shape == (2, 4, 4)
        rotation = pose[:, :3, :3]
        torch.testing.assert_close(rotation @ rotation.mT, torch.eye(3).expand(2, 3, 3))
        torch.testing.assert_close(torch.linalg.det(rotation), torch.ones(2))
        torch.testing.assert_close(pose, torch.eye(4).expand(2, 4, 4), atol=0.05, rtol=0)
        assert torch.equal(pose[:, 3], torch.tensor([0.0, 0, 0, 1]).expand(2, 4))


@torch.no_grad()
def test_from_weights_a_pair_of_the_same_picture_is_to_pose_as_that_picture(tmp_path):
    torch.manual_seed(0)
    single = StandardResNet(width=8).eval()
    torch.save(single.state_dict(), tmp_path / "resnet18.pth")
    pair = PairResNet(weights=tmp_path / "resnet18.pth", width=8).eval()
    picture = torch.randn(1, 3, 32, 32)
    twice = torch.cat([picture, picture], 1)
    torch.testing.assert_close(pair(twice)[-1], single(picture)[-1], atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("angle", [0.0, 1e-8, 1e-3, 0.5, 3.1])
def test_a_rotation_vector_is_scipys(angle):
    vector = angle * np.array([[2.0, -3.0, 6.0], [0.0, 0.0, 7.0]]) / 7
    translation = np.array([[1.0, 2.0, 3.0], [-1.0, 0.0, 0.5]])
    pose = transform(torch.from_numpy(vector), torch.from_numpy(translation)).numpy()
    np.testing.assert_allclose(
        pose[:, :3, :3], Rotation.from_rotvec(vector).as_matrix(), atol=1e-12
    )
    np.testing.assert_array_equal(pose[:, :3, 3], translation)


def test_a_rotation_by_nothing_has_the_gradient_of_a_small_one():
    rotation = torch.zeros(1, 3, requires_grad=True)
    transform(rotation, torch.zeros(1, 3))[0, 2, 1].backward()  # d(sin x)/dx at 0
    torch.testing.assert_close(rotation.grad, torch.tensor([[1.0, 0, 0]]))


@pytest.mark.parametrize("guidance", GUIDANCE)
def test_every_parameter_is_taught(guidance):
    system = tiny(guidance=guidance)
    prediction = system(pictures())
    outputs = [prediction["logits"], prediction["depth"], *prediction["side_depths"]]
    outputs.append(system.pose(pictures(), pictures(seed=1)))
    sum((output * torch.randn_like(output)).sum() for output in outputs).backward()
    untaught = [
        name
        for name, p in system.named_parameters()
        # The same added to every key of a window leaves attention as it is.
        if p.grad is None or (p.ndim > 1 and not p.grad.abs().sum() > 0)
    ]
    assert untaught == []


@pytest.mark.parametrize(
    ("guidance", "tasks"),
    [*((guidance, ["segmentation", "depth"]) for guidance in GUIDANCE), ("none", ["depth"])],
)
def test_a_few_steps_learn_a_picture(guidance, tasks):
    system = tiny(guidance=guidance, tasks=tasks)
    image = pictures()
    image[:, :, :, 24:] *= 0.2
    labels = torch.zeros(2, 32, 48, dtype=torch.long)
    labels[:, :, 24:] = 3
    log_depth = torch.where(labels > 0, 2.0, -1.0)[:, None]
    optimizer = torch.optim.Adam(system.parameters(), lr=0.01)
    losses = []
    for _ in range(12):
        prediction = system(image)
        loss = F.l1_loss(prediction["depth"].log(), log_depth)
        if "segmentation" in tasks:
            loss = loss + F.cross_entropy(prediction["logits"], labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.7 * losses[0]


def test_without_an_encoder_given_it_is_resnet_18():
    with torch.device("meta"):
        system = SemanticGuided()
    # As published for ImageNet, 11,689,512 parameters, less the classifier's 512 x 1000 + 1000.
    assert sum(p.numel() for p in system.encoder.parameters()) == 11_689_512 - 513_000
    assert len(system.encoder.channels) == 5


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"tasks": ["depth", "normals"]}, "expected one or both of"),
        ({"guidance": "film"}, "guidance is 'film', expected one of"),
        ({"min_depth": 5.0, "max_depth": 2.0}, "expected 0 < min < max"),
        ({"decoder": (16, 8, 8)}, "5 features, the decoder 3 widths"),
    ],
)
def test_wrong_arguments_are_named(arguments, message):
    with pytest.raises(TrainingError, match=message):
        tiny(**arguments)
