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

"""What systems are trained for: batches to named losses."""

import math

import pytest
import torch
from torch import nn

from training.errors import TrainingError
from training.losses import by_name as losses
from training.models.base import System
from training.objectives.base import Context, subsampled
from training.objectives.stereo import Stereo
from training.objectives.supervised import Supervised
from training.objectives.video import Video

WEIGHTS = torch.ones(3)
H, W, DISPARITY, CANONICAL = 24, 48, 4, 50.0
BASELINE = 0.5
FOCAL_BASELINE = CANONICAL * BASELINE / W


class Says(System):
    """A system that says what it is told, with one parameter so that gradients have a way."""

    depth_limits = (0.0, 1000.0)

    def __init__(self, **prediction):
        super().__init__()
        self.one = nn.Parameter(torch.ones(()))
        self.prediction = prediction
        self.focal_baseline = FOCAL_BASELINE

    def forward(self, image):
        return {
            name: [v * self.one for v in value] if isinstance(value, list) else value * self.one
            for name, value in self.prediction.items()
        }

    def pose(self, image, neighbour):
        """A step to the right by one pixel at depth 1, or back, as the neighbour's red says."""
        pose = torch.eye(4).repeat(len(image), 1, 1)
        pose[:, 0, 3] = neighbour[:, 0, 0, 0].sub(1) / CANONICAL
        return pose * self.one


def batch(samples=2):
    torch.manual_seed(0)
    return {
        "image": torch.randint(0, 255, (samples, 3, H, W), dtype=torch.uint8),
        "labels": torch.randint(0, 3, (samples, H, W), dtype=torch.uint8),
        "depth": torch.rand(samples, H, W) * 20 + 1,
        "fx": torch.full((samples,), CANONICAL),
        "cx": torch.full((samples,), (W - 1) / 2),
        "cy": torch.full((samples,), (H - 1) / 2),
    }


def total(parts):
    return sum(value for task in parts.values() for value in task.values())


def test_supervised_adds_up_what_it_is_told_to():
    data = batch()
    logits, depth = torch.randn(2, 3, H, W), torch.rand(2, 1, H, W) + 1
    system = Says(logits=logits, depth=depth)
    objective = Supervised({"cross_entropy": 2.0}, {"l1": 3.0})
    parts, present = objective(Context(system, data, WEIGHTS, CANONICAL))
    expected = nn.functional.cross_entropy(logits, data["labels"].long())
    assert parts["segmentation"]["cross_entropy"].item() == pytest.approx(2 * expected.item())
    expected = (depth[:, 0] - data["depth"]).abs().mean()
    assert parts["depth"]["l1"].item() == pytest.approx(3 * expected.item())
    assert present == {"segmentation": True, "depth": True}


def test_the_scale_of_the_error_is_learned_beside_depth():
    data = batch()
    depth = data["depth"][:, None] * 1.2
    system = Says(depth=depth, log_scale=torch.full((2, 1, H // 2, W // 2), math.log(0.3)))
    parts, present = Supervised(depth={}, depth_scale=0.5)(
        Context(system, data, WEIGHTS, CANONICAL)
    )
    expected = math.log(1.2) / 0.3 + math.log(2 * 0.3)
    assert parts["depth"]["laplace"].item() == pytest.approx(0.5 * expected, rel=1e-4)
    assert present["depth"]
    parts, _ = Supervised(depth_scale=0.0)(Context(system, data, WEIGHTS, CANONICAL))
    assert "laplace" not in parts["depth"]
    with pytest.raises(TrainingError, match="weight of the depth loss laplace is -1"):
        Supervised(depth_scale=-1)


def test_an_all_invalid_batch_costs_nothing():
    data = batch()
    data["labels"][:], data["depth"][:] = 255, torch.nan
    system = Says(logits=torch.randn(2, 3, H, W), depth=torch.rand(2, 1, H, W))
    parts, present = Supervised()(Context(system, data, WEIGHTS, CANONICAL))
    loss = total(parts)
    loss.backward()
    assert loss == 0 and system.one.grad == 0
    assert present == {"segmentation": False, "depth": False}


def test_a_system_of_one_task_has_the_losses_of_one():
    parts, _ = Supervised()(
        Context(Says(depth=torch.rand(2, 1, H, W)), batch(), WEIGHTS, CANONICAL)
    )
    assert set(parts) == {"depth"}


def test_deep_supervision_adds_every_output():
    data = batch()
    logits = torch.randn(2, 3, H, W)
    system = Says(logits=logits, side_logits=[logits, logits])
    one = Supervised()(Context(system, data, WEIGHTS, CANONICAL)).parts["segmentation"]
    all_three = Supervised(deep_supervision=True)(Context(system, data, WEIGHTS, CANONICAL))
    assert all_three.parts["segmentation"]["cross_entropy"].item() == pytest.approx(
        3 * one["cross_entropy"].item()
    )


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"depth": {"l3": 1.0}}, "no depth loss 'l3', expected one of l1"),
        ({"segmentation": {"dice": -1.0}}, "weight of the segmentation loss dice is -1"),
    ],
)
def test_losses_that_there_are_not_are_refused(options, message):
    with pytest.raises(TrainingError, match=message):
        Supervised(**options)


