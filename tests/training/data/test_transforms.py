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

from dataclasses import replace

import numpy as np
import pytest
import torch

from depthseg_ros.model_card import DepthRange, ModelCard
from training.data.classes import CAMVID
from training.data.sample import Sample
from training.data.transforms import (
    EvalDataset,
    TrainDataset,
    apply_jitter,
    color_jitter,
    degradation,
    unknown,
)
from training.errors import TrainingError

CARD = ModelCard("m", "s", CAMVID, DepthRange("metric", 0.5, 100), (64, 48), 100.0)


def scene(width=64, height=48, fx=50.0):
    """A picture whose red says the column, with labels and depth that say the same."""
    column = np.broadcast_to(np.arange(width), (height, width))
    image = np.stack([column * 4, np.zeros_like(column), np.zeros_like(column)], 2)
    return Sample(
        image.astype(np.uint8),
        (column // 8).astype(np.uint8),
        (column + 1).astype(np.float32),
        fx,
    )


def crops(sample, zoom, count=20, crop=(32, 24), **options):
    data = TrainDataset([sample] * count, crop, CARD, zoom, **options)
    return [data[i, i] for i in range(count)]


def test_crops_have_the_size_and_types_asked_for():
    for item in crops(scene(), (0.3, 2.0)):
        assert item["image"].shape == (3, 24, 32) and item["image"].dtype == torch.uint8
        assert item["labels"].shape == (24, 32) and item["labels"].dtype == torch.uint8
        assert item["depth"].shape == (24, 32) and item["depth"].dtype == torch.float32


def test_labels_and_depth_stay_together_and_are_never_mixed():
    for item in crops(scene(), (1.2, 2.0)):
        known = item["labels"] != 255
        assert known.any() and torch.equal(item["depth"].isfinite(), known)
        depth = item["depth"][known].numpy()
        # Every column is seen, so that the step between neighbouring depths is one metre's worth.
        metre = np.diff(np.unique(depth)).min()
        columns = depth / metre - 1
        np.testing.assert_allclose(columns, columns.round(), atol=0.02)
        assert (columns.round() // 8 == item["labels"][known].numpy()).all()


def test_zooming_in_brings_canonical_depth_nearer():
    flat = scene()
    flat.depth = np.full((48, 64), 10, np.float32)
    for zoom in (0.5, 1.0, 2.0):
        for item in crops(flat, (zoom, zoom)):
            # 10 m, fx 50, canonical 100: 20 m at zoom 1, less in proportion.
            assert item["depth"].nanmedian().item() == pytest.approx(20 / zoom)
            assert item["fx"] == pytest.approx(50 * zoom)


def test_mirroring_keeps_picture_and_depth_together():
    seen = set()
    for item in crops(scene(), (1.0, 1.0)):
        rising = item["depth"][12, -1] > item["depth"][12, 0]
        brighter = item["image"][0, 12, -1] > item["image"][0, 12, 0]
        assert rising == brighter
        seen.add(bool(rising))
    assert seen == {True, False}


def test_a_sample_without_truth_is_all_unknown():
    for item in crops(Sample(scene().image), (0.8, 1.2), 3):
        assert (item["labels"] == 255).all() and item["depth"].isnan().all()
        assert item["fx"].isnan()


def test_depth_that_is_not_metric_keeps_its_values():
    card = ModelCard("m", "s", (), DepthRange("normalised", 0, 1), (64, 48))
    half = Sample(scene().image, depth=np.full((48, 64), 0.5, np.float32))
    item = TrainDataset([half], (32, 24), card, (1.5, 1.5))[0, 0]
    assert (item["depth"] == 0.5).all()


def test_views_are_cropped_mirrored_and_recoloured_with_the_picture():
    sample = scene()
    sample.views = {"next": sample.image.copy()}
    for item in crops(sample, (0.7, 1.5), views=("image", "next", "previous")):
        assert torch.equal(item["next"], item["image"]) and item["has_next"]
        assert not item["previous"].any() and not item["has_previous"]


@pytest.mark.parametrize("baseline", [0.5, -0.5])
def test_the_other_eye_is_always_brought_to_the_right(baseline):
    sample = scene()
    sample.views, sample.baseline = {"right": sample.image.copy()}, baseline
    for item in crops(sample, (1.0, 1.5), views=("image", "right")):
        mirrored = item["depth"][12, -1] < item["depth"][12, 0]
        assert item["baseline"] == 0.5 and bool(mirrored) == (baseline < 0)


def test_mirroring_can_be_left_out():
    for item in crops(scene(), (1.0, 1.0), hflip_prob=0):
        assert item["depth"][12, -1] > item["depth"][12, 0]


def test_the_principal_point_follows_the_crop():
    sample = scene()
    for item in crops(sample, (0.7, 1.5)):
        # The picture's centre lies between columns 31 and 32, whose depths are 32 and 33 m.
        scaled = item["depth"][12] / (100 / item["fx"])
        known = scaled.isfinite()
        columns = torch.arange(32)[known]
        order = scaled[known].argsort()
        at = np.interp(32.5, scaled[known][order].numpy(), columns[order].numpy())
        if known.all() and scaled.min() < 32 and scaled.max() > 33:
            assert item["cx"].item() == pytest.approx(at, abs=1.0)


def test_without_recolouring_the_values_stay():
    for item in crops(scene(), (1.0, 1.0), color_jitter_prob=0.0):
        columns = item["image"][0, 12].float() / 4
        assert (columns[item["labels"][12] != 255].diff().abs() == 1).all()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"depth": np.ones((48, 60), np.float32)}, r"\(48, 64\), its depth \(48, 60\)"),
        ({"views": {"right": np.zeros((8, 8, 3), np.uint8)}}, r"its right \(8, 8\)"),
        ({"labels": np.full((48, 64), 11, np.uint8)}, r"has label 11, expected 0\.\.10 or 255"),
        ({"fx": None}, "has depth but no focal length"),
    ],
)
def test_samples_that_contradict_themselves_or_the_model_are_refused(change, message):
    sample = scene()
    for name, value in change.items():
        setattr(sample, name, value)
    augmented = TrainDataset([sample], (32, 24), CARD, (1, 1))
    for data, key in ((augmented, (0, 0)), (EvalDataset([sample], CARD), 0)):
        with pytest.raises(TrainingError, match=message):
            data[key]


