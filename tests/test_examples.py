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

"""The examples that need no ROS, run as their readers would."""

import re
import subprocess
import sys
from pathlib import Path

import cv2
import pytest

from depthseg_ros.street import Street

ROOT = Path(__file__).resolve().parent.parent
EXAMPLES = ROOT / "examples"


def run(name, *arguments):
    command = [sys.executable, str(EXAMPLES / name), *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True)


def test_image_prints_the_distance_of_each_class(tmp_path):
    seen = tmp_path / "seen.png"
    done = run("image.py", ROOT / "docs/images/street.jpg", "--fx", 541, "--overlay", seen)
    assert done.returncode == 0, done.stderr
    (road,) = re.findall(r"^road .* from +([\d.]+) m at", done.stdout, re.MULTILINE)
    assert 1 < float(road) < 10
    assert cv2.imread(str(seen)).shape == cv2.imread(str(ROOT / "docs/images/street.jpg")).shape


def test_video_shows_each_frame_beside_its_labels_and_depth(tmp_path):
    drive, seen = tmp_path / "drive.mp4", tmp_path / "seen.mp4"
    writer = cv2.VideoWriter(str(drive), cv2.VideoWriter.fourcc(*"mp4v"), 10, (160, 120))
    street = Street(3, 160, 120)
    for index in range(4):
        writer.write(cv2.cvtColor(street.frame(index).image, cv2.COLOR_RGB2BGR))
    writer.release()
    done = run("video.py", drive, "--output", seen, "--fov", 60, "--frames", 3)
    assert done.returncode == 0, done.stderr
    video = cv2.VideoCapture(str(seen))
    assert video.get(cv2.CAP_PROP_FRAME_COUNT) == 3
    assert video.read()[1].shape == (120, 3 * 160, 3)


def test_a_file_that_is_not_a_video_gives_one_line(tmp_path):
    done = run("video.py", tmp_path / "no.mp4", "--output", tmp_path / "seen.mp4", "--fov", 60)
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1] == (
        f"video: {tmp_path / 'no.mp4'} cannot be read as a video or camera"
    )
    assert not (tmp_path / "seen.mp4").exists()


STREET = "docs/images/street.jpg"


@pytest.mark.parametrize(
    ("arguments", "code", "says"),
    [
        (["image.py", "no.jpg", "--fx", 541], 1, "image: there is no image no.jpg"),
        (["image.py", STREET, "--fx", 0], 2, "--fx: expected pixels above 0"),
        (["image.py", STREET, "--fx", 541, "--model", "no.onnx"], 1, "there is no model file"),
        (
            ["image.py", STREET, "--fx", 541, "--model", "models/indoor.onnx"],
            2,
            "expected one with classes and depth",
        ),
        (["image.py", STREET, "--fx", 541, "--overlay", "no/a.png"], 1, "No such file"),
        (["image.py", STREET, "--fx", 541, "--overlay", "a.foo"], 2, "expected a .jpg or .png"),
        (["video.py", STREET, "--fov", 65, "--output", "no/a.mp4"], 2, "in a folder that exists"),
        (["video.py", STREET, "--fov", 65, "--output", STREET], 2, "expected an .mp4"),
        (["video.py", "a.mp4", "--fov", 65, "--output", "./a.mp4"], 2, "is the video itself"),
        (["video.py", STREET, "--fov", 0, "--output", "a.mp4"], 2, "expected degrees"),
        (
            ["video.py", STREET, "--fov", 65, "--output", "a.mp4", "--model", "models/indoor.onnx"],
            2,
            "expected one with classes and depth",
        ),
    ],
)
def test_mistakes_are_one_line(arguments, code, says, monkeypatch):
    monkeypatch.chdir(ROOT)
    done = run(*arguments)
    assert done.returncode == code, done.stderr
    assert says in done.stderr.splitlines()[-1] and "Traceback" not in done.stderr
    assert not Path("a.mp4").exists() and not list(Path().glob(".*a.mp4"))


@pytest.mark.parametrize("path", sorted(EXAMPLES.glob("*.py")), ids=lambda path: path.name)
def test_every_example_is_in_the_readme(path):
    assert f"[{path.name}]({path.name})" in (EXAMPLES / "README.md").read_text(encoding="utf-8")
