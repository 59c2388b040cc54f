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

import dataclasses

import cv2
import numpy as np
import onnx.parser
import onnxruntime
import pytest

from depthseg_ros import backends, model_card
from depthseg_ros.backends import BackendError
from depthseg_ros.model_card import ModelCard, ModelFileError, SemanticClass
from depthseg_ros.perception import Perception, View, median_picture
from depthseg_ros.street import Street

# Foreground is what differs from the background by more than 30 in any channel.
DIFFERENCE = """
<ir_version: 9, opset_import: ["" : 18]>
difference (uint8[N, H, W, 3] image, uint8[N, H, W, 3] background)
    => (uint8[N, H, W] labels, uint8[N, H, W] confidence)
<int64[1] channels = {3}, float threshold = {30.0}>
{
    now = Cast<to: int = 1> (image)
    before = Cast<to: int = 1> (background)
    signed = Sub (now, before)
    difference = Abs (signed)
    greatest = ReduceMax<keepdims: int = 0> (difference, channels)
    foreground = Greater (greatest, threshold)
    labels = Cast<to: int = 2> (foreground)
    confidence = Cast<to: int = 2> (greatest)
}
"""
CARD = ModelCard(
    name="difference",
    system="by hand",
    classes=(
        SemanticClass(0, "background", (0, 0, 0)),
        SemanticClass(1, "foreground", (255, 255, 255), ("movable",)),
    ),
    depth=None,
    network_size=(64, 48),
    needs_background=True,
)


@pytest.fixture(scope="module", params=["auto", "openvino"])
def perception(request):
    if request.param == "openvino":
        pytest.importorskip("openvino")
    perception = Perception(model_card.default_model(), request.param)
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


def test_pictures_at_once_are_perceived_as_one_by_one(perception):
    random = np.random.default_rng(0)
    views = [View(random.integers(0, 255, (96, 128, 3), np.uint8), fx) for fx in (90.0, 120.0)]
    for view, at_once in zip(views, perception.batch(views), strict=True):
        alone = perception(*view)
        assert np.mean(at_once.labels == alone.labels) > 0.99
        assert np.nanmedian(np.abs(at_once.depth / alone.depth - 1)) < 1e-3
    with pytest.raises(ValueError, match="different sizes"):
        perception.batch([views[0], View(views[0].image[1:], 90.0)])


SURE = """
<ir_version: 9, opset_import: ["" : 18]>
sure (uint8[N, H, W, 3] image) => (float[N, H, W] depth, uint8[N, H, W] depth_confidence)
<int64[1] last = {3}, float ten = {10.0}>
{
    red, green, blue = Split <axis: int = 3, num_outputs: int = 3> (image)
    depth_confidence = Squeeze (green, last)
    flat = Squeeze (blue, last)
    decimetres = Cast <to: int = 1> (flat)
    depth = Div (decimetres, ten)
}
"""


@pytest.mark.parametrize("rotation", [0, 90])
def test_depth_confidence_is_that_of_the_pixels_with_depth(tmp_path, rotation):
    card = dataclasses.replace(
        CARD, classes=(), depth=model_card.DepthRange("metric", 1.0, 20.0), needs_background=False,
        depth_confidence=True,
    )  # fmt: skip
    model_card.write(tmp_path / "sure.onnx", onnx.parser.parse_model(SURE), card)
    image = np.random.default_rng(0).integers(0, 255, (24, 32, 3), np.uint8)
    perception = Perception(tmp_path / "sure.onnx", "onnxruntime")
    seen = perception(image, rotation=rotation)
    known = (image[..., 2] >= 10) & (image[..., 2] <= 200)
    np.testing.assert_array_equal(np.isfinite(seen.depth), known)
    np.testing.assert_array_equal(seen.depth_confidence, np.where(known, image[..., 1], 0))
    one, two = perception.batch([View(image), View(image[:, ::-1].copy())])
    np.testing.assert_array_equal(one.depth_confidence, two.depth_confidence[:, ::-1])


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


