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

"""Wrapped networks of each layout and kind equal the networks run by hand."""

import importlib.util

import cv2
import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper

from depthseg_ros.perception import Perception, View
from depthseg_ros.wrap import WrapError, wrap

CLASSES = 5
BACKENDS = ["onnxruntime"] + ["openvino"] * bool(importlib.util.find_spec("openvino"))
MEAN, STD = np.array([0.485, 0.456, 0.406]), np.array([0.229, 0.224, 0.225])
SCALE = 1 / 255
FLOATS = {"float32": TensorProto.FLOAT, "float16": TensorProto.FLOAT16}
IMAGENET = {"scale": SCALE, "mean": MEAN.tolist(), "std": STD.tolist()}


def image(width=150, height=100, seed=0):
    """Smooth noise, (H, W, 3) uint8 RGB."""
    noise = np.random.default_rng(seed).integers(0, 256, (7, 9, 3), np.uint8)
    return cv2.resize(noise, (width, height), interpolation=cv2.INTER_CUBIC)


class Made:
    """A small network: a convolution of stride 4, and what makes its outputs."""

    def __init__(self, seed=0, opset=18, ir=8):
        self.random, self.opset, self.ir = np.random.default_rng(seed), opset, ir
        self.nodes, self.weights, self.outputs = [], [], []

    def op(self, kind, *inputs, name=None, domain="", **attributes):
        name = name or f"{kind}_{len(self.nodes)}"
        node = helper.make_node(kind, inputs, [name], name=f"n_{name}", domain=domain, **attributes)
        self.nodes.append(node)
        return name

    def weight(self, array):
        name = f"w{len(self.weights)}"
        self.weights.append(numpy_helper.from_array(np.asarray(array), name))
        return name

    def conv(self, x, channels, kind=np.float32, scale=1.0, stride=4):
        weight = self.random.normal(0, scale, (channels, 3, 5, 5)).astype(kind)
        bias = self.random.normal(0, scale, channels).astype(kind)
        names = self.weight(weight), self.weight(bias)
        return self.op("Conv", x, *names, strides=[stride] * 2, pads=[2] * 4)

    def output(self, value, name, element=TensorProto.FLOAT):
        self.op("Identity", value, name=name)
        self.outputs.append(helper.make_tensor_value_info(name, element, None))

    def save(self, path, shape, element=TensorProto.FLOAT, **more):
        given = [helper.make_tensor_value_info("x", element, shape)]
        graph = helper.make_graph(self.nodes, "made", given, self.outputs, self.weights)
        opsets = [helper.make_opsetid("", self.opset), *more.pop("opsets", [])]
        model = helper.make_model(graph, opset_imports=opsets, **more)
        model.ir_version = self.ir
        onnx.save(model, path)
        return path


def segmenter(
    path,
    *,
    size=("W", "H"),
    batch=1,
    layout="NCHW",
    out="NCHW",
    kind="logits",
    dtype="float32",
    channels=CLASSES,
    id_type=TensorProto.INT64,
    opset=18,
    stride=4,
):
    """A segmentation network with the output `y`."""
    made = Made(opset=opset)
    element = FLOATS.get(dtype, TensorProto.UINT8)
    x, own = "x", np.float16 if dtype == "float16" else np.float32
    if layout == "NHWC":
        x = made.op("Transpose", x, perm=[0, 3, 1, 2])
    if dtype == "uint8":
        x = made.op("Mul", made.op("Cast", x, to=TensorProto.FLOAT), made.weight(np.float32(0.01)))
    y = made.conv(x, channels, own, stride=stride)
    if kind == "probabilities":
        y = made.op("Sigmoid", y) if channels == 1 else made.op("Softmax", y, axis=1)
    if kind == "ids":
        y = made.op("ArgMax", y, axis=1, keepdims=0)
        y = made.op("Cast", y, to=id_type)
        made.output(y, "y", id_type)
    else:
        if out == "NHWC":
            y = made.op("Transpose", y, perm=[0, 2, 3, 1])
        made.output(y, "y", FLOATS.get(dtype, TensorProto.FLOAT))
    width, height = size
    shape = [batch, 3, height, width] if layout == "NCHW" else [batch, height, width, 3]
    return made.save(path, shape, element)


def spec(file, task, classes=CLASSES, fit=None, normal=IMAGENET, **entries):
    """A SPEC with an input that is normalised as for ImageNet."""
    fit = {"multiple_of": 16} if fit is None else fit
    made = {"name": "made", "models": [{"file": str(file), "input": {**normal, **fit}, **task}]}
    if "labels" in task:
        made["classes"] = [{"name": f"c{n}"} for n in range(classes)]
    return {**made, **entries}


