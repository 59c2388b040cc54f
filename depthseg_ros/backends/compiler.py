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

"""Compile a model file to a serialised engine with TensorRT or TensorRT for RTX.

The flavour `tensorrt` is TensorRT 10 or later, as in JetPack and data centres. `tensorrt_rtx` is
TensorRT for RTX, for the GPUs of PCs; it also compiles on machines without a GPU, for all supported
GPUs. The model file sets the precision: networks are strongly typed.
"""

from __future__ import annotations

import importlib
import logging
from collections.abc import Callable
from dataclasses import dataclass
from importlib.util import find_spec
from typing import Any, NamedTuple

from .base import BackendError

_LOG = logging.getLogger(__name__)


class Flavour(NamedTuple):
    """TensorRT or TensorRT for RTX."""

    module: str
    title: str
    least: int
    """Minimum major version."""
    portable: bool
    """Whether an engine also runs on other GPUs than the one it was compiled on."""
    advice: str


FLAVOURS = {
    "tensorrt": Flavour(
        "tensorrt",
        "TensorRT",
        10,
        False,
        "on Jetson it is JetPack's (apt install python3-libnvinfer; a virtual environment needs"
        " --system-site-packages), elsewhere pip install tensorrt",
    ),
    "tensorrt_rtx": Flavour(
        "tensorrt_rtx", "TensorRT for RTX", 1, True, "pip install tensorrt-rtx-cu13"
    ),
}

Progress = Callable[[float, str], bool]
"""Called with the completed share, 0 to 1, and the phase; returns whether to continue."""


class Cancelled(BackendError):
    """The compilation was stopped."""


@dataclass(frozen=True)
class Shapes:
    """The image sizes of an engine: one size, which is fastest, or a range of sizes."""

    width: int
    height: int
    """The size for which it is optimised."""
    batch: int = 1
    smallest: tuple[int, int] | None = None
    """Width and height; None: no other size."""
    largest: tuple[int, int] | None = None

    def __post_init__(self) -> None:
        sizes = (self.smallest or self.size, self.size, self.largest or self.size)
        ordered = all(1 <= a <= b <= c for a, b, c in zip(*sizes, strict=True))
        if not ordered or self.batch < 1:
            raise ValueError(
                "got images of {}x{} between {}x{} and {}x{} in batches of {}, expected sizes"
                " in this order and batches of 1 or more".format(
                    *self.size, *sizes[0], *sizes[2], self.batch
                )
            )

    @property
    def size(self) -> tuple[int, int]:
        """Width and height."""
        return self.width, self.height

    def takes(self, batch: int, width: int, height: int) -> bool:
        """Whether an engine accepts a batch of images of this size."""
        low, high = self.smallest or self.size, self.largest or self.size
        fits = low[0] <= width <= high[0] and low[1] <= height <= high[1]
        return fits and batch == self.batch

    def __str__(self) -> str:
        text = f"{self.width}x{self.height}"
        if self.smallest or self.largest:
            low, high = self.smallest or self.size, self.largest or self.size
            text += " ({}x{} to {}x{})".format(*low, *high)
        return text + (f", batches of {self.batch}" if self.batch > 1 else "")


@dataclass(frozen=True)
class Options:
    """Options of the compiler other than the shapes."""

    workspace: int = 0
    """Maximum MiB of device memory per layer; 0: TensorRT chooses."""
    dla: int | None = None
    """DLA core of a Jetson; unsupported layers run on the GPU."""
    version_compatible: bool = False
    """Whether later minor versions of TensorRT can load the engine; only for `tensorrt`."""

    def __post_init__(self) -> None:
        if self.workspace < 0 or (self.dla or 0) < 0:
            raise ValueError(f"workspace is {self.workspace}, dla {self.dla}, expected 0 or more")


def installed() -> list[str]:
    """The installed flavours, found without importing them."""
    return [name for name, flavour in FLAVOURS.items() if find_spec(flavour.module)]


def load_flavour(name: str) -> Any:
    """The Python module of a flavour.

    Raises:
        BackendError: it is missing, or too old; with what to install.
    """
    flavour = FLAVOURS[name]
    try:
        module = importlib.import_module(flavour.module)
        version = str(module.__version__)
    except Exception as error:  # a missing module, or a library that the module loads
        raise BackendError(
            f"{flavour.title} cannot be imported ({error}): {flavour.advice}"
        ) from None
    if int(version.split(".")[0]) < flavour.least:
        raise BackendError(
            f"{flavour.title} is {version}, expected {flavour.least} or later: {flavour.advice}"
        )
    return module


