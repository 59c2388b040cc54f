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

"""Shards of a data set on disk: folders, or tar files for WebDataset.

A shard is a folder with `part-00003/KEY.jpg`, `part-00003/KEY.depth.png` and so on, or a tar file
`part-00003.tar` with the same members. The index `part-00003.json` lists its frames and is written
last. Readers ignore a shard without an index, and writers replace it. So interrupted work resumes
after the last complete shard, and several processes or machines can write and label shards.
"""

from __future__ import annotations

import io
import json
import os
import shutil
import tarfile
from collections.abc import Mapping
from contextlib import suppress
from functools import cached_property
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from depthseg_ros.files import whole
from depthseg_ros.imaging import image_files
from depthseg_ros.imaging.compressed import decode

from ..errors import TrainingError


class Shard:
    """A complete shard: its frames and their files."""

    def __init__(self, index: Path) -> None:
        """Open the shard of an index file; raises `TrainingError` if the index is invalid."""
        self.folder, self.name = index.parent, index.stem
        try:
            self.about: dict[str, Any] = json.loads(index.read_text())
            """Entries of the index other than the frames."""
            self.frames: list[dict[str, Any]] = self.about.pop("frames")
            self.keys = [str(frame["key"]) for frame in self.frames]
            outside = [key for key in self.keys if not key or Path(key).name != key]
            if outside:  # keys become file names that are read and written: stay in the folder
                raise ValueError(f"the key {outside[0]!r} is not a file name")
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            raise TrainingError(
                f"{index} is not a valid shard index: {error!r}; remove it to create the shard"
                " again"
            ) from None

    @property
    def packed(self) -> bool:
        """Whether it is a tar file."""
        return (self.folder / f"{self.name}.tar").is_file()

    def path(self, key: str, ending: str) -> Path:
        """Path of a file in a folder shard; in a tar shard, its name for error messages."""
        return self.folder / self.name / f"{key}.{ending}"

    def has(self, key: str, ending: str) -> bool:
        """Check whether a frame has a file; raises `TrainingError` if the tar file is damaged."""
        if not self.packed:
            return self.path(key, ending).is_file()
        try:
            return f"{key}.{ending}" in self._members
        except (OSError, tarfile.TarError) as error:
            raise TrainingError(f"{self.folder / self.name}.tar cannot be read: {error}") from None

    def read(self, key: str, ending: str) -> bytes | None:
        """Read a file of a frame; returns None if there is none with this ending.

        Raises:
            TrainingError: the file cannot be read.
        """
        try:
            if not self.packed:
                path = self.path(key, ending)
                return path.read_bytes() if path.is_file() else None
            place = self._members.get(f"{key}.{ending}")
            if place is None:
                return None
            with (self.folder / f"{self.name}.tar").open("rb") as file:
                file.seek(place[0])
                return file.read(place[1])
        except (OSError, tarfile.TarError) as error:
            raise TrainingError(f"{self.path(key, ending)} cannot be read: {error}") from None

    def image(self, frame: Mapping[str, Any], view: str = "") -> NDArray[np.uint8]:
        """Read the image of a frame, or its view `previous.` or `next.`: (H, W, 3) uint8 RGB.

        Raises:
            TrainingError: the image is missing or damaged.
        """
        ending = f"{view}{frame['picture']}"
        try:
            return decode(self.read(frame["key"], ending) or b"")
        except ValueError as error:
            raise TrainingError(f"{self.path(frame['key'], ending)}: {error}") from None

    def gray(self, key: str, name: str) -> NDArray[Any] | None:
        """Read `name.png` of a frame: (H, W), as stored; None if there is none.

        Raises:
            TrainingError: the image is damaged, or has several channels.
        """
        content, array = self.read(key, f"{name}.png"), None
        if content is None:
            return None
        with suppress(ValueError):
            array = image_files.decode(content, cv2.IMREAD_UNCHANGED)
        if array is None or array.ndim != 2:
            raise TrainingError(f"{self.path(key, name)}.png is not an image of one channel")
        return array

    @cached_property
    def _members(self) -> dict[str, tuple[int, int]]:
        """Offset and size in bytes of each member of the tar file."""
        with tarfile.open(self.folder / f"{self.name}.tar", "r:") as tar:
            return {member.name: (member.offset_data, member.size) for member in tar}


class ShardWriter:
    """Writes one shard, which readers ignore until `finish`. Use `close` to discard it."""

    def __init__(self, folder: Path, name: str, packed: bool = False) -> None:
        """Start shard `name` in a folder (`packed`: as a tar file); replaces an unfinished one."""
        self._folder, self._name = folder, name
        folder.mkdir(parents=True, exist_ok=True)
        self._files = folder / name
        self._tar: tarfile.TarFile | None = None
        shutil.rmtree(self._files, ignore_errors=True)
        for left in (folder / f"{name}.tar", *folder.glob(f".{name}.tar.*")):
            left.unlink(missing_ok=True)
        if packed:
            self._unfinished = folder / f".{name}.tar.{os.getpid()}"
            self._tar = tarfile.TarFile(self._unfinished, "w", format=tarfile.USTAR_FORMAT)
        else:
            self._files.mkdir()
        self.frames: list[dict[str, Any]] = []

    def add(self, frame: Mapping[str, Any], files: Mapping[str, bytes]) -> None:
        """Add a frame with its `key`, and its files by ending; stores the frame itself as JSON."""
        self.frames.append(dict(frame))
        for ending, content in {**files, "json": json.dumps(frame).encode()}.items():
            name = f"{frame['key']}.{ending}"
            if self._tar is None:
                (self._files / name).write_bytes(content)
            else:
                member = tarfile.TarInfo(name)
                member.size = len(content)
                self._tar.addfile(member, io.BytesIO(content))

    def finish(self, **more: Any) -> Shard:
        """Complete the shard by writing its index, with `more` entries in addition to frames."""
        if self._tar is not None:
            self._tar.close()
            self._unfinished.replace(self._folder / f"{self._name}.tar")
        index = self._folder / f"{self._name}.json"
        write_json(index, {"frames": self.frames, **more})
        return Shard(index)

    def close(self) -> None:
        """Remove the files of a shard that is not finished."""
        if self._tar is not None:
            with suppress(OSError):  # for example if the disk is full
                self._tar.close()
            self._unfinished.unlink(missing_ok=True)
        elif not (self._folder / f"{self._name}.json").is_file():
            shutil.rmtree(self._files, ignore_errors=True)


def complete_shards(folder: Path) -> list[Shard]:
    """Open the complete shards of a folder, sorted by name."""
    return [Shard(index) for index in sorted(folder.glob("part-[0-9]*.json"))]


def to_png(array: NDArray[Any]) -> bytes:
    """Encode (H, W) uint8 or uint16 as PNG."""
    return cv2.imencode(".png", array)[1].tobytes()


def depth_to_png(depth: NDArray[np.float32]) -> bytes:
    """Encode depth (H, W), metres, as 16-bit PNG of metres * 256; 0: unknown or out of range."""
    stored = np.rint(np.nan_to_num(depth, posinf=0, neginf=0) * 256)
    return to_png(np.where((stored > 0) & (stored < 2**16), stored, 0).astype(np.uint16))


def write_json(path: Path, content: Any) -> None:
    """Write a JSON file atomically."""
    with whole(path) as unfinished:
        unfinished.write_text(json.dumps(content, indent=1) + "\n")
