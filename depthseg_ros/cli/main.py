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

"""The `depthseg` command: inspect, run and measure a model file, and check the machine."""

from __future__ import annotations

import argparse
import importlib.metadata
import io
import logging
import math
import os
import signal
import sys
import xml.etree.ElementTree as ElementTree
from collections.abc import Callable
from importlib import import_module
from pathlib import Path

from .. import model_card
from ..backends import BACKENDS, BackendError
from ..imaging.geometry import DEFAULT_FOV
from ..imports import explain, explained


def main(arguments: list[str] | None = None) -> int:
    """Run the command line; returns the exit code: 1 after a failure, 2 after wrong usage."""
    # Up to here, the executable that colcon installs ends immediately on signals.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    parser = _parser()
    if "_ARGCOMPLETE" in os.environ:  # the shell asks for completions
        import argcomplete

        argcomplete.autocomplete(parser)
    options = parser.parse_args(arguments)
    if isinstance(sys.stdout, io.TextIOWrapper):  # file names can have any bytes, in any locale
        sys.stdout.reconfigure(errors="backslashreplace")
    logging.basicConfig(format=f"depthseg {options.command}: %(message)s", level=logging.WARNING)
    logging.getLogger("depthseg_ros").setLevel(logging.INFO)
    try:
        _command(options.command)(options)
    except (ValueError, BackendError, OSError, ImportError) as error:
        print(f"depthseg {options.command}: {explain(error) or error}", file=sys.stderr)
        return int(getattr(error, "exit_code", 1))
    except KeyboardInterrupt:
        return 130
    return 0


def _command(name: str) -> Callable[[argparse.Namespace], None]:
    """Import a command's `run`; imported when needed, because `doctor` needs less than others."""
    with explained():
        run: Callable[[argparse.Namespace], None] = import_module(f"{__package__}.{name}").run
        return run


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="depthseg",
        description=__doc__,
        epilog="Exit codes: 0, success; 1, failure (one line gives the reason); 2, wrong usage;"
        " 130, Ctrl-C.",
    )
    parser.add_argument("--version", action="version", version=package_version())
    subparsers = parser.add_subparsers(dest="command", required=True)

    command = subparsers.add_parser("info", help="print a model file's metadata")
    _add_model(command)
    command.add_argument("--json", action="store_true", help="print the model card as JSON")

    command = subparsers.add_parser(
        "predict",
        help="run a model file on images, folders and videos",
        description="Writes NAME.labels.png (uint8 class ids), NAME.depth.png (uint16 millimetres,"
        " 0 if unknown; thousandths of its own unit if the depth is not metric) and"
        " NAME.overlay.png for every image, in the orientation stored in the file (the EXIF"
        " orientation is ignored). The frames of a video are numbered.",
    )
    _add_model(command)
    command.add_argument(
        "paths", type=Path, nargs="+", metavar="PATH", help="image, folder or video"
    )
    command.add_argument("--output", type=Path, required=True, help="folder to write to")
    _add_lens(command)
    command.add_argument(
        "--background",
        type=Path,
        metavar="IMAGE",
        help="image of the same view without foreground, for models that need a background image",
    )
    _add_backend(command)
    command.add_argument(
        "--threads", type=int, default=0, help="CPU threads; 0: the backend chooses"
    )

    command = subparsers.add_parser(
        "report",
        help="write a page about the accuracy and speed of a model file",
        description="Runs the model on images with ground truth and writes one HTML page: metrics,"
        " per class and by distance, reliability of the confidence, the worst images, speed.",
    )
    _add_model(command)
    command.add_argument(
        "data",
        help="street (rendered streets), or a folder of images with NAME.labels.png and"
        " NAME.depth.png next to them, in the format that predict writes",
    )
    command.add_argument("--output", type=Path, default=Path("report.html"), help="file to write")
    command.add_argument("--count", type=_count, default=50, help="number of streets (default: 50)")
    _add_lens(command)
    _add_backend(command)

    command = subparsers.add_parser(
        "view",
        help="show the predictions of a model file in the Rerun viewer",
        description="Shows image, labels, depth, confidence and points next to each other. Needs"
        " rerun-sdk (pip install .[view]).",
    )
    _add_model(command)
    command.add_argument(
        "source",
        help="street, an image, a folder, a video or /dev/videoN; topic:/depthseg: the outputs of"
        " the node with that name",
    )
    command.add_argument(
        "--image-topic", default="image", help="camera topic of the node (default: image)"
    )
    command.add_argument(
        "--save",
        type=Path,
        metavar="FILE.rrd",
        help="write a recording instead of opening a window",
    )
    command.add_argument("--frames", type=_count, default=0, help="maximum number (default: all)")
    command.add_argument(
        "--fov",
        type=_within(1, 179),
        default=round(math.degrees(DEFAULT_FOV), 1),
        help="horizontal field of view in degrees, except for street (default: %(default)s)",
    )
    _add_backend(command)

    command = subparsers.add_parser(
        "benchmark",
        help="measure the speed of a model file's network on this machine",
        description="Runs the network on a noise image with one runtime after the other and prints"
        " medians. Operations per second are also given as a share of those that the same runtime"
        " reaches in an fp32 matrix product.",
    )
    _add_model(command, "all")
    command.add_argument(
        "--size",
        type=_size,
        default=(640, 480),
        metavar="WxH",
        help="image size (default: 640x480)",
    )
    command.add_argument(
        "--backend",
        choices=(*BACKENDS, "all"),
        default="auto",
        help="runtime for the model; all: every runtime that is available",
    )
    command.add_argument(
        "--threads", type=int, default=0, help="CPU threads; 0: the backend chooses"
    )
    command.add_argument("--rounds", type=_count, default=30, help="measured runs (default: 30)")
    command.add_argument("--json", action="store_true", help="print JSON instead of a table")

    command = subparsers.add_parser(
        "compile",
        help="compile a model file for TensorRT before the node starts",
        description="Compiles an engine for images of one size and stores it in the cache, where"
        " the node finds it, or in a file for the node's parameter engine.",
    )
    _add_model(command, choose=False)
    command.add_argument(
        "--size",
        type=_size,
        default=(640, 480),
        metavar="WxH",
        help="image size (default: 640x480)",
    )
    command.add_argument("--smallest", type=_size, metavar="WxH", help="minimum image size")
    command.add_argument("--largest", type=_size, metavar="WxH", help="maximum image size")
    command.add_argument("--batch", type=_count, default=1, metavar="N", help="images per batch")
    command.add_argument(
        "--flavour",
        choices=("auto", "tensorrt", "tensorrt-rtx"),
        default="auto",
        help="auto: the installed one",
    )
    command.add_argument("--output", type=Path, metavar="FILE", help="write here, not to the cache")
    command.add_argument(
        "--workspace", type=_count, default=0, metavar="MiB", help="maximum workspace of a layer"
    )
    command.add_argument("--dla", type=_core, metavar="CORE", help="DLA core of a Jetson to use")
    command.add_argument(
        "--version-compatible", action="store_true", help="also loads in later minor versions"
    )

    command = subparsers.add_parser("cache", help="list or delete this user's compiled engines")
    command.add_argument("action", choices=("list", "clear"))

    command = subparsers.add_parser(
        "wrap",
        help="make a model file from ONNX files of any origin",
        description="Adds preprocessing, decoding and a model card to one network, or to a network"
        " for labels and one for depth. A SPEC describes them (docs/wrap.md).",
    )
    command.add_argument("spec", type=Path, nargs="?", metavar="SPEC", help="YAML or JSON file")
    command.add_argument("--output", type=Path, metavar="MODEL.onnx", help="model file to write")
    command.add_argument(
        "--describe",
        type=Path,
        metavar="FILE.onnx",
        help="instead, print the inputs and outputs of an ONNX file and a SPEC to start from",
    )

    command = subparsers.add_parser(
        "doctor", help="report what is installed on this machine, and what is missing"
    )
    command.add_argument(
        "--model",
        default=model_card.DEFAULT,
        help="model to test (default: %(default)s)",
    )
    return parser


