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

"""Label a robot's images by teachers, see `cli.pseudo_label`."""

from __future__ import annotations

import argparse
import json
import math
import os
import sys
import tempfile
import time
from collections.abc import Hashable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from itertools import groupby, product
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from torch import Tensor

from depthseg_ros.model_card import UNLABELLED, SemanticClass

from ..data.classes import CLASS_LISTS
from ..data.label_spaces import read_map
from ..data.shards import Shard, ShardWriter, complete_shards, depth_to_png, to_png, write_json
from ..data.sources import open_source, parse, parse_yaml
from ..devices import chosen_device
from ..errors import TrainingError
from . import report as label_report
from .alignment import Alignment, ScaleShift, camera_of, fit_line
from .motion import as_pinhole, camera_motion
from .refine import refine, terms
from .teachers import Teacher, depth_teacher, segmentation_teacher

FORMAT = 1
SPREAD = 0.1
"""Standard deviation of the logarithm of depth at which its trust is 1/e."""
SMALLEST = 1e-2
"""Metres, below which no teacher's depth is."""


def refine_labels(options: argparse.Namespace) -> None:
    """Refine the labels of a data set of images; raises `TrainingError`."""
    ((name, folder),) = parse([options.data]).items()
    reader = parse_yaml(options.options)
    if not isinstance(reader, dict):
        raise TrainingError(f"--options is {options.options}, expected {{OPTION: VALUE}}")
    source = open_source(name, "all", folder, options=reader)
    student, names = CLASS_LISTS[options.student_classes], options.segmentation_teacher
    files = options.classes or [None]
    if len(files) not in (1, len(names)):
        raise TrainingError(f"--classes has {len(files)} maps for {len(names)} teachers")
    maps = [None if file is None else read_map(file) for file in files]
    maps = maps * len(names) if len(maps) == 1 else maps
    device = chosen_device(options.device)
    teachers = [
        segmentation_teacher(n, device, options.precision, student, m, options.teacher_size)
        for n, m in zip(names, maps, strict=True)
    ]
    card = {
        "format": FORMAT,
        "data": name,
        "classes": [c.name for c in student],
        "teachers": [Path(n).name for n in names],
        "maps": [None if m is None else {str(k): v for k, v in m.items()} for m in maps],
        "size": options.teacher_size,
        "terms": terms(names, teachers),
    }
    refine(source, teachers, student, options.output, card)
    print(f"{len(source)} images: {options.output}")


def run(options: argparse.Namespace) -> None:
    """See `main`; raises `TrainingError` and `ModelFileError`."""
    parts, folder = complete_shards(options.data), options.data / "labels"
    if not parts:
        raise TrainingError(
            f"{options.data} has no complete part-*.json, expected a data set of `training bag`"
        )
    mapping = None if options.classes is None else read_map(options.classes)
    card = _card(options, mapping)
    try:
        done = [part.name for part in complete_shards(folder)]
        if done:
            _compare(folder / "card.json", card)
        mine = [part for part in _mine(parts, options.parts) if part.name not in done]
        if mine:
            labeller = _labeller(options, mapping)
            _check_cameras(labeller, mine)
            folder.mkdir(exist_ok=True)
            write_json(folder / "card.json", card)
            _label(labeller, mine, folder)
        done = [part.name for part in complete_shards(folder)]
        if {part.name for part in parts} <= set(done):
            print(label_report.write(options.data, options.pictures))
        else:
            print(f"{len(done)} of {len(parts)} parts are labelled; the last makes the report")
    except OSError as error:
        raise TrainingError(
            f"{folder} cannot be written: {error.strerror or error}; labelled parts stay, and the"
            " same command goes on after them"
        ) from None


