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

"""Run one node in one process: executor, signals, exit code; for Humble to Kilted.

rclpy's own signal handling raises KeyboardInterrupt at any point of the program, also in callbacks,
in destructors and while a model is loaded. Here the node lives in its own thread and the main
thread only waits for a signal, so that nothing is interrupted.

The executor is rclpy's SingleThreadedExecutor in all distributions. `rclpy.experimental` has a
faster one since Jazzy, but it deadlocks (7.1.5) when another thread wakes or stops it.
"""

from __future__ import annotations

import fcntl
import logging
import os
import re
import shutil
import signal
import sys
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import rclpy
from rclpy.exceptions import ParameterException
from rclpy.executors import ExternalShutdownException, SingleThreadedExecutor
from rclpy.logging import get_logger
from rclpy.node import Node
from rclpy.signals import SignalHandlerOptions
from rclpy.utilities import try_shutdown

from .. import model_card
from ..texts import one_line

SIGNALS = (signal.SIGINT, signal.SIGTERM)
PATIENCE = 5.0
"""Seconds that a node has to close before the process ends without waiting."""


_PROFILES = ("FASTDDS_DEFAULT_PROFILES_FILE", "FASTRTPS_DEFAULT_PROFILES_FILE")
_USE_PROFILES = "RMW_FASTRTPS_USE_QOS_FROM_XML"
_FAST_DDS_2 = ("humble", "iron", "jazzy")  # read the second; version 3 warns that it is deprecated
_SEGMENT = re.compile("fast(rtps|dds)_[0-9a-f]{16}")
_YOUNG = 10.0  # seconds
_ROOM = 128 << 20  # for some nodes' 16 MiB


class Finished(Exception):
    """Raised in a callback of a node that has finished."""


def run(make_node: Callable[[], Node], name: str) -> int:
    """Run a node until a callback raises `Finished` or the process gets SIGINT or SIGTERM.

    Args:
        make_node: Makes the node. A `ValueError` from it or from a callback ends the process with
            one line in the log. The node's `destroy_node` must release its resources.
        name: Name of the node, for that line.

    Returns:
        The exit code: 0, or 1 after an error.
    """
    clear_shared_memory()
    share_memory()
    # Python writes to this pipe when a signal arrives. Unlike a lock or a queue, it cannot miss a
    # signal that arrives just before the wait.
    ends, end = os.pipe()
    os.set_blocking(end, False)
    signal.set_wakeup_fd(end, warn_on_full_buffer=False)
    for number in SIGNALS:
        signal.signal(number, lambda *_: None)
    try:
        rclpy.init(signal_handler_options=SignalHandlerOptions.NO)
    except (
        Exception
    ) as error:  # wrong --ros-args: exceptions of rclpy's C part, without a common base
        get_logger(name).fatal(one_line(error))
        return 1
    logging.getLogger("depthseg_ros").setLevel(logging.INFO)
    logging.getLogger("depthseg_ros").addHandler(_RosLog(name))
    life = _Life(make_node, name, ended=lambda: os.write(end, b"\0"))
    life.start()
    os.read(ends, 1)
    life.stop()
    life.join(PATIENCE)
    if life.is_alive():  # e.g. loading a model: do not wait
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(0)
    try_shutdown()
    if len(threading.enumerate()) > 1:  # one is stuck in a runtime, which then must not be unloaded
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(life.code)
    for number in SIGNALS:  # a terminal and `ros2 launch` both send one; the second may be late
        signal.signal(number, signal.SIG_IGN)
    return life.code


class _RosLog(logging.Handler):
    """Forwards Python log records of modules without ROS to the node's log."""

    def __init__(self, name: str) -> None:
        super().__init__()
        self._logger = get_logger(name)

    def emit(self, record: logging.LogRecord) -> None:
        # rclpy requires a fixed severity per line of code: one line each.
        if record.levelno >= logging.WARNING:
            self._logger.warning(record.getMessage())
        else:
            self._logger.info(record.getMessage())


class _Life(threading.Thread):
    """The thread in which the node is made, spins and is destroyed."""

    def __init__(
        self, make_node: Callable[[], Node], name: str, ended: Callable[[], object]
    ) -> None:
        super().__init__(name=name, daemon=True)
        self.code = 0
        self._make_node = make_node
        self._ended = ended
        self._stopped = threading.Event()
        self._executor = SingleThreadedExecutor()

    def run(self) -> None:
        try:
            self._spin()
        except (Finished, ExternalShutdownException):
            pass
        except (ValueError, ParameterException) as error:
            self.code = 1
            get_logger(self.name).fatal(one_line(error))
        except Exception as error:  # an internal error: also one line, with its type
            self.code = 1
            get_logger(self.name).fatal(f"{type(error).__name__}: {one_line(error)}")
        finally:
            self._ended()

    def _spin(self) -> None:
        node = self._make_node()
        try:
            self._executor.add_node(node)
            while not self._stopped.is_set():
                self._executor.spin_once()
        finally:
            node.destroy_node()

    def stop(self) -> None:
        """Let the node be destroyed after what it does now."""
        self._executor.create_task(self._stopped.set)  # which wakes the executor, too


def share_memory(room: Path = Path("/dev/shm")) -> None:
    """Let Fast DDS use config/fastdds.xml, with enough shared memory for images.

    With its default of half a megabyte, parts of images are lost and sent again, which takes tenths
    of a second (docs/performance.md). The memory of a large message is released with it. Nothing
    is done if the environment already configures Fast DDS or if `room` has too little space, as in
    a container. Other DDS implementations ignore these variables.
    """
    profile = fast_dds_profile()
    given = any(name in os.environ for name in (*_PROFILES, "FASTDDS_BUILTIN_TRANSPORTS"))
    # Humble would add its own transports, which reach other machines.
    given = given or os.environ.get("ROS_LOCALHOST_ONLY") == "1"
    with suppress(OSError):
        if not given and profile.is_file() and shutil.disk_usage(room).free >= _ROOM:
            old = os.environ.get("ROS_DISTRO", "jazzy") in _FAST_DDS_2
            os.environ.update(dict.fromkeys(_PROFILES if old else _PROFILES[:1], str(profile)))
            os.environ.setdefault(_USE_PROFILES, "1")  # so that the profile sets the memory policy


def fast_dds_profile() -> Path:
    """The file with the package's Fast DDS profile."""
    return model_card.default_model().parents[1] / "config" / "fastdds.xml"


def clear_shared_memory() -> None:
    """Remove Fast DDS shared memory of killed processes of this user, 16 MiB each.

    Fast DDS does not remove it. While a process lives, it holds a lock on a file beside each of its
    segments; a file of the last seconds may not be locked yet.
    """
    for lock in Path("/dev/shm").glob("fast*_el"):
        segment = lock.with_name(lock.name.removesuffix("_el"))
        if not _SEGMENT.fullmatch(segment.name):
            continue
        with suppress(OSError), lock.open() as file:
            if lock.stat().st_uid != os.getuid() or time.time() - lock.stat().st_mtime < _YOUNG:
                continue
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)  # fails while the process lives
            segment.unlink(missing_ok=True)
            lock.unlink()
