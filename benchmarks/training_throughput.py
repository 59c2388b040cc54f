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

"""`python -m benchmarks.training_throughput`: samples a second of the data and of the step.

Both in one run, on one machine: what counts is the ratio, which must be well over 1 for the data
not to be the bottleneck. The network is the default one, with its losses and backward pass, on the
GPU if there is one.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable

import torch
from rich.console import Console
from rich.table import Table
from torch import Tensor
from torch.utils.data import DataLoader

from benchmarks import run
from training.data.sources import open_source, parse
from training.data.transforms import TrainDataset
from training.engine.task import JointTask
from training.models.systems.shared_encoder import SharedEncoder
from training.objectives.base import Context
from training.objectives.supervised import Supervised

CROP, BATCH = (384, 288), 8


def main(arguments: list[str] | None = None) -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.training_throughput", description=__doc__
    )
    parser.add_argument("--data", nargs="+", default=["streets"], metavar="NAME[=FOLDER]")
    parser.add_argument("--workers", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--batches", type=int, default=20, help="to measure (default: 20)")
    parser.add_argument("--count", type=int, default=40, help="samples to take (default: 40)")
    parser.add_argument("--json", action="store_true", help="print JSON instead of a table")
    options = parser.parse_args(arguments)

    task = JointTask(SharedEncoder())
    rates = {}
    for name, folder in parse(options.data).items():
        source = open_source(name, "train", folder, options.count)
        source.render()
        source = source.mapped(task.card.classes, scored=False)
        samples = TrainDataset(source.samples, CROP, task.card, (0.6, 1.3), sets=source.sets)
        order = [(i % len(source), i) for i in range(BATCH * (options.batches + 2))]
        for workers in options.workers:
            batches = iter(DataLoader(samples, BATCH, sampler=order, num_workers=workers))
            rates[f"{name}, {workers} workers"] = rate(lambda b=batches: next(b), options.batches)
        batch = next(iter(DataLoader(samples, BATCH, sampler=order)))
    rates["training"] = rate(step(batch), options.batches // 2)
    if options.json:
        print(json.dumps(rates, indent=2))
        return
    table = Table("", "samples/s", "of training's rate")
    for name, value in rates.items():
        table.add_row(name, f"{value:.1f}", f"{value / rates['training']:.1f}")
    Console().print(table)


def rate(one_batch: Callable[[], object], batches: int) -> float:
    """Samples a second; the first two batches, which start workers and kernels, do not count."""
    for _ in range(2):
        one_batch()
    started = time.perf_counter()
    for _ in range(batches):
        one_batch()
    return BATCH * batches / (time.perf_counter() - started)


def step(batch: dict[str, Tensor]) -> Callable[[], float]:
    """A function that trains on the batch once."""
    device = "cuda" if torch.cuda.is_available() else "cpu"
    batch = {name: value.to(device) for name, value in batch.items()}
    system = SharedEncoder().to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    objective = Supervised()
    context = Context(system, batch, torch.ones(11, device=device), 420.0)

    def train() -> float:
        parts, _ = objective(context)
        total = torch.stack([v for p in parts.values() for v in p.values()]).sum()
        total.backward()
        return total.item()  # waits for the GPU

    return train


if __name__ == "__main__":
    sys.exit(run("training_throughput", main))
