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

"""The graph of a model file: all that stands between the camera's image and the topics.

Validation runs it too: what is measured is what is served. The network's own size follows from the
image's (`model_card.fitted_size`), inside the graph, so that its pixels are square whatever the
camera's shape, and no time is spent on padding.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from onnxscript import opset18 as op
from torch import Tensor, nn

from depthseg_ros.model_card import NETWORK_STRIDE, ModelCard, fitted_size

from .base import Prediction, System
from .blocks import double, resize


@torch.library.custom_op("depthseg_ros::fit", mutates_args=())
def fit(image_NCHW: Tensor, pixels: int) -> Tensor:
    """Resize images to the network's size for them.

    An operator of its own, since torch's exporter has no way to compute a size from a square root.

    Args:
        image_NCHW: float32, of any size.
        pixels: How many the network is to have.

    Returns:
        (N, C, h, w) float32, `model_card.fitted_size` of the images' size.
    """
    height, width = image_NCHW.shape[2:]
    width, height = fitted_size(width, height, pixels)
    return resize(image_NCHW, (height, width))


@fit.register_fake
def _(image_NCHW: Tensor, pixels: int) -> Tensor:
    context = torch.library.get_ctx()
    height, width = (NETWORK_STRIDE * context.new_dynamic_size(min=1) for _ in range(2))
    return image_NCHW.new_empty(*image_NCHW.shape[:2], height, width)


def _fit_in_onnx(image: Any, pixels: int) -> Any:
    """`model_card.fitted_size` and a Resize to it.

    TensorRT computes shapes in floats by few operators: what chooses is done in integers.
    """
    one = op.Constant(value_ints=[1])
    stride = op.Constant(value_ints=[NETWORK_STRIDE])
    area = op.Constant(value_floats=[float(pixels)])

    def strides(length: Any) -> Any:
        share = op.Div(length, op.Constant(value_floats=[float(NETWORK_STRIDE)]))
        return op.Cast(op.Round(share), to=7)

    height, width = op.Shape(image, start=2, end=3), op.Shape(image, start=3, end=4)
    short, long = op.Min(height, width), op.Max(height, width)
    least_of, most_of = op.Cast(short, to=1), op.Cast(long, to=1)
    least = op.Max(strides(op.Sqrt(op.Div(op.Mul(area, least_of), most_of))), one)
    side = op.Cast(op.Mul(least, stride), to=1)
    limit = op.Div(op.Mul(op.Constant(value_floats=[2.0]), area), side)
    most = op.Min(strides(op.Div(op.Mul(side, most_of), least_of)), strides(limit))
    most = op.Max(most, one)
    upright = op.Equal(height, short)
    rows, columns = op.Where(upright, least, most), op.Where(upright, most, least)
    # Never more than `most` by much, but TensorRT plans its memory by such bounds of each side.
    ratio = op.Div(op.Cast(height, to=1), op.Cast(width, to=1))
    half_more = op.Constant(value_floats=[1.5])
    highest = strides(op.Mul(half_more, op.Sqrt(op.Mul(area, ratio))))
    widest = strides(op.Mul(half_more, op.Sqrt(op.Div(area, ratio))))
    rows, columns = op.Min(rows, op.Max(highest, one)), op.Min(columns, op.Max(widest, one))
    network = op.Mul(op.Concat(rows, columns, axis=0), stride)
    sizes = op.Concat(op.Shape(image, end=2), network, axis=0)
    return op.Resize(
        image, None, None, sizes, mode="linear", coordinate_transformation_mode="half_pixel"
    )


@torch.library.custom_op("depthseg_ros::bilinear", mutates_args=())
def bilinear(x_NCHW: Tensor, height: int, width: int) -> Tensor:
    """`blocks.resize` as one operator: torch's exporter takes long to take its own apart."""
    return resize(x_NCHW, (height, width))


@bilinear.register_fake
def _(x_NCHW: Tensor, height: int, width: int) -> Tensor:
    return x_NCHW.new_empty(*x_NCHW.shape[:2], height, width)


