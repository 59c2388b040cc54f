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

import math
import sys

import numpy as np
import pytest

pytest.importorskip("sensor_msgs.msg", reason="needs ROS 2's message packages")

import cv2
from sensor_msgs.msg import CameraInfo, CompressedImage, Image
from std_msgs.msg import Header

from depthseg_ros.derived.points import POINT
from depthseg_ros.derived.scan import Scan
from depthseg_ros.imaging.geometry import Intrinsics
from depthseg_ros.imaging.images import (
    ENCODINGS,
    camera_of,
    compressed_to_rgb,
    image_to_rgb,
    intrinsics,
    lens_of,
)
from depthseg_ros.imaging.lens import PINHOLE, Lens
from depthseg_ros.model_card import SemanticClass
from depthseg_ros.node.messages import (
    camera_info_message,
    image_message,
    label_info_message,
    label_info_type,
    points_message,
    scan_message,
)

HEADER = Header(frame_id="camera")
WIDTH, HEIGHT = 8, 6
NATIVE_IS_BIG = sys.byteorder == "big"


def message(rows, encoding, *, width=WIDTH, padding=0, bigendian=NATIVE_IS_BIG):
    """An Image message of (H, ...) `rows`, each padded by bytes of 0xAA."""
    rows = np.ascontiguousarray(rows)
    data = rows.view(np.uint8).reshape(len(rows), -1)
    data = np.pad(data, ((0, 0), (0, padding)), constant_values=0xAA)
    result = Image(
        header=HEADER,
        width=width,
        height=len(rows),
        encoding=encoding,
        step=data.shape[1],
        is_bigendian=int(bigendian),
    )
    result.data.frombytes(data.tobytes())
    return result


def picture():
    """A random (H, W, 3) RGB picture."""
    return np.random.default_rng(0).integers(0, 256, (HEIGHT, WIDTH, 3), np.uint8)


def with_alpha(image):
    return np.dstack([image, np.full(image.shape[:2], 7, np.uint8)])


COLOR = {
    "rgb8": lambda rgb: rgb,
    "bgr8": lambda rgb: rgb[..., ::-1],
    "8UC3": lambda rgb: rgb[..., ::-1],
    "rgba8": with_alpha,
    "bgra8": lambda rgb: with_alpha(rgb[..., ::-1]),
    "8UC4": lambda rgb: with_alpha(rgb[..., ::-1]),
}


@pytest.mark.parametrize("padding", [0, 1, 5])
@pytest.mark.parametrize("encoding", COLOR)
def test_color_arrives_as_rgb_whatever_the_order_and_the_padding(encoding, padding):
    rgb = picture()
    result = image_to_rgb(message(COLOR[encoding](rgb), encoding, padding=padding))
    np.testing.assert_array_equal(result, rgb)
    assert result.flags.c_contiguous


@pytest.mark.parametrize("bigendian", [False, True])
@pytest.mark.parametrize("encoding", [e for e in COLOR if not e[0].isdigit()])
def test_16_bit_color_keeps_its_upper_bits_in_either_byte_order(encoding, bigendian):
    rgb = picture()
    samples = COLOR[encoding](rgb).astype(np.uint16) * 256 + 99
    stored = samples.astype(">u2" if bigendian else "<u2")
    wide = message(stored, encoding[:-1] + "16", padding=3, bigendian=bigendian)
    np.testing.assert_array_equal(image_to_rgb(wide), rgb)


@pytest.mark.parametrize("encoding", ["mono8", "8UC1", "mono16"])
def test_gray_has_three_equal_channels(encoding):
    gray = picture()[..., 0]
    stored = gray.astype(np.uint16) * 257 if encoding == "mono16" else gray
    np.testing.assert_array_equal(
        image_to_rgb(message(stored, encoding, padding=2)), np.dstack([gray] * 3)
    )


