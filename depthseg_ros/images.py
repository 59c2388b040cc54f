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

"""What ROS messages of images and cameras hold -> arrays and cameras; knows encodings, but no ROS.

Any object with the fields of the message will do, rclpy's as well as those of a bag that is read
without ROS. The conversions are written out here rather than left to cv_bridge: its Python side
misreads rows that are padded to anything but whole pixels, copies every picture, and breaks with
numpy 2 on distributions that were built with numpy 1. Encodings that the table below lacks go to
cv_bridge where it is installed.
"""

from __future__ import annotations

import struct
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Protocol

import cv2
import numpy as np
from numpy.typing import NDArray

from . import compressed
from .geometry import Intrinsics
from .lens import PINHOLE, Lens
from .texts import shortened


class Image(Protocol):
    """What is needed of a sensor_msgs/Image."""

    height: int
    width: int
    encoding: str
    is_bigendian: int
    step: int
    data: Any


class CompressedImage(Protocol):
    """What is needed of a sensor_msgs/CompressedImage."""

    format: str
    data: Any


class CameraInfo(Protocol):
    """What is needed of a sensor_msgs/CameraInfo."""

    height: int
    width: int
    distortion_model: str
    d: Any
    k: Any
    p: Any
    binning_x: int
    binning_y: int
    roi: Any


@dataclass(frozen=True)
class _Encoding:
    """How a pixel lies in a message, and which OpenCV conversion makes RGB of it."""

    channels: int
    code: int | None
    """None: it is RGB already."""
    sample_bytes: int = 1
    even_width: bool = False
    """Whether pixels come in pairs that share their colour, as in YUV 4:2:2."""


_RGB = _Encoding(3, None)
_BGR = _Encoding(3, cv2.COLOR_BGR2RGB)
_RGBA = _Encoding(4, cv2.COLOR_RGBA2RGB)
_BGRA = _Encoding(4, cv2.COLOR_BGRA2RGB)
_MONO = _Encoding(1, cv2.COLOR_GRAY2RGB)
_UYVY = _Encoding(2, cv2.COLOR_YUV2RGB_UYVY, even_width=True)
_YUYV = _Encoding(2, cv2.COLOR_YUV2RGB_YUY2, even_width=True)

_ENCODINGS = {
    "rgb8": _RGB,
    "bgr8": _BGR,
    "rgba8": _RGBA,
    "bgra8": _BGRA,
    "mono8": _MONO,
    "8UC1": _MONO,
    "8UC3": _BGR,  # OpenCV's own type, and so in OpenCV's order
    "8UC4": _BGRA,
    "yuv422": _UYVY,
    "uyvy": _UYVY,
    "yuv422_yuy2": _YUYV,
    "yuyv": _YUYV,
    # ROS names a mosaic by its upper left 2x2 pixels, OpenCV by those one row and column further.
    "bayer_rggb8": _Encoding(1, cv2.COLOR_BayerBG2RGB),
    "bayer_bggr8": _Encoding(1, cv2.COLOR_BayerRG2RGB),
    "bayer_gbrg8": _Encoding(1, cv2.COLOR_BayerGR2RGB),
    "bayer_grbg8": _Encoding(1, cv2.COLOR_BayerGB2RGB),
}
# The 16-bit relatives, rgb16, mono16, bayer_rggb16, ... 16UC1 is not among them: it is depth.
_ENCODINGS |= {
    name[:-1] + "16": _Encoding(encoding.channels, encoding.code, sample_bytes=2)
    for name, encoding in _ENCODINGS.items()
    if name.endswith("8")
}

ENCODINGS = tuple(_ENCODINGS)
"""The encodings that `image_to_rgb` reads without cv_bridge."""


def image_to_rgb(message: Image) -> NDArray[np.uint8]:
    """The picture of an Image message.

    16-bit samples keep their upper 8 bits, the full 16-bit range being taken as black to white.

    Returns:
        (H, W, 3) uint8 RGB, contiguous; a view of the message's own memory if it holds just that.

    Raises:
        ValueError: the picture is empty or greater than `compressed.MAX_SIZE`, its data are
            shorter than it says, or its encoding is unknown.
    """
    width, height = _size(message)
    encoding = _ENCODINGS.get(message.encoding)
    if encoding is None:
        return _through_cv_bridge(message)
    if encoding.even_width and width % 2:
        raise ValueError(
            f"the image is {width} pixels wide, {message.encoding} needs an even number"
        )
    rows = _rows(message, encoding.channels * encoding.sample_bytes)
    if encoding.sample_bytes == 2:
        rows = rows[:, 0 if message.is_bigendian else 1 :: 2]  # the more significant bytes
    return _to_rgb(np.ascontiguousarray(rows).reshape(height, width, encoding.channels), encoding)


