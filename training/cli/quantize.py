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

from torch.utils.data import Dataset

from depthseg_ros.imaging.image_files import list_images

from ..data.images import read_rgb
from ..data.readers.folder import DESCRIPTION, SOURCE, TERMS
from ..data.sample import Sample
from ..data.sources import FOLDER, GENERATED, Source, open_source, parse
from ..errors import TrainingError
from ..export.quantization import quantize_beside
from .arguments import positive


def main(arguments: list[str]) -> None:
    """`python -m training quantize`."""
    parser = argparse.ArgumentParser(
        prog="python -m training quantize",
        description="Write NAME-int8.onnx, the int8 file of a model file NAME.onnx in fp32."
        " depthseg uses it on a CPU if it is faster.",
    )
    parser.add_argument("model", type=Path, help="a model file (.onnx) in fp32")
    parser.add_argument(
        "--data",
        nargs="+",
        metavar="FOLDER|NAME[=FOLDER]",
        required=True,
        help="images to measure the ranges of activations on: a folder of images, or the train"
        " split of data sets",
    )
    parser.add_argument(
        "--count", type=positive, default=100, help="images of each data set (default: %(default)s)"
    )
    options = parser.parse_args(arguments)
    named = parse(options.data).items()
    sources = [_opened(name, folder, options.count) for name, folder in named]
    print(quantize_beside(options.model, sources))


class _Images(Dataset[Sample]):
    """The images of a folder."""

    def __init__(self, folder: Path, count: int) -> None:
        """List a folder and choose at most `count` images at equal distances."""
        paths = list_images(folder)
        if not paths:
            raise TrainingError(f"{folder} has no images")
        number = min(count, len(paths))
        self.paths = [paths[i * len(paths) // number] for i in range(number)]

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, index: int) -> Sample:
        return Sample(read_rgb(self.paths[index]))


def _opened(name: str, folder: str | None, count: int) -> Source:
    """Open a folder of images without a description, or a data set."""
    path = Path(folder or name).expanduser()
    may_be_folder = name == FOLDER if folder else name not in GENERATED
    if may_be_folder and path.is_dir() and not (path / DESCRIPTION).exists():
        return Source(path.name, "train", _Images(path, count), None, SOURCE, TERMS)
    return open_source(name, "train", folder, count)