@pytest.mark.parametrize(
    "encoding, order",
    [("yuv422", "uyvy"), ("uyvy", "uyvy"), ("yuv422_yuy2", "yuyv"), ("yuyv", "yuyv")],
)
def test_yuv_pairs_of_pixels_share_their_color(encoding, order):
    # BT.601 in video range, as cameras send it: red and a bluer dark half.
    pair = {"y": [81, 41], "u": [90], "v": [240]}
    quad = [pair[c][order[:i].count(c)] for i, c in enumerate(order)]
    rgb = image_to_rgb(message(np.tile(np.uint8(quad), (HEIGHT, WIDTH // 2)), encoding, padding=2))
    assert np.abs(rgb[:, 0::2].astype(int) - [254, 0, 0]).max() <= 2
    assert np.abs(rgb[:, 1::2].astype(int) - [208, 0, 0]).max() <= 4


@pytest.mark.parametrize("bits", [8, 16])
@pytest.mark.parametrize("pattern", ["rggb", "bggr", "gbrg", "grbg"])
def test_bayer_names_the_upper_left_pixels_in_reading_order(pattern, bits):
    color = {"r": 200, "g": 100, "b": 30}
    mosaic = np.tile(
        np.uint8([[color[pattern[0]], color[pattern[1]]], [color[pattern[2]], color[pattern[3]]]]),
        (HEIGHT // 2, WIDTH // 2),
    )
    stored = mosaic if bits == 8 else mosaic.astype(np.uint16) * 256
    rgb = image_to_rgb(message(stored, f"bayer_{pattern}{bits}"))
    np.testing.assert_array_equal(rgb, np.full_like(rgb, [200, 100, 30]))


def test_rgb_without_padding_is_a_view():
    rgb = message(picture(), "rgb8")
    assert np.shares_memory(image_to_rgb(rgb), np.frombuffer(rgb.data, np.uint8))


PLANES = {"nv12", "nv21", "nv24", "i420", "yuv420", "yv12"}  # in test_images.py


@pytest.mark.parametrize("encoding", sorted({*ENCODINGS} - PLANES))
def test_the_smallest_pictures_are_read(encoding):
    for width, height in ((2, 1), (2, 3), (4, 5)):
        widest = np.zeros((height, width * 4 * 2), np.uint8)  # four channels of 16 bits
        assert image_to_rgb(message(widest, encoding, width=width)).shape == (height, width, 3)


def wrong(**changes):
    result = message(picture(), "rgb8")
    for name, value in changes.items():
        setattr(result, name, value)
    return result


@pytest.mark.parametrize(
    "bad, says",
    [
        (wrong(width=0), "0x6"),
        (wrong(height=0), "8x0"),
        (wrong(encoding="rgb9"), "rgb9"),
        (wrong(encoding="32FC1"), "32FC1"),
        (wrong(encoding="16UC1"), "16UC1"),
        (wrong(encoding=""), "''"),
        (wrong(step=0), "0 bytes"),
        (wrong(step=23), "23 bytes.*24"),
        (wrong(height=7), "144 bytes.*168"),
        (wrong(encoding="yuv422", width=7), "7 pixels wide"),
        (wrong(encoding="yuyv", width=7), "even"),
        (Image(), "empty"),
    ],
)
def test_what_is_no_picture_is_refused_in_one_line_that_says_why(bad, says):
    with pytest.raises(ValueError, match=says) as error:
        image_to_rgb(bad)
    assert "\n" not in str(error.value)


def compressed(stored, kind, format):
    """A CompressedImage message of an (H, W) or (H, W, 3) BGR picture."""
    return CompressedImage(
        header=HEADER, format=format, data=cv2.imencode(f".{kind}", stored)[1].tobytes()
    )


@pytest.mark.parametrize(
    "kind, format",
    [
        ("png", "png"),
        ("png", "rgb8; png compressed bgr8"),
        ("png", "rgba8; png compressed bgr8"),
        ("png", "bgr8;png compressed"),
        ("png", ""),
        ("png", "jpeg"),  # the data know better
        ("jpg", "jpg"),
        ("jpg", "jpeg"),
        ("jpg", "rgb8; jpeg compressed bgr8"),
        ("jpg", "rgb8; jpeg compressed rgb8"),
        ("jpg", "png"),
    ],
)
def test_compressed_pictures_have_true_colors_whatever_the_format_says(kind, format):
    rgb = np.full((HEIGHT, WIDTH, 3), (200, 100, 30), np.uint8)
    result = compressed_to_rgb(compressed(rgb[..., ::-1], kind, format))
    np.testing.assert_allclose(result, rgb, atol=0 if kind == "png" else 2)
    assert result.dtype == np.uint8 and result.flags.c_contiguous


@pytest.mark.parametrize("bits", [8, 16])
@pytest.mark.parametrize("pattern", ["rggb", "bggr", "gbrg", "grbg"])
def test_a_png_of_a_mosaic_is_read_as_the_mosaic(pattern, bits):
    raw = message(picture()[..., 0].astype(f"u{bits // 8}") << (bits - 8), f"bayer_{pattern}{bits}")
    mosaic = np.frombuffer(raw.data, f"u{bits // 8}").reshape(HEIGHT, WIDTH)
    png = compressed(mosaic, "png", f"{raw.encoding}; png compressed ")
    np.testing.assert_array_equal(compressed_to_rgb(png), image_to_rgb(raw))


def test_a_jpeg_of_a_mosaic_is_gray():
    gray = np.full((HEIGHT, WIDTH), 90, np.uint8)
    result = compressed_to_rgb(compressed(gray, "jpg", "bayer_rggb8; jpeg compressed mono8"))
    np.testing.assert_array_equal(result, np.full((HEIGHT, WIDTH, 3), 90))


@pytest.mark.parametrize(
    "bad, says",
    [
        (CompressedImage(), "empty.*format ''"),
        (CompressedImage(format="jpeg"), "empty.*'jpeg'"),
        (CompressedImage(format="h264", data=[0, 0, 0, 1]), "neither JPEG nor PNG.*'h264'"),
        (compressed(picture(), "tiff", "rgb8; tiff compressed bgr8"), "neither.*tiff"),
        (compressed(picture()[..., 0].astype(np.uint16), "png", "16UC1; png compressed "), "depth"),
        (CompressedImage(format="16UC1; compressedDepth png", data=bytes(40)), "depth"),
        (CompressedImage(format="32FC1; compressedDepth", data=bytes(40)), "depth"),
    ],
)
def test_what_is_no_compressed_picture_is_refused_in_one_line_that_says_why(bad, says):
    with pytest.raises(ValueError, match=says) as error:
        compressed_to_rgb(bad)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    "array, encoding, step",
    [
        (picture(), "rgb8", 24),
        (picture()[:, ::2], "bgr8", 12),
        (picture()[..., 1], "mono8", 8),
        (np.float32([[1.5, np.nan]]), "32FC1", 8),
    ],
)
def test_outgoing_images_hold_the_array_and_the_header(array, encoding, step):
    result = image_message(array, encoding, HEADER)
    assert (result.height, result.width) == array.shape[:2]
    assert (result.step, result.encoding, result.header) == (step, encoding, HEADER)
    assert type(result.step) is int and result.is_bigendian == int(NATIVE_IS_BIG)
    back = np.frombuffer(result.data, array.dtype).reshape(array.shape)
    np.testing.assert_array_equal(back, array)


def test_outgoing_images_do_not_share_memory():
    first, second = (image_message(picture(), "rgb8", HEADER) for _ in range(2))
    first.data[0] = 255 - first.data[0]
    assert first.data[0] != second.data[0]


def calibrated(**changes):
    info = CameraInfo(width=640, height=480, distortion_model="plumb_bob")
    info.d = [0.1, -0.2, 0.0, 0.0, 0.05]
    info.k = [500.0, 0.0, 320.0, 0.0, 510.0, 240.0, 0.0, 0.0, 1.0]
    info.r = np.eye(3).ravel().tolist()
    info.p = [450.0, 0.0, 310.0, -45.0, 0.0, 460.0, 235.0, 0.0, 0.0, 0.0, 1.0, 0.0]
    for name, value in changes.items():
        setattr(info, name, value)
    return info


def test_k_is_for_raw_pictures_and_p_for_rectified_ones():
    assert intrinsics(calibrated()) == Intrinsics(640, 480, 500, 510, 320, 240)
    assert intrinsics(calibrated(), rectified=True) == Intrinsics(640, 480, 450, 460, 310, 235)
    no_p = calibrated(p=[0.0] * 12)
    assert intrinsics(no_p, rectified=True) == intrinsics(no_p)


def test_binned_and_cropped_pictures_have_their_own_intrinsics():
    info = calibrated(binning_x=2, binning_y=2)
    info.roi.x_offset, info.roi.y_offset, info.roi.width, info.roi.height = 100, 40, 400, 300
    assert intrinsics(info) == Intrinsics(400, 300, 500, 510, 220, 200).scaled(200, 150)


@pytest.mark.parametrize("focal", [0.0, -500.0, float("nan"), float("inf")])
@pytest.mark.parametrize("index", [0, 4])
def test_senseless_focal_lengths_are_refused(focal, index):
    k = list(calibrated().k)
    k[index] = focal
    with pytest.raises(ValueError, match="not calibrated"):
        intrinsics(calibrated(k=k))


def test_missing_size_and_centre_are_refused():
    with pytest.raises(ValueError, match="0x480"):
        intrinsics(calibrated(width=0))
    k = list(calibrated().k)
    k[2] = float("nan")
    with pytest.raises(ValueError, match="centre"):
        intrinsics(calibrated(k=k))
    with pytest.raises(ValueError, match="size"):
        intrinsics(CameraInfo())


def test_camera_info_is_scaled_to_the_picture_and_keeps_its_distortion():
    info = calibrated()
    result = camera_info_message(intrinsics(info).scaled(320, 240), HEADER, info)
    assert (result.header, result.width, result.height) == (HEADER, 320, 240)
    assert (result.distortion_model, result.d) == (info.distortion_model, info.d)
    assert intrinsics(result) == intrinsics(info).scaled(320, 240)
    assert intrinsics(result, True) == intrinsics(info, True).scaled(320, 240)
    assert result.p[3] == pytest.approx(-45.0 / 2)  # the baseline, Tx / fx, is the same
    assert list(result.r) == list(info.r)


def test_the_offset_of_a_camera_above_another_is_scaled_as_its_focal_length():
    p = [100, 0, 320, -45, 0, 200, 240, -30, 0, 0, 1, 0]
    info = calibrated(p=[float(value) for value in p])
    camera = Intrinsics(320, 120, 1, 1, 1, 1)
    result = camera_info_message(camera, HEADER, info)
    assert result.p[3] == pytest.approx(-45 / 2) and result.p[7] == pytest.approx(-30 / 4)


def test_a_camera_that_is_not_rectified_has_the_projection_of_its_k():
    info = calibrated(p=[0.0] * 12)
    result = camera_info_message(intrinsics(info), HEADER, info)
    p = np.reshape(result.p, (3, 4))
    assert p[:, :3].ravel().tolist() == list(result.k) and p[:, 3].tolist() == [0, 0, 0]


@pytest.mark.parametrize(
    "source",
    [None, CameraInfo(), calibrated(k=[float("nan")] * 9), calibrated(p=[float("nan")] * 12)],
)
def test_camera_info_without_a_calibrated_source_is_a_pinhole(source):
    camera = Intrinsics(640, 480, 500, 510, 320, 240)
    result = camera_info_message(camera, HEADER, source)
    assert intrinsics(result) == intrinsics(result, rectified=True) == camera
    assert list(result.r) == [1, 0, 0, 0, 1, 0, 0, 0, 1]


def test_camera_info_of_a_camera_without_k_is_that_of_its_p():
    info = calibrated(k=[0.0] * 9)
    camera, _ = camera_of(info, 320, 240, rectified=False)
    result = camera_info_message(camera, HEADER, info)
    assert intrinsics(result) == intrinsics(result, rectified=True) == camera
    assert camera.fx == 225 and not any(result.d) and list(result.r) == list(np.eye(3).ravel())


def test_camera_info_without_a_source_tells_of_the_lens():
    pinhole = camera_info_message(Intrinsics(640, 480, 500, 510, 320, 240), HEADER)
    assert pinhole.distortion_model == "plumb_bob" and list(pinhole.d) == [0.0] * 5
    lens = Lens("equidistant", (0.1, 0.2, 0.3, 0.4))
    bent = camera_info_message(Intrinsics(640, 480, 500, 510, 320, 240, lens), HEADER)
    assert bent.distortion_model == "equidistant" and list(bent.d) == [0.1, 0.2, 0.3, 0.4]


def test_encodings_agree_with_cv_bridge_where_it_is_installed():
    cv_bridge = pytest.importorskip("cv_bridge", reason="cv_bridge is not on PyPI")
    rng = np.random.default_rng(1)
    for encoding in ("bgr8", "rgba8", "bgra8", "mono8", "yuv422", "bayer_rggb8", "bayer_gbrg8"):
        channels = {"bgr8": 3, "rgba8": 4, "bgra8": 4, "yuv422": 2}.get(encoding, 1)
        smooth = cv2.resize(rng.integers(0, 256, (3, 4 * channels), np.uint8), (16 * channels, 12))
        picture = message(smooth, encoding, width=16)
        theirs = cv_bridge.CvBridge().imgmsg_to_cv2(picture, "rgb8")
        np.testing.assert_array_equal(image_to_rgb(picture), theirs, encoding)


def test_label_info_names_the_ids_and_the_threshold():
    pytest.importorskip("vision_msgs.msg", reason="`make setup` builds a stand-in")
    classes = [SemanticClass(0, "road", (128, 64, 128)), SemanticClass(254, "sky", (70, 130, 180))]
    info = label_info_message(classes, HEADER, threshold=0.25)
    assert type(info) is label_info_type()
    assert (info.header, info.threshold) == (HEADER, 0.25)
    assert [(c.class_id, c.class_name) for c in info.class_map] == [(0, "road"), (254, "sky")]
    assert label_info_message((), HEADER).threshold == 0
    assert type(info).get_fields_and_field_types() == {  # the stand-in's as the real one's
        "header": "std_msgs/Header",
        "class_map": "sequence<vision_msgs/VisionClass>",
        "threshold": "float",
    }


def test_without_vision_msgs_there_is_no_label_info(monkeypatch):
    monkeypatch.setitem(sys.modules, "vision_msgs.msg", None)
    assert label_info_type() is None


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({}, Lens("plumb_bob", (0.1, -0.2, 0.0, 0.0, 0.05))),
        ({"d": [0.0] * 5}, PINHOLE),
        ({"d": []}, PINHOLE),
        ({"distortion_model": ""}, Lens("plumb_bob", (0.1, -0.2, 0.0, 0.0, 0.05))),
        # A fisheye without distortion is a fisheye.
        ({"distortion_model": "equidistant", "d": [0.0] * 4}, Lens("equidistant", (0.0,) * 4)),
        ({"distortion_model": "fisheye", "d": [0.1] * 4}, Lens("equidistant", (0.1,) * 4)),
    ],
)
def test_the_lens_is_what_camera_info_says(changes, expected):
    lens = lens_of(calibrated(**changes))
    assert lens == expected and lens.bends == (lens != PINHOLE)


def test_points_and_scans_are_laid_out_as_their_fields_say():
    points = np.zeros((2, 3), POINT)
    points["x"], points["label"] = [[1, 2, 3], [4, 5, 6]], 7
    message = points_message(points, Header(frame_id="a"))
    assert (message.height, message.width, message.point_step, message.row_step) == (2, 3, 20, 60)
    assert len(message.data) == 120 and message.header.frame_id == "a"
    assert (message.is_bigendian, message.is_dense) == (False, False)
    assert np.frombuffer(message.data, POINT)["x"].tolist() == [1, 2, 3, 4, 5, 6]
    assert {f.name: f.offset for f in message.fields}["label"] == 16
    assert bytes(message.data[16::20]) == bytes([7] * 6)
    ranges = np.array([1, np.inf, np.nan, 4, 5])
    scan = scan_message(Scan(-0.2, 0.1, ranges), 80.0, HEADER)
    assert (scan.header, scan.range_min, scan.range_max) == (HEADER, 0.0, 80.0)
    assert (scan.angle_min, scan.angle_increment) == pytest.approx((-0.2, 0.1))
    assert scan.angle_max == pytest.approx(0.2) and scan.time_increment == 0
    assert list(scan.ranges[:2]) == [1, math.inf] and math.isnan(scan.ranges[2])
    assert list(scan.ranges[3:]) == [4, 5]
