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

"""A SPEC that is wrong is refused in one line that names the entry; SPECs of `--describe`."""

import copy
import json
import os

import numpy as np
import onnx
import pytest
import yaml
from onnx import TensorProto, helper, numpy_helper

from depthseg_ros.cli.main import main
from depthseg_ros.perception import Perception
from depthseg_ros.wrap import WrapError, describe, wrap
from depthseg_ros.wrap.schema import SCHEMA
from depthseg_ros.wrap.spec import read_spec

NAN = float("nan")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """With `both.onnx`, a network with a fixed size, four classes, depth and class numbers."""
    path = tmp_path_factory.mktemp("networks")
    weight = np.random.default_rng(0).normal(size=(5, 3, 1, 1)).astype(np.float32)
    nodes = [
        helper.make_node("Conv", ["x", "w"], ["all"]),
        helper.make_node("Split", ["all", "parts"], ["logits", "raw"], axis=1),
        helper.make_node("Exp", ["raw"], ["depth"]),
        helper.make_node("ArgMax", ["logits"], ["ids"], axis=1),
    ]
    kinds = {"logits": TensorProto.FLOAT, "depth": TensorProto.FLOAT, "ids": TensorProto.INT64}
    for name, shape in (
        ("both", [1, 3, 32, 48]),
        ("any", ["N", 3, "H", "W"]),
        ("gray", [1, 1, 32, 48]),
    ):
        graph = helper.make_graph(
            nodes,
            name,
            [helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)],
            [helper.make_tensor_value_info(n, kind, None) for n, kind in kinds.items()],
            [
                numpy_helper.from_array(weight, "w"),
                numpy_helper.from_array(np.array([4, 1]), "parts"),
            ],
        )
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=8)
        onnx.save(model, path / f"{name}.onnx")
    (path / "list.txt").write_text("# two\na  # first\nb\n")
    (path / "numbers.txt").write_text("0 a\n1 b\n")
    (path / "broken.onnx").write_bytes(b"no model")
    return path


RIGHT = yaml.safe_load("""
name: right
models:
  - file: both.onnx
    input: {fit: stretch, scale: 0.00392, mean: 0.5, std: [0.2, 0.2, 0.2]}
    labels: {output: logits, kind: logits}
    depth: {output: depth, kind: metric, canonical_fx: 50}
classes: [{name: a}, {name: b}, {name: c}, {name: d, color: [1, 2, 3], flags: [sky]}]
""")
INPUT, LABELS, DEPTH = (("models", 0, part) for part in ("input", "labels", "depth"))
GONE = object()

