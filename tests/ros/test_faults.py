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

"""What other components do to the node, and how it comes back.

`make faults` does the same in more rounds, and writes how long it took into docs/reliability.md.
"""

import os
import random
import signal
import statistics
import sys
import time
from itertools import count, pairwise
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("rclpy", reason="needs ROS 2")
pytest.importorskip("depthseg_ros.msg", reason="needs the built package: tools/env.sh pytest")

from ament_index_python.packages import get_package_share_directory
from builtin_interfaces.msg import Time
from sensor_msgs.msg import Image
from std_msgs.msg import Header

from depthseg_ros.node.messages import image_message
from depthseg_ros.srv import LoadModel

pytestmark = pytest.mark.ros

ROUNDS = int(os.environ.get("DEPTHSEG_ROUNDS", "4"))
STAMPS = count(1)

# The real node, whose runtime does what a file says.
FAULTY = """
import os, sys, time
from pathlib import Path
import numpy as np
from depthseg_ros.node import loading, node
from depthseg_ros.backends import UnservedError, onnxruntime

ORDERS = Path(os.environ["DEPTHSEG_FAULT"])
RIGHT = onnxruntime.OnnxRuntimeBackend.run
RIGHT_START = onnxruntime.OnnxRuntimeBackend.__init__
loading.DEADLINE = 5.0

def start(self, *arguments):
    fault = ORDERS.read_text()
    if fault == "slow":
        ORDERS.write_text("")  # once, and so that the test knows
    time.sleep({"load": 15, "slow": 3}.get(fault, 0))
    RIGHT_START(self, *arguments)

def run(self, inputs):
    fault = ORDERS.read_text()
    if fault in ("raise", "load"):
        raise RuntimeError("the GPU has fallen off the bus")
    if fault == "unserved":
        raise UnservedError("the engine takes pictures of 640x480")
    if fault == "memory":
        raise MemoryError
    if fault == "exit":  # which no handler of exceptions expects
        raise SystemExit
    if fault == "hang":
        ORDERS.write_text("")  # once; what is loaded then is well
    if fault in ("hang", "hang again"):
        time.sleep(15)
    outputs = RIGHT(self, inputs)
    if fault == "shape":
        outputs = {name: output[:, 1:] for name, output in outputs.items()}
    if fault == "type":
        outputs = {name: output.astype(float) for name, output in outputs.items()}
    if fault == "nothing":
        outputs = {}
    if fault == "depth":
        outputs["depth"][:, ::2, ::2] = np.inf
        outputs["depth"][:, 1::2, ::2] = -1
        outputs["depth"][:, ::2, 1::2] = np.nan
    if fault == "labels":
        outputs["labels"][:] = 200
    return outputs

onnxruntime.OnnxRuntimeBackend.__init__ = start
onnxruntime.OnnxRuntimeBackend.run = run
"""
TENSORRT = """
from depthseg_ros.backends import tensorrt
loading.choose = lambda: ("tensorrt", "as told")

class OnCpu(onnxruntime.OnnxRuntimeBackend):  # stands in for a GPU
    def __init__(self, model, flavour, engine):
        super().__init__(model, (), 1)
        self.name = "tensorrt 10 on no GPU"
    def run(self, inputs):
        if ORDERS.read_text() == "tensorrt":
            raise RuntimeError("CUDA error 719: unspecified launch failure")
        return super().run(inputs)

tensorrt.TensorRtBackend = OnCpu
"""
MAIN = "sys.exit(node.main())"


def frame(width=64, height=48, encoding="rgb8", frame_id="camera"):
    header = Header(stamp=Time(sec=next(STAMPS)), frame_id=frame_id)
    channels = (3,) if encoding == "rgb8" else ()
    return image_message(np.full((height, width, *channels), 99, np.uint8), encoding, header)


@pytest.fixture(scope="module")
def order(tmp_path_factory):
    """Tells the nodes of `FAULTY` what to do."""
    path = tmp_path_factory.mktemp("orders") / "order"
    path.write_text("")
    os.environ["DEPTHSEG_FAULT"] = str(path)
    yield path.write_text
    del os.environ["DEPTHSEG_FAULT"]


@pytest.fixture(scope="module")
def faulty(start_depthseg, order):
    """A node whose runtime does as `order` says."""
    program = [sys.executable, "-c", FAULTY + MAIN]
    return start_depthseg(executable=program, deadline=1.0)


