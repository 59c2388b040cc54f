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

"""Teachers: networks of transformers, small and made here, and our own model files."""

import json
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
import transformers as tf

from depthseg_ros.street import Street
from tests.training.hub.small_models import (
    NAMES,
    depth_anything,
    depth_anything_3,
    depth_pro,
    dpt,
    eomt,
    mask2former,
    saved,
    segformer,
    zoedepth,
)
from training.data.classes import CAMVID, CITYSCAPES
from training.data.label_spaces import read_map
from training.errors import TrainingError
from training.hub.class_names import plain_name
from training.hub.importing import translated
from training.hub.networks import load_depth
from training.own_robot.teachers import (
    DepthEstimator,
    OnnxTeacher,
    Segmenter,
    depth_teacher,
    segmentation_teacher,
    student_shares,
)

ROOT = Path(__file__).resolve().parents[3]
STREET = ROOT / "models" / "street.onnx"
CPU = torch.device("cpu")
# As nvidia/segformer-b0-finetuned-ade-512-512 has them, with a space after "bed".
ADE20K = """wall,building,sky,floor,tree,ceiling,road,bed ,windowpane,grass,cabinet,sidewalk,person,
earth,door,table,mountain,plant,curtain,chair,car,water,painting,sofa,shelf,house,sea,mirror,rug,
field,armchair,seat,fence,desk,rock,wardrobe,lamp,bathtub,railing,cushion,base,box,column,signboard,
chest of drawers,counter,sand,sink,skyscraper,fireplace,refrigerator,grandstand,path,stairs,runway,
case,pool table,pillow,screen door,stairway,river,bridge,bookcase,blind,coffee table,toilet,flower,
book,hill,bench,countertop,stove,palm,kitchen island,computer,swivel chair,boat,bar,arcade machine,
hovel,bus,towel,light,truck,tower,chandelier,awning,streetlight,booth,television receiver,airplane,
dirt track,apparel,pole,land,bannister,escalator,ottoman,bottle,buffet,poster,stage,van,ship,
fountain,conveyer belt,canopy,washer,plaything,swimming pool,stool,barrel,basket,waterfall,tent,bag,
minibike,cradle,oven,ball,food,step,tank,trade name,microwave,pot,animal,bicycle,lake,dishwasher,
screen,blanket,sculpture,hood,sconce,vase,traffic light,tray,ashcan,fan,pier,crt screen,plate,
monitor,bulletin board,shower,radiator,glass,clock,flag""".replace(",\n", ",").split(",")


@pytest.fixture(autouse=True)
def seeded():
    torch.manual_seed(0)


@pytest.fixture(scope="module")
def pictures():
    frames = [Street(seed, 120, 90).frame(0).image for seed in (1, 2)]
    return torch.from_numpy(np.stack(frames))


CITYSCAPES_MAP = read_map("cityscapes_to_camvid")


@pytest.mark.parametrize("make", [segformer, mask2former, eomt])
def test_segmentation_models_give_probabilities_of_the_students_classes(make, tmp_path, pictures):
    teacher = segmentation_teacher(make(tmp_path), CPU, "fp32", CAMVID, CITYSCAPES_MAP)
    assert list(teacher.classes) == NAMES and teacher.depth is None
    with torch.inference_mode():
        shares = teacher(pictures, None, 1.0).shares
        other = teacher(pictures, None, 0.75).shares
    assert shares.shape == other.shape == (2, 11, 90, 120)
    assert shares.min() >= 0 and shares.sum(1).max() < 1 + 1e-5
    assert torch.equal(shares, other) == (make is eomt)  # which knows one size alone


