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

"""Label a robot's images with teachers, see `cli.pseudo_label`."""

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
from ..data.refined_labels import CARD
from ..data.shards import Shard, ShardWriter, complete_shards, depth_to_png, to_png, write_json
from ..data.sources import open_source, parse, parse_yaml
from ..devices import chosen_device
from ..errors import TrainingError
from ..options import check_same
from . import report as label_report
from .alignment import Alignment, ScaleShift, camera_of, fit_line
from .motion import as_pinhole, camera_motion
from .refine import refine, terms
from .teachers import Teacher, depth_teacher, segmentation_teacher

FORMAT = 1
SPREAD = 0.1
"""Standard deviation of the logarithm of depth at which its confidence is 1/e."""
SMALLEST = 1e-2
"""Smallest valid depth of a teacher, metres."""


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
    """Label a recording's data set; raises `TrainingError` and `ModelFileError`."""
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
            try:
                before = dict(json.loads((folder / CARD).read_text()))
            except (OSError, ValueError):
                raise TrainingError(f"{folder / CARD} is damaged: remove {folder}") from None
            check_same(folder, before, card)
        own_parts = [part for part in _own_parts(parts, options.parts) if part.name not in done]
        if own_parts:
            labeller = _labeller(options, mapping)
            _check_cameras(labeller, own_parts)
            folder.mkdir(exist_ok=True)
            write_json(folder / CARD, card)
            _label(labeller, own_parts, folder)
        done = [part.name for part in complete_shards(folder)]
        if {part.name for part in parts} <= set(done):
            print(label_report.write(options.data, options.pictures))
        else:
            print(f"{len(done)} of {len(parts)} parts are labelled; the last run writes the report")
    except OSError as error:
        raise TrainingError(
            f"{folder} cannot be written: {error.strerror or error}; labelled parts stay, run the"
            " same command again to resume"
        ) from None


def _card(options: argparse.Namespace, mapping: Mapping[Hashable, Any] | None) -> dict[str, Any]:
    """The options that the labels depend on."""
    names = ("depth_teacher", "segmentation_teacher", "depth_kind", "scales", "min_trust")
    return {
        "format": FORMAT,
        "classes": options.student_classes,
        "class_map": None if mapping is None else {str(k): v for k, v in mapping.items()},
        "scale": _alignment(options, "metric").describe(),
        "precision": options.precision,
        **{name: getattr(options, name) for name in names},
    }


def _own_parts(parts: list[Shard], wanted: str | None) -> list[Shard]:
    """Select the parts that this process labels."""
    if wanted is not None:
        first, _, last = wanted.partition("-")
        if not first.isdigit() or not (last or first).isdigit():
            raise TrainingError(f"--parts {wanted}: expected FIRST-LAST, such as 0-9")
        numbers = range(int(first), int(last or first) + 1)
        parts = [part for part in parts if int(part.name.partition("-")[2]) in numbers]
        if not parts:
            raise TrainingError(f"--parts {wanted}: there is no complete part with these numbers")
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
            f"{options.depth_teacher} predicts relative depth: give --camera-height to make it"
            " metric, or --align truth if the recording has depth"
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
    """Label parts, and report the speed."""
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
    labelled = {part.name: part for part in complete_shards(folder)}
    without = sum(entry["scale"] is None for part in parts for entry in labelled[part.name].frames)
    if without:
        print(f"{without} frames have no depth: its scale is unknown", file=sys.stderr)
    rate = frames / (time.monotonic() - begun)
    hours = 10_000 / rate / 3600
    print(f"{frames} frames at {rate:.2f} a second, {hours:.2f} h per 10,000", file=sys.stderr)


class FrameInput(NamedTuple):
    """A frame to be labelled."""

    frame: dict[str, Any]
    image: NDArray[np.uint8]
    truth: NDArray[np.float32] | None
    """(H, W) measured depth, metres, 0 if unknown; None if depth is not scaled by it."""


class Agreement(NamedTuple):
    """The combined predictions of all views of one image, (H, W) each."""

    labels: NDArray[np.uint8]
    trust: NDArray[np.uint8]
    """Confidence of the labels, 0 to 255."""
    depth: NDArray[np.float32]
    """The teacher's depth, not yet in metres."""
    deviation: NDArray[np.float16]
    """See `consensus`: of the logarithm of metric depth, or of relative depth."""


