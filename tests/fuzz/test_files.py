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

"""Files that a robot is given or wrote: model files, parameters, recordings."""

import json

import hypothesis.strategies as st
import numpy as np
import pytest
from onnx import TensorProto, helper, numpy_helper

from depthseg_ros import model_card
from depthseg_ros.backends import BackendError
from depthseg_ros.model_card import DepthRange, ModelCard, ModelFileError, SemanticClass
from depthseg_ros.perception import Perception
from tests.fuzz.hostile import LONG_TEXT, damaged, texts

NAMES = ("labels", "confidence", "depth")
CARD = ModelCard(
    name="tiny",
    system="test",
    classes=(SemanticClass(0, "sky", (1, 2, 3), ("sky",)), SemanticClass(1, "road", (4, 5, 6))),
    depth=DepthRange("metric", 0.5, 100.0),
    network_size=(8, 6),
    canonical_fx=10.0,
    metrics={"miou": 0.5},
    tools={"torch": "2"},
)


def tiny():
    """A model that runs: the brightest and the darkest sample, and red by fx as depth."""
    value = helper.make_tensor_value_info
    weights = [
        numpy_helper.from_array(np.array([3]), "rgb"),
        numpy_helper.from_array(np.array([[[[0.5]], [[0.25]], [[0.25]]]], np.float32), "kernel"),
        numpy_helper.from_array(np.array([1]), "channel"),
    ]
    nodes = [
        helper.make_node("ReduceMax", ["image", "rgb"], ["labels"], keepdims=0),
        helper.make_node("ReduceMin", ["image", "rgb"], ["confidence"], keepdims=0),
        helper.make_node("Cast", ["image"], ["samples"], to=TensorProto.FLOAT),
        helper.make_node("Transpose", ["samples"], ["planes"], perm=[0, 3, 1, 2]),
        helper.make_node("Conv", ["planes", "kernel"], ["gray"]),
        helper.make_node("Squeeze", ["gray", "channel"], ["flat"]),
        helper.make_node("Mul", ["flat", "fx"], ["depth"]),
    ]
    size = ["N", "H", "W"]
    graph = helper.make_graph(
        nodes,
        "tiny",
        [value("image", TensorProto.UINT8, [*size, 3]), value("fx", TensorProto.FLOAT, ["N"])],
        [
            value(n, t, size)
            for n, t in zip(NAMES, [TensorProto.UINT8] * 2 + [TensorProto.FLOAT], strict=True)
        ],
        weights,
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=8)


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    path = tmp_path_factory.mktemp("models") / "tiny.onnx"
    model_card.write(path, tiny(), CARD)
    return path


def test_models_that_are_cut_off_at_any_percent(tmp_path, fuzz):
    path, data = tmp_path / "cut.onnx", model_card.default_model().read_bytes()

    def read(percent):
        path.write_bytes(data[: len(data) * percent // 100])
        return model_card.read(path)

    def never(percent, card):
        raise AssertionError(f"{percent} % of a model file are taken for a whole one")

    percents = st.integers(0, 99)
    fuzz.run("model file, cut", percents, read, never, (ModelFileError,), short=10, long=100)


def test_models_with_damage(whole, tmp_path, fuzz):
    path, image = tmp_path / "damaged.onnx", np.zeros((6, 8, 3), np.uint8)

    def run(data):
        path.write_bytes(data)
        perception = Perception(path, "onnxruntime", threads=1)
        try:
            return perception(image, 10.0)
        finally:
            perception.close()

    def is_prediction(_, prediction):
        made = [
            getattr(prediction, name) for name in NAMES if getattr(prediction, name) is not None
        ]
        assert made and all(array.shape == (6, 8) for array in made)

    errors = (ModelFileError, BackendError, ValueError)
    cases = damaged(st.just(whole.read_bytes()), most=3)
    fuzz.run("model file, damaged", cases, run, is_prediction, errors, short=60, long=1000)


JSON = st.recursive(
    st.one_of(
        st.none(),
        st.booleans(),
        st.integers(),
        st.sampled_from([10**400, 10**4000, -1, 255, 10**6]),
        st.floats(),
        st.text(max_size=9),
        st.sampled_from([LONG_TEXT, "\ud800", "\x1b[31m"]),
    ),
    lambda parts: st.lists(parts, max_size=4) | st.dictionaries(st.text(max_size=5), parts),
    max_leaves=6,
)


@st.composite
def cards(draw):
    """The text of a card with another value somewhere, or damage."""
    entries = json.loads(CARD.to_json())
    if draw(st.integers(0, 9)) == 0:
        entries["classes"] *= draw(st.sampled_from([200, 4000]))
    for _ in range(draw(st.integers(0, 2))):
        place = entries
        while True:
            keys = list(place) if isinstance(place, dict) else list(range(len(place)))
            if not keys:
                break
            key = draw(st.sampled_from(keys))
            if isinstance(place[key], dict | list) and draw(st.booleans()):
                place = place[key]
                continue
            place[key] = draw(JSON)
            break
    if draw(st.integers(0, 4)) == 0:
        entries[draw(st.text(max_size=9))] = draw(JSON)
    text = json.dumps(entries)
    if draw(st.integers(0, 4)) == 0:
        at = draw(st.integers(0, len(text)))
        text = text[:at] + draw(st.sampled_from(["", "[" * 10**5, "1" * 5000, "NaN", '{"a":']))
    return text


def test_cards(fuzz):
    def written(text, card):
        assert ModelCard.from_json(card.to_json()) == card
        assert len(card.name) <= model_card.MAX_NAME and len(card.classes) <= 255

    errors = (ModelFileError,)
    fuzz.run("model card", cards(), ModelCard.from_json, written, errors, short=100, long=1000)


def settings():
    """Values of parameters, of the types that ROS lets through."""
    from dataclasses import fields

    from depthseg_ros.node.parameters import Settings

    texts_or_long = texts | st.just(LONG_TEXT) | st.sampled_from(["fit", "tf", "raw", "front"])
    kinds = {
        "str": texts_or_long,
        "bool": st.booleans(),
        "int": st.integers(-(2**63), 2**63 - 1),
        "float": st.floats(),
        "tuple[str, ...]": st.lists(texts_or_long, max_size=4).map(tuple),
        "tuple[float, float]": st.lists(st.floats(), max_size=3).map(tuple),
    }
    return st.fixed_dictionaries(
        {}, optional={field.name: kinds[str(field.type)] for field in fields(Settings)}
    )


def test_parameters(fuzz):
    pytest.importorskip("rclpy", reason="needs ROS 2")
    from depthseg_ros.node.parameters import Settings

    def make(values):
        result = Settings(**values)
        result.check(CARD)
        return result

    def kept(values, result):
        assert all(getattr(result, name) == value for name, value in values.items())

    fuzz.run("parameters", settings(), make, kept, short=100, long=1000)
