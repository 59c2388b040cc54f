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

"""From samples to batches: augmentation that keeps labels and depth true, and collation.

Metric depth is learned in one canonical camera: seen through a lens of another focal length, the
same picture means a depth in proportion to it (Yin et al. 2023, Metric3D). So every depth is
multiplied by canonical_fx / fx, and enlarging a picture, which lengthens fx, needs no other care.
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

cv2.setNumThreads(0)  # the loader's workers share the cores already


class TrainDataset(Dataset[dict[str, Tensor]]):
    """Random crops of a data set at the network's scale, as tensors of one size.

    Items: `image` (3, h, w) uint8; `labels` (h, w) uint8 with 255 where unknown; `depth` (h, w)
    float32 with NaN where unknown, canonical metres where the model's depth is metric; `fx`, `cx`
    and `cy` () float32 of the crop, pixels, NaN where unknown (a whole picture's principal point is
    taken to be its centre); each view that is wanted (3, h, w) uint8, black where the sample has
    none, with `has_VIEW` () bool and `motion_VIEW` (4, 4) float32, see `Sample.motions`, NaN where
    unknown; with `right`, `baseline` () float32 metres, positive.
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
            samples: What to take from.
            crop: Width and height of the result, where the draw has no other.
            card: Of the model to be trained.
            scale_range: Least and greatest enlargement against the network's scale; where the
                crop's shape is another than the image's, against what fills the crop.
            views: Other pictures that the network needs; `image` among them is no other.
            color_jitter_prob: Probability that a sample is recoloured, and degraded where it has
                no views.
            hflip_prob: Probability that a sample is mirrored. A stereo pair never is by chance: its
                other eye is brought to the right, since one picture does not tell where it is.
            sets: How many sets of classes labels may name, by ids from the number of classes on.
        """
        self.samples, self.crop, self.card, self.scale_range = samples, crop, card, scale_range
        self.sets = sets
        self.views = [v for v in views if v != "image"]
        self.color_jitter_prob, self.hflip_prob = color_jitter_prob, hflip_prob

    def __len__(self) -> int:
        """As many as the data set has."""
        return len(self.samples)

    def __getitem__(
        self, draw: tuple[int, int] | tuple[int, int, tuple[int, int]]
    ) -> dict[str, Tensor]:
        """Crop, zoom, mirror and recolour the sample of an index, by a seed: `augmented[3, 42]`.

        A third entry is the width and height of this crop.
        """
        index, seed = draw[:2]
        crop = draw[2] if len(draw) == 3 else self.crop
        rng = np.random.default_rng(seed)
        sample = self.samples[index]
        check(sample, self.card, self.sets)
        height, width = sample.image.shape[:2]
        # How much less of its height or width a crop of another shape takes of an image.
        fill = max(crop[0] / width, crop[1] / height) / math.sqrt(math.prod(crop) / width / height)
        network = math.sqrt(math.prod(self.card.network_size) / width / height)
        zoom = np.exp(rng.uniform(*np.log(self.scale_range))) * network * fill
        # Where there is geometry to learn, pixels stay square, at nearly the scale that is served:
        # else depth from rows is ambiguous. Labels alone gain by any scale.
        labels_alone = sample.depth is None and sample.fx is None and not sample.views
        zoom *= np.exp(rng.uniform(-0.2, 0.3)) if labels_alone else 1
        stretch = rng.uniform(-0.08, 0.08, 2) if labels_alone else np.zeros(2)
        zoom_x, zoom_y = zoom * np.exp(stretch)
        # The window may lie over the border by half of what is lacking where the picture is small.
        lack = np.array([crop[0] / zoom_x - width, crop[1] / zoom_y - height])
        left, top = np.where(lack > 0, -lack / 2, rng.uniform(0, np.abs(lack)))
        flip = self.hflip_prob > 0 and rng.random() < self.hflip_prob
        if "right" in self.views and sample.baseline is not None:
            flip = sample.baseline < 0
        window = np.array([[zoom_x, 0, -zoom_x * left], [0, zoom_y, -zoom_y * top]])
        if flip:
            window[0] = [-zoom_x, 0, crop[0] - 1 + zoom_x * left]
        changed = rng.random() < self.color_jitter_prob
        table, saturation = recoloring(rng, changed)
        # Views are compared by their brightness, pixel by pixel: they stay clean.
        harm = degradation(rng, crop) if changed and not self.views else None

        def take(array: np.ndarray, how: int, fill: float) -> np.ndarray:
            return cv2.warpAffine(array, window, crop, flags=how, borderValue=[fill] * 4)

        def picture(image: np.ndarray, fill: float = 127) -> Tensor:
            # Bilinear sampling skips pixels when it shrinks by much: smooth first.
            if zoom < 0.8:
                image = cv2.GaussianBlur(image, (0, 0), 0.4 / zoom)
            image = recolor(take(image, cv2.INTER_LINEAR, fill), table, saturation)
            if harm is not None:
                image = harm(image)
            return torch.from_numpy(image).permute(2, 0, 1)

        labels, depth = unknown(crop)
        if sample.labels is not None:
            labels = take(sample.labels, cv2.INTER_NEAREST, UNLABELLED)
        if sample.depth is not None:
            depth = take(sample.depth, cv2.INTER_NEAREST, np.nan)
        # What is likely right is learned as often: over many draws that is a weight, for any loss.
        doubt = doubts(rng, crop)
        if sample.labels_trust is not None:
            trusted = take(sample.labels_trust, cv2.INTER_NEAREST, 0) > doubt
            labels = np.where(trusted, labels, np.uint8(UNLABELLED))
        if sample.depth_trust is not None:
            trusted = take(sample.depth_trust, cv2.INTER_NEAREST, 0) > doubt
            depth = np.where(trusted, depth, np.float32(np.nan))
        fx = np.nan if sample.fx is None else sample.fx * zoom_x
        if self.card.needs_fx and self.card.canonical_fx is not None:
            depth = depth * np.float32(self.card.canonical_fx / fx)
        cx, cy = window @ ((width - 1) / 2, (height - 1) / 2, 1)
        item = {
            "image": picture(sample.image),
            "labels": torch.from_numpy(labels),
            "depth": torch.from_numpy(depth),
            **{
                k: torch.tensor(v, dtype=torch.float32)
                for k, v in zip(("fx", "cx", "cy"), (fx, cx, cy), strict=True)
            },
        }
        for view in self.views:
            other = sample.views.get(view)
            item[view] = torch.zeros_like(item["image"]) if other is None else picture(other)
            item[f"has_{view}"] = torch.tensor(other is not None)
            motion = sample.motions.get(view, np.full((4, 4), np.nan))
            if flip:  # seen in a mirror: x is turned about before and after
                motion = motion * np.outer([-1, 1, 1, 1], [-1, 1, 1, 1])
            item[f"motion_{view}"] = torch.from_numpy(motion.astype(np.float32))
        if "right" in self.views:
            baseline = np.nan if sample.baseline is None else abs(sample.baseline)
            item["baseline"] = torch.tensor(baseline, dtype=torch.float32)
        return item


class EvalDataset(Dataset[dict[str, Tensor]]):
    """Whole images at their own size, for evaluation, in the form that a model file takes.

    Items: `image` and each view that is wanted (H, W, 3) uint8, `labels` (H, W) uint8, `depth`
    (H, W) float32, `fx` ().
    """

    def __init__(
        self, samples: Samples, card: ModelCard, inputs: Sequence[str] = (), sets: int = 0
    ) -> None:
        """Wrap a data set; `inputs` are what the model takes, for `sets` see `TrainDataset`."""
        self.samples, self.card, self.sets = samples, card, sets
        self.views = [name for name in inputs if name not in ("image", "fx")]

    def __len__(self) -> int:
        """As many as the data set has."""
        return len(self.samples)

    def __getitem__(self, index: int) -> dict[str, Tensor]:
        """Take one sample; where the focal length is unknown, it is taken to be the width."""
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
    """Raise `TrainingError` where a sample's parts do not fit each other or the model."""
    size = sample.image.shape[:2]
    arrays = {"labels": sample.labels, "depth": sample.depth, **sample.views}
    for name, array in arrays.items():
        if array is not None and array.shape[:2] != size:
            raise TrainingError(
                f"a picture is {size}, its {name} {array.shape[:2]} (height, width)"
            )
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
    """Labels and depth of a sample that has neither; `size` is width and height."""
    width, height = size
    labels = np.full((height, width), UNLABELLED, np.uint8)
    return labels, np.full((height, width), np.nan, np.float32)