@dataclass
class Labeller:
    """Labels parts with a segmentation and a depth teacher, which may be the same."""

    segmenter: Teacher
    estimator: Teacher
    student: tuple[SemanticClass, ...]
    alignment: Alignment
    scales: tuple[float, ...]
    min_trust: float
    batch: int
    device: torch.device

    def label(self, part: Shard, folder: Path, pool: ThreadPoolExecutor) -> Iterator[str]:
        """Write the labels of a part.

        Yields:
            The key of each frame after its prediction.

        Raises:
            TrainingError: An image cannot be read, or there is not enough memory.
            OSError: The labels cannot be written.
        """
        writer = ShardWriter(folder, part.name, part.packed)
        try:
            # Smoothing needs the scales of all frames of the part. Until then predictions are on
            # disk, because they take 8 bytes per pixel.
            with tempfile.TemporaryFile(dir=folder) as stored:
                lines: list[ScaleShift | None] = []
                for source, agreement in self._predictions(part, pool):
                    camera = camera_of(source.frame)
                    lines.append(
                        self.alignment.line(agreement.depth, agreement.labels, camera, source.truth)
                    )
                    for array in agreement:
                        np.save(stored, array)
                    yield source.frame["key"]
                stored.seek(0)
                smooth = self.alignment.smoothed(lines)
                written: list[Future[tuple[dict[str, Any], dict[str, bytes]]]] = []
                for frame, line in zip(part.frames, smooth, strict=True):
                    agreement = Agreement(*(np.load(stored) for _ in Agreement._fields))
                    written.append(pool.submit(self._files, part, frame, agreement, line))
                    if len(written) > 8:
                        writer.add(*written.pop(0).result())
                for future in written:
                    writer.add(*future.result())
            writer.finish()
        finally:
            writer.close()

    def _predictions(
        self, part: Shard, pool: ThreadPoolExecutor
    ) -> Iterator[tuple[FrameInput, Agreement]]:
        """Predict a part's frames in order, while the pool reads the next ones."""
        sizes = groupby(part.frames, key=lambda frame: (frame["width"], frame["height"]))
        batches = [
            frames[start : start + self.batch]
            for frames in (list(same) for _, same in sizes)
            for start in range(0, len(frames), self.batch)
        ]
        batches.append([])
        ahead = [pool.submit(self._read, part, frame) for frame in batches[0]]
        for following in batches[1:]:
            inputs = [future.result() for future in ahead]
            ahead = [pool.submit(self._read, part, frame) for frame in following]
            try:
                agreements = self.predict(inputs)
            except Exception as error:  # torch, CUDA and ONNX Runtime have their own errors
                if "memory" not in str(error).lower() and not isinstance(error, MemoryError):
                    raise
                raise TrainingError(
                    f"not enough memory on {self.device} for {len(inputs)} images at once: lower"
                    " --batch, or omit large --scales"
                ) from None
            yield from zip(inputs, agreements, strict=True)

    def _read(self, part: Shard, frame: dict[str, Any]) -> FrameInput:
        key, truth = frame["key"], None
        image = part.image(frame)
        if self.alignment.truth:
            encoded = part.gray(key, "truth_depth")
            truth = None if encoded is None else encoded.astype(np.float32) / np.float32(256)
        for array in (image, truth):
            if array is not None and array.shape[:2] != (frame["height"], frame["width"]):
                raise TrainingError(
                    f"{part.path(key, frame['picture'])} or its depth is {array.shape[:2]} (height,"
                    f" width), expected {(frame['height'], frame['width'])}"
                )
        return FrameInput(frame, image, truth)

    @torch.inference_mode()
    def predict(self, inputs: list[FrameInput]) -> list[Agreement]:
        """Run the teachers on images of one size in all views."""
        stacked = torch.from_numpy(np.stack([i.image for i in inputs])).to(self.device)
        size = tuple(stacked.shape[1:3])
        cameras = [camera_of(i.frame) for i in inputs]
        known = [camera.fx for camera in cameras if camera is not None]
        fx = torch.tensor(known) if len(known) == len(inputs) else None
        total = torch.zeros(len(inputs), len(self.student), *size, device=self.device)
        depths: list[Tensor] = []
        for scale, mirrored in product(self.scales, (False, True)):
            view = stacked.flip(2) if mirrored else stacked
            output = self.segmenter(view, fx, scale)
            if self.estimator is not self.segmenter:
                output = output._replace(depth=self.estimator(view, fx, scale).depth)
            shares, depth = (x.flip(-1) if mirrored and x is not None else x for x in output)
            if shares is not None:
                total += shares
            assert depth is not None  # every depth teacher predicts it
            depths.append(depth)
        trust, best = (total / len(depths)).max(1)
        relative = self.alignment.kind == "relative"
        views_VNHW = _aligned_views(torch.stack(depths)) if relative else torch.stack(depths)
        agreed = consensus(views_VNHW, logarithmic=not relative)
        labels = np.array([c.id for c in self.student], np.uint8)[best.cpu().numpy()]
        labels[(trust == 0).cpu().numpy()] = UNLABELLED
        numbers = (x.cpu().numpy() for x in ((255 * trust).round().byte(), *agreed))
        return [Agreement(*each) for each in zip(labels, *numbers, strict=True)]

    def _files(
        self, part: Shard, frame: dict[str, Any], agreement: Agreement, line: ScaleShift | None
    ) -> tuple[dict[str, Any], dict[str, bytes]]:
        """Build a frame's entry of the index, and its files."""
        labels, trust = agreement.labels, agreement.trust / np.float32(255)
        depth = self.alignment.metres(agreement.depth, line, labels, camera_of(frame))
        deviation = agreement.deviation.astype(np.float32)
        if self.alignment.kind == "relative" and line is not None:
            deviation *= line[0] * depth  # relative deviation of inverse depth
        with np.errstate(invalid="ignore", over="ignore"):
            depth_trust = np.exp(-np.square(deviation / SPREAD))
        valid = np.isfinite(depth) & ~np.isin(labels, _ids(self.student, "sky"))
        known, has_depth = trust >= self.min_trust, valid & (depth_trust >= self.min_trust)
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
        entry = {
            "key": frame["key"],
            "stamp": frame["stamp"],
            "coverage": {"labels": _round(known.mean()), "depth": _round(has_depth.mean())},
            "scale": None if line is None else _round(line[0]),
            "shift": None if line is None else _round(line[1]),
            "by_class": by_class,
            "histograms": {
                "labels_trust": np.histogram(trust, tenths)[0].tolist(),
                "depth_trust": np.histogram(depth_trust[valid], tenths)[0].tolist(),
                "depth": np.histogram(depth[has_depth], label_report.DEPTHS)[0].tolist(),
            },
        }
        files = {
            "labels.png": to_png(labels),
            "labels_trust.png": to_png(np.where(known, agreement.trust, 0)),
            "depth.png": depth_to_png(depth),
            "depth_trust.png": to_png(
                np.where(has_depth, np.rint(depth_trust * 255), 0).astype(np.uint8)
            ),
        }
        motions = self._motions(part, frame, labels, depth)
        if motions:
            files["motion.json"] = json.dumps(motions).encode()
        return entry, files

    def _motions(
        self, part: Shard, frame: dict[str, Any], labels: NDArray[np.uint8], depth: NDArray[Any]
    ) -> dict[str, list[list[float]] | None]:
        """Estimate the camera motion to a frame's neighbours from its depth."""
        camera = camera_of(frame)
        names = [name for name in ("previous", "next") if frame.get(name) is not None]
        if camera is None or not names:
            return {}
        image, static = part.image(frame), ~np.isin(labels, _ids(self.student, "movable"))
        motions = {}
        for name in names:
            other = part.image(frame, f"{name}.")
            found = camera_motion(image, depth, other, as_pinhole(camera), static)
            motions[name] = None if found is None else found.tolist()
        return motions