@torch.library.custom_op("depthseg_ros::bilinear_double", mutates_args=())
def bilinear_double(x_NCHW: Tensor) -> Tensor:
    """`blocks.double` of exactly twice the size, likewise."""
    return double(x_NCHW, (2 * x_NCHW.shape[2], 2 * x_NCHW.shape[3]))


@bilinear_double.register_fake
def _(x_NCHW: Tensor) -> Tensor:
    n, c, h, w = x_NCHW.shape
    return x_NCHW.new_empty(n, c, 2 * h, 2 * w)


def _bilinear_in_onnx(x: Any, height: Any, width: Any) -> Any:
    return op.Resize(
        x,
        None,
        None,
        _sizes(x, (height, width)),
        mode="linear",
        coordinate_transformation_mode="half_pixel",
    )


def _double_in_onnx(x: Any) -> Any:
    return op.Resize(
        x,
        None,
        op.Constant(value_floats=[1.0, 1.0, 2.0, 2.0]),
        None,
        mode="linear",
        coordinate_transformation_mode="half_pixel",
    )


def _nearest_in_onnx(x: Any, size: Sequence[Any], _: Any = None) -> Any:
    """`nearest-exact` as a Resize; the exporter's own is a gathering of every pixel."""
    return op.Resize(
        x,
        None,
        None,
        _sizes(x, size),
        mode="nearest",
        coordinate_transformation_mode="half_pixel",
        nearest_mode="round_prefer_ceil",
    )


def _sizes(x: Any, size: Sequence[Any]) -> Any:
    """The sizes of all axes for a Resize of (N, C, H, W) to a height and width."""
    one = op.Constant(value_ints=[1])
    return op.Concat(op.Shape(x, end=2), *(op.Reshape(s, one) for s in size), axis=0)


TRANSLATIONS: dict[Callable[..., Any], Callable[..., Any]] = {
    torch.ops.depthseg_ros.fit.default: _fit_in_onnx,
    torch.ops.depthseg_ros.bilinear.default: _bilinear_in_onnx,
    torch.ops.depthseg_ros.bilinear_double.default: _double_in_onnx,
    torch.ops.aten._upsample_nearest_exact2d.vec: _nearest_in_onnx,
}
"""Operators that the exporter translates in another way than its own."""


NEAR = math.log(1.1)
"""Difference of ln depth up to which depth counts as right for the depth confidence: 10 %."""