def doubts(rng: np.random.Generator, size: Sequence[int], cell: int = 16) -> np.ndarray:
    """Numbers of 0 to 254, (height, width), equally likely each, alike in cells of pixels.

    In cells, since losses of gradients need neighbours; `size` is width and height.
    """
    width, height = size
    cells = rng.integers(0, 255, (-(-height // cell), -(-width // cell)), np.uint8)
    return cells.repeat(cell, 0).repeat(cell, 1)[:height, :width]


def recoloring(rng: np.random.Generator, change: bool = True) -> tuple[np.ndarray, float]:
    """Another exposure, contrast, gamma and white balance, (256, 3) uint8, and a saturation."""
    level = np.arange(256) / 255
    if not change:
        return np.repeat(np.arange(256, dtype=np.uint8)[:, None], 3, 1), 1.0
    level = level ** np.exp(rng.uniform(-0.45, 0.45))
    level = (level - 0.5) * rng.uniform(0.65, 1.35) + 0.5
    balance = rng.uniform(0.65, 1.3) * rng.uniform(0.88, 1.12, 3)
    table = (level[:, None] * balance * 255).clip(0, 255).astype(np.uint8)
    return table, 0.0 if rng.random() < 0.08 else rng.uniform(0.4, 1.5)


def recolor(image: np.ndarray, table: np.ndarray, saturation: float) -> np.ndarray:
    """(H, W, 3) uint8 RGB through what `recoloring` gives; all views of a sample alike."""
    image = cv2.LUT(image, table[None])
    gray = cv2.cvtColor(cv2.cvtColor(image, cv2.COLOR_RGB2GRAY), cv2.COLOR_GRAY2RGB)
    return cv2.addWeighted(image, saturation, gray, 1 - saturation, 0)


def degradation(
    rng: np.random.Generator, size: Sequence[int]
) -> Callable[[np.ndarray], np.ndarray]:
    """What lenses, sensors and compression do to an image, by chance; `size` is width and height.

    Uneven light (shadow, glare, vignetting), blur, noise and JPEG, each of some images: without
    them a network tells rendered images from real ones by their smoothness. The function takes and
    gives (H, W, 3) uint8.
    """
    uneven, blurred, noisy, compressed = rng.random(4) < (0.3, 0.3, 0.4, 0.3)
    width, height = size
    light = np.exp(rng.normal(0, 0.25, (3, 4))).astype(np.float32)
    sigma, strength, quality = rng.uniform(0.4, 1.3), rng.uniform(2, 14), int(rng.integers(25, 90))
    seed = int(rng.integers(2**31))

    def harm(image: np.ndarray) -> np.ndarray:
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

    return harm