WRONG = {
    "an unknown entry": ((("nme",), 1), "nme is not a known entry, .* did you mean name?"),
    "an unknown entry inside": (
        ((*INPUT, "sise"), [1, 1]),
        r"models\[0\].input.sise is not .*size?",
    ),
    "no name": ((("name",), GONE), "the entry name is missing"),
    "a name that is a number": ((("name",), 5), "name is 5, expected text: write it in quotes"),
    "a name that is true": (
        (("classes", 0, "name"), True),
        r"classes\[0\].name is True, expected text: write it in quotes",
    ),
    "a folder": (
        (("models", 0, "file"), "/"),
        r"models\[0\].file: / is a folder, expected an ONNX",
    ),
    "class names with numbers": ((("classes",), "numbers.txt"), "starts with a number, e.g. 0 a"),
    "an empty name": ((("name",), ""), "name is '', expected 1 to 100 characters"),
    "no models": ((("models",), []), r"models is \[\], expected 1 to 2 entries"),
    "models that are no list": ((("models",), {"file": "x"}), "models is .* expected a list"),
    "no file": ((("models", 0, "file"), GONE), r"models\[0\]: the entry file is missing"),
    "no such file": (
        (("models", 0, "file"), "gone.onnx"),
        r"models\[0\].file: there is no file /.*/gone.onnx, and no file gone.onnx in the working",
    ),
    "no ONNX file": ((("models", 0, "file"), "broken.onnx"), "broken.onnx is not an ONNX file"),
    "a gray network": (
        (("models", 0, "file"), "gray.onnx"),
        "has no axis of 3 channels, expected a network",
    ),
    "no input": ((INPUT, GONE), r"models\[0\]: the entry input is missing"),
    "another input": (((*INPUT, "name"), "y"), r"has no input y, but x \(float32 1x3x32x48\)"),
    "no scale": (((*INPUT, "scale"), GONE), r"models\[0\].input: the entry scale is missing"),
    "a scale of text": (((*INPUT, "scale"), "1/255"), "input.scale is '1/255', expected a number"),
    "a negative scale": (((*INPUT, "scale"), -1), "scale is -1, expected more than 0"),
    "a scale that is not a number": (
        ((*INPUT, "scale"), NAN),
        "scale is nan, expected more than 0",
    ),
    "no fit": (((*INPUT, "fit"), GONE), "neither fit nor multiple_of"),
    "two fits": (((*INPUT, "multiple_of"), 32), "both fit and multiple_of"),
    "a depth offset beyond float32": (
        ((*DEPTH, "offset"), 1e300),
        r"depth.offset is 1e\+300, expected -1e\+30 or more and at most 1e\+30",
    ),
    "a depth scale beyond float32": (
        ((*DEPTH, "scale"), 1e-300),
        "scale is 1e-300, expected 1e-30",
    ),
    "an unknown fit": (
        ((*INPUT, "fit"), "streched"),
        "expected one of letterbox, stretch; did you mean",
    ),
    "a multiple of a fixed size": ((INPUT, {"multiple_of": 32, "scale": 1}), "has a fixed size"),
    "an offset without multiples": (((*INPUT, "offset"), 1), "offset belongs to multiple_of"),
    "an offset of a whole multiple": (
        (INPUT, {"multiple_of": 8, "offset": 8, "scale": 1}),
        "offset is 8, expected less than",
    ),
    "a pad without a border": (((*INPUT, "pad"), 0), "pad belongs to fit: letterbox"),
    "a tolerance without a border": (
        ((*INPUT, "tolerance"), 0.1),
        "tolerance belongs to fit: letterbox",
    ),
    "another size": (
        ((*INPUT, "size"), [32, 48]),
        r"size is 32x48 \(width x height\), but .* 48x32",
    ),
    "a size of one number": (((*INPUT, "size"), 48), r"size is 48, expected \[width, height\]"),
    "a size of three numbers": (((*INPUT, "size"), [1, 2, 3]), "expected 2 entries"),
    "a size of fractions": (
        ((*INPUT, "size"), [48.0, 32.0]),
        r"size\[0\] is 48.0, expected an integer",
    ),
    "two means": (((*INPUT, "mean"), [1, 2]), "mean is .* expected 3 entries"),
    "a zero std": (((*INPUT, "std"), 0), "std is 0, expected more than 0"),
    "another type": (((*INPUT, "dtype"), "uint8"), "dtype is uint8, but the input is float32"),
    "another layout": (
        ((*INPUT, "layout"), "NHWC"),
        "has 48 channels in the layout NHWC, expected 3",
    ),
    "neither labels nor depth": (
        (("models", 0), {"file": "both.onnx", "input": RIGHT["models"][0]["input"]}),
        "neither labels nor depth",
    ),
    "labels twice": ((("models",), RIGHT["models"] * 2), "both models have labels"),
    "another output": (
        ((*LABELS, "output"), "logit"),
        "labels.output is logit, but the outputs are",
    ),
    "an unknown kind": (
        ((*LABELS, "kind"), "softmax"),
        "kind is 'softmax', expected one of logits",
    ),
    "numbers that are logits": (((*LABELS, "output"), "ids"), "for class numbers, kind is ids"),
    "too few classes": ((("classes",), [{"name": "a"}]), "its channel 1 is not used"),
    "too many classes": ((("classes",), [{"name": n} for n in "abcde"]), "it has no channel 4"),
    "a class in two places": (((*LABELS, "ignore"), [1]), "it has no channel 4"),
    "a class that is merged twice": (
        (("classes",), [{"name": "a", "from": [0, 1]}, {"name": "b", "from": [1]}]),
        "class 1 is used twice",
    ),
    "only some merged": (
        (("classes",), [{"name": "a", "from": [0]}, {"name": "b"}]),
        "b has no from, but other",
    ),
    "two equal names": ((("classes",), [{"name": "a"}] * 4), "the name a is used twice"),
    "no classes": ((("classes",), GONE), "the entry classes is missing"),
    "classes without labels": ((LABELS, GONE), "classes are given, but no model has labels"),
    "a class file of another length": ((("classes",), "list.txt"), "its channel 2 is not used"),
    "no class file": (
        (("classes",), "gone.yaml"),
        "classes: there is no file .*gone.yaml, and no file gone.yaml in",
    ),
    "an unknown flag": ((("classes", 0, "flags"), ["skye"]), "expected one of sky, .* mean sky?"),
    "a color of 256": (
        (("classes", 0, "color"), [256, 0, 0]),
        r"color\[0\] is 256, expected 0 or more",
    ),
    "the depth of four channels": (((*DEPTH, "output"), "logits"), "expected one channel"),
    "a focal length without metres": (
        ((*DEPTH, "kind"), "inverse"),
        "not in metres; if it is, add metric: true",
    ),
    "metric disparity": (
        (DEPTH, {"output": "depth", "kind": "disparity", "metric": True}),
        "is not in metres",
    ),
    "a range of nothing": (((*DEPTH, "min"), 1000), "min is 1000 and max 1000, expected min < max"),
    "a sky of both": (
        ((*DEPTH, "sky"), {"output": "depth", "above": 1, "below": 2}),
        "either above or below",
    ),
    "a scale of normalised depth": (
        (DEPTH, {"output": "depth", "kind": "normalised", "scale": 2}),
        "has no unit",
    ),
}


