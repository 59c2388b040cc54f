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

"""Models that compare the picture with a background: from a file, or captured from the camera."""

import signal
import time
from itertools import count, cycle

import cv2
import numpy as np
import onnx.parser
import pytest

pytest.importorskip("rclpy", reason="needs ROS 2")
pytest.importorskip("depthseg_ros.msg", reason="needs the built package: tools/env.sh pytest")

from builtin_interfaces.msg import Time
from std_msgs.msg import Header
from std_srvs.srv import Trigger

from depthseg_ros import model_card
from depthseg_ros.model_card import DepthRange, ModelCard, SemanticClass
from depthseg_ros.node import background
from depthseg_ros.node.messages import image_message

pytestmark = pytest.mark.ros


def test_a_capture_for_which_there_is_no_memory_is_answered(monkeypatch):
    def median(pictures):
        raise MemoryError("no room for 100 pictures")

    monkeypatch.setattr(background, "median_picture", median)
    taken = background.Background(5.0, lambda call, *given: call(*given), str)
    capture = taken.capture(3)
    for _ in range(3):
        taken.collect(np.zeros((4, 6, 3), np.uint8))
    assert capture.outcome.result() == (False, "no room for 100 pictures")
    assert taken.picture is None and not taken.awaited


WIDTH, HEIGHT = 96, 64
FRAMES = 5
STAMPS = count(1)
SCENE = np.random.default_rng(0).integers(0, 150, (HEIGHT, WIDTH, 3), np.uint8)
MISSING = "needs a background image and there is none yet"

# Foreground is what differs from the background by more than 30 in any channel.
DIFFERENCE = """
<ir_version: 9, opset_import: ["" : 18]>
difference (uint8[N, H, W, 3] image, uint8[N, H, W, 3] background)
    => (uint8[N, H, W] labels, uint8[N, H, W] confidence, float[N, H, W] depth)
<int64[1] channels = {3}, float threshold = {30.0}, float white = {255.0}>
{
    now = Cast<to: int = 1> (image)
    before = Cast<to: int = 1> (background)
    signed = Sub (now, before)
    difference = Abs (signed)
    greatest = ReduceMax<keepdims: int = 0> (difference, channels)
    foreground = Greater (greatest, threshold)
    labels = Cast<to: int = 2> (foreground)
    confidence = Cast<to: int = 2> (greatest)
    depth = Div (greatest, white)
}
"""


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    path = tmp_path_factory.mktemp("model") / "difference.onnx"
    card = ModelCard(
        name="difference",
        system="by hand",
        classes=(
            SemanticClass(0, "background", (0, 0, 0)),
            SemanticClass(1, "foreground", (255, 255, 255), ("movable",)),
        ),
        depth=DepthRange("normalised", 0.0, 1.0),
        network_size=(WIDTH, HEIGHT),
        needs_background=True,
    )
    model_card.write(path, onnx.parser.parse_model(DIFFERENCE), card)
    return path


@pytest.fixture(scope="module")
def depthseg(start_depthseg, model):
    node = start_depthseg(model=model, background_frames=FRAMES)
    node.process.says("Model difference on onnxruntime")
    return node


@pytest.fixture(scope="module")
def labels(depthseg):
    return depthseg.collect("label/image")


def message(picture):
    return image_message(picture, "rgb8", Header(stamp=Time(sec=next(STAMPS)), frame_id="camera"))


def scene_with_an_object(column):
    """The scene, with an object before it that is 50 brighter, 8 pixels wide and 16 high."""
    picture = SCENE.copy()
    picture[20:36, column : column + 8] += 50
    return picture


def array(image, dtype=np.uint8):
    return np.frombuffer(image.data, dtype).reshape(image.height, image.width)


def mask(node, labels, picture):
    (image,) = node.perceive(message(picture), None, labels)
    return array(image)


def expected_mask(column):
    expected = np.zeros((HEIGHT, WIDTH), np.uint8)
    expected[20:36, column : column + 8] = 1
    return expected


