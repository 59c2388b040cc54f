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

"""What TensorRT's backend does: without a GPU what it says, with one what it gives."""

import contextlib
import re
import signal
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest

from depthseg_ros import model_card, street
from depthseg_ros.backends import BackendError, choose, open_backend, tensorrt, why_not
from depthseg_ros.backends.compiler import FLAVOURS, Cancelled, Shapes, installed
from depthseg_ros.backends.cuda import Buffer, Buffers, open_device
from depthseg_ros.backends.engine_cache import EngineCache, read_key
from depthseg_ros.cli import main as cli
from depthseg_ros.cli import usage
from depthseg_ros.perception import Perception

pytest.importorskip("tensorrt_rtx", reason="needs TensorRT for RTX: pip install .[tensorrt-rtx]")

RTX = "tensorrt_rtx"
STREET = model_card.default_model()
GPU = subprocess.run("nvidia-smi", shell=True, capture_output=True).returncode == 0
WITHOUT_GPU = pytest.mark.skipif(GPU, reason="says what is the case without an NVIDIA driver")


@pytest.fixture
def home(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path


# --- Without a GPU ------------------------------------------------------------------------------


@WITHOUT_GPU
def test_without_a_gpu_the_backend_says_so_in_one_line(home):
    assert why_not("onnxruntime") == ""
    for ask in (open_device, lambda: open_backend(STREET, RTX), lambda: Perception(STREET, RTX)):
        with pytest.raises(BackendError, match=r"^there is no NVIDIA driver here") as said:
            ask()
        assert "\n" not in str(said.value)


@WITHOUT_GPU
def test_without_a_gpu_auto_is_onnx_runtime_and_says_why_it_is_not_tensorrt(home):
    name, why = choose()
    assert name == "onnxruntime"
    assert why.startswith(
        "the fastest on CPUs in our measurements; not tensorrt_rtx: there is no NVIDIA"
    )
    assert open_backend(STREET, "auto").name.startswith("onnxruntime")


@WITHOUT_GPU
def test_without_a_gpu_choosing_loads_no_tensorrt():
    code = "import sys; from depthseg_ros.backends import choose; choose(); print(*sys.modules)"
    modules = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout
    assert "depthseg_ros.backends.cuda" in modules.split()
    assert not {"tensorrt_rtx", "tensorrt", "cuda", "onnxruntime"} & set(modules.split())


@pytest.mark.parametrize(
    "name, given, says",
    [
        (
            "onnxruntime",
            {"engine": "x"},
            "engine is only for TensorRT, but the backend is onnxruntime",
        ),
        (RTX, {"providers": ("A",)}, "providers are only for onnxruntime, but"),
    ],
)
def test_an_option_of_another_backend_is_refused(name, given, says):
    with pytest.raises(BackendError, match=says):
        open_backend(STREET, name, **given)


class CountingDevice:
    """Host memory in a GPU's place, to count what is allocated and freed: nothing runs on it."""

    def __init__(self, room):
        self.room, self.held = room, {}

    def allocate(self, shape, dtype):
        if len(self.held) == self.room:
            raise BackendError("CUDA: cudaMalloc: cudaErrorMemoryAllocation: out of memory")
        buffer = Buffer(np.zeros(shape, dtype), len(self.held) + 1, None)
        self.held[buffer.pointer] = buffer
        return buffer

    def free(self, buffer):
        del self.held[buffer.pointer]


@pytest.mark.parametrize("room", range(5))
def test_memory_is_given_back_also_where_it_does_not_suffice(room):
    device = CountingDevice(room)
    tensors = {name: ((1, 4, 4), np.float32) for name in "abc"}
    if room < len(tensors):
        with pytest.raises(BackendError, match="out of memory"):
            Buffers(device, tensors)
    else:
        buffers = Buffers(device, tensors)
        assert len(device.held) == 3 and buffers["b"].host.shape == (1, 4, 4)
        buffers.close()
        buffers.close()
    assert not device.held


class NoDevice:
    """In a GPU's place where one is only opened: compiling needs none."""

    name, compute_capability, library, stream = "no GPU", "8.6", "none", 0
    active = contextlib.nullcontext

    def memory(self):
        return 512 << 20, 8 << 30

    def close(self):
        pass


@pytest.fixture
def compiling(home, monkeypatch):
    """A backend whose engines compile, and then cannot be opened."""
    monkeypatch.setattr(tensorrt, "why_not", lambda flavour: "")
    monkeypatch.setattr(tensorrt, "open_device", NoDevice)
    backend = open_backend(STREET, RTX)
    yield backend
    backend.close()


@WITHOUT_GPU
def test_the_first_picture_of_a_size_compiles_its_engine_and_tells_how_far_it_is(compiling, caplog):
    picture = {"image": np.zeros((1, 64, 96, 3), np.uint8)}
    with caplog.at_level("INFO"), pytest.raises(BackendError, match="cannot load the engine"):
        compiling.run(picture)
    shares = [int(n) for n in re.findall(r"compiling the engine: (\d+) %", caplog.text)]
    assert shares == sorted(shares) and len(shares) > 3 and "another process" not in caplog.text
    ((_, key),) = EngineCache().entries()
    assert key.shapes == Shapes(96, 64) and compiling.state == ""
    caplog.clear()
    with pytest.raises(BackendError, match="cannot load the engine"):
        compiling.run(picture)  # not once more for each picture
    assert "%" not in caplog.text


@WITHOUT_GPU
def test_a_compilation_for_a_picture_can_be_interrupted(compiling, monkeypatch):
    states = []

    def interrupt(backend, share, phase, go_on=tensorrt.TensorRtBackend._on_progress):
        go_on(backend, share, phase)
        states.append(backend.state)
        thread = threading.Thread(target=backend.interrupt)
        thread.start()
        thread.join()
        return go_on(backend, share, phase)

    monkeypatch.setattr(tensorrt.TensorRtBackend, "_on_progress", interrupt)
    with pytest.raises(Cancelled):
        compiling.run({"image": np.zeros((1, 64, 96, 3), np.uint8)})
    assert "compiling, 0 %" in states and compiling.state == ""
    assert not EngineCache().entries()


# --- The command line ---------------------------------------------------------------------------


def test_compile_fills_the_cache_that_the_node_reads(home, capsys):
    assert cli.main(["compile", str(STREET), "--size", "96x64", "--flavour", "tensorrt-rtx"]) == 0
    assert "street, fp32, for images of 96x64" in capsys.readouterr().out
    ((path, key),) = EngineCache().entries()
    assert key.shapes == Shapes(96, 64) and key.flavour == RTX and key.gpu == "any"
    assert path.is_relative_to(home / "cache" / "depthseg_ros" / "engines")
    assert cli.main(["cache", "list"]) == 0
    assert "street" in capsys.readouterr().out
    assert cli.main(["cache", "clear"]) == 0
    assert "deleted 1 engines" in capsys.readouterr().out and not EngineCache().entries()


def test_compile_writes_a_file_of_ones_own(home):
    own = home / "own.engine"
    arguments = ["--size", "96x64", "--largest", "192x128", "--batch", "2", "--output", str(own)]
    assert cli.main(["compile", str(STREET), "--flavour", "tensorrt-rtx", *arguments]) == 0
    assert read_key(own).shapes == Shapes(96, 64, 2, None, (192, 128))
    assert not EngineCache().entries()


def test_ctrl_c_stops_a_compilation(home, monkeypatch):
    shown = []

    def interrupting(progress, *_, **__):
        shown.append(progress)
        signal.raise_signal(signal.SIGINT)  # within what TensorRT calls

    monkeypatch.setattr(usage.Progress, "update", interrupting)
    try:
        assert cli.main(["compile", str(STREET), "--flavour", "tensorrt-rtx"]) == 130
    finally:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    assert len(shown) < 5 and not EngineCache().entries()


@pytest.mark.parametrize(
    "arguments, code, says",
    [
        (["README.md"], 1, "is not an ONNX file|there is no model file"),
        ([STREET, "--largest", "1280x960"], 2, "needs --output"),
        ([STREET, "--dla", "0"], 2, "needs --output"),
        ([STREET, "--smallest", "900x900", "--output", "x"], 2, "expected sizes in this order"),
        ([STREET, "--output", "/none/x.engine"], 2, "the folder /none does not exist"),
        ([STREET, "--output", "."], 2, r"--output \. is a folder, expected a file name"),
        ([STREET, "--dla", "3", "--output", "x.engine"], 1, "there is no DLA core 3"),
        *(
            ([STREET, "--flavour", name.replace("_", "-")], 1, "cannot be imported")
            for name in FLAVOURS
            if name not in installed()
        ),
    ],
)
def test_what_cannot_be_compiled_is_one_line(home, capsys, arguments, code, says):
    assert cli.main(["compile", *map(str, arguments)]) == code
    lines = capsys.readouterr().err.strip().splitlines()
    assert len(lines) == 1 and lines[0].startswith("depthseg compile: ")
    assert re.search(says, lines[0])
    assert not EngineCache().entries()


def test_an_engine_that_the_cache_does_not_keep_is_no_success(home, capsys):
    EngineCache().folder.mkdir(parents=True)
    EngineCache().folder.chmod(0o770)
    assert cli.main(["compile", str(STREET), "--size", "96x64", "--flavour", "tensorrt-rtx"]) == 1
    said = capsys.readouterr()
    assert "could not be stored in" in said.err and not said.out


# --- With a GPU ---------------------------------------------------------------------------------


def usable():
    return [name for name in FLAVOURS if name in installed() and not why_not(name)]


@pytest.fixture(params=FLAVOURS)
def perception(request, home):
    if request.param not in usable():
        pytest.skip(f"{request.param}: {why_not(request.param)}")
    perception = Perception(STREET, request.param)
    yield perception
    perception.close()


@pytest.mark.gpu
@pytest.mark.parametrize("size", [(640, 480), (1283, 721)])
def test_outputs_are_those_of_onnx_runtime(perception, size):
    image = street.Street(3, *size).frame(0).image
    said, expected = perception(image, 500.0), Perception(STREET, "onnxruntime")(image, 500.0)
    assert (said.labels == expected.labels).mean() >= 0.995
    both = np.isfinite(said.depth) & np.isfinite(expected.depth)
    assert (np.isfinite(said.depth) == np.isfinite(expected.depth)).mean() >= 0.995
    assert np.median(np.abs(said.depth[both] / expected.depth[both] - 1)) < 0.01
    assert np.abs(said.confidence.astype(int) - expected.confidence).mean() < 3


@pytest.mark.gpu
def test_the_cuda_graph_gives_what_the_plain_run_does(perception):
    images = [street.Street(seed, 640, 480).frame(0).image for seed in range(3)]
    graphed = [perception(image, 500.0) for image in images]
    (engine,) = perception.backend._engines.values()
    if engine._graph is None:
        pytest.skip("no CUDA graph with this library")
    engine._graph = None
    for image, expected in zip(images, graphed, strict=True):
        plain = perception(image, 500.0)
        assert (plain.labels == expected.labels).all()
        np.testing.assert_array_equal(plain.depth, expected.depth)


@pytest.mark.gpu
def test_memory_does_not_grow_over_many_frames(perception):
    image = street.Street(0, 640, 480).frame(0).image

    def resident():
        return int(Path("/proc/self/statm").read_text().split()[1]) * 4096

    for _ in range(100):
        perception(image, 500.0)
    before = resident()
    for _ in range(10_000):
        perception(image, 500.0)
    assert resident() - before < 16e6


@pytest.mark.gpu
def test_the_second_start_is_warm(perception):
    assert perception.backend.ready_for((1, 1)) is None
    perception(street.Street(0, 640, 480).frame(0).image, 500.0)
    again = Perception(STREET, perception.backend.name.split()[0])
    assert again.backend.ready_for((1, 1)) == (640, 480)
    again.close()
