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

"""Labels of image folders, refined by teachers that are plain ONNX files."""

import cv2
import numpy as np
import onnx
import pytest
import torch
import yaml
from onnx import TensorProto, helper, numpy_helper

from depthseg_ros.model_card import ModelCard
from training.cli.pseudo_label import main
from training.data.classes import CAMVID
from training.data.label_spaces import read_map
from training.data.sources import open_source
from training.data.transforms import TrainDataset
from training.errors import TrainingError
from training.own_robot.refine import decide
from training.own_robot.teachers import PlainOnnx, segmentation_teacher

CPU = torch.device("cpu")
CARD = ModelCard("m", "s", CAMVID, None, (48, 48))
BUILDING, ROAD, TREE = 1, 3, 5
# By color: a pixel of pure red is a wall, and so on.
NAMES = {0: "wall", 1: "lawn", 2: "street", 3: "background"}
MAP = {"wall": "building", "lawn": "tree", "street": "road"}


def plain(folder, **changes):
    """A network of one layer: the logit of a class is how strong its color is."""
    weights = np.zeros((4, 3, 1, 1), np.float32)
    weights[0, 0] = weights[1, 1] = weights[2, 2] = 10
    weights[3] = 90  # never wins: it is ignored
    sizes = (1, 3, "h", "w"), (1, 4, "h", "w")
    graph = helper.make_graph(
        [helper.make_node("Conv", ["input", "weights"], ["logits"])],
        "plain",
        [helper.make_tensor_value_info("input", TensorProto.FLOAT, sizes[0])],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, sizes[1])],
        [numpy_helper.from_array(weights, "weights")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.save(model, folder / "plain.onnx")
    about = {
        "source": {"trained_on": "made-up colors"},
        "input": {
            "name": "input", "scale": 1 / 255, "mean": [0, 0, 0], "std": [1, 1, 1],
            "size_checked_hw": [33, 65], "allowed_sizes": "H and W of the form 16k+1",
            **changes,
        },
        "outputs": [{"name": "logits", "classes": NAMES, "ignore_when_taking_argmax": [3]}],
    }  # fmt: skip
    (folder / "plain.yaml").write_text(yaml.safe_dump(about))
    return folder / "plain.onnx"


def write(path, array):
    path.parent.mkdir(parents=True, exist_ok=True)
    cv2.imwrite(str(path), array[..., ::-1] if array.ndim == 3 else array)


@pytest.fixture
def data(tmp_path):
    """Two images: columns of red, green and blue; labels a set, a class, and none."""
    image = np.repeat(np.eye(3, dtype=np.uint8)[None] * 255, 48, 0).repeat(16, 1)
    labels = np.zeros((48, 48), np.uint8)  # a set
    labels[16:32], labels[32:] = 1, 255
    for name in ("a/1", "b/2"):
        write(tmp_path / f"data/images/{name}.png", image)
        write(tmp_path / f"data/masks/{name}.png", labels)
    (tmp_path / "data/dataset.yaml").write_text(
        "classes: [far, drive]\nmap: {far: [building, tree], drive: road}\nsplits: all\n"
    )
    (tmp_path / "map.yaml").write_text(yaml.safe_dump(MAP))
    return tmp_path


def refined(data, *more):
    main([
        "--data", f"folder={data / 'data'}", "--output", str(data / "out"), "--device", "cpu",
        "--segmentation-teacher", str(plain(data)), "--classes", str(data / "map.yaml"), *more,
    ])  # fmt: skip


def test_a_plain_network_is_a_teacher(tmp_path):
    name = str(plain(tmp_path))
    teacher = segmentation_teacher(name, CPU, "fp32", CAMVID, MAP)
    assert isinstance(teacher, PlainOnnx) and teacher.classes == ("wall", "lawn", "street")
    assert (teacher.size, teacher.trained_on) == (33, "made-up colors")
    image = torch.zeros(1, 40, 60, 3, dtype=torch.uint8)
    image[:, :, :30, 0] = image[:, :, 30:, 2] = 255
    shares = teacher(image, None, 1.0).shares
    assert shares.shape == (1, 11, 40, 60)
    assert (shares[0, BUILDING, :, :25] > 0.99).all() and (shares[0, ROAD, :, 35:] > 0.99).all()


@pytest.mark.parametrize(
    "changes",
    [{"allowed_sizes": "any"}, {"scale": "x"}, {"mean": [1]}, {"size_checked_hw": None}],
)
def test_a_description_that_lacks_something_is_one_clear_line(changes, tmp_path):
    path = plain(tmp_path, **changes)
    with pytest.raises(TrainingError, match=r"plain\.yaml does not describe a teacher: "):
        PlainOnnx(path)


def test_teachers_choose_among_the_classes_of_a_label():
    sets = np.zeros((1, 11), bool)
    sets[0, [BUILDING, TREE]] = True
    labels = np.uint8([[11, 11, 11, ROAD, 255, 255]])
    shares = np.zeros((11, 1, 6), np.float32)
    shares[[BUILDING, TREE], 0, 0] = 0.3, 0.1  # three quarters of the set, which has 0.4
    shares[[BUILDING, TREE], 0, 1] = 0.3, 0.3  # neither
    shares[[BUILDING, TREE, ROAD], 0, 2] = 0.2, 0.0, 0.8  # the set is improbable
    shares[TREE, 0, 3] = 1.0  # a label that is one class stands
    shares[ROAD, 0, 4], shares[ROAD, 0, 5] = 0.6, 0.4
    decided, trust = decide(labels, shares, sets)
    assert decided.tolist() == [[BUILDING, 255, 255, 255, ROAD, 255]]
    assert trust.tolist() == [[191, 0, 0, 0, 153, 0]]


def test_refined_labels_are_trained_on_and_not_scored(data):
    refined(data)
    options = {"refined": str(data / "out")}
    source = open_source("folder", "train", data / "data", options=options)
    assert "labels by plain.onnx, which was trained on made-up colors" in source.terms
    mapped = source.mapped(CAMVID, scored=False)
    sample = mapped.samples[1]
    middles = (8, 24, 40)
    # Of the set, road is none: there the label stays the set.
    assert sample.labels[8, middles].tolist() == [BUILDING, TREE, 11]
    assert sample.labels[24, middles].tolist() == [ROAD] * 3
    assert sample.labels[40, middles].tolist() == [BUILDING, TREE, ROAD]
    assert sample.labels_confidence[8, 40] == sample.labels_confidence[24, 8] == 255
    assert 200 < sample.labels_confidence[40, 8] <= 255
    item = TrainDataset(mapped.samples, (48, 48), CARD, (1, 1), sets=mapped.sets)[0, 1]
    assert set(item["labels"].unique().tolist()) <= {BUILDING, ROAD, TREE, 11, 255}
    scored = source.mapped(CAMVID)
    assert scored.samples[1].labels[8, middles].tolist() == [11] * 3


def test_images_without_labels_get_them_from_teachers(data):
    (data / "data/masks").rename(data / "unused")
    (data / "data/dataset.yaml").unlink()
    (data / "mine.yaml").write_text("splits: all")
    description = {"description": str(data / "mine.yaml")}
    refined(data, "--options", yaml.safe_dump(description))
    options = {"refined": str(data / "out"), **description}
    source = open_source("folder", "train", data / "data", options=options, count=1)
    mapped = source.mapped(CAMVID, scored=False)
    assert mapped.classes == CAMVID
    assert mapped.samples[0].labels[8, [8, 24, 40]].tolist() == [BUILDING, TREE, ROAD]


def test_refined_labels_are_kept_and_other_options_refused(data):
    refined(data)
    path = data / "out/images/a/1.png"
    path.write_bytes((data / "data/masks/a/1.png").read_bytes())
    (data / "out/images/b/2.png").unlink()
    with pytest.raises(TrainingError, match=r"lacks 1 files, the first is .*b/2\.png"):
        open_source(
            "folder", "train", data / "data", options={"refined": str(data / "out")}
        ).mapped(CAMVID, scored=False)
    refined(data)
    assert cv2.imread(str(path), -1)[0, 0] == 0 and (data / "out/images/b/2.png").exists()
    with pytest.raises(TrainingError, match=r"out was made with other options \(size "):
        refined(data, "--teacher-size", "49")
    with pytest.raises(TrainingError, match=r"has the classes \['sky', .* the model \['road'\]"):
        open_source(
            "folder", "train", data / "data",
            options={"refined": str(data / "out"), "map": {"far": "ignore", "drive": "road"}},
        ).mapped(CAMVID[ROAD : ROAD + 1], scored=False)  # fmt: skip


def test_wrong_calls_are_one_clear_line(data, capsys):
    with pytest.raises(TrainingError, match="--classes has 2 maps for 1 teachers"):
        refined(data, "--classes", "a", "b")
    with pytest.raises(TrainingError, match="streets has no option `refined`"):
        open_source("streets", "val", None, 1, {"refined": "x"})
    for arguments, message in (
        (["--data", "a=b"], "needs --output"),
        (["--data", "b"], "a recording needs --depth-teacher"),
    ):
        with pytest.raises(SystemExit):
            main([*arguments, "--segmentation-teacher", "x"])
        assert message in capsys.readouterr().err


def test_the_public_teachers_fit_their_maps(shared_data):
    folder = shared_data / "teachers"
    image = torch.from_numpy(
        open_source("idd_lite", "val", shared_data / "idd_lite", 1).samples[0].image
    )[None]
    for name, classes in (
        ("espnetv2_s20_city_512x256", "cityscapes_to_camvid"),
        ("deeplab_edgetpu_slim_city", "cityscapes_to_camvid"),
        ("deeplabv3_mnv2_ade20k31", "ade20k31_to_camvid"),
    ):
        mapping = read_map(classes)
        teacher = segmentation_teacher(
            str(folder / f"{name}.onnx"), CPU, "fp32", CAMVID, mapping, 128
        )
        shares = teacher(image, None, 1.0).shares
        assert shares.shape == (1, 11, *image.shape[1:3])
        assert shares.min() >= 0 and shares.sum(1).max() < 1 + 1e-4
        assert shares[0, ROAD, -60:-20].mean() > 0.3 > shares[0, ROAD, :40].mean()
