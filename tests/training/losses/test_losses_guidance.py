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

import numpy as np
import pytest
import torch

from training.losses.guidance import ranking, semantic_triplet

UNKNOWN = 255


def halves(height: int = 8, width: int = 12) -> torch.Tensor:
    """Left half class 0, right half class 1."""
    labels = torch.zeros(1, height, width, dtype=torch.uint8)
    labels[..., width // 2 :] = 1
    return labels


def test_features_alike_across_a_border_cost_the_margin():
    features = torch.ones(1, 4, 8, 12)
    assert semantic_triplet(features, halves()) == pytest.approx(0.3, abs=1e-4)
    assert semantic_triplet(features, halves(), margin=0.7) == pytest.approx(0.7, abs=1e-4)


def test_features_apart_across_a_border_cost_nothing():
    left = (halves() == 0)[:, None].float()
    features = torch.cat([5 * left, 0.1 * (1 - left)], 1)  # of length 1: at right angles
    assert semantic_triplet(features, halves()) == 0
    # Their distance is the root of 2; between features that are the same it is next to nothing.
    left_over = 2.5 - math.sqrt(2)
    assert semantic_triplet(features, halves(), margin=2.5) == pytest.approx(left_over, abs=1e-4)


@pytest.mark.parametrize(("patch", "minimum"), [(5, 3), (3, 1)])
def test_triplets_are_those_of_a_plain_loop(patch, minimum):
    generator = torch.Generator().manual_seed(2)
    features = torch.randn(2, 4, 7, 9, generator=generator)
    labels = torch.randint(0, 3, (2, 7, 9), generator=generator, dtype=torch.uint8)
    labels[0, :, :2] = UNKNOWN
    f = features.double().numpy()
    f /= np.linalg.norm(f, axis=1, keepdims=True)
    reach, terms = patch // 2, []
    for n, y, x in np.ndindex(2, 7, 9):
        distances = {True: [], False: []}
        for v in range(max(0, y - reach), min(7, y + reach + 1)):
            for u in range(max(0, x - reach), min(9, x + reach + 1)):
                if (v, u) != (y, x) and labels[n, v, u] != UNKNOWN:
                    distance = np.linalg.norm(f[n, :, y, x] - f[n, :, v, u])
                    distances[bool(labels[n, v, u] == labels[n, y, x])].append(distance)
        enough = len(distances[True]) >= minimum and len(distances[False]) > minimum
        if labels[n, y, x] != UNKNOWN and enough:
            terms.append(max(0.0, np.mean(distances[True]) - np.mean(distances[False]) + 0.3))
    assert len(terms) > 10
    got = semantic_triplet(features, labels, patch=patch, minimum=minimum)
    assert got == pytest.approx(np.mean(terms), rel=1e-4)


def test_labels_are_brought_to_the_features_size():
    features = torch.randn(1, 4, 8, 12)
    large = halves().repeat_interleave(4, 1).repeat_interleave(4, 2)
    expected = semantic_triplet(features, halves()).item()
    assert semantic_triplet(features, large) == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize("label", [0, UNKNOWN])
def test_without_borders_triplet_loss_and_gradient_are_zero(label):
    features = torch.randn(1, 4, 8, 12, requires_grad=True)
    loss = semantic_triplet(features, torch.full((1, 8, 12), label, dtype=torch.uint8))
    loss.backward()
    assert loss == 0 and (features.grad == 0).all()


def test_features_that_are_all_zero_have_finite_gradients():
    features = torch.randn(1, 4, 8, 12)
    features[..., ::2] = 0
    features.requires_grad_()
    semantic_triplet(features, halves()).backward()
    assert features.grad.isfinite().all() and (features.grad != 0).any()


def sides(left: float, right: float) -> torch.Tensor:
    return halves().float() * (right - left) + left


def test_ranking_asks_for_the_true_order():
    order = sides(2, 4)
    # All pairs are alike: across the border the depths differ by a factor.
    assert ranking(sides(3, 3), order, halves()) == pytest.approx(math.log(2), rel=1e-5)
    right = math.log(1 + math.exp(-math.log(5)))
    assert ranking(sides(1, 5), order, halves()) == pytest.approx(right, rel=1e-5)
    wrong = math.log(1 + math.exp(math.log(5)))
    assert ranking(sides(5, 1), order, halves()) == pytest.approx(wrong, rel=1e-5)
    assert ranking(100 * sides(1, 5), order, halves()) == pytest.approx(right, rel=1e-4)


def test_ranking_asks_for_equal_depths_where_they_are_equal():
    got = ranking(sides(1, 5), sides(2, 2.05), halves())
    assert got == pytest.approx(math.log(5) ** 2, rel=1e-5)
    got = ranking(sides(1, 5), sides(2, 2.07), halves())
    assert got == pytest.approx(math.log(1.2), rel=1e-5)


def test_ranking_is_near_the_borders_and_where_order_and_class_are_known():
    depth = sides(2, 1).requires_grad_()
    order = sides(2, 4)
    order[:, :4] = math.nan
    labels = halves()
    labels[:, 6:] = UNKNOWN
    ranking(depth, order, labels, reach=2).backward()
    touched = (depth.grad != 0).nonzero()
    assert set(touched[:, 1].tolist()) == {4, 5}
    assert set(touched[:, 2].tolist()) <= {4, 5, 6, 7, 8} and len(touched) > 0


@pytest.mark.parametrize(
    ("order", "labels"),
    [
        (sides(2, 4), torch.zeros(1, 8, 12, dtype=torch.uint8)),
        (sides(2, 4), torch.full((1, 8, 12), UNKNOWN, dtype=torch.uint8)),
        (torch.full((1, 8, 12), math.nan), halves()),
        (torch.zeros(1, 8, 12), halves()),
    ],
)
def test_without_borders_or_order_ranking_and_gradient_are_zero(order, labels):
    depth = (1 + torch.rand(1, 8, 12)).requires_grad_()
    loss = ranking(depth, order, labels)
    loss.backward()
    assert loss == 0 and (depth.grad == 0).all()


def test_autocast_and_halves_are_computed_in_float32():
    features = torch.randn(1, 4, 8, 12).half()
    expected = semantic_triplet(features.float(), halves())
    with torch.autocast("cpu", dtype=torch.bfloat16):
        got = semantic_triplet(features, halves())
        ordered = ranking(sides(1, 5).half(), sides(2, 4), halves())
    assert got.dtype == ordered.dtype == torch.float32
    assert got == pytest.approx(expected.item(), rel=1e-6)
    assert ordered == pytest.approx(math.log(1.2), rel=1e-5)