def test_a_backend_names_what_runs(perception):
    assert perception.backend.name in ("onnxruntime (CPUExecutionProvider)", "openvino (CPU)")


def test_backends_agree_and_outputs_outlive_the_next_run():
    pytest.importorskip("openvino")
    rng = np.random.default_rng(0)
    images = [cv2.blur(rng.integers(0, 255, (120, 160, 3), np.uint8), (9, 9)) for _ in range(2)]
    ours, theirs = (
        [perception(image, 120.0) for image in images]
        for perception in (
            Perception(model_card.default_model(), name) for name in ("onnxruntime", "openvino")
        )
    )
    for one, other in zip(ours, theirs, strict=True):
        assert (one.labels == other.labels).mean() > 0.999
        both = np.isfinite(one.depth) & np.isfinite(other.depth)
        assert both.mean() > 0.99 * np.isfinite(one.depth).mean()
        np.testing.assert_allclose(one.depth[both], other.depth[both], rtol=1e-2)


def test_openvino_keeps_the_names_of_outputs_that_are_copies_and_says_what_is_wrong(tmp_path):
    pytest.importorskip("openvino")
    text = DIFFERENCE.replace("confidence = Cast<to: int = 2> (greatest)", "c = Cast<to: int = 2>"
                              " (greatest)\n confidence = Identity (c)")  # fmt: skip
    path = tmp_path / "copy.onnx"
    model_card.write(path, onnx.parser.parse_model(text), CARD)
    image = np.full((4, 4, 3), 90, np.uint8)
    seen = Perception(path, "openvino")(image, background=image - 50)
    assert (seen.labels == 1).all() and (seen.confidence == 50).all()
    broken = tmp_path / "broken.onnx"
    broken.write_bytes(b"nothing")
    with pytest.raises(BackendError, match="OpenVINO refuses") as caught:
        backends.open_backend(broken, "openvino")
    assert "Exception from" not in str(caught.value)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"name": "abacus"}, "unknown backend 'abacus', expected one of auto, onnxruntime"),
        (
            {"providers": ["AbacusExecutionProvider"]},
            "no provider AbacusExecutionProvider, expected some of",
        ),
        (
            {"name": "openvino", "providers": ["CPUExecutionProvider"]},
            "but the backend is openvino",
        ),
    ],
)
def test_an_unknown_backend_or_provider_is_refused(arguments, message):
    with pytest.raises(BackendError, match=message):
        backends.open_backend(model_card.default_model(), **arguments)


@pytest.mark.filterwarnings("ignore:Specified provider")
@pytest.mark.parametrize("also_cpu", [False, True])
def test_a_provider_that_does_not_load_is_not_replaced_unasked(monkeypatch, caplog, also_cpu):
    # As with onnxruntime-gpu on a machine without a GPU: there, but not to be loaded.
    available = ["CUDAExecutionProvider", "CPUExecutionProvider"]
    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: available)
    if also_cpu:
        backend = backends.open_backend(model_card.default_model(), "onnxruntime", available)
        assert backend.name == "onnxruntime (CPUExecutionProvider)"
        assert "cannot load CUDAExecutionProvider, running on CPU" in caplog.text
    else:
        with pytest.raises(BackendError, match="cannot load CUDAExecutionProvider"):
            backends.open_backend(model_card.default_model(), "onnxruntime", available[:1])


def test_negative_threads_are_refused():
    with pytest.raises(ValueError, match="threads is -1, expected 0 to 256"):
        backends.open_backend(model_card.default_model(), threads=-1)


def test_a_damaged_model_is_refused_in_one_line(tmp_path):
    damaged = tmp_path / "m.onnx"
    damaged.write_bytes(model_card.default_model().read_bytes()[:100_000])
    with pytest.raises(BackendError) as caught:
        backends.open_backend(damaged)
    assert "\n" not in str(caught.value)


