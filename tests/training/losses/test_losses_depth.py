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
import torch.nn.functional as F
from scipy import ndimage
from torchmetrics.functional.image import structural_similarity_index_measure

from training.losses.by_name import DEPTH, multi_output
from training.losses.depth import (
    attention,
    berhu,
    binary_cross_entropy,
    l1,
    laplace,
    log_gradient,
    relative_l1,
    rmse,
    silog,
    sobel,
    ssim,
)

NAN = math.nan
NEIGHBOURLESS = sorted(set(DEPTH) - {"ssim", "sobel", "log_gradient"})


def row(*values: float) -> torch.Tensor:
    return torch.tensor([[values]])


def l1_of_channel(output: torch.Tensor, truth: torch.Tensor) -> torch.Tensor:
    return l1(output[:, 0], truth)


def random_batch() -> tuple[torch.Tensor, torch.Tensor]:
    """Depths from 0.05 to 0.95, which every loss takes."""
    generator = torch.Generator().manual_seed(1)
    both = 0.05 + 0.9 * torch.rand(2, 2, 12, 14, generator=generator)
    return both[0], both[1]


def test_l1_is_the_mean_absolute_error():
    assert l1(row(1, 5, 9), row(2, 3, NAN)) == pytest.approx(1.5)


def test_laplace_is_least_at_the_true_scale_and_teaches_the_scale_alone():
    truth = torch.full((1, 200, 200), 5.0)
    errors = np.random.default_rng(0).laplace(0, 0.2, truth.shape)
    prediction = (truth * torch.from_numpy(np.exp(errors)).float()).requires_grad_()
    truth[0, 0, 0] = NAN
    candidates = [0.1, 0.18, 0.2, 0.22, 0.4]
    found = {b: laplace(torch.full_like(truth, math.log(b)), prediction, truth) for b in candidates}
    assert min(found, key=found.get) == 0.2
    # The entropy of the distribution.
    assert found[0.2].item() == pytest.approx(math.log(2 * math.e * 0.2), abs=0.02)
    scale = torch.full_like(truth, math.log(0.4)).requires_grad_()
    laplace(scale, prediction, truth).backward()
    assert prediction.grad is None and (scale.grad.sum() > 0) and scale.grad[0, 0, 0] == 0


def test_berhu_is_quadratic_from_a_fifth_of_the_greatest_error_on():
    # Errors 1 and 0.1, threshold 0.2: (1 + 0.04) / 0.4 = 2.6 and 0.1.
    assert berhu(row(2, 3.1, 99), row(1, 3, NAN)) == pytest.approx((2.6 + 0.1) / 2, rel=1e-5)


def test_rmse_is_rounded_at_zero():
    expected = math.sqrt((1 + 4) / 2 + 1e-6)
    assert rmse(row(1, 5, 9), row(2, 3, NAN)) == pytest.approx(expected, rel=1e-6)
    assert rmse(row(1, 5), row(1, 5)) == pytest.approx(1e-3, rel=1e-4)


def test_silog_is_the_root_of_eigens_measure():
    prediction, truth = random_batch()
    d = np.log(prediction.double().numpy()) - np.log(truth.double().numpy())
    expected = math.sqrt((d**2).mean() - 0.85 * d.mean() ** 2)
    assert silog(prediction, truth) == pytest.approx(expected, rel=1e-5)


def test_silog_sees_no_scale_with_full_variance_focus_and_no_zero():
    _, truth = random_batch()
    assert silog(3 * truth, truth, variance_focus=1) == pytest.approx(0, abs=1e-5)
    assert silog(3 * truth, truth) == pytest.approx(math.sqrt(0.15) * math.log(3), rel=1e-5)
    assert silog(row(2, 5), row(1, 0)) == pytest.approx(math.sqrt(0.15) * math.log(2), rel=1e-5)


def test_ssim_is_torchmetrics():
    prediction, truth = random_batch()
    _, similarity = structural_similarity_index_measure(
        prediction[:, None], truth[:, None], data_range=1.0, return_full_image=True
    )
    assert ssim(prediction, truth) == pytest.approx(1 - similarity.mean().item(), rel=1e-4)


def test_ssim_of_flat_depths_compares_their_means():
    prediction, truth = torch.full((1, 8, 8), 0.5), torch.full((1, 8, 8), 0.25)
    expected = 1 - (2 * 0.5 * 0.25 + 1e-4) / (0.25 + 0.0625 + 1e-4)
    assert ssim(prediction, truth) == pytest.approx(expected, rel=1e-4)


