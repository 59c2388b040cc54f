"""ROS messages <-> numpy arrays; the only place that knows encodings and CameraInfo's fields.

The conversions are written out here rather than left to cv_bridge: its Python side misreads rows
that are padded to anything but whole pixels, copies every picture, and breaks with numpy 2 on
distributions that were built with numpy 1. Encodings that the table below lacks go to cv_bridge
where it is installed.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
from sensor_msgs.msg import CameraInfo, CompressedImage, Image, LaserScan, PointCloud2, PointField
from std_msgs.msg import Header

from . import compressed
from .derived.points import OFFSETS
from .derived.scan import Scan
from .geometry import Intrinsics
from .lens import PINHOLE, Lens
from .model_card import SemanticClass


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
        ValueError: the picture is empty, its data are shorter than it says, or its encoding is
            unknown.
    """
    width, height, step = message.width, message.height, message.step
    if width == 0 or height == 0:
        raise ValueError(f"the image is empty: {width}x{height} pixels")
    encoding = _ENCODINGS.get(message.encoding)
    if encoding is None:
        return _through_cv_bridge(message)
    if encoding.even_width and width % 2:
        raise ValueError(
            f"the image is {width} pixels wide, {message.encoding} needs an even number"
        )
    row_bytes = width * encoding.channels * encoding.sample_bytes
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
    rows = data[: step * height].reshape(height, step)[:, :row_bytes]
    if encoding.sample_bytes == 2:
        rows = rows[:, 0 if message.is_bigendian else 1 :: 2]  # the more significant bytes
    return _to_rgb(np.ascontiguousarray(rows).reshape(height, width, encoding.channels), encoding)


def _to_rgb(pixels: NDArray[np.uint8], encoding: _Encoding) -> NDArray[np.uint8]:
    if encoding.code is None:
        return pixels
    return np.asarray(cv2.cvtColor(pixels, encoding.code), np.uint8)


def _through_cv_bridge(message: Image) -> NDArray[np.uint8]:
    unknown = f"unknown image encoding {message.encoding!r}"
    try:
        from cv_bridge import CvBridge, CvBridgeError
    except ImportError:
        raise ValueError(f"{unknown}, expected one of {', '.join(ENCODINGS)}") from None
    try:
        image = CvBridge().imgmsg_to_cv2(message, desired_encoding="rgb8")
    except (CvBridgeError, KeyError, TypeError, ValueError) as error:
        raise ValueError(f"{unknown}, and cv_bridge refuses it: {error}") from None
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
        raise ValueError(f"the compressed image is depth, not a picture: format {message.format!r}")
    try:
        rgb = compressed.decode(bytes(message.data))
    except ValueError as error:
        raise ValueError(f"{error} (format {message.format!r})") from None
    if source.startswith("bayer_") and codec.startswith("png") and source in _ENCODINGS:
        # image_transport stores the mosaic itself there. (Into a JPEG it puts a gray picture.)
        return _to_rgb(np.ascontiguousarray(rgb[..., :1]), _ENCODINGS[source])
    return rgb


def image_message(array: NDArray[np.generic], encoding: str, header: Header) -> Image:
    """An Image message with rows that are not padded.

    Args:
        array: (H, W) or (H, W, C), of the encoding's type, e.g. uint8 for mono8, rgb8 and bgr8,
            float32 for 32FC1.
        encoding: The message's encoding.
        header: The message's header; shared, not copied.
    """
    array = np.ascontiguousarray(array)
    height, width = array.shape[:2]
    message = Image(
        header=header,
        height=height,
        width=width,
        encoding=encoding,
        is_bigendian=int(sys.byteorder == "big"),
        step=array.nbytes // height,
    )
    # By far the fastest way in: assigning bytes or an array checks or copies every element.
    message.data.frombytes(array.view(np.uint8).data.cast("B"))
    return message


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
    name, (fx, fy, cx, cy) = "K", (message.k[i] for i in (0, 4, 2, 5))
    if rectified and message.p[0] != 0:
        name, (fx, fy, cx, cy) = "P", (message.p[i] for i in (0, 5, 2, 6))
    if not all(math.isfinite(focal) and focal > 0 for focal in (fx, fy)):
        raise ValueError(
            f"camera_info is not calibrated: {name} has the focal lengths {fx}, {fy}, expected"
            " pixels above 0"
        )
    if not (math.isfinite(cx) and math.isfinite(cy)):
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
    if not message.d or (model != "equidistant" and not any(message.d)):
        return PINHOLE
    return Lens(model, tuple(message.d))


