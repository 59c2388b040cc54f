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

"""`depthseg report`: one HTML page about a model file's accuracy and speed."""

from __future__ import annotations

import base64
import html
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from ..files import whole
from ..imaging.geometry import Intrinsics
from ..imaging.image_files import (
    LOSSLESS,
    by_stem,
    is_image,
    orientation,
    read_image,
    read_labels,
    read_stored,
    report_left_out,
    visible_files,
)
from ..imaging.rendering import color_depth, overlay
from ..model_card import UNLABELLED, ModelCard
from ..perception import Perception, Prediction
from ..street import Street
from .measures import BINS, DepthErrors, Measures
from .speed import Speed

FIRST_STREET = 9_000_000
"""Seed of the first street; larger than all seeds used in training."""
WORST = 6
"""Number of worst images that are shown."""


@dataclass(frozen=True)
class Sample:
    """An image and its ground truth."""

    name: str
    image: NDArray[np.uint8]
    """(H, W, 3) RGB."""
    fx: float
    """Focal length, pixels."""
    labels: NDArray[np.uint8] | None
    """(H, W) class ids, 255 unlabelled."""
    depth: NDArray[np.float32] | None
    """(H, W) metres, NaN if unknown."""


def street_samples(count: int) -> Iterator[Sample]:
    """One image each of `count` rendered streets, with seeds kept for testing."""
    for seed in range(FIRST_STREET, FIRST_STREET + count):
        street = Street(seed)
        frame = street.frame(seed % 97)
        yield Sample(f"street {seed}", frame.image, street.intrinsics.fx, frame.labels, frame.depth)


class Pair(NamedTuple):
    """An image file with its label file, its depth file, or both."""

    image: Path
    labels: Path | None
    depth: Path | None


def folder_pairs(folder: Path) -> list[Pair]:
    """Find the images of a folder with ground truth next to them, as `depthseg predict` writes it.

    For NAME.jpg (or another image) NAME.labels.png (class ids, 255 unlabelled), NAME.depth.png
    (uint16 millimetres, 0 unknown), or one of the two. Ignored files are reported.

    Raises:
        ValueError: No image has ground truth, or several files have the same name.
    """
    files = visible_files(folder)
    images = by_stem(filter(is_image, files))
    truth = by_stem(f for f in files if f.suffix.lower() in LOSSLESS and not is_image(f))
    truth = {_lower_role(stem): path for stem, path in truth.items()}
    pairs = [
        Pair(image, truth.get(f"{stem}.labels"), truth.get(f"{stem}.depth"))
        for stem, image in images.items()
    ]
    known = [pair for pair in pairs if pair.labels or pair.depth]
    if not known:
        raise ValueError(
            f"{folder} has no NAME.jpg or NAME.png with NAME.labels.png or NAME.depth.png beside it"
        )
    used = {path for pair in known for path in pair}
    rest = [f for f in files if f not in used and not f.stem.lower().endswith(".overlay")]
    report_left_out(
        folder, rest, "images without ground truth, ground truth without an image, or neither"
    )
    return known


def _lower_role(stem: str) -> str:
    """`a.LABELS` as `a.labels`."""
    name, _, role = stem.rpartition(".")
    return f"{name}.{role.lower()}"


def folder_samples(pairs: list[Pair], fx: float | None, fov: float) -> Iterator[Sample]:
    """Read the images and ground truth of a folder.

    Args:
        pairs: From `folder_pairs`.
        fx: Focal length, pixels; None: from `fov`.
        fov: Horizontal field of view, radians.

    Raises:
        ValueError: A file has the wrong type or size.
    """
    for pair in pairs:
        image = read_image(pair.image)
        height, width = image.shape[:2]
        labels = metres = None
        if pair.labels:
            labels = read_labels(pair.labels)
            _check_size(pair.labels, labels, pair.image, image)
        if pair.depth:
            depth = read_stored(pair.depth, cv2.IMREAD_UNCHANGED)
            if depth.dtype != np.uint16 or depth.ndim != 2:
                raise ValueError(
                    f"{pair.depth} is {depth.dtype} {depth.shape}, expected uint16 (H, W)"
                )
            _check_size(pair.depth, depth, pair.image, image)
            metres = np.where(depth > 0, depth / 1000, np.nan).astype(np.float32)
        focal = fx or Intrinsics.from_fov(width, height, fov).fx
        yield Sample(pair.image.stem, image, focal, labels, metres)


def _check_size(
    path: Path, truth: NDArray[Any], image_path: Path, image: NDArray[np.uint8]
) -> None:
    if truth.shape == image.shape[:2]:
        return
    turned = orientation(image_path)
    why = f"; its EXIF orientation {turned} is ignored: rotate the file" if turned != 1 else ""
    raise ValueError(
        f"{path} is {truth.shape[1]}x{truth.shape[0]}, but its image {image_path.name}"
        f" is stored as {image.shape[1]}x{image.shape[0]}{why}"
    )