def test_what_a_runtime_says_at_length_is_cut_to_its_reason(tmp_path):
    model = onnx.load(model_card.default_model())
    model.ir_version = 99
    onnx.save(model, tmp_path / f"{'m' * 200}.onnx")
    with pytest.raises(BackendError, match="Unsupported model IR version: 99") as caught:
        backends.open_backend(tmp_path / f"{'m' * 200}.onnx", "onnxruntime")
    assert len(str(caught.value).replace(str(tmp_path), "")) < 600


@pytest.fixture(scope="module")
def two_images(tmp_path_factory):
    path = tmp_path_factory.mktemp("model") / "difference.onnx"
    model_card.write(path, onnx.parser.parse_model(DIFFERENCE), CARD)
    perception = Perception(path)
    yield perception
    perception.close()


def test_a_two_image_model_sees_what_is_new(two_images):
    background = np.random.default_rng(0).integers(0, 200, (40, 60, 3), np.uint8)
    image = background.copy()
    image[10:20, 30:50] += 40
    prediction = two_images(image, background=background)
    expected = np.zeros((40, 60), np.uint8)
    expected[10:20, 30:50] = 1
    np.testing.assert_array_equal(prediction.labels, expected)
    np.testing.assert_array_equal(prediction.confidence, expected * 40)
    assert prediction.depth is None


