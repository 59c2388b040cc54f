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


"""Networks and SPECs that do not fit together are refused, or named in one line."""

import logging
import os
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import yaml
from onnx import TensorProto, helper, numpy_helper

from depthseg_ros.cli.main import main
from depthseg_ros.perception import Perception
from depthseg_ros.wrap import WrapError, describe, wrap

F = TensorProto.FLOAT
N = helper.make_node
ANY = ["N", 3, "H", "W"]
RANDOM = np.random.default_rng(0)
W = (RANDOM.normal(size=(5, 3, 3, 3)) / 50).astype(np.float32)
IMAGE = RANDOM.integers(0, 256, (24, 40, 3), np.uint8)
X = IMAGE.transpose(2, 0, 1)[None].astype(np.float32)
CONV = N("Conv", ["x", "w"], ["c"], pads=[1] * 4)
MEAN = N("ReduceMean", ["x", "one"], ["m"], keepdims=1)
STRETCH = {"fit": "stretch", "scale": 1}
LOGITS = {"labels": {"output": "y", "kind": "logits"}}
IDS = {"labels": {"output": "y", "kind": "ids"}}
METRIC = {"depth": {"output": "y", "kind": "metric"}}


def network(path, *nodes, shape=ANY, element=F, out=F, opset=18, ir=8, listed=False, **weights):
    """A network from `x` to `y`, with the weights `w`, (5, 3, 3, 3), and `one`, [1]."""
    weights = {"w": W, "one": np.array([1]), **weights}
    tensors = [numpy_helper.from_array(np.asarray(v), k) for k, v in weights.items()]
    given = [helper.make_tensor_value_info("x", element, shape)]
    if listed:
        given += [helper.make_tensor_value_info(t.name, t.data_type, t.dims) for t in tensors]
    outputs = [helper.make_tensor_value_info("y", out, None)]
    graph = helper.make_graph(nodes, "made", given, outputs, tensors)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)])
    model.ir_version = ir
    onnx.save(model, path / "a.onnx")
    return path / "a.onnx"


def wrapped(file, task, classes=5, given=None):
    """The card and path of a wrapped file."""
    given = {"multiple_of": 1, "size": [40, 24], "scale": 1} if given is None else given
    spec = {"name": "made", "models": [{"file": str(file), "input": given, **task}]}
    if "labels" in task:
        spec["classes"] = [{"name": f"c{n}"} for n in range(classes)]
    return wrap(spec, file.parent / "m.onnx"), file.parent / "m.onnx"


def by_hand(file):
    session = onnxruntime.InferenceSession(str(file), providers=["CPUExecutionProvider"])
    return session.run(None, {"x": X})[0]


AS_BOOL = N("Cast", ["a"], ["b"], to=TensorProto.BOOL), N("Cast", ["b"], ["y"], to=F)
AS_UINT8 = N("Cast", ["a"], ["b"], to=TensorProto.UINT8), N("Cast", ["b"], ["y"], to=F)


@pytest.mark.parametrize("casts", [AS_BOOL, AS_UINT8], ids=["bool", "uint8"])
def test_class_numbers_behind_casts(tmp_path, casts):
    file = network(tmp_path, CONV, N("ArgMax", ["c"], ["a"], axis=1), *casts)
    _, made = wrapped(file, IDS)
    assert (Perception(made)(IMAGE).labels == by_hand(file)[0, 0]).all()
    kinds = [node.op_type for node in onnx.load(made).graph.node]
    assert ("ArgMax" in kinds) and kinds.count("Cast") >= 1


def test_casts_of_depth_and_logits_are_kept(tmp_path):
    half, whole = TensorProto.FLOAT16, TensorProto.INT32
    casts = [N("Cast", ["m"], ["h"], to=half), N("Cast", ["h"], ["i"], to=whole)]
    file = network(tmp_path, MEAN, *casts, N("Cast", ["i"], ["y"], to=F))
    _, made = wrapped(file, METRIC)
    known = by_hand(file)[0, 0] > 0
    assert (Perception(made)(IMAGE).depth[known] == by_hand(file)[0, 0][known]).all()
    casts = [N("Cast", ["c"], ["h"], to=half), N("Cast", ["h"], ["y"], to=F)]
    file = network(tmp_path, CONV, *casts)
    _, made = wrapped(file, LOGITS)
    assert (Perception(made)(IMAGE).labels == by_hand(file)[0].argmax(0)).mean() > 0.99


