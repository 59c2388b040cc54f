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

"""Parts of a data set on disk: folders, or tar files for WebDataset, each complete or absent.

`part-00003/KEY.jpg`, `part-00003/KEY.depth.png` and so on, or the same members in `part-00003.tar`;
beside it `part-00003.json` lists the part's frames. That file comes last: a part without it does
not exist for readers, and is written again. So interrupted work resumes after the last whole part,
and parts can be made and labelled by as many processes and machines as there are.
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
    """A complete part: its frames and their files."""

    def __init__(self, index: Path) -> None:
        """Open the part of an index file; raises `TrainingError` where that cannot be read."""
        self.folder, self.name = index.parent, index.stem
        try:
            self.about: dict[str, Any] = json.loads(index.read_text())
            """Entries of the index other than the frames."""
            self.frames: list[dict[str, Any]] = self.about.pop("frames")
            self.keys = [str(frame["key"]) for frame in self.frames]
            outside = [key for key in self.keys if not key or Path(key).name != key]
            if outside:  # they name files, to be read and, of labels, to be written
                raise ValueError(f"the key {outside[0]!r} is no file's name")
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            raise TrainingError(
                f"{index} is no part's index: {error!r}; remove it to make the part anew"
            ) from None

    @property
    def packed(self) -> bool:
        """Whether it is a tar file."""
        return (self.folder / f"{self.name}.tar").is_file()

    def path(self, key: str, ending: str) -> Path:
        """What to call a file in messages; where it lies, if the part is a folder."""
        return self.folder / self.name / f"{key}.{ending}"

    def has(self, key: str, ending: str) -> bool:
        """Whether a frame has a file; raises `TrainingError` if the tar file is damaged."""
        if not self.packed:
            return self.path(key, ending).is_file()
        try:
            return f"{key}.{ending}" in self._members
        except (OSError, tarfile.TarError) as error:
            raise TrainingError(f"{self.folder / self.name}.tar cannot be read: {error}") from None

    def read(self, key: str, ending: str) -> bytes | None:
        """A file's content; None where the frame has none of that ending.

        Raises:
            TrainingError: it cannot be read.
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
        """A frame's image, or with `previous.` or `next.` that view: (H, W, 3) RGB.

        Raises:
            TrainingError: It is missing or damaged.
        """
        ending = f"{view}{frame['picture']}"
        try:
            return decode(self.read(frame["key"], ending) or b"")
        except ValueError as error:
            raise TrainingError(f"{self.path(frame['key'], ending)}: {error}") from None

    def gray(self, key: str, name: str) -> NDArray[Any] | None:
        """A frame's `name.png`, (H, W) as stored; None if there is none.

        Raises:
            TrainingError: It is damaged, or has several channels.
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
        """Where each member of the tar file begins, and how long it is."""
        with tarfile.open(self.folder / f"{self.name}.tar", "r:") as tar:
            return {member.name: (member.offset_data, member.size) for member in tar}


class PartWriter:
    """Writes one part; nobody sees it before `finish`. Close what is not to be finished."""

    def __init__(self, folder: Path, name: str, packed: bool = False) -> None:
        """Begin part `name` of a folder, in place of what is left of an unfinished one."""
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
        """Add a frame, `key` in it, and its files by ending; its own words lie beside as JSON."""
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
        """Let the part be there, with `more` beside its frames in the index."""
        if self._tar is not None:
            self._tar.close()
            self._unfinished.replace(self._folder / f"{self._name}.tar")
        index = self._folder / f"{self._name}.json"
        write_json(index, {"frames": self.frames, **more})
        return Shard(index)

    def close(self) -> None:
        """Leave nothing of a part that is not finished."""
        if self._tar is not None:
            with suppress(OSError):  # of a disk that is full
                self._tar.close()
            self._unfinished.unlink(missing_ok=True)
        elif not (self._folder / f"{self._name}.json").is_file():
            shutil.rmtree(self._files, ignore_errors=True)


def complete_parts(folder: Path) -> list[Shard]:
    """The parts of a folder in order of their names."""
    return [Shard(index) for index in sorted(folder.glob("part-[0-9]*.json"))]


def to_png(array: NDArray[Any]) -> bytes:
    """(H, W) uint8 or uint16 as PNG."""
    return cv2.imencode(".png", array)[1].tobytes()


def depth_to_png(depth: NDArray[np.float32]) -> bytes:
    """Depth (H, W) in metres as PNG: metres * 256 in 16 bits, 0 where unknown or farther."""
    stored = np.rint(np.nan_to_num(depth, posinf=0, neginf=0) * 256)
    return to_png(np.where((stored > 0) & (stored < 2**16), stored, 0).astype(np.uint16))


def write_json(path: Path, content: Any) -> None:
    """Write a JSON file, which is there wholly or not at all."""
    with whole(path) as unfinished:
        unfinished.write_text(json.dumps(content, indent=1) + "\n")
