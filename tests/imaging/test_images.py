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

import re
import struct
import zlib
from dataclasses import replace

import cv2
import numpy as np
import pytest

from depthseg_ros.imaging.compressed import MAX_SIZE
from depthseg_ros.imaging.geometry import Intrinsics, rays
from depthseg_ros.imaging.images import (
    camera_of,
    compressed_depth_to_metres,
    compressed_to_rgb,
    depth_to_metres,
    image_to_rgb,
    intrinsics,
    labels_of,
    lens_of,
)
from depthseg_ros.imaging.lens import PINHOLE, Lens

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


def camera_info(
    d=(),
    p=0.0,
    model="plumb_bob",
    k=(500.0, 0, 320, 0, 510, 240, 0, 0, 1),
    roi=(0, 0, 0, 0),
    binning=(0, 0),
    do_rectify=False,
):
    """A CameraInfo of 640x480 pixels; `roi` is x, y, width, height."""
    k = np.array(k, float)
    projection = np.zeros(12)
    projection[[0, 5, 2, 6]] = p, p, 310, 235
    x, y, width, height = roi
    part = TYPES["sensor_msgs/msg/RegionOfInterest"](x, y, height, width, do_rectify)
    kind = TYPES["sensor_msgs/msg/CameraInfo"]
    d, r = np.array(d, float), np.eye(3).ravel()
    return kind(HEADER, 480, 640, model, d, k, r, projection, *binning, part)


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


PATTERNS = ("rggb", "bggr", "gbrg", "grbg")
SMOOTH = cv2.resize(random(3, 4, 3), (32, 24), interpolation=cv2.INTER_CUBIC)


