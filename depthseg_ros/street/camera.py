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

"""The camera that drives along the street: pose, sky, and lens and sensor effects."""

from __future__ import annotations

import math
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from depthseg_ros.imaging.geometry import Intrinsics
from depthseg_ros.street import houses
from depthseg_ros.street import textures as paint
from depthseg_ros.street.renderer import NEAR, Batch, Canvas, Image, Patch
from depthseg_ros.street.scene import Scene
from depthseg_ros.street.sketch import TREE, pick, plain, varied

FRAME_RATE = 30.0
"""Frames per second of the street's time."""

_BEHIND, _BEHIND_FREE = 2.0, 85.0
"""How much of the street behind the camera is drawn, metres: of the drive, and of any pose."""

_FARTHEST = 260.0
"""Distance to the skyline at the end of every view, metres."""


@dataclass(frozen=True)
class Camera:
    """Camera settings; those that are None follow from the street's seed.

    Attributes:
        fov: horizontal field of view, rad; None: the seed's, 45 to 75 degrees.
        height: height above the ground, metres; None: the seed's, 1.3 to 1.7.
        pitch: rad, positive looks up; None: the seed's, up to 4 degrees.
        gains: factors on red, green and blue (white balance, exposure).
        gamma: exponent of brightness (0 to 1) before the gains; above 1 darkens.
        roll: rad, positive turns the camera clockwise; None: the seed's, up to 1 degree.

    Raises:
        ValueError: A value is outside the range for which the street is modelled, e.g. a camera
            above the lorries.
    """

    fov: float | None = None
    height: float | None = None
    pitch: float | None = None
    gains: tuple[float, float, float] = (1.0, 1.0, 1.0)
    gamma: float = 1.0
    roll: float | None = None

    def __post_init__(self) -> None:
        if len(self.gains) != 3:
            raise ValueError(f"camera gains: got {len(self.gains)}, expected 3 (red, green, blue)")
        for name, (low, high) in _LIMITS.items():
            value = getattr(self, name)
            if value is not None and not np.array_equal(np.clip(value, low, high), value):
                raise ValueError(f"camera {name}: got {value}, expected {low:g} to {high:g}")


_LIMITS = {
    "fov": (0.1, 2.1),
    "height": (0.2, 3.0),
    "pitch": (-0.5, 0.5),
    "roll": (-0.5, 0.5),
    "gains": (0.1, 4.0),
    "gamma": (0.2, 5.0),
}
"""Minimum and maximum. Lorries have no top, and there is nothing behind the start of a street."""


@dataclass(frozen=True)
class StreetFrame:
    """One image with the exact depth and label of each pixel.

    World axes: x right, y down, z forward along the street; the ground is the plane y = 0, so the
    camera is at y = -camera_height. Camera axes: x right, y down, z along the optical axis.

    Attributes:
        image: (H, W, 3) uint8 RGB.
        depth: (H, W) float32, metres along the optical axis; NaN in the sky only.
        labels: (H, W) uint8, indices into `CLASS_NAMES`.
        intrinsics: the camera.
        pose: (4, 4) float64, camera to world.
    """

    image: Image
    depth: NDArray[np.float32]
    labels: Image
    intrinsics: Intrinsics
    pose: NDArray[np.float64]


