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

"""Write the frames of recordings as a data set on disk, see `cli.bag`."""

from __future__ import annotations

import argparse
import json
from dataclasses import asdict, fields
from itertools import islice
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import Progress

from depthseg_ros.imaging.compressed import decode

from ..data.shards import ShardWriter, complete_shards, write_json
from ..errors import TrainingError
from ..options import check_same
from .recordings import Recording
from .selection import SECOND, Frame, Selection, Tally, Topics

FRAMES_PER_PART = 250


class DatasetWriter:
    """Writes the folder of a data set: its card, and the parts of each recording."""

    def __init__(self, folder: Path, options: argparse.Namespace) -> None:
        """Start or resume a data set.

        Raises:
            TrainingError: The folder has other files, or was written with other options.
        """
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
            check_same(folder, before, now)
        elif folder.is_dir() and any(folder.iterdir()):
            raise TrainingError(f"{folder} is not empty and not a data set with a card.json")

    def entry(self, path: Path) -> dict[str, Any]:
        """Return the card's entry of a bag; add one if the bag is new.

        Raises:
            TrainingError: The bag was read with other topics before.
        """
        recordings: list[dict[str, Any]] = self.card["recordings"]
        for entry in recordings:
            if Path(entry["bag"]).absolute() == path.absolute():
                for name in (field.name for field in fields(Topics)):
                    now = getattr(self.options, name.replace("image_topic", "topic"))
                    # Topics that are not given are found again, except those of ground truth.
                    if now or name in ("depth_topic", "labels_topic"):
                        check_same(self.folder, {name: entry[name]}, {name: now})
                return entry
        recordings.append({"name": f"{len(recordings):03}", "bag": str(path), "complete": False})
        return recordings[-1]

    def record(self, entry: dict[str, Any], bag: Recording, topics: Topics) -> None:
        """Write the frames of a bag that are not written yet."""
        entry |= asdict(topics)
        name, options = entry["name"], self.options
        self.folder.mkdir(parents=True, exist_ok=True)
        parts = complete_shards(self.folder)
        number = 1 + int(parts[-1].name.removeprefix("part-")) if parts else 0
        parts = [part for part in parts if part.about["recording"] == name]
        frames = [frame for part in parts for frame in part.frames]
        keys = {frame["key"] for frame in frames}
        tally, last = Tally(), None
        if parts:
            tally = Tally(**{field.name: parts[-1].about[field.name] for field in fields(Tally)})
            last = decode(parts[-1].read(frames[-1]["key"], frames[-1]["picture"]) or b"")
        self._update_card(entry, bag, tally, frames)
        selection = Selection(bag, topics, options.every, options.change, options.neighbours)
        console = Console(stderr=True)
        writer: ShardWriter | None = None
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
                    while (key := f"{name}-{at:019}") in keys:  # if the clock was set back
                        at += 1
                    keys.add(key)
                    frames.append({"key": key, **found})
                    writer = writer or ShardWriter(self.folder, f"part-{number:05}", options.packed)
                    writer.add(frames[-1], files)
                    if len(writer.frames) == FRAMES_PER_PART:
                        writer.finish(recording=name, **asdict(upto))
                        writer, number = None, number + 1
                        self._update_card(entry, bag, upto, frames, *selection.notes)
            if writer:
                writer.finish(recording=name, **asdict(upto))
        finally:
            if writer:
                writer.close()
        entry["complete"] = bool(frames)
        self._update_card(entry, bag, tally, frames, *selection.notes)

    def _update_card(
        self, entry: dict[str, Any], bag: Recording, tally: Tally, frames: list[Frame], *notes: str
    ) -> None:
        """Write the card with the present state of a recording."""
        entry |= {"frames": len(frames), "seen": tally.seen}
        entry["with_depth"] = sum("depth" in frame["truth"] for frame in frames)
        entry["duration"] = round((tally.ended - tally.began) / SECOND, 3)
        bad = f"{tally.bad} images cannot be read" if tally.bad else ""
        entry["lost"] = "; ".join(filter(None, (bag.lost, bad, *notes)))
        write_json(self.folder / "card.json", self.card)
