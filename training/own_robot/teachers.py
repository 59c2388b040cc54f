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

"""Teachers: large networks that predict labels or depth for images.

A teacher is a model of the Hugging Face hub by name or folder (the families of `training.hub`), a
model file of this project, or another ONNX file with a description beside it (`PlainOnnx`). Images
are resized and normalised as the model's image processor specifies, in batches on the device.

A student inherits the terms of use of its teachers (`data.teacher_terms`). The default teachers of
`own-robot` were trained on data for non-commercial use. DA3METRIC-LARGE is Apache-2.0.

Shapes: N images, H and W their size, h and w the network's output, C the teacher's classes, K the
same or with one more for "none of them", S the student's classes.
"""

from __future__ import annotations

import re
from collections.abc import Hashable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from depthseg_ros.model_card import SemanticClass

from ..data.label_spaces import listed, members, same_names
from ..errors import TrainingError
from ..evaluation.accuracy import load
from ..hub.class_names import plain_name
from ..hub.networks import (
    DepthAnything3Depth,
    DepthPro,
    HubNetwork,
    MaskLabels,
    SquareMaskLabels,
    ZoeDepth,
    load_depth,
    load_labels,
)
from ..models.blocks import resize
from ..options import read_yaml

PRECISIONS = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}

_ANY_SHAPE = ("segformer", "mask2former", "maskformer")
_ABSENT = 30.0
"""A student's class without a class of the teacher gets the smallest logit minus this."""


class TeacherOutput(NamedTuple):
    """A teacher's prediction for N images."""

    shares: Tensor | None
    """(N, S, H, W) probabilities of the student's classes; the rest to 1 is "none of them"."""
    depth: Tensor | None
    """(N, H, W) in the teacher's kind of depth, NaN if unknown."""


class Teacher:
    """Base class: predicts labels, depth or both."""

    classes: tuple[str, ...] = ()
    """Names of its classes; empty if it does not predict labels."""
    depth: str | None = None
    """Kind of its depth, one of `alignment.DEPTH_KINDS`."""
    needs_fx = False
    weights: NDArray[np.float32] = np.empty((0, 1), np.float32)
    """(C, S + 1) share of each class's probability for each class of the student, see
    `student_shares`; the last column is "none of them"."""

    @property
    def count(self) -> int:
        """Number of the student's classes, S."""
        return self.weights.shape[1] - 1

    def __call__(self, images_NHW3: Tensor, fx_N: Tensor | None, scale: float) -> TeacherOutput:
        """Predict for images of one size.

        Args:
            images_NHW3: uint8 RGB.
            fx_N: Focal lengths, pixels.
            scale: Factor of the default resolution of the network's input. A network with a fixed
                input size runs at that size; `scale` changes only the detail of the images.
        """
        raise NotImplementedError


class NullTeacher(Teacher):
    """Predicts nothing, for depth without labels."""

    def __call__(self, images_NHW3: Tensor, fx_N: Tensor | None, scale: float) -> TeacherOutput:
        """Return no labels and no depth."""
        return TeacherOutput(None, None)


