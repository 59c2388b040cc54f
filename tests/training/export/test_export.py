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

"""The model file and the network that it was made of give the same."""

import copy
import functools
import math
import shutil
from collections import Counter
from dataclasses import replace

import cv2
import numpy as np
import onnx
import onnxruntime
import pytest
import torch

from depthseg_ros import model_card, street
from depthseg_ros.backends.compiler import Shapes, compile_engine, load_flavour, parse
from depthseg_ros.perception import Perception
from depthseg_ros.wrap import wrap
from training import __main__ as command_line
from training.cli import quantize as quantize_command
from training.data.sample import Sample
from training.data.sources import Source
from training.engine.task import JointTask
from training.engine.weights import start_from
from training.export.model_file import (
    ServedModel,
    export,
    fold_batch_norms,
    prepare_for_export,
    to_onnx,
    write,
)
from training.export.quantization import TARGETS, quantize, quantize_beside
from training.models.base import System
from training.models.encoders import EfficientNetLite0, StandardResNet
from training.models.systems.depthsegnet import DepthSegNet, Vgg
from training.models.systems.lateral_sharing import LateralSharing
from training.models.systems.semantic_guided import SemanticGuided
from training.models.systems.shared_encoder import SharedEncoder
from training.models.systems.two_image_u2net import TwoImageU2Net
from training.models.systems.two_stream_fcn import TwoStreamFcn

TEMPERATURE, SPREAD = 1.7, (0.2, 0.8)


@pytest.fixture(scope="module")
def task():
    torch.manual_seed(0)
    system = SharedEncoder(
        widths=(16, 16, 16, 24), context=16, decoder=(16, 16, 16), depth_scale=True
    )
    system.train()
    for _ in range(3):  # batch norms that have seen something
        system(torch.rand(4, 3, 64, 96) * 255)
    return JointTask(system, network_size=(96, 64), canonical_fx=90.0).eval()


@pytest.fixture(scope="module")
def exported(task):
    return to_onnx(task.system, task.card, TEMPERATURE, SPREAD)


@pytest.fixture(scope="module")
def path(task, exported, tmp_path_factory):
    path = tmp_path_factory.mktemp("export") / "model.onnx"
    write(exported, task.card, path)
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
        served = prepare_for_export(task.system, task.card, TEMPERATURE, SPREAD)
        expected = served(torch.from_numpy(images), torch.from_numpy(fx))
    labels, confidence, depth, trust = session.run(None, {"image": images, "fx": fx})
    expected_labels, expected_confidence, expected_depth, expected_trust = (
        e.numpy() for e in expected
    )
    assert labels.shape == confidence.shape == depth.shape == (batch, height, width)
    assert (labels == expected_labels).mean() >= 0.999
    assert np.abs(confidence.astype(int) - expected_confidence).max() <= 2
    both = np.isfinite(depth) & np.isfinite(expected_depth)
    assert (np.isfinite(depth) == np.isfinite(expected_depth)).mean() >= 0.999
    np.testing.assert_allclose(depth[both], expected_depth[both], rtol=1e-3)
    assert trust.shape == depth.shape and trust.dtype == np.uint8
    assert (trust[np.isnan(depth)] == 0).all() and trust[both].min() > 0
    assert np.abs(trust[both].astype(int) - expected_trust[both]).max() <= 2


@pytest.mark.parametrize("b", [0.05, 0.2, 1.0])
def test_depth_confidence_follows_from_the_scale_of_the_error(b):
    system = SharedEncoder(tasks=["depth"], depth_scale=True, **SMALL).eval()
    with torch.no_grad():
        system.scale[2].weight.zero_()
        system.scale[2].bias.fill_(math.log(b))
    card = replace(JointTask(system).card, network_size=(96, 64))
    assert card.depth_confidence and card.outputs == ("depth", "depth_confidence")
    image, fx = torch.randint(0, 255, (1, 60, 80, 3), dtype=torch.uint8), torch.tensor([90.0])
    for spread in ((1.0, 1.0), (0.7, 1.5)):
        depth, levels = ServedModel(system, card, spread=spread).eval()(image, fx)
        # The share of a Laplace distribution within ln 1.1 of its middle.
        errors = np.random.default_rng(0).laplace(0, spread[0] * b ** spread[1], 10**6)
        share = (np.abs(errors) < math.log(1.1)).mean()
        assert (levels[depth.isfinite()] / 255 - share).abs().max() < 0.005


