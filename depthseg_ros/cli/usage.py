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

"""Shared by the commands: usage errors, check of an output file, progress bar."""

from __future__ import annotations

import os
from pathlib import Path

from rich.console import Console
from rich.progress import Progress


class UsageError(ValueError):
    """The command line is wrong."""

    exit_code = 2


def check_target(option: str, path: Path) -> None:
    """Check that a file can be written before long work begins; raises `UsageError`."""
    if path.is_dir():
        raise UsageError(f"{option} {path} is a folder, expected a file to write")
    if not os.access(path.absolute().parent, os.W_OK):
        raise UsageError(f"{option} {path}: its folder does not exist or is not writable")


def progress_bar() -> Progress:
    """A progress bar on stderr if that is a terminal, otherwise a silent one."""
    console = Console(stderr=True)
    console.quiet = not console.is_terminal  # Rich 11 writes an empty line although disabled
    return Progress(console=console, disable=console.quiet)