@pytest.mark.parametrize("size", [(20, 30), (80, 120)])
def test_a_background_of_another_size_is_resized(two_images, size):
    background = np.full((*size, 3), 100, np.uint8)
    background[:, : size[1] // 2] = 200
    image = np.full((40, 60, 3), 100, np.uint8)
    labels = two_images(image, background=background).labels
    assert labels[:, :25].all() and not labels[:, 35:].any()  # between them lies what is blurred


def test_a_missing_or_needless_background_is_refused_in_one_line(two_images, perception):
    image = np.zeros((4, 4, 3), np.uint8)
    with pytest.raises(ValueError, match=r"^the model difference needs a background image$"):
        two_images(image)
    with pytest.raises(ValueError, match=r"^the model street does not use a background image$"):
        perception(image, 50.0, image)


def test_a_background_that_is_no_picture_is_refused(two_images):
    with pytest.raises(ValueError, match="background: got float32"):
        two_images(np.zeros((4, 4, 3), np.uint8), background=np.zeros((4, 4, 3), np.float32))


def test_a_two_image_model_warms_up(two_images):
    two_images.warm_up()


@pytest.mark.parametrize("value", [False, "yes"])
def test_a_card_that_says_another_thing_of_the_background_than_the_graph_is_refused(
    tmp_path, value
):
    with pytest.raises(ModelFileError, match=r"'background', 'image'|needs_background 'yes'"):
        card = dataclasses.replace(CARD, needs_background=value)
        model_card.write(tmp_path / "m.onnx", onnx.parser.parse_model(DIFFERENCE), card)


@pytest.mark.parametrize("count", [1, 4, 15])
def test_the_median_picture_is_that_of_each_sample(count):
    pictures = np.random.default_rng(0).integers(0, 256, (count, 7, 5, 3), np.uint8)
    expected = np.sort(pictures, axis=0)[count // 2]
    if count % 2:
        np.testing.assert_array_equal(expected, np.median(pictures, axis=0))
    np.testing.assert_array_equal(median_picture(list(pictures)), expected)


def test_pictures_of_several_sizes_or_none_have_no_median():
    with pytest.raises(ValueError, match="2 shapes"):
        median_picture([np.zeros((4, 4, 3), np.uint8), np.zeros((4, 5, 3), np.uint8)])
    with pytest.raises(ValueError, match="0 shapes"):
        median_picture([])


def test_a_background_is_averaged_where_it_is_made_smaller(two_images):
    background = np.tile(np.uint8([200, 0, 0, 200]), (160, 60))  # of which some see only 0
    background = np.repeat(background[..., None], 3, axis=2)
    image = np.full((40, 60, 3), 100, np.uint8)
    assert not two_images(image, background=background).labels.any()


class Told:
    """A backend that gives what it is told and keeps what it was asked."""

    name, state, memory, whole_images = "told", "", None, True

    def __init__(self, **outputs):
        self.outputs, self.asked = outputs, []

    def run(self, inputs):
        self.asked.append(inputs)
        return self.outputs

    def ready_for(self, size):
        return size

    def close(self):
        pass


@pytest.fixture
def told(monkeypatch):
    """Perception whose runtime gives these outputs, and the arguments it was opened with."""

    def told(model=None, *arguments, **outputs):
        opened = []
        backend = Told(**outputs)
        monkeypatch.setattr(
            "depthseg_ros.perception.open_backend", lambda *given: opened.append(given) or backend
        )
        perception = Perception(model or model_card.default_model(), *arguments)
        return perception, opened[0]

    return told


def promised(count=1):
    """Outputs as the default model promises them, for pictures of 4 x 6."""
    return {
        "labels": np.full((count, 4, 6), 3, np.uint8),
        "confidence": np.full((count, 4, 6), 9, np.uint8),
        "depth": np.full((count, 4, 6), 5, np.float32),
        "depth_confidence": np.full((count, 4, 6), 99, np.uint8),
    }


PICTURE = np.zeros((4, 6, 3), np.uint8)


def test_a_backend_is_opened_as_it_is_told(told):
    model = model_card.default_model()
    assert told(model)[1] == (model, "auto", (), 0, "")
    asked = ("tensorrt", (), 3, "e.engine")
    assert told(model, *asked)[1] == (model, *asked)


@pytest.mark.parametrize(
    ("name", "output", "got"),
    [
        ("labels", None, "nothing"),
        ("confidence", np.zeros((1, 4, 5), np.uint8), "uint8 (1, 4, 5)"),
        ("depth", np.zeros((1, 4, 6), np.float16), "float16 (1, 4, 6)"),
        ("depth", np.zeros((1, 6, 4), np.float32), "float32 (1, 6, 4)"),
        ("depth_confidence", None, "nothing"),
    ],
)
def test_outputs_that_break_the_contract_are_refused(told, name, output, got):
    outputs = {
        key: value for key, value in {**promised(), name: output}.items() if value is not None
    }
    perception, _ = told(**outputs)
    kind = "float32" if name == "depth" else "uint8"
    with pytest.raises(BackendError) as caught:
        perception(PICTURE, 5.0)
    assert str(caught.value) == f"output {name}: got {got}, expected {kind} (1, 4, 6)"


def test_labels_that_the_card_does_not_know_are_unlabelled(told):
    outputs = promised(2)
    outputs["labels"][0, 0, :3] = 0, 200, 254
    perception, _ = told(**outputs)
    known = {c.id for c in perception.card.classes}
    assert known >= {0, 3} and not known & {200, 254}
    one, two = perception.batch([View(PICTURE, 5.0)] * 2)
    assert one.labels[0].tolist() == [0, 255, 255, 3, 3, 3]
    assert (one.labels[1:] == 3).all() and (two.labels == 3).all()


def test_depth_outside_of_the_cards_range_is_none(told):
    outputs = promised(2)
    perception, _ = told(**outputs)
    low, high = perception.card.depth.min, perception.card.depth.max
    within = [low, low * 0.9995, high, high * 1.0005]
    outside = [low * 0.99, high * 1.01, 0, -1, np.inf, -np.inf, np.nan]
    values = np.float32(within + outside)
    outputs["depth"].reshape(-1)[: len(values)] = values
    one, two = perception.batch([View(PICTURE, 5.0)] * 2)
    depth = one.depth.reshape(-1)
    assert depth[:4].tolist() == values[:4].tolist() and np.isnan(depth[4:11]).all()
    assert (depth[11:] == 5).all() and (two.depth == 5).all()
    assert one.depth_confidence.reshape(-1).tolist() == [99] * 4 + [0] * 7 + [99] * 13
    assert (two.depth_confidence == 99).all()


def test_a_model_of_depth_alone_promises_no_labels(told):
    indoor = model_card.default_model().with_name("indoor.onnx")
    perception, _ = told(indoor, depth=promised()["depth"])
    assert perception(PICTURE, 5.0).labels is None
    perception, _ = told(indoor)
    with pytest.raises(BackendError, match="output depth: got nothing"):
        perception(PICTURE, 5.0)


def test_a_model_is_warmed_up_at_the_networks_size_with_what_it_takes(told):
    perception, _ = told()
    width, height = perception.card.network_size
    perception.backend.outputs = {
        "labels": np.zeros((1, height, width), np.uint8),
        "confidence": np.zeros((1, height, width), np.uint8),
        "depth": np.ones((1, height, width), np.float32),
        "depth_confidence": np.ones((1, height, width), np.uint8),
    }
    perception.warm_up()
    (inputs,) = perception.backend.asked
    assert inputs.keys() == {"image", "fx"} and inputs["image"].shape == (1, height, width, 3)
    assert inputs["fx"].tolist() == [width]


def test_focal_lengths_are_of_cameras(told):
    perception, _ = told(**promised())
    for fx in (0.002, 0.5, 9e8):
        perception(PICTURE, fx)
    for fx in (None, 0.001, 1e9, 1e9 + 1, np.nan, -5):
        with pytest.raises(ValueError, match=f"^fx is {fx}, metric depth needs a focal length"):
            perception(PICTURE, fx)


def test_what_is_wrong_with_pictures_is_said_of_the_right_one(told):
    perception, _ = told(**promised())
    with pytest.raises(ValueError, match=r"^image: got float32 \(4, 6, 3\), expected uint8"):
        perception(np.float32(PICTURE), 5.0)
    with pytest.raises(
        ValueError, match=r"^the images of a batch have different sizes, expected one size$"
    ):
        perception.batch([View(PICTURE, 5.0), View(PICTURE[:2], 5.0)])


def test_the_packages_own_models_have_names(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert Perception("indoor").card.name == "indoor"
    with pytest.raises(ModelFileError, match="file kitchen; the package has indoor, street"):
        Perception("kitchen")


@pytest.mark.parametrize(
    ("size", "backend"),
    [((1280, 720), "onnxruntime"), ((640, 480), "onnxruntime"), ((720, 1280), "openvino")],
)
def test_a_reduced_image_gives_what_the_graph_gives_for_the_whole(size, backend):
    if backend == "openvino":
        pytest.importorskip("openvino")
    frame = Street(11, *size).frame(0)
    short = Perception(model_card.default_model(), backend, precision="fp32")
    assert short.card.reducible
    found = short(frame.image, frame.intrinsics.fx)
    [small] = short.batch([View(frame.image, frame.intrinsics.fx)], reduced=True)
    height, width = small.labels.shape
    assert (width, height) == short.card.size_for(*size)
    assert small.depth.shape == small.confidence.shape == small.image.shape[:2] == (height, width)
    assert found.image is frame.image
    short.backend.whole_images = True
    whole = short(frame.image, frame.intrinsics.fx)
    assert np.mean(found.labels == whole.labels) > 0.995
    assert np.abs(found.confidence.astype(int) - whole.confidence).mean() < 1
    assert np.mean(np.isnan(found.depth) != np.isnan(whole.depth)) < 0.002
    np.testing.assert_array_equal(found.depth_confidence == 0, np.isnan(found.depth))
    assert np.abs(found.depth_confidence.astype(int) - whole.depth_confidence).mean() < 4
    ratio = np.abs(np.log(found.depth / whole.depth))
    assert np.nanmean(ratio) < 0.003 and np.nanpercentile(ratio, 99) < 0.03
