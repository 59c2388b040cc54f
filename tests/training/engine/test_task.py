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

"""The training task: weight decay, schedules, and tasks that are built in Python."""

import lightning as L
import pytest
import torch
from torch.utils.data import DataLoader

from training.engine.balancing import Uncertainty
from training.engine.checkpoints import load_checkpoint
from training.engine.fit import ProgressBar
from training.engine.task import JointTask, decayed_parameters
from training.engine.weights import provenance_of, recalibrate_batch_norms
from training.errors import TrainingError
from training.models.encoders import EfficientNetLite0, ResNet
from training.models.systems.lateral_sharing import LateralSharing
from training.models.systems.shared_encoder import SharedEncoder
from training.objectives.base import Context
from training.objectives.supervised import Supervised


def lateral_sharing():
    encoder = ResNet((8, 8, 12, 16), (1, 1, 1, 1))
    return LateralSharing(11, encoder=encoder, widths=(12, 10, 8))


def test_weights_decay_and_scales_do_not():
    system = lateral_sharing()
    unit = system.units[0]
    assert unit.alpha.ndim > 1
    decay = decayed_parameters(system)
    assert unit.alpha not in decay and unit.gamma not in decay
    assert unit.deconvolution.weight in decay and unit.deconvolution.bias not in decay
    # Even where a kernel has a single input or output.
    head = system.branches["depth"].up_skips[-1]
    assert head.weight.numel() == 1 and head.weight in decay
    norms = [m for m in system.modules() if isinstance(m, torch.nn.BatchNorm2d)]
    assert norms and not decay & {p for norm in norms for p in norm.parameters()}


class Data(L.LightningDataModule):
    @property
    def provenance(self):
        return {"trained_on": ["noise"], "terms": "none"}

    def class_shares(self):
        return torch.full((11,), 1 / 11)

    def train_dataloader(self):
        sample = {
            "image": torch.randint(0, 255, (3, 64, 64), dtype=torch.uint8),
            "labels": torch.randint(0, 11, (64, 64), dtype=torch.uint8),
            "depth": torch.rand(64, 64) * 20 + 1,
        }
        return DataLoader([sample] * 2, 2)


def small():
    encoder = ResNet((16, 16, 16, 16), (1, 1, 1, 1), half=True)
    return SharedEncoder(11, encoder=encoder, context=12, decoder=(8, 8, 8), heads=(8, 8))


@pytest.fixture(scope="module")
def built_in_python(tmp_path_factory):
    """A checkpoint of a task whose parts are objects, and the system as it was trained."""
    path = tmp_path_factory.mktemp("task") / "task.ckpt"
    task = JointTask(small(), balancer=Uncertainty(), optimizer=torch.optim.SGD, name="mine")
    trainer = L.Trainer(
        accelerator="cpu", max_epochs=1, logger=False, enable_checkpointing=False,
        enable_progress_bar=False, enable_model_summary=False,
    )  # fmt: skip
    trainer.fit(task, datamodule=Data())
    trainer.save_checkpoint(path)
    return path, task.system


def test_a_task_that_was_built_in_python_is_loaded_with_its_parts(built_in_python):
    path, trained = built_in_python
    task, provenance = load_checkpoint(path, system=small(), balancer=Uncertainty())
    assert provenance == {"trained_on": ["noise"], "terms": "none"}
    assert task.card.name == "mine" and not task.training
    for name, value in trained.state_dict().items():
        assert torch.equal(value, task.system.state_dict()[name]), name
    again = JointTask.load_from_checkpoint(path, system=small(), balancer=Uncertainty())
    assert torch.equal(again.balancer.log_variances_T, task.balancer.log_variances_T)


def test_without_its_modules_it_is_refused_with_a_hint(built_in_python):
    with pytest.raises(TrainingError, match=r"load_checkpoint\(PATH, system=\.\.\., balancer="):
        load_checkpoint(built_in_python[0])


def test_the_progress_bar_counts_epochs_from_one():
    bar = ProgressBar()
    for epochs, shown in ((2, ["Epoch 1/2", "Epoch 2/2"]), (-1, ["Epoch 1", "Epoch 2"])):
        bar.setup(L.Trainer(accelerator="cpu", max_epochs=epochs, logger=False), None, "fit")
        assert [bar._get_train_description(epoch).strip() for epoch in range(2)] == shown