def compile_engine(
    model: bytes,
    flavour: str,
    shapes: Shapes,
    options: Options = Options(),
    timing_cache: bytes = b"",
    progress: Progress = lambda share, phase: True,
) -> tuple[bytes, bytes]:
    """Compile a model file.

    Args:
        model: Content of the `.onnx` file.
        flavour: One of `FLAVOURS`.
        shapes: Image sizes.
        options: Other options.
        timing_cache: Timing cache of an earlier compilation, or empty.
        progress: See `Progress`.

    Returns:
        The engine and the extended timing cache, which is empty for TensorRT for RTX.

    Raises:
        Cancelled: `progress` stopped the compilation.
        BackendError: The flavour is missing or has no such option, or TensorRT refuses the model.
    """
    trt = load_flavour(flavour)
    logger = trt_logger(trt)
    builder, network, _parser = parse(model, flavour, logger)
    config = builder.create_builder_config()
    profile = builder.create_optimization_profile()
    low, high = shapes.smallest or shapes.size, shapes.largest or shapes.size
    for index in range(network.num_inputs):
        name = network.get_input(index).name
        if name == "fx":
            profile.set_shape(name, *3 * [(shapes.batch,)])
        else:
            bounds = [(shapes.batch, h, w, 3) for w, h in (low, shapes.size, high)]
            profile.set_shape(name, *bounds)
    config.add_optimization_profile(profile)
    if options.workspace:
        config.set_memory_pool_limit(trt.MemoryPoolType.WORKSPACE, options.workspace << 20)
    # Of TensorRT for RTX: what its engines need to be captured as a CUDA graph.
    if flag := getattr(trt.BuilderFlag, "REQUIRE_USER_ALLOCATION", None):
        config.set_flag(flag)
    if options.version_compatible:
        config.set_flag(trt.BuilderFlag.VERSION_COMPATIBLE)
    if options.dla is not None:
        if builder.num_DLA_cores <= options.dla:
            raise BackendError(
                f"there is no DLA core {options.dla}: {FLAVOURS[flavour].title} finds"
                f" {builder.num_DLA_cores} on this machine"
            )
        config.default_device_type, config.DLA_core = trt.DeviceType.DLA, options.dla
        config.set_flag(trt.BuilderFlag.GPU_FALLBACK)
    timings = None
    if not FLAVOURS[flavour].portable:  # the other measures no kernels before it runs
        timings = config.create_timing_cache(timing_cache) or config.create_timing_cache(b"")
        config.set_timing_cache(timings, ignore_mismatch=False)
    monitor = config.progress_monitor = _monitor(trt, progress)
    engine = builder.build_serialized_network(network, config)
    if monitor.cancelled:
        raise Cancelled("the compilation was stopped")
    if engine is None:
        raise BackendError(f"{FLAVOURS[flavour].title} cannot compile the model: {logger.why()}")
    return bytes(engine), bytes(timings.serialize()) if timings else b""


class Parsed(NamedTuple):
    """A model file as TensorRT's network."""

    builder: Any
    network: Any
    parser: Any
    """Which owns the network's weights."""


def parse(model: bytes, flavour: str, logger: Any = None) -> Parsed:
    """Read a model file into a network of a flavour.

    Raises:
        BackendError: TensorRT cannot be used here, or has no operator for a node of the model.
    """
    trt = load_flavour(flavour)
    logger = logger or trt_logger(trt)
    title = FLAVOURS[flavour].title
    try:
        builder = trt.Builder(logger)
        # Later versions know no other, and no flag for it.
        typed = getattr(trt.NetworkDefinitionCreationFlag, "STRONGLY_TYPED", None)
        network = builder.create_network(0 if typed is None else 1 << int(typed))
        parser = trt.OnnxParser(network, logger)
    except Exception as error:  # without a GPU or its driver: pybind11's, of any kind
        raise BackendError(f"{title} cannot start here: {logger.why() or error}") from None
    if not parser.parse(model):
        errors = [parser.get_error(index) for index in range(parser.num_errors)]
        raise BackendError(
            f"{title} cannot read the model: "
            + "; ".join(
                f"operator {e.node_operator()} (node {e.node_name()!r}): {_words(e)}"
                if e.node_operator()
                else _words(e)
                for e in errors
            )
        )
    return Parsed(builder, network, parser)


def _words(error: Any) -> str:
    """The parser's message for an error, without its assertions."""
    code = str(error.code()).rpartition(".")[2].lower().replace("_", " ")
    text = " ".join(str(error.desc()).split())
    return code if text in ("", "false") else f"{code}: {text}"


def trt_logger(trt: Any) -> Any:
    """Make a logger that forwards TensorRT's log to Python's and stores errors."""

    class Logger(trt.ILogger):
        def __init__(self) -> None:
            trt.ILogger.__init__(self)
            self.errors: list[str] = []

        def log(self, severity: Any, text: str) -> None:
            if severity in (trt.ILogger.INTERNAL_ERROR, trt.ILogger.ERROR):
                self.errors.append(" ".join(text.split()))
            _LOG.debug("%s", text)

        def why(self) -> str:
            """The first error since the last call; those after it are its consequences."""
            first, self.errors = (self.errors or [""])[0], []
            return first

    return Logger()


def _monitor(trt: Any, progress: Progress) -> Any:
    """Make a monitor that converts TensorRT's nested phases to one completed share."""

    class Monitor(trt.IProgressMonitor):
        def __init__(self) -> None:
            trt.IProgressMonitor.__init__(self)
            self.cancelled = False
            self._share = 0.0
            self._phases: dict[str, tuple[str | None, int, int]] = {}
            """Phase -> parent phase, number of steps, completed steps."""

        def phase_start(self, name: str, parent: str | None, steps: int) -> None:
            self._phases[name] = parent, max(steps, 1), 0

        def step_complete(self, name: str, step: int) -> bool:
            parent, steps, _ = self._phases[name]
            self._phases[name] = parent, steps, min(step + 1, steps)
            self._share = max(self._share, self._share_of(name))  # some phases come again
            self.cancelled = self.cancelled or not progress(self._share, name)
            return not self.cancelled

        def phase_finish(self, name: str) -> None:
            self._phases.pop(name, None)

        def _share_of(self, name: str) -> float:
            """Of all: a phase's share is part of its parent's next step."""
            share, at = 0.0, name
            while True:
                parent, steps, done = self._phases[at]
                share = min(1.0, (done + share) / steps)
                if parent not in self._phases:
                    return share
                at = parent

    return Monitor()
