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

"""Generate composites: figures in background images, for systems with a background input.

A figure is placed on the ground in 3D and rendered by the street renderer, so its size, depth and
occlusion are consistent with the background. Backgrounds and figures are rendered streets with
their people and vehicles, or come from folders.
"""

from __future__ import annotations

import copy
import hashlib
import math
import os
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import cv2
import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray
from torch.utils.data import Dataset

from depthseg_ros.imaging.geometry import Intrinsics
from depthseg_ros.imaging.image_files import IMAGES, report_left_out, visible_files
from depthseg_ros.street import CLASS_NAMES, textures
from depthseg_ros.street.renderer import HOLE, Batch, Canvas, Patch, Texture
from depthseg_ros.street.vehicles import SHAPES, Vehicle

from ...errors import TrainingError
from ..images import (
    StemIndex,
    read_rgb,
    read_uint16,
    read_unchanged,
    require_files,
    unique_stems,
)
from ..sample import Sample
from .rendered import CACHE, FIRST_SEED, RenderedStreets

SOURCE = "composites of figures and images"
TERMS = "composites of rendered streets are free to use, others under the terms of their images"
CLASSES = "mask"

FARTHEST = 80.0
"""Maximum depth of rendered streets in metres; also the depth of the sky."""
_CACHED = 256
"""Number of backgrounds, and of figures, that are cached in memory."""
_TRIES = 5
"""Number of places to try for a figure until enough of it is visible."""
_STREET_SIZE = (480, 360)
_GROUND = [CLASS_NAMES.index(name) for name in ("road", "pavement")]


class Backdrop(NamedTuple):
    """A background image with its geometry.

    Attributes:
        image: (H, W, 3) uint8 RGB.
        depth: (H, W) float32 metres, NaN for unknown; None: unknown everywhere.
        ground: (H, W) float32 metres, depth of the ground where a figure may stand, otherwise NaN.
        camera: Intrinsics.
        level: (3, 3) rotation from the camera frame to one with y straight down.
    """

    image: NDArray[np.uint8]
    depth: NDArray[np.float32] | None
    ground: NDArray[np.float32]
    camera: Intrinsics
    level: NDArray[np.float64]


class Figure(NamedTuple):
    """An object to insert, standing on y = 0 around x = z = 0.

    Attributes:
        batch: Patches for the renderer.
        width: Metres, longest side.
        height: Metres.
        turns: Whether it is a 3D object with any heading; otherwise flat and facing the camera.
        scales: Least and greatest random scale.
    """

    batch: Batch
    width: float
    height: float
    turns: bool = False
    scales: tuple[float, float] = (0.95, 1.05)


class Composite(NamedTuple):
    """The content of a sample, before the simulation of a camera.

    Attributes:
        background: (H, W, 3) uint8 RGB.
        scene: (H, W, 3) uint8 RGB, the background with figures.
        mask: (H, W) bool, the pixels of figures.
        depth: (H, W) float32 metres, depth of the scene; None if it is unknown.
        background_depth: (H, W) float32 metres, depth of the background; None if it is unknown.
    """

    background: NDArray[np.uint8]
    scene: NDArray[np.uint8]
    mask: NDArray[np.bool_]
    depth: NDArray[np.float32] | None
    background_depth: NDArray[np.float32] | None


