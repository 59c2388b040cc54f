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

"""Report on the teachers' labels as one HTML file with figures, charts and images."""

from __future__ import annotations

import base64
import io
import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import cv2
import numpy as np
from jinja2 import Environment, FileSystemLoader
from numpy.typing import NDArray

from depthseg_ros.files import whole
from depthseg_ros.imaging.rendering import color_depth, color_labels
from depthseg_ros.model_card import UNLABELLED, SemanticClass

from ..data.classes import CLASS_LISTS
from ..data.shards import Shard, complete_shards
from ..errors import TrainingError

if TYPE_CHECKING:  # it takes long to import
    from matplotlib.axes import Axes

DEPTHS = 0.25 * 2 ** np.arange(0, 10.25, 0.5)
"""Edges of the bins of the depth histogram, metres: two bins per factor of two, up to 256 m."""

_TILE = 480
"""Width of the images, pixels."""
_BLUE, _ORANGE, _GRAY = "#2f6db5", "#d9822b", "#66727f"


class LabelledFrame(NamedTuple):
    """A frame and its labels."""

    part: Shard
    frame: dict[str, Any]
    labels: Shard
    entry: dict[str, Any]
    """The frame's entry in the index of the labels."""

    @property
    def recording(self) -> str:
        """Name of its recording."""
        return str(self.entry["key"]).rpartition("-")[0]


def write(data: Path, count: int = 12) -> Path:
    """Write `labels/report.html` of a labelled data set.

    Args:
        data: The data set.
        count: Number of frames to show: three quarters at equal distances, the others those with
            the fewest labels.

    Returns:
        The file.

    Raises:
        TrainingError: The labels cannot be read.
        OSError: The report cannot be written.
    """
    folder = data / "labels"
    card = json.loads((folder / "card.json").read_text())
    parts = {part.name: part for part in complete_shards(data)}
    frames = [
        LabelledFrame(parts[labels.name], frame, labels, entry)
        for labels in complete_shards(folder)
        if labels.name in parts
        for frame, entry in zip(parts[labels.name].frames, labels.frames, strict=True)
    ]
    if not frames:
        raise TrainingError(f"{folder} has no labelled frames to report on")
    rows, reach = _classes(frames, CLASS_LISTS[card["classes"]]), _reach(frames)
    ramp = color_depth(np.geomspace(*reach, 512, dtype=np.float32)[None].repeat(10, 0), *reach)
    labels, depth = (np.mean([f.entry["coverage"][w] for f in frames]) for w in ("labels", "depth"))
    pages = Environment(loader=FileSystemLoader(Path(__file__).parent), autoescape=True)
    page = pages.get_template("report.html").render(
        name=data.resolve().name,
        numbers={
            "frames": f"{len(frames):,}",
            "recordings": len({frame.recording for frame in frames}),
            "of the pixels labelled": f"{100 * labels:.1f} %",
            "of the pixels with depth": f"{100 * depth:.1f} %",
        },
        facts=_facts(card, frames),
        rows=rows,
        most=max(*(row["share"] for row in rows), 1e-9),
        charts=_charts(frames),
        reach=reach,
        ramp=_inline(ramp),
        figures=_figures(frames, CLASS_LISTS[card["classes"]], count, reach),
    )
    path = folder / "report.html"
    with whole(path) as unfinished:
        unfinished.write_text(page)
    return path


def tiles(
    image: NDArray[np.uint8],
    labels: NDArray[Any],
    trust: NDArray[Any],
    depth: NDArray[Any],
    classes: Sequence[SemanticClass],
    reach: tuple[float, float] = (2.0, 80.0),
) -> dict[str, NDArray[np.uint8]]:
    """Draw four images, (h, w, 3) uint8 RGB: the frame, labels, their confidence, depth.

    Args:
        image: (H, W, 3) uint8 RGB.
        labels: (H, W) class ids; unlabelled pixels are dark.
        trust: (H, W) uint8 confidence of the labels.
        depth: (H, W) metres, NaN where unknown.
        classes: Classes of the labels.
        reach: Range of the colours of depth, metres.
    """
    size = (_TILE, max(1, round(image.shape[0] * _TILE / image.shape[1])))
    image = np.asarray(cv2.resize(image, size, interpolation=cv2.INTER_AREA), np.uint8)

    def small(array: NDArray[Any]) -> Any:
        return cv2.resize(array, size, interpolation=cv2.INTER_NEAREST)

    labels, trust, depth = small(labels), small(trust), small(depth)
    blend = cv2.addWeighted(image, 0.4, color_labels(labels, classes), 0.6, 0)
    confidence = cv2.cvtColor(cv2.applyColorMap(trust, cv2.COLORMAP_VIRIDIS), cv2.COLOR_BGR2RGB)
    for tile in (blend, confidence):
        tile[labels == UNLABELLED] = image[labels == UNLABELLED] // 4
    found: dict[str, Any] = {"image": image, "labels": blend, "confidence": confidence}
    return {**found, "depth": color_depth(depth, *reach)}


