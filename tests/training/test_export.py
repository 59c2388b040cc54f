"""The model file and the network that it was made of give the same."""

import numpy as np
import onnx
import onnxruntime
import pytest
import torch

from depthseg_ros import model_card, street
from depthseg_ros.perception import Perception
from training.encoders import StandardResNet
from training.export import ServedModel, export, fold_batch_norms, rounded
from training.systems.depthsegnet import DepthSegNet, Vgg
from training.systems.lateral_sharing import LateralSharing
from training.systems.semantic_guided import SemanticGuided
from training.systems.shared_encoder import SharedEncoder
from training.systems.two_image_u2net import TwoImageU2Net
from training.systems.two_stream_fcn import TwoStreamFcn
from training.task import JointTask


@pytest.fixture(scope="module")
def task():
    torch.manual_seed(0)
    system = SharedEncoder(widths=(16, 16, 16, 24), context=16, decoder=(16, 16, 16))
    system.train()
    for _ in range(3):  # batch norms that have seen something
        system(torch.rand(4, 3, 64, 96) * 255)
    return JointTask(system, network_size=(96, 64), canonical_fx=90.0).eval()


@pytest.fixture(scope="module")
def path(task, tmp_path_factory):
    path = tmp_path_factory.mktemp("export") / "model.onnx"
    export(task.system, task.card, path)
    return path


@pytest.fixture(scope="module")
def session(path):
    return onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])


@pytest.mark.parametrize("size", [(480, 640), (121, 203), (64, 96)])
@pytest.mark.parametrize("batch", [1, 3])
def test_onnx_runtime_agrees_with_torch(task, session, size, batch):
    height, width = size
    images = np.stack([street.Street(i, width, height).frame(0).image for i in range(batch)])
    fx = np.linspace(0.7, 1.1, batch, dtype=np.float32) * width
    with torch.inference_mode():
        expected = rounded(task.system, task.card)(torch.from_numpy(images), torch.from_numpy(fx))
    labels, confidence, depth = session.run(None, {"image": images, "fx": fx})
    expected_labels, expected_confidence, expected_depth = (e.numpy() for e in expected)
    assert labels.shape == confidence.shape == depth.shape == (batch, height, width)
    assert (labels == expected_labels).mean() >= 0.999
    assert np.abs(confidence.astype(int) - expected_confidence).max() <= 2
    both = np.isfinite(depth) & np.isfinite(expected_depth)
    assert (np.isfinite(depth) == np.isfinite(expected_depth)).mean() >= 0.999
    np.testing.assert_allclose(depth[both], expected_depth[both], rtol=1e-3)


def small_systems():
    """Each published system at a small width, and what its task is told."""
    mask = {"classes": "mask", "min_depth": 0.0, "max_depth": 1.0}
    vgg, resnet = Vgg((8, 8, 16, 16)), StandardResNet(18, half=True, width=8)
    return {
        "depthsegnet": (DepthSegNet(11, encoder=vgg, decoder=(8, 8, 16, 16)), {}),
        "two_image_u2net": (TwoImageU2Net(), mask),
        "two_stream_fcn": (TwoStreamFcn(streams=(8, 8), trunk=(16, 16, 24)), mask),
        "lateral_sharing": (
            LateralSharing(
                11, encoder=StandardResNet(18, output_stride=8, width=8), widths=(16, 16, 8)
            ),
            {},
        ),
        "semantic_guided": (
            SemanticGuided(11, encoder=resnet, decoder=(16, 16, 8, 8, 8)), {"min_depth": 0.1}
        ),
        "depth alone": (SharedEncoder(tasks=["depth"], widths=(16, 16, 16, 24), context=16), {}),
        "classes alone": (
            SharedEncoder(tasks=["segmentation"], widths=(16, 16, 16, 24), context=16), {}
        ),
    }  # fmt: skip