class Composites(Dataset[Sample]):
    """Pairs of a background and a scene, with the mask of the figures and normalised depth.

    Split, seed and index determine a sample. Depth is divided by its maximum in each image. The
    splits share neither backgrounds nor figures.
    """

    def __init__(
        self,
        split: str,
        count: int,
        size: tuple[int, int] = (224, 224),
        backgrounds: Path | None = None,
        foregrounds: Path | None = None,
        streets: int = 100,
        figures: int = 100,
        cache: Path | None = CACHE,
        seed: int = 0,
    ) -> None:
        """Define the samples.

        Args:
            split: `train`, `val` or `test`.
            count: Number of samples.
            size: Width and height in pixels.
            backgrounds: Folder of images (`FolderBackdrops`); None: rendered streets.
            foregrounds: Folder of cut-outs (`FolderFigures`); None: people and vehicles of streets.
            streets: Number of streets, without `backgrounds`.
            figures: Number of figures, without `foregrounds`.
            cache: Folder of rendered streets; None: cache in memory only.
            seed: Changes the combinations of the same backgrounds and figures.

        Raises:
            TrainingError: the split is unknown, a number is below 1, or files are missing.
        """
        if split not in FIRST_SEED:
            raise TrainingError(f"split is {split!r}, expected one of {', '.join(FIRST_SEED)}")
        if min(count, streets, figures, *size) < 1:
            raise TrainingError(
                f"count is {count}, streets {streets}, figures {figures}, size {size},"
                " expected at least 1 of each"
            )
        size = (size[0], size[1])  # from a configuration, it is a list
        self.split, self.count, self.size, self.seed = split, count, size, seed
        self.backdrops = (
            StreetBackdrops(split, streets, size, cache)
            if backgrounds is None
            else FolderBackdrops(split, Path(backgrounds), size)
        )
        self.figures = (
            RenderedFigures(split, figures)
            if foregrounds is None
            else FolderFigures(split, Path(foregrounds))
        )
        self._cached: dict[str, dict[int, Any]] = {"backdrops": {}, "figures": {}}

    def render(self) -> None:
        """Render the streets that are not cached, with a progress bar."""
        if isinstance(self.backdrops, StreetBackdrops):
            self.backdrops.streets.render()

    def __len__(self) -> int:
        """Number of samples."""
        return self.count

    def __getitem__(self, index: int) -> Sample:
        """Generate one sample; exposure and noise differ between scene and background."""
        rng = self._rng(index)
        composite = self._composite(rng)
        blur = rng.uniform(0, 0.7)
        depth = composite.depth
        return Sample(
            simulate_camera(composite.scene, blur, rng),
            composite.mask.astype(np.uint8),
            None if depth is None else depth / np.nanmax(depth, initial=0),
            views={"background": simulate_camera(composite.background, blur, rng)},
        )

    def composite(self, index: int) -> Composite:
        """Return the content of a sample without the simulation of a camera."""
        return self._composite(self._rng(index))

    def _rng(self, index: int) -> Generator:
        return np.random.default_rng([FIRST_SEED[self.split], self.seed, range(self.count)[index]])

    def _composite(self, rng: Generator) -> Composite:
        backdrop = random_crop(self._choose("backdrops", rng), self.size, rng)
        image = backdrop.image.copy()
        inverse = np.zeros(image.shape[:2], np.float32)
        if backdrop.depth is not None:
            inverse = np.nan_to_num(1 / backdrop.depth)
        mask = np.zeros(image.shape[:2], np.bool_)
        for _ in range(rng.choice([1, 2, 3], p=[0.6, 0.3, 0.1])):
            figure = self._choose("figures", rng)
            for _ in range(_TRIES):
                canvas = _with_figure(backdrop, figure, image, inverse, rng)
                drawn = canvas.labels > 0
                if 0.004 < drawn.mean() < 0.5:
                    image, inverse, mask = canvas.image, canvas.inverse_depth, mask | drawn
                    break
        depth = None
        if backdrop.depth is not None:
            depth = backdrop.depth.copy()
            depth[mask] = 1 / inverse[mask]
        return Composite(backdrop.image, image, mask, depth, backdrop.depth)

    def _choose(self, source: str, rng: Generator) -> Any:
        """Choose a random backdrop or figure; caches the first ones."""
        items, cached = getattr(self, source), self._cached[source]
        index = int(rng.integers(len(items)))
        if index in cached:
            return cached[index]
        item = items[index]
        if len(cached) < _CACHED:
            cached[index] = item
        return item


def _with_figure(
    backdrop: Backdrop,
    figure: Figure,
    image: NDArray[np.uint8],
    inverse_depth: NDArray[np.float32],
    rng: Generator,
) -> Canvas:
    """Render a figure at a random place; labels of the canvas are above 0 where it is visible."""
    k = backdrop.camera
    scale = rng.uniform(*figure.scales)
    width, height = figure.width * scale, figure.height * scale
    # The figure must be large enough, and fit into the image.
    nearest = k.fx * max(width / k.width, height / k.height) / 0.95
    farthest = k.fx * math.sqrt(width * height / (k.width * k.height)) / 0.1
    ground = backdrop.ground
    rows, columns = np.nonzero((ground > nearest) & (ground < farthest))
    if not rows.size:
        rows, columns = np.nonzero(ground > 0)
    pose = np.eye(4)
    pose[:3, :3] = backdrop.level
    canvas = Canvas(k, pose)
    canvas.image = image.copy()
    canvas.inverse_depth[:] = inverse_depth
    if not rows.size:
        return canvas
    n = rng.integers(rows.size)
    v, u = int(rows[n]), int(columns[n])
    z = float(ground[v, u])
    if not nearest < z < farthest:
        scale *= z / (2.5 * nearest)  # another scale of scenery: the figure fills two fifths
    x, y, z = backdrop.level @ (z * np.array([(u - k.cx) / k.fx, (v - k.cy) / k.fy, 1.0]))
    pose[1, 3] = -y
    if figure.turns:
        heading = rng.uniform(-math.pi, math.pi)
    else:
        heading = math.atan2(x, z) + rng.uniform(-0.35, 0.35) + math.pi * rng.integers(2)
    batch = copy.copy(figure.batch)
    batch.geometry = batch.geometry * scale
    batch = batch.moved(x, z, heading)
    batch.gains = batch.gains * _light(batch, backdrop.image, rng)
    canvas.draw(batch, np.zeros(3), 0.0)
    return canvas


