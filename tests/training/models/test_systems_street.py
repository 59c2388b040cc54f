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

"""Systems 000 and 003 and the default one: counts, shapes, gradients, what is shared and frozen."""

import pytest
import torch
import torch.nn.functional as F

from training.errors import TrainingError
from training.models.blocks import resize
from training.models.encoders import EfficientNetLite0, ResNet, StandardResNet
from training.models.systems.depthsegnet import DepthSegNet, ResNet50, Vgg
from training.models.systems.lateral_sharing import LateralSharing
from training.models.systems.shared_encoder import SharedEncoder

BOTH = ("segmentation", "depth")


def depthsegnet(tasks=BOTH, **options):
    options.setdefault("encoder", Vgg((8, 8, 12, 16)))
    return DepthSegNet(5, tasks, decoder=(8, 8, 12, 16, 16), **options)


def lateral_sharing(tasks=BOTH, **options):
    encoder = ResNet((8, 8, 12, 16), (1, 1, 1, 1))
    return LateralSharing(5, tasks, encoder=encoder, widths=(12, 10, 8), **options)


def shared_encoder(tasks=BOTH, **options):
    sizes = {"widths": (8, 8, 12, 16), "depths": (1,) * 4, "context": 12}
    return SharedEncoder(5, **sizes, decoder=(8,) * 3, heads=(8, 8), tasks=tasks, **options)


SYSTEMS = {
    "depthsegnet": depthsegnet,
    "depthsegnet_resnet": lambda tasks=BOTH: depthsegnet(
        tasks, encoder=ResNet50(8, (1, 2, 1))
    ),
    "lateral_sharing": lateral_sharing,
    "lateral_sharing_off": lambda tasks=BOTH: lateral_sharing(tasks, sharing=False),
    "shared_encoder": shared_encoder,
}  # fmt: skip


@pytest.fixture(params=SYSTEMS)
def make(request):
    torch.manual_seed(1)
    return SYSTEMS[request.param]


def count(module):
    return sum(p.numel() for p in module.parameters())


def picture(height=32, width=48, n=2):
    return torch.rand(n, 3, height, width) * 255


def objective(prediction, tasks=BOTH):
    """A number that everything which a system says takes part in."""
    total = torch.zeros(())
    if "segmentation" in tasks:
        total = total + (prediction["logits"] * torch.rand_like(prediction["logits"])).sum()
    if "depth" in tasks:
        said = prediction.get("disparities", [prediction["depth"]])
        total = total + sum((s * torch.rand_like(s)).sum() for s in said)
    return total


def test_depthsegnet_has_the_originals_parameter_counts():
    for encoder, depth, joint in ((Vgg, 31.6, 48.9), (ResNet50, 58.5, 78.9)):
        with torch.device("meta"):
            assert round(count(DepthSegNet(tasks=["depth"], encoder=encoder())) / 1e6, 1) == depth
            for classes in (8, 19, 30, 35):  # all of Cityscapes' ways to count
                system = DepthSegNet(classes, encoder=encoder())
                assert round(count(system) / 1e6, 1) == joint
    with torch.device("meta"):
        # What the original prints of itself at the start of a training.
        assert count(DepthSegNet(tasks=["depth"])) == 31_600_072


def test_lateral_sharing_differs_from_the_originals_count_by_what_it_says():
    with torch.device("meta"):
        colours, classes = LateralSharing(3), LateralSharing(13)
        unshared = LateralSharing(3, sharing=False)
    assert count(colours) == 32_796_322 and count(classes) == 32_826_622
    assert count(classes) - count(colours) == (3014 * 13 + 13**2) - (3014 * 3 + 3**2)
    modules = list(colours.encoder.modules())
    biases = sum(m.out_channels for m in modules if isinstance(m, torch.nn.Conv2d))
    norms = [m for m in modules if isinstance(m, torch.nn.BatchNorm2d)]
    statistics = sum(m.running_mean.numel() + m.running_var.numel() for m in norms)
    assert (biases, statistics) == (26_560, 53_120)
    assert count(colours) + biases + statistics == 32_876_002
    # Per unit two scales for each channel and a 2x2 deconvolution with biases.
    units = (2 * 512 + 512 * 128 * 4 + 128) + (2 * 128 + 128 * 64 * 4 + 64)
    assert count(colours) - count(unshared) == units


