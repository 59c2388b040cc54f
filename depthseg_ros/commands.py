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

"""What the commands of `depthseg` do; `cli` reads their options."""

from __future__ import annotations

import argparse
import itertools
import json
import math
import os
import signal
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple, TypeAlias

import cv2
import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.markup import escape
from rich.progress import Progress
from rich.table import Table

from . import model_card, rendering
from .backends import BACKENDS, why_not
from .files import whole
from .geometry import Intrinsics, to_millimetres
from .image_files import BESIDE, IMAGES, is_image, read_image, report_left_out, visible_files
from .perception import Perception, Prediction
from .precision import choose_file, forget
from .sources import (
    Frame,
    device_frames,
    file_frames,
    folder_frames,
    is_video,
    open_video,
    street_frames,
)
from .street import Camera

_Look: TypeAlias = tuple[NDArray[np.uint8], Intrinsics, Prediction]


class UsageError(ValueError):
    """The command line asks for what cannot be done."""

    exit_code = 2


def info(options: argparse.Namespace) -> None:
    """Print a model file's card."""
    chosen = choose_file(options.model, options.precision)
    if chosen.backend is not None:
        chosen.backend.close()
    card = model_card.read(chosen.path)
    if options.json:
        print(card.to_json())
        return
    console = Console()
    facts = Table(title=escape(str(chosen.path)), show_header=False)
    depth = card.depth
    unit = "m" if card.needs_fx else "(not metres)"
    for name, value in (
        *([("file", f"{chosen.path.name}: {chosen.why}")] if chosen.why else []),
        ("name", card.name),
        ("system", f"{card.system}, {card.parameters / 1e6:.2f} M parameters, {card.precision}"),
        ("network size", "{} x {}".format(*card.network_size)),
        ("inputs", ", ".join(card.inputs)),
        ("depth", f"{depth.kind}, {depth.min:g} to {depth.max:g} {unit}" if depth else "none"),
        ("trained on", ", ".join(card.trained_on)),
        ("terms", card.terms),
        *((name, f"{value:g}") for name, value in card.metrics.items()),
    ):
        facts.add_row(escape(name), escape(value))
    console.print(facts)
    classes = Table("id", "class", "colour", "flags")
    for c in card.classes:
        patch = "[on rgb({},{},{})]      [/]".format(*c.color)
        classes.add_row(str(c.id), escape(c.name), patch, " ".join(c.flags))
    console.print(classes)


def predict(options: argparse.Namespace) -> None:
    """Write labels, depth and an overlay for every picture."""
    sources = list(_sources(options.paths))
    perception = Perception(
        options.model, options.backend, threads=options.threads, precision=options.precision
    )
    background = None if options.background is None else read_image(options.background)
    if perception.card.needs_background != (background is not None):
        raise UsageError(
            f"the model {perception.card.name} needs --background, the same view without foreground"
            if background is None
            else f"the model {perception.card.name} takes no --background"
        )
    if perception.card.depth and perception.card.depth.kind != "metric":
        print(
            f"depthseg predict: the model's depth is {perception.card.depth.kind}, not metres;"
            " NAME.depth.png holds thousandths of it",
            file=sys.stderr,
        )
    if perception.card.needs_fx and options.fx is None:
        print(
            f"depthseg predict: no --fx given; taking a horizontal field of view of"
            f" {options.fov:g} degrees, which scales every depth",
            file=sys.stderr,
        )
    for source in sources:
        for end in BESIDE:
            target = options.output / f"{source.stem}{end}.png"
            if target.exists() and target.parent.samefile(source.path.parent):
                raise UsageError(
                    f"{target} is there already, and could be the truth about {source.path.name}:"
                    " give another --output"
                )
    try:
        options.output.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UsageError(f"--output {options.output} cannot be a folder: {error}") from None
    unreadable = []
    with _progress() as progress:
        task = progress.add_task("predict", total=sum(source.frames for source in sources))
        for source in sources:
            images = _images(source.path)
            for frame in itertools.count():
                try:
                    image = next(images, None)
                except ValueError as error:
                    unreadable.append(str(error))
                    break
                if image is None:
                    break
                name = f"{source.stem}_{frame:06}" if source.video else source.stem
                height, width = image.shape[:2]
                view = Intrinsics.from_fov(width, height, math.radians(options.fov))
                prediction = perception(image, options.fx or view.fx, background)
                _write(options.output / name, image, prediction, perception.card)
                progress.advance(task)
    if unreadable:
        raise ValueError(
            f"{len(unreadable)} of {len(sources)} files could not be read: "
            + "; ".join(unreadable[:5])
        )