def _light(batch: Batch, image: NDArray[np.uint8], rng: Generator) -> NDArray[np.float64]:
    """Colour factors (N, 3) of patches: brightness of the image, random direction of light."""
    bright = np.clip(image[::8, ::8].mean() / 110, 0.3, 1.6) ** 0.7 * rng.uniform(0.85, 1.15)
    outward = np.cross(batch.geometry[:, 2], batch.geometry[:, 1])
    outward /= np.linalg.norm(outward, axis=1, keepdims=True)
    sun = np.array([rng.uniform(-0.6, 0.6), -0.7, -0.4])
    faced = np.where(batch.two_sided, 0.4, outward @ sun)
    return np.repeat(bright * (0.8 + 0.3 * faced)[:, None], 3, 1)


def random_crop(backdrop: Backdrop, size: tuple[int, int], rng: Generator) -> Backdrop:
    """Crop a backdrop, scale it to `size` (width, height), and flip it with probability 0.5."""
    k = backdrop.camera
    least = max(size[0] / k.width, size[1] / k.height)
    zoom = least * rng.uniform(1, min(1 / 0.6, 1 / least))
    left = rng.uniform(0, max(0.0, k.width - size[0] / zoom))
    top = rng.uniform(0, max(0.0, k.height - size[1] / zoom))
    # Pixel centres lie at integers.
    to_window = np.array(
        [[zoom, 0, zoom * (0.5 - left) - 0.5], [0, zoom, zoom * (0.5 - top) - 0.5]]
    )
    level = backdrop.level
    if rng.random() < 0.5:
        to_window[0] = [-zoom, 0, size[0] - 1 - to_window[0, 2]]
        mirror = np.diag([-1.0, 1.0, 1.0])
        level = mirror @ level @ mirror
    cx, cy = to_window @ (k.cx, k.cy, 1.0)

    def warp(array: NDArray[Any], how: int) -> NDArray[Any]:
        return cv2.warpAffine(array, to_window, size, flags=how, borderMode=cv2.BORDER_REPLICATE)

    # Bilinear sampling skips pixels at small scales: smooth first.
    image = backdrop.image
    if zoom < 0.8:
        image = np.asarray(cv2.GaussianBlur(image, (0, 0), 0.4 / zoom), np.uint8)
    return Backdrop(
        warp(image, cv2.INTER_LINEAR),
        None if backdrop.depth is None else warp(backdrop.depth, cv2.INTER_NEAREST),
        warp(backdrop.ground, cv2.INTER_NEAREST),
        Intrinsics(*size, k.fx * zoom, k.fy * zoom, float(cx), float(cy)),
        level,
    )


def simulate_camera(image: NDArray[np.uint8], blur: float, rng: Generator) -> NDArray[np.uint8]:
    """Add `blur` (sigma, pixels), random exposure, tint and noise to an image (H, W, 3)."""
    if blur > 0.3:
        image = np.asarray(cv2.GaussianBlur(image, (0, 0), blur), np.uint8)
    gain = math.exp(rng.normal(0, 0.04)) * (1 + rng.normal(0, 0.01, 3))
    noise = rng.standard_normal(image.shape, np.float32) * rng.uniform(1, 4)
    exposed = image * gain.astype(np.float32) + noise
    return np.rint(exposed).clip(0, 255).astype(np.uint8)


class StreetBackdrops:
    """Rendered streets as backdrops, with road and pavement as ground."""

    def __init__(self, split: str, streets: int, size: tuple[int, int], cache: Path | None) -> None:
        """Define the streets, rendered large enough for `size` (width, height)."""
        scale = max(1.0, *(n / m for n, m in zip(size, _STREET_SIZE, strict=True)))
        width, height = (math.ceil(scale * n) for n in _STREET_SIZE)
        self.streets = RenderedStreets(split, streets, size=(width, height), cache=cache)

    def __len__(self) -> int:
        """Number of images."""
        return len(self.streets)

    def __getitem__(self, index: int) -> Backdrop:
        """Read one backdrop."""
        sample = self.streets[index]
        assert sample.labels is not None and sample.depth is not None and sample.fx is not None
        depth = np.fmin(sample.depth, np.float32(FARTHEST))
        on_ground = np.isin(sample.labels, _GROUND)
        ground = np.where(on_ground, depth, np.float32(np.nan))
        camera = _camera(sample.image, sample.fx)
        return Backdrop(sample.image, depth, ground, camera, level_of(ground, camera))


