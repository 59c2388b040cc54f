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

"""The graph of a model file, from camera image to labels, confidence and depth.

Validation uses the same graph, so metrics apply to the exported model. The graph computes the size
of the network input from the image size (`model_card.fitted_size`). So pixels are square for any
aspect ratio, and no padding is needed.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from onnxscript import opset18 as op
from torch import Tensor, nn

from depthseg_ros.model_card import NETWORK_STRIDE, ModelCard, fitted_size

from .base import Prediction, System
from .blocks import double, resize, with_background_logit


@torch.library.custom_op("depthseg_ros::fit", mutates_args=())
def fit(image_NCHW: Tensor, pixels: int) -> Tensor:
    """Resize images to the network input size.

    This is a custom operator because the exporter cannot compute a size from a square root.

    Args:
        image_NCHW: float32, any size.
        pixels: Desired number of pixels of the network input.

    Returns:
        (N, C, h, w) float32 with the size `model_card.fitted_size`.
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
    """Compute `model_card.fitted_size` and resize to it.

    TensorRT supports few operators for shapes in floating point, so selections use integers.
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
    # The result is always below these limits; TensorRT plans its memory by bounds of each side.
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
    """`blocks.resize` as a custom operator, since the exporter decomposes torch's own slowly."""
    return resize(x_NCHW, (height, width))


@bilinear.register_fake
def _(x_NCHW: Tensor, height: int, width: int) -> Tensor:
    return x_NCHW.new_empty(*x_NCHW.shape[:2], height, width)


@torch.library.custom_op("depthseg_ros::bilinear_double", mutates_args=())
def bilinear_double(x_NCHW: Tensor) -> Tensor:
    """`blocks.double` to exactly twice the size, as a custom operator."""
    return double(x_NCHW, (2 * x_NCHW.shape[2], 2 * x_NCHW.shape[3]))


@bilinear_double.register_fake
def _(x_NCHW: Tensor) -> Tensor:
    n, c, h, w = x_NCHW.shape
    return x_NCHW.new_empty(n, c, 2 * h, 2 * w)


_half_pixel = partial(op.Resize, coordinate_transformation_mode="half_pixel")


def _bilinear_in_onnx(x: Any, height: Any, width: Any) -> Any:
    return _half_pixel(x, None, None, _sizes(x, (height, width)), mode="linear")


def _double_in_onnx(x: Any) -> Any:
    factors = op.Constant(value_floats=[1.0, 1.0, 2.0, 2.0])
    return _half_pixel(x, None, factors, None, mode="linear")


def _nearest_in_onnx(x: Any, size: Sequence[Any], _: Any = None) -> Any:
    """Translate `nearest-exact` to Resize; the exporter would use a slow GatherND."""
    rounding = "round_prefer_ceil"
    return _half_pixel(x, None, None, _sizes(x, size), mode="nearest", nearest_mode=rounding)


def _sizes(x: Any, size: Sequence[Any]) -> Any:
    """Concatenate the sizes of all axes for a Resize of (N, C, H, W) to a height and width."""
    one = op.Constant(value_ints=[1])
    return op.Concat(op.Shape(x, end=2), *(op.Reshape(s, one) for s in size), axis=0)


TRANSLATIONS: dict[Callable[..., Any], Callable[..., Any]] = {
    torch.ops.depthseg_ros.fit.default: _fit_in_onnx,
    torch.ops.depthseg_ros.bilinear.default: _bilinear_in_onnx,
    torch.ops.depthseg_ros.bilinear_double.default: _double_in_onnx,
    torch.ops.aten._upsample_nearest_exact2d.vec: _nearest_in_onnx,
}
"""Operators with a custom translation to ONNX."""


TOLERANCE = math.log(1.1)
"""Error of ln depth up to which depth is correct for the depth confidence: 10 %."""


