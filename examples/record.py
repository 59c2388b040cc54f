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

"""Record topics as a rosbag2 folder where `ros2 bag` is not installed, as with ROS from PyPI.

tools/env.sh python examples/record.py --output BAG --topics /image /camera_info --count 200

`ros2 bag record --output BAG TOPIC ...` does the same, and more, where it is installed. Messages
are written as they come; Ctrl-C ends the recording, and the bag is whole.
"""

from __future__ import annotations

import argparse
import importlib
import signal
import sys
import time
from functools import partial
from pathlib import Path
from typing import Any

import rclpy
from ament_index_python.packages import PackageNotFoundError, get_package_share_directory
from rclpy.exceptions import InvalidTopicNameException
from rclpy.executors import SingleThreadedExecutor
from rclpy.node import Node
from rclpy.qos import QoSProfile
from rclpy.signals import SignalHandlerOptions
from rclpy.validate_topic_name import validate_topic_name
from rosbags.interfaces import (
    Connection,
    Nodetype,
    Qos,
    QosDurability,
    QosHistory,
    QosLiveliness,
    QosReliability,
    QosTime,
)
from rosbags.rosbag2 import StoragePlugin, Writer
from rosbags.typesys import Stores, get_types_from_msg, get_typestore

from depthseg_ros.node.process import share_memory
from depthseg_ros.node.subscriptions import matching_qos

PICTURES = ("sensor_msgs/msg/Image", "sensor_msgs/msg/CompressedImage")
FORMAT = 8
"""Of the bag: of those that can be written the one that older ROS reads, too."""
MINDER = 5.0
"""Seconds between two lines on what is waited for."""
AFTER_LAST = 0.5
"""Seconds in which what belongs to the last picture may come."""


class RecordError(Exception):
    """Nothing can be recorded; the text is for the user."""


class Recorder(Node):
    """Writes topics that somebody publishes, and hears them as they are offered.

    Attributes:
        counts: Messages of each topic so far.
        first: When the first of all came, on the monotonic clock.
        last: When the last picture that was asked for came.
    """

    def __init__(self) -> None:
        super().__init__("record")
        self.counts: dict[str, int] = {}
        self.first: float | None = None
        self.last: float | None = None
        self._types = get_typestore(Stores.EMPTY)

    def kind(self, topic: str) -> str:
        """The type of a topic, with its definition learnt."""
        kinds = {offer.topic_type for offer in self.get_publishers_info_by_topic(topic)}
        if len(kinds) != 1:
            raise RecordError(f"{topic} has {len(kinds)} types: {', '.join(sorted(kinds))}")
        kind = kinds.pop()
        self._learn(kind)
        message_class(kind)  # what is missing is missed before the bag begins
        return kind

    def _learn(self, kind: str) -> None:
        """Take in a message type and those in it, as they are installed here."""
        if kind in self._types.fielddefs:
            return
        package, _, name = kind.split("/")
        try:
            text = Path(get_package_share_directory(package), "msg", f"{name}.msg").read_text()
        except (PackageNotFoundError, OSError) as error:
            raise RecordError(f"there is no definition of {kind} here: {error}") from error
        types = get_types_from_msg(text, kind)
        self._types.register(types)
        for _, fields in types.values():
            for _, (node, what) in fields:
                if node in (Nodetype.ARRAY, Nodetype.SEQUENCE):
                    node, what = what[0]
                if node == Nodetype.NAME:
                    self._learn(str(what))

    def record(self, kinds: dict[str, str], writer: Writer, counted: str, count: int) -> None:
        """Write these topics (and their types) from now on; `count` pictures of one, 0: all."""
        for topic, kind in kinds.items():
            offers = [offer.qos_profile for offer in self.get_publishers_info_by_topic(topic)]
            connection = writer.add_connection(
                topic,
                kind,
                typestore=self._types,
                offered_qos_profiles=[described(offer) for offer in offers],
            )
            self.counts[topic] = 0
            limit = count if topic == counted else 0
            self.create_subscription(
                message_class(kind),
                topic,
                partial(self._write, writer, connection, limit),
                matching_qos(offers, 100, latched=True),
                raw=True,
            )

    def _write(self, writer: Writer, to: Connection, limit: int, data: bytes) -> None:
        if limit and self.counts[to.topic] == limit:
            return
        writer.write(to, self.get_clock().now().nanoseconds, data)
        self.first = self.first or time.monotonic()
        self.counts[to.topic] += 1
        if self.counts[to.topic] == limit:
            self.last = time.monotonic()


