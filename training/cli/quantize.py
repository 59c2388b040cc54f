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

"""`python -m training quantize`: write the int8 file of a model file."""

from __future__ import annotations

import argparse
from pathlib import Path

from ..data.sources import open_source, parse
from ..export.quantization import quantize_beside
from .arguments import DATA, positive


def main(arguments: list[str]) -> None:
    """`python -m training quantize`."""
    parser = argparse.ArgumentParser(
        prog="python -m training quantize",
        description="Write the int8 file of a model file in fp32 beside it: of NAME.onnx,"
        " NAME-int8.onnx, which depthseg takes on a CPU where it is faster.",
    )
    parser.add_argument("model", type=Path, help="a model file (.onnx) in fp32")
    parser.add_argument(
        "--data",
        **DATA,
        required=True,
        help="data sets whose train split has the images to measure the ranges of activations on",
    )
    parser.add_argument(
        "--count", type=positive, default=100, help="images of each (default: %(default)s)"
    )
    options = parser.parse_args(arguments)
    named = parse(options.data).items()
    sources = [open_source(name, "train", folder, options.count) for name, folder in named]
    print(quantize_beside(options.model, sources))
