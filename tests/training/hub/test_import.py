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

"""`python -m training import`: each family, small and with random weights, offline, compared with
what transformers' own processors make of the same image."""

import json
import sys
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
import torch
import torch.nn.functional as F
import transformers as tf
from safetensors.torch import load_file, save_file

from tests.training.hub import small_models as small
from training.__main__ import main
from training.data.classes import CITYSCAPES
from training.errors import TrainingError
from training.hub import importing
from training.hub.class_names import class_entries
from training.hub.importing import example_image, import_model
from training.hub.loading import licence
from training.hub.networks import load_depth, load_labels

NAMES = small.NAMES
WIDTH, HEIGHT = 192, 128
FX = 100.0


@pytest.fixture(autouse=True)
def seeded_and_offline(monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    torch.manual_seed(3)


def run(path, image):
    """Outputs of a model file for an image, by name."""
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    feed = {"image": image[None]}
    if "fx" in [i.name for i in session.get_inputs()]:
        feed["fx"] = np.array([FX], np.float32)
    names = [o.name for o in session.get_outputs()]
    return {n: v[0] for n, v in zip(names, session.run(None, feed), strict=True)}


def labels_by_transformers(folder, image):
    """The label image by transformers' own processor."""
    masks = any(family in folder for family in ("eomt", "mask2former", "maskformer"))
    task = "Universal" if masks else "Semantic"
    model = getattr(tf, f"AutoModelFor{task}Segmentation").from_pretrained(folder).eval()
    processor = tf.AutoImageProcessor.from_pretrained(folder)
    inputs = processor(image, return_tensors="pt")
    offsets = inputs.pop("patch_offsets", None)
    with torch.no_grad():
        outputs = model(**inputs)
    if task == "Universal" and "eomt" in folder:
        outputs.patch_offsets = offsets
    return processor.post_process_semantic_segmentation(outputs, [image.shape[:2]])[0].numpy()


def depth_by_transformers(folder, image):
    height, width = image.shape[:2]
    model = tf.AutoModelForDepthEstimation.from_pretrained(folder).eval()
    if "depth_pro" in folder:  # its processor needs torchvision
        values = torch.from_numpy(image).permute(2, 0, 1)[None] / 127.5 - 1
        values = F.interpolate(values, (64, 64), mode="bilinear")
        with torch.no_grad():
            outputs = model(pixel_values=values)
        focal = 0.5 * width / torch.tan(0.5 * torch.deg2rad(outputs.field_of_view))
        inverse = F.interpolate(
            (outputs.predicted_depth * width / focal)[None], (height, width), mode="bilinear"
        )
        return 1 / inverse.clamp(1e-4, 1e4)[0, 0].numpy()
    processor = tf.AutoImageProcessor.from_pretrained(folder)
    with torch.no_grad():
        outputs = model(**processor(image, return_tensors="pt"))
    if "zoedepth" in folder:  # its post-processing needs torchvision
        rows, columns = (int(np.sqrt(side / 2) * 3) for side in (height, width))
        size = (height + 2 * rows, width + 2 * columns)
        depth = F.interpolate(outputs.predicted_depth[:, None], size, mode="bicubic")[0, 0]
        return depth[rows:-rows, columns:-columns].numpy()
    depth = processor.post_process_depth_estimation(outputs, [(height, width)])[0]
    return depth["predicted_depth"].numpy()


@pytest.mark.parametrize(
    ("segmentation", "depth", "kind"),
    [
        ("segformer", "depth_anything", "metric"),
        ("mask2former", "zoedepth", "metric"),
        ("upernet", "dpt", "up-to-scale"),
        ("eomt_dinov3", "depth_pro", "metric"),
    ],
)
def test_import_agrees_with_transformers(segmentation, depth, kind, tmp_path):
    folders = {name: getattr(small, name)(tmp_path / name) for name in (segmentation, depth)}
    path, classes = tmp_path / "model.onnx", None
    if segmentation == "mask2former":  # without flags, the sky has depth, too
        classes = tmp_path / "classes.txt"
        classes.write_text("\n".join(NAMES))
    card = import_model(
        *(folders[depth], folders[segmentation], path, classes, (WIDTH, HEIGHT)),
        report=lambda line: None,
    )
    image = example_image(WIDTH, HEIGHT)
    found = run(path, image)
    labels = labels_by_transformers(folders[segmentation], image)
    assert len(np.unique(labels)) > 1
    assert (labels == found["labels"]).mean() >= 0.999
    expected = depth_by_transformers(folders[depth], image)
    known = (found["labels"] != NAMES.index("sky")) | (classes is not None)
    if kind != "metric":  # 1 / inverse depth, but where that is nearly 0
        known &= expected > 0.05
        expected = 1 / expected
    assert known.mean() > 0.5
    np.testing.assert_allclose(found["depth"][known], expected[known], rtol=1e-3)
    assert card.depth.kind == kind and [c.name for c in card.classes] == NAMES
    assert [bool(c.flags) for c in card.classes].count(True) == (0 if classes else 17)


def test_depth_anything_3_gives_metres_by_the_focal_length_and_no_depth_for_sky(tmp_path):
    folder, path = small.depth_anything_3(tmp_path / "da3"), tmp_path / "model.onnx"
    card = import_model(folder, None, path, image_size=(504, 378), report=lambda line: None)
    assert card.canonical_fx == 300 and card.network_size == (504, 378)
    image = example_image(504, 378)
    network = load_depth(folder)
    values = importing.translated(image, network.input_entries(), (378, 504))
    with torch.no_grad():
        depth, sky = (value[0].numpy() for value in network(values))
    found = run(path, image)["depth"]
    assert 0.01 < (sky > 0.3).mean() < 0.9
    np.testing.assert_array_equal(np.isnan(found), sky > 0.3)
    expected = np.where(sky > 0.3, np.nan, depth * FX / 300)
    np.testing.assert_allclose(found, expected, rtol=1e-3)


# --- Without an export


@pytest.mark.parametrize("family", ["beit", "data2vec", "dpt_labels", "maskformer"])
def test_labels_of_other_families_are_those_of_transformers(tmp_path, family):
    folder = getattr(small, family)(tmp_path / family)
    network = load_labels(folder)
    image = example_image(WIDTH, HEIGHT)
    entries = importing.input_of(network, (WIDTH, HEIGHT))
    values = importing.translated(image, entries, entries["size"][::-1])
    with torch.no_grad():
        (scores,) = network(values)
    found = F.interpolate(scores, (HEIGHT, WIDTH), mode="bilinear").argmax(1)[0].numpy()
    labels = labels_by_transformers(folder, image)
    assert np.bincount(labels.ravel()).max() < 0.8 * labels.size
    assert (labels == found).mean() >= 0.999


def test_glpns_depth_is_that_of_transformers(tmp_path):
    folder = small.glpn(tmp_path / "glpn")
    network = load_depth(folder)
    assert (network.kind, network.max) == ("metric", 10)
    image = example_image(WIDTH, HEIGHT)
    entries = importing.input_of(network, (WIDTH, HEIGHT))
    values = importing.translated(image, entries, entries["size"][::-1])
    with torch.no_grad():
        found = F.interpolate(network(values)[0][None], (HEIGHT, WIDTH), mode="bicubic")[0, 0]
    expected = depth_by_transformers(folder, image)
    assert np.ptp(expected) > 1
    np.testing.assert_allclose(found, expected, rtol=1e-3)


def test_eomt_that_pads_in_place_of_splitting_is_cut_to_the_image(tmp_path):
    network = load_labels(small.eomt(tmp_path, split=False))
    image = example_image(WIDTH, HEIGHT)
    entries = importing.input_of(network, (WIDTH, HEIGHT))
    assert entries["size"] == [64, 43]
    values = importing.translated(image, entries, (43, 64))
    with torch.no_grad():
        (found,) = network(values)
        model = tf.AutoModelForUniversalSegmentation.from_pretrained(tmp_path).eval()
        outputs = model(network.processed(image))
    masks = F.interpolate(outputs.masks_queries_logits, (64, 64), mode="bilinear").sigmoid()
    classes = outputs.class_queries_logits.softmax(-1)[..., :-1]
    expected = torch.einsum("nqc,nqhw->nchw", classes, masks)[:, :, :43]
    assert found.shape == (1, 19, 43, 64)
    assert (found.argmax(1) == expected.argmax(1)).float().mean() > 0.99


@pytest.mark.parametrize("size", [(640, 480), (480, 640), (1280, 720), (1242, 375), (64, 64)])
def test_eomts_crops_are_those_of_its_image_processor(tmp_path, size):
    network = load_labels(small.eomt(tmp_path))
    importing.input_of(network, size)  # compares them
    rows, columns = network.input_size(*size[::-1])
    scores = torch.rand(1, 19, rows, columns)
    crops = network.prepare(scores)  # put together again, they are the image
    outputs = tf.modeling_outputs.ModelOutput(
        masks_queries_logits=crops.logit(),
        class_queries_logits=torch.cat([torch.eye(19), torch.full((19, 1), -99.0)], 1)
        .mul(99)
        .expand(len(crops), 19, 20),
    )
    (found,) = network.finish(outputs, scores)
    torch.testing.assert_close(found, scores, atol=1e-4, rtol=0)


def changed(folder, **settings):
    """Change an image processor that is saved."""
    path = Path(folder, "preprocessor_config.json")
    path.write_text(json.dumps({**json.loads(path.read_text()), **settings}))
    return folder


@pytest.mark.parametrize(
    ("settings", "line"),
    [
        ({"resample": 1}, "resizes by Pillow's filter 1, expected one of"),
        ({"do_pad": True, "size_divisor": 48}, "do_pad, .* cannot be translated: values differ"),
        ({"do_rescale": False}, None),
        ({"do_normalize": False}, None),
        ({"image_mean": [0.1, 0.5, 0.9], "image_std": [0.2, 0.3, 0.4]}, None),
        ({"do_resize": False}, None),
    ],
)
def test_an_image_processor_is_translated_or_refused(settings, line, tmp_path):
    folder = changed(small.dpt(tmp_path), **settings)
    network = load_depth(folder)
    if line is None:
        entries = importing.input_of(network, (96, 64))
        assert entries["scale"] == (1 if "do_rescale" in settings else pytest.approx(1 / 255))
        assert ("mean" in entries) == settings.get("do_normalize", True)
    else:
        with pytest.raises(TrainingError, match=line):
            importing.input_of(network, (96, 64))


def test_a_step_that_is_not_known_is_found_by_its_values(tmp_path, monkeypatch):
    network = load_depth(small.dpt(tmp_path))
    own = network.processor.run
    bright = lambda image, **more: own(255 - image, **more)  # noqa: E731
    monkeypatch.setattr(network, "processor", network.processor._replace(run=bright))
    with pytest.raises(TrainingError, match=r"\(do_.*\) cannot be translated: values differ by"):
        importing.input_of(network, (96, 64))


def test_missing_weights_are_named_in_place_of_random_ones(tmp_path):
    folder = small.segformer(tmp_path)
    weights = load_file(tmp_path / "model.safetensors")
    del weights["decode_head.classifier.weight"]
    save_file(weights, tmp_path / "model.safetensors", {"format": "pt"})
    with pytest.raises(TrainingError, match=r"1 of \d+ parameters, e\.g\. decode_head\.classif"):
        load_labels(folder)
    (tmp_path / "model.safetensors").write_text("version https://git-lfs.github.com/spec/v1\n")
    with pytest.raises(TrainingError, match=r"model\.safetensors is a pointer of Git LFS"):
        load_labels(folder)


def test_depth_kinds(tmp_path):
    folder = small.dpt(tmp_path / "midas")
    assert load_depth(folder).kind == "inverse" and load_depth(folder, "metric").kind == "metric"
    config = json.loads((tmp_path / "midas" / "config.json").read_text())
    config["backbone_config"] = {"model_type": "dinov2"}
    network = load_depth(folder)
    network.config.backbone_config = tf.Dinov2Config()
    assert network._kinds() == (None, None)  # trained for metres, or not
    network = load_depth(small.depth_anything(tmp_path / "metric"))
    assert (network.kind, network.max, network.canonical_fx) == ("metric", 80, None)
    assert "does not know the focal length" in importing._about_depth(network)
    network = load_depth(small.depth_anything(tmp_path / "relative", "relative"))
    assert network.kind == "inverse" and importing._depth_of(network)["kind"] == "disparity"
    with pytest.raises(TrainingError, match="has metric depth, but --depth-kind is inv"):
        load_depth(str(tmp_path / "metric"), "inverse")
    network = load_depth(small.zoedepth(tmp_path / "zoe"))
    assert (network.kind, network.max) == ("metric", 10)


@pytest.mark.parametrize(
    ("front", "warning"),
    [
        ("license: apache-2.0", None),
        ("license: mit\ndatasets: [cityscapes]", None),
        ("license: cc-by-nc-4.0", "has the licence cc-by-nc-4.0: NOT for commercial use"),
        ("license: apple-amlr", "NOT for commercial use"),
        ("license: other\nlicense_name: nvidia-source-code", "nvidia-source-code: read it before"),
        ("license: other", "has the licence other: read it before"),
        ("license: [", "gives no licence"),
        ("tags: [depth]", "gives no licence"),
        (None, "gives no licence"),
    ],
)
def test_the_licence_is_that_of_the_models_own_card(front, warning, tmp_path):
    if front is not None:
        (tmp_path / "README.md").write_text(f"---\n{front}\n---\n# A model\nlicense: mit\n")
    found = licence(str(tmp_path))
    line = found.warning("A")
    assert line is None if warning is None else warning in line
    assert found.datasets == (("cityscapes",) if front and "datasets" in front else ())


def test_terms_and_data_go_to_the_card(tmp_path):
    network = load_labels(small.segformer(tmp_path / "net"))
    (tmp_path / "net" / "README.md").write_text(
        "---\nlicense: other\nlicense_name: research-only\ndatasets: cityscapes\n---\n"
    )
    lines = []
    terms = importing._terms([network], lines.append)
    assert terms == {"terms": "net: licence research-only", "trained_on": ["cityscapes"]}
    assert lines == [
        f"WARNING: {network.name} has the licence research-only: NOT for commercial use"
    ]
    network.name = "depth-anything/Depth-Anything-V2-Metric-Outdoor-Small-hf"
    with pytest.raises(TrainingError, match="cannot be downloaded from the Hugging Face hub"):
        importing._terms([network], lines.append)  # offline


def test_classes_get_flags_by_their_names_and_known_colours():
    entries, line = class_entries(NAMES)
    found = {e["name"]: (e["flags"], tuple(e["color"])) for e in entries}
    assert {n: (list(c.flags), c.color) for n, c in zip(NAMES, CITYSCAPES, strict=True)} == found
    assert line == (
        "19 classes, flags by their names: sky: sky; traversable: road; 15 obstacle; 8 movable;"
        " without a flag: sidewalk, terrain"
    )
    entries, line = class_entries(
        ["floor, flooring", "pier, wharf", "pier, dock", "LABEL_3", "bed "]
    )
    assert [e["name"] for e in entries] == [
        "floor",
        "pier, wharf 1",
        "pier, dock 2",
        "LABEL_3",
        "bed",
    ]
    assert [e["flags"] for e in entries] == [
        ["traversable"],
        ["obstacle"],
        ["obstacle"],
        [],
        ["obstacle"],
    ]
    assert "without a flag: LABEL_3" in line and "color" not in entries[0]


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        ([], "give --depth, --segmentation or both"),
        (["--depth", "x", "--classes", "c.txt"], "--classes needs --segmentation"),
        (["--depth", "x", "--image-size", "640"], "expected WIDTHxHEIGHT, such as 640x480"),
        (["--depth", "nobody/depth"], "cannot be downloaded from the Hugging Face hub"),
        (["--segmentation", "/nowhere"], "/nowhere is not there, expected a .onnx"),
        (["--depth", "SEGFORMER"], "expected a network for depth, such as Depth Anything V2"),
        (
            ["--segmentation", "BERT"],
            "supported are beit, data2vec-vision, dpt, segformer, upernet, eom",
        ),
    ],
)
def test_a_wrong_command_is_one_line(arguments, line, tmp_path, capsys):
    small.segformer(tmp_path / "SEGFORMER")
    tf.BertConfig(architectures=["BertModel"]).save_pretrained(tmp_path / "BERT")
    folders = {name: str(tmp_path / name) for name in ("SEGFORMER", "BERT")}
    given = [folders.get(argument, argument) for argument in arguments]
    try:
        code = main(["import", "--output", str(tmp_path / "m.onnx"), *given])
    except SystemExit as stop:
        code = stop.code
    error = capsys.readouterr().err.splitlines()[-1]
    assert code in (1, 2) and line in error
    assert not (tmp_path / "m.onnx").exists()


def test_without_transformers_the_extra_is_named(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "transformers", None)
    with pytest.raises(TrainingError, match=r"pip install -e .\[teachers\]"):
        import_model("depth-anything/DA3METRIC-LARGE", None, tmp_path / "m.onnx")


def test_networks_that_torch_cannot_export_give_one_line(tmp_path):
    network = load_labels(small.segformer(tmp_path))
    network.finish = lambda outputs, values: (outputs.logits if values.mean() > 0 else None,)
    with pytest.raises(
        TrainingError, match=r"\(segformer\) at 32x32 cannot be exported to ONNX: .+"
    ):
        importing.to_onnx(network, 32, 32)
