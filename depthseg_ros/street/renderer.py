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

"""Draw textured planar patches into one image, with the exact depth and label of each pixel.

Everything in the street is a `Patch`: a parallelogram in space with a texture. Over the image the
inverse depth of a plane is affine and its texture a homography, so a patch costs one warp and one
comparison inside its bounding box; the nearest surface gives a pixel its colour, depth and label.

World and camera axes: x right, y down, z forward (metres).
"""

from __future__ import annotations

import copy
import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import compress
from typing import Any, NamedTuple, TypeAlias

import cv2
import numpy as np
from numpy.typing import NDArray

from depthseg_ros.imaging.geometry import Intrinsics

Image = NDArray[np.uint8]
"""Pixels or texels: RGB or RGBA (h, w, 3 or 4), labels or a mask (h, w)."""

# As text, since NumPy 1.21 (Ubuntu 22.04) has no `np.floating[...]` when running.
Vector: TypeAlias = "Sequence[float] | NDArray[np.floating[Any]]"
"""A point or a direction, (3,) metres unless stated otherwise."""

Colour: TypeAlias = "Sequence[float] | NDArray[np.floating[Any]]"
"""RGB, (3,), from 0 to 255."""

HOLE = 255
"""Texel label of a transparent texel."""

NEAR = 0.25
"""Default near plane, metres."""

_TILE = 16
"""Side of the square tiles used for occlusion culling, pixels."""

_REFRESH = 64
"""Number of patches drawn between two updates of the tiles."""

_Box = tuple[int, int, int, int]
"""x0, y0, x1, y1 in pixels, the last two exclusive."""

_CORNERS = np.array([[1, 0, 0], [1, 1, 0], [1, 1, 1], [1, 0, 1]], np.float64)


class Texture:
    """An image with a label for each texel, and its reduced sizes, computed when needed.

    A facade seen at a flat angle is reduced in width but not in height, so both are halved
    independently (a ripmap): distant texture neither aliases nor blurs.

    Args:
        rgb: (h, w, 3) uint8 RGB.
        labels: (h, w) uint8 class ids or `HOLE`, or one id for all of it.

    Attributes:
        size: width and height in texels.
        label: the only class id, or the most frequent one.
        has_holes: whether there are transparent texels.
    """

    def __init__(self, rgb: Image, labels: Image | int):
        self.size = (rgb.shape[1], rgb.shape[0])
        self.has_holes = False
        if isinstance(labels, int):
            self.label, codes = labels, None
        else:
            codes = labels
            counts = cv2.calcHist([labels], [0], None, [256], [0, 256]).ravel()
            self.label = int(counts[:HOLE].argmax())
            self.has_holes = bool(counts[HOLE])
        if self.has_holes:
            # Transparent texels get the mean colour, which bleeds in when texels are averaged.
            holes = np.equal(labels, HOLE).astype(np.uint8)
            mean = cv2.mean(rgb, 1 - holes)[:3]
            rgb = rgb.copy()
            cv2.copyTo(np.full(rgb.shape, mean, np.uint8), holes, rgb)
        # OpenCV warps four channels more than twice as fast as three.
        colours = np.asarray(cv2.cvtColor(rgb, cv2.COLOR_RGB2RGBA), np.uint8)
        self._levels = {(0, 0): (colours, codes)}

    def mirrored(self) -> Texture:
        """The texture mirrored left to right."""
        colours, labels = self._levels[0, 0]
        return Texture(
            np.ascontiguousarray(colours[:, ::-1, :3]),
            self.label if labels is None else np.ascontiguousarray(labels[:, ::-1]),
        )

    def level(self, across: int, down: int) -> tuple[Image, Image | None]:
        """Reduce the width `across` times and the height `down` times by a factor of 2.

        Returns:
            RGBA colours (h, w, 4) and labels (h, w); labels are None if all texels have `label`.
        """
        if (across, down) not in self._levels:
            colours, labels = self._levels[0, 0]
            size = (max(1, self.size[0] >> across), max(1, self.size[1] >> down))
            small = np.asarray(cv2.resize(colours, size, interpolation=cv2.INTER_AREA), np.uint8)
            if labels is not None:
                solid = np.not_equal(labels, HOLE).astype(np.float32)
                labels = np.asarray(
                    cv2.resize(labels, size, interpolation=cv2.INTER_NEAREST), np.uint8
                )
                if self.has_holes:
                    cover = cv2.resize(solid, size, interpolation=cv2.INTER_AREA)
                    labels[labels == HOLE] = self.label
                    labels[cover < 0.4] = HOLE
            self._levels[across, down] = (small, labels)
        return self._levels[across, down]


