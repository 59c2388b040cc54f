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

"""Convert the original weight files of DINOv3 and EUPE for the classes of transformers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from ..errors import TrainingError

NAMES = {
    "cls_token": "embeddings.cls_token",
    "storage_tokens": "embeddings.register_tokens",
    "mask_token": "embeddings.mask_token",
    "patch_embed.proj": "embeddings.patch_embeddings",
    "blocks": "layer",
    "attn.proj": "attention.o_proj",
    "ls1.gamma": "layer_scale1.lambda1",
    "ls2.gamma": "layer_scale2.lambda1",
    "mlp.fc1": "mlp.up_proj",
    "mlp.fc2": "mlp.down_proj",
    "mlp.w1": "mlp.gate_proj",
    "mlp.w2": "mlp.up_proj",
    "mlp.w3": "mlp.down_proj",
}
"""Part of a parameter name in these files -> the same part in transformers."""


def read(file: Path) -> tuple[dict[str, Any], dict[str, torch.Tensor]]:
    """Read the weights of a ViT (not a ConvNeXt) and derive its configuration from their shapes.

    Args:
        file: A state dict written by `torch.save`, for example EUPE-ViT-S.pt.

    Returns:
        Entries of a `DINOv3ViTConfig` with its `model_type`, and its weights by name.

    Raises:
        TrainingError: the file cannot be read, or belongs to another network.
    """
    try:
        try:
            weights = torch.load(file, map_location="cpu", weights_only=True)
        except Exception:  # of many types; torch's advice is to run what the file contains
            raise ValueError("torch.load with weights_only=True cannot read it") from None
        names = list(weights) if isinstance(weights, dict) else [type(weights).__name__]
        if not {"rope_embed.periods", "patch_embed.proj.weight"} <= set(names):
            raise ValueError(f"it contains {', '.join(map(str, names[:3]))} ...")
        periods = weights["rope_embed.periods"].double()
        hidden, _, patch, _ = weights["patch_embed.proj.weight"].shape
        # A head has four channels for each period: sine and cosine of both coordinates.
        heads, rest = divmod(hidden, 4 * len(periods))
        expected = 100.0 ** (torch.arange(len(periods)).double() / len(periods))
        if rest or not torch.allclose(periods, expected, rtol=0.01):  # some files have bfloat16
            raise ValueError("its position embeddings have other periods")
        own = {}
        for name, tensor in weights.items():
            if "local_cls_norm" in name or name.endswith("bias_mask") or "rope_embed" in name:
                continue
            if "attn.qkv" in name:
                for part, third in zip("qkv", tensor.chunk(3), strict=True):
                    own[renamed(name.replace("attn.qkv", f"attention.{part}_proj"))] = third
            else:
                own[renamed(name)] = tensor.view(1, 1, -1) if name == "mask_token" else tensor
        # Without registers, transformers expects an empty tensor.
        own.setdefault("embeddings.register_tokens", torch.zeros(1, 0, hidden))
        if "blocks.0.attn.qkv.bias_mask" in weights:  # then the bias of keys is masked
            own = {key: tensor for key, tensor in own.items() if not key.endswith("k_proj.bias")}
        first = {key[8:]: tensor for key, tensor in own.items() if key.startswith("layer.0.")}
        gated = "mlp.gate_proj.weight" in first  # SwiGLU
        entries = {
            "model_type": "dinov3_vit",
            "patch_size": patch,
            "hidden_size": hidden,
            "intermediate_size": len(first["mlp.up_proj.weight"]),
            "num_hidden_layers": len([key for key in own if key.endswith("o_proj.weight")]),
            "num_attention_heads": heads,
            "num_register_tokens": own["embeddings.register_tokens"].shape[1],
            "rope_theta": 100.0,
            "use_gated_mlp": gated,
            "hidden_act": "silu" if gated else "gelu",
            "query_bias": "attention.q_proj.bias" in first,
            "key_bias": "attention.k_proj.bias" in first,
            "value_bias": "attention.v_proj.bias" in first,
            "proj_bias": "attention.o_proj.bias" in first,
            "mlp_bias": "mlp.up_proj.bias" in first,
        }
    except Exception as error:  # torch.load raises many types
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise TrainingError(
            f"{file} has no weights of a ViT of DINOv3 or EUPE ({reason}); expected the authors'"
            " .pt or .pth file of a ViT, not of a ConvNeXt"
        ) from None
    return entries, own


def renamed(name: str) -> str:
    """Translate a parameter name from the original file to transformers."""
    for theirs, ours in NAMES.items():
        name = name.replace(theirs, ours)
    return name
