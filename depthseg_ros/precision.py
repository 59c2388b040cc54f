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

"""Choose which of a model's files runs: the fp32 file or the int8 file beside it.

A model that is given by name, without `.onnx`, may have two files, `NAME.onnx` and
`NAME-int8.onnx`. On a CPU the faster one runs. Which one is faster depends on the processor, the
runtime and the network (int8 helps if the processor has instructions for it, in operators that the
runtime implements in 8 bits). So both are measured once, and the times are kept in the user's
cache.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import logging
import math
import os
import platform
import re
import time
from collections.abc import Sequence
from importlib import import_module
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from . import model_card
from .backends import Backend, BackendError, choose, open_backend
from .files import whole
from .model_card import ModelCard, ModelFileError
from .texts import one_line

_LOG = logging.getLogger(__name__)
PRECISIONS = ("auto", "fp32", "int8")
GAIN = 1.1
"""Minimum speed-up of int8 over fp32: int8 costs a little accuracy, and times vary."""
ROUNDS, PATIENCE = 8, 2.0
"""Measured runs of each file, in turn, and seconds after which no further run begins."""


class Chosen(NamedTuple):
    """The chosen file."""

    path: Path
    why: str = ""
    """The reason; empty if there was no choice."""
    backend: Backend | None = None
    """The backend with the file, if choosing has opened it."""


def choose_file(
    model: str | os.PathLike[str],
    precision: str = "auto",
    backend: str = "auto",
    providers: Sequence[str] = (),
    threads: int = 0,
) -> Chosen:
    """Choose the file of a model that runs on this machine, and log the choice and its reason.

    Args:
        model: A file, which is used as it is, or a model's name, see `model_card.find_model`.
        precision: One of `PRECISIONS`; with `auto`, a name's int8 file is used on a CPU if it is
            `GAIN` times as fast as the fp32 file.
        backend: As in `backends.open_backend`.
        providers: As in `backends.open_backend`.
        threads: As in `backends.open_backend`.

    Raises:
        ModelFileError: The file does not exist or has another precision.
        BackendError: The fp32 file does not run.
        ValueError: `precision` is unknown.
    """
    if precision not in PRECISIONS:
        raise ValueError(f"precision is {precision!r}, expected one of {', '.join(PRECISIONS)}")
    path = model_card.find_model(model)
    named = path != Path(os.path.expanduser(model))
    int8 = model_card.int8_beside(path)
    if named and precision == "int8":
        if backend.startswith("tensorrt"):
            raise BackendError(
                f"precision int8 is for CPUs: for {backend} export a file with --precision int8"
                " --for tensorrt and use its path"
            )
        model_card.check_int8(int8, path)
        return Chosen(int8, "precision is int8")
    if precision != "auto":
        found = model_card.read(path).precision
        if found != precision:
            raise ModelFileError(
                f"{path} has the precision {found}, but precision is {precision}: set it to auto,"
                " or give the model without .onnx, so that the file beside it is found"
            )
        return Chosen(path, f"precision is {precision}" if named else "")
    if not named or not int8.is_file():
        return Chosen(path)
    try:
        model_card.check_int8(int8, path)
    except ModelFileError as error:
        _LOG.warning("%s; using %s in fp32", error, path)
        return Chosen(path, "the int8 file beside it does not belong to it")
    if backend == "auto":
        backend = "onnxruntime" if providers else choose()[0]
    if backend.startswith("tensorrt"):
        return Chosen(path, "int8 is for CPUs")
    chosen = _faster(path, int8, backend, tuple(providers), threads)
    if chosen.why:
        _LOG.info("using %s: %s", chosen.path.name, chosen.why)
    return chosen


def forget() -> None:
    """Delete the measured times; raises `OSError`."""
    _cache().unlink(missing_ok=True)


def _faster(
    fp32: Path, int8: Path, backend: str, providers: tuple[str, ...], threads: int
) -> Chosen:
    """The faster file on a CPU; otherwise the fp32 file."""
    try:
        import_module(backend)
    except ImportError:  # reported when it is opened
        return Chosen(fp32)
    opened = None
    if backend == "onnxruntime" and not _cpu_alone(providers):  # the GPU may be missing
        opened = open_backend(fp32, backend, providers, threads)
        if "CPUExecutionProvider" not in opened.name:
            return Chosen(fp32, "int8 is for CPUs", opened)
    key = _key(fp32, int8, backend, providers, threads)
    times, when = _remembered(key), "measured before"
    if times is None:
        other = None
        try:
            opened = opened or open_backend(fp32, backend, providers, threads)
            other = open_backend(int8, backend, providers, threads)
            times, when = _measure((opened, other), model_card.read(fp32)), "measured now"
        except BackendError as error:
            if opened is None:
                raise
            _LOG.warning("%s does not run: %s; using fp32", int8, one_line(error))
            return Chosen(fp32, "its int8 file does not run", opened)
        finally:
            if other is not None:
                other.close()
        _remember(key, times)
    if opened is not None:
        opened.close()
    gain = times[0] / times[1]
    why = f"int8 is {gain:.2f} times as fast as fp32 here, {when}"
    if gain < GAIN:
        return Chosen(fp32, f"{why}, expected {GAIN}")
    return Chosen(int8, why)


def _cpu_alone(providers: tuple[str, ...]) -> bool:
    """Whether ONNX Runtime can only use the CPU."""
    import onnxruntime

    on_request = {"AzureExecutionProvider"}
    found = set(providers or onnxruntime.get_available_providers()) - on_request
    return found == {"CPUExecutionProvider"}


def _measure(backends: Sequence[Backend], card: ModelCard) -> tuple[float, float]:
    """Minimum seconds per run of both files at the network's size, which run in turn."""
    width, height = card.network_size
    image = np.random.default_rng(0).integers(0, 256, (1, height, width, 3), np.uint8)
    values: dict[str, Any] = {
        "image": image,
        "background": image,
        "fx": np.array([width], np.float32),
    }
    inputs = {name: values[name] for name in card.inputs}
    least = [math.inf, math.inf]
    began = time.monotonic()
    for number in range(ROUNDS + 1):  # the first is slower
        for index, backend in enumerate(backends):
            started = time.perf_counter()
            backend.run(inputs)
            if number:
                least[index] = min(least[index], time.perf_counter() - started)
        if number and time.monotonic() - began > PATIENCE:
            break
    return least[0], least[1]


