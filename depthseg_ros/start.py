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
"""Start the package's executables; a failed import is reported in one line, without traceback."""

from __future__ import annotations

import sys
from importlib import import_module

from .imports import explain


def start(module: str, name: str) -> int:
    """Run `main()` of a module of this package; returns the exit code.

    Args:
        module: Name of the module, e.g. `node.camera_node`.
        name: Name of the executable, for the error line.
    """
    try:
        main = import_module(f"{__package__}.{module}").main
    except Exception as error:
        line = explain(error)
        if line is None:  # an internal error
            raise
        print(f"{name}: {line}", file=sys.stderr)
        return 1
    return int(main())


def depthseg() -> int:
    """Run the command `depthseg`, as pip installs it."""
    return start("cli.main", "depthseg")