@pytest.fixture
def recovers(record_property):
    """Notes how long it takes from the end of a fault to the next result."""

    def recovers(node, *outputs, info=None):
        began = time.monotonic()
        messages = node.perceive(frame(), info, *outputs)
        record_property("recovered", time.monotonic() - began)
        return messages

    return recovers


def level(node):
    return node.diagnostics().get("message", "")


# --- Cameras ------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def watched(start_depthseg):
    """A node that a camera of its own process feeds, and its labels."""
    node = start_depthseg(deadline=20.0)
    return node, node.collect("label/image")


def camera(start, node, **parameters):
    return start("camera_node", node.namespace, rate=20.0, width=160, height=120, **parameters)


def until_newer(node, labels, what):
    """Wait for a result of a picture that was taken from now on."""
    now = node.observer.node.get_clock().now().nanoseconds
    node.observer.until(lambda: labels and stamp(labels[-1]) > now, what)


def stamp(message):
    return message.header.stamp.sec * 10**9 + message.header.stamp.nanosec


def test_a_camera_that_dies_is_missed_and_heard_again(start, watched, record_property):
    node, labels = watched
    process = camera(start, node)
    node.observer.until(lambda: len(labels) > 40, "labels")  # so that it is known to be fast
    process.kill()
    node.until_diagnostics(lambda: "no images" in level(node), "that the camera is missed")
    came = len(labels)
    assert node.state() == "active" and len(labels) == came  # nothing is shown again

    process = camera(start, node)
    process.says("Publishing|publishing|street")
    began = time.monotonic()
    until_newer(node, labels, "labels of the new camera")
    record_property("recovered", time.monotonic() - began)
    assert all(stamp(a) < stamp(b) for a, b in pairwise(labels))
    process.stop()  # as a publisher that is killed would be counted for a while


def test_a_camera_that_stalls_is_missed_and_heard_again(start, watched, record_property):
    node, labels = watched
    process = camera(start, node)
    until_newer(node, labels, "labels")
    process.process.send_signal(signal.SIGSTOP)
    node.until_diagnostics(lambda: "no images" in level(node), "that the camera is missed")
    process.process.send_signal(signal.SIGCONT)
    began = time.monotonic()
    until_newer(node, labels, "labels of the camera that goes on")
    record_property("recovered", time.monotonic() - began)
    process.stop()


def test_two_cameras_on_one_topic_are_told_apart_by_their_headers(watched):
    node, labels = watched
    other = node.observer.node.create_publisher(Image, f"{node.namespace}/image", 5)
    first = node.perceive(frame(frame_id="left"), None, labels)
    node.image, second_camera = other, node.image
    second = node.perceive(frame(80, 60, frame_id="right"), None, labels)
    node.image = second_camera
    sizes = [(m.header.frame_id, m.width, m.height) for m in first + second]
    assert sizes == [("left", 64, 48), ("right", 80, 60)]
    node.until_diagnostics(lambda: "publishers publish on" in level(node), "a warning")
    node.observer.node.destroy_publisher(other)
    node.until_diagnostics(lambda: "publishers publish on" not in level(node), "no warning")


def test_size_encoding_and_frame_may_change_from_picture_to_picture(watched):
    node, labels = watched
    for width, height, encoding, name in (
        (64, 48, "rgb8", "a"),
        (48, 64, "mono8", "b"),
        (320, 180, "rgb8", "a"),
        (64, 48, "mono8", "c"),
    ):
        (seen,) = node.perceive(frame(width, height, encoding, name), None, labels)
        assert (seen.width, seen.height, seen.header.frame_id) == (width, height, name)


def test_camera_info_without_images_is_no_camera(start_depthseg):
    from sensor_msgs.msg import CameraInfo

    node = start_depthseg()
    node.process.says("Model street")
    node.observer.until(node.camera_info.get_subscription_count, "the node")
    node.camera_info.publish(CameraInfo(width=64, height=48))
    node.until_diagnostics(lambda: level(node).startswith("no images"), "a warning")
    assert node.frames("received") == 0 and node.process.says("No image for 5 s")


def test_a_clock_that_stands_still_stops_nothing(start_depthseg):
    node = start_depthseg(use_sim_time=True)  # and nobody publishes /clock
    labels = node.collect("label/image")
    sent = frame()
    (seen,) = node.perceive(sent, None, labels)
    assert seen.header == sent.header
    node.until_diagnostics(lambda: node.frames("processed") > 0, "diagnostics")


# --- Subscribers --------------------------------------------------------------------------------