class Constant(System):
    """Says one depth and one class, whatever it sees, at half its size."""

    def __init__(self):
        super().__init__()
        self.classes = torch.nn.Conv2d(3, 2, 1, 2)

    def forward(self, image):
        logits = self.classes(image)
        return {"logits": logits, "depth": 0 * logits[:, :1] + 8}


@pytest.fixture(scope="module")
def constant(tmp_path_factory):
    card = replace(CONSTANT, name="constant")
    path = tmp_path_factory.mktemp("constant") / "model.onnx"
    export(Constant(), card, path)
    return path


CONSTANT = model_card.ModelCard(
    name="constant",
    system="by hand",
    classes=tuple(model_card.SemanticClass(i, str(i), (i, i, i)) for i in range(2)),
    depth=model_card.DepthRange("metric", 0.1, 1000.0),
    network_size=(480, 360),
    canonical_fx=420.0,
)


@pytest.mark.parametrize("backend", ["onnxruntime", "openvino"])
@pytest.mark.parametrize(
    "size", [(640, 480), (640, 360), (1280, 720), (960, 480), (1242, 375), (480, 640), (99, 7)]
)
def test_the_network_gets_the_images_shape_and_depth_its_scale(constant, backend, size):
    pytest.importorskip(backend)
    width, height = size
    perception = Perception(constant, backend)
    depth = perception(np.zeros((height, width, 3), np.uint8), 500.0).depth
    # The network's own focal length tells at which size it ran.
    network = perception.card.size_for(width, height)
    fx = 500 * math.sqrt(network[0] * network[1] / (width * height))
    np.testing.assert_allclose(depth, 8 * fx / 420, rtol=1e-4)


def test_the_decoders_sizes_are_constant_doubles_in_the_file(path):
    """Sizes that follow other tensors' cost ONNX Runtime its faster kernels."""
    nodes = onnx.load(path).graph.node
    sizes = {name for node in nodes if node.op_type == "Resize" for name in node.input[3:]}
    resizes = [node for node in nodes if node.op_type == "Resize"]
    # Into the network, and labels, confidence, depth and its confidence out of it.
    assert len(sizes) == 5 and len(resizes) - 5 == 6


SMALL = {"widths": (16, 16, 16, 24), "depths": (1, 1, 1, 1), "context": 16}


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
        "depth alone": (SharedEncoder(tasks=["depth"], **SMALL), {}),
        "shared_encoder": (
            SharedEncoder(widths=(16, 16, 16, 24), context=16, depth_scale=True), {}
        ),
        "classes alone": (SharedEncoder(tasks=["segmentation"], **SMALL), {}),
    }  # fmt: skip


HALF = ("shared_encoder",)
"""Compiled in fp16, an export of its own; tests of foundation_encoder do that with attention."""
EIGHT = ("shared_encoder", "semantic_guided", "two_stream_fcn")
"""The others have no operators that these lack, and take long."""


@functools.cache
def small_task(name):
    torch.manual_seed(0)
    system, options = small_systems()[name]
    return JointTask(system, name=name, network_size=(96, 64), canonical_fx=90.0, **options).eval()


@functools.cache
def small_graph(name):
    """In fp32; some take a minute to make."""
    return to_onnx(small_task(name).system, small_task(name).card)


@functools.cache
def small_half(name):
    task = small_task(name)
    return to_onnx(task.system, replace(task.card, precision="fp16"))