def _size(message: Image) -> tuple[int, int]:
    """Width and height, 1 to `compressed.MAX_SIZE`."""
    width, height = message.width, message.height
    if width == 0 or height == 0:
        raise ValueError(f"the image is empty: {width}x{height} pixels")
    greatest = compressed.MAX_SIZE
    if max(width, height) > greatest:
        raise ValueError(
            f"the image has {width}x{height} pixels, expected 1x1 to {greatest}x{greatest}"
        )
    return width, height


def _rows(message: Image, pixel_bytes: int) -> NDArray[np.uint8]:
    """The rows of an image without their padding, (H, W * pixel_bytes), a view."""
    (width, height), step = _size(message), message.step
    row_bytes = width * pixel_bytes
    if step < row_bytes:
        raise ValueError(
            f"the image's rows are {step} bytes long (step), {width} pixels of {message.encoding}"
            f" need {row_bytes}"
        )
    data = np.frombuffer(message.data, np.uint8)
    if data.size < step * height:
        raise ValueError(
            f"the image has {data.size} bytes of data, {height} rows of {step} bytes need"
            f" {step * height}"
        )
    return data[: step * height].reshape(height, step)[:, :row_bytes]


def _to_rgb(pixels: NDArray[np.uint8], encoding: _Encoding) -> NDArray[np.uint8]:
    if encoding.code is None:
        return pixels
    return np.asarray(cv2.cvtColor(pixels, encoding.code), np.uint8)


def _through_cv_bridge(message: Image) -> NDArray[np.uint8]:
    unknown = f"unknown image encoding {shortened(message.encoding)!r}"
    try:
        from cv_bridge import CvBridge, CvBridgeError
    except ImportError:
        raise ValueError(f"{unknown}, expected one of {', '.join(ENCODINGS)}") from None
    try:
        image = CvBridge().imgmsg_to_cv2(message, desired_encoding="rgb8")
    except (CvBridgeError, cv2.error, KeyError, TypeError, ValueError) as error:
        reason = shortened(str(error), 200)
        raise ValueError(f"{unknown}, and cv_bridge refuses it: {reason}") from None
    return np.ascontiguousarray(image, np.uint8)


def compressed_to_rgb(message: CompressedImage) -> NDArray[np.uint8]:
    """The picture of a CompressedImage message, as cameras and image_transport send it.

    Whether it is JPEG or PNG, the data tell; the message's format, `jpeg` or the like of
    `rgb8; jpeg compressed bgr8`, tells only what was compressed. Colours are true whatever it says.

    Returns:
        (H, W, 3) uint8 RGB, contiguous; of 16-bit samples the upper 8 bits.

    Raises:
        ValueError: the message holds no JPEG or PNG, half of one, one greater than
            `compressed.MAX_SIZE`, or depth.
    """
    source, _, codec = (part.strip() for part in message.format.partition(";"))
    if source in ("16UC1", "32FC1") or codec.startswith("compressedDepth"):
        raise ValueError(
            f"the compressed image is depth, not a picture: format {shortened(message.format)!r}"
        )
    try:
        rgb = compressed.decode(bytes(message.data))
    except ValueError as error:
        raise ValueError(f"{error} (format {shortened(message.format)!r})") from None
    if source.startswith("bayer_") and codec.startswith("png") and source in _ENCODINGS:
        # image_transport stores the mosaic itself there. (Into a JPEG it puts a gray picture.)
        return _to_rgb(np.ascontiguousarray(rgb[..., :1]), _ENCODINGS[source])
    return rgb


def depth_to_metres(message: Image) -> NDArray[np.float32]:
    """The depth of an Image message by REP-118: 16UC1, millimetres, or 32FC1, metres.

    Returns:
        (H, W) float32 metres, NaN where unknown.

    Raises:
        ValueError: the image is empty, its data are shorter than it says, or it is no depth.
    """
    kind = {"16UC1": "u2", "32FC1": "f4"}.get(message.encoding)
    if kind is None:
        raise ValueError(
            f"the image holds no depth: {shortened(message.encoding)!r}, expected 16UC1 or 32FC1"
        )
    dtype = np.dtype(kind).newbyteorder(">" if message.is_bigendian else "<")
    stored = np.ascontiguousarray(_rows(message, dtype.itemsize)).view(dtype)
    return _metres(stored, 1000 if kind == "u2" else 1)


