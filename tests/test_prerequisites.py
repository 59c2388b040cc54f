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
"""`make setup` on a machine where something is missing: one line with what to install."""

import runpy
import subprocess
import sys
import sysconfig
from pathlib import Path

import numpy as np
import pytest
import yaml

ROOT = Path(__file__).resolve().parent.parent
SCRIPT = ROOT / "tools" / "prerequisites.py"


@pytest.fixture
def said(monkeypatch, capsys):
    """What the script prints of a machine, with its exit code."""

    def run(*arguments):
        monkeypatch.setattr(sys, "argv", [str(SCRIPT), *arguments])
        with pytest.raises(SystemExit) as ended:
            runpy.run_path(str(SCRIPT), run_name="__main__")
        return ended.value.code, capsys.readouterr().out

    return run


def test_a_machine_with_all_of_it_needs_no_words(said):
    assert said("--ros-from-pypi") == (0, "")


def test_all_that_is_missing_is_one_line_of_packages(said, monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("CXX", raising=False)
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    monkeypatch.setattr("sysconfig.get_path", lambda name: str(tmp_path))
    monkeypatch.setattr(sys, "executable", "/usr/bin/python3")
    code, line = said()
    assert code == 1 and line.count("\n") == 1
    assert line.endswith("apt install python3-venv python3-dev g++)\n")


@pytest.mark.parametrize("version", [(3, 9, 18), (3, 15, 0)])
def test_a_python_without_ros_is_refused_with_those_that_have_it(said, monkeypatch, version):
    monkeypatch.setattr(sys, "version_info", version)
    code, line = said("--ros-from-pypi")
    assert code == 1 and "3.10 to 3.14" in line and "make setup PYTHON=" in line
    assert said() == (0, "")  # an installed ROS 2 brings its own


def test_make_names_a_python_that_is_not_there(tmp_path):
    (tmp_path / "Makefile").symlink_to(ROOT / "Makefile")
    command = ["make", "-s", ".venv/ros-prefix", "PYTHON=python3.99", "ROS_PREFIX="]
    made = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert made.returncode == 2 and "there is no python3.99" in made.stdout
    assert "apt install python3" in made.stdout and not (tmp_path / ".venv").exists()


def test_the_workflow_runs_on_every_python_that_has_ros():
    workflow = yaml.safe_load((ROOT / ".github/workflows/test.yml").read_text(encoding="utf-8"))
    (job,) = workflow["jobs"].values()
    names = runpy.run_path(str(SCRIPT))
    (_, oldest), (_, newest) = names["OLDEST"], names["NEWEST"]
    pythons = [f"3.{minor}" for minor in range(oldest, newest + 1)]
    assert job["strategy"]["matrix"]["python"] == pythons


def test_wheels_are_patched_in_one_environment_alone_whatever_paths_they_hold(tmp_path):
    """uv links the files of a wheel from its cache into each environment."""
    patch = runpy.run_path(str(ROOT / "tools/patch_ros_wheels.py"))["patch"]
    cached = tmp_path / "cache.cmake"
    numpy = "lib/python3.12/site-packages/numpy/_core/include"
    text = f'INCLUDES "/opt/python/cp312-cp312/include/python3.12;/old/clone/.venv/{numpy}"'
    cached.write_text(text)
    folder = tmp_path / "env" / "share" / "std_msgs" / "cmake"
    folder.mkdir(parents=True)
    (folder / "export.cmake").hardlink_to(cached)
    assert patch(tmp_path / "env") == 1
    patched = (folder / "export.cmake").read_text()
    assert patched == f'INCLUDES "{sysconfig.get_path("include")};{np.get_include()}"'
    assert cached.read_text() == text
    assert patch(tmp_path / "env") == 0
