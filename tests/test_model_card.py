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

import dataclasses
import json
import math
from pathlib import Path

import onnx
import pytest
from onnx import TensorProto, helper

from depthseg_ros import model_card
from depthseg_ros.model_card import (
    DepthRange,
    ModelCard,
    ModelFileError,
    NetworkFit,
    SemanticClass,
)

ROOT = Path(__file__).resolve().parent.parent

CARD = ModelCard(
    name="test",
    system="shared_encoder",
    classes=(
        SemanticClass(0, "sky", (70, 130, 180), ("sky",)),
        SemanticClass(3, "road", (128, 64, 128), ("traversable",)),
    ),
    depth=DepthRange("metric", 0.5, 100.0),
    network_size=(512, 384),
    canonical_fx=450.0,
    trained_on=("rendered streets",),
    terms="free",
    metrics={"streets/miou": 0.5},
    parameters=42,
    tools={"torch": "2.13.0"},
)


def graph(inputs=("image", "fx"), outputs=("labels", "confidence", "depth"), depth_type=None):
    """A graph with the contract's inputs and outputs; it is looked at, not run."""
    value = helper.make_tensor_value_info
    known_inputs = {
        "image": value("image", TensorProto.UINT8, ["N", "H", "W", 3]),
        "fx": value("fx", TensorProto.FLOAT, ["N"]),
    }
    known_outputs = {
        "labels": value("labels", TensorProto.UINT8, ["N", "H", "W"]),
        "confidence": value("confidence", TensorProto.UINT8, ["N", "H", "W"]),
        "depth": value("depth", depth_type or TensorProto.FLOAT, ["N", "H", "W"]),
        "depth_confidence": value("depth_confidence", TensorProto.UINT8, ["N", "H", "W"]),
    }
    nodes = [helper.make_node("Identity", [inputs[0]], [name]) for name in outputs]
    return helper.make_model(
        helper.make_graph(
            nodes, "g", [known_inputs[n] for n in inputs], [known_outputs[n] for n in outputs]
        )
    )


def test_a_written_card_is_read_back_whole(tmp_path):
    model_card.write(tmp_path / "m.onnx", graph(), CARD)
    assert model_card.read(tmp_path / "m.onnx") == CARD
    assert [file.name for file in tmp_path.iterdir()] == ["m.onnx"]  # nothing half-written beside


def test_depth_confidence_is_an_output_that_files_may_lack(tmp_path):
    card = dataclasses.replace(CARD, depth_confidence=True)
    assert card.outputs == (*CARD.outputs, "depth_confidence")
    model_card.write(tmp_path / "m.onnx", graph(outputs=card.outputs), card)
    assert model_card.read(tmp_path / "m.onnx") == card
    # A card of version 3 does not have the entry.
    entries = json.loads(CARD.to_json()) | {"schema_version": 3}
    del entries["depth_confidence"]
    assert ModelCard.from_json(json.dumps(entries)).outputs == CARD.outputs


def test_writing_again_replaces_the_card(tmp_path):
    model = graph()
    model_card.write(tmp_path / "m.onnx", model, CARD)
    model_card.write(tmp_path / "m.onnx", model, dataclasses.replace(CARD, name="other"))
    assert model_card.read(tmp_path / "m.onnx").name == "other"


def test_a_model_without_depth_needs_no_fx(tmp_path):
    card = dataclasses.replace(CARD, depth=None, canonical_fx=None)
    model_card.write(tmp_path / "m.onnx", graph(("image",), ("labels", "confidence")), card)
    assert not model_card.read(tmp_path / "m.onnx").needs_fx


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "there is no model file"),
        (b"", "is not an ONNX file"),
        (b"not a model at all", "is not an ONNX file: .*[Pp]ars"),
        (onnx.ModelProto().SerializeToString(), "is not an ONNX file"),
        (
            graph().SerializeToString(),
            r"\(metadata entry 'depthseg_ros'\); export it with .* or make a model file of it with",
        ),
    ],
)
def test_a_file_that_is_no_model_file_is_refused(tmp_path, content, message):
    path = tmp_path / "m.onnx"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(ModelFileError, match=message) as caught:
        model_card.read(path)
    assert str(path) in str(caught.value)


