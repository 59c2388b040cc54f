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

"""Cache of compiled engines.

An engine is code that the GPU and this process will run. So files are only loaded if this user's
cache wrote them, in a folder that only this user can write to, or if the user gives their path. If
anything is wrong with a cached engine, it is compiled again and this is logged in one line.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import json
import logging
import os
import re
import stat
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import BinaryIO

from ..files import whole
from .base import BackendError
from .compiler import Shapes

_LOG = logging.getLogger(__name__)
_MAGIC = b"depthseg engine 1\n"
_POLL = 0.2
"""Seconds between two checks whether another process has finished."""


class EngineFileError(BackendError):
    """A file is not an engine, or not the wanted one; the message gives what was found."""


@dataclass(frozen=True)
class Key:
    """All that an engine depends on; an engine with another key cannot be used."""

    model: str
    """SHA-256 of the model file."""
    name: str
    """Name of the model, from its card."""
    precision: str
    flavour: str
    version: str
    """Version of TensorRT."""
    gpu: str
    """Name and compute capability; `any` for a flavour with portable engines."""
    shapes: Shapes
    dla: int | None = None
    """DLA core of a Jetson, or None."""

    @property
    def file_name(self) -> str:
        """A readable file name that is unique for the key."""
        readable = f"{self.name}-{self.precision}-{self.shapes.width}x{self.shapes.height}"
        digest = hashlib.sha256(json.dumps(asdict(self), sort_keys=True).encode()).hexdigest()
        return f"{re.sub('[^A-Za-z0-9_-]', '_', readable)[:80]}-{digest[:16]}.engine"


def write_engine(path: Path, key: Key, engine: bytes) -> None:
    """Write an engine with its key, atomically; raises `OSError`."""
    digest = hashlib.sha256(engine).hexdigest()
    header = json.dumps(asdict(key) | {"bytes": len(engine), "sha256": digest})
    _write(path, _MAGIC, header.encode(), b"\n", engine)


def _write(path: Path, *parts: bytes) -> None:
    """Write a file that only this user can read, atomically."""
    with (
        whole(path) as unfinished,
        open(unfinished, "wb", opener=lambda p, flags: os.open(p, flags, 0o600)) as file,
    ):
        file.writelines(parts)
        file.flush()
        os.fsync(file.fileno())


def read_key(path: Path) -> Key:
    """Read the key of an engine file; raises `EngineFileError`, `OSError`."""
    with open(path, "rb") as file:
        return _read_key(path, file)[0]


def read_engine(path: Path) -> tuple[Key, bytes]:
    """Read an engine file.

    Raises:
        EngineFileError: It is not an engine file, or is truncated or changed.
        OSError: It cannot be read.
    """
    with open(path, "rb") as file:
        key, size, digest = _read_key(path, file)
        engine = file.read(size + 1)
    if len(engine) != size or hashlib.sha256(engine).hexdigest() != digest:
        raise EngineFileError(f"{path} is truncated or changed, expected {size} bytes of engine")
    return key, engine


def _read_key(path: Path, file: BinaryIO) -> tuple[Key, int, str]:
    try:
        if file.readline(len(_MAGIC)) != _MAGIC:
            raise ValueError
        header = json.loads(file.readline(1 << 16))
        size, digest = int(header.pop("bytes")), str(header.pop("sha256"))
        size = min(size, path.stat().st_size)  # a wrong header must not cause a larger read
        shapes = header.pop("shapes")
        for bound in ("smallest", "largest"):
            shapes[bound] = tuple(shapes[bound]) if shapes[bound] else None
        return Key(**header, shapes=Shapes(**shapes)), size, digest
    except (ValueError, TypeError, KeyError, AttributeError, OverflowError):
        raise EngineFileError(f"{path} is not an engine compiled by depthseg") from None


class EngineCache:
    """A folder of engines; by default the user's own."""

    def __init__(self, folder: Path | None = None) -> None:
        home = os.environ.get("XDG_CACHE_HOME", "")
        if not os.path.isabs(home):  # not allowed by the XDG specification
            home = os.path.expanduser("~/.cache")
        self.folder = folder or Path(home, "depthseg_ros", "engines")

    def get(
        self,
        key: Key,
        compile_engine: Callable[[], bytes],
        go_on: Callable[[], bool] = lambda: True,
    ) -> bytes:
        """Get the engine of a key, from the folder or compiled and then stored.

        Two processes that need the same engine compile it once. If the folder cannot be used, this
        is logged and the engine is compiled each time.

        Args:
            key: Key of the engine.
            compile_engine: Compiles it.
            go_on: Returns whether to keep waiting for another process's compilation; if not,
                `compile_engine` is called.
        """
        if (engine := self.load(key)) is not None:
            return engine
        with self._alone(key, go_on):
            if (engine := self.load(key, quietly=True)) is None:
                engine = compile_engine()
                self.store(key, engine)
        return engine

    def load(self, key: Key, quietly: bool = False) -> bytes | None:
        """Load the engine of a key; None if there is no trusted and valid one."""
        path = self.folder / key.file_name
        try:
            self._check(path)
            found, engine = read_engine(path)
            if found != key:
                raise EngineFileError(f"{path} belongs to another model, TensorRT, GPU or size")
        except FileNotFoundError:
            return None
        except (EngineFileError, OSError) as error:
            if not quietly:
                _LOG.warning("%s; compiling again", error)
            return None
        with contextlib.suppress(OSError):
            os.utime(path)  # the newest was used last
        return engine

    def store(self, key: Key, engine: bytes) -> bool:
        """Store an engine; returns whether that succeeded, and logs a failure."""
        try:
            self._make()
            write_engine(self.folder / key.file_name, key, engine)
        except (EngineFileError, OSError) as error:
            _LOG.warning("the engine cannot be stored and is compiled at each start: %s", error)
            return False
        return True

    def discard(self, key: Key) -> None:
        """Delete an unusable engine."""
        with contextlib.suppress(OSError):
            (self.folder / key.file_name).unlink()

    def entries(self) -> list[tuple[Path, Key | None]]:
        """The engine files, last used first, with their keys; None for an unreadable key."""
        found: list[tuple[float, Path, Key | None]] = []
        for path in filter(Path.is_file, self.folder.glob("[!.]*.engine")):
            with contextlib.suppress(FileNotFoundError):
                used, key = path.stat().st_mtime, None
                with contextlib.suppress(EngineFileError, OSError):
                    key = read_key(path)
                found.append((used, path, key))
        return [(path, key) for _, path, key in sorted(found, key=lambda e: (-e[0], e[1]))]

    def clear(self) -> list[Path]:
        """Delete every file of the cache; returns the engines among them. Raises `OSError`."""
        engines = [path for path, _ in self.entries()]
        leftovers = (".*", "*.lock", "timings-*")
        for path in (*engines, *(p for pattern in leftovers for p in self.folder.glob(pattern))):
            path.unlink(missing_ok=True)
        return engines

    def timings(self, key: Key) -> bytes:
        """The timing cache of a key's GPU from earlier compilations; empty if there is none."""
        with contextlib.suppress(EngineFileError, OSError):
            path = self._timings_file(key)
            self._check(path)
            return path.read_bytes()
        return b""

    def keep_timings(self, key: Key, timings: bytes) -> None:
        """Store a timing cache for the next compilation."""
        with contextlib.suppress(EngineFileError, OSError):
            if timings:  # TensorRT for RTX has none
                self._make()
                _write(self._timings_file(key), timings)

    def _timings_file(self, key: Key) -> Path:
        machine = re.sub("[^A-Za-z0-9_.-]", "_", f"{key.flavour}-{key.version}-{key.gpu}")
        return self.folder / f"timings-{machine}"

    def _make(self) -> None:
        if not self.folder.is_absolute():  # no HOME
            raise EngineFileError(
                f"there is no home folder for {self.folder}: set HOME or XDG_CACHE_HOME"
            )
        self.folder.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        self.folder.mkdir(mode=0o700, exist_ok=True)
        self._check(self.folder)

    def _check(self, path: Path) -> None:
        """Raise `EngineFileError` if other users can write it."""
        for part in {self.folder, path}:
            status = part.stat()
            if status.st_uid != os.getuid() or status.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
                raise EngineFileError(
                    f"{part} can be written by other users, expected mode"
                    f" {'0700' if part == self.folder else '0600'}"
                )

    @contextlib.contextmanager
    def _alone(self, key: Key, go_on: Callable[[], bool]) -> Iterator[None]:
        """Lock out other processes that make the same engine; without locks, do not wait."""
        with contextlib.ExitStack() as stack:
            with contextlib.suppress(EngineFileError, OSError):
                self._make()
                lock = self.folder / f"{key.file_name}.lock"
                file = stack.enter_context(open(lock, "w"))
                while True:
                    try:
                        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    except BlockingIOError:
                        if go_on():
                            time.sleep(_POLL)
                            continue
                    break
            yield
