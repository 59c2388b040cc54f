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

"""Images are resized as the libraries of a network's authors do, value by value."""

from types import SimpleNamespace

import cv2
import numpy as np
import onnxruntime
import pytest
from onnx import TensorProto, helper

from depthseg_ros.wrap.nodes import FLOAT, IMAGE, Nodes
from depthseg_ros.wrap.resize import resized_image

pytest.importorskip("PIL", minversion="13")  # earlier versions do columns first, always
from PIL import Image

SIZES = [
    ((640, 480), (512, 256)),
    ((480, 640), (512, 256)),
    ((375, 1242), (513, 513)),
    ((200, 100), (100, 50)),  # halves: every second value is a tie
    ((120, 310), (121, 309)),
    ((64, 48), (150, 211)),
    ((90, 90), (90, 45)),
    ((7, 400), (30, 3)),
]


def resizing(size, mode, antialias=True):
    """A serialised model of the operators of `depthseg wrap` that resize an image."""
    nodes = Nodes()
    new = (nodes.constant([size[1]]), nodes.constant([size[0]]))
    spec = SimpleNamespace(resize=mode, antialias=antialias, round=True)
    nodes.rename(resized_image(nodes, nodes.size(IMAGE, (1, 2)), new, spec), "resized")
    given = helper.make_tensor_value_info(IMAGE, TensorProto.UINT8, ["n", "h", "w", 3])
    made = helper.make_tensor_value_info("resized", FLOAT, None)
    graph = helper.make_graph(nodes.nodes, "resize", [given], [made], nodes.constants)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=8)
    return model.SerializeToString()


def resized(image, size, mode, antialias=True):
    """The image resized by them, (h, w, 3)."""
    session = onnxruntime.InferenceSession(resizing(size, mode, antialias))
    return session.run(None, {IMAGE: image[None]})[0][0].transpose(1, 2, 0)


def noise(size, smooth):
    random = np.random.default_rng(sum(size))
    if not smooth:
        return random.integers(0, 256, (*size[::-1], 3), np.uint8)
    return cv2.resize(random.integers(0, 256, (9, 12, 3), np.uint8), size)


@pytest.mark.parametrize("smooth", [False, True], ids=["noise", "smooth"])
@pytest.mark.parametrize(("old", "new"), SIZES)
def test_antialiased_linear_equals_pillow(old, new, smooth):
    image = noise(old, smooth)
    expected = np.asarray(Image.fromarray(image).resize(new, Image.BILINEAR))
    assert np.array_equal(resized(image, new, "linear"), expected)


@pytest.mark.parametrize(("old", "new"), SIZES)
def test_antialiased_cubic_is_pillow_but_for_rare_ties(old, new):
    image = noise(old, smooth=False)
    expected = np.asarray(Image.fromarray(image).resize(new, Image.BICUBIC)).astype(int)
    difference = np.abs(resized(image, new, "cubic") - expected)
    assert difference.max() <= 1 and np.mean(difference > 0) < 1e-3


@pytest.mark.parametrize(
    ("old", "new"),
    [*SIZES, ((480, 600), (336, 420)), ((1920, 1080), (700, 394)), ((384, 512), (385, 513))],
)
def test_linear_is_opencv_but_for_rare_pixels_and_the_same_in_openvino(old, new):
    image = noise(old, smooth=False)
    found = resized(image, new, "linear", antialias=False)
    differs = found != cv2.resize(image, new)
    assert np.mean(differs) < 5e-5
    assert not differs[[0, -1]].any()  # enlarged, these rows come from places beyond the image
    openvino = pytest.importorskip("openvino")
    model = openvino.Core().read_model(resizing(new, "linear", antialias=False))
    run = openvino.compile_model(model, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    assert np.array_equal(run(image[None])[0][0].transpose(1, 2, 0), found)