def _facts(card: Mapping[str, Any], frames: Sequence[LabelledFrame]) -> dict[str, object]:
    scales = [f.entry["scale"] for f in frames if f.entry["scale"] is not None]
    scale = card["scale"]
    if scales and (min(scales), max(scales)) != (1, 1):
        low, middle, high = np.percentile(scales, [10, 50, 90])
        scale += f": median factor {middle:.3g}, in four of five frames {low:.3g} to {high:.3g}"
    if len(scales) < len(frames):
        scale += f"; {len(frames) - len(scales)} frames have no depth: their scale is unknown"
    return {
        "segmentation teacher": card["segmentation_teacher"],
        "depth teacher": card["depth_teacher"],
        "metric scale of depth": scale,
        "views": f"mirrored and not, at scales {', '.join(f'{s:g}' for s in card['scales'])}",
        "minimum confidence": card["min_trust"],
        "precision": card["precision"],
    }


def _classes(
    frames: Sequence[LabelledFrame], classes: Sequence[SemanticClass]
) -> list[dict[str, Any]]:
    """For each class: share of all pixels and of frames, mean confidence, share with depth."""
    rows = []
    for c in classes:
        found = [f.entry["by_class"].get(c.name, {"share": 0}) for f in frames]
        shares = [entry["share"] for entry in found]
        present = [entry for entry in found if entry["share"] > 0]
        weights = [entry["share"] for entry in present]
        means = [
            np.average([entry[what] for entry in present], weights=weights) if present else None
            for what in ("trust", "depth")
        ]
        row = {"name": c.name, "color": c.color, "share": float(np.mean(shares)), "means": means}
        rows.append({**row, "frames": len(present) / len(frames)})
    return rows


def _charts(frames: Sequence[LabelledFrame]) -> dict[str, str]:
    """Draw the charts as SVG, by title."""
    sums = {
        name: np.sum([f.entry["histograms"][name] for f in frames], axis=0)
        for name in ("labels_trust", "depth_trust", "depth")
    }
    # Recordings are consecutive on the time axis; NaN between them interrupts the lines.
    seconds, order, starts = [], [], [0.0]
    for recording in dict.fromkeys(f.recording for f in frames):
        own = [i for i, f in enumerate(frames) if f.recording == recording]
        stamps = np.array([frames[i].entry["stamp"] / 1e9 for i in own])
        seconds += [*(stamps - stamps[0] + starts[-1]), np.nan]
        order += [*own, 0]
        starts.append(seconds[-2])

    def bars(values: NDArray[Any], edges: NDArray[Any], color: str, log: bool = False) -> str:
        def draw(axes: Axes) -> None:
            percent = 100 * values / max(values.sum(), 1)
            drawn = axes.bar(
                edges[:-1], percent, np.diff(edges), align="edge", color=color, edgecolor="w"
            )
            texts = [f"{p:.2g}" if p >= 0.1 else "" for p in percent]
            axes.bar_label(drawn, texts, fontsize=8)
            if log:
                axes.set_xscale("log", base=2)
            axes.xaxis.set_major_formatter("{x:g}")

        return _chart(draw)

    def curves(top: float | None, **lines: Sequence[float | None]) -> str:
        def draw(axes: Axes) -> None:
            for (name, values), color in zip(lines.items(), (_BLUE, _ORANGE), strict=False):
                y = np.array(values, float)[order]
                axes.plot(seconds, y, color=color, label=name, marker=".", markersize=3)
            for start in starts[1:-1]:
                axes.axvline(start, color="#b8c2cc", linewidth=1)
            axes.set(ylim=(0, top or 1.2 * axes.get_ylim()[1]), xlabel="seconds")
            axes.grid(axis="y", color="#e3e8ee")
            if len(lines) > 1:
                axes.legend(loc="lower left")

        return _chart(draw)

    tenths = np.linspace(0, 1, 11)
    coverage = {w: [f.entry["coverage"][w] for f in frames] for w in ("labels", "depth")}
    return {
        "Confidence of labels, per cent of the pixels": bars(sums["labels_trust"], tenths, _BLUE),
        "Confidence of depth, per cent of the pixels": bars(sums["depth_trust"], tenths, _ORANGE),
        "Share of the pixels with labels and with depth": curves(1.0, **coverage),
        "Factor that makes depth metric": curves(None, scale=[f.entry["scale"] for f in frames]),
        "Depth in metres, per cent of the pixels with depth": bars(
            sums["depth"], DEPTHS, _ORANGE, log=True
        ),
    }


