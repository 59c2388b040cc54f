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

"""Runs of several seeds: means, paired differences with their certainty, curves and a figure."""

from __future__ import annotations

import csv
import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from depthseg_ros.files import whole

if TYPE_CHECKING:  # it takes long to import
    from matplotlib.figure import Figure

Seeds = Mapping[str, Sequence[Mapping[str, float]]]
"""For each run, the measures of each seed, in the same order of seeds."""
COSTS = ("parameters [M]", "GFLOP", "ms")
"""Measures that do not depend on the seed."""
CURVES = ("miou", "abs_rel")
"""Measures of validation whose curves are plotted."""


class Difference(NamedTuple):
    """A run minus the reference, over the same seeds."""

    mean: float
    low: float
    """Lower end of the 95 % confidence interval of the mean."""
    high: float
    """Upper end."""
    detectable: float
    """Smallest true difference that so many seeds find with a probability of 80 %."""

    @property
    def significant(self) -> bool:
        """Whether the interval excludes 0."""
        return self.low > 0 or self.high < 0


def paired_difference(values: Sequence[float], reference: Sequence[float]) -> Difference:
    """The mean of the differences, by Student's t distribution.

    Args:
        values: One value for each seed, at least two.
        reference: The same of the reference.
    """
    from scipy.stats import t

    differences = np.subtract(values, reference)
    freedom = len(differences) - 1
    mean, error = differences.mean(), differences.std(ddof=1) / np.sqrt(len(differences))
    half = t.ppf(0.975, freedom) * error
    detectable = (t.ppf(0.975, freedom) + t.ppf(0.8, freedom)) * error
    return Difference(float(mean), float(mean - half), float(mean + half), float(detectable))


def differences(results: Seeds) -> dict[str, dict[str, Difference]]:
    """Each run minus the first one, by measure, where both have the measure."""
    reference, *others = results
    common = {name: [m for m in results[name][0] if m in results[reference][0]] for name in others}
    return {
        name: {
            measure: paired_difference(
                [seed[measure] for seed in results[name]],
                [seed[measure] for seed in results[reference]],
            )
            for measure in common[name]
            if measure not in COSTS
        }
        for name in others
    }


def cells(results: Seeds) -> dict[str, dict[str, str]]:
    """A table: mean and standard deviation of each run, then each difference and its interval."""
    reference = next(iter(results))
    table = {
        name: {
            measure: f"{seeds[0][measure]:.4g}"
            if measure in COSTS
            else f"{statistics.mean(v):.4f} ± {statistics.stdev(v):.4f}"
            for measure in seeds[0]
            for v in [[seed[measure] for seed in seeds]]
        }
        for name, seeds in results.items()
    }
    for name, measures in differences(results).items():
        table[f"{name} - {reference}"] = {
            m: f"{d.mean:+.4f} [{d.low:+.4f}, {d.high:+.4f}]{'*' if d.significant else ''}"
            for m, d in measures.items()
        }
        table[f"detectable ({name})"] = {m: f"{d.detectable:.4f}" for m, d in measures.items()}
    return table


def write_csv(path: Path, results: Seeds) -> None:
    """Write every value: run, seed, measure, value."""
    with whole(path) as unfinished, unfinished.open("w", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(("run", "seed", "measure", "value"))
        for name, seeds in results.items():
            for seed, measures in enumerate(seeds):
                writer.writerows((name, seed, m, f"{v:.6g}") for m, v in measures.items())


def curves(folder: Path) -> dict[str, dict[int, float]]:
    """Read the validation curves of a run that CSVLogger wrote: measure -> epoch (from 1) -> value.

    A run that was resumed has several files.
    """
    found: dict[str, dict[int, float]] = {}
    for file in sorted(folder.rglob("metrics.csv"), key=lambda f: f.stat().st_mtime):
        with file.open(newline="") as opened:
            for row in csv.DictReader(opened):
                for name, value in row.items():
                    if value and name.startswith("val/") and name.rpartition("/")[2] in CURVES:
                        found.setdefault(name[4:], {})[int(row["epoch"]) + 1] = float(value)
    return found


def figure(results: Seeds, folders: Mapping[str, Sequence[Path]]) -> Figure:
    """Plot the validation curves of all seeds, and the differences with their intervals.

    Args:
        results: Measures of each run and seed.
        folders: The folders of the same runs.
    """
    from matplotlib.figure import Figure

    lines = {name: [curves(folder) for folder in run] for name, run in folders.items()}
    plotted = list(dict.fromkeys(m for run in lines.values() for seed in run for m in seed))
    columns = len(plotted) + 1
    page = Figure(figsize=(4.2 * columns, 4.2), layout="constrained")
    axes = page.subplots(1, columns, squeeze=False)[0]
    for axis, measure in zip(axes, plotted, strict=False):
        for number, (name, seeds) in enumerate(lines.items()):
            for seed, curve in enumerate(s[measure] for s in seeds if measure in s):
                axis.plot(
                    list(curve), list(curve.values()), color=f"C{number}", lw=1,
                    label=name if seed == 0 else None,
                )  # fmt: skip
        axis.set(title=f"validation: {measure}", xlabel="epoch")
        axis.legend()
    reference = next(iter(results))
    labels: list[str] = []
    for number, (name, measures) in enumerate(differences(results).items(), 1):
        for measure, found in measures.items():
            scale = abs(statistics.mean(seed[measure] for seed in results[reference])) / 100
            if "iou/" in measure or scale == 0:  # single classes would fill the figure
                continue
            axes[-1].errorbar(
                found.mean / scale, len(labels), xerr=(found.high - found.mean) / scale,
                fmt="o", color=f"C{number}",
            )  # fmt: skip
            labels.append(f"{measure} ({name})")
    axes[-1].axvline(0, color="grey", lw=1)
    axes[-1].set_yticks(range(len(labels)), labels, fontsize=7)
    axes[-1].invert_yaxis()
    axes[-1].set(title=f"difference to {reference}, 95 % interval", xlabel="% of its mean")
    return page
