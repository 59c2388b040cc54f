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

"""TensorRT for RTX compiles without a GPU: parsing, building and serialising are the real thing."""

from collections import Counter
from pathlib import Path

import onnx
import pytest
from onnx import TensorProto, helper

from depthseg_ros.backends import BackendError
from depthseg_ros.backends.compiler import (
    FLAVOURS,
    Cancelled,
    Options,
    Shapes,
    compile_engine,
    installed,
    load_flavour,
    parse,
)

pytest.importorskip("tensorrt_rtx", reason="needs TensorRT for RTX: pip install .[tensorrt-rtx]")

RTX = "tensorrt_rtx"
MODELS = sorted(
    path
    for path in (Path(__file__).parents[2] / "models").glob("*.onnx")
    if not path.stem.endswith("-int8")  # which are for CPUs
)
SMALL = Shapes(96, 64)


@pytest.fixture(scope="module")
def street():
    return next(path for path in MODELS if path.stem == "street").read_bytes()


@pytest.mark.parametrize("path", MODELS, ids=lambda path: path.stem)
def test_every_committed_model_compiles_wholly(path):
    trt = load_flavour(RTX)
    content = path.read_bytes()
    _, network, _parser = parse(content, RTX)
    layers = [network.get_layer(index) for index in range(network.num_layers)]
    operators = Counter(node.op_type for node in onnx.load(path).graph.node)
    for kind, operator in (("RESIZE", "Resize"), ("CONCATENATION", "Concat")):
        found = [layer for layer in layers if layer.type == getattr(trt.LayerType, kind)]
        assert len(found) >= operators[operator] > 0  # TensorRT makes shapes by some more
    convolutions = [layer for layer in layers if layer.type == trt.LayerType.CONVOLUTION]
    assert len(convolutions) == operators["Conv"]
    assert {layer.get_output(0).dtype for layer in convolutions} == {trt.float32}
    engine, timings = compile_engine(content, RTX, SMALL)
    assert len(engine) > 100_000 and not timings


def test_an_engine_may_take_a_range_of_sizes_and_batches(street):
    shapes = Shapes(96, 64, 2, (64, 48), (192, 128))
    engine, _ = compile_engine(street, RTX, shapes, Options(workspace=512))
    assert engine
    assert shapes.takes(2, 64, 48) and shapes.takes(2, 192, 128)
    assert not shapes.takes(1, 96, 64) and not shapes.takes(2, 193, 128)
    assert not SMALL.takes(1, 97, 64) and SMALL.takes(1, 96, 64)
    assert str(shapes) == "96x64 (64x48 to 192x128), batches of 2" and str(SMALL) == "96x64"


@pytest.mark.parametrize(
    "wrong", [(0, 3), (96, 64, 0), (96, 64, 1, (97, 64)), (96, 64, 1, None, (96, 63))]
)
def test_senseless_shapes_are_refused(wrong):
    with pytest.raises(ValueError, match="expected sizes in this order"):
        Shapes(*wrong)


def test_progress_rises_to_the_end_and_may_say_stop(street):
    told = []

    def watch(share, phase):
        told.append(share)
        return True

    compile_engine(street, RTX, SMALL, progress=watch)
    assert told == sorted(told) and told[0] < 0.1 and 0.8 < told[-1] <= 1 and len(set(told)) > 20
    with pytest.raises(Cancelled, match="was stopped"):
        compile_engine(street, RTX, SMALL, progress=lambda share, phase: share < 0.1)


def test_what_tensorrt_cannot_read_is_named_by_operator_and_node():
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, [2, 2])
    y = helper.make_tensor_value_info("y", TensorProto.FLOAT, [])
    graph = helper.make_graph([helper.make_node("Det", ["x"], ["y"], name="area")], "g", [x], [y])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)])
    with pytest.raises(BackendError, match=r"operator Det \(node 'area'\): unsupported node"):
        compile_engine(model.SerializeToString(), RTX, SMALL)
    with pytest.raises(BackendError, match=r"cannot read the model: .*Failed to parse"):
        compile_engine(b"rubbish", RTX, SMALL)


@pytest.mark.parametrize(
    "options, says",
    [
        (Options(dla=0), "there is no DLA core 0: TensorRT for RTX finds 0"),
        (Options(version_compatible=True), "cannot compile the model: "),
    ],
)
def test_an_option_that_the_machine_lacks_is_one_line(street, options, says):
    with pytest.raises(BackendError, match=says) as raised:
        compile_engine(street, RTX, SMALL, options)
    assert "\n" not in str(raised.value)


def test_senseless_options_are_refused():
    for wrong in ({"dla": -1}, {"workspace": -1}):
        with pytest.raises(ValueError, match="expected 0 or more"):
            Options(**wrong)


def test_a_missing_flavour_names_what_to_install():
    assert RTX in installed()
    missing = [name for name in FLAVOURS if name not in installed()]
    for name in missing:
        with pytest.raises(BackendError, match=r"cannot be imported .*JetPack.*pip install"):
            load_flavour(name)