@pytest.mark.parametrize("name", list(small_systems()))
def test_every_system_is_served_as_it_was_trained(name, tmp_path):
    task = small_task(name)
    system, path = task.system, tmp_path / "model.onnx"
    write(small_graph(name), task.card, path)
    card = model_card.read(path)
    assert card == task.card and card.system == type(system).__module__.split(".")[-1]
    perception = Perception(path)
    # Smaller than the network: larger ones are reduced in bytes before the graph.
    images = {view: street.Street(i, 90, 60).frame(0).image for i, view in enumerate("ab")}
    background = images["b"] if "background" in system.inputs else None
    said = perception(images["a"], 100.0, background)
    inputs = {"image": images["a"], "background": images["b"]}
    values = [
        torch.tensor([100.0]) if i == "fx" else torch.from_numpy(inputs[i])[None]
        for i in task.served.inputs
    ]
    with torch.inference_mode():
        outputs = prepare_for_export(task.system, task.card)(*values)
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
    assert (said.depth_confidence is None) == ("depth_confidence" not in expected)
    if said.depth_confidence is not None:
        true = expected["depth_confidence"][0].numpy()[both]
        assert np.abs(said.depth_confidence[both].astype(int) - true).max() <= 2


@pytest.mark.parametrize("name", [name for name in small_systems() if name not in HALF])
def test_every_system_computes_in_half(name):
    """What mixes types fails here, as it does when it is exported."""
    task = small_task(name)
    served = prepare_for_export(task.system, replace(task.card, precision="fp16"))
    image = torch.from_numpy(street.Street(3, 120, 90).frame(0).image)[None]
    values = [torch.tensor([100.0]) if i == "fx" else image for i in served.inputs]
    with torch.inference_mode():
        halves = dict(zip(served.outputs, served(*values), strict=True))
        whole = dict(
            zip(served.outputs, prepare_for_export(task.system, task.card)(*values), strict=True)
        )
    if "labels" in whole:
        assert (halves["labels"] == whole["labels"]).float().mean() > 0.9
    if "depth" in whole:
        both = halves["depth"].isfinite() & whole["depth"].isfinite()
        torch.testing.assert_close(halves["depth"][both], whole["depth"][both], rtol=0.1, atol=0.01)


def test_half_precision_computes_in_half(tmp_path):
    name, half, fp32 = HALF[0], tmp_path / "half.onnx", tmp_path / "fp32.onnx"
    task = small_task(name)
    write(small_half(name), replace(task.card, precision="fp16"), half)
    write(small_graph(name), task.card, fp32)
    assert model_card.read(half).precision == "fp16"
    model = onnx.load(half)
    weights = [t for t in model.graph.initializer if len(t.dims) == 4]
    assert weights and all(t.data_type == onnx.TensorProto.FLOAT16 for t in weights)
    names = {t.name for t in weights}
    assert "Cast" not in {n.op_type for n in model.graph.node if names & set(n.input)}
    image = street.Street(3, 120, 90).frame(0).image
    one, other = (Perception(path)(image, 100.0) for path in (fp32, half))
    assert (one.labels == other.labels).mean() > 0.97
    both = np.isfinite(one.depth) & np.isfinite(other.depth)
    np.testing.assert_allclose(other.depth[both], one.depth[both], rtol=0.02)


class Views(torch.utils.data.Dataset):
    """Two rendered pictures, each with a background, to measure ranges on."""

    def __len__(self):
        return 2

    def __getitem__(self, index):
        image, background = (street.Street(index + i, 96, 64).frame(0).image for i in (0, 1))
        return Sample(image, fx=90.0, views={"background": background})


