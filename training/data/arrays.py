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

"""Read arrays from HDF5, MATLAB and text files, and convert ids that start at 1."""

from __future__ import annotations

import re
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import scipy.io
from numpy.typing import NDArray
from scipy.io.matlab import MatReadError

from depthseg_ros.model_card import UNLABELLED

from ..errors import TrainingError


@contextmanager
def hdf5_dataset(path: Path, name: str) -> Iterator[h5py.Dataset]:
    """Open one array of an HDF5 file as a context manager.

    Each read opens the file again (about 1 ms), because open files cannot be passed to the worker
    processes of a data loader.

    Raises:
        TrainingError: the file is missing, is not HDF5, lacks the array, or is damaged.
    """
    if not path.is_file():
        raise TrainingError(f"{path} is missing, expected HDF5 with {name}")
    try:
        with h5py.File(path, "r") as file:
            array = file.get(name)
            if not isinstance(array, h5py.Dataset):
                raise TrainingError(f"{path} has no array {name}, only {sorted(file)}")
            yield array
    except TrainingError:
        raise
    except (OSError, LookupError, RuntimeError, TypeError, ValueError) as error:  # h5py raises all
        raise TrainingError(f"{path} cannot be read as HDF5 with {name}: {error}") from None


def read_mat(path: Path, name: str) -> NDArray[Any]:
    """Read one variable of a MATLAB file (version 7 or older); raises `TrainingError`."""
    if not path.is_file():
        raise TrainingError(f"{path} is missing, expected a MATLAB file with {name}")
    try:
        variables = scipy.io.loadmat(path, variable_names=[name])
    except (OSError, ValueError, TypeError, NotImplementedError, MatReadError, zlib.error) as error:
        raise TrainingError(f"{path} cannot be read as a MATLAB file: {error}") from None
    if name not in variables:
        raise TrainingError(f"{path} has no variable {name}")
    return variables[name]


def read_text(path: Path) -> str:
    """Read a UTF-8 text file, or UTF-16 with a byte order mark, and remove the mark.

    Raises:
        OSError: the file cannot be read.
        ValueError: the file has another encoding.
    """
    data = path.read_bytes()
    utf16 = data.startswith((b"\xff\xfe", b"\xfe\xff"))  # written by PowerShell on Windows
    return data.decode("utf-16" if utf16 else "utf-8-sig")


def read_lines(path: Path) -> list[tuple[int, str]]:
    """Read (line number, content) pairs; removes comments (`# ...`), then blank lines.

    Raises: see `read_text`.
    """
    lines = (re.sub(r"(^|\s)#.*", "", line).strip() for line in read_text(path).splitlines())
    return [(number, line) for number, line in enumerate(lines, 1) if line]


def read_matrix(path: Path, rows: int, columns: int) -> NDArray[np.float64]:
    """Read rows * columns numbers, separated by white space or line breaks, from a text file."""
    wanted = f"expected {rows}x{columns} numbers"
    try:
        numbers = [float(word) for _, line in read_lines(path) for word in line.split()]
    except (OSError, ValueError) as error:
        raise TrainingError(f"{path} cannot be read, {wanted}: {error}") from None
    if len(numbers) != rows * columns:
        raise TrainingError(f"{path} has {len(numbers)} numbers, {wanted}")
    return np.array(numbers).reshape(rows, columns)


def read_focal_length(path: Path) -> float:
    """Read the focal length in pixels: the first entry of a file of 3x3 camera intrinsics."""
    fx = float(read_matrix(path, 3, 3)[0, 0])
    if not 0 < fx < np.inf:
        raise TrainingError(f"{path} has the focal length {fx}, expected pixels above 0")
    return fx


def from_one_based(ids: NDArray[Any], count: int, path: Path) -> NDArray[np.uint8]:
    """Convert ids 1..count (0: unlabelled) to uint8 ids 0..count-1 (255: unlabelled).

    Raises:
        TrainingError: an id is out of range; the message names the file `path`.
    """
    if ids.size and not (ids.min() >= 0 and ids.max() <= count):  # also False for NaN
        raise TrainingError(f"{path} has labels {ids.min()}..{ids.max()}, expected 0..{count}")
    return np.where(ids == 0, UNLABELLED, ids.astype(np.int64) - 1).astype(np.uint8)