def _add_model(command: argparse.ArgumentParser, *others: str, choose: bool = True) -> None:
    """Add the model and, with `choose`, its precision, with `others` as further choices."""
    command.add_argument(
        "model",
        help="name of a model: street or indoor, which come with the package, or the path of a"
        " model file without .onnx; or the path of an .onnx file, which is used as it is",
    )
    if choose:
        command.add_argument(
            "--precision",
            choices=("auto", "fp32", "int8", *others),
            default="auto",
            help="file to run if the model is a name: NAME.onnx (fp32) or NAME-int8.onnx (int8);"
            " auto: on a CPU int8 if a measurement shows that it is faster",
        )


def _add_backend(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "--backend", choices=BACKENDS, default="auto", help="runtime for the model"
    )


def _add_lens(command: argparse.ArgumentParser) -> None:
    command.add_argument("--fx", type=_within(0, 1e6), help="focal length of the images, in pixels")
    command.add_argument(
        "--fov",
        type=_within(1, 179),
        default=round(math.degrees(DEFAULT_FOV), 1),
        help="horizontal field of view in degrees, used without --fx (default: %(default)s)",
    )


def package_version() -> str:
    """The version in package.xml, next to the models, or that of the pip installation."""
    manifest = model_card.default_model().parents[1] / "package.xml"
    if manifest.is_file():
        return str(ElementTree.parse(manifest).getroot().findtext("version"))
    return importlib.metadata.version("depthseg_ros")


def _within(low: float, high: float) -> Callable[[str], float]:
    """A function that reads an option's number between two bounds."""

    def read(text: str) -> float:
        try:
            value = float(text)
        except ValueError:
            value = math.nan
        if not low < value < high:
            raise argparse.ArgumentTypeError(f"{text} is not a number between {low:g} and {high:g}")
        return value

    return read


def _size(text: str) -> tuple[int, int]:
    width, _, height = text.partition("x")
    if not (width.isdecimal() and height.isdecimal() and 0 < int(width) * int(height) <= 2**26):
        raise argparse.ArgumentTypeError(f"{text} is not a size such as 640x480")
    return int(width), int(height)


def _count(text: str) -> int:
    if not text.isdecimal() or not 0 < int(text) <= 10**6:
        raise argparse.ArgumentTypeError(f"{text} is not a count, expected 1 to 1000000")
    return int(text)


def _core(text: str) -> int:
    if not text.isdecimal():
        raise argparse.ArgumentTypeError(f"{text} is not the number of a DLA core, such as 0")
    return int(text)


if __name__ == "__main__":
    sys.exit(main())
