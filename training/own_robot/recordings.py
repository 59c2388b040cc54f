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

"""Robots' recordings: rosbag2, by the rosbags library, without ROS.

Each file of a bag is read by itself, so that what is missing or damaged costs no more than itself;
a file that rosbags refuses is read record by record, as far as it goes. Of message types only those
of cameras matter, which are the same in every ROS 2: definitions in the bag are not needed.
"""

from __future__ import annotations

import os
import re
import shutil
import sqlite3
import struct
from collections import Counter
from collections.abc import Callable, Collection, Iterator
from contextlib import closing, contextmanager
from functools import cache
from io import BytesIO
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, BinaryIO
from urllib.parse import quote

import lz4.frame
import yaml
from rosbags.rosbag2 import Reader
from rosbags.serde import SerdeError
from rosbags.typesys import Stores, get_typestore

from depthseg_ros.texts import shortened

from ..errors import TrainingError

try:
    from compression import zstd
except ImportError:  # before Python 3.14; rosbags brings it
    from backports import zstd

IMAGE, COMPRESSED_IMAGE, CAMERA_INFO = (
    f"sensor_msgs/msg/{name}" for name in ("Image", "CompressedImage", "CameraInfo")
)

Message = tuple[str, str, int, bytes]
"""Topic, type, when it was recorded (ns), the message as it was sent (CDR)."""

_MCAP, _SQLITE, _ZSTD = b"\x89MCAP0\r\n", b"SQLite format 3\0", b"\x28\xb5\x2f\xfd"
_SCHEMA, _CHANNEL, _MESSAGE, _CHUNK = 3, 4, 5, 6  # records of MCAP
_UNPACKERS = {"zstd": zstd.ZstdDecompressor, "lz4": lz4.frame.LZ4FrameDecompressor}