def _chart(draw: Callable[[Axes], None]) -> str:
    """Draw into axes and return the chart as a data URL of an SVG image."""
    from matplotlib import rc_context
    from matplotlib.figure import Figure  # without pyplot no display is needed

    file = io.BytesIO()
    with rc_context({"svg.fonttype": "none", "text.color": _GRAY, "axes.labelcolor": _GRAY}):
        figure = Figure(figsize=(5.2, 2.4), layout="constrained")
        axes = figure.add_subplot()
        draw(axes)
        axes.tick_params(colors=_GRAY, labelsize=8)
        axes.spines[["top", "right"]].set_visible(False)
        figure.savefig(file, format="svg")
    return f"data:image/svg+xml;base64,{base64.b64encode(file.getvalue()).decode()}"


def _reach(frames: Sequence[LabelledFrame]) -> tuple[float, float]:
    """The range of the middle 90 % of depth, metres."""
    counts = np.sum([f.entry["histograms"]["depth"] for f in frames], axis=0)
    if not counts.sum():
        return 2.0, 80.0
    low, high = np.searchsorted(np.cumsum(counts) / counts.sum(), [0.05, 0.95])
    return float(DEPTHS[low]), float(DEPTHS[min(high + 1, len(DEPTHS) - 1)])


def _figures(
    frames: Sequence[LabelledFrame],
    classes: Sequence[SemanticClass],
    count: int,
    reach: tuple[float, float],
) -> list[dict[str, Any]]:
    """Draw frames at equal distances, then those with the fewest labels."""
    count = min(count, len(frames))
    even = [i * len(frames) // max(1, count - count // 4) for i in range(count - count // 4)]
    by_labels = sorted(range(len(frames)), key=lambda i: frames[i].entry["coverage"]["labels"])
    fewest = [i for i in by_labels if i not in even][: count // 4]
    figures = []
    for i in [*even, *fewest]:
        part, frame, labelled, entry = frames[i]
        key = frame["key"]
        names = ("labels", "labels_trust", "depth")
        labels, trust, encoded = (labelled.gray(key, name) for name in names)
        if labels is None or trust is None or encoded is None:
            raise TrainingError(
                f"{labelled.path(key, 'labels.png')}, .labels_trust.png or .depth.png is missing"
            )
        depth = np.where(encoded > 0, encoded.astype(np.float32) / 256, np.float32(np.nan))
        shown = tiles(part.image(frame), labels, trust, depth, classes, reach)
        caption = f"{key}: " + ", ".join(
            f"{100 * share:.0f} % with {what}" for what, share in entry["coverage"].items()
        )
        figures.append(
            {
                "tiles": {name: _inline(tile) for name, tile in shown.items()},
                "caption": caption + " (among the least labelled)" * (i in fewest),
            }
        )
    return figures


def _inline(image: NDArray[np.uint8]) -> str:
    """Encode an image, (H, W, 3) RGB, as a data URL of a JPEG."""
    encoded = cv2.imencode(".jpg", image[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, 82])[1]
    return f"data:image/jpeg;base64,{base64.b64encode(encoded.tobytes()).decode()}"