def test_a_truncated_file_is_refused_at_any_length(tmp_path):
    model_card.write(tmp_path / "m.onnx", graph(), CARD)
    whole = (tmp_path / "m.onnx").read_bytes()
    for length in range(0, len(whole) - 1, 7):
        (tmp_path / "m.onnx").write_bytes(whole[:length])
        with pytest.raises(ModelFileError):
            model_card.read(tmp_path / "m.onnx")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"schema_version": 5}, "schema version 5, this depthseg_ros reads up to 4"),
        ({"depth_confidence": 1}, "depth_confidence 1, expected true or false"),
        ({"depth_confidence": True, "schema_version": 3}, "expected it only with depth and from"),
        ({"depth_confidence": True, "depth": None}, "expected it only with depth and from"),
        ({"depth_confidence": True}, r"outputs \['confidence', 'depth', 'labels'\], expected"),
        ({"schema_version": "one"}, "schema_version 'one'"),
        ({"schema_version": None}, "schema_version None"),
        ({"palette": []}, r"unknown entries \['palette'\]"),
        ({"classes": [], "depth": None}, "no classes and no depth"),
        ({"classes": 5}, "wrong type"),
        ({"classes": [{"id": 0}]}, "does not have the entry"),
        ({"network_size": [0, 384]}, "network_size"),
        ({"network_size": None}, "wrong type"),
        ({"canonical_fx": None, "schema_version": 2}, "canonical_fx None"),
        ({"canonical_fx": None}, r"has the inputs \['fx', 'image'\], expected \['image'\]"),
        ({"fit": {"kind": "crop"}}, "fit 'crop', expected one of"),
        ({"fit": {"multiple_of": 0}}, "multiple_of 0 of fit, expected 1..8192"),
        ({"fit": {"multiple_of": 8, "offset": 8}}, "offset 8 of fit, expected 0 or more, and less"),
        ({"fit": None}, "wrong type"),
        ({"single_image": 1}, "single_image 1, expected true or false"),
        ({"canonical_fx": math.nan}, "canonical_fx nan"),
        ({"depth": {"kind": "metres", "min": 0, "max": 1}}, "depth kind 'metres'"),
        ({"depth": {"kind": "metric", "min": 5, "max": 1}}, "depth range 5..1"),
        ({"name": 7}, "name 7, expected one line"),
        ({"name": "two\nlines"}, "name 'two.*', expected one line"),
        ({"name": "x" * 10**5}, "name 'xxxx.*, expected one line of at most 100"),
        ({"name": "\ud800"}, "not JSON.*surrogates"),
        ({"terms": "\ud800"}, "not JSON.*surrogates"),
        ({"terms": "x" * 2**21}, "characters, expected at most 1048576"),
        (
            {"classes": [{"id": 0, "name": "a", "color": [0, 0, 0], "flags": []}] * 9999},
            "9999 clas",
        ),
        ({"palette" * 10**4: []}, "unknown entries"),
        ({"metrics": {"miou": 10**4000}}, "metrics"),
        ({"depth": {"kind": "metric", "min": 0, "max": 10**4000}}, "depth range"),
        ({"terms": None}, "terms None, expected text"),
        ({"trained_on": "streets"}, "trained_on 'streets', expected a list"),
        ({"trained_on": [1]}, "trained_on"),
        ({"metrics": None}, "metrics None"),
        ({"metrics": {"miou": "good"}}, "metrics"),
        ({"tools": None}, "tools None"),
        ({"parameters": "many"}, "parameters 'many'"),
        ({"network_size": [1000000, 1000000]}, "network_size"),
        ({"depth": None}, r"inputs \['fx', 'image'\], expected \['image'\] from its card"),
        ({"classes": []}, r"outputs \['confidence', 'depth', 'labels'\], .* \['depth'\]"),
    ],
)
def test_a_contradicting_card_is_refused(tmp_path, changes, message):
    model = graph()
    model_card.write(tmp_path / "m.onnx", model, CARD)
    card = {**json.loads(CARD.to_json()), **changes}
    model.metadata_props[0].value = json.dumps(card)
    onnx.save(model, tmp_path / "m.onnx")
    with pytest.raises(ModelFileError, match=message) as caught:
        model_card.read(tmp_path / "m.onnx")
    said = str(caught.value).removeprefix(str(tmp_path))
    assert len(said.splitlines()) == 1 and len(said) < 500


