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

"""Checks, before anything is installed, what `make setup` needs of the machine.

Prints one line on what is missing and exits with 1; prints nothing where all is there. Runs on
Python 3.6 and later, so that an old one gets that line, too.
"""

import argparse
import importlib.util
import os
import shutil
import sys
import sysconfig

OLDEST, NEWEST = (3, 10), (3, 14)  # for which PyPI has ROS 2


def missing_packages():
    """Return what is missing and the Debian package that has it: name -> package."""
    python = os.path.basename(sys.executable)
    if python not in ("python3", f"python3.{sys.version_info[1]}"):
        python = "python3"
    missing = {}
    # Debian's python3 has venv, but not the ensurepip that it calls.
    if not all(importlib.util.find_spec(module) for module in ("venv", "ensurepip")):
        missing["Python's module venv"] = python + "-venv"
    if not os.path.isfile(os.path.join(sysconfig.get_path("include"), "Python.h")):
        missing["Python's header files"] = python + "-dev"
    compiler = (os.environ.get("CXX") or "c++").split()[0]
    if not (shutil.which(compiler) or shutil.which("g++") or shutil.which("clang++")):
        missing["a C++ compiler"] = "g++"
    return missing


def main():
    """Report what is missing; returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--ros-from-pypi", action="store_true", help="ROS 2 comes from PyPI")
    version = sys.version_info[:2]
    if parser.parse_args().ros_from_pypi and not OLDEST <= version <= NEWEST:
        print(
            f"setup: PyPI has ROS 2 for Python {_text(OLDEST)} to {_text(NEWEST)}, and"
            f" {sys.executable} is Python {_text(version)}: source an installed ROS 2, or run"
            " make setup PYTHON=python3.12"
        )
        return 1
    missing = missing_packages()
    if missing:
        print(
            f"setup: missing: {', '.join(missing)}"
            f" (Debian, Ubuntu: apt install {' '.join(missing.values())})"
        )
    return 1 if missing else 0


def _text(version):
    return ".".join(map(str, version))


if __name__ == "__main__":
    sys.exit(main())
