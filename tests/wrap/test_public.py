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

"""Public networks: the SPECs of config/wrap, and the files of ../shared/data/teachers."""

import json
from pathlib import Path

import cv2
import numpy as np
import onnxruntime
import pytest
import yaml

from depthseg_ros.model_card import fitted_size
from depthseg_ros.perception import Perception
from depthseg_ros.wrap import WrapError, wrap
from depthseg_ros.wrap.spec import read_spec

ROOT = Path(__file__).resolve().parents[2]
SPECS = sorted((ROOT / "config" / "wrap").glob("*.yaml"))
MEAN, STD = np.array([0.485, 0.456, 0.406]), np.array([0.229, 0.224, 0.225])


@pytest.mark.parametrize("path", SPECS, ids=lambda path: path.stem)
def test_every_spec_is_right_but_for_its_network(path, tmp_path):
    spec = read_spec(path)
    assert spec.terms and path.read_text().startswith("# yaml-language-server: $schema=schema.json")
    with pytest.raises(WrapError, match="there is no file"):
        wrap(path, tmp_path / "m.onnx")
    assert path.stem in (ROOT / "docs" / "model_zoo.md").read_text()


def as_imagenet(image):
    return (image / np.float32(255) - MEAN) / STD


def as_deeplab(image):
    return (image - np.float32(128)) / 128


def stretched(width, height):
    def shaped(image):
        pytest.importorskip(
            "PIL", minversion="13"
        )  # of earlier versions, columns always come first
        from PIL import Image as pillow

        return np.asarray(pillow.fromarray(image).resize((width, height), pillow.BILINEAR))

    return shaped


def fitted(pixels, offset):
    def shaped(image):
        height, width = image.shape[:2]
        return cv2.resize(image, fitted_size(width, height, pixels, 16, offset))

    return shaped


@pytest.mark.parametrize(
    ("name", "shaped", "normalised"),
    [
        ("espnetv2_512x256", stretched(512, 256), as_imagenet),
        ("espnetv2_1024x512", stretched(1024, 512), as_imagenet),
        ("deeplab_cityscapes", fitted(1025 * 513, 1), as_deeplab),
        ("deeplab_ade20k", fitted(512 * 512, 0), as_deeplab),
    ],
)
def test_a_public_network_is_served_as_its_authors_run_it(
    shared_data, tmp_path, monkeypatch, name, shaped, normalised
):
    spec = ROOT / "config" / "wrap" / f"{name}.yaml"
    monkeypatch.chdir(shared_data / "teachers")
    wrap(spec, tmp_path / "m.onnx")
    images = sorted((shared_data / "labelmefacade").rglob("*.jpg"))
    photograph = cv2.imread(str(images[0]))[..., ::-1]
    entries = yaml.safe_load(spec.read_text())["models"][0]
    session = onnxruntime.InferenceSession(entries["file"], providers=["CPUExecutionProvider"])
    served = Perception(tmp_path / "m.onnx")
    shapes = [photograph[:300].copy()]
    if "512x256" in name:  # Pillow resizes upright images in another order
        shapes.append(photograph[:, :230].copy())
    for image in shapes:
        x = normalised(shaped(image)).transpose(2, 0, 1)[None].astype(np.float32)
        logits = session.run(["logits"], {"input": x})[0][0]
        logits = np.delete(logits, entries["labels"].get("ignore", []), 0)
        by_hand = np.argmax([cv2.resize(c, image.shape[1::-1]) for c in logits], 0)
        assert np.mean(served(image).labels == by_hand) > 0.9995
        assert len(np.unique(by_hand)) > 3


def test_the_schema_for_editors_is_json():
    schema = json.loads((ROOT / "config" / "wrap" / "schema.json").read_text())
    assert schema["properties"]["models"]["maxItems"] == 2
