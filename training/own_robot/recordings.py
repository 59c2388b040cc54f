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

"""Read rosbag2 recordings with the rosbags library, without ROS.

Each file of a bag is read separately, so the others can be read if one is missing or damaged. A
file that rosbags cannot open is read record by record, as far as possible. Only messages of cameras
are needed. They are the same in every ROS 2, so message definitions in the bag are not used.
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
"""Topic, type, time of recording (ns), serialised message (CDR)."""

_MCAP, _SQLITE, _ZSTD = b"\x89MCAP0\r\n", b"SQLite format 3\0", b"\x28\xb5\x2f\xfd"
_SCHEMA, _CHANNEL, _MESSAGE, _CHUNK = 3, 4, 5, 6  # records of MCAP
_UNPACKERS = {"zstd": zstd.ZstdDecompressor, "lz4": lz4.frame.LZ4FrameDecompressor}


class Recording:
    """A bag: its topics, and their messages in the order of recording."""

    def __init__(self, path: Path) -> None:
        """Open a rosbag2 folder, or a single `.mcap` or `.db3` file.

        Raises:
            TrainingError: It is not a recording, or nothing can be read.
        """
        self.path = path
        self._lost: dict[str, str] = {}
        self._ends: dict[str, int] = {}
        listed, counts = self._metadata()
        found = _files(path)
        names = [*listed, *(name for name in found if f"{name}.zstd" not in found)]
        self.files = [found[name] for name in dict.fromkeys(names) if name in found]
        self._lost |= {name: "is missing" for name in listed if name not in found}
        for file in self.files:
            if file.name not in listed:
                counts += self._counts(file)
        self.topics = {name: (kind, count) for (name, kind), count in sorted(counts.items())}
        """Name -> type and number of messages, as far as known."""
        if not self.topics or not self.files:
            raise TrainingError(
                f"cannot read anything from {path}:"
                f" {self.lost or 'it has no .mcap, .db3 or messages'}"
            )

    @property
    def lost(self) -> str:
        """What could not be read so far, in one line; empty if everything could be read."""
        return shortened("; ".join(f"{name} {what}" for name, what in self._lost.items()), 400)

    def messages(self, topics: Collection[str], start: int = 0) -> Iterator[Message]:
        """Read the messages of these topics that were recorded at `start` (ns) or later."""
        for file in self.files:
            if self._ends.get(file.name, start) >= start:
                with self._unpacked_file(file) as unpacked:
                    yield from self._of_file(file.name, unpacked, topics, start)

    def inspect(
        self, topics: Collection[str], most: int, enough: Callable[[str, bytes], bool]
    ) -> None:
        """Call `enough` with the first messages of each topic, at most `most`, until it is true."""
        left = {topic: most for topic in topics if self.topics[topic][1]}
        for file in self.files:
            if not left:
                break
            with self._unpacked_file(file) as unpacked:
                for topic in list(left):
                    for *_, raw in self._of_file(file.name, unpacked, [topic], 0):
                        left[topic] -= 1
                        if enough(topic, raw) or not left[topic]:
                            del left[topic]
                            break

    def _metadata(self) -> tuple[list[str], Counter[tuple[str, str]]]:
        """Read the names of files, and the number of messages by topic and type."""
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
            self._lost["metadata.yaml"] = "is missing: the recording was not closed"
        except (
            yaml.YAMLError,
            ValueError,  # not UTF-8, invalid dates and numbers
            LookupError,
            TypeError,
            AttributeError,
            OverflowError,
            RecursionError,
        ):
            self._lost["metadata.yaml"] = "is damaged"
        return [], Counter()

    def _counts(self, file: Path) -> Counter[tuple[str, str]]:
        """Count the messages of a file by topic and type."""
        with self._unpacked_file(file) as unpacked:
            try:
                with Reader(unpacked) as reader:
                    return Counter(
                        {(str(c.topic), str(c.msgtype)): c.msgcount for c in reader.connections}
                    )
            except Exception:  # see `_of_file`
                messages = self._of_file(file.name, unpacked, None, 0)
                return Counter((topic, kind) for topic, kind, *_ in messages)

    def _of_file(
        self, name: str, file: Path, topics: Collection[str] | None, start: int
    ) -> Iterator[Message]:
        """Read the messages of an uncompressed file; `name` is for `lost`."""
        try:
            if _has_journal(file):
                raise ValueError("its last messages are in a journal")  # rosbags skips those
            with Reader(file) as reader:
                wanted = [c for c in reader.connections if topics is None or c.topic in topics]
                for c, time, raw in reader.messages(wanted, start) if wanted else ():
                    start = time + 1
                    yield c.topic, c.msgtype, time, _unpacked(raw)
            return
        except Exception as error:  # damaged files cause errors of many kinds
            reason = shortened(str(error), 200) or type(error).__name__
        self._lost[name] = f"is damaged or was not closed, read as far as possible: {reason}"
        try:
            for topic, kind, time, raw in _salvaged(file):
                if time >= start and (topics is None or topic in topics):
                    yield topic, kind, time, _unpacked(raw)
        except (ValueError, OSError, OverflowError, sqlite3.Error) as error:
            self._lost[name] = shortened(str(error), 200)

    @contextmanager
    def _unpacked_file(self, file: Path) -> Iterator[Path]:
        """Unpack a compressed file to a temporary folder; others are returned as they are."""
        if file.suffix != ".zstd":
            yield file
            return
        with TemporaryDirectory() as folder:
            path = Path(folder, file.stem)
            with zstd.open(file) as packed, path.open("wb") as unpacked:
                try:
                    shutil.copyfileobj(packed, unpacked)
                except (EOFError, zstd.ZstdError) as error:
                    self._lost[file.name] = f"is truncated or damaged: {error}"
            yield path


def _files(path: Path) -> dict[str, Path]:
    """Find the files of a bag, in the order of the numbers at the end of their names."""
    pattern = re.compile(r"(\d*)\.(mcap|db3)(\.zstd)?$")
    if path.is_file() and pattern.search(path.name):
        return {path.name: path}
    if not path.is_dir():
        what = "is not a rosbag2 recording" if path.exists() else "does not exist"
        hint = " (ROS 1 bag: convert it with rosbags-convert)" if path.suffix == ".bag" else ""
        raise TrainingError(f"{path} {what}, expected a folder, .mcap or .db3{hint}")
    files = (f for f in path.iterdir() if not f.name.startswith("."))  # macOS writes `._x.mcap`
    found = [(int(m[1] or 0), f.name, f) for f in files if (m := pattern.search(f.name))]
    return {name: file for _, name, file in sorted(found)}


def _unpacked(raw: bytes) -> bytes:
    """Decompress a message if it is compressed; others begin with 0."""
    if not raw.startswith(_ZSTD):
        return raw
    try:
        return zstd.decompress(raw)
    except zstd.ZstdError:
        return b""


def _has_journal(path: Path) -> bool:
    """Whether an SQLite file has a journal with messages, which SQLite can write into it."""
    journal = Path(f"{path}-wal")
    return journal.is_file() and journal.stat().st_size > 0 and os.access(path.parent, os.W_OK)


def _salvaged(path: Path) -> Iterator[Message]:
    """Read the messages of a damaged file; raises `ValueError` if it is not MCAP or SQLite."""
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
    """Read the messages of MCAP records in order, also from a truncated chunk."""
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
            continue


def _text(content: BinaryIO) -> str:
    return content.read(*struct.unpack("<I", content.read(4))).decode()


def _salvaged_sqlite(path: Path) -> Iterator[Message]:
    """Read the messages in order of their ids; skip those that cannot be read."""
    how = "mode=ro" if _has_journal(path) else "immutable=1"
    query = "SELECT id,topic_id,timestamp,data FROM messages WHERE id > ? ORDER BY id"
    last, skip = 0, 1
    with closing(sqlite3.connect(f"file:{quote(str(path))}?{how}", uri=True)) as data:
        data.execute("PRAGMA writable_schema=ON")  # otherwise SQLite rejects truncated files
        topics = {
            number: (str(name), str(kind))
            for number, name, kind in data.execute("SELECT id,name,type FROM topics")
        }
        while skip < 2**20:
            try:
                for number, topic, time, raw in data.execute(query, (last,)):
                    if number > last and topic in topics:  # damaged files may have loops
                        last, skip = number, 1
                        if isinstance(time, int) and isinstance(raw, bytes):
                            yield *topics[topic], time, raw
                return
            except sqlite3.DatabaseError:  # skip the damaged region
                last, skip = last + skip, 2 * skip


@cache
def _types() -> Any:
    return get_typestore(Stores.ROS2_HUMBLE)


def parsed(raw: bytes, kind: str) -> Any:
    """Deserialise a message; raises `ValueError` if it is damaged."""
    try:
        return _types().deserialize_cdr(raw, kind)
    except (SerdeError, KeyError) as error:  # KeyError: unknown type
        raise ValueError(shortened(str(error), 200)) from None


def stamp_of(raw: bytes, recorded: int) -> int:
    """The stamp of a message that begins with a header, ns; `recorded` if it is zero."""
    if len(raw) < 12:
        return recorded
    seconds, nanoseconds = struct.unpack_from("<iI" if raw[1] & 1 else ">iI", raw, 4)
    stamp = int(seconds) * 10**9 + int(nanoseconds)
    return stamp if stamp > 0 else recorded
