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

"""Memory, one stream and graphs of the GPU, with cuda-python or PyCUDA.

cuda-python is NVIDIA's own package and on PyPI; PyCUDA is common on JetPack. PyCUDA is used if
cuda-python is missing. If host and device share their memory, as on Jetson, they also share the
buffers, and nothing is copied.
"""

from __future__ import annotations

import contextlib
import ctypes
import functools
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib import import_module
from typing import Any, Protocol

import numpy as np
from numpy.typing import DTypeLike, NDArray

from .base import BackendError


@dataclass(frozen=True)
class Buffer:
    """An array on host and device."""

    host: NDArray[Any]
    """Host array, pinned for asynchronous copies."""
    pointer: int
    """Device address."""
    owner: Any
    """Data that the device needs to free it."""


class Device(Protocol):
    """A GPU with one stream. Any thread may use it, one at a time.

    All methods raise `BackendError` with the name of the CUDA error.
    """

    library: str
    """The Python package and its version."""
    name: str
    compute_capability: str
    stream: int
    """The stream's handle."""
    unified: bool
    """Whether host and device share their memory."""

    def memory(self) -> tuple[int, int]:
        """Used bytes of the GPU's memory (by all processes) and total bytes."""
        ...

    def active(self) -> contextlib.AbstractContextManager[None]:
        """Context manager that makes the GPU's context current; needed for all other calls."""
        ...

    def allocate(self, shape: Sequence[int], dtype: DTypeLike) -> Buffer:
        """Allocate memory for an array."""
        ...

    def free(self, buffer: Buffer) -> None:
        """Free a buffer."""
        ...

    def upload(self, buffer: Buffer) -> None:
        """Queue a copy from host to device."""
        ...

    def download(self, buffer: Buffer) -> None:
        """Queue a copy from device to host."""
        ...

    def synchronize(self) -> None:
        """Wait for all queued work."""
        ...

    def capture(self, work: Callable[[], None]) -> Callable[[], None] | None:
        """Record the work that `work` queues as a graph; returns a function that queues the graph.

        Returns None if graphs are not supported. The graph lives as long as the function.
        """
        ...

    def close(self) -> None:
        """Release the stream."""
        ...


class Buffers:
    """The buffers of a network's tensors."""

    def __init__(
        self, device: Device, tensors: Mapping[str, tuple[Sequence[int], DTypeLike]]
    ) -> None:
        self._device = device
        self._buffers: dict[str, Buffer] = {}
        try:
            for name, (shape, dtype) in tensors.items():
                self._buffers[name] = device.allocate(shape, dtype)
        except Exception:
            self.close()
            raise

    def __getitem__(self, name: str) -> Buffer:
        return self._buffers[name]

    def close(self) -> None:
        """Free them; a second call does nothing."""
        with contextlib.ExitStack() as stack:  # all of them, even if one fails
            while self._buffers:
                stack.callback(self._device.free, self._buffers.popitem()[1])


def open_device() -> Device:
    """Open the machine's first GPU.

    Raises:
        BackendError: There is no working GPU, or neither cuda-python nor PyCUDA.
    """
    try:
        ctypes.CDLL("libcuda.so.1")
    except OSError:
        raise BackendError("there is no NVIDIA driver here (libcuda.so.1)") from None
    missing = []
    for kind in (CudaPythonDevice, PyCudaDevice):
        try:
            return kind()
        except ImportError as error:
            missing.append(str(error))
    raise BackendError(
        f"neither cuda-python nor PyCUDA can be imported ({'; '.join(missing)}):"
        " pip install cuda-bindings, or pycuda"
    )


