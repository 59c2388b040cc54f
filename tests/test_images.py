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

"""What messages hold is read without ROS: here those of rosbags, whose fields are numpy arrays."""

import struct
import zlib

import cv2
import numpy as np
import pytest

from depthseg_ros.compressed import MAX_SIZE
from depthseg_ros.geometry import Intrinsics
from depthseg_ros.images import (
    compressed_depth_to_metres,
    compressed_to_rgb,
    depth_to_metres,
    image_to_rgb,
    intrinsics,
    labels_of,
    lens_of,
)
from depthseg_ros.lens import PINHOLE, Lens

typesys = pytest.importorskip("rosbags.typesys", reason="needs rosbags")

TYPES = typesys.get_typestore(typesys.Stores.ROS2_HUMBLE).types
HEADER = TYPES["std_msgs/msg/Header"](TYPES["builtin_interfaces/msg/Time"](1, 2), "camera")
WIDTH, HEIGHT = 8, 6
NAN, INF = float("nan"), float("inf")


def image(rows, encoding, *, width=WIDTH, padding=0, bigendian=False):
    """An Image message of (H, ...) `rows`, each padded by bytes of 0xAA."""
    data = np.ascontiguousarray(rows).view(np.uint8).reshape(len(rows), -1)
    data = np.pad(data, ((0, 0), (0, padding)), constant_values=0xAA)
    kind = TYPES["sensor_msgs/msg/Image"]
    return kind(HEADER, len(rows), width, encoding, int(bigendian), data.shape[1], data.ravel())


def compressed(data, format):
    kind = TYPES["sensor_msgs/msg/CompressedImage"]
    return kind(HEADER, format, np.frombuffer(data, np.uint8))


def png(array):
    return cv2.imencode(".png", array)[1].tobytes()


def camera_info(d=(), p=0.0, model="plumb_bob"):
    k = np.array([500.0, 0, 320, 0, 510, 240, 0, 0, 1])
    projection = np.zeros(12)
    projection[[0, 5, 2, 6]] = p, p, 310, 235
    roi = TYPES["sensor_msgs/msg/RegionOfInterest"](0, 0, 0, 0, False)
    kind = TYPES["sensor_msgs/msg/CameraInfo"]
    return kind(HEADER, 480, 640, model, np.array(d), k, np.eye(3).ravel(), projection, 0, 0, roi)


def random(*shape, kind=np.uint8):
    return np.random.default_rng(0).integers(0, np.iinfo(kind).max, shape, kind)


def test_pictures_of_a_bag_are_read():
    rgb = random(HEIGHT, WIDTH, 3)
    np.testing.assert_array_equal(image_to_rgb(image(rgb, "rgb8", padding=3)), rgb)
    np.testing.assert_array_equal(image_to_rgb(image(rgb[..., ::-1], "bgr8")), rgb)
    message = compressed(png(rgb[..., ::-1]), "rgb8; png compressed bgr8")
    np.testing.assert_array_equal(compressed_to_rgb(message), rgb)


def test_the_camera_of_a_bag_is_read_as_plain_numbers():
    camera = intrinsics(camera_info())
    assert camera == Intrinsics(640, 480, 500, 510, 320, 240)
    assert all(type(value) is float for value in (camera.fx, camera.fy, camera.cx, camera.cy))
    assert intrinsics(camera_info(p=450), rectified=True) == Intrinsics(
        640, 480, 450, 450, 310, 235
    )
    assert intrinsics(camera_info(), rectified=True) == camera
    lens = lens_of(camera_info([0.1, 0, 0, 0, 0]))
    assert lens == Lens("plumb_bob", (0.1, 0, 0, 0, 0)) and type(lens.coefficients[0]) is float
    assert lens_of(camera_info()) == lens_of(camera_info([0.0] * 5)) == PINHOLE
    assert lens_of(camera_info([0.0] * 4, model="fisheye")) == Lens("equidistant", (0.0,) * 4)


@pytest.mark.parametrize("bigendian", [False, True])
@pytest.mark.parametrize("padding", [0, 1, 6])
def test_depth_is_in_metres_whatever_the_byte_order_and_the_padding(bigendian, padding):
    order = ">" if bigendian else "<"
    more = {"padding": padding, "bigendian": bigendian}
    millimetres = random(HEIGHT, WIDTH, kind=np.uint16)
    millimetres[0, 0] = 0
    depth = depth_to_metres(image(millimetres.astype(f"{order}u2"), "16UC1", **more))
    assert depth.dtype == np.float32 and np.isnan(depth[0, 0])
    np.testing.assert_allclose(depth.ravel()[1:], millimetres.ravel()[1:] / 1000, rtol=1e-6)
    metres = np.linspace(0.1, 90, HEIGHT * WIDTH).reshape(HEIGHT, WIDTH).astype(np.float32)
    metres[0, :5] = NAN, INF, -INF, 0, -1
    depth = depth_to_metres(image(metres.astype(f"{order}f4"), "32FC1", **more))
    assert np.isnan(depth[0, :5]).all()
    np.testing.assert_array_equal(depth.ravel()[5:], metres.ravel()[5:])


@pytest.mark.filterwarnings("error")
def test_any_bits_of_a_float_are_depth_or_nan_without_a_warning():
    signalling = np.full((HEIGHT, WIDTH), 0x7FA00000, np.uint32)
    assert np.isnan(depth_to_metres(image(signalling, "32FC1"))).all()