def changed(path, value):
    made = copy.deepcopy(RIGHT)
    at = made
    for key in path[:-1]:
        at = at[key]
    if value is GONE:
        del at[path[-1]]
    else:
        at[path[-1]] = value
    return made


@pytest.mark.parametrize("case", WRONG)
def test_a_wrong_spec_is_refused_in_one_line(folder, tmp_path, case):
    (path, value), expected = WRONG[case]
    file = folder / "wrong.yaml"
    file.write_text(yaml.safe_dump(changed(path, value)))
    with pytest.raises(WrapError, match=expected) as caught:
        wrap(file, tmp_path / "m.onnx")
    assert "\n" not in str(caught.value) and len(str(caught.value)) < 700
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", "the SPEC is None, expected entries"),
        ("name: [", r"is not YAML in line 1"),
        ("name: a\nname: b", r"the entry name is given twice \(line 1\)"),
        ("- a", "the SPEC is .* expected entries"),
        ("models:\n- &a {file: x}\n- <<: *a", r"merge key << is not supported \(line 3\)"),
        ("a: &a [x, x]\nb: &b [*a, *a]\nc: [*b, *b]", "a is not a known entry"),
    ],
)
def test_what_is_no_spec_is_refused_in_one_line(tmp_path, text, expected):
    file = tmp_path / "wrong.yaml"
    file.write_text(text)
    with pytest.raises(WrapError, match=expected) as caught:
        read_spec(file)
    assert "\n" not in str(caught.value)


def test_a_spec_that_is_a_pipe_is_refused_without_waiting_for_it(tmp_path):
    os.mkfifo(tmp_path / "pipe.yaml")
    with pytest.raises(WrapError, match=r"pipe\.yaml is not a regular file"):
        read_spec(tmp_path / "pipe.yaml")


def test_a_json_entry_that_is_given_twice_is_refused(tmp_path):
    (tmp_path / "wrong.json").write_text('{"name": "a", "name": "b"}')
    with pytest.raises(WrapError, match="the entry name is given twice"):
        read_spec(tmp_path / "wrong.json")


