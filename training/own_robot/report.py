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

"""What teachers labelled, as one HTML file: figures, curves and pictures."""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path
from typing import Any, NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from depthseg_ros.files import whole
from depthseg_ros.imaging.compressed import decode
from depthseg_ros.imaging.rendering import color_depth, color_labels
from depthseg_ros.model_card import UNLABELLED, SemanticClass

from ..data.classes import CLASS_LISTS
from ..data.parts import Shard, complete_parts
from ..errors import TrainingError

DEPTHS = 0.25 * 2 ** np.arange(0, 10.25, 0.5)
"""Metres: edges of the histogram of depth, four bins to a factor of four, up to 256 m."""

_TILE, _POINTS = 480, 500
"""Width of pictures, and points of a curve that can be told apart."""
_BLUE, _ORANGE = "#2f6db5", "#d9822b"

_STYLE = """
:root{--ink:#1d2733;--soft:#66727f;--line:#e3e8ee}*{box-sizing:border-box}
body{margin:0;background:#f5f7fa;color:var(--ink);font:16px/1.5 system-ui,sans-serif}
main{max-width:1120px;margin:0 auto;padding:24px 16px 64px}
h1{font-size:1.7rem;margin:0 0 4px}h2{font-size:1.1rem;margin:0 0 12px}
p{margin:0 0 8px;color:var(--soft)}
section,.numbers div{background:#fff;border:1px solid var(--line);border-radius:12px;padding:16px}
.grid,.numbers,section{margin-top:16px}.grid section{margin:0}.grid,.numbers{display:grid;gap:14px}
.grid{grid-template-columns:repeat(auto-fit,minmax(min(100%,420px),1fr))}
.numbers{grid-template-columns:repeat(auto-fit,minmax(130px,1fr))}
.numbers b{display:block;font-size:1.6rem;line-height:1.2}.numbers span{color:var(--soft)}
.wide{overflow-x:auto}table{border-collapse:collapse;width:100%}
th,td{text-align:right;padding:5px 10px;border-bottom:1px solid var(--line);white-space:nowrap}
th{color:var(--soft);font-weight:500}tr:last-child td{border:0}
th:first-child,td:first-child,.words td{text-align:left}
.words td+td{white-space:normal;overflow-wrap:anywhere}
.chip{display:inline-block;width:14px;height:14px;border-radius:4px;margin-right:8px;
vertical-align:-2px;border:1px solid #0002}.legend span{margin-right:14px;white-space:nowrap}
.bar{display:inline-block;width:90px;height:8px;border-radius:4px;background:var(--line)}
.bar i{display:block;height:100%;border-radius:4px;background:#2f6db5}
svg{width:100%;height:auto;display:block}
figure{margin:0 0 18px}figcaption{color:var(--soft);font-size:.85rem;margin-top:4px}
.tiles{display:grid;gap:4px;grid-template-columns:repeat(4,1fr)}
img{width:100%;display:block;border-radius:4px}
@media(max-width:720px){.tiles{grid-template-columns:1fr 1fr}}
"""


class Shown(NamedTuple):
    """A frame and its labels."""

    part: Shard
    frame: dict[str, Any]
    labels: Shard
    words: dict[str, Any]
    """What the labels' index says of it."""

    @property
    def recording(self) -> str:
        """Name of the recording it is of."""
        return str(self.words["key"]).rpartition("-")[0]


def write(data: Path, count: int = 12) -> Path:
    """Write `labels/report.html` of a data set whose parts are labelled.

    Args:
        data: The data set.
        count: Frames to show, spread over it; a quarter of them those with the fewest labels.

    Returns:
        The file.

    Raises:
        TrainingError: the labels cannot be read.
        OSError: the report cannot be written.
    """
    folder = data / "labels"
    card = json.loads((folder / "card.json").read_text())
    parts = {part.name: part for part in complete_parts(data)}
    frames = [
        Shown(parts[labels.name], frame, labels, words)
        for labels in complete_parts(folder)
        if labels.name in parts
        for frame, words in zip(parts[labels.name].frames, labels.frames, strict=True)
    ]
    if not frames:
        raise TrainingError(f"{folder} has no labelled frames to report on")
    name, classes = escape(data.resolve().name), CLASS_LISTS[card["classes"]]
    body = [
        f"<h1>Labels of {name}</h1>"
        "<p>Made by teachers, not by hand: look at the pictures before training on them.</p>",
        _summary(card, frames),
        _classes(frames, classes),
        f'<div class="grid">{"".join(_charts(frames))}</div>',
        _pictures(frames, classes, count),
    ]
    page = (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width,initial-scale=1">'
        f"<title>Labels of {name}</title>"
        f"<style>{_STYLE}</style></head><body><main>{''.join(body)}</main></body></html>\n"
    )
    path = folder / "report.html"
    with whole(path) as unfinished:
        unfinished.write_text(page)
    return path


