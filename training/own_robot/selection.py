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

"""Select the images of a recording that become frames of a data set, and collect their data."""

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
"""Greatest difference between the stamps of an image and its depth or labels, ns."""
LATENESS = SECOND // 2
"""Greatest difference between the times of recording of messages with the same stamp, ns."""
QUALITY = 95
"""JPEG quality of images that are not compressed in the bag."""
LEAST_SIZE = 16
"""Minimum width and height, pixels; some cameras send smaller images when they start."""
COLOR, DEPTH = "color", "depth"
INSPECTED = 100
"""Number of messages of a topic that are searched for a readable image."""
THUMBNAIL = (32, 24)
"""Width and height of the images that are compared, pixels."""
DERIVED = re.compile("label|mask|segment|confiden|traversab|overlay", re.IGNORECASE)
"""Pattern in the names of topics with images that were computed from camera images."""

Frame = dict[str, Any]
Files = dict[str, bytes]


@dataclass(frozen=True)
class Topics:
    """Topics of one camera in a bag."""

    image_topic: str
    camera_info_topic: str | None
    depth_topic: str | None
    labels_topic: str | None


@dataclass
class Tally:
    """Progress of reading a recording; stored with each part, to resume."""

    until: int = -1
    """Time of recording of the last frame, ns."""
    stamp: int = -1
    """Stamp of the last frame, ns."""
    began: int = -1
    ended: int = -1
    """Times of recording of the first and the last image, ns."""
    seen: int = 0
    """Number of images that were read."""
    bad: int = 0
    """Number of images that could not be decoded."""


class EncodedImage(NamedTuple):
    """An image as a file's content and extension, and decoded, (H, W, 3) uint8 RGB."""

    data: bytes
    ending: str
    rgb: NDArray[np.uint8]


class Chosen(NamedTuple):
    """A selected image that waits for later messages, and the progress up to it."""

    stamp: int
    image: EncodedImage
    tally: Tally


class Series:
    """The latest messages of a topic, serialised, sorted by stamp."""

    def __init__(self) -> None:
        self.messages: list[tuple[int, bytes]] = []

    def add(self, stamp: int, raw: bytes, keep: int) -> None:
        """Add a message; drop those that are more than `keep` ns older than the newest."""
        insort(self.messages, (stamp, raw), key=itemgetter(0))
        oldest = self.messages[-1][0] - keep
        del self.messages[: bisect_left(self.messages, oldest, key=itemgetter(0))]

    def nearest(self, stamp: float, within: float) -> tuple[int, bytes] | None:
        """Return stamp and content of the message nearest to a stamp; None if none is within."""
        at = bisect_left(self.messages, stamp, key=itemgetter(0))
        near = [m for m in self.messages[max(at - 1, 0) : at + 1] if abs(m[0] - stamp) <= within]
        return min(near, key=lambda message: abs(message[0] - stamp), default=None)


