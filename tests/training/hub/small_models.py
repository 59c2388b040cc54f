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

"""Models of transformers as the hub has them, but tiny, with random weights and fixed seeds."""

import json
from pathlib import Path

import numpy as np
import torch
import transformers as tf
from safetensors.torch import save_file

from training.data.classes import CITYSCAPES

NAMES = [c.name for c in CITYSCAPES]


def saved(folder, model, processor, more=()):
    """A folder as the hub has it, of a network whose outputs depend on the image.

    What transformers starts training with gives nearly the same everywhere. `more` has names of
    parameters, with a factor and what is added after that.
    """
    random = torch.Generator().manual_seed(0)
    for name, value in model.named_parameters():
        if value.dim() > 1:
            fan = value[0].numel() if "embed" not in name or "proj" in name else 4
            value.data = torch.randn(value.shape, generator=random) / fan**0.5
        elif name.endswith("bias"):
            value.data = 0.1 * torch.randn(value.shape, generator=random)
        elif "lambda" in name:
            value.data.fill_(1)
    for name, factor, added in more:
        parameter = model.get_parameter(name)
        parameter.data = parameter.data * factor + added
    model.save_pretrained(folder)
    if processor is not None:
        processor.save_pretrained(folder)
    return str(folder)


def labels_of(names):
    return {"id2label": dict(enumerate(names)), "label2id": {n: i for i, n in enumerate(names)}}


def segformer(folder, names=NAMES, size=64):
    config = tf.SegformerConfig(
        depths=[1, 1, 1, 1],
        hidden_sizes=[8, 8, 16, 16],
        num_attention_heads=[1, 1, 2, 2],
        decoder_hidden_size=16,
        **labels_of(names),
    )
    processor = tf.SegformerImageProcessor(size={"height": size, "width": size})
    return saved(folder, tf.SegformerForSemanticSegmentation(config), processor)


def swin():
    """The backbone of the networks that predict masks."""
    return tf.SwinConfig(
        image_size=64,
        embed_dim=8,
        depths=[1, 1, 1, 1],
        num_heads=[1, 1, 2, 2],
        window_size=4,
        out_features=["stage1", "stage2", "stage3", "stage4"],
    )


def mask2former(folder):
    config = tf.Mask2FormerConfig(
        backbone_config=swin(),
        feature_size=32,
        mask_feature_size=32,
        hidden_dim=32,
        encoder_feedforward_dim=32,
        dim_feedforward=32,
        encoder_layers=1,
        decoder_layers=2,
        num_attention_heads=2,
        num_queries=10,
        **labels_of(NAMES),
    )
    processor = tf.Mask2FormerImageProcessor(size={"shortest_edge": 64, "longest_edge": 200})
    # Masks that are not all 0 or 1.
    masks = "model.transformer_module.decoder.mask_predictor.mask_embedder.2.0.weight"
    more = ((masks, 0.04, 0), ("class_predictor.weight", 6, 0))
    return saved(folder, tf.Mask2FormerForUniversalSegmentation(config), processor, more)


def maskformer(folder):
    detr = tf.DetrConfig(
        d_model=32,
        encoder_layers=1,
        decoder_layers=1,
        encoder_attention_heads=2,
        decoder_attention_heads=2,
        encoder_ffn_dim=32,
        decoder_ffn_dim=32,
        num_queries=10,
    )
    config = tf.MaskFormerConfig(
        backbone_config=swin(),
        decoder_config=detr,
        fpn_feature_size=32,
        mask_feature_size=32,
        **labels_of(NAMES),
    )
    processor = tf.MaskFormerImageProcessor(size={"shortest_edge": 64, "longest_edge": 200})
    queries = "model.transformer_module.queries_embedder.weight"  # larger, so that they differ
    more = (
        ("mask_embedder.2.0.weight", 0.1, 0),
        ("class_predictor.weight", 20, 0),
        (queries, 10, 0),
    )
    return saved(folder, tf.MaskFormerForInstanceSegmentation(config), processor, more)


NECK = {"neck_hidden_sizes": [8, 8, 16, 16], "fusion_hidden_size": 16}
VIT = {
    "hidden_size": 24,
    "num_hidden_layers": 4,
    "num_attention_heads": 2,
    "intermediate_size": 32,
}


def depth_anything(folder, kind="metric", size=84):
    backbone = tf.Dinov2Config(
        image_size=70, patch_size=14, out_indices=[1, 2, 3, 4], reshape_hidden_states=False, **VIT
    )
    config = tf.DepthAnythingConfig(
        backbone_config=backbone,
        reassemble_hidden_size=24,
        head_hidden_size=8,
        depth_estimation_type=kind,
        max_depth=80,
        **NECK,
    )
    processor = tf.DPTImageProcessor(
        size={"height": size, "width": size}, keep_aspect_ratio=True, ensure_multiple_of=14
    )
    more = (("head.conv3.weight", 0.1, 0),)
    return saved(folder, tf.DepthAnythingForDepthEstimation(config), processor, more)