def test_segformer_agrees_with_transformers(tmp_path):
    """At the network's own size nothing is resized, and classes stay what they are."""
    folder = segformer(tmp_path)
    image = Street(1, 64, 64).frame(0).image
    names = {c.name: c.name for c in CITYSCAPES}
    teacher = segmentation_teacher(folder, CPU, "fp32", CITYSCAPES, names)
    model = tf.SegformerForSemanticSegmentation.from_pretrained(folder).eval()
    values = tf.AutoImageProcessor.from_pretrained(folder)(image, return_tensors="pt")
    with torch.inference_mode():
        logits = model(**values).logits
        expected = torch.nn.functional.interpolate(logits, (64, 64), mode="bilinear").softmax(1)
        found = teacher(torch.from_numpy(image)[None], None, 1.0).shares
    torch.testing.assert_close(found, expected, atol=1e-4, rtol=1e-3)


def test_mask2former_agrees_with_transformers(tmp_path):
    folder = mask2former(tmp_path)
    image = Street(1, 64, 64).frame(0).image
    names = {c.name: c.name for c in CITYSCAPES}
    teacher = segmentation_teacher(folder, CPU, "fp32", CITYSCAPES, names)
    model = tf.Mask2FormerForUniversalSegmentation.from_pretrained(folder).eval()
    processor = tf.AutoImageProcessor.from_pretrained(folder)
    with torch.inference_mode():
        outputs = model(**processor(image, return_tensors="pt"))
        expected = processor.post_process_semantic_segmentation(outputs, [(64, 64)])[0]
        found = teacher(torch.from_numpy(image)[None], None, 1.0).shares[0].argmax(0)
    same = found == getattr(expected, "segmentation", expected)
    assert same.float().mean() > 0.9  # it is enlarged twice there, once here


@pytest.mark.parametrize(
    ("make", "kind"),
    [
        (depth_anything, "metric"),
        (lambda folder: depth_anything(folder, "relative"), "relative"),
        (zoedepth, "metric"),
        (depth_pro, "metric"),
        (dpt, "relative"),
        (lambda folder: depth_anything_3(folder, "da3mono-large"), "relative"),
    ],
)
def test_kind_of_depth_is_read_from_the_model(make, kind, tmp_path, pictures):
    teacher = depth_teacher(make(tmp_path), CPU, "fp32", None)
    assert teacher.depth == kind and not teacher.needs_fx
    with torch.inference_mode():
        for scale in (1.0, 0.75):
            depth = teacher(pictures, None, scale).depth
            assert depth.shape == (2, 90, 120) and depth.isfinite().float().mean() > 0.5


def test_depth_anything_3_gives_metres_by_the_focal_length(tmp_path, pictures):
    teacher = depth_teacher(depth_anything_3(tmp_path), CPU, "fp32", None)
    assert teacher.depth == "metric" and teacher.needs_fx
    with torch.inference_mode():
        near, far = (teacher(pictures, torch.tensor([fx, fx]), 1.0).depth for fx in (80.0, 160.0))
    torch.testing.assert_close(far, 2 * near, equal_nan=True)
    # The network takes 120x90 as 504x378, where a focal length of 80 pixels is one of 336.
    network = load_depth(str(tmp_path))
    entries = network.input_entries() | {"round": False}
    values = translated(pictures[0].numpy(), entries, (378, 504))
    with torch.inference_mode():
        depth, sky = network(values)
    metres = torch.where(sky > 0.3, torch.nan, depth * 336 / 300)
    metres = torch.nn.functional.interpolate(metres[None], (90, 120), mode="bilinear")[0, 0]
    error = (near[0] / metres - 1).abs()
    assert error.nanmedian() < 0.01


