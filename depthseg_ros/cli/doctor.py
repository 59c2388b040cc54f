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
"""`depthseg doctor`: what is found on this machine, and what is not.

It is for machines where something is missing, so it imports optional packages only when needed.
"""

from __future__ import annotations

import argparse
import importlib
import os
import platform
import shutil
import sys
from pathlib import Path

from ..imports import PACKAGES, Package, explain


def run(options: argparse.Namespace) -> None:
    """Report which of ROS, backends, GPU and model are found, and what to install.

    Raises:
        ValueError: Something that `depthseg` needs is missing.
    """
    rows = [("Python", f"{platform.python_version()}, {platform.machine()}", "")]
    missing = []
    for package in PACKAGES:
        found, todo = _find(package)
        rows.append((package.title, found or "-", todo))
        if package.needed and not found:
            missing.append(package.title)
    gpu = shutil.which("nvidia-smi") or next(Path("/dev").glob("nvhost-gpu"), None)
    rows.append(("NVIDIA GPU", str(gpu or "-"), "" if gpu else "optional: the CPU works too"))
    try:
        from ..backends import BackendError
        from ..perception import Perception

        try:
            perception = Perception(options.model)
            perception.warm_up()
            rows.append(("model", f"{perception.path}, on {perception.backend.name}", ""))
        except (ValueError, BackendError, ImportError) as error:
            missing.append("model")
            rows.append(("model", "-", str(error)))
    except Exception as error:  # an import of theirs is missing, and has its row above
        line = explain(error)
        if line is None:
            raise
        rows.append(("model", "-", "not tested: it needs what is missing above"))
    _print(rows)
    if missing:
        raise ValueError(f"missing: {', '.join(missing)}")


def _find(package: Package) -> tuple[str, str]:
    """A package's version, empty if it is missing, and what to do."""
    try:
        imported = importlib.import_module(package.module)
    except ModuleNotFoundError as error:
        if error.name and f"{package.module}.".startswith(f"{error.name}."):
            return "", package.advice
        return "", explain(error) or package.advice
    except Exception as error:  # installed, but it does not load
        return "", explain(error) or f"{error}: {package.advice}"
    if package.module == "rclpy":
        folder = os.environ.get("AMENT_PREFIX_PATH", "").split(os.pathsep)[-1]
        return f"{os.environ.get('ROS_DISTRO') or 'ROS_DISTRO is not set'}, {folder}", ""
    return str(getattr(imported, "__version__", "yes")), ""


def _print(rows: list[tuple[str, str, str]]) -> None:
    try:
        from rich.console import Console
        from rich.markup import escape
        from rich.table import Table
    except ImportError:
        for row in rows:
            print(": ".join(filter(None, row)), file=sys.stdout)
        return
    table = Table("what", "found", "what to do")
    for row in rows:
        table.add_row(*map(escape, row))
    Console().print(table)
