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
holds such a model, or one of our own model files. Pictures are resized, padded and normalised here
as the model's image processor says, on the device and as a batch. Other networks come as plain
ONNX files with a description beside them (`PlainOnnx`).

A student's depth and labels come from its teachers, and so do terms of use
(`data.teacher_terms`): the default teachers of `own-robot` were trained on data for non-commercial
use. DA3METRIC-LARGE, which is Apache-2.0, cannot be loaded yet: transformers 5.23 has no model of
its kind.

Shapes: N pictures, H and W their size, h and w the network's output, C the teacher's classes, K
these and perhaps one more, "none of them", S the student's.
"""

from __future__ import annotations

import re
import sys
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
from ..models.blocks import resize
from ..options import read_yaml

PRECISIONS = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}

_DEPTH_MODELS = {"depth_anything": None, "zoedepth": "metric", "dpt": "relative", "glpn": "metric"}
"""Model types of depth -> the kind of depth; None where the configuration says it."""
_MASK_MODELS = ("Mask2FormerForUniversalSegmentation", "MaskFormerForInstanceSegmentation")
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
    """A network of transformers with the settings of its image processor."""

    def __init__(self, name: str, kind: str, device: torch.device, precision: str) -> None:
        """Load it by one of transformers' classes, `kind`."""
        transformers = _transformers()
        self.config = _load(transformers.AutoConfig, name)
        model = _load(getattr(transformers, kind), name)
        self._settings: dict[str, Any] = _load(transformers.AutoImageProcessor, name).to_dict()
        # Whatever it is stored in: autocast chooses operation by operation.
        self._model = model.float().eval().to(device)
        self._device, self._precision = device, precision

    def _run(self, pictures_NHW3: Tensor, scale: float) -> Any:
        """The network's outputs for pictures."""
        settings = self._settings
        values = pictures_NHW3.to(self._device).permute(0, 3, 1, 2).float()
        pad_y, pad_x = self._padding(*values.shape[2:])
        if pad_y or pad_x:
            values = F.pad(values, (pad_x, pad_x, pad_y, pad_y), mode="reflect")
        height, width = values.shape[2:]
        size = self._network_size(height, width, scale)
        mode = "bicubic" if settings.get("resample") == 3 else "bilinear"  # PIL's numbers
        values = _resampled(values, size, mode)
        if settings.get("do_rescale", True):
            values = values * float(settings.get("rescale_factor", 1 / 255))
        if settings.get("do_normalize", True) and settings.get("image_mean") is not None:
            mean, std = (
                torch.tensor(settings[key], device=self._device).view(1, -1, 1, 1)
                for key in ("image_mean", "image_std")
            )
            values = (values - mean) / std
        wanted = PRECISIONS[self._precision]
        with torch.autocast(self._device.type, wanted, enabled=wanted != torch.float32):
            return self._model(pixel_values=values)

    def _padding(self, height: int, width: int) -> tuple[int, int]:
        """Pixels reflected at each side, above and below and left and right."""
        if self.config.model_type != "zoedepth" or not self._settings.get("do_pad", True):
            return 0, 0
        return int((height / 2) ** 0.5 * 3), int((width / 2) ** 0.5 * 3)

    def _network_size(self, height: int, width: int, scale: float) -> tuple[int, int]:
        """Height and width that the network sees a picture at."""
        settings, config = self._settings, self.config
        size = {k: v for k, v in (settings.get("size") or {}).items() if v}
        # It knows no other, but for the newer ones with a backbone.
        square = config.model_type == "dpt" and (config.is_hybrid or config.backbone_config is None)
        if not settings.get("do_resize", True) or not size:
            tall = wide = 1.0
        elif "shortest_edge" in size:
            tall = size["shortest_edge"] / min(height, width)
            tall = wide = min(tall, size.get("longest_edge", float("inf")) / max(height, width))
        else:
            tall, wide = size["height"] / height, size["width"] / width
            # Processors squeeze pictures into a square for networks that were trained without that.
            keeps = settings.get("keep_aspect_ratio") or config.model_type in _ANY_SHAPE
            if keeps and not square:
                tall = wide = min(tall, wide, key=lambda factor: abs(1 - factor))
        wanted = [settings.get("ensure_multiple_of"), settings.get("size_divisor")]
        wanted += [getattr(config, "patch_size", None), 32]
        multiple = next(x for x in wanted if isinstance(x, int) and x > 1)
        lengths = (height * tall * scale, width * wide * scale)
        tall, wide = (max(1, round(x / multiple)) * multiple for x in lengths)
        return (tall, tall) if square else (tall, wide)


