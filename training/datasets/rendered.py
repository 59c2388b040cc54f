"""Rendered streets with exact labels and depth, kept on disk, since setting a street up takes time.

A rendered set is a folder of `SEED-MOMENT.npz`, named after the renderer's own source, so that a
changed renderer never mixes with what an older one left.
"""

from __future__ import annotations

import hashlib
import multiprocessing
import os
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.progress import track
from torch.utils.data import Dataset

import depthseg_ros.street
from depthseg_ros.street import Street

from . import Sample

SOURCE = "rendered streets"
TERMS = "rendered streets are free to use"
CACHE = Path("runs/streets")

# Seeds of the three purposes never meet. The demo's and the tests' streets lie below the first.
FIRST_SEED = {"train": 1_000_000, "val": 2_000_000, "test": 3_000_000}
MOMENTS_APART = 60
"""Frames between two pictures of one street: two seconds, so that they differ."""


class RenderedStreets(Dataset[Sample]):
    """Some pictures of each of `streets` streets; rendered by `render` at first need."""

    def __init__(
        self,
        split: str,
        streets: int,
        moments: int = 1,
        size: tuple[int, int] = (480, 360),
        cache: Path = CACHE,
    ) -> None:
        """Choose a set.

        Args:
            split: `train`, `val` or `test`.
            streets: How many streets.
            moments: Pictures of each.
            size: Width and height in pixels.
            cache: Folder of rendered sets.
        """
        self.size = size
        self.folder = cache / f"{_renderer()}-{size[0]}x{size[1]}"
        first = FIRST_SEED[split]
        self.files = [
            self.folder / f"{seed}-{moment * MOMENTS_APART}.npz"
            for seed in range(first, first + streets)
            for moment in range(moments)
        ]

    def render(self) -> None:
        """Render what is not there yet, on all cores, with a progress bar."""
        wanted: dict[int, list[Path]] = {}
        for file in self.files:
            if not file.exists():
                wanted.setdefault(int(file.stem.split("-")[0]), []).append(file)
        if not wanted:
            return
        self.folder.mkdir(parents=True, exist_ok=True)
        context = multiprocessing.get_context("spawn")  # a fork of a process with threads may hang
        with ProcessPoolExecutor(os.cpu_count(), context) as pool:
            done = pool.map(_render, wanted, wanted.values(), [self.size] * len(wanted))
            console = Console(stderr=True)
            for _ in track(done, "render streets", len(wanted), console=console):
                pass

    def __len__(self) -> int:
        """Number of pictures."""
        return len(self.files)

    def __getitem__(self, index: int) -> Sample:
        """Read one; rendered now if `render` has not been called."""
        file = self.files[index]
        if not file.exists():
            self.folder.mkdir(parents=True, exist_ok=True)
            _render(int(file.stem.split("-")[0]), [file], self.size)
        with np.load(file) as arrays:
            return Sample(
                arrays["image"],
                arrays["labels"],
                arrays["depth"].astype(np.float32),
                float(arrays["fx"]),
            )


def _render(seed: int, files: list[Path], size: tuple[int, int]) -> None:
    street = Street(seed, *size)
    for file in files:
        frame = street.frame(int(file.stem.split("-")[1]))
        unfinished = file.with_name(f".{os.getpid()}-{file.name}")
        np.savez(
            unfinished,
            image=frame.image,
            labels=frame.labels,
            # Half precision is exact to 0.05 %, finer than anything that is measured.
            depth=frame.depth.astype(np.float16),
            fx=street.intrinsics.fx,
        )
        unfinished.replace(file)


def _renderer() -> str:
    """Eight digits that change whenever the renderer's source does."""
    digest = hashlib.sha256()
    for source in sorted(Path(depthseg_ros.street.__file__).parent.glob("*.py")):
        digest.update(source.read_bytes())
    return digest.hexdigest()[:8]
