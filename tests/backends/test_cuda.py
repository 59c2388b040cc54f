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

"""On a GPU: its memory, stream and graphs through each library that is installed; ONNX Runtime."""

import ctypes
import re
import threading

import numpy as np
import pytest

from depthseg_ros import model_card, street
from depthseg_ros.backends import BackendError
from depthseg_ros.backends.cuda import Buffer, Buffers, CudaPythonDevice, PyCudaDevice
from depthseg_ros.perception import Perception

pytestmark = pytest.mark.gpu
MB = 1 << 20
PICTURE = (480, 640, 3)


@pytest.fixture(params=[CudaPythonDevice, PyCudaDevice])
def device(request):
    try:
        ctypes.CDLL("libcuda.so.1")
        device = request.param()
    except (ImportError, OSError) as error:
        pytest.skip(str(error))
    yield device
    device.close()


def noise(seed):
    return np.random.default_rng(seed).integers(0, 256, PICTURE, np.uint8)


def used(device):
    with device.active():
        return device.memory()[0]


def test_a_gpu_says_what_it_is(device):
    assert device.name and re.fullmatch(r"\d+\.\d+", device.compute_capability)
    assert re.fullmatch(r"(cuda-python|PyCUDA) \d.*", device.library)
    with device.active():
        taken, whole = device.memory()
    assert 0 < taken < whole


def test_what_goes_up_comes_down(device):
    with device.active():
        picture = device.allocate(PICTURE, np.uint8)
        picture.host[...] = noise(0)
        device.upload(picture)
        device.synchronize()
        if not device.unified:
            picture.host[...] = 0
        device.download(picture)
        device.synchronize()
        np.testing.assert_array_equal(picture.host, noise(0))
        device.free(picture)


def test_a_graph_does_what_it_recorded_with_what_is_there_now(device):
    with device.active():
        buffers = Buffers(device, {"in": (PICTURE, np.uint8), "out": (PICTURE, np.uint8)})
        source, target = buffers["in"], buffers["out"]
        # What is read is the input's memory of the device, into the output's of the host.
        crossed = Buffer(target.host, source.pointer, target.owner)

        def work():
            device.upload(source)
            device.download(crossed)

        graph = device.capture(work)
        if graph is None or device.unified:  # where there is nothing to copy
            buffers.close()
            pytest.skip(f"{device.library} on {device.name} has no graph of copies")
        for seed in range(3):
            source.host[...] = noise(seed)
            graph()
            device.synchronize()
            np.testing.assert_array_equal(target.host, noise(seed))
        del graph
        buffers.close()


def test_work_that_fails_while_it_is_recorded_leaves_the_stream_usable(device):
    def fails():
        raise BackendError("not today")

    with device.active():
        if device.capture(lambda: None) is None:
            pytest.skip(f"{device.library} knows no graphs")
        with pytest.raises(BackendError, match="not today"):
            device.capture(fails)
    test_what_goes_up_comes_down(device)


def test_too_much_is_refused_by_cudas_own_name_and_nothing_is_kept(device):
    before = used(device)
    with device.active():
        whole = device.memory()[1]
        with pytest.raises(BackendError, match=r"(?i)^CUDA: .*memory"):
            Buffers(device, {"small": ((64 * MB,), np.uint8), "large": ((2 * whole,), np.uint8)})
    assert used(device) - before < MB
    test_what_goes_up_comes_down(device)


def test_memory_is_given_back(device):
    before = used(device)
    with device.active():
        buffers = Buffers(device, {str(n): ((64 * MB,), np.uint8) for n in range(4)})
        assert device.memory()[0] - before >= 256 * MB
        buffers.close()
        for _ in range(1000):
            device.free(device.allocate(PICTURE, np.uint8))
    assert used(device) - before < 4 * MB


def test_another_thread_may_use_it(device):
    said = []

    def work():
        test_what_goes_up_comes_down(device)
        said.append(True)

    threads = [threading.Thread(target=work) for _ in range(3)]
    for thread in threads:  # one at a time, as the node does
        thread.start()
        thread.join()
    assert said == [True] * 3


def test_onnx_runtime_says_there_what_it_says_on_the_cpu():
    onnxruntime = pytest.importorskip("onnxruntime")
    if "CUDAExecutionProvider" not in onnxruntime.get_available_providers():
        pytest.skip("needs onnxruntime-gpu")
    image, model = street.Street(3, 640, 480).frame(0).image, model_card.default_model()
    said, expected = (
        Perception(model, "onnxruntime", providers=[f"{name}ExecutionProvider"])(image, 500.0)
        for name in ("CUDA", "CPU")
    )
    assert (said.labels == expected.labels).mean() >= 0.995
    assert (np.isfinite(said.depth) == np.isfinite(expected.depth)).mean() >= 0.995
    both = np.isfinite(said.depth) & np.isfinite(expected.depth)
    assert np.median(np.abs(said.depth[both] / expected.depth[both] - 1)) < 0.01
