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

"""How a camera moved between two of its pictures, from the depth of one of them.

Corners of the picture become points in space by their depth, are tracked into the other picture,
and the motion is the one that explains where they are seen there. It is metric as the depth is: a
depth that is too large by a tenth gives a translation that is, and so do errors that are alike all
over. Errors that differ from place to place average out over hundreds of corners.
"""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from depthseg_ros.imaging.geometry import Intrinsics

from ..errors import TrainingError

CORNERS = 1000
"""At most so many are tracked."""
RETURN = 0.0015
"""Of the width: how far from where it began a corner may end when it is tracked there and back."""
UNLIKE = 0.5
"""Of the contrast around it: how much a corner may differ between the pictures. Two patches of
nothing but the camera's noise differ by more than their contrast."""
STEP = 1.1
"""Where depth within 3 x 3 pixels differs by this factor, a corner may belong to either side."""
OFF = 0.004
"""Of the width: within what distance of its corner a point is seen that the motion explains."""
BETTER = 1.5
"""Of the median distance: what is not farther off says the motion in the end."""
LEAST = 30
"""So many corners must be explained, or there is no motion ..."""
LEAST_SHARE = 0.4
"""... and so much of those that were tracked ..."""
LEAST_AREA = 0.08
"""... and they must span so much of the picture, since from one corner of it anything follows."""
FARTHEST = 1.0
"""A camera does not go farther than the median depth of what it sees in both pictures ..."""
MOST_TURNED = 45.0
"""... nor turn by more degrees, and still see it well."""

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
    still: NDArray[np.bool_] | None = None,
) -> NDArray[np.float64] | None:
    """The motion from a picture's camera to that of another picture, by the first one's depth.

    Args:
        image: (H, W, 3) RGB.
        depth: (H, W) metres along the optical axis; NaN, or not positive, where unknown.
        other: (H, W, 3) RGB of the same camera.
        camera: At the pictures' size, its lens included.
        still: (H, W), where nothing may move by itself; None: everywhere. Without it motions hold
            as long as most of what is seen stands.

    Returns:
        (4, 4), takes points of the picture's camera axes (x right, y down, z forward) to those of
        the other picture's, metres. None where there is no telling: fewer than `LEAST` corners, or
        than `LEAST_SHARE` of those tracked, agree on a motion, they lie all in one place
        (`LEAST_AREA`), or the motion is no sensible one (`FARTHEST`, `MOST_TURNED`).

    Raises:
        TrainingError: The sizes are not the same.
    """
    size = (camera.height, camera.width)
    sizes = [
        array.shape[:2] for array in (image, depth, other) + (() if still is None else (still,))
    ]
    if any(found != size for found in sizes):
        raise TrainingError(
            f"picture, depth and neighbour are {', '.join(map(str, sizes))} (height, width),"
            f" expected the camera's {size}"
        )
    depth = _steadied(depth)
    here, there = _tracked(image, other, depth > 0 if still is None else (depth > 0) & still)
    # Through the lens, onto a picture that a pinhole of the same focal length would take.
    rays, seen = (_rays(pixels, camera) for pixels in (here, there))
    columns, rows = np.rint(here).astype(int).T
    points = np.c_[rays, np.ones(len(rays))] * depth[rows, columns][:, None]
    known = np.isfinite(points).all(1) & np.isfinite(seen).all(1)
    return _solved(points[known], seen[known] * camera.fx, here[known], camera)


def as_pinhole(camera: Intrinsics) -> Intrinsics:
    """What training takes a camera for: a pinhole with square pixels and a centred picture.

    Motions that `objectives.neighbours` is to learn from are best found with it, too: then they
    make up for most of what it neglects. With a lens of k1 = -0.3 depth is learned at the right
    scale so, and 10 to 15 % too far by the true motions.
    """
    width, height, fx = camera.width, camera.height, camera.fx
    return Intrinsics(width, height, fx, fx, (width - 1) / 2, (height - 1) / 2)


def _steadied(depth: NDArray[np.float32]) -> NDArray[np.float32]:
    """Depth without its noise, 0 where it is unknown nearby or makes a step."""
    with np.errstate(invalid="ignore"):
        known = np.isfinite(depth) & (depth > 0)
    calm = cv2.medianBlur(np.where(known, depth, 0).astype(np.float32), 5)
    kernel = np.ones((3, 3), np.uint8)
    known = cv2.erode(known.astype(np.uint8), kernel) > 0
    return np.where(known & (cv2.dilate(calm, kernel) < STEP * cv2.erode(calm, kernel)), calm, 0)


def _tracked(
    image: NDArray[np.uint8], other: NDArray[np.uint8], usable: NDArray[np.bool_]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Corners that are found again, (N, 2) pixels x and y, in both pictures."""
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
    """Standard deviation around each pixel, in the window that tracking compares."""
    values = gray.astype(np.float32)
    mean, square = (cv2.blur(x, _WINDOW) for x in (values, values * values))
    return np.sqrt(np.maximum(square - mean * mean, 0))


def _rays(pixels: NDArray[np.float64], camera: Intrinsics) -> NDArray[np.float64]:
    """Where these pixels look, (N, 2) of x/z and y/z; NaN where the lens sees nothing."""
    x, y = (pixels - (camera.cx, camera.cy)).T / [[camera.fx], [camera.fy]]
    if camera.lens.bends:
        x, y = camera.lens.unbent(x, y)
    return np.stack([x, y], 1)


def _solved(
    points: NDArray[np.float64],
    seen: NDArray[np.float64],
    pixels: NDArray[np.float64],
    camera: Intrinsics,
) -> NDArray[np.float64] | None:
    """The motion of (N, 3) points that another pinhole sees at (N, 2), or None."""
    least = max(LEAST, LEAST_SHARE * len(points))
    if len(points) < least:
        return None
    pinhole, limit = np.diag([camera.fx, camera.fx, 1.0]), OFF * camera.width
    done, turn, shift, chosen = cv2.solvePnPRansac(
        points,
        seen,
        pinhole,
        None,
        iterationsCount=300,
        reprojectionError=limit,
        confidence=0.999,
        flags=cv2.SOLVEPNP_SQPNP,
    )
    if not done or chosen is None:
        return None
    agreeing, away = chosen.ravel(), np.zeros(len(points))
    # What a few points said decides which ones agree, and with all of these more do; at last the
    # better ones among them count alone.
    for last in (False, False, False, True):
        if len(agreeing) < least:
            return None
        best = agreeing[away[agreeing] <= BETTER * np.median(away[agreeing])] if last else agreeing
        turn, shift = cv2.solvePnPRefineLM(points[best], seen[best], pinhole, None, turn, shift)
        drawn = cv2.projectPoints(points, turn, shift, pinhole, None)[0][:, 0]
        away = np.linalg.norm(drawn - seen, axis=1)
        agreeing = np.flatnonzero(away < limit)
    if len(agreeing) < least:
        return None
    hull = cv2.convexHull(pixels[agreeing].astype(np.float32))
    if cv2.contourArea(hull) < LEAST_AREA * camera.width * camera.height:
        return None
    motion = np.eye(4)
    motion[:3, :3], motion[:3, 3] = cv2.Rodrigues(turn)[0], shift.ravel()
    turned, gone = np.degrees(np.linalg.norm(turn)), np.linalg.norm(shift)
    farthest = FARTHEST * np.median(points[agreeing, 2])
    return motion if turned <= MOST_TURNED and gone <= farthest else None
