"""TensorRT, of both flavours: the backend of robots and of PCs with an NVIDIA GPU.

An engine is compiled for the size of the camera's pictures when the first of them comes, kept in
the user's cache, and loaded from there the next time. Nothing of it runs without a GPU.
"""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .. import model_card
from . import Backend, BackendError
from .compiler import (
    FLAVOURS,
    Cancelled,
    Options,
    Progress,
    Shapes,
    compile_engine,
    load_flavour,
)
from .cuda import Buffers, Device, open_device
from .engine_cache import EngineCache, EngineFileError, Key, read_engine, write_engine

_LOG = logging.getLogger(__name__)
_ENGINES = 4
"""Sizes of pictures whose engines stay loaded."""


class TensorRtBackend(Backend):
    """A model file as engines of TensorRT; see `Backend`."""

    def __init__(self, model: Path, flavour: str, engine: Path | None = None) -> None:
        """Open the GPU, and what the cache has of the model.

        Args:
            model: Path of the `.onnx` file.
            flavour: One of `FLAVOURS`.
            engine: An engine of the model to run in place of the cache's.

        Raises:
            BackendError: the flavour or a GPU is missing, or `engine` is not the model's.
        """
        self._trt = load_flavour(flavour)
        self._flavour = flavour
        self._device = open_device()
        self._model = model.read_bytes()
        self._identity = identify(model, self._model, flavour, self._device)
        self._cache = EngineCache()
        self._runtime = self._trt.Runtime(self._trt.Logger(self._trt.Logger.ERROR))
        self._engines: dict[Shapes, _Engine] = {}
        self._failed: dict[Shapes, str] = {}
        self._interrupted = False
        self._named: tuple[Shapes, bytes] | None = None
        self.name = (
            f"{flavour} {self._trt.__version__} ({self._device.name}, {self._device.library})"
        )
        if engine is not None:
            self._named = self._read(engine)

    @property
    def sizes(self) -> list[tuple[int, int]]:
        """Widths and heights of pictures that can be shown at once, the one used last first."""
        if self._named:
            return [self._named[0].size]
        keys = [key for _, key in self._cache.entries() if key]
        return [k.shapes.size for k in keys if k == self._key(k.shapes) and k.shapes.batch == 1]

    def run(self, inputs: Mapping[str, NDArray[np.generic]]) -> dict[str, NDArray[np.generic]]:
        """Run the engine of the pictures' size, compiled first if need be; see `Backend.run`."""
        batch, height, width = inputs["image"].shape[:3]
        self._interrupted = False
        with self._device.active():
            return self._engine(Shapes(width, height, batch)).run(inputs)

    def interrupt(self) -> None:
        """Let a compilation under way in another thread end; `run` then raises `Cancelled`."""
        self._interrupted = True

    def close(self) -> None:
        """Give back engines and memory; see `Backend.close`."""
        with self._device.active():
            while self._engines:
                self._engines.popitem()[1].close()
        del self._runtime
        self._device.close()

    def _engine(self, shapes: Shapes) -> _Engine:
        """The engine of a size, loaded."""
        engine = self._engines.pop(shapes, None)
        if engine is None:
            while len(self._engines) >= _ENGINES:
                self._engines.pop(next(iter(self._engines))).close()
            if shapes in self._failed:  # not minutes of compiling for every picture
                raise BackendError(self._failed[shapes])
            try:
                engine = self._load(shapes)
            except Cancelled:
                raise
            except BackendError as error:
                self._failed[shapes] = str(error)
                raise
        self._engines[shapes] = engine  # the last one is the one used last
        return engine

    def _load(self, shapes: Shapes) -> _Engine:
        if self._named is not None:
            of, plan = self._named
            if not of.takes(shapes.batch, *shapes.size):
                raise BackendError(f"the engine takes pictures of {of}, got {shapes}")
            return self._ready(plan, shapes)
        key = self._key(shapes)
        plan = self._compiled(key)
        try:
            return self._ready(plan, shapes)
        except BackendError as error:  # it passed the cache's checks and is of no use
            _LOG.warning("%s; compiling anew", error)
            self._cache.discard(key)
            return self._ready(self._compiled(key), shapes)

    def _compiled(self, key: Key) -> bytes:
        try:
            return compiled(self._model, key, self._cache, progress=self._on_progress)
        finally:
            self.state = ""

    def _ready(self, plan: bytes, shapes: Shapes) -> _Engine:
        engine = self._runtime.deserialize_cuda_engine(plan)
        if engine is None:
            raise BackendError(f"{FLAVOURS[self._flavour].title} cannot load the engine")
        return _Engine(self._trt, engine, self._device, shapes)

    def _key(self, shapes: Shapes) -> Key:
        return Key(**self._identity, shapes=shapes)

    def _read(self, path: Path) -> tuple[Shapes, bytes]:
        try:
            key, plan = read_engine(path)
        except OSError as error:
            raise BackendError(f"{path} cannot be read: {error.strerror}") from None
        wanted = self._key(key.shapes)
        for part in ("model", "flavour", "gpu"):
            if getattr(key, part) != getattr(wanted, part):
                raise EngineFileError(
                    f"{path} is of {part} {getattr(key, part)}, expected {getattr(wanted, part)}"
                )
        return key.shapes, plan

    def _on_progress(self, share: float, phase: str) -> bool:
        tenth = int(10 * share)
        state = f"compiling, {10 * tenth} %"
        if state != self.state:
            _LOG.info("compiling the engine: %d %%, %s", 10 * tenth, phase.lower())
        self.state = state
        return not self._interrupted


