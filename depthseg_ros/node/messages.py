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

"""Convert arrays to ROS messages; the reverse, which needs no ROS, is in `imaging.images`."""

from __future__ import annotations

import re
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


def camera_frame(optical_frame: str) -> str:
    """Name of the frame with x forward, of the name of the frame with z forward.

    It is the same if the name does not end in _optical or _optical_frame.
    """
    return re.sub("_optical(?=(_frame)?$)", "", optical_frame)


def image_message(array: NDArray[np.generic], encoding: str, header: Header) -> Image:
    """Make an Image message without row padding.

    Args:
        array: (H, W) or (H, W, C) with the encoding's dtype, e.g. uint8 for mono8, rgb8 and bgr8,
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
    # By far the fastest way: assigning bytes or an array checks or copies every element.
    message.data.frombytes(array.view(np.uint8).data.cast("B"))
    return message


def camera_info_message(
    camera: Intrinsics, header: Header, source: CameraInfo | None = None
) -> CameraInfo:
    """Make a CameraInfo message for images of the camera's size.

    Args:
        camera: Intrinsics at the size of the images.
        header: The message's header; shared, not copied.
        source: The camera's own message, perhaps at another size. Its lens distortion and
            rectification are kept, its K and P scaled to the new size. Without it, or if it has no
            K, the message is made from `camera` alone.
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
    """The message type vision_msgs/LabelInfo, None if vision_msgs is not installed."""
    try:
        from vision_msgs.msg import LabelInfo
    except ImportError:
        return None
    return LabelInfo


def label_info_message(
    classes: Iterable[SemanticClass], header: Header, threshold: float = 0.0
) -> Any:
    """Make a vision_msgs/LabelInfo message: the names of the ids in label images.

    `UNLABELLED` is left out: by the convention of vision_msgs, the greatest id means no class.
    Nav2's semantic_segmentation_layer ignores ids without a name, but logs an error for each name
    that is missing in its parameters.

    Args:
        classes: The model's classes.
        header: The message's header; shared, not copied.
        threshold: Confidence below which pixels are left unlabelled, 0 to 1.

    Raises:
        ImportError: If vision_msgs is not installed (`label_info_type`).
    """
    from vision_msgs.msg import LabelInfo, VisionClass

    names = [VisionClass(class_id=c.id, class_name=c.name) for c in classes]
    return LabelInfo(header=header, class_map=names, threshold=float(threshold))


_TYPES = dict.fromkeys(("label", "confidence", "depth_confidence"), PointField.UINT8)
_POINT_FIELDS = [  # rgb is a float32 whose bits are the colour, by convention
    PointField(name=name, offset=offset, datatype=_TYPES.get(name, PointField.FLOAT32), count=1)
    for name, offset in OFFSETS.items()
]


def points_message(points: NDArray[np.void], header: Header) -> PointCloud2:
    """Make an organised PointCloud2 message.

    Args:
        points: (H, W) with the dtype `derived.points.POINT`.
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
    """Make a LaserScan message.

    Args:
        scan: The scan.
        farthest: Maximum range of the scan, metres.
        header: The message's header, with a frame of x forward and z up; shared, not copied.
    """
    message = LaserScan(
        header=header,
        angle_min=scan.angle_min,
        angle_max=scan.angle_max,
        angle_increment=scan.angle_increment,
        range_min=0.0,  # consumers ignore obstacles nearer than this
        range_max=farthest,
    )
    message.ranges.frombytes(np.ascontiguousarray(scan.ranges, np.float32).data.cast("B"))
    return message