def camera_info_message(
    camera: Intrinsics, header: Header, source: CameraInfo | None = None
) -> CameraInfo:
    """A CameraInfo message for pictures of the camera's size.

    Args:
        camera: Intrinsics at the size of the pictures.
        header: The message's header; shared, not copied.
        source: What the camera itself said, perhaps at another size. Its lens distortion and
            rectification are kept, its K and P brought to the new size. Without it, or where it
            is not calibrated, the camera is that of the given intrinsics.
    """
    message = CameraInfo(header=header, width=camera.width, height=camera.height)
    message.distortion_model, message.d = camera.lens.model, camera.lens.coefficients or [0.0] * 5
    k, r, p = camera.matrix, np.eye(3), np.zeros((3, 4))
    p[:, :3] = k
    raw = _intrinsics_or_none(source, rectified=False)
    if source is not None and raw is not None:
        message.distortion_model, message.d = source.distortion_model, source.d
        k = raw.scaled(camera.width, camera.height).matrix
        p[:, :3] = k
        r = np.reshape(source.r, (3, 3))
        rectified = _intrinsics_or_none(source, rectified=True)
        if rectified is not None and source.p[0] != 0:
            p[:, :3] = rectified.scaled(camera.width, camera.height).matrix
            # Tx and Ty, the offset of a stereo pair's second camera, scale as fx and fy do.
            p[0, 3] = source.p[3] * p[0, 0] / source.p[0]
            p[1, 3] = source.p[7] * p[1, 1] / source.p[5]
    message.k, message.r, message.p = k.ravel().tolist(), r.ravel().tolist(), p.ravel().tolist()
    return message


def _intrinsics_or_none(message: CameraInfo | None, rectified: bool) -> Intrinsics | None:
    try:
        return None if message is None else intrinsics(message, rectified)
    except ValueError:
        return None


def label_info_type() -> Any:
    """The message type vision_msgs/LabelInfo, None where vision_msgs is not installed."""
    try:
        from vision_msgs.msg import LabelInfo
    except ImportError:
        return None
    return LabelInfo


def label_info_message(
    classes: Iterable[SemanticClass], header: Header, threshold: float = 0.0
) -> Any:
    """A vision_msgs/LabelInfo message: the names of the ids in label images.

    `UNLABELLED` is not among them: that the greatest id means no class is vision_msgs' own
    convention, and Nav2's semantic_segmentation_layer ignores ids that have no name, but logs an
    error for each name that its parameters lack.

    Args:
        classes: The model's.
        header: The message's header; shared, not copied.
        threshold: Confidence below which pixels are left unlabelled, 0 to 1.

    Raises:
        ImportError: vision_msgs is not installed (`label_info_type`).
    """
    from vision_msgs.msg import LabelInfo, VisionClass

    names = [VisionClass(class_id=c.id, class_name=c.name) for c in classes]
    return LabelInfo(header=header, class_map=names, threshold=float(threshold))


_TYPES = {"label": PointField.UINT8, "confidence": PointField.UINT8}
_POINT_FIELDS = [  # of rgb the bits are what counts, by custom
    PointField(name=name, offset=offset, datatype=_TYPES.get(name, PointField.FLOAT32), count=1)
    for name, offset in OFFSETS.items()
]


def points_message(points: NDArray[np.void], header: Header) -> PointCloud2:
    """An organised PointCloud2 message.

    Args:
        points: (H, W) of `derived.points.POINT`.
        header: The message's header; shared, not copied.
    """
    height, width = points.shape
    message = PointCloud2(
        header=header,
        height=height,
        width=width,
        fields=_POINT_FIELDS,
        is_bigendian=False,
        point_step=points.itemsize,
        row_step=points.itemsize * width,
        is_dense=False,
    )
    message.data.frombytes(np.ascontiguousarray(points).view(np.uint8).data.cast("B"))
    return message


def scan_message(scan: Scan, nearest: float, farthest: float, header: Header) -> LaserScan:
    """A LaserScan message.

    Args:
        scan: The scan.
        nearest: What the camera sees from on, metres.
        farthest: And up to.
        header: The message's header, with a frame of x forward and z up; shared, not copied.
    """
    message = LaserScan(
        header=header,
        angle_min=scan.angle_min,
        angle_max=scan.angle_max,
        angle_increment=scan.angle_increment,
        range_min=nearest,
        range_max=farthest,
    )
    message.ranges.frombytes(np.ascontiguousarray(scan.ranges, np.float32).data.cast("B"))
    return message
