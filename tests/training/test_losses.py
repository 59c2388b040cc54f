import math

import pytest
import torch

from training import losses

RANGE = (math.log(0.5), math.log(150.0))


def test_cross_entropy_counts_labelled_pixels_alone():
    logits = torch.randn(2, 3, 4, 5)
    labels = torch.full((2, 4, 5), 255, dtype=torch.uint8)
    labels[0, 0, 0], labels[1, 2, 3] = 2, 0
    by_hand = -(logits.log_softmax(1)[0, 2, 0, 0] + logits.log_softmax(1)[1, 0, 2, 3]) / 2
    assert losses.cross_entropy(logits, labels) == pytest.approx(by_hand.item(), rel=1e-6)
    weights = torch.tensor([1.0, 9.0, 3.0])
    weighted = -(3 * logits.log_softmax(1)[0, 2, 0, 0] + logits.log_softmax(1)[1, 0, 2, 3]) / 4
    got = losses.cross_entropy(logits, labels, weights)
    assert got == pytest.approx(weighted.item(), rel=1e-6)


def test_relative_l1_is_abs_rel_where_depth_is_known():
    truth = torch.tensor([[[2.0, 10.0, math.nan]]])
    predicted = torch.tensor([[[2.2, 8.0, 99.0]]]).log()
    assert losses.relative_l1(predicted, truth, RANGE) == pytest.approx((0.1 + 0.2) / 2, rel=1e-5)


def test_relative_l1_goes_on_in_proportion_to_the_logarithm():
    truth = torch.ones(1, 1, 1)
    at = [losses.relative_l1(torch.full((1, 1, 1), x), truth, RANGE).item() for x in (1, 2, 3)]
    assert at == pytest.approx([math.e - 1, 2 * math.e - 1, 3 * math.e - 1], rel=1e-5)


def test_depth_beyond_the_range_asks_for_the_ranges_end():
    truth = torch.full((1, 4, 4), 1000.0)
    at_the_end = torch.full((1, 4, 4), RANGE[1])
    assert losses.relative_l1(at_the_end, truth, RANGE) == pytest.approx(0, abs=1e-5)


def test_log_gradient_sees_shape_and_not_scale():
    truth = torch.linspace(1, 9, 48).reshape(1, 6, 8)
    assert losses.log_gradient((2 * truth).log(), truth, RANGE) == pytest.approx(0, abs=1e-6)
    flat = torch.full_like(truth, 3).log()
    assert losses.log_gradient(flat, truth, RANGE, scales=1) == pytest.approx(
        sum(truth.log().diff(dim=axis).abs().mean().item() for axis in (1, 2)), rel=1e-5
    )


def test_where_nothing_is_known_losses_and_gradients_are_zero():
    logits = torch.randn(2, 3, 8, 8, requires_grad=True)
    log_depth = torch.randn(2, 8, 8, requires_grad=True)
    labels = torch.full((2, 8, 8), 255, dtype=torch.uint8)
    depth = torch.full((2, 8, 8), math.nan)
    total = (
        losses.cross_entropy(logits, labels, torch.ones(3))
        + losses.cross_entropy(logits, labels)
        + losses.relative_l1(log_depth, depth, RANGE)
        + losses.log_gradient(log_depth, depth, RANGE)
    )
    total.backward()
    assert total == 0
    assert (logits.grad == 0).all() and (log_depth.grad == 0).all()