class Selection:
    """Selects the frames of a recording, and collects their neighbours, truth and camera."""

    def __init__(
        self, bag: Recording, topics: Topics, every: float, change: float, neighbours: float
    ) -> None:
        """Set the options.

        Args:
            bag: The recording.
            topics: The camera's topics.
            every: Interval between frames, seconds; 10 % less is accepted.
            change: Minimum mean difference from the frame before, as a share of the grey range.
            neighbours: Interval to the images before and after, seconds; 0: none.
        """
        self.bag, self.topics = bag, topics
        self.apart, self.change = 0.9 * SECOND * every, 255 * change
        self.beside, self.reach = SECOND * neighbours, round(1.5 * SECOND * neighbours)
        self.notes: dict[str, None] = {}
        """Problems, one line of each kind."""
        names = (topics.image_topic, topics.depth_topic, topics.labels_topic)
        self.series = {name: Series() for name in names if name}
        info = topics.camera_info_topic
        self.info: bytes | None = None
        if info:
            bag.inspect([info], 1, self._set_info)

    def _set_info(self, topic: str, raw: bytes) -> bool:
        self.info = raw
        return True

    def frames(
        self, tally: Tally, last: NDArray[np.uint8] | None, on_image: Callable[[], None]
    ) -> Iterator[tuple[Frame, Files, Tally]]:
        """Select frames after those of earlier runs.

        Args:
            tally: Progress of earlier runs; it is updated with every image.
            last: Image of the last frame of earlier runs, (H, W, 3) RGB.
            on_image: Called after every image.

        Yields:
            A frame, its files by extension, and the progress up to it.
        """
        image, info, after = self.topics.image_topic, self.topics.camera_info_topic, tally.until
        kept = None if last is None else thumbnail(last)
        compared: float = -math.inf if last is None else tally.stamp
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
                newest, compared = 0, -math.inf
            past = newest - waiting[0].stamp if waiting else 0
            self.series[topic].add(stamp, raw, past + self.reach + LATENESS)
            if topic != image:
                continue
            newest = max(newest, stamp)
            if time <= after:  # an earlier run has read it
                continue
            tally.began, tally.ended = tally.began if tally.seen else time, time
            tally.seen += 1
            on_image()
            if stamp - compared < self.apart:
                continue
            try:
                encoded = read_image(raw, kind)
            except ValueError as error:
                if not tally.bad:
                    self.notes[f"the first of them: {shortened(str(error), 200)}"] = None
                tally.bad += 1
                continue
            compared, small = stamp, thumbnail(encoded.rgb)
            if kept is None or np.abs(small - kept).mean() >= self.change:
                kept = thumbnail(decode(encoded.data))  # from the file, as when a run is resumed
                waiting.append(Chosen(stamp, encoded, replace(tally, until=time, stamp=stamp)))
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
                other = read_image(found[1], found[2])
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
            # Clear the stamp: the rest is mostly the same, and `read_camera` has a cache.
            info, name = self.info[:4] + bytes(8) + self.info[12:], self.topics.image_topic
            rectified = name.removesuffix("/compressed").split("/")[-1].startswith("image_rect")
            frame["camera"], trouble = read_camera(info, width, height, rectified)
            self.notes |= {trouble: None} if trouble else {}
        return frame, files, tally

    def _nearest(self, what: str, stamp: float, within: float) -> tuple[int, bytes, str] | None:
        """Stamp, content and type of the message nearest to a stamp on a topic."""
        topic = getattr(self.topics, f"{what}_topic")
        found = self.series[topic].nearest(stamp, within) if topic else None
        return found and (*found, self.bag.topics[topic][0])


def read_image(raw: bytes, kind: str) -> EncodedImage:
    """Read a message's image; JPEG and PNG data is kept unchanged. Raises `ValueError`."""
    message = parsed(raw, kind)
    rgb = compressed_to_rgb(message) if kind == COMPRESSED_IMAGE else image_to_rgb(message)
    height, width = rgb.shape[:2]
    if min(width, height) < LEAST_SIZE:
        raise ValueError(f"the image has only {width}x{height} pixels")
    if kind == COMPRESSED_IMAGE:
        data = bytes(message.data)
        # Bayer images are converted, because readers of the data set expect RGB.
        if "bayer_" not in message.format.lower() or np.array_equal(decode(data), rgb):
            return EncodedImage(data, "png" if data.startswith(b"\x89PNG") else "jpg", rgb)
    data = cv2.imencode(".jpg", rgb[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, QUALITY])[1].tobytes()
    return EncodedImage(data, "jpg", rgb)


def read_truth(what: str, raw: bytes, kind: str, width: int, height: int) -> bytes:
    """Encode a message's `depth` or `labels` as PNG at an image's size; raises `ValueError`."""
    message = parsed(raw, kind)
    truth: NDArray[Any]
    if what == "labels":
        truth = labels_of(message)
    elif kind == COMPRESSED_IMAGE:
        truth = compressed_depth_to_metres(message)
    else:
        truth = depth_to_metres(message)
    rows, columns = truth.shape
    if abs(rows * width - columns * height) > 0.01 * columns * height:
        raise ValueError(f"{columns}x{rows} pixels have another shape than {width}x{height}")
    if truth.shape != (height, width):
        truth = cv2.resize(truth, (width, height), interpolation=cv2.INTER_NEAREST_EXACT)
    return to_png(truth) if what == "labels" else depth_to_png(truth.astype(np.float32, copy=False))


