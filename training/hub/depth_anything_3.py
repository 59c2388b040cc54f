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

"""Depth Anything 3, the networks for one image: DA3METRIC-LARGE and DA3MONO-LARGE.

transformers 5.23 does not have this model, but its parts: a DINOv2 encoder with a DPT head, as in
Depth Anything V2. Differences are the last activations, an output for the sky, and the
interpolation of position embeddings. So the weights are loaded into transformers' Depth Anything.
The outputs agree with the authors' code (figures in tests/training/hub/test_depth_anything_3.py).
"""

from __future__ import annotations

import math
import re
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..errors import TrainingError
from .loading import config_entries, file_of, transformers

CANONICAL_FX = 300.0
"""Metres = output * focal length at the network's size (pixels) / this (the authors' README)."""
SKY = 0.3
"""A pixel is sky if the sky output is greater, as in the authors' `compute_sky_mask`."""
LONG_SIDE = 504
"""Longer side of the network's input, pixels: the default of the authors' API."""
PATCH = 14
OFFSET = 0.1
"""Offset of DINOv2's interpolation of position embeddings, patches."""

_MODELS = {"da3metric-large": "metric", "da3mono-large": "up-to-scale"}
_LAYERS = (4, 11, 17, 23)
"""Layers of the large encoder that the head reads; config.json may give others."""
_HEAD_WIDTH = 64

_RENAMED = (
    (r"backbone\.pretrained\.(cls_token|mask_token)", r"backbone.embeddings.\1"),
    (r"backbone\.pretrained\.pos_embed", "backbone.embeddings.position_embeddings"),
    (r"backbone\.pretrained\.patch_embed\.proj", "backbone.embeddings.patch_embeddings.projection"),
    (r"backbone\.pretrained\.norm\.", "backbone.layernorm."),
    (r"backbone\.pretrained\.blocks\.", "backbone.encoder.layer."),
    (r"\.attn\.proj\.", ".attention.o_proj."),
    (r"\.ls([12])\.gamma", r".layer_scale\1.lambda1"),
    (r"head\.projects\.(\d)", r"neck.reassemble_stage.layers.\1.projection"),
    (r"head\.resize_layers\.(\d)", r"neck.reassemble_stage.layers.\1.resize"),
    (r"head\.scratch\.layer(\d)_rn", lambda m: f"neck.convs.{int(m[1]) - 1}"),
    (r"head\.scratch\.refinenet(\d)", lambda m: f"neck.fusion_stage.layers.{4 - int(m[1])}"),
    (r"\.resConfUnit([12])\.conv([12])", r".residual_layer\1.convolution\2"),
    (r"\.out_conv\.", ".projection."),
    (r"head\.scratch\.output_conv1", "head.conv1"),
    (r"head\.scratch\.output_conv2\.0", "head.conv2"),
    (r"head\.scratch\.output_conv2\.2", "head.conv3"),
    (r"head\.scratch\.sky_output_conv2", "sky"),
)
_UNUSED = "neck.fusion_stage.layers.0.residual_layer1."
"""Weights of transformers' first fusion stage that have no effect."""


def kind_of(name: str) -> str | None:
    """Return `metric` or `up-to-scale`; None if the model is not Depth Anything 3.

    Raises:
        TrainingError: It is another network of Depth Anything 3.
    """
    entries = config_entries(name)
    model = str(entries.get("model_name") or Path(name).name).lower().replace("_", "-")
    if "model_type" in entries or not model.startswith("da3"):
        return None
    if model not in _MODELS:
        raise TrainingError(
            f"{name} is {model}, a network for several images; expected DA3METRIC-LARGE or"
            " DA3MONO-LARGE of Depth Anything 3"
        )
    return _MODELS[model]


def network_size(height: int, width: int) -> tuple[int, int]:
    """Height and width of the network's input for an image, as in the authors' API."""
    scale = LONG_SIDE / max(height, width)
    # Round half up.
    resized = (max(1, round(side * scale)) for side in (height, width))
    tall, wide = (PATCH * max(1, math.floor(side / PATCH + 0.5)) for side in resized)
    return tall, wide


