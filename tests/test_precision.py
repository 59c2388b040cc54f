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

"""Which of a model's two files runs, and what is said of it."""

import json
import shutil
from pathlib import Path

import onnx
import pytest

from depthseg_ros import model_card, precision
from depthseg_ros.backends import BackendError
from depthseg_ros.cli import main as cli
from depthseg_ros.model_card import ModelFileError
from depthseg_ros.perception import Perception
from depthseg_ros.precision import choose_file

STREET = model_card.default_model()


class Unopened:
    name = "onnxruntime (CPUExecutionProvider)"

    def close(self):
        pass


@pytest.fixture
def mine(tmp_path, monkeypatch):
    """The path of a model of one's own, without .onnx, that has both files; an empty cache."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    for end in ("", "-int8"):
        shutil.copy(STREET.with_stem(f"street{end}"), tmp_path / f"mine{end}.onnx")
    return tmp_path / "mine"


@pytest.fixture
def takes(monkeypatch):
    """Let files take so many seconds, fp32 and int8; returns how often they were measured.

    Choosing opens no runtime then, which takes time.
    """

    def takes(*seconds):
        calls = []
        monkeypatch.setattr(precision, "open_backend", lambda *_: Unopened())
        monkeypatch.setattr(precision, "_measure", lambda *_: calls.append(1) or seconds)
        return calls

    return takes


def fp32(name):
    return Path(f"{name}.onnx")


def int8(name):
    return Path(f"{name}-int8.onnx")


def test_the_faster_file_of_a_name_runs_and_both_are_measured_once(mine, monkeypatch, caplog):
    caplog.set_level("INFO")
    first = Perception(mine)  # as fast as they are
    assert (
        first.path in (fp32(mine), int8(mine)) and first.card.precision in first.path.name + "fp32"
    )
    assert first.why.startswith("int8 is ") and "measured now" in first.why
    (record,) = caplog.records
    assert record.getMessage() == f"using {first.path.name}: {first.why}"
    monkeypatch.setattr(precision, "_measure", None)
    again = Perception(mine)
    assert again.path == first.path and "measured before" in again.why


@pytest.mark.parametrize(("seconds", "taken"), [((2, 1), int8), ((1, 1), fp32), ((1, 2), fp32)])
def test_int8_has_to_be_faster(mine, takes, seconds, taken):
    takes(*seconds)
    assert choose_file(mine).path == taken(mine)


def test_a_path_is_taken_as_it_is(mine, takes):
    calls = takes(2, 1)
    for path in (fp32(mine), int8(mine)):
        assert choose_file(path) == (path, "", None)
    assert not calls


def test_the_packages_own_name_has_both_files(takes, tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    (tmp_path / "street.onnx").write_text("another")
    takes(2, 1)
    assert choose_file("street").path == int8(STREET.with_suffix(""))


def test_precision_chooses_of_a_name_and_is_held_to_a_path(mine, takes):
    calls = takes(2, 1)
    assert choose_file(mine, "fp32").path == fp32(mine)
    assert choose_file(mine, "int8").path == int8(mine)
    assert choose_file(int8(mine), "int8").path == int8(mine)
    with pytest.raises(
        ModelFileError, match=r"mine\.onnx has the precision fp32, but precision is int8"
    ):
        choose_file(fp32(mine), "int8")
    with pytest.raises(
        ModelFileError, match=r"int8\.onnx has the precision int8, but precision is fp32"
    ):
        choose_file(int8(mine), "fp32")
    with pytest.raises(ValueError, match="precision is 'int4', expected one of auto, fp32, int8"):
        choose_file(mine, "int4")
    with pytest.raises(BackendError, match="precision int8 is for CPUs"):
        choose_file(mine, "int8", "tensorrt")
    int8(mine).unlink()
    with pytest.raises(ModelFileError, match=r"there is no model file .*mine-int8\.onnx"):
        choose_file(mine, "int8")
    assert choose_file(mine).path == fp32(mine) and not calls


def change_weights(path):
    model, card = onnx.load(path), model_card.read(path)
    model.graph.doc_string = "trained again"
    model_card.write(path, model, card)


def change_card(path):
    """Of the int8 file, which stays made of the other."""
    beside = model_card.int8_beside(path)
    text = beside.read_bytes()
    assert text.count(b'"name": "street"') == 1
    beside.write_bytes(text.replace(b'"name": "street"', b'"name": "strait"'))


def garble(path):
    model_card.int8_beside(path).write_bytes(b"version https://git-lfs.github.com/spec/v1\n")


def swap(path):
    shutil.copy(path, model_card.int8_beside(path))


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (change_weights, "was not made from"),
        (change_card, "differ in name"),
        (garble, "is a pointer of Git LFS"),
        (swap, "has the precision fp32, expected int8"),
    ],
)
def test_an_int8_file_that_does_not_belong_costs_a_line(mine, takes, caplog, change, said):
    calls = takes(2, 1)
    change(fp32(mine))
    assert choose_file(mine).path == fp32(mine) and not calls
    (record,) = caplog.records
    assert record.levelname == "WARNING" and said in record.getMessage()
    with pytest.raises(ModelFileError, match=said):
        choose_file(mine, "int8")


@pytest.mark.parametrize("content", ["", "[]", '{"a": 1}', "null", "\0"])
def test_a_cache_that_is_damaged_costs_a_measurement(mine, takes, content):
    calls = takes(2, 1)
    choose_file(mine)
    (cache,) = mine.parent.glob("cache/**/*.json")
    (key,) = json.loads(cache.read_text())
    for damaged in (content, json.dumps({key: [1, "x"]}), json.dumps({key: [0, -1]})):
        cache.write_text(damaged)
        assert choose_file(mine).path == int8(mine)
    assert len(calls) == 4
    precision.forget()
    assert choose_file(mine).path == int8(mine) and len(calls) == 5


def test_what_cannot_be_kept_is_measured_each_time(mine, takes, monkeypatch):
    calls = takes(2, 1)
    monkeypatch.setenv("XDG_CACHE_HOME", str(fp32(mine)))  # which is no folder
    assert [choose_file(mine).path for _ in range(2)] == [int8(mine)] * 2 and len(calls) == 2


def test_times_are_of_files_runtime_and_threads(mine, takes):
    calls = takes(2, 1)
    for arguments in ((), ("onnxruntime",), ("onnxruntime", (), 1), ("openvino",)):
        choose_file(mine, "auto", *arguments)
    assert len(calls) == 3


class OnGpu:
    """A runtime that has found a GPU."""

    name = "onnxruntime (CUDAExecutionProvider)"


def test_on_a_gpu_the_file_in_fp32_runs(mine, takes, monkeypatch):
    calls, opened = takes(2, 1), []
    monkeypatch.setattr(precision, "_cpu_alone", lambda providers: False)
    monkeypatch.setattr(precision, "open_backend", lambda *a: opened.append(a) or OnGpu())
    perception = Perception(mine)
    assert perception.path == fp32(mine) and isinstance(perception.backend, OnGpu)
    assert not calls and len(opened) == 1  # not twice
    assert choose_file(mine, backend="tensorrt").path == fp32(mine) and not calls


def test_an_int8_file_that_does_not_run_costs_a_line(mine, monkeypatch, caplog):
    really = precision.open_backend

    def open_backend(path, *arguments):
        if path == int8(mine):
            raise BackendError("it has no such operator")
        return really(path, *arguments)

    monkeypatch.setattr(precision, "open_backend", open_backend)
    assert choose_file(mine).path == fp32(mine)
    assert "it has no such operator; using fp32" in caplog.text


def test_commands_say_which_file_runs(mine, takes, monkeypatch, capsys):
    with monkeypatch.context():
        takes(2, 1)
        assert cli.main(["info", str(mine), "--json"]) == 0
        assert json.loads(capsys.readouterr().out)["precision"] == "int8"
        assert cli.main(["info", str(mine)]) == 0
        assert "mine-int8.onnx: int8 is 2.00 times" in " ".join(capsys.readouterr().out.split())
    assert cli.main(["info", str(mine), "--precision", "fp32", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["precision"] == "fp32"
    arguments = ["--size", "320x240", "--rounds", "1", "--precision", "all"]
    assert cli.main(["benchmark", str(mine), *arguments, "--json"]) == 0
    assert [s["precision"] for s in json.loads(capsys.readouterr().out)] == ["fp32", "int8"]
    assert cli.main(["benchmark", str(mine), *arguments]) == 0
    assert "speed" in capsys.readouterr().out  # a narrow terminal breaks the word
