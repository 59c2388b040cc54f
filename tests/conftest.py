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

"""What all tests share: which sources they import, a ROS domain of their own, shared data."""

import fcntl
import gc
import importlib.util
import os
import sys
import tempfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent


def put_checkout_last() -> None:
    """Lets the built depthseg_ros, which has the messages, win over the folder beside the tests.

    The checkout stays importable, last, for `training`, which is installed nowhere; also in the
    subprocesses that tests start, whatever folder they start them in.
    """
    installed = [entry for entry in sys.path if Path(entry or ".").resolve() != ROOT]
    sys.path[:] = [*installed, str(ROOT)]
    inherited = os.environ.get("PYTHONPATH", "").split(os.pathsep)
    kept = [entry for entry in inherited if entry and Path(entry).resolve() != ROOT]
    os.environ["PYTHONPATH"] = os.pathsep.join([*kept, str(ROOT)])
    os.environ["PYTHONSAFEPATH"] = "1"


def reserve_ros_domain() -> None:
    """Takes a ROS domain that no other test process on this machine uses, until this one ends."""
    os.environ["ROS_AUTOMATIC_DISCOVERY_RANGE"] = "LOCALHOST"
    if os.environ.get("ROS_DISTRO") == "humble":  # which knows only the older setting
        os.environ["ROS_LOCALHOST_ONLY"] = "1"
    for domain in range(1, 100):  # ports of higher ones may clash with the system's
        path = Path(tempfile.gettempdir(), f"depthseg_ros_domain_{os.getuid()}_{domain}.lock")
        lock = path.open("w")
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            lock.close()
            continue
        os.environ["ROS_DOMAIN_ID"] = str(domain)
        DOMAIN_LOCKS.append(lock)
        return
    raise RuntimeError(f"no free ROS domain: all locks in {tempfile.gettempdir()} are taken")


DOMAIN_LOCKS: list = []  # open for as long as the process lives
put_checkout_last()
reserve_ros_domain()
# Several test processes share the cores: threads that wait for each other only get in the way.
os.environ.setdefault("OMP_NUM_THREADS", "1")


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config, log):
    """Keeps the tests of a file in one process, all that use DDS in one, and all that use a GPU.

    Whatever their domains, Fast DDS gives all participants of a machine ports in shared memory from
    7000 on. Where processes of two domains start and die at the same time, they take them from each
    other: pictures are lost, and a participant that closes may crash.
    """
    from xdist.scheduler import LoadFileScheduling

    class DdsInOneProcess(LoadFileScheduling):
        def _split_scope(self, nodeid: str) -> str:
            file = super()._split_scope(nodeid)
            if "tests/ros/" in file:
                return "dds"
            return "backends" if "tests/backends/" in file else file  # who measure a GPU's memory

    return DdsInOneProcess(config, log)


def pytest_runtest_logstart(nodeid) -> None:
    """Gives way to the process with the tests over DDS, which is the last to end."""
    if "PYTEST_XDIST_WORKER" in os.environ and "tests/ros/" not in nodeid:
        os.nice(max(0, 5 - os.nice(0)))


def pytest_collection_modifyitems(items) -> None:
    """Skips what drives the node where the built package is out of reach."""
    if importlib.util.find_spec("depthseg_ros.msg") is None:
        skip = pytest.mark.skip(reason="needs the built package: run as `tools/env.sh pytest`")
        for item in items:
            if item.get_closest_marker("ros"):
                item.add_marker(skip)


def pytest_collection_finish() -> None:
    """Excludes imported modules from garbage collection: rendering a street collects each time."""
    gc.freeze()


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder of data sets beside the checkout, which is not part of the repository."""
    path = ROOT.parent / "shared" / "data"
    if not path.is_dir():
        pytest.skip(f"needs the data sets of {path}")
    return path
