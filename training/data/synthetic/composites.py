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

"""Composites: figures put into pictures, for systems that compare a scene with its background.

A figure is set up in space where the picture shows ground, and drawn by the street's renderer: its
size, its depth and what hides it follow from the place. Either source, pictures or figures, may be
a folder of one's own; otherwise they are rendered streets and the people and cars of streets.
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
from ..images import AnyEnding, read_rgb, read_uint16, read_unchanged, unique_stems
from ..sample import Sample
from .rendered import CACHE, FIRST_SEED, RenderedStreets

SOURCE = "composites of figures and pictures"
TERMS = "composites of rendered streets are free to use, others under the terms of their pictures"
CLASSES = "mask"

FARTHEST = 80.0
"""Metres at which rendered streets end: what is farther, and the sky, has this depth."""
_KEPT = 256
"""Pictures, and figures, that are kept in memory."""
_TRIES = 5
"""Places that are looked at for a figure until enough of it is seen."""
_STREET_SIZE = (480, 360)
_GROUND = [CLASS_NAMES.index(name) for name in ("road", "pavement")]


class Backdrop(NamedTuple):
    """A picture that figures can be put into.

    Attributes:
        image: (H, W, 3) uint8 RGB.
        depth: (H, W) float32 metres, NaN where unknown; None if it is unknown everywhere.
        ground: (H, W) float32, metres to the ground where a figure may stand, NaN elsewhere.
        camera: of the picture.
        level: (3, 3) rotation from the camera's axes to those of which y is straight down.
    """

    image: NDArray[np.uint8]
    depth: NDArray[np.float32] | None
    ground: NDArray[np.float32]
    camera: Intrinsics
    level: NDArray[np.float64]


class Figure(NamedTuple):
    """Something to put into a picture, standing on y = 0 around x = z = 0.

    Attributes:
        batch: what is drawn.
        width: metres, of its longest side.
        height: metres.
        turns: It has depth and may stand in any direction; else it is flat and faces the camera.
        scales: Least and greatest enlargement.
    """

    batch: Batch
    width: float
    height: float
    turns: bool = False
    scales: tuple[float, float] = (0.95, 1.05)


class Composite(NamedTuple):
    """What a sample is made of, before cameras take pictures of it.

    Attributes:
        background: (H, W, 3) uint8 RGB.
        scene: The same with figures.
        mask: (H, W) bool, the figures.
        depth: (H, W) float32 metres, of the scene; None where the background's is unknown.
        background_depth: The background's.
    """

    background: NDArray[np.uint8]
    scene: NDArray[np.uint8]
    mask: NDArray[np.bool_]
    depth: NDArray[np.float32] | None
    background_depth: NDArray[np.float32] | None


class Composites(Dataset[Sample]):
    """Pairs of a background and a scene, with the figures' mask and normalised depth.

    Everything follows from split, seed and index. Depth is each picture's own share of its
    greatest, 0 to 1. The splits share neither pictures nor figures.
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
        """Choose a set.

        Args:
            split: `train`, `val` or `test`.
            count: How many samples.
            size: Their width and height in pixels.
            backgrounds: Folder of pictures (`FolderBackdrops`); None for rendered streets.
            foregrounds: Folder of cut-outs (`FolderFigures`); None for drawn ones.
            streets: How many streets, without `backgrounds`.
            figures: How many figures, without `foregrounds`.
            cache: Folder of rendered streets; None keeps them in memory only.
            seed: Another one makes other samples of the same pictures and figures.

        Raises:
            TrainingError: For an unknown split, no samples, or folders that lack what is needed.
        """
        if split not in FIRST_SEED:
            raise TrainingError(f"split is {split!r}, expected one of {', '.join(FIRST_SEED)}")
        if min(count, streets, figures, *size) < 1:
            raise TrainingError(
                f"count is {count}, streets {streets}, figures {figures}, size {size},"
                " expected at least 1 of each"
            )
        size = (size[0], size[1])  # a list, where it comes from a configuration
        self.split, self.count, self.size, self.seed = split, count, size, seed
        self.backdrops = (
            StreetBackdrops(split, streets, size, cache)
            if backgrounds is None
            else FolderBackdrops(split, Path(backgrounds), size)
        )
        self.figures = (
            DrawnFigures(split, figures)
            if foregrounds is None
            else FolderFigures(split, Path(foregrounds))
        )
        self._kept: dict[str, dict[int, Any]] = {"backdrops": {}, "figures": {}}

    def render(self) -> None:
        """Render the streets that are needed and not there yet, with a progress bar."""
        if isinstance(self.backdrops, StreetBackdrops):
            self.backdrops.streets.render()

    def __len__(self) -> int:
        """Number of samples."""
        return self.count

    def __getitem__(self, index: int) -> Sample:
        """Make one: both pictures taken by a camera, each with its own exposure and noise."""
        rng = self._rng(index)
        composite = self._composed(rng)
        blur = rng.uniform(0, 0.7)
        depth = composite.depth
        return Sample(
            photographed(composite.scene, blur, rng),
            composite.mask.astype(np.uint8),
            None if depth is None else depth / np.nanmax(depth, initial=0),
            views={"background": photographed(composite.background, blur, rng)},
        )

    def composed(self, index: int) -> Composite:
        """What a sample is made of."""
        return self._composed(self._rng(index))

    def _rng(self, index: int) -> Generator:
        return np.random.default_rng([FIRST_SEED[self.split], self.seed, range(self.count)[index]])

    def _composed(self, rng: Generator) -> Composite:
        backdrop = window(self._one_of("backdrops", rng), self.size, rng)
        image = backdrop.image.copy()
        inverse = np.zeros(image.shape[:2], np.float32)
        if backdrop.depth is not None:
            inverse = np.nan_to_num(1 / backdrop.depth)
        mask = np.zeros(image.shape[:2], np.bool_)
        for _ in range(rng.choice([1, 2, 3], p=[0.6, 0.3, 0.1])):
            figure = self._one_of("figures", rng)
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

    def _one_of(self, source: str, rng: Generator) -> Any:
        """A backdrop or a figure by chance; the first ones that are asked for are kept."""
        items, kept = getattr(self, source), self._kept[source]
        index = int(rng.integers(len(items)))
        if index in kept:
            return kept[index]
        item = items[index]
        if len(kept) < _KEPT:
            kept[index] = item
        return item


