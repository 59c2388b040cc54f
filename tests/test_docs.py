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

"""The documents are true: what is generated is current, commands run, the site builds."""

import importlib.util
import re
import shutil
import subprocess
import sys
import xml.etree.ElementTree as ElementTree
from pathlib import Path
from typing import NamedTuple

import pytest

ROOT = Path(__file__).resolve().parent.parent
PAGES = [
    *(
        ROOT / name
        for name in ("README.md", "CONTRIBUTING.md", "models/README.md", "examples/README.md")
    ),
    *sorted((ROOT / "docs").rglob("*.md")),
]
PLAIN = ("text", "yaml", "json", "ini", "{include}", "{toctree}", "{eval-rst}")
"""Kinds of blocks that are no commands."""


class Block(NamedTuple):
    """A fenced block of a page, and the comment before it."""

    page: Path
    line: int
    kind: str
    text: str
    mark: str

    @property
    def name(self) -> str:
        return f"{self.page.relative_to(ROOT)}:{self.line}"


def blocks() -> list[Block]:
    found = []
    for page in PAGES:
        text = page.read_text(encoding="utf-8")
        whole = re.search(r"^<!-- page (tested by .*) -->$", text, re.MULTILINE)
        mark, before, kind, start, lines = "", "", None, 0, []
        for number, line in enumerate(text.splitlines(), 1):
            if kind is None and line.startswith("```"):
                before, kind, start, lines = mark, line[3:].split(" ")[0], number, []
            elif kind is not None and line == "```":
                if kind not in PLAIN:
                    found.append(
                        Block(page, start, kind, "\n".join(lines), whole[1] if whole else before)
                    )
                kind = None
            elif kind is not None:
                lines.append(line)
            comment = re.fullmatch(r"<!-- (.*) -->", line)
            mark = comment[1] if comment else ""
    return found


BLOCKS = blocks()


def generator():
    spec = importlib.util.spec_from_file_location("generate", ROOT / "docs" / "generate.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.ros
@pytest.mark.parametrize(
    "name",
    [
        "docs/reference/topics.md",
        "docs/reference/parameters.md",
        "docs/reference/messages.md",
        "docs/reference/launch.md",
        "docs/reference/command_line.md",
        "docs/reference/model_card.md",
        "docs/reference/wrap_spec.md",
        "config/wrap/schema.json",
        "config/depthseg.yaml",
    ],
)
def test_what_is_generated_is_what_the_code_says(name):
    if name.endswith("command_line.md"):
        pytest.importorskip("lightning")
    assert generator().PAGES[name]() == (ROOT / name).read_text(encoding="utf-8"), (
        f"{name} is out of date: make docs"
    )


@pytest.mark.parametrize("block", BLOCKS, ids=lambda block: block.name)
def test_a_command_runs_or_says_why_it_is_not_run(block, tmp_path):
    """In a folder that has what a checkout has: its own files are written beside, not into it."""
    kind, _, reason = block.mark.partition(": ")
    if kind == "not run":
        assert len(reason.split()) >= 2, "not run, and no reason"
        return
    if block.mark.startswith("tested by "):
        for file in block.mark.removeprefix("tested by ").split(", "):
            assert (ROOT / file).is_file(), f"there is no {file}"
        return
    asks = re.search(r"^(make|pip|sudo|ros2|colcon|source|git|docker)\b", block.text, re.MULTILINE)
    assert not asks, f"{asks[0]}: changes the machine, or is not here; say why it is not run"
    for path in ROOT.iterdir():
        if not path.name.startswith(".") and path.name not in ("demo", "runs", "out"):
            (tmp_path / path.name).symlink_to(path)
    if block.kind == "python":
        command = [sys.executable, "-c", block.text]
    else:
        command = ["bash", "-e", "-o", "pipefail", "-c", block.text]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, f"{block.text}\n{done.stdout}\n{done.stderr}"


def test_the_site_builds_without_warnings(tmp_path):
    pytest.importorskip("sphinx")
    pytest.importorskip("rclpy", reason="the reference imports the node")
    command = [
        sys.executable,
        "-m",
        "sphinx",
        "-W",
        "--keep-going",
        "-q",
        "docs",
        tmp_path / "site",
    ]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "Perception" in (tmp_path / "site" / "reference" / "api.html").read_text()
    shutil.rmtree(tmp_path / "site")


OF_EVERY_NODE = (
    "/rosout|/parameter_events|/clock|/tf|/tf_static|.*/transition_event|.*/(get|set|list|describe)_param.*"
    "|.*/set_parameters_atomically|.*/get_parameter_types|.*/get_type_description"
    "|.*/(change_state|get_(available_)?(state|states|transitions|transition_graph))"
)


def test_the_reference_names_all_that_the_nodes_open():
    """By the SROS2 policy, which tests/ros/test_security.py holds to the real nodes."""
    policy = ElementTree.parse(ROOT / "config" / "sros2_policy.xml")
    opened = {
        entry.text if entry.text[0] in "~/" else f"/{entry.text}"
        for tag in ("topic", "service")
        for entry in policy.iter(tag)
    }
    own = {name for name in opened if not re.fullmatch(OF_EVERY_NODE, name)}
    reference = (ROOT / "docs" / "reference" / "topics.md").read_text(encoding="utf-8")
    told = re.findall(r"^\| `([~/\w]+)`", reference, re.MULTILINE)
    told = {name if name[0] in "~/" else f"/{name}" for name in told}
    assert {name for name in told if not re.fullmatch(OF_EVERY_NODE, name)} == own