def test_a_batch_with_statistics_of_its_first_image(tmp_path):
    first = N("Slice", ["x", "start", "one", "start"], ["x0"])
    mean = N("ReduceMean", ["x0"], ["m"], keepdims=1)
    conv = N("Conv", ["d", "w"], ["y"], pads=[1] * 4)
    file = network(tmp_path, first, mean, N("Sub", ["x", "m"], ["d"]), conv, start=np.array([0]))
    assert wrapped(file, LOGITS)[0].single_image


@pytest.mark.parametrize(
    ("task", "nodes"),
    [
        (METRIC, [MEAN, N("Flatten", ["m"], ["y"])]),
        (METRIC, [MEAN, N("Transpose", ["m"], ["y"], perm=[0, 1, 3, 2])]),
        (LOGITS, [CONV, N("GlobalAveragePool", ["c"], ["y"])]),
        (LOGITS, [CONV, N("Transpose", ["c"], ["y"], perm=[0, 1, 3, 2])]),
    ],
    ids=["flat", "transposed", "classifier", "transposed logits"],
)
def test_an_output_that_is_no_image_is_refused(tmp_path, task, nodes):
    file = network(tmp_path, *nodes, shape=[1, 3, 24, 40])
    with pytest.raises(WrapError, match=r"for an input of 40x24 .* same aspect ratio"):
        wrapped(file, task, given=STRETCH)


def test_a_stretched_output_needs_its_layout(tmp_path):
    sizes = np.array([1, 5, 16, 16])
    resized = N("Resize", ["c", "", "", "sizes"], ["y"], mode="linear")
    file = network(tmp_path, CONV, resized, shape=[1, 3, 24, 40], sizes=sizes)
    with pytest.raises(WrapError, match="if it is an image that is stretched, give its layout"):
        wrapped(file, LOGITS, given=STRETCH)
    wrapped(file, {"labels": LOGITS["labels"] | {"layout": "NCHW"}}, given=STRETCH)


def test_a_layout_is_not_guessed_from_a_wrong_number_of_names(tmp_path):
    weight = np.ones((20, 3, 3, 3), np.float32)
    conv = N("Conv", ["x", "v"], ["y"], pads=[1] * 4, strides=[4, 4])
    file = network(tmp_path, conv, shape=[1, 3, 76, 76], v=weight)
    with pytest.raises(WrapError, match=r"1x20x19x19 \(NCHW\): its channel 19 is not used"):
        wrapped(file, LOGITS, 19, STRETCH)


def test_the_result_does_not_replace_the_network(tmp_path, capsys):
    file = network(tmp_path, N("Conv", ["x", "w"], ["y"], pads=[1] * 4))
    before = file.read_bytes()
    (tmp_path / "link.onnx").symlink_to(file)
    spec = tmp_path / "s.yaml"
    spec.write_text(
        "{name: n, models: [{file: a.onnx, input: {multiple_of: 1, scale: 1},"
        " depth: {output: y, kind: metric}}]}"
    )
    for name in ("a.onnx", "link.onnx"):
        assert main(["wrap", str(spec), "--output", str(tmp_path / name)]) == 1
        assert "is the network itself" in capsys.readouterr().err
    assert file.read_bytes() == before


