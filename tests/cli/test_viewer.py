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

"""Recordings for rerun, read back by rerun itself."""

import re
import subprocess
import sys

import cv2
import pytest

pytest.importorskip("rerun", reason="needs rerun-sdk")

from depthseg_ros.cli import main as cli
from depthseg_ros.street import Street


def stats(recording):
    """The entities of a recording, as rerun's own command counts them."""
    command = [sys.executable, "-m", "rerun", "rrd", "stats", str(recording)]
    shown = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    return {name: int(chunks) for name, chunks in re.findall(r"^(/\S*): (\d+)$", shown, re.M)}


def test_a_street_is_recorded_frame_by_frame(tmp_path, capfd):
    recording = tmp_path / "street.rrd"
    arguments = ["view", "street", "street", "--frames", "2", "--save", str(recording)]
    assert cli.main(arguments) == 0
    found = stats(recording)
    named = {"/camera/image", "/camera/labels", "/camera/confidence", "/camera/depth", "/points"}
    assert named <= found.keys()
    command = [sys.executable, "-m", "rerun", "rrd", "verify", str(recording)]
    assert subprocess.run(command, capture_output=True).returncode == 0


@pytest.mark.parametrize("kind", ["folder", "video"])
def test_folders_and_videos_are_recorded_to_their_end(tmp_path, capfd, kind):
    pictures = [Street(5, 160, 120).frame(index).image[..., ::-1] for index in range(3)]
    source, recording = tmp_path / "source", tmp_path / "all.rrd"
    source.mkdir()
    for index, picture in enumerate(pictures):
        cv2.imwrite(str(source / f"{index}.png"), picture)
    if kind == "video":
        source = tmp_path / "drive.avi"
        writer = cv2.VideoWriter(str(source), cv2.VideoWriter.fourcc(*"MJPG"), 10, (160, 120))
        for picture in pictures:
            writer.write(picture)
        writer.release()
    assert cli.main(["view", "street", str(source), "--save", str(recording)]) == 0
    command = [sys.executable, "-m", "rerun", "rrd", "print", "-v", str(recording)]
    shown = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    rows = re.findall(r"with (\d+) rows .* - /camera/labels ", shown)
    assert sum(map(int, rows)) == len(pictures)


@pytest.mark.parametrize(
    ("source", "code", "says"),
    [
        ("nowhere", 2, "nowhere does not exist: expected street, an image, folder, video"),
        (__file__, 1, "cannot be read as an image or video"),
    ],
)
def test_what_cannot_be_viewed_is_one_line_and_no_file(tmp_path, capsys, source, code, says):
    recording = tmp_path / "no.rrd"
    assert cli.main(["view", "street", source, "--save", str(recording)]) == code
    assert says in capsys.readouterr().err
    assert not recording.exists()
