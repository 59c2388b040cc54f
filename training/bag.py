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

"""`python -m training bag`: what a robot recorded becomes a data set of its pictures.

Frames are taken in steps of time, those left out that look like the one before, as when the robot
stands. Each keeps its stamp, its camera, the pictures shortly before and after, and what truth the
bag has, as of an RGB-D camera. They lie on disk in parts (`datasets.parts`), which are complete or
absent: given again, the command goes on after the last one.
"""

from __future__ import annotations

import argparse
import errno
import json
import math
from dataclasses import asdict, fields
from itertools import islice
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import Progress

from depthseg_ros.compressed import decode

from .datasets.parts import PartWriter, complete_parts, write_json
from .errors import TrainingError
from .recordings import Recording
from .selection import SECOND, Frame, Selection, Tally, Topics, choose_topics, warn

FRAMES_PER_PART = 250


def main(arguments: list[str]) -> None:
    """Write the frames of bags; print a line of each, and what it lost."""
    parser = argparse.ArgumentParser(prog="python -m training bag", description=__doc__)
    add = parser.add_argument
    add(
        "--input",
        type=Path,
        nargs="+",
        required=True,
        metavar="BAG",
        help="rosbag2: folders, or .mcap or .db3",
    )
    add("--output", type=Path, required=True, metavar="DATASET", help="to write, or to go on with")
    add("--topic", help="of the pictures, where the bags have several")
    add("--camera-info-topic", metavar="TOPIC", help="default: camera_info beside the pictures")
    add("--depth-topic", metavar="TOPIC", help="measured depth of the same view, kept as truth")
    add("--labels-topic", metavar="TOPIC", help="class ids of the same view, kept as truth")
    add("--every", type=float, default=0.5, metavar="SECONDS", help="between frames (default: 0.5)")
    add(
        "--change",
        type=float,
        default=0.02,
        metavar="SHARE",
        help="of the range of gray by which frames differ at least (default: 0.02)",
    )
    add(
        "--neighbours",
        type=float,
        default=0.1,
        metavar="SECONDS",
        help="to the pictures kept before and after each frame (default: 0.1; 0: none)",
    )
    add(
        "--count",
        type=int,
        default=0,
        metavar="N",
        help="frames of each bag at most (default: all)",
    )
    add("--packed", action="store_true", help="write tar files, as WebDataset reads, not folders")
    options = parser.parse_args(arguments)
    numbers = (options.every, options.change, options.neighbours, options.count)
    if not all(0 <= number < math.inf for number in numbers):
        parser.error("--every, --change, --neighbours and --count: 0 or more")

    dataset = Dataset(options.output, options)
    entries = {path: dataset.entry(path) for path in options.input}
    # What cannot work is said before hours of work.
    bags = {path: Recording(path) for path, entry in entries.items() if not entry["complete"]}
    topics = {path: choose_topics(bag, options) for path, bag in bags.items()}
    for path, bag in bags.items():
        try:
            dataset.record(entries[path], bag, topics[path])
        except OSError as error:
            if error.errno not in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
                raise
            raise TrainingError(
                f"no space left, for {options.output} or temporary files: complete parts stay;"
                " make room and give the command again, it goes on"
            ) from None
    for path, entry in entries.items():
        done = "" if path in bags else "already there: "
        print(
            f"{entry['name']} {path}: {done}{entry['seen']} pictures seen, {entry['frames']} kept,"
            f" {entry['with_depth']} with depth, lost: {entry['lost'] or 'nothing'}"
        )
        if entry["lost"] and path in bags:
            warn(f"{path}: lost: {entry['lost']}")
    empty = [entry["bag"] for entry in entries.values() if not entry["frames"]]
    if empty:
        raise TrainingError(f"no picture could be read of {', '.join(empty)}")


