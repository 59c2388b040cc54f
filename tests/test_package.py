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

"""package.xml, setup.py, CMakeLists.txt and the sources tell one story."""

import ast
import os
import re
import runpy
import subprocess
import sys
import xml.etree.ElementTree as ElementTree
from importlib import metadata
from itertools import pairwise
from pathlib import Path

import pytest
from packaging.requirements import Requirement

ROOT = Path(__file__).resolve().parent.parent
MANIFEST = ElementTree.parse(ROOT / "package.xml").getroot()

# What the sources import, by the name it is declared under: (package.xml, setup.py).
DECLARED_AS = {
    "argcomplete": ("python3-argcomplete", "argcomplete"),
    "cuda": (None, "cuda-bindings"),
    "cv2": ("python3-opencv", "opencv-python"),
    "google": (None, "onnx"),  # protobuf, which onnx is made of
    "numpy": ("python3-numpy", "numpy"),
    "onnx": (None, "onnx"),
    "onnxruntime": ("python3-onnxruntime-pip", "onnxruntime"),
    "openvino": (None, "openvino"),
    "pycuda": (None, "pycuda"),
    "rerun": (None, "rerun-sdk"),
    "rich": (None, "rich"),
    "tensorrt": (None, "tensorrt"),
    "tensorrt_rtx": (None, "tensorrt-rtx-cu13"),
    "yaml": ("python3-yaml", "pyyaml"),
}


@pytest.fixture
def setup_arguments(monkeypatch) -> dict:
    """What setup.py passes to setuptools."""
    setuptools = pytest.importorskip("setuptools")
    captured: dict = {}
    monkeypatch.setattr(setuptools, "setup", lambda **arguments: captured.update(arguments))
    monkeypatch.chdir(ROOT)
    runpy.run_path(str(ROOT / "setup.py"))
    return captured


def names(requirements: list[str]) -> set[str]:
    """The distributions that requirements name, without versions and extras."""
    return {re.match(r"[\w.-]+", requirement).group() for requirement in requirements}


def dependencies(*tags: str) -> set[str]:
    return {element.text for tag in tags for element in MANIFEST.iter(tag)}