class Recording:
    """A bag: its topics, and their messages in the order of recording."""

    def __init__(self, path: Path) -> None:
        """Look into a folder of rosbag2, or a single `.mcap` or `.db3`.

        Raises:
            TrainingError: it is none, or nothing of it can be read.
        """
        self.path = path
        self._lost: dict[str, str] = {}
        self._ends: dict[str, int] = {}
        listed, counts = self._metadata()
        there = _files(path)
        kept = [*listed, *(name for name in there if f"{name}.zstd" not in there)]
        self.files = [there[name] for name in dict.fromkeys(kept) if name in there]
        self._lost |= {name: "is missing" for name in listed if name not in there}
        for file in self.files:
            if file.name not in listed:
                counts += self._counts(file)
        self.topics = {name: (kind, count) for (name, kind), count in sorted(counts.items())}
        """Name -> type and number of messages, as far as is known."""
        if not self.topics or not self.files:
            raise TrainingError(
                f"nothing can be read of {path}: {self.lost or 'it has no .mcap, .db3 or messages'}"
            )

    @property
    def lost(self) -> str:
        """What could not be read so far, in one line; empty if nothing."""
        return shortened("; ".join(f"{name} {what}" for name, what in self._lost.items()), 400)

    def messages(self, topics: Collection[str], start: int = 0) -> Iterator[Message]:
        """The messages of some topics that were recorded at `start` (ns) or later."""
        for file in self.files:
            if self._ends.get(file.name, start) >= start:
                with self._plain(file) as plain:
                    yield from self._of_file(file.name, plain, topics, start)

    def inspect(
        self, topics: Collection[str], most: int, enough: Callable[[str, bytes], bool]
    ) -> None:
        """Call `enough` with each topic and its first messages, until it is true or `most` came."""
        left = {topic: most for topic in topics if self.topics[topic][1]}
        for file in self.files:
            if not left:
                break
            with self._plain(file) as plain:
                for topic in list(left):
                    for *_, raw in self._of_file(file.name, plain, [topic], 0):
                        left[topic] -= 1
                        if enough(topic, raw) or not left[topic]:
                            del left[topic]
                            break

    def _metadata(self) -> tuple[list[str], Counter[tuple[str, str]]]:
        """The files that `metadata.yaml` names, and how many messages of a topic and type."""
        if not self.path.is_dir():
            return [], Counter()
        try:
            metadata = yaml.safe_load((self.path / "metadata.yaml").read_text("utf-8-sig"))
            about = metadata["rosbag2_bagfile_information"]
            ends = {
                Path(file["path"]).name: int(file["starting_time"]["nanoseconds_since_epoch"])
                + int(file["duration"]["nanoseconds"])
                for file in about.get("files") or ()
            }
            counts: Counter[tuple[str, str]] = Counter()
            for of_topic in about["topics_with_message_count"]:
                topic = of_topic["topic_metadata"]
                counts[str(topic["name"]), str(topic["type"])] += int(of_topic["message_count"])
            names = [Path(name).name for name in about["relative_file_paths"]]
            self._ends |= ends
            return names, counts
        except FileNotFoundError:
            self._lost["metadata.yaml"] = "is missing: the recording was not ended in order"
        except (
            yaml.YAMLError,
            ValueError,  # not UTF-8, dates and numbers that are none
            LookupError,
            TypeError,
            AttributeError,
            OverflowError,
            RecursionError,
        ):
            self._lost["metadata.yaml"] = "is damaged"
        return [], Counter()

    def _counts(self, file: Path) -> Counter[tuple[str, str]]:
        """How many messages of a topic and type a file has."""
        with self._plain(file) as plain:
            try:
                with Reader(plain) as reader:
                    return Counter(
                        {(str(c.topic), str(c.msgtype)): c.msgcount for c in reader.connections}
                    )
            except Exception:  # see `_of_file`
                messages = self._of_file(file.name, plain, None, 0)
                return Counter((topic, kind) for topic, kind, *_ in messages)

    def _of_file(
        self, name: str, plain: Path, topics: Collection[str] | None, start: int
    ) -> Iterator[Message]:
        """The messages of a file by way of what it is unpacked to."""
        try:
            if _journal(plain):
                raise ValueError("its last messages lie in a journal")  # rosbags leaves those
            with Reader(plain) as reader:
                wanted = [c for c in reader.connections if topics is None or c.topic in topics]
                for c, time, raw in reader.messages(wanted, start) if wanted else ():
                    start = time + 1
                    yield c.topic, c.msgtype, time, _unpacked(raw)
            return
        except Exception as error:  # damage shows in errors of every kind
            reason = shortened(str(error), 200) or type(error).__name__
        self._lost[name] = f"is damaged or was not closed, read as far as it goes: {reason}"
        try:
            for topic, kind, time, raw in _salvaged(plain):
                if time >= start and (topics is None or topic in topics):
                    yield topic, kind, time, _unpacked(raw)
        except (ValueError, OSError, OverflowError, sqlite3.Error) as error:
            self._lost[name] = shortened(str(error), 200)

    @contextmanager
    def _plain(self, file: Path) -> Iterator[Path]:
        """The file, unpacked to a temporary folder if it is compressed as a whole."""
        if file.suffix != ".zstd":
            yield file
            return
        with TemporaryDirectory() as folder:
            plain = Path(folder, file.stem)
            with zstd.open(file) as packed, plain.open("wb") as unpacked:
                try:
                    shutil.copyfileobj(packed, unpacked)
                except (EOFError, zstd.ZstdError) as error:
                    self._lost[file.name] = f"is cut off or damaged: {error}"
            yield plain


def _files(path: Path) -> dict[str, Path]:
    """The files of a bag by name, in the order of the numbers at their ends."""
    pattern = re.compile(r"(\d*)\.(mcap|db3)(\.zstd)?$")
    if path.is_file() and pattern.search(path.name):
        return {path.name: path}
    if not path.is_dir():
        what = "no bag of rosbag2" if path.exists() else "not there"
        hint = " (one of ROS 1: convert it by rosbags-convert)" if path.suffix == ".bag" else ""
        raise TrainingError(f"{path} is {what}, expected a folder, .mcap or .db3{hint}")
    names = (f for f in path.iterdir() if not f.name.startswith("."))  # `._x.mcap` of a Mac is none
    found = [(int(m[1] or 0), f.name, f) for f in names if (m := pattern.search(f.name))]
    return {name: file for _, name, file in sorted(found)}


def _unpacked(raw: bytes) -> bytes:
    """A message, which may be compressed by itself; plain ones begin with 0."""
    if not raw.startswith(_ZSTD):
        return raw
    try:
        return zstd.decompress(raw)
    except zstd.ZstdError:
        return b""


