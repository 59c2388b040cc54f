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

"""Makes the ROS wheels of the running virtual environment ready for `colcon build`.

ROS 2 from PyPI (https://pypi.org/project/ros-rclpy) exports CMake targets that hold the include
paths of the machine the wheels were built on. This points them at this Python and this numpy.
Running it again changes nothing.
"""

import re
import sys
import sysconfig
from pathlib import Path

import numpy as np

# Whatever machine or environment they are of: uv links files into several environments.
INCLUDE = re.compile(r"/[^;\"\s]*/include/python3\.\d+")
NUMPY_INCLUDE = re.compile(r"/[^;\"\s]*/site-packages/numpy/(?:_core|core)/include")


def patch(prefix: Path) -> int:
    """Patches the CMake exports below `prefix` and returns how many files changed."""
    changed = 0
    for path in sorted(prefix.glob("share/*/cmake/*.cmake")):
        text = path.read_text(encoding="utf-8")
        patched = NUMPY_INCLUDE.sub(lambda _: np.get_include(), text)
        patched = INCLUDE.sub(lambda _: sysconfig.get_path("include"), patched)
        if patched != text:
            path.unlink()  # not through a link: uv's cache and other environments keep theirs
            path.write_text(patched, encoding="utf-8")
            changed += 1
    return changed


if __name__ == "__main__":
    header = Path(sysconfig.get_path("include"), "Python.h")
    if not header.is_file():
        sys.exit(f"{header} is missing: install Python's headers (Debian, Ubuntu: python3-dev)")
    print(f"patched {patch(Path(sys.prefix))} CMake files of the ROS wheels")