@pytest.mark.parametrize("make", [depth_anything, dpt, zoedepth])
def test_depth_agrees_with_transformers(make, tmp_path):
    folder = make(tmp_path)
    height, width = {"dpt": (64, 64), "zoedepth": (64, 96), "depth_anything": (84, 84)}[
        make.__name__
    ]
    image = Street(1, width, height).frame(0).image
    model = tf.AutoModelForDepthEstimation.from_pretrained(folder).eval()
    values = tf.AutoImageProcessor.from_pretrained(folder)(image, return_tensors="pt")
    with torch.inference_mode():
        expected = model(**values).predicted_depth
        found = DepthEstimator(folder, CPU)(torch.from_numpy(image)[None], None, 1.0).depth
    if make is zoedepth:  # its padding is cut off again
        rows, columns = int((height / 2) ** 0.5 * 3), int((width / 2) ** 0.5 * 3)
        size = (height + 2 * rows, width + 2 * columns)
        expected = torch.nn.functional.interpolate(expected[None], size, mode="bilinear")[0]
        expected = expected[:, rows:-rows, columns:-columns]
    assert (found / expected - 1).abs().nanmedian() < 0.01


def test_depth_kind_is_asked_where_a_model_does_not_say_it_and_may_not_contradict(tmp_path):
    folder = dpt(tmp_path / "dpt")
    assert depth_teacher(folder, CPU, "fp32", "metric").depth == "metric"
    folder = depth_anything(tmp_path / "anything")
    with pytest.raises(TrainingError, match="has metric depth"):
        depth_teacher(folder, CPU, "fp32", "relative")


def test_half_precision_predicts_nearly_the_same(tmp_path, pictures):
    folder = segformer(tmp_path)
    with torch.inference_mode():
        one, other = (
            segmentation_teacher(folder, CPU, precision, CAMVID, CITYSCAPES_MAP)(
                pictures, None, 1.0
            ).shares
            for precision in ("fp32", "bf16")
        )
    assert other.dtype == torch.float32
    assert 0 < (one - other).abs().mean() < 0.02


def test_wide_images_stay_wide_for_segformer(tmp_path):
    teacher = Segmenter(segformer(tmp_path), CPU)
    assert teacher._network_size(480, 960, 1.0) == (64, 128)
    assert teacher._network_size(480, 960, 1.5) == (96, 192)


def test_our_own_model_file_gives_labels_and_metric_depth():
    frame = Street(5, 320, 240).frame(0)
    teacher = segmentation_teacher(str(STREET), CPU, "fp32", CAMVID, None)
    assert depth_teacher(str(STREET), CPU, "fp32", None, loaded=teacher) is teacher
    assert teacher.depth == "metric" and teacher.needs_fx
    image, fx = torch.from_numpy(frame.image)[None], torch.tensor([frame.intrinsics.fx])
    whole = teacher(image, fx, 1.0)
    assert whole.shares.shape == (1, 11, 240, 320) and whole.shares.max() <= 1
    # A pixel's one vote is as strong as the model is sure.
    assert ((whole.shares > 0).sum(1) <= 1).all()
    assert (whole.shares.argmax(1)[0].numpy() == frame.labels).mean() > 0.85
    for scale in (0.75, 1.25):  # metres stay metres
        depth = teacher(image, fx, scale).depth
        both = depth.isfinite() & whole.depth.isfinite()
        assert both.float().mean() > 0.4
        assert (depth / whole.depth)[both].median() == pytest.approx(1, abs=0.03)


def test_models_that_cannot_be_teachers_give_one_line(tmp_path, monkeypatch):
    classifier = tf.SegformerForImageClassification(
        tf.SegformerConfig(depths=[1] * 4, hidden_sizes=[8, 8, 16, 16], decoder_hidden_size=8)
    )
    folder = saved(tmp_path / "classifier", classifier, tf.SegformerImageProcessor())
    with pytest.raises(TrainingError, match=r"ImageClassification, expected a network for s"):
        Segmenter(folder, CPU)
    with pytest.raises(
        TrainingError, match=r"SegformerForSemanticSegmentation, expected a network for d"
    ):
        DepthEstimator(segformer(tmp_path / "labels"), CPU)
    with pytest.raises(TrainingError, match="not there, expected a"):
        Segmenter(str(tmp_path / "nothing"), CPU)
    (tmp_path / "empty").mkdir()
    with pytest.raises(TrainingError, match="not a folder that transformers can load"):
        Segmenter(str(tmp_path / "empty"), CPU)
    with pytest.raises(TrainingError, match="does not predict relative depth"):
        depth_teacher(str(STREET), CPU, "fp32", "relative")


