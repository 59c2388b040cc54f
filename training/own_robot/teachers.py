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

"""Teachers: large networks, or a model file of our own, that say what pictures show.

A teacher is a name on the Hugging Face hub, which transformers fetches and keeps, a folder that
holds such a model (`training.hub`, whose list of families holds here, too), or one of our own model
files. Pictures are resized and normalised here as the model's image processor says, on the device
and as a batch. Other networks come as plain ONNX files with a description beside them
(`PlainOnnx`).

A student's depth and labels come from its teachers, and so do terms of use
(`data.teacher_terms`): the default teachers of `own-robot` were trained on data for non-commercial
use. DA3METRIC-LARGE is Apache-2.0.

Shapes: N pictures, H and W their size, h and w the network's output, C the teacher's classes, K
these and perhaps one more, "none of them", S the student's.
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
from ..evaluation.evaluate import load
from ..hub.classes import plain_name
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
_NOBODY = 30.0
"""By so much a class that no class of the teacher is lies below the least of its logits."""


class TeacherOutput(NamedTuple):
    """What a teacher says of N pictures."""

    shares: Tensor | None
    """(N, S, H, W) probabilities of the student's classes; what is left of 1 is none of them."""
    depth: Tensor | None
    """(N, H, W) of the teacher's kind of depth, NaN where there is none."""


class Teacher:
    """What says something of pictures."""

    classes: tuple[str, ...] = ()
    """Names of its classes; empty if it does not label."""
    depth: str | None = None
    """Kind of its depth, one of `alignment.DEPTH_KINDS`."""
    needs_fx = False
    weights: NDArray[np.float32] = np.empty((0, 1), np.float32)
    """(C, S + 1) Which share of each class's probability each of the student's gets, see
    `student_shares`; the last is none of them."""

    @property
    def count(self) -> int:
        """How many classes the student has, S."""
        return self.weights.shape[1] - 1

    def __call__(self, pictures_NHW3: Tensor, fx_N: Tensor | None, scale: float) -> TeacherOutput:
        """Look at pictures, uint8 RGB, of one size at `scale` times the usual resolution.

        `fx_N` is their focal length in pixels. A network of a fixed size sees nothing but fewer
        or more details of pictures that are scaled.
        """
        raise NotImplementedError


class NullTeacher(Teacher):
    """Labels nothing, where depth alone is wanted."""

    def __call__(self, pictures_NHW3: Tensor, fx_N: Tensor | None, scale: float) -> TeacherOutput:
        """Say nothing."""
        return TeacherOutput(None, None)