class CudaPythonDevice:
    """A `Device` through cuda-python's bindings of the CUDA runtime."""

    def __init__(self) -> None:
        """Open the first GPU; raises `ImportError` without cuda-python."""
        self._cuda = cuda = import_module("cuda.bindings.runtime")
        self.library = f"cuda-python {import_module('cuda.bindings').__version__}"
        if not self._call("cudaGetDeviceCount"):
            raise BackendError("CUDA finds no GPU")
        self._call("cudaSetDevice", 0)
        properties = self._call("cudaGetDeviceProperties", 0)
        self.name = bytes(properties.name).split(b"\0")[0].decode()
        self.compute_capability = f"{properties.major}.{properties.minor}"
        self.unified = bool(properties.integrated and properties.canMapHostMemory)
        self._stream = self._call("cudaStreamCreateWithFlags", cuda.cudaStreamNonBlocking)
        self.stream = int(self._stream)

    def _call(self, name: str, *arguments: Any) -> Any:
        """Call a function of the runtime; returns the first of what it gives, if it gives any."""
        values = self._all(name, *arguments)
        return values[0] if values else None

    def _all(self, name: str, *arguments: Any) -> list[Any]:
        """Call a function of the runtime; returns what it gives beside its error code."""
        error, *values = getattr(self._cuda, name)(*arguments)
        if int(error) != 0:
            message = self._cuda.cudaGetErrorString(error)[1]
            text = message.decode() if isinstance(message, bytes) else str(message)
            raise BackendError(f"CUDA: {name}: {error.name}: {text}")
        return values

    def memory(self) -> tuple[int, int]:
        """See `Device.memory`."""
        free, total = self._all("cudaMemGetInfo")
        return total - free, total

    @contextlib.contextmanager
    def active(self) -> Iterator[None]:
        """See `Device.active`; the runtime has one context, of all threads."""
        self._call("cudaSetDevice", 0)
        yield

    def allocate(self, shape: Sequence[int], dtype: DTypeLike) -> Buffer:
        """See `Device.allocate`."""
        size = max(1, int(np.prod(shape)) * np.dtype(dtype).itemsize)
        flags = self._cuda.cudaHostAllocMapped if self.unified else 0
        pinned = self._call("cudaHostAlloc", size, flags)
        memory = (ctypes.c_uint8 * size).from_address(int(pinned))
        host: NDArray[Any] = np.ndarray(tuple(shape), dtype, buffer=memoryview(memory))
        try:
            if self.unified:
                pointer = self._call("cudaHostGetDevicePointer", pinned, 0)
            else:
                pointer = self._call("cudaMalloc", size)
        except BackendError:
            self._call("cudaFreeHost", pinned)
            raise
        return Buffer(host, int(pointer), pinned)

    def free(self, buffer: Buffer) -> None:
        """See `Device.free`."""
        try:
            if not self.unified:
                self._call("cudaFree", buffer.pointer)
        finally:
            self._call("cudaFreeHost", buffer.owner)

    def upload(self, buffer: Buffer) -> None:
        """See `Device.upload`."""
        if not self.unified:
            self._copy(buffer.pointer, buffer.owner, buffer, "cudaMemcpyHostToDevice")

    def download(self, buffer: Buffer) -> None:
        """See `Device.download`."""
        if not self.unified:
            self._copy(buffer.owner, buffer.pointer, buffer, "cudaMemcpyDeviceToHost")

    def _copy(self, to: Any, source: Any, buffer: Buffer, kind: str) -> None:
        kind = getattr(self._cuda.cudaMemcpyKind, kind)
        self._call("cudaMemcpyAsync", to, source, buffer.host.nbytes, kind, self._stream)

    def synchronize(self) -> None:
        """See `Device.synchronize`."""
        self._call("cudaStreamSynchronize", self._stream)

    def capture(self, work: Callable[[], None]) -> Callable[[], None] | None:
        """See `Device.capture`."""
        mode = self._cuda.cudaStreamCaptureMode.cudaStreamCaptureModeThreadLocal
        self._call("cudaStreamBeginCapture", self._stream, mode)
        try:
            work()
        except BackendError:
            error, graph = self._cuda.cudaStreamEndCapture(self._stream)
            if int(error) == 0:
                self._call("cudaGraphDestroy", graph)
            raise
        graph = self._call("cudaStreamEndCapture", self._stream)
        try:
            ready = self._call("cudaGraphInstantiate", graph, 0)
        finally:
            self._call("cudaGraphDestroy", graph)
        return _Graph(
            lambda: self._call("cudaGraphLaunch", ready, self._stream),
            lambda: self._call("cudaGraphExecDestroy", ready),
        )

    def close(self) -> None:
        """See `Device.close`."""
        self._call("cudaStreamDestroy", self._stream)


