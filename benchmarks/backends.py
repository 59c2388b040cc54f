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

"""`python -m benchmarks.backends`: torch and every CPU runtime on the same graph, in fp32 and int8.

The graph is the default network's with fresh weights, as `export` writes it, from camera image to
topics; torch runs the very module that is exported, as most would and in the layout that is fastest
on CPUs. All take turns in one run: `speed-up` is what counts, the times are of this machine.
"""

from __future__ import annotations

import argparse
import copy
import json
import statistics
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from rich.console import Console
from rich.table import Table
from torch import nn

from benchmarks import run
from depthseg_ros.backends import MAX_THREADS, BackendError, open_backend
from depthseg_ros.cli.speed import in_turn
from training.data.sources import open_source
from training.engine.task import JointTask
from training.export.model_file import to_onnx, write
from training.export.quantization import quantize
from training.models.systems.shared_encoder import SharedEncoder

BASELINE = "torch eager, fp32"
IMAGES = 4
"""Rendered ones for int8's ranges: of fresh weights, accuracy does not matter."""


def main(arguments: list[str] | None = None) -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.backends", description=__doc__)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--rounds", type=int, default=20, help="to measure (default: 20)")
    parser.add_argument("--json", action="store_true", help="print JSON instead of a table")
    options = parser.parse_args(arguments)
    if options.rounds < 1 or not 1 <= options.threads <= MAX_THREADS:
        parser.error(f"expected --rounds of 1 or more, --threads of 1 to {MAX_THREADS}")

    torch.manual_seed(0)
    torch.set_num_threads(options.threads)
    task = JointTask(SharedEncoder()).eval()
    image = np.random.default_rng(0).integers(0, 256, (1, 480, 640, 3), np.uint8)
    inputs = {"image": image, "fx": np.array([500], np.float32)}
    tensors = [torch.from_numpy(inputs[name]) for name in task.served.inputs]

    plain = copy.deepcopy(task.served).to(memory_format=torch.contiguous_format)

    def eager(module: nn.Module) -> None:
        with torch.inference_mode():
            module(*tensors)

    runs: dict[str, Callable[[], object]] = {
        BASELINE: lambda: eager(plain),
        "torch eager, fp32, channels last": lambda: eager(task.served),
    }
    with tempfile.TemporaryDirectory() as folder:
        fp32, int8 = Path(folder, "fp32.onnx"), Path(folder, "int8.onnx")
        model = to_onnx(task.system, task.card)
        write(model, task.card, fp32)
        source = open_source("streets", "train", None, IMAGES)
        quantize(model, task.card, [source], int8)
        for file in (fp32, int8):
            for name in ("onnxruntime", "openvino"):
                try:
                    backend = open_backend(file, name, threads=options.threads)
                except BackendError as error:
                    print(error, file=sys.stderr)
                    continue
                runs[f"{name}, {file.stem}"] = lambda backend=backend: backend.run(inputs)
        times = in_turn(list(runs.values()), options.rounds)
    ms = {name: 1e3 * statistics.median(own) for name, own in zip(runs, times, strict=True)}
    results = {name: {"ms": value, "speed_up": ms[BASELINE] / value} for name, value in ms.items()}
    if options.json:
        print(json.dumps(results, indent=2))
        return
    table = Table(f"640 x 480, {options.threads} threads", "ms", "speed-up")
    for name, result in results.items():
        table.add_row(name, f"{result['ms']:.1f}", f"{result['speed_up']:.2f}")
    Console().print(table)


if __name__ == "__main__":
    sys.exit(run("backends", main))