@pytest.mark.parametrize("value", ["1" * 5000, "[" * 3000 + "]" * 3000, "[" * 10**5])
def test_a_card_of_numbers_or_lists_without_end_is_refused(value):
    text = CARD.to_json().replace('"parameters": 42', f'"parameters": {value}')
    with pytest.raises(ModelFileError) as caught:
        model_card.ModelCard.from_json(text)
    assert len(str(caught.value)) < 500


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"id": 3}, r"class id \[3\] twice"),
        ({"id": 255}, "class id 255"),
        ({"id": -1}, "class id -1"),
        ({"id": True}, "class id True"),
        ({"name": "road"}, r"class name \['road'\] twice"),
        ({"name": ""}, "class name ''"),
        ({"color": (1, 2)}, r"color \(1, 2\)"),
        ({"color": (1, 2, 256)}, "color"),
        ({"flags": ("wet",)}, r"flags \['wet'\]"),
    ],
)
def test_wrong_classes_are_refused(changes, message):
    with pytest.raises(ModelFileError, match=message):
        sky = dataclasses.replace(CARD.classes[0], **changes)
        dataclasses.replace(CARD, classes=(sky, CARD.classes[1]))


def of_class(**changes):
    return dataclasses.replace(CARD.classes[0], **changes)


def of_card(**changes):
    return dataclasses.replace(CARD, **changes)


def classes(count):
    return tuple(SemanticClass(i, f"c{i}", (0, 0, 0)) for i in range(count))


@pytest.mark.parametrize(
    ("make", "got", "expected"),
    [
        (lambda: of_class(id=255), "class id 255", "0..254"),
        (lambda: of_class(name=""), "class name ''", "one line of at most 100 characters"),
        (
            lambda: of_class(color=(1, -1, 2)),
            "color (1, -1, 2) of class sky",
            "three integers 0..255",
        ),
        (
            lambda: of_class(flags=("wet",)),
            "flags ['wet'] of class sky",
            "any of ('sky', 'traversable', 'obstacle', 'movable')",
        ),
        (
            lambda: DepthRange("feet", 0, 1),
            "depth kind 'feet'",
            "one of ('metric', 'up-to-scale', 'normalised')",
        ),
        (lambda: DepthRange("metric", -0.1, 1), "depth range -0.1..1", "0<=min<max"),
        (lambda: DepthRange("metric", 1, 1), "depth range 1..1", "0<=min<max"),
        (lambda: of_card(classes=(), depth=None), "no classes and no depth", "either"),
        (lambda: of_card(classes=(CARD.classes * 128)), "256 classes", "at most 255"),
        (lambda: of_card(classes=CARD.classes * 2), "class id [0, 3] twice", "each once"),
        (lambda: of_card(network_size=(4,)), "network_size (4,)", "[width, height] in pixels"),
        (lambda: of_card(network_size=(4, 0)), "network_size (4, 0)", "[width, height] in pixels"),
        (lambda: of_card(network_size=(8193, 4)), "network_size (8193, 4)", "at most 8192"),
        (lambda: of_card(needs_background=1), "needs_background 1", "true or false"),
        (lambda: of_card(system="\t"), r"system '\t'", "one line of at most 100 characters"),
        (lambda: of_card(terms=1), "terms 1", "text"),
        (lambda: of_card(precision="bf16"), "precision 'bf16'", "one of ('fp32', 'fp16', 'int8')"),
        (lambda: of_card(parameters=-1), "parameters -1", "a count"),
        (lambda: of_card(trained_on=(1,)), "trained_on (1,)", "a list of texts"),
        (lambda: of_card(metrics={"a": math.inf}), "metrics {'a': inf}", "names with numbers"),
        (
            lambda: of_card(metrics={"a": 2**1023}),
            f"metrics {{'a': {2**1023}}}",
            "names with numbers",
        ),
        (lambda: of_card(tools={"a": 1}), "tools {'a': 1}", "names with versions"),
        *(
            (
                lambda fx=fx: of_card(canonical_fx=fx, schema_version=2),
                f"canonical_fx {fx}",
                "a focal length in pixels, because the depth is metric",
            )
            for fx in (None, 0, math.inf)
        ),
        (lambda: ModelCard.from_json("[]"), "a model card that is not a JSON object", "an object"),
        (lambda: ModelCard.from_json("{}"), "schema_version None", "an integer"),
        (lambda: ModelCard.from_json('{"schema_version": 0}'), "schema_version 0", "an integer"),
        (
            lambda: ModelCard.from_json(
                CARD.to_json().replace("movable", "x").replace('"min"', '"low"')
            ),
            "unknown entries ['low']",
            "those of DepthRange",
        ),
    ],
)
def test_each_rule_says_what_it_got_and_expected(make, got, expected):
    with pytest.raises(ModelFileError) as caught:
        make()
    if len(got) > 200:  # which no line has room for
        start, end = str(caught.value).split("...")
        assert start.startswith("model card: got ") and got.startswith(start[16:])
        assert end == f", expected {expected}"
    else:
        assert str(caught.value) == f"model card: got {got}, expected {expected}"


