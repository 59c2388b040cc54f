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


"""A vision transformer as encoder: tokens as transformers computes them, adapters, its model file.

The transformers are small and have random weights; they are saved and loaded as those of the hub.
"""

import json
from collections import Counter
from dataclasses import replace
from pathlib import Path

import lightning as L
import numpy as np
import onnx
import onnxruntime
import pytest
import torch
import transformers as tf
import yaml
from torch.utils.data import DataLoader

from depthseg_ros import street
from depthseg_ros.backends.compiler import Shapes, compile_engine, load_flavour, parse
from training.engine.checkpoints import load_checkpoint
from training.engine.fit import CommandLine
from training.engine.task import JointTask
from training.engine.weights import provenance_of
from training.errors import TrainingError
from training.export.model_file import fold_batch_norms, prepare_for_export, to_onnx, write
from training.models.systems.foundation_encoder import FoundationEncoder
from training.models.vit import FAMILIES, LowRank, Vit
from training.objectives.base import Context
from training.objectives.supervised import Supervised

SMALL = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2}
CONFIGS = {  # 16 x 16 learned positions, as many as an image of 256 x 256 has tokens
    "dinov2": tf.Dinov2Config(**SMALL, image_size=224, patch_size=14),
    "dinov2_with_registers": tf.Dinov2WithRegistersConfig(**SMALL, image_size=224, patch_size=14),
    "dinov3_vit": tf.DINOv3ViTConfig(**SMALL, intermediate_size=64, image_size=64, patch_size=16),
}
SIZES = {"width": 16, "detail": (8, 8, 8), "decoder": (16, 16), "heads": (8, 8)}


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """Each family as the hub has it; the images of one are normalised in another way."""
    torch.manual_seed(0)
    root = tmp_path_factory.mktemp("hub")
    for family, config in CONFIGS.items():
        model = tf.AutoModel.from_config(config)
        for parameter in model.parameters():  # at first, all layers add next to nothing
            parameter.data += 0.1 * torch.randn_like(parameter)
        model.save_pretrained(root / family)
    normal = {"image_mean": [0.5, 0.5, 0.5], "image_std": [0.25, 0.25, 0.25]}
    (root / "dinov3_vit" / "preprocessor_config.json").write_text(json.dumps(normal))
    return root


def system(folder, rank=0, **options):
    torch.manual_seed(1)
    return FoundationEncoder(str(folder), layers=2, rank=rank, **SIZES, **options)


def image(height=32, width=48, n=2):
    return torch.rand(n, 3, height, width) * 255


