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

"""Engines are kept, found again, and never trusted blindly."""

import dataclasses
import os
import subprocess
import sys
import textwrap
import threading
import time
from pathlib import Path

import pytest

from depthseg_ros.backends.compiler import Cancelled, Shapes
from depthseg_ros.backends.engine_cache import (
    EngineCache,
    EngineFileError,
    Key,
    read_engine,
    read_key,
    write_engine,
)

KEY = Key("ab" * 32, "street", "fp16", "tensorrt", "10.3.0", "Orin 8.7", Shapes(640, 480))
ENGINE = bytes(range(256)) * 40


@pytest.fixture
def cache(tmp_path):
    return EngineCache(tmp_path / "engines")


def never():
    raise AssertionError("compiled although the cache has it")


def test_an_engine_is_compiled_once(cache):
    assert cache.get(KEY, lambda: ENGINE) == ENGINE
    assert cache.get(KEY, never) == ENGINE
    assert EngineCache(cache.folder).get(KEY, never) == ENGINE
    assert cache.folder.stat().st_mode & 0o777 == 0o700
    ((path, key),) = cache.entries()
    assert key == KEY and path.stat().st_mode & 0o777 == 0o600
    assert path.name.startswith("street-fp16-640x480-")


@pytest.mark.parametrize(
    "change",
    [
        {"model": "cd" * 32}, {"name": "other"}, {"precision": "int8"}, {"flavour": "tensorrt_rtx"},
        {"version": "10.4.0"}, {"gpu": "Thor 11.0"}, {"shapes": Shapes(640, 481)},
        {"shapes": Shapes(640, 480, 2)}, {"shapes": Shapes(640, 480, 1, (320, 240))},
    ],
)  # fmt: skip
def test_whatever_changes_another_engine_is_compiled(cache, change):
    cache.get(KEY, lambda: ENGINE)
    other = dataclasses.replace(KEY, **change)
    assert cache.get(other, lambda: b"other") == b"other"
    assert cache.get(KEY, never) == ENGINE and len(cache.entries()) == 2


def harm(path, how):
    content = path.read_bytes()
    if how == "foreign":
        path.write_bytes(b"\x7fELF" + content)
    elif how == "stale":  # whole, and of something else
        write_engine(path, dataclasses.replace(KEY, version="9"), ENGINE)
    elif how == "writable by others":
        path.chmod(0o666)
    elif how == "a folder":
        path.unlink()
        path.mkdir()
    elif how.startswith("cut at"):
        path.write_bytes(content[: int(len(content) * float(how.split()[-1]))])
    else:
        place = int(len(content) * float(how.split()[-1]))
        path.write_bytes(content[:place] + bytes([content[place] ^ 1]) + content[place + 1 :])


@pytest.mark.parametrize(
    "how",
    [
        "foreign", "stale", "writable by others", "a folder",
        *(f"cut at {share}" for share in (0, 0.001, 0.01, 0.03, 0.5, 0.9999)),
        *(f"flip at {share}" for share in (0, 0.001, 0.01, 0.02, 0.5, 0.9999)),
    ],
)  # fmt: skip
def test_an_engine_that_is_not_what_it_should_be_is_compiled_anew_with_one_line(cache, caplog, how):
    cache.get(KEY, lambda: ENGINE)
    path = cache.folder / KEY.file_name
    harm(path, how)
    caplog.clear()
    assert cache.get(KEY, lambda: b"new") == b"new"
    lines = [record.getMessage() for record in caplog.records]
    if how == "a folder":  # nor can it be replaced
        assert len(lines) == 2 and "cannot be stored" in lines[1]
        return
    assert len(lines) == 1 and lines[0].endswith("; compiling again") and str(path) in lines[0]
    assert cache.get(KEY, never) == b"new" and len(caplog.records) == 1


@pytest.mark.parametrize("size", ["Infinity", "-1", "99999999999999999", "1e400", '"x"', "null"])
def test_a_header_that_lies_about_its_size_is_no_engine(cache, size):
    cache.get(KEY, lambda: ENGINE)
    path = cache.folder / KEY.file_name
    said = f'"bytes": {len(ENGINE)}'.encode()
    assert said in path.read_bytes()
    path.write_bytes(path.read_bytes().replace(said, f'"bytes": {size}'.encode()))
    assert cache.load(KEY) is None and len(cache.entries()) == 1


@pytest.mark.parametrize("mask", [0o002, 0o077, 0])
def test_whatever_the_umask_what_is_kept_is_found(cache, mask):
    before = os.umask(mask)
    try:
        cache.get(KEY, lambda: ENGINE)
        cache.keep_timings(KEY, b"timings")
    finally:
        os.umask(before)
    assert cache.get(KEY, never) == ENGINE and cache.timings(KEY) == b"timings"
    assert not cache.folder.stat().st_mode & 0o022