class OnnxTeacher(Teacher):
    """A model file as a teacher; it runs on the CPU."""

    def __init__(self, path: Path) -> None:
        """Load it; raises `ModelFileError` or `TrainingError` if it cannot be a teacher."""
        card, self._inputs, self._predict = load(path)
        if card.needs_background:
            raise TrainingError(f"{path} needs a background image, which recordings do not have")
        self.classes = tuple(c.name for c in card.classes)
        self.depth = "metric" if card.depth and card.depth.kind == "metric" else None
        self.needs_fx = card.needs_fx
        self._outputs = list(card.outputs)
        self._index = np.full(256, len(self.classes))
        self._index[[c.id for c in card.classes]] = np.arange(len(self.classes))

    def __call__(self, images_NHW3: Tensor, fx_N: Tensor | None, scale: float) -> TeacherOutput:
        """See `Teacher`; the focal length is scaled with the image."""
        device, size = images_NHW3.device, tuple(images_NHW3.shape[1:3])
        scaled = (max(1, round(size[0] * scale)), max(1, round(size[1] * scale)))
        images = _resampled(images_NHW3.permute(0, 3, 1, 2).float(), scaled, "bilinear")
        feed = {"image": images.round().clamp(0, 255).byte().permute(0, 2, 3, 1).contiguous().cpu()}
        if fx_N is not None:
            feed["fx"] = fx_N * (scaled[1] / size[1])
        outputs = self._predict(*(feed[name] for name in self._inputs))
        # Nearest neighbour: class ids, and depth at edges, must not be interpolated.
        near = {
            name: F.interpolate(x[:, None].float().to(device), size, mode="nearest-exact")
            for name, x in zip(self._outputs, outputs, strict=True)
        }
        shares = None
        if self.count:
            nothing = np.zeros((1, self.count + 1), np.float32)
            weights = torch.from_numpy(np.append(self.weights, nothing, 0)[self._index]).to(device)
            votes = weights[near["labels"][:, 0].long(), : self.count].permute(0, 3, 1, 2)
            shares = votes * (near["confidence"] / 255)
        return TeacherOutput(shares, near["depth"][:, 0] if self.depth else None)


class _Pretrained(Teacher):
    """A network of the hub with the settings of its image processor."""

    def __init__(self, network: HubNetwork, device: torch.device, precision: str) -> None:
        """Take a loaded network."""
        self._network = network.to(device)
        self._entries = network.input_entries()
        self._device, self._precision = device, precision

    def _run(self, images_NHW3: Tensor, scale: float) -> tuple[tuple[Tensor, ...], float]:
        """Return the network's outputs, and the ratio of its input size to the image size."""
        entries = self._entries
        values = images_NHW3.to(self._device).permute(0, 3, 1, 2).float()
        height, width = values.shape[2:]
        size = self._network_size(height, width, scale)
        mode = {"cubic": "bicubic", "nearest": "nearest-exact"}.get(entries["resize"], "bilinear")
        values = _resampled(values, size, mode)
        values = values.flip(1) if entries["color"] == "bgr" else values
        mean, std = (
            torch.tensor(entries.get(key, default), device=self._device).view(-1, 1, 1)
            for key, default in (("mean", 0.0), ("std", 1.0))
        )
        values = (values * entries["scale"] - mean) / std
        wanted = PRECISIONS[self._precision]
        with torch.autocast(self._device.type, wanted, enabled=wanted != torch.float32):
            return self._network(values), (size[0] / height + size[1] / width) / 2

    def _network_size(self, height: int, width: int, scale: float) -> tuple[int, int]:
        """Height and width of the network's input for an image."""
        network, config = self._network, self._network.config
        if isinstance(network, SquareMaskLabels | DepthPro):  # have a fixed size
            return network.input_size(height, width)
        settings = network.settings
        size = {k: v for k, v in (settings.get("size") or {}).items() if v}
        # DPT has a fixed size, except newer models with a backbone.
        square = network.family == "dpt" and (config.is_hybrid or config.backbone_config is None)
        if isinstance(network, ZoeDepth | DepthAnything3Depth):
            own = network.input_size(height, width)
            tall, wide = own[0] / height, own[1] / width
        elif not settings.get("do_resize", True) or not size:
            tall = wide = 1.0
        elif "shortest_edge" in size:
            tall = size["shortest_edge"] / min(height, width)
            tall = wide = min(tall, size.get("longest_edge", float("inf")) / max(height, width))
        else:
            tall, wide = size["height"] / height, size["width"] / width
            # Some processors stretch images to a square although training kept their shape.
            keeps = settings.get("keep_aspect_ratio") or network.family in _ANY_SHAPE
            if keeps and not square:
                tall = wide = min(tall, wide, key=lambda factor: abs(1 - factor))
        wanted = [settings.get("ensure_multiple_of"), settings.get("size_divisor")]
        wanted += [getattr(config, "patch_size", None), 32]
        multiple = next(x for x in wanted if isinstance(x, int) and x > 1)
        if isinstance(network, ZoeDepth | DepthAnything3Depth):
            multiple = network.step
        lengths = (height * tall * scale, width * wide * scale)
        tall, wide = (max(1, round(x / multiple)) * multiple for x in lengths)
        return (tall, tall) if square else (tall, wide)


