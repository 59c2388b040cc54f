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

"""docs/extending.md as a list of things to do, and a copy of the checkout to do them in."""

import os
import re
import shutil
import subprocess
from pathlib import Path
from typing import NamedTuple

import pytest

import depthseg_ros

ROOT = Path(__file__).resolve().parent.parent
GUIDE = (ROOT / "docs" / "extending.md").read_text(encoding="utf-8")
BLOCK = re.compile(
    r"^(?P<before>[^\n]*)\n```(?P<language>\w*)\n(?P<code>.*?)^```$", re.MULTILINE | re.DOTALL
)
STEP = re.compile(
    r"(?P<where>New file|At the end of|In) `(?P<path>[^`]+)`"
    r"(, (?P<how>above|below|in place of) the line that begins with"
    r" (?P<tick>`+) ?(?P<line>.+?) ?(?P=tick))?:"
)
# What the guide's commands need of the environment; the copy's own tools/env.sh sets the rest.
KEPT = ("HOME", "LANG", "OMP_NUM_THREADS", "PATH", "RMW_IMPLEMENTATION", "TMPDIR")


class Step(NamedTuple):
    """A change that the guide asks for."""

    where: str
    path: str
    how: str | None
    line: str | None
    code: str

    def follow(self, checkout: Path) -> None:
        path = checkout / self.path
        if self.where == "New file":
            assert not path.exists(), f"{self.path} exists"
            path.write_text(self.code)
            return
        lines = path.read_text(encoding="utf-8").splitlines(keepends=True)
        first = last = len(lines)
        if self.where == "In":
            found = [i for i, text in enumerate(lines) if text.strip().startswith(self.line)]
            assert len(found) == 1, f"{self.path} has {len(found)} lines that begin as {self.line}"
            first = found[0] + (self.how == "below")
            last = found[0] + (self.how != "above")
        lines[first:last] = [self.code]
        path.write_text("".join(lines), encoding="utf-8")


def steps() -> list[Step]:
    """All changes of the guide, in its order."""
    found = []
    for block in BLOCK.finditer(GUIDE):
        if block["language"] != "sh":
            step = STEP.fullmatch(block["before"])
            assert step, f"no file is said for the block below {block['before']!r}"
            found.append(Step(*step.group("where", "path", "how", "line"), block["code"]))
    return found


def scripts() -> list[str]:
    """All blocks of commands of the guide, in its order."""
    return [block["code"] for block in BLOCK.finditer(GUIDE) if block["language"] == "sh"]


def lay_over(checkout: Path) -> None:
    """What `make setup` does with changed sources, without building the messages anew."""
    built = Path(depthseg_ros.__file__).parent.relative_to(ROOT)
    share = Path(".ros/install/depthseg_ros/share/depthseg_ros")
    for source, target in (("depthseg_ros", built), ("config", share / "config")):
        shutil.copytree(checkout / source, checkout / target, dirs_exist_ok=True)


def copied(folder: Path) -> Path:
    """A copy of the checkout, with its built package, in which all of the guide was followed."""
    if ROOT / ".ros" not in Path(depthseg_ros.__file__).parents:
        pytest.skip("needs what `make setup` builds: run as `tools/env.sh pytest`")
    checkout = folder / "checkout"
    others = shutil.ignore_patterns(
        ".git", ".ros", ".venv", ".*_cache", "__pycache__", "*.egg-info",
        "build", "demo", "dist", "install", "log", "runs", "soak",
    )  # fmt: skip
    shutil.copytree(ROOT, checkout, ignore=others)
    shutil.copytree(ROOT / ".ros" / "install", checkout / ".ros" / "install", symlinks=True)
    (checkout / ".venv").symlink_to((ROOT / ".venv").resolve())
    for step in steps():
        step.follow(checkout)
    return checkout


def run(checkout: Path, script: str) -> None:
    """Run a block of commands; none may fail, and no test be skipped."""
    environment = {name: os.environ[name] for name in KEPT if name in os.environ}
    environment["MYPY_CACHE_DIR"] = str(
        ROOT / ".mypy_cache"
    )  # a minute less, once `make check` ran
    for command in script.splitlines():
        if command == "make setup":
            lay_over(checkout)
            continue
        # The packages of .venv are the checkout's, whatever the dates of the copy say.
        command = command.replace("make check", "make -o .venv/packages check")
        done = subprocess.run(
            ["bash", "-c", command], cwd=checkout, env=environment, capture_output=True, text=True
        )
        assert done.returncode == 0, f"{command}\n{done.stdout[-6000:]}\n{done.stderr[-6000:]}"
        assert " skipped" not in done.stdout, f"{command}\n{done.stdout[-6000:]}"
