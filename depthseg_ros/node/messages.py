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

"""Arrays -> ROS messages; the way back, which needs no ROS, is `images`."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sensor_msgs.msg import CameraInfo, Image, LaserScan, PointCloud2, PointField
from std_msgs.msg import Header

from ..derived.points import OFFSETS
from ..derived.scan import Scan
from ..imaging.geometry import Intrinsics
from ..imaging.images import intrinsics
from ..model_card import SemanticClass


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


def camera_info_message(
    camera: Intrinsics, header: Header, source: CameraInfo | None = None
) -> CameraInfo:
    """A CameraInfo message for pictures of the camera's size.

    Args:
        camera: Intrinsics at the size of the pictures.
        header: The message's header; shared, not copied.
        source: The camera's own message, perhaps at another size. Its lens distortion and
            rectification are kept, its K and P scaled to the new size. Without it, or where it has
            no K, the camera is that of the given intrinsics.
    """
    message = CameraInfo(header=header, width=camera.width, height=camera.height)
    message.distortion_model, message.d = camera.lens.model, camera.lens.coefficients or [0.0] * 5
    k, r, p = camera.matrix, np.eye(3), np.zeros((3, 4))
    p[:, :3] = k
    raw = _intrinsics_or_none(source, rectified=False)
    if source is not None and raw is not None and source.k[0] != 0:
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


def scan_message(scan: Scan, farthest: float, header: Header) -> LaserScan:
    """A LaserScan message.

    Args:
        scan: The scan.
        farthest: Metres up to which obstacles are told.
        header: The message's header, with a frame of x forward and z up; shared, not copied.
    """
    message = LaserScan(
        header=header,
        angle_min=scan.angle_min,
        angle_max=scan.angle_max,
        angle_increment=scan.angle_increment,
        range_min=0.0,  # what is nearer counts as nothing to whoever reads it
        range_max=farthest,
    )
    message.ranges.frombytes(np.ascontiguousarray(scan.ranges, np.float32).data.cast("B"))
    return message