def test_without_a_network_a_name_is_one_clear_line(monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(TrainingError) as error:
        Segmenter("nobody/segformer", CPU)
    (line,) = str(error.value).splitlines()
    assert line.startswith("nobody/segformer is not a folder, and cannot be downloaded")
    assert "give a folder with the model, or a model file (.onnx)" in line


def test_without_transformers_its_extra_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "transformers", None)
    with pytest.raises(TrainingError, match=r"pip install -e .\[teachers\]"):
        Segmenter("nvidia/segformer-b0-finetuned-ade-512-512", CPU)


def test_a_damaged_folder_is_one_clear_line(tmp_path):
    folder = Path(segformer(tmp_path))
    weights = next(folder.glob("*.safetensors"))
    weights.write_bytes(weights.read_bytes()[:1000])
    with pytest.raises(TrainingError, match="not a folder that transformers can load"):
        Segmenter(str(folder), CPU)
    (folder / "config.json").write_text(json.dumps({"model_type": "segformer"}))
    with pytest.raises(TrainingError, match="model of unknown kind"):
        Segmenter(str(folder), CPU)


def test_code_that_comes_with_a_model_is_not_run_whatever_is_answered(tmp_path, monkeypatch):
    monkeypatch.setattr("builtins.input", lambda _: "yes")
    (tmp_path / "config.json").write_text(
        json.dumps({"model_type": "own", "auto_map": {"AutoConfig": "own.Own"}})
    )
    (tmp_path / "own.py").write_text(
        f"from transformers import PretrainedConfig as Own\nopen({str(tmp_path / 'ran')!r}, 'w')\n"
    )
    with pytest.raises(TrainingError, match="contains custom code"):
        Segmenter(str(tmp_path), CPU)
    assert not (tmp_path / "ran").exists()


# --- Maps of classes


def test_the_maps_of_the_repository_hold_every_class_of_their_teachers():
    weights = student_shares(NAMES, CAMVID, CITYSCAPES_MAP)
    assert (weights.sum(1) == 1).all() and (weights.max(1) == 1).all()
    found = weights.argmax(1)
    student = [c.name for c in CAMVID]
    said = {n: student[g] for n, g in zip(NAMES, found, strict=True)}
    assert said["sidewalk"] == "pavement" and said["rider"] == "bicyclist"
    assert len(set(found)) == 11  # every class of the student has one
    names = [plain_name(name) for name in ADE20K]
    assert len(names) == 150
    found = student_shares(names, CAMVID, read_map("ade20k_to_camvid")).argmax(1)
    assert set(found) == set(range(12))
    assert found[names.index("bed")] == 11 and found[names.index("streetlight")] == 2


def test_synonyms_are_left_out_of_names():
    assert plain_name("pier, wharf, wharfage, dock") == "pier"
    assert student_shares([plain_name("road, route")], CAMVID, {"road, route": "road"})[0, 3] == 1
    with pytest.raises(TrainingError, match="has 'road' twice"):
        student_shares(["road"], CAMVID, {"road, route": "road", "road": "road"})


def test_a_class_that_becomes_a_set_shares_its_probability():
    weights = student_shares(["green", "road"], CAMVID, {"green": ["tree", "pavement"], 1: "road"})
    assert weights[0, [4, 5]].tolist() == [0.5, 0.5] and weights[1, 3] == 1
    assert (weights.sum(1) == 1).all()


def test_a_teacher_with_the_students_names_needs_no_map():
    assert student_shares(["road", "sky"], CAMVID, None).argmax(1).tolist() == [3, 0]
    assert OnnxTeacher(STREET).classes == tuple(c.name for c in CAMVID)
    with pytest.raises(
        TrainingError, match="has the classes 'lamp', which the student does not have"
    ):
        student_shares(["road", "lamp"], CAMVID, None)