class Segmenter(_Pretrained):
    """SegFormer, Mask2Former and other segmentation networks of `hub.networks`."""

    def __init__(self, name: str, device: torch.device, precision: str = "fp32") -> None:
        """Load it; raises `TrainingError` if that fails or it is not a segmentation model."""
        network = load_labels(name)
        super().__init__(network, device, precision)
        self._scores = isinstance(network, MaskLabels)
        self.classes = tuple(plain_name(each) for each in network.names)

    def __call__(self, images_NHW3: Tensor, fx_N: Tensor | None, scale: float) -> TeacherOutput:
        """See `Teacher`."""
        (logits,), _ = self._run(images_NHW3, scale)
        if self._scores:
            scores = logits / logits.sum(1, keepdim=True).clamp(min=1)  # the sum may exceed 1
            scores = torch.cat([scores, 1 - scores.sum(1, keepdim=True)], 1)
            logits = scores.clamp(min=1e-6).log()
        height, width = images_NHW3.shape[1:3]
        return TeacherOutput(_shares(logits, self.weights, (height, width)), None)


class PlainOnnx(Teacher):
    """A segmentation network as an ONNX file without model card; it runs on the CPU.

    `NAME.yaml` beside `NAME.onnx` describes it. `input` has `name`; `scale`, `mean` and `std` for
    x = (rgb * scale - mean) / std; `size_checked_hw`; and `allowed_sizes`, a text with "multiples
    of N" or "Nk+M". `outputs` is a list; its first entry, for the logits, has `classes`, id: name,
    and optionally `ignore_when_taking_argmax`, a list of ids that are never predicted.
    """

    def __init__(self, path: Path, size: int | None = None) -> None:
        """Load it.

        Args:
            path: The .onnx.
            size: Shorter side that images are resized to, pixels; None: that of
                `size_checked_hw`.

        Raises:
            TrainingError: It cannot be loaded, or its description is incomplete.
        """
        import onnxruntime

        about = read_yaml(path.with_suffix(".yaml"), "the description of a teacher")
        try:
            entry, output = about["input"], about["outputs"][0]
            self._input = str(entry["name"])
            self._scale = float(entry["scale"])
            self._mean, self._std = (
                torch.tensor(entry[key], dtype=torch.float32).view(1, 3, 1, 1)
                for key in ("mean", "std")
            )
            ignored = output.get("ignore_when_taking_argmax") or []
            names = {int(i): str(name) for i, name in output["classes"].items()}
            self._kept = [i for i in sorted(names) if i not in ignored]
            self.size = int(size or min(entry["size_checked_hw"]))
            sizes = re.search(r"(\d+)k\+(\d+)|multiples of (\d+)", entry["allowed_sizes"])
            if sizes is None:
                raise ValueError("allowed_sizes has neither 'multiples of N' nor 'Nk+M'")
            self._step, self._plus = int(sizes[1] or sizes[3]), int(sizes[2] or 0)
        except (LookupError, TypeError, ValueError, AttributeError, RuntimeError) as error:
            raise TrainingError(
                f"{path.with_suffix('.yaml')} does not describe a teacher: {error!r}; see PlainOnnx"
                " in training/own_robot/teachers.py"
            ) from None
        self.classes = tuple(names[i] for i in self._kept)
        self.trained_on = str((about.get("source") or {}).get("trained_on", ""))
        try:
            self._session = onnxruntime.InferenceSession(
                str(path), providers=["CPUExecutionProvider"]
            )
        except Exception as error:  # onnxruntime has its own errors
            raise TrainingError(f"{path} cannot be loaded: {str(error).splitlines()[0]}") from None

    def __call__(self, images_NHW3: Tensor, fx_N: Tensor | None, scale: float) -> TeacherOutput:
        """See `Teacher`."""
        height, width = images_NHW3.shape[1:3]
        factor = self.size / min(height, width) * scale
        tall, wide = (
            max(1, round(length * factor / self._step)) * self._step + self._plus
            for length in (height, width)
        )
        values = images_NHW3.cpu().permute(0, 3, 1, 2).float()
        values = _resampled(values, (tall, wide), "bilinear")
        values = (values * self._scale - self._mean) / self._std
        logits = [
            torch.from_numpy(self._session.run(None, {self._input: one[None].numpy()})[0])
            for one in values
        ]
        kept = torch.cat(logits)[:, self._kept].to(images_NHW3.device)
        return TeacherOutput(_shares(kept, self.weights, (height, width)), None)


