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

"""Estimate the camera motion between two images from the depth of the first one.

Corners of the first image become 3D points by their depth and are tracked into the second image.
The motion is the one that projects the points to the tracked positions. Its scale is that of the
depth: if depth is 10 % too large everywhere, so is the translation. Independent errors average out
over hundreds of corners.
"""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from depthseg_ros.imaging.geometry import Intrinsics

from ..errors import TrainingError

CORNERS = 1000
"""Maximum number of corners."""
RETURN = 0.0015
"""Greatest error of tracking a corner forth and back, as a share of the image width."""
UNLIKE = 0.5
"""Greatest difference between the images around a corner, as a share of the local contrast. Patches
of camera noise only differ by more than their contrast."""
STEP = 1.1
"""Corners are not used if depth within 3 x 3 pixels differs by this factor: they may belong to
either side of the edge."""
OFF = 0.004
"""Greatest reprojection error of an inlier, as a share of the image width."""
BETTER = 1.5
"""The last refinement uses inliers with an error up to this factor of the median error."""
LEAST = 30
"""Minimum number of inliers."""
LEAST_SHARE = 0.4
"""Minimum share of inliers among the tracked corners."""
LEAST_AREA = 0.08
"""Minimum area of the inliers' convex hull, as a share of the image."""
FARTHEST = 1.0
"""Greatest translation, as a share of the inliers' median depth."""
MOST_TURNED = 45.0
"""Greatest rotation, degrees."""

_WINDOW = (21, 21)
_TRACKING: dict[str, Any] = {
    "winSize": _WINDOW,
    "maxLevel": 4,
    "criteria": (cv2.TERM_CRITERIA_EPS | cv2.TERM_CRITERIA_COUNT, 30, 0.01),
}


def camera_motion(
    image: NDArray[np.uint8],
    depth: NDArray[np.float32],
    other: NDArray[np.uint8],
    camera: Intrinsics,
    static: NDArray[np.bool_] | None = None,
) -> NDArray[np.float64] | None:
    """Estimate the motion from one image's camera to that of another image.

    Args:
        image: (H, W, 3) uint8 RGB.
        depth: (H, W) depth of the image, metres along the optical axis; NaN, or not positive, if
            unknown.
        other: (H, W, 3) uint8 RGB of the same camera.
        camera: Camera and lens at the images' size.
        static: (H, W) whether the pixel's class cannot move by itself. None: all pixels; then most
            of the scene must be static.

    Returns:
        (4, 4), transforms points from the camera axes of `image` (x right, y down, z forward) to
        those of `other`, metres. None if it cannot be estimated: too few inliers (`LEAST`,
        `LEAST_SHARE`), in too small an area (`LEAST_AREA`), or an implausible motion (`FARTHEST`,
        `MOST_TURNED`).

    Raises:
        TrainingError: The sizes differ.
    """
    size = (camera.height, camera.width)
    sizes = [
        array.shape[:2] for array in (image, depth, other) + (() if static is None else (static,))
    ]
    if any(found != size for found in sizes):
        raise TrainingError(
            f"image, depth and neighbour are {', '.join(map(str, sizes))} (height, width),"
            f" expected the camera's {size}"
        )
    depth = _smoothed(depth)
    here, there = _tracked(image, other, depth > 0 if static is None else (depth > 0) & static)
    # Undistort to the image plane of a pinhole camera with the same focal length.
    rays, observed = (_rays(pixels, camera) for pixels in (here, there))
    columns, rows = np.rint(here).astype(int).T
    points = np.c_[rays, np.ones(len(rays))] * depth[rows, columns][:, None]
    known = np.isfinite(points).all(1) & np.isfinite(observed).all(1)
    return _solved(points[known], observed[known] * camera.fx, here[known], camera)


def as_pinhole(camera: Intrinsics) -> Intrinsics:
    """The camera as training models it: a pinhole with square pixels and a centred image.

    Motions for `objectives.neighbours` should be estimated with it: they compensate for most of the
    neglected distortion. With a lens of k1 = -0.3, depth then has the right scale; with the true
    motions it is 10 to 15 % too far.
    """
    width, height, fx = camera.width, camera.height, camera.fx
    return Intrinsics(width, height, fx, fx, (width - 1) / 2, (height - 1) / 2)


def _smoothed(depth: NDArray[np.float32]) -> NDArray[np.float32]:
    """Smooth depth with a median filter; 0 at depth edges and next to unknown depth."""
    with np.errstate(invalid="ignore"):
        known = np.isfinite(depth) & (depth > 0)
    smooth = cv2.medianBlur(np.where(known, depth, 0).astype(np.float32), 5)
    kernel = np.ones((3, 3), np.uint8)
    known = cv2.erode(known.astype(np.uint8), kernel) > 0
    is_flat = cv2.dilate(smooth, kernel) < STEP * cv2.erode(smooth, kernel)
    return np.where(known & is_flat, smooth, 0)