class Street:
    """A street generated from a seed, with a camera that drives along it.

    At the end of the street the drive restarts from its beginning.

    Args:
        seed: determines everything; not negative.
        width: image width, pixels.
        height: image height, pixels.
        camera: settings that replace the seed's camera.

    Attributes:
        intrinsics: the camera.
        camera_height: height above the ground, metres.
        pitch: rad, positive looks up.
        roll: rad, positive turns the camera clockwise.

    Raises:
        ValueError: The image has no pixels or the seed is negative.
    """

    def __init__(
        self, seed: int, width: int = 640, height: int = 480, camera: Camera | None = None
    ):
        if width < 1 or height < 1:
            raise ValueError(f"image size: got {width}x{height}, expected at least 1x1 pixels")
        if seed < 0:
            raise ValueError(f"seed: got {seed}, expected 0 or more")
        camera = camera or Camera()
        rng = np.random.default_rng([seed, 0])
        # Unused random numbers are drawn as well, so that a chosen camera changes nothing else.
        fov = _chosen(camera.fov, math.radians(rng.uniform(45, 75)))
        self.intrinsics = Intrinsics.from_fov(width, height, fov)
        self.camera_height = _chosen(camera.height, float(rng.uniform(1.3, 1.7)))
        self.pitch = _chosen(camera.pitch, math.radians(rng.uniform(-4, 4)))
        self.roll = _chosen(camera.roll, math.radians(rng.uniform(-1, 1)))
        # A wide lens sees more than the painted sky; its mirror image continues it.
        chosen = any(value is not None for value in (camera.fov, camera.pitch, camera.roll))
        self._beyond_sky = cv2.BORDER_REFLECT if chosen else cv2.BORDER_REPLICATE
        self._texels = 30 if self.camera_height > 1 else 60
        self._scene = Scene(seed)
        self._s = self._scene.lane + rng.uniform(-0.4, 0.4)
        self._start = rng.uniform(0, 12)
        self._make_optics(rng, camera)
        self._make_sky(rng)
        self._skyline = self._make_skyline(rng)

    def frame(
        self, index: int, offset_x: float = 0.0, pose: NDArray[np.float64] | None = None
    ) -> StreetFrame:
        """Render frame `index` of a video at 30 Hz, with depth and labels.

        Args:
            index: number of the frame; frames can be rendered in any order.
            offset_x: shift of the camera to its right, metres, e.g. for stereo.
            pose: (4, 4) camera to world, anywhere in the street and in any direction; None: the
                pose of the drive along the street.
        """
        time = index / FRAME_RATE
        behind = _BEHIND if pose is None else _BEHIND_FREE
        pose = self.pose(index) if pose is None else pose.copy()
        pose[:3, 3] += offset_x * pose[:3, 0]
        # A low camera sees nearer ground.
        canvas = Canvas(self.intrinsics, pose, min(NEAR, self.camera_height / 4))
        z = pose[2, 3]
        solid, shadows = self._scene.patches(z, time, pose[0, 3], self._texels, behind)
        forward = self._scene.heading(z + 6)
        skyline = self._skyline.moved(pose[0, 3], z, forward)
        canvas.draw(Batch.joined([solid, skyline]), self._haze_colour, self._haze_rate)
        ground, light = self._scene.ground, self._scene.light((0, -1, 0))
        canvas.fill_ground(np.clip(ground.colour * light, 0, 255), ground.label, _FARTHEST)
        canvas.shade_ground(shadows)
        sky = canvas.inverse_depth == 0
        self._paint_sky(canvas.image, sky, pose)
        with np.errstate(divide="ignore"):
            depth = np.reciprocal(canvas.inverse_depth)
        depth[sky] = np.nan
        return StreetFrame(
            self._photograph(canvas.image, index, offset_x),
            depth,
            canvas.labels,
            self.intrinsics,
            pose,
        )

    def pose(self, index: int) -> NDArray[np.float64]:
        """Pose (4, 4) of the camera to the world, in frame `index` of the drive."""
        scene, time = self._scene, index / FRAME_RATE
        z = self._start + (scene.speed * time) % scene.drive
        sway = 0.08 * math.sin(0.9 * time)
        heading = scene.heading(z + 6) + 0.004 * math.sin(0.7 * time)
        pitch = self.pitch + 0.0015 * math.sin(5.0 * time)
        pose = np.eye(4)
        pose[:3, :3] = _turn(1, heading) @ _turn(0, pitch) @ _turn(2, self.roll)
        pose[:3, 3] = (scene.centre(z) + self._s + sway, -self.camera_height, z)
        return pose

    # --- Sky and skyline ------------------------------------------------------------------------

    def _make_sky(self, rng: np.random.Generator) -> None:
        """A plane at infinity: texels by the slopes x/z and y/z of a ray, from -1.6 to 1.6."""
        n, sunshine = 512, self._scene.sunshine
        up, across = np.mgrid[1.6 : -1.6 : n * 1j, -1.6 : 1.6 : n * 1j].astype(np.float32)
        rise = np.clip(up / np.sqrt(1 + up**2), 0, 1)[..., None]
        if sunshine > 0.3 and rng.random() < 0.8:
            zenith, horizon = varied(rng, (104, 150, 208), 8), np.array([214, 226, 236])
        else:
            zenith, horizon = np.full(3, rng.uniform(150, 235)), np.full(3, rng.uniform(210, 246))
        sky = horizon + (zenith - horizon) * np.sqrt(rise)
        clouds = np.zeros((n, n), np.float32)
        for octave in range(2, 8):
            cells = rng.standard_normal((2**octave, 2 ** (octave - 1))).astype(np.float32)
            clouds += cv2.resize(cells, (n, n), interpolation=cv2.INTER_CUBIC) * 0.7**octave
        cover = np.clip((clouds / clouds.std() - rng.uniform(-1.2, 1.5)) * 0.8, 0, 1)[..., None]
        sky += (np.array([246, 246, 246]) * rng.uniform(0.8, 1.0) - sky) * cover * 0.85
        sun = self._scene.sun
        if sun[2] > 0.1:
            gap = (across - sun[0] / sun[2]) ** 2 + (up + sun[1] / sun[2]) ** 2
            sky += (300 * (0.3 + sunshine) * np.exp(-gap / 0.08))[..., None]
        self._sky = np.clip(sky, 0, 255).astype(np.uint8)
        self._haze_colour = np.asarray(horizon, np.float64) * 0.95
        self._haze_rate = float(rng.choice([0.0006, 0.0015, 0.004]) * rng.uniform(0.6, 1.4))

    def _paint_sky(self, image: Image, sky: NDArray[np.bool_], pose: NDArray[np.float64]) -> None:
        """Draw the sky into (H, W, 3) `image` where (H, W) `sky` is true."""
        rows = np.flatnonzero(sky.any(1))
        if not rows.size:
            return
        bottom = int(rows[-1]) + 1
        n = len(self._sky)
        to_slope = np.array([[n / 3.2, 0, n / 2 - 0.5], [0, n / 3.2, n / 2 - 0.5], [0, 0, 1]])
        to_texel = to_slope @ pose[:3, :3] @ np.linalg.inv(self.intrinsics.matrix)
        drawn = cv2.warpPerspective(
            self._sky,
            to_texel,
            (image.shape[1], bottom),
            flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP,
            borderMode=self._beyond_sky,
        )
        cv2.copyTo(drawn, sky[:bottom].astype(np.uint8), image[:bottom])

    def _make_skyline(self, rng: np.random.Generator) -> Batch:
        """Distant trees and roofs that move with the camera, like the sky."""
        leaf = np.asarray(pick(rng, paint.LEAVES)) * 0.8
        looks = [paint.foliage(rng, 44, rng.uniform(6, 16), leaf, 3) for _ in range(2)]
        wall = pick(rng, houses.WALLS)
        looks.append(houses.facade(rng, 44, rng.uniform(7, 14), wall, "office", 3))
        low = plain(leaf, TREE)
        patches = []
        # For wide lenses it is extended on both sides.
        wide = self.intrinsics.cx / self.intrinsics.fx * _FARTHEST
        aside = np.arange(260, wide + 40, 40.0)
        for x in np.concatenate([np.arange(-260, 260, 40.0), aside, -aside - 40]):
            height, z = rng.uniform(6, 16), _FARTHEST - rng.uniform(0, 8)
            look = looks[int(rng.choice(3, p=[0.4, 0.4, 0.2]))]
            patches.append(Patch((x, -height, z), (44, 0, 0), (0, height, 0), look))
            patches.append(Patch((x, -4.0, _FARTHEST + 0.5), (44, 0, 0), (0, 4.0, 0), low))
        return Batch(patches)

    # --- Lens and sensor ------------------------------------------------------------------------

    def _make_optics(self, rng: np.random.Generator, camera: Camera) -> None:
        """Choose vignette, white balance, exposure, contrast curve, blur and noise."""
        width, height = self.intrinsics.width, self.intrinsics.height
        x = np.linspace(-1, 1, width, dtype=np.float32)
        y = np.linspace(-1, 1, height, dtype=np.float32)[:, None]
        falloff = 1 - rng.uniform(0.0, 0.3) * (x**2 + y**2) / 2
        balance = np.array([1 + rng.normal(0, 0.035), 1.0, 1 + rng.normal(0, 0.04)])
        exposure = rng.uniform(0.65, 1.25)
        self._gain = (falloff[..., None] * balance * exposure).astype(np.float32)
        contrast = rng.uniform(0.85, 1.5)
        levels = np.linspace(0, 1, 256)
        curve = levels + (contrast - 1) * (levels - 0.45) * 4 * levels * (1 - levels)
        colours = curve[:, None, None].clip(0) ** camera.gamma * camera.gains
        self._curves = np.clip(255 * colours, 0, 255).astype(np.uint8)
        self._blur = float(rng.choice([0.0, rng.uniform(0.4, 0.9)])) * width / 640
        noise = rng.standard_normal((height + 64, width + 64, 3), np.float32)
        noise += noise[..., 1:2]
        self._noise = np.round(noise * rng.uniform(0.3, 2.5)).astype(np.int16)

    def _photograph(self, image: Image, index: int, offset_x: float) -> Image:
        """Apply blur, vignette, contrast and noise."""
        sharp = cv2.GaussianBlur(image, (0, 0), self._blur) if self._blur > 0.2 else image
        exposed = cv2.multiply(sharp, self._gain, dtype=cv2.CV_8U)
        developed = cv2.LUT(exposed, self._curves)
        # One sheet of noise, larger than the image, is shifted for every frame and stereo offset:
        # no network can then match images by their noise.
        eye = round(1000 * offset_x)
        y, x = (index * 37 + eye * 5) % 64, (index * 23 + eye // 64 * 29) % 64
        noise = self._noise[y : y + image.shape[0], x : x + image.shape[1]]
        return np.asarray(cv2.add(developed, noise, dtype=cv2.CV_8U), np.uint8)


def _chosen(chosen: float | None, otherwise: float) -> float:
    return otherwise if chosen is None else chosen


def _turn(axis: int, angle: float) -> NDArray[np.float64]:
    """Rotation (3, 3) about x, y or z: to the right, upwards, clockwise for z."""
    sin, cos = math.sin(angle), math.cos(angle)
    turn = np.eye(3)
    a, b = [k for k in range(3) if k != axis]
    turn[[a, b], [a, b]] = cos
    sign = -1 if axis == 1 else 1
    turn[a, b], turn[b, a] = -sign * sin, sign * sin
    return turn
