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

"""Convert the content of image and camera messages to arrays and cameras, without ROS.

Accepts any object with the fields of the message, from rclpy or from a bag that is read without
ROS. It does not use cv_bridge for the usual encodings, because cv_bridge's Python side misreads
rows whose padding is not a multiple of the pixel size, copies every image, and fails with numpy 2
on distributions that were built with numpy 1. Encodings that are not in the table below are
converted by cv_bridge, if it is installed.
"""

from __future__ import annotations

import struct
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Any, Protocol

import cv2
import numpy as np
from numpy.typing import NDArray

from ..texts import shortened
from . import compressed
from .geometry import Intrinsics
from .lens import Lens

MIN_FOCAL = 0.01
"""Minimum focal length in widths or heights of the image: K may be the identity, or in mm."""


class Image(Protocol):
    """The needed fields of a sensor_msgs/Image."""

    height: int
    width: int
    encoding: str
    is_bigendian: int
    step: int
    data: Any


class CompressedImage(Protocol):
    """The needed fields of a sensor_msgs/CompressedImage."""

    format: str
    data: Any


class CameraInfo(Protocol):
    """The needed fields of a sensor_msgs/CameraInfo."""

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
    """Layout of a pixel in a message, and the OpenCV conversion to RGB."""

    channels: int
    code: int | None
    """None: already RGB."""
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
    name[:-1] + "16": replace(encoding, sample_bytes=2)
    for name, encoding in _ENCODINGS.items()
    if name.endswith("8")
}
_ENCODINGS |= {"16UC3": _ENCODINGS["bgr16"], "16UC4": _ENCODINGS["bgra16"]}

# YUV whose brightness comes first, a row of `step` bytes for each row of the image, and then the
# colours: of every 2x2 pixels, but nv24's of every pixel, for which OpenCV has no conversion.
_PLANAR = {
    "nv12": (cv2.COLOR_YUV2RGB_NV12, 1),
    "nv21": (cv2.COLOR_YUV2RGB_NV21, 1),
    "i420": (cv2.COLOR_YUV2RGB_I420, 0.5),
    "yuv420": (cv2.COLOR_YUV2RGB_I420, 0.5),
    "yv12": (cv2.COLOR_YUV2RGB_YV12, 0.5),
    "nv24": (None, 2),
}
"""Encodings -> OpenCV's conversion, and the length of a row of colours in rows of brightness."""
_YUV_TO_RGB = np.array([[1.164, 0, 1.596], [1.164, -0.391, -0.813], [1.164, 2.018, 0]])
_BLACK = 16, 128, 128  # of BT.601 in video range, as OpenCV takes all YUV to be

_DEPTH = "16uc1", "32fc1"

ENCODINGS = (*_ENCODINGS, *_PLANAR)
"""The encodings that `image_to_rgb` reads without cv_bridge, in any case."""
_BY_NAME = {name.lower(): encoding for name, encoding in _ENCODINGS.items()}


def image_to_rgb(message: Image) -> NDArray[np.uint8]:
    """Decode an Image message.

    16-bit samples keep their upper 8 bits: the full 16-bit range is black to white.

    Returns:
        (H, W, 3) uint8 RGB, contiguous; a view of the message's memory if no conversion is needed.

    Raises:
        ValueError: The image is empty or larger than `compressed.MAX_SIZE`, its data are too short
            for its size, it is a depth image, or its encoding is unknown.
    """
    width, height = _size(message)
    if is_depth(message):
        raise ValueError(
            f"the image is a depth image ({message.encoding}), expected a camera image"
        )
    name = message.encoding.lower()
    if name in _PLANAR:
        return _planar_to_rgb(message, *_PLANAR[name])
    encoding = _BY_NAME.get(name)
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


