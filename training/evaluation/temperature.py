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

"""Temperature scaling of the confidence, and reliability diagrams."""

from __future__ import annotations

import copy
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from rich.progress import track
from scipy.optimize import minimize_scalar
from torch import Tensor
from torch.utils.data import DataLoader

from ..data.sources import Source
from ..data.transforms import EvalDataset
from ..devices import chosen_device
from ..engine.pictures import save_figure
from ..errors import TrainingError
from ..models.blocks import resize
from ..models.served import ServedModel

PIXELS = 20_000
"""Number of random pixels of each image; far more than one number needs."""


def calibration_batches(
    served: ServedModel, sources: Iterable[Source]
) -> Iterator[dict[str, Tensor]]:
    """Load batches of one image of `EvalDataset`, with labels of the model's classes."""
    for source in [source.mapped(served.card.classes, scored=False) for source in sources]:
        source.render()
        samples = EvalDataset(source.samples, served.card, served.inputs, source.sets)
        loader = DataLoader(samples, num_workers=1)
        yield from track(loader, f"calibrate on {source.name}", transient=True)


def temperature(served: ServedModel, sources: Iterable[Source]) -> float:
    """Temperature that makes the confidence equal to the share of labels that are right.

    Temperature scaling (Guo et al. 2017): the logits are divided by the number with the smallest
    cross-entropy against the labels. Predicted labels do not change. Runs on the GPU if torch has
    one.

    Args:
        served: Graph of a system with classes, in evaluation mode.
        sources: Data sets with labels that the system was not trained on.

    Raises:
        TrainingError: There are no labels, or they have another class list.
    """
    rng = torch.Generator().manual_seed(0)
    device = chosen_device()
    running = copy.deepcopy(served).to(device)
    logits, labels = [], []
    for batch in calibration_batches(served, sources):
        truth = batch["labels"][0]
        # If the label is a set of classes, it is unknown whether the predicted class is right.
        known = (truth < len(served.card.classes)).flatten().nonzero()[:, 0]
        if not len(known):
            continue
        chosen = known[torch.randint(len(known), (PIXELS,), generator=rng)]
        with torch.inference_mode():
            small = running.logits(*(batch[name].to(device) for name in served.image_inputs))
        full = resize(small, truth.shape)[0].flatten(1).cpu()
        logits.append(full[:, chosen].T)
        labels.append(truth.flatten()[chosen].long())
    if not logits:
        raise TrainingError("cannot calibrate the confidence: no image has labels")
    return fit_temperature(torch.cat(logits), torch.cat(labels))


def fit_temperature(logits_PC: Tensor, labels_P: Tensor) -> float:
    """Fit the temperature for pixels with these logits and true class ids."""

    def loss(log_temperature: float) -> float:
        return float(F.cross_entropy(logits_PC / np.exp(log_temperature), labels_P))

    return float(np.exp(minimize_scalar(loss, bounds=(-3, 3), method="bounded").x))


def draw(path: Path, tables: Mapping[str, np.ndarray]) -> None:
    """Draw reliability diagrams into a PNG, which is written atomically.

    Args:
        path: The file; its folder is created if necessary.
        tables: Data set -> (bins, 3) of `CalibrationMetrics.table`.
    """
    from matplotlib.figure import Figure  # without pyplot no display is needed

    columns = min(len(tables), 2)
    rows = -(-len(tables) // columns)
    figure = Figure(figsize=(4.5 * columns, 4.5 * rows), layout="constrained")
    for place, (name, table) in enumerate(tables.items(), 1):
        axes = figure.add_subplot(rows, columns, place)
        confidence, right, share = table.T
        error = np.nansum(share * np.abs(confidence - right))
        middles = (np.arange(len(table)) + 0.5) / len(table)
        axes.bar(middles, share, 1 / len(table), color="0.85", label="share of the pixels")
        axes.plot([0, 1], [0, 1], "--", color="0.5", label="perfect calibration")
        axes.plot(confidence, right, "o-", label="share of right labels")
        axes.set(title=f"{name}\nexpected calibration error {100 * error:.1f} %")
        axes.set(xlabel="confidence", ylabel="share", xlim=(0, 1), ylim=(0, 1), aspect="equal")
        axes.grid(alpha=0.3)
    handles, labels = figure.axes[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=len(labels))
    save_figure(path, figure)