def _card(options: argparse.Namespace, mapping: Mapping[Hashable, Any] | None) -> dict[str, Any]:
    """What the labels depend on."""
    names = ("depth_teacher", "segmentation_teacher", "depth_kind", "scales", "min_trust")
    return {
        "format": FORMAT,
        "classes": options.student_classes,
        "class_map": None if mapping is None else {str(k): v for k, v in mapping.items()},
        "scale": _alignment(options, "metric").describe(),
        "precision": options.precision,
        **{name: getattr(options, name) for name in names},
    }


def _compare(path: Path, card: Mapping[str, Any]) -> None:
    """Raise `TrainingError` where labels were made otherwise."""
    try:
        before = dict(json.loads(path.read_text()))
    except (OSError, ValueError):
        raise TrainingError(f"{path} is no card of labels: remove {path.parent}") from None
    changed = [
        f"{key} {before.get(key)!r} before, {card.get(key)!r} now"
        for key in {**before, **card}
        if before.get(key) != card.get(key)
    ]
    if changed:
        raise TrainingError(
            f"{path.parent} was made otherwise ({'; '.join(changed)}): give the same options, or"
            " remove it to label anew"
        )


def _mine(parts: list[Shard], wanted: str | None) -> list[Shard]:
    """Parts that this process labels."""
    if wanted is not None:
        first, _, last = wanted.partition("-")
        if not first.isdigit() or not (last or first).isdigit():
            raise TrainingError(f"--parts {wanted}: expected FIRST-LAST, such as 0-9")
        numbers = range(int(first), int(last or first) + 1)
        parts = [part for part in parts if int(part.name.partition("-")[2]) in numbers]
        if not parts:
            raise TrainingError(f"--parts {wanted}: there is no complete part of these numbers")
    return parts[int(os.environ.get("RANK", 0)) :: int(os.environ.get("WORLD_SIZE", 1))]


def _alignment(options: argparse.Namespace, kind: str) -> Alignment:
    classes, truth = CLASS_LISTS[options.student_classes], options.align == "truth"
    return Alignment(kind, classes, truth, options.camera_height, options.camera_pitch)


def _labeller(options: argparse.Namespace, mapping: Mapping[Hashable, Any] | None) -> Labeller:
    """Load the teachers."""
    device, precision = chosen_device(options.device), options.precision
    student, names = CLASS_LISTS[options.student_classes], options.segmentation_teacher
    segmenter = segmentation_teacher(names, device, precision, student, mapping)
    loaded = segmenter if options.depth_teacher == names else None
    estimator = depth_teacher(options.depth_teacher, device, precision, options.depth_kind, loaded)
    alignment = _alignment(options, estimator.depth or "metric")
    if alignment.kind == "relative" and not alignment.needed:
        raise TrainingError(
            f"{options.depth_teacher} says relative depth, which becomes metric only by"
            " --camera-height, or by --align truth where the recording has depth"
        )
    scales, trust = tuple(options.scales), options.min_trust
    return Labeller(segmenter, estimator, student, alignment, scales, trust, options.batch, device)


def _check_cameras(labeller: Labeller, parts: list[Shard]) -> None:
    height = labeller.alignment.height is not None
    if not (height or labeller.estimator.needs_fx or labeller.segmenter.needs_fx):
        return
    for part in parts:
        keys = [frame["key"] for frame in part.frames if frame.get("camera") is None]
        if keys:
            raise TrainingError(
                f"{part.path(keys[0], 'json')} has no calibration, which"
                f" {'--camera-height' if height else 'a teacher'} needs: record the camera's"
                " camera_info"
            )