@pytest.mark.parametrize("family", CONFIGS)
def test_tokens_are_those_that_transformers_computes(folders, family):
    # Of 256 pixels or more: where it shrinks positions, one family blurs them.
    sees = image(256, 320, 1)
    with torch.inference_mode():
        tokens = Vit(str(folders / family), layers=2).train()(sees)
        patch = CONFIGS[family].patch_size
        values = torch.nn.functional.interpolate(
            sees, (16 * patch, 20 * patch), mode="bilinear", align_corners=False
        )
        means = ((0.5,) * 3, (0.25,) * 3) if family == "dinov3_vit" else (
            (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
        )  # fmt: skip
        mean, deviation = (torch.tensor(v).view(3, 1, 1) for v in means)
        theirs = getattr(tf, FAMILIES[family]).from_pretrained(folders / family, out_indices=[1, 2])
        expected = theirs.eval()((values / 255 - mean) / deviation).feature_maps
    assert [t.shape for t in tokens] == [(1, 32, 16, 20)] * 2
    for own, other in zip(tokens, expected, strict=True):
        # One family enlarges with another cubic than its own, which differs by little.
        rough = family == "dinov2_with_registers"
        torch.testing.assert_close(own, other, rtol=0, atol=0.05 if rough else 1e-4)


def authors_weights(model):
    """The weights of a DINOv3 of transformers as the authors of DINOv3 and EUPE name them."""
    own = {name.removeprefix("model."): tensor for name, tensor in model.state_dict().items()}
    size = own["norm.weight"].numel()
    theirs = {
        "cls_token": own["embeddings.cls_token"],
        "storage_tokens": own["embeddings.register_tokens"],
        "mask_token": own["embeddings.mask_token"][0],
        "rope_embed.periods": (100.0 ** (torch.arange(4) / 4)).bfloat16(),
        "norm.weight": own["norm.weight"],
        "norm.bias": own["norm.bias"],
    }
    for end in ("weight", "bias"):
        theirs[f"patch_embed.proj.{end}"] = own[f"embeddings.patch_embeddings.{end}"]
        for i in range(model.config.num_hidden_layers):
            layer, block = f"layer.{i}", f"blocks.{i}"
            q, v = (own[f"{layer}.attention.{part}_proj.{end}"] for part in "qv")
            k = own.get(f"{layer}.attention.k_proj.{end}", torch.full((size,), 9.0))  # masked
            theirs[f"{block}.attn.qkv.{end}"] = torch.cat([q, k, v])
            mlp = {"mlp.fc1": "mlp.up_proj", "mlp.fc2": "mlp.down_proj"}
            if model.config.use_gated_mlp:
                mlp = {
                    f"mlp.w{j}": f"mlp.{n}_proj" for j, n in enumerate(("gate", "up", "down"), 1)
                }
            same = {"attn.proj": "attention.o_proj", "norm1": "norm1", "norm2": "norm2"}
            for name, other in {**same, **mlp}.items():
                theirs[f"{block}.{name}.{end}"] = own[f"{layer}.{other}.{end}"]
            for j in (1, 2):
                theirs[f"{block}.ls{j}.gamma"] = own[f"{layer}.layer_scale{j}.lambda1"]
            mask = torch.ones(3, size)
            mask[1] = 0
            theirs[f"{block}.attn.qkv.bias_mask"] = mask.flatten()
    return theirs


@pytest.mark.parametrize("published", ["file", "folder", "gated, no registers"])
def test_the_authors_weight_file_gives_the_same_tokens(published, tmp_path):
    torch.manual_seed(2)
    gated = published.startswith("gated")
    kind = {"use_gated_mlp": True, "hidden_act": "silu"} if gated else {"num_register_tokens": 4}
    config = tf.DINOv3ViTConfig(**SMALL, intermediate_size=64, **kind)
    model = tf.DINOv3ViTBackbone(config).eval()
    for parameter in model.parameters():
        parameter.data += 0.1 * torch.randn_like(parameter)
    model.config.out_indices = [1, 2]
    weights = authors_weights(model)
    if gated:
        del weights["storage_tokens"]
    torch.save(weights, tmp_path / "EUPE-ViT-XS.pt")
    sees, vit = image(64, 96, 1), tmp_path if published == "folder" else tmp_path / "EUPE-ViT-XS.pt"
    network = Vit(str(vit), layers=2).eval()
    with torch.inference_mode():
        expected = model(network.normalize(sees)).feature_maps
        for own, other in zip(network(sees), expected, strict=True):
            torch.testing.assert_close(own, other, rtol=0, atol=1e-5)


class Code:
    def __reduce__(self):
        return (Path("/tmp/depthseg_pickle_ran").touch, ())


def test_another_networks_weight_file_is_refused(tmp_path):
    torch.save({"stages.0.0.gamma": torch.ones(3)}, tmp_path / "EUPE-ConvNeXt-T.pt")
    torch.save({"model": {}}, tmp_path / "inside.pth")
    torch.save({"x": Code()}, tmp_path / "code.pt")
    (tmp_path / "text.pth").write_text("404")
    for name, reason in {
        "EUPE-ConvNeXt-T.pt": r"it contains stages\.0\.0\.gamma", "inside.pth": "it contains model",
        "code.pt": "weights_only=True cannot read", "text.pth": "weights_only=True cannot read",
    }.items():  # fmt: skip
        with pytest.raises(TrainingError, match=f"{name} has no weights of a ViT.*{reason}"):
            Vit(str(tmp_path / name), layers=1)
    assert not Path("/tmp/depthseg_pickle_ran").exists()
    with pytest.raises(TrainingError, match=r"several weight files, EUPE-ConvNeXt-T\.pt, code"):
        Vit(str(tmp_path), layers=1)
    with pytest.raises(TrainingError, match=r"there is no weight file .*gone\.pt"):
        Vit("gone.pt", layers=1)


@pytest.mark.parametrize("family", ["dinov2", "dinov3_vit"])
@pytest.mark.parametrize("size", [(32, 48), (37, 51), (16, 65)])
def test_any_size_goes_in_and_depth_within_its_limits_comes_out(folders, family, size):
    network = system(folders / family, num_classes=5).eval()
    with torch.inference_mode():
        prediction = network(image(*size))
    half = tuple(-(-side // 2) for side in size)
    assert prediction["logits"].shape == (2, 5, *half)
    assert prediction["depth"].shape == (2, 1, *half)
    near, far = network.depth_limits
    assert near <= prediction["depth"].min() and prediction["depth"].max() <= far


def partial_batch(labels=True, depth=True):
    truth = {
        "labels": torch.randint(0, 11, (2, 32, 48), dtype=torch.uint8),
        "depth": torch.rand(2, 32, 48) * 20 + 1,
    }
    if not labels:
        truth["labels"][:] = 255
    if not depth:
        truth["depth"][:] = torch.nan
    return {"image": image(), **truth}


@pytest.mark.parametrize("rank", [0, 2])
def test_a_step_changes_all_that_is_trained_and_no_published_weight(folders, rank):
    network = system(folders / "dinov2", rank).train()
    assert not network.encoder.backbone.training
    trained = {n for n, p in network.named_parameters() if p.requires_grad}
    adapters = {n for n in trained if n.startswith("encoder.")}
    # Of each layer, queries and values have two narrow matrices.
    assert len(adapters) == (2 * 2 * 2 if rank else 0)
    before = {n: p.detach().clone() for n, p in network.named_parameters()}
    optimizer = torch.optim.Adam([p for p in network.parameters() if p.requires_grad], 1e-2)
    for _ in range(2):  # at first one of each adapter's matrices is zero, and so the other's slope
        context = Context(network, partial_batch(), torch.ones(11), 100.0)
        losses = [v for task in Supervised()(context).parts.values() for v in task.values()]
        optimizer.zero_grad()
        torch.stack(losses).sum().backward()
        optimizer.step()
    changed = {n for n, p in network.named_parameters() if not torch.equal(p, before[n])}
    assert changed == trained


@pytest.mark.parametrize("known", ["labels", "depth"])
def test_missing_truth_teaches_its_head_nothing(folders, known):
    network = system(folders / "dinov3_vit", 2).train()
    batch = partial_batch(**{name: name == known for name in ("labels", "depth")})
    parts, present = Supervised()(Context(network, batch, torch.ones(11), 100.0))
    sum(v for task in parts.values() for v in task.values()).backward()
    assert present == {"segmentation": known == "labels", "depth": known == "depth"}
    for head, taught in (
        (network.segmentation, known == "labels"),
        (network.depth, known == "depth"),
    ):
        assert taught == any((p.grad != 0).any() for p in head.parameters())
    assert all(p.grad.isfinite().all() for p in network.parameters() if p.requires_grad)


def test_one_task_alone_says_that_alone(folders):
    network = system(folders / "dinov3_vit", tasks=["depth"]).eval()
    assert set(network(image())) == {"depth"}


def test_depth_is_as_fine_in_mixed_precision(folders):
    network = system(folders / "dinov2").eval()
    sees = image(64, 64, 1)
    with torch.inference_mode():
        exact = network(sees)
        with torch.autocast("cpu", torch.bfloat16):
            mixed = network(sees)
    for output in ("depth", "logits"):
        assert mixed[output].dtype == torch.float32
        assert len(mixed[output].unique()) > 0.9 * len(exact[output].unique())
    assert torch.allclose(mixed["depth"], exact["depth"], rtol=1e-2, atol=0)


def test_export_merges_the_adapters(folders):
    network = system(folders / "dinov2", 2).eval()
    adapters = [m for m in network.modules() if isinstance(m, LowRank)]
    for adapter in adapters:
        torch.nn.init.normal_(adapter.up.weight)
    merged = fold_batch_norms(network)
    assert len(adapters) == 4 and not any(isinstance(m, LowRank) for m in merged.modules())
    with torch.inference_mode():
        sees = image()
        torch.testing.assert_close(merged(sees), network(sees), rtol=1e-3, atol=1e-3)


class Data(L.LightningDataModule):
    provenance = {"trained_on": ["noise"], "terms": "none"}  # noqa: RUF012

    def class_shares(self):
        return torch.full((11,), 1 / 11)

    def train_dataloader(self):
        batch = partial_batch()
        batch["image"] = batch["image"].byte()
        return DataLoader([{k: v[0] for k, v in batch.items()}] * 2, 2)


QUIET = {
    "accelerator": "cpu", "max_epochs": 1, "logger": False, "enable_checkpointing": False,
    "enable_progress_bar": False, "enable_model_summary": False,
}  # fmt: skip
CONFIGS_FOLDER = Path(__file__).parents[3] / "training" / "configs"


def configured(folder, tmp_path):
    """A task as the command line builds it: the system of one configuration, taught by another."""
    models = [
        yaml.safe_load((CONFIGS_FOLDER / f"{name}.yaml").read_text())["model"]
        for name in ("foundation_encoder", "street_distilled")
    ]
    model, objective = models[0], models[1]["objective"]
    small = {"vit": str(folder), "layers": 2, "rank": 2, **SIZES}
    model["system"]["init_args"] |= {
        k: list(v) if isinstance(v, tuple) else v for k, v in small.items()
    }
    objective["init_args"] |= {"vit": str(folder), "part": "decoder"}
    streets = {"options": {"streets": {"streets": 1, "moments": 1}}}
    config = {
        "model": model | {"objective": objective, "network_size": [96, 64], "canonical_fx": 90.0},
        "data": {"train": {"streets": 1}, "val": {"streets": 1}, **streets},
        "trainer": {"logger": False},
    }
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(config))
    return CommandLine(["--config", str(tmp_path / "config.yaml")], run=False).model


@pytest.fixture(scope="module")
def trained(folders, tmp_path_factory):
    """A checkpoint of a step of training whose folder of the transformer is gone, and its task."""
    tmp_path = tmp_path_factory.mktemp("run")
    folder = (folders / "dinov2").rename(tmp_path / "dinov2")
    task = configured(folder, tmp_path)
    trainer = L.Trainer(**QUIET)
    trainer.fit(task, datamodule=Data())
    trainer.save_checkpoint(tmp_path / "last.ckpt")
    folder.rename(folders / "dinov2")
    return tmp_path / "last.ckpt", task.eval()


def test_a_checkpoint_needs_neither_hub_nor_folder(trained):
    path, before = trained
    task, provenance = load_checkpoint(path)
    assert task.card == before.card and task.card.system == "foundation_encoder"
    own, other = before.state_dict(), task.state_dict()
    assert {n for n in own if n.startswith("objective.")} == {
        "objective.projection.weight", "objective.projection.bias"
    }  # fmt: skip
    assert own.keys() == other.keys() and all(torch.equal(own[k], other[k]) for k in own)
    sees = image()
    with torch.inference_mode():
        assert torch.equal(before.system(sees)["depth"], task.system(sees)["depth"])
    assert provenance == provenance_of(path)
    vit = path.parent / "dinov2"
    assert provenance["trained_on"] == [
        "noise", f"features computed by {vit}", f"the training data of {vit} (the encoder)"
    ]  # fmt: skip


def agree(session, served, size, exact):
    height, width = size
    images = np.stack([street.Street(i, width, height).frame(0).image for i in range(2)])
    fx = np.array([0.7, 1.1], np.float32) * width
    with torch.inference_mode():
        outputs = served(torch.from_numpy(images), torch.from_numpy(fx))
    expected_labels, _, expected_depth = (o.numpy() for o in outputs)
    labels, _, depth = session.run(None, {"image": images, "fx": fx})
    assert (labels == expected_labels).mean() >= (0.999 if exact else 0.97)
    both = np.isfinite(depth) & np.isfinite(expected_depth)
    assert both.mean() > 0.1
    assert (np.isfinite(depth) == np.isfinite(expected_depth)).mean() >= (0.999 if exact else 0.97)
    np.testing.assert_allclose(depth[both], expected_depth[both], rtol=1e-3 if exact else 0.03)


def opened(path):
    return onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])