class OnnxTeacher(Teacher):
    """A model file as a teacher; it runs on the CPU."""

    def __init__(self, path: Path) -> None:
        """Load it; raises `ModelFileError` or `TrainingError` where it cannot be a teacher."""
        card, self._inputs, self._predict = load(path)
        if card.needs_background:
            raise TrainingError(f"{path} needs a picture of the background, a recording has none")
        self.classes = tuple(c.name for c in card.classes)
        self.depth = "metric" if card.depth and card.depth.kind == "metric" else None
        self.needs_fx = card.needs_fx
        self._outputs = list(card.outputs)
        self._index = np.full(256, len(self.classes))
        self._index[[c.id for c in card.classes]] = np.arange(len(self.classes))

    def __call__(self, pictures_NHW3: Tensor, fx_N: Tensor | None, scale: float) -> TeacherOutput:
        """See `Teacher`; a scaled picture is one of a camera with a focal length as much longer."""
        device, size = pictures_NHW3.device, tuple(pictures_NHW3.shape[1:3])
        scaled = (max(1, round(size[0] * scale)), max(1, round(size[1] * scale)))
        pictures = _resampled(pictures_NHW3.permute(0, 3, 1, 2).float(), scaled, "bilinear")
        feed = {
            "image": pictures.round().clamp(0, 255).byte().permute(0, 2, 3, 1).contiguous().cpu()
        }
        if fx_N is not None:
            feed["fx"] = fx_N * (scaled[1] / size[1])
        said = self._predict(*(feed[name] for name in self._inputs))
        # The nearest: there is nothing between two classes, nor between a house and the sky.
        near = {
            name: F.interpolate(x[:, None].float().to(device), size, mode="nearest-exact")
            for name, x in zip(self._outputs, said, strict=True)
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

    def _run(self, pictures_NHW3: Tensor, scale: float) -> tuple[tuple[Tensor, ...], float]:
        """The network's outputs for pictures, and its pixels per pixel of them."""
        entries = self._entries
        values = pictures_NHW3.to(self._device).permute(0, 3, 1, 2).float()
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
        """Height and width of what the network takes for a picture."""
        network, config = self._network, self._network.config
        if isinstance(network, SquareMaskLabels | DepthPro):  # they know no other
            return network.input_size(height, width)
        settings = network.settings
        size = {k: v for k, v in (settings.get("size") or {}).items() if v}
        # It knows no other, but for the newer ones with a backbone.
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
            # Processors squeeze pictures into a square for networks that were trained without that.
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
    """SegFormer, Mask2Former and the others of `hub.networks`."""

    def __init__(self, name: str, device: torch.device, precision: str = "fp32") -> None:
        """Load it; raises `TrainingError` where there is none, or it is no segmentation model."""
        network = load_labels(name)
        super().__init__(network, device, precision)
        self._scores = isinstance(network, MaskLabels)
        self.classes = tuple(plain_name(each) for each in network.names)

    def __call__(self, pictures_NHW3: Tensor, fx_N: Tensor | None, scale: float) -> TeacherOutput:
        """See `Teacher`."""
        (logits,), _ = self._run(pictures_NHW3, scale)
        if self._scores:
            claims = logits / logits.sum(1, keepdim=True).clamp(min=1)  # several may claim a pixel
            claims = torch.cat([claims, 1 - claims.sum(1, keepdim=True)], 1)
            logits = claims.clamp(min=1e-6).log()
        height, width = pictures_NHW3.shape[1:3]
        return TeacherOutput(_shares(logits, self.weights, (height, width)), None)


class PlainOnnx(Teacher):
    """A segmentation network as a plain ONNX file without our card; it runs on the CPU.

    `NAME.yaml` beside `NAME.onnx` describes it: of `input` its `name`, `scale`, `mean` and `std`,
    by which x = (rgb * scale - mean) / std, `size_checked_hw`, and `allowed_sizes`, a text with
    "multiples of N" or "Nk+M"; of the first of `outputs`, which are logits, its `classes`, id:
    name, and if need be `ignore_when_taking_argmax`, ids that no prediction has.
    """

    def __init__(self, path: Path, size: int | None = None) -> None:
        """Load it.

        Args:
            path: The .onnx.
            size: Pixels of the shorter side that images are resized to; None: what the file was
                checked at.

        Raises:
            TrainingError: it cannot be loaded, or its description lacks something.
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
        except Exception as error:  # onnxruntime has its own
            raise TrainingError(f"{path} cannot be loaded: {str(error).splitlines()[0]}") from None

    def __call__(self, pictures_NHW3: Tensor, fx_N: Tensor | None, scale: float) -> TeacherOutput:
        """See `Teacher`."""
        height, width = pictures_NHW3.shape[1:3]
        factor = self.size / min(height, width) * scale
        tall, wide = (
            max(1, round(length * factor / self._step)) * self._step + self._plus
            for length in (height, width)
        )
        values = pictures_NHW3.cpu().permute(0, 3, 1, 2).float()
        values = _resampled(values, (tall, wide), "bilinear")
        values = (values * self._scale - self._mean) / self._std
        logits = [
            torch.from_numpy(self._session.run(None, {self._input: one[None].numpy()})[0])
            for one in values
        ]
        kept = torch.cat(logits)[:, self._kept].to(pictures_NHW3.device)
        return TeacherOutput(_shares(kept, self.weights, (height, width)), None)


def _shares(logits_NKhw: Tensor, weights: NDArray[np.float32], size: tuple[int, int]) -> Tensor:
    """Probabilities of the student's classes at a size, (N, S, H, W); weights as of `Teacher`.

    Classes are joined before they are enlarged: 150 of them would take memory.
    """
    full = np.zeros((logits_NKhw.shape[1], weights.shape[1]), np.float32)
    full[:, -1] = 1  # what a network has besides its classes is none of them
    full[: len(weights)] = weights
    logs = torch.from_numpy(full).to(logits_NKhw.device).log()
    nobody = torch.full_like(logits_NKhw[:, 0], float(logits_NKhw.min()) - _NOBODY)
    joined = []
    for log in logs.T:
        (own,) = torch.where(log.isfinite())
        ours = logits_NKhw[:, own] + log[own, None, None]
        joined.append(ours.logsumexp(1) if len(own) else nobody)
    return resize(torch.stack(joined, 1), size).softmax(1)[:, :-1]


class DepthEstimator(_Pretrained):
    """Depth Anything, ZoeDepth, DPT and the others of `hub.networks`."""

    def __init__(
        self, name: str, device: torch.device, precision: str = "fp32", kind: str | None = None
    ) -> None:
        """Load it.

        Args:
            name: On the hub, or a folder.
            device: Where it runs.
            precision: One of `PRECISIONS`.
            kind: `metric` or `relative`, for models that do not say it of themselves.

        Raises:
            TrainingError: there is none, it is no depth model, or one of another kind.
        """
        self._depth = load_depth(name, {"relative": "inverse"}.get(kind or "", kind))
        super().__init__(self._depth, device, precision)
        self.depth = "metric" if self._depth.kind == "metric" else "relative"
        self.needs_fx = self._depth.canonical_fx is not None

    def __call__(self, pictures_NHW3: Tensor, fx_N: Tensor | None, scale: float) -> TeacherOutput:
        """See `Teacher`."""
        (said, *sky), pixels = self._run(pictures_NHW3, scale)
        said = said.float()
        if self._depth.inverse_metric or self._depth.kind == "up-to-scale":
            said = 1 / said.clamp(min=1e-4)
        if self._depth.canonical_fx is not None:
            assert fx_N is not None  # `needs_fx`
            fx_N = fx_N.to(said) * pixels / self._depth.canonical_fx
            said = said * fx_N.view(-1, 1, 1)
        if sky and self._depth.sky is not None:
            said = said.masked_fill(sky[0] > self._depth.sky, float("nan"))
        height, width = pictures_NHW3.shape[1:3]
        return TeacherOutput(None, resize(said[:, None], (height, width))[:, 0])


def segmentation_teacher(
    name: str,
    device: torch.device,
    precision: str,
    student: Sequence[SemanticClass],
    mapping: Mapping[Hashable, Any] | None,
    size: int | None = None,
) -> Teacher:
    """Load what labels, for a student's classes; `none` labels nothing.

    `size` is for plain ONNX files, see `PlainOnnx`.

    Raises:
        TrainingError, ModelFileError: there is none, or `student_shares` refuses the map.
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
        raise TrainingError(f"{name} gives no labels, expected a model file with classes")
    teacher.weights = student_shares(teacher.classes, student, mapping, name)
    return teacher


def depth_teacher(
    name: str, device: torch.device, precision: str, kind: str | None, loaded: Teacher | None = None
) -> Teacher:
    """Load what says depth, or take a model file that is `loaded`.

    Args:
        name: A model file, a folder, or a name on the hub.
        device: Where it runs.
        precision: One of `PRECISIONS`.
        kind: `metric` or `relative`, for models that do not say it of themselves.
        loaded: What to use where it is the model file.

    Raises:
        TrainingError, ModelFileError: there is none.
    """
    if Path(name).suffix != ".onnx":
        return DepthEstimator(name, device, precision, kind)
    teacher = loaded if isinstance(loaded, OnnxTeacher) else OnnxTeacher(Path(name))
    if teacher.depth is None or kind == "relative":
        raise TrainingError(f"{name} gives no {kind or 'metric'} depth")
    return teacher


# --- Classes --------------------------------------------------------------------------------------


def student_shares(
    teacher: Sequence[str],
    student: Sequence[SemanticClass],
    mapping: Mapping[Hashable, Any] | None,
    name: str = "the teacher",
) -> NDArray[np.float32]:
    """Which share of the probability of a teacher's class each of the student's classes gets.

    Args:
        teacher: Names of the teacher's classes.
        student: The student's classes.
        mapping: Content of a map, see `label_spaces`, of names with or without synonyms; None where
            the teacher's names are the student's.
        name: What to call the teacher in messages.

    Returns:
        (C, S + 1); rows sum to 1. The last column is what the map ignores.

    Raises:
        TrainingError: the map has a class that is unknown, twice or missing.
    """
    own = dict(enumerate(teacher))
    if mapping is None:
        unknown = sorted(set(teacher) - {c.name for c in student})
        if unknown:
            raise TrainingError(
                f"{name} has the classes {listed(unknown)}, which the student has not: give"
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
    """Pictures at another size, without what is too fine for it."""
    if values_NCHW.shape[2:] == size:
        return values_NCHW
    return F.interpolate(values_NCHW, size, mode=mode, antialias=mode != "nearest-exact")