@dataclass(frozen=True)
class Patch:
    """A textured parallelogram: `origin` + a `u` + b `v`, a and b from 0 to 1.

    Seen from the front, `u` points right and `v` down; it is invisible from behind unless
    `two_sided`.

    Attributes:
        origin: top left corner, metres.
        u: top edge, left to right, metres.
        v: left edge, top to bottom, metres.
        texture: its colours and labels.
        gain: factor of the texture's colours (lighting), RGB.
        two_sided: whether it is visible from both sides.
    """

    origin: Vector
    u: Vector
    v: Vector
    texture: Texture
    gain: Vector = (1.0, 1.0, 1.0)
    two_sided: bool = False


class Batch:
    """Patches as arrays, so that culling is fast.

    Attributes:
        textures: the N textures.
        geometry: (N, 3, 3) float64, rows `origin`, `u` and `v`, metres.
        gains: (N, 3) float64, RGB.
        texels: (N, 2) int64, width and height of the textures.
        two_sided: (N,) bool.
    """

    def __init__(self, patches: Sequence[Patch] = ()):
        self.textures = [p.texture for p in patches]
        self.geometry = np.array([(p.origin, p.u, p.v) for p in patches], np.float64)
        self.geometry = self.geometry.reshape(-1, 3, 3)
        self.gains = np.array([p.gain for p in patches], np.float64).reshape(-1, 3)
        self.texels = np.array([p.texture.size for p in patches], np.int64).reshape(-1, 2)
        self.two_sided = np.array([p.two_sided for p in patches], bool)

    def moved(self, x: float, z: float, heading: float) -> Batch:
        """Rotate the patches about the vertical axis by `heading` (rad) and move them to (x, z)."""
        sin, cos = math.sin(heading), math.cos(heading)
        moved = copy.copy(self)
        moved.geometry = self.geometry @ np.array([[cos, 0, -sin], [0, 1, 0], [sin, 0, cos]])
        moved.geometry[:, 0] += (x, 0, z)
        return moved

    @staticmethod
    def joined(batches: Sequence[Batch]) -> Batch:
        """Concatenate batches."""
        joined = Batch()
        joined.textures = [texture for batch in batches for texture in batch.textures]
        for name in ("geometry", "gains", "texels", "two_sided"):
            setattr(joined, name, np.concatenate([getattr(b, name) for b in (joined, *batches)]))
        return joined


class _View(NamedTuple):
    """Position of a patch in the image and the mapping of its texture.

    Attributes:
        number: index of the patch in its batch.
        box: bounding box.
        outline: (n, 2) int32, corners relative to the box, in 1/16 pixel.
        across: (W,) float32; inverse depth (1/m) at pixel (x, y) is across[x] + down[y].
        down: (H, 1) float32.
        to_texel: (3, 3), image pixel to texel of the texture at `level`.
        level: number of times that the texture's width and height are halved.
        depth: mean depth, metres.
        nearest: largest inverse depth of its corners, 1/m.
        bounds: half the smallest and twice the largest inverse depth of its corners, 1/m.
    """

    number: int
    box: _Box
    outline: NDArray[np.int32]
    across: NDArray[np.float32]
    down: NDArray[np.float32]
    to_texel: NDArray[np.float64]
    level: tuple[int, int]
    depth: float
    nearest: float
    bounds: tuple[float, float]

    def inverse_depth(self) -> NDArray[np.float32]:
        """Inverse depth of the patch's plane in the box, (h, w), 1/m."""
        x0, y0, x1, y1 = self.box
        return self.across[x0:x1] + self.down[y0:y1]


