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

"""Convert an image with depth to a point cloud."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ..model_card import UNLABELLED

OFFSETS = {
    "x": 0, "y": 4, "z": 8, "rgb": 12, "label": 16, "confidence": 17, "depth_confidence": 18
}  # fmt: skip
"""Offsets of the fields of `POINT`, bytes."""
POINT = np.dtype(
    {
        "names": list(OFFSETS),
        "formats": ["<f4", "<f4", "<f4", "<u4", "u1", "u1", "u1"],
        "offsets": list(OFFSETS.values()),
        "itemsize": 20,
    }
)
"""One point: metres in the optical frame; 0x00RRGGBB; class id; two probabilities, 0 to 255."""


def picture_points(
    image: NDArray[np.uint8],
    depth: NDArray[np.float32],
    rays: NDArray[np.float32],
    labels: NDArray[np.uint8] | None = None,
    confidence: NDArray[np.uint8] | None = None,
    depth_confidence: NDArray[np.uint8] | None = None,
) -> NDArray[np.void]:
    """Make one point for each pixel, in the order of pixels.

    Args:
        image: (H, W, 3) uint8 RGB.
        depth: (H, W) metres along the optical axis, NaN if unknown.
        rays: (2, H, W), see `geometry.rays`.
        labels: (H, W) class ids; without them all are unlabelled.
        confidence: (H, W), 0 to 255; without it all are 0.
        depth_confidence: (H, W), 0 to 255; without it all are 0.

    Returns:
        (H, W) of `POINT`; x, y and z are all NaN without depth.
    """
    height, width = depth.shape
    points = np.empty((height, width), POINT)
    for axis, ray in zip("xy", rays, strict=True):
        np.multiply(ray, depth, out=points[axis])
    points["z"] = depth
    points["z"][np.isnan(rays[0])] = np.nan
    raw = points.view(np.uint8).reshape(height, width, POINT.itemsize)
    raw[..., 12:15] = image[..., ::-1]
    raw[..., 15] = 0
    points["label"] = UNLABELLED if labels is None else labels
    points["confidence"] = 0 if confidence is None else confidence
    points["depth_confidence"] = 0 if depth_confidence is None else depth_confidence
    raw[..., 19] = 0
    return points