def message_class(kind: str) -> Any:
    """The class of a type such as sensor_msgs/msg/Image."""
    package, folder, name = kind.split("/")
    try:
        return getattr(importlib.import_module(f"{package}.{folder}"), name)
    except (ImportError, AttributeError) as error:
        raise RecordError(f"messages of {kind} are not installed here: {error}") from error


def described(offered: QoSProfile) -> Qos:
    """A publisher's offer as the bag keeps it, for who plays it."""

    def duration(of: Any) -> QosTime:
        return QosTime(*divmod(of.nanoseconds, 10**9))

    return Qos(
        QosHistory(int(offered.history)),
        offered.depth,
        QosReliability(int(offered.reliability)),
        QosDurability(int(offered.durability)),
        duration(offered.deadline),
        duration(offered.lifespan),
        QosLiveliness(int(offered.liveliness)),
        duration(offered.liveliness_lease_duration),
        offered.avoid_ros_namespace_conventions,
    )


def run(options: argparse.Namespace, stopped: list[int]) -> None:
    """Record until `stopped` has something in it or there is enough.

    Raises:
        RecordError: A topic did not appear or cannot be recorded; nothing has been written.
    """
    node = Recorder()
    executor = SingleThreadedExecutor()
    executor.add_node(node)
    topics = list(dict.fromkeys(node.resolve_topic_name(topic) for topic in options.topics))
    start = told = time.monotonic()
    while absent := ", ".join(topic for topic in topics if not node.count_publishers(topic)):
        if stopped:
            raise RecordError(f"stopped while it waited for {absent}; nothing is recorded")
        now = time.monotonic()
        if now - start > options.patience:
            there = ", ".join(sorted(name for name, _ in node.get_topic_names_and_types()))
            raise RecordError(f"nobody publishes {absent}; there are {there}")
        if now - told > MINDER:
            told = now
            print(f"record: waiting for {absent}: nobody publishes that", flush=True)
        executor.spin_once(timeout_sec=0.1)
    kinds = {topic: node.kind(topic) for topic in topics}
    pictures = next((topic for topic in topics if kinds[topic] in PICTURES), "")
    if options.count and not pictures:
        raise RecordError(f"--count is of pictures, and none of {', '.join(topics)} has any")
    storage = StoragePlugin[options.storage.upper()]
    with Writer(options.output, version=FORMAT, storage_plugin=storage) as writer:
        node.record(kinds, writer, pictures, options.count)
        print(f"record: {len(topics)} topics to {options.output}; Ctrl-C ends it", flush=True)
        told = time.monotonic()
        while not stopped:
            executor.spin_once(timeout_sec=0.1)
            now = time.monotonic()
            if options.seconds and node.first and now - node.first > options.seconds:
                break
            if node.last and now - node.last > AFTER_LAST:
                break
            silent = ", ".join(topic for topic, count in node.counts.items() if not count)
            if silent and now - told > MINDER:
                told = now
                print(f"record: nothing has come on {silent}", flush=True)
    counts = ", ".join(f"{topic} {count}" for topic, count in node.counts.items())
    print(f"record: {options.output} has {counts}")


def topic_name(text: str) -> str:
    """A topic's name, as ROS allows it."""
    if not text:
        raise argparse.ArgumentTypeError("a topic's name is not empty")
    try:
        validate_topic_name(text)
    except InvalidTopicNameException as error:
        raise argparse.ArgumentTypeError(" ".join(str(error).split())) from None
    return text


def main() -> int:
    """Record; returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--output", type=Path, required=True, help="folder to be written")
    parser.add_argument("--topics", nargs="+", required=True, type=topic_name)
    parser.add_argument("--seconds", type=float, help="from the first message on")
    parser.add_argument(
        "--count", type=int, default=0, help="pictures of the first topic that has any"
    )
    parser.add_argument("--storage", choices=("mcap", "sqlite3"), default="mcap")
    parser.add_argument(
        "--patience", type=float, default=30.0, help="seconds to wait for topics (default: 30)"
    )
    options = parser.parse_args()
    if options.count < 0 or not (options.seconds is None or options.seconds > 0):
        parser.error("--count and --seconds: above 0")
    if not options.patience > 0:
        parser.error("--patience: above 0")
    if options.output.exists():
        parser.error(f"--output {options.output} exists; expected a new folder")
    stopped: list[int] = []
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda number, _: stopped.append(number))
    share_memory()
    rclpy.init(signal_handler_options=SignalHandlerOptions.NO)
    try:
        run(options, stopped)
    except (RecordError, OSError) as error:
        print(f"record: {error}", file=sys.stderr)
        return 1
    finally:
        rclpy.try_shutdown()
    return 0


if __name__ == "__main__":
    sys.exit(main())