@pytest.mark.parametrize(
    ("name", "precision"),
    [
        (name, precision)
        for name in small_systems()
        for precision in model_card.PRECISIONS
        if name in {"fp16": HALF, "int8": EIGHT}.get(precision, (name,))
    ],
)
def test_tensorrt_compiles_every_system_in_every_precision(name, precision, tmp_path):
    pytest.importorskip("tensorrt_rtx", reason="needs TensorRT for RTX")
    trt = load_flavour("tensorrt_rtx")
    card, path = replace(small_task(name).card, precision=precision), tmp_path / "model.onnx"
    if precision == "int8":
        source = Source("streets", "train", Views(), None, "", "")
        quantize(copy.deepcopy(small_graph(name)), card, [source], path, "tensorrt")
    elif precision == "fp16":
        write(small_half(name), card, path)
    else:
        write(small_graph(name), card, path)
    content, shapes = path.read_bytes(), Shapes(120, 90)
    _, network, _parser = parse(content, "tensorrt_rtx")
    layers = [network.get_layer(index) for index in range(network.num_layers)]
    operators = Counter(node.op_type for node in onnx.load(path).graph.node)
    for kind, operators_of in (
        ("CONVOLUTION", ("Conv",)),
        ("DECONVOLUTION", ("ConvTranspose",)),
        ("QUANTIZE", ("QuantizeLinear",)),
        ("DEQUANTIZE", ("DequantizeLinear",)),
    ):
        found = [layer for layer in layers if layer.type == getattr(trt.LayerType, kind)]
        assert len(found) == sum(operators[operator] for operator in operators_of), kind
    convolutions = [layer for layer in layers if layer.type == trt.LayerType.CONVOLUTION]
    types = {layer.get_output(0).dtype for layer in convolutions}
    assert types == {trt.float16 if precision == "fp16" else trt.float32}
    if precision == "int8":  # each convolution's picture and weights come out of 8 bits
        made_by = {x.get_output(0).name: x.type for x in layers if x.num_outputs}
        quantized = [
            all(
                made_by.get(layer.get_input(i).name) == trt.LayerType.DEQUANTIZE
                for i in range(min(2, layer.num_inputs))
            )
            for layer in convolutions
        ]
        assert all(quantized) and operators["QuantizeLinear"] >= 2 * len(convolutions)
    assert compile_engine(content, "tensorrt_rtx", shapes)[0]


def is_read_by_onnx_runtime_1_16(model):
    """The oldest that setup.py allows; tests/test_model_card.py asks the same of models/."""
    return model.ir_version == 8 and [o.version for o in model.opset_import if not o.domain] == [18]


def test_eight_bits_predict_nearly_the_same(task, exported, path, tmp_path):
    small = tmp_path / "int8.onnx"
    card = replace(task.card, precision="int8")
    quantize(
        copy.deepcopy(exported), card, [Source("streets", "train", Views(), None, "", "")], small
    )
    assert model_card.read(small) == card
    nodes = onnx.load(small).graph.node
    convolutions = [node for node in nodes if node.op_type == "Conv"]
    made_by = {out: node.op_type for node in nodes for out in node.output}
    assert all(made_by.get(c.input[1]) == "DequantizeLinear" for c in convolutions)
    assert sum(n.op_type == "QuantizeLinear" for n in nodes) >= len(convolutions) // 2
    image = street.Street(3, 120, 90).frame(0).image
    one, other = (Perception(file)(image, 100.0) for file in (path, small))
    assert (one.labels == other.labels).mean() > 0.9
    both = np.isfinite(one.depth) & np.isfinite(other.depth)
    assert np.median(np.abs(other.depth[both] / one.depth[both] - 1)) < 0.05


@pytest.mark.parametrize("target", TARGETS)
def test_eight_bits_never_overflow_where_products_are_added_in_sixteen(target, tmp_path):
    # x86 without VNNI: two products of 255 and a weight must fit into 16 bits.
    path = tmp_path / "model.onnx"
    source = Source("streets", "train", Views(), None, "", "")
    name = "shared_encoder"
    quantize(copy.deepcopy(small_graph(name)), small_task(name).card, [source], path, target)
    model = onnx.load(path)
    assert is_read_by_onnx_runtime_1_16(model)
    graph = model.graph
    values = {t.name: onnx.numpy_helper.to_array(t) for t in graph.initializer}
    made_by = {output: node for node in graph.node for output in node.output}
    greatest = []
    for convolution in (node for node in graph.node if node.op_type == "Conv"):
        dequantize = made_by[convolution.input[1]]
        quantize_ = made_by.get(dequantize.input[0])
        if quantize_ is None:
            weight = values[dequantize.input[0]].astype(int)
        else:
            weight, scale = (values[n] for n in quantize_.input[:2])
            weight = np.rint(weight / scale.reshape(-1, 1, 1, 1))
        greatest.append(np.abs(weight).max())
    assert max(greatest) >= 60 and 2 * 255 * max(greatest) < 2**15