@pytest.mark.parametrize(("opset", "kind"), [(9, "Upsample"), (10, "Resize")])
@pytest.mark.parametrize("factor", [1.0, 4e-6])
def test_a_linear_resize_of_an_old_opset_keeps_its_pixels(tmp_path, opset, kind, factor):
    """The tiny factor: the comparison of the converted network is a relative one."""
    nodes = [
        N("ReduceMean", ["x"], ["m"], axes=[1], keepdims=1),
        N("AveragePool", ["m"], ["a"], kernel_shape=[8, 8], strides=[8, 8]),
        N("Mul", ["a", "k"], ["q"]),
        N(kind, ["q", "s"], ["y"], mode="linear"),
    ]
    more = {"k": np.float32(factor), "s": np.float32([1, 1, 8, 8])}
    file = network(tmp_path, *nodes, shape=[1, 3, 24, 40], opset=opset, ir=4, **more)
    _, made = wrapped(file, METRIC, given=STRETCH)
    np.testing.assert_allclose(Perception(made)(IMAGE).depth, by_hand(file)[0, 0], rtol=1e-3)


def test_a_conversion_that_changes_tiny_values_is_refused(tmp_path, monkeypatch):
    from depthseg_ros.wrap import network as networks

    monkeypatch.setattr(networks, "_place_as_before", lambda node: None)
    with pytest.raises(WrapError, match="changes when opset 9 is converted"):
        test_a_linear_resize_of_an_old_opset_keeps_its_pixels(tmp_path, 9, "Upsample", 4e-6)


@pytest.mark.parametrize("opset", [9, 11, 13])
def test_initializers_that_are_inputs_too(tmp_path, opset):
    nodes = N("ReduceMean", ["x"], ["m"], keepdims=1), N("Sub", ["x", "m"], ["d"])
    conv = N("Conv", ["d", "w"], ["y"], pads=[1] * 4)
    wrapped(network(tmp_path, *nodes, conv, opset=opset, ir=3, listed=True), LOGITS)


def test_nodes_without_a_name_get_one_that_no_other_has(tmp_path):
    nodes = N("Relu", ["x"], ["r"]), N("Conv", ["r", "w"], ["c"], pads=[1] * 4)
    wrapped(network(tmp_path, *nodes, N("Relu", ["c"], ["y"], name="Relu_0")), LOGITS)


def test_an_input_that_nothing_takes_is_left_out(tmp_path):
    file = network(tmp_path, N("Conv", ["x", "w"], ["y"], pads=[1] * 4))
    model = onnx.load(file)
    model.graph.input.append(helper.make_tensor_value_info("im_shape", F, [1, 2]))
    onnx.save(model, file)
    _, made = wrapped(file, LOGITS)
    assert [value.name for value in onnx.load(made).graph.input] == ["image"]


def test_the_long_name_of_the_operators_domain(tmp_path):
    file = network(tmp_path, N("Conv", ["x", "w"], ["y"], pads=[1] * 4, domain="ai.onnx"))
    _, made = wrapped(file, LOGITS)
    assert {node.domain for node in onnx.load(made).graph.node} == {""}


def test_a_multiple_that_is_too_small_is_named(tmp_path):
    nodes = [
        CONV,
        N("AveragePool", ["c"], ["d"], kernel_shape=[8, 8], strides=[8, 8]),
        N("Resize", ["d", "", "s"], ["u"], mode="nearest"),
        N("Add", ["c", "u"], ["y"]),
    ]
    file = network(tmp_path, *nodes, s=np.float32([1, 1, 8, 8]))
    for size in ({"size": [48, 32]}, {"size": 48}, {}):
        wrapped(file, LOGITS, given={"multiple_of": 8, "scale": 1, **size})
        with pytest.raises(WrapError, match=r"every multiple of 4, give a larger input\.multiple"):
            wrapped(file, LOGITS, given={"multiple_of": 4, "scale": 1, **size})


def lines(caplog, file, task, classes=5):
    caplog.clear()
    with caplog.at_level(logging.WARNING):
        wrapped(file, task, classes)
    return [r.getMessage() for r in caplog.records if "trained with" not in r.getMessage()]


def test_class_numbers_with_fractions_are_refused(tmp_path):
    file = network(tmp_path, MEAN, N("Mul", ["m", "k"], ["y"]), k=np.float32(0.013))
    with pytest.raises(
        WrapError, match=r"labels\.kind is ids, but the output y has the value \d+\.\d"
    ):
        wrapped(file, IDS)


