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

"""Two processes on CPUs (gloo) learn what one learns."""

import os
import subprocess
import sys
from pathlib import Path

import torch

ROOT = Path(__file__).resolve().parents[2]
SCRIPT = """
import sys

import lightning as L
import torch
from torch.utils.data import DataLoader, DistributedSampler

from training.systems.depthsegnet import DepthSegNet, Vgg
from training.task import JointTask


class Data(L.LightningDataModule):
    provenance = {"trained_on": [], "terms": ""}

    def class_shares(self):
        return torch.full((11,), 1 / 11)

    def train_dataloader(self):
        torch.manual_seed(1)
        samples = [
            {
                "image": torch.randint(0, 255, (3, 32, 64), dtype=torch.uint8),
                "labels": torch.randint(0, 11, (32, 64), dtype=torch.uint8),
                "depth": torch.rand(32, 64) * 20 + 1,
            }
            for _ in range(8)
        ]
        processes = int(sys.argv[1])
        # Without shuffling the two see, together, the batches that the one sees.
        sampler = DistributedSampler(samples, shuffle=False) if processes > 1 else None
        return DataLoader(samples, 4 // processes, sampler=sampler)


if __name__ == "__main__":
    processes, path = int(sys.argv[1]), sys.argv[2]
    torch.manual_seed(0)
    # No norms: those of single processes would see other batches.
    system = DepthSegNet(11, encoder=Vgg((8, 8, 16, 16)), decoder=(8, 8, 16, 16))
    task = JointTask(system, optimizer=torch.optim.SGD, learning_rate=0.02)
    trainer = L.Trainer(
        accelerator="cpu", devices=processes, strategy="ddp" if processes > 1 else "auto",
        max_epochs=2, logger=False, enable_checkpointing=False, enable_progress_bar=False,
        enable_model_summary=False, use_distributed_sampler=False,
    )
    start = torch.cat([p.detach().flatten() for p in system.parameters()]).clone()
    trainer.fit(task, Data())
    if trainer.is_global_zero:
        end = torch.cat([p.detach().flatten() for p in system.parameters()])
        torch.save({"start": start, "end": end}, path)
"""


def test_two_processes_learn_what_one_learns(tmp_path):
    script = tmp_path / "script.py"
    script.write_text(SCRIPT)
    results = []
    for processes in (1, 2):
        path = tmp_path / f"{processes}.pt"
        subprocess.run(
            [sys.executable, script, str(processes), path],
            env={**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"},
            check=True, timeout=280, cwd=tmp_path,
        )  # fmt: skip
        results.append(torch.load(path, weights_only=True))
    one, two = results
    torch.testing.assert_close(one["start"], two["start"], rtol=0, atol=0)
    moved = (one["end"] - one["start"]).abs().max()
    assert moved > 1e-3
    torch.testing.assert_close(two["end"], one["end"], rtol=0, atol=1e-3 * moved.item())
