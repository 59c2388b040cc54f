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


"""Distillation on images without labels: a vision transformer's features, a teacher's classes."""

import copy
import json

import onnx
import pytest
import torch
import transformers as tf

from training.data.classes import CAMVID
from training.engine.weights import provenance_of
from training.errors import TrainingError
from training.losses.distillation import feature_cosine, softened_divergence
from training.models.encoders import ResNet
from training.models.systems.shared_encoder import SharedEncoder
from training.objectives.base import Context
from training.objectives.distilled import Distilled, LabelTeacher
from training.own_robot.distillation import TeacherFile

CLASSES = CAMVID[:3]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    torch.manual_seed(0)
    config = tf.Dinov2Config(
        hidden_size=24, num_hidden_layers=2, num_attention_heads=2, image_size=70, patch_size=14
    )
    model = tf.AutoModel.from_config(config)
    for parameter in model.parameters():
        parameter.data += 0.1 * torch.randn_like(parameter)
    path = tmp_path_factory.mktemp("hub") / "dinov2"
    model.save_pretrained(path)
    return str(path)


def student(classes=3):
    torch.manual_seed(1)
    encoder = ResNet((16, 16, 16, 16), (1, 1, 1, 1), half=True)
    return SharedEncoder(classes, encoder=encoder, context=12, decoder=(8, 8, 8), heads=(8, 8))


def unlabelled():
    torch.manual_seed(2)
    return {
        "image": torch.randint(0, 255, (2, 3, 64, 96), dtype=torch.uint8),
        "labels": torch.full((2, 64, 96), 255, dtype=torch.uint8),
        "depth": torch.full((2, 64, 96), torch.nan),
    }


def losses(objective, system, batch):
    return objective(Context(system, batch, torch.ones(3), 100.0, classes=CLASSES))


def learned(objective, system, name, steps=12):
    """A loss on one unlabelled batch, before and after some steps of training."""
    objective.prepare(system)
    parameters = [*system.train().parameters(), *objective.parameters()]
    optimizer = torch.optim.Adam(parameters, 1e-2)
    values = []
    for _ in range(steps):
        parts, present = losses(objective, system, unlabelled())
        assert present == {"segmentation": True, "depth": False}
        values.append(parts["segmentation"][name].item())
        optimizer.zero_grad()
        torch.stack([v for task in parts.values() for v in task.values()]).sum().backward()
        optimizer.step()
    return values[0], values[-1]


@pytest.mark.parametrize("part", ["encoder", "decoder"])
def test_features_come_nearer_to_the_transformers(folder, part):
    before, after = learned(Distilled(folder, part), student(), "features")
    assert 0.5 < before < 1.5 and after < 0.7 * before


def test_the_transformer_is_neither_trained_nor_saved_nor_copied(folder):
    objective = Distilled(folder)
    objective.prepare(student())
    assert set(objective.state_dict()) == {"projection.weight", "projection.bias"}
    assert objective.projection.weight.shape == (24, 16, 1, 1)
    assert len(list(objective.parameters())) == 2
    assert copy.deepcopy(objective)._vit.module is objective._vit.module
    assert objective.provenance["trained_on"] == [f"features computed by {folder}"]
    # What a checkpoint keeps makes the same projection, and nothing else.
    described = Distilled(json.loads(json.dumps(objective.described[folder])))
    described.prepare(student())
    described.load_state_dict(objective.state_dict())
    with pytest.raises(TrainingError, match=r"set model\.objective"):
        losses(described, student(), unlabelled())


class Says(LabelTeacher):
    def __init__(self, shares):
        self.given = shares

    def probabilities(self, images_NHW3, classes):
        assert images_NHW3.dtype == torch.uint8 and len(classes) == 3
        return self.given


def test_classes_come_nearer_to_the_teachers():
    torch.manual_seed(3)
    shares = (
        (3 * torch.randn(2, 3, 8, 12)).softmax(1).repeat_interleave(8, 2).repeat_interleave(8, 3)
    )
    before, after = learned(Distilled(teacher=Says(shares)), student(), "distilled")
    assert after < 0.7 * before


@pytest.mark.parametrize("temperature", [1.0, 4.0])
def test_softened_divergence_is_that_of_softened_logits(temperature):
    torch.manual_seed(0)
    logits, teachers = torch.randn(2, 2, 3, 4, 5, dtype=torch.float64)
    where = torch.rand(2, 4, 5) > 0.5
    target = (teachers / temperature).softmax(1)
    by_hand = torch.nn.functional.kl_div(
        (logits / temperature).log_softmax(1), target, reduction="none"
    ).sum(1)[where].mean() * temperature**2  # fmt: skip
    found = softened_divergence(logits, teachers.softmax(1), where, temperature)
    torch.testing.assert_close(found, by_hand, rtol=1e-5, atol=1e-6)
    # Where the teacher sees none of the classes, it teaches nothing.
    shares = teachers.softmax(1) * where[:, None]
    everywhere = softened_divergence(logits, shares, torch.ones_like(where), temperature)
    torch.testing.assert_close(everywhere, found)
    nowhere = softened_divergence(logits, shares, torch.zeros_like(where), temperature)
    assert nowhere == 0