def test_the_same_seed_gives_the_same_crops():
    for one, two in zip(crops(scene(), (0.5, 2)), crops(scene(), (0.5, 2)), strict=True):
        assert torch.equal(one["image"], two["image"])


def test_whole_pictures_are_left_as_they_are():
    sample = scene()
    item = EvalDataset([sample], CARD)[0]
    assert (item["image"].numpy() == sample.image).all()
    assert (item["depth"].numpy() == sample.depth).all()
    assert item["fx"] == 50
    assert EvalDataset([Sample(sample.image)], CARD)[0]["fx"] == 64


def test_a_model_of_two_pictures_needs_both():
    card = replace(CARD, needs_background=True)
    views = ("background", "image")
    for data, key in (
        (EvalDataset([scene()], card, views), 0),
        (TrainDataset([scene()], (32, 24), card, (1, 1), views), (0, 0)),
    ):
        with pytest.raises(TrainingError, match="a sample has no background"):
            data[key]


def test_metres_are_refused_by_a_model_of_normalised_depth():
    card = ModelCard("m", "s", (), DepthRange("normalised", 0, 1), (64, 48))
    with pytest.raises(TrainingError, match=r"depth up to 64\.0, the model's is 0 to 1"):
        EvalDataset([scene()], card)[0]


def test_recolouring_changes_values_and_not_shapes():
    image = scene().image
    changed = apply_jitter(image, *color_jitter(np.random.default_rng(1)))
    assert changed.shape == image.shape and changed.dtype == np.uint8 and (changed != image).any()


def test_unknown_is_unlabelled_and_nan():
    labels, depth = unknown((4, 3))
    assert labels.shape == depth.shape == (3, 4)
    assert (labels == 255).all() and np.isnan(depth).all()


def test_a_label_is_learned_as_often_as_it_is_trusted():
    sample = scene()
    sample.labels_confidence = np.full((48, 64), 64, np.uint8)
    sample.labels_confidence[:24] = 255
    sample.depth_confidence = np.zeros((48, 64), np.uint8)
    sample.depth_confidence[:, :32] = 255
    seen = crops(sample, (1, 1), 200, (64, 48), hflip_prob=0)
    kept = np.mean([(item["labels"] != 255).numpy() for item in seen], axis=0)
    assert kept[:24].min() == 1 and 0.2 < kept[24:].mean() < 0.3
    depth = seen[0]["depth"].isfinite().numpy()
    assert depth[:, :32].all() and not depth[:, 32:].any()


def test_a_motion_is_mirrored_with_the_pictures():
    motion = np.eye(4)
    motion[:3, 3] = 1, 2, 3
    sample = scene()
    sample.views, sample.motions = {"next": sample.image}, {"next": motion}
    seen = crops(sample, (1, 1), views=("next", "previous"))
    assert {tuple(item["motion_next"][:3, 3].tolist()) for item in seen} == {(1, 2, 3), (-1, 2, 3)}
    assert all(item["motion_previous"].isnan().all() for item in seen)


def test_degradation_changes_values_and_not_shapes_and_follows_from_the_seed():
    image = np.full((48, 64, 3), 127, np.uint8)
    image[:, 32:] = 200
    kinds = 0
    for seed in range(40):
        harmed = [degradation(np.random.default_rng(seed), (64, 48))(image) for _ in range(2)]
        assert harmed[0].shape == image.shape and harmed[0].dtype == np.uint8
        assert (harmed[0] == harmed[1]).all()
        # The edge stays where it is: labels and depth are not changed with the image.
        columns = harmed[0].astype(float).mean((0, 2))
        kinds += bool((harmed[0] != image).any())
        assert 30 <= np.abs(np.diff(columns)).argmax() <= 32
    assert 25 < kinds < 40
