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

"""TensorRT and TensorRT for RTX: the backend for robots and PCs with an NVIDIA GPU.

An engine is compiled for the size of the camera's images when the first image arrives, stored in
the user's cache, and loaded from there the next time. It needs a GPU.
"""

from __future__ import annotations

import contextlib
import hashlib
import logging
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .. import model_card
from .base import Backend, BackendError, UnservedError
from .choice import why_not
from .compiler import FLAVOURS, Cancelled, Shapes, compile_engine, load_flavour, trt_logger
from .cuda import Buffers, Device, open_device
from .engine_cache import EngineCache, EngineFileError, Key, read_engine

_LOG = logging.getLogger(__name__)
_ENGINES = 4
"""Number of image sizes whose engines stay loaded."""


class TensorRtBackend(Backend):
    """A model file as TensorRT engines; see `Backend`."""

    whole_images = True

    def __init__(self, model: Path, flavour: str, engine: Path | None = None) -> None:
        """Open the GPU and the cached engines of the model.

        Args:
            model: Path of the `.onnx` file.
            flavour: One of `FLAVOURS`.
            engine: An engine of the model to use instead of the cache.

        Raises:
            ModelFileError: The model file is missing or wrong.
            BackendError: The flavour or a GPU is missing, or `engine` belongs to another model.
        """
        if reason := why_not(flavour):
            raise BackendError(reason)
        self._trt = trt = load_flavour(flavour)
        self._title = FLAVOURS[flavour].title
        self._logger = trt_logger(trt)
        self._cache = EngineCache()
        self._engines: dict[Shapes, _Engine] = {}
        self._refused: dict[Shapes, str] = {}
        """Shapes that cannot be compiled, with the reason; they are not retried."""
        self._interrupted = False
        self._named: tuple[Key, bytes] | None = None
        with contextlib.ExitStack() as on_failure:
            self._device = device = open_device()
            on_failure.callback(device.close)
            self._model, self._identity = identify(model, flavour, device)
            self._runtime = trt.Runtime(self._logger)
            with device.active():
                self._update_memory()
            if engine is not None:
                self._named = self._read(engine)
            on_failure.pop_all()
        self.name = f"{flavour} {trt.__version__} ({device.name}, {device.library})"

    def ready_for(self, size: tuple[int, int]) -> tuple[int, int] | None:
        """The size whose engine was used last; see `Backend.ready_for`."""
        if self._named:
            return self._named[0].shapes.size
        for _, key in self._cache.entries():
            if key is None or key != self._key(key.shapes) or key.shapes.batch != 1:
                continue
            if self._cache.load(key, quietly=True) is not None:
                return key.shapes.size
        return None

    def run(self, inputs: Mapping[str, NDArray[np.generic]]) -> dict[str, NDArray[np.generic]]:
        """Run the engine for the images' size, compiled first if needed; see `Backend.run`."""
        batch, height, width = inputs["image"].shape[:3]
        self._interrupted = False
        with self._device.active():
            outputs = self._engine(Shapes(width, height, batch)).run(inputs)
            if time.monotonic() - self._updated > 1:
                self._update_memory()
        return outputs

    def _update_memory(self) -> None:
        self.memory, self._updated = self._device.memory(), time.monotonic()

    def interrupt(self) -> None:
        """Stop a compilation in another thread; `run` then raises `Cancelled`."""
        self._interrupted = True

    def close(self) -> None:
        """Release engines and memory; see `Backend.close`."""
        with contextlib.ExitStack() as stack:  # everything, even if a part fails
            stack.callback(self._device.close)
            stack.enter_context(self._device.active())
            while self._engines:
                stack.callback(self._engines.popitem()[1].close)
        del self._runtime

    def _engine(self, shapes: Shapes) -> _Engine:
        """Load the engine of a size."""
        engine = self._engines.pop(shapes, None)
        if engine is None:
            if shapes in self._refused:
                raise BackendError(self._refused[shapes])
            self.state = "preparing an engine"
            try:
                plan = self._load(shapes)
                while len(self._engines) >= _ENGINES:
                    self._engines.pop(next(iter(self._engines))).close()
                engine = _Engine(self._trt, plan, self._device, self._logger, shapes)
            finally:
                self.state = ""
        self._engines[shapes] = engine  # the last one was used last
        return engine

    def _load(self, shapes: Shapes) -> Any:
        """The engine of a size: the given one, from the cache, or compiled."""
        if self._named is not None:
            key, content = self._named
            if not key.shapes.takes(shapes.batch, *shapes.size):
                raise UnservedError(f"the engine accepts images of {key.shapes}, got {shapes}")
            return self._deserialized(content)
        key = self._key(shapes)
        kept = self._cache.load(key)
        if kept is not None:
            try:
                return self._deserialized(kept)
            except BackendError as error:  # it passed the checks of the cache, but does not load
                _LOG.warning("%s; compiling again", error)
                self._cache.discard(key)
        try:
            return self._deserialized(
                self._cache.get(
                    key,
                    lambda: self._compile(key),
                    lambda: self._on_progress(0.0, "waiting for another process"),
                )
            )
        except Cancelled:
            raise
        except BackendError as error:
            self._refused[shapes] = str(error)
            raise

    def _compile(self, key: Key) -> bytes:
        engine, timings = compile_engine(
            self._model,
            key.flavour,
            key.shapes,
            timing_cache=self._cache.timings(key),
            progress=self._on_progress,
        )
        self._cache.keep_timings(key, timings)
        return engine

    def _deserialized(self, content: bytes) -> Any:
        engine = self._runtime.deserialize_cuda_engine(content)
        if engine is None:
            raise BackendError(f"{self._title} cannot load the engine: {self._logger.why()}")
        return engine

    def _key(self, shapes: Shapes) -> Key:
        return Key(**self._identity, shapes=shapes)

    def _read(self, path: Path) -> tuple[Key, bytes]:
        """Read an engine file that the user gave, and therefore trusts."""
        try:
            key, content = read_engine(path)
        except OSError as error:
            raise BackendError(f"{path} cannot be read: {error.strerror}") from None
        wanted = self._key(key.shapes)
        for part in (
            "model",
            "flavour",
            "gpu",
        ):  # the version may differ for a version-compatible engine
            if getattr(key, part) != getattr(wanted, part):
                raise EngineFileError(
                    f"{path} has the {part} {getattr(key, part)}, expected {getattr(wanted, part)}"
                )
        if hasattr(
            self._runtime, "engine_host_code_allowed"
        ):  # version-compatible engines contain host code
            self._runtime.engine_host_code_allowed = True
        if key.dla is not None:
            self._runtime.DLA_core = key.dla
        return key, content

    def _on_progress(self, share: float, phase: str) -> bool:
        tenth = int(10 * share)
        state = f"compiling, {10 * tenth} %"
        if state != self.state:
            _LOG.info("compiling the engine: %d %%, %s", 10 * tenth, phase.lower())
        self.state = state
        return not self._interrupted