NEVER_READS = """
import rclpy, time
from sensor_msgs.msg import Image
rclpy.init()
node = rclpy.create_node("never_reads")
subscription = node.create_subscription(Image, "depthseg/depth/image", print, 5)
print("subscribed", flush=True)
time.sleep(1000)
"""


def test_a_subscriber_that_never_reads_keeps_nothing_from_others(start, watched):
    node, labels = watched
    stuck = start([sys.executable, "-c", NEVER_READS], node.namespace)
    stuck.says("subscribed")
    process = camera(start, node)
    topic = f"{node.name}/depth/image"
    node.observer.until(lambda: node.observer.node.count_subscribers(topic), "the subscriber")
    came = len(labels)
    node.observer.until(lambda: len(labels) > came + 10, "labels of 10 pictures")
    stuck.process.send_signal(signal.SIGSTOP)
    came = len(labels)
    node.observer.until(lambda: len(labels) > came + 10, "labels of 10 pictures")
    process.stop()
    stuck.kill()


# --- The runtime --------------------------------------------------------------------------------


@pytest.mark.parametrize("fault", ["raise", "memory", "shape", "type", "nothing", "exit"])
def test_a_runtime_that_fails_is_loaded_anew(faulty, order, recovers, fault):
    why = "the inference thread died" if fault == "exit" else "the network failed"
    labels = faulty.collect("label/image")
    faulty.perceive(frame(), None, labels)
    reported = len(faulty.process.lines("reloading the model in"))
    order(fault)

    def given_up():
        faulty.send(frame())
        return f"reloading the model: {why}" in level(faulty)

    faulty.until_diagnostics(given_up, "that the network fails")
    assert len(faulty.process.lines("reloading the model in")) == reported + 1
    order("")
    recovers(faulty, labels)
    faulty.until_diagnostics(lambda: "reloading" not in level(faulty), "that all is well")
    assert faulty.state() == "active"


def test_a_size_that_a_runtime_does_not_serve_costs_no_more_than_its_frames(faulty, order):
    labels = faulty.collect("label/image")
    faulty.perceive(frame(), None, labels)
    reported, failed = len(faulty.process.lines("reloading")), faulty.frames("failed")
    order("unserved")

    def lost():
        faulty.send(frame())
        said = "all frames fail: the engine takes pictures of 640x480" in level(faulty)
        return said and faulty.frames("failed") >= failed + 6

    faulty.until_diagnostics(lost, "that frames fail")
    assert len(faulty.process.lines("reloading")) == reported
    order("")
    faulty.perceive(frame(), None, labels)


def test_a_runtime_that_hangs_is_given_up_and_what_it_gives_later_is_not_shown(
    faulty, order, recovers
):
    labels = faulty.collect("label/image")
    order("hang")
    hung = frame()

    def hangs():
        faulty.send(hung)
        return "stuck" in level(faulty) or "the network has been" in level(faulty)

    faulty.until_diagnostics(hangs, "that the network hangs")
    faulty.process.says("been running on one image for 1 s; reloading the model")
    recovers(faulty, labels)
    assert hung.header.stamp not in [label.header.stamp for label in labels]
    faulty.until_diagnostics(lambda: "reloading" not in level(faulty), "that all is well")


def test_a_runtime_that_hangs_keeps_nobody_from_deactivating(faulty, order, recovers):
    labels = faulty.collect("label/image")
    faulty.perceive(frame(), None, labels)
    order("hang")
    busy = len(faulty.process.lines("Processing a frame failed"))
    faulty.send(frame())
    faulty.observer.until(lambda: not Path(os.environ["DEPTHSEG_FAULT"]).read_text(), "a hang")
    assert faulty.change("deactivate") and faulty.state() == "inactive"
    assert faulty.change("activate")
    recovers(faulty, labels)
    assert busy <= len(faulty.process.lines("Processing a frame failed"))


def test_a_runtime_that_hangs_each_time_is_not_loaded_until_memory_is_full(faulty, order, recovers):
    labels = faulty.collect("label/image")
    order("")
    faulty.perceive(frame(), None, labels)
    order("hang again")

    def given_up():
        faulty.send(frame())
        return "threads are stuck: " in level(faulty)

    faulty.until_diagnostics(given_up, "that no more are loaded")
    assert faulty.process.lines("when one of [0-9] threads stuck in it returns")
    order("")
    recovers(faulty, labels)
    faulty.until_diagnostics(lambda: "stuck" not in level(faulty), "that all is well")