def _planar_to_rgb(message: Image, code: int | None, colours: float) -> NDArray[np.uint8]:
    """Decode planar YUV, see `_PLANAR`; (H, W, 3) RGB.

    Checks the number of bytes, because padding between the planes would be read as colours.
    """
    (width, height), step, name = _size(message), message.step, message.encoding
    data, planes = np.frombuffer(message.data, np.uint8), 3 if code is None else 1.5
    if step > width and data.size == width * height * planes:
        step = width  # not padded: some senders count the bytes of all planes
    if code is not None and (width % 2 or height % 2 or step % 2):
        raise ValueError(
            f"the image has {width}x{height} pixels in rows of {step} bytes (step), {name} needs"
            " even numbers"
        )
    if step < width or data.size != step * height * planes:
        raise ValueError(
            f"the image has {data.size} bytes of data in rows of {step} bytes (step), {width}x"
            f"{height} pixels of {name} need {width * height * planes:.0f} in rows of {width}, or"
            " longer rows and as much more"
        )
    luma, chroma = data[: step * height], data[step * height :]
    luma = luma.reshape(height, step)[:, :width]
    chroma = chroma.reshape(-1, int(step * colours))[:, : int(width * colours)]
    if code is not None:
        yuv = np.concatenate([luma, chroma.reshape(-1, width)])
        return np.asarray(cv2.cvtColor(yuv, code), np.uint8)
    yuv = np.dstack([luma, chroma.reshape(height, width, 2)])
    matrix = np.c_[_YUV_TO_RGB, _YUV_TO_RGB @ np.negative(_BLACK)]
    return np.asarray(cv2.transform(yuv, matrix), np.uint8)


def _to_rgb(pixels: NDArray[np.uint8], encoding: _Encoding) -> NDArray[np.uint8]:
    if encoding.code is None:
        return pixels
    return np.asarray(cv2.cvtColor(pixels, encoding.code), np.uint8)


def _through_cv_bridge(message: Image) -> NDArray[np.uint8]:
    unknown = f"unknown image encoding {shortened(message.encoding)!r}"
    try:
        from cv_bridge import CvBridge
    except Exception:  # it is missing, or built for another numpy
        raise ValueError(f"{unknown}, expected one of {', '.join(ENCODINGS)}") from None
    try:
        image = CvBridge().imgmsg_to_cv2(message, desired_encoding="rgb8")
    except Exception as error:  # of another OpenCV or numpy than it was built for, any
        reason = shortened(str(error), 200)
        raise ValueError(f"{unknown}, and cv_bridge refuses it: {reason}") from None
    return np.ascontiguousarray(image, np.uint8)


def compressed_to_rgb(
    message: CompressedImage, least: compressed.Least | None = None
) -> NDArray[np.uint8]:
    """Decode a CompressedImage message as cameras and image_transport send it.

    The data determine whether it is JPEG or PNG. The message's format, `jpeg` or e.g. `rgb8; jpeg
    compressed bgr8` (the camera's encoding; codec, compressed encoding), is only used for depth and
    Bayer mosaics. Colours are correct for any format.

    Args:
        message: The message.
        least: As of `compressed.decode`; mosaics are never reduced.

    Returns:
        (H, W, 3) uint8 RGB, contiguous; 16-bit samples keep their upper 8 bits.

    Raises:
        ValueError: The data are not JPEG or PNG, are truncated, larger than `compressed.MAX_SIZE`,
            depth, or a Bayer mosaic with an unknown pattern.
    """
    source, target = _encodings_of(message)
    try:
        if is_depth(message):
            raise ValueError("the compressed image is a depth image, expected a camera image")
        data, mosaic = bytes(message.data), target or source
        if not mosaic.startswith("bayer_"):
            return compressed.decode(data, least)
        # The mosaic is stored in one channel; image_transport of ROS 1 does not mark this.
        stored = compressed.unpack(data, cv2.IMREAD_UNCHANGED)
        if stored.ndim == 3:
            return compressed.decode(data)
        if mosaic not in _BY_NAME:
            raise ValueError("the compressed image is a Bayer mosaic of an unknown pattern")
        if stored.dtype == np.uint16:
            stored = (stored >> 8).astype(np.uint8)
        return _to_rgb(stored, _BY_NAME[mosaic])
    except ValueError as error:
        raise ValueError(f"{error} (format {shortened(message.format)!r})") from None


