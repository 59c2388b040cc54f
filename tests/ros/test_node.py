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

"""What the node makes of a camera's messages."""

import math
import re
from itertools import count
from pathlib import Path

import numpy as np
import onnx.parser
import pytest
import yaml

pytest.importorskip("rclpy", reason="needs ROS 2")
pytest.importorskip("depthseg_ros.msg", reason="needs the built package: tools/env.sh pytest")

from builtin_interfaces.msg import Time
from rclpy.qos import QoSProfile
from sensor_msgs.msg import CameraInfo, Image
from std_msgs.msg import Header

from depthseg_ros import model_card, street
from depthseg_ros.imaging.geometry import Intrinsics, sample
from depthseg_ros.imaging.images import ENCODINGS, image_to_rgb, intrinsics
from depthseg_ros.model_card import ModelCard, SemanticClass
from depthseg_ros.node.messages import camera_info_message, image_message
from depthseg_ros.perception import Perception
from depthseg_ros.srv import LoadModel
from depthseg_ros.wrap import wrap

pytestmark = pytest.mark.ros

WIDTH, HEIGHT = 96, 64
STAMPS = count(1)
OUTPUTS = (
    "label/image",
    "label/confidence",
    "label/overlay",
    "depth/image",
    "depth/camera_info",
    "depth/confidence",
    "class_distances",
)


def header(stamp=None):
    return Header(stamp=Time(sec=stamp or next(STAMPS), nanosec=7), frame_id="left_optical")


def frame(**changes):
    """A picture message with a new stamp, and with fields changed."""
    pixels = np.random.default_rng(0).integers(0, 256, (HEIGHT, WIDTH, 3), np.uint8)
    message = image_message(pixels, "rgb8", header())
    for name, value in changes.items():
        setattr(message, name, value)
    return message


