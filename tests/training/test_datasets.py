import cv2
import numpy as np
import pytest

from depthseg_ros import street
from training.classes import CAMVID
from training.datasets.camvid import CamVid
from training.datasets.rendered import FIRST_SEED, MOMENTS_APART, RenderedStreets
from training.errors import TrainingError


def make_camvid(root, labels=None, names=("b", "a")):
    (root / "train").mkdir(parents=True)
    (root / "trainannot").mkdir()
    rng = np.random.default_rng(0)
    pictures = {}
    for name in names:
        picture = rng.integers(0, 255, (36, 48, 3), np.uint8)
        ids = rng.integers(0, 12, (36, 48)).astype(np.uint8) if labels is None else labels
        cv2.imwrite(str(root / "train" / f"{name}.png"), picture[..., ::-1])
        cv2.imwrite(str(root / "trainannot" / f"{name}.png"), ids)
        pictures[name] = (picture, ids)
    return pictures


def test_camvid_is_read_to_the_last_bit(tmp_path):
    pictures = make_camvid(tmp_path)
    data = CamVid(tmp_path, "train")
    assert len(data) == 2
    for sample, name in zip((data[0], data[1]), ("a", "b"), strict=True):
        picture, ids = pictures[name]
        assert (sample.image == picture).all()
        assert (sample.labels == np.where(ids == 11, 255, ids)).all()
        assert sample.depth is None and sample.fx is None


def test_a_folder_without_camvid_is_named(tmp_path):
    with pytest.raises(TrainingError, match=r"no CamVid pictures found as .*train/\*"):
        CamVid(tmp_path, "train")


def test_missing_labels_are_counted_and_named(tmp_path):
    make_camvid(tmp_path)
    (tmp_path / "trainannot" / "a.png").unlink()
    with pytest.raises(TrainingError, match=r"1 label files are missing, the first is .*a\.png"):
        CamVid(tmp_path, "train")


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        (np.full((36, 48), 12, np.uint8), "has label 12, expected 0..11"),
        (np.zeros((36, 48, 3), np.uint8), "not a label picture of one 8-bit channel"),
        (np.zeros((10, 48), np.uint8), r"\(36, 48\), its labels are \(10, 48\)"),
    ],
)
def test_wrong_labels_are_refused(tmp_path, labels, message):
    make_camvid(tmp_path, labels)
    with pytest.raises(TrainingError, match=message):
        CamVid(tmp_path, "train")[0]


def test_the_real_camvid_is_complete(shared_data):
    assert len(CamVid(shared_data / "camvid", "train")) == 367
    val = CamVid(shared_data / "camvid", "val")
    assert len(val) == 101
    assert val[0].image.shape == (360, 480, 3)


def test_the_streets_classes_are_camvids():
    assert tuple(c.name for c in CAMVID) == street.CLASS_NAMES
    assert [c.id for c in CAMVID] == list(range(11))


def test_rendered_streets_come_back_from_disk_as_they_were_rendered(tmp_path):
    data = RenderedStreets("val", 1, 2, (96, 72), tmp_path)
    data.render()
    assert sorted(p.name for p in data.folder.iterdir()) == sorted(p.name for p in data.files)
    frame = street.Street(FIRST_SEED["val"], 96, 72).frame(MOMENTS_APART)
    sample = data[1]
    assert (sample.image == frame.image).all() and (sample.labels == frame.labels).all()
    assert (np.isnan(sample.depth) == np.isnan(frame.depth)).all()
    np.testing.assert_allclose(sample.depth, frame.depth, rtol=5e-4)
    assert sample.fx == pytest.approx(frame.intrinsics.fx)


def test_splits_share_no_street():
    files = {split: {p.name for p in RenderedStreets(split, 1000).files} for split in FIRST_SEED}
    assert not files["train"] & files["val"] and not files["val"] & files["test"]