def test_a_model_whose_loading_hangs_is_given_up_and_loaded_anew(faulty, order, recovers):
    labels = faulty.collect("label/image")
    faulty.perceive(frame(), None, labels)
    order("load")

    def given_up():
        faulty.send(frame())
        return faulty.process.lines("the model was not loaded within 5 s; retrying in")

    faulty.observer.until(given_up, "that the model does not load")

    def refused():
        time.sleep(0.3)  # the node's own turn
        service = f"{faulty.name}/load_model"
        answer = faulty.observer.call(LoadModel, service, LoadModel.Request(), again=True)
        assert not answer.success
        return "being reloaded at the moment: retry later" in answer.message

    faulty.observer.until(refused, "that it is being loaded")
    order("")
    recovers(faulty, labels)
    assert faulty.change("deactivate") and faulty.change("cleanup")
    order("load")
    assert not faulty.change("configure") and faulty.state() == "unconfigured"
    assert faulty.process.lines("Cannot configure: the model was not loaded within 5 s")
    order("")
    assert faulty.change("configure") and faulty.change("activate")
    faulty.perceive(frame(), None, labels)


def test_a_node_that_is_cleaned_up_takes_no_model_that_was_asked_for_before(faulty, order):
    order("slow")
    client = faulty.observer.node.create_client(LoadModel, f"{faulty.name}/load_model")
    faulty.observer.until(client.service_is_ready, "the service")
    asked = client.call_async(LoadModel.Request())
    faulty.observer.until(lambda: not Path(os.environ["DEPTHSEG_FAULT"]).read_text(), "loading")
    assert faulty.change("deactivate") and faulty.change("cleanup")
    faulty.observer.until(asked.done, "an answer")
    assert not asked.result().success and "cleaned up in the meantime" in asked.result().message
    assert faulty.change("configure") and faulty.change("activate")


def test_depth_and_labels_are_honest_whatever_the_runtime_says(faulty, order):
    outputs = [faulty.collect("depth/image"), faulty.collect("label/image")]
    order("depth")
    depth, _ = faulty.perceive(frame(), None, *outputs)
    depth = np.frombuffer(depth.data, np.float32).reshape(48, 64)
    assert np.isnan(depth[::2, ::2]).all() and np.isnan(depth[1::2, ::2]).all()
    assert (depth[np.isfinite(depth)] > 0).all() and not np.isinf(depth).any()
    order("labels")
    _, labels = faulty.perceive(frame(), None, *outputs)
    assert set(labels.data) == {255}  # the model knows no class 200
    order("")


def test_auto_goes_from_a_tensorrt_that_fails_to_onnx_runtime(start_depthseg, order, recovers):
    order("")
    program = [sys.executable, "-c", FAULTY + TENSORRT + MAIN]
    node = start_depthseg(executable=program)
    labels = node.collect("label/image")
    node.perceive(frame(), None, labels)
    node.until_diagnostics(lambda: "tensorrt" in node.diagnostics()["backend"], "TensorRT")
    order("tensorrt")

    def given_up():
        node.send(frame())
        return "reloading the model: the network failed" in level(node)

    node.until_diagnostics(given_up, "that TensorRT fails")
    assert "unspecified launch failure" in level(node)
    recovers(node, labels)
    node.until_diagnostics(lambda: "onnxruntime" in node.diagnostics()["backend"], "the CPU")
    assert node.get("backend") == "auto"


def test_a_tensorrt_that_cannot_load_leaves_auto_to_onnx_runtime(start_depthseg, order):
    order("tensorrt")  # fails at the warm-up
    program = [sys.executable, "-c", FAULTY + TENSORRT + MAIN]
    node = start_depthseg(executable=program)
    node.process.says("tensorrt cannot be used: .*launch failure; using onnxruntime")
    node.process.says("Model street on onnxruntime.*not tensorrt")
    node.perceive(frame(), None, node.collect("label/image"))
    order("")


# --- Files and logs -----------------------------------------------------------------------------


def test_a_model_file_that_is_replaced_or_lost_leaves_the_node_with_what_it_has(
    start_depthseg, tmp_path
):
    model = tmp_path / "model.onnx"
    default = Path(get_package_share_directory("depthseg_ros"), "models", "street.onnx")
    model.write_bytes(default.read_bytes())
    node = start_depthseg(model=model)
    labels = node.collect("label/image")
    node.perceive(frame(), None, labels)
    model.write_bytes(b"half a file")
    node.perceive(frame(), None, labels)
    model.unlink()
    node.perceive(frame(), None, labels)
    assert node.change("deactivate") and node.change("cleanup")
    assert not node.change("configure")
    node.process.says("there is no model file")
    model.write_bytes(default.read_bytes())
    assert node.change("configure") and node.change("activate")
    node.perceive(frame(), None, labels)