def check_ids(pairs: list[Pair], card: ModelCard) -> list[str]:
    """Check the class ids of label files; returns one line for each problem.

    Raises:
        ValueError: No id is a class of the model, or a file cannot be read.
    """
    counts = np.zeros(256, np.int64)
    for pair in pairs:
        if pair.labels and card.classes:
            counts += np.bincount(read_labels(pair.labels).ravel(), minlength=256)
    labelled = counts.copy()
    labelled[UNLABELLED] = 0
    found = np.flatnonzero(labelled)
    names = {c.id: c.name for c in card.classes}
    foreign = [i for i in found if i not in names]
    wanted = f"the model's classes are {', '.join(f'{i} {name}' for i, name in names.items())}"
    if foreign:
        share = labelled[foreign].sum() / labelled.sum()
        listed = ", ".join(f"{i} ({labelled[i]} pixels)" for i in foreign[:12])
        more = f" and {len(foreign) - 12} more" if len(foreign) > 12 else ""
        line = (
            f"{len(foreign)} of {len(found)} ids in the label files, {share:.1%} of their labelled"
            f" pixels, are not classes of the model: {listed}{more}; {wanted}, 255 is unlabelled"
        )
        if len(foreign) == len(found):
            raise ValueError(line)
        return [f"{line}. Pixels of other ids count as unlabelled"]
    if counts[UNLABELLED] and not found.size:
        return ["every pixel of the label files is 255 (unlabelled): labels are not measured"]
    one_class = found.size and (len(names) > 2 or (found.max() == 0 and counts[UNLABELLED]))
    if one_class and found.max() <= 1:
        listed = ", ".join(f"{i} ({counts[i]} pixels)" for i in np.flatnonzero(counts))
        return [
            f"the label files only have the ids {listed}: are they masks of one class? {wanted}"
        ]
    return []


@dataclass(frozen=True)
class Scored:
    """An image of the data with its prediction and errors."""

    sample: Sample
    predicted: Prediction
    miou: float
    errors: DepthErrors

    @property
    def badness(self) -> float:
        """1 - mIoU plus abs-rel: higher is worse."""
        lacks = 0.0 if np.isnan(self.miou) else 1 - self.miou
        return lacks + (0.0 if np.isnan(self.errors.abs_rel) else self.errors.abs_rel)


def evaluate(
    perception: Perception, samples: Iterator[Sample]
) -> tuple[Measures, list[Scored], int]:
    """Run a model over samples; returns the metrics, the worst images and the number of samples.

    Labels that are not classes of the model count as unlabelled.
    """
    measures = Measures(perception.card.depth)
    known = np.isin(np.arange(256), [c.id for c in perception.card.classes])
    worst: list[Scored] = []
    count = 0
    for sample in samples:
        count += 1
        predicted = perception(sample.image, sample.fx)
        miou, errors = float("nan"), DepthErrors(*[float("nan")] * 3)
        if sample.labels is not None and predicted.labels is not None:
            labels = np.where(known[sample.labels], sample.labels, np.uint8(UNLABELLED))
            miou = measures.add_labels(predicted.labels, labels, predicted.confidence)
        if sample.depth is not None and predicted.depth is not None:
            errors = measures.add_depth(predicted.depth, sample.depth)
        worst = sorted([*worst, Scored(sample, predicted, miou, errors)], key=lambda s: -s.badness)[
            :WORST
        ]
    return measures, worst, count


# --- The page -----------------------------------------------------------------------------------

STYLE = """
:root { color-scheme: light dark; --ink: #1d2730; --soft: #5b6b7b; --line: #d5dbe1; --bar: #2f6fb3;
  --ground: #ffffff }
@media (prefers-color-scheme: dark) { :root { --ink: #e6ebf0; --soft: #9fb0c0; --line: #3a4652;
  --bar: #6aa5e0; --ground: #14191e } }
* { box-sizing: border-box }
body { font: 16px/1.5 system-ui, sans-serif; color: var(--ink); background: var(--ground);
  max-width: 62rem; margin: 0 auto; padding: 1rem }
h1 { margin: .5rem 0 0 } h2 { margin: 2.5rem 0 .5rem }
.lead, figcaption, th { color: var(--soft) }
.tiles { display: grid; grid-template-columns: repeat(auto-fit, minmax(9rem, 1fr)); gap: .75rem;
  margin: 1.5rem 0 }
.tile { border: 1px solid var(--line); border-radius: 10px; padding: .6rem .9rem }
.tile b { display: block; font-size: 1.6rem; font-variant-numeric: tabular-nums }
.wide { overflow-x: auto }
table { border-collapse: collapse; width: 100%; font-variant-numeric: tabular-nums }
th, td { text-align: left; padding: .3rem .8rem .3rem 0; border-bottom: 1px solid var(--line) }
td.n, th.n { text-align: right }
.patch { display: inline-block; width: .9em; height: .9em; border-radius: 3px; margin-right: .5em }
figure { margin: 1rem 0 } img, svg { max-width: 100%; height: auto; display: block }
.charts { display: grid; grid-template-columns: repeat(auto-fit, minmax(17rem, 1fr)); gap: 2rem }
svg text { fill: var(--soft); font: 12px system-ui, sans-serif }
""".strip()