def test_compressed_depth_is_in_metres():
    millimetres = random(HEIGHT, WIDTH, kind=np.uint16)
    expected = np.where(millimetres > 0, millimetres / 1000, NAN)
    for header, codec in ((b"", "png compressed "), (bytes(12), "compressedDepth png")):
        message = compressed(header + png(millimetres), f"16UC1; {codec}")
        np.testing.assert_allclose(compressed_depth_to_metres(message), expected, rtol=1e-6)
    # What image_transport makes of metres: their inverse, by two numbers that it says.
    metres = np.linspace(0.5, 9.5, HEIGHT * WIDTH).reshape(HEIGHT, WIDTH)
    scale, offset = 100 * 101.0, 1 - 100 * 101 / 10
    stored = (scale / metres + offset).astype(np.uint16)
    stored[0, 0] = 0
    header = struct.pack("<iff", 0, scale, offset)
    depth = compressed_depth_to_metres(
        compressed(header + png(stored), "32FC1; compressedDepth png")
    )
    assert np.isnan(depth[0, 0]) and depth.dtype == np.float32
    np.testing.assert_allclose(depth.ravel()[1:], metres.ravel()[1:], rtol=0.01)


@pytest.mark.parametrize("encoding", ["mono8", "8UC1"])
def test_labels_are_the_bytes_of_the_image(encoding):
    ids = random(HEIGHT, WIDTH)
    np.testing.assert_array_equal(labels_of(image(ids, encoding, padding=2)), ids)


SHORT = image(random(HEIGHT, WIDTH, kind=np.uint16), "16UC1")
SHORT.data = SHORT.data[:-1]


LONG = "x" * 10**6


def claiming(width, height, encoding="mono8"):
    """An Image message that says it is of that size, and holds all the bytes of one row."""
    message = image(random(1, min(width, 2**20)), encoding, width=width)
    message.height = height
    return message


def claiming_png(width, height):
    """A PNG of 16 bits that says it is of that size, and holds next to nothing."""
    data = png(random(4, 4, kind=np.uint16))
    header = struct.pack(">II", width, height) + data[24:29]
    crc = struct.pack(">I", zlib.crc32(b"IHDR" + header))
    return data[:16] + header + crc + data[33:]


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("scale", [INF, 3e38, 1e-45, NAN])
@pytest.mark.parametrize("offset", [INF, -INF, NAN, 3.0, 3e38])
def test_senseless_parameters_of_compressed_depth_give_depth_or_nan_without_a_warning(
    scale, offset
):
    header = struct.pack("<iff", 0, scale, offset)
    data = header + png(random(HEIGHT, WIDTH, kind=np.uint16))
    depth = compressed_depth_to_metres(compressed(data, "32FC1; compressedDepth png"))
    assert depth.shape == (HEIGHT, WIDTH) and depth.dtype == np.float32
    assert (np.isnan(depth) | ((depth > 0) & np.isfinite(depth))).all()


@pytest.mark.parametrize(
    ("name", "values"), [("k", (0, 1e-300)), ("k", (4, 1e300)), ("k", (2, -1e300)), ("p", (0, INF))]
)
def test_focal_lengths_and_centres_beyond_all_measure_are_no_calibration(name, values):
    info = camera_info(p=450)
    place, value = values
    getattr(info, name)[place] = value
    with pytest.raises(ValueError, match="not calibrated"):
        intrinsics(info, rectified=name == "p")


@pytest.mark.parametrize(
    ("read", "message", "says"),
    [
        (depth_to_metres, SHORT, "95 bytes of data, 6 rows of 16 bytes need 96"),
        (
            depth_to_metres,
            image(random(HEIGHT, WIDTH), "mono8"),
            "no depth: 'mono8', expected 16UC1",
        ),
        (depth_to_metres, image(random(HEIGHT, 0), "16UC1", width=0), "empty"),
        (labels_of, image(random(HEIGHT, WIDTH, 3), "rgb8"), "no labels: 'rgb8', expected mono8"),
        (labels_of, image(random(HEIGHT, 4), "mono8"), "4 bytes long"),
        (compressed_depth_to_metres, compressed(b"", "16UC1; compressedDepth"), "no depth"),
        (compressed_depth_to_metres, compressed(bytes(99), "16UC1; compressedDepth rvl"), "rvl"),
        (compressed_depth_to_metres, compressed(png(random(4, 4)), "16UC1; png"), "16 bits"),
        (compressed_depth_to_metres, compressed(png(random(4, 4)), "rgb8; png"), "no depth"),
        (compressed_depth_to_metres, compressed(b"\x89PNG\r\n", "16UC1; png"), "damaged"),
        (compressed_depth_to_metres, compressed(claiming_png(65000, 65000), "16UC1; png"), "dam"),
        (compressed_depth_to_metres, compressed(b"", LONG), "no depth"),
        (compressed_to_rgb, compressed(b"", f"16UC1; {LONG}"), "is depth.*xxx"),
        (compressed_to_rgb, compressed(b"", LONG), "empty.*xxx"),
        (image_to_rgb, claiming(MAX_SIZE + 1, 1), "8193x1 pixels, expected 1x1 to 8192x8192"),
        (image_to_rgb, claiming(1, 2**32 - 1), "1x4294967295 pixels"),
        (image_to_rgb, image(random(HEIGHT, WIDTH), LONG), "unknown image encoding 'xxx"),
        (depth_to_metres, claiming(1, MAX_SIZE + 1, "16UC1"), "1x8193 pixels"),
        (depth_to_metres, image(random(HEIGHT, WIDTH), LONG), "no depth"),
        (labels_of, image(random(HEIGHT, WIDTH), LONG), "no labels"),
        (lens_of, camera_info([0.1] * 5, model=LONG), "lens 'xxx"),
        (lens_of, camera_info([0.1] * 99), "99 coefficients"),
    ],
)
def test_what_is_no_depth_or_labels_is_refused_in_one_line_that_says_why(read, message, says):
    with pytest.raises(ValueError, match=says) as error:
        read(message)
    said = str(error.value)
    assert len(said.splitlines()) == 1 and len(said) < 500