class PyCudaDevice:
    """A `Device` through PyCUDA, that is CUDA's driver and the context that all libraries share."""

    def __init__(self) -> None:
        """Open the first GPU; raises `ImportError` without PyCUDA."""
        self._cuda = cuda = import_module("pycuda.driver")
        self.library = f"PyCUDA {import_module('pycuda').VERSION_TEXT}"
        with self._named():
            device, self._context = _primary_context()
            self.name = device.name()
            self.compute_capability = "{}.{}".format(*device.compute_capability())
            self.unified = bool(
                device.get_attribute(cuda.device_attribute.INTEGRATED)
                and device.get_attribute(cuda.device_attribute.CAN_MAP_HOST_MEMORY)
            )
        with self.active():
            self._stream = cuda.Stream()
        self.stream = int(self._stream.handle)

    def memory(self) -> tuple[int, int]:
        """See `Device.memory`."""
        with self._named():
            free, total = self._cuda.mem_get_info()
        return total - free, total

    @contextlib.contextmanager
    def _named(self) -> Iterator[None]:
        try:
            yield
        except self._cuda.Error as error:  # whose text begins with the function and the code
            raise BackendError(f"CUDA: {type(error).__name__}: {error}") from None

    @contextlib.contextmanager
    def active(self) -> Iterator[None]:
        """See `Device.active`."""
        with self._named():
            self._context.push()
            try:
                yield
            finally:
                self._cuda.Context.pop()

    def allocate(self, shape: Sequence[int], dtype: DTypeLike) -> Buffer:
        """See `Device.allocate`."""
        flags = self._cuda.host_alloc_flags.DEVICEMAP if self.unified else 0
        with self._named():
            host = self._cuda.pagelocked_empty(tuple(shape), dtype, mem_flags=flags)
            if self.unified:
                pinned: Any = host.base
                return Buffer(host, int(pinned.get_device_pointer()), None)
            memory = self._cuda.mem_alloc(max(1, host.nbytes))
            return Buffer(host, int(memory), memory)

    def free(self, buffer: Buffer) -> None:
        """See `Device.free`."""
        with self._named():
            if buffer.owner is not None:
                buffer.owner.free()
            pinned: Any = buffer.host.base
            pinned.free()

    def upload(self, buffer: Buffer) -> None:
        """See `Device.upload`."""
        if not self.unified:
            with self._named():
                self._cuda.memcpy_htod_async(buffer.pointer, buffer.host, self._stream)

    def download(self, buffer: Buffer) -> None:
        """See `Device.download`."""
        if not self.unified:
            with self._named():
                self._cuda.memcpy_dtoh_async(buffer.host, buffer.pointer, self._stream)

    def synchronize(self) -> None:
        """See `Device.synchronize`."""
        with self._named():
            self._stream.synchronize()

    def capture(self, work: Callable[[], None]) -> Callable[[], None] | None:
        """See `Device.capture`; PyCUDA does not support graphs."""
        return None

    def close(self) -> None:
        """See `Device.close`."""
        with self.active():
            del self._stream


class _Graph:
    """A recorded graph: a call queues it; it is released when it is deleted."""

    def __init__(self, launch: Callable[[], None], destroy: Callable[[], None]) -> None:
        self._launch, self._destroy = launch, destroy

    def __call__(self) -> None:
        self._launch()

    def __del__(self) -> None:
        with contextlib.suppress(BackendError):
            self._destroy()


@functools.cache
def _primary_context() -> tuple[Any, Any]:
    """PyCUDA's first device and its context, kept until the process ends: TensorRT shares it."""
    cuda = import_module("pycuda.driver")
    cuda.init()
    device = cuda.Device(0)
    return device, device.retain_primary_context()