def _with_figure(
    backdrop: Backdrop,
    figure: Figure,
    image: NDArray[np.uint8],
    inverse_depth: NDArray[np.float32],
    rng: Generator,
) -> Canvas:
    """A canvas with a figure where it fits, its labels greater than 0 where it is seen."""
    k = backdrop.camera
    scale = rng.uniform(*figure.scales)
    width, height = figure.width * scale, figure.height * scale
    # Near enough to be seen, and far enough to be seen whole.
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
        scale *= z / (2.5 * nearest)  # a picture of another scale: two fifths of it
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
    """Factors (N, 3) on the patches' colours: as bright as the picture, from a side by chance."""
    bright = np.clip(image[::8, ::8].mean() / 110, 0.3, 1.6) ** 0.7 * rng.uniform(0.85, 1.15)
    outward = np.cross(batch.geometry[:, 2], batch.geometry[:, 1])
    outward /= np.linalg.norm(outward, axis=1, keepdims=True)
    sun = np.array([rng.uniform(-0.6, 0.6), -0.7, -0.4])
    faced = np.where(batch.two_sided, 0.4, outward @ sun)
    return np.repeat(bright * (0.8 + 0.3 * faced)[:, None], 3, 1)


def window(backdrop: Backdrop, size: tuple[int, int], rng: Generator) -> Backdrop:
    """A window of a picture, shrunk to `size` (width, height), mirrored every other time."""
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

    def take(array: NDArray[Any], how: int) -> NDArray[Any]:
        return cv2.warpAffine(array, to_window, size, flags=how, borderMode=cv2.BORDER_REPLICATE)

    # Bilinear sampling skips pixels when it shrinks by much: smooth first.
    image = backdrop.image
    if zoom < 0.8:
        image = np.asarray(cv2.GaussianBlur(image, (0, 0), 0.4 / zoom), np.uint8)
    return Backdrop(
        take(image, cv2.INTER_LINEAR),
        None if backdrop.depth is None else take(backdrop.depth, cv2.INTER_NEAREST),
        take(backdrop.ground, cv2.INTER_NEAREST),
        Intrinsics(*size, k.fx * zoom, k.fy * zoom, float(cx), float(cy)),
        level,
    )


