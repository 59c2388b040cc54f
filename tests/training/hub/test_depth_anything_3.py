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

"""Depth Anything 3 in transformers' modules, against figures of its authors' code."""

import json

import numpy as np
import pytest
import torch

from tests.training.hub.small_models import depth_anything_3
from training.errors import TrainingError
from training.hub import depth_anything_3 as da3
from training.hub.depth_anything_3 import DepthAnything3

# What DinoVisionTransformer and DPT of ByteDance-Seed/Depth-Anything-3 give with the weights of
# `small_models.depth_anything_3` for `waves`: of depth every 12th row from 3 and every 20th column
# from 5, and the mean of the sky output.
AUTHORS = {
    (28, 42): ([[2.34533, 7.46691], [3.61023, 6.51782], [1.83289, 2.05769]], 0.0211025),
    (56, 98): (
        [
            [2.04004, 4.46743, 3.75974, 3.5338, 4.68409],
            [3.48321, 2.80453, 4.50919, 4.12819, 4.06202],
            [3.57243, 5.25577, 4.42006, 5.38169, 7.2382],
            [3.52846, 5.27736, 3.16125, 6.24446, 4.20327],
            [4.10301, 7.9899, 6.62249, 13.3927, 7.52883],
        ],
        0.0096153,
    ),
}


def waves(height, width):
    y, x = np.mgrid[:height, :width]
    image = np.stack([np.sin(x / 5), np.cos(y / 4), np.sin((x + y) / 9)])
    return torch.from_numpy(image.astype(np.float32))[None]


def test_depth_and_sky_are_those_of_the_authors_code(tmp_path):
    model = DepthAnything3(depth_anything_3(tmp_path)).eval()
    assert model.kind == "metric"
    for size, (depth, sky) in AUTHORS.items():
        with torch.no_grad():
            found = model(waves(*size))
        assert found[0].shape == found[1].shape == (1, *size)
        np.testing.assert_allclose(found[0][0, 3::12, 5::20], depth, rtol=1e-5)
        assert float(found[1].mean()) == pytest.approx(sky, rel=1e-4)


def test_the_networks_size_is_that_of_the_authors_api():
    assert da3.network_size(480, 640) == (378, 504)
    assert da3.network_size(1080, 1920) == (280, 504)
    assert da3.network_size(1920, 1080) == (504, 280)
    assert da3.network_size(375, 1242) == (154, 504)
    assert da3.network_size(20, 2000) == (14, 504)


def test_other_networks_and_weights_are_one_line(tmp_path):
    folder = depth_anything_3(tmp_path, "da3-large")
    with pytest.raises(TrainingError, match="is da3-large, a network for several images; expected"):
        DepthAnything3(folder)
    depth_anything_3(tmp_path, "da3mono-large")
    assert da3.kind_of(folder) == "up-to-scale"
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "depth_anything"}))
    assert da3.kind_of(folder) is None
    (tmp_path / "config.json").write_text('{"model_name": "da3metric-large"}')
    with pytest.raises(TrainingError, match="has no weights of metric"):
        DepthAnything3(folder)  # the layers of the large network
    (tmp_path / "model.safetensors").unlink()
    with pytest.raises(TrainingError, match=r"has no model\.safetensors"):
        DepthAnything3(folder)