def test_one_channel_is_the_foregrounds():
    logit = torch.randn(1, 1, 2, 2)
    shares = torch.rand(1, 2, 2, 2).softmax(1)
    both = torch.cat([torch.zeros_like(logit), logit], 1)
    where = torch.ones(1, 2, 2, dtype=torch.bool)
    assert softened_divergence(logit, shares, where, 2) == softened_divergence(
        both, shares, where, 2
    )


def test_the_cosine_does_not_depend_on_lengths():
    features = torch.randn(1, 4, 2, 3)
    assert feature_cosine(features, 7 * features) == pytest.approx(0, abs=1e-6)
    assert feature_cosine(features, -features) == pytest.approx(2, abs=1e-6)


def test_a_label_goes_before_the_teacher():
    torch.manual_seed(0)
    system, batch = student().eval(), unlabelled()
    batch["labels"][:, :, :48] = 1
    shares = torch.rand(2, 3, 64, 96).softmax(1)
    other = shares.clone()
    other[..., :46] = torch.rand(2, 3, 64, 46).softmax(1)  # two pixels less: it is made smaller
    values = [
        losses(Distilled(teacher=Says(s)), system, batch).parts["segmentation"]["distilled"]
        for s in (shares, other)
    ]
    assert values[0] == values[1] > 0


GRAPH = """
<ir_version: 8, opset_import: ["" : 18]>
teacher (float[N, 3, H, W] x) => (float[N, 3, H, W] logits)
{
    logits = Identity (x)
}
"""
ABOUT = """
input: {name: x, scale: 0.1, mean: [0, 0, 0], std: [1, 1, 1], size_checked_hw: [64, 96],
        allowed_sizes: multiples of 8}
outputs: [{classes: {0: red, 1: green, 2: blue}}]
source: {trained_on: colours}
"""


def test_any_onnx_file_with_logits_teaches(tmp_path):
    """One whose logits are a tenth of red, green and blue."""
    onnx.save(onnx.parser.parse_model(GRAPH), tmp_path / "rgb.onnx")
    (tmp_path / "rgb.yaml").write_text(ABOUT)
    names = dict(zip(("red", "green", "blue"), (c.name for c in CLASSES), strict=True))
    teacher = TeacherFile(str(tmp_path / "rgb.onnx"), names)
    batch = unlabelled()
    system = student().eval()
    objective = Distilled(teacher=teacher, temperature=3.0)
    found = losses(objective, system, batch).parts["segmentation"]["distilled"]
    shares = (batch["image"] / 10).softmax(1)
    expected = losses(Distilled(teacher=Says(shares), temperature=3.0), system, batch)
    torch.testing.assert_close(
        found, expected.parts["segmentation"]["distilled"], rtol=1e-4, atol=0
    )
    assert objective.provenance["trained_on"] == [
        "classes predicted by rgb.onnx, trained on colours"
    ]
    assert copy.deepcopy(objective).teacher is teacher


def test_a_model_file_teaches_and_its_terms_go_on(pytestconfig):
    path = pytestconfig.rootpath / "models" / "street.onnx"
    objective = Distilled(teacher=TeacherFile(str(path)))
    system = student(len(CAMVID)).eval()
    context = Context(system, unlabelled(), torch.ones(len(CAMVID)), 100.0, classes=CAMVID)
    assert objective(context).parts["segmentation"]["distilled"] > 0
    assert objective.provenance == provenance_of(path)


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({}, "Distilled has no teacher: set vit, teacher or both"),
        (
            {"teacher": Says(None), "temperature": 0.5},
            r"temperature is 0\.5, expected a number >= 1",
        ),
        ({"teacher": Says(None), "logits": -1.0}, r"logits is -1\.0, expected a number >= 0"),
        (
            {"vit": {"hidden_size": 24}, "part": "neck"},
            "SharedEncoder has no part 'neck', expected",
        ),
        ({"vit": {"hidden_size": 24}, "part": ""}, r"no features of shape \(N, C, h, w\)"),
    ],
)
def test_senseless_options_are_one_line(options, says):
    with pytest.raises(TrainingError, match=says):
        Distilled(**options).prepare(student())
