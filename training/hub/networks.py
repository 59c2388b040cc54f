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

"""Networks of the hub with outputs in one format, for teachers and for `importing`.

A network takes `pixel_values`, (N, 3, h, w) float32, scaled and normalised as `input` of its SPEC
describes, and predicts labels or depth. Other steps of an image processor (padding, splitting into
crops) are in the network's `prepare`.

Shapes: H and W an image's size, h and w that of `pixel_values`, C classes.
"""

from __future__ import annotations

import math
from functools import cached_property
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from ..errors import TrainingError
from . import depth_anything_3
from .depth_anything_3 import DepthAnything3
from .loading import (
    Processor,
    checked_name,
    config_entries,
    image_processor,
    load,
    load_model,
    transformers,
)

DENSE = ("beit", "data2vec-vision", "dpt", "segformer", "upernet")
"""Model types for semantic segmentation whose output is logits."""
MASKS = ("eomt", "eomt_dinov3", "mask2former", "maskformer")
"""Model types with queries: each query has probabilities of the classes, and a mask."""
DEPTH = ("depth_anything", "depth_pro", "dpt", "glpn", "zoedepth")
"""Model types for depth, besides Depth Anything 3."""
DEPTH_KINDS = ("metric", "inverse", "up-to-scale")
"""Metres; inverse depth up to a factor and an offset; depth up to a factor."""

Size = tuple[int, int]
"""Height and width."""

_RESAMPLE = {0: "nearest", 2: "linear", 3: "cubic"}
"""Pillow's numbers of resampling filters -> names in a SPEC."""
_IMAGENET = {"image_mean": [0.485, 0.456, 0.406], "image_std": [0.229, 0.224, 0.225]}
_MASK2FORMER_SIZE = 384
"""Side that transformers resizes Mask2Former's masks to, for every image."""


class HubNetwork(nn.Module):
    """A network with the settings of its image processor."""

    outputs: tuple[str, ...]
    """Names of what `forward` returns."""
    antialias = True
    """Whether reducing an image averages all pixels."""
    rounds = True
    """Whether resized values are rounded to integers, as by Pillow."""

    def __init__(self, name: str, model: Any, processor: Processor) -> None:
        """Take a loaded model; `name` is for messages."""
        super().__init__()
        self.name, self.processor = name, processor
        self.model = model.float().eval().requires_grad_(False)
        self.config: Any = getattr(model, "config", None)
        self.family = str(getattr(self.config, "model_type", "depth_anything_3"))
        self._sizes: dict[Size, Size] = {}

    def forward(self, pixel_values: Tensor) -> tuple[Tensor, ...]:
        """Compute the outputs that `outputs` names for (N, 3, h, w)."""
        return self.finish(self.model(pixel_values=self.prepare(pixel_values)), pixel_values)

    def prepare(self, pixel_values: Tensor) -> Tensor:
        """Apply the remaining steps of the image processor."""
        return pixel_values

    def finish(self, outputs: Any, pixel_values: Tensor) -> tuple[Tensor, ...]:
        """Convert the model's outputs to the common format."""
        raise NotImplementedError

    @property
    def settings(self) -> dict[str, Any]:
        """The image processor's settings."""
        return self.processor.settings

    def on(self, key: str, default: bool = True) -> bool:
        """Whether an option of the image processor is on, such as `do_pad`."""
        value = self.settings.get(key)
        return default if value is None else bool(value)

    def input_size(self, height: int, width: int) -> Size:
        """Return the size of `pixel_values` for an image; raises `TrainingError`."""
        return self.processed_size(height, width)

    def processed_size(self, height: int, width: int) -> Size:
        """Return the size that the image processor resizes an image to; raises `TrainingError`."""
        if (height, width) not in self._sizes:
            rows, columns = self.processed(np.zeros((height, width, 3), np.uint8)).shape[2:]
            self._sizes[height, width] = (rows, columns)
        return self._sizes[height, width]

    def processed(self, image: NDArray[np.uint8]) -> Tensor:
        """Run the image processor on an image; raises `TrainingError`."""
        if self.processor.run is None:
            raise TrainingError(f"{self.name}: its image processor needs torchvision")
        try:
            values = self.processor.run(image, return_tensors="pt")["pixel_values"]
        except Exception as error:  # transformers, numpy and Pillow raise different ones
            reason = (str(error).splitlines() or [type(error).__name__])[0]
            raise TrainingError(f"{self.name}: its image processor fails: {reason}") from None
        # Processors that allow several sizes return a list.
        return torch.stack(list(values)) if isinstance(values, list | tuple) else values

    def input_entries(self) -> dict[str, Any]:
        """Translate the image processor to `input` of a SPEC, without a size.

        Raises:
            TrainingError: It cannot be translated.
        """
        number = self.settings.get("resample")
        number = 2 if number is None else int(number)
        if self.on("do_resize") and number not in _RESAMPLE:
            raise TrainingError(
                f"{self.name}: its image processor resizes by Pillow's filter {number}, expected"
                f" one of {_RESAMPLE}"
            )
        mode = _RESAMPLE.get(number, "linear")
        rescaled = self.on("do_rescale")
        scale = float(self.settings.get("rescale_factor") or 1 / 255) if rescaled else 1.0
        entries: dict[str, Any] = {
            "color": "bgr" if self.on("do_flip_channel_order", False) else "rgb",
            "resize": mode,
            "antialias": self.antialias and mode != "nearest",
            "round": self.rounds,
            "scale": scale,
        }
        return entries | self._normalisation()

    def _normalisation(self) -> dict[str, list[float]]:
        if not self.on("do_normalize") or self.settings.get("image_mean") is None:
            return {}
        three = {key: np.broadcast_to(self.settings[f"image_{key}"], 3) for key in ("mean", "std")}
        return {key: [float(x) for x in values] for key, values in three.items()}


