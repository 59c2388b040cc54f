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

import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import cv2
import numpy as np
import onnx.parser
import pytest

from depthseg_ros import model_card, street
from depthseg_ros.cli import main as cli
from depthseg_ros.model_card import DepthRange, ModelCard
from depthseg_ros.perception import Perception

ROOT = Path(__file__).parents[2]
MODEL = str(model_card.default_model())

# What is nearer than the background is brighter than it: depth without labels, 0 to 1.
NEARNESS = """
<ir_version: 9, opset_import: ["" : 18]>
nearness (uint8[N, H, W, 3] image, uint8[N, H, W, 3] background) => (float[N, H, W] depth)
<int64[1] channels = {3}, float white = {255.0}>
{
    now = Cast<to: int = 1> (image)
    before = Cast<to: int = 1> (background)
    difference = Sub (now, before)
    greatest = ReduceMax<keepdims: int = 0> (difference, channels)
    depth = Div (greatest, white)
}
"""


@pytest.fixture(scope="module")
def picture():
    return street.Street(7, 160, 120).frame(0).image


def test_info_prints_the_card_as_json(capsys):
    assert cli.main(["info", MODEL, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["name"] == "street"


def test_info_prints_classes_and_terms(capsys):
    assert cli.main(["info", MODEL]) == 0
    shown = capsys.readouterr().out
    assert "pedestrian" in shown and "metric" in shown


def test_predict_writes_what_the_model_says(tmp_path, picture, capsys):
    cv2.imwrite(str(tmp_path / "a.png"), picture[..., ::-1])
    out = tmp_path / "out"
    assert (
        cli.main(["predict", MODEL, str(tmp_path / "a.png"), "--output", str(out), "--fx", "130"])
        == 0
    )
    assert {p.name for p in out.iterdir()} == {"a.labels.png", "a.depth.png", "a.overlay.png"}
    prediction = Perception(MODEL)(picture, 130.0)
    labels = cv2.imread(str(out / "a.labels.png"), cv2.IMREAD_UNCHANGED)
    assert labels.dtype == np.uint8 and (labels == prediction.labels).all()
    depth = cv2.imread(str(out / "a.depth.png"), cv2.IMREAD_UNCHANGED)
    assert depth.dtype == np.uint16
    assert ((depth == 0) == ~(prediction.depth < 65.5355)).all()
    shown = depth > 0
    np.testing.assert_allclose(depth[shown] / 1000, prediction.depth[shown], atol=6e-4)
    assert cv2.imread(str(out / "a.overlay.png")).shape == picture.shape


def test_predict_takes_folders_and_videos(tmp_path, picture):
    folder = tmp_path / "in"
    folder.mkdir()
    cv2.imwrite(str(folder / "b.jpg"), picture)
    video = cv2.VideoWriter(
        str(folder / "drive.avi"), cv2.VideoWriter_fourcc(*"MJPG"), 10, (160, 120)
    )
    for _ in range(3):
        video.write(picture)
    video.release()
    assert cli.main(["predict", MODEL, str(folder), "--output", str(tmp_path / "out")]) == 0
    stems = {p.name.split(".")[0] for p in (tmp_path / "out").iterdir()}
    assert stems == {"b", "drive_000000", "drive_000001", "drive_000002"}


def test_predict_takes_what_it_can_of_a_folder_and_names_the_rest(tmp_path, picture, capsys):
    folder, out = tmp_path / "in", tmp_path / "out"
    folder.mkdir()
    jpeg = cv2.imencode(".jpg", picture)[1].tobytes()
    (folder / "a b.JPEG").write_bytes(jpeg)
    (folder / "cut.jpg").write_bytes(jpeg[: len(jpeg) // 2])
    (folder / "photo.jpg").write_bytes(b"\0\0\0\x18ftypheic\0\0\0\0mif1heic")
    (folder / "._a b.JPEG").write_bytes(b"\0\5\26\7" + bytes(4000))  # as a Mac leaves it
    (folder / "notes.txt").write_text("no image")
    writer = cv2.VideoWriter(
        str(folder / "drive.3gp"), cv2.VideoWriter_fourcc(*"mp4v"), 10, (160, 120)
    )
    writer.write(picture)
    writer.release()
    arguments = [MODEL, str(folder), "--output", str(out), "--fx", "130"]
    assert cli.main(["predict", *arguments]) == 1
    assert {name.split(".")[0] for name in os.listdir(out)} == {"a b", "drive_000000"}
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert re.search(r"2 of 4 files could not be read: .*cut\.jpg is cut off.*a HEIC", error)


def test_predict_takes_no_truth_for_a_picture_nor_writes_over_it(tmp_path, picture, capsys):
    cv2.imwrite(str(tmp_path / "a.png"), picture)
    for ending in (".labels.png", ".depth.png"):
        (tmp_path / f"a{ending}").write_text("the truth")
    assert cli.main(["predict", MODEL, str(tmp_path), "--output", str(tmp_path)]) == 2
    said = capsys.readouterr().err
    assert "a.labels.png already exists and could be the ground truth of a.png" in said
    out = tmp_path / "out"
    for _ in range(2):  # what it wrote itself elsewhere it replaces
        assert cli.main(["predict", MODEL, str(tmp_path), "--output", str(out)]) == 0
        assert len(list(out.iterdir())) == 3
    assert (tmp_path / "a.labels.png").read_text() == "the truth"


def test_names_may_be_of_any_bytes(tmp_path, picture, capsys):
    named = Path(os.fsdecode(os.fsencode(tmp_path) + b"/in/\xff.png"))
    named.parent.mkdir()
    named.write_bytes(cv2.imencode(".png", picture)[1].tobytes())
    out = tmp_path / "out"
    assert cli.main(["predict", MODEL, str(named.parent), "--output", str(out)]) == 0
    assert named.with_name(f"{named.stem}.labels.png").name in os.listdir(out)
    video = named.rename(named.with_suffix(".avi"))
    video.write_bytes(b"RIFF\0\0\0\0AVI LIST")
    capsys.readouterr()
    assert cli.main(["predict", MODEL, str(video), "--output", str(out)]) == 1
    assert "is not UTF-8" in capsys.readouterr().err


def test_predict_says_that_the_field_of_view_is_a_guess(tmp_path, picture, capsys):
    cv2.imwrite(str(tmp_path / "a.png"), picture)
    cli.main(["predict", MODEL, str(tmp_path / "a.png"), "--output", str(tmp_path / "out")])
    assert "no --fx given" in capsys.readouterr().err


@pytest.fixture
def nearness(tmp_path):
    """A model file that takes a background and gives depth that is not metric."""
    card = ModelCard(
        name="nearness",
        system="by hand",
        classes=(),
        depth=DepthRange("normalised", 0.0, 1.0),
        network_size=(64, 48),
        needs_background=True,
    )
    model_card.write(tmp_path / "nearness.onnx", onnx.parser.parse_model(NEARNESS), card)
    return str(tmp_path / "nearness.onnx")


def test_info_prints_inputs_and_whether_depth_is_metric(nearness, capsys):
    assert cli.main(["info", MODEL]) == 0
    shown = " ".join(capsys.readouterr().out.split())
    assert "image, fx " in shown and "metric, 0.2 to 100 m" in shown
    assert cli.main(["info", nearness]) == 0
    shown = " ".join(capsys.readouterr().out.split())
    assert "image, background " in shown and "normalised, 0 to 1 (not metres)" in shown


def test_predict_compares_with_the_background(tmp_path, nearness, capsys):
    background, image = (np.full((48, 64, 3), value, np.uint8) for value in (10, 10))
    image[8:16] = 61
    for name, picture in (("background.png", background), ("a.png", image)):
        cv2.imwrite(str(tmp_path / name), picture)
    arguments = ["predict", nearness, str(tmp_path / "a.png"), "--output", str(tmp_path / "out")]
    assert cli.main([*arguments, "--background", str(tmp_path / "background.png")]) == 0
    assert capsys.readouterr().err == (
        "depthseg predict: the model's depth is normalised, not metres;"
        " NAME.depth.png holds thousandths of it\n"
    )
    expected = np.zeros((48, 64), np.uint16)
    expected[8:16] = 200  # thousandths of (61 - 10) / 255
    depth = cv2.imread(str(tmp_path / "out" / "a.depth.png"), cv2.IMREAD_UNCHANGED)
    np.testing.assert_array_equal(depth, expected)

    for options, code, message in (
        ([], 2, "the model nearness needs --background"),
        (["--background", str(tmp_path / "none.png")], 1, "there is no image"),
        (["--background", nearness], 1, "cannot be read as an image"),
    ):
        assert cli.main([*arguments, *options]) == code
        error = capsys.readouterr().err
        assert message in error and error.count("\n") == 1
    arguments[1] = MODEL
    assert cli.main([*arguments, "--background", str(tmp_path / "background.png")]) == 2
    assert "the model street does not use --background" in capsys.readouterr().err


@pytest.mark.parametrize("command", [["report"], ["view"]])
def test_what_compares_with_a_background_is_neither_reported_nor_viewed(
    command, nearness, tmp_path, capsys
):
    if command == ["view"]:
        pytest.importorskip("rerun", reason="needs rerun-sdk")
    output = tmp_path / "output"
    option = "--save" if command == ["view"] else "--output"
    assert cli.main([*command, nearness, "street", option, str(output)]) == 2
    assert "needs a background image" in capsys.readouterr().err
    assert not output.exists()


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["info", "none.onnx"], 1, "there is no model file none.onnx"),
        (["predict", MODEL, "none.png", "--output", "o"], 2, "none.png does not exist"),
        (["predict", MODEL, "empty", "--output", "o"], 2, "no images or videos"),
        (["predict", MODEL, "bad.png", "--output", "o"], 1, "bad.png cannot be read as an image\n"),
        (["predict", MODEL, "bad.avi", "--output", "o"], 1, "cannot be read as an image or video"),
        (["predict", MODEL, "x/s.png", "y/s.png", "--output", "o"], 2, "would both be written"),
        (["predict", "bad.png", "good.png", "--output", "o"], 1, "is not an ONNX file"),
    ],
)
def test_mistakes_get_one_line_and_an_exit_code(
    tmp_path, monkeypatch, capsys, arguments, code, message
):
    monkeypatch.chdir(tmp_path)
    for folder in ("empty", "x", "y"):
        (tmp_path / folder).mkdir()
    for name in ("bad.png", "bad.avi"):
        (tmp_path / name).write_bytes(b"nothing")
    for name in ("good.png", "x/s.png", "y/s.png"):
        cv2.imwrite(name, np.zeros((8, 8, 3), np.uint8))
    assert cli.main([*arguments, *([] if "info" in arguments else ["--fx", "9"])]) == code
    error = capsys.readouterr().err
    assert message in error and error.count("\n") == 1
    assert not any(p.name.startswith(".") for p in tmp_path.rglob("*"))


def test_the_readmes_example_of_predict_works(tmp_path, monkeypatch):
    monkeypatch.chdir(ROOT)
    (line,) = re.findall(r"^depthseg (predict .*)$", (ROOT / "README.md").read_text(), re.M)
    assert cli.main([str(tmp_path) if part == "out" else part for part in line.split()]) == 0
    labels = cv2.imread(str(tmp_path / "street.labels.png"), cv2.IMREAD_UNCHANGED)
    depth = cv2.imread(str(tmp_path / "street.depth.png"), cv2.IMREAD_UNCHANGED)
    assert labels.shape == depth.shape == (480, 640)
    assert (labels[-40:, 200:440] == 3).mean() > 0.9  # road before the camera, 3 to 12 m away
    assert 3e3 < np.median(depth[-40:, 200:440]) < 12e3


def test_benchmark_tells_the_networks_speed_and_operations(capsys):
    arguments = ["benchmark", MODEL, "--size", "64x48", "--rounds", "3"]
    assert cli.main([*arguments, "--json"]) == 0
    (speed,) = json.loads(capsys.readouterr().out)
    assert speed["backend"] == "onnxruntime (CPUExecutionProvider)"
    assert speed["frames_per_second"] == pytest.approx(1e3 / speed["ms"])
    assert speed["gflops"] == pytest.approx(1e3 * speed["gflop"] / speed["ms"])
    assert speed["share_of_matmul"] > 0 and speed["ms"] <= speed["ms_p95"]
    assert cli.main([*arguments, "--backend", "all"]) == 0
    shown = " ".join(capsys.readouterr().out.split())
    assert "onnxruntime" in shown and "% of matmul: GFLOP/s compared with" in shown


@pytest.mark.parametrize("wrong", [["--size", "640"], ["--size", "0x9"], ["--rounds", "0"]])
def test_wrong_options_of_benchmark_exit_with_2(wrong):
    with pytest.raises(SystemExit) as caught:
        cli.main(["benchmark", MODEL, *wrong])
    assert caught.value.code == 2


@pytest.mark.parametrize("wrong", [["--fx", "-3"], ["--fov", "nan"], []])
def test_wrong_options_exit_with_2(wrong, capsys):
    with pytest.raises(SystemExit) as caught:
        cli.main(["predict", MODEL, *wrong])
    assert caught.value.code == 2


def test_the_version_is_the_manifests():
    manifest = (Path(__file__).parents[2] / "package.xml").read_text()
    assert f"<version>{cli.package_version()}</version>" in manifest


def test_doctor_finds_the_model_and_the_backend(capsys):
    assert cli.main(["doctor"]) == 0
    assert "CPUExecutionProvider" in capsys.readouterr().out


@pytest.mark.ros
def test_doctor_names_the_ros_distribution(capsys):
    assert cli.main(["doctor"]) == 0
    row = next(line for line in capsys.readouterr().out.splitlines() if "ROS 2" in line)
    assert os.environ["ROS_DISTRO"] in row


def test_doctor_fails_without_a_model(tmp_path, capsys):
    assert cli.main(["doctor", "--model", str(tmp_path / "none.onnx")]) == 1
    assert "missing: model" in capsys.readouterr().err


def test_ctrl_c_ends_a_prediction_without_a_traceback(tmp_path, picture):
    for i in range(200):
        cv2.imwrite(str(tmp_path / f"{i}.png"), picture)
    process = subprocess.Popen(
        [
            *(sys.executable, "-m", "depthseg_ros.cli.main", "predict", MODEL, str(tmp_path)),
            *("--output", str(tmp_path / "out"), "--fx", "100"),
        ],
        stderr=subprocess.PIPE,
        env=os.environ,
    )
    deadline = time.monotonic() + 60
    while not list(tmp_path.glob("out/*.png")) and time.monotonic() < deadline:
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    error = process.communicate(timeout=60)[1]
    assert process.returncode == 130 and error == b""


def completed(line, tmp_path):
    """What a shell offers at the end of a line, asked as argcomplete's shell functions ask."""
    answer = tmp_path / "answer"
    environment = {
        **os.environ, "_ARGCOMPLETE": "1", "_ARGCOMPLETE_IFS": "\n", "COMP_LINE": line,
        "COMP_POINT": str(len(line)),
    }  # fmt: skip
    to_file = ["bash", "-c", 'exec 8> "$0"; exec "$@"', answer]
    command = [*to_file, sys.executable, "-m", "depthseg_ros.cli.main"]
    subprocess.run(command, env=environment, capture_output=True)
    return answer.read_text().split("\n")


def test_a_shell_completes_commands_options_and_choices(tmp_path):
    assert [word.strip() for word in completed("depthseg pre", tmp_path)] == ["predict"]
    assert "--fov" in completed("depthseg predict --fo", tmp_path)[0]
    assert set(completed("depthseg benchmark street --backend open", tmp_path)) == {"openvino "}


def test_what_is_not_installed_is_named(monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "onnx", None)
    assert cli.main(["info", "street"]) == 1
    error = capsys.readouterr().err
    assert "pip install onnx" in error and error.count("\n") == 1


@pytest.mark.parametrize(
    "command", [["report", "street", "street", "--output"], ["view", "street", "street", "--save"]]
)
def test_what_cannot_be_written_is_told_before_the_work(command, tmp_path, capsys):
    if command[0] == "view":
        pytest.importorskip("rerun", reason="needs rerun-sdk")
    (tmp_path / "folder").mkdir()
    for name, says in (("folder", "is a folder"), ("nowhere/a", "its folder does not exist")):
        assert cli.main([*command, str(tmp_path / name)]) == 2
        assert says in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["folder"]


def test_the_packages_own_models_have_names(capsys, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    assert cli.main(["info", "indoor", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["name"] == "indoor"
    Path("indoor").mkdir()  # a folder is no model file
    assert cli.main(["info", "indoor"]) == 0
    Path("street").write_text("no model")
    assert cli.main(["info", "street"]) == 1
    assert "street is not an ONNX file" in capsys.readouterr().err
    assert cli.main(["info", "kitchen"]) == 1
    says = "there is no model file kitchen; the package has indoor, street"
    assert says in capsys.readouterr().err
