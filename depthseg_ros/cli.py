"""The `depthseg` command: look at a model file, run and measure it, look at the machine."""

from __future__ import annotations

import argparse
import importlib
import importlib.metadata
import json
import logging
import math
import os
import platform
import shutil
import signal
import sys
import threading
import xml.etree.ElementTree as ElementTree
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.markup import escape
from rich.progress import Progress
from rich.table import Table

from . import model_card, rendering
from .backends import BACKENDS, BackendError, why_not
from .geometry import Intrinsics, to_millimetres
from .perception import Perception, Prediction, read_picture

PICTURES = (".bmp", ".jpeg", ".jpg", ".png", ".ppm", ".tif", ".tiff", ".webp")
VIDEOS = (".avi", ".m4v", ".mkv", ".mov", ".mp4", ".mpeg", ".mpg", ".webm")


class UsageError(ValueError):
    """The command line asks for what cannot be done."""


def main(arguments: list[str] | None = None) -> int:
    """Run the command line; returns the exit code: 1 for what failed, 2 for wrong usage."""
    # The executable that colcon installs ends at once on signals, until here.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    parser = _parser()
    if "_ARGCOMPLETE" in os.environ:  # the shell asks what may come next
        import argcomplete

        argcomplete.autocomplete(parser)
    options = parser.parse_args(arguments)
    logging.basicConfig(format=f"depthseg {options.command}: %(message)s", level=logging.WARNING)
    logging.getLogger(__package__).setLevel(logging.INFO)
    try:
        options.run(options)
    except (UsageError, ValueError, BackendError, OSError) as error:
        print(f"depthseg {options.command}: {error}", file=sys.stderr)
        return 2 if isinstance(error, UsageError) else 1
    except KeyboardInterrupt:
        return 130
    return 0


