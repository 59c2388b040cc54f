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

"""Rendered streets with exact labels and depth, kept on disk, since setting a street up takes time.

A rendered set is a folder of `SEED-FRAME.npz`, named after the renderer's own source, so that a
changed renderer never mixes with what an older one left. Other views of the same moments (a right
eye's, the video's neighbours) lie in folders of their own beside it.
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

# Seeds of the three purposes never meet. The demo's and the tests' streets lie below the first.
FIRST_SEED = {"train": 1_000_000, "val": 2_000_000, "test": 3_000_000}
MOMENTS_APART = 60
"""Frames between two pictures of one street: two seconds, so that they differ."""
BASELINE = 0.54
"""Metres from the left eye to the right one, as in KITTI."""


class Shot(NamedTuple):
    """What one file holds: a moment of a street, or another view of that moment."""

    seed: int
    frame: int
    later: int = 0
    """Frames from the moment to the view."""
    aside: float = 0.0
    """Metres from the camera to the view's, to its right."""

    @property
    def is_view(self) -> bool:
        """Another view, of which only the picture and the pose are kept."""
        return bool(self.later or self.aside)


ASPECTS = (4 / 3, 16 / 9, 2.0, 3.3, 3 / 4)
"""Width over height of the images that `mountings` brings: common cameras, KITTI's, portrait."""


class RenderedStreets(Dataset[Sample]):
    """Some pictures of each of `streets` streets; rendered by `render` at first need."""

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
        """Choose a set.

        Args:
            split: `train`, `val` or `test`.
            streets: How many streets.
            moments: Pictures of each.
            size: Width and height in pixels.
            cache: Folder of rendered sets; None renders anew each time and keeps nothing.
            stereo: With the view `right`, `BASELINE` metres beside.
            video: With the views `previous` and `next`, so many frames apart; 0 without. Where a
                street ends and the drive begins anew, the neighbour beyond is missing.
            mountings: Whether each street is seen by another camera, see `any_camera`, in place of
                one at the height of a car's windscreen; `size` then gives the number of pixels.

        Raises:
            TrainingError: For an unknown split or neighbours farther than the next moment.
        """
        if split not in FIRST_SEED:
            raise TrainingError(f"split is {split!r}, expected one of {', '.join(FIRST_SEED)}")
        if streets < 1 or moments < 1:
            raise TrainingError(f"streets is {streets}, moments {moments}, expected at least 1")
        if not 0 <= video <= MOMENTS_APART:
            raise TrainingError(f"video is {video} frames, expected 0 (none) to {MOMENTS_APART}")
        # A configuration gives lists and texts.
        self.size = (size[0], size[1])
        self.task = f"render streets for {split}"
        self.cache = None if cache is None else Path(cache)
        self.stereo = stereo
        self.mountings = mountings
        # Nothing is before a street's first frame: with neighbours, the first moment is the second.
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
        """Render what is not there yet, on all cores, with a progress bar; nothing if not kept."""
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
        context = multiprocessing.get_context("spawn")  # a fork of a process with threads may hang
        with ProcessPoolExecutor(os.cpu_count(), context) as pool:
            done = pool.map(_render, wanted.values(), repeat(self.size), repeat(self.mountings))
            console = Console(stderr=True)
            for _ in track(done, self.task, len(wanted), console=console):
                pass

    def __len__(self) -> int:
        """Number of pictures."""
        return len(self.moments)

    @property
    def aspects(self) -> list[float]:
        """Width over height of each picture."""
        sizes = {seed: self.size for seed in {moment.seed for moment in self.moments}}
        if self.mountings:
            sizes = {seed: any_camera(seed, math.prod(self.size))[0] for seed in sizes}
        return [sizes[moment.seed][0] / sizes[moment.seed][1] for moment in self.moments]

    def __getitem__(self, index: int) -> Sample:
        """Read one; rendered now if `render` has not been called."""
        moment = self.moments[index]
        own = self._arrays(moment)
        views = {}
        for name, shot in self._views(moment).items():
            view = self._arrays(shot)
            # The camera only drives forward: a neighbour on the wrong side is beyond the street's
            # end, where the drive has begun anew.
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
        """Of each view, (4, 4): takes points from this camera's axes into the view's, metres."""
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
            return _drawn(shot, self.size, self.mountings)
        file = self._file(self.cache, shot)
        if not file.exists():
            _render({file: shot}, self.size, self.mountings)
        with np.load(file) as arrays:
            return dict(arrays)


def any_camera(seed: int, pixels: int) -> tuple[tuple[int, int], Camera]:
    """A size of about so many pixels and a camera, which follow from the seed.

    Shapes are `ASPECTS`, fields of view 35 to 110 degrees (horizontally; of portrait images
    vertically). Half of the cameras stand as a car's do, 1.2 to 1.9 m high and nearly level; the
    others 0.2 to 3 m high, pitched up to 25 degrees down and 5 up. All roll by up to 5 degrees.
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
    """Write each shot to its file, whole or not at all."""
    for file, shot in shots.items():
        file.parent.mkdir(parents=True, exist_ok=True)
        with whole(file) as unfinished:
            np.savez(unfinished, **_drawn(shot, size, mountings))  # type: ignore[arg-type]  # none is called allow_pickle
    gc.collect()  # a street's parts refer to each other, and hold far more memory than gc can see


def _drawn(shot: Shot, size: tuple[int, int], mountings: bool) -> dict[str, NDArray[Any]]:
    frame = _frame(shot.seed, size, mountings, shot.frame, 0.0)
    if shot.is_view:
        view = _frame(shot.seed, size, mountings, shot.frame + shot.later, shot.aside)
        return {"image": view.image.copy(), "pose": np.linalg.inv(view.pose) @ frame.pose}
    return {
        # Copies, since a frame is kept for the views that follow.
        "image": frame.image.copy(),
        "labels": frame.labels.copy(),
        # Half precision is exact to 0.05 %, finer than anything that is measured.
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
    size, camera = any_camera(seed, size[0] * size[1])
    return Street(seed, *size, camera)


@cached
def _renderer() -> str:
    """Eight digits that change whenever the renderer's source does."""
    digest = hashlib.sha256()
    for source in sorted(Path(depthseg_ros.street.__file__).parent.glob("*.py")):
        digest.update(source.read_bytes())
    return digest.hexdigest()[:8]