def test_what_lies_at_the_ends_of_the_rules_is_taken():
    card = dataclasses.replace(
        CARD,
        name="x" * model_card.MAX_NAME,
        classes=classes(255),
        depth=DepthRange("metric", 0, 1e-3),
        network_size=(1, model_card.MAX_SIZE),
        canonical_fx=0.5,
        metrics={"a": 1e308, "b": -(2**1000), "c": 0},
        parameters=0,
    )
    assert ModelCard.from_json(card.to_json()) == card
    text = dataclasses.replace(card, terms="").to_json()
    longest = dataclasses.replace(card, terms="x" * (model_card.MAX_CARD - len(text)))
    assert ModelCard.from_json(longest.to_json()) == longest
    with pytest.raises(ModelFileError, match="has 1048577 characters, expected at most 1048576"):
        ModelCard.from_json(longest.to_json() + " ")


def test_what_a_card_may_leave_out_has_defaults():
    needed = (
        "schema_version",
        "name",
        "system",
        "classes",
        "depth",
        "network_size",
        "canonical_fx",
    )
    entries = {key: value for key, value in json.loads(CARD.to_json()).items() if key in needed}
    plain = ModelCard("test", "shared_encoder", CARD.classes, CARD.depth, (512, 384), 450.0)
    assert ModelCard.from_json(json.dumps(entries)) == plain
    del entries["network_size"]
    with pytest.raises(
        ModelFileError, match=r"^the model card does not have the entry 'network_size'$"
    ):
        ModelCard.from_json(json.dumps(entries))
    entries["network_size"] = 5
    with pytest.raises(ModelFileError, match=r"wrong type: 'int' object is not iterable$"):
        ModelCard.from_json(json.dumps(entries))


def test_metric_depth_may_not_depend_on_the_focal_length_from_version_3_on():
    card = dataclasses.replace(CARD, canonical_fx=None)
    assert card.metric and not card.needs_fx and card.inputs == ("image",)
    assert CARD.metric and CARD.needs_fx


@pytest.mark.parametrize(
    ("fit", "network", "sizes"),
    [
        (NetworkFit("letterbox"), (512, 256), {(640, 480): (512, 256)}),
        (NetworkFit("stretch"), (512, 256), {(480, 640): (512, 256)}),
        (NetworkFit("image", 16), (9, 9), {(640, 480): (640, 480), (333, 7): (336, 16)}),
        (NetworkFit("image", 16, 1), (9, 9), {(640, 480): (641, 481), (17, 600): (17, 593)}),
        (
            NetworkFit("short-side", 14),
            (690, 518),
            {(1280, 720): (924, 518), (72, 128): (518, 924)},
        ),
        (NetworkFit("area", 14), (518, 518), {(518, 518): (518, 518), (1036, 259): (1008, 252)}),
    ],
)
def test_the_networks_size_follows_from_the_fit(fit, network, sizes):
    card = dataclasses.replace(CARD, fit=fit, network_size=network)
    assert {size: card.size_for(*size) for size in sizes} == sizes
    assert ModelCard.from_json(card.to_json()) == card


def test_a_card_with_what_json_has_no_word_for_is_not_written():
    card = dataclasses.replace(CARD, depth=None, canonical_fx=math.nan)
    with pytest.raises(ValueError, match="JSON"):
        card.to_json()


def test_a_model_file_may_have_any_name_and_keeps_what_others_wrote_in_it(tmp_path):
    model = graph()
    model.metadata_props.add(key="author", value="somebody")
    path = tmp_path / "a" / "b" / "model.json"
    model_card.write(path, model, CARD)
    assert model_card.read(path) == CARD
    kept = {e.key: e.value for e in onnx.load(path, format="protobuf").metadata_props}
    assert kept == {"author": "somebody", "depthseg_ros": CARD.to_json()}


def test_the_default_model_lies_in_the_checkout_or_in_the_prefix(tmp_path, monkeypatch):
    package = tmp_path / "lib" / "python3" / "site-packages" / "depthseg_ros"
    monkeypatch.setattr(model_card, "__file__", str(package / "model_card.py"))
    beside = package.parent / "models" / "street.onnx"
    installed = tmp_path / "share" / "depthseg_ros" / "models" / "street.onnx"
    assert model_card.default_model() == beside
    for path in (installed, beside):
        path.parent.mkdir(parents=True)
        path.touch()
        assert model_card.default_model() == path


