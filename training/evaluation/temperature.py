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

"""Confidence that means what it says: a temperature for the logits, and the picture of it."""

from __future__ import annotations

import copy
from collections.abc import Iterable, Mapping
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
"""Pixels taken of each picture; they are thousands of times more than the one number needs."""


def temperature(served: ServedModel, sources: Iterable[Source]) -> float:
    """What to divide the logits by, so that confidence is the share of labels that are right.

    Temperature scaling (Guo et al. 2017): the number of least cross-entropy against the labels. It
    changes no label. It is computed on the GPU if torch has one.

    Args:
        served: Of a system with classes, set to evaluate.
        sources: Data sets with labels, none of which the system was trained on.

    Raises:
        TrainingError: there are no labels, or those of another class list.
    """
    classes = served.card.classes
    sources = [source.mapped(classes, scored=False) for source in sources]
    rng = torch.Generator().manual_seed(0)
    device = chosen_device()
    running = copy.deepcopy(served).to(device)
    logits, labels = [], []
    for source in sources:
        source.render()
        samples = EvalDataset(source.samples, served.card, served.inputs, source.sets)
        loader = DataLoader(samples, num_workers=1)
        for batch in track(loader, f"calibrate on {source.name}", transient=True):
            truth = batch["labels"][0]
            # A set of classes does not tell whether the class was right.
            known = (truth < len(classes)).flatten().nonzero()[:, 0]
            if not len(known):
                continue
            chosen = known[torch.randint(len(known), (PIXELS,), generator=rng)]
            with torch.inference_mode():
                said = running.logits(*(batch[name].to(device) for name in served.image_inputs))
            said = resize(said, truth.shape)[0].flatten(1).cpu()
            logits.append(said[:, chosen].T)
            labels.append(truth.flatten()[chosen].long())
    if not logits:
        raise TrainingError("nothing to calibrate confidence on: no picture has labels")
    return _best(torch.cat(logits), torch.cat(labels))


def _best(logits_PC: Tensor, labels_P: Tensor) -> float:
    def loss(log_temperature: float) -> float:
        return float(F.cross_entropy(logits_PC / np.exp(log_temperature), labels_P))

    return float(np.exp(minimize_scalar(loss, bounds=(-3, 3), method="bounded").x))


def draw(path: Path, tables: Mapping[str, np.ndarray]) -> None:
    """Draw reliability diagrams into a PNG, which is there wholly or not at all.

    Args:
        path: The file; its folder is made if there is none.
        tables: Data set -> of each bin the mean confidence, the share of right labels and the share
            of all pixels, (bins, 3); NaN where a bin is empty.
    """
    from matplotlib.figure import Figure  # without pyplot no display is looked for

    columns = min(len(tables), 2)
    rows = -(-len(tables) // columns)
    figure = Figure(figsize=(4.5 * columns, 4.5 * rows), layout="constrained")
    for place, (name, table) in enumerate(tables.items(), 1):
        axes = figure.add_subplot(rows, columns, place)
        confidence, right, share = table.T
        error = np.nansum(share * np.abs(confidence - right))
        middles = (np.arange(len(table)) + 0.5) / len(table)
        axes.bar(middles, share, 1 / len(table), color="0.85", label="share of the pixels")
        axes.plot([0, 1], [0, 1], "--", color="0.5", label="confidence that means what it says")
        axes.plot(confidence, right, "o-", label="share of right labels")
        axes.set(title=f"{name}\nexpected calibration error {100 * error:.1f} %")
        axes.set(xlabel="confidence", ylabel="share", xlim=(0, 1), ylim=(0, 1), aspect="equal")
        axes.grid(alpha=0.3)
    handles, labels = figure.axes[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=len(labels))
    save_figure(path, figure)
