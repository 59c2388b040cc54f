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

"""Draw images for people: class colours over the camera image, a legend, coloured depth."""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np
from numpy.typing import NDArray

from ..model_card import SemanticClass


def color_table(classes: Sequence[SemanticClass]) -> NDArray[np.uint8]:
    """Class id -> RGB as a (256, 3) uint8 table; ids without a class are black."""
    table = np.zeros((256, 3), np.uint8)
    for c in classes:
        table[c.id] = c.color
    return table


def color_labels(labels: NDArray[np.uint8], classes: Sequence[SemanticClass]) -> NDArray[np.uint8]:
    """Labels (H, W) in their classes' colours, (H, W, 3) uint8 RGB."""
    # By far the fastest lookup of three channels at once, and indifferent to their order.
    return cv2.applyColorMap(labels, color_table(classes)[:, None])  # type: ignore[return-value]  # cv2's types leave the dtype open


def overlay(
    image: NDArray[np.uint8],
    labels: NDArray[np.uint8],
    classes: Sequence[SemanticClass],
    opacity: float = 0.5,
    present: NDArray[np.uint8] | None = None,
) -> NDArray[np.uint8]:
    """Draw class colours over an image, with a legend of its classes.

    Args:
        image: (H, W, 3) uint8 RGB.
        labels: (H, W) uint8 class ids.
        classes: The model card's classes.
        opacity: Opacity of the colours: 0 shows only the image, 1 only the colours.
        present: The same class ids at a smaller size, which are counted in less time.

    Returns:
        (H, W, 3) uint8 RGB.
    """
    colors = color_labels(labels, classes)
    blended = np.asarray(cv2.addWeighted(image, 1 - opacity, colors, opacity, 0), np.uint8)
    counted = labels if present is None else present
    counts = cv2.calcHist([counted], [0], None, [256], [0, 256]).ravel()
    draw_legend(blended, [c for c in classes if counts[c.id] > 0])
    return blended


def draw_legend(image: NDArray[np.uint8], classes: Sequence[SemanticClass]) -> None:
    """Draw a colour patch and a name per class into the top left corner of (H, W, 3) `image`."""
    if not classes:
        return
    scale = max(0.3, image.shape[0] / 1000)
    line = round(32 * scale)
    font = cv2.FONT_HERSHEY_SIMPLEX
    width = 2 * line + max(cv2.getTextSize(c.name, font, scale, 1)[0][0] for c in classes)
    ground = image[: line * len(classes) + line // 2, :width]
    ground //= 3  # dark enough for white letters on any image
    for row, c in enumerate(classes):
        top = line // 4 + row * line
        patch = image[top + 1 : top + line - 1, line // 4 : line]
        patch[:] = c.color
        at = (line + line // 4, top + line - line // 4)
        cv2.putText(image, c.name, at, font, scale, (255, 255, 255), 1, cv2.LINE_AA)


def color_depth(
    depth: NDArray[np.float32], near: float = 2.0, far: float = 80.0
) -> NDArray[np.uint8]:
    """Colour depth (H, W), (H, W, 3) uint8 RGB: warm is near, cold is far, black is unknown.

    The scale is logarithmic between `near` and `far` metres, because errors of depth are relative.
    """
    valid = np.isfinite(depth)
    safe = np.where(valid, depth, far).clip(near, far)
    level = 255 * (1 - np.log(safe / near) / np.log(far / near))
    colors = cv2.applyColorMap(level.astype(np.uint8), cv2.COLORMAP_TURBO)
    colors[~valid] = 0
    return cv2.cvtColor(colors, cv2.COLOR_BGR2RGB)


def from_above(
    points: NDArray[np.float32],
    colors: NDArray[np.uint8],
    size: tuple[int, int],
    reach: float = 40.0,
    marks: NDArray[np.float32] | None = None,
) -> NDArray[np.uint8]:
    """Draw a map of points, with the camera at the middle of the lower border, looking up.

    Args:
        points: (N, 3) metres in the camera's optical frame; those that are not finite are left out.
        colors: (N, 3) uint8 RGB.
        size: Width and height of the result, pixels.
        reach: Metres from its lower to its upper border; a ring is drawn each 10 m.
        marks: (M, 2) metres, to the right and ahead, to be marked, such as a scan's ends.

    Returns:
        (height, width, 3) uint8 RGB; higher points cover lower ones.
    """
    width, height = size
    canvas = np.full((height, width, 3), 24, np.uint8)
    scale = height / reach
    origin = np.array([width / 2, height])
    seen = np.isfinite(points).all(axis=1)
    points, colors = points[seen], colors[seen]
    order = np.argsort(-points[:, 1])  # y points down
    pixels = (origin + points[order][:, [0, 2]] * (scale, -scale)).astype(np.int64)
    for dx, dy in ((0, 0), (1, 0), (0, 1), (1, 1)):
        x, y = pixels[:, 0] + dx, pixels[:, 1] + dy
        inside = (x >= 0) & (x < width) & (y >= 0) & (y < height)
        canvas[y[inside], x[inside]] = colors[order][inside]
    for metres in range(10, int(reach) + 1, 10):
        radius, at = round(metres * scale), (width // 2 + 4, round(height - metres * scale) + 16)
        cv2.circle(canvas, (width // 2, height), radius, (110, 110, 110), 1, cv2.LINE_AA)
        font = cv2.FONT_HERSHEY_SIMPLEX
        cv2.putText(canvas, f"{metres} m", at, font, 0.45, (200, 200, 200), 1, cv2.LINE_AA)
    for right, ahead in marks if marks is not None else ():
        at = (round(width / 2 + right * scale), round(height - ahead * scale))
        cv2.circle(canvas, at, 3, (255, 60, 60), -1, cv2.LINE_AA)
    return canvas
