import numpy as np
import pytest
import torch

from training.datasets import Sample
from training.transforms import Augmented, Whole, recolor, unknown


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


def crops(sample, zoom, count=20, crop=(32, 24), canonical_fx=100.0):
    torch.manual_seed(0)
    data = Augmented([sample] * count, crop, 64, canonical_fx, zoom)
    return [data[i] for i in range(count)]


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
        values = [item["depth"].nanmedian().item() for item in crops(flat, (zoom, zoom))]
        # 10 m, fx 50, canonical 100: 20 m at zoom 1, less in proportion; 8 % of stretch each way
        assert np.mean(values) == pytest.approx(20 / zoom, rel=0.05)
        assert np.ptp(values) > 0


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


def test_the_same_seed_gives_the_same_crops():
    for one, two in zip(crops(scene(), (0.5, 2)), crops(scene(), (0.5, 2)), strict=True):
        assert torch.equal(one["image"], two["image"])


def test_whole_pictures_are_left_as_they_are():
    sample = scene()
    item = Whole([sample])[0]
    assert (item["image"].numpy() == sample.image).all()
    assert (item["depth"].numpy() == sample.depth).all()
    assert item["fx"] == 50
    assert Whole([Sample(sample.image)])[0]["fx"] == 64


def test_recolouring_changes_values_and_not_shapes():
    image = scene().image
    changed = recolor(image, np.random.default_rng(1))
    assert changed.shape == image.shape and changed.dtype == np.uint8 and (changed != image).any()


def test_unknown_is_unlabelled_and_nan():
    labels, depth = unknown((4, 3))
    assert labels.shape == depth.shape == (3, 4)
    assert (labels == 255).all() and np.isnan(depth).all()
