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

"""Render streets with exact labels and depth, and cache them on disk.

The cache has a folder of `SEED-FRAME.npz` for each version of the renderer's source code, so that
results of different renderers are never mixed. Other views (the right camera, video neighbours)
are in separate folders.
"""

from __future__ import annotations

import gc
import hashlib
import math
import multiprocessing
import os
from concurrent.futures import ProcessPoolExecutor
from functools import cache as cached
from functools import lru_cache
from itertools import repeat
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.progress import track
from torch.utils.data import Dataset

import depthseg_ros.street
from depthseg_ros.files import whole
from depthseg_ros.street import Camera, Street, StreetFrame

from ...errors import TrainingError
from ..sample import Sample

SOURCE = "rendered streets"
TERMS = "rendered streets are free to use"
CLASSES = "camvid"
CACHE = Path("runs/streets")

# The seeds of the splits never overlap. The demo and the tests use lower seeds.
FIRST_SEED = {"train": 1_000_000, "val": 2_000_000, "test": 3_000_000}
MOMENTS_APART = 60
"""Frames between two samples of one street: 2 s, so that they differ."""
BASELINE = 0.54
"""Metres from the left to the right camera, as in KITTI."""


class Shot(NamedTuple):
    """Content of one file: a sample of a street, or another view of this sample."""

    seed: int
    frame: int
    later: int = 0
    """Time offset of the view, in frames."""
    aside: float = 0.0
    """Lateral offset of the view to the right, in metres."""

    @property
    def is_view(self) -> bool:
        """Whether this is another view, stored with image and pose only."""
        return bool(self.later or self.aside)


ASPECTS = (4 / 3, 16 / 9, 2.0, 3.3, 3 / 4)
"""Aspect ratios with `mountings`: common cameras, KITTI, portrait."""


class RenderedStreets(Dataset[Sample]):
    """A number of images of each of `streets` streets."""

    def __init__(
        self,
        split: str,
        streets: int,
        moments: int = 1,
        size: tuple[int, int] = (480, 360),
        cache: Path | None = CACHE,
        stereo: bool = False,
        video: int = 0,
        mountings: bool = False,
    ) -> None:
        """Define the samples. `render` renders them; otherwise each is rendered when it is read.

        Args:
            split: `train`, `val` or `test`.
            streets: Number of streets.
            moments: Images per street.
            size: Width and height in pixels.
            cache: Folder of rendered images; None: render each time and store nothing.
            stereo: Add the view `right`, `BASELINE` metres to the right.
            video: Add the views `previous` and `next`, this number of frames apart; 0: no views.
                A view is missing if the drive starts again between the frames.
            mountings: Use a random camera for each street, see `random_camera`, instead of one at
                the height of a car's windscreen. `size` then only defines the number of pixels.

        Raises:
            TrainingError: the split is unknown, or a number is out of range.
        """
        if split not in FIRST_SEED:
            raise TrainingError(f"split is {split!r}, expected one of {', '.join(FIRST_SEED)}")
        if streets < 1 or moments < 1:
            raise TrainingError(f"streets is {streets}, moments {moments}, expected at least 1")
        if not 0 <= video <= MOMENTS_APART:
            raise TrainingError(f"video is {video} frames, expected 0 (none) to {MOMENTS_APART}")
        self.size = (size[0], size[1])  # from a configuration, it is a list
        self.task = f"render streets for {split}"
        self.cache = None if cache is None else Path(cache)
        self.stereo = stereo
        self.mountings = mountings
        # The first frame of a street has no previous one, so start one step later with video.
        self.moments = [
            Shot(seed, (moment + bool(video)) * MOMENTS_APART)
            for seed in range(FIRST_SEED[split], FIRST_SEED[split] + streets)
            for moment in range(moments)
        ]
        self.shifts: dict[str, tuple[int, float]] = {}
        if stereo:
            self.shifts["right"] = (0, BASELINE)
        if video:
            self.shifts |= {"previous": (-video, 0.0), "next": (video, 0.0)}

    def render(self) -> None:
        """Render all images that are not cached, on all cores, with a progress bar."""
        if self.cache is None:
            return
        wanted: dict[int, dict[Path, Shot]] = {}
        for moment in self.moments:
            for shot in (moment, *self._views(moment).values()):
                file = self._file(self.cache, shot)
                if not file.exists():
                    wanted.setdefault(shot.seed, {})[file] = shot
        if not wanted:
            return
        context = multiprocessing.get_context("spawn")  # forking with threads can deadlock
        with ProcessPoolExecutor(os.cpu_count(), context) as pool:
            done = pool.map(_render, wanted.values(), repeat(self.size), repeat(self.mountings))
            console = Console(stderr=True)
            for _ in track(done, self.task, len(wanted), console=console):
                pass

    def __len__(self) -> int:
        """Number of images."""
        return len(self.moments)

    @property
    def aspects(self) -> list[float]:
        """Aspect ratio (width / height) of each image."""
        sizes = {seed: self.size for seed in {moment.seed for moment in self.moments}}
        if self.mountings:
            sizes = {seed: random_camera(seed, math.prod(self.size))[0] for seed in sizes}
        return [sizes[moment.seed][0] / sizes[moment.seed][1] for moment in self.moments]

    def __getitem__(self, index: int) -> Sample:
        """Read one sample; renders it if it is not cached."""
        moment = self.moments[index]
        own = self._arrays(moment)
        views = {}
        for name, shot in self._views(moment).items():
            view = self._arrays(shot)
            # The camera only drives forward. If the view is on the wrong side, the street has ended
            # and the drive has started again.
            if shot.later * view["pose"][2, 3] <= 0:
                views[name] = view["image"]
        return Sample(
            own["image"],
            own["labels"],
            own["depth"].astype(np.float32),
            float(own["fx"]),
            views,
            BASELINE if self.stereo else None,
        )

    def poses(self, index: int) -> dict[str, NDArray[np.float64]]:
        """Pose (4, 4) of this camera in the frame of each view, metres."""
        shots = self._views(self.moments[index])
        return {name: self._arrays(shot)["pose"] for name, shot in shots.items()}

    def _views(self, moment: Shot) -> dict[str, Shot]:
        return {name: Shot(*moment[:2], *shift) for name, shift in self.shifts.items()}

    def _file(self, cache: Path, shot: Shot) -> Path:
        folder = f"{_renderer()}-{self.size[0]}x{self.size[1]}"
        if self.mountings:
            folder += "-mountings"
        if shot.is_view:
            folder += f"{shot.later:+}frames{shot.aside:+}m"
        return cache / folder / f"{shot.seed}-{shot.frame}.npz"

    def _arrays(self, shot: Shot) -> dict[str, NDArray[Any]]:
        if self.cache is None:
            return _rendered(shot, self.size, self.mountings)
        file = self._file(self.cache, shot)
        if not file.exists():
            _render({file: shot}, self.size, self.mountings)
        with np.load(file) as arrays:
            return dict(arrays)