def test_lateral_sharing_sees_rooms_at_the_originals_size():
    with torch.device("meta"):
        system = LateralSharing(13)
        image = torch.empty(1, 3, 240, 320)
        assert system.encoder(image)[-1].shape == (1, 2048, 30, 40)
        prediction = system(image)
    assert prediction["logits"].shape == (1, 13, 240, 320)
    assert prediction["depth"].shape == (1, 1, 240, 320)


def test_the_default_system_takes_any_encoder():
    with torch.device("meta"):
        system = SharedEncoder(encoder=EfficientNetLite0(half=True))
        prediction = system(torch.empty(1, 3, 64, 96))
    assert isinstance(system.encoder, EfficientNetLite0)
    assert prediction["logits"].shape == (1, 11, 32, 48)
    assert prediction["depth"].shape == (1, 1, 32, 48)
    with pytest.raises(TrainingError, match="Lite0 does not return features at 1/2"):
        SharedEncoder(encoder=EfficientNetLite0())


def test_the_default_system_keeps_the_names_of_its_checkpoints():
    with torch.device("meta"):
        system = SharedEncoder()
    assert count(system) == 3_315_564
    assert {n.split(".")[0] for n in system.state_dict()} == {
        "encoder", "context", "decoder", "segmentation", "depth",
    }  # fmt: skip
    assert "encoder.stages.3.1.convolutions.0.0.weight" in system.state_dict()