class Labels(HubNetwork):
    """A network for semantic segmentation."""

    kind: str
    """Kind of labels in a SPEC."""

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the C classes."""
        names = self.config.id2label
        return tuple(str(names[i]) for i in sorted(names))


class DenseLabels(Labels):
    """A network whose output is logits, (N, C, h', w')."""

    outputs, kind = ("logits",), "logits"

    def finish(self, outputs: Any, pixel_values: Tensor) -> tuple[Tensor, ...]:
        """See `HubNetwork`."""
        return (outputs.logits.float(),)


class MaskLabels(Labels):
    """A network with queries; its output is scores, (N, C, h', w').

    A score is the sum over queries of class probability times mask probability.
    """

    outputs, kind = ("scores",), "probabilities"

    def finish(self, outputs: Any, pixel_values: Tensor) -> tuple[Tensor, ...]:
        """See `HubNetwork`."""
        masks = outputs.masks_queries_logits.float()
        size = self._mask_size()
        if size is not None:
            masks = F.interpolate(masks, size, mode="bilinear")
        classes = outputs.class_queries_logits.float().softmax(-1)[..., :-1]  # the last is none
        return (torch.einsum("nqc,nqhw->nchw", classes, masks.sigmoid()),)

    def _mask_size(self) -> Size | None:
        """The size that transformers resizes masks to; None: not resized."""
        square = (_MASK2FORMER_SIZE, _MASK2FORMER_SIZE)
        return square if self.family == "mask2former" else None


class SquareMaskLabels(MaskLabels):
    """EoMT, whose encoder takes only squares: an image is split into squares or padded to one."""

    def __init__(self, name: str, model: Any, processor: Processor) -> None:
        """See `HubNetwork`; raises `TrainingError` if the model's training has not ended."""
        super().__init__(name, model, processor)
        # After training all are 0. Python numbers, because a graph cannot branch on a tensor.
        masked = self.model.attn_mask_probs.tolist()
        if any(0 < share < 1 for share in masked):
            raise TrainingError(f"{name} masks attention at random: its training has not ended")
        del self.model.attn_mask_probs
        self.model.attn_mask_probs = masked

    @cached_property
    def side(self) -> int:
        """Pixels of the square's side."""
        return int(self.settings["size"]["shortest_edge"])

    def _mask_size(self) -> Size | None:
        return self.side, self.side

    def input_size(self, height: int, width: int) -> Size:
        """See `HubNetwork`."""
        from transformers.image_transforms import get_size_with_aspect_ratio

        longest = self.settings["size"].get("longest_edge")
        rows, columns = get_size_with_aspect_ratio((height, width), self.side, longest)
        return int(rows), int(columns)

    def _starts(self, height: int, width: int) -> list[int]:
        """Start of each square on the longer side, pixels."""
        long = max(height, width)
        count = math.ceil(long / self.side) if self.on("do_split_image", False) else 1
        overlap = (count * self.side - long) / (count - 1) if count > 1 else 0
        return [int(i * (self.side - overlap)) for i in range(count)]

    def prepare(self, pixel_values: Tensor) -> Tensor:
        """Split or pad; the crops of one image are consecutive in the batch."""
        height, width = pixel_values.shape[2:]
        if not self.on("do_split_image", False):
            rest = (0, self.side - width, 0, self.side - height)
            # The padding is black before normalisation.
            own = self._normalisation() or {"mean": [0.0] * 3, "std": [1.0] * 3}
            mean, std = (pixel_values.new_tensor(own[k]).view(1, 3, 1, 1) for k in ("mean", "std"))
            return F.pad(pixel_values + mean / std, rest) - mean / std
        axis = 2 if height > width else 3
        starts = self._starts(height, width)
        crops = [pixel_values.narrow(axis, start, self.side) for start in starts]
        return torch.stack(crops, 1).flatten(0, 1)

    def finish(self, outputs: Any, pixel_values: Tensor) -> tuple[Tensor, ...]:
        """Merge the crops, with the mean where they overlap, or remove the padding."""
        (scores,) = super().finish(outputs, pixel_values)
        height, width = pixel_values.shape[2:]
        if not self.on("do_split_image", False):
            return (scores[:, :, :height, :width],)
        axis, long = (2, height) if height > width else (3, width)
        starts = self._starts(height, width)
        total, count = torch.zeros(()), torch.zeros(long)
        for crop, start in zip(
            scores.unflatten(0, (-1, len(starts))).unbind(1), starts, strict=True
        ):
            sides = (start, long - start - self.side)
            total = total.to(crop) + F.pad(crop, (0, 0, *sides) if axis == 2 else sides)
            count[start : start + self.side] += 1
        count = count.view((1, 1, -1, 1) if axis == 2 else (1, 1, 1, -1)).to(scores)
        return (total / count,)