def test_results_that_no_right_spec_has_are_named(tmp_path, caplog):
    file = network(tmp_path, MEAN, N("Mul", ["m", "k"], ["y"]), k=np.float32(100))
    (line,) = lines(caplog, file, {"depth": {"output": "y", "kind": "up-to-scale", "max": 1}})
    assert (
        line.startswith("100 % of a noise image have no depth") and "offset, scale and max" in line
    )
    (line,) = lines(caplog, file, {"depth": {"output": "y", "kind": "normalised"}})
    assert "more than max, 1;" in line
    assert not lines(caplog, file, {"depth": {"output": "y", "kind": "metric", "max": 1e5}})
    file = network(tmp_path, N("Conv", ["x", "w"], ["y"], pads=[1] * 4))
    (line,) = lines(caplog, file, {"labels": {"output": "y", "kind": "probabilities"}})
    assert "its kind may be logits" in line
    assert not lines(caplog, file, LOGITS)
    file = network(tmp_path, CONV, N("Softmax", ["c"], ["y"], axis=1))
    (line,) = lines(caplog, file, LOGITS)
    assert "its kind may be probabilities" in line
    assert not lines(caplog, file, {"labels": {"output": "y", "kind": "probabilities"}})
    file = network(tmp_path, CONV, N("ArgMax", ["c"], ["y"], axis=1), out=TensorProto.INT64)
    (line,) = lines(caplog, file, IDS, 2)
    assert "class numbers that no class has, e.g. 4" in line
    assert not lines(caplog, file, IDS)


@pytest.mark.parametrize("element", [TensorProto.INT8, TensorProto.INT32, TensorProto.INT64])
def test_an_integer_input_is_not_normalised(tmp_path, element):
    nodes = N("Cast", ["x"], ["f"], to=F), N("ReduceMean", ["f", "one"], ["y"])
    file = network(tmp_path, *nodes, element=element)
    given = {"multiple_of": 1, "scale": 1 / 255, "mean": 0.45, "std": 0.225}
    with pytest.raises(WrapError, match=r"scale, mean and std give values from -2 to"):
        wrapped(file, METRIC, given=given)


def test_what_no_output_needs_is_left_out(tmp_path):
    """TensorRT refuses the uint8 of class numbers, which are taken before their cast."""
    cast = N("Cast", ["a"], ["y"], to=TensorProto.UINT8)
    nodes = CONV, N("ArgMax", ["c"], ["a"], axis=1), cast, N("Mul", ["c", "unused"], ["z"])
    file = network(tmp_path, *nodes, out=TensorProto.UINT8, unused=np.float32(2))
    model = onnx.load(file)
    model.graph.output.append(helper.make_tensor_value_info("z", F, None))
    onnx.save(model, file)
    _, made = wrapped(file, IDS)
    graph = onnx.load(made).graph
    kept = [node.op_type for node in graph.node if node.name.startswith("network0/")]
    assert kept == ["Conv", "ArgMax"]
    assert [t.name for t in graph.initializer if t.name.startswith("network0/")] == ["network0/w"]
    pytest.importorskip("tensorrt_rtx")
    from depthseg_ros.backends.compiler import Shapes, compile_engine

    shapes = Shapes(40, 24, 1, (20, 20), (80, 80))
    assert compile_engine(made.read_bytes(), "tensorrt_rtx", shapes)[0]


def quantised(path, element, bits):
    """The network of `CONV`, whose weights are stored in other integers: needs opset 21."""
    whole = RANDOM.integers(0, 8, W.shape)
    tensors = [helper.make_tensor("q", element, W.shape, whole.flatten().tolist())]
    tensors += [numpy_helper.from_array(np.float32(0.01), "s")]
    if bits == 16:
        tensors += [helper.make_tensor("zero", element, [], [0])]
    inputs = [tensor.name for tensor in tensors]
    nodes = N("DequantizeLinear", inputs, ["v"], name="d"), N("Conv", ["x", "v"], ["y"])
    file = network(path, *nodes, opset=21, ir=10)
    model = onnx.load(file)
    model.graph.initializer.extend(tensors)
    onnx.save(model, file)
    return file