def _shares(logits_NKhw: Tensor, weights: NDArray[np.float32], size: tuple[int, int]) -> Tensor:
    """Probabilities of the student's classes, (N, S, H, W); `weights` as in `Teacher`.

    Classes are merged before they are enlarged, because 150 enlarged classes need much memory.
    """
    full = np.zeros((logits_NKhw.shape[1], weights.shape[1]), np.float32)
    full[:, -1] = 1  # an output besides the teacher's classes is "none of them"
    full[: len(weights)] = weights
    logs = torch.from_numpy(full).to(logits_NKhw.device).log()
    absent = torch.full_like(logits_NKhw[:, 0], float(logits_NKhw.min()) - _ABSENT)
    merged = []
    for log in logs.T:
        (members_of,) = torch.where(log.isfinite())
        weighted = logits_NKhw[:, members_of] + log[members_of, None, None]
        merged.append(weighted.logsumexp(1) if len(members_of) else absent)
    return resize(torch.stack(merged, 1), size).softmax(1)[:, :-1]


class DepthEstimator(_Pretrained):
    """Depth Anything, ZoeDepth, DPT and other depth networks of `hub.networks`."""

    def __init__(
        self, name: str, device: torch.device, precision: str = "fp32", kind: str | None = None
    ) -> None:
        """Load it.

        Args:
            name: Name on the hub, or a folder.
            device: Where to run it.
            precision: One of `PRECISIONS`.
            kind: `metric` or `relative`, for models that do not specify it.

        Raises:
            TrainingError: It cannot be loaded, is not a depth model, or has another kind of depth.
        """
        self._depth = load_depth(name, {"relative": "inverse"}.get(kind or "", kind))
        super().__init__(self._depth, device, precision)
        self.depth = "metric" if self._depth.kind == "metric" else "relative"
        self.needs_fx = self._depth.canonical_fx is not None

    def __call__(self, images_NHW3: Tensor, fx_N: Tensor | None, scale: float) -> TeacherOutput:
        """See `Teacher`."""
        (depth, *sky), ratio = self._run(images_NHW3, scale)
        depth = depth.float()
        if self._depth.inverse_metric or self._depth.kind == "up-to-scale":
            depth = 1 / depth.clamp(min=1e-4)
        if self._depth.canonical_fx is not None:
            assert fx_N is not None  # `needs_fx`
            fx_N = fx_N.to(depth) * ratio / self._depth.canonical_fx
            depth = depth * fx_N.view(-1, 1, 1)
        if sky and self._depth.sky is not None:
            depth = depth.masked_fill(sky[0] > self._depth.sky, float("nan"))
        height, width = images_NHW3.shape[1:3]
        return TeacherOutput(None, resize(depth[:, None], (height, width))[:, 0])


