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
"""`depthseg wrap`: make a model file from ONNX files of any origin."""

from __future__ import annotations

import argparse

from ..wrap import describe, wrap
from .usage import UsageError, check_target


def run(options: argparse.Namespace) -> None:
    """Make a model file as a SPEC describes it, or describe an ONNX file."""
    if options.describe is not None:
        if options.spec is not None or options.output is not None:
            raise UsageError("--describe takes no SPEC and no --output")
        print(describe(options.describe), end="")
        return
    if options.spec is None or options.output is None:
        raise UsageError("expected SPEC.yaml --output MODEL.onnx, or --describe FILE.onnx")
    if options.output.suffix != ".onnx":
        raise UsageError(f"--output {options.output}: expected a name that ends in .onnx")
    check_target("--output", options.output)
    card = wrap(options.spec, options.output)
    depth = f"{card.depth.kind} depth" if card.depth else ""
    labels = f"{len(card.classes)} classes" if card.classes else ""
    print(f"{options.output}: {card.name}, {' and '.join(filter(None, (labels, depth)))}")
    guesses = options.spec.read_text(encoding="utf-8").count("# guess")
    if guesses:
        print(f"{options.spec} has {guesses} guesses of --describe: check them, remove the marks")