def test_truth_is_thinned_without_bias_or_blending():
    torch.manual_seed(0)
    truth = torch.arange(8.0).expand(1, 4, 8)
    seen = torch.stack([subsampled([truth], (2, 4))[0][0, 0] for _ in range(400)])
    assert set(seen[:, 0].tolist()) == {0.0, 1.0} and set(seen[:, 3].tolist()) == {6.0, 7.0}
    assert seen.mean(0).tolist() == pytest.approx([0.5, 2.5, 4.5, 6.5], abs=0.1)
    labels, depth = subsampled([truth, truth * 2], (2, 4))
    assert torch.equal(labels * 2, depth)
    assert subsampled([truth], (4, 8))[0] is truth


def test_losses_of_accumulated_batches_are_means_over_the_pixels_of_all():
    """Whatever the shapes of their crops, and however few pixels one of them has."""
    step, sizes, known = [], ((8, 24), (16, 12)), ((2, 2), (16, 10))
    for size, (rows, columns) in zip(sizes, known, strict=True):
        depth = torch.full((1, *size), torch.nan)
        depth[:, :rows, :columns] = 2.0
        labels = torch.where(depth.isfinite(), 1, 255).to(torch.uint8)
        step.append({"labels": labels, "depth": depth})
    objective = Supervised({"cross_entropy": 1.0}, {"l1": 1.0})
    means = []
    for index, (truth, (height, width)) in enumerate(zip(step, sizes, strict=True)):
        # At half the size: 1 pixel is known of the first, 40 of the second.
        logits = torch.zeros(1, 3, height // 2, width // 2)
        logits[:, 1] = index
        system = Says(logits=logits, depth=torch.full_like(logits[:, :1], 3.0 + index))
        image = torch.zeros(1, 3, height, width, dtype=torch.uint8)
        batch = {"image": image, **truth}
        parts, present = objective(Context(system, batch, WEIGHTS, CANONICAL, step))
        assert present == {"segmentation": True, "depth": True}
        means.append([parts["segmentation"]["cross_entropy"], parts["depth"]["l1"]])
    entropies = [math.log(3), math.log(2 + math.e) - 1]
    entropy, error = (sum(values).item() / 2 for values in zip(*means, strict=True))
    assert entropy == pytest.approx((entropies[0] + 40 * entropies[1]) / 41)
    assert error == pytest.approx((1 + 40 * 2) / 41)


def test_thinning_stays_within_the_picture(monkeypatch):
    almost_one = torch.tensor(1 - 2**-24)  # the greatest that torch.rand gives
    monkeypatch.setattr(torch, "rand", lambda *_, **__: almost_one)
    truth = torch.arange(288.0).expand(1, 288, 288)
    assert subsampled([truth], (144, 144))[0][0, 0, -1] == 287


def stereo_batch():
    data = batch()
    wide = torch.randint(0, 255, (2, 3, H, W + DISPARITY), dtype=torch.uint8)
    # What the left shows at x, the right shows at x - DISPARITY.
    data["image"], data["right"] = wide[..., :W], wide[..., DISPARITY:]
    data["has_right"] = torch.tensor([True, True])
    data["baseline"] = torch.full((2,), BASELINE)
    return data


def disparity_of(pixels):
    return [torch.full((2, 2, H, W), pixels / W)]


def test_the_true_disparity_explains_a_stereo_pair():
    data = stereo_batch()
    errors = {}
    for pixels in (DISPARITY, DISPARITY + 1, 0):
        disparities = disparity_of(pixels)
        system = Says(depth=FOCAL_BASELINE / disparities[0][:, :1], disparities=disparities)
        parts, _ = Stereo({})(Context(system, data, WEIGHTS, CANONICAL))
        errors[pixels] = parts["depth"]["photometric"].item()
        assert parts["depth"]["consistency"].item() == pytest.approx(0, abs=1e-5)
        assert parts["depth"]["smoothness"] == 0
    # Only the strip that the other camera does not see is left, and its neighbours' windows.
    assert errors[DISPARITY] < 0.3 * min(errors[DISPARITY + 1], errors[0])


def test_a_sample_without_right_view_teaches_no_depth():
    data = stereo_batch()
    data["has_right"] = torch.tensor([False, False])
    data["baseline"] = torch.tensor([torch.nan, BASELINE])
    disparities = disparity_of(2)
    system = Says(depth=FOCAL_BASELINE / disparities[0][:, :1], disparities=disparities)
    parts, present = Stereo({})(Context(system, data, WEIGHTS, CANONICAL))
    loss = total(parts)
    loss.backward()
    assert loss == 0 and system.one.grad == 0 and not present["depth"]


def test_stereo_and_video_name_the_system_that_they_are_for():
    system = Says(depth=torch.ones(2, 1, H, W))
    # Their data has no views either, since the system asks for none.
    with pytest.raises(TrainingError, match="has no output disparities"):
        Stereo()(Context(system, batch(), WEIGHTS, CANONICAL))
    with pytest.raises(TrainingError, match="has no pose network"):
        Video()(Context(system, batch(), WEIGHTS, CANONICAL))
    with pytest.raises(TrainingError, match="has no output side_depths"):
        Supervised(deep_supervision=True)(Context(system, batch(), WEIGHTS, CANONICAL))


@pytest.mark.parametrize("objective", [Supervised, Stereo, Video])
def test_classes_alone_can_be_learned_with_any_objective(objective):
    system = Says(logits=torch.randn(2, 3, H, W))
    parts, present = objective()(Context(system, batch(), WEIGHTS, CANONICAL))
    assert set(parts) == {"segmentation"} and present["segmentation"]


def test_a_system_of_other_classes_is_refused():
    system = Says(logits=torch.randn(2, 4, H, W))
    with pytest.raises(TrainingError, match=r"has 4 classes, model\.classes 3"):
        Supervised()(Context(system, batch(), WEIGHTS, CANONICAL))


def test_truth_beyond_what_the_system_can_say_is_drawn_to_its_end():
    data = batch()
    data["depth"][:] = 500.0
    system = Says(depth=torch.full((2, 1, H, W), 100.0))
    system.depth_limits = (0.5, 100.0)
    parts, _ = Supervised(depth={"l1": 1.0})(Context(system, data, WEIGHTS, CANONICAL))
    assert parts["depth"]["l1"] == 0


def video_batch():
    data = batch()
    wide = torch.randint(2, 255, (2, 3, H, W + 2), dtype=torch.uint8)
    data["image"] = wide[..., 1:-1].clone()
    # Points move by a pixel to the right, then to the left: `Says.pose` reads it off the corner.
    data["previous"], data["next"] = wide[..., :-2].clone(), wide[..., 2:].clone()
    data["previous"][:, 0, 0, 0], data["next"][:, 0, 0, 0] = 2, 0
    data["has_previous"] = data["has_next"] = torch.tensor([True, True])
    return data


def test_the_true_depth_explains_a_video():
    data = video_batch()
    errors = {}
    for depth in (1.0, 0.5, 3.0):
        depths = [torch.full((2, 1, H, W), depth)]
        features = [torch.rand(2, 4, H, W)] * 3
        system = Says(depth=depths[0], side_depths=[], features=features)
        parts, present = Video({}, triplet=0.1)(Context(system, data, WEIGHTS, CANONICAL))
        errors[depth] = parts["depth"]["photometric"].item()
        assert present["depth"] and parts["depth"]["triplet"] > 0
        assert parts["depth"]["smoothness"] == 0
    assert errors[1.0] < 0.1 * min(errors[0.5], errors[3.0])


def test_without_neighbours_a_video_objective_teaches_labels_alone():
    data = video_batch()
    data["has_previous"] = data["has_next"] = torch.tensor([False, False])
    depths = [torch.rand(2, 1, H, W) + 1]
    system = Says(logits=torch.randn(2, 3, H, W), depth=depths[0], side_depths=[])
    parts, present = Video(triplet=0)(Context(system, data, WEIGHTS, CANONICAL))
    assert total({"depth": parts["depth"]}) == 0
    assert parts["segmentation"]["cross_entropy"] > 0
    assert present == {"segmentation": True, "depth": False}


def test_labels_of_sets_teach_cross_entropy_alone():
    torch.manual_seed(0)
    objective = Supervised(segmentation={"cross_entropy": 1.0, "dice": 1.0}, weigh_classes=False)
    logits = torch.randn(1, 3, 4, 4)
    labels = torch.randint(0, 3, (1, 4, 4), dtype=torch.uint8)
    labels[0, 0], labels[0, 1] = 3, 255
    objective.sets = torch.tensor([[True, True, False]])
    data = {"image": torch.zeros(1, 3, 4, 4, dtype=torch.uint8), "labels": labels}
    parts = objective(Context(Says(logits=logits), data, WEIGHTS, CANONICAL)).parts["segmentation"]
    known = labels.where(labels != 3, 255)
    assert parts["dice"] == losses.SEGMENTATION["dice"](logits, known)
    assert parts["cross_entropy"] == losses.SEGMENTATION["cross_entropy"](
        logits, labels, sets=objective.sets
    )