def test_ssim_of_metres_is_in_terms_of_the_greatest_depth():
    prediction, truth = random_batch()
    prediction, truth = (x / truth.amax((1, 2), keepdim=True) for x in (prediction, truth))
    expected = ssim(prediction, truth).item()
    assert ssim(80 * prediction, 80 * truth) == pytest.approx(expected, rel=1e-4)


def test_ssim_takes_unknown_pixels_as_said():
    prediction, _ = random_batch()
    known = prediction.clone()
    known[:, 3:5, 2:9] = NAN
    assert ssim(prediction, known) == pytest.approx(0, abs=1e-5)


def test_attention_is_the_papers_beyond_one_metre():
    # ln 2 and 1: lambda = 1/2.
    expected = (math.e**2 + 0.5) * (math.e**2 - math.e)
    assert attention(row(math.e, 7), row(math.e**2, NAN)) == pytest.approx(expected, rel=1e-5)
    expected = (math.e + 0.5) * (math.e**2 - math.e)
    assert attention(row(math.e**2), row(math.e)) == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize(
    ("said", "true", "weight"),
    [
        (0.5, 0.25, 0.5),  # both logarithms negative: the lesser magnitude is half the greater
        (2.0, 0.5, 1.0),  # of two signs
        (0.5, 2.0, 1.0),
        (1.0, 2.0, 1.0),  # one is 0
        (1.0, 1.0, 1.0),  # both are, and so is the error
        (0.0, 0.0, 0.0),
    ],
)
def test_attention_stays_within_bounds_nearer_than_one_metre(said, true, weight):
    expected = (true + weight) * abs(said - true)
    assert attention(row(said), row(true)) == pytest.approx(expected, rel=1e-5)


def test_sobel_is_the_l1_norm_of_scipys_gradients():
    prediction, truth = random_batch()
    error = (prediction - truth).double().numpy()
    gradients = [
        np.stack([ndimage.sobel(e, axis=axis, mode="nearest") / 8 for e in error])
        for axis in (0, 1)
    ]
    expected = sum(np.abs(g) for g in gradients).mean()
    assert sobel(prediction, truth) == pytest.approx(expected, rel=1e-5)


def test_sobel_leaves_out_what_touches_the_unknown():
    truth = torch.full((1, 6, 8), 3.0)
    prediction = truth.clone()
    prediction[0, 2, 3] = 50
    assert sobel(prediction, truth) > 1
    truth[0, 2, 3] = NAN
    assert sobel(prediction, truth) == 0
    ramp = torch.arange(8.0).expand(1, 6, 8)
    # A slope of 1; its half in the two outermost of 8 columns; 3 x 3 pixels of slope 1 left out.
    assert sobel(truth.nan_to_num(3) + ramp, truth) == pytest.approx((6 * 7 - 9) / (48 - 9))


def test_relative_l1_is_abs_rel_where_depth_is_known():
    got = relative_l1(row(2.2, 8.0, 99.0), row(2.0, 10.0, NAN))
    assert got == pytest.approx((0.1 + 0.2) / 2, rel=1e-5)


def test_relative_l1_goes_on_in_proportion_to_the_logarithm():
    at = [relative_l1(row(math.exp(x)), row(1.0)).item() for x in (1, 2, 3)]
    assert at == pytest.approx([math.e - 1, 2 * math.e - 1, 3 * math.e - 1], rel=1e-5)


def test_log_gradient_sees_shape_and_not_scale():
    truth = torch.linspace(1, 9, 48).reshape(1, 6, 8)
    assert log_gradient(2 * truth, truth) == pytest.approx(0, abs=1e-6)
    expected = sum(truth.log().diff(dim=axis).abs().mean().item() for axis in (1, 2))
    got = log_gradient(torch.full_like(truth, 3), truth, scales=1)
    assert got == pytest.approx(expected, rel=1e-5)


def test_binary_cross_entropy_is_torchs():
    prediction, truth = random_batch()
    expected = F.binary_cross_entropy(prediction, truth).item()
    assert binary_cross_entropy(prediction, truth) == pytest.approx(expected, rel=1e-5)


def test_a_prediction_at_the_wrong_end_is_drawn_back():
    prediction = row(0.0, 1.0, 1e-9).requires_grad_()
    loss = binary_cross_entropy(prediction, row(1.0, 0.0, 0.5))
    loss.backward()
    assert loss.isfinite() and prediction.grad.isfinite().all()
    assert (prediction.grad.sign() == row(-1, 1, -1)).all()