def _label(labeller: Labeller, parts: list[Shard], folder: Path) -> None:
    """Label parts, and tell how fast that went."""
    frames, begun = sum(len(part.frames) for part in parts), time.monotonic()
    console = Console(stderr=True)
    bar = Progress(
        *(TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn()),
        TimeRemainingColumn(),
        console=console,
        disable=not console.is_terminal,
    )
    with ThreadPoolExecutor(4) as pool, bar:
        task = bar.add_task("", total=frames)
        for part in parts:
            bar.update(task, description=part.name)
            for _ in labeller.label(part, folder, pool):
                bar.advance(task)
    made = {part.name: part for part in complete_shards(folder)}
    untold = sum(words["scale"] is None for part in parts for words in made[part.name].frames)
    if untold:
        print(f"{untold} frames have no depth: nothing told its scale", file=sys.stderr)
    rate = frames / (time.monotonic() - begun)
    hours = 10_000 / rate / 3600
    print(f"{frames} frames at {rate:.2f} a second, {hours:.2f} h per 10,000", file=sys.stderr)


class Picture(NamedTuple):
    """A frame to be labelled."""

    frame: dict[str, Any]
    image: NDArray[np.uint8]
    truth: NDArray[np.float32] | None
    """(H, W) metres, 0 where unknown; read only where depth is aligned by it."""


class Agreement(NamedTuple):
    """What the views of one picture come to."""

    labels: NDArray[np.uint8]
    trust: NDArray[np.uint8]
    said: NDArray[np.float32]
    """Depth as the teacher has it."""
    doubt: NDArray[np.float16]
    """Of `consensus`: of the logarithm of metric depth, of relative depth itself."""


