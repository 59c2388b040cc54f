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

"""The report, as it is written and as a browser shows it."""

import re
import shutil
import subprocess
import xml.etree.ElementTree as ElementTree

import cv2
import numpy as np
import pytest

from depthseg_ros import cli, report
from depthseg_ros.model_card import default_model
from depthseg_ros.perception import Perception
from depthseg_ros.street import Street

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """Pictures of a street with their truth, as `predict` would write it."""
    folder = tmp_path_factory.mktemp("data")
    street = Street(11, 320, 240)
    for name, index in (("a", 0), ("b", 40)):
        frame = street.frame(index)
        cv2.imwrite(str(folder / f"{name}.png"), frame.image[..., ::-1])
        cv2.imwrite(str(folder / f"{name}.labels.png"), frame.labels)
        metres = np.nan_to_num(frame.depth).clip(0, 65)
        cv2.imwrite(str(folder / f"{name}.depth.png"), (metres * 1000).astype(np.uint16))
    return folder, street.intrinsics.fx


@pytest.fixture(scope="module")
def page(data, tmp_path_factory):
    folder, fx = data
    written = tmp_path_factory.mktemp("page") / "report.html"
    assert (
        cli.main(["report", "street", str(folder), "--fx", str(fx), "--output", str(written)]) == 0
    )
    return written


def test_the_page_says_what_was_measured(page, data):
    folder, fx = data
    samples = report.folder_samples(folder, fx, 1.0)
    measures, worst, count = report.look(Perception(default_model()), samples)
    assert (count, len(worst)) == (2, 2)
    text = page.read_text(encoding="utf-8")
    for value in (f"{measures.miou:.1%}", f"{measures.depth.abs_rel:.3f}", f"{measures.ece:.1%}"):
        assert f"<b>{value}</b>" in text
    for name, iou in (
        (c.name, measures.ious.get(c.id)) for c in Perception(default_model()).card.classes
    ):
        row = re.search(rf"</span>{name}</td>(.*?)</tr>", text)[1]
        assert ("–" if iou is None else f"{100 * iou:.1f}") in row


@pytest.mark.parametrize(
    ("model", "kept", "there", "missing"),
    [
        ("street", ".labels.png", "Reliability: ", "abs-rel by distance"),
        ("indoor", ".depth.png", "abs-rel by distance", "<h2>Classes</h2>"),  # it has no classes
    ],
)
def test_what_is_not_known_is_left_out(data, tmp_path, model, kept, there, missing):
    folder, fx = data
    for ending in (".png", kept):
        shutil.copy(folder / f"a{ending}", tmp_path)
    written = tmp_path / "report.html"
    arguments = ["report", model, str(tmp_path), "--fx", str(fx), "--output", str(written)]
    assert cli.main(arguments) == 0
    text = written.read_text(encoding="utf-8")
    assert there in text and missing not in text
    assert ("mIoU" in text, "a: abs-rel" in text) == (kept == ".labels.png", kept == ".depth.png")


def test_what_the_model_itself_wrote_is_perfect(data, tmp_path, capsys):
    folder, fx = data
    shutil.copy(folder / "a.png", tmp_path / "a.png")
    arguments = ["predict", "street", str(tmp_path / "a.png"), "--fx", str(fx)]
    assert cli.main([*arguments, "--output", str(tmp_path)]) == 0
    measures, *_ = report.look(
        Perception(default_model()), report.folder_samples(tmp_path, fx, 1.0)
    )
    assert (measures.miou, measures.accuracy) == (1, 1)
    assert measures.depth.abs_rel < 1e-3  # millimetres


@pytest.mark.parametrize(
    ("spoil", "code", "says"),
    [
        (lambda folder: "no", 2, "DATA is 'no', expected street or a folder of pictures"),
        (lambda folder: str(folder), 1, "has no NAME.jpg or NAME.png with NAME.labels.png"),
        (
            lambda folder: wrong(folder),
            1,
            r"a.labels.png is uint8 \(2, 3\), expected uint8 \(4, 6\)",
        ),
    ],
)
def test_wrong_data_is_one_line(spoil, code, says, tmp_path, capsys):
    output = tmp_path / "report.html"
    assert cli.main(["report", "street", spoil(tmp_path), "--output", str(output)]) == code
    (line,) = capsys.readouterr().err.splitlines()
    assert re.search(says, line)
    assert not output.exists()


def wrong(folder):
    cv2.imwrite(str(folder / "a.png"), np.zeros((4, 6, 3), np.uint8))
    cv2.imwrite(str(folder / "a.labels.png"), np.zeros((2, 3), np.uint8))
    return str(folder)


def chromium(tmp_path, *arguments):
    """What a browser without a screen answers."""
    if CHROMIUM is None:
        pytest.skip("needs chromium")
    quiet = [
        "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
        "--disable-background-networking", "--disable-component-update", "--disable-sync",
        "--hide-scrollbars", f"--user-data-dir={tmp_path / 'profile'}",
    ]  # fmt: skip
    command = [CHROMIUM, *quiet, *map(str, arguments)]
    return subprocess.run(command, check=True, capture_output=True, text=True, timeout=120).stdout


def test_a_browser_shows_tiles_charts_and_pictures_and_fetches_nothing(page, tmp_path):
    shown = chromium(tmp_path, "--dump-dom", page.as_uri())
    assert shown.count('class="tile"') == 6
    assert shown.count("<svg") == 2
    assert shown.count("<img ") == 2
    assert not re.search(r'(src|href)="(?!data:)', shown)
    for chart in re.findall(r"<svg.*?</svg>", page.read_text(encoding="utf-8"), re.DOTALL):
        ElementTree.fromstring(chart)


@pytest.mark.parametrize("width", [500, 1200])
def test_the_page_fits_a_phone_and_a_screen(page, tmp_path, width):
    shot = tmp_path / "shot.png"
    chromium(tmp_path, f"--window-size={width},3000", f"--screenshot={shot}", page.as_uri())
    picture = cv2.imread(str(shot))
    assert picture.shape == (3000, width, 3)
    used = np.any(picture != picture[0, 0], axis=(0, 2))
    assert used.any() and not used[:8].any() and not used[-8:].any()  # within its margins
    # The worst pictures are there: colours of the classes and of depth, in the lower half.
    saturated = np.ptp(picture[700:].astype(int), axis=2) > 120
    assert saturated.mean() > 0.01