class FolderBackdrops:
    """Images of a folder as backdrops; assumes a level camera with fx equal to the image width.

    The folder has `NAME.jpg` (or another image format) and optionally `depth/NAME.png` for all
    images: 16 bits, millimetres, 0 for unknown. With depth, figures stand anywhere in the lower
    half, at the depth of the pixel. Without, figures stand on a plane 1.5 m below the camera, and
    the samples have no depth.
    """

    def __init__(self, split: str, folder: Path, size: tuple[int, int]) -> None:
        """List a split; raises `TrainingError` if images or depth files are missing."""
        self.size = size
        self.files = of_split(folder, IMAGES, split)
        self.depths: list[Path] = []
        if (folder / "depth").is_dir():
            find = StemIndex()
            self.depths = [find(folder / "depth" / f"{f.stem}.png", True) for f in self.files]
        require_files(self.depths, "depth files")

    def __len__(self) -> int:
        """Number of images."""
        return len(self.files)

    def __getitem__(self, index: int) -> Backdrop:
        """Read one backdrop, reduced to at most twice the size of samples."""
        file = self.files[index]
        rgb = read_rgb(file)
        height, width = rgb.shape[:2]
        if width < self.size[0] or height < self.size[1]:
            raise TrainingError(
                f"{file} is {width}x{height} pixels, smaller than the samples,"
                f" {self.size[0]}x{self.size[1]}"
            )
        depth = _read_depth(self.depths[index], rgb.shape[:2]) if self.depths else None
        scale = 2 * max(self.size[0] / width, self.size[1] / height)
        rgb = _reduced(rgb, scale, cv2.INTER_AREA)
        if depth is not None:
            depth = _reduced(depth, scale, cv2.INTER_NEAREST)
        height, width = rgb.shape[:2]
        camera = _camera(rgb, float(width))
        below = np.arange(height, dtype=np.float32)[:, None] - camera.cy
        if depth is None:
            ground = np.divide(
                1.5 * camera.fy, below, where=below > 0, out=np.full_like(below, np.nan)
            )
            ground = np.repeat(ground, width, 1)
        else:
            ground = np.where(below > 0, depth, np.float32(np.nan))
        return Backdrop(rgb, depth, ground.astype(np.float32), camera, np.eye(3))


class RenderedFigures:
    """Pedestrians, cyclists and vehicles of rendered streets."""

    def __init__(self, split: str, count: int) -> None:
        """Define `count` figures."""
        self.seeds = range(FIRST_SEED[split], FIRST_SEED[split] + count)

    def __len__(self) -> int:
        """Number of figures."""
        return len(self.seeds)

    def __getitem__(self, index: int) -> Figure:
        """Generate one figure."""
        rng = np.random.default_rng([self.seeds[index], 40])  # streets use streams below 40
        kind = rng.choice(["walker", "cyclist", "vehicle"], p=[0.5, 0.2, 0.3])
        if kind == "walker":
            width, height, phases = textures.walker(rng)
            return _board(phases[rng.integers(len(phases))], width, height)
        if kind == "cyclist":
            rider = textures.cyclist(rng)
            beside = rng.random() < 0.7
            return _board(rider.side if beside else rider.back, 1.8 if beside else 0.7, 1.75)
        vehicle = Vehicle(rng, str(rng.choice(list(SHAPES))))
        return Figure(vehicle.batch, vehicle.length, vehicle.height, turns=True)