def test_yaml_has_the_types_of_its_version_1_2(tmp_path):
    right = """
name: off
models:
  - file: x.onnx
    input: {multiple_of: 010, scale: 1e-3, mean: [0x10, -.5, +2.]}
    labels: {output: y, kind: logits}
classes: [{name: no}, {name: 1:30}, {name: 2026-01-01}, {name: "1"}, {name: =}]
"""
    (tmp_path / "right.yaml").write_text(right)
    spec = read_spec(tmp_path / "right.yaml")
    given = spec.models[0].input
    assert (spec.name, given.multiple_of, given.scale) == ("off", 10, 0.001)
    assert given.mean == (16, -0.5, 2)
    assert [c.card.name for c in spec.classes] == ["no", "1:30", "2026-01-01", "1", "="]


def test_the_right_one_is_taken_and_entries_have_defaults(folder, tmp_path):
    (folder / "right.json").write_text(json.dumps(RIGHT))
    card = wrap(folder / "right.json", tmp_path / "m.onnx")
    assert [c.color for c in card.classes] == [(128, 0, 0), (0, 128, 0), (128, 128, 0), (1, 2, 3)]
    assert (card.system, card.fit.kind, card.network_size) == ("wrapped", "stretch", (48, 32))
    found = Perception(tmp_path / "m.onnx")(np.zeros((40, 60, 3), np.uint8), 60.0)
    assert (np.isnan(found.depth) == (found.labels == 3)).all()


@pytest.mark.parametrize("name", ["both", "any"])
def test_a_described_spec_makes_a_model_file(folder, tmp_path, capsys, name):
    assert main(["wrap", "--describe", str(folder / f"{name}.onnx")]) == 0
    text = capsys.readouterr().out
    assert "# output logits (float32 ?)" in text and text.count("# guess") > 5
    file = tmp_path / "described.yaml"
    file.write_text(text)
    assert main(["wrap", str(file), "--output", str(tmp_path / "m.onnx")]) == 0
    assert "4 classes and metric depth" in capsys.readouterr().out


def test_a_description_takes_class_names_from_the_file(folder, tmp_path):
    model = onnx.load(folder / "both.onnx")
    model.metadata_props.add(key="names", value="{0: 'road', 1: 'sky', 2: 'car', 3: 'tree'}")
    onnx.save(model, tmp_path / "named.onnx")
    classes = yaml.safe_load(describe(tmp_path / "named.onnx"))["classes"]
    assert [c["name"] for c in classes] == ["road", "sky", "car", "tree"]
    assert classes[1]["flags"] == ["sky"] and "obstacle" in classes[2]["flags"]


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        ([], 2, "expected SPEC.yaml --output MODEL.onnx, or --describe FILE.onnx"),
        (["right.json"], 2, "expected SPEC.yaml --output"),
        (["right.json", "--describe", "x.onnx"], 2, "--describe takes no SPEC"),
        (["right.json", "--output", "m.bin"], 2, "expected a name that ends in .onnx"),
        (["right.json", "--output", "none/m.onnx"], 2, "does not exist"),
        (["gone.yaml", "--output", "m.onnx"], 1, "gone.yaml cannot be read"),
        (["--describe", "gone.onnx"], 1, "there is no file gone.onnx"),
    ],
)
def test_the_command_exits_as_others_do(tmp_path, monkeypatch, capsys, arguments, code, message):
    monkeypatch.chdir(tmp_path)
    assert main(["wrap", *arguments]) == code
    assert message in capsys.readouterr().err


def test_a_file_without_a_card_is_named_with_what_to_do(folder):
    with pytest.raises(ValueError, match="depthseg wrap"):
        Perception(folder / "both.onnx")


def test_the_schema_describes_every_entry():
    def walk(schema, where):
        assert schema.get("description"), f"{where} has no description"
        for key, inside in schema.get("properties", {}).items():
            walk(inside, f"{where}.{key}")
        if "properties" in schema.get("items", {}):
            walk(schema["items"], f"{where}[]")

    walk(SCHEMA, "")