def test_the_int8_file_lies_beside_the_file_and_belongs_to_it(path, tmp_path, monkeypatch, capsys):
    source = Source("streets", "train", Views(), None, "", "")
    monkeypatch.setattr(quantize_command, "open_source", lambda *_: source)
    model, int8 = tmp_path / "mine.onnx", tmp_path / "mine-int8.onnx"
    shutil.copy(path, model)
    assert command_line.main(["quantize", str(model), "--data", "streets"]) == 0
    assert capsys.readouterr().out.strip() == str(int8)
    model_card.check_int8(int8, model)
    assert model_card.read(int8) == replace(model_card.read(model), precision="int8")
    assert command_line.main(["quantize", str(int8), "--data", "streets"]) == 1
    assert "computes in int8, expected a file in fp32" in capsys.readouterr().err


def test_a_folder_without_images_is_refused(path, tmp_path, capsys):
    shutil.copy(path, tmp_path / "m.onnx")
    (tmp_path / "empty").mkdir()
    arguments = ["quantize", str(tmp_path / "m.onnx"), "--data", str(tmp_path / "empty")]
    assert command_line.main(arguments) == 1
    assert "empty has no images" in capsys.readouterr().err


@pytest.mark.parametrize("named", [False, True])
def test_a_wrapped_network_is_quantised_without_pre_and_postprocessing(tmp_path, named):
    """With a folder of images of one's own, which have no labels."""
    torch.manual_seed(0)
    layers = [torch.nn.Conv2d(3, 16, 3, 2, 1), torch.nn.ReLU(), torch.nn.Conv2d(16, 4, 3, 1, 1)]
    network = torch.nn.Sequential(*layers)
    torch.onnx.export(
        network, (torch.zeros(1, 3, 64, 96),), tmp_path / "own.onnx", dynamo=False, opset_version=17
    )
    given = {"fit": "letterbox", "scale": 0.01, "mean": 1.2}
    labels = {"output": onnx.load(tmp_path / "own.onnx").graph.output[0].name, "kind": "logits"}
    spec = {
        "name": "own",
        "models": [{"file": str(tmp_path / "own.onnx"), "input": given, "labels": labels}],
        "classes": [{"name": "a"}, {"name": "b", "from": [1, 2]}, {"name": "c", "from": [3]}],
    }
    spec["classes"][0]["from"] = [0]
    wrap(spec, tmp_path / "m.onnx")
    images = tmp_path / "mine" / "images"
    images.mkdir(parents=True)
    noise = np.random.default_rng(0).integers(0, 256, (4, 9, 12, 3), np.uint8)
    pictures = [cv2.resize(n, (120, 90), interpolation=cv2.INTER_CUBIC) for n in noise]
    for number, picture in enumerate(pictures):
        cv2.imwrite(str(images / f"{number}.png"), picture[..., ::-1])
    data = f"folder={images}" if named else str(images)
    assert command_line.main(["quantize", str(tmp_path / "m.onnx"), "--data", data]) == 0
    files = [Perception(tmp_path / name) for name in ("m.onnx", "m-int8.onnx")]
    fp32, int8 = (each(pictures[0]).labels for each in files)
    assert np.mean(fp32 == int8) > 0.97
    assert len(np.unique(fp32)) == 3
    other = (
        model_card.SemanticClass(0, "another", (0, 0, 0)),
    )  # images are enough, whatever their labels
    quantize_beside(tmp_path / "m.onnx", [Source("other", "train", Views(), other, "", "")])


