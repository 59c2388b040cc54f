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

"""Two processes on CPUs (gloo), and accumulated micro-batches, learn and measure what one does."""

import os
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader

from training.engine.accumulation import AccumulatedLoader

ROOT = Path(__file__).resolve().parents[3]
SCRIPT = """
import sys
from types import SimpleNamespace

import lightning as L
import torch
from torch.utils.data import DataLoader, DistributedSampler

from training.engine.pictures import PredictionImages
from training.models.systems.depthsegnet import DepthSegNet, Vgg
from training.engine.task import JointTask


def samples(first, count):
    for index in range(first, first + count):
        torch.manual_seed(index)
        yield {
            "image": torch.randint(0, 255, (3, 32, 64), dtype=torch.uint8),
            "labels": torch.randint(0, 11, (32, 64), dtype=torch.uint8),
            "depth": torch.rand(32, 64) * 20 + 1,
            "fx": torch.tensor(420.0),
        }


class Data(L.LightningDataModule):
    provenance = {"trained_on": [], "terms": ""}
    val = [SimpleNamespace(name="streets", split="val", groups=None, protocol=None)]

    def __init__(self, batch_size):
        super().__init__()
        self.batch_size = batch_size

    def class_shares(self):
        return torch.arange(1, 12) / 66

    def train_dataloader(self):
        known = list(samples(0, 10))
        # Very unequal: known everywhere, in a few pixels, and nowhere.
        known[0]["depth"][1:] = torch.nan
        known[0]["labels"][:, 1:] = 255
        known[1]["depth"][:] = torch.nan
        known[2]["labels"][:] = 255
        known[5]["depth"][:30] = torch.nan
        known[6]["depth"][:] = torch.nan
        known[6]["labels"][:] = 255
        known[8]["depth"][:, 3:] = torch.nan
        # Without shuffling two processes see, together, the batches that one sees.
        sampler = DistributedSampler(known, shuffle=False) if processes > 1 else None
        return DataLoader(known, self.batch_size, sampler=sampler)

    def val_dataloader(self):
        known = list(samples(10, 5))
        for index, sample in enumerate(known):
            sample["image"] = sample["image"].permute(1, 2, 0).contiguous()
            sample["labels"][index * 4 + 1 :] = 255
            sample["depth"] = sample["depth"] * (index + 1)
        return [DataLoader(known)]

    predict_dataloader = val_dataloader


def parameters(system):
    return torch.cat([p.detach().flatten() for p in system.parameters()]).clone()


def learn(batch_size, accumulated):
    torch.manual_seed(0)
    # No norms: those of single processes would see other batches.
    system = DepthSegNet(11, encoder=Vgg((8, 8, 16, 16)), decoder=(8, 8, 16, 16))
    task = JointTask(system, optimizer=torch.optim.SGD, learning_rate=0.02)
    trainer = L.Trainer(
        accelerator="cpu", devices=processes, strategy="ddp" if processes > 1 else "auto",
        max_epochs=2, accumulate_grad_batches=accumulated, logger=False,
        enable_checkpointing=False, enable_progress_bar=False, enable_model_summary=False,
        callbacks=PredictionImages(path + ".pictures"),
    )
    start = parameters(system)
    data = Data(batch_size)
    trainer.fit(task, data)
    logged = {name: float(value) for name, value in trainer.callback_metrics.items()}
    trainer.predict(task, data, return_predictions=False)
    result = {"start": start, "end": parameters(system), "logged": logged}
    if trainer.is_global_zero:
        torch.save(result, f"{path}/{processes}_{accumulated}.pt")


if __name__ == "__main__":
    processes, path = int(sys.argv[1]), sys.argv[2]
    for run in sys.argv[3:]:
        learn(*map(int, run.split("x")))
"""


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """Processes and micro-batches of each step -> its run, all of the same 4 samples a step."""
    folder = tmp_path_factory.mktemp("distributed")
    script = folder / "script.py"
    script.write_text(SCRIPT)
    for arguments in (("1", folder, "4x1", "2x2"), ("2", folder, "1x2")):
        subprocess.run(
            [sys.executable, script, *arguments],
            env={**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"},
            check=True, timeout=280, cwd=folder,
        )  # fmt: skip
        os.rename(f"{folder}.pictures", folder / f"pictures_{arguments[0]}")
    keys = ((1, 1), (1, 2), (2, 2))
    return folder, {
        key: torch.load(folder / "{}_{}.pt".format(*key), weights_only=True) for key in keys
    }


def test_processes_and_micro_batches_are_equivalent_to_one_batch(runs):
    """A pixel counts the same wherever it is, though samples have very unequal numbers of them."""
    one = runs[1][1, 1]
    moved = (one["end"] - one["start"]).abs().max()
    assert moved > 1e-2
    for other in runs[1].values():
        assert torch.equal(one["start"], other["start"])
        torch.testing.assert_close(other["end"], one["end"], rtol=0, atol=1e-5)


def test_logs_are_over_all_processes_and_each_sample_once(runs):
    one, other = (runs[1][key]["logged"] for key in ((1, 1), (2, 2)))
    assert one.keys() == other.keys() and "val/streets/miou" in one
    for name in one:
        if name.startswith("val/"):
            assert other[name] == pytest.approx(one[name], rel=1e-4), name


def test_two_processes_predict_each_image_once(runs):
    folders = [runs[0] / f"pictures_{processes}" / "streets" for processes in (1, 2)]
    one, two = ({path.name: path for path in folder.iterdir()} for folder in folders)
    predicted = [f"{index:05}.png" for index in range(5)]
    assert set(predicted) <= one.keys() == two.keys()
    for name in predicted:
        first, second = (cv2.imread(str(paths[name])).astype(int) for paths in (one, two))
        # The picture itself; what is said of it may differ by rounding.
        assert np.array_equal(first[:, :320], second[:, :320])


def test_each_batch_knows_the_truths_of_its_step():
    samples = [{"labels": torch.tensor([i]), "depth": torch.tensor([i])} for i in range(5)]
    loader = AccumulatedLoader(DataLoader(samples), lambda: 2)
    for _ in range(2):  # epochs
        batches = [batch for batch, _, _ in iter(loader)]
        assert len(loader) == 5
        assert [int(batch["labels"]) for batch in batches] == [0, 1, 2, 3, 4]
        steps = [[int(truth["depth"]) for truth in batch["step"]] for batch in batches]
        assert steps == [[0, 1], [0, 1], [2, 3], [2, 3], [4]]
    assert all("step" not in b for b, *_ in AccumulatedLoader(DataLoader(samples), lambda: 1))