def is_depth(message: Image | CompressedImage) -> bool:
    """Whether a message is a depth image, according to its encoding or format.

    `depth_to_metres` and `compressed_depth_to_metres` may still refuse it.
    """
    if hasattr(message, "encoding"):
        return message.encoding.lower() in _DEPTH
    return "compresseddepth" in message.format.lower() or _encodings_of(message)[0] in _DEPTH


def _encodings_of(message: CompressedImage) -> tuple[str, str]:
    """What the camera sent and what of it was compressed, in lower case; empty if not given."""
    source, _, codec = message.format.lower().partition(";")
    return source.strip(), codec.partition("compressed")[2].strip()


def depth_to_metres(message: Image) -> NDArray[np.float32]:
    """Decode a depth image of REP-118: 16UC1, millimetres, or 32FC1, metres.

    Returns:
        (H, W) float32 metres, NaN where unknown.

    Raises:
        ValueError: The image is empty, its data are too short, or it is not a depth image.
    """
    kind = {"16UC1": "u2", "32FC1": "f4"}.get(message.encoding)
    if kind is None:
        raise ValueError(
            f"the image has no depth: {shortened(message.encoding)!r}, expected 16UC1 or 32FC1"
        )
    dtype = np.dtype(kind).newbyteorder(">" if message.is_bigendian else "<")
    stored = np.ascontiguousarray(_rows(message, dtype.itemsize)).view(dtype)
    return _metres(stored, 1000 if kind == "u2" else 1)


def compressed_depth_to_metres(message: CompressedImage) -> NDArray[np.float32]:
    """Decode a compressed depth image of image_transport: PNG, also compressedDepth.

    Returns:
        (H, W) float32 metres, NaN where unknown.

    Raises:
        ValueError: The message is not depth, not PNG, truncated, or larger than
            `compressed.MAX_SIZE`.
    """
    source, _ = _encodings_of(message)
    data, scale, offset = bytes(message.data), 1.0, 0.0
    if "compresseddepth" in message.format.lower():  # begins with a kind and two parameters
        _, scale, offset = struct.unpack("<iff", data[:12].ljust(12, b"\0"))
        data = data[12:]
    stored = None
    if data.startswith(b"\x89PNG") and source in _DEPTH:
        with suppress(ValueError):  # reported below
            stored = compressed.unpack(data, cv2.IMREAD_UNCHANGED)
    if stored is None or stored.ndim != 2 or stored.dtype != np.uint16:
        raise ValueError(
            "the compressed image has no depth or is damaged: expected 16UC1 or 32FC1, as PNG of 16"
            f" bits (format {shortened(message.format)!r})"
        )
    if source == "16uc1":
        return _metres(stored, 1000)
    with np.errstate(all="ignore"):  # the parameters may be anything
        return _metres(np.where(stored > 0, scale / (stored - offset), 0), 1)


def _metres(stored: NDArray[Any], units: float) -> NDArray[np.float32]:
    """Convert stored depth to metres; NaN if it is not positive and finite."""
    with np.errstate(invalid="ignore"):  # NaN of the kind that signals
        depth = stored.astype(np.float32) / np.float32(units)
    return np.where(np.isfinite(depth) & (depth > 0), depth, np.float32(np.nan))


def labels_of(message: Image) -> NDArray[np.uint8]:
    """Decode the class ids of an Image message, mono8 or 8UC1.

    Returns:
        (H, W) uint8; a view of the message's memory if possible.

    Raises:
        ValueError: The image is empty, its data are too short, or its encoding is wrong.
    """
    if message.encoding not in ("mono8", "8UC1"):
        raise ValueError(
            f"the image has no labels: {shortened(message.encoding)!r}, expected mono8 or 8UC1"
        )
    return np.ascontiguousarray(_rows(message, 1))


