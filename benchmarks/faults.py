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

"""`python -m benchmarks.faults RESULTS --write DOCUMENT`: faults that the node survived, a table.

It is printed, and put between two comments in the document, whose other sections stay.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from xml.etree import ElementTree

from benchmarks import run
from benchmarks.fuzz import put


def main(arguments: list[str] | None = None) -> None:
    """Print the table, and write it."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.faults", description=__doc__)
    parser.add_argument("results", type=Path, help="JUnit XML of tests/ros/test_faults.py")
    parser.add_argument("--write", type=Path, required=True, help="Markdown to put the table into")
    options = parser.parse_args(arguments)
    made = table(options.results.read_text())
    print(made)
    options.write.write_text(put(options.write.read_text(), "faults", made))


def table(results: str) -> str:
    """A line for each test: its name in words, whether it passed, and what it noted."""
    rows = ["| fault | survived | recovered [s] | growth [%] |", "|---|---|---:|---:|"]
    for case in ElementTree.fromstring(results).iter("testcase"):
        noted = {p.get("name"): float(p.get("value", "nan")) for p in case.iter("property")}
        fault = case.get("name", "").removeprefix("test_").replace("_", " ").replace("[", ": ")
        survived = "no" if case.find("failure") is not None else "yes"
        recovered = f"{noted['recovered']:.1f}" if "recovered" in noted else ""
        growth = f"{100 * noted['growth']:.2f}" if "growth" in noted else ""
        rows.append(f"| {fault.rstrip(']')} | {survived} | {recovered} | {growth} |")
    return "\n".join(rows)


if __name__ == "__main__":
    sys.exit(run("faults", main))