class Canvas:
    """Image, inverse depth and labels of one camera pose, filled by `draw`.

    Args:
        intrinsics: intrinsics of the camera.
        pose: (4, 4), camera to world.
        near: near plane, metres.

    Attributes:
        image: (H, W, 3) uint8 RGB.
        inverse_depth: (H, W) float32, 1/m; 0 if nothing was drawn.
        labels: (H, W) uint8.
    """

    def __init__(self, intrinsics: Intrinsics, pose: NDArray[np.float64], near: float = NEAR):
        shape = (intrinsics.height, intrinsics.width)
        self.image = np.zeros((*shape, 3), np.uint8)
        # Padded to whole tiles; infinity in the padding never limits culling.
        whole = [-(-n // _TILE) * _TILE for n in shape]
        self._tiled = np.full(whole, np.inf, np.float32)
        self.inverse_depth = self._tiled[: shape[0], : shape[1]]
        self.inverse_depth[:] = 0
        self.labels = np.zeros(shape, np.uint8)
        self._k = intrinsics.matrix
        self._k_inv = np.linalg.inv(self._k)
        self._pose = pose
        self._near = near
        self._xs = np.arange(shape[1], dtype=np.float32)
        self._ys = np.arange(shape[0], dtype=np.float32)[:, None]

    def draw(self, batch: Batch, haze_colour: Colour, haze_rate: float) -> None:
        """Draw patches, nearest first, so that hidden ones cost little.

        Args:
            batch: the patches.
            haze_colour: RGB of the haze.
            haze_rate: attenuation per metre.
        """
        views = self._views(batch)
        clear = np.exp([[-haze_rate * view.depth] for view in views]).reshape(-1, 1)
        lights = np.zeros((len(views), 3, 4))
        lights[:, range(3), range(3)] = batch.gains[[view.number for view in views]] * clear
        lights[:, :, 3] = np.asarray(haze_colour) * (1 - clear)
        for n, (view, light) in enumerate(zip(views, lights, strict=True)):
            if n % _REFRESH == 0:
                tiles = self._farthest_of_tiles()
            x0, y0, x1, y1 = view.box
            behind = tiles[y0 // _TILE : (y1 - 1) // _TILE + 1, x0 // _TILE : (x1 - 1) // _TILE + 1]
            if cv2.minMaxLoc(behind)[0] > view.nearest:
                continue
            texture = batch.textures[view.number]
            inverse = view.inverse_depth()
            seen = cv2.compare(inverse, self.inverse_depth[y0:y1, x0:x1], cv2.CMP_GT)
            if not texture.has_holes:
                inside = np.zeros(seen.shape, np.uint8)
                cv2.fillConvexPoly(inside, view.outline, 255, cv2.LINE_8, 4)
                cv2.bitwise_and(seen, inside, seen)
                # The outline is a pixel too wide: a large depth error on a plane seen edge-on.
                cv2.bitwise_and(seen, cv2.inRange(inverse, *view.bounds), seen)
            x, y, w, h = cv2.boundingRect(seen)
            if not w:
                continue
            # Most patches are partly hidden: continue with the visible part of the box.
            seen, inverse = seen[y : y + h, x : x + w], inverse[y : y + h, x : x + w]
            x, y = x0 + x, y0 + y
            here = slice(y, y + h), slice(x, x + w)
            to_texel = _shifted(view.to_texel, x, y)
            colours, labels = texture.level(*view.level)
            if labels is None:
                labels = np.full((h, w), texture.label, np.uint8)
            elif texture.has_holes:
                labels = _warped(labels, to_texel, (w, h), cv2.INTER_NEAREST, cv2.BORDER_CONSTANT)
                # A mask is non-zero: 255 - label is 0 only for transparent texels.
                seen = cv2.subtract(seen, labels)
                if not cv2.countNonZero(seen):
                    continue
            else:
                labels = _warped(labels, to_texel, (w, h), cv2.INTER_NEAREST, cv2.BORDER_REPLICATE)
            colours = _warped(colours, to_texel, (w, h), cv2.INTER_LINEAR, cv2.BORDER_REPLICATE)
            lit = cv2.transform(cv2.cvtColor(colours, cv2.COLOR_RGBA2RGB), light)
            cv2.copyTo(lit, seen, self.image[here])
            cv2.copyTo(inverse, seen, self.inverse_depth[here])
            cv2.copyTo(labels, seen, self.labels[here])

    def shade_ground(self, batch: Batch) -> None:
        """Darken the ground by the brightness of patches that lie on it."""
        for view in self._views(batch):
            x0, y0, x1, y1 = view.box
            here = slice(y0, y1), slice(x0, x1)
            nearest = self.inverse_depth[here]
            on_ground = np.abs(view.inverse_depth() - nearest) < 1e-3 * nearest
            if on_ground.any():
                colours, _ = batch.textures[view.number].level(*view.level)
                to_texel = _shifted(view.to_texel, x0, y0)
                size = (x1 - x0, y1 - y0)
                shade = _warped(colours, to_texel, size, cv2.INTER_LINEAR, cv2.BORDER_CONSTANT)
                shade_rgb = cv2.cvtColor(shade, cv2.COLOR_RGBA2RGB)
                shaded = cv2.multiply(self.image[here], shade_rgb, scale=1 / 255)
                cv2.copyTo(shaded, on_ground.astype(np.uint8), self.image[here])

    def fill_ground(self, colour: Colour, label: int, farthest: float) -> None:
        """Fill undrawn pixels with the ground plane y = 0 up to `farthest` metres."""
        normal = self._pose[1, :3]
        a, b, c = ((normal @ self._k_inv) / -self._pose[1, 3]).astype(np.float32)
        inverse = a * self._xs + (b * self._ys + c)
        free = (self.inverse_depth == 0) & (inverse > 1 / farthest)
        self.image[free] = colour
        self.inverse_depth[free] = inverse[free]
        self.labels[free] = label

    def _farthest_of_tiles(self) -> NDArray[np.float32]:
        """Smallest inverse depth of each tile; patches behind it are hidden."""
        rows = self._tiled.reshape(-1, _TILE, self._tiled.shape[1]).min(1)
        return rows.reshape(len(rows), -1, _TILE).min(2)

    def _views(self, batch: Batch) -> list[_View]:
        """Project the patches that may be visible, nearest first."""
        k, size = self._k, np.array([self._xs.size, self._ys.size])
        geometry = batch.geometry.copy()
        geometry[:, 0] -= self._pose[:3, 3]
        geometry = geometry @ self._pose[:3, :3]
        corners = _CORNERS @ geometry  # (N, 4, 3)
        in_front = corners[..., 2] > self._near
        whole = np.all(in_front, axis=1)
        with np.errstate(divide="ignore", invalid="ignore"):
            pixels = corners[..., :2] / corners[..., 2:] * k[[0, 1], [0, 1]] + k[:2, 2]
        low, high = pixels.min(1), pixels.max(1)
        on_screen = ((high > -0.5) & (low < size - 0.5)).all(1)
        # Patches of about one pixel would only flicker.
        on_screen &= ((high - low).max(1) > 1.2) & ((high - low + 0.5).prod(1) > 10)
        chosen = np.flatnonzero(np.where(whole, on_screen, np.any(in_front, axis=1)))

        normal = np.cross(geometry[chosen, 1], geometry[chosen, 2])
        distance = np.einsum("ni,ni->n", normal, geometry[chosen, 0])
        faces = (distance > 1e-9) | (batch.two_sided[chosen] & (distance < -1e-9))
        depth = np.maximum(corners[chosen, :, 2], self._near).mean(1)
        order = np.flatnonzero(faces)
        order = order[np.argsort(depth[order])]
        chosen, depth = chosen[order], depth[order]
        planes = (normal[order] @ self._k_inv) / distance[order, None]

        low, high, pixels, whole = low[chosen], high[chosen], pixels[chosen], whole[chosen]
        clipped = {n: self._clipped(corners[chosen[n]]) for n in np.flatnonzero(~whole)}
        for n, outline in clipped.items():
            low[n], high[n], pixels[n] = outline.min(0), outline.max(0), 0
        starts = np.clip(low, 0, size).astype(np.int64)
        stops = np.clip(high + 2, 0, size).astype(np.int64)
        outlines = list(np.rint((pixels - starts[:, None]) * 16).astype(np.int32))
        for n, outline in clipped.items():
            outlines[n] = np.rint((outline - starts[n]) * 16).astype(np.int32)
        # A texel should cover about one pixel: compare each edge's texels with its pixels.
        edges = np.linalg.norm(pixels - np.roll(pixels, -1, 1), axis=2)
        edges = np.maximum(np.maximum(edges[:, :2], edges[:, 2:]), 0.5)
        texels = batch.texels[chosen]
        levels = np.log2(texels / edges, where=whole[:, None], out=np.zeros(texels.shape)) + 0.4
        levels = np.clip(levels, 0, np.log2(texels)).astype(np.int64)
        # Texel centres lie at integers, as pixel centres do.
        to_texel = np.zeros((len(chosen), 3, 3))
        to_texel[:, [0, 1], [0, 1]] = np.maximum(texels >> levels, 1)
        to_texel[:, :2, 2] = -0.5
        to_texel[:, 2, 2] = 1
        # K [u v origin] maps (a, b, 1) to pixels.
        to_texel = to_texel @ np.linalg.inv(k @ geometry[chosen][:, [1, 2, 0]].transpose(0, 2, 1))

        a, b, c = planes.astype(np.float32).T[..., None]
        across, down = a * self._xs, b * self._ys[:, 0] + c
        z = np.maximum(corners[chosen, :, 2], self._near)
        nearest, bounds = 1 / z.min(1), np.stack([0.5 / z.max(1), 2 / z.min(1)], 1)
        fields = zip(
            chosen.tolist(),
            np.concatenate([starts, stops], 1).tolist(),
            outlines,
            across,
            down[..., None],
            to_texel,
            levels.tolist(),
            depth.tolist(),
            nearest.astype(np.float32).tolist(),
            bounds.tolist(),
            strict=True,
        )
        return [_View(*view) for view in compress(fields, (starts < stops).all(1))]

    def _clipped(self, corners: NDArray[np.float64]) -> NDArray[np.float64]:
        """Clip a convex outline (4, 3) at the near plane and project it to pixels (n, 2)."""
        ring, kept = corners.tolist(), []
        for p, q in zip(ring, ring[1:] + ring[:1], strict=True):
            if p[2] > self._near:
                kept.append(p)
            if (p[2] > self._near) != (q[2] > self._near):
                part = (self._near - p[2]) / (q[2] - p[2])
                kept.append([a + (b - a) * part for a, b in zip(p, q, strict=True)])
        points = np.array(kept) @ self._k.T
        return points[:, :2] / points[:, 2:]


def _shifted(to_texel: NDArray[np.float64], x: int, y: int) -> NDArray[np.float64]:
    """Shift a mapping from pixels to texels: pixels are relative to (x, y)."""
    shifted = to_texel.copy()
    shifted[:, 2] = to_texel.dot((x, y, 1))
    return shifted


def _warped(
    sheet: Image,
    to_texel: NDArray[np.float64],
    size: tuple[int, int],
    interpolation: int,
    border: int,
) -> Image:
    """Warp a texture's colours or labels into a box of this width and height; HOLE outside."""
    warped = cv2.warpPerspective(
        sheet,
        to_texel,
        size,
        flags=interpolation | cv2.WARP_INVERSE_MAP,
        borderMode=border,
        borderValue=(HOLE,) * 4,
    )
    return np.asarray(warped, np.uint8)