def ask(node):
    """Call the service; returns the future of its response."""
    client = node.observer.node.create_client(Trigger, f"{node.name}/capture_background")
    node.observer.until(client.service_is_ready, "the service")
    return client.call_async(Trigger.Request())


def answer(node, response, pictures=()):
    """Show the camera's pictures, each but a moment, until the service has answered."""
    pictures, due = iter(pictures), 0.0

    def done():
        nonlocal due
        if time.monotonic() > due and (picture := next(pictures, None)) is not None:
            node.send(message(picture))
            due = time.monotonic() + 0.04
        return response.done()

    node.observer.until(done, f"the answer\n{node.process.log}")
    return response.result()


def until_rejected(node):
    before = node.frames("rejected")

    def rejected():
        node.send(message(SCENE))
        return node.frames("rejected") > before + 2

    node.until_diagnostics(rejected, "rejected frames")


def test_without_a_background_frames_are_rejected_with_a_line_and_the_node_lives_on(
    depthseg, labels
):
    until_rejected(depthseg)
    line = depthseg.process.lines(MISSING)[0]
    assert f"ros2 service call {depthseg.name}/capture_background std_srvs/srv/Trigger" in line
    assert len(depthseg.process.lines(MISSING)) < depthseg.frames("rejected")
    assert depthseg.diagnostics()["message"].startswith("no background")
    assert not labels


def test_a_background_is_captured_from_the_camera_though_things_move_in_it(depthseg, labels):
    # Of eight places of the object no three of five frames have the same one.
    passing = cycle([scene_with_an_object(column) for column in range(0, 88, 11)])
    response = answer(depthseg, ask(depthseg), passing)
    assert response.success
    assert response.message == "background image of 5 frames, 96x64"
    seen = mask(depthseg, labels, scene_with_an_object(40))
    np.testing.assert_array_equal(seen, expected_mask(40))
    depthseg.until_diagnostics(
        lambda: "background" not in depthseg.diagnostics()["message"], "no warning of it"
    )


def test_depth_that_is_not_metric_is_published_as_it_is_and_said(depthseg):
    assert len(depthseg.process.lines("depth is normalised, not metres")) == 1
    outputs = [depthseg.collect(name) for name in ("depth/image", "class_distances")]
    depth, distances = depthseg.perceive(message(scene_with_an_object(8)), None, *outputs)
    expected = (expected_mask(8) * 50 / 255).astype(np.float32)
    np.testing.assert_array_equal(array(depth, np.float32), expected)
    assert [c.class_name for c in distances.classes] == ["background", "foreground"]
    assert distances.classes[1].pixel_share == pytest.approx(16 * 8 / (WIDTH * HEIGHT))
    assert np.isnan([[c.nearest, c.median] for c in distances.classes]).all()


def test_a_capture_whose_frames_change_size_fails_and_the_background_stays(depthseg, labels):
    sizes = cycle([np.full((HEIGHT, WIDTH, 3), 200, np.uint8), SCENE[:32, :48]])
    response = answer(depthseg, ask(depthseg), sizes)
    assert not response.success
    assert response.message in (
        "the image size changed from 96x64 to 48x32",
        "the image size changed from 48x32 to 96x64",
    )
    seen = mask(depthseg, labels, scene_with_an_object(16))
    np.testing.assert_array_equal(seen, expected_mask(16))


def test_a_capture_without_frames_gives_up_and_says_how_many_came(depthseg):
    response = answer(depthseg, ask(depthseg))
    assert not response.success
    assert response.message.startswith("received 0 of 5 frames, and no usable one for 5 s")


def test_deactivating_ends_a_capture_and_keeps_the_background_and_cleaning_up_drops_it(
    depthseg, labels
):
    captures = len(depthseg.process.lines("Capturing a background"))
    response = ask(depthseg)
    depthseg.observer.until(
        lambda: len(depthseg.process.lines("Capturing a background")) > captures, "the capture"
    )
    assert depthseg.change("deactivate")  # answered while the other service still waits
    response = answer(depthseg, response)
    assert not response.success
    assert response.message == "the node was deactivated"

    response = answer(depthseg, ask(depthseg))
    assert not response.success
    assert response.message == (
        f"the node is not active: ros2 lifecycle set {depthseg.name} activate"
    )

    assert depthseg.change("activate")
    seen = mask(depthseg, labels, scene_with_an_object(24))
    np.testing.assert_array_equal(seen, expected_mask(24))

    for transition in ("deactivate", "cleanup", "configure", "activate"):
        assert depthseg.change(transition)
    until_rejected(depthseg)