def test_the_model_file_of_a_checkpoint_agrees_with_torch_at_any_shape(trained, tmp_path):
    task, _ = load_checkpoint(trained[0])
    write(to_onnx(task.system, task.card), task.card, tmp_path / "model.onnx")
    session, served = opened(tmp_path / "model.onnx"), prepare_for_export(task.system, task.card)
    for size in ((240, 320), (121, 203), (200, 99)):
        agree(session, served, size, exact=True)
    if pytest.importorskip("tensorrt_rtx", reason="needs TensorRT for RTX"):
        content = (tmp_path / "model.onnx").read_bytes()
        assert compile_engine(content, "tensorrt_rtx", Shapes(120, 90))[0]


def test_in_fp16_onnx_runtime_and_tensorrt_take_the_model_file(folders, tmp_path):
    shallow = {**Vit(str(folders / "dinov3_vit"), layers=1).description, "num_hidden_layers": 1}
    network = FoundationEncoder(shallow, layers=1, **SIZES)
    task = JointTask(network, network_size=(96, 64), canonical_fx=90.0)
    card, path = replace(task.eval().card, precision="fp16"), tmp_path / "model.onnx"
    write(to_onnx(task.system, card), card, path)
    exact = prepare_for_export(task.system, replace(card, precision="fp32"))
    for size in ((90, 120), (200, 99)):
        agree(opened(path), exact, size, exact=False)
    trt = load_flavour("tensorrt_rtx")
    content = path.read_bytes()
    _, network, _parser = parse(content, "tensorrt_rtx")
    layers = [network.get_layer(index) for index in range(network.num_layers)]
    operators = Counter(node.op_type for node in onnx.load(path).graph.node)
    for kind, operator in (
        ("CONVOLUTION", "Conv"), ("MATRIX_MULTIPLY", "MatMul"), ("SOFTMAX", "Softmax"),
        ("NORMALIZATION", "LayerNormalization"),
    ):  # fmt: skip
        found = [layer for layer in layers if layer.type == getattr(trt.LayerType, kind)]
        assert len(found) == operators[operator] > 0
        in_fp32 = kind == "NORMALIZATION"
        assert {layer.get_output(0).dtype for layer in found} == {
            trt.float32 if in_fp32 else trt.float16
        }
    assert compile_engine(content, "tensorrt_rtx", Shapes(120, 90))[0]


