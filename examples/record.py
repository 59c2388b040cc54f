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

"""Record topics as a rosbag2 folder without `ros2 bag`, for example with ROS from PyPI.

tools/env.sh python examples/record.py --output BAG --topics /image /camera_info --count 200

If `ros2 bag` is installed, use `ros2 bag record --output BAG TOPIC ...`. Messages are written when
they arrive; Ctrl-C ends the recording and closes the bag.
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

IMAGES = ("sensor_msgs/msg/Image", "sensor_msgs/msg/CompressedImage")
FORMAT = 8
"""Version of the bag; older releases of ROS can read it, too."""
REMINDER = 5.0
"""Interval of messages about missing topics [s]."""
AFTER_LAST = 0.5
"""Time after the last image, for messages with the same stamp [s]."""


class RecordError(Exception):
    """Nothing can be recorded; the text is for the user."""


class Recorder(Node):
    """Records topics, with the QoS of their publishers.

    Attributes:
        counts: Number of messages of each topic.
        first: Time of the first message, monotonic clock [s].
        last: Time of the last image of `--count`, monotonic clock [s].
    """

    def __init__(self) -> None:
        super().__init__("record")
        self.counts: dict[str, int] = {}
        self.first: float | None = None
        self.last: float | None = None
        self._types = get_typestore(Stores.EMPTY)

    def kind(self, topic: str) -> str:
        """Return the type of a topic and register its definition."""
        kinds = {offer.topic_type for offer in self.get_publishers_info_by_topic(topic)}
        if len(kinds) != 1:
            raise RecordError(f"{topic} has {len(kinds)} types: {', '.join(sorted(kinds))}")
        kind = kinds.pop()
        self._register(kind)
        message_class(kind)  # raises before the bag is created
        return kind

    def _register(self, kind: str) -> None:
        """Register an installed message type and the types of its fields."""
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
                    self._register(str(what))

    def record(self, kinds: dict[str, str], writer: Writer, counted: str, count: int) -> None:
        """Record these topics (name -> type); `count` messages of the topic `counted`, 0: all."""
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
    """Import the class of a message type such as sensor_msgs/msg/Image."""
    package, folder, name = kind.split("/")
    try:
        return getattr(importlib.import_module(f"{package}.{folder}"), name)
    except (ImportError, AttributeError) as error:
        raise RecordError(f"messages of {kind} are not installed here: {error}") from error


def described(offered: QoSProfile) -> Qos:
    """Convert a publisher's QoS for the bag, which uses it for playback."""

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
    """Record until `stopped` is not empty, or --count or --seconds is reached.

    Raises:
        RecordError: A topic did not appear or cannot be recorded; nothing has been written.
    """
    node = Recorder()
    executor = SingleThreadedExecutor()
    executor.add_node(node)
    topics = list(dict.fromkeys(node.resolve_topic_name(topic) for topic in options.topics))
    start = reported = time.monotonic()
    while absent := ", ".join(topic for topic in topics if not node.count_publishers(topic)):
        if stopped:
            raise RecordError(f"stopped while waiting for {absent}; nothing is recorded")
        now = time.monotonic()
        if now - start > options.patience:
            known = ", ".join(sorted(name for name, _ in node.get_topic_names_and_types()))
            raise RecordError(f"{absent} has no publisher; existing topics are {known}")
        if now - reported > REMINDER:
            reported = now
            print(f"record: waiting for {absent}, which has no publisher", flush=True)
        executor.spin_once(timeout_sec=0.1)
    kinds = {topic: node.kind(topic) for topic in topics}
    counted = next((topic for topic in topics if kinds[topic] in IMAGES), "")
    if options.count and not counted:
        raise RecordError(f"--count needs an image topic, and {', '.join(topics)} has none")
    storage = StoragePlugin[options.storage.upper()]
    with Writer(options.output, version=FORMAT, storage_plugin=storage) as writer:
        node.record(kinds, writer, counted, options.count)
        print(f"record: {len(topics)} topics to {options.output}; Ctrl-C ends it", flush=True)
        reported = time.monotonic()
        while not stopped:
            executor.spin_once(timeout_sec=0.1)
            now = time.monotonic()
            if options.seconds and node.first and now - node.first > options.seconds:
                break
            if node.last and now - node.last > AFTER_LAST:
                break
            silent = ", ".join(topic for topic, count in node.counts.items() if not count)
            if silent and now - reported > REMINDER:
                reported = now
                print(f"record: no message on {silent} yet", flush=True)
    counts = ", ".join(f"{topic} {count}" for topic, count in node.counts.items())
    print(f"record: {options.output} has {counts}")


def topic_name(text: str) -> str:
    """Check a topic's name by the rules of ROS."""
    if not text:
        raise argparse.ArgumentTypeError("a topic's name must not be empty")
    try:
        validate_topic_name(text)
    except InvalidTopicNameException as error:
        raise argparse.ArgumentTypeError(" ".join(str(error).split())) from None
    return text


def main() -> int:
    """Record topics; returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--output", type=Path, required=True, help="folder to write")
    parser.add_argument("--topics", nargs="+", required=True, type=topic_name)
    parser.add_argument("--seconds", type=float, help="duration from the first message on")
    parser.add_argument(
        "--count", type=int, default=0, help="number of images of the first image topic"
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
