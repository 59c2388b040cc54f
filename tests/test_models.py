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


"""The command line runs each of the package's models; by `make lowest` also with old versions."""

import json

import cv2
import numpy as np
import onnx
import onnx.parser
import pytest
import yaml

from depthseg_ros import model_card, street
from depthseg_ros.cli import main as cli
from depthseg_ros.perception import Perception

MODELS = sorted(path.stem for path in model_card.default_model().parent.glob("*.onnx"))


def test_there_are_models():
    assert {"street", "street-int8", "indoor"} <= set(MODELS)


@pytest.mark.parametrize("name", MODELS)
def test_old_runtimes_know_all_operator_sets(name):
    """ONNX Runtime refuses a set that it does not know, even where no node is of it."""
    model = onnx.load(model_card.default_model().with_stem(name))
    assert {opset.domain for opset in model.opset_import} == {""}


@pytest.mark.parametrize("name", MODELS)
def test_every_command_runs_the_model(name, tmp_path, capsys):
    picture, output = tmp_path / "a.png", tmp_path / "out"
    cv2.imwrite(str(picture), street.Street(7, 320, 240).frame(0).image[..., ::-1])
    model = model_card.default_model().with_stem(name)
    name = name if name.isidentifier() else str(model)
    assert cli.main(["doctor", "--model", str(model)]) == 0
    assert cli.main(["predict", name, str(picture), "--output", str(output), "--fx", "270"]) == 0
    if model_card.read(model).classes:
        assert len({*cv2.imread(str(output / "a.labels.png"), cv2.IMREAD_GRAYSCALE).ravel()}) > 1
    assert (cv2.imread(str(output / "a.depth.png"), cv2.IMREAD_UNCHANGED) > 0).any()
    page = tmp_path / "report.html"
    assert cli.main(["report", name, "street", "--count", "1", "--output", str(page)]) == 0
    assert page.stat().st_size > 10_000
    capsys.readouterr()
    assert cli.main(["info", name, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["name"]
    assert cli.main(["benchmark", name, "--size", "320x240", "--rounds", "1", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)[0]["ms"] > 0


FOREIGN = """
<ir_version: 8, opset_import: ["" : 17]>
foreign (float[N, 3, H, W] x) => (float[N, 3, H, W] y) { y = Neg (x) }
"""


def test_a_wrapped_network_gives_the_same_again(tmp_path):
    """ONNX Runtime before 1.19 overwrote the image's size from the second run on."""
    onnx.save(onnx.parser.parse_model(FOREIGN), tmp_path / "foreign.onnx")
    given = {"multiple_of": 16, "scale": 1}
    labels = {"output": "y", "kind": "logits"}
    spec = {
        "name": "foreign",
        "models": [{"file": "foreign.onnx", "input": given, "labels": labels}],
        "classes": [{"name": name} for name in "rgb"],
    }
    (tmp_path / "spec.yaml").write_text(yaml.safe_dump(spec))
    model = str(tmp_path / "m.onnx")
    assert cli.main(["wrap", str(tmp_path / "spec.yaml"), "--output", model]) == 0
    perception = Perception(model)
    noise = np.random.default_rng(0).integers(0, 256, (9, 12, 3), np.uint8)
    for size in ((150, 100), (150, 100), (96, 200), (150, 100)):
        image = cv2.resize(noise, size)
        expected = image.argmin(2)
        assert np.mean(perception(image).labels == expected) > 0.95