def zoedepth(folder):
    backbone = tf.BeitConfig(
        image_size=64,
        patch_size=16,
        use_relative_position_bias=True,
        reshape_hidden_states=False,
        out_features=["stage1", "stage2", "stage3", "stage4"],
        **VIT,
    )
    config = tf.ZoeDepthConfig(
        backbone_config=backbone,
        bottleneck_features=16,
        num_attractors=[4, 2, 2, 1],
        bin_embedding_dim=16,
        num_relative_features=8,
        bin_configurations=[{"n_bins": 8, "min_depth": 0.001, "max_depth": 10.0}],
        **NECK,
    )
    processor = tf.ZoeDepthImageProcessor(size={"height": 64, "width": 96}, ensure_multiple_of=32)
    return saved(folder, tf.ZoeDepthForDepthEstimation(config), processor)


def dpt(folder):
    config = tf.DPTConfig(image_size=64, backbone_out_indices=[0, 1, 2, 3], **VIT, **NECK)
    processor = tf.DPTImageProcessor(size={"height": 64, "width": 64})
    # Inverse depth that is never 0.
    more = (("head.head.4.weight", 0.1, 0), ("head.head.4.bias", 1, 1))
    return saved(folder, tf.DPTForDepthEstimation(config), processor, more)


def glpn(folder):
    config = tf.GLPNConfig(
        depths=[1, 1, 1, 1],
        hidden_sizes=[8, 8, 16, 16],
        num_attention_heads=[1, 1, 2, 2],
        decoder_hidden_size=16,
    )
    return saved(folder, tf.GLPNForDepthEstimation(config), tf.GLPNImageProcessor())


def dpt_labels(folder):
    config = tf.DPTConfig(
        image_size=64, backbone_out_indices=[0, 1, 2, 3], **VIT, **NECK, **labels_of(NAMES)
    )
    processor = tf.DPTImageProcessor(size={"height": 64, "width": 64})
    return saved(folder, tf.DPTForSemanticSegmentation(config), processor)


def beit(folder, kind="Beit"):
    config = getattr(tf, f"{kind}Config")(
        image_size=64,
        patch_size=16,
        out_indices=[1, 2, 3, 4],
        use_relative_position_bias=True,
        pool_scales=[1, 2],
        auxiliary_channels=8,
        **VIT,
        **labels_of(NAMES),
    )
    processor = tf.BeitImageProcessor(size={"height": 64, "width": 64}, do_center_crop=False)
    return saved(folder, getattr(tf, f"{kind}ForSemanticSegmentation")(config), processor)


def data2vec(folder):
    return beit(folder, "Data2VecVision")


def upernet(folder):
    """With a DINOv2 backbone."""
    backbone = tf.Dinov2Config(
        image_size=64,
        patch_size=16,
        out_features=["stage1", "stage2", "stage3", "stage4"],
        **VIT,
    )
    config = tf.UperNetConfig(
        backbone_config=backbone,
        hidden_size=16,
        pool_scales=[1, 2],
        auxiliary_channels=8,
        auxiliary_in_channels=24,
        auxiliary_concat_input=False,
        **labels_of(NAMES),
    )
    processor = tf.SegformerImageProcessor(size={"height": 64, "width": 64})
    return saved(folder, tf.UperNetForSemanticSegmentation(config), processor)


EOMT = {
    "hidden_size": 24,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "num_blocks": 1,
    "image_size": 64,
    "patch_size": 16,
    "num_queries": 5,
    "num_upscale_blocks": 1,
}


def eomt(folder, split=True):
    size = {"shortest_edge": 64, "longest_edge": None if split else 64}
    processor = tf.EomtImageProcessor(size=size, do_split_image=split, do_pad=not split)
    config = tf.EomtConfig(**EOMT, **labels_of(NAMES))
    return saved(folder, tf.EomtForUniversalSegmentation(config), processor)


def eomt_dinov3(folder):
    size = {"shortest_edge": 64, "longest_edge": None}
    processor = tf.EomtImageProcessor(size=size, do_split_image=True, do_pad=False)
    config = tf.EomtDinov3Config(intermediate_size=32, **EOMT, **labels_of(NAMES))
    return saved(folder, tf.EomtDinov3ForUniversalSegmentation(config), processor)


