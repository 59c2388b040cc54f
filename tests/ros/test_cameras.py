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

"""Several cameras in one node: each keeps its own topics, stamps and calibration, and its turn."""

import sys
from itertools import count

import numpy as np
import pytest

pytest.importorskip("rclpy", reason="needs ROS 2")
pytest.importorskip("depthseg_ros.msg", reason="needs the built package: tools/env.sh pytest")

from builtin_interfaces.msg import Time
from std_msgs.msg import Header

from depthseg_ros import model_card
from depthseg_ros.imaging.geometry import Intrinsics
from depthseg_ros.imaging.images import image_to_rgb, intrinsics
from depthseg_ros.node.messages import camera_info_message, image_message
from depthseg_ros.perception import Perception

pytestmark = pytest.mark.ros

STAMPS = count(1)
OUTPUTS = ("label/image", "depth/image", "depth/camera_info", "class_distances")
SIZES = {"front": (96, 64), "side/left": (64, 48)}
FOVS = {"front": 1.0, "side/left": 1.4}


def frame(camera, seed=0):
    width, height = SIZES[camera]
    pixels = np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8)
    header = Header(stamp=Time(sec=next(STAMPS)), frame_id=f"{camera}_optical")
    return image_message(pixels, "rgb8", header)


def camera_info(camera):
    return camera_info_message(Intrinsics.from_fov(*SIZES[camera], FOVS[camera]), Header())


@pytest.fixture(scope="module")
def cameras(start_depthseg):
    """Both cameras of one node."""
    node = start_depthseg(cameras="[front, side/left]")
    node.process.says("Model street on onnxruntime")
    return {
        camera: type(node)(node.observer, node.process, node.namespace, camera) for camera in SIZES
    }


@pytest.fixture(scope="module")
def outputs(cameras):
    return {
        camera: {name: node.collect(name) for name in OUTPUTS} for camera, node in cameras.items()
    }


def test_each_camera_has_its_own_topics_stamps_sizes_and_calibration(cameras, outputs):
    for camera, node in cameras.items():
        # The first camera_info may be lost, while the node does not know its publisher yet.
        node.perceive(frame(camera), camera_info(camera), *outputs[camera].values())
        sent = frame(camera)
        came = node.perceive(sent, camera_info(camera), *outputs[camera].values())
        assert all(message.header == sent.header for message in came)
        assert all((m.width, m.height) == SIZES[camera] for m in came[:3])
        assert intrinsics(came[2]) == intrinsics(camera_info(camera))
    for camera, messages in outputs.items():
        frames = {m.header.frame_id for of_topic in messages.values() for m in of_topic}
        assert frames == {f"{camera}_optical"}


def test_a_camera_that_floods_the_node_leaves_the_other_its_turn(cameras, outputs):
    flooding, other = cameras["front"], cameras["side/left"]
    labels = outputs["side/left"]["label/image"]
    processed, dropped = other.frames("processed"), flooding.frames("dropped")
    for _ in range(10):
        sent = frame("side/left")
        other.send(sent, camera_info("side/left"))

        def came(sent=sent):
            for _ in range(3):
                flooding.send(frame("front"), camera_info("front"))
            return labels and labels[-1].header == sent.header

        # Each of its frames is made use of, although the other camera never pauses.
        other.observer.until(came, f"labels\n{other.process.log}", patience=10)
    other.until_diagnostics(lambda: other.frames("processed") >= processed + 10, "diagnostics")
    flooding.until_diagnostics(lambda: flooding.frames("dropped") > dropped, "dropped frames")


def test_a_bad_frame_of_one_camera_is_counted_and_named_as_that_cameras(cameras, outputs):
    bad, good = cameras["side/left"], cameras["front"]
    broken = frame("side/left")
    broken.encoding = "jpeg"

    def rejected():
        bad.send(broken)
        return bad.frames("rejected")

    bad.until_diagnostics(rejected, "rejected frames")
    good.perceive(frame("front"), camera_info("front"), outputs["front"]["label/image"])
    assert good.frames("rejected") == 0
    assert len(bad.process.lines("side/left: Rejected a frame: unknown image encoding")) == 1


def test_a_stamp_that_cannot_be_is_the_cameras_affair(cameras, outputs):
    node = cameras["front"]
    strange = frame("front")
    strange.header.stamp = Time(sec=-7)
    (labels,) = node.perceive(strange, camera_info("front"), outputs["front"]["label/image"])
    assert labels.header == strange.header


def test_diagnostics_say_where_the_time_goes(cameras, outputs):
    node = cameras["front"]

    def told():
        node.send(frame("front"), camera_info("front"))
        return node.diagnostics().get("latency [ms]", "nan") != "nan"

    node.until_diagnostics(told, "the time of frames")
    values = {
        name: float(node.diagnostics()[f"{name} [ms]"])
        for name in ("wait", "convert", "infer", "derive", "publish", "overhead", "latency")
    }
    assert all(value >= 0 for value in values.values())
    assert 0 < values["infer"] < values["latency"]
    assert 0 < values["overhead"] < values["latency"]


TELLING = """
import sys
from depthseg_ros.node import node
from depthseg_ros.backends import onnxruntime

class Telling(onnxruntime.OnnxRuntimeBackend):
    def run(self, inputs):
        print("pictures at once:", len(inputs["image"]), flush=True)
        return super().run(inputs)

onnxruntime.OnnxRuntimeBackend = Telling
sys.exit(node.main())
"""


def test_pictures_that_wait_go_through_the_network_at_once(start_depthseg):
    names = ("left", "right")
    program = [sys.executable, "-c", TELLING]
    node = start_depthseg(executable=program, cameras=str(list(names)), batch=True)
    node.process.says("Model street on onnxruntime")
    pair = [type(node)(node.observer, node.process, node.namespace, name) for name in names]
    labels = [camera.collect("label/image") for camera in pair]
    info = camera_info("front")
    pictures = [frame("front", seed) for seed in (1, 2)]

    def at_once():
        for camera, picture in zip(pair, pictures, strict=True):
            picture.header.stamp = Time(sec=next(STAMPS))
            camera.send(picture, info)
        return node.process.lines("pictures at once: 2") and all(labels)

    node.observer.until(at_once, "two pictures at once")
    perception = Perception(model_card.DEFAULT)  # the file that the node runs, too
    for picture, came in zip(pictures, labels, strict=True):
        alone = perception(image_to_rgb(picture), intrinsics(info).fx)
        assert np.mean(np.frombuffer(came[-1].data, np.uint8) == alone.labels.ravel()) > 0.99
    # Of two sizes no batch can be made: they go one after the other, and neither is lost.
    first = next(STAMPS)

    def in_turn():
        for camera, size in zip(pair, ("front", "side/left"), strict=True):
            camera.send(frame(size), camera_info(size))
        newest = [came[-1] for came in labels]
        return newest[1].width == SIZES["side/left"][0] and all(
            message.header.stamp.sec > first for message in newest
        )

    node.observer.until(in_turn, "labels of both cameras")
    assert node.process.lines("pictures at once: 1")


@pytest.mark.parametrize(
    ("cameras", "says"),
    [
        ("[front, front]", "cameras contains a namespace twice"),
        ("['', front]", "cameras has '', expected namespaces"),
        ("[/front]", "cameras has '/front', expected namespaces"),
        ("[front, le-ft]", "cameras has 'le-ft', expected namespaces"),
    ],
)
def test_wrong_names_of_cameras_are_one_line(start, cameras, says):
    process = start("depthseg", "/wrong", cameras=cameras)
    assert process.wait() == 1
    assert len(process.lines(says)) == 1