class FolderFigures:
    """Cut-outs from a folder, `NAME.png` or `.webp` with alpha: flat figures 0.8 to 2.2 m high."""

    def __init__(self, split: str, folder: Path) -> None:
        """List a split; raises `TrainingError` if there are no files."""
        self.files = of_split(folder, (".png", ".webp"), split)

    def __len__(self) -> int:
        """Number of cut-outs."""
        return len(self.files)

    def __getitem__(self, index: int) -> Figure:
        """Read one figure, cropped to its opaque pixels (alpha of at least half)."""
        file = self.files[index]
        rgba = read_unchanged(file, "a cut-out with transparency")
        if rgba.ndim != 3 or rgba.shape[2] != 4 or rgba.dtype != np.uint8:
            raise TrainingError(
                f"{file} has shape {rgba.shape} and type {rgba.dtype},"
                " expected a cut-out with transparency: 8-bit RGBA"
            )
        solid = (rgba[..., 3] > 127).astype(np.uint8)
        x, y, width, height = cv2.boundingRect(solid)
        if not width:
            raise TrainingError(f"{file} is fully transparent, expected a cut-out")
        box = slice(y, y + height), slice(x, x + width)
        rgb = np.asarray(cv2.cvtColor(rgba[box], cv2.COLOR_BGRA2RGB), np.uint8)
        labels = np.where(solid[box], 1, HOLE).astype(np.uint8)
        scale = 512 / max(width, height)
        rgb = _reduced(rgb, scale, cv2.INTER_AREA)
        labels = _reduced(labels, scale, cv2.INTER_NEAREST)
        board = _board(Texture(rgb, labels), 1.5 * width / height, 1.5)
        return board._replace(scales=(0.8 / 1.5, 2.2 / 1.5))


def _board(texture: Texture, width: float, height: float) -> Figure:
    """Create a flat figure that is visible from both sides."""
    corner = (-width / 2, -height, 0)
    patch = Patch(corner, (width, 0, 0), (0, height, 0), texture, two_sided=True)
    return Figure(Batch([patch]), width, height)


def _reduced(array: NDArray[Any], scale: float, interpolation: int) -> NDArray[Any]:
    """Scale an array (H, W, ...) down; unchanged if `scale` is 1 or more."""
    if scale >= 1:
        return array
    height, width = array.shape[:2]
    size = (math.ceil(scale * width), math.ceil(scale * height))
    return cv2.resize(array, size, interpolation=interpolation)


def _camera(image: NDArray[np.uint8], fx: float) -> Intrinsics:
    height, width = image.shape[:2]
    return Intrinsics(width, height, fx, fx, (width - 1) / 2, (height - 1) / 2)


def level_of(ground: NDArray[np.float32], camera: Intrinsics) -> NDArray[np.float64]:
    """Estimate the rotation (3, 3) from the camera frame to one with y straight down.

    Down is the normal of a plane fitted to the ground. If there are few points or the plane is
    steep, the camera is assumed to be level.
    """
    rows, columns = np.nonzero(ground > 0)
    some = slice(None, None, max(1, rows.size // 500))
    z = ground[rows[some], columns[some]].astype(np.float64)
    if z.size < 30:
        return np.eye(3)
    x, y = (columns[some] - camera.cx) / camera.fx, (rows[some] - camera.cy) / camera.fy
    # On a plane, normal * (x, y, 1) * z is the same everywhere.
    down = np.linalg.lstsq(np.stack([x, y, np.ones_like(z)], 1), 1 / z, rcond=None)[0]
    down /= np.linalg.norm(down)
    if down[1] < 0.9:
        return np.eye(3)
    forward = np.array([0, 0, 1.0]) - down[2] * down
    forward /= np.linalg.norm(forward)
    return np.stack([np.cross(down, forward), down, forward])


def of_split(folder: Path, endings: Collection[str], split: str) -> list[Path]:
    """List the files of a split; `val` and `test` have a tenth of the files each."""
    # Sort by a hash of the name, since neighbouring files are often similar.
    all_files = visible_files(folder) if folder.is_dir() else []
    found = [file for file in all_files if file.suffix.lower() in endings]
    files = sorted(found, key=lambda file: hashlib.sha256(os.fsencode(file.name)).digest())
    patterns = ", ".join(f"*{ending}" for ending in sorted(endings))
    if len(files) < 3:
        raise TrainingError(
            f"{folder} has {len(files)} files {patterns}, expected at least 3:"
            " train, val and test need different files"
        )
    unique_stems(files)
    report_left_out(folder, set(all_files) - set(files), f"not {patterns}")
    tenth = max(1, len(files) // 10)
    return {"val": files[:tenth], "test": files[tenth : 2 * tenth], "train": files[2 * tenth :]}[
        split
    ]


def _read_depth(file: Path, shape: Sequence[int]) -> NDArray[np.float32]:
    """Read a 16-bit image of millimetres as metres (H, W), NaN for unknown."""
    depth = read_uint16(file)
    if depth.shape != tuple(shape):
        raise TrainingError(
            f"{file} is {depth.shape}, expected the size of its image, {tuple(shape)}"
        )
    return np.where(depth == 0, np.nan, depth / 1000).astype(np.float32)