class ServedModel(nn.Module):
    """The exported graph: camera images in; labels, confidence and depth out, at the image size.

    `inputs` and `outputs` are the names of its inputs and outputs, in order.
    """

    def __init__(
        self,
        system: System,
        card: ModelCard,
        temperature: float = 1.0,
        spread: tuple[float, float] = (1.0, 1.0),
    ) -> None:
        """Wrap a system.

        Args:
            system: The network.
            card: The model card, which defines the outputs.
            temperature: Divisor of logits for the confidence, see `evaluation.temperature`.
            spread: (f, p) for the depth confidence: the predicted scale b of the depth error is
                corrected to f * b^p, see `evaluation.spread`.
        """
        super().__init__()
        self.system, self.card, self.temperature = system, card, temperature
        self.spread = spread
        self.image_inputs = system.inputs
        self.inputs = (*self.image_inputs, *(["fx"] if card.needs_fx else []))
        self.outputs = card.outputs
        self.sky = [c.id for c in card.classes if "sky" in c.flags]

    def forward(self, *inputs: Tensor) -> tuple[Tensor, ...]:
        """Run the graph.

        Args:
            inputs: In the order of `self.inputs`: (N, H, W, 3) uint8 RGB images, and `fx`, (N,)
                float32 focal lengths in pixels.

        Returns:
            In the order of `self.outputs`: `labels` and `confidence` (N, H, W) uint8, `depth`
            (N, H, W) float32 and `depth_confidence` (N, H, W) uint8.
        """
        images = inputs[: len(self.image_inputs)]
        size = images[0].shape[1:3]
        prediction, network = self._predict(images)
        outputs: list[Tensor] = []
        if self.card.classes:
            labels, confidence = self._classify(prediction["logits"], network, size)
            outputs += [labels.to(torch.uint8), (confidence * 255 + 0.5).to(torch.uint8)]
        if self.card.depth is not None:
            depth = self._measure(prediction["depth"], size)
            if self.card.canonical_fx is not None:
                # The focal length at the network's size. Rounding to the stride makes pixels
                # slightly non-square: use the geometric mean of both directions.
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
                # The product takes half the time of Where in ONNX Runtime.
                outputs.append((levels * (~no_depth).float()).to(torch.uint8))
        return tuple(outputs)

    def logits(self, *images: Tensor) -> Tensor:
        """Predict only the logits of all classes, (N, classes, h, w) at the size of the system."""
        return with_background_logit(self._predict(images)[0]["logits"])

    def log_scale(self, *images: Tensor) -> Tensor:
        """Predict only the scale of the depth error, `Prediction.log_scale`."""
        return self._predict(images)[0]["log_scale"]

    def _predict(self, images: tuple[Tensor, ...]) -> tuple[Prediction, torch.Size]:
        """Run the system; returns its prediction, and height and width of the network input."""
        width, height = self.card.network_size
        # Not all runtimes support uint8 inside a graph: cast at its inputs and outputs.
        stacked = torch.cat([image.float().permute(0, 3, 1, 2) for image in images], 1)
        fitted = fit(stacked, width * height)
        inputs = fitted.split(3, 1)
        if self.card.precision != "fp16":
            return self.system(*inputs), fitted.shape[2:]
        half = self.system(*(x.half() for x in inputs))
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
        logits = with_background_logit(logits)
        # The softmax of the best class, without Softmax, which is slow over the channel axis.
        best = logits.amax(1, keepdim=True)
        others = (logits - best) / self.temperature
        confidence = resize(1 / others.exp().sum(1, keepdim=True), size)[:, 0]
        # Take the best class at the network's size: resizing the logits of all classes to a large
        # image would take longer than the network, without better borders.
        labels = double(logits, network).argmax(1, keepdim=True).float()
        return F.interpolate(labels, size=tuple(size), mode="nearest-exact")[:, 0], confidence

    def _measure(self, depth: Tensor, size: torch.Size) -> Tensor:
        if self.card.depth is not None and self.card.depth.kind == "normalised":
            return resize(depth, size)[:, 0]
        # Interpolate in log space: between near and far, the geometric mean.
        return resize(depth.log(), size)[:, 0].exp()


def within_share(log_scale: Tensor, spread: tuple[float, float] = (1.0, 1.0)) -> Tensor:
    """Compute the probability that depth is within 10 % of the truth.

    The error of ln depth has a Laplace distribution with scale b, so the probability is
    1 - exp(-ln 1.1 / b).

    Args:
        log_scale: ln b, any shape, before the correction by `spread`.
        spread: See `ServedModel`.

    Returns:
        0 to 1, the shape of `log_scale`.
    """
    factor, power = spread
    return 1 - torch.exp(-torch.exp(math.log(TOLERANCE / factor) - power * log_scale))