def consensus(views: Tensor, logarithmic: bool) -> tuple[Tensor, Tensor]:
    """Median and standard deviation over views of the same images.

    Args:
        views: (V, ...) values, NaN if a view has none.
        logarithmic: Whether to use the deviation of the logarithm; then values must be positive.

    Returns:
        The median (...), NaN if half of the views or more have no value. The standard deviation
        (...), float16; if logarithmic, it is increased so that exp(-(deviation / SPREAD)^2) is
        multiplied by the share of views with a value.
    """
    valid = views.isfinite() & (views > SMALLEST) if logarithmic else views.isfinite()
    count = valid.sum(0)
    ordered = torch.where(valid, views, torch.inf).sort(0).values
    middle = [ordered.gather(0, (index.clamp(min=0) // 2)[None])[0] for index in (count - 1, count)]
    median = torch.where(2 * count > len(views), (middle[0] + middle[1]) / 2, torch.nan)
    values = torch.where(valid, views.clamp(min=SMALLEST).log() if logarithmic else views, 0)
    mean = values.sum(0) / count.clamp(min=1)
    square = torch.where(valid, (values - mean).square(), 0).sum(0) / count.clamp(min=1)
    if logarithmic:
        square = square - SPREAD**2 * (count / len(views)).log()
    return median, square.sqrt().half()


def _ids(classes: tuple[SemanticClass, ...], flag: str) -> list[int]:
    return [c.id for c in classes if flag in c.flags]


def _aligned_views(views_VNHW: Tensor) -> Tensor:
    """Fit scale and offset of each view of relative depth to the first view."""
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