def tiles(
    image: np.ndarray,
    labels: np.ndarray,
    trust: np.ndarray,
    depth: np.ndarray,
    classes: Sequence[SemanticClass],
    reach: tuple[float, float] = (2.0, 80.0),
) -> list[np.ndarray]:
    """A frame as four pictures of the same size: itself, its labels, their trust, its depth.

    Args:
        image: (H, W, 3) uint8 RGB.
        labels: (H, W) class ids; what has none is shown dark.
        trust: (H, W) uint8 of the labels.
        depth: (H, W) metres, NaN where unknown.
        classes: Of the labels.
        reach: Metres between which depth has colours.

    Returns:
        (h, w, 3) uint8 RGB each.
    """
    size = (_TILE, max(1, round(image.shape[0] * _TILE / image.shape[1])))
    image = cv2.resize(image, size, interpolation=cv2.INTER_AREA)

    def small(array: np.ndarray) -> np.ndarray:
        return cv2.resize(array, size, interpolation=cv2.INTER_NEAREST)

    labels, trust, depth = small(labels), small(trust), small(depth)
    blend = cv2.addWeighted(image, 0.4, color_labels(labels, classes), 0.6, 0)
    sure = cv2.cvtColor(cv2.applyColorMap(trust, cv2.COLORMAP_VIRIDIS), cv2.COLOR_BGR2RGB)
    for picture in (blend, sure):
        picture[labels == UNLABELLED] = image[labels == UNLABELLED] // 4
    return [image, blend, sure, color_depth(depth, *reach)]


def _summary(card: Mapping[str, Any], frames: Sequence[Shown]) -> str:
    labels, depth = (np.mean([f.words["coverage"][w] for f in frames]) for w in ("labels", "depth"))
    numbers = {
        "frames": f"{len(frames):,}",
        "recordings": len({frame.recording for frame in frames}),
        "of the pixels labelled": f"{100 * labels:.1f} %",
        "of the pixels with depth": f"{100 * depth:.1f} %",
    }
    scales = [f.words["scale"] for f in frames if f.words["scale"] is not None]
    scale = card["scale"]
    if scales and (min(scales), max(scales)) != (1, 1):
        low, middle, high = np.percentile(scales, [10, 50, 90])
        scale += f": times {middle:.3g}, in four frames of five {low:.3g} to {high:.3g}"
    if len(scales) < len(frames):
        scale += f"; {len(frames) - len(scales)} frames have no depth, since nothing told its scale"
    words = {
        "segmentation by": card["segmentation_teacher"],
        "depth by": card["depth_teacher"],
        "depth made metric": scale,
        "views": f"mirrored and not, at scales {', '.join(f'{s:g}' for s in card['scales'])}",
        "left out below a trust of": card["min_trust"],
        "computed in": card["precision"],
    }
    cells = "".join(f"<div><b>{n}</b><span>{what}</span></div>" for what, n in numbers.items())
    rows = "".join(f"<tr><td>{k}</td><td>{escape(str(v))}</td></tr>" for k, v in words.items())
    return (
        f'<div class="numbers">{cells}</div><section><h2>How they were made</h2>'
        f'<table class="words">{rows}</table></section>'
    )


def _classes(frames: Sequence[Shown], classes: Sequence[SemanticClass]) -> str:
    rows = []
    shares = [
        np.array([f.words["by_class"].get(c.name, {}).get("share", 0) for f in frames])
        for c in classes
    ]
    most = max(*(share.mean() for share in shares), 1e-9)
    for c, share in zip(classes, shares, strict=True):
        seen = [
            f.words["by_class"][c.name] for f, here in zip(frames, share > 0, strict=True) if here
        ]
        means = [
            f"{np.average([s[what] for s in seen], weights=share[share > 0]):.2f}" if seen else "-"
            for what in ("trust", "depth")
        ]
        wide = 100 * share.mean() / most
        cells = [
            f'<i class="chip" style="background:rgb{c.color}"></i>{escape(c.name)}',
            f"{100 * share.mean():.2f} %",
            f'<span class="bar"><i style="width:{wide:.0f}%"></i></span>',
            f"{100 * len(seen) / len(frames):.0f} %",
            *means,
        ]
        rows.append("<tr>" + "".join(f"<td>{cell}</td>" for cell in cells) + "</tr>")
    names = ("class", "of all pixels", "", "in frames", "mean trust", "share with depth")
    heads = "".join(f"<th>{name}</th>" for name in names)
    return (
        '<section><h2>Classes</h2><div class="wide"><table>'
        f"<tr>{heads}</tr>{''.join(rows)}</table></div></section>"
    )