def test_the_encoder_has_a_rate_of_its_own(tmp_path):
    """Also where a run is resumed with another one."""

    def groups(task):
        task._trainer = type("Trainer", (), {"estimated_stepping_batches": 100})()
        made = task.configure_optimizers()
        task._trainer = None
        return made["optimizer"].param_groups, made

    task = JointTask(SharedEncoder(), learning_rate=1e-3, encoder_rate=0.25, weight_decay=0.1)
    found, made = groups(task)
    by_rate = {}
    for group in found:
        ids = {id(p) for p in group["params"]}
        by_rate.setdefault(group["initial_lr"], set()).update(ids)
        decay = decayed_parameters(task)
        assert all((p in decay) == (group["weight_decay"] == 0.1) for p in group["params"])
    assert by_rate.keys() == {1e-3, 2.5e-4}
    assert by_rate[2.5e-4] == {id(p) for p in task.system.encoder.parameters()}
    assert by_rate[1e-3].isdisjoint(by_rate[2.5e-4])
    assert sum(map(len, by_rate.values())) == len(list(task.parameters()))
    checkpoint = {
        "provenance": {"trained_on": [], "terms": ""},
        "optimizer_states": [made["optimizer"].state_dict()],
        "lr_schedulers": [made["lr_scheduler"]["scheduler"].state_dict()],
    }
    other = JointTask(SharedEncoder(), learning_rate=1e-2, encoder_rate=0.5)
    other.on_load_checkpoint(checkpoint)
    rates = [g["initial_lr"] for g in checkpoint["optimizer_states"][0]["param_groups"]]
    assert rates == checkpoint["lr_schedulers"][0]["base_lrs"] == [1e-2, 1e-2, 5e-3, 5e-3]


def test_a_rate_for_an_encoder_that_there_is_not_is_refused():
    with pytest.raises(TrainingError, match=r"expected above 0, and 1 where the system .* no part"):
        JointTask(torch.nn.Identity(), encoder_rate=0.5)
    with pytest.raises(TrainingError, match="encoder_rate is 0, expected above 0"):
        JointTask(small(), encoder_rate=0)


def test_frozen_parts_need_weights():
    encoder = EfficientNetLite0(half=True, frozen=1)
    task = JointTask(SharedEncoder(encoder=encoder, context=12, decoder=(8, 8, 8), heads=(8, 8)))
    trainer = L.Trainer(accelerator="cpu", max_epochs=1, logger=False, enable_checkpointing=False)
    with pytest.raises(TrainingError, match=r"_conv_stem\.weight is frozen and has random"):
        trainer.fit(task, datamodule=Data())


def test_the_card_names_the_data_of_a_pretrained_encoder(tmp_path):
    encoder = EfficientNetLite0(pretrained=True, half=True)
    task = JointTask(SharedEncoder(encoder=encoder, context=12, decoder=(8, 8, 8), heads=(8, 8)))
    trainer = L.Trainer(
        accelerator="cpu", max_epochs=1, limit_train_batches=0, logger=False,
        enable_checkpointing=False, enable_progress_bar=False, enable_model_summary=False,
    )  # fmt: skip
    trainer.fit(task, datamodule=Data())
    trainer.save_checkpoint(tmp_path / "task.ckpt")
    stored = provenance_of(tmp_path / "task.ckpt")
    assert "ImageNet (the encoder, EfficientNet-Lite0)" in stored["trained_on"]
    assert "Apache-2.0" in stored["terms"]


def test_only_the_named_parts_train_and_everything_else_stays():
    torch.manual_seed(0)
    system = SharedEncoder(
        widths=(16, 16, 16, 24), depths=(1,) * 4, context=16, decoder=(8,) * 3, heads=(8, 8),
        depth_scale=True,
    )  # fmt: skip
    objective = Supervised(segmentation={}, depth={})
    task = JointTask(system, objective, train_only=["scale"]).train()
    assert task.training and system.scale.training and not system.encoder.training
    assert task.card.depth_confidence
    before = {name: value.clone() for name, value in system.state_dict().items()}
    recalibrate_batch_norms(system, lambda: system(torch.rand(1, 3, 64, 64)))
    optimizer = torch.optim.AdamW([p for p in task.parameters() if p.requires_grad], lr=0.1)
    batch = {
        "image": torch.randint(0, 255, (2, 3, 64, 96), dtype=torch.uint8),
        "labels": torch.zeros(2, 64, 96, dtype=torch.uint8),
        "depth": torch.full((2, 64, 96), 5.0),
    }
    for _ in range(2):
        parts, _ = task.objective(Context(system, batch, torch.ones(11), 420.0))
        optimizer.zero_grad()
        parts["depth"]["laplace"].backward()
        optimizer.step()
    changed = {n for n, v in system.state_dict().items() if not torch.equal(v, before[n])}
    assert changed == {n for n in before if n.startswith("scale.")}
    with pytest.raises(
        TrainingError, match=r"train_only is \['head'\], .* any of encoder, context"
    ):
        JointTask(SharedEncoder(), train_only=["head"])
    with pytest.raises(TrainingError, match=r"train_only is \[\]"):
        JointTask(SharedEncoder(), train_only=[])