def page(
    model: Path, card: ModelCard, data: str, measures: Measures, worst: list[Scored], count: int,
    speeds: list[Speed], notes: Sequence[str] = (),
) -> str:  # fmt: skip
    """The page as HTML in one file; `notes` are shown before the metrics."""
    depth = measures.depth
    unit = "m" if card.metric else ""
    tiles = [
        ("mIoU", measures.miou, "{:.1%}", "mean over classes"),
        ("pixel accuracy", measures.accuracy, "{:.1%}", "share of correct labels"),
        ("ECE", measures.ece, "{:.1%}", "calibration error of the confidence"),
        ("abs-rel", depth.abs_rel, "{:.3f}", "mean relative depth error"),
        (f"RMSE {unit}", depth.rmse, "{:.2f}", "depth error"),
        ("delta < 1.25", depth.delta1, "{:.1%}", "share of pixels with ratio below 1.25"),
    ]
    shown = "".join(
        f'<div class="tile">{name}<b>{form.format(value)}</b><small>{what}</small></div>'
        for name, value, form, what in tiles
        if value == value
    )
    reach = "no depth"
    if card.depth:
        reach = f"{card.depth.kind} depth, {card.depth.min:g} to {card.depth.max:g} {unit}"
    facts = [
        ("file", str(model)),
        ("system", f"{card.system}, {card.parameters / 1e6:.2f} M parameters, {card.precision}"),
        ("outputs", f"{len(card.classes)} classes; {reach}"),
        ("network size", "{} x {}".format(*card.network_size)),
        ("trained on", ", ".join(card.trained_on) or "unknown"),
        ("terms", card.terms or "unknown"),
    ]
    parts = [
        f"<h1>{html.escape(card.name)}</h1>",
        f'<p class="lead">Measured on {count} images of {html.escape(data)}.</p>',
        *(f"<p><strong>{html.escape(note)}.</strong></p>" for note in notes),
        f'<div class="tiles">{shown}</div>',
        _charts(measures),
        _classes(card, measures),
        _worst_images(card, worst),
        _speeds(speeds),
        "<h2>The model</h2>" + _table((), [[html.escape(n), html.escape(v)] for n, v in facts]),
    ]
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{html.escape(card.name)}: report</title><style>{STYLE}</style></head>\n<body>\n"
        + "\n".join(filter(None, parts))
        + "\n</body></html>\n"
    )


def _table(head: tuple[str, ...], rows: list[list[str]]) -> str:
    """An HTML table; if it has a head, all columns except the first are numbers."""

    def row(cells: list[str] | tuple[str, ...], tag: str) -> str:
        kinds = [' class="n"' if head and i else "" for i in range(len(cells))]
        cells_ = (f"<{tag}{k}>{c}</{tag}>" for k, c in zip(kinds, cells, strict=True))
        return f"<tr>{''.join(cells_)}</tr>"

    top = row(head, "th") if head else ""
    return f'<div class="wide"><table>{top}{"".join(row(r, "td") for r in rows)}</table></div>'


def _classes(card: ModelCard, measures: Measures) -> str:
    total = measures.confusion.sum()
    if not total:
        return ""
    rows = []
    for c in card.classes:
        iou = measures.ious.get(c.id)
        patch = '<span class="patch" style="background: rgb({},{},{})"></span>'.format(*c.color)
        true, predicted = measures.confusion[c.id].sum(), measures.confusion[:, c.id].sum()
        hit = measures.confusion[c.id, c.id]
        shares = [hit / n if n else float("nan") for n in (predicted, true)]
        rows.append(
            [patch + html.escape(c.name), "–" if iou is None else f"{100 * iou:.1f}"]
            + ["–" if share != share else f"{100 * share:.1f}" for share in shares]
            + [f"{100 * true / total:.1f}"]
        )
    head = ("class", "IoU [%]", "precision [%]", "recall [%]", "share of pixels [%]")
    return "<h2>Classes</h2>" + _table(head, rows)