def info(options: argparse.Namespace) -> None:
    """Print a model file's card."""
    card = model_card.read(options.model)
    if options.json:
        print(card.to_json())
        return
    console = Console()
    facts = Table(title=escape(str(options.model)), show_header=False)
    depth = card.depth
    unit = "m" if card.needs_fx else "(not metres)"
    for name, value in (
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
    perception = Perception(options.model, options.backend, threads=options.threads)
    background = None if options.background is None else read_picture(options.background)
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
    try:
        options.output.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UsageError(f"--output {options.output} cannot be a folder: {error}") from None
    console = Console(stderr=True)
    unreadable = []
    with Progress(console=console, disable=not console.is_terminal) as progress:
        task = progress.add_task("predict", total=sum(count for *_, count in sources))
        for source, stem, _ in sources:
            frame = None
            for frame, image in enumerate(_pictures(source)):
                name = f"{stem}_{frame:06}" if source.suffix.lower() in VIDEOS else stem
                height, width = image.shape[:2]
                view = Intrinsics.from_fov(width, height, math.radians(options.fov))
                prediction = perception(image, options.fx or view.fx, background)
                _write(options.output / name, image, prediction, perception.card)
                progress.advance(task)
            if frame is None:
                unreadable.append(source)
    if unreadable:
        raise ValueError(
            f"{len(unreadable)} of {len(sources)} sources could not be read as a picture or video:"
            f" {', '.join(map(str, unreadable[:5]))}"
        )


class _Wanted(NamedTuple):
    """Something that the package uses, and what to do where it is missing."""

    what: str
    module: str
    advice: str
    needed: bool = False


_WANTED = (
    _Wanted("OpenCV", "cv2", "pip install opencv-python", needed=True),
    _Wanted("ONNX", "onnx", "pip install onnx", needed=True),
    _Wanted("ONNX Runtime", "onnxruntime", "pip install onnxruntime", needed=True),
    _Wanted("OpenVINO", "openvino", "optional: pip install openvino"),
    _Wanted("ROS 2", "rclpy", "for the node: source /opt/ros/DISTRO/setup.bash, or make setup"),
    _Wanted("own messages", "depthseg_ros.msg", "for the node: source install/setup.bash"),
    _Wanted("cv_bridge", "cv_bridge", "optional: apt install ros-DISTRO-cv-bridge"),
    _Wanted("TensorRT", "tensorrt", "optional: in JetPack, or from NVIDIA's archive"),
    _Wanted("TensorRT for RTX", "tensorrt_rtx", "optional: pip install tensorrt-rtx-cu13"),
    _Wanted("cuda-python", "cuda.bindings", "optional, with TensorRT: pip install cuda-bindings"),
    _Wanted("PyCUDA", "pycuda", "optional, in place of cuda-python: pip install pycuda"),
    _Wanted("PyTorch", "torch", "for training: pip install .[train]"),
)


def measure(options: argparse.Namespace) -> None:
    """Print how fast a model file's network runs."""
    from .benchmark import benchmark  # which needs more of onnx than reading a card does

    names = [options.backend]
    if options.backend == "all":
        names = [name for name in BACKENDS if name != "auto" and not why_not(name)]
    card = model_card.read(options.model)
    speeds = benchmark(options.model, options.size, names, options.threads, options.rounds)
    if options.json:
        known = [{k: v if v == v else None for k, v in vars(s).items()} for s in speeds]  # no NaN
        print(json.dumps(known, indent=2))
        return
    table = Table(
        "backend", "ms", "p95", "frames/s", "GFLOP/s", "of its matrix product",
        title=escape(f"{options.model}: {card.precision}, {speeds[0].gflop:.2f} GFLOP"),
    )  # fmt: skip
    for s in speeds:
        table.add_row(
            s.backend, f"{s.ms:.1f}", f"{s.ms_p95:.1f}", f"{s.frames_per_second:.1f}",
            f"{s.gflops:.0f}",
            f"{100 * s.share_of_matmul:.0f} %" if s.share_of_matmul == s.share_of_matmul else "",
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
    content, identity = tensorrt.identify(options.model, flavour, None)
    key = engine_cache.Key(**identity, shapes=shapes, dla=options.dla)
    cache = engine_cache.EngineCache()
    # TensorRT swallows a KeyboardInterrupt that is raised in what it calls.
    stopped = threading.Event()
    signal.signal(signal.SIGINT, lambda *_: stopped.set())
    console = Console(stderr=True)
    with Progress(console=console, disable=not console.is_terminal) as progress:
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


def cache(options: argparse.Namespace) -> None:
    """List or delete the engines that were compiled for this user."""
    from .backends.engine_cache import EngineCache

    engines = EngineCache()
    if options.action == "clear":
        print(f"deleted {len(engines.clear())} engines of {engines.folder}")
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


def doctor(options: argparse.Namespace) -> None:
    """Say what is found of ROS, backends, GPU and model, and what to install."""
    table = Table("what", "found", "what to do")
    table.add_row("Python", f"{platform.python_version()}, {platform.machine()}", "")
    missing = []
    for wanted in _WANTED:
        found = _version(wanted.module)
        table.add_row(wanted.what, found or "-", "" if found else wanted.advice)
        if wanted.needed and not found:
            missing.append(wanted.what)
    gpu = shutil.which("nvidia-smi") or next(Path("/dev").glob("nvhost-gpu"), None)
    table.add_row("NVIDIA GPU", str(gpu or "-"), "" if gpu else "optional: the CPU serves too")
    try:
        perception = Perception(options.model)
        perception.warm_up()
        table.add_row("model", escape(f"{options.model}, on {perception.backend.name}"), "")
    except (ValueError, BackendError, ImportError) as error:
        missing.append("model")
        table.add_row("model", "-", escape(str(error)))
    Console().print(table)
    if missing:
        raise ValueError(f"missing: {', '.join(missing)}")


def _version(module: str) -> str | None:
    """Version of an importable module, `yes` where it says none, None where it is missing."""
    try:
        imported = importlib.import_module(module)
    except ImportError:
        return None
    return str(getattr(imported, "__version__", "yes"))


def _sources(paths: list[Path]) -> Iterator[tuple[Path, str, int]]:
    """Every picture and video of the arguments: its path, name for output, and frame count."""
    stems: dict[str, Path] = {}
    for path in paths:
        if not path.exists():
            raise UsageError(f"there is no {path}")
        files = [path]
        if path.is_dir():
            files = sorted(p for p in path.iterdir() if p.suffix.lower() in PICTURES + VIDEOS)
        if not files:
            raise UsageError(f"the folder {path} has no pictures or videos in it")
        for file in files:
            known = stems.setdefault(file.stem, file)
            if known != file:
                raise UsageError(f"{known} and {file} would both be written as {file.stem}.*")
            count = 1
            if file.suffix.lower() in VIDEOS:
                count = int(cv2.VideoCapture(str(file)).get(cv2.CAP_PROP_FRAME_COUNT))
            yield file, file.stem, max(count, 1)


def _pictures(source: Path) -> Iterator[NDArray[np.uint8]]:
    """The RGB pictures of a picture file or a video; none where it cannot be read."""
    if source.suffix.lower() not in VIDEOS:
        with suppress(ValueError):
            yield read_picture(source)
        return
    video = cv2.VideoCapture(str(source))
    while True:
        read, picture = video.read()
        if not read:
            return
        yield cv2.cvtColor(picture, cv2.COLOR_BGR2RGB)  # type: ignore[misc]


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
    target = stem.with_name(f"{stem.name}.{what}.png")
    unfinished = target.with_name(f".{target.name}")
    unfinished.write_bytes(cv2.imencode(".png", picture)[1].tobytes())
    unfinished.replace(target)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="depthseg",
        description=__doc__,
        epilog="Exit codes: 0, done; 1, failed, with a line on why; 2, wrong usage; 130, Ctrl-C.",
    )
    parser.add_argument("--version", action="version", version=package_version())
    commands = parser.add_subparsers(dest="command", required=True)

    command = commands.add_parser("info", help="print what a model file says of itself")
    _add_model(command)
    command.add_argument("--json", action="store_true", help="print the card as JSON")
    command.set_defaults(run=info)

    command = commands.add_parser(
        "predict",
        help="run a model file on pictures, folders and videos",
        description="Writes NAME.labels.png (uint8 class ids), NAME.depth.png (uint16 millimetres,"
        " 0 for none; thousandths of whatever unit a depth has that is not metric) and"
        " NAME.overlay.png for every picture; a video's frames are numbered.",
    )
    _add_model(command)
    command.add_argument("paths", type=Path, nargs="+", metavar="PATH", help="what to run it on")
    command.add_argument("--output", type=Path, required=True, help="folder to write to")
    command.add_argument(
        "--fx", type=_within(0, 1e6), help="focal length of the pictures, in pixels"
    )
    command.add_argument(
        "--fov",
        type=_within(1, 179),
        default=60.0,
        help="horizontal field of view in degrees, used without --fx (default: 60)",
    )
    command.add_argument(
        "--background",
        type=Path,
        metavar="PICTURE",
        help="the same view without foreground, for models that compare with it",
    )
    command.add_argument("--backend", choices=BACKENDS, default="auto", help="what runs the model")
    command.add_argument("--threads", type=int, default=0, help="0: the backend's choice")
    command.set_defaults(run=predict)

    command = commands.add_parser(
        "benchmark",
        help="measure a model file's network on this machine",
        description="Runs the network on a picture of noise, the runtimes in turn, and prints"
        " medians, with the operations a second as a share of what the same runtime reaches in an"
        " fp32 matrix product.",
    )
    _add_model(command)
    command.add_argument(
        "--size",
        type=_size,
        default=(640, 480),
        metavar="WxH",
        help="of pictures (default: 640x480)",
    )
    command.add_argument(
        "--backend",
        choices=(*BACKENDS, "all"),
        default="auto",
        help="what runs the model; all: each that can",
    )
    command.add_argument("--threads", type=int, default=0, help="0: the backend's choice")
    command.add_argument("--rounds", type=_count, default=30, help="to measure (default: 30)")
    command.add_argument("--json", action="store_true", help="print JSON instead of a table")
    command.set_defaults(run=measure)

    command = commands.add_parser(
        "compile",
        help="compile a model file for TensorRT, before the node does",
        description="Compiles an engine for pictures of one size and puts it where the node looks"
        " for it, or into a file of your own for the node's parameter engine.",
    )
    _add_model(command)
    command.add_argument(
        "--size",
        type=_size,
        default=(640, 480),
        metavar="WxH",
        help="of pictures (default: 640x480)",
    )
    command.add_argument("--smallest", type=_size, metavar="WxH", help="that it takes, too")
    command.add_argument("--largest", type=_size, metavar="WxH", help="that it takes, too")
    command.add_argument("--batch", type=_count, default=1, metavar="N", help="pictures at once")
    command.add_argument(
        "--flavour",
        choices=("auto", "tensorrt", "tensorrt-rtx"),
        default="auto",
        help="auto: the one that is installed",
    )
    command.add_argument("--output", type=Path, metavar="FILE", help="in place of the cache")
    command.add_argument(
        "--workspace", type=_count, default=0, metavar="MiB", help="that a layer may take"
    )
    command.add_argument("--dla", type=_core, metavar="CORE", help="a Jetson's accelerator to use")
    command.add_argument(
        "--version-compatible", action="store_true", help="load in later minor versions, too"
    )
    command.set_defaults(run=compile_)

    command = commands.add_parser("cache", help="the engines that were compiled for this user")
    command.add_argument("action", choices=("list", "clear"))
    command.set_defaults(run=cache)

    command = commands.add_parser("doctor", help="say what is found on this machine, and what not")
    command.add_argument(
        "--model", type=_model, default=model_card.default_model(), help="to be tried out"
    )
    command.set_defaults(run=doctor)
    return parser


def _add_model(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "model", type=_model, help="a model file (.onnx), or street or indoor: the package's own"
    )


def _model(text: str) -> Path:
    """A path, or else the package's model of that name."""
    own = model_card.default_model().parent / f"{text}.onnx"
    return own if text.isidentifier() and not Path(text).exists() and own.is_file() else Path(text)


def package_version() -> str:
    """The version in package.xml, which lies where the models do, or of the pip installation."""
    manifest = model_card.default_model().parents[1] / "package.xml"
    if manifest.is_file():
        return str(ElementTree.parse(manifest).getroot().findtext("version"))
    return importlib.metadata.version("depthseg_ros")


def _within(low: float, high: float) -> Callable[[str], float]:
    """What reads an option's number between two bounds."""

    def read(text: str) -> float:
        try:
            value = float(text)
        except ValueError:
            value = math.nan
        if not low < value < high:
            raise argparse.ArgumentTypeError(f"{text} is no number between {low:g} and {high:g}")
        return value

    return read


def _size(text: str) -> tuple[int, int]:
    width, _, height = text.partition("x")
    if not (width.isdecimal() and height.isdecimal() and 0 < int(width) * int(height) <= 2**26):
        raise argparse.ArgumentTypeError(f"{text} is no size such as 640x480")
    return int(width), int(height)


def _count(text: str) -> int:
    if not text.isdecimal() or not 0 < int(text) <= 10**6:
        raise argparse.ArgumentTypeError(f"{text} is no count, 1 to 1000000")
    return int(text)


def _core(text: str) -> int:
    if not text.isdecimal():
        raise argparse.ArgumentTypeError(f"{text} is no number of a DLA core, such as 0")
    return int(text)


if __name__ == "__main__":
    sys.exit(main())