def report(options: argparse.Namespace) -> None:
    """Write a page on how good and how fast a model file is."""
    from . import report as reports
    from .benchmark import benchmark

    _check_target("--output", options.output)
    if options.data == "street":
        samples, data, pairs = reports.street_samples(options.count), "rendered streets", []
    elif Path(options.data).is_dir():
        pairs = reports.folder_pairs(Path(options.data))
        fov = math.radians(options.fov)
        samples, data = reports.folder_samples(pairs, options.fx, fov), options.data
    else:
        raise UsageError(f"DATA is {options.data!r}, expected street or a folder of images")
    perception = Perception(options.model, options.backend, precision=options.precision)
    if perception.card.needs_background:
        raise UsageError(f"the model {perception.card.name} compares with a background: no report")
    notes = reports.check_ids(pairs, perception.card) if pairs else []
    for note in notes:  # before hours of work
        print(f"depthseg report: {note}", file=sys.stderr)
    measures, worst, count = reports.look(perception, samples)
    speeds = benchmark(perception.path, (640, 480), [options.backend], rounds=20)
    card = perception.card
    text = reports.page(perception.path, card, data, measures, worst, count, speeds, notes)
    reports.write(options.output, text)
    print(f"{options.output}: {count} pictures")


def view(options: argparse.Namespace) -> None:
    """Show what a model says of a source's pictures, or a node of its camera's."""
    try:
        from .viewer import Viewer
    except ImportError as error:
        raise UsageError(f"the viewer is missing ({error}): pip install rerun-sdk") from None
    card = model_card.read(options.model)
    if card.needs_background:
        raise UsageError(f"the model {card.name} compares with a background: nothing to view")
    if options.save is not None:
        _check_target("--save", options.save)
    looks = _live(options, card) if options.source.startswith("topic:") else _looks(options)
    first = next(looks)  # what cannot be read shows here, before a window opens
    viewer = Viewer(card.name, card.classes, options.save)
    try:
        for number, look in enumerate(itertools.chain([first], looks), 1):
            viewer.show(number, *look)
            if number == options.frames:
                break
    finally:
        viewer.close()


def _check_target(option: str, path: Path) -> None:
    """Raise `UsageError` before hours of work that could not be kept."""
    if path.is_dir():
        raise UsageError(f"{option} {path} is a folder, expected a file to write")
    if not os.access(path.absolute().parent, os.W_OK):
        raise UsageError(f"{option} {path}: there is no folder for it that can be written to")


def _live(options: argparse.Namespace, card: model_card.ModelCard) -> Iterator[_Look]:
    try:
        from .live import views
    except ImportError as error:
        raise UsageError(f"a topic needs ROS 2 ({error}): source it") from None
    node, fov = options.source.removeprefix("topic:"), math.radians(options.fov)
    return views(node, options.image_topic, card, fov, patience=30)


def _looks(options: argparse.Namespace) -> Iterator[_Look]:
    perception = Perception(options.model, options.backend, precision=options.precision)
    for frame in _frames(options.source, math.radians(options.fov)):
        image = frame.image if frame.encoding == "rgb8" else frame.image[..., ::-1]
        image = np.ascontiguousarray(image)
        yield image, frame.intrinsics, perception(image, frame.intrinsics.fx)


