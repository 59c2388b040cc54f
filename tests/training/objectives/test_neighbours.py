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

"""Depth from neighbours of known motion, on rendered streets."""

import cv2
import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from depthseg_ros.imaging.geometry import Intrinsics, rays
from depthseg_ros.imaging.lens import Lens
from depthseg_ros.model_card import DepthRange, ModelCard
from depthseg_ros.street import Street
from training.data.classes import CAMVID
from training.data.sample import Sample
from training.data.transforms import TrainDataset
from training.errors import TrainingError
from training.models.base import System
from training.models.systems.shared_encoder import SharedEncoder
from training.objectives.base import Context
from training.objectives.neighbours import Neighbours
from training.objectives.supervised import Supervised
from training.own_robot.motion import as_pinhole, camera_motion

WIDTH, HEIGHT = 240, 180
CANONICAL = 300.0
CARD = ModelCard("m", "s", CAMVID, DepthRange("metric", 0.5, 100), (WIDTH, HEIGHT), CANONICAL)
WEIGHTS = torch.ones(len(CAMVID))
LENS = Lens("plumb_bob", (-0.3, 0.08, 0.0, 0.0))
FARTHEST = 200.0
"""What the sky is given, metres."""


class Says(System):
    """A system that says a canonical depth, times a factor that can be learned."""

    depth_kind = "metric"
    depth_limits = (0.5, 1000.0)

    def __init__(self, depth_NHW, factor=1.0):
        super().__init__()
        self.depth = depth_NHW[:, None]
        self.log_factor = nn.Parameter(torch.full_like(self.depth, np.log(factor)))

    def forward(self, image):
        return {"depth": self.depth * self.log_factor.exp()}


class OneFactor(Says):
    """The same factor everywhere."""

    def __init__(self, depth_NHW, factor=1.0):
        super().__init__(depth_NHW)
        self.log_factor = nn.Parameter(torch.tensor(np.log(factor), dtype=torch.float32))


