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

"""Depth confidence that is as high as the share of depths within 10 %."""

import math

import numpy as np
import pytest
import torch

from training.data.sample import Sample
from training.data.sources import Source
from training.engine.task import JointTask
from training.evaluation.spread import spread
from training.models.served import within_share
from training.models.systems.shared_encoder import SharedEncoder


class Noisy(torch.utils.data.Dataset):
    """Images whose true depth differs from the model's by Laplace errors of known scale."""

    def __init__(self, depths, log_scale, spread):
        self.depths, self.log_scale, self.spread = depths, log_scale, spread

    def __len__(self):
        return len(self.depths)

    def __getitem__(self, index):
        factor, power = self.spread
        b = factor * np.exp(power * self.log_scale[index])
        errors = np.random.default_rng(index).laplace(0, b)
        image = np.full((*b.shape, 3), index, np.uint8)
        depth = (self.depths[index] * np.exp(errors)).astype(np.float32)
        return Sample(image, None, None if power == 0 else depth, 90.0)


@pytest.mark.parametrize("expected", [(1.0, 1.0), (0.5, 1.4), (3.0, 0.7)])
def test_the_spread_of_errors_is_found(expected, monkeypatch):
    torch.manual_seed(0)
    system = SharedEncoder(
        widths=(16,) * 4, depths=(1,) * 4, context=8, decoder=(8,) * 3, heads=(8, 8),
        tasks=["depth"], depth_scale=True,
    )  # fmt: skip
    served = JointTask(system, network_size=(96, 64)).served.eval()
    rng = np.random.default_rng(1)
    log_scale = rng.uniform(-3.5, -0.5, (3, 60, 80)).astype(np.float32)
    images = torch.arange(3, dtype=torch.uint8)[:, None, None, None].expand(3, 60, 80, 3)
    with torch.inference_mode():
        depths = served(images, torch.full((3,), 90.0))[0].numpy()
    scales = torch.from_numpy(log_scale)[:, None]
    monkeypatch.setattr(
        type(served), "log_scale", lambda _, image: scales[[int(image[0, 0, 0, 0])]]
    )

    def source(of):
        return Source("made", "val", Noisy(depths, log_scale, of), None, "", "")

    assert spread(served, [source(expected)]) == pytest.approx(expected, rel=0.1)
    with pytest.warns(UserWarning, match="not calibrated: no image of the data has depth"):
        assert spread(served, [source((1.0, 0))]) == (1.0, 1.0)


def test_the_share_within_a_tenth_is_that_of_a_laplace_distribution():
    b = torch.tensor([0.01, 0.1, 1.0])
    expected = 1 - np.exp(-math.log(1.1) / b.numpy())
    assert within_share(b.log()).numpy() == pytest.approx(expected, rel=1e-5)
    wider = within_share(b.log(), (2.0, 1.5)).numpy()
    assert wider == pytest.approx(1 - np.exp(-math.log(1.1) / (2 * b.numpy() ** 1.5)), rel=1e-5)