def _frames(source: str, fov: float) -> Iterator[Frame]:
    """The images of a street, an image, folder, video or device; ValueError: it has none."""
    path = Path(source)
    if source == "street":
        return street_frames(0, 640, 480, Camera())
    if path.is_dir():
        return folder_frames(path, False, fov)
    if path.is_char_device():
        return device_frames(path, 640, 480, fov)
    if not path.is_file():
        raise UsageError(
            f"there is no {source}: expected street, an image, folder, video or device"
        )
    return file_frames(path, fov)


def measure(options: argparse.Namespace) -> None:
    """Print how fast a model file's network runs."""
    from .benchmark import benchmark  # which needs more of onnx than reading a card does

    names = [options.backend]
    if options.backend == "all":
        names = [name for name in BACKENDS if name != "auto" and not why_not(name)]
    every = options.precision == "all"
    precisions = ("fp32", "int8") if every else (options.precision,)
    speeds = benchmark(
        options.model, options.size, names, options.threads, options.rounds, precisions
    )
    if options.json:
        known = [{k: v if v == v else None for k, v in vars(s).items()} for s in speeds]  # no NaN
        print(json.dumps(known, indent=2))
        return
    table = Table(
        "backend", "precision", "ms", "p95", "frames/s", "GFLOP/s", "% of matmul",
        *(["speed-up"] if every else []),
        title=escape(f"{options.model}: {speeds[0].gflop:.2f} GFLOP"),
        caption="% of matmul: GFLOP/s compared with this runtime's own fp32 matrix multiplication",
    )  # fmt: skip
    for number, s in enumerate(speeds):
        table.add_row(
            s.backend, s.precision, f"{s.ms:.1f}", f"{s.ms_p95:.1f}", f"{s.frames_per_second:.1f}",
            f"{s.gflops:.0f}",
            f"{100 * s.share_of_matmul:.0f}" if s.share_of_matmul == s.share_of_matmul else "",
            *([f"{speeds[number - number % 2].ms / s.ms:.2f}"] if every else []),
        )  # fmt: skip
    Console().print(table)


def compile_(options: argparse.Namespace) -> None:
    """Compile a model file's engine, into the cache or a file."""
    from .backends import compiler, engine_cache, tensorrt

    flavour = options.flavour.replace("-", "_")
    if flavour == "auto":  # the node's, and where there is no GPU one that needs none
        installed = compiler.installed() or ["tensorrt"]
        flavour = next((name for name in installed if not why_not(name)), installed[-1])
    chosen = compiler.Options(options.workspace, options.dla, options.version_compatible)
    special = (options.smallest, options.largest, options.dla, options.version_compatible)
    if options.output is None and (any(special) or options.dla == 0):
        raise UsageError(
            "an engine with --smallest, --largest, --dla or --version-compatible needs --output:"
            " the node's cache has those for one size"
        )
    if options.output is not None and not options.output.parent.is_dir():
        raise UsageError(f"--output {options.output}: there is no folder {options.output.parent}")
    if options.output is not None and options.output.is_dir():
        raise UsageError(f"--output {options.output} is a folder, expected a file's name")
    try:
        width, height = options.size
        shapes = compiler.Shapes(width, height, options.batch, options.smallest, options.largest)
    except ValueError as error:
        raise UsageError(str(error)) from None
    content, identity = tensorrt.identify(model_card.find_model(options.model), flavour, None)
    key = engine_cache.Key(**identity, shapes=shapes, dla=options.dla)
    cache = engine_cache.EngineCache()
    # TensorRT swallows a KeyboardInterrupt that is raised in what it calls.
    stopped = threading.Event()
    signal.signal(signal.SIGINT, lambda *_: stopped.set())
    with _progress() as progress:
        task = progress.add_task("compile", total=1.0)

        def show(share: float, phase: str) -> bool:
            progress.update(task, completed=share, description=phase.lower())
            return not stopped.is_set()

        try:
            engine, timings = compiler.compile_engine(
                content, flavour, shapes, chosen, cache.timings(key), show
            )
        except compiler.Cancelled:
            raise KeyboardInterrupt from None
    cache.keep_timings(key, timings)
    if options.output is not None:
        engine_cache.write_engine(options.output, key, engine)
    elif not cache.store(key, engine):
        raise OSError(f"{cache.folder} does not keep the engine")
    written = options.output or cache.folder / key.file_name
    size = written.stat().st_size / 1e6
    print(f"{written}: {key.name}, {key.precision}, for pictures of {shapes}, {size:.1f} MB")


