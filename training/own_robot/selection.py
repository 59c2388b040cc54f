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

"""Which pictures of a recording become frames of a data set, and what belongs to each."""

from __future__ import annotations

import argparse
import math
import re
import sys
from bisect import bisect_left, insort
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from functools import lru_cache
from operator import itemgetter
from typing import Any, NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from depthseg_ros.imaging.compressed import decode
from depthseg_ros.imaging.images import (
    camera_of,
    compressed_depth_to_metres,
    compressed_to_rgb,
    depth_to_metres,
    image_to_rgb,
    is_depth,
    labels_of,
)
from depthseg_ros.texts import shortened

from ..data.shards import depth_to_png, to_png
from ..errors import TrainingError
from .recordings import CAMERA_INFO, COMPRESSED_IMAGE, IMAGE, Recording, parsed, stamp_of

SECOND = 10**9
TRUTH_WITHIN = SECOND // 50
"""ns between the stamps of a picture and of depth or labels that belong to it, at most."""
LATENESS = SECOND // 2
"""ns by which messages of one stamp may be recorded apart."""
QUALITY = 95
"""Of the JPEG files that pictures become which are not compressed yet."""
LEAST_SIZE = 16
"""Pixels of width and height; of smaller images are what some cameras send as they start."""
PICTURE, DEPTH = "picture", "depth"
INSPECTED = 100
"""Messages of a topic at most, of which one must be an image that can be read."""
THUMBNAIL = (32, 24)
"""Width and height in which pictures are compared."""
NO_PICTURE = re.compile("label|mask|segment|confiden|traversab|overlay", re.IGNORECASE)
"""In names of topics that carry what was made of pictures."""

Frame = dict[str, Any]
Files = dict[str, bytes]


@dataclass(frozen=True)
class Topics:
    """Of one camera in a bag."""

    image_topic: str
    camera_info_topic: str | None
    depth_topic: str | None
    labels_topic: str | None


@dataclass
class Tally:
    """How far a recording has been read, and what was met; kept beside the frames of a part."""

    until: int = -1
    """When the last frame was recorded, ns."""
    stamp: int = -1
    """Its stamp, ns."""
    began: int = -1
    ended: int = -1
    """When the first and the last picture were recorded, ns."""
    seen: int = 0
    bad: int = 0


class Picture(NamedTuple):
    """A picture as it is written, and (H, W, 3) RGB."""

    data: bytes
    ending: str
    rgb: NDArray[np.uint8]


class Chosen(NamedTuple):
    """A frame that waits for what belongs to it, and the tally up to it."""

    stamp: int
    picture: Picture
    tally: Tally


class Series:
    """Messages of a topic, not decoded, in the order of their stamps."""

    def __init__(self) -> None:
        self.messages: list[tuple[int, bytes]] = []

    def add(self, stamp: int, raw: bytes, keep: int) -> None:
        """Add a message, and drop those that are older than the newest by more than `keep`, ns."""
        insort(self.messages, (stamp, raw), key=itemgetter(0))
        oldest = self.messages[-1][0] - keep
        del self.messages[: bisect_left(self.messages, oldest, key=itemgetter(0))]

    def nearest(self, stamp: float, within: float) -> tuple[int, bytes] | None:
        """The message nearest to a stamp, with its own."""
        at = bisect_left(self.messages, stamp, key=itemgetter(0))
        near = [m for m in self.messages[max(at - 1, 0) : at + 1] if abs(m[0] - stamp) <= within]
        return min(near, key=lambda message: abs(message[0] - stamp), default=None)


