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
from depthseg_ros.street import Street, StreetFrame

from ..errors import TrainingError
from . import Sample

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
        self.cache = None if cache is None else Path(cache)
        self.stereo = stereo
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
            done = pool.map(_render, wanted.values(), repeat(self.size))
            console = Console(stderr=True)
            for _ in track(done, "render streets", len(wanted), console=console):
                pass

    def __len__(self) -> int:
        """Number of pictures."""
        return len(self.moments)

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
        if shot.is_view:
            folder += f"{shot.later:+}frames{shot.aside:+}m"
        return cache / folder / f"{shot.seed}-{shot.frame}.npz"

    def _arrays(self, shot: Shot) -> dict[str, NDArray[Any]]:
        if self.cache is None:
            return _drawn(shot, self.size)
        file = self._file(self.cache, shot)
        if not file.exists():
            _render({file: shot}, self.size)
        with np.load(file) as arrays:
            return dict(arrays)


def _render(shots: dict[Path, Shot], size: tuple[int, int]) -> None:
    """Write each shot to its file, whole or not at all."""
    for file, shot in shots.items():
        file.parent.mkdir(parents=True, exist_ok=True)
        with whole(file) as unfinished:
            np.savez(unfinished, **_drawn(shot, size))  # type: ignore[arg-type]
    gc.collect()  # a street's parts refer to each other, and hold far more memory than gc can see


def _drawn(shot: Shot, size: tuple[int, int]) -> dict[str, NDArray[Any]]:
    frame = _frame(shot.seed, size, shot.frame, 0.0)
    if shot.is_view:
        view = _frame(shot.seed, size, shot.frame + shot.later, shot.aside)
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
def _frame(seed: int, size: tuple[int, int], index: int, aside: float) -> StreetFrame:
    return _street(seed, size).frame(index, aside)


@lru_cache(1)
def _street(seed: int, size: tuple[int, int]) -> Street:
    return Street(seed, *size)


@cached
def _renderer() -> str:
    """Eight digits that change whenever the renderer's source does."""
    digest = hashlib.sha256()
    for source in sorted(Path(depthseg_ros.street.__file__).parent.glob("*.py")):
        digest.update(source.read_bytes())
    return digest.hexdigest()[:8]