@dataclass
class Labeller:
    """Labels parts by two teachers, which may be one."""

    segmenter: Teacher
    estimator: Teacher
    student: tuple[SemanticClass, ...]
    alignment: Alignment
    scales: tuple[float, ...]
    min_trust: float
    batch: int
    device: torch.device

    def label(self, part: Shard, folder: Path, pool: ThreadPoolExecutor) -> Iterator[str]:
        """Write the labels of a part; gives each frame's key when its teachers are through.

        Raises:
            TrainingError: a picture cannot be read, or the memory does not suffice.
            OSError: the labels cannot be written.
        """
        writer = ShardWriter(folder, part.name, part.packed)
        try:
            # All wait for the part's last line; on disk, since they take 8 bytes a pixel.
            with tempfile.TemporaryFile(dir=folder) as waiting:
                lines: list[ScaleShift | None] = []
                for picture, opinion in self._opinions(part, pool):
                    camera = camera_of(picture.frame)
                    lines.append(
                        self.alignment.line(opinion.said, opinion.labels, camera, picture.truth)
                    )
                    for array in opinion:
                        np.save(waiting, array)
                    yield picture.frame["key"]
                waiting.seek(0)
                smooth = self.alignment.smoothed(lines)
                written: list[Future[tuple[dict[str, Any], dict[str, bytes]]]] = []
                for frame, line in zip(part.frames, smooth, strict=True):
                    opinion = Agreement(*(np.load(waiting) for _ in Agreement._fields))
                    written.append(pool.submit(self._files, part, frame, opinion, line))
                    if len(written) > 8:
                        writer.add(*written.pop(0).result())
                for future in written:
                    writer.add(*future.result())
            writer.finish()
        finally:
            writer.close()

    def _opinions(
        self, part: Shard, pool: ThreadPoolExecutor
    ) -> Iterator[tuple[Picture, Agreement]]:
        """What the teachers say of a part's frames, in order; the next ones are read meanwhile."""
        sizes = groupby(part.frames, key=lambda frame: (frame["width"], frame["height"]))
        batches = [
            frames[start : start + self.batch]
            for frames in (list(same) for _, same in sizes)
            for start in range(0, len(frames), self.batch)
        ]
        batches.append([])
        ahead = [pool.submit(self._read, part, frame) for frame in batches[0]]
        for following in batches[1:]:
            pictures = [future.result() for future in ahead]
            ahead = [pool.submit(self._read, part, frame) for frame in following]
            try:
                opinions = self.look(pictures)
            except Exception as error:  # torch, CUDA and ONNX Runtime have each their own
                if "memory" not in str(error).lower() and not isinstance(error, MemoryError):
                    raise
                raise TrainingError(
                    f"{len(pictures)} pictures at once are too much for the memory of"
                    f" {self.device}: lower --batch, or leave out large --scales"
                ) from None
            yield from zip(pictures, opinions, strict=True)

    def _read(self, part: Shard, frame: dict[str, Any]) -> Picture:
        key, truth = frame["key"], None
        image = part.image(frame)
        if self.alignment.truth:
            encoded = part.gray(key, "truth_depth")
            truth = None if encoded is None else encoded.astype(np.float32) / np.float32(256)
        for array in (image, truth):
            if array is not None and array.shape[:2] != (frame["height"], frame["width"]):
                raise TrainingError(
                    f"{part.path(key, frame['picture'])} or its depth is {array.shape[:2]} (height,"
                    f" width), its frame says {(frame['height'], frame['width'])}"
                )
        return Picture(frame, image, truth)

    @torch.inference_mode()
    def look(self, pictures: list[Picture]) -> list[Agreement]:
        """Let the teachers look at pictures of one size in all views."""
        stacked = torch.from_numpy(np.stack([p.image for p in pictures])).to(self.device)
        size = tuple(stacked.shape[1:3])
        cameras = [camera_of(p.frame) for p in pictures]
        known = [camera.fx for camera in cameras if camera is not None]
        fx = torch.tensor(known) if len(known) == len(pictures) else None
        total = torch.zeros(len(pictures), len(self.student), *size, device=self.device)
        depths: list[Tensor] = []
        for scale, mirrored in product(self.scales, (False, True)):
            seen = stacked.flip(2) if mirrored else stacked
            said = self.segmenter(seen, fx, scale)
            if self.estimator is not self.segmenter:
                said = said._replace(depth=self.estimator(seen, fx, scale).depth)
            shares, depth = (x.flip(-1) if mirrored and x is not None else x for x in said)
            if shares is not None:
                total += shares
            assert depth is not None  # the estimator gives it
            depths.append(depth)
        trust, best = (total / len(depths)).max(1)
        relative = self.alignment.kind == "relative"
        views_VNHW = _together(torch.stack(depths)) if relative else torch.stack(depths)
        agreed = consensus(views_VNHW, logarithmic=not relative)
        labels = np.array([c.id for c in self.student], np.uint8)[best.cpu().numpy()]
        labels[(trust == 0).cpu().numpy()] = UNLABELLED
        numbers = (x.cpu().numpy() for x in ((255 * trust).round().byte(), *agreed))
        return [Agreement(*each) for each in zip(labels, *numbers, strict=True)]

    def _files(
        self, part: Shard, frame: dict[str, Any], opinion: Agreement, line: ScaleShift | None
    ) -> tuple[dict[str, Any], dict[str, bytes]]:
        """A frame's words for the index, and its files."""
        labels, trust = opinion.labels, opinion.trust / np.float32(255)
        depth = self.alignment.metres(opinion.said, line, labels, camera_of(frame))
        doubt = opinion.doubt.astype(np.float32)
        if self.alignment.kind == "relative" and line is not None:
            doubt *= line[0] * depth  # of 1 / metres, as a share of it
        with np.errstate(invalid="ignore", over="ignore"):
            sure = np.exp(-np.square(doubt / SPREAD))
        seen = np.isfinite(depth) & ~np.isin(labels, _ids(self.student, "sky"))
        known, has_depth = trust >= self.min_trust, seen & (sure >= self.min_trust)
        depth[~has_depth], labels[~known] = np.nan, UNLABELLED
        by_class = {
            c.name: {
                "share": _round(np.mean(here)),
                "trust": _round(np.mean(trust[here])),
                "depth": _round(np.mean(has_depth[here])),
            }
            for c in self.student
            if (here := labels == c.id).any()
        }
        tenths = np.linspace(0, 1, 11)
        words = {
            "key": frame["key"],
            "stamp": frame["stamp"],
            "coverage": {"labels": _round(known.mean()), "depth": _round(has_depth.mean())},
            "scale": None if line is None else _round(line[0]),
            "shift": None if line is None else _round(line[1]),
            "by_class": by_class,
            "histograms": {
                "labels_trust": np.histogram(trust, tenths)[0].tolist(),
                "depth_trust": np.histogram(sure[seen], tenths)[0].tolist(),
                "depth": np.histogram(depth[has_depth], label_report.DEPTHS)[0].tolist(),
            },
        }
        files = {
            "labels.png": to_png(labels),
            "labels_trust.png": to_png(np.where(known, opinion.trust, 0)),
            "depth.png": depth_to_png(depth),
            "depth_trust.png": to_png(np.where(has_depth, np.rint(sure * 255), 0).astype(np.uint8)),
        }
        motions = self._motions(part, frame, labels, depth)
        if motions:
            files["motion.json"] = json.dumps(motions).encode()
        return words, files

    def _motions(
        self, part: Shard, frame: dict[str, Any], labels: NDArray[np.uint8], depth: NDArray[Any]
    ) -> dict[str, list[list[float]] | None]:
        """How the camera moved to a frame's neighbours, by its depth."""
        camera = camera_of(frame)
        names = [name for name in ("previous", "next") if frame.get(name) is not None]
        if camera is None or not names:
            return {}
        image, still = part.image(frame), ~np.isin(labels, _ids(self.student, "movable"))
        motions = {}
        for name in names:
            other = part.image(frame, f"{name}.")
            found = camera_motion(image, depth, other, as_pinhole(camera), still)
            motions[name] = None if found is None else found.tolist()
        return motions