def run(file, values):
    session = onnxruntime.InferenceSession(str(file), providers=["CPUExecutionProvider"])
    names = [output.name for output in session.get_outputs()]
    return dict(zip(names, session.run(names, {"x": values}), strict=True))


def multiple(length, step, offset=0):
    return step * max(1, (2 * (length - offset) + step) // (2 * step)) + offset


def fitted(picture, fit):
    """The image as the network sees it, and where it lies there: top, left, height, width."""
    height, width = picture.shape[:2]
    if "multiple_of" in fit:
        step, offset = fit["multiple_of"], fit.get("offset", 0)
        columns, rows = (multiple(n, step, offset) for n in (width, height))
        return cv2.resize(picture, (columns, rows)), (0, 0, rows, columns)
    columns, rows = fit["size"]
    if fit["fit"] == "stretch":
        return cv2.resize(picture, (columns, rows)), (0, 0, rows, columns)
    zoom = min(columns / width, rows / height)
    inner = max(1, int(height * zoom + 0.5)), max(1, int(width * zoom + 0.5))
    top, left = (rows - inner[0]) // 2, (columns - inner[1]) // 2
    canvas = np.full((rows, columns, 3), fit.get("pad", 114), np.uint8)
    canvas[top : top + inner[0], left : left + inner[1]] = cv2.resize(picture, inner[::-1])
    return canvas, (top, left, *inner)


def by_hand(
    file,
    picture,
    fit,
    output,
    normal=True,
    layout="NCHW",
    dtype="float32",
    out="NCHW",
    enlarge=cv2.INTER_LINEAR,
):
    """An output, (C, H, W) float32 at the image's size, as most authors compute it."""
    x, (top, left, rows, columns) = fitted(picture, fit)
    shape = x.shape[1::-1]
    if normal:
        x = (x * np.float32(SCALE) - MEAN) / STD
    x = x[None] if layout == "NHWC" else x.transpose(2, 0, 1)[None]
    y = run(file, np.ascontiguousarray(x.astype(dtype)))[output][0].astype(np.float32)
    y = y[None] if y.ndim == 2 else y.transpose(2, 0, 1) if out == "NHWC" else y
    if "multiple_of" not in fit and (columns, rows) != shape:
        y = [
            cv2.resize(c, shape, interpolation=enlarge)[top : top + rows, left : left + columns]
            for c in y
        ]
    return np.stack([cv2.resize(c, picture.shape[1::-1], interpolation=enlarge) for c in y])


def agreement(found, expected):
    assert found.shape == expected.shape
    return np.mean(found == expected)


LETTERBOX = {"size": [96, 64], "fit": "letterbox"}
STRETCH = {"size": [96, 96], "fit": "stretch"}
FITS = [{"multiple_of": 16}, {"multiple_of": 16, "offset": 1}, LETTERBOX, STRETCH]


@pytest.mark.parametrize("fit", FITS, ids=["multiple", "offset", "letterbox", "stretch"])
@pytest.mark.parametrize("size", [(150, 100), (100, 170)], ids=["wide", "upright"])
def test_labels_equal_those_by_hand_for_each_fit(tmp_path, fit, size):
    file = segmenter(tmp_path / "a.onnx")
    card = wrap(
        spec(file, {"labels": {"output": "y", "kind": "logits"}}, fit=fit), tmp_path / "m.onnx"
    )
    picture = image(*size)
    found = Perception(tmp_path / "m.onnx")(picture)
    assert agreement(found.labels, by_hand(file, picture, fit, "y").argmax(0)) > 0.999
    assert card.size_for(*size) == fitted(picture, fit)[0].shape[1::-1]


@pytest.mark.parametrize("size", [(150, 97), (97, 66), (150, 80), (80, 150)])
def test_a_thin_border_of_a_letterbox_is_replaced_by_stretching(tmp_path, size):
    file = segmenter(tmp_path / "a.onnx", stride=1)
    task = {"labels": {"output": "y", "kind": "logits"}}
    wrap(spec(file, task, fit={**LETTERBOX, "tolerance": 0.05}), tmp_path / "m.onnx")
    picture = image(*size)
    thin = size in ((150, 97), (97, 66))
    fit = {**LETTERBOX, "fit": "stretch"} if thin else LETTERBOX
    found = Perception(tmp_path / "m.onnx")(picture)
    assert agreement(found.labels, by_hand(file, picture, fit, "y").argmax(0)) > 0.999


@pytest.mark.parametrize("color", ["rgb", "bgr"])
def test_a_border_in_the_color_of_the_authors(tmp_path, color):
    """Red is depth, and the network's output the maximum of a row: the border's red, 200."""
    made = Made()
    channel = made.weight(np.array([0 if color == "rgb" else 2]))
    part = made.op("Gather", "x", channel, axis=1)
    size = made.op("Shape", part)
    most = made.op("ReduceMax", part, made.weight(np.array([3])), keepdims=1)
    made.output(made.op("Expand", most, size), "d")
    file = made.save(tmp_path / "a.onnx", [1, 3, 64, 96])
    pad = [200, 10, 20] if color == "rgb" else [20, 10, 200]
    fit = {**LETTERBOX, "pad": pad}
    normal = {"scale": 1, "color": color}
    task = {"depth": {"output": "d", "kind": "up-to-scale"}}
    wrap(spec(file, task, fit=fit, normal=normal), tmp_path / "m.onnx")
    found = Perception(tmp_path / "m.onnx")(np.zeros((100, 100, 3), np.uint8))
    np.testing.assert_allclose(found.depth, 200, atol=1e-3)


@pytest.mark.parametrize("dtype", ["float32", "float16", "uint8"])
@pytest.mark.parametrize(("layout", "out"), [("NCHW", "NCHW"), ("NHWC", "NHWC"), ("NCHW", "NHWC")])
@pytest.mark.parametrize("kind", ["logits", "probabilities"])
def test_labels_equal_those_by_hand_for_each_layout(tmp_path, dtype, layout, out, kind):
    file = segmenter(tmp_path / "a.onnx", dtype=dtype, layout=layout, out=out, kind=kind)
    normal = {"scale": 1} if dtype == "uint8" else IMAGENET
    task = {"labels": {"output": "y", "kind": kind}}
    card = wrap(spec(file, task, normal=normal), tmp_path / "m.onnx")
    assert card.precision == ("fp16" if dtype == "float16" else "fp32")
    picture = image()
    scores = by_hand(file, picture, {"multiple_of": 16}, "y", dtype != "uint8", layout, dtype, out)
    found = Perception(tmp_path / "m.onnx")(picture)
    assert agreement(found.labels, scores.argmax(0)) > (0.995 if dtype == "float16" else 0.999)
    if kind == "probabilities":  # of the label at the network's size, enlarged
        near = np.abs(found.confidence / 255 - scores.max(0))
        assert np.median(near) < 0.05


@pytest.mark.parametrize(
    "id_type", [TensorProto.INT64, TensorProto.INT32, TensorProto.UINT8, TensorProto.FLOAT]
)
@pytest.mark.parametrize("fit", [{"multiple_of": 16}, LETTERBOX], ids=["multiple", "letterbox"])
def test_class_numbers_become_the_nearest_pixels_labels(tmp_path, id_type, fit):
    file = segmenter(tmp_path / "a.onnx", kind="ids", id_type=id_type, stride=1)
    entries = spec(file, {"labels": {"output": "y", "kind": "ids"}}, fit=fit)
    entries["classes"] = [{"name": "last", "from": [4]}, {"name": "both", "from": [0, 2]}]
    wrap(entries, tmp_path / "m.onnx")
    picture = image(107, 73)
    found = Perception(tmp_path / "m.onnx")(picture)
    numbers = by_hand(file, picture, fit, "y", enlarge=cv2.INTER_NEAREST)[0]
    expected = np.select([numbers == 4, np.isin(numbers, (0, 2))], [0, 1], 255)
    assert agreement(found.labels, expected) > 0.999
    assert set(np.unique(found.labels)) == {0, 1, 255}
    assert ((found.confidence == 255) == (found.labels != 255)).all()


@pytest.mark.parametrize("backend", BACKENDS)
def test_class_numbers_are_enlarged_from_exact_places(tmp_path, backend):
    """960 to 2048 columns: a scale in float32 rounds 55 of them down by one."""
    file = segmenter(tmp_path / "a.onnx", kind="ids", stride=1)
    fit = {"fit": "stretch", "size": [960, 32]}
    wrap(spec(file, {"labels": {"output": "y", "kind": "ids"}}, fit=fit), tmp_path / "m.onnx")
    picture = image(2048, 40)
    x = ((fitted(picture, fit)[0] * np.float32(SCALE) - MEAN) / STD).astype(np.float32)
    small = run(file, np.ascontiguousarray(x.transpose(2, 0, 1)[None]))["y"][0]
    rows, columns = np.arange(40) * 32 // 40, np.arange(2048) * 960 // 2048
    found = Perception(tmp_path / "m.onnx", backend)(picture)
    assert agreement(found.labels, small[rows][:, columns]) > 0.999


@pytest.mark.parametrize("kind", ["logits", "probabilities"])
def test_one_channel_is_foreground_against_background(tmp_path, kind):
    file = segmenter(tmp_path / "a.onnx", kind=kind, channels=1)
    wrap(spec(file, {"labels": {"output": "y", "kind": kind}}, 2), tmp_path / "m.onnx")
    picture = image()
    value = by_hand(file, picture, {"multiple_of": 16}, "y")[0]
    found = Perception(tmp_path / "m.onnx")(picture)
    assert agreement(found.labels, value > (0 if kind == "logits" else 0.5)) > 0.999
    assert 0.2 < found.labels.mean() < 0.8
    assert found.confidence.min() >= 126


def roots(path):
    """A network of three channels, the square roots of the image's values less 100."""
    made = Made()
    less = made.op("Sub", "x", made.weight(np.float32(100)))
    made.output(made.op("Sqrt", less), "y")
    return made.save(path, [1, 3, "H", "W"])


def test_classes_are_merged_dropped_and_ignored(tmp_path):
    file = segmenter(tmp_path / "a.onnx")
    labels = {"output": "y", "kind": "logits", "ignore": [1], "drop": [3]}
    entries = spec(file, {"labels": labels})
    entries["classes"] = [{"name": "two", "from": [4, 0]}, {"name": "one", "from": [2]}]
    wrap(entries, tmp_path / "m.onnx")
    picture = image()
    scores = by_hand(file, picture, {"multiple_of": 16}, "y")
    scores[1] = -np.inf
    expected = np.choose(scores.argmax(0), [0, 9, 1, 255, 0])
    found = Perception(tmp_path / "m.onnx")(picture)
    assert agreement(found.labels, expected) > 0.999
    shares = np.exp(scores - scores.max(0))
    shares /= shares.sum(0)
    merged = np.where(expected == 0, shares[0] + shares[4], shares.max(0))
    assert np.median(np.abs(found.confidence / 255 - merged)) < 0.03


@pytest.mark.parametrize("at", ["image", "network"])
@pytest.mark.parametrize("kind", ["logits", "probabilities"])
def test_pixels_without_a_known_class_are_unlabelled_and_have_confidence_0(tmp_path, kind, at):
    file = roots(tmp_path / "a.onnx")
    labels = {"output": "y", "kind": kind, "drop": [2], "argmax_at": at}
    fit = {"fit": "stretch", "size": [60, 20]}
    wrap(spec(file, {"labels": labels}, 2, fit, {"scale": 1}), tmp_path / "m.onnx")
    picture = np.zeros((20, 60, 3), np.uint8)
    picture[:, 20:] = 101, 102, 100  # the first 20 columns give NaN, the next class 1
    picture[:, 40:] = 100, 101, 102  # class 2, which is dropped
    expected = np.repeat([255, 1, 255], 20)
    for backend in BACKENDS:
        found = Perception(tmp_path / "m.onnx", backend)(picture)
        assert (found.labels == expected).all()
        assert ((found.confidence > 0) == (expected == 1)).all()


@pytest.mark.parametrize("kind", ["logits", "probabilities"])
def test_a_foreground_that_is_not_a_number_is_unlabelled(tmp_path, kind):
    file = red(tmp_path / "a.onnx", "Sqrt", -1 / 255)
    entries = spec(
        file, {"labels": {"output": "d", "kind": kind}}, 2, {"multiple_of": 1}, {"scale": 1}
    )
    wrap(entries, tmp_path / "m.onnx")
    picture = np.zeros((20, 40, 3), np.uint8)
    picture[:, :20] = 255  # on the left, because OpenVINO's Resize also takes the right neighbour
    for backend in BACKENDS:
        found = Perception(tmp_path / "m.onnx", backend)(picture)
        assert (found.labels == np.repeat([255, 0], 20)).all()
        assert ((found.confidence > 0) == (found.labels == 0)).all()


def test_argmax_at_the_networks_size_is_enlarged_by_nearest_neighbour(tmp_path):
    file = segmenter(tmp_path / "a.onnx", stride=1)
    labels = {"output": "y", "kind": "logits", "argmax_at": "network"}
    wrap(
        spec(file, {"labels": labels}, fit={"multiple_of": 16, "size": [64, 64]}),
        tmp_path / "m.onnx",
    )
    found = Perception(tmp_path / "m.onnx")(image(256, 256))
    x = (cv2.resize(image(256, 256), (64, 64)) * np.float32(SCALE) - MEAN) / STD
    y = run(file, x.transpose(2, 0, 1)[None].astype(np.float32))["y"][0].argmax(0)
    assert agreement(found.labels, y.repeat(4, 0).repeat(4, 1)) == 1


# --- Depth -----------------------------------------------------------------------------------


def depth_network(path, *, size=("W", "H"), batch=1, rank=4, last=False, kind="metric", sky=False):
    """A network with the output `d` of one channel, and with `sky`."""
    made = Made(1)
    raw = made.conv("x", 1, scale=0.2)
    if kind == "log":
        value = made.op("Mul", raw, made.weight(np.float32(0.2)))
    else:
        value = made.op("Add", made.op("Sigmoid", raw), made.weight(np.float32(0.05)))
    if last:
        value = made.op("Transpose", value, perm=[0, 2, 3, 1])
    if rank == 3:
        value = made.op("Squeeze", value, made.weight(np.array([1])))
    made.output(value, "d")
    if sky:
        made.output(made.op("Sigmoid", made.conv("x", 1, scale=0.2)), "sky")
    width, height = size
    return made.save(path, [batch, 3, height, width])


HAND = {
    "metric": lambda d: d * 2,
    "inverse": lambda d: 2 / d,
    "disparity": lambda d: 2 / d,
    "log": lambda d: 2 * np.exp(d),
    "up-to-scale": lambda d: d * 2,
    "normalised": lambda d: d,
}


@pytest.mark.parametrize("fit", [FITS[0], *FITS[2:]], ids=["multiple", "letterbox", "stretch"])
@pytest.mark.parametrize("kind", HAND)
def test_depth_equals_that_by_hand_for_each_kind(tmp_path, kind, fit):
    file = depth_network(tmp_path / "a.onnx", kind=kind)
    entries = {"output": "d", "kind": kind} | ({"max": 2} if kind == "normalised" else {"scale": 2})
    card = wrap(spec(file, {"depth": entries}, fit=fit), tmp_path / "m.onnx")
    known = {"metric": "metric", "normalised": "normalised"}
    assert card.depth.kind == known.get(kind, "up-to-scale")
    assert card.inputs == ("image",)
    picture = image()
    found = Perception(tmp_path / "m.onnx")(picture)
    expected = HAND[kind](by_hand(file, picture, fit, "d")[0])
    np.testing.assert_allclose(found.depth, expected, rtol=1e-3)


@pytest.mark.parametrize("kind", ["metric", "inverse", "log"])
@pytest.mark.parametrize("fit", [FITS[0], *FITS[2:]], ids=["multiple", "letterbox", "stretch"])
def test_metric_depth_follows_the_focal_length_at_the_networks_size(tmp_path, kind, fit):
    file = depth_network(tmp_path / "a.onnx", kind=kind)
    depth = {"output": "d", "kind": kind, "metric": True, "canonical_fx": 80, "scale": 2}
    card = wrap(spec(file, {"depth": depth}, fit=fit), tmp_path / "m.onnx")
    assert card.needs_fx and card.depth.kind == "metric"
    picture = image(150, 100)
    found = Perception(tmp_path / "m.onnx")(picture, fx=120.0)
    _, (_, _, rows, columns) = fitted(picture, fit)
    focal = 120 * (rows / 100 + columns / 150) / 2
    expected = HAND[kind](by_hand(file, picture, fit, "d")[0]) * focal / 80
    np.testing.assert_allclose(found.depth, expected, rtol=1e-3)


@pytest.mark.parametrize(("rank", "last"), [(4, False), (4, True), (3, False)])
def test_depth_of_each_shape(tmp_path, rank, last):
    file = depth_network(tmp_path / "a.onnx", rank=rank, last=last)
    wrap(spec(file, {"depth": {"output": "d", "kind": "metric"}}), tmp_path / "m.onnx")
    picture = image()
    expected = by_hand(file, picture, FITS[0], "d", out="NHWC" if last else "NCHW")[0]
    np.testing.assert_allclose(Perception(tmp_path / "m.onnx")(picture).depth, expected, rtol=1e-3)


def test_depth_outside_of_the_range_and_in_the_sky(tmp_path):
    file = depth_network(tmp_path / "a.onnx", sky=True)
    depth = {
        "output": "d",
        "kind": "metric",
        "min": 0.3,
        "max": 0.8,
        "sky": {"output": "sky", "above": 0.5},
    }
    wrap(spec(file, {"depth": depth}, fit=LETTERBOX), tmp_path / "m.onnx")
    picture = image()
    found = Perception(tmp_path / "m.onnx")(picture).depth
    d, sky = (by_hand(file, picture, LETTERBOX, name)[0] for name in ("d", "sky"))
    expected = np.where((sky > 0.5) | (d > 0.8), np.nan, np.maximum(d, 0.3))
    assert np.mean(np.isclose(found, expected, rtol=1e-3, equal_nan=True)) > 0.999
    assert 0.1 < np.isnan(found).mean() < 0.9


def red(path, kind="Identity", factor=1.0):
    """A network with the output `d`, the image's red times a factor and the operator `kind`."""
    made = Made()
    part = made.op("Gather", "x", made.weight(np.array([0])), axis=1)
    part = made.op("Mul", part, made.weight(np.float32(factor)))
    made.output(made.op(kind, part), "d")
    return made.save(path, [1, 3, "H", "W"])


@pytest.mark.parametrize("kind", ["log", "inverse", "disparity", "metric", "up-to-scale"])
def test_only_depth_up_to_scale_has_no_maximum_and_none_has_depth_0(tmp_path, kind):
    scaled = kind in ("disparity", "up-to-scale")
    factor = {"up-to-scale": 1e4, "disparity": 1e-6}.get(kind, 1.0)
    file = red(tmp_path / "a.onnx", "Log" if kind == "log" else "Identity", factor)
    depth = {"output": "d", "kind": kind} | ({} if scaled else {"metric": True})
    given = {"multiple_of": 1}
    card = wrap(spec(file, {"depth": depth}, fit=given, normal={"scale": 1}), tmp_path / "m.onnx")
    assert card.depth.max == (1e30 if scaled else 1000)
    picture = np.zeros((4, 256, 3), np.uint8)
    picture[..., 0] = np.arange(256)
    values = np.arange(1, 256) * factor
    expected = 1 / values if kind in ("inverse", "disparity") else values
    for backend in BACKENDS:
        found = Perception(tmp_path / "m.onnx", backend)(picture).depth
        assert np.isnan(found[:, 0]).all()
        np.testing.assert_allclose(found[:, 1:], np.tile(expected, (4, 1)), rtol=1e-4)


def test_an_offset_is_added_before_the_inverse(tmp_path):
    file = red(tmp_path / "a.onnx", factor=1 / 255)
    depth = {"output": "d", "kind": "inverse", "offset": 0.01 / 9.99, "scale": 1 / 9.99}
    given = {"multiple_of": 1}
    wrap(spec(file, {"depth": depth}, fit=given, normal={"scale": 1}), tmp_path / "m.onnx")
    picture = np.tile(np.arange(256, dtype=np.uint8)[:, None], (4, 1, 3))
    expected = np.tile(1 / (0.01 + 9.99 * np.arange(256) / 255), (4, 1))
    for backend in BACKENDS:
        found = Perception(tmp_path / "m.onnx", backend)(picture).depth
        np.testing.assert_allclose(found, expected, rtol=1e-4)


@pytest.mark.parametrize("mode", ["linear", "cubic"])
def test_corners_are_aligned_in_the_networks_size_and_not_in_the_image(tmp_path, mode):
    """A ramp stays where it is, in a letterbox, if the output has the network's size."""
    file = red(tmp_path / "a.onnx")
    depth = {"output": "d", "kind": "up-to-scale", "align_corners": True, "resize": mode}
    fit = {"fit": "letterbox", "size": [64, 64], "round": False}
    wrap(spec(file, {"depth": depth}, fit=fit, normal={"scale": 1}), tmp_path / "m.onnx")
    ramp = np.linspace(0, 255, 640)
    picture = np.tile(ramp.round().astype(np.uint8)[None, :, None], (360, 1, 3))
    found = Perception(tmp_path / "m.onnx")(picture).depth[180]
    assert np.abs(found - ramp)[20:-20].max() < 0.8  # aligned: 1.8


def test_a_depth_and_a_segmentation_network_of_other_sizes_and_the_same_names(tmp_path):
    one = segmenter(tmp_path / "a.onnx")
    two = depth_network(tmp_path / "b.onnx", size=(96, 64))
    entries = spec(one, {"labels": {"output": "y", "kind": "logits"}})
    of_depth = {"output": "d", "kind": "metric", "canonical_fx": 80}
    entries["models"] += spec(two, {"depth": of_depth}, fit=LETTERBOX)["models"]
    entries["classes"][2]["flags"] = ["sky"]
    card = wrap(entries, tmp_path / "m.onnx")
    assert card.network_size == (96, 64) and card.outputs == ("labels", "confidence", "depth")
    picture = image()
    found = Perception(tmp_path / "m.onnx")(picture, fx=80.0)
    labels = by_hand(one, picture, FITS[0], "y").argmax(0)
    assert agreement(found.labels, labels) > 0.999
    depth = by_hand(two, picture, LETTERBOX, "d")[0] * 0.64
    assert (np.isnan(found.depth) == (found.labels == 2)).all()
    known = found.labels != 2
    np.testing.assert_allclose(found.depth[known], depth[known], rtol=1e-3)


# --- Graphs ----------------------------------------------------------------------------------


@pytest.mark.parametrize("batch", [1, "N"])
def test_several_images_at_once(tmp_path, batch):
    file = segmenter(tmp_path / "a.onnx", batch=batch)
    card = wrap(spec(file, {"labels": {"output": "y", "kind": "logits"}}), tmp_path / "m.onnx")
    assert card.single_image == (batch == 1)
    perception = Perception(tmp_path / "m.onnx")
    views = [View(image(seed=n)) for n in range(3)]
    for view, found in zip(views, perception.batch(views), strict=True):
        assert (found.labels == perception(view.image).labels).all()


LABELS = {"labels": {"output": "y", "kind": "logits"}}


@pytest.mark.parametrize("opset", [9, 11, 13, 17])
def test_an_older_opset_is_converted(tmp_path, opset):
    """With operators that changed since: Softmax, ReduceMean, Upsample."""
    made = Made(opset=opset, ir=4)
    x = made.op("ReduceMean", made.conv("x", CLASSES), axes=[1], keepdims=1)
    y = made.op("Sub", made.conv("x", CLASSES), x)
    if opset == 9:
        y = made.op("Upsample", y, made.weight(np.float32([1, 1, 2, 2])), mode="nearest")
    y = made.op("Softmax", y, axis=1) if opset >= 13 else y
    made.output(y, "y")
    file = made.save(tmp_path / "a.onnx", [1, 3, "H", "W"])
    kind = "probabilities" if opset >= 13 else "logits"
    wrap(spec(file, {"labels": {"output": "y", "kind": kind}}), tmp_path / "m.onnx")
    model = onnx.load(tmp_path / "m.onnx")
    assert (model.ir_version, model.opset_import[0].version) == (8, 18)
    picture = image()
    expected = by_hand(file, picture, FITS[0], "y").argmax(0)
    assert agreement(Perception(tmp_path / "m.onnx")(picture).labels, expected) > 0.999


def test_a_newer_opset_becomes_18_unless_an_operator_needs_it(tmp_path):
    pytest.importorskip("onnx", minversion="1.16")  # the first that knows opset 21
    file = segmenter(tmp_path / "a.onnx", opset=21)
    wrap(spec(file, LABELS), tmp_path / "m.onnx")
    model = onnx.load(tmp_path / "m.onnx")
    assert (model.ir_version, model.opset_import[0].version) == (8, 18)
    made = Made(opset=21, ir=10)
    made.output(made.op("Gelu", made.conv("x", CLASSES)), "y")
    made.save(tmp_path / "b.onnx", [1, 3, "H", "W"])
    wrap(spec(tmp_path / "b.onnx", LABELS), tmp_path / "m.onnx")
    assert onnx.load(tmp_path / "m.onnx").opset_import[0].version == 20


def test_weights_in_another_file_are_stored_inside(tmp_path):
    file = segmenter(tmp_path / "a.onnx")
    model = onnx.load(file)
    onnx.save(model, file, save_as_external_data=True, location="w.bin", size_threshold=0)
    wrap(spec(file, LABELS), tmp_path / "m.onnx")
    (tmp_path / "w.bin").unlink()
    Perception(tmp_path / "m.onnx")(image())
    with pytest.raises(WrapError, match=r"weights of .*a\.onnx in another file"):
        wrap(spec(file, LABELS), tmp_path / "n.onnx")


def test_weights_of_2_gib_are_refused_before_they_are_read(tmp_path):
    file = segmenter(tmp_path / "a.onnx")
    model = onnx.load(file)
    weight = model.graph.initializer.add(name="big", data_type=1, dims=[2**29], data_location=1)
    weight.external_data.add(key="location", value="missing.bin")
    onnx.save(model, file)
    with pytest.raises(WrapError, match="2 GiB of weights or more"):
        wrap(spec(file, LABELS), tmp_path / "m.onnx")


def test_graphs_inside_and_functions_are_kept(tmp_path):
    """Two networks with If, whose branches take values from outside, and a local function."""
    made = Made()
    y = made.conv("x", CLASSES)
    branches = [
        helper.make_graph(
            [helper.make_node("Mul", [y, factor], ["z"])],
            name,
            [],
            [helper.make_tensor_value_info("z", TensorProto.FLOAT, None)],
            [numpy_helper.from_array(np.float32(value), factor)],
        )
        for name, factor, value in (("yes", "up", 1), ("no", "down", -1))
    ]
    wide = made.op("Greater", made.op("ReduceMax", "x", keepdims=0), made.weight(np.float32(-99)))
    z = made.op("If", wide, then_branch=branches[0], else_branch=branches[1])
    made.output(made.op("Own", z, domain="mine"), "y")
    opset = helper.make_opsetid("", 18)
    function = helper.make_function(
        "mine", "Own", ["a"], ["b"], [helper.make_node("Neg", ["a"], ["b"])], [opset]
    )
    file = made.save(
        tmp_path / "a.onnx",
        [1, 3, "H", "W"],
        functions=[function],
        opsets=[helper.make_opsetid("mine", 1)],
    )
    two = depth_network(tmp_path / "b.onnx")
    entries = spec(file, LABELS)
    entries["models"] += spec(two, {"depth": {"output": "d", "kind": "metric"}})["models"]
    wrap(entries, tmp_path / "m.onnx")
    picture = image()
    expected = by_hand(file, picture, FITS[0], "y").argmax(0)
    assert agreement(Perception(tmp_path / "m.onnx")(picture).labels, expected) > 0.999


@pytest.mark.parametrize("domain", ["com.microsoft", "ai.onnx.ml"])
def test_an_operator_that_is_not_of_onnx_is_named(tmp_path, domain):
    made = Made()
    made.output(made.op("Strange", made.conv("x", CLASSES), domain=domain, name="odd"), "y")
    made.save(tmp_path / "a.onnx", [1, 3, 64, 64], opsets=[helper.make_opsetid(domain, 1)])
    with pytest.raises(WrapError, match=rf"the node 'n_odd' with the operator {domain}\.Strange"):
        wrap(spec(tmp_path / "a.onnx", LABELS), tmp_path / "m.onnx")


def test_a_network_that_mixes_the_images_of_a_batch_runs_them_one_by_one(tmp_path):
    made = Made()
    y = made.conv("x", CLASSES)
    noise = made.op("ReduceMean", y, made.weight(np.array([0])), keepdims=1)
    made.output(made.op("Sub", y, made.op("Mul", noise, made.weight(np.float32(0.9)))), "y")
    made.save(tmp_path / "a.onnx", ["N", 3, "H", "W"])
    assert wrap(spec(tmp_path / "a.onnx", LABELS), tmp_path / "m.onnx").single_image


def quantised(path):
    """A network in 8 bits, by ONNX Runtime's own quantizer."""
    from onnxruntime.quantization import CalibrationDataReader, quantize_static

    class Noise(CalibrationDataReader):
        def __init__(self):
            self.feeds = iter([{"x": np.random.default_rng(0).normal(size=(1, 3, 64, 64))}])

        def get_next(self):
            feed = next(self.feeds, None)
            return feed and {"x": feed["x"].astype(np.float32)}

    segmenter(path, size=(64, 64))
    quantize_static(path, path, Noise())
    return path


def test_a_network_in_8_bits(tmp_path):
    file = quantised(tmp_path / "a.onnx")
    fit = {"fit": "stretch"}
    assert wrap(spec(file, LABELS, fit=fit), tmp_path / "m.onnx").precision == "int8"
    picture = image()
    expected = by_hand(file, picture, {**fit, "size": [64, 64]}, "y").argmax(0)
    assert agreement(Perception(tmp_path / "m.onnx")(picture).labels, expected) > 0.999


def test_openvino_and_tensorrt_take_wrapped_files(tmp_path):
    """With uint8 NHWC in, letterbox, antialias, cubic, merged classes and sky."""
    pytest.importorskip("openvino")
    one = segmenter(tmp_path / "a.onnx", dtype="uint8", layout="NHWC", out="NHWC")
    two = depth_network(tmp_path / "b.onnx", sky=True)
    labels = {"labels": {"output": "y", "kind": "logits", "drop": [1]}}
    entries = spec(one, labels, fit=LETTERBOX, normal={"scale": 1})
    entries["classes"] = [
        {"name": "s", "from": [0, 2], "flags": ["sky"]},
        {"name": "b", "from": [3, 4]},
    ]
    depth = {
        "output": "d",
        "kind": "metric",
        "canonical_fx": 80,
        "resize": "cubic",
        "sky": {"output": "sky", "below": 0.2},
    }
    entries["models"] += spec(two, {"depth": depth}, fit={"multiple_of": 14, "antialias": True})[
        "models"
    ]
    wrap(entries, tmp_path / "m.onnx")
    picture = image()
    first, second = (
        Perception(tmp_path / "m.onnx", b)(picture, 90.0) for b in ("onnxruntime", "openvino")
    )
    assert agreement(first.labels, second.labels) > 0.999
    same = np.isclose(first.depth, second.depth, rtol=1e-3, equal_nan=True)
    assert same.mean() > 0.999
    assert {0, 1, 255} == set(np.unique(first.labels))
    pytest.importorskip("tensorrt_rtx")
    from depthseg_ros.backends.compiler import Shapes, compile_engine

    content = (tmp_path / "m.onnx").read_bytes()
    shapes = Shapes(150, 100, 1, (64, 48), (320, 240))
    assert len(compile_engine(content, "tensorrt_rtx", shapes)[0]) > 10000