class Depth(HubNetwork):
    """A network for depth, (N, h', w')."""

    outputs: tuple[str, ...] = ("depth",)
    canonical_fx: float | None = None
    """Focal length for which depth is metric, pixels at the size of `pixel_values`; depth is
    multiplied by the camera's focal length / this. None: depth does not depend on it."""
    sky: float | None = None
    """If there is an output `sky`: pixels with a greater value have no depth."""
    inverse_metric = False
    """Whether the output is 1 / metres."""
    enlarged_by = "cubic"
    """How transformers resizes the output to the image."""

    def __init__(self, name: str, model: Any, processor: Processor, kind: str | None) -> None:
        """Take a loaded model; `kind` is for models that do not specify it.

        Raises:
            TrainingError: The kind contradicts the model, or is unknown.
        """
        super().__init__(name, model, processor)
        own, default = self._kinds()
        if None not in (own, kind) and own != kind:
            raise TrainingError(f"{name} has {own} depth, but --depth-kind is {kind}")
        if own is None and kind is None and default is None:
            raise TrainingError(
                f"{name} does not specify its kind of depth: give --depth-kind metric if it was"
                " trained for metres, such as on NYU or KITTI; other models mostly have inverse"
                " depth"
            )
        self.kind = str(own or kind or default)

    def _kinds(self) -> tuple[str | None, str | None]:
        """The kind that the model specifies, and the default if it does not specify one."""
        if self.family == "depth_anything":
            own = str(self.config.depth_estimation_type)
            return {"relative": "inverse"}.get(own, own), None
        if self.family == "dpt":
            # MiDaS models have inverse depth; models with DINOv2 may have either.
            inner = getattr(self.config.backbone_config, "model_type", "")
            return None, None if inner.startswith("dino") else "inverse"
        return "metric", None

    @property
    def max(self) -> float | None:
        """Greatest depth that the network predicts, metres; None if unknown."""
        if self.kind != "metric":
            return None
        bins = getattr(self.config, "bin_configurations", None) or []
        own = [b["max_depth"] for b in bins] or [getattr(self.config, "max_depth", None)]
        return max((float(x) for x in own if x), default=None)

    def finish(self, outputs: Any, pixel_values: Tensor) -> tuple[Tensor, ...]:
        """See `HubNetwork`."""
        return (outputs.predicted_depth.float(),)


