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

"""Command-line arguments and output that several commands share."""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterable
from typing import Any

from rich.console import Console

from ..data.sources import parse_yaml
from ..errors import TrainingError
from ..evaluation.accuracy import Cells, markdown, table

DATA: dict[str, Any] = {"nargs": "+", "metavar": "NAME[=FOLDER]"}
"""Arguments of `add_argument` for data sets; `data.sources.parse` parses them."""


def positive(text: str) -> int:
    """Parse an integer of at least 1."""
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text} is not a whole number of at least 1")
    return int(text)


def add_settings(parser: argparse.ArgumentParser, text: str) -> None:
    """Add `--set`, which `read_settings` parses."""
    parser.add_argument("--set", nargs="+", default=[], metavar="KEY=VALUE", help=text)


def read_settings(texts: Iterable[str]) -> dict[str, Any]:
    """Parse KEY=VALUE with dotted keys of a configuration; raises `TrainingError`."""
    changes = {}
    for text in texts:
        key, equals, value = text.partition("=")
        if not equals:
            raise TrainingError(f"--set {text}: expected KEY=VALUE")
        changes[key] = parse_yaml(value)
    return changes


def add_format(parser: argparse.ArgumentParser) -> None:
    """Add `--json` and `--markdown`."""
    shape = parser.add_mutually_exclusive_group()
    shape.add_argument("--json", action="store_true", help="print JSON instead of a table")
    shape.add_argument("--markdown", action="store_true", help="print a Markdown table")


def print_results(results: Cells, options: argparse.Namespace, caption: str | None = None) -> None:
    """Print results as a table, or in the format of the options of `add_format`."""
    if options.json:
        print(json.dumps(results, indent=2))
    elif options.markdown:
        print(markdown(results))
    else:
        Console().print(table(results, caption))