def test_the_count_of_frames_can_be_set_between_3_and_100(depthseg):
    for wrong in (2, 101):
        assert "out of range" in depthseg.set("background_frames", wrong).reason
    assert depthseg.set("background_frames", 3).successful
    response = answer(depthseg, ask(depthseg), cycle([SCENE]))
    assert response.message == "background image of 3 frames, 96x64"


def test_a_signal_during_a_capture_ends_the_node_in_order(depthseg):
    captures = len(depthseg.process.lines("Capturing a background"))
    ask(depthseg)
    depthseg.observer.until(
        lambda: len(depthseg.process.lines("Capturing a background")) > captures, "the capture"
    )
    assert depthseg.process.stop(signal.SIGINT) == 0


def test_several_cameras_take_their_backgrounds_at_once_and_each_says_how_it_went(
    start_depthseg, model, observer
):
    node = start_depthseg(model=model, background_frames=FRAMES, cameras="[a, b]")
    node.process.says("Model difference on onnxruntime")
    cameras = [type(node)(observer, node.process, node.namespace, camera) for camera in "ab"]
    response = ask(node)
    until = time.monotonic()

    def both_shown():
        nonlocal until
        if time.monotonic() > until:
            for camera in cameras:
                camera.send(message(SCENE))
            until = time.monotonic() + 0.04
        return response.done()

    observer.until(both_shown, f"the answer\n{node.process.log}")
    assert response.result().success
    assert response.result().message == (
        "a: background image of 5 frames, 96x64; b: background image of 5 frames, 96x64"
    )
    response = ask(node)
    one = answer(cameras[0], response, cycle([SCENE]))
    assert not one.success
    captured, missing = one.message.split("; b: ")
    assert captured == "a: background image of 5 frames, 96x64"
    assert missing.startswith("received 0 of 5 frames, and no usable one")
    seen = mask(cameras[1], cameras[1].collect("label/image"), scene_with_an_object(16))
    np.testing.assert_array_equal(seen, expected_mask(16))


def test_a_background_file_serves_from_the_start_and_a_wrong_one_is_one_line(
    start_depthseg, model, tmp_path
):
    path = tmp_path / "background.png"
    node = start_depthseg(model=model, background=path)
    (line,) = node.process.says("Cannot configure")
    assert f"there is no image {path}" in line
    path.write_text("no picture")
    assert not node.change("configure")
    assert len(node.process.lines(f"{path} cannot be read as an image")) == 1
    assert node.state() == "unconfigured"

    cv2.imwrite(str(path), SCENE[..., ::-1])
    assert node.change("configure")
    assert "clean up" in node.set("background", "other.png").reason
    assert node.change("activate")
    labels = node.collect("label/image")
    seen = mask(node, labels, scene_with_an_object(32))
    np.testing.assert_array_equal(seen, expected_mask(32))
    assert not node.process.lines(MISSING)

    assert mask(node, labels, SCENE[:, :48]).shape == (HEIGHT, 48)
    (line,) = node.process.says("aspect ratios differ")
    assert "background image is 96x64, the camera image 48x64" in line


def test_a_model_of_one_image_takes_no_background_and_works_without(start_depthseg):
    node = start_depthseg(background="nowhere.png")
    node.process.says("does not use a background image: the parameter background is ignored")
    service = f"{node.name}/capture_background"
    response = node.observer.call(Trigger, service, Trigger.Request(), again=True)
    assert not response.success
    assert response.message == "the model street does not use a background image"
    assert mask(node, node.collect("label/image"), SCENE).shape == (HEIGHT, WIDTH)