def test_weights_of_4_bits_keep_the_opset_that_has_them(tmp_path):
    pytest.importorskip("onnxruntime", minversion="1.20")
    _, made = wrapped(quantised(tmp_path, TensorProto.INT4, 4), LOGITS)
    assert onnx.load(made).opset_import[0].version == 21


@pytest.mark.parametrize("element", [TensorProto.UINT16, TensorProto.INT16])
def test_16_bits_are_refused_because_openvino_computes_them_wrong(tmp_path, element):
    pytest.importorskip("onnx", minversion="1.16")  # the first that knows opset 21
    file = quantised(tmp_path, element, 16)
    with pytest.raises(WrapError, match=r"quantised in 16 bits \(node 'd'\)"):
        wrapped(file, LOGITS)


@pytest.mark.parametrize("opset", [13, 21])
def test_functions_of_another_opset_become_nodes(tmp_path, opset):
    pytest.importorskip("onnx", minversion="1.17")  # has opset 21, and converts functions
    file = network(tmp_path, CONV, N("Own", ["c"], ["y"], domain="mine"), opset=opset, ir=8)
    model = onnx.load(file)
    own = helper.make_opsetid("", 18)
    model.opset_import.append(helper.make_opsetid("mine", 1))
    model.functions.append(
        helper.make_function("mine", "Own", ["a"], ["b"], [N("Neg", ["a"], ["b"])], [own])
    )
    onnx.save(model, file)
    _, made = wrapped(file, LOGITS)
    expected = by_hand(network(tmp_path, CONV, N("Neg", ["c"], ["y"])))[0].argmax(0)
    assert (Perception(made)(IMAGE).labels == expected).all()


@pytest.mark.parametrize("opset", [11, 18])
@pytest.mark.parametrize("views", [1, "views"])
def test_a_network_of_several_views_takes_one(tmp_path, opset, views):
    """Depth Anything 3 takes (N, views, 3, H, W) and has depth of (N, views, H, W)."""
    nodes = N("ReduceMean", ["x"], ["y"], axes=[2], keepdims=0)
    file = network(tmp_path, nodes, shape=["N", views, 3, "H", "W"], opset=17)
    expected = IMAGE.mean(2)
    if opset == 11:
        model = onnx.load(file)
        model.opset_import[0].version = opset
        onnx.save(model, file)
    assert "# input x (float32 Nx3xHxW)" in describe(file)
    _, made = wrapped(file, METRIC)
    np.testing.assert_allclose(Perception(made)(IMAGE).depth, expected, rtol=1e-3)


@pytest.mark.parametrize("channels", [1, 4])
def test_other_than_3_channels_are_refused(tmp_path, channels):
    file = network(tmp_path, N("Identity", ["x"], ["y"]), shape=[1, channels, 24, 40])
    with pytest.raises(WrapError, match=rf"1x{channels}x24x40\) has no axis of 3 channels"):
        wrapped(file, METRIC)


def described(file):
    return yaml.safe_load(describe(file))


def test_a_description_guesses_what_its_outputs_show(tmp_path):
    argmax = N("ArgMax", ["c"], ["i"], axis=1)
    file = network(tmp_path, CONV, argmax, N("Cast", ["i"], ["y"], to=F), shape=[1, 3, 24, 40])
    found = described(file)
    assert found["models"][0]["labels"]["kind"] == "ids" and len(found["classes"]) == 5
    below = {"zero": np.float32(0)}
    file = network(tmp_path, MEAN, N("Less", ["m", "zero"], ["y"]), out=TensorProto.BOOL, **below)
    assert [c["name"] for c in described(file)["classes"]] == ["class 0", "class 1"]
    file = network(tmp_path, MEAN, N("Mul", ["m", "k"], ["y"]), k=np.float32(900))
    assert described(file)["models"][0]["depth"]["kind"] == "disparity"
    file = network(tmp_path, N("Conv", ["x", "w"], ["y"], pads=[1] * 4), shape=[1, 3, 64, "W"])
    assert described(file)["models"][0]["input"]["size"] == [640, 64]
    assert wrap(described(file), tmp_path / "m.onnx").fit.kind == "letterbox"
    weight = {"v": np.ones((1, 3, 14, 14), np.float32), "s": np.float32([1, 1, 14, 14])}
    nodes = N("Conv", ["x", "v"], ["p"], strides=[14, 14]), N("Resize", ["p", "", "s"], ["y"])
    file = network(tmp_path, *nodes, **weight)
    assert described(file)["models"][0]["input"]["multiple_of"] == 14


