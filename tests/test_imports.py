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
"""What cannot be imported is one line with what to install, from every executable."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from depthseg_ros import start
from depthseg_ros.imports import MissingError, debian_package, explain, explained

ROOT = Path(__file__).resolve().parent.parent
NO_FILE = "cannot open shared object file: No such file or directory"

# What a module's import raises, and what the line about it names.
FAILURES = {
    "libGL": ("cv2", f"ImportError('libGL.so.1: {NO_FILE}')", "OpenCV", "apt install libgl1 "),
    "libgomp": ("onnxruntime", f"ImportError('libgomp.so.1: {NO_FILE}')", "ONNX", "libgomp1 "),
    "gone": ("onnx", "ModuleNotFoundError('gone', name='onnx')", "ONNX", "pip install onnx"),
    "other NumPy": ("cv2", "AttributeError('numpy.core.multiarray failed')", "OpenCV", "numpy<2"),
    "broken": ("onnx", "TypeError('Descriptors cannot be created')", "ONNX", "pip install onnx"),
}  # fmt: skip


@pytest.fixture(params=FAILURES)
def failing(request, tmp_path):
    """An environment in which a module does not load, and what the line about it must name."""
    module, code, *named = FAILURES[request.param]
    (tmp_path / f"{module}.py").write_text(f"raise {code}")
    path = os.pathsep.join([str(tmp_path), os.environ.get("PYTHONPATH", "")])
    return {**os.environ, "PYTHONPATH": path}, named


def run(name, module, arguments, environment):
    code = (
        f"import sys; from depthseg_ros.start import start; sys.exit(start({module!r}, {name!r}))"
    )
    command = [sys.executable, "-c", code, *arguments]
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60)


def test_a_command_names_it_in_one_line(failing, tmp_path):
    environment, named = failing
    picture = str(ROOT / "docs" / "images" / "street.jpg")
    output = str(tmp_path / "out")
    arguments = ["predict", "street", picture, "--fx", "541", "--output", output]
    result = run("depthseg", "cli.main", arguments, environment)
    assert result.returncode == 1 and result.stderr.count("\n") == 1, result.stderr
    assert result.stderr.startswith("depthseg predict: ")
    assert all(text in result.stderr for text in named)


def test_doctor_reports_it_among_the_rest(failing):
    environment, named = failing
    result = run("depthseg", "cli.main", ["doctor"], {**environment, "COLUMNS": "300"})
    assert result.returncode == 1 and "Traceback" not in result.stderr
    assert all(text in result.stdout for text in (*named, "Python", "ROS 2", "model"))
    assert result.stderr.startswith("depthseg doctor: missing: ") and named[0] in result.stderr


@pytest.mark.ros
@pytest.mark.parametrize("name", ["depthseg", "camera_node"])
def test_the_nodes_name_it_in_one_line(name, tmp_path):
    packages = pytest.importorskip("ament_index_python.packages")
    program = Path(packages.get_package_prefix("depthseg_ros"), "lib", "depthseg_ros", name)
    (tmp_path / "cv2.py").write_text(f"raise {FAILURES['libGL'][1]}")
    path = os.pathsep.join([str(tmp_path), os.environ["PYTHONPATH"]])
    command, environment = [sys.executable, program], {**os.environ, "PYTHONPATH": path}
    result = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60)
    assert (result.returncode, result.stderr.count("\n")) == (1, 1), result.stderr
    assert result.stderr.startswith(f"{name}: OpenCV") and "apt install libgl1 " in result.stderr


@pytest.mark.parametrize(
    ("library", "package"),
    [
        ("libGL.so.1", "libgl1"),
        ("libgthread-2.0.so.0", "libglib2.0-0"),
        ("libX11.so.6", "libx11-6"),
        ("libstdc++.so.6", "libstdc++6"),
        ("libopencv_core.so.406", "libopencv-core406"),
        ("libusb-1.0.so.0", "libusb-1.0-0"),
        ("libz.so.1", "zlib1g"),
        ("libpython3.12.so.1.0", "libpython3.12"),
    ],
)
def test_the_debian_package_of_a_library(library, package):
    assert debian_package(library) == package


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (ModuleNotFoundError("No module named 'rclpy'", name="rclpy"), "setup.bash"),
        (
            ModuleNotFoundError("No module named 'depthseg_ros.msg'", name="depthseg_ros.msg"),
            "source",
        ),
        (ModuleNotFoundError("No module named 'tf2_msgs'", name="tf2_msgs"), "-tf2-msgs"),
        (ImportError("The C extension 'x' isn't present on the system."), "another Python"),
        (ImportError("something else"), "depthseg doctor"),
    ],
)
def test_what_else_may_be_missing(error, said):
    assert said in explain(error) and "\n" not in explain(error)


def test_only_imports_are_explained():
    assert explain(ValueError("no model file")) is None
    assert explain(AttributeError("no such attribute", name="rich")) is None
    with pytest.raises(ZeroDivisionError), explained():
        _ = 1 / 0
    with pytest.raises(MissingError, match="no_such_module"), explained():
        import no_such_module  # noqa: F401


def test_a_fault_of_our_own_keeps_its_traceback(monkeypatch):
    monkeypatch.setitem(sys.modules, "depthseg_ros.cli.main", object())  # a module without main
    with pytest.raises(AttributeError):
        start.depthseg()