def test_nonsense_by_the_hundred_does_not_flood_the_log(watched):
    node, labels = watched
    before, rejected = len(node.process.log.splitlines()), node.frames("rejected")
    nonsense = frame()
    for i in range(300):
        nonsense.encoding = f"nonsense {i}" if i % 2 else "rgb8"
        nonsense.step = 3 + i
        node.send(nonsense)
    node.perceive(frame(), None, labels)
    node.until_diagnostics(lambda: node.frames("rejected") > rejected, "rejected frames")
    assert len(node.process.log.splitlines()) - before <= 20


# --- Processes and lifecycle --------------------------------------------------------------------


def test_a_node_that_is_killed_at_any_moment_starts_again(start, observer, record_property):
    moments = random.Random(0)
    for _ in range(max(4, ROUNDS // 4)):
        process = start("depthseg", "/killed")
        time.sleep(moments.uniform(0.2, 3))
        process.kill()
    began = time.monotonic()
    process = start("depthseg", "/killed")
    process.says("Model street")
    record_property("recovered", time.monotonic() - began)
    labels = observer.collect(Image, "/killed/depthseg/label/image")
    camera = start("camera_node", "/killed", rate=20.0, width=64, height=48)
    observer.until(lambda: labels, f"labels\n{process.log}")
    camera.stop()
    assert process.stop() == 0


CLIENT = """
import random, sys, rclpy
from lifecycle_msgs.msg import Transition
from lifecycle_msgs.srv import ChangeState
rclpy.init()
node = rclpy.create_node(f"client{sys.argv[1]}")
client = node.create_client(ChangeState, "depthseg/change_state")
client.wait_for_service()
order, left = random.Random(int(sys.argv[1])), int(sys.argv[2])
numbers = [
    Transition.TRANSITION_CONFIGURE, Transition.TRANSITION_CLEANUP,
    Transition.TRANSITION_ACTIVATE, Transition.TRANSITION_DEACTIVATE,
]
while left:
    request = ChangeState.Request(transition=Transition(id=order.choice(numbers)))
    future = client.call_async(request)
    rclpy.spin_until_future_complete(node, future, timeout_sec=10)
    if future.done():  # an answer may be lost to a client that is new
        print("answer", future.result().success, flush=True)
        left -= 1
"""


def test_two_clients_that_ask_for_every_transition_at_once_break_nothing(start_depthseg, start):
    node = start_depthseg()
    node.process.says("Model street")
    clients = [
        start([sys.executable, "-c", CLIENT, str(seed), str(2 * ROUNDS)], node.namespace)
        for seed in range(2)
    ]
    answers = []
    for client in clients:
        assert client.process.wait(60 + 4 * ROUNDS) == 0, client.log
        answers += client.lines("^answer")
    assert len(answers) == 4 * ROUNDS
    assert {line.split()[1] for line in answers} == {"True", "False"}
    ways = {"unconfigured": ["configure", "activate"], "inactive": ["activate"], "active": []}
    for transition in ways[node.state()]:
        assert node.change(transition)
    node.perceive(frame(), None, node.collect("label/image"))


def held(process):
    """Resident MB, open files and threads of a process."""
    proc = Path(f"/proc/{process.pid}")
    status = dict(line.split(":", 1) for line in (proc / "status").read_text().splitlines())
    files = len(list((proc / "fd").iterdir()))
    return int(status["VmRSS"].split()[0]) / 1024, files, int(status["Threads"])


def test_rounds_through_the_lifecycle_leave_nothing_behind(start_depthseg, record_property):
    node = start_depthseg()
    labels = node.collect("label/image")

    def rounds(count):
        """What is held after each; of megabytes, which waver, the middle of the last five."""
        readings = []
        for _ in range(count):
            node.perceive(frame(), None, labels)
            assert node.change("deactivate") and node.change("cleanup")
            assert node.change("configure") and node.change("activate")
            readings.append(held(node.process.process))
        megabytes, files, threads = zip(*readings[-5:], strict=True)
        return statistics.median(megabytes), files[-1], threads[-1]

    megabytes, files, threads = rounds(7)
    later = rounds(ROUNDS)
    record_property("growth", later[0] / megabytes - 1)
    assert later[1:] == (files, threads)
    assert later[0] < 1.05 * megabytes
