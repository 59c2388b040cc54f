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


"""Supervised training plus distillation of features and classes from teachers."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from depthseg_ros.model_card import UNLABELLED, SemanticClass

from ..errors import TrainingError
from ..losses.distillation import feature_cosine, softened_divergence
from ..models.base import System
from ..models.blocks import resize
from ..models.vit import Vit
from .base import Context, Losses
from .supervised import Supervised


class LabelTeacher:
    """Base class of teachers that predict the student's classes."""

    @property
    def provenance(self) -> Mapping[str, Any]:
        """Training data and terms of the teacher, for the student's model card."""
        return {"trained_on": [], "terms": ""}

    def probabilities(self, images_NHW3: Tensor, classes: Sequence[SemanticClass]) -> Tensor:
        """Predict the probabilities of the student's classes.

        Args:
            images_NHW3: uint8 RGB.
            classes: The student's classes.

        Returns:
            (N, C, H, W); the sum is below 1 if other classes are possible.
        """
        raise NotImplementedError

    def __deepcopy__(self, memo: dict[int, Any]) -> LabelTeacher:
        """Share the teacher with copies of the task, as for averaged weights."""
        return self


class Distilled(Supervised):
    """Supervised losses plus distillation losses on the same images.

    For any system, also on images without labels and depth. Teachers run only in training. They are
    not stored in checkpoints or model files.

    - Features: features of a part of the system, projected by a trained convolution, are compared
      with the last tokens of a vision transformer by cosine similarity.
    - Classes: on unlabelled pixels, softened class probabilities are compared with those of a
      teacher.

    Both are losses of the task segmentation, or of depth if the system has no segmentation.
    """

    def __init__(
        self,
        vit: str | dict[str, Any] | None = None,
        part: str = "encoder",
        features: float = 1.0,
        teacher: LabelTeacher | None = None,
        logits: float = 1.0,
        temperature: float = 2.0,
        segmentation: dict[str, float] | None = None,
        depth: dict[str, float] | None = None,
        deep_supervision: bool = False,
        weigh_classes: bool = True,
    ) -> None:
        """Select the teachers and losses.

        Args:
            vit: A vision transformer, see `models.vit.Vit`: a name on the hub or a folder, or its
                description in checkpoints. None: no feature distillation.
            part: Part of the system to distil features into, for example `encoder` or `decoder`. If
                it returns several features, the last (for an encoder, the coarsest) are used.
            features: Weight of the feature loss.
            teacher: Teacher of classes, for example `training.own_robot.distillation.TeacherFile`.
            logits: Weight of the class loss.
            temperature: See `losses.distillation.softened_divergence`.
            segmentation: See `Supervised`.
            depth: See `Supervised`.
            deep_supervision: See `Supervised`.
            weigh_classes: See `Supervised`.

        Raises:
            TrainingError: there is no teacher, a number is out of range, or the transformer cannot
                be loaded.
        """
        super().__init__(segmentation, depth, deep_supervision, weigh_classes)
        if vit is None and teacher is None:
            raise TrainingError("Distilled has no teacher: set vit, teacher or both")
        for name, weight in (("features", features), ("logits", logits)):
            if not 0 <= weight < math.inf:
                raise TrainingError(f"{name} is {weight}, expected a number >= 0")
        if not 1 <= temperature < math.inf:
            raise TrainingError(f"temperature is {temperature}, expected a number >= 1")
        self.part, self.features = part, features
        self.teacher, self.logits, self.temperature = teacher, logits, temperature
        self.projection: nn.Conv2d | None = None
        self._vit: Untracked | None = None
        self.described: dict[str, Any] = {}
        self._of_vit: list[Mapping[str, Any]] = []
        self._width = 0
        if isinstance(vit, str):
            encoder = Vit(vit, layers=1).eval()
            self._vit, self.described = Untracked(encoder), encoder.described
            self._width = encoder.channels[-1]
            terms = encoder.provenance["terms"]
            self._of_vit = [{"trained_on": [f"features computed by {vit}"], "terms": terms}]
        elif vit is not None:
            self._width = int(vit["hidden_size"])

    @property
    def provenance(self) -> dict[str, Any]:
        """Training data and terms of the teachers, for the student's model card."""
        several = [*self._of_vit, *([] if self.teacher is None else [self.teacher.provenance])]
        return {
            "trained_on": [source for one in several for source in one["trained_on"]],
            "terms": "; ".join(one["terms"] for one in several if one["terms"]),
        }

    def prepare(self, system: System) -> None:
        """Create the projection for the features of the system."""
        if not self._width:
            return
        training = system.training
        images = [torch.zeros(1, 3, 64, 64) for _ in system.inputs]
        with torch.no_grad(), OutputRecorder(system, self.part) as outputs:
            system.eval()(*images)
        system.train(training)
        self.projection = nn.Conv2d(outputs.features.shape[1], self._width, 1)

    def forward(self, context: Context) -> Losses:
        """Compute supervised and distillation losses of a batch."""
        with OutputRecorder(context.system, self.part if self._width else None) as outputs:
            parts, present = super().forward(context)
        extra = {}
        if self.features and self._width:
            extra["features"] = self.features * self._features(context, outputs.features)
        if self.logits and self.teacher is not None and "logits" in outputs.prediction:
            extra["distilled"] = self.logits * self._logits(context, outputs.prediction["logits"])
        task = "segmentation" if "segmentation" in context.system.tasks else "depth"
        parts[task] = parts.get(task, {}) | extra
        return Losses(parts, present | {task: present[task] or bool(extra)})

    def _features(self, context: Context, own_NCHW: Tensor) -> Tensor:
        if self._vit is None or self.projection is None:
            raise TrainingError(
                "Distilled has only a description of the vision transformer: to train, set"
                " model.objective.init_args.vit to its name or folder"
            )
        vit = self._vit.module.to(own_NCHW.device)
        with torch.no_grad():
            tokens = vit(context.batch["image"].float())[-1]
        size = tokens.shape[2:]
        if own_NCHW.shape[2] > size[0]:
            own_NCHW = F.adaptive_avg_pool2d(own_NCHW, size)
        return feature_cosine(resize(self.projection(own_NCHW), size), tokens)

    def _logits(self, context: Context, logits_NCHW: Tensor) -> Tensor:
        assert self.teacher is not None
        images = context.batch["image"].permute(0, 2, 3, 1).contiguous()
        with torch.no_grad():
            teacher = self.teacher.probabilities(images, context.classes).to(logits_NCHW.device)
        size = logits_NCHW.shape[2:]
        unlabelled = (context.batch["labels"] == UNLABELLED).float()[:, None]
        where_NHW = F.interpolate(unlabelled, tuple(size), mode="nearest-exact")[:, 0] > 0
        return softened_divergence(logits_NCHW, resize(teacher, size), where_NHW, self.temperature)


