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

"""Confidence that is as high as the share of correct labels."""

import numpy as np
import pytest
import torch
from torchmetrics.classification import BinaryCalibrationError

from depthseg_ros import street
from training.data.sample import Sample
from training.data.sources import Source
from training.engine.metrics import CalibrationMetrics
from training.engine.task import JointTask
from training.errors import TrainingError
from training.evaluation.temperature import draw, temperature
from training.export.model_file import prepare_for_export
from training.models.systems.shared_encoder import SharedEncoder


@pytest.fixture(scope="module")
def task():
    torch.manual_seed(0)
    system = SharedEncoder(
        num_classes=11, widths=(16, 16, 16, 24), context=16, decoder=(16, 16, 16)
    )
    system.train()
    for _ in range(3):  # batch norms that have seen something
        system(torch.rand(4, 3, 64, 96) * 255)
    return JointTask(system, network_size=(96, 64), canonical_fx=90.0).eval()


class Streets(torch.utils.data.Dataset):
    """A few rendered pictures with their labels."""

    def __len__(self):
        return 4

    def __getitem__(self, index):
        frame = street.Street(index, 96, 64).frame(0)
        return Sample(frame.image, frame.labels, frame.depth, 90.0)


@pytest.fixture
def source():
    return Source("streets", "val", Streets(), "camvid", "", "")


def test_calibration_error_is_torchmetrics():
    rng = np.random.default_rng(0)
    # Levels in the middles of 15 bins of 17 steps each, where rounding cannot move one over.
    confidence = torch.from_numpy(rng.integers(0, 15, (2, 30, 40)) * 17 + 8).to(torch.uint8)
    labels = torch.from_numpy(rng.integers(0, 3, (2, 30, 40))).to(torch.uint8)
    truth = labels.clone()
    truth[torch.from_numpy(rng.random(truth.shape)) < 0.3] = 1
    metrics = CalibrationMetrics()
    metrics.update(labels[:1], confidence[:1], truth[:1])
    metrics.update(labels[1:], confidence[1:], truth[1:])
    expected = BinaryCalibrationError(n_bins=15)(
        confidence.flatten() / 255, (labels == truth).flatten().int()
    )
    assert metrics.compute()["ece"] == pytest.approx(float(expected), abs=1e-6)
    assert metrics.table()[:, 2].sum() == pytest.approx(1)


def test_unlabelled_pixels_do_not_count():
    metrics = CalibrationMetrics()
    metrics.update(*(torch.full((1, 4, 4), v, dtype=torch.uint8) for v in (3, 200, 255)))
    assert metrics.compute() == {}


def test_the_temperature_of_logits_that_are_too_sharp_is_found(task, source, monkeypatch):
    """Labels drawn from softmax(logits / 2.5) are fitted best by just that temperature."""
    rng = torch.Generator().manual_seed(1)
    logits = torch.randn(4, 11, 64, 96, generator=rng) * 4
    shares = torch.softmax(logits / 2.5, 1).permute(0, 2, 3, 1).reshape(-1, 11)
    labels = torch.multinomial(shares, 1, generator=rng).view(4, 64, 96).to(torch.uint8).numpy()

    class Drawn(Streets):
        def __getitem__(self, index):
            return Sample(np.full((64, 96, 3), index, np.uint8), labels[index], None, 90.0)

    monkeypatch.setattr(task.served, "logits", lambda image: logits[int(image[0, 0, 0, 0])][None])
    found = temperature(task.served, [Source("drawn", "val", Drawn(), "camvid", "", "")])
    assert found == pytest.approx(2.5, rel=0.05)


def test_labels_of_another_class_list_are_refused(task, source):
    source.classes = "cityscapes"
    with pytest.raises(
        TrainingError, match=r"streets has the classes 'cityscapes', .*'s, 'camvid': set"
    ):
        temperature(task.served, [source])


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_the_temperature_is_found_on_the_gpu(task, source):
    used = []
    hook = torch.nn.modules.module.register_module_forward_hook(
        lambda module, inputs, output: used.append(inputs[0].device.type)
    )
    try:
        temperature(task.served, [source])
    finally:
        hook.remove()
    assert set(used) == {"cuda"}
    assert next(task.served.parameters()).device.type == "cpu"  # export goes on with it


def test_a_temperature_changes_confidence_and_no_label(task):
    image = torch.from_numpy(street.Street(3, 96, 64).frame(0).image)[None]
    with torch.inference_mode():
        (labels, cold, _), (same, warm, _) = (
            prepare_for_export(task.system, task.card, temperature)(image, torch.tensor([90.0]))
            for temperature in (1.0, 3.0)
        )
    assert torch.equal(labels, same)
    assert (warm <= cold).all()
    assert (warm < cold).float().mean() > 0.5


def test_the_diagram_is_written(tmp_path):
    table = np.array([[np.nan, np.nan, 0.0], [0.6, 0.5, 1.0]])
    draw(tmp_path / "folder" / "reliability.png", {"camvid": table, "streets": table})
    assert (tmp_path / "folder" / "reliability.png").read_bytes().startswith(b"\x89PNG")
    assert [p.name for p in (tmp_path / "folder").iterdir()] == ["reliability.png"]