def test_negative_class_numbers_mean_no_label(tmp_path, caplog):
    nodes = [CONV, N("ArgMax", ["c"], ["i"], axis=1), N("Sub", ["i", "one"], ["y"])]
    file = network(tmp_path, *nodes, out=TensorProto.INT64)
    assert not lines(caplog, file, IDS, 4)
    found = Perception(tmp_path / "m.onnx")(IMAGE).labels
    expected = by_hand(file)[0, 0].astype(int)
    assert (found == np.where(expected < 0, 255, expected)).all()


@pytest.mark.parametrize(
    ("given", "values"),
    [
        ({"scale": 1 / 255, "mean": 123.675, "std": 58.395}, "-2.1179 to -2.10078"),
        ({"scale": 1, "mean": 0.485, "std": 0.229}, "-2.1179 to 1111.42"),
    ],
)
def test_a_mean_for_another_scale_is_reported(tmp_path, caplog, given, values):
    file = network(tmp_path, CONV, N("Relu", ["c"], ["y"]))
    with caplog.at_level(logging.WARNING):
        wrapped(file, LOGITS, given={"multiple_of": 1, **given})
    assert f"give values from {values}: mean and std may be" in caplog.text


@pytest.mark.parametrize("given", [{"scale": 1e-300}, {"scale": 1, "std": 1e-300}, {"mean": 1e300}])
def test_values_beyond_floats_are_refused(tmp_path, given):
    file = network(tmp_path, CONV, N("Relu", ["c"], ["y"]))
    with pytest.raises(WrapError, match="expected a range like 0 to 1"):
        wrapped(file, LOGITS, given={"multiple_of": 1, "scale": 1, **given})


def test_an_opset_that_onnx_does_not_know_yet_is_refused(tmp_path):
    file = network(tmp_path, CONV, N("Relu", ["c"], ["y"]), opset=99)
    with pytest.raises(WrapError, match=r"has opset 99, but onnx .* knows those up to \d+: update"):
        wrapped(file, LOGITS)


def test_a_network_that_is_a_pipe_is_refused_without_waiting_for_it(tmp_path):
    os.mkfifo(tmp_path / "a.onnx")
    with pytest.raises(WrapError, match=r"a\.onnx is not a regular file"):
        wrapped(tmp_path / "a.onnx", LOGITS)


def test_outputs_that_cannot_be_described_do_not_stop_a_description(tmp_path):
    zero = {"zero": np.array([0])}
    file = network(tmp_path, CONV, N("Slice", ["c", "zero", "zero", "zero"], ["y"]), **zero)
    assert "# output y" in describe(file)
    text = {"text": np.array(["a"], object)}
    file = network(tmp_path, N("Identity", ["text"], ["y"]), out=TensorProto.STRING, **text)
    assert "# output y" in describe(file)
    file = network(tmp_path, N("Conv", ["x", "w"], ["y"]), out=0)
    assert "# output y" in describe(file)
    model = onnx.load(file)
    model.graph.input[0].type.tensor_type.elem_type = 0
    onnx.save(model, file)
    with pytest.raises(WrapError, match="element type that cannot be wrapped"):
        describe(file)
    del model.graph.output[:]
    onnx.save(model, file)
    with pytest.raises(WrapError, match="has no outputs"):
        describe(file)


@pytest.mark.parametrize("name", ["~nobodyx/a.onnx", "a" * 300])
def test_names_that_cannot_be_opened(name):
    entry = {"file": name, "input": {"multiple_of": 1, "scale": 1}, **METRIC}
    with pytest.raises(WrapError, match=r"cannot be opened|there is no file"):
        wrap({"name": "made", "models": [entry]}, "m.onnx")
    with pytest.raises(WrapError, match=r"cannot be read|there is no file"):
        describe(Path(name))