class _Engine:
    """An engine for one image size, with its memory."""

    def __init__(self, trt: Any, engine: Any, device: Device, logger: Any, shapes: Shapes) -> None:
        self._engine, self._device, self._logger = engine, device, logger
        self._graph: Any = None
        self._context = context = _context(trt, engine)
        if context is None:
            raise BackendError(f"TensorRT has not enough memory for the engine: {logger.why()}")
        names = [engine.get_tensor_name(index) for index in range(engine.num_io_tensors)]
        self._inputs = [n for n in names if engine.get_tensor_mode(n) == trt.TensorIOMode.INPUT]
        self._outputs = [name for name in names if name not in self._inputs]
        for name in self._inputs:
            shape = (shapes.height, shapes.width, 3) if name != "fx" else ()
            if not context.set_input_shape(name, (shapes.batch, *shape)):
                raise BackendError(f"the engine refuses images of {shapes}: {logger.why()}")
        self._buffers = Buffers(
            device,
            {
                n: (tuple(context.get_tensor_shape(n)), trt.nptype(engine.get_tensor_dtype(n)))
                for n in names
            },
        )
        try:
            for name in names:
                if not context.set_tensor_address(name, self._buffers[name].pointer):
                    raise BackendError(f"TensorRT refuses memory for {name}: {logger.why()}")
            # Twice: the first run allocates memory and compiles kernels, unlike a graph.
            for _ in range(2):
                self._queue()
                device.synchronize()
        except Exception:
            self._buffers.close()
            raise
        if getattr(context, "is_stream_capturable", lambda stream: True)(device.stream):
            try:
                self._graph = device.capture(self._queue)
            except BackendError as error:
                _LOG.info("running without a CUDA graph: %s", error)

    def _queue(self) -> None:
        """Queue the input copies, the network and the output copies."""
        for name in self._inputs:
            self._device.upload(self._buffers[name])
        if not self._context.execute_async_v3(self._device.stream):
            raise BackendError(f"TensorRT failed to run the engine: {self._logger.why()}")
        for name in self._outputs:
            self._device.download(self._buffers[name])

    def run(self, inputs: Mapping[str, NDArray[np.generic]]) -> dict[str, NDArray[np.generic]]:
        """Run once; the outputs are copies."""
        for name in self._inputs:
            np.copyto(self._buffers[name].host, inputs[name])
        (self._graph or self._queue)()
        self._device.synchronize()
        return {name: self._buffers[name].host.copy() for name in self._outputs}

    def close(self) -> None:
        """Release everything, the graph before its buffers."""
        self._graph = None
        self._buffers.close()
        del self._context, self._engine


def _context(trt: Any, engine: Any) -> Any:
    """Create an execution context; for TensorRT for RTX with all kernels compiled at once."""
    strategy = getattr(trt, "DynamicShapesKernelSpecializationStrategy", None)
    if strategy is None:
        return engine.create_execution_context()
    config = engine.create_runtime_config()
    config.dynamic_shapes_kernel_specialization_strategy = strategy.EAGER
    return engine.create_execution_context(config)


def identify(model: Path, flavour: str, device: Device | None) -> tuple[bytes, dict[str, Any]]:
    """A model file's content and the fields of its `Key`, except the shapes and the DLA core.

    Raises:
        ModelFileError: The model file is missing or wrong.
        BackendError: The flavour is missing, or its engines depend on the GPU and there is none.
    """
    card = model_card.read(model)
    version = str(load_flavour(flavour).__version__)
    gpu = "any"
    if not FLAVOURS[flavour].portable:
        with contextlib.ExitStack() as stack:
            if device is None:
                device = open_device()
                stack.callback(device.close)
            gpu = f"{device.name} {device.compute_capability}"
    content = model.read_bytes()
    return content, {
        "model": hashlib.sha256(content).hexdigest(),
        "name": card.name,
        "precision": card.precision,
        "flavour": flavour,
        "version": version,
        "gpu": gpu,
    }
