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


"""Use a teacher of `teachers` in `objectives.distilled`, for images without labels."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from depthseg_ros.model_card import SemanticClass

from ..data.label_spaces import read_map
from ..data.teacher_terms import TERMS
from ..engine.weights import provenance_of
from ..errors import TrainingError
from ..objectives.distilled import LabelTeacher
from .teachers import OnnxTeacher, PlainOnnx, Teacher, segmentation_teacher


class TeacherFile(LabelTeacher):
    """A teacher that is loaded when training needs it, not when a checkpoint is loaded."""

    def __init__(
        self,
        file: str,
        classes: str | dict[Any, Any] | None = None,
        size: int | None = None,
    ) -> None:
        """Set the teacher's file.

        Args:
            file: A model file, an ONNX file that outputs logits with its description beside it
                (`teachers.PlainOnnx`), or a model of the Hugging Face hub or its folder.
            classes: A map from its classes to the student's, see `label_spaces.read_map`; None: the
                names are the same.
            size: Shorter side of its input, pixels, for `PlainOnnx`.
        """
        self.file, self.classes, self.size = file, classes, size
        self._teacher: Teacher | None = None

    def probabilities(self, images_NHW3: Tensor, classes: Sequence[SemanticClass]) -> Tensor:
        """See `LabelTeacher`; raises `TrainingError` if the teacher cannot be loaded."""
        if self._teacher is None:
            mapping = None if self.classes is None else read_map(self.classes)
            self._teacher = segmentation_teacher(
                self.file, images_NHW3.device, "fp32", classes, mapping, self.size
            )
        # A model file needs a focal length for depth; its classes do not depend on it.
        fx = torch.full((len(images_NHW3),), float(images_NHW3.shape[2]))
        shares = self._teacher(images_NHW3, fx, 1.0).shares
        if shares is None:
            raise TrainingError(f"{self.file} predicts no classes")
        return shares

    @property
    def provenance(self) -> dict[str, Any]:
        """That of a model file's card; for other teachers their name and terms."""
        if isinstance(self._teacher, OnnxTeacher):
            return provenance_of(Path(self.file))
        name = Path(self.file).name if self.file.endswith(".onnx") else self.file
        known = self._teacher.trained_on if isinstance(self._teacher, PlainOnnx) else ""
        return {
            "trained_on": [
                f"classes predicted by {name}" + (f", trained on {known}" if known else "")
            ],
            "terms": TERMS.get(name, f"{name} has terms of its own"),
        }