def photographed(image: NDArray[np.uint8], blur: float, rng: Generator) -> NDArray[np.uint8]:
    """What a camera makes of (H, W, 3): `blur` in pixels; exposure, tint and noise by chance."""
    if blur > 0.3:
        image = np.asarray(cv2.GaussianBlur(image, (0, 0), blur), np.uint8)
    gain = math.exp(rng.normal(0, 0.04)) * (1 + rng.normal(0, 0.01, 3))
    noise = rng.standard_normal(image.shape, np.float32) * rng.uniform(1, 4)
    exposed = image * gain.astype(np.float32) + noise
    return np.rint(exposed).clip(0, 255).astype(np.uint8)


class StreetBackdrops:
    """Rendered streets, of which road and pavement are ground."""

    def __init__(self, split: str, streets: int, size: tuple[int, int], cache: Path | None) -> None:
        """Choose streets; rendered large enough for `size` (width, height)."""
        scale = max(1.0, *(n / m for n, m in zip(size, _STREET_SIZE, strict=True)))
        width, height = (math.ceil(scale * n) for n in _STREET_SIZE)
        self.streets = RenderedStreets(split, streets, size=(width, height), cache=cache)

    def __len__(self) -> int:
        """Number of pictures."""
        return len(self.streets)

    def __getitem__(self, index: int) -> Backdrop:
        """One picture."""
        sample = self.streets[index]
        assert sample.labels is not None and sample.depth is not None and sample.fx is not None
        depth = np.fmin(sample.depth, np.float32(FARTHEST))
        on_ground = np.isin(sample.labels, _GROUND)
        ground = np.where(on_ground, depth, np.float32(np.nan))
        camera = _camera(sample.image, sample.fx)
        return Backdrop(sample.image, depth, ground, camera, level_of(ground, camera))


class FolderBackdrops:
    """Pictures of a folder, taken by a level camera whose focal length is a picture's width.

    `NAME.jpg` or another image, and for all of them or none `depth/NAME.png`: 16 bit, millimetres,
    0 where unknown. With depth, figures may stand in the lower half, at the depth which is there.
    Without, samples have no depth either, and figures stand on a plane 1.5 m below the camera.
    """

    def __init__(self, split: str, folder: Path, size: tuple[int, int]) -> None:
        """List a split; raises `TrainingError` where pictures or depths are missing."""
        self.size = size
        self.files = of_split(folder, IMAGES, split)
        self.depths: list[Path] = []
        if (folder / "depth").is_dir():
            find = AnyEnding()
            self.depths = [find(folder / "depth" / f"{f.stem}.png", True) for f in self.files]
        missing = [str(file) for file in self.depths if not file.is_file()]
        if missing:
            raise TrainingError(
                f"{len(missing)} depth files are missing, the first is {missing[0]}"
            )

    def __len__(self) -> int:
        """Number of pictures."""
        return len(self.files)

    def __getitem__(self, index: int) -> Backdrop:
        """Read one, shrunk to twice the wanted size if it is larger."""
        file = self.files[index]
        rgb = read_rgb(file)
        height, width = rgb.shape[:2]
        if width < self.size[0] or height < self.size[1]:
            raise TrainingError(
                f"{file} is {width}x{height}, smaller than the wanted"
                f" {self.size[0]}x{self.size[1]} pixels"
            )
        depth = _read_depth(self.depths[index], rgb.shape[:2]) if self.depths else None
        shrunk = 2 * max(self.size[0] / width, self.size[1] / height)
        if shrunk < 1:
            small = (math.ceil(shrunk * width), math.ceil(shrunk * height))
            rgb = np.asarray(cv2.resize(rgb, small, interpolation=cv2.INTER_AREA), np.uint8)
            if depth is not None:
                depth = np.asarray(
                    cv2.resize(depth, small, interpolation=cv2.INTER_NEAREST), np.float32
                )
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


