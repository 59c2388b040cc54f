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

"""Augment samples consistently with their labels and depth, and convert them to tensors.

Metric depth is trained for one canonical camera (Yin et al. 2023, Metric3D): for the same image,
depth is proportional to the focal length. So depth is multiplied by canonical_fx / fx. Scaling an
image scales fx, which accounts for random scaling too.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import cv2
import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from depthseg_ros.model_card import UNLABELLED, ModelCard

from ..errors import TrainingError
from .sample import Sample, Samples

cv2.setNumThreads(0)  # the loader's workers already use all cores


class TrainDataset(Dataset[dict[str, Tensor]]):
    """Augmented random crops of a data set, as tensors of one size.

    Items:
        image: (3, h, w) uint8.
        labels: (h, w) uint8, 255 for unlabelled.
        depth: (h, w) float32, NaN for unknown; metres in the canonical camera for metric depth.
        fx, cx, cy: () float32, intrinsics of the crop in pixels, NaN for unknown. The principal
            point of the image is assumed to be its centre.
        VIEW: (3, h, w) uint8, for each of `views`; black if missing.
        has_VIEW: () bool.
        motion_VIEW: (4, 4) float32, see `Sample.motions`; NaN for unknown.
        baseline: () float32, metres, positive; only with the view `right`.
    """

    def __init__(
        self,
        samples: Samples,
        crop: tuple[int, int],
        card: ModelCard,
        scale_range: tuple[float, float],
        views: Sequence[str] = (),
        color_jitter_prob: float = 1.0,
        hflip_prob: float = 0.5,
        sets: int = 0,
    ) -> None:
        """Wrap a data set.

        Args:
            samples: The data set.
            crop: Default width and height of crops, pixels.
            card: Card of the model to be trained.
            scale_range: Least and greatest scale relative to the network's scale. If crop and image
                have different aspect ratios, relative to the scale at which the image fills a crop.
            views: Other images that the network needs; `image` is ignored.
            color_jitter_prob: Probability of colour jitter, and of degradation without `views`.
            hflip_prob: Probability of a horizontal flip. Stereo pairs are flipped only if the other
                camera is on the left, so that it is always on the right.
            sets: Number of class sets; their label ids follow those of the classes.
        """
        self.samples, self.crop, self.card, self.scale_range = samples, crop, card, scale_range
        self.sets = sets
        self.views = [v for v in views if v != "image"]
        self.color_jitter_prob, self.hflip_prob = color_jitter_prob, hflip_prob

    def __len__(self) -> int:
        """Number of samples."""
        return len(self.samples)

    def __getitem__(
        self, draw: tuple[int, int] | tuple[int, int, tuple[int, int]]
    ) -> dict[str, Tensor]:
        """Augment the sample (index, seed) or (index, seed, (width, height) of the crop)."""
        index, seed = draw[:2]
        crop = draw[2] if len(draw) == 3 else self.crop
        rng = np.random.default_rng(seed)
        sample = self.samples[index]
        check(sample, self.card, self.sets)
        height, width = sample.image.shape[:2]
        # Additional scale at which the image fills a crop with another aspect ratio.
        fill = max(crop[0] / width, crop[1] / height) / math.sqrt(math.prod(crop) / width / height)
        network = math.sqrt(math.prod(self.card.network_size) / width / height)
        zoom = np.exp(rng.uniform(*np.log(self.scale_range))) * network * fill
        # Samples with geometry keep square pixels, at about the scale of inference: otherwise depth
        # is ambiguous. Samples with labels only benefit from larger variation.
        labels_only = sample.depth is None and sample.fx is None and not sample.views
        zoom *= np.exp(rng.uniform(-0.2, 0.3)) if labels_only else 1
        stretch = rng.uniform(-0.08, 0.08, 2) if labels_only else np.zeros(2)
        zoom_x, zoom_y = zoom * np.exp(stretch)
        # A small image is centred in the crop and padded.
        lack = np.array([crop[0] / zoom_x - width, crop[1] / zoom_y - height])
        left, top = np.where(lack > 0, -lack / 2, rng.uniform(0, np.abs(lack)))
        flip = self.hflip_prob > 0 and rng.random() < self.hflip_prob
        if "right" in self.views and sample.baseline is not None:
            flip = sample.baseline < 0
        window = np.array([[zoom_x, 0, -zoom_x * left], [0, zoom_y, -zoom_y * top]])
        if flip:
            window[0] = [-zoom_x, 0, crop[0] - 1 + zoom_x * left]
        jitter = rng.random() < self.color_jitter_prob
        table, saturation = color_jitter(rng, jitter)
        # Not with views: objectives compare their brightness pixel by pixel.
        degrade = degradation(rng, crop) if jitter and not self.views else None

        def warp(array: np.ndarray, interpolation: int, fill: float) -> np.ndarray:
            return cv2.warpAffine(array, window, crop, flags=interpolation, borderValue=[fill] * 4)

        def image_tensor(image: np.ndarray) -> Tensor:
            # Bilinear sampling skips pixels at small scales: smooth first.
            if zoom < 0.8:
                image = cv2.GaussianBlur(image, (0, 0), 0.4 / zoom)
            image = apply_jitter(warp(image, cv2.INTER_LINEAR, 127), table, saturation)
            if degrade is not None:
                image = degrade(image)
            return torch.from_numpy(image).permute(2, 0, 1)

        labels, depth = unknown(crop)
        if sample.labels is not None:
            labels = warp(sample.labels, cv2.INTER_NEAREST, UNLABELLED)
        if sample.depth is not None:
            depth = warp(sample.depth, cv2.INTER_NEAREST, np.nan)
        # Each pixel is used with a probability equal to its confidence: a weight for any loss.
        threshold = random_thresholds(rng, crop)
        if sample.labels_confidence is not None:
            used = warp(sample.labels_confidence, cv2.INTER_NEAREST, 0) > threshold
            labels = np.where(used, labels, np.uint8(UNLABELLED))
        if sample.depth_confidence is not None:
            used = warp(sample.depth_confidence, cv2.INTER_NEAREST, 0) > threshold
            depth = np.where(used, depth, np.float32(np.nan))
        fx = np.nan if sample.fx is None else sample.fx * zoom_x
        if self.card.needs_fx and self.card.canonical_fx is not None:
            depth = depth * np.float32(self.card.canonical_fx / fx)
        cx, cy = window @ ((width - 1) / 2, (height - 1) / 2, 1)
        item = {
            "image": image_tensor(sample.image),
            "labels": torch.from_numpy(labels),
            "depth": torch.from_numpy(depth),
            **{
                k: torch.tensor(v, dtype=torch.float32)
                for k, v in zip(("fx", "cx", "cy"), (fx, cx, cy), strict=True)
            },
        }
        for view in self.views:
            other = sample.views.get(view)
            item[view] = torch.zeros_like(item["image"]) if other is None else image_tensor(other)
            item[f"has_{view}"] = torch.tensor(other is not None)
            motion = sample.motions.get(view, np.full((4, 4), np.nan))
            if flip:  # negate x before and after the motion
                motion = motion * np.outer([-1, 1, 1, 1], [-1, 1, 1, 1])
            item[f"motion_{view}"] = torch.from_numpy(motion.astype(np.float32))
        if "right" in self.views:
            baseline = np.nan if sample.baseline is None else abs(sample.baseline)
            item["baseline"] = torch.tensor(baseline, dtype=torch.float32)
        return item


class EvalDataset(Dataset[dict[str, Tensor]]):
    """Full-size images for evaluation, in the input format of model files.

    Items: `image` and the views of `inputs` (H, W, 3) uint8, `labels` (H, W) uint8, `depth` (H, W)
    float32, `fx` ().
    """

    def __init__(
        self, samples: Samples, card: ModelCard, inputs: Sequence[str] = (), sets: int = 0
    ) -> None:
        """Wrap a data set; `inputs` are those of the model, for `sets` see `TrainDataset`."""
        self.samples, self.card, self.sets = samples, card, sets
        self.views = [name for name in inputs if name not in ("image", "fx")]

    def __len__(self) -> int:
        """Number of samples."""
        return len(self.samples)

    def __getitem__(self, index: int) -> dict[str, Tensor]:
        """Load a sample. An unknown focal length is assumed to equal the image width."""
        sample = self.samples[index]
        check(sample, self.card, self.sets)
        height, width = sample.image.shape[:2]
        labels, depth = unknown((width, height))
        return {
            "image": torch.from_numpy(sample.image),
            "labels": torch.from_numpy(labels if sample.labels is None else sample.labels),
            "depth": torch.from_numpy(depth if sample.depth is None else sample.depth),
            "fx": torch.tensor(sample.fx or width, dtype=torch.float32),
            **{view: torch.from_numpy(sample.views[view]) for view in self.views},
        }


def check(sample: Sample, card: ModelCard, sets: int = 0) -> None:
    """Raise `TrainingError` if the parts of a sample do not match each other or the model."""
    size = sample.image.shape[:2]
    arrays = {"labels": sample.labels, "depth": sample.depth, **sample.views}
    for name, array in arrays.items():
        if array is not None and array.shape[:2] != size:
            raise TrainingError(f"an image is {size}, its {name} {array.shape[:2]} (height, width)")
    if sample.labels is not None and card.classes:
        known = sample.labels[sample.labels != UNLABELLED]
        if known.size and known.max() >= len(card.classes) + sets:
            raise TrainingError(
                f"a sample has label {known.max()}, expected 0..{len(card.classes) - 1} or"
                f" {UNLABELLED}: the model's class list is not the data's"
            )
    if sample.depth is not None and card.depth is not None:
        if sample.fx is None and card.needs_fx:
            raise TrainingError("a sample has depth but no focal length, which metric depth needs")
        if card.depth.kind == "normalised" and np.nanmax(sample.depth, initial=0) > 1:
            raise TrainingError(
                f"a sample has depth up to {np.nanmax(sample.depth):.1f}, the model's is 0 to 1"
            )
    if card.needs_background and "background" not in sample.views:
        raise TrainingError("a sample has no background, which the model needs")


def unknown(size: Sequence[int]) -> tuple[np.ndarray, np.ndarray]:
    """Create labels and depth with unknown values; `size` is width and height."""
    width, height = size
    labels = np.full((height, width), UNLABELLED, np.uint8)
    return labels, np.full((height, width), np.nan, np.float32)


def random_thresholds(rng: np.random.Generator, size: Sequence[int], cell: int = 16) -> np.ndarray:
    """Sample uniform numbers from 0 to 254, (height, width) uint8, constant in square cells.

    Cells keep neighbouring pixels together for gradient losses. `size` is width and height.
    """
    width, height = size
    cells = rng.integers(0, 255, (-(-height // cell), -(-width // cell)), np.uint8)
    return cells.repeat(cell, 0).repeat(cell, 1)[:height, :width]


def color_jitter(rng: np.random.Generator, change: bool = True) -> tuple[np.ndarray, float]:
    """Sample a colour table and a saturation factor.

    Returns:
        (256, 3) uint8: random exposure, contrast, gamma and white balance; and the factor. Without
        `change`, those that leave an image as it is.
    """
    level = np.arange(256) / 255
    if not change:
        return np.repeat(np.arange(256, dtype=np.uint8)[:, None], 3, 1), 1.0
    level = level ** np.exp(rng.uniform(-0.45, 0.45))
    level = (level - 0.5) * rng.uniform(0.65, 1.35) + 0.5
    balance = rng.uniform(0.65, 1.3) * rng.uniform(0.88, 1.12, 3)
    table = (level[:, None] * balance * 255).clip(0, 255).astype(np.uint8)
    return table, 0.0 if rng.random() < 0.08 else rng.uniform(0.4, 1.5)


def apply_jitter(image: np.ndarray, table: np.ndarray, saturation: float) -> np.ndarray:
    """Apply the output of `color_jitter` to an (H, W, 3) uint8 RGB image."""
    image = cv2.LUT(image, table[None])
    gray = cv2.cvtColor(cv2.cvtColor(image, cv2.COLOR_RGB2GRAY), cv2.COLOR_GRAY2RGB)
    return cv2.addWeighted(image, saturation, gray, 1 - saturation, 0)


def degradation(
    rng: np.random.Generator, size: Sequence[int]
) -> Callable[[np.ndarray], np.ndarray]:
    """Sample a degradation by lens, sensor and compression.

    A random selection of uneven light (shadow, glare, vignetting), blur, noise and JPEG artefacts.
    Without them, a network would distinguish rendered from real images by their smoothness.

    Args:
        rng: Random generator.
        size: Width and height of the images.

    Returns:
        A function from (H, W, 3) uint8 to the same.
    """
    uneven, blurred, noisy, compressed = rng.random(4) < (0.3, 0.3, 0.4, 0.3)
    width, height = size
    light = np.exp(rng.normal(0, 0.25, (3, 4))).astype(np.float32)
    sigma, strength, quality = rng.uniform(0.4, 1.3), rng.uniform(2, 14), int(rng.integers(25, 90))
    seed = int(rng.integers(2**31))

    def degrade(image: np.ndarray) -> np.ndarray:
        if uneven:
            field = cv2.resize(light, (width, height), interpolation=cv2.INTER_CUBIC)
            image = np.clip(image * field[..., None], 0, 255).astype(np.uint8)
        if blurred:
            image = cv2.GaussianBlur(image, (0, 0), sigma)
        if noisy:
            grain = np.random.default_rng(seed).standard_normal(image.shape, np.float32)
            image = np.clip(image + strength * grain, 0, 255).astype(np.uint8)
        if compressed:
            encoded = cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, quality])[1]
            image = np.asarray(cv2.imdecode(encoded, cv2.IMREAD_COLOR))
        return image

    return degrade
