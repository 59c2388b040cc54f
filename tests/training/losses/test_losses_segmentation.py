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

import kornia
import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torchmetrics.functional.classification import multiclass_f1_score

from training.losses.by_name import SEGMENTATION, multi_output
from training.losses.segmentation import binary_cross_entropy, cross_entropy, dice, focal

UNKNOWN = 255


def random_batch(classes: int) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(1)
    logits = 2 * torch.randn(2, classes, 6, 7, generator=generator)
    labels = torch.randint(0, max(classes, 2), (2, 6, 7), generator=generator, dtype=torch.uint8)
    return logits, labels


def test_cross_entropy_counts_labelled_pixels_alone():
    logits, _ = random_batch(3)
    labels = torch.full((2, 6, 7), UNKNOWN, dtype=torch.uint8)
    labels[0, 0, 0], labels[1, 2, 3] = 2, 0
    surprise = -logits.log_softmax(1)
    by_hand = (surprise[0, 2, 0, 0] + surprise[1, 0, 2, 3]) / 2
    assert cross_entropy(logits, labels) == pytest.approx(by_hand.item(), rel=1e-6)
    weights = torch.tensor([1.0, 9.0, 3.0])
    weighted = (3 * surprise[0, 2, 0, 0] + surprise[1, 0, 2, 3]) / 4
    assert cross_entropy(logits, labels, weights) == pytest.approx(weighted.item(), rel=1e-6)


def test_cross_entropy_is_torchs():
    logits, labels = random_batch(4)
    labels[0, :3] = UNKNOWN
    weights = torch.tensor([0.5, 1.0, 2.0, 4.0])
    for w in (None, weights):
        expected = F.cross_entropy(logits, labels.long(), w, ignore_index=UNKNOWN)
        assert cross_entropy(logits, labels, w) == pytest.approx(expected.item(), rel=1e-5)


@pytest.mark.parametrize("loss", [cross_entropy, binary_cross_entropy])
def test_one_logit_is_that_of_the_foreground(loss):
    logits, labels = random_batch(1)
    expected = F.binary_cross_entropy_with_logits(logits[:, 0], labels.float())
    assert loss(logits, labels) == pytest.approx(expected.item(), rel=1e-5)
    weights = torch.tensor([1.0, 3.0])
    weighted = F.binary_cross_entropy_with_logits(
        logits[:, 0], labels.float(), weights[labels.long()], reduction="sum"
    )
    expected = weighted / weights[labels.long()].sum()
    assert loss(logits, labels, weights) == pytest.approx(expected.item(), rel=1e-5)


def test_binary_cross_entropy_sets_each_class_against_the_others():
    logits, labels = random_batch(3)
    one_hot = F.one_hot(labels.long(), 3).permute(0, 3, 1, 2).float()
    expected = F.binary_cross_entropy_with_logits(logits, one_hot)
    assert binary_cross_entropy(logits, labels) == pytest.approx(expected.item(), rel=1e-5)


def test_dice_of_hard_predictions_is_the_f1_score():
    _, labels = random_batch(3)
    said = labels.roll(1, dims=2)
    logits = 100 * F.one_hot(said.long(), 3).permute(0, 3, 1, 2).float()
    scores = multiclass_f1_score(said.flatten(), labels.flatten(), 3, average=None)
    expected = 1 - scores.mean().item()
    assert dice(logits, labels, smoothing=0) == pytest.approx(expected, rel=1e-5)
    weights = torch.tensor([1.0, 2.0, 5.0])
    expected = 1 - (scores * weights).sum().item() / 8
    assert dice(logits, labels, weights, smoothing=0) == pytest.approx(expected, rel=1e-5)


def test_dice_is_the_mean_over_the_classes_present():
    labels = torch.tensor([[[0, 0, 2, UNKNOWN]]], dtype=torch.uint8)
    probability = torch.tensor([[0.5, 0.2, 0.3], [0.6, 0.2, 0.2], [0.1, 0.2, 0.7], [1 / 3] * 3])
    logits = probability.T[None, :, None].log()
    # By hand: class 0 meets 1.1 of 1.2 + 2 pixels, class 2 meets 0.7 of 1.2 + 1; class 1 is absent.
    expected = 1 - ((2.2 + 1) / (3.2 + 1) + (1.4 + 1) / (2.2 + 1)) / 2
    assert dice(logits, labels) == pytest.approx(expected, rel=1e-5)


def test_dice_of_one_logit_is_the_foregrounds():
    labels = torch.tensor([[[1, 0, 1, UNKNOWN]]], dtype=torch.uint8)
    logits = torch.tensor([0.8, 0.4, 0.5, 0.9]).logit().reshape(1, 1, 1, 4)
    expected = 1 - (2 * 1.3 + 1) / (1.7 + 2 + 1)
    assert dice(logits, labels) == pytest.approx(expected, rel=1e-5)


def test_dice_draws_down_a_foreground_that_is_not_there():
    logits = torch.zeros(1, 1, 2, 2, requires_grad=True)
    dice(logits, torch.zeros(1, 2, 2, dtype=torch.uint8)).backward()
    assert (logits.grad > 0).all()


def test_focal_of_one_logit_is_kornias():
    logits, labels = random_batch(1)
    expected = kornia.losses.binary_focal_loss_with_logits(
        logits, labels[:, None].float(), alpha=0.25, gamma=2.0, reduction="mean"
    )
    assert focal(logits, labels) == pytest.approx(expected.item(), rel=1e-4)