class Coarse(Says):
    """A factor for each 8 x 8 pixels, blended in between: smooth, as what networks say."""

    def __init__(self, depth_NHW):
        super().__init__(depth_NHW)
        rows, columns = (-(-n // 8) for n in depth_NHW.shape[1:])
        self.log_factor = nn.Parameter(torch.zeros(len(depth_NHW), 1, rows, columns))

    def forward(self, image):
        factor = F.interpolate(self.log_factor, self.depth.shape[2:], mode="bilinear").exp()
        return {"depth": self.depth * factor}


@pytest.fixture(scope="module")
def samples():
    """A moment of each of two streets with its neighbours, all true."""
    found = []
    for seed in (41, 42):
        street = Street(seed, WIDTH, HEIGHT)
        frame, *others = (street.frame(120 + later) for later in (0, -6, 6))
        views = dict(zip(("previous", "next"), others, strict=True))
        found.append(
            Sample(
                frame.image,
                frame.labels,
                np.nan_to_num(frame.depth, nan=FARTHEST),
                frame.intrinsics.fx,
                {name: view.image for name, view in views.items()},
                motions={n: np.linalg.inv(v.pose) @ frame.pose for n, v in views.items()},
            )
        )
    return found


def batch_of(samples, crop=(WIDTH, HEIGHT), zoom=(1.0, 1.0), seeds=None, **options):
    options = {"color_jitter_prob": 0.0, "hflip_prob": 0} | options
    data = TrainDataset(samples, crop, CARD, zoom, views=("previous", "next"), **options)
    seeds = range(len(samples)) if seeds is None else seeds
    return torch.utils.data.default_collate([data[i, s] for i, s in enumerate(seeds)])


@pytest.fixture(scope="module")
def batch(samples):
    return batch_of(samples)


def losses(system, batch, **options):
    parts, _ = Neighbours({}, **({"depth": {}} | options))(
        Context(system, batch, WEIGHTS, CANONICAL)
    )
    return parts["depth"]


def half(depth_NHW):
    """As systems say it."""
    return depth_NHW[:, 1::2, 1::2]


def explained(batch, factor=1.0, size=half):
    """The photometric error that is left by the true canonical depth times a factor."""
    system = Says(size(batch["depth"]), factor)
    return losses(system, batch, photometric=1.0)["photometric"].item()


def without_neighbours(batch):
    data = dict(batch)
    for name in ("previous", "next"):
        data[name] = torch.zeros_like(batch[name])
        data[f"has_{name}"] = torch.zeros_like(batch[f"has_{name}"])
        data[f"motion_{name}"] = torch.full_like(batch[f"motion_{name}"], torch.nan)
    return data


@pytest.mark.parametrize("size", [half, lambda depth: depth], ids=["half", "whole"])
def test_true_depth_explains_the_neighbours(batch, size):
    least = explained(batch, size=size)
    assert least < 0.8 * min(explained(batch, factor, size) for factor in (1.2, 1 / 1.2))


@pytest.mark.parametrize("wrong", [torch.inverse, lambda motion: motion @ motion])
def test_the_true_motion_explains_the_neighbours(batch, wrong):
    moved = {k: wrong(v) if k.startswith("motion") else v for k, v in batch.items()}
    assert explained(batch) < 0.8 * explained(moved)


@pytest.mark.parametrize("start", [1.3, 0.75])
def test_a_wrong_scale_goes_to_the_right_one(batch, start):
    system = OneFactor(half(batch["depth"]), start)
    optimizer = torch.optim.Adam(system.parameters(), lr=0.02)
    for _ in range(30):
        optimizer.zero_grad()
        sum(losses(system, batch).values()).backward()
        optimizer.step()
    assert system.log_factor.exp().item() == pytest.approx(1, abs=0.03)


def test_a_teachers_depth_gets_better(batch):
    """By the default weights, against a teacher that is uneven, and in a place that it left out."""
    true = half(batch["depth"])
    torch.manual_seed(0)
    uneven = 0.1 * torch.randn(len(true), 1, 4, 5)
    taught = true * F.interpolate(uneven, true.shape[1:], mode="bicubic")[:, 0].exp()
    left_out = torch.zeros_like(true, dtype=torch.bool)
    left_out[:, 20:50, 80:] = True
    whole = taught.where(~left_out, torch.nan)[:, None]
    data = batch | {"depth": F.interpolate(whole, (HEIGHT, WIDTH))[:, 0]}
    system = Coarse(taught.where(~left_out, 1.25 * true))
    known = true < 0.5 * FARTHEST * CANONICAL / batch["fx"][:, None, None]

    def off():
        said = system(None)["depth"][:, 0].detach()
        return [((said / true - 1).abs()[known & at]).mean().item() for at in (left_out, ~left_out)]

    before = off()
    optimizer = torch.optim.Adam(system.parameters(), lr=0.01)
    for _ in range(50):
        optimizer.zero_grad()
        parts, _ = Neighbours({})(Context(system, data, WEIGHTS, CANONICAL))
        sum(parts["depth"].values()).backward()
        optimizer.step()
    after = off()
    assert after[0] < 0.6 * before[0] and after[1] < 0.95 * before[1]


def bent(samples):
    """The same through a lens that bends, with motions found as if there were none."""
    found = []
    for sample in samples:
        camera = Intrinsics(
            WIDTH, HEIGHT, sample.fx, sample.fx, (WIDTH - 1) / 2, (HEIGHT - 1) / 2, LENS
        )
        x, y = (rays(camera) * np.float32(sample.fx)).astype(np.float32)
        at = (x + np.float32(camera.cx), y + np.float32(camera.cy))
        image, *others = (
            cv2.remap(picture, *at, cv2.INTER_LINEAR)
            for picture in (sample.image, *sample.views.values())
        )
        views = dict(zip(sample.views, others, strict=True))
        depth = cv2.remap(sample.depth, *at, cv2.INTER_NEAREST)
        motions = {
            name: camera_motion(image, depth, view, as_pinhole(camera))
            for name, view in views.items()
        }
        found.append(Sample(image, None, depth, sample.fx, views, motions=motions))
    return found


def test_a_lens_that_is_neglected_twice_leaves_the_scale_as_it_is(samples):
    seen = batch_of(bent(samples))
    least = explained(seen)
    assert least < 0.95 * min(explained(seen, 1.15), explained(seen, 1 / 1.15))


def test_mirrored_crops_agree(samples):
    plain = batch_of(samples)
    by_chance = (batch_of(samples, seeds=[seed, seed], hflip_prob=0.5) for seed in range(9))
    mirrored = next(b for b in by_chance if not torch.equal(b["image"], plain["image"]))
    assert torch.equal(mirrored["image"], plain["image"].flip(3))
    for factor in (1.0, 1.2):
        assert explained(mirrored, factor) == pytest.approx(explained(plain, factor), rel=0.02)


@pytest.mark.parametrize("zoom", [0.8, 1.4])
def test_zoomed_crops_agree(samples, zoom):
    crops = batch_of(samples, (144, 112), (zoom, zoom), hflip_prob=0.5, color_jitter_prob=1.0)
    least = explained(crops)
    # Between 0.75 and 0.9 for other crops and without other colours, too.
    assert least < 0.92 * min(explained(crops, 1.2), explained(crops, 1 / 1.2))


def test_samples_without_neighbours_cost_nothing(batch):
    data = without_neighbours(batch)
    system = Says(half(batch["depth"]), 1.3)
    parts, present = Neighbours({}, depth={})(Context(system, data, WEIGHTS, CANONICAL))
    loss = sum(parts["depth"].values())
    loss.backward()
    assert loss == 0 and not present["depth"]
    assert (system.log_factor.grad == 0).all()


@pytest.mark.parametrize("unknown", ["has_next", "motion_next", "fx"])
def test_what_is_unknown_of_some_samples_harms_no_others(batch, unknown):
    data = dict(batch)
    data[unknown] = batch[unknown].clone()
    data[unknown][0] = False if unknown.startswith("has") else torch.nan
    if unknown != "fx":
        data["has_previous"] = torch.tensor([False, True])
    system = Says(half(batch["depth"]), 1.1)
    parts = losses(system, data)
    sum(parts.values()).backward()
    assert system.log_factor.grad.isfinite().all()
    assert (system.log_factor.grad[0] == 0).all() and (system.log_factor.grad[1] != 0).any()
    known = losses(
        Says(half(batch["depth"])[1:], 1.1), {name: value[1:] for name, value in batch.items()}
    )
    for name, value in known.items():
        assert parts[name].item() == pytest.approx(value.item(), rel=1e-4)


def test_one_neighbour_is_enough(batch):
    data = dict(batch)
    data["motion_previous"] = torch.full_like(batch["motion_previous"], torch.nan)
    least = explained(data)
    assert least < 0.85 * min(explained(data, 1.2), explained(data, 1 / 1.2))


def test_a_camera_that_stands_teaches_nothing(batch):
    data = dict(batch)
    for name in ("previous", "next"):
        data[name] = batch["image"]
        data[f"motion_{name}"] = torch.eye(4).expand(2, 4, 4)
    assert explained(data, 1.3) == pytest.approx(0, abs=1e-3)


def test_half_precision_is_enough(batch):
    exact, coarse = (Says(half(batch["depth"]), 1.1) for _ in range(2))
    expected = losses(exact, batch)
    coarse.depth = coarse.depth.bfloat16()
    with torch.autocast("cpu", torch.bfloat16):
        found = losses(coarse, batch)
    for name, value in expected.items():
        assert found[name].dtype == torch.float32
        assert found[name].item() == pytest.approx(value.item(), rel=0.05)
    sum(found.values()).backward()
    assert coarse.log_factor.grad.isfinite().all()


def test_the_losses_against_truth_stay_what_they_are(batch):
    system = Says(batch["depth"], 1.1)  # of the whole size: nothing is subsampled by chance
    expected, _ = Supervised()(Context(system, batch, WEIGHTS, CANONICAL))
    parts, present = Neighbours()(Context(system, batch, WEIGHTS, CANONICAL))
    assert set(parts["depth"]) == {*expected["depth"], "photometric", "smoothness"}
    for name, value in expected["depth"].items():
        assert parts["depth"][name] == value
    assert present["depth"]


def test_without_weight_no_views_are_asked_for(batch):
    objective = Neighbours(photometric=0.0, smoothness=0.0)
    assert objective.views == () and Neighbours().views == ("previous", "next")
    seen = {name: value for name, value in batch.items() if "previous" not in name}
    parts, _ = objective(Context(Says(batch["depth"]), seen, WEIGHTS, CANONICAL))
    assert set(parts["depth"]) == set(Supervised.default_depth)


def test_the_default_system_learns_from_neighbours(batch):
    torch.manual_seed(0)
    # No narrower: oneDNN (torch 2.13, AVX-512) writes beyond its memory in the gradient of a 1x1
    # convolution of 8 channels with a stride.
    system = SharedEncoder(len(CAMVID), widths=(32, 16, 16, 16), context=16, decoder=(16, 16, 16))
    data = batch | {"depth": torch.full_like(batch["depth"], torch.nan)}
    parts, present = Neighbours()(Context(system, data, WEIGHTS, CANONICAL))
    sum(parts["depth"].values()).backward()
    gradient = system.depth.output.weight.grad
    assert present["depth"] and gradient.isfinite().all() and (gradient != 0).any()


def test_depth_up_to_scale_is_refused(batch):
    system = Says(batch["depth"])
    system.depth_kind = "up-to-scale"
    with pytest.raises(TrainingError, match="Says has up-to-scale depth"):
        losses(system, batch)


@pytest.mark.parametrize("name", ["photometric", "smoothness"])
def test_a_weight_that_is_none_is_refused(name):
    with pytest.raises(TrainingError, match=f"{name} is -1, expected a number >= 0"):
        Neighbours(**{name: -1})
