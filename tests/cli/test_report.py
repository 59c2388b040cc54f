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
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

from depthseg_ros import model_card
from depthseg_ros.cli import main as cli
from depthseg_ros.cli import report_page as report
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
    samples = report.folder_samples(report.folder_pairs(folder), fx, 1.0)
    measures, worst, count = report.evaluate(Perception("street"), samples)
    assert (count, len(worst)) == (2, 2)
    text = page.read_text(encoding="utf-8")
    for value in (f"{measures.miou:.1%}", f"{measures.depth.abs_rel:.3f}", f"{measures.ece:.1%}"):
        assert f"<b>{value}</b>" in text
    for name, iou in ((c.name, measures.ious.get(c.id)) for c in Perception("street").card.classes):
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
    measures, *_ = report.evaluate(
        Perception("street"),
        report.folder_samples(report.folder_pairs(tmp_path), fx, 1.0),
    )
    assert (measures.miou, measures.accuracy) == (1, 1)
    assert measures.depth.abs_rel < 1e-3  # millimetres


@pytest.mark.parametrize(
    ("spoil", "code", "says"),
    [
        (lambda folder: "no", 2, "DATA is 'no', expected street or a folder of images"),
        (lambda folder: str(folder), 1, "has no NAME.jpg or NAME.png with NAME.labels.png"),
        (
            lambda folder: labelled(folder, np.full((2, 3), 3, np.uint8)),
            1,
            r"a.labels.png is 3x2, but its image a.png is stored as 4x1",
        ),
        (
            lambda folder: labelled(folder, np.uint8([[11, 12, 12, 255]])),
            1,
            r"2 of 2 ids in the label files, 100.0% of .*: 11 \(1 pixels\), 12 \(2 pixels\)"
            r"; the model's classes are 0 sky, 1 building,",
        ),
    ],
)
def test_wrong_data_is_one_line(spoil, code, says, tmp_path, capsys):
    output = tmp_path / "report.html"
    assert cli.main(["report", "street", spoil(tmp_path), "--output", str(output)]) == code
    (line,) = capsys.readouterr().err.splitlines()
    assert re.search(says, line)
    assert not output.exists()


def labelled(folder, labels):
    cv2.imwrite(str(folder / "a.png"), np.zeros((1, 4, 3), np.uint8))
    cv2.imwrite(str(folder / "a.labels.png"), labels)
    return str(folder)


@pytest.mark.parametrize(
    ("labels", "note"),
    [
        ([0, 3, 10, 255], None),
        ([3, 3, 3, 3], None),
        ([8, 10, 18, 255], r"1 of 3 ids .* 33.3% of .*: 18 \(1 pixels\);.* count as unlabelled"),
        (
            [0, 0, 255, 255],
            r"only have the ids 0 \(2 pixels\), 255 \(2 pixels\): are they masks of",
        ),
        ([0, 1, 1, 0], r"only have the ids 0 \(2 pixels\), 1 \(2 pixels\): are they masks of"),
        ([255, 255], "every pixel of the label files is 255"),
    ],
)
def test_strange_class_ids_are_noted_with_their_counts(tmp_path, labels, note):
    pairs = report.folder_pairs(Path(labelled(tmp_path, np.uint8([labels]))))
    notes = report.check_ids(pairs, model_card.read(default_model()))
    assert len(notes) == (note is not None)
    assert note is None or re.search(note, notes[0])


def test_ids_that_are_not_the_models_do_not_count_and_the_page_says_so(data, tmp_path, capsys):
    folder, fx = data
    shutil.copy(folder / "a.png", tmp_path / "a.PNG")
    true = cv2.imread(str(folder / "a.labels.png"), cv2.IMREAD_UNCHANGED)
    perception, mious = Perception("street"), []
    for road, name in ((255, "a.labels.png"), (77, "a.LABELS.PNG")):
        (tmp_path / "a.labels.png").unlink(missing_ok=True)
        image = Image.fromarray(np.where(true == 3, np.uint8(road), true))
        image.putpalette([(5 * i) % 256 for i in range(768)])  # its colours are not ids
        image.save(tmp_path / name)
        samples = report.folder_samples(report.folder_pairs(tmp_path), fx, 1.0)
        mious.append(report.evaluate(perception, samples)[0].miou)
    assert mious[0] == mious[1] > 0.2
    written = tmp_path / "report.html"
    arguments = ["report", "street", str(tmp_path), "--fx", str(fx), "--output", str(written)]
    assert cli.main(arguments) == 0
    line = capsys.readouterr().err
    assert "77 (" in line and line.count("\n") == 1
    text = written.read_text(encoding="utf-8")
    assert 0 < text.index("77 (") < text.index("mIoU")


def test_what_a_folder_of_truth_has_besides_is_counted(data, tmp_path, caplog):
    for file in data[0].iterdir():
        shutil.copy(file, tmp_path / file.name)
    for name in ("a.overlay.png", "._a.png", "._a.labels.png", "c.jpg", "d.labels.png", "e.txt"):
        (tmp_path / name).write_bytes(b"\0\5\26\7")
    assert [pair.image.name for pair in report.folder_pairs(tmp_path)] == ["a.png", "b.png"]
    (record,) = caplog.records
    assert "3 files are left out, images without ground truth," in record.message
    (tmp_path / "a.JPG").write_bytes(b"")
    with pytest.raises(ValueError, match=r"a\.JPG and a\.png have the same name except"):
        report.folder_pairs(tmp_path)


def test_an_image_and_its_truth_are_read_as_stored(data, tmp_path):
    folder, fx = data
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.open(folder / "a.png").save(tmp_path / "a.png", exif=exif)
    shutil.copy(folder / "a.labels.png", tmp_path)
    (sample,) = report.folder_samples(report.folder_pairs(tmp_path), fx, 1.0)
    assert sample.image.shape[:2] == sample.labels.shape
    cv2.imwrite(str(tmp_path / "a.labels.png"), sample.labels.T)  # as a viewer shows it
    with pytest.raises(ValueError, match="its EXIF orientation 6 is ignored: rotate the file"):
        list(report.folder_samples(report.folder_pairs(tmp_path), fx, 1.0))


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