class DrawnFigures:
    """People on foot, on bicycles and cars, as the rendered streets have them."""

    def __init__(self, split: str, count: int) -> None:
        """Choose so many."""
        self.seeds = range(FIRST_SEED[split], FIRST_SEED[split] + count)

    def __len__(self) -> int:
        """Number of figures."""
        return len(self.seeds)

    def __getitem__(self, index: int) -> Figure:
        """Draw one."""
        rng = np.random.default_rng([self.seeds[index], 40])  # streets use lower streams
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
    """Cut-outs of a folder, `NAME.png` or `.webp` with alpha, as boards 0.8 to 2.2 m high."""

    def __init__(self, split: str, folder: Path) -> None:
        """List a split; raises `TrainingError` where there are none."""
        self.files = of_split(folder, (".png", ".webp"), split)

    def __len__(self) -> int:
        """Number of cut-outs."""
        return len(self.files)

    def __getitem__(self, index: int) -> Figure:
        """Read one, cropped to what is opaque (an alpha of at least half)."""
        file = self.files[index]
        picture = read_unchanged(file, "a cut-out with transparency")
        if picture.ndim != 3 or picture.shape[2] != 4 or picture.dtype != np.uint8:
            raise TrainingError(
                f"{file} has shape {picture.shape} and type {picture.dtype},"
                " expected a cut-out with transparency: 8-bit RGBA"
            )
        solid = (picture[..., 3] > 127).astype(np.uint8)
        x, y, width, height = cv2.boundingRect(solid)
        if not width:
            raise TrainingError(f"{file} is transparent everywhere, expected a cut-out")
        here = slice(y, y + height), slice(x, x + width)
        rgb = np.asarray(cv2.cvtColor(picture[here], cv2.COLOR_BGRA2RGB), np.uint8)
        labels = np.where(solid[here], 1, HOLE).astype(np.uint8)
        shrunk = 512 / max(width, height)
        if shrunk < 1:
            small = (math.ceil(shrunk * width), math.ceil(shrunk * height))
            rgb = np.asarray(cv2.resize(rgb, small, interpolation=cv2.INTER_AREA), np.uint8)
            labels = np.asarray(
                cv2.resize(labels, small, interpolation=cv2.INTER_NEAREST), np.uint8
            )
        board = _board(Texture(rgb, labels), 1.5 * width / height, 1.5)
        return board._replace(scales=(0.8 / 1.5, 2.2 / 1.5))


def _board(texture: Texture, width: float, height: float) -> Figure:
    """A flat figure, seen from both sides, that of the back mirrored."""
    corner = (-width / 2, -height, 0)
    sheet = Patch(corner, (width, 0, 0), (0, height, 0), texture, two_sided=True)
    return Figure(Batch([sheet]), width, height)


def _camera(image: NDArray[np.uint8], fx: float) -> Intrinsics:
    height, width = image.shape[:2]
    return Intrinsics(width, height, fx, fx, (width - 1) / 2, (height - 1) / 2)


def level_of(ground: NDArray[np.float32], camera: Intrinsics) -> NDArray[np.float64]:
    """Rotation (3, 3) from the camera's axes to those of which y is straight down.

    Down is the normal of the plane through the ground's points; where these are few or the plane
    is steep, the camera is taken to be level.
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
    """The files of a folder that belong to a split: a tenth each for `val` and `test`, by name."""
    # In the order of a hash: neighbours in a folder are often alike, and fall anywhere so.
    there = visible_files(folder) if folder.is_dir() else []
    found = [file for file in there if file.suffix.lower() in endings]
    files = sorted(found, key=lambda file: hashlib.sha256(os.fsencode(file.name)).digest())
    if len(files) < 3:
        looked_for = ", ".join(f"*{ending}" for ending in sorted(endings))
        raise TrainingError(
            f"{folder} has {len(files)} of {looked_for}, expected 3 at least:"
            " train, val and test share none"
        )
    unique_stems(files)
    report_left_out(folder, set(there) - set(files), "not what is looked for")
    tenth = max(1, len(files) // 10)
    return {"val": files[:tenth], "test": files[tenth : 2 * tenth], "train": files[2 * tenth :]}[
        split
    ]


def _read_depth(file: Path, shape: Sequence[int]) -> NDArray[np.float32]:
    """Metres (H, W), NaN where unknown, of a 16-bit picture of millimetres."""
    depth = read_uint16(file)
    if depth.shape != tuple(shape):
        raise TrainingError(
            f"{file} is {depth.shape}, expected millimetres of its picture's size {tuple(shape)}"
        )
    return np.where(depth == 0, np.nan, depth / 1000).astype(np.float32)