class ZoeDepth(Depth):
    """ZoeDepth: `pixel_values` is only scaled, because padding comes before resizing."""

    step = 1
    """The size of `pixel_values` must be a multiple of this."""

    def input_size(self, height: int, width: int) -> Size:
        """See `HubNetwork`."""
        return height, width

    def _normalisation(self) -> dict[str, list[float]]:
        return {}

    def _padding(self, height: int, width: int) -> Size:
        """Pixels reflected above and below, left and right."""
        if not self.on("do_pad"):
            return 0, 0
        return int((height / 2) ** 0.5 * 3), int((width / 2) ** 0.5 * 3)

    def prepare(self, pixel_values: Tensor) -> Tensor:
        """Pad, resize and normalise."""
        height, width = pixel_values.shape[2:]
        rows, columns = self._padding(height, width)
        values = pixel_values
        if rows or columns:
            values = F.pad(values, (columns, columns, rows, rows), mode="reflect")
        if self.on("do_resize"):
            mode = "bicubic" if self.settings.get("resample") == 3 else "bilinear"
            size = self.processed_size(height, width)
            values = F.interpolate(values, size, mode=mode, align_corners=True)
        if own := super()._normalisation():
            mean, std = (values.new_tensor(own[k]).view(1, 3, 1, 1) for k in ("mean", "std"))
            values = (values - mean) / std
        return values

    def finish(self, outputs: Any, pixel_values: Tensor) -> tuple[Tensor, ...]:
        """Remove the padding."""
        height, width = pixel_values.shape[2:]
        rows, columns = self._padding(height, width)
        size = (height + 2 * rows, width + 2 * columns)
        depth = F.interpolate(outputs.predicted_depth.float()[:, None], size, mode="bicubic")
        return (depth[:, 0, rows : rows + height, columns : columns + width],)


class DepthPro(Depth):
    """Depth Pro: inverse metric depth, with a field of view that the network estimates."""

    antialias = rounds = False
    inverse_metric, enlarged_by = True, "linear"

    def input_size(self, height: int, width: int) -> Size:
        """See `HubNetwork`."""
        size = self.settings.get("size") or {"height": 1536, "width": 1536}
        return int(size["height"]), int(size["width"])

    def _normalisation(self) -> dict[str, list[float]]:
        half = [0.5] * 3
        return super()._normalisation() or {"mean": half, "std": half}

    def finish(self, outputs: Any, pixel_values: Tensor) -> tuple[Tensor, ...]:
        """Return inverse depth, 1 / metres."""
        inverse = outputs.predicted_depth.float()
        view = outputs.field_of_view
        if view is None:
            return (inverse,)
        width_by_fx = 2 * torch.tan(torch.deg2rad(view.float()) / 2)
        return (inverse * width_by_fx.view(-1, 1, 1),)