class Selection:
    """Chooses the frames of a recording, and gathers what belongs to each."""

    def __init__(
        self, bag: Recording, topics: Topics, every: float, change: float, neighbours: float
    ) -> None:
        """Say what to choose.

        Args:
            bag: The recording.
            topics: Of the camera.
            every: Seconds between frames; a tenth less will do.
            change: Share of the range of gray by which a frame must differ from the one before.
            neighbours: Seconds to the views before and after; 0 without.
        """
        self.bag, self.topics = bag, topics
        self.apart, self.change = 0.9 * SECOND * every, 255 * change
        self.beside, self.reach = SECOND * neighbours, round(1.5 * SECOND * neighbours)
        self.notes: dict[str, None] = {}
        """What was wrong, a line of each kind."""
        names = (topics.image_topic, topics.depth_topic, topics.labels_topic)
        self.series = {name: Series() for name in names if name}
        info = topics.camera_info_topic
        self.info: bytes | None = None
        if info:
            bag.inspect([info], 1, self._hear)

    def _hear(self, topic: str, raw: bytes) -> bool:
        """Take a camera_info."""
        self.info = raw
        return True

    def frames(
        self, tally: Tally, last: NDArray[np.uint8] | None, on_picture: Callable[[], None]
    ) -> Iterator[tuple[Frame, Files, Tally]]:
        """The frames after the one that a tally ends with, whose picture is `last`.

        The tally that is given goes on with every picture, of which `on_picture` hears.

        Yields:
            A frame, its files by ending, and the tally up to it.
        """
        image, info, after = self.topics.image_topic, self.topics.camera_info_topic, tally.until
        kept = None if last is None else thumbnail(last)
        looked: float = -math.inf if last is None else tally.stamp
        newest, waiting = 0, deque[Chosen]()
        topics = {*self.series, *([info] if info else [])}
        for topic, kind, time, raw in self.bag.messages(topics, after - self.reach - LATENESS):
            while waiting and time > waiting[0].tally.until + self.reach + LATENESS:
                yield self._frame(waiting.popleft())
            if topic == info:
                self.info = raw
                continue
            stamp = stamp_of(raw, time)
            if topic == image and stamp < newest - SECOND:  # the clock was set back
                yield from map(self._frame, waiting)
                waiting.clear()
                self.series = {name: Series() for name in self.series}
                newest, looked = 0, -math.inf
            past = newest - waiting[0].stamp if waiting else 0
            self.series[topic].add(stamp, raw, past + self.reach + LATENESS)
            if topic != image:
                continue
            newest = max(newest, stamp)
            if time <= after:  # a frame before this run has seen it
                continue
            tally.began, tally.ended = tally.began if tally.seen else time, time
            tally.seen += 1
            on_picture()
            if stamp - looked < self.apart:
                continue
            try:
                picture = read_picture(raw, kind)
            except ValueError as error:
                if not tally.bad:
                    self.notes[f"the first of them: {shortened(str(error), 200)}"] = None
                tally.bad += 1
                continue
            looked, small = stamp, thumbnail(picture.rgb)
            if kept is None or np.abs(small - kept).mean() >= self.change:
                kept = thumbnail(decode(picture.data))  # what a later run has, too
                waiting.append(Chosen(stamp, picture, replace(tally, until=time, stamp=stamp)))
        yield from map(self._frame, waiting)

    def _frame(self, chosen: Chosen) -> tuple[Frame, Files, Tally]:
        stamp, (data, ending, rgb), tally = chosen
        height, width = rgb.shape[:2]
        frame: Frame = {"stamp": stamp, "width": width, "height": height, "picture": ending}
        files = {ending: data}
        for view, sign in (("previous", -1), ("next", 1)):
            frame[view] = None
            found = self._nearest("image", stamp + sign * self.beside, self.beside / 2)
            if found is None or not self.beside:
                continue
            try:
                other = read_picture(found[1], found[2])
            except ValueError:
                continue
            if other.ending == ending and other.rgb.shape == rgb.shape:
                files[f"{view}.{ending}"] = other.data
                frame[view] = abs(found[0] - stamp) / SECOND
        frame["truth"] = []
        for what in ("depth", "labels"):
            found = self._nearest(what, stamp, TRUTH_WITHIN)
            if found is None:
                continue
            try:
                files[f"truth_{what}.png"] = read_truth(what, found[1], found[2], width, height)
                frame["truth"].append(what)
            except ValueError as error:
                self.notes[f"{what}: {error}"] = None
        frame["camera"] = None
        if self.info is not None:
            # A camera says the same again and again, but for the stamp.
            info, name = self.info[:4] + bytes(8) + self.info[12:], self.topics.image_topic
            rectified = name.removesuffix("/compressed").split("/")[-1].startswith("image_rect")
            frame["camera"], trouble = read_camera(info, width, height, rectified)
            self.notes |= {trouble: None} if trouble else {}
        return frame, files, tally

    def _nearest(self, what: str, stamp: float, within: float) -> tuple[int, bytes, str] | None:
        """Stamp, message and type of what is nearest to a stamp on a topic."""
        topic = getattr(self.topics, f"{what}_topic")
        found = self.series[topic].nearest(stamp, within) if topic else None
        return found and (*found, self.bag.topics[topic][0])


def read_picture(raw: bytes, kind: str) -> Picture:
    """The image of a message, as it came if that is a JPEG or PNG of it; raises `ValueError`."""
    message = parsed(raw, kind)
    rgb = compressed_to_rgb(message) if kind == COMPRESSED_IMAGE else image_to_rgb(message)
    height, width = rgb.shape[:2]
    if min(width, height) < LEAST_SIZE:
        raise ValueError(f"the image has only {width}x{height} pixels")
    if kind == COMPRESSED_IMAGE:
        data = bytes(message.data)
        # A mosaic becomes an image here, for readers of the data set do not know of it.
        if "bayer_" not in message.format.lower() or np.array_equal(decode(data), rgb):
            return Picture(data, "png" if data.startswith(b"\x89PNG") else "jpg", rgb)
    data = cv2.imencode(".jpg", rgb[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, QUALITY])[1].tobytes()
    return Picture(data, "jpg", rgb)


def read_truth(what: str, raw: bytes, kind: str, width: int, height: int) -> bytes:
    """The PNG of a message's `depth` or `labels` at a picture's size; raises `ValueError`."""
    message = parsed(raw, kind)
    truth: NDArray[Any]
    if what == "labels":
        truth = labels_of(message)
    elif kind == COMPRESSED_IMAGE:
        truth = compressed_depth_to_metres(message)
    else:
        truth = depth_to_metres(message)
    _require_shape(truth.shape[1], truth.shape[0], width, height)
    if truth.shape != (height, width):
        truth = cv2.resize(truth, (width, height), interpolation=cv2.INTER_NEAREST_EXACT)
    return to_png(truth) if what == "labels" else depth_to_png(truth.astype(np.float32, copy=False))


