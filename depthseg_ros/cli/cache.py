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

"""`depthseg cache`: list or delete this user's compiled engines."""

from __future__ import annotations

import argparse

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from ..precision import forget


def run(options: argparse.Namespace) -> None:
    """List or delete this user's compiled engines."""
    from ..backends.engine_cache import EngineCache

    engines = EngineCache()
    if options.action == "clear":
        print(f"deleted {len(engines.clear())} engines from {engines.folder}")
        forget()
        return
    table = Table(
        "model", "precision", "images", "TensorRT", "GPU", "MB", title=escape(str(engines.folder))
    )
    for path, key in engines.entries():
        size = f"{path.stat().st_size / 1e6:.1f}"
        if key is None:
            table.add_row(escape(path.name), "unreadable", "", "", "", size)
        else:
            runtime = f"{key.flavour} {key.version}"
            row = (key.name, key.precision, str(key.shapes), runtime, key.gpu, size)
            table.add_row(*map(escape, row))
    Console().print(table)