class DepthAnything3Depth(Depth):
    """DA3METRIC-LARGE, whose depth is metric given the focal length, or DA3MONO-LARGE."""

    outputs, sky = ("depth", "sky"), depth_anything_3.SKY
    enlarged_by = "linear"
    step = depth_anything_3.PATCH
    """See `ZoeDepth`."""

    def __init__(self, name: str, kind: str | None) -> None:
        """Load it; raises `TrainingError`."""
        own = DepthAnything3(name)
        super().__init__(name, own, Processor(_IMAGENET, None), kind or own.kind)
        if self.kind == "metric":
            self.canonical_fx = depth_anything_3.CANONICAL_FX

    def _kinds(self) -> tuple[str | None, str | None]:
        return self.model.kind, None

    def input_size(self, height: int, width: int) -> Size:
        """See `HubNetwork`."""
        return depth_anything_3.network_size(height, width)

    def forward(self, pixel_values: Tensor) -> tuple[Tensor, ...]:
        """Return depth and sky."""
        return self.model(pixel_values)


# --- Loading --------------------------------------------------------------------------------------


def load_labels(name: str) -> Labels:
    """Load a network for semantic segmentation from a folder or the hub.

    Raises:
        TrainingError: It cannot be loaded, or is another kind of network.
    """
    name = checked_name(name)
    family, architecture = _model_type(name)
    if family not in (*DENSE, *MASKS) or architecture.endswith("DepthEstimation"):
        raise TrainingError(
            f"{name} is a {architecture}, expected a network for semantic segmentation, such as"
            f" SegFormer or Mask2Former; supported are {', '.join((*DENSE, *MASKS))}"
        )
    tf = transformers()
    if family in DENSE and not architecture.endswith("ForSemanticSegmentation"):
        raise TrainingError(
            f"{name} is a {architecture}, expected a network for semantic segmentation"
        )
    task = "Semantic" if family in DENSE else "Universal"
    model = load_model(getattr(tf, f"AutoModelFor{task}Segmentation"), name)
    kind = DenseLabels if family in DENSE else MaskLabels
    if family.startswith("eomt"):
        kind = SquareMaskLabels
    return kind(name, model, image_processor(name))


def load_depth(name: str, kind: str | None = None) -> Depth:
    """Load a network for depth from a folder or the hub.

    Args:
        name: The folder, or the name.
        kind: One of `DEPTH_KINDS`, for networks that do not specify it.

    Raises:
        TrainingError: It cannot be loaded, is another kind of network, or has another kind of
            depth.
    """
    name = checked_name(name)
    if depth_anything_3.kind_of(name) is not None:
        return DepthAnything3Depth(name, kind)
    family, architecture = _model_type(name)
    if not architecture.endswith("ForDepthEstimation") or family not in DEPTH:
        raise TrainingError(
            f"{name} is a {architecture}, expected a network for depth, such as Depth Anything V2,"
            f" ZoeDepth or DPT; supported are {', '.join(DEPTH)}, depth_anything_3"
        )
    model = load_model(transformers().AutoModelForDepthEstimation, name)
    special = {"zoedepth": ZoeDepth, "depth_pro": DepthPro}
    return special.get(family, Depth)(name, model, image_processor(name), kind)


def _model_type(name: str) -> tuple[str, str]:
    """Read the model type and the class that the model was saved from, which shows its task."""
    entries = config_entries(name)
    if "model_type" not in entries or "auto_map" in entries:  # transformers explains what is wrong
        config = load(transformers().AutoConfig, name)
        entries = {"model_type": config.model_type, "architectures": config.architectures}
    architecture = (entries.get("architectures") or [""])[0]
    return str(entries["model_type"]), str(architecture or "model of unknown kind")