def _tracked(
    image: NDArray[np.uint8], other: NDArray[np.uint8], usable: NDArray[np.bool_]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Track corners; returns their positions in both images, (N, 2) pixels, x and y."""
    height, width = image.shape[:2]
    gray, other_gray = (cv2.cvtColor(x, cv2.COLOR_RGB2GRAY) for x in (image, other))
    corners = cv2.goodFeaturesToTrack(
        gray, CORNERS, 0.005, max(4, width / 80), mask=usable.astype(np.uint8)
    )
    if corners is None:
        return np.empty((0, 2)), np.empty((0, 2))  # type: ignore[unreachable]  # cv2's types leave out None
    found, there_known, unlike = cv2.calcOpticalFlowPyrLK(  # type: ignore[call-overload]  # cv2's types leave out None
        gray, other_gray, corners, None, **_TRACKING
    )
    back, back_known, _ = cv2.calcOpticalFlowPyrLK(other_gray, gray, found, None, **_TRACKING)  # type: ignore[call-overload]  # cv2's types leave out None
    here, there, again = (x.reshape(-1, 2).astype(np.float64) for x in (corners, found, back))
    good = (there_known & back_known).ravel() > 0
    good &= np.linalg.norm(again - here, axis=1) < RETURN * width
    columns, rows = np.rint(here).astype(int).T
    good &= unlike.ravel() < UNLIKE * _contrast(gray)[rows, columns]
    good &= ((there >= 0) & (there <= (width - 1, height - 1))).all(1)
    return here[good], there[good]


def _contrast(gray: NDArray[Any]) -> NDArray[np.float32]:
    """Standard deviation in the tracking window around each pixel."""
    values = gray.astype(np.float32)
    mean, square = (cv2.blur(x, _WINDOW) for x in (values, values * values))
    return np.sqrt(np.maximum(square - mean * mean, 0))


def _rays(pixels: NDArray[np.float64], camera: Intrinsics) -> NDArray[np.float64]:
    """Rays of pixels, (N, 2) of x/z and y/z; NaN outside of the lens's field of view."""
    x, y = (pixels - (camera.cx, camera.cy)).T / [[camera.fx], [camera.fy]]
    if camera.lens.bends:
        x, y = camera.lens.unbent(x, y)
    return np.stack([x, y], 1)


def _solved(
    points: NDArray[np.float64],
    observed: NDArray[np.float64],
    pixels: NDArray[np.float64],
    camera: Intrinsics,
) -> NDArray[np.float64] | None:
    """The motion for which a pinhole camera observes (N, 3) points at (N, 2); None if unknown."""
    least = max(LEAST, LEAST_SHARE * len(points))
    if len(points) < least:
        return None
    pinhole, limit = np.diag([camera.fx, camera.fx, 1.0]), OFF * camera.width
    done, turn, shift, chosen = cv2.solvePnPRansac(
        points,
        observed,
        pinhole,
        None,
        iterationsCount=300,
        reprojectionError=limit,
        confidence=0.999,
        flags=cv2.SOLVEPNP_SQPNP,
    )
    if not done or chosen is None:
        return None
    inliers, error = chosen.ravel(), np.zeros(len(points))
    # RANSAC fits few points. Refining with all inliers finds more of them; the last refinement uses
    # those with small errors only.
    for last in (False, False, False, True):
        if len(inliers) < least:
            return None
        best = inliers[error[inliers] <= BETTER * np.median(error[inliers])] if last else inliers
        turn, shift = cv2.solvePnPRefineLM(points[best], observed[best], pinhole, None, turn, shift)
        projected = cv2.projectPoints(points, turn, shift, pinhole, None)[0][:, 0]
        error = np.linalg.norm(projected - observed, axis=1)
        inliers = np.flatnonzero(error < limit)
    if len(inliers) < least:
        return None
    hull = cv2.convexHull(pixels[inliers].astype(np.float32))
    if cv2.contourArea(hull) < LEAST_AREA * camera.width * camera.height:
        return None
    motion = np.eye(4)
    motion[:3, :3], motion[:3, 3] = cv2.Rodrigues(turn)[0], shift.ravel()
    rotation, distance = np.degrees(np.linalg.norm(turn)), np.linalg.norm(shift)
    farthest = FARTHEST * np.median(points[inliers, 2])
    return motion if rotation <= MOST_TURNED and distance <= farthest else None