@lru_cache(4)
def read_camera(
    raw: bytes, width: int, height: int, rectified: bool
) -> tuple[dict[str, Any] | None, str]:
    """The camera of images of a size as frames have it, None if unknown; what is wrong, if any."""
    try:
        camera, assumed = camera_of(parsed(raw, CAMERA_INFO), width, height, rectified)
    except ValueError as error:
        return None, f"{error}; these frames have no focal length"
    about = {name: getattr(camera, name) for name in ("fx", "fy", "cx", "cy")}
    lens = {"model": camera.lens.model, "coefficients": camera.lens.coefficients}
    return {**about, "lens": lens}, assumed


def _require_shape(columns: int, rows: int, width: int, height: int) -> None:
    if abs(rows * width - columns * height) > 0.01 * columns * height:
        raise ValueError(f"{columns}x{rows} pixels have another shape than {width}x{height}")


def thumbnail(rgb: NDArray[np.uint8]) -> NDArray[np.float32]:
    """A small gray picture, 0 to 255, to be compared."""
    gray = cv2.cvtColor(rgb, cv2.COLOR_RGB2GRAY).astype(np.float32)
    return np.asarray(cv2.resize(gray, THUMBNAIL, interpolation=cv2.INTER_AREA), np.float32)


def choose_topics(bag: Recording, options: argparse.Namespace) -> Topics:
    """The topics of the command line, and what it leaves open of image and camera_info.

    Raises:
        TrainingError: one is not there or of another type, or there is no picture, or a choice.
    """
    images = [name for name, (kind, _) in bag.topics.items() if kind in (IMAGE, COMPRESSED_IMAGE)]
    infos = [name for name, (kind, _) in bag.topics.items() if kind == CAMERA_INFO]
    known = {"topic": images, "depth_topic": images, "labels_topic": images}
    for option, names in {**known, "camera_info_topic": infos}.items():
        name = getattr(options, option)
        if name is not None and name not in names:
            wanted = f"--{option.replace('_', '-')} {name}"
            raise TrainingError(f"{bag.path} has no {wanted}, only {_listed(bag, names)}")
    content = _contents(bag, images)
    pictures = [n for n, what in content.items() if what == PICTURE and not NO_PICTURE.search(n)]
    # Of a camera's pictures in two forms, the raw ones are as good or better.
    pictures = [n for n in pictures if n.removesuffix("/compressed") not in {*pictures} - {n}]
    if not options.topic and not pictures:
        reasons = {PICTURE: "named as if made of images, --topic takes it", DEPTH: "holds depth"}
        why = [f"; {name}: {reasons.get(what, what)}" for name, what in content.items()]
        raise TrainingError(
            f"{bag.path} has no image topic{' that can be read' if why else ''}, only"
            f" {_listed(bag, bag.topics)}{''.join(why)}"
        )
    if not options.topic and len(pictures) > 1:
        raise TrainingError(
            f"{bag.path} has {len(pictures)} image topics, {_listed(bag, pictures)}: choose one by"
            " --topic"
        )
    image = options.topic or pictures[0]
    beside = image.removesuffix("/compressed").rpartition("/")[0] + "/camera_info"
    info = options.camera_info_topic or (beside if beside in infos else None)
    if info is None:
        warn(
            f"{bag.path} has no {beside}: of pictures without a focal length no metric depth is"
            f" learned; --camera-info-topic takes one of {_listed(bag, infos)}"
        )
    # Not taken unasked: it may be of another view, or what a network said.
    depth = [name for name, what in content.items() if what == DEPTH]
    if depth and not options.depth_topic:
        warn(
            f"{bag.path} has depth, {_listed(bag, depth)}: --depth-topic takes one as truth, if it"
            f" was measured and is registered to {image}"
        )
    return Topics(image, info, options.depth_topic, options.labels_topic)


def _contents(bag: Recording, names: Iterable[str]) -> dict[str, str]:
    """What topics of images hold: `PICTURE`, `DEPTH` or why it cannot be read, the first reason."""
    contents: dict[str, str] = {}
    reasons: dict[str, str] = {}

    def judge(topic: str, raw: bytes) -> bool:
        kind = bag.topics[topic][0]
        try:
            contents[topic] = DEPTH if is_depth(parsed(raw, kind)) else PICTURE
            if contents[topic] == PICTURE:
                read_picture(raw, kind)
        except ValueError as error:
            contents[topic] = reasons.setdefault(topic, shortened(str(error), 200))
            return False
        return True

    bag.inspect([*names], INSPECTED, judge)
    return contents


def _listed(bag: Recording, names: Iterable[str]) -> str:
    """Topics with type and count, in one line."""
    about = [f"{name} ({bag.topics[name][0]}, {bag.topics[name][1]})" for name in names]
    return ", ".join(about) or "none"


def warn(line: str) -> None:
    """Print a line on stderr."""
    print(f"training: {line}", file=sys.stderr)