def mosaic(rgb, pattern):
    """The Bayer mosaic of an RGB image, by its upper left pixels in reading order."""
    result = np.empty(rgb.shape[:2], rgb.dtype)
    for i, colour in enumerate(pattern):
        result[i // 2 :: 2, i % 2 :: 2] = rgb[i // 2 :: 2, i % 2 :: 2, "rgb".index(colour)]
    return result


@pytest.mark.parametrize("pattern", PATTERNS)
@pytest.mark.parametrize(
    ("format", "bits", "kind"),
    [
        ("bayer_{0}8; jpeg compressed bayer_{0}8", 8, "jpg"),  # image_transport of ROS 2
        ("bayer_{0}8; jpeg compressed ", 8, "jpg"),  # of ROS 1
        ("bayer_{0}16; jpeg compressed ", 8, "jpg"),
        ("bayer_{0}8; png compressed ", 8, "png"),
        ("bayer_{0}16; png compressed ", 16, "png"),
        ("BAYER_{0}8;JPEG COMPRESSED", 8, "jpg"),
        ("bayer_{0}8; png", 8, "png"),
        ("bayer_{0}8", 8, "jpg"),
        ("; jpeg compressed bayer_{0}8", 8, "jpg"),
    ],
)
def test_compressed_mosaics_are_demosaiced(format, bits, kind, pattern):
    stored = mosaic(SMOOTH, pattern).astype(f"u{bits // 8}") << (bits - 8)
    options = [cv2.IMWRITE_JPEG_QUALITY, 100] if kind == "jpg" else []
    data = cv2.imencode(f".{kind}", stored, options)[1].tobytes()
    result = compressed_to_rgb(compressed(data, format.format(pattern)))
    assert np.abs(result.astype(int) - SMOOTH).mean() < 6 and result.flags.c_contiguous
    grey = cv2.cvtColor(SMOOTH, cv2.COLOR_RGB2GRAY)
    assert np.abs(grey[..., None].astype(int) - SMOOTH).mean() > 30  # what is not demosaiced


@pytest.mark.parametrize("kind", ["jpg", "png"])
@pytest.mark.parametrize(
    ("format", "grey"),
    [
        ("rgb8; {1} compressed bgr8", False),
        ("rgb8; {1} compressed rgb8", False),
        ("bgr8; {1} compressed bgr8", False),
        ("rgba8; {1} compressed bgra8", False),
        ("bgra8; {1} compressed bgr8", False),
        ("rgb16; {1} compressed bgr16", False),
        ("yuv422_yuy2; {1} compressed bgr8", False),
        ("nv21; {1} compressed bgr8", False),
        ("8UC3; {1} compressed ", False),
        ("bayer_rggb8; {1} compressed bgr8", False),  # demosaiced before
        ("bayer_rggb8; {1} compressed ", False),  # no mosaic: it has three channels
        ("{0}", False),
        ("{1}", False),
        ("{1} compressed bgr8", False),
        ("RGB8;{1} COMPRESSED BGR8", False),
        ("RGB8", False),
        ("", False),
        (";;;", False),
        ("mono8; {1} compressed mono8", True),
        ("mono8; {1} compressed ", True),
        ("mono16; {1} compressed mono8", True),
        ("8UC1; {1} compressed mono8", True),
        ("bayer_rggb8; {1} compressed mono8", True),  # what image_transport of ROS 2 makes of it
        ("BAYER_RGGB16; {1} compressed MONO8", True),
        ("{0}", True),
        ("{1}", True),
        ("", True),
    ],
)
def test_the_format_of_what_is_no_mosaic_does_not_matter(format, grey, kind):
    stored = cv2.cvtColor(SMOOTH, cv2.COLOR_RGB2GRAY) if grey else SMOOTH[..., ::-1]
    data = cv2.imencode(f".{kind}", stored)[1].tobytes()
    names = ("jpeg", "JPEG") if kind == "jpg" else ("png", "PNG")
    result = compressed_to_rgb(compressed(data, format.format(kind, names[format.isupper()])))
    expected = np.dstack([stored] * 3) if grey else SMOOTH
    assert np.abs(result.astype(int) - expected).mean() < (8 if kind == "jpg" else 1e-9)


YUV = random(HEIGHT // 2, WIDTH // 2, 3).repeat(2, 0).repeat(2, 1)  # one colour in every 2x2 pixels
YUV[..., 0] = random(HEIGHT, WIDTH)


def planes(yuv, encoding, padding=0):
    """An (H, W, 3) YUV image as senders lay it out, with rows padded by bytes of 0xAA."""
    chroma = yuv[..., 1:] if encoding == "nv24" else yuv[::2, ::2, 1:]
    if encoding in ("nv21", "yv12"):
        chroma = chroma[..., ::-1]  # V first
    if encoding.startswith("nv"):
        colours = chroma.reshape(len(chroma), -1)
        end = padding * 2 if encoding == "nv24" else padding
    else:
        colours = chroma.transpose(2, 0, 1).reshape(-1, chroma.shape[1])
        end = padding // 2
    rows = [np.pad(a, ((0, 0), (0, p)), constant_values=0xAA).ravel() for a, p in
            ((yuv[..., 0], padding), (colours, end))]  # fmt: skip
    height, width = yuv.shape[:2]
    kind = TYPES["sensor_msgs/msg/Image"]
    return kind(HEADER, height, width, encoding, 0, width + padding, np.concatenate(rows))


@pytest.mark.parametrize("padding", [0, 2, 6])
@pytest.mark.parametrize("encoding", ["nv12", "nv21", "nv24", "i420", "yuv420", "yv12", "NV12"])
def test_planes_of_yuv_are_bt601_in_video_range(encoding, padding):
    message = planes(YUV, encoding.lower(), padding)
    message.encoding = encoding
    y, u, v = np.moveaxis(YUV.astype(float) - (16, 128, 128), 2, 0)
    expected = (
        np.stack([y + 1.3708 * v, y - 0.3365 * u - 0.6982 * v, y + 1.7329 * u], 2) / 219 * 255
    )
    result = image_to_rgb(message)
    clear = YUV[..., 0] > 16  # OpenCV clips what is blacker than black first
    assert np.abs(result - expected.clip(0, 255))[clear].max() <= 2
    assert result.dtype == np.uint8 and result.flags.c_contiguous


def test_a_step_that_counts_all_planes_is_understood():
    message = planes(YUV, "nv12")
    expected = image_to_rgb(message)
    message.step = WIDTH * 3 // 2
    np.testing.assert_array_equal(image_to_rgb(message), expected)


def odd(encoding, width=WIDTH, height=HEIGHT, step=WIDTH, size=WIDTH * HEIGHT * 3 // 2):
    kind = TYPES["sensor_msgs/msg/Image"]
    return kind(HEADER, height, width, encoding, 0, step, np.zeros(size, np.uint8))


@pytest.mark.parametrize(
    ("d", "model", "expected"),
    [
        ([-0.3, 0.1, 0, 0], "plumb_bob", (-0.3, 0.1, 0, 0, 0)),
        ([-0.3], "radtan", (-0.3, 0, 0, 0, 0)),
        ([-0.3, 0.1, 0, 0, 0, 0, 0, 0], "plumb_bob", (-0.3, 0.1, 0, 0, 0)),
        ([-0.3, 0.1, *[0] * 12], "rational_polynomial", (-0.3, 0.1, 0, 0, 0)),
        ([-0.3, 0.1, 0, 0, 0.2], "Radial-Tangential", (-0.3, 0.1, 0, 0, 0.2)),
        ([-0.3, 0.1, 0, 0, 0.2, 0.3], "pinhole", (-0.3, 0.1, 0, 0, 0.2, 0.3, 0, 0)),
        ([*[0.1] * 8, *[0] * 6], "plumb bob", (*[0.1] * 8,)),
        ([*[0.1] * 9, *[0] * 5], "rational_polynomial", (*[0.1] * 9, 0, 0, 0)),
        ([0.1] * 14, "", (0.1,) * 14),
        ([0.1, 0.2], "RADTAN", (0.1, 0.2, 0, 0, 0)),
        ([0] * 5, "none", None),
        ([], "", None),
        ([0] * 14, "rational_polynomial", None),
        ([], "pinhole", None),
        ([0.1, 0.2, 0.3, 0.4], "equidistant", (0.1, 0.2, 0.3, 0.4)),
        ([0.1, 0.2, 0.3, 0.4, 0], "kannala_brandt", (0.1, 0.2, 0.3, 0.4)),
        ([0.1], "Kannala-Brandt4", (0.1, 0, 0, 0)),
        ([0] * 8, "fisheye", (0, 0, 0, 0)),
        ([], "equidistant", (0, 0, 0, 0)),
    ],
)
def test_lenses_have_the_names_and_numbers_of_coefficients_that_drivers_give_them(
    d, model, expected
):
    lens = lens_of(camera_info(d, model=model))
    if expected is None:
        assert lens.model == "plumb_bob" and not lens.bends
        return
    count = {5: "plumb_bob", 4: "equidistant"}
    assert lens == Lens(count.get(len(expected), "rational_polynomial"), expected) and lens.bends


K, ZERO = (500.0, 0, 320, 0, 510, 240, 0, 0, 1), (0.0,) * 9


@pytest.mark.parametrize(
    ("changes", "rectified", "focal", "lens", "assumes"),
    [
        ({"d": [0.1]}, False, 500, (0.1, 0, 0, 0, 0), ""),
        ({"d": [0.1], "p": 450}, False, 500, (0.1, 0, 0, 0, 0), ""),
        ({"d": [0.1], "p": 450}, True, 450, (), ""),
        ({"d": [0.1]}, True, 500, (), ""),
        # Cameras that rectify by themselves leave K zero.
        ({"k": ZERO, "p": 450}, False, 450, (), ""),
        ({"k": ZERO, "p": 450, "d": [0.0] * 8}, False, 450, (), ""),
        ({"k": ZERO, "p": 450}, True, 450, (), ""),
        ({"k": (*ZERO[:8], 1), "p": 450}, False, 450, (), ""),
        ({"k": ZERO, "p": 450, "d": [0.1]}, False, 450, (), "no K; using P without distort"),
        ({"d": [0.1], "model": "omni"}, False, 500, (), "unknown lens 'omni', .* a pinhole"),
        ({"d": [], "model": "cylinder"}, False, 500, (), "unknown lens 'cylinder'"),
        ({"d": [0.1], "model": "omni"}, True, 500, (), ""),
        ({"d": [0.1] * 5, "model": "fisheye"}, False, 500, (), "5 coefficients .*'fisheye'.* 4 at"),
        ({"d": [0.1], "model": "none"}, False, 500, (), "1 coefficients .* expected 0 at most"),
        ({"d": [NAN]}, False, 500, (), "expected finite ones; assuming a pinhole"),
        ({"model": "equidistant"}, False, 500, (0,) * 4, "'equidistant' without.*ideal equidis"),
        ({"d": [0] * 4, "model": "equidistant"}, False, 500, (0,) * 4, ""),
    ],
)
def test_what_is_assumed_of_a_camera_is_reported(changes, rectified, focal, lens, assumes):
    camera, assumed = camera_of(camera_info(**changes), 640, 480, rectified)
    assert (camera.fx, camera.lens.coefficients) == (focal, lens)
    assert bool(assumed) == bool(assumes) and len(assumed.splitlines()) == bool(assumed)
    assert re.search(assumes, assumed)


@pytest.mark.parametrize(
    ("changes", "size", "says"),
    [
        ({"k": ZERO}, (640, 480), "K has the focal lengths 0.0, 0.0"),
        ({"k": np.eye(3).ravel()}, (640, 480), "K has the focal lengths 1.0, 1.0"),
        ({"k": (NAN,) * 9, "p": 450}, (640, 480), "K has the focal lengths nan, nan"),
        ({"k": (-500.0, *K[1:])}, (640, 480), "K has the focal lengths -500.0, 510.0"),
        ({"k": (0.0, *K[1:])}, (640, 480), "K has the focal lengths 0.0, 510.0"),
        ({"k": (500.0, 0, NAN, *K[3:])}, (640, 480), "K has the centre nan, 240.0"),
        ({"k": ZERO, "p": NAN}, (640, 480), "P has the focal lengths nan, nan"),
        ({"k": ZERO, "p": -450.0}, (640, 480), "P has the focal lengths -450.0"),
        ({}, (640, 360), "640x480 pixels, the image has 640x360: another aspect ratio"),
        ({}, (480, 640), "the image has 480x640"),
        ({"roi": (100, 40, 400, 300)}, (640, 400), "400x300 pixels, the image has 640x400"),
        ({"binning": (2, 1)}, (640, 480), "320x480 pixels, the image has 640x480"),
        ({"roi": (300, 40, 400, 300)}, (400, 300), "roi of 400x300 pixels at 300, 40"),
        ({"roi": (100, 40, 0, 0)}, (540, 440), "roi of 0x0 pixels at 100, 40"),
        ({"roi": (0, 0, 400, 0)}, (400, 480), "roi of 400x0 pixels"),
    ],
)
def test_a_camera_that_cannot_be_is_refused_in_one_line(changes, size, says):
    with pytest.raises(ValueError, match=says) as error:
        camera_of(camera_info(**changes), *size, rectified=False)
    assert str(error.value).startswith("camera_info ") and "\n" not in str(error.value)


POINT = np.array([0.31, -0.17, 1.9])


@pytest.mark.parametrize(
    ("d", "model"), [((), "plumb_bob"), ((-0.3, 0.1), "radtan"), ((0.05, -0.01), "equidistant")]
)
@pytest.mark.parametrize("rectified", [False, True])
@pytest.mark.parametrize("do_rectify", [False, True])
@pytest.mark.parametrize(
    ("roi", "binning", "size"),
    [
        ((0, 0, 0, 0), (0, 0), (640, 480)),
        ((0, 0, 640, 480), (1, 1), (640, 480)),
        ((0, 0, 0, 0), (0, 0), (1280, 960)),  # resized
        ((0, 0, 0, 0), (0, 0), (200, 150)),
        ((0, 0, 0, 0), (0, 0), (427, 320)),  # ... as near as pixels allow
        ((0, 0, 0, 0), (2, 2), (320, 240)),
        ((0, 0, 0, 0), (2, 2), (640, 480)),  # whose width and height were binned already
        ((0, 0, 0, 0), (2, 1), (320, 480)),
        ((0, 0, 0, 0), (3, 3), (213, 160)),
        ((100, 40, 400, 300), (0, 0), (400, 300)),
        ((100, 0, 320, 480), (0, 0), (320, 480)),
        ((100, 40, 400, 300), (2, 2), (200, 150)),
        ((100, 40, 400, 300), (2, 2), (100, 75)),  # cropped, binned and resized
    ],
)
def test_a_point_is_seen_at_its_pixel(roi, binning, size, do_rectify, rectified, d, model):
    info = camera_info(d, 450, model, roi=roi, binning=binning, do_rectify=do_rectify)
    camera, assumed = camera_of(info, *size, rectified)
    assert (camera.width, camera.height, assumed) == (*size, "")
    # Where the whole sensor sees the point, by OpenCV ...
    k = (
        np.array([[450, 0, 310], [0, 450, 235], [0, 0, 1.0]])
        if rectified
        else np.reshape(K, (3, 3))
    )
    if rectified:
        pixel = cv2.projectPoints(POINT, np.zeros(3), np.zeros(3), k, None)[0]
    elif model == "equidistant":
        bent = np.array((*d, 0, 0))
        pixel = cv2.fisheye.projectPoints(POINT[None, None], np.zeros(3), np.zeros(3), k, bent)[0]
    else:
        bent = np.array((*d, 0, 0, 0)[:5]) if d else None
        pixel = cv2.projectPoints(POINT, np.zeros(3), np.zeros(3), k, bent)[0]
    # ... and then the image at hand: cropped, binned, resized, by the edges of pixels.
    part = np.array(roi[2:] if any(roi) else (640, 480))
    binned = part // np.maximum(binning, 1)
    edge = (pixel.ravel() - roi[:2] + 0.5) / np.maximum(binning, 1)
    column, row = edge * size / binned - 0.5
    u, v = camera.fx * POINT[0] / POINT[2] + camera.cx, camera.fy * POINT[1] / POINT[2] + camera.cy
    if not camera.lens.bends:
        np.testing.assert_allclose((u, v), (column, row), atol=1e-6)
    seen = rays(replace(camera, cx=camera.cx - column, cy=camera.cy - row, width=1, height=1))
    np.testing.assert_allclose(seen[:, 0, 0], POINT[:2] / POINT[2], atol=1e-5)


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
        (compressed_to_rgb, compressed(b"", f"16UC1; {LONG}"), "is a depth image.*xxx"),
        (compressed_to_rgb, compressed(b"", LONG), "empty.*xxx"),
        (image_to_rgb, claiming(MAX_SIZE + 1, 1), "8193x1 pixels, expected 1x1 to 8192x8192"),
        (image_to_rgb, claiming(1, 2**32 - 1), "1x4294967295 pixels"),
        (image_to_rgb, image(random(HEIGHT, WIDTH), LONG), "unknown image encoding 'xxx"),
        (image_to_rgb, image(random(HEIGHT, 2 * WIDTH), "16UC1"), "is a depth image.*16UC1"),
        (image_to_rgb, odd("nv12", width=WIDTH - 1), "7x6 pixels.*nv12 needs even numbers"),
        (image_to_rgb, odd("i420", height=HEIGHT - 1), "8x5 pixels.*i420 needs even numbers"),
        (image_to_rgb, odd("yv12", step=WIDTH + 1, size=81), "of 9 bytes .*even numbers"),
        (image_to_rgb, odd("nv21", step=WIDTH - 2), "72 bytes of data in rows of 6 bytes"),
        (image_to_rgb, odd("nv24"), "72 bytes .* nv24 need 144 in rows of 8"),
        (image_to_rgb, odd("nv12", size=80), "80 bytes .* nv12 need 72 in rows of 8"),
        (image_to_rgb, odd("nv12", height=9), "8x9 pixels"),
        (compressed_to_rgb, compressed(png(random(4, 4)), "bayer_rggb12; png"), "unknown pattern"),
        (
            compressed_to_rgb,
            compressed(bytes(40), "16uc1; COMPRESSEDDEPTH png"),
            "is a depth image",
        ),
        (depth_to_metres, claiming(1, MAX_SIZE + 1, "16UC1"), "1x8193 pixels"),
        (depth_to_metres, image(random(HEIGHT, WIDTH), LONG), "no depth"),
        (labels_of, image(random(HEIGHT, WIDTH), LONG), "no labels"),
        (lens_of, camera_info([0.1] * 5, model=LONG), "unknown lens 'xxx"),
        (lens_of, camera_info([0.1] * 99), "99 coefficients"),
    ],
)
def test_what_is_no_depth_or_labels_is_refused_in_one_line_that_says_why(read, message, says):
    with pytest.raises(ValueError, match=says) as error:
        read(message)
    said = str(error.value)
    assert len(said.splitlines()) == 1 and len(said) < 500