class _Engine:
    """An engine for one size of pictures, with its memory."""

    def __init__(self, trt: Any, engine: Any, device: Device, shapes: Shapes) -> None:
        self._engine, self._device = engine, device
        self._graph: Any = None
        self._context = context = engine.create_execution_context()
        if context is None:
            raise BackendError("TensorRT has no memory for the engine")
        names = [engine.get_tensor_name(index) for index in range(engine.num_io_tensors)]
        self._inputs = [n for n in names if engine.get_tensor_mode(n) == trt.TensorIOMode.INPUT]
        self._outputs = [name for name in names if name not in self._inputs]
        for name in self._inputs:
            shape = (shapes.height, shapes.width, 3) if name != "fx" else ()
            context.set_input_shape(name, (shapes.batch, *shape))
        self._buffers = Buffers(
            device,
            {
                n: (tuple(context.get_tensor_shape(n)), trt.nptype(engine.get_tensor_dtype(n)))
                for n in names
            },
        )
        for name in names:
            context.set_tensor_address(name, self._buffers[name].pointer)
        try:  # twice: the first run takes memory and compiles kernels, which no graph may hold
            for _ in range(2):
                self._queue()
                device.synchronize()
        except BackendError:
            self._buffers.close()
            raise
        try:
            self._graph = device.capture(self._queue)
        except BackendError as error:
            _LOG.info("running without a CUDA graph: %s", error)

    def _queue(self) -> None:
        """Queue copies in, network, copies out."""
        for name in self._inputs:
            self._device.upload(self._buffers[name])
        if not self._context.execute_async_v3(self._device.stream):
            raise BackendError("TensorRT failed to run the engine")
        for name in self._outputs:
            self._device.download(self._buffers[name])

    def run(self, inputs: Mapping[str, NDArray[np.generic]]) -> dict[str, NDArray[np.generic]]:
        """Run once; the outputs are copies, of the caller's own."""
        for name in self._inputs:
            np.copyto(self._buffers[name].host, inputs[name])
        (self._graph or self._queue)()
        self._device.synchronize()
        return {name: self._buffers[name].host.copy() for name in self._outputs}

    def close(self) -> None:
        """Give back everything, the graph before what it works on."""
        self._graph = None
        self._buffers.close()
        del self._context, self._engine


def identify(model: Path, content: bytes, flavour: str, device: Device | None) -> dict[str, str]:
    """All of a `Key` but the shapes.

    Raises:
        ModelFileError: the model file is missing or wrong.
        BackendError: the flavour is missing, or its engines are of one GPU and there is none.
    """
    card = model_card.read(model)
    version = str(load_flavour(flavour).__version__)
    if FLAVOURS[flavour].portable:
        gpu = "any"
    else:
        device = device or open_device()
        gpu = f"{device.name} {device.compute_capability}"
    return {
        "model": hashlib.sha256(content).hexdigest(),
        "name": card.name,
        "precision": card.precision,
        "flavour": flavour,
        "version": version,
        "gpu": gpu,
    }


def compiled(
    model: bytes,
    key: Key,
    cache: EngineCache,
    options: Options | None = None,
    progress: Progress = lambda share, phase: True,
) -> bytes:
    """The engine of a key: from the cache, or compiled now and kept.

    With `options` it is compiled in any case, since the cache does not know of them.

    Raises:
        BackendError: as `compiler.compile_engine` does.
    """

    def compile_now() -> bytes:
        engine, timings = compile_engine(
            model, key.flavour, key.shapes, options or Options(), cache.timings(key), progress
        )
        cache.keep_timings(key, timings)
        return engine

    if options is not None:
        engine = compile_now()
        cache.store(key, engine)
        return engine
    return cache.get(key, compile_now, lambda: progress(0.0, "waiting for another process"))


def compile_to(
    output: Path,
    model: bytes,
    key: Key,
    options: Options,
    progress: Progress = lambda share, phase: True,
) -> None:
    """Compile an engine to a file of the user's own.

    Raises:
        BackendError: as `compiler.compile_engine` does.
        OSError: the file cannot be written.
    """
    engine, _ = compile_engine(model, key.flavour, key.shapes, options, b"", progress)
    write_engine(output, key, engine)