def test_outputs_of_several_sizes_are_each_supervised():
    truth = torch.full((1, 8, 8), 0.5)
    truth[:, :4] = NAN
    outputs = [torch.full((1, 1, n, n), said) for n, said in ((8, 0.5), (4, 0.7), (1, 0.2))]
    got = multi_output(l1_of_channel, outputs, truth)
    assert got == pytest.approx(0 + 0.2 + 0.3, rel=1e-5)


def test_side_outputs_are_resized_bilinearly():
    ramp = torch.arange(8.0).expand(1, 8, 8)
    half = F.avg_pool2d(ramp[:, None], 2)  # exact again inside, but for the outermost columns
    inside = ramp.clone()
    inside[:, :, [0, -1]] = NAN
    assert multi_output(l1_of_channel, [half], inside) == pytest.approx(0, abs=1e-5)


@pytest.mark.parametrize("unknown", [NAN, math.inf])
@pytest.mark.parametrize("name", DEPTH)
def test_where_no_depth_is_known_loss_and_gradient_are_zero(name, unknown):
    prediction = torch.rand(2, 8, 8, requires_grad=True)
    loss = DEPTH[name](prediction, torch.full((2, 8, 8), unknown))
    loss.backward()
    assert loss == 0 and (prediction.grad == 0).all()


@pytest.mark.parametrize("name", DEPTH)
def test_unknown_pixels_get_no_gradient(name):
    prediction, truth = random_batch()
    truth[:, 4:7, 5:] = NAN
    truth[1, :, :3] = NAN
    prediction.requires_grad_()
    loss = DEPTH[name](prediction, truth)
    loss.backward()
    assert loss > 0 and prediction.grad.isfinite().all()
    assert (prediction.grad[truth.isnan()] == 0).all()
    assert (prediction.grad[truth.isfinite()] != 0).any()


@pytest.mark.parametrize("name", NEIGHBOURLESS)
def test_unknown_pixels_change_nothing(name):
    prediction, truth = random_batch()
    expected = DEPTH[name](prediction[:, :7], truth[:, :7]).item()
    truth[:, 7:] = NAN
    assert DEPTH[name](prediction, truth) == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("said", [0.0, 1e-8, 0.25, 1.0, 100.0])
@pytest.mark.parametrize("name", DEPTH)
def test_extreme_predictions_have_finite_losses_and_gradients(name, said):
    truth = torch.full((1, 8, 8), 0.25)
    truth[:, 0, 0], truth[:, 5, 5], truth[:, 2, 2], truth[:, 4, 4] = NAN, 0, 1, 80
    prediction = torch.full((1, 8, 8), said, requires_grad=True)
    loss = DEPTH[name](prediction, truth)
    loss.backward()
    assert loss.isfinite() and prediction.grad.isfinite().all()


@pytest.mark.parametrize("name", DEPTH)
def test_a_perfect_prediction_has_next_to_no_loss_and_a_finite_gradient(name):
    _, truth = random_batch()
    prediction = truth.clone().requires_grad_()
    loss = DEPTH[name](prediction, truth)
    loss.backward()
    entropy = F.binary_cross_entropy(truth, truth).item()
    least = {"rmse": 1e-3, "binary_cross_entropy": entropy}.get(name, 0)
    assert loss.item() == pytest.approx(least, abs=2e-5)
    assert prediction.grad.isfinite().all()


@pytest.mark.parametrize("name", DEPTH)
def test_autocast_and_half_predictions_are_computed_in_float32(name):
    prediction, truth = random_batch()
    half = prediction.half()
    expected = DEPTH[name](half.float(), truth)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        got = DEPTH[name](half, truth)
    assert got.dtype == torch.float32
    assert got == pytest.approx(expected.item(), rel=1e-6)


def test_log_l1_is_least_at_the_median():
    """Where the truth of what looks alike is 1, 2 or 8 m, it settles at 2, relative_l1 at 1."""
    truth = torch.tensor([[[1.0, 2.0, 8.0]]])
    said = torch.linspace(0.5, 10, 200)

    def best(loss):
        return float(min(said, key=lambda d: float(loss(torch.full((1, 1, 3), float(d)), truth))))

    assert best(DEPTH["log_l1"]) == pytest.approx(2, abs=0.05)
    assert best(DEPTH["relative_l1"]) == pytest.approx(1, abs=0.05)
    two = DEPTH["log_l1"](torch.tensor([[[1.0, 4.0]]]), torch.tensor([[[2.0, float("nan")]]]))
    assert float(two) == pytest.approx(math.log(2))
