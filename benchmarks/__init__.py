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

"""Benchmarks; each prints a table, or with `--json` the same as JSON."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import NoReturn

ROOT = Path(__file__).parents[1]


def run(name: str, main: Callable[[], None]) -> int:
    """Run a benchmark; what goes wrong is one line. Returns the exit code."""
    try:
        main()
    except (ValueError, RuntimeError, OSError) as error:  # those of training and backends, too
        print(f"{name}: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    return 0


def become(script: str) -> NoReturn:
    """Go on as a script of `node/`, with the same arguments, in the built package's environment.

    As a script of that environment, since the checkout's own folder, which `python -m` looks in
    first, has no messages.
    """
    os.environ.pop("PYTHONSAFEPATH", None)  # the script imports what lies beside it
    path = str(ROOT / "benchmarks/node" / script)
    os.execv(ROOT / "tools/env.sh", ["env.sh", "python", path, *sys.argv[1:]])
