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

"""`python -m benchmarks.fuzz RESULTS --write DOCUMENT`: what the fuzz tests tried, as a table.

It is printed, and put between two comments in the document, whose other sections stay.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

from benchmarks import run

COLUMNS = ("what", "tried", "refused", "crashes", "growth_mb")


def main(arguments: list[str] | None = None) -> None:
    """Print the table, and write it."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.fuzz", description=__doc__)
    parser.add_argument("results", type=Path, help="JSON that the tests wrote")
    parser.add_argument("--write", type=Path, required=True, help="Markdown to put the table into")
    options = parser.parse_args(arguments)
    made = table(json.loads(options.results.read_text()))
    print(made)
    options.write.write_text(put(options.write.read_text(), "fuzz", made))


def table(results: list[dict[str, str | float]]) -> str:
    """A line for each thing that was tried, and their sum."""
    sums = {name: sum(result[name] for result in results) for name in COLUMNS[1:4]}  # type: ignore[misc]
    rows = [
        ["", "tried", "refused", "crashes", "growth [MB]"],
        ["---", *["---:"] * 4],
        *([str(result[name]) for name in COLUMNS] for result in results),
        ["all", *map(str, sums.values()), ""],
    ]
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


def put(document: str, target: str, made: str) -> str:
    """The document with a table between the comments that name the target of make."""
    opening, closing = f"<!-- begin: make {target} -->", f"<!-- end: make {target} -->"
    before, begin, rest = document.partition(opening)
    _, end, after = rest.partition(closing)
    if not (begin and end):
        raise ValueError(f"the document lacks the lines {opening} and {closing}")
    return f"{before}{opening}\n{made}\n{closing}{after}"


if __name__ == "__main__":
    sys.exit(run("fuzz", main))