def test_a_graph_that_breaks_the_contract_is_not_written(tmp_path):
    message = "its output depth is INT32 with 3 axes, expected FLOAT with 3$"
    with pytest.raises(ModelFileError, match=message):
        model_card.write(tmp_path / "m.onnx", graph(depth_type=TensorProto.INT32), CARD)
    assert not list(tmp_path.iterdir())


def elsewhere():
    """A tensor that lies in a file outside the model's folder."""
    tensor = helper.make_tensor("w", TensorProto.FLOAT, [1], [1.0])
    tensor.data_location = TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value="../../secret")
    return tensor


def in_initializer(model):
    model.graph.initializer.append(elsewhere())


def in_attribute(model):
    model.graph.node.append(helper.make_node("Constant", [], ["c"], value=elsewhere()))


def in_list_of_attribute(model):
    model.graph.node.add(op_type="X").attribute.add(name="ts").tensors.append(elsewhere())


def in_subgraph(model):
    inner = helper.make_graph([], "inner", [], [], [elsewhere()])
    model.graph.node.append(helper.make_node("If", ["c"], ["y"], then_branch=inner))


def in_sparse_initializer(model):
    model.graph.sparse_initializer.add().values.CopyFrom(elsewhere())


def in_function(model):
    constant = helper.make_node("Constant", [], ["c"], value=elsewhere())
    model.functions.append(helper.make_function("d", "f", [], ["c"], [constant], []))


@pytest.mark.parametrize(
    "put",
    [
        in_initializer,
        in_attribute,
        in_list_of_attribute,
        in_subgraph,
        in_sparse_initializer,
        in_function,
    ],
)
def test_weights_in_another_file_are_refused_wherever_the_graph_names_them(tmp_path, put):
    model = graph()
    put(model)
    message = "its weights are in another file; expected all in one file$"
    with pytest.raises(ModelFileError, match=f"^{message}"):
        model_card.write(tmp_path / "m.onnx", model, CARD)
    model.metadata_props.add(key=model_card.METADATA_KEY, value=CARD.to_json())
    (tmp_path / "m.onnx").write_bytes(model.SerializeToString())
    with pytest.raises(ModelFileError, match=message):  # and not that there is no such file
        model_card.read(tmp_path / "m.onnx")


def test_an_engine_in_a_model_file_is_refused_wherever_it_lies(tmp_path):
    model = graph()
    inner = helper.make_graph([helper.make_node("EPContext", [], ["y"])], "inner", [], [])
    model.graph.node.append(helper.make_node("If", ["c"], ["y"], then_branch=inner))
    with pytest.raises(
        ModelFileError,
        match=r"^it contains an engine \(EPContext\), which is code; export the graph$",
    ):
        model_card.write(tmp_path / "m.onnx", model, CARD)


def test_a_file_that_is_too_large_is_refused_unread(tmp_path):
    with (tmp_path / "m.onnx").open("wb") as file:
        file.truncate(model_card.MAX_BYTES)  # takes no room on the disk
    with pytest.raises(ModelFileError, match="2 GiB or more"):
        model_card.read(tmp_path / "m.onnx")


def test_names_that_are_no_text_are_refused(tmp_path):
    model_card.write(tmp_path / "m.onnx", graph(), CARD)
    data = (tmp_path / "m.onnx").read_bytes()
    assert b"\nconfidence" in data  # after its length; the card has depth_confidence
    (tmp_path / "m.onnx").write_bytes(data.replace(b"\nconfidence", b"\n" + b"\xff" * 10))
    with pytest.raises(ModelFileError, match="its graph has the outputs"):
        model_card.read(tmp_path / "m.onnx")


def test_a_type_that_onnx_does_not_know_is_refused(tmp_path):
    with pytest.raises(ModelFileError, match="its output depth is 99 with 3 axes"):
        model_card.write(tmp_path / "m.onnx", graph(depth_type=99), CARD)


def test_the_default_model_is_found_and_sound():
    card = model_card.read(model_card.default_model())
    assert [c.name for c in card.classes][:4] == ["sky", "building", "pole", "road"]
    assert card.depth.kind == "metric"


@pytest.mark.parametrize("path", sorted((ROOT / "models").glob("*.onnx")), ids=lambda p: p.name)
def test_the_models_are_read_by_the_oldest_onnx_runtime_that_setup_py_allows(path):
    model = onnx.load(path)
    assert model.ir_version <= 8 and all(o.version <= 18 for o in model.opset_import)