def frame_in(encoding):
    """A picture message in an encoding; the four channels of 16 bits of the widest fit into it."""
    message = frame(encoding=encoding, step=WIDTH * 8)
    halves = {"nv24": 6, "nv12": 3, "nv21": 3, "i420": 3, "yuv420": 3, "yv12": 3}.get(encoding, 2)
    message.data.frombytes(bytes(WIDTH * 8 * HEIGHT * halves // 2 - len(message.data)))
    return message


def camera_info(width=WIDTH, height=HEIGHT, fov=1.0):
    return camera_info_message(Intrinsics.from_fov(width, height, fov), header())


@pytest.fixture(scope="module")
def depthseg(start_depthseg):
    """Without the filters of depth, so that it can be compared."""
    node = start_depthseg(fuse_depth=False, sharpen_depth=False)
    node.process.says(
        r"Model street on onnxruntime \(.*\) \(auto: the fastest on CPUs in our measurements.*\)"
        r" in (fp32 \(street|int8 \(street-int8)\.onnx\), loaded in"
    )
    node.process.says(r"using street(-int8)?\.onnx: int8 is [0-9.]+ times as fast as fp32 here")
    return node


@pytest.fixture(scope="module")
def outputs(depthseg):
    return {name: depthseg.collect(name) for name in OUTPUTS}


def test_the_network_rests_while_nobody_subscribes(depthseg):
    """First in this module: nobody has subscribed yet."""

    def unwanted():
        depthseg.send(frame(), camera_info())
        return depthseg.frames("unwanted")

    depthseg.until_diagnostics(unwanted, "frames nobody wants")
    assert depthseg.frames("processed") == 0
    assert depthseg.diagnostics()["latency [ms]"] == "nan"


def test_every_output_has_the_stamp_frame_and_size_of_its_picture(depthseg, outputs):
    sent = frame()
    info = camera_info()
    came = dict(zip(outputs, depthseg.perceive(sent, info, *outputs.values()), strict=True))
    for name, message in came.items():
        assert message.header == sent.header, name
        if name != "class_distances":
            assert (message.width, message.height) == (WIDTH, HEIGHT), name
    assert {n: m.encoding for n, m in came.items() if isinstance(m, Image)} == {
        "label/image": "mono8",
        "label/confidence": "mono8",
        "label/overlay": "rgb8",
        "depth/image": "32FC1",
        "depth/confidence": "mono8",
    }
    assert all(m.step * m.height == len(m.data) for m in came.values() if isinstance(m, Image))
    assert intrinsics(came["depth/camera_info"]) == intrinsics(info)


def test_class_distances_are_those_of_labels_and_depth(depthseg, outputs):
    wanted = [outputs[n] for n in ("label/image", "depth/image", "class_distances")]
    labels, depth, distances = depthseg.perceive(frame(), camera_info(), *wanted)
    labels = np.frombuffer(labels.data, np.uint8).reshape(HEIGHT, WIDTH)
    depth = np.frombuffer(depth.data, np.float32).reshape(HEIGHT, WIDTH)
    assert [d.class_id for d in distances.classes] == sorted(set(labels.ravel()) - {255})
    for d in distances.classes:
        assert d.class_name
        assert d.pixel_share == pytest.approx((labels == d.class_id).mean())
        if np.isfinite(depth[labels == d.class_id]).any():
            known = np.sort(depth[labels == d.class_id])  # NaN last
            median = known[(np.count_nonzero(known == known) - 1) // 2]
            assert d.median == pytest.approx(median, rel=0.002)
            assert d.nearest <= d.median


@pytest.mark.parametrize("encoding", ENCODINGS)
def test_every_encoding_is_perceived(depthseg, outputs, encoding):
    wanted = [outputs["label/image"], outputs["label/overlay"]]
    labels, overlay = depthseg.perceive(frame_in(encoding), camera_info(), *wanted)
    assert (labels.width, labels.height) == (overlay.width, overlay.height) == (WIDTH, HEIGHT)


def test_the_same_picture_in_two_encodings_has_the_same_labels(depthseg, outputs):
    rgb = frame()
    bgr = image_message(image_to_rgb(rgb)[..., ::-1], "bgr8", header())
    ours = [outputs["label/image"], outputs["depth/image"]]
    first = depthseg.perceive(rgb, camera_info(), *ours)
    second = depthseg.perceive(bgr, camera_info(), *ours)
    assert [m.data for m in first] == [m.data for m in second]


@pytest.mark.parametrize(
    "bad, says",
    [
        ({"width": 0}, "empty"),
        ({"height": HEIGHT + 1}, "bytes of data"),
        ({"step": 3}, "rows are 3 bytes"),
        ({"encoding": "jpeg"}, "unknown image encoding 'jpeg'"),
    ],
)
def test_a_bad_picture_is_one_line_in_the_log_and_the_next_is_perceived(
    depthseg, outputs, bad, says
):
    before = depthseg.frames("rejected")

    def rejected_thrice():
        depthseg.send(frame(**bad), camera_info())
        return depthseg.frames("rejected") > before + 2

    depthseg.until_diagnostics(rejected_thrice, "rejected frames")
    depthseg.perceive(frame(), camera_info(), outputs["label/image"])
    assert len(depthseg.process.lines(says)) == 1


def test_larger_focal_length_is_farther_away(depthseg, outputs):
    def depth(fov):
        (message,) = depthseg.perceive(frame(), camera_info(fov=fov), outputs["depth/image"])
        return np.frombuffer(message.data, np.float32)

    wide, narrow = depth(1.4), depth(0.7)
    ratio = math.tan(0.7) / math.tan(0.35)
    both = np.isfinite(narrow) & (wide > 0.21)  # within the model's range
    assert both.any()
    np.testing.assert_allclose(narrow[both] / wide[both], ratio, rtol=1e-3)


def test_camera_info_of_another_size_is_scaled(depthseg, outputs):
    info = camera_info(2 * WIDTH, 2 * HEIGHT)
    (scaled,) = depthseg.perceive(frame(), info, outputs["depth/camera_info"])
    assert intrinsics(scaled) == intrinsics(info).scaled(WIDTH, HEIGHT)
    (line,) = depthseg.process.says("192x128 pixels, the image has 96x64: using the focal length")
    assert f"{intrinsics(scaled).fx:.1f} for {info.k[0]:.1f}" in line
    assert not depthseg.process.lines("another aspect ratio")


SENSOR = Intrinsics(1600, 1200, 900.0, 905.0, 790.0, 610.0)


def cropped(width, height):
    """camera_info of a part of the sensor, every second pixel of it."""
    info = camera_info_message(SENSOR, header())
    info.binning_x = info.binning_y = 2
    info.roi.x_offset, info.roi.y_offset = 100, 60
    info.roi.width, info.roi.height = 2 * width, 2 * height
    info.p[3] = -90.0  # of a stereo pair's second camera
    return info


@pytest.mark.parametrize(
    ("width", "size", "out"),
    [
        (100, (201, 133), (100, 66)),
        (100, (133, 201), (100, 151)),
        (320, (641, 481), (320, 240)),  # smaller than the network's size
        (520, (641, 481), (520, 390)),
        (640, (96, 64), (96, 64)),  # never enlarged
    ],
)
def test_outputs_have_the_width_that_is_wanted_and_fit_together(
    depthseg, outputs, width, size, out
):
    points, mask = depthseg.collect("points"), depthseg.collect("points/label")
    picture = street.Street(0, *size).frame(0).image
    info = cropped(*size)
    expected = intrinsics(info).scaled(*out)
    assert depthseg.set("output_width", width).successful
    sent = image_message(picture, "rgb8", header())
    wanted = [*outputs.values(), points, mask]
    *came, cloud, labels = depthseg.perceive(sent, info, *wanted)
    assert depthseg.set("output_width", 0).successful
    found = dict(zip(outputs, came, strict=True))
    del found["class_distances"]
    for name, message in found.items():
        assert (message.width, message.height) == out, name
        assert message.header == sent.header
    told = found["depth/camera_info"]
    assert intrinsics(told) == intrinsics(told, rectified=True)
    for got, wants in zip(vars(intrinsics(told)).values(), vars(expected).values(), strict=True):
        assert got == pytest.approx(wants) if isinstance(wants, float) else got == wants
    assert told.p[3] == pytest.approx(-90.0 * expected.fx / SENSOR.fx)
    # Points are those of the outputs' pixels with that camera.
    rows, columns = (np.arange(length)[sample(length, 2)] for length in out[::-1])
    assert (cloud.width, cloud.height) == (labels.width, labels.height) == (len(columns), len(rows))
    xyz = np.frombuffer(cloud.data, np.float32).reshape(cloud.height, cloud.width, 5)[..., :3]
    depth = np.frombuffer(found["depth/image"].data, np.float32).reshape(out[::-1])
    np.testing.assert_array_equal(xyz[..., 2], depth[np.ix_(rows, columns)])
    x = (columns - expected.cx) / expected.fx * xyz[..., 2]
    np.testing.assert_allclose(xyz[..., 0], x, rtol=1e-4, atol=1e-4)
    ids = np.frombuffer(found["label/image"].data, np.uint8).reshape(out[::-1])
    np.testing.assert_array_equal(
        np.frombuffer(labels.data, np.uint8), ids[np.ix_(rows, columns)].ravel()
    )


def test_camera_info_of_another_aspect_ratio_is_refused_and_said_once(depthseg, outputs):
    for _ in range(2):
        info = camera_info(WIDTH, WIDTH)
        (assumed,) = depthseg.perceive(frame(), info, outputs["depth/camera_info"])
        expected = Intrinsics.from_fov(WIDTH, HEIGHT, depthseg.get("default_fov"))
        assert intrinsics(assumed).fx == pytest.approx(expected.fx)
    says = "96x96 pixels, the image has 96x64: another aspect ratio.*default_fov"
    assert len(depthseg.process.says(says)) == 1


def test_without_calibration_the_default_field_of_view_is_assumed_and_said_once(depthseg, outputs):
    uncalibrated = CameraInfo(width=WIDTH, height=HEIGHT, k=[math.nan] * 9)
    for _ in range(3):
        assumed = depthseg.perceive(frame(), uncalibrated, *outputs.values())[4]
    fov = depthseg.get("default_fov")
    expected = Intrinsics.from_fov(WIDTH, HEIGHT, fov)
    assert intrinsics(assumed).fx == pytest.approx(expected.fx)
    assert len(depthseg.process.lines("not calibrated.*default_fov")) == 1


def test_a_wrong_parameter_is_refused_with_the_reason_and_the_old_value_stays(depthseg):
    for name, value, reason in (
        ("overlay_opacity", 2.0, "out of range"),
        ("overlay_opacity", math.nan, "overlay_opacity"),
        ("overlay_opacity", "much", "type"),
        ("default_fov", -1.0, "out of range"),
        ("output_width", 7, "output_width is 7, expected 16 to 8192 pixels, or 0"),
        ("output_width", -1, "out of range"),
        ("autostart", False, "read-only"),
        ("model", "other.onnx", "clean up"),
        ("threads", 1, "clean up"),
    ):
        old = depthseg.get(name)
        result = depthseg.set(name, value)
        assert not result.successful
        assert reason in result.reason
        assert depthseg.get(name) == old


def test_opacity_changes_the_overlay_of_a_running_node(depthseg, outputs):
    assert depthseg.set("overlay_opacity", 0.0).successful
    sent = frame()
    (overlay,) = depthseg.perceive(sent, camera_info(), outputs["label/overlay"])
    assert overlay.data[-30:] == sent.data[-30:]  # the lower right: there is no legend there
    assert depthseg.set("overlay_opacity", 1.0).successful
    sent = frame()
    (overlay,) = depthseg.perceive(sent, camera_info(), outputs["label/overlay"])
    assert overlay.data[-30:] != sent.data[-30:]


def test_a_fast_camera_has_its_older_pictures_dropped(start_depthseg, observer):
    node = start_depthseg(image_qos={"reliability": "reliable", "depth": 100})
    labels = node.collect("label/image")
    node.image = observer.node.create_publisher(Image, node.image.topic, QoSProfile(depth=100))
    sent = [frame() for _ in range(40)]
    for message in sent:
        node.send(message)
    observer.until(
        lambda: labels and labels[-1].header == sent[-1].header, f"the last\n{node.process.log}"
    )
    node.until_diagnostics(lambda: node.frames("received") == len(sent), "diagnostics")
    node.until_diagnostics(
        lambda: node.frames("processed") + node.frames("dropped") == len(sent), "diagnostics"
    )
    assert node.frames("dropped") > 0
    assert len(labels) == node.frames("processed")
    stamps = [message.header.stamp.sec for message in labels]
    assert stamps == sorted(set(stamps))
    # No camera_info at all here; the first picture was not held up for ever.
    assert len(node.process.lines(r"no camera_info received on \S+/camera_info.*default_fov")) == 1


def test_silence_is_explained_once(start_depthseg, observer):
    node = start_depthseg()
    observer.node.destroy_publisher(node.image)
    node.process.says("No image for 5 s: nobody publishes /camera2/image")
    node.until_diagnostics(
        lambda: node.diagnostics().get("message", "").startswith("no images; nobody"), "diagnostics"
    )
    assert len(node.process.lines("No image")) == 1


# Takes one size of pictures alone: the others fail in the backend.
NARROW = f"""
<ir_version: 9, opset_import: ["" : 18]>
narrow (uint8[N, H, W, 3] image) => (uint8[N, H, W] labels, uint8[N, H, W] confidence)
<int64[1] first = {{0}}, int64[1] second = {{1}}, int64[1] axis = {{3}},
 int64[3] shape = {{1, {HEIGHT}, {WIDTH}}}>
{{
    red = Slice (image, first, second, axis)
    labels = Reshape (red, shape)
    confidence = Identity (labels)
}}
"""


def test_diagnostics_say_that_every_frame_fails_until_one_does_not(start_depthseg, tmp_path):
    path = tmp_path / "narrow.onnx"
    classes = (SemanticClass(0, "everything", (0, 0, 0)),)
    card = ModelCard("narrow", "by hand", classes, None, (WIDTH, HEIGHT))
    model_card.write(path, onnx.parser.parse_model(NARROW), card)
    node = start_depthseg(model=path)
    node.process.says("Model narrow on onnxruntime")
    labels = node.collect("label/image")
    wide = image_message(np.zeros((HEIGHT, 2 * WIDTH, 3), np.uint8), "rgb8", header())

    def fails():
        node.image.publish(wide)
        message = node.diagnostics().get("message", "")
        return re.search("(all frames fail|the network failed .* times).*: ONNX Runtime", message)

    node.until_diagnostics(fails, "an error")
    assert len(node.process.says("Processing a frame failed: ONNX Runtime failed")) == 1
    node.perceive(frame(), None, labels)
    node.until_diagnostics(lambda: "fail" not in node.diagnostics()["message"], "no error")


FOREIGN = """
<ir_version: 8, opset_import: ["" : 17]>
foreign (float[1, 3, 32, 48] x) => (float[1, 3, 32, 48] z, float[1, 1, 32, 48] d)
{
    z = Neg (x)
    mean = ReduceMean<axes: ints = [1]> (x)
    d = Exp (mean)
}
"""


@pytest.fixture(scope="module")
def wrapped(tmp_path_factory):
    """Model files of networks of others: one made here, and those of ../shared/data/teachers."""
    folder = tmp_path_factory.mktemp("wrapped")
    onnx.save(onnx.parser.parse_model(FOREIGN), folder / "foreign.onnx")
    spec = {
        "name": "foreign",
        "models": [
            {
                "file": str(folder / "foreign.onnx"),
                "input": {"fit": "letterbox", "scale": 0.01},
                "labels": {"output": "z", "kind": "logits"},
                "depth": {"output": "d", "kind": "metric", "canonical_fx": 40},
            }
        ],
        "classes": [
            {"name": "floor", "flags": ["traversable"]},
            {"name": "box", "flags": ["obstacle"]},
            {"name": "sky", "flags": ["sky"]},
        ],
    }
    wrap(spec, folder / "own.onnx")
    files = [folder / "own.onnx"]
    root = Path(__file__).resolve().parents[2]
    teachers = root.parent / "shared" / "data" / "teachers"
    for name, file in {
        "espnetv2_512x256": "espnetv2_s20_city_512x256",
        "espnetv2_1024x512": "espnetv2_s20_city_1024x512",
        "deeplab_cityscapes": "deeplab_edgetpu_slim_city",
        "deeplab_ade20k": "deeplabv3_mnv2_ade20k31",
    }.items():
        if (teachers / f"{file}.onnx").is_file():
            spec = yaml.safe_load((root / "config" / "wrap" / f"{name}.yaml").read_text())
            spec["models"][0]["file"] = str(teachers / f"{file}.onnx")
            spec["classes"] = str(root / "config" / "wrap" / spec["classes"])
            wrap(spec, folder / f"{name}.onnx")
            files.append(folder / f"{name}.onnx")
    return files


def test_networks_of_others_are_served_once_wrapped(depthseg, outputs, wrapped):
    """Last in this module: the node keeps the last network."""
    points, scan = depthseg.collect("points"), depthseg.collect("scan")
    assert depthseg.set("camera_height", 0.5).successful  # a scan needs it, or visible ground
    service = f"{depthseg.name}/load_model"
    for path in wrapped:
        request = LoadModel.Request(model=str(path))
        answer = depthseg.observer.call(LoadModel, service, request, again=True)
        assert answer.success, answer.message
        sent, info = frame(), camera_info()
        prediction = Perception(path)(image_to_rgb(sent), fx=info.k[0])
        if prediction.depth is None:
            (labels,) = depthseg.perceive(sent, info, outputs["label/image"])
        else:
            labels, depth, cloud, _ = depthseg.perceive(
                sent, info, outputs["label/image"], outputs["depth/image"], points, scan
            )
            found = np.frombuffer(depth.data, np.float32).reshape(HEIGHT, WIDTH)
            np.testing.assert_allclose(found, prediction.depth, rtol=1e-3)
            assert cloud.width * cloud.height > 100  # subsampled
        found = np.frombuffer(labels.data, np.uint8).reshape(HEIGHT, WIDTH)
        assert (found == prediction.labels).all()
        assert len(np.unique(found)) > 1
