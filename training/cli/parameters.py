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

"""`python -m training parameters`: how many parameters each system has, as published."""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable

import torch
from rich.console import Console
from rich.table import Table

from ..models.base import System
from ..models.systems.depthsegnet import DepthSegNet, ResNet50
from ..models.systems.lateral_sharing import LateralSharing
from ..models.systems.semantic_guided import SemanticGuided
from ..models.systems.shared_encoder import SharedEncoder
from ..models.systems.two_image_u2net import TwoImageU2Net
from ..models.systems.two_stream_fcn import TwoStreamFcn

DEPTH = ("depth",)
SYSTEMS: dict[str, Callable[[], System]] = {
    "shared_encoder": SharedEncoder,
    "depthsegnet (VGG)": DepthSegNet,
    "depthsegnet (VGG), depth alone": lambda: DepthSegNet(tasks=DEPTH),
    "depthsegnet (ResNet-50)": lambda: DepthSegNet(encoder=ResNet50()),
    "depthsegnet (ResNet-50), depth alone": lambda: DepthSegNet(tasks=DEPTH, encoder=ResNet50()),
    "two_image_u2net": TwoImageU2Net,
    "two_stream_fcn": TwoStreamFcn,
    "lateral_sharing": LateralSharing,
    "lateral_sharing, no sharing": lambda: LateralSharing(sharing=False),
    "semantic_guided": SemanticGuided,
}


def main(arguments: list[str]) -> None:
    """Print the counts."""
    parser = argparse.ArgumentParser(prog="python -m training parameters", description=__doc__)
    parser.add_argument("--json", action="store_true", help="print JSON instead of a table")
    options = parser.parse_args(arguments)
    counts = count()
    if options.json:
        print(json.dumps(counts, indent=2))
        return
    table = Table("system", "parameters")
    for name, number in counts.items():
        table.add_row(name, f"{number:,}")
    Console().print(table)


def count() -> dict[str, int]:
    """Parameters of each system at its published size; nothing is allocated."""
    with torch.device("meta"):
        return {name: sum(p.numel() for p in make().parameters()) for name, make in SYSTEMS.items()}