def _journal(path: Path) -> bool:
    """Whether an SQLite file has messages beside it that can be brought in."""
    journal = Path(f"{path}-wal")
    return journal.is_file() and journal.stat().st_size > 0 and os.access(path.parent, os.W_OK)


def _salvaged(path: Path) -> Iterator[Message]:
    """What can be read of a damaged file; raises `ValueError` where it is of another kind."""
    with path.open("rb") as file:
        magic = file.read(16)
        if magic == _SQLITE:
            yield from _salvaged_sqlite(path)
        elif magic.startswith(_MCAP):
            file.seek(len(_MCAP))
            yield from _salvaged_mcap(file, {}, {})
        else:
            raise ValueError("is neither MCAP nor SQLite; encrypted?" if magic else "is empty")


def _salvaged_mcap(
    file: BinaryIO, kinds: dict[int, str], channels: dict[int, tuple[str, str]]
) -> Iterator[Message]:
    """The messages of MCAP records in their order, also of a chunk that is cut off."""
    at = file.tell()
    end = file.seek(0, 2)
    while at + 9 <= end:
        file.seek(at)
        record, size = struct.unpack("<BQ", file.read(9))
        wanted = record in (_SCHEMA, _CHANNEL, _MESSAGE, _CHUNK)
        content = BytesIO(file.read(min(size, end - at - 9)) if wanted else b"")
        at += 9 + size
        try:
            if record == _SCHEMA:
                (number,) = struct.unpack("<H", content.read(2))
                kinds[number] = _text(content)
            elif record == _CHANNEL:
                number, schema = struct.unpack("<HH", content.read(4))
                channels[number] = _text(content), kinds[schema]
            elif record == _MESSAGE and at <= end:
                number, _, time, _ = struct.unpack("<HIQQ", content.read(22))
                yield *channels[number], time, content.read()
            elif record == _CHUNK:
                content.seek(28)
                packing = _text(content)
                content.seek(8, 1)
                records = content.read()
                if packing:
                    records = _UNPACKERS[packing]().decompress(records)
                yield from _salvaged_mcap(BytesIO(records), kinds, channels)
        except (
            struct.error,
            UnicodeDecodeError,
            KeyError,
            EOFError,
            MemoryError,  # damaged sizes
            RuntimeError,
            zstd.ZstdError,
        ):
            continue  # with the next record


def _text(content: BinaryIO) -> str:
    return content.read(*struct.unpack("<I", content.read(4))).decode()


def _salvaged_sqlite(path: Path) -> Iterator[Message]:
    """The messages in the order of their ids, leaving out what cannot be read."""
    how = "mode=ro" if _journal(path) else "immutable=1"
    query = "SELECT id,topic_id,timestamp,data FROM messages WHERE id > ? ORDER BY id"
    last, skip = 0, 1
    with closing(sqlite3.connect(f"file:{quote(str(path))}?{how}", uri=True)) as data:
        data.execute("PRAGMA writable_schema=ON")  # or a file that is cut off is refused as a whole
        topics = {
            number: (str(name), str(kind))
            for number, name, kind in data.execute("SELECT id,name,type FROM topics")
        }
        while skip < 2**20:
            try:
                for number, topic, time, raw in data.execute(query, (last,)):
                    if number > last and topic in topics:  # damage may lead in circles
                        last, skip = number, 1
                        if isinstance(time, int) and isinstance(raw, bytes):  # a cell may be any
                            yield *topics[topic], time, raw
                return
            except sqlite3.DatabaseError:  # damage in the middle costs what lies there
                last, skip = last + skip, 2 * skip


@cache
def _types() -> Any:
    return get_typestore(Stores.ROS2_HUMBLE)


def parsed(raw: bytes, kind: str) -> Any:
    """A message, with the fields of its type; raises `ValueError` where it is damaged."""
    try:
        return _types().deserialize_cdr(raw, kind)
    except (SerdeError, KeyError) as error:  # KeyError: a damaged type
        raise ValueError(shortened(str(error), 200)) from None


def stamp_of(raw: bytes, recorded: int) -> int:
    """The stamp of a message that begins with a header, ns; when it was recorded if it has none."""
    if len(raw) < 12:
        return recorded
    seconds, nanoseconds = struct.unpack_from("<iI" if raw[1] & 1 else ">iI", raw, 4)
    stamp = int(seconds) * 10**9 + int(nanoseconds)
    return stamp if stamp > 0 else recorded
