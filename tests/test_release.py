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

"""The archive of `make source-release`: what it holds, and that it is the same each time."""

import re
import subprocess
import tarfile
import xml.etree.ElementTree as ElementTree
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
RELEASE = f"depthseg_ros-{ElementTree.parse(ROOT / 'package.xml').findtext('version')}"


def make_release(folder):
    command = ["make", "-s", "source-release", f"DIST={folder}"]
    made = subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True)
    assert f"{RELEASE}.tar.gz" in made.stdout, "its size is not told"
    assert [path.name for path in folder.iterdir()] == [f"{RELEASE}.tar.gz"]
    return folder / f"{RELEASE}.tar.gz"


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """The files of the archive, by their names in the package."""
    if not (ROOT / ".git").exists():
        pytest.skip("needs a git checkout")
    path = make_release(tmp_path_factory.mktemp("release"))
    with tarfile.open(path) as archive:
        members = [m for m in archive if not m.isdir()]
        assert all(m.isfile() and m.name.startswith(f"{RELEASE}/") for m in members)
        return {m.name.removeprefix(f"{RELEASE}/"): archive.extractfile(m).read() for m in members}


def test_it_holds_what_is_committed_and_nothing_else(files):
    command = ["git", "ls-tree", "-rz", "--name-only", "HEAD"]
    listed = subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True).stdout
    assert set(files) == set(listed.split("\0")) - {""}


def test_it_holds_what_cmake_names(files):
    cmake = files["CMakeLists.txt"].decode()
    interfaces = re.findall(r"^  ((?:msg|srv)/\w+\.(?:msg|srv))$", cmake, re.MULTILINE)
    assert interfaces and set(interfaces) <= set(files)
    folders = re.search(r"foreach\(folder IN ITEMS (.*)\)", cmake)[1].split()
    for folder in ("depthseg_ros", *folders):
        assert any(name.startswith(f"{folder}/") for name in files), folder
    assert {"package.xml", ".flake8"} <= set(files)


def test_it_holds_what_setup_py_reads(files):
    read = {"setup.py", "package.xml", "README.md", "LICENSE", "depthseg_ros/py.typed"}
    assert read <= set(files)
    assert any(re.fullmatch(r"models/\w+\.onnx", name) for name in files)


def test_it_is_the_same_each_time(files, tmp_path):
    first, second = tmp_path / "first", tmp_path / "second"
    assert make_release(first).read_bytes() == make_release(second).read_bytes()
