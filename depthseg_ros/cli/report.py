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

"""`depthseg report`: measure a model file and write a page about it."""

from __future__ import annotations

import argparse
import math
import sys
from pathlib import Path

from ..perception import Perception
from .usage import UsageError, check_target


def run(options: argparse.Namespace) -> None:
    """Write a page about the accuracy and speed of a model file."""
    from . import report_page as reports
    from .speed import benchmark

    check_target("--output", options.output)
    if options.data == "street":
        samples, data, pairs = reports.street_samples(options.count), "rendered streets", []
    elif Path(options.data).is_dir():
        pairs = reports.folder_pairs(Path(options.data))
        fov = math.radians(options.fov)
        samples, data = reports.folder_samples(pairs, options.fx, fov), options.data
    else:
        raise UsageError(f"DATA is {options.data!r}, expected street or a folder of images")
    perception = Perception(options.model, options.backend, precision=options.precision)
    if perception.card.needs_background:
        raise UsageError(
            f"the model {perception.card.name} needs a background image: report does not support it"
        )
    notes = reports.check_ids(pairs, perception.card) if pairs else []
    for note in notes:  # before hours of work
        print(f"depthseg report: {note}", file=sys.stderr)
    measures, worst, count = reports.evaluate(perception, samples)
    speeds = benchmark(perception.path, (640, 480), [options.backend], rounds=20)
    card = perception.card
    text = reports.page(perception.path, card, data, measures, worst, count, speeds, notes)
    reports.write(options.output, text)
    print(f"{options.output}: {count} images")