class DepthAnything3(nn.Module):
    """The network; its input is normalised with ImageNet's mean and standard deviation."""

    def __init__(self, name: str) -> None:
        """Load a folder or a name on the hub; raises `TrainingError`."""
        super().__init__()
        self.kind = kind_of(name)
        path = file_of(name, "model.safetensors")
        if path is None:
            raise TrainingError(f"{name} has no model.safetensors")
        try:
            from safetensors.torch import load_file

            weights = renamed(load_file(path))
            entries = config_entries(name).get("config")
            net = entries.get("net") if isinstance(entries, dict) else None
            layers = net.get("out_layers", _LAYERS) if isinstance(net, dict) else _LAYERS
            self.network = _built(weights, layers)
            self.sky = nn.Sequential(
                nn.Conv2d(self.network.head.conv2.in_channels, 32, 3, padding=1),
                nn.ReLU(),
                nn.Conv2d(32, 1, 1),
            )
            missing, unknown = self.network.load_state_dict(
                {k: v for k, v in weights.items() if not k.startswith("sky.")}, strict=False
            )
            self.load_state_dict({k: v for k, v in weights.items() if k.startswith("sky.")}, False)
        except Exception as error:  # a damaged file, or weights of another network
            reason = (str(error).splitlines() or [type(error).__name__])[0]
            raise TrainingError(f"{path} has no weights of {self.kind}: {reason}") from None
        known = ("backbone.embeddings.mask_token", _UNUSED)
        missing = [key for key in missing if not key.startswith(known)]
        absent = {f"sky.{key}" for key in self.sky.state_dict()} - set(weights)
        if wrong := sorted({*missing, *unknown, *absent}):
            raise TrainingError(f"{path} is not of Depth Anything 3: it differs in {wrong[0]}")
        embeddings = self.network.backbone.embeddings
        embeddings.interpolate_pos_encoding = self._positions

    def forward(self, pixel_values: Tensor) -> tuple[Tensor, Tensor]:
        """Return depth, not yet scaled by the focal length, and sky, (N, H, W) each."""
        network = self.network
        rows, columns = (side // PATCH for side in pixel_values.shape[2:])
        features = network.neck(network.backbone(pixel_values).feature_maps, rows, columns)[-1]
        size = (rows * PATCH, columns * PATCH)
        features = F.interpolate(
            network.head.conv1(features), size, mode="bilinear", align_corners=True
        )
        depth = network.head.conv3(F.relu(network.head.conv2(features)))
        return depth.float().exp()[:, 0], F.relu(self.sky(features)).float()[:, 0]

    def _positions(self, embeddings: Tensor, height: int, width: int) -> Tensor:
        """Interpolate position embeddings as DINOv2 does; transformers does it differently."""
        known = self.network.backbone.embeddings.position_embeddings
        side = math.isqrt(known.shape[1] - 1)
        rows, columns = height // PATCH, width // PATCH
        if rows == columns == side:
            return known
        grid = known[:, 1:].unflatten(1, (side, side)).permute(0, 3, 1, 2)
        scale = ((rows + OFFSET) / side, (columns + OFFSET) / side)
        grid = F.interpolate(grid.float(), scale_factor=scale, mode="bicubic")
        return torch.cat([known[:, :1], grid.flatten(2).transpose(1, 2).to(known.dtype)], 1)


def renamed(weights: dict[str, Tensor]) -> dict[str, Tensor]:
    """Rename the weights of the authors' code to the names of transformers."""
    result = {}
    for key, value in weights.items():
        name = key.removeprefix("model.")
        for pattern, by in _RENAMED:
            name = re.sub(pattern, by, name)
        if ".attn.qkv." in name:
            for part, share in zip("qkv", value.chunk(3), strict=True):
                result[name.replace("attn.qkv", f"attention.{part}_proj")] = share
        else:
            result[name] = value
    return result


def _built(weights: dict[str, Tensor], layers: Any) -> Any:
    """Build transformers' network with the sizes of the weights."""
    tf = transformers()
    positions = weights["backbone.embeddings.position_embeddings"]
    width = positions.shape[2]
    numbers = [re.match(r"backbone\.encoder\.layer\.(\d+)\.", key) for key in weights]
    backbone = tf.Dinov2Config(
        hidden_size=width,
        num_hidden_layers=1 + max(int(m[1]) for m in numbers if m),
        num_attention_heads=width // _HEAD_WIDTH,
        image_size=PATCH * math.isqrt(positions.shape[1] - 1),
        patch_size=PATCH,
        out_indices=[layer + 1 for layer in layers],
        reshape_hidden_states=False,
        apply_layernorm=True,
    )
    shapes = [weights[f"neck.reassemble_stage.layers.{i}.projection.weight"] for i in range(4)]
    config = tf.DepthAnythingConfig(
        backbone_config=backbone,
        reassemble_hidden_size=width,
        neck_hidden_sizes=[shape.shape[0] for shape in shapes],
        fusion_hidden_size=weights["neck.convs.0.weight"].shape[0],
        head_hidden_size=weights["head.conv2.weight"].shape[0],
    )
    return tf.DepthAnythingForDepthEstimation(config)