def depth_pro(folder):
    vit = dict(model_type="dinov2", image_size=32, patch_size=8, **VIT)
    config = tf.DepthProConfig(
        fusion_hidden_size=16,
        patch_size=32,
        intermediate_hook_ids=[2, 1],
        intermediate_feature_dims=[8, 8],
        scaled_images_ratios=[0.5, 1.0],
        scaled_images_overlap_ratios=[0.0, 0.5],
        scaled_images_feature_dims=[16, 8],
        use_fov_model=True,
        num_fov_head_layers=2,
        image_model_config=vit,
        patch_model_config=vit,
        fov_model_config=vit,
    )
    folder = saved(
        folder,
        tf.DepthProForDepthEstimation(config),
        None,
        (("head.layers.4.bias", 1, 2), ("fov_model.head.layers.4.bias", 1, 60)),
    )
    settings = {
        "image_processor_type": "DepthProImageProcessor",  # needs torchvision
        "size": {"height": 64, "width": 64},
        "image_mean": [0.5] * 3,
        "image_std": [0.5] * 3,
    }
    Path(folder, "preprocessor_config.json").write_text(json.dumps(settings))
    return folder


DA3_SHAPES = {
    "backbone.pretrained.cls_token": (1, 1, 128),
    "backbone.pretrained.pos_embed": (1, 26, 128),
    "backbone.pretrained.patch_embed.proj.weight": (128, 3, 14, 14),
    "backbone.pretrained.patch_embed.proj.bias": (128,),
    **{
        f"backbone.pretrained.blocks.{i}.{name}": shape
        for i in range(4)
        for name, shape in {
            **{f"norm{k}.{what}": (128,) for k in (1, 2) for what in ("weight", "bias")},
            **{f"ls{k}.gamma": (128,) for k in (1, 2)},
            "attn.qkv.weight": (384, 128),
            "attn.qkv.bias": (384,),
            "attn.proj.weight": (128, 128),
            "attn.proj.bias": (128,),
            "mlp.fc1.weight": (512, 128),
            "mlp.fc1.bias": (512,),
            "mlp.fc2.weight": (128, 512),
            "mlp.fc2.bias": (128,),
        }.items()
    },
    "backbone.pretrained.norm.weight": (128,),
    "backbone.pretrained.norm.bias": (128,),
    **{f"head.projects.{i}.weight": (c, 128, 1, 1) for i, c in enumerate((8, 8, 16, 16))},
    **{f"head.projects.{i}.bias": (c,) for i, c in enumerate((8, 8, 16, 16))},
    "head.resize_layers.0.weight": (8, 8, 4, 4),
    "head.resize_layers.0.bias": (8,),
    "head.resize_layers.1.weight": (8, 8, 2, 2),
    "head.resize_layers.1.bias": (8,),
    "head.resize_layers.3.weight": (16, 16, 3, 3),
    "head.resize_layers.3.bias": (16,),
    **{f"head.scratch.layer{i}_rn.weight": (16, c, 3, 3) for i, c in enumerate((8, 8, 16, 16), 1)},
    **{
        f"head.scratch.refinenet{i}.{name}": shape
        for i in (1, 2, 3, 4)
        for name, shape in {
            **{
                f"resConfUnit{u}.conv{k}.{what}": shape
                for u in ((2,) if i == 4 else (1, 2))
                for k in (1, 2)
                for what, shape in {"weight": (16, 16, 3, 3), "bias": (16,)}.items()
            },
            "out_conv.weight": (16, 16, 1, 1),
            "out_conv.bias": (16,),
        }.items()
    },
    "head.scratch.output_conv1.weight": (8, 16, 3, 3),
    "head.scratch.output_conv1.bias": (8,),
    **{
        f"head.scratch.{head}.{name}": shape
        for head in ("output_conv2", "sky_output_conv2")
        for name, shape in {
            "0.weight": (32, 8, 3, 3),
            "0.bias": (32,),
            "2.weight": (1, 32, 1, 1),
            "2.bias": (1,),
        }.items()
    },
}
"""Names and shapes of the authors' weights, of a small network."""


def depth_anything_3(folder, name="da3metric-large"):
    """As the authors' code saves it; the weights follow from their names' order."""
    random = np.random.default_rng(0)
    weights = {}
    for key in sorted(f"model.{key}" for key in DA3_SHAPES):
        shape = DA3_SHAPES[key.removeprefix("model.")]
        values = random.standard_normal(shape).astype(np.float32)
        if len(shape) > 1 and "token" not in key and "pos" not in key:
            values /= np.sqrt(np.prod(shape[1:]))
        else:
            around_one = ("norm1.weight", "norm2.weight", "norm.weight", "gamma")
            values = values * 0.3 + key.endswith(around_one)
        weights[key] = torch.from_numpy(values.astype(np.float32))
    Path(folder).mkdir(parents=True, exist_ok=True)
    save_file(weights, Path(folder, "model.safetensors"))
    config = {"model_name": name, "config": {"net": {"out_layers": [0, 1, 2, 3]}}}
    Path(folder, "config.json").write_text(json.dumps(config))
    return str(folder)
