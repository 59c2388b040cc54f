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


"""Vision transformers as encoders, frozen or fine-tuned with low-rank adapters."""

from __future__ import annotations

import copy
import json
import sys
from pathlib import Path
from types import MethodType
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..errors import TrainingError
from . import meta_vit
from .blocks import Normalize, resize
from .encoders import Encoder

FAMILIES = {
    "dinov2": "Dinov2Backbone",
    "dinov2_with_registers": "Dinov2WithRegistersBackbone",
    "dinov3_vit": "DINOv3ViTBackbone",
}
"""Supported model types -> class in transformers."""
LEFT_OUT = ("out_", "stage_names", "_", "attn_", "auto_map", "experts_", "quantization_")
"""Prefixes of configuration entries to ignore: set here, or able to download code."""
STRIDE = 16
"""Pixels of the image per token along each side, for any patch size."""
TUNED = ("q_proj", "v_proj", "query", "value")
"""Names of the query and value layers in different families and versions of transformers."""


class Vit(Encoder):
    """A ViT (DINOv2, DINOv3, EUPE) with its tokens as feature maps at 1/16 of the image size.

    Each token covers 16x16 pixels of the image. For another patch size, the image is resized by a
    constant factor, for example 14/16 for patches of 14 pixels. So the network works for any camera
    and pixels stay square. Sizes that are not divisible by 16 are rounded up to full tokens.

    The published weights are frozen and dropout is off, also in training. With `rank`, adapters of
    the queries and values are trained.
    """

    def __init__(self, vit: str | dict[str, Any], layers: int = 4, rank: int = 0) -> None:
        """Load or build the transformer.

        Args:
            vit: A name on the Hugging Face hub, a folder with such a model, a weight file of DINOv3
                or EUPE (.pt, .pth), or a `description`, which gives random weights.
            layers: Number of layers to take tokens from, evenly spaced, including the last one.
            rank: Rank of the adapters; 0: no trainable parameters.

        Raises:
            TrainingError: transformers is not installed or cannot load the model, the model is not
                one of `FAMILIES`, or a number is out of range.
        """
        super().__init__()
        if rank < 0:
            raise TrainingError(f"rank is {rank}, expected 0 or more")
        self.backbone, self.description = load(vit, layers)
        """The description has plain YAML values that define the architecture."""
        self.described = {vit: self.description} if isinstance(vit, str) else {}
        """Name or folder -> description, by which checkpoints replace it."""
        config = self.backbone.config
        mean, deviation = (self.description[key] for key in ("image_mean", "image_std"))
        self.normalize = Normalize([255 * x for x in mean], [255 * x for x in deviation])
        self.patch = int(config.patch_size)
        self.channels = (int(config.hidden_size),) * layers
        for module in self.backbone.modules():
            if hasattr(module, "interpolate_pos_encoding"):
                module.interpolate_pos_encoding = MethodType(positions, module)
            if type(module) is nn.LayerNorm:
                module.__class__ = LayerNorm
        self.backbone.requires_grad_(False)
        for name, module in list(self.backbone.named_modules()) if rank else []:
            if name.rpartition(".")[2] in TUNED and isinstance(module, nn.Linear):
                self.backbone.set_submodule(name, LowRank(module, rank))
        if isinstance(vit, str):
            self.provenance = {
                "trained_on": [f"the training data of {vit} (the encoder)"],
                "terms": f"the weights of {vit} have their own terms",
            }

    def train(self, mode: bool = True) -> Vit:
        """Set the training mode of the adapters; the transformer stays in evaluation mode."""
        super().train(mode)
        self.backbone.eval()
        return self

    def forward(self, image_N3HW: Tensor) -> list[Tensor]:
        """Extract tokens of each layer (N, C, h, w) from unnormalised images, values 0 to 255."""
        height, width = image_N3HW.shape[2:]
        if self.patch != STRIDE or height % STRIDE or width % STRIDE:
            rows, columns = -(-height // STRIDE), -(-width // STRIDE)
            image_N3HW = resize(image_N3HW, (rows * self.patch, columns * self.patch))
        return list(self.backbone(self.normalize(image_N3HW)).feature_maps)


class LayerNorm(nn.LayerNorm):
    """Layer norm in float32, also in fp16 models: squares of some tokens overflow in fp16."""

    def forward(self, x: Tensor) -> Tensor:
        """Normalise (..., C)."""
        weight, bias = self.weight.float(), self.bias.float()
        return F.layer_norm(x.float(), self.normalized_shape, weight, bias, self.eps).to(x.dtype)


class LowRank(nn.Module):
    """A frozen linear layer with a trained low-rank adapter (LoRA, Hu et al. 2021).

    The initial adapter has no effect. Export merges it with the layer.
    """

    def __init__(self, layer: nn.Linear, rank: int) -> None:
        """Wrap a layer."""
        super().__init__()
        self.layer = layer
        self.down = nn.Linear(layer.in_features, rank, bias=False)
        self.up = nn.Linear(rank, layer.out_features, bias=False)
        nn.init.zeros_(self.up.weight)

    def forward(self, x: Tensor) -> Tensor:
        """Apply layer and adapter: (..., inputs) -> (..., outputs)."""
        return self.layer(x) + self.up(self.down(x))

    @torch.no_grad()
    def merged(self) -> nn.Linear:
        """Merge layer and adapter into one equivalent linear layer."""
        merged = copy.deepcopy(self.layer)
        merged.weight += self.up.weight @ self.down.weight
        return merged


def positions(embeddings: Any, tokens: Tensor, height: int, width: int) -> Tensor:
    """Resize the learned position embeddings to the image size; the class token comes first.

    Replaces a method of transformers. For some families, that one uses antialiasing, which TensorRT
    does not support, and branches on the number of tokens, which is not exportable.
    """
    learned = embeddings.position_embeddings
    side = round((learned.shape[1] - 1) ** 0.5)
    grid = learned[:, 1:].unflatten(1, (side, side)).permute(0, 3, 1, 2)
    patch = embeddings.config.patch_size
    size = (height // patch, width // patch)
    grid = F.interpolate(grid.float(), size, mode="bicubic", align_corners=False).to(grid.dtype)
    return torch.cat([learned[:, :1], grid.flatten(2).transpose(1, 2)], 1)


def weight_file(vit: str) -> Path | None:
    """Find the original weight file of a model not in the format of transformers (EUPE)."""
    from huggingface_hub import snapshot_download
    from transformers.utils.hub import cached_file

    path = Path(vit).expanduser()
    if path.is_file():
        return path
    if path.suffix in (".pt", ".pth"):
        raise TrainingError(f"there is no weight file {vit}")
    config = cached_file(vit, "config.json", _raise_exceptions_for_missing_entries=False)
    if config and "model_type" in json.loads(Path(config).read_text()):
        return None
    if not path.is_dir():
        path = Path(snapshot_download(vit, allow_patterns=["*.pt", "*.pth"]))
    files = [file for file in path.iterdir() if file.suffix in (".pt", ".pth")]
    if len(files) > 1:
        names = ", ".join(sorted(file.name for file in files))
        raise TrainingError(f"{vit} has several weight files, {names}: give the path of one")
    return files[0] if files else None


def load(vit: str | dict[str, Any], layers: int) -> tuple[Any, dict[str, Any]]:
    """Load or build a transformer of the library transformers.

    Args:
        vit: See `Vit`.
        layers: See `Vit`.

    Returns:
        The transformer in float32, and its description: entries of its configuration, and
        `image_mean` and `image_std` for image values from 0 to 1.

    Raises:
        TrainingError: see `Vit`.
    """
    try:
        import transformers
        from transformers.utils.hub import cached_file
    except ImportError:
        raise TrainingError(
            "a vision transformer needs transformers: pip install -e .[teachers]"
        ) from None
    transformers.utils.logging.set_verbosity_error()
    if not sys.stderr.isatty():
        transformers.utils.logging.disable_progress_bar()
    name = vit if isinstance(vit, str) else "vit"
    if name.startswith(("/", ".", "~")) and not Path(name).expanduser().exists():
        raise TrainingError(f"there is no folder or file {name} with a vision transformer")
    normal = {"image_mean": [0.485, 0.456, 0.406], "image_std": [0.229, 0.224, 0.225]}  # ImageNet's
    try:
        weights = None
        if isinstance(vit, str) and (published := weight_file(vit)):
            entries, weights = meta_vit.read(published)
        elif isinstance(vit, str):
            entries = transformers.PretrainedConfig.get_config_dict(vit)[0]
            file = cached_file(
                vit, "preprocessor_config.json", _raise_exceptions_for_missing_entries=False
            )
            processor = json.loads(Path(file).read_text()) if file else {}
            entries |= {key: processor[key] for key in normal if processor.get(key)}
        else:
            entries = dict(vit)
        normal = {key: [float(x) for x in entries.pop(key, own)] for key, own in normal.items()}
        kind = entries.pop("model_type", None)
        if kind not in FAMILIES:
            raise TrainingError(
                f"{name} is a {kind or 'model of unknown type'}, expected one of"
                f" {', '.join(FAMILIES)}"
            )
        for key in [k for k in entries if k.startswith(LEFT_OUT)]:
            del entries[key]
        depth = transformers.AutoConfig.for_model(kind, **entries).num_hidden_layers
        if not 1 <= layers <= depth:
            raise TrainingError(
                f"layers is {layers}, expected 1 to {depth}, the number of layers of {name}"
            )
        selected = [round(depth * (i + 1) / layers) for i in range(layers)]
        config = transformers.AutoConfig.for_model(kind, **entries, out_indices=selected)
        backbone_class = getattr(transformers, FAMILIES[kind])
        if isinstance(vit, str):
            backbone, report = backbone_class.from_pretrained(
                None if weights else vit,
                config=config,
                state_dict=weights,
                output_loading_info=True,
                trust_remote_code=False,
            )
            if report["missing_keys"]:
                missing = sorted(report["missing_keys"])
                raise TrainingError(
                    f"{name} lacks {len(missing)} weights, the first is {missing[0]}"
                )
        else:
            backbone = backbone_class(config)
    except TrainingError:
        raise
    except Exception as error:  # the libraries raise many types
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise TrainingError(
            f"transformers cannot load {name}: {reason} Expected a folder with such a model, or its"
            " name on the Hugging Face hub"
        ) from None
    described = {**json.loads(config.to_json_string()), "hidden_size": config.hidden_size}
    return backbone.float(), described | normal