def compressed_depth_to_metres(message: CompressedImage) -> NDArray[np.float32]:
    """The depth of a CompressedImage message of image_transport: PNG, also of compressedDepth.

    Returns:
        (H, W) float32 metres, NaN where unknown.

    Raises:
        ValueError: the message holds no depth, or not as PNG, half of one, or one greater than
            `compressed.MAX_SIZE`.
    """
    source, _, codec = (part.strip() for part in message.format.partition(";"))
    data, scale, offset = bytes(message.data), 1.0, 0.0
    if codec.startswith("compressedDepth"):  # begins with a kind and two parameters
        _, scale, offset = struct.unpack("<iff", data[:12].ljust(12, b"\0"))
        data = data[12:]
    stored = None
    if data.startswith(b"\x89PNG") and source in ("16UC1", "32FC1"):
        with suppress(ValueError):  # what follows says it
            stored = compressed.unpack(data, cv2.IMREAD_UNCHANGED)
    if stored is None or stored.ndim != 2 or stored.dtype != np.uint16:
        raise ValueError(
            "the compressed image is no depth, or damaged: expected 16UC1 or 32FC1 as a PNG of 16"
            f" bits (format {shortened(message.format)!r})"
        )
    if source == "16UC1":
        return _metres(stored, 1000)
    with np.errstate(all="ignore"):  # the parameters may be anything
        return _metres(np.where(stored > 0, scale / (stored - offset), 0), 1)


def _metres(stored: NDArray[Any], units: float) -> NDArray[np.float32]:
    """Stored depth in metres; what is not positive and finite is unknown."""
    with np.errstate(invalid="ignore"):  # NaN of the kind that signals
        depth = stored.astype(np.float32) / np.float32(units)
    return np.where(np.isfinite(depth) & (depth > 0), depth, np.float32(np.nan))


def labels_of(message: Image) -> NDArray[np.uint8]:
    """The class ids of an Image message, mono8 or 8UC1.

    Returns:
        (H, W) uint8; a view of the message's own memory if it holds just that.

    Raises:
        ValueError: the image is empty, its data are shorter than it says, or of another encoding.
    """
    if message.encoding not in ("mono8", "8UC1"):
        raise ValueError(
            f"the image holds no labels: {shortened(message.encoding)!r}, expected mono8 or 8UC1"
        )
    return np.ascontiguousarray(_rows(message, 1))


def intrinsics(message: CameraInfo, rectified: bool = False) -> Intrinsics:
    """The camera of the pictures that a CameraInfo message accompanies.

    Those may be a part (roi) and a reduction (binning) of the picture that was calibrated.

    Args:
        message: The CameraInfo.
        rectified: Whether the pictures are rectified. Then P holds; K is for pictures as the
            camera takes them. (Without a P, K serves for both.)

    Raises:
        ValueError: size, focal length or principal point are missing or senseless.
    """
    width, height = message.width, message.height
    if width == 0 or height == 0:
        raise ValueError(f"camera_info has no picture size: {width}x{height}")
    name, (fx, fy, cx, cy) = "K", (float(message.k[i]) for i in (0, 4, 2, 5))
    if rectified and message.p[0] != 0:
        name, (fx, fy, cx, cy) = "P", (float(message.p[i]) for i in (0, 5, 2, 6))
    if not all(1e-3 < focal < 1e9 for focal in (fx, fy)):  # NaN is not, either
        raise ValueError(
            f"camera_info is not calibrated: {name} has the focal lengths {fx}, {fy}, expected"
            " pixels above 0"
        )
    if not all(abs(centre) < 1e9 for centre in (cx, cy)):
        raise ValueError(f"camera_info is not calibrated: {name} has the centre {cx}, {cy}")
    roi = message.roi
    if roi.width and roi.height:
        width, height, cx, cy = roi.width, roi.height, cx - roi.x_offset, cy - roi.y_offset
    camera = Intrinsics(width, height, fx, fy, cx, cy)
    binning = max(message.binning_x, 1), max(message.binning_y, 1)  # 0 means 1
    return camera.scaled(max(width // binning[0], 1), max(height // binning[1], 1))


def lens_of(message: CameraInfo) -> Lens:
    """The lens of the camera that takes the pictures, which are not rectified.

    Raises:
        ValueError: its distortion model is unknown, or its coefficients are not the model's.
    """
    model = {"": "plumb_bob", "fisheye": "equidistant"}.get(
        message.distortion_model, message.distortion_model
    )
    coefficients = tuple(float(coefficient) for coefficient in message.d)
    if not coefficients or (model != "equidistant" and not any(coefficients)):
        return PINHOLE
    return Lens(model, coefficients)
