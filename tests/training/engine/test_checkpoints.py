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

"""Weights to start from: of a model file they are the file's own, and fit to be trained on."""

from pathlib import Path

import lightning as L
import numpy as np
import pytest
import torch

from depthseg_ros.street import Street
from training.engine.checkpoints import load_checkpoint
from training.engine.task import JointTask
from training.engine.weights import (
    merge_provenance,
    provenance_of,
    recalibrate_batch_norms,
    start_from,
)
from training.errors import TrainingError
from training.evaluation.accuracy import load
from training.export.model_file import ServedModel
from training.models.encoders import EfficientNetLite0
from training.models.systems.depthsegnet import DepthSegNet
from training.models.systems.shared_encoder import SharedEncoder
from training.models.systems.two_stream_fcn import TwoStreamFcn

STREET = Path(__file__).parents[3] / "models" / "street.onnx"


@pytest.fixture(scope="module")
def pictures():
    frames = [Street(seed, 480, 360).frame(0).image for seed in (11, 12)]
    return torch.from_numpy(np.stack(frames))


def started(pictures, settle):
    system = SharedEncoder(depth_scale=True)
    assert start_from(system, STREET) == []
    as_float = pictures.float().permute(0, 3, 1, 2)
    if settle:
        recalibrate_batch_norms(system, lambda: system(as_float))
    return system, as_float


@pytest.mark.parametrize("settle", [False, True])
def test_a_system_started_from_a_model_file_has_the_same_output(pictures, settle):
    system, _ = started(pictures, settle)
    card, _, predict = load(STREET)
    fx = torch.full((len(pictures),), 420.0)
    with torch.no_grad():
        own, files = ServedModel(system, card).eval()(pictures, fx), predict(pictures, fx)
    assert (own[0] == files[0]).float().mean() > 0.9999
    assert (own[2] / files[2] - 1).abs().nanmedian() < 1e-5


def test_recalibrated_batch_norms_have_the_same_output_in_training_mode(pictures):
    system, as_float = started(pictures, settle=True)
    with torch.no_grad():
        after = system.eval()(as_float)["logits"].argmax(1)
        before = system.train()(as_float)["logits"].argmax(1)
    assert (before == after).float().mean() > 0.97
    norms = [m for m in system.modules() if isinstance(m, torch.nn.BatchNorm2d)]
    assert norms and all((norm.running_var > 0).all() for norm in norms)


def test_weights_of_another_network_or_of_no_model_file_are_refused(tmp_path):
    with pytest.raises(TrainingError, match="no weights of a TwoStreamFcn of this size"):
        start_from(TwoStreamFcn(streams=(8,), trunk=(8, 8)), STREET)
    other = tmp_path / "other.onnx"
    other.write_bytes(b"none")
    with pytest.raises(ValueError, match=r"other\.onnx"):
        start_from(SharedEncoder(), other)
    lite = SharedEncoder(encoder=EfficientNetLite0(half=True))
    with pytest.raises(TrainingError, match=r"street\.onnx has \d+ % of the weights of"):
        start_from(lite, STREET)


def test_terms_of_the_initial_weights_are_inherited():
    start = provenance_of(STREET)
    assert "CamVid is for research use" in start["terms"]
    own = {"trained_on": ["mine"], "terms": "mine alone; CamVid is for research use"}
    others = [term for term in start["terms"].split("; ") if not term.startswith("CamVid")]
    assert len(others) > 2
    assert merge_provenance(own, start) == {
        "trained_on": ["mine", *start["trained_on"]],
        "terms": "; ".join(["mine alone", "CamVid is for research use", *others]),
    }
    indoor = provenance_of(STREET.with_name("indoor.onnx"))
    # It began as the street model of its time, which knew less.
    assert {"rendered streets train", "CamVid (11 classes) train"} < set(indoor["trained_on"])


def stored(path, task, system, options):
    """A checkpoint of a task, as a run from a configuration stores it."""
    checkpoint = {
        "state_dict": task.state_dict(),
        "provenance": {"trained_on": [], "terms": ""},
        "pytorch-lightning_version": L.__version__,
        "hparams_name": "kwargs",
        "hyper_parameters": {
            "system": {"class_path": system, "init_args": options},
            "_instantiator": "lightning.pytorch.cli.instantiate_module",
        },
    }
    torch.save(checkpoint, path)
    return path


@pytest.mark.parametrize("home", ["training.systems", "training.models.systems"])
def test_a_checkpoint_names_its_system_by_todays_module_or_the_one_before(tmp_path, home):
    kind = f"{home}.shared_encoder.SharedEncoder"
    options = {"widths": [16, 16, 16, 16], "depths": [1, 1, 1, 1], "decoder": [8, 8, 8]}
    task = JointTask(SharedEncoder(**options))
    loaded, _ = load_checkpoint(stored(tmp_path / "last.ckpt", task, kind, options))
    assert type(loaded.system) is SharedEncoder and loaded.card.system == "shared_encoder"


def test_a_checkpoint_with_a_frozen_depth_side_needs_no_other_weights(tmp_path):
    """A run stores `depth_weights: null`: the checkpoint has the weights."""
    options = {"decoder": [8] * 7, "freeze_depth": True, "depth_weights": None}
    task = JointTask(DepthSegNet(**options))
    kind = "training.models.systems.depthsegnet.DepthSegNet"
    loaded, _ = load_checkpoint(stored(tmp_path / "last.ckpt", task, kind, options))
    assert all(
        map(torch.equal, loaded.system.state_dict().values(), task.system.state_dict().values())
    )
    assert not any(p.requires_grad for p in loaded.system.depth.parameters())
    trainer = L.Trainer(accelerator="cpu", max_epochs=1, logger=False, enable_checkpointing=False)
    with pytest.raises(TrainingError, match="the frozen parts have random weights"):
        trainer.fit(task, [0])