class Dataset:
    """The folder that is written: its card, and the parts of each recording."""

    def __init__(self, folder: Path, options: argparse.Namespace) -> None:
        """Begin it, or go on with it; raises `TrainingError` where that cannot be."""
        self.folder, self.options = folder, options
        now = {name: getattr(options, name) for name in ("every", "change", "neighbours", "count")}
        self.card: dict[str, Any] = {"format": 1, **now, "recordings": []}
        path = folder / "card.json"
        if path.is_file():
            try:
                self.card = json.loads(path.read_text())
                before = {name: self.card[name] for name in now}
            except (ValueError, LookupError, TypeError) as error:
                raise TrainingError(f"{path} is not the card of frames: {error!r}") from None
            self._require_same(before, now)
        elif folder.is_dir() and any(folder.iterdir()):
            raise TrainingError(f"{folder} is neither empty nor a data set, which has a card.json")

    def entry(self, path: Path) -> dict[str, Any]:
        """The card's entry of a bag, added if it is new.

        Raises:
            TrainingError: it was read with other topics.
        """
        recordings: list[dict[str, Any]] = self.card["recordings"]
        for entry in recordings:
            if Path(entry["bag"]).absolute() == path.absolute():
                for name in (field.name for field in fields(Topics)):
                    now = getattr(self.options, name.replace("image_topic", "topic"))
                    # What is not given is found again; but truth is never taken unasked.
                    if now or name in ("depth_topic", "labels_topic"):
                        self._require_same({name: entry[name]}, {name: now})
                return entry
        recordings.append({"name": f"{len(recordings):03}", "bag": str(path), "complete": False})
        return recordings[-1]

    def _require_same(self, before: dict[str, Any], now: dict[str, Any]) -> None:
        differ = [f"{n} {was} before, {now[n]} now" for n, was in before.items() if was != now[n]]
        if differ:
            raise TrainingError(
                f"{self.folder} was made with other options ({', '.join(differ)}): give those, or"
                " another --output"
            )

    def record(self, entry: dict[str, Any], bag: Recording, topics: Topics) -> None:
        """Write the frames of a bag that are not there yet."""
        entry |= asdict(topics)
        name, options = entry["name"], self.options
        self.folder.mkdir(parents=True, exist_ok=True)
        parts = complete_parts(self.folder)
        number = 1 + int(parts[-1].name.removeprefix("part-")) if parts else 0
        parts = [part for part in parts if part.about["recording"] == name]
        frames = [frame for part in parts for frame in part.frames]
        keys = {frame["key"] for frame in frames}
        tally, last = Tally(), None
        if parts:
            tally = Tally(**{field.name: parts[-1].about[field.name] for field in fields(Tally)})
            last = decode(parts[-1].read(frames[-1]["key"], frames[-1]["picture"]) or b"")
        self._note(entry, bag, tally, frames)
        selection = Selection(bag, topics, options.every, options.change, options.neighbours)
        console = Console(stderr=True)
        writer: PartWriter | None = None
        try:
            with Progress(console=console, disable=not console.is_terminal) as progress:
                total = bag.topics[topics.image_topic][1]
                task = progress.add_task(
                    f"{name} {bag.path.name}", total=total, completed=tally.seen
                )
                chosen = selection.frames(tally, last, lambda: progress.advance(task))
                room = max(options.count - len(frames), 0) if options.count else None
                for found, files, upto in islice(chosen, room):
                    at = found["stamp"]
                    while (key := f"{name}-{at:019}") in keys:  # where the clock was set back
                        at += 1
                    keys.add(key)
                    frames.append({"key": key, **found})
                    writer = writer or PartWriter(self.folder, f"part-{number:05}", options.packed)
                    writer.add(frames[-1], files)
                    if len(writer.frames) == FRAMES_PER_PART:
                        writer.finish(recording=name, **asdict(upto))
                        writer, number = None, number + 1
                        self._note(entry, bag, upto, frames, *selection.notes)
            if writer:
                writer.finish(recording=name, **asdict(upto))
        finally:
            if writer:
                writer.close()
        entry["complete"] = bool(frames)
        self._note(entry, bag, tally, frames, *selection.notes)

    def _note(
        self, entry: dict[str, Any], bag: Recording, tally: Tally, frames: list[Frame], *notes: str
    ) -> None:
        """Bring the card up to date."""
        entry |= {"frames": len(frames), "seen": tally.seen}
        entry["with_depth"] = sum("depth" in frame["truth"] for frame in frames)
        entry["duration"] = round((tally.ended - tally.began) / SECOND, 3)
        bad = f"{tally.bad} pictures that cannot be read" if tally.bad else ""
        entry["lost"] = "; ".join(filter(None, (bag.lost, bad, *notes)))
        write_json(self.folder / "card.json", self.card)