def imported_modules() -> set[str]:
    """The top-level modules that depthseg_ros imports, anywhere, from elsewhere."""
    modules = set()
    for path in (ROOT / "depthseg_ros").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Import):
                modules |= {alias.name.split(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and node.level == 0:
                modules.add(node.module.split(".")[0])
    return modules - sys.stdlib_module_names - {"depthseg_ros"}


def test_one_version_for_ros_and_pip(setup_arguments):
    version = MANIFEST.findtext("version")
    assert re.fullmatch(r"\d+\.\d+\.\d+", version)
    assert setup_arguments["version"] == version
    assert metadata.version("depthseg_ros") == version


def test_one_name_and_one_licence(setup_arguments):
    assert MANIFEST.findtext("name") == setup_arguments["name"] == "depthseg_ros"
    assert MANIFEST.findtext("license") == setup_arguments["license"] == "Apache-2.0"
    licence = ROOT / MANIFEST.find("license").get("file")
    assert "Apache License" in licence.read_text(encoding="utf-8")


def test_the_changelog_has_an_entry_for_what_comes_next_or_for_this_version():
    headings = re.findall(r"^(.+)\n-+$", (ROOT / "CHANGELOG.rst").read_text(), re.MULTILINE)
    assert headings[0].split()[0] in ("Forthcoming", MANIFEST.findtext("version"))


def test_ros_knows_a_package_of_messages_built_by_cmake():
    assert MANIFEST.findtext("export/build_type") == "ament_cmake"
    assert MANIFEST.findtext("member_of_group") == "rosidl_interface_packages"
    assert dependencies("buildtool_depend") >= {"ament_cmake", "rosidl_default_generators"}
    assert "rosidl_default_runtime" in dependencies("exec_depend")


@pytest.mark.parametrize(
    "name", ["rclpy", "cv_bridge", "sensor_msgs", "python3-numpy", "python3-opencv"]
)
def test_the_node_needs(name):
    assert name in dependencies("depend", "exec_depend")


@pytest.mark.parametrize(
    ("extra", "name"),
    [
        ("train", "torch"),
        ("train", "lightning"),
        ("export", "onnxscript"),
        ("openvino", "openvino"),
        ("tensorrt", "tensorrt"),
        ("tensorrt-rtx", "tensorrt-rtx-cu13"),
        ("pycuda", "pycuda"),
        ("timm", "timm"),
        ("view", "rerun-sdk"),
        ("dev", "pytest"),
    ],
)
def test_the_extra_brings(setup_arguments, extra, name):
    assert name in names(setup_arguments["extras_require"][extra])


def test_pip_alone_brings_what_the_model_tools_need_but_neither_torch_nor_ros(setup_arguments):
    required = names(setup_arguments["install_requires"])
    needed = {"argcomplete", "numpy", "onnx", "onnxruntime", "opencv-python", "pyyaml", "rich"}
    assert required == needed


def test_every_pin_but_torchs_has_hashes():
    """`make lock` writes them; torch's CPU build is another file than PyPI's."""
    pins = re.findall(r"^([\w.-]+==\S+)", (ROOT / "constraints.txt").read_text(), re.MULTILINE)
    hashed = (ROOT / "requirements.txt").read_text().replace("\\\n", "").splitlines()
    assert all(re.search(" --hash=sha256:[0-9a-f]{64}( |$)", line) for line in hashed)
    found = {re.sub("[-_.]+", "-", line.split()[0]).lower() for line in hashed}
    assert found == {
        re.sub("[-_.]+", "-", pin).lower() for pin in pins if not pin.startswith("torch==")
    }


def test_the_lowest_versions_are_those_that_setup_py_allows(setup_arguments):
    """Of each Ubuntu at least those; `.ci/lowest` installs them."""
    text = (ROOT / "constraints-lowest.txt").read_text(encoding="utf-8")
    pins = [Requirement(line.split("#")[0]) for line in text.splitlines() if "==" in line]
    for python in ("3.10", "3.12"):
        chosen = {p.name: p for p in pins if p.marker.evaluate({"python_version": python})}
        required = [Requirement(text) for text in setup_arguments["install_requires"]]
        assert set(chosen) == {requirement.name for requirement in required}
        for requirement in required:
            (pin,) = chosen[requirement.name].specifier
            assert requirement.specifier.contains(pin.version), requirement


def test_every_import_of_the_runtime_is_declared(setup_arguments):
    extras = setup_arguments["extras_require"].values()
    from_pip = names([*setup_arguments["install_requires"], *(name for e in extras for name in e)])
    from_ros = dependencies("depend", "exec_depend")
    for module in sorted(imported_modules()):
        key, requirement = DECLARED_AS.get(module, (module, None))
        assert key is None or key in from_ros, f"{module} is missing in package.xml"
        assert requirement is None or requirement in from_pip, f"{module} is missing in setup.py"


def test_pip_installs_every_package_of_the_runtime_and_its_type_marker(setup_arguments):
    sources = {path.parent for path in (ROOT / "depthseg_ros").rglob("__init__.py")}
    packages = {str(path.relative_to(ROOT)).replace(os.sep, ".") for path in sources}
    assert set(setup_arguments["packages"]) == packages
    assert setup_arguments["package_data"] == {"depthseg_ros": ["py.typed"]}


def test_every_message_is_generated_and_every_field_explained():
    cmake = (ROOT / "CMakeLists.txt").read_text(encoding="utf-8")
    for path in (*(ROOT / "msg").glob("*.msg"), *(ROOT / "srv").glob("*.srv")):
        assert f"{path.relative_to(ROOT)}\n" in cmake
        lines = path.read_text(encoding="utf-8").splitlines()
        for before, line in pairwise(lines):
            if line and line != "---" and not line.startswith("#"):
                assert before.startswith("# "), f"{path.name}: {line} is not explained"


@pytest.mark.ros
def test_tests_and_their_subprocesses_import_the_built_package(tmp_path):
    pytest.importorskip("rclpy")
    import depthseg_ros
    from depthseg_ros.msg import ClassDistance, ClassDistances

    message = ClassDistances(classes=[ClassDistance(class_id=3, nearest=1.5)])
    assert message.classes[0].nearest == 1.5
    code = "import depthseg_ros.msg, training; print(depthseg_ros.__file__)"
    for folder in (tmp_path, ROOT) if sys.version_info >= (3, 11) else (tmp_path,):
        command = [sys.executable, "-c", code]
        output = subprocess.run(command, cwd=folder, check=True, capture_output=True, text=True)
        assert output.stdout.strip() == depthseg_ros.__file__


@pytest.mark.ros
@pytest.mark.parametrize("name", ["depthseg", "camera_node"])
def test_ros2_run_finds_the_executable(name):
    packages = pytest.importorskip("ament_index_python.packages")
    executable = Path(packages.get_package_prefix("depthseg_ros"), "lib", "depthseg_ros", name)
    assert os.access(executable, os.X_OK)