def test_no_home_is_no_folder_of_the_working_directory(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CACHE_HOME", "relative")
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    assert EngineCache().folder == tmp_path / "home/.cache/depthseg_ros/engines"
    cache = EngineCache(Path("~/.cache"))
    assert not cache.store(KEY, ENGINE) and not list(tmp_path.iterdir())


def test_a_folder_that_others_can_write_to_is_not_used(cache, caplog):
    cache.get(KEY, lambda: ENGINE)
    cache.folder.chmod(0o770)
    assert cache.get(KEY, lambda: b"new") == b"new"
    assert "expected mode 0700" in caplog.text
    cache.folder.chmod(0o700)
    assert cache.get(KEY, never) == ENGINE  # and was not written to


@pytest.mark.parametrize("folder", ["/proc/depthseg/engines", "/dev/null/engines"])
def test_without_a_folder_it_is_compiled_each_time_and_the_log_says_so(folder, caplog):
    cache = EngineCache(Path(folder))
    for _ in range(2):
        assert cache.get(KEY, lambda: ENGINE) == ENGINE
    lines = [record.getMessage() for record in caplog.records]
    assert all("cannot be stored and is compiled at each start" in line for line in lines[-1:])
    assert cache.entries() == [] and cache.clear() == []


PROCESS = """
    import resource, sys, time
    from pathlib import Path
    from tests_key import KEY
    from depthseg_ros.backends.engine_cache import EngineCache
    cache = EngineCache(Path(sys.argv[1]))
    def compile_engine():
        with open(sys.argv[1] + ".compiled", "a") as file:
            file.write("x")
        time.sleep(float(sys.argv[2]))
        return bytes(100_000)
    if len(sys.argv) > 3:
        resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[3]), int(sys.argv[3])))
    assert len(cache.get(KEY, compile_engine)) == 100_000
"""


@pytest.fixture
def process(tmp_path):
    (tmp_path / "tests_key.py").write_text(
        "from depthseg_ros.backends.engine_cache import Key\n"
        "from depthseg_ros.backends.compiler import Shapes\n"
        f"KEY = {KEY!r}\n"
    )
    script = tmp_path / "process.py"
    script.write_text(textwrap.dedent(PROCESS))
    path = os.pathsep.join((str(tmp_path), *filter(None, sys.path)))

    def start(folder, *arguments):
        return subprocess.Popen(
            [sys.executable, str(script), str(folder), *map(str, arguments)],
            env=os.environ | {"PYTHONPATH": path}, stderr=subprocess.PIPE, text=True,
        )  # fmt: skip

    return start


def compilations(cache):
    path = Path(f"{cache.folder}.compiled")
    return len(path.read_text()) if path.exists() else 0


def test_processes_that_want_the_same_engine_compile_it_once(cache, process):
    running = [process(cache.folder, 1.0) for _ in range(4)]
    for one in running:
        assert one.wait(60) == 0, one.stderr.read()
    assert compilations(cache) == 1


def test_a_process_that_is_killed_while_it_compiles_leaves_no_lock(cache, process):
    killed = process(cache.folder, 600)
    while not compilations(cache):
        time.sleep(0.05)
    killed.kill()
    killed.wait()
    assert cache.get(KEY, lambda: ENGINE) == ENGINE
    assert [p.suffix for p, _ in cache.entries()] == [".engine"]


def test_a_full_disk_costs_a_line_and_leaves_nothing_behind(cache, process):
    full = process(cache.folder, 0, 50_000)
    assert full.wait(60) == 0
    assert "cannot be stored and is compiled at each start" in full.stderr.read()
    assert cache.entries() == []
    assert [p.name for p in cache.folder.iterdir() if not p.name.endswith(".lock")] == []


def test_waiting_for_another_process_can_be_given_up(cache, process):
    other = process(cache.folder, 600)
    while not compilations(cache):
        time.sleep(0.05)
    going_on = threading.Event()

    def stopped():
        raise Cancelled("stopped")

    threading.Timer(0.5, going_on.set).start()
    with pytest.raises(Cancelled):
        cache.get(KEY, stopped, lambda: not going_on.is_set())
    other.kill()
    other.wait()


def test_the_cache_lists_what_was_used_last_first_and_is_cleared(cache):
    first, second = KEY, dataclasses.replace(KEY, name="indoor")
    cache.get(first, lambda: ENGINE)
    cache.get(second, lambda: ENGINE)
    os.utime(cache.folder / second.file_name, (1, 1))
    (cache.folder / "odd.engine").write_bytes(b"odd")
    os.utime(cache.folder / "odd.engine", (0, 0))
    assert [key for _, key in cache.entries()] == [first, second, None]
    cache.keep_timings(KEY, b"timings")
    assert cache.timings(KEY) == b"timings"
    (cache.folder / ".half.engine.123").write_bytes(b"half")  # of a process that was killed
    (cache.folder / "folder.engine").mkdir()
    assert len(cache.clear()) == 3
    assert [p.name for p in cache.folder.iterdir()] == ["folder.engine"]
    assert cache.timings(KEY) == b""


def test_an_engine_file_of_ones_own_says_what_it_is(tmp_path):
    path = tmp_path / "my.engine"
    ranged = dataclasses.replace(KEY, shapes=Shapes(640, 480, 1, (320, 240), (1280, 960)))
    write_engine(path, ranged, ENGINE)
    assert read_key(path) == ranged and read_engine(path) == (ranged, ENGINE)
    path.write_bytes(b"rubbish")
    for read in (read_key, read_engine):
        with pytest.raises(EngineFileError, match="is not an engine compiled by depthseg"):
            read(path)