def random_camera(seed: int, pixels: int) -> tuple[tuple[int, int], Camera]:
    """Sample an image size with about `pixels` pixels and a camera, determined by the seed.

    The aspect ratio is one of `ASPECTS`. The field of view is 35 to 110 degrees, horizontally or,
    for portrait images, vertically. Half of the cameras are mounted as in a car: 1.2 to 1.9 m high
    and nearly level. The others are 0.2 to 3 m high, with a pitch from 25 degrees down to 5 up. All
    have a roll of up to 5 degrees.
    """
    rng = np.random.default_rng([seed, 20])
    aspect = float(rng.choice(ASPECTS, p=(0.3, 0.3, 0.15, 0.1, 0.15)))
    height = round(math.sqrt(pixels / aspect))
    fov = math.radians(rng.uniform(35, 110))
    if aspect < 1:
        fov = 2 * math.atan(aspect * math.tan(fov / 2))
    as_a_car = rng.random() < 0.5
    camera = Camera(
        fov=fov,
        height=rng.uniform(1.2, 1.9) if as_a_car else math.exp(rng.uniform(*np.log((0.2, 3)))),
        pitch=math.radians(rng.uniform(-4, 4) if as_a_car else rng.uniform(-25, 5)),
        roll=math.radians(float(np.clip(rng.normal(0, 2), -5, 5))),
    )
    return (round(height * aspect), height), camera


def _render(shots: dict[Path, Shot], size: tuple[int, int], mountings: bool) -> None:
    """Render each shot and write its file atomically."""
    for file, shot in shots.items():
        file.parent.mkdir(parents=True, exist_ok=True)
        with whole(file) as unfinished:
            np.savez(unfinished, **_rendered(shot, size, mountings))  # type: ignore[arg-type]  # none is called allow_pickle
    gc.collect()  # streets have reference cycles that hold much memory


def _rendered(shot: Shot, size: tuple[int, int], mountings: bool) -> dict[str, NDArray[Any]]:
    frame = _frame(shot.seed, size, mountings, shot.frame, 0.0)
    if shot.is_view:
        view = _frame(shot.seed, size, mountings, shot.frame + shot.later, shot.aside)
        return {"image": view.image.copy(), "pose": np.linalg.inv(view.pose) @ frame.pose}
    return {
        # Copies, since the frame is cached for the views that follow.
        "image": frame.image.copy(),
        "labels": frame.labels.copy(),
        # The relative error of half precision is 0.05 %, which is negligible.
        "depth": frame.depth.astype(np.float16),
        "fx": np.array(frame.intrinsics.fx),
    }


@lru_cache(2)
def _frame(
    seed: int, size: tuple[int, int], mountings: bool, index: int, aside: float
) -> StreetFrame:
    return _street(seed, size, mountings).frame(index, aside)


@lru_cache(1)
def _street(seed: int, size: tuple[int, int], mountings: bool) -> Street:
    if not mountings:
        return Street(seed, *size)
    size, camera = random_camera(seed, size[0] * size[1])
    return Street(seed, *size, camera)


@cached
def _renderer() -> str:
    """Return the first eight hex digits of a hash of the renderer's source code."""
    digest = hashlib.sha256()
    for source in sorted(Path(depthseg_ros.street.__file__).parent.glob("*.py")):
        digest.update(source.read_bytes())
    return digest.hexdigest()[:8]