def segmentation_teacher(
    name: str,
    device: torch.device,
    precision: str,
    student: Sequence[SemanticClass],
    mapping: Mapping[Hashable, Any] | None,
    size: int | None = None,
) -> Teacher:
    """Load a teacher for labels of the student's classes; `none` predicts no labels.

    `size` is for `PlainOnnx`.

    Raises:
        TrainingError, ModelFileError: It cannot be loaded, or the map of classes is wrong.
    """
    if name == "none":
        return NullTeacher()
    teacher: Teacher
    if Path(name).suffix != ".onnx":
        teacher = Segmenter(name, device, precision)
    elif Path(name).with_suffix(".yaml").is_file():
        teacher = PlainOnnx(Path(name), size)
    else:
        teacher = OnnxTeacher(Path(name))
    if not teacher.classes:
        raise TrainingError(f"{name} predicts no labels, expected a model file with classes")
    teacher.weights = student_shares(teacher.classes, student, mapping, name)
    return teacher


def depth_teacher(
    name: str, device: torch.device, precision: str, kind: str | None, loaded: Teacher | None = None
) -> Teacher:
    """Load a teacher for depth.

    Args:
        name: A model file, a folder, or a name on the hub.
        device: Where to run it.
        precision: One of `PRECISIONS`.
        kind: `metric` or `relative`, for models that do not specify it.
        loaded: The teacher of the same name, if it is loaded already; used if it is a model file.

    Raises:
        TrainingError, ModelFileError: It cannot be loaded, or has no depth of this kind.
    """
    if Path(name).suffix != ".onnx":
        return DepthEstimator(name, device, precision, kind)
    teacher = loaded if isinstance(loaded, OnnxTeacher) else OnnxTeacher(Path(name))
    if teacher.depth is None or kind == "relative":
        raise TrainingError(f"{name} does not predict {kind or 'metric'} depth")
    return teacher


# --- Classes --------------------------------------------------------------------------------------


def student_shares(
    teacher: Sequence[str],
    student: Sequence[SemanticClass],
    mapping: Mapping[Hashable, Any] | None,
    name: str = "the teacher",
) -> NDArray[np.float32]:
    """Distribute the probability of each class of a teacher to the student's classes.

    Args:
        teacher: Names of the teacher's classes.
        student: The student's classes.
        mapping: Content of a map, see `label_spaces`; names may have synonyms. None: the teacher's
            names are the student's.
        name: What to call the teacher in messages.

    Returns:
        (C, S + 1) shares; rows sum to 1. The last column is for classes that the map ignores.

    Raises:
        TrainingError: The map has an unknown or duplicate class, or lacks one.
    """
    own = dict(enumerate(teacher))
    if mapping is None:
        unknown = sorted(set(teacher) - {c.name for c in student})
        if unknown:
            raise TrainingError(
                f"{name} has the classes {listed(unknown)}, which the student does not have: give"
                " --classes MAP.yaml (see training/configs/classes)"
            )
        mapping = same_names(own)
    plain: dict[Hashable, Any] = {}
    for key, value in mapping.items():
        if plain_name(str(key)) in plain:
            raise TrainingError(f"the map of classes has {plain_name(str(key))!r} twice")
        plain[plain_name(str(key))] = value
    rows = members(plain, own, student, name)
    rows = np.concatenate([rows, ~rows.any(1, keepdims=True)], 1)
    return (rows / rows.sum(1, keepdims=True)).astype(np.float32)


def _resampled(values_NCHW: Tensor, size: tuple[int, int], mode: str) -> Tensor:
    """Resize images, with antialiasing except for nearest neighbour."""
    if values_NCHW.shape[2:] == size:
        return values_NCHW
    return F.interpolate(values_NCHW, size, mode=mode, antialias=mode != "nearest-exact")