def test_eight_bits_take_in_relu6_and_leave_no_floats_between_convolutions(tmp_path):
    torch.manual_seed(0)
    encoder = EfficientNetLite0(half=True)
    task = JointTask(
        SharedEncoder(encoder=encoder).eval(), network_size=(96, 64), canonical_fx=90.0
    )
    for norm in (m for m in task.system.modules() if isinstance(m, torch.nn.BatchNorm2d)):
        torch.nn.init.uniform_(norm.running_mean, -0.1, 0.1)
        torch.nn.init.uniform_(norm.running_var, 0.5, 2)
    export(task.system, task.card, tmp_path / "lite.onnx")
    # What starts from the file says what the file says: its batch norms are found, though they do
    # not stand in a `Sequential`.
    again = SharedEncoder(encoder=EfficientNetLite0(half=True)).eval()
    assert start_from(again, tmp_path / "lite.onnx") == []
    image = torch.rand(1, 3, 64, 96) * 255
    with torch.no_grad():
        own, files = (system(image)["depth"] for system in (task.system, again))
    assert (own / files - 1).abs().max() < 1e-3
    assert sum(n.op_type == "Clip" for n in onnx.load(tmp_path / "lite.onnx").graph.node) > 10
    sources = [Source("streets", "train", Views(), None, "", "")]
    path = quantize_beside(tmp_path / "lite.onnx", sources)
    options = onnxruntime.SessionOptions()
    options.optimized_model_filepath = str(tmp_path / "optimised.onnx")
    options.log_severity_level = 3
    onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    graph = onnx.load(tmp_path / "optimised.onnx").graph
    operators = Counter(node.op_type for node in graph.node)
    convolutions = [m for m in task.system.modules() if isinstance(m, torch.nn.Conv2d)]
    assert operators["QLinearConv"] == len(convolutions) and not operators["Conv"]
    assert operators["QLinearAdd"] > 2 and not operators["Add"] and not operators["Relu"]
    # Only the limits of depth; not one after each convolution.
    assert operators["Clip"] <= 2


def test_the_file_has_the_card_of_the_task(task, path):
    assert model_card.read(path) == task.card
    assert task.card.system == "shared_encoder"
    assert task.card.parameters == sum(p.numel() for p in task.system.parameters())


def test_the_graph_takes_any_size_and_computes_in_fp32(path):
    model = onnx.load(path)
    assert is_read_by_onnx_runtime_1_16(model)
    axes = {
        v.name: [d.dim_param or d.dim_value for d in v.type.tensor_type.shape.dim]
        for v in (*model.graph.input, *model.graph.output)
    }
    assert axes == {
        "image": ["N", "H", "W", 3], "fx": ["N"],
        "labels": ["N", "H", "W"], "confidence": ["N", "H", "W"], "depth": ["N", "H", "W"],
        "depth_confidence": ["N", "H", "W"],
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
        labels, confidence, *_ = task.served(image, torch.tensor([90.0]))
        logits = task.system(image.float().permute(0, 3, 1, 2))["logits"]
    low = logits.softmax(1).amax(1)[0]
    # The middle of a block of 2 x 2 pixels lies between four of them; where the block's
    # surroundings agree, interpolation changes little.
    shown = confidence[0].float().reshape(32, 2, 48, 2).mean((1, 3)) / 255
    assert (shown - low)[1:-1, 1:-1].abs().mean() < 0.02
    assert torch.equal(labels, labels.clamp(0, 10))


def test_sky_and_depth_out_of_range_are_unknown(task):
    class Fixed(System):
        def forward(self, image):
            n, _, h, w = image.shape
            logits = torch.zeros(n, 11, h // 4, w // 4)
            logits[:, 3] = 1
            logits[:, 0, : h // 8] = 9
            depth = torch.full((n, 1, h // 4, w // 4), 50.0)
            depth[..., w // 8 :] = 140.0
            scale = torch.full((n, 1, h // 8, w // 8), math.log(0.1))
            return {"logits": logits, "depth": depth, "log_scale": scale}

    served = ServedModel(Fixed(), task.card)
    image = torch.zeros(1, 64, 96, 3, dtype=torch.uint8)
    labels, _, depth, trust = served(image, torch.tensor([90.0]))
    assert depth[0, :24].isnan().all() and (labels[0, :24] == 0).all()
    assert depth[0, 40:, :40] == pytest.approx(50, rel=1e-5)
    assert depth[0, 40:, 56:].isnan().all()  # 140 m, the card ends at 100
    share = 1 - math.exp(-math.log(1.1) / 0.1)
    assert torch.equal(trust, torch.where(depth.isnan(), 0, round(255 * share)).to(torch.uint8))


def test_folding_batch_norms_changes_nothing(task):
    image = torch.rand(2, 3, 64, 96) * 255
    folded = fold_batch_norms(task.system)
    assert not [m for m in folded.modules() if isinstance(m, torch.nn.BatchNorm2d)]
    with torch.inference_mode():
        before, after = task.system(image), folded(image)
    for name, value in before.items():
        torch.testing.assert_close(after[name], value, rtol=1e-4, atol=1e-4)