def test_random_weights_that_do_not_learn_are_refused(folders):
    description = Vit(str(folders / "dinov2"), layers=1).description
    assert json.loads(json.dumps(description)) == description
    fetched = {"attn_implementation": "someone/kernel", "_attn_implementation": "someone/kernel"}
    built = Vit({**description, **fetched}, layers=1)
    assert built.backbone.config._attn_implementation == "sdpa"
    assert built.description == description and built.described == {}
    task = JointTask(FoundationEncoder(description, layers=2, **SIZES))
    with pytest.raises(TrainingError, match=r"is frozen and has random .* folder as vit"):
        L.Trainer(**QUIET).fit(task, datamodule=Data())


@pytest.mark.parametrize(
    ("vit", "options", "says"),
    [
        ("dinov2", {"layers": 3}, r"layers is 3, expected 1 to 2, .* layers of .*dinov2"),
        ("dinov2", {"rank": -1}, "rank is -1, expected 0 or more"),
        ("no_folder", {}, "there is no folder or file .*no_folder"),
        ("segformer", {}, r"is a segformer, expected one of dinov2, dinov2_with"),
        ("other", {"layers": 2}, r"lacks \d+ weights, the first is encoder\.layer\.1\."),
        ("text", {}, "transformers cannot load .*text"),
    ],
)
def test_a_transformer_that_does_not_fit_is_one_line(folders, tmp_path, vit, options, says):
    if vit == "segformer":
        tf.SegformerConfig().save_pretrained(tmp_path / vit)
    if vit == "other":  # a layer less than its configuration has
        shallow = tf.Dinov2Config(**SMALL | {"num_hidden_layers": 1}, image_size=224, patch_size=14)
        tf.AutoModel.from_config(shallow).save_pretrained(tmp_path / vit)
        CONFIGS["dinov2"].save_pretrained(tmp_path / vit)
    if vit == "text":
        (tmp_path / vit).mkdir()
        (tmp_path / vit / "config.json").write_text("{")
    folder = folders / vit if vit == "dinov2" else tmp_path / vit
    with pytest.raises(TrainingError, match=says) as error:
        Vit(str(folder), **options)
    assert "\n" not in str(error.value)
