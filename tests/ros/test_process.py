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

"""How the node's process begins and ends."""

import mmap
import os
import re
import shutil
import signal
from pathlib import Path

import pytest

pytest.importorskip("rclpy", reason="needs ROS 2")
pytest.importorskip("depthseg_ros.msg", reason="needs the built package: tools/env.sh pytest")

pytestmark = pytest.mark.ros

SIGNALS = (signal.SIGINT, signal.SIGTERM)


def handles_signals(process):
    """Whether the process got as far as its own first line."""
    for line in Path(f"/proc/{process.process.pid}/status").read_text().splitlines():
        if line.startswith("SigCgt:"):
            return bool(int(line.split()[1], 16) >> (signal.SIGTERM - 1) & 1)
    return False


def has_loaded(process, library):
    return library in Path(f"/proc/{process.process.pid}/maps").read_text()


MOMENTS = {
    "at the first line": handles_signals,
    "importing numpy": lambda p: has_loaded(p, "_multiarray_umath"),
    "importing rclpy": lambda p: has_loaded(p, "_rclpy_pybind11"),
    "starting": lambda p: has_loaded(p, "librmw_fastrtps"),
    "loading the model": lambda p: has_loaded(p, "onnxruntime_pybind11_state"),
    "activating": lambda p: p.lines("Model street"),
}


@pytest.mark.skipif(not Path("/proc/self/maps").exists(), reason="needs Linux's /proc")
@pytest.mark.parametrize("number", SIGNALS)
@pytest.mark.parametrize("moment", MOMENTS)
def test_a_signal_ends_the_node_quietly_at_any_moment(start, moment, number):
    process = start("depthseg", "/ending")
    process.until(lambda: MOMENTS[moment](process), moment)
    assert process.stop(number) == 0, process.log
    assert not process.lines("Traceback|Error|rror:|terminate|Fatal|Exception"), process.log


def test_signals_that_come_twice_end_a_working_node_quietly(start, observer):
    from sensor_msgs.msg import Image

    start("camera_node", "/twice", rate=100.0, width=64, height=48)
    process = start("depthseg", "/twice")
    labels = observer.collect(Image, "/twice/depthseg/label/image")
    observer.until(lambda: len(labels) > 2, f"labels\n{process.log}")
    process.process.send_signal(signal.SIGINT)
    assert process.stop(signal.SIGINT) == 0
    assert not process.lines("Traceback|rror|terminate|Fatal|Exception"), process.log


@pytest.mark.parametrize(
    "parameters, says",
    [
        ({"overlay_opacity": 1.5}, "overlay_opacity"),
        ({"overlay_opacity": "much"}, "overlay_opacity"),
        ({"backend": "abacus"}, "abacus.*expected one of auto"),
        ({"threads": -1}, "threads"),
    ],
)
def test_a_wrong_parameter_at_the_start_is_one_line_and_exit_code_1(start, parameters, says):
    process = start("depthseg", "/wrong", **parameters)
    assert process.wait() == 1
    assert process.lines(says)
    assert len(process.log.strip().splitlines()) == 1, process.log


def segments(process, others):
    """Fast DDS's shared memory that a process made to send in, beside that of others: bytes.

    Of a page are the segments by which it tries, as it starts, whether it may make any.
    """
    sizes = {}
    for line in Path(f"/proc/{process.process.pid}/maps").read_text().splitlines():
        name = line.rpartition("/dev/shm/")[2]
        if re.fullmatch("fast(rtps|dds)_[0-9a-f]{16}", name) and name not in others:
            low, high = (int(end, 16) for end in line.split()[0].split("-"))
            if high - low > mmap.PAGESIZE:
                sizes[name] = high - low
    return sizes


needs_shared_memory = pytest.mark.skipif(
    os.environ.get("RMW_IMPLEMENTATION", "rmw_fastrtps_cpp") != "rmw_fastrtps_cpp"
    or shutil.disk_usage("/dev/shm").free < 2**27,
    reason="needs Fast DDS, and room in /dev/shm",
)


@needs_shared_memory
@pytest.mark.parametrize("transports, least, most", [(None, 2**24, 2**25), ("DEFAULT", 0, 2**20)])
def test_shared_memory_holds_pictures_unless_the_user_configures_fast_dds(
    start, monkeypatch, transports, least, most
):
    if transports:
        monkeypatch.setenv("FASTDDS_BUILTIN_TRANSPORTS", transports)
    others = os.listdir("/dev/shm")  # which the process maps, too, where it hears of them
    process = start("camera_node", "/sharing", rate=5.0, width=64, height=48)
    process.until(lambda: segments(process, others), "shared memory")
    assert least <= max(segments(process, others).values()) <= most


@needs_shared_memory
def test_shared_memory_of_killed_processes_is_removed_and_no_other(start):
    from depthseg_ros.node.process import clear_shared_memory

    room, before = Path("/dev/shm"), os.listdir("/dev/shm")
    killed = start("camera_node", "/killed", rate=5.0, width=64, height=48)
    killed.until(lambda: segments(killed, before), "shared memory")
    left = segments(killed, before)
    before = os.listdir("/dev/shm")
    lives = start("camera_node", "/lives", rate=5.0, width=64, height=48)
    lives.until(lambda: segments(lives, before), "shared memory")
    used = segments(lives, before)

    killed.kill()
    assert all((room / name).exists() for name in left)  # Fast DDS leaves it there
    clear_shared_memory()  # too young: it might belong to one that only begins
    assert all((room / name).exists() for name in left)
    for name in left:
        os.utime(room / f"{name}_el", (0, 0))
    clear_shared_memory()
    assert not any((room / name).exists() or (room / f"{name}_el").exists() for name in left)
    assert used and all((room / name).exists() for name in used)


@pytest.mark.parametrize(("distro", "number"), [("humble", 2), ("jazzy", 2), ("kilted", 1)])
def test_a_machine_without_room_for_shared_memory_is_left_alone(
    monkeypatch, tmp_path, distro, number
):
    from depthseg_ros.node import process

    monkeypatch.setenv("ROS_DISTRO", distro)
    for name in (*process._PROFILES, process._USE_PROFILES):
        monkeypatch.setenv(name, "")  # and so taken back at the end
        monkeypatch.delenv(name)
    process.share_memory(tmp_path / "none")
    assert not set(process._PROFILES) & os.environ.keys()
    process.share_memory(tmp_path)  # whose file system has room
    for name in process._PROFILES[:number]:
        assert Path(os.environ[name]).name == "fastdds.xml"
    assert len(set(process._PROFILES) & os.environ.keys()) == number
    assert os.environ[process._USE_PROFILES] == "1"