@pytest.mark.parametrize("size", [(32, 48), (37, 51), (16, 65)])
def test_any_size_goes_in_and_positive_depth_comes_out(make, size):
    system = make().eval()
    with torch.inference_mode():
        prediction = system(picture(*size))
    assert set(prediction) == {"logits", "depth"}
    logits, depth = prediction["logits"], prediction["depth"]
    assert logits.shape[:2] == (2, 5) and depth.shape[:2] == (2, 1)
    assert logits.shape[2:] == depth.shape[2:]
    if isinstance(system, SharedEncoder):  # features at 1/2, whose size is rounded up
        assert tuple(logits.shape[2:]) == tuple(-(-s // 2) for s in size)
    else:
        assert tuple(logits.shape[2:]) == size
    assert depth.isfinite().all() and (depth > 0).all() and logits.isfinite().all()


def test_depth_stays_positive_and_finite_whatever_the_network_says(make):
    system = make().eval()
    with torch.no_grad():
        for factor in (1e4, -1e4):
            for name, parameter in system.named_parameters():
                if "depth" in name:
                    parameter.copy_(torch.full_like(parameter, factor))
            depth = system(picture())["depth"]
            assert depth.isfinite().all() and (depth > 0).all()


def test_gradients_reach_every_parameter(make):
    system = make().train()
    objective(system(picture(64, 96))).backward()
    idle = [n for n, p in system.named_parameters() if p.grad is None or not (p.grad != 0).any()]
    assert idle == []


@pytest.mark.parametrize("task", BOTH)
def test_one_task_alone_says_that_alone_and_is_smaller(make, task):
    alone, joint = make(tasks=(task,)), make()
    key = {"segmentation": "logits", "depth": "depth"}[task]
    assert set(alone.eval()(picture())) == {key}
    assert count(alone) < count(joint)
    # The same network, but for the other task: its state is a part of the joint one's.
    shapes = {n: v.shape for n, v in joint.state_dict().items()}
    assert {n: v.shape for n, v in alone.state_dict().items()}.items() <= shapes.items()


@pytest.mark.parametrize("tasks", [(), ("segmentation", "normals"), "depth"])
def test_unknown_tasks_are_told(make, tasks):
    with pytest.raises(TrainingError, match="expected one or both of"):
        make(tasks=tasks)


def test_a_tiny_batch_is_learned(make):
    system = make().train()
    image = torch.zeros(2, 3, 32, 48)
    image[:, :, 12:] = torch.tensor([200.0, 80.0, 20.0])[:, None, None]  # the ground
    image[1, :, 8:24, 16:32] = torch.tensor([20.0, 60.0, 240.0])[:, None, None]  # and a box
    labels = (image[:, 0] > 100).long() + 2 * (image[:, 2] > 100).long()
    depth = 2.0 + 3.0 * (labels == 0) + 1.0 * (labels == 2)
    optimizer = torch.optim.Adam(system.parameters(), lr=5e-3)
    losses = []
    for _ in range(10):
        prediction = system(image)
        logits, said = (resize(prediction[k], (32, 48)) for k in ("logits", "depth"))
        error = (said[:, 0].log() - depth.log()).abs().mean()
        loss = F.cross_entropy(logits, labels) + error
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.8 * losses[0], losses


def test_depthsegnet_says_disparities_of_both_pictures_at_four_scales():
    torch.manual_seed(0)
    system = depthsegnet(focal_baseline=0.3).train()
    prediction = system(picture(32, 48))
    disparities = prediction["disparities"]
    depths = [prediction["depth"], *prediction["side_depths"]]
    sizes = [(32, 48), (16, 24), (8, 12), (4, 6)]
    assert [tuple(d.shape) for d in disparities] == [(2, 2, *s) for s in sizes]
    assert [tuple(d.shape) for d in depths] == [(2, 1, *s) for s in sizes]
    for disparity, depth in zip(disparities, depths, strict=True):
        assert (disparity > 0).all() and (disparity < 0.3).all()
        # A left disparity d, in shares of the width w, is z = f b / (d w).
        torch.testing.assert_close(depth * disparity[:, :1], torch.full_like(depth, 0.3))


def test_the_frozen_depth_side_stays_while_the_segmentation_learns():
    torch.manual_seed(0)
    encoder = StandardResNet(18, half=True, width=8)  # one with norms
    system = depthsegnet(encoder=encoder, freeze_depth=True).train()
    assert system.training and not system.encoder.training and system.segmentation.training
    before = {n: v.clone() for n, v in system.state_dict().items()}
    trained = [p for p in system.parameters() if p.requires_grad]
    optimizer = torch.optim.Adam(trained, lr=1e-2)
    for _ in range(2):
        prediction = system(picture())
        prediction["logits"].square().mean().backward()
        optimizer.step()
    assert not prediction["depth"].requires_grad
    changed = {n for n, v in system.state_dict().items() if not torch.equal(v, before[n])}
    assert changed == {n for n in before if n.startswith("segmentation.")}


def test_a_trained_depth_side_is_taken_over_from_a_checkpoint(tmp_path):
    torch.manual_seed(0)
    trained = depthsegnet(tasks=("depth",)).eval()
    path = tmp_path / "depth.ckpt"
    torch.save({"state_dict": {f"system.{n}": v for n, v in trained.state_dict().items()}}, path)
    system = depthsegnet(freeze_depth=True, depth_weights=path).eval()
    image = picture()
    with torch.inference_mode():
        assert torch.equal(system(image)["depth"], trained(image)["depth"])
    with pytest.raises(TrainingError, match=r"depth\.ckpt does not have the weights of ResNet50"):
        depthsegnet(encoder=ResNet50(8, (1, 1)), depth_weights=path)


def test_options_that_make_no_sense_are_told():
    with pytest.raises(TrainingError, match="there is nothing to train"):
        depthsegnet(tasks=("depth",), freeze_depth=True)
    with pytest.raises(TrainingError, match="features at 3 resolutions, expected 4 to 5"):
        depthsegnet(encoder=Vgg((8, 8, 8)))


def test_up_skips_resize_convolve_and_rectify_and_are_summed():
    torch.manual_seed(0)
    branch = lateral_sharing().branches["segmentation"]
    maps = [torch.randn(1, c, 4 * 2**i, 6 * 2**i) for i, c in enumerate((16, 12, 10, 8, 5))]
    skips = [conv(resize(x, (32, 48))) for conv, x in zip(branch.up_skips, maps, strict=True)]
    expected = sum(s.relu() for s in skips[:-1]) + skips[-1]
    torch.testing.assert_close(branch.sum_up(maps, (32, 48)), expected, rtol=1e-4, atol=1e-4)


def test_without_sharing_each_branch_is_on_its_own():
    torch.manual_seed(0)
    for sharing, same in ((False, True), (True, False)):
        system = lateral_sharing(sharing=sharing).eval()
        image = picture()
        with torch.no_grad():
            before = system(image)["depth"]
            for parameter in system.branches["segmentation"].parameters():
                parameter.add_(0.1)
            assert torch.equal(before, system(image)["depth"]) == same
