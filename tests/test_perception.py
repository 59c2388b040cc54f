import numpy as np
import pytest

from depthseg_ros import backends, model_card
from depthseg_ros.backends import BackendError
from depthseg_ros.perception import Perception


@pytest.fixture(scope="module")
def perception():
    perception = Perception(model_card.default_model())
    yield perception
    perception.close()


@pytest.mark.parametrize("size", [(480, 640), (97, 131), (1, 1)])
def test_outputs_have_the_pictures_own_size(perception, size):
    prediction = perception(np.zeros((*size, 3), np.uint8), 500.0)
    assert prediction.labels.shape == prediction.confidence.shape == prediction.depth.shape == size
    assert prediction.labels.dtype == prediction.confidence.dtype == np.uint8
    assert prediction.depth.dtype == np.float32


def test_labels_are_the_cards_and_depth_lies_in_its_range(perception):
    image = np.random.default_rng(0).integers(0, 255, (120, 160, 3), np.uint8)
    prediction = perception(image, 120.0)
    assert set(np.unique(prediction.labels)) <= {c.id for c in perception.card.classes}
    depth = prediction.depth[np.isfinite(prediction.depth)]
    assert ((depth >= perception.card.depth.min) & (depth <= perception.card.depth.max)).all()
    sky = [c.id for c in perception.card.classes if "sky" in c.flags]
    assert np.isnan(prediction.depth[np.isin(prediction.labels, sky)]).all()


def test_depth_is_in_proportion_to_the_focal_length(perception):
    image = np.random.default_rng(0).integers(0, 255, (120, 160, 3), np.uint8)
    one, two = perception(image, 100.0).depth, perception(image, 110.0).depth
    both = np.isfinite(one) & np.isfinite(two) & (one > perception.card.depth.min * 1.2)
    assert both.any()
    np.testing.assert_allclose(two[both] / one[both], 1.1, rtol=1e-4)


def test_a_view_with_padded_rows_is_taken(perception):
    padded = np.zeros((40, 64, 3), np.uint8)
    assert perception(padded[:, :60], 50.0).labels.shape == (40, 60)


@pytest.mark.parametrize(
    "image",
    [
        np.zeros((4, 4), np.uint8),
        np.zeros((4, 4, 4), np.uint8),
        np.zeros((4, 4, 3), np.float32),
        np.zeros((0, 4, 3), np.uint8),
    ],
)
def test_what_is_no_picture_is_refused(perception, image):
    with pytest.raises(ValueError, match="expected uint8"):
        perception(image, 50.0)


@pytest.mark.parametrize("fx", [None, 0.0, -1.0, float("nan"), float("inf")])
def test_metric_depth_needs_a_focal_length(perception, fx):
    with pytest.raises(ValueError, match="focal length"):
        perception(np.zeros((4, 4, 3), np.uint8), fx)


def test_auto_names_what_runs(perception):
    assert perception.backend.name == "onnxruntime (CPUExecutionProvider)"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"name": "abacus"}, "unknown backend 'abacus', expected one of auto, onnxruntime"),
        ({"providers": ["AbacusExecutionProvider"]}, "no provider AbacusExecutionProvider; it has"),
    ],
)
def test_an_unknown_backend_or_provider_is_refused(arguments, message):
    with pytest.raises(BackendError, match=message):
        backends.open_backend(model_card.default_model(), **arguments)


def test_negative_threads_are_refused():
    with pytest.raises(ValueError, match="threads is -1, expected 0 to 256"):
        backends.open_backend(model_card.default_model(), threads=-1)


def test_a_damaged_model_is_refused_in_one_line(tmp_path):
    damaged = tmp_path / "m.onnx"
    damaged.write_bytes(model_card.default_model().read_bytes()[:100_000])
    with pytest.raises(BackendError) as caught:
        backends.open_backend(damaged)
    assert "\n" not in str(caught.value)