def _charts(frames: Sequence[Shown]) -> list[str]:
    sums = {
        name: np.sum([f.words["histograms"][name] for f in frames], axis=0)
        for name in ("labels_trust", "depth_trust", "depth")
    }
    labels, depth = ([f.words["coverage"][w] for f in frames] for w in ("labels", "depth"))
    scales = [np.nan if f.words["scale"] is None else f.words["scale"] for f in frames]
    top = 1.2 * np.nanmax(scales) if np.isfinite(scales).any() else 1.0
    tenths = [f"{i / 10:g}" for i in range(11)]
    metres = [f"{edge:g}" if i % 4 == 0 else "" for i, edge in enumerate(DEPTHS)]
    charts = {
        "Trust of labels, per cent of the pixels": _bars(sums["labels_trust"], tenths, _BLUE),
        "Trust of depth, per cent of the pixels": _bars(sums["depth_trust"], tenths, _ORANGE),
        "Share of the pixels labelled (blue) and with depth (orange), over seconds": _curves(
            frames, {_BLUE: labels, _ORANGE: depth}, 1.0
        ),
        "Scale that makes depth metric, over seconds": _curves(frames, {_BLUE: scales}, top),
        "Depth in metres, per cent of the pixels with depth": _bars(sums["depth"], metres, _ORANGE),
    }
    return [f"<section><h2>{title}</h2>{chart}</section>" for title, chart in charts.items()]


def _bars(values: NDArray[Any], ticks: Sequence[str], color: str) -> str:
    """A histogram in per cent, with a tick at each edge."""
    step, talls = 480 / len(values), 140 * values / max(values.max(), 1)
    percent = 100 * values / max(values.sum(), 1)
    marks = [_text(20 + i * step, 184, tick) for i, tick in enumerate(ticks) if tick]
    bars = [
        f'<rect x="{21 + i * step:.1f}" y="{165 - tall:.1f}" width="{step - 2:.1f}"'
        f' height="{tall:.1f}" rx="2" fill="{color}"/>'
        + _text(20 + (i + 0.5) * step, 160 - tall, f"{percent[i]:.2g}" if percent[i] >= 0.1 else "")
        for i, tall in enumerate(talls)
    ]
    return _svg(bars + marks)


def _curves(frames: Sequence[Shown], curves: Mapping[str, Sequence[float]], top: float) -> str:
    """Curves by colour, from 0 to `top`, over the time of recordings one after the other."""
    starts = [i for i, f in enumerate(frames) if i == 0 or f.recording != frames[i - 1].recording]
    ends = [*starts[1:], len(frames)]
    seconds = np.array([f.words["stamp"] / 1e9 for f in frames])
    for start, end in zip(starts, ends, strict=True):
        seconds[start:end] += (seconds[start - 1] if start else 0) - seconds[start]
    wide = max(seconds[-1], 1e-9)
    x = 40 + 460 * seconds / wide
    shown = [
        f'<line x1="40" x2="500" y1="{165 - 150 * s}" y2="{165 - 150 * s}" stroke="#e3e8ee"/>'
        + _text(34, 169 - 150 * s, f"{top * s:.3g}", "end")
        + _text(40 + 460 * s, 184, f"{wide * s:.0f}")
        for s in (0, 0.5, 1)
    ]
    shown += [f'<path d="M{x[i]:.1f} 15V165" stroke="#b8c2cc"/>' for i in starts[1:]]
    for color, values in curves.items():
        y = 165 - 150 * np.array(values, float) / top
        for start, end in zip(starts, ends, strict=True):
            known = np.flatnonzero(np.isfinite(y[start:end])) + start
            runs = np.array_split(known, max(1, min(_POINTS, len(known))))
            points = " ".join(f"{x[r].mean():.1f},{y[r].mean():.1f}" for r in runs if len(r))
            shown.append(
                f'<polyline points="{points}" fill="none" stroke="{color}" stroke-width="2"/>'
            )
    return _svg(shown)


