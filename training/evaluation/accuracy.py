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

"""Accuracy of checkpoints and model files on data with ground truth."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import torch
from rich.console import Console
from rich.progress import track
from rich.table import Table
from torch import Tensor
from torch.utils.data import DataLoader

from depthseg_ros import model_card
from depthseg_ros.model_card import ModelCard
from depthseg_ros.shaping import Shaping

from ..data.sources import Source
from ..data.transforms import EvalDataset
from ..devices import chosen_device
from ..engine.checkpoints import load_checkpoint
from ..engine.metrics import Evaluation

Predict = Callable[..., tuple[Tensor, ...]]
Results = dict[str, dict[str, float]]
Cells = Mapping[str, Mapping[str, float | str]]
"""A table: column -> row -> number or text."""


def evaluate(
    checkpoint: Path, sources: Mapping[str, Source], protocol: str = "metric"
) -> dict[str, Evaluation]:
    """Evaluate a checkpoint or model file on data sets; returns the metrics of each, by name."""
    card, inputs, predict = load(checkpoint)
    evaluations = {}
    for name, source in sources.items():
        source = source.mapped(card.classes)
        source.render()
        evaluations[name] = evaluation = Evaluation(
            card, source.name, protocol, source.groups, source.protocol
        )
        loader = DataLoader(EvalDataset(source.samples, card, inputs, source.sets), num_workers=1)
        console = Console(stderr=True)
        with torch.inference_mode():
            for batch in track(loader, name, console=console, disable=not console.is_terminal):
                outputs = predict(*(batch[i] for i in inputs))
                device = outputs[0].device
                truth = {key: value.to(device) for key, value in batch.items()}
                evaluation.to(device).update(outputs, truth)
    return evaluations


def load(path: Path) -> tuple[ModelCard, tuple[str, ...], Predict]:
    """Load a checkpoint or a model file.

    Returns:
        Its card, the names of its inputs, and a function that runs its graph. The function takes
        tensors on the CPU. Its outputs are on the GPU for checkpoints if torch has one, otherwise
        on the CPU.
    """
    if path.suffix != ".onnx":
        task, _ = load_checkpoint(path)
        device = chosen_device()
        served = task.served.eval().to(device)
        return task.card, served.inputs, lambda *values: served(*(v.to(device) for v in values))
    import onnxruntime

    card = model_card.read(path)
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    inputs = tuple(i.name for i in session.get_inputs())
    outputs = list(card.outputs)

    def predict(*values: Tensor) -> tuple[Tensor, ...]:
        feed = {name: value.numpy() for name, value in zip(inputs, values, strict=True)}
        height, width = feed["image"].shape[1:3]
        # For older model files only, which need stretched or padded images.
        shaping = Shaping.of(card, width, height, 1.0)  # pixels are square
        for name in feed.keys() & {"image", "background"}:
            feed[name] = np.stack([shaping.apply(image) for image in feed[name]])
        results = session.run(outputs, feed)
        return tuple(torch.from_numpy(np.stack([shaping.undo(o) for o in out])) for out in results)

    return card, inputs, predict


def rows(results: Cells) -> list[list[str]]:
    """One row for each measure: its name, then its value on each data set."""
    measures = dict.fromkeys(measure for result in results.values() for measure in result)
    columns = [
        {m: v if isinstance(v, str) else f"{v:.4f}" for m, v in result.items()}
        for result in results.values()
    ]
    return [[m, *(column.get(m, "-") for column in columns)] for m in measures]


def protocols(evaluations: Mapping[str, Evaluation]) -> str | None:
    """Name the depth protocol, or that of each column of the table if they differ."""
    used = {name: e.protocol for name, e in evaluations.items() if "depth" in e.outputs}
    if len(set(used.values())) <= 1:
        return f"depth protocol: {next(iter(used.values()))}" if used else None
    return "depth protocols: " + ", ".join(f"{name}: {used[name]}" for name in used)


def table(results: Cells, caption: str | None = None) -> Table:
    """A table with one row per measure and one column per data set or run."""
    shown = Table("measure", *results, caption=caption)
    for row in rows(results):
        shown.add_row(*row)
    return shown


def markdown(results: Cells) -> str:
    """The same table in Markdown."""
    lines = [["measure", *results], ["---"] + ["---:"] * len(results), *rows(results)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)
