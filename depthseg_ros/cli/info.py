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

"""`depthseg info`: print a model file's card."""

from __future__ import annotations

import argparse

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from .. import model_card
from ..precision import choose_file


def run(options: argparse.Namespace) -> None:
    """Print a model file's card."""
    chosen = choose_file(options.model, options.precision)
    if chosen.backend is not None:
        chosen.backend.close()
    card = model_card.read(chosen.path)
    if options.json:
        print(card.to_json())
        return
    console = Console()
    facts = Table(title=escape(str(chosen.path)), show_header=False)
    depth = card.depth
    unit = "m" if card.metric else "(not metres)"
    for name, value in (
        *([("file", f"{chosen.path.name}: {chosen.why}")] if chosen.why else []),
        ("name", card.name),
        ("system", f"{card.system}, {card.parameters / 1e6:.2f} M parameters, {card.precision}"),
        ("network size", "{} x {}, fit: {}".format(*card.network_size, card.fit.kind)),
        ("inputs", ", ".join(card.inputs)),
        ("depth", f"{depth.kind}, {depth.min:g} to {depth.max:g} {unit}" if depth else "none"),
        ("outputs", ", ".join(card.outputs)),
        ("trained on", ", ".join(card.trained_on)),
        ("terms", card.terms),
        *((name, f"{value:g}") for name, value in card.metrics.items()),
    ):
        facts.add_row(escape(name), escape(value))
    console.print(facts)
    classes = Table("id", "class", "colour", "flags")
    for c in card.classes:
        patch = "[on rgb({},{},{})]      [/]".format(*c.color)
        classes.add_row(str(c.id), escape(c.name), patch, " ".join(c.flags))
    console.print(classes)