class ServedModel(nn.Module):
    """The camera's picture in, what the topics carry out, at the picture's size.

    `inputs` and `outputs` are the names of what it takes and gives, in order.
    """

    def __init__(
        self,
        system: System,
        card: ModelCard,
        temperature: float = 1.0,
        spread: tuple[float, float] = (1.0, 1.0),
    ) -> None:
        """Put the graph of a model file around a system, as its card says.

        Logits are divided by `temperature` for the confidence, see `evaluation.temperature`. For
        the depth confidence, the scale b of the depth error becomes f * b^p with f, p = `spread`,
        see `evaluation.spread`.
        """
        super().__init__()
        self.system, self.card, self.temperature = system, card, temperature
        self.spread = spread
        self.pictures = system.inputs
        self.inputs = (*self.pictures, *(["fx"] if card.needs_fx else []))
        self.outputs = card.outputs
        self.sky = [c.id for c in card.classes if "sky" in c.flags]

    def forward(self, *inputs: Tensor) -> tuple[Tensor, ...]:
        """Perceive.

        Args:
            inputs: As `self.inputs` says: (N, H, W, 3) uint8 RGB pictures, and `fx`, (N,) float32
                focal lengths in pixels.

        Returns:
            As `self.outputs` says: `labels` and `confidence` (N, H, W) uint8, `depth` (N, H, W)
            float32 and `depth_confidence` (N, H, W) uint8.
        """
        pictures = inputs[: len(self.pictures)]
        size = pictures[0].shape[1:3]
        prediction, network = self._predict(pictures)
        outputs: list[Tensor] = []
        if self.card.classes:
            labels, confidence = self._classify(prediction["logits"], network, size)
            outputs += [labels.to(torch.uint8), (confidence * 255 + 0.5).to(torch.uint8)]
        if self.card.depth is not None:
            depth = self._measure(prediction["depth"], size)
            if self.card.canonical_fx is not None:
                # The focal length at the network's size. Where rounding to its stride leaves pixels
                # not quite square, the mean of both directions, from the ratio of the areas.
                ratio = (network[0] * network[1]) / (size[0] * size[1])
                fx_N = (inputs[-1].square() * ratio).sqrt()
                depth = depth * (fx_N / self.card.canonical_fx)[:, None, None]
            no_depth = depth > self.card.depth.max
            for class_id in self.sky:
                no_depth = no_depth | (labels == float(class_id))
            depth = depth.clamp(min=self.card.depth.min)
            outputs.append(depth.masked_fill(no_depth, float("nan")))
            if self.card.depth_confidence:
                within = within_share(prediction["log_scale"], self.spread)
                levels = resize(255 * within + 0.5, size).squeeze(1)
                # A product, because ONNX Runtime's Where takes twice as long.
                outputs.append((levels * (~no_depth).float()).to(torch.uint8))
        return tuple(outputs)

    def logits(self, *pictures: Tensor) -> Tensor:
        """The classes' logits alone, (N, classes, h, w) at the system's own size."""
        return _of_all(self._predict(pictures)[0]["logits"])

    def log_scale(self, *pictures: Tensor) -> Tensor:
        """The scale of the depth error alone, `Prediction.log_scale`."""
        return self._predict(pictures)[0]["log_scale"]

    def _predict(self, pictures: tuple[Tensor, ...]) -> tuple[Prediction, torch.Size]:
        """What the system predicts, and the height and width at which it has seen the images."""
        width, height = self.card.network_size
        # Cast first and last: uint8 at the edges alone is what every runtime can do.
        both = torch.cat([p.float().permute(0, 3, 1, 2) for p in pictures], 1)
        fitted = fit(both, width * height)
        images = fitted.split(3, 1)
        if self.card.precision != "fp16":
            return self.system(*images), fitted.shape[2:]
        half = self.system(*(x.half() for x in images))
        prediction: Prediction = {}
        if "logits" in half:
            prediction["logits"] = half["logits"].float()
        if "depth" in half:
            prediction["depth"] = half["depth"].float()
        if "log_scale" in half:
            prediction["log_scale"] = half["log_scale"].float()
        return prediction, fitted.shape[2:]

    def _classify(
        self, logits: Tensor, network: torch.Size, size: torch.Size
    ) -> tuple[Tensor, Tensor]:
        logits = _of_all(logits)
        # The softmax of the best class, without a Softmax, which is slow over the channel axis.
        best = logits.amax(1, keepdim=True)
        others = (logits - best) / self.temperature
        confidence = resize(1 / others.exp().sum(1, keepdim=True), size)[:, 0]
        # Of all classes the best at the network's size, which holds all it can tell of borders:
        # enlarging every class to a large picture would take longer than the network.
        labels = double(logits, network).argmax(1, keepdim=True).float()
        return F.interpolate(labels, size=tuple(size), mode="nearest-exact")[:, 0], confidence

    def _measure(self, depth: Tensor, size: torch.Size) -> Tensor:
        if self.card.depth is not None and self.card.depth.kind == "normalised":
            return resize(depth, size)[:, 0]
        # Between near and far lies what is a ratio from both.
        return resize(depth.log(), size)[:, 0].exp()


def within_share(log_scale: Tensor, spread: tuple[float, float] = (1.0, 1.0)) -> Tensor:
    """Probability that depth is within 10 % of the truth, 0 to 1.

    Its error in ln depth has a Laplace distribution with scale b, so the probability is
    1 - exp(-ln 1.1 / b).

    Args:
        log_scale: ln b, any shape, before recalibration.
        spread: See `ServedModel`.
    """
    factor, power = spread
    return 1 - torch.exp(-torch.exp(math.log(NEAR / factor) - power * log_scale))


def _of_all(logits: Tensor) -> Tensor:
    if logits.shape[1] == 1:  # of the foreground, against nothing
        return torch.cat([torch.zeros_like(logits), logits], 1)
    return logits