def test_focal_of_classes_is_by_the_softmax_of_the_true_one():
    logits, labels = random_batch(4)
    labels[1, 4:] = UNKNOWN
    e = np.exp(logits.double().numpy())
    p = np.take_along_axis(e / e.sum(1, keepdims=True), labels.numpy()[:, None] % 4, 1)[:, 0]
    terms = (-0.25 * (1 - p) ** 2 * np.log(p))[labels.numpy() != UNKNOWN]
    assert focal(logits, labels) == pytest.approx(terms.mean(), rel=1e-5)
    plain = focal(logits, labels, alpha=1.0, gamma=0.0)
    assert plain == pytest.approx(cross_entropy(logits, labels).item(), rel=1e-5)


def test_sobel_looks_at_borders_alone():
    labels = torch.zeros(1, 8, 8, dtype=torch.uint8)
    labels[..., 4:] = 1
    right = torch.where(labels == 1, 20.0, -20.0)[:, None]
    assert SEGMENTATION["sobel"](right, labels).item() == pytest.approx(0, abs=1e-6)
    # Without any border in the prediction, what is missing is the true one's gradient: a step of 1
    # is 1/2 per pixel in the two columns beside it.
    assert SEGMENTATION["sobel"](torch.zeros(1, 1, 8, 8), labels).item() == pytest.approx(1 / 8)
    two = torch.cat([-right, right], 1) / 2
    assert SEGMENTATION["sobel"](0 * two, labels).item() == pytest.approx(1 / 8)


def test_outputs_of_several_sizes_are_each_supervised():
    labels = torch.ones(1, 8, 8, dtype=torch.uint8)
    labels[:, :4] = UNKNOWN
    outputs = [torch.full((1, 1, n, n), z) for n, z in ((8, 0.0), (4, 1.0), (1, -2.0))]
    expected = sum(F.softplus(torch.tensor(-z)).item() for z in (0.0, 1.0, -2.0))
    got = multi_output(binary_cross_entropy, outputs, labels)
    assert got == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("classes", [1, 3])
@pytest.mark.parametrize("name", SEGMENTATION)
def test_without_labels_loss_and_gradient_are_zero(name, classes):
    logits = torch.randn(2, classes, 8, 8, requires_grad=True)
    labels = torch.full((2, 8, 8), UNKNOWN, dtype=torch.uint8)
    for weights in (None, torch.ones(max(classes, 2))):
        logits.grad = None
        loss = SEGMENTATION[name](logits, labels, weights)
        loss.backward()
        assert loss == 0 and (logits.grad == 0).all()


@pytest.mark.parametrize("classes", [1, 3])
@pytest.mark.parametrize("name", SEGMENTATION)
def test_unlabelled_pixels_change_nothing(name, classes):
    logits, labels = random_batch(classes)
    known = SEGMENTATION[name](logits[:, :, :4], labels[:, :4]).item()
    labels[:, 4:] = UNKNOWN
    logits.requires_grad_()
    loss = SEGMENTATION[name](logits, labels)
    loss.backward()
    if name != "sobel":  # which leaves out the neighbours of the unlabelled as well
        assert loss.item() == pytest.approx(known, rel=1e-5)
    assert (logits.grad[:, :, 4:] == 0).all()
    assert (logits.grad[:, :, :4] != 0).any()


@pytest.mark.parametrize("classes", [1, 3])
@pytest.mark.parametrize("name", SEGMENTATION)
def test_extreme_logits_have_finite_losses_and_gradients(name, classes):
    _, labels = random_batch(classes)
    for size in (0.0, 1e4, -1e4):
        logits = torch.zeros(2, classes, 6, 7)
        logits[:, 0] = size
        logits.requires_grad_()
        loss = SEGMENTATION[name](logits, labels)
        loss.backward()
        assert loss.isfinite() and logits.grad.isfinite().all()


@pytest.mark.parametrize("name", SEGMENTATION)
def test_autocast_and_half_logits_are_computed_in_float32(name):
    logits, labels = random_batch(3)
    half = logits.half()
    expected = SEGMENTATION[name](half.float(), labels)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        got = SEGMENTATION[name](half, labels)
    assert got.dtype == torch.float32
    assert got == pytest.approx(expected.item(), rel=1e-6)


def test_cross_entropy_of_a_set_sums_its_probabilities():
    logits = torch.randn(1, 3, 1, 3, requires_grad=True)
    sets = torch.tensor([[True, False, True]])
    labels = torch.tensor([[[1, 3, 255]]], dtype=torch.uint8)
    p = logits.softmax(1)[0, :, 0]
    loss = cross_entropy(logits, labels, sets=sets)
    expected = -(p[1, 0].log() + (p[0, 1] + p[2, 1]).log()) / 2
    assert torch.allclose(loss, expected)
    weights = torch.tensor([1.0, 2.0, 5.0])
    weighed = cross_entropy(logits, labels, weights, sets)
    # The set's weight is the mean of 1 and 5.
    expected = -(2 * p[1, 0].log() + 3 * (p[0, 1] + p[2, 1]).log()) / 5
    assert torch.allclose(weighed, expected)
    (gradient,) = torch.autograd.grad(loss, logits)
    assert gradient[0, :, 0, 2].abs().sum() == 0  # unlabelled
    # Within the set nothing is preferred: both members gain in proportion to what they have.
    assert torch.allclose(gradient[0, 0, 0, 1] / p[0, 1], gradient[0, 2, 0, 1] / p[2, 1])