class Untracked:
    """A wrapper that keeps a module from being trained, saved, moved or copied with its parent."""

    def __init__(self, module: Vit) -> None:
        """Wrap a module."""
        self.module = module

    def __deepcopy__(self, memo: dict[int, Any]) -> Untracked:
        """Share the module with copies of the parent."""
        return self


class OutputRecorder:
    """Context manager that records the prediction of a system and the features of a part."""

    features: Tensor
    """(N, C, h, w), the last features of the part."""
    prediction: Mapping[str, Any]
    """The prediction of the system."""

    def __init__(self, system: System, part: str | None) -> None:
        """Select a system and, by name, one of its parts; None: record only the prediction.

        Raises:
            TrainingError: there is no such part.
        """
        self.system, self.name, self.part = system, part, None
        if part is not None:
            try:
                self.part = system.get_submodule(part)
            except AttributeError:
                parts = ", ".join(name for name, _ in system.named_children())
                raise TrainingError(
                    f"{type(system).__name__} has no part {part!r}, expected one of {parts}"
                ) from None

    def __enter__(self) -> OutputRecorder:
        """Register the hooks."""
        self._hooks = [self.system.register_forward_hook(self._record_prediction)]
        if self.part is not None:
            self._hooks.append(self.part.register_forward_hook(self._record_features))
        return self

    def __exit__(self, *_: object) -> None:
        """Remove the hooks."""
        for hook in self._hooks:
            hook.remove()

    def _record_prediction(self, module: nn.Module, inputs: Any, output: Any) -> None:
        self.prediction = output

    def _record_features(self, module: nn.Module, inputs: Any, output: Any) -> None:
        last = output[-1] if isinstance(output, (list, tuple)) else output
        if not isinstance(last, Tensor) or last.ndim != 4:
            raise TrainingError(f"the system's {self.name} has no features of shape (N, C, h, w)")
        self.features = last
