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
"""Imports that fail, in one line: which package or system library is missing, what to install.

Needs nothing but Python itself.
"""

from __future__ import annotations

import os
import platform
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from .texts import one_line


class Package(NamedTuple):
    """A package that is imported from elsewhere."""

    title: str
    module: str
    advice: str
    """What to do if it cannot be imported."""
    needed: bool = False
    """Whether `depthseg` needs it."""


def _source_ros() -> str:
    installed = sorted(Path("/opt/ros").glob("*/setup.bash"))
    return f"source {installed[-1] if installed else '/opt/ros/DISTRO/setup.bash'}, or make setup"


_DISTRO = os.environ.get("ROS_DISTRO", "DISTRO")

PACKAGES = (
    Package("NumPy", "numpy", "pip install numpy, or apt install python3-numpy", True),
    Package("OpenCV", "cv2", "pip install opencv-python, or apt install python3-opencv", True),
    Package("ONNX", "onnx", "pip install onnx", True),
    Package("ONNX Runtime", "onnxruntime", "pip install onnxruntime", True),
    Package("Rich", "rich", "pip install rich, or apt install python3-rich", True),
    Package("OpenVINO", "openvino", "optional: pip install openvino"),
    Package("ROS 2", "rclpy", f"for the node: {_source_ros()}"),
    Package("own messages", "depthseg_ros.msg", "for the node: source install/setup.bash"),
    Package("cv_bridge", "cv_bridge", f"optional: apt install ros-{_DISTRO}-cv-bridge"),
    Package("TensorRT", "tensorrt", "optional: in JetPack, or from NVIDIA's archive"),
    Package("TensorRT for RTX", "tensorrt_rtx", "optional: pip install tensorrt-rtx-cu13"),
    Package("cuda-python", "cuda.bindings", "optional, with TensorRT: pip install cuda-bindings"),
    Package("PyCUDA", "pycuda", "optional, instead of cuda-python: pip install pycuda"),
    Package("rerun", "rerun", "optional, for depthseg view: pip install rerun-sdk"),
    Package("PyTorch", "torch", "for training: pip install .[train]"),
)

# Shared libraries whose Debian package is not named after their name and version.
_DEBIAN = {
    "libglib-2.0.so.0": "libglib2.0-0",
    "libgthread-2.0.so.0": "libglib2.0-0",
    "libz.so.1": "zlib1g",
}


class MissingError(ImportError):
    """Something cannot be imported; the message is the line of `explain`."""


@contextmanager
def explained() -> Iterator[None]:
    """Convert failed imports in the block to a `MissingError`."""
    try:
        yield
    except Exception as error:
        line = explain(error)
        if line is None:
            raise
        raise MissingError(line) from None


def explain(error: Exception) -> str | None:
    """The line about a failed import; None if `error` is not from importing another package.

    A package that was compiled for another version of a library may raise anything while it is
    imported, not only `ImportError`.
    """
    if isinstance(error, MissingError):
        return str(error)
    package = _importing(error)
    if isinstance(error, ImportError):
        package = _known(error.name or "") or package
    elif package is None:
        return None
    text, todo = one_line(error), "" if package is None else package.advice
    library = re.search(r"\b(lib[\w.+-]+\.so[.\d]*): cannot open shared object", str(error))
    if library and ".so." in library[1]:  # libraries of ROS have no version in their names
        todo = f"apt install {debian_package(library[1])} (Debian, Ubuntu)"
    elif "numpy.core.multiarray" in text or "numpy.dtype size changed" in text:
        todo = "it was compiled for another NumPy version; often pip install 'numpy<2' helps"
    elif "C extension" in text and "isn't present" in text:
        todo = f"ROS 2 was compiled for another Python version than {platform.python_version()}"
    elif ros := re.search(r"No module named '(\w+_(?:msgs|srvs|interfaces))", text):
        todo = f"apt install ros-{_DISTRO}-{ros[1].replace('_', '-')}"
    what = "" if package is None else f"{package.title} ({package.module}) cannot be imported: "
    return f"{what}{text}; {todo or 'depthseg doctor reports what is missing'}"


def debian_package(library: str) -> str:
    """The Debian package of a shared library, such as `libGL.so.1`.

    Debian's rule: name and version, with a hyphen between two digits.
    """
    if library in _DEBIAN:
        return _DEBIAN[library]
    if library.startswith("libpython3."):
        return library.partition(".so")[0]
    name, _, version = library.lower().replace("_", "-").partition(".so.")
    return f"{name}-{version}" if version and name[-1].isdigit() else f"{name}{version}"


def _known(module: str) -> Package | None:
    """The package that a module belongs to."""
    whole = [p for p in PACKAGES if module == p.module or module.startswith(f"{p.module}.")]
    return whole[0] if whole else None


def _importing(error: Exception) -> Package | None:
    """The innermost known package whose import raised the error."""
    found, trace = None, error.__traceback__
    while trace is not None:
        if trace.tb_frame.f_code.co_name == "<module>" or isinstance(error, ImportError):
            found = _known(trace.tb_frame.f_globals.get("__name__", "")) or found
        trace = trace.tb_next
    return found
