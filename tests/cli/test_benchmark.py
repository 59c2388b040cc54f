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

import math

import onnx.parser
import pytest

from depthseg_ros.cli.speed import gflop

# A convolution with stride 2, its reversal, and a matrix product.
GRAPH = """
<ir_version: 9, opset_import: ["" : 18]>
graph (uint8[N, H, W, 3] image) => (float[A, B, C, D] y)
<float[4, 3, 3, 3] w, float[4, 5, 2, 2] v, float[D, 7] m>
{
    f = Cast<to: int = 1> (image)
    x = Transpose<perm: ints = [0, 3, 1, 2]> (f)
    a = Conv<strides: ints = [2, 2], pads: ints = [1, 1, 1, 1]> (x, w)
    b = ConvTranspose<strides: ints = [2, 2]> (a, v)
    y = MatMul (b, m)
}
"""


def save(tmp_path, text, width=32):
    path = tmp_path / "graph.onnx"
    model = onnx.parser.parse_model(text.replace("[D, 7]", f"[{width}, 7]"))
    for value in list(model.graph.initializer):
        model.graph.initializer.remove(value)
    shapes = {"w": (4, 3, 3, 3), "v": (4, 5, 2, 2), "m": (width, 7)}
    for name, shape in shapes.items():
        model.graph.initializer.append(
            onnx.helper.make_tensor(name, 1, shape, [0.0] * math.prod(shape))
        )
    onnx.save(model, path)
    return path


def test_operations_are_two_for_each_multiplication(tmp_path):
    convolution = (16 * 12 * 4) * (3 * 3 * 3)  # outputs by what each sums
    transposed = (16 * 12 * 4) * (5 * 2 * 2)  # inputs by what each adds to
    product = (5 * 24 * 7) * 32
    expected = 2 * (convolution + transposed + product) / 1e9
    assert gflop(save(tmp_path, GRAPH), (32, 24)) == pytest.approx(expected)


def test_operations_of_unknown_lengths_are_nan(tmp_path):
    unknown = GRAPH.replace("a = Conv", "s = Shape (v)\n    x2 = Resize (x, , , s)\n    a = Conv")
    unknown = unknown.replace("(x, w)", "(x2, w)")
    assert math.isnan(gflop(save(tmp_path, unknown), (32, 24)))


def test_operations_of_unknown_shapes_are_nan(tmp_path):
    unknown = GRAPH.replace("a = Conv", "x2 = Strange<to: int = 1> (x)\n    a = Conv")
    unknown = unknown.replace("(x, w)", "(x2, w)")
    assert math.isnan(gflop(save(tmp_path, unknown), (32, 24)))