def _progress() -> Progress:
    """A progress bar on a terminal's stderr; elsewhere nothing."""
    console = Console(stderr=True)
    console.quiet = not console.is_terminal  # Rich 11 writes an empty line although disabled
    return Progress(console=console, disable=console.quiet)


def cache(options: argparse.Namespace) -> None:
    """List or delete the engines that were compiled for this user."""
    from .backends.engine_cache import EngineCache

    engines = EngineCache()
    if options.action == "clear":
        print(f"deleted {len(engines.clear())} engines of {engines.folder}")
        forget()
        return
    table = Table(
        "model", "precision", "pictures", "TensorRT", "GPU", "MB", title=escape(str(engines.folder))
    )
    for path, key in engines.entries():
        size = f"{path.stat().st_size / 1e6:.1f}"
        if key is None:
            table.add_row(escape(path.name), "unreadable", "", "", "", size)
        else:
            runtime = f"{key.flavour} {key.version}"
            row = (key.name, key.precision, str(key.shapes), runtime, key.gpu, size)
            table.add_row(*map(escape, row))
    Console().print(table)


class _Source(NamedTuple):
    """An image or video file of the arguments."""

    path: Path
    video: bool
    frames: int
    """As many as the file says it has; at least 1."""

    @property
    def stem(self) -> str:
        """How names of its output begin."""
        return self.path.stem


def _sources(paths: list[Path]) -> Iterator[_Source]:
    """Every image and video of the arguments; what folders have beside these is reported."""
    stems: dict[str, Path] = {}
    for path in paths:
        if path.is_dir():
            files = visible_files(path)
            videos = {file for file in files if is_video(file)}
            report_left_out(
                path,
                (f for f in files if f.suffix.lower() not in IMAGES and f not in videos),
                "neither images by their names nor videos",
            )
            files = [file for file in files if file in videos or is_image(file)]
            if not files:
                raise UsageError(f"the folder {path} has no images or videos in it")
        elif path.exists():
            files, videos = [path], {path} if is_video(path, try_it=True) else set()
        else:
            raise UsageError(f"there is no {path}")
        for file in files:
            known = stems.setdefault(file.stem, file)
            if known != file:
                raise UsageError(f"{known} and {file} would both be written as {file.stem}.*")
            count = 1
            if file in videos:
                count = int(open_video(file).get(cv2.CAP_PROP_FRAME_COUNT))
            yield _Source(file, file in videos, max(count, 1))


def _images(path: Path) -> Iterator[NDArray[np.uint8]]:
    """The RGB images of an image file or a video; `ValueError` where it cannot be read."""
    for frame in file_frames(path, 1.0):
        yield np.asarray(cv2.cvtColor(frame.image, cv2.COLOR_BGR2RGB))


def _write(
    stem: Path, image: NDArray[np.uint8], prediction: Prediction, card: model_card.ModelCard
) -> None:
    if prediction.labels is not None:
        _write_png(stem, "labels", prediction.labels)
        blended = rendering.overlay(image, prediction.labels, card.classes)
        _write_png(stem, "overlay", cv2.cvtColor(blended, cv2.COLOR_RGB2BGR))
    if prediction.depth is not None:
        # Where depth is not metric these are thousandths of its unit.
        _write_png(stem, "depth", to_millimetres(prediction.depth))


def _write_png(stem: Path, what: str, picture: np.ndarray) -> None:
    """Write `STEM.WHAT.png`, whole or not at all."""
    with whole(stem.with_name(f"{stem.name}.{what}.png")) as unfinished:
        unfinished.write_bytes(cv2.imencode(".png", picture)[1].tobytes())
