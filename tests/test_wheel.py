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

"""What pip gets: it builds, is fit to be published, and works without the checkout and ROS."""

import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent


def run(*command, **others):
    return subprocess.run(
        list(map(str, command)), check=True, capture_output=True, text=True, **others
    )


@pytest.fixture(scope="module")
def dist(tmp_path_factory):
    """A folder with the wheel and the sdist, built from a copy of what they are made of."""
    pytest.importorskip("build")
    folder = tmp_path_factory.mktemp("wheel")
    source = folder / "source"
    source.mkdir()
    for name in ("depthseg_ros", "models"):
        ignored = shutil.ignore_patterns("__pycache__", "*.so")
        shutil.copytree(ROOT / name, source / name, ignore=ignored)
    for name in (
        "setup.py",
        "pyproject.toml",
        "package.xml",
        "MANIFEST.in",
        "README.md",
        "LICENSE",
    ):
        shutil.copy(ROOT / name, source / name)
    command = [sys.executable, "-m", "build", "--no-isolation", "--outdir", folder / "dist"]
    run(*command, cwd=source)
    return folder / "dist"


@pytest.fixture(scope="module")
def installed(dist, tmp_path_factory):
    """An environment with the wheel, and of all else what the tests' own has."""
    folder = tmp_path_factory.mktemp("venv")
    run(sys.executable, "-m", "venv", "--without-pip", folder)
    (wheel,) = dist.glob("*.whl")
    command = [sys.executable, "-m", "pip", "--python", folder / "bin" / "python", "install"]
    clean = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    run(*command, "--quiet", "--no-deps", "--no-index", wheel, env=clean)
    (site,) = folder.glob("lib/python3*/site-packages")
    import numpy

    (site / "others.pth").write_text(f"{Path(numpy.__file__).parents[1]}\n")
    return folder


def depthseg(installed, *arguments, cwd):
    environment = {"PATH": os.environ["PATH"], "HOME": str(cwd), "PYTHONSAFEPATH": "1"}
    return run(installed / "bin" / "depthseg", *arguments, cwd=cwd, env=environment).stdout


def test_wheel_and_sdist_pass_the_checks_of_those_who_publish(dist):
    pytest.importorskip("twine")
    assert sorted(path.suffix for path in dist.iterdir()) == [".gz", ".whl"]
    run(sys.executable, "-m", "twine", "check", "--strict", *dist.iterdir())


def test_the_wheel_has_the_types_marker_the_models_and_no_training(dist):
    (wheel,) = dist.glob("*.whl")
    names = zipfile.ZipFile(wheel).namelist()
    assert "depthseg_ros/py.typed" in names
    assert any(name.endswith("share/depthseg_ros/models/street.onnx") for name in names)
    assert not any(name.startswith(("training/", "tests/", "launch/")) for name in names)


def test_the_installed_command_predicts_with_its_own_model(installed, tmp_path):
    shutil.copy(ROOT / "docs/images/street.jpg", tmp_path / "a.jpg")
    assert depthseg(installed, "--version", cwd=tmp_path).strip().count(".") == 2
    assert "pedestrian" in depthseg(installed, "info", "street", cwd=tmp_path)
    depthseg(installed, "predict", "street", "a.jpg", "--output", "out", "--fx", 541, cwd=tmp_path)
    written = {path.name for path in (tmp_path / "out").iterdir()}
    assert written == {"a.labels.png", "a.depth.png", "a.overlay.png"}


def test_code_that_uses_the_public_interface_is_type_checked(tmp_path):
    """As `docs/reference/api.md` names it; py.typed lets mypy see its types."""
    code = tmp_path / "user.py"
    code.write_text(
        "import numpy as np\n"
        "from numpy.typing import NDArray\n\n"
        "from depthseg_ros.imaging.geometry import Intrinsics\n"
        "from depthseg_ros.model_card import ModelCard, default_model, read\n"
        "from depthseg_ros.perception import Perception, Prediction\n\n\n"
        "def nearest(image: NDArray[np.uint8], camera: Intrinsics) -> float:\n"
        "    seen: Prediction = Perception(default_model())(image, camera.fx)\n"
        "    card: ModelCard = read(default_model())\n"
        "    depth = seen.depth\n"
        "    return float('nan') if depth is None or card.depth is None"
        " else float(np.nanmin(depth))\n"
    )
    environment = {**os.environ, "MYPYPATH": str(ROOT)}
    command = [sys.executable, "-m", "mypy", "--strict", "--cache-dir", tmp_path / "cache"]
    pytest.importorskip("mypy")
    options = ["--ignore-missing-imports", "--follow-imports", "silent"]
    run(*command, *options, code, cwd=tmp_path, env=environment)


def test_a_short_answer_imports_no_runtime():
    code = (
        "import sys, depthseg_ros.cli.main\n"
        "slow = {'onnx', 'onnxruntime', 'openvino', 'rclpy', 'tensorrt', 'torch'}\n"
        "assert not slow & set(sys.modules), slow & set(sys.modules)\n"
        "import depthseg_ros\n"
    )
    run(sys.executable, "-c", code)