@pytest.mark.parametrize("name", list(small_systems()))
def test_every_system_is_served_as_it_was_trained(name, tmp_path):
    torch.manual_seed(0)
    system, options = small_systems()[name]
    task = JointTask(system, name=name, network_size=(96, 64), canonical_fx=90.0, **options).eval()
    path = tmp_path / "model.onnx"
    export(task.system, task.card, path)
    card = model_card.read(path)
    assert card == task.card and card.system == type(system).__module__.split(".")[-1]
    perception = Perception(path)
    images = {view: street.Street(i, 120, 90).frame(0).image for i, view in enumerate("ab")}
    background = images["b"] if "background" in system.inputs else None
    said = perception(images["a"], 100.0, background)
    inputs = {"image": images["a"], "background": images["b"]}
    values = [
        torch.tensor([100.0]) if i == "fx" else torch.from_numpy(inputs[i])[None]
        for i in task.served.inputs
    ]
    with torch.inference_mode():
        outputs = rounded(task.system, task.card)(*values)
    expected = dict(zip(task.served.outputs, outputs, strict=True))
    assert (said.labels is None) == ("labels" not in expected)
    assert (said.depth is None) == ("depth" not in expected)
    if said.labels is not None:
        assert (said.labels == expected["labels"][0].numpy()).mean() >= 0.999
    if said.depth is not None:
        true = expected["depth"][0].numpy()
        assert (np.isfinite(said.depth) == np.isfinite(true)).mean() >= 0.999
        both = np.isfinite(said.depth) & np.isfinite(true)
        np.testing.assert_allclose(said.depth[both], true[both], rtol=1e-3, atol=1e-5)


def test_the_file_says_of_itself_what_the_task_knows(task, path):
    assert model_card.read(path) == task.card
    assert task.card.system == "shared_encoder"
    assert task.card.parameters == sum(p.numel() for p in task.system.parameters())


def test_the_graph_takes_any_size_and_computes_in_fp32(path):
    model = onnx.load(path)
    axes = {
        v.name: [d.dim_param or d.dim_value for d in v.type.tensor_type.shape.dim]
        for v in (*model.graph.input, *model.graph.output)
    }
    assert axes == {
        "image": ["N", "H", "W", 3], "fx": ["N"],
        "labels": ["N", "H", "W"], "confidence": ["N", "H", "W"], "depth": ["N", "H", "W"],
    }  # fmt: skip
    halves = {t.name for t in model.graph.initializer if t.data_type == onnx.TensorProto.FLOAT16}
    casts = [n for n in model.graph.node if n.input and n.input[0] in halves]
    assert halves and len(casts) == len(halves) and all(n.op_type == "Cast" for n in casts)
    # Folded into the convolutions, but for the one that brings the picture's values around zero.
    (norm,) = [n for n in model.graph.node if n.op_type == "BatchNormalization"]
    assert "normalize" in norm.input[3]


def test_confidence_is_the_softmax_of_the_label(task):
    image = torch.randint(0, 255, (1, 64, 96, 3), dtype=torch.uint8)
    with torch.inference_mode():
        labels, confidence, _ = task.served(image, torch.tensor([90.0]))
        logits = task.system(image.float().permute(0, 3, 1, 2))["logits"]
    low = logits.softmax(1).amax(1)[0]
    # The middle of a block of 2 x 2 pixels lies between four of them; where the block's
    # surroundings agree, interpolation changes little.
    shown = confidence[0].float().reshape(32, 2, 48, 2).mean((1, 3)) / 255
    assert (shown - low)[1:-1, 1:-1].abs().mean() < 0.02
    assert torch.equal(labels, labels.clamp(0, 10))


def test_sky_and_what_lies_beyond_the_range_have_no_depth(task):
    class Fixed(torch.nn.Module):
        inputs = ("image",)

        def forward(self, image):
            n, _, h, w = image.shape
            logits = torch.zeros(n, 11, h // 4, w // 4)
            logits[:, 3] = 1
            logits[:, 0, : h // 8] = 9
            depth = torch.full((n, 1, h // 4, w // 4), 50.0)
            depth[..., w // 8 :] = 140.0
            return {"logits": logits, "depth": depth}

    served = ServedModel(Fixed(), task.card)
    labels, _, depth = served(torch.zeros(1, 64, 96, 3, dtype=torch.uint8), torch.tensor([90.0]))
    assert depth[0, :24].isnan().all() and (labels[0, :24] == 0).all()
    assert depth[0, 40:, :40] == pytest.approx(50, rel=1e-5)
    assert depth[0, 40:, 56:].isnan().all()  # 140 m, the card ends at 100


def test_folding_batch_norms_changes_nothing(task):
    image = torch.rand(2, 3, 64, 96) * 255
    folded = fold_batch_norms(task.system)
    assert not [m for m in folded.modules() if isinstance(m, torch.nn.BatchNorm2d)]
    with torch.inference_mode():
        before, after = task.system(image), folded(image)
    for name, value in before.items():
        torch.testing.assert_close(after[name], value, rtol=1e-4, atol=1e-4)