def _text(x: float, y: float, words: str, anchor: str = "middle") -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}">{words}</text>'


def _svg(parts: Sequence[str]) -> str:
    look = 'font-size="12" font-family="system-ui,sans-serif" fill="#66727f"'
    return f'<svg viewBox="0 0 520 190" role="img" {look}>{"".join(parts)}</svg>'


def _reach(frames: Sequence[Shown]) -> tuple[float, float]:
    """Between which nine tenths of the depth lie, metres."""
    counts = np.sum([f.words["histograms"]["depth"] for f in frames], axis=0)
    if not counts.sum():
        return 2.0, 80.0
    low, high = np.searchsorted(np.cumsum(counts) / counts.sum(), [0.05, 0.95])
    return float(DEPTHS[low]), float(DEPTHS[min(high + 1, len(DEPTHS) - 1)])


def _pictures(frames: Sequence[Shown], classes: Sequence[SemanticClass], count: int) -> str:
    """Frames spread over time, then those with the fewest labels."""
    count, reach = min(count, len(frames)), _reach(frames)
    even = [i * len(frames) // max(1, count - count // 4) for i in range(count - count // 4)]
    by_labels = sorted(range(len(frames)), key=lambda i: frames[i].words["coverage"]["labels"])
    fewest = [i for i in by_labels if i not in even][: count // 4]
    figures = []
    for i in [*even, *fewest]:
        part, frame, made, words = frames[i]
        key = frame["key"]
        labels, trust, encoded = (
            gray_of(made, key, name) for name in ("labels", "labels_trust", "depth")
        )
        if labels is None or trust is None or encoded is None:
            raise TrainingError(f"{made.path(key, 'labels.png')} or what belongs to it is missing")
        depth = np.where(encoded > 0, encoded.astype(np.float32) / 256, np.float32(np.nan))
        pictures = tiles(picture_of(part, frame), labels, trust, depth, classes, reach)
        images = "".join(
            f'<img loading="lazy" alt="{name}" src="{_inline(picture)}">'
            for name, picture in zip(("picture", "labels", "trust", "depth"), pictures, strict=True)
        )
        said = ", ".join(f"{100 * v:.0f} % with {k}" for k, v in words["coverage"].items())
        told = " (among the least labelled)" if i in fewest else ""
        caption = f"<figcaption>{escape(key)}: {said}{told}</figcaption>"
        figures.append(f'<figure><div class="tiles">{images}</div>{caption}</figure>')
    chips = "".join(
        f'<span><i class="chip" style="background:rgb{c.color}"></i>{escape(c.name)}</span>'
        for c in classes
    )
    ramp = color_depth(np.geomspace(*reach, 512, dtype=np.float32)[None].repeat(10, 0), *reach)
    return (
        f'<section><h2>Pictures: as taken, labels, their trust, depth</h2><p class="legend">{chips}'
        "</p><p>Dark: unlabelled. Trust: violet is 0, yellow 1. Depth: black is none, colours are"
        f' {reach[0]:.3g} m to {reach[1]:.3g} m:</p><p><img alt="" src="{_inline(ramp)}"></p>'
        f"{''.join(figures)}</section>"
    )


def picture_of(part: Shard, frame: Mapping[str, Any], view: str = "") -> NDArray[np.uint8]:
    """A frame's picture, or with `previous.` or `next.` that view: (H, W, 3) RGB.

    Raises:
        TrainingError: it is missing or damaged.
    """
    ending = f"{view}{frame['picture']}"
    try:
        return decode(part.read(frame["key"], ending) or b"")
    except ValueError as error:
        raise TrainingError(f"{part.path(frame['key'], ending)}: {error}") from None


def gray_of(part: Shard, key: str, name: str) -> NDArray[Any] | None:
    """A frame's `name.png` of one channel, as it is stored; None where there is none.

    Raises:
        TrainingError: it is damaged.
    """
    content = part.read(key, f"{name}.png")
    if content is None:
        return None
    array = cv2.imdecode(np.frombuffer(content, np.uint8), cv2.IMREAD_UNCHANGED)
    if array is None or array.ndim != 2:
        raise TrainingError(f"{part.path(key, name)}.png is not a picture of one channel")
    return array


def _inline(picture: NDArray[np.uint8]) -> str:
    encoded = cv2.imencode(".jpg", picture[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, 82])[1]
    return f"data:image/jpeg;base64,{base64.b64encode(encoded.tobytes()).decode()}"