class Segmenter(_Pretrained):
    """SegFormer and its like, Mask2Former and MaskFormer."""

    def __init__(self, name: str, device: torch.device, precision: str = "fp32") -> None:
        """Load it; raises `TrainingError` where there is none, or it is no segmentation model."""
        made_for = _made_for(name)
        if made_for not in _MASK_MODELS and not made_for.endswith("ForSemanticSegmentation"):
            raise TrainingError(
                f"{name} is a {made_for or 'model of unknown kind'}, expected one for semantic"
                " segmentation, such as SegFormer or Mask2Former"
            )
        self._masks = made_for in _MASK_MODELS
        task = "Universal" if self._masks else "Semantic"
        super().__init__(name, f"AutoModelFor{task}Segmentation", device, precision)
        names = self.config.id2label
        self.classes = tuple(plain_name(str(names[i])) for i in sorted(names))

    def __call__(self, pictures_NHW3: Tensor, fx_N: Tensor | None, scale: float) -> TeacherOutput:
        """See `Teacher`."""
        outputs = self._run(pictures_NHW3, scale)
        if self._masks:  # a query says which class it is of, "none" last, and where it is
            classes = outputs.class_queries_logits.float().softmax(-1)[..., :-1]
            masks = outputs.masks_queries_logits.float().sigmoid()
            claims = torch.einsum("nqc,nqhw->nchw", classes, masks)
            claims = claims / claims.sum(1, keepdim=True).clamp(min=1)  # several may claim a pixel
            claims = torch.cat([claims, 1 - claims.sum(1, keepdim=True)], 1)
            logits = claims.clamp(min=1e-6).log()
        else:
            logits = outputs.logits.float()
        height, width = pictures_NHW3.shape[1:3]
        return TeacherOutput(self._shares(logits, (height, width)), None)

    def _shares(self, logits_NKhw: Tensor, size: tuple[int, int]) -> Tensor:
        """Probabilities of the student's classes at the pictures' size.

        Classes are joined before they are enlarged: 150 of them would take memory.
        """
        return _shares(logits_NKhw, self.weights, size)


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
    """Depth Anything, ZoeDepth, DPT and GLPN."""

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
        made_for = _made_for(name)
        if not made_for.endswith("ForDepthEstimation"):
            raise TrainingError(
                f"{name} is a {made_for or 'model of unknown kind'}, expected one for depth, such"
                " as Depth Anything V2, ZoeDepth or DPT"
            )
        super().__init__(name, "AutoModelForDepthEstimation", device, precision)
        family = self.config.model_type
        if family not in _DEPTH_MODELS:
            raise TrainingError(
                f"{name} is a {family}, expected one of {', '.join(_DEPTH_MODELS)}: what others say"
                " of depth is not known here"
            )
        own = getattr(self.config, "depth_estimation_type", None)
        if kind is not None and own is not None and kind != own:
            raise TrainingError(f"{name} says that its depth is {own}, --depth-kind says {kind}")
        self.depth = own or kind or _DEPTH_MODELS[family] or "relative"

    def __call__(self, pictures_NHW3: Tensor, fx_N: Tensor | None, scale: float) -> TeacherOutput:
        """See `Teacher`."""
        height, width = pictures_NHW3.shape[1:3]
        said = self._run(pictures_NHW3, scale).predicted_depth.float()
        pad_y, pad_x = self._padding(height, width)
        said = resize(said[:, None], (height + 2 * pad_y, width + 2 * pad_x))[:, 0]
        return TeacherOutput(None, said[:, pad_y : pad_y + height, pad_x : pad_x + width])


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


def plain_name(name: str) -> str:
    """A class's name without its synonyms: `pier, wharf` -> `pier`."""
    return name.split(",")[0].strip()


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


# --- Loading --------------------------------------------------------------------------------------


def _transformers() -> Any:
    """The library, which says nothing but what is wrong."""
    try:
        import transformers
    except ImportError:
        raise TrainingError(
            "teachers need transformers: pip install -e .[teachers], or give a model file (.onnx)"
        ) from None
    transformers.utils.logging.set_verbosity_error()
    if not sys.stderr.isatty():
        transformers.utils.logging.disable_progress_bar()
    return transformers


def _made_for(name: str) -> str:
    """The class that a model was saved from, which tells what it does."""
    path = Path(name).expanduser()
    if path.is_file() or (not path.is_dir() and name.startswith(("/", ".", "~"))):
        raise TrainingError(
            f"{name} is {'a file' if path.is_file() else 'not there'}, expected a .onnx,"
            " the folder of a model, or its name on the Hugging Face hub"
        )
    config = _load(_transformers().AutoConfig, name)
    return str((config.architectures or [""])[0])


def _load(kind: Any, name: str) -> Any:
    """What transformers makes of a name or folder; raises `TrainingError`."""
    try:
        # Never its own code: where nothing is said, transformers asks whoever sits there.
        return kind.from_pretrained(name, trust_remote_code=False)
    except Exception as error:  # of every library below
        reason = (str(error).splitlines() or [type(error).__name__])[0]
    if Path(name).is_dir():
        raise TrainingError(f"{name} is no folder that transformers can load: {reason}")
    raise TrainingError(
        f"{name} is no folder, and cannot be fetched from the Hugging Face hub: {reason} Without a"
        " network, give a folder with the model, or a model file (.onnx)"
    )


def _resampled(values_NCHW: Tensor, size: tuple[int, int], mode: str) -> Tensor:
    """Pictures at another size, without what is too fine for it."""
    if values_NCHW.shape[2:] == size:
        return values_NCHW
    return F.interpolate(values_NCHW, size, mode=mode, align_corners=False, antialias=True)
