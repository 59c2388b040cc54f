"""From samples to batches: augmentation that keeps labels and depth true, and collation.

Metric depth is learned in one canonical camera: seen through a lens of another focal length, the
same picture means a depth in proportion to it (Yin et al. 2023, Metric3D). So every depth is
multiplied by canonical_fx / fx, and enlarging a picture, which lengthens fx, needs no other care.
"""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from depthseg_ros.model_card import UNLABELLED

from .datasets import Sample

cv2.setNumThreads(0)  # the loader's workers share the cores already


class Augmented(Dataset[dict[str, Tensor]]):
    """Random crops of a data set at the network's scale, as tensors of one size.

    Items: `image` (3, h, w) uint8, `labels` (h, w) uint8 with 255 where unknown, `depth` (h, w)
    float32 canonical metres with NaN where unknown.
    """

    def __init__(
        self,
        samples: Dataset[Sample],
        crop: tuple[int, int],
        network_width: int,
        canonical_fx: float,
        zoom: tuple[float, float],
    ) -> None:
        """Wrap a data set.

        Args:
            samples: What to take from.
            crop: Width and height of the result.
            network_width: Width that whole pictures have in the network.
            canonical_fx: Focal length of the canonical camera at that width, pixels.
            zoom: Least and greatest enlargement against the network's scale.
        """
        self.samples, self.crop = samples, crop
        self.network_width, self.canonical_fx, self.zoom = network_width, canonical_fx, zoom

    def __len__(self) -> int:
        """As many as the data set has."""
        return len(self.samples)  # type: ignore[arg-type]

    def __getitem__(self, index: int) -> dict[str, Tensor]:
        """Crop, zoom, mirror and recolour; torch seeds each worker, so runs repeat."""
        rng = np.random.default_rng(int(torch.randint(2**62, ())))
        sample = self.samples[index]
        height, width = sample.image.shape[:2]
        zoom = np.exp(rng.uniform(*np.log(self.zoom))) * self.network_width / width
        zoom_x, zoom_y = zoom * np.exp(rng.uniform(-0.08, 0.08, 2))
        # The window may lie over the border by half of what is lacking where the picture is small.
        lack = np.array([self.crop[0] / zoom_x - width, self.crop[1] / zoom_y - height])
        left, top = np.where(lack > 0, -lack / 2, rng.uniform(0, np.abs(lack)))
        flip = rng.random() < 0.5
        window = np.array([[zoom_x, 0, -zoom_x * left], [0, zoom_y, -zoom_y * top]])
        if flip:
            window[0] = [-zoom_x, 0, self.crop[0] - 1 + zoom_x * left]

        def take(array: np.ndarray, how: int, fill: float) -> np.ndarray:
            return cv2.warpAffine(array, window, self.crop, flags=how, borderValue=[fill] * 4)

        # Bilinear sampling skips pixels when it shrinks by much: smooth first.
        image = cv2.GaussianBlur(sample.image, (0, 0), 0.4 / zoom) if zoom < 0.8 else sample.image
        image = recolor(take(image, cv2.INTER_LINEAR, 127), rng)
        labels, depth = unknown(self.crop)
        if sample.labels is not None:
            labels = take(sample.labels, cv2.INTER_NEAREST, UNLABELLED)
        if sample.depth is not None:
            depth = take(sample.depth, cv2.INTER_NEAREST, np.nan)
            depth = depth * np.float32(self.canonical_fx / (sample.fx * zoom_x))
        return {
            "image": torch.from_numpy(image).permute(2, 0, 1),
            "labels": torch.from_numpy(labels),
            "depth": torch.from_numpy(depth),
        }


class Whole(Dataset[dict[str, Tensor]]):
    """Whole pictures at their own size, for evaluation, in the form that a model file takes.

    Items: `image` (H, W, 3) uint8, `labels` (H, W) uint8, `depth` (H, W) float32 metres, `fx` ().
    """

    def __init__(self, samples: Dataset[Sample]) -> None:
        """Wrap a data set."""
        self.samples = samples

    def __len__(self) -> int:
        """As many as the data set has."""
        return len(self.samples)  # type: ignore[arg-type]

    def __getitem__(self, index: int) -> dict[str, Tensor]:
        """Take one sample; where the focal length is unknown, it is taken to be the width."""
        sample = self.samples[index]
        height, width = sample.image.shape[:2]
        labels, depth = unknown((width, height))
        return {
            "image": torch.from_numpy(sample.image),
            "labels": torch.from_numpy(labels if sample.labels is None else sample.labels),
            "depth": torch.from_numpy(depth if sample.depth is None else sample.depth),
            "fx": torch.tensor(sample.fx or width, dtype=torch.float32),
        }


def unknown(size: Sequence[int]) -> tuple[np.ndarray, np.ndarray]:
    """Labels and depth of a sample that has neither; `size` is width and height."""
    width, height = size
    labels = np.full((height, width), UNLABELLED, np.uint8)
    return labels, np.full((height, width), np.nan, np.float32)


def recolor(image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Other exposure, contrast, gamma, white balance and saturation, (H, W, 3) uint8 RGB."""
    level = np.arange(256) / 255
    level = level ** rng.uniform(0.75, 1.3)
    level = (level - 0.5) * rng.uniform(0.75, 1.25) + 0.5
    balance = rng.uniform(0.7, 1.3) * rng.uniform(0.9, 1.1, 3)
    table = (level[:, None] * balance * 255).clip(0, 255).astype(np.uint8)
    image = cv2.LUT(image, table[None])
    gray = cv2.cvtColor(cv2.cvtColor(image, cv2.COLOR_RGB2GRAY), cv2.COLOR_GRAY2RGB)
    saturation = rng.uniform(0.5, 1.4)
    return cv2.addWeighted(image, saturation, gray, 1 - saturation, 0)
