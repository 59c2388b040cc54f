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

"""The `depthseg` command: look at a model file, run and measure it, look at the machine."""

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
    """Run the command line; returns the exit code: 1 for what failed, 2 for wrong usage."""
    # The executable that colcon installs ends at once on signals, until here.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    parser = _parser()
    if "_ARGCOMPLETE" in os.environ:  # the shell asks what may come next
        import argcomplete

        argcomplete.autocomplete(parser)
    options = parser.parse_args(arguments)
    if isinstance(sys.stdout, io.TextIOWrapper):  # names of any bytes, in any locale
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
    """What does the work of a command; imported at need, since `doctor` needs less than others."""
    with explained():
        run: Callable[[argparse.Namespace], None] = import_module(f"{__package__}.{name}").run
        return run


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="depthseg",
        description=__doc__,
        epilog="Exit codes: 0, done; 1, failed, with a line on why; 2, wrong usage; 130, Ctrl-C.",
    )
    parser.add_argument("--version", action="version", version=package_version())
    subparsers = parser.add_subparsers(dest="command", required=True)

    command = subparsers.add_parser("info", help="print what a model file says of itself")
    _add_model(command)
    command.add_argument("--json", action="store_true", help="print the card as JSON")

    command = subparsers.add_parser(
        "predict",
        help="run a model file on images, folders and videos",
        description="Writes NAME.labels.png (uint8 class ids), NAME.depth.png (uint16 millimetres,"
        " 0 for none; thousandths of whatever unit a depth has that is not metric) and"
        " NAME.overlay.png for every image, as the file stores it (an EXIF orientation is"
        " ignored); a video's frames are numbered.",
    )
    _add_model(command)
    command.add_argument("paths", type=Path, nargs="+", metavar="PATH", help="what to run it on")
    command.add_argument("--output", type=Path, required=True, help="folder to write to")
    _add_lens(command)
    command.add_argument(
        "--background",
        type=Path,
        metavar="PICTURE",
        help="the same view without foreground, for models that compare with it",
    )
    command.add_argument("--backend", choices=BACKENDS, default="auto", help="what runs the model")
    command.add_argument("--threads", type=int, default=0, help="0: the backend's choice")

    command = subparsers.add_parser(
        "report",
        help="write a page on how good and how fast a model file is",
        description="Runs the model on pictures with truth and writes one HTML page: measures, per"
        " class and by distance, reliability of its confidence, the worst pictures, speed.",
    )
    _add_model(command)
    command.add_argument(
        "data",
        help="street, for rendered ones, or a folder of images with NAME.labels.png and"
        " NAME.depth.png beside them, as predict writes them",
    )
    command.add_argument("--output", type=Path, default=Path("report.html"), help="to write")
    command.add_argument("--count", type=_count, default=50, help="of streets (default: 50)")
    _add_lens(command)
    command.add_argument("--backend", choices=BACKENDS, default="auto", help="what runs the model")

    command = subparsers.add_parser(
        "view",
        help="look at what a model file says, in rerun's viewer",
        description="Shows picture, labels, depth, confidence and points side by side. Needs"
        " rerun-sdk (pip install .[view]).",
    )
    _add_model(command)
    command.add_argument(
        "source",
        help="street, an image, a folder, a video or /dev/videoN; topic:/depthseg: what the node"
        " of that name says",
    )
    command.add_argument(
        "--image-topic", default="image", help="of a node's camera (default: image)"
    )
    command.add_argument(
        "--save", type=Path, metavar="FILE.rrd", help="a recording, in place of a window"
    )
    command.add_argument("--frames", type=_count, default=0, help="at most (default: all)")
    command.add_argument(
        "--fov",
        type=_within(1, 179),
        default=round(math.degrees(DEFAULT_FOV), 1),
        help="horizontal field of view in degrees, of all but a street (default: %(default)s)",
    )
    command.add_argument("--backend", choices=BACKENDS, default="auto", help="what runs the model")

    command = subparsers.add_parser(
        "benchmark",
        help="measure a model file's network on this machine",
        description="Runs the network on a picture of noise, the runtimes in turn, and prints"
        " medians, with the operations a second as a share of what the same runtime reaches in an"
        " fp32 matrix product.",
    )
    _add_model(command, "all")
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

    command = subparsers.add_parser(
        "compile",
        help="compile a model file for TensorRT, before the node does",
        description="Compiles an engine for pictures of one size and puts it where the node looks"
        " for it, or into a file of your own for the node's parameter engine.",
    )
    _add_model(command, choose=False)
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

    command = subparsers.add_parser("cache", help="the engines that were compiled for this user")
    command.add_argument("action", choices=("list", "clear"))

    command = subparsers.add_parser(
        "doctor", help="say what is found on this machine, and what not"
    )
    command.add_argument(
        "--model",
        default=model_card.DEFAULT,
        help="to be tried out (default: %(default)s)",
    )
    return parser


def _add_model(command: argparse.ArgumentParser, *others: str, choose: bool = True) -> None:
    """The model, and with `choose` which of its files runs; `others` may be asked for as well."""
    command.add_argument(
        "model",
        help="a model's name: street or indoor, the package's own, or the path of a model file"
        " without its .onnx; or the path of a file (.onnx), which is taken as it is",
    )
    if choose:
        command.add_argument(
            "--precision",
            choices=("auto", "fp32", "int8", *others),
            default="auto",
            help="which file of a name runs, NAME.onnx or NAME-int8.onnx; auto: on a CPU int8 if"
            " it is measured to be faster",
        )


def _add_lens(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "--fx", type=_within(0, 1e6), help="focal length of the pictures, in pixels"
    )
    command.add_argument(
        "--fov",
        type=_within(1, 179),
        default=round(math.degrees(DEFAULT_FOV), 1),
        help="horizontal field of view in degrees, used without --fx (default: %(default)s)",
    )


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