def consensus(views: Tensor, logarithmic: bool) -> tuple[Tensor, Tensor]:
    """What views of the same pictures agree on, and how well.

    Args:
        views: (V, ...) numbers, NaN where a view has none; only positive ones if `logarithmic`.
        logarithmic: Whether their proportions count.

    Returns:
        The median (...), NaN where half of the views or more have none. The doubt (...) float16,
        which is the standard deviation, of the logarithm if so wanted; that takes the share of
        views with a number along, so that a trust of exp(-(doubt / SPREAD)^2) is as much less.
    """
    there = views.isfinite() & (views > SMALLEST) if logarithmic else views.isfinite()
    count = there.sum(0)
    ordered = torch.where(there, views, torch.inf).sort(0).values
    middle = [ordered.gather(0, (index.clamp(min=0) // 2)[None])[0] for index in (count - 1, count)]
    median = torch.where(2 * count > len(views), (middle[0] + middle[1]) / 2, torch.nan)
    values = torch.where(there, views.clamp(min=SMALLEST).log() if logarithmic else views, 0)
    mean = values.sum(0) / count.clamp(min=1)
    square = torch.where(there, (values - mean).square(), 0).sum(0) / count.clamp(min=1)
    if logarithmic:
        square = square - SPREAD**2 * (count / len(views)).log()
    return median, square.sqrt().half()


def _ids(classes: tuple[SemanticClass, ...], flag: str) -> list[int]:
    return [c.id for c in classes if flag in c.flags]


def _together(views_VNHW: Tensor) -> Tensor:
    """Views of relative depth, whose scale and offset are their own, as the first one has them."""
    views_VNHW = views_VNHW.clone()
    step = max(1, math.isqrt(views_VNHW[0, 0].numel() // 3000))
    some = views_VNHW[..., ::step, ::step].flatten(2).cpu().numpy()
    for v, n in product(range(1, len(some)), range(some.shape[1])):
        line = fit_line(some[v, n], some[0, n])
        if line is not None:
            views_VNHW[v, n] = views_VNHW[v, n] * float(line[0]) + float(line[1])
    return views_VNHW


def _round(value: Any) -> float:
    return float(f"{float(value):.5g}")