# --- Measured times ----------------------------------------------------------------------------


def _key(fp32: Path, int8: Path, backend: str, providers: tuple[str, ...], threads: int) -> str:
    """Cache key: a hash of all that the times depend on."""
    contents = [hashlib.sha256(path.read_bytes()).hexdigest() for path in (fp32, int8)]
    version = getattr(import_module(backend), "__version__", "")
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    of = [*contents, backend, version, providers, threads, cores, _processor()]
    return hashlib.sha256(json.dumps(of).encode()).hexdigest()


def _processor() -> str:
    """The processor and its instructions from /proc/cpuinfo, or else from Python."""
    with contextlib.suppress(OSError):
        text = Path("/proc/cpuinfo").read_text(errors="replace")
        found = re.findall(r"^(?:model name|flags|Features|CPU part)\s*:.*$", text, re.MULTILINE)
        return "\n".join(sorted(set(found)))
    return f"{platform.machine()} {platform.processor()}"


def _cache() -> Path:
    home = os.environ.get("XDG_CACHE_HOME", "")
    if not os.path.isabs(home):  # not allowed by the XDG specification
        home = os.path.expanduser("~/.cache")
    return Path(home, "depthseg_ros", "precision.json")


def _all() -> dict[str, Any]:
    """The content of the cache file; empty if it cannot be read."""
    with contextlib.suppress(OSError, ValueError, RecursionError):
        found = json.loads(_cache().read_text())
        if isinstance(found, dict):
            return found
    return {}


def _remembered(key: str) -> tuple[float, float] | None:
    """The times of a key, or None."""
    with contextlib.suppress(TypeError, ValueError):
        fp32, int8 = map(float, _all().get(key, ()))
        if 0 < fp32 < math.inf and 0 < int8 < math.inf:
            return fp32, int8
    return None


def _remember(key: str, times: tuple[float, float]) -> None:
    """Store the times of a key; if that fails, they are measured again each time."""
    path = _cache()
    with contextlib.suppress(OSError):
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        with whole(path) as unfinished:
            unfinished.write_text(json.dumps(_all() | {key: times}))