@lru_cache(4)
def read_camera(
    raw: bytes, width: int, height: int, rectified: bool
) -> tuple[dict[str, Any] | None, str]:
    """Read a camera_info for images of a size.

    Returns:
        The entry `camera` of a frame, None if unknown; and a problem, empty if there is none.
    """
    try:
        camera, assumed = camera_of(parsed(raw, CAMERA_INFO), width, height, rectified)
    except ValueError as error:
        return None, f"{error}; these frames have no focal length"
    about = {name: getattr(camera, name) for name in ("fx", "fy", "cx", "cy")}
    lens = {"model": camera.lens.model, "coefficients": camera.lens.coefficients}
    return {**about, "lens": lens}, assumed


def thumbnail(rgb: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Reduce an image to a small grey one, 0 to 255, for comparison."""
    gray = cv2.cvtColor(rgb, cv2.COLOR_RGB2GRAY).astype(np.float32)
    return np.asarray(cv2.resize(gray, THUMBNAIL, interpolation=cv2.INTER_AREA), np.float32)


def choose_topics(bag: Recording, options: argparse.Namespace) -> Topics:
    """Return the topics of the command line; find image and camera_info if they are not given.

    Raises:
        TrainingError: A topic is missing or has another type, or there is not exactly one image
            topic to choose.
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
    candidates = [n for n, what in content.items() if what == COLOR and not DERIVED.search(n)]
    # If a camera has raw and compressed images, use the raw ones.
    candidates = [n for n in candidates if n.removesuffix("/compressed") not in {*candidates} - {n}]
    if not options.topic and not candidates:
        reasons = {
            COLOR: "by its name not a camera's image, --topic selects it anyway",
            DEPTH: "is depth",
        }
        why = [f"; {name}: {reasons.get(what, what)}" for name, what in content.items()]
        raise TrainingError(
            f"{bag.path} has no image topic{' that can be read' if why else ''}, only"
            f" {_listed(bag, bag.topics)}{''.join(why)}"
        )
    if not options.topic and len(candidates) > 1:
        raise TrainingError(
            f"{bag.path} has {len(candidates)} image topics, {_listed(bag, candidates)}: choose one"
            " with --topic"
        )
    image = options.topic or candidates[0]
    beside = image.removesuffix("/compressed").rpartition("/")[0] + "/camera_info"
    info = options.camera_info_topic or (beside if beside in infos else None)
    if info is None:
        warn(
            f"{bag.path} has no {beside}: without a focal length, images cannot be used to train"
            f" metric depth; give --camera-info-topic, one of {_listed(bag, infos)}"
        )
    # Not used without the option: it may be of another view, or predicted by a network.
    depth = [name for name, what in content.items() if what == DEPTH]
    if depth and not options.depth_topic:
        warn(
            f"{bag.path} has depth, {_listed(bag, depth)}: give --depth-topic to use it as ground"
            f" truth, if it is measured and registered to {image}"
        )
    return Topics(image, info, options.depth_topic, options.labels_topic)


def _contents(bag: Recording, names: Iterable[str]) -> dict[str, str]:
    """Find what image topics contain: `COLOR`, `DEPTH`, or the reason why they cannot be read."""
    contents: dict[str, str] = {}
    reasons: dict[str, str] = {}

    def inspect(topic: str, raw: bytes) -> bool:
        kind = bag.topics[topic][0]
        try:
            contents[topic] = DEPTH if is_depth(parsed(raw, kind)) else COLOR
            if contents[topic] == COLOR:
                read_image(raw, kind)
        except ValueError as error:
            contents[topic] = reasons.setdefault(topic, shortened(str(error), 200))
            return False
        return True

    bag.inspect([*names], INSPECTED, inspect)
    return contents


def _listed(bag: Recording, names: Iterable[str]) -> str:
    """List topics with type and number of messages, in one line."""
    about = [f"{name} ({bag.topics[name][0]}, {bag.topics[name][1]})" for name in names]
    return ", ".join(about) or "none"


def warn(line: str) -> None:
    """Print a line on stderr."""
    print(f"training: {line}", file=sys.stderr)