def _charts(measures: Measures) -> str:
    charts = []
    pixels, confidence, right = measures.reliability
    if pixels.sum():
        there = [i for i in range(BINS) if pixels[i] >= pixels.sum() * 1e-4]
        predicted = [confidence[i] / pixels[i] for i in there]
        bars = [(f"{c:.2f}", right[i] / pixels[i]) for c, i in zip(predicted, there, strict=True)]
        title = "Reliability: accuracy of labels by confidence"
        charts.append(_bars(title, bars, 1.0, "{:.0%}", predicted))
    if errors := measures.abs_rel_by_distance:
        bars = [(f"{start:g} m", error) for start, error in errors]
        title = "Depth: abs-rel by distance, from each value to the next"
        charts.append(_bars(title, bars, max(error for _, error in errors), "{:.3f}", []))
    return f'<div class="charts">{"".join(charts)}</div>' if charts else ""


def _bars(
    title: str, bars: list[tuple[str, float]], top: float, form: str, wanted: list[float]
) -> str:
    """A bar chart as SVG; `wanted` are marks for the ideal values."""
    width, height, foot, step = 400, 220, 30, 400 / max(len(bars), 1)
    drawn = []
    for i, (label, value) in enumerate(bars):
        tall = (height - foot - 20) * value / (top or 1)
        x, y = i * step + step * 0.15, height - foot - tall
        drawn.append(
            f'<rect x="{x:.1f}" y="{y:.1f}" width="{step * 0.7:.1f}" height="{tall:.1f}"'
            f' fill="var(--bar)"><title>{label}: {form.format(value)}</title></rect>'
        )
        if wanted:
            mark = height - foot - (height - foot - 20) * wanted[i] / top
            drawn.append(
                f'<line x1="{x:.1f}" x2="{x + step * 0.7:.1f}" y1="{mark:.1f}" y2="{mark:.1f}"'
                ' stroke="var(--ink)" stroke-width="2"/>'
            )
        if step > 45:
            drawn.append(
                f'<text x="{x + step * 0.35:.1f}" y="{y - 4:.1f}" text-anchor="middle">'
                f"{form.format(value)}</text>"
            )
        if step > 45 or i % 3 == 0:
            drawn.append(
                f'<text x="{x + step * 0.35:.1f}" y="{height - 10}" text-anchor="middle">'
                f"{label}</text>"
            )
    note = "; black lines: ideal values" if wanted else ""
    return (
        f'<figure><svg viewBox="0 0 {width} {height}" role="img" aria-label="{title}">'
        f"{''.join(drawn)}</svg><figcaption>{title}{note}</figcaption></figure>"
    )


def _worst_images(card: ModelCard, worst: list[Scored]) -> str:
    figures = []
    for scored in worst:
        sample, predicted = scored.sample, scored.predicted
        tiles = [sample.image]
        for labels in (sample.labels, predicted.labels):
            if labels is not None:
                tiles.append(overlay(sample.image, labels, card.classes))
        for depth in (sample.depth, predicted.depth):
            if depth is not None:
                tiles.append(color_depth(depth))
        height = max(1, 320 * sample.image.shape[0] // sample.image.shape[1])
        sheet = np.hstack([cv2.resize(t, (320, height)) for t in tiles])
        encoded = cv2.imencode(".jpg", sheet[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, 82])[1]
        captions = [f"mIoU {100 * scored.miou:.1f} %"] if scored.miou == scored.miou else []
        if scored.errors.abs_rel == scored.errors.abs_rel:
            captions.append(f"abs-rel {scored.errors.abs_rel:.3f}")
        caption = html.escape(f"{sample.name}: {', '.join(captions)}")
        data = base64.b64encode(encoded.tobytes()).decode()
        figures.append(
            f'<figure><img alt="{caption}" width="{sheet.shape[1]}" height="{sheet.shape[0]}"'
            f' src="data:image/jpeg;base64,{data}"><figcaption>{caption}</figcaption></figure>'
        )
    what = "Image; true and predicted labels; true and predicted depth, near is red."
    lead = f'<p class="lead">{what}</p>'
    return "<h2>The worst images</h2>" + lead + "".join(figures) if figures else ""


def _speeds(speeds: list[Speed]) -> str:
    rows = [
        [html.escape(s.backend), f"{s.ms:.1f}", f"{s.ms_p95:.1f}", f"{s.frames_per_second:.1f}"]
        for s in speeds
    ]
    head = ("runtime", "ms", "95th percentile", "images per second")
    lead = '<p class="lead">The network alone, on this machine, for images of 640 x 480.</p>'
    return "<h2>Speed</h2>" + lead + _table(head, rows) if rows else ""


def write(target: Path, text: str) -> None:
    """Write a page atomically."""
    with whole(target) as unfinished:
        unfinished.write_text(
            text, encoding="utf-8", errors="replace"
        )  # file names can have any bytes
