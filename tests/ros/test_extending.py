"""Who follows docs/extending.md to the letter, in a copy of the checkout, gets what it says."""

import os
import re
import shutil
import subprocess
from pathlib import Path
from typing import NamedTuple

import pytest

pytest.importorskip("rclpy", reason="needs ROS 2")
pytest.importorskip("depthseg_ros.msg", reason="needs the built package: tools/env.sh pytest")

import depthseg_ros

pytestmark = pytest.mark.ros

ROOT = Path(__file__).parents[2]
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


@pytest.fixture(scope="module")
def checkout(tmp_path_factory):
    """A copy of the checkout, with its built package, in which all of the guide was followed."""
    if ROOT / ".ros" not in Path(depthseg_ros.__file__).parents:
        pytest.skip("needs the package that `make setup` builds")
    checkout = tmp_path_factory.mktemp("guide") / "checkout"
    ours = shutil.ignore_patterns(
        ".git", ".ros", ".venv", ".*_cache", "__pycache__", "*.egg-info",
        "build", "demo", "dist", "install", "log", "runs", "soak",
    )  # fmt: skip
    shutil.copytree(ROOT, checkout, ignore=ours)
    shutil.copytree(ROOT / ".ros" / "install", checkout / ".ros" / "install", symlinks=True)
    (checkout / ".venv").symlink_to((ROOT / ".venv").resolve())
    for step in steps():
        step.follow(checkout)
    return checkout


@pytest.mark.parametrize("script", scripts(), ids=lambda script: script.splitlines()[-1])
def test_what_the_guide_says_to_run_passes(checkout, script):
    environment = {name: os.environ[name] for name in KEPT if name in os.environ}
    for command in script.splitlines():
        if command == "make setup":
            lay_over(checkout)
            continue
        # The packages of .venv are the checkout's, whatever the dates of the copy say.
        command = command.replace("make check", "make -o .venv/packages check")
        run = subprocess.run(
            ["bash", "-c", command], cwd=checkout, env=environment, capture_output=True, text=True
        )
        assert run.returncode == 0, f"{command}\n{run.stdout[-6000:]}\n{run.stderr[-6000:]}"
        assert " skipped" not in run.stdout, f"{command}\n{run.stdout[-6000:]}"


def test_the_guide_has_an_example_of_each():
    headings = re.findall(r"^## (.*)$", GUIDE, re.MULTILINE)
    assert headings == [
        "A training system",
        "A data set reader",
        "A backend",
        "An output topic",
        "A parameter",
    ]
    for section in re.split(r"^## .*$", GUIDE, flags=re.MULTILINE)[1:]:
        commands = [block["code"] for block in BLOCK.finditer(section) if block["language"] == "sh"]
        assert any("tools/env.sh pytest tests/" in command for command in commands)
