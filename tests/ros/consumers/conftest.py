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

"""Real consumers, where they are installed, started by the commands of docs/planners.md."""

from __future__ import annotations

import re
import shlex
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[3]


@pytest.fixture(scope="module")
def recipe(start_process: Callable[[list[str]], Any]) -> Callable[..., Any]:
    """Starts the command of a section of docs/planners.md that runs an executable of a package.

    `without` leaves out the parameters of these names; `more` is appended. Skips the test where the
    package is not installed.
    """
    from ament_index_python.packages import PackageNotFoundError, get_package_prefix

    def recipe(
        section: str,
        package: str,
        executable: str,
        without: tuple[str, ...] = (),
        more: tuple[str, ...] = (),
    ) -> Any:
        try:
            prefix = get_package_prefix(package)
        except PackageNotFoundError:
            pytest.skip(f"needs the package {package}")
        text = (ROOT / "docs" / "planners.md").read_text(encoding="utf-8").replace("\\\n", " ")
        text = text.partition(f"\n## {section}\n")[2].partition("\n## ")[0]
        (command,) = re.findall(rf"^ros2 run {package} {executable} (.*)$", text, re.MULTILINE)
        program = Path(prefix, "lib", package, executable)
        given = shlex.split(command)
        for name in without:
            (at,) = [i for i, word in enumerate(given) if word.startswith(f"{name}:=")]
            del given[at - 1 : at + 1]
        return start_process([str(program), *given, *more])

    return recipe