def camera_of(
    message: CameraInfo, width: int, height: int, rectified: bool
) -> tuple[Intrinsics, str]:
    """Read the camera of an image from its CameraInfo message, with the lens.

    If the image has the aspect ratio of the message, it was resized. If not, it was cropped or
    stretched, which cannot be distinguished.

    Args:
        message: The CameraInfo.
        width: Width of the image, pixels.
        height: Height of the image, pixels.
        rectified: Whether the image is rectified, see `intrinsics`; then it has no lens distortion.

    Returns:
        The camera at the image's size, and a line about assumptions; empty if there are none.

    Raises:
        ValueError: The message is not calibrated, invalid, or has another aspect ratio.
    """
    camera = intrinsics(message, rectified)
    columns, rows = camera.width, camera.height
    if min(abs(width * rows / columns - height), abs(height * columns / rows - width)) > 1:
        raise ValueError(
            f"camera_info describes {columns}x{rows} pixels, the image has {width}x{height}:"
            " another aspect ratio, cropped or stretched? Publish camera_info for the image's"
            " size, or for the whole sensor with the crop as roi"
        )
    assumed, camera = "", camera.scaled(width, height)
    if rectified:
        return camera, assumed
    if not _takes_p(message, rectified):
        try:
            camera = replace(camera, lens=lens_of(message))
        except ValueError as error:
            assumed = f"camera_info: {error}; assuming a pinhole without distortion"
        if camera.lens.bends and not len(message.d):
            assumed = (
                f"camera_info: a lens {message.distortion_model!r} without coefficients; assuming"
                " an ideal equidistant projection"
            )
    elif any(message.d):
        assumed = (
            "camera_info has lens coefficients but no K; using P without distortion, which is only"
            " correct for a rectified image"
        )
    return camera, assumed


def intrinsics(message: CameraInfo, rectified: bool = False) -> Intrinsics:
    """Read the camera of images from their CameraInfo message, without the lens.

    The images may be a part (roi) and a reduction (binning) of the calibrated image. roi.do_rectify
    is ignored: P is shifted by the roi in the same way as K.

    Args:
        message: The CameraInfo.
        rectified: Whether the images are rectified. Then P is used, otherwise K. Without P, K is
            used for both; without K, which drivers of cameras that rectify internally leave zero,
            P is used.

    Raises:
        ValueError: Size, focal length, principal point or roi are missing or invalid.
    """
    width, height = message.width, message.height
    if width == 0 or height == 0:
        raise ValueError(f"camera_info has no image size: {width}x{height}")
    name, places = ("P", (0, 5, 2, 6)) if _takes_p(message, rectified) else ("K", (0, 4, 2, 5))
    fx, fy, cx, cy = (float((message.p if name == "P" else message.k)[i]) for i in places)
    least = MIN_FOCAL * min(width, height)
    if not all(least < focal < 1e9 for focal in (fx, fy)):  # NaN is not, either
        raise ValueError(
            f"camera_info is not calibrated: {name} has the focal lengths {fx}, {fy}, expected"
            f" pixels, more than {least:g}"
        )
    if not all(abs(centre) < 1e9 for centre in (cx, cy)):
        raise ValueError(f"camera_info is not calibrated: {name} has the centre {cx}, {cy}")
    roi = message.roi
    x, y, columns, rows = roi.x_offset, roi.y_offset, roi.width, roi.height
    if any((x, y, columns, rows)):
        if not (0 < columns <= width - x and 0 < rows <= height - y):
            raise ValueError(
                f"camera_info has a roi of {columns}x{rows} pixels at {x}, {y}, expected a part of"
                f" its {width}x{height} pixels, or zeros for all"
            )
        width, height, cx, cy = columns, rows, cx - x, cy - y
    across, down = max(message.binning_x, 1), max(message.binning_y, 1)  # 0 means 1
    return Intrinsics(
        max(width // across, 1),
        max(height // down, 1),
        fx / across,
        fy / down,
        (cx + 0.5) / across - 0.5,
        (cy + 0.5) / down - 0.5,
    )


def _takes_p(message: CameraInfo, rectified: bool) -> bool:
    """Whether P describes the images, not K."""
    return bool(message.p[0] != 0 and (rectified or message.k[0] == message.k[4] == 0))


def lens_of(message: CameraInfo) -> Lens:
    """Read the lens of a camera whose images are not rectified.

    Raises:
        ValueError: Its distortion model is unknown, or the coefficients do not fit the model.
    """
    return Lens.named(message.distortion_model, message.d)
