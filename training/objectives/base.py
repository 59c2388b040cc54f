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

"""Define the interface of objectives.

An `Objective` is called with a `Context`, which has a system and a batch. It returns `Losses`,
which the task balances and logs.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor, nn

from depthseg_ros.model_card import UNLABELLED, SemanticClass

from ..errors import TrainingError
from ..losses import by_name as losses
from ..models.base import Prediction, System
from ..models.blocks import resize


@dataclass(frozen=True)
class Context:
    """Input of an objective."""

    system: System
    batch: Mapping[str, Tensor]
    """A batch of `data.transforms.TrainDataset`."""
    class_weights: Tensor
    """(classes,) float32."""
    canonical_fx: float
    """Focal length of the canonical camera of metric depth, pixels."""
    step: Sequence[Mapping[str, Tensor]] = ()
    """`labels` and `depth` of all batches of the optimizer step, see `engine.accumulation`; empty
    if there is only one."""
    classes: Sequence[SemanticClass] = ()
    """The model's classes."""

    def truths(self, name: Literal["labels", "depth"]) -> list[Tensor]:
        """Ground truth of this batch, followed by that of each batch in `step`."""
        return [truth[name] for truth in (self.batch, *self.step)]

    def predict(self) -> Prediction:
        """Run the system on the batch; raises `TrainingError` for a wrong number of classes."""
        inputs = (self.batch[name].float() for name in self.system.inputs)
        prediction = self.system(*(x.contiguous(memory_format=torch.channels_last) for x in inputs))
        if "logits" in prediction:
            found, expected = prediction["logits"].shape[1], len(self.class_weights)
            if found != expected and (found, expected) != (1, 2):  # 1: only a foreground logit
                raise TrainingError(
                    f"the system has {found} classes, model.classes {expected}: set the system's"
                    " num_classes"
                )
        return prediction


class Losses(NamedTuple):
    """Losses of a batch."""

    parts: dict[str, dict[str, Tensor]]
    """Task (`segmentation`, `depth`) -> name -> weighted loss, zero without ground truth."""
    present: dict[str, bool]
    """Task -> whether a batch of the optimizer step has data for it."""


class Objective(nn.Module):
    """Base class: losses against labels and depth. Subclasses override `depth_parts`."""

    views: tuple[str, ...] = ()
    """Additional images of a sample that the objective needs."""
    default_segmentation: Mapping[str, float] = {"cross_entropy": 1.0}
    default_depth: Mapping[str, float] = {}
    sets: Tensor
    """(S, C) bool: the classes of the labels from C on, see `losses.segmentation`."""

    def __init__(
        self,
        segmentation: dict[str, float] | None = None,
        depth: dict[str, float] | None = None,
        deep_supervision: bool = False,
        weigh_classes: bool = True,
        depth_scale: float = 0.1,
    ) -> None:
        """Select the losses against ground truth.

        Args:
            segmentation: Names in `losses.SEGMENTATION` -> weight; default: `default_segmentation`.
            depth: Names in `losses.DEPTH` -> weight; default: `default_depth`.
            deep_supervision: Whether to apply the losses to side outputs too.
            weigh_classes: Whether to give rare classes a higher weight.
            depth_scale: Weight of `losses.depth.laplace`, for systems that predict the scale of
                their depth error.
        """
        super().__init__()
        self.segmentation = self.default_segmentation if segmentation is None else segmentation
        self.depth = self.default_depth if depth is None else depth
        check_terms(self.segmentation, losses.SEGMENTATION, "segmentation")
        check_terms(self.depth, losses.DEPTH, "depth")
        check_terms({"laplace": depth_scale}, {"laplace": losses.laplace}, "depth")
        self.depth_scale = depth_scale
        self.deep_supervision, self.weigh_classes = deep_supervision, weigh_classes
        self.register_buffer("sets", torch.zeros(0, 0, dtype=torch.bool), persistent=False)

    @property
    def provenance(self) -> Mapping[str, Any]:
        """Training data and terms of teachers, for the model card."""
        return {"trained_on": [], "terms": ""}

    def prepare(self, system: System) -> None:
        """Create modules that depend on the system; called once before training."""

    def forward(self, context: Context) -> Losses:
        """Compute the losses of a batch."""
        prediction = context.predict()
        parts = {}
        labelled = any(map(known_labels, context.step or [context.batch]))
        present = {"segmentation": labelled, "depth": False}
        if "logits" in prediction:
            parts["segmentation"] = self.segmentation_parts(context, prediction)
        if "depth" in prediction:
            parts["depth"], present["depth"] = self.depth_parts(context, prediction)
        return Losses({task: values for task, values in parts.items() if values}, present)

    def single_class_labels(self, labels_NHW: Tensor) -> Tensor:
        """Replace labels of sets of classes with 255."""
        if not len(self.sets):
            return labels_NHW
        return labels_NHW.where(labels_NHW < self.sets.shape[1], UNLABELLED)

    def segmentation_parts(self, context: Context, prediction: Prediction) -> dict[str, Tensor]:
        """Compute the weighted segmentation losses by name.

        Only `losses.segmentation.cross_entropy` uses labels of `sets` of classes.
        """
        outputs = [prediction["logits"]]
        classes = max(2, outputs[0].shape[1])
        if self.deep_supervision:
            outputs += side_outputs(prediction, "side_logits")
        labels, *of_step = subsampled(context.truths("labels"), outputs[0].shape[2:])
        weights = context.class_weights if self.weigh_classes else None

        def loss(name: str, output: Tensor, truth: Tensor) -> Tensor:
            if name == "cross_entropy" and len(self.sets):
                return losses.SEGMENTATION[name](output, truth, weights, self.sets)
            if len(self.sets):
                truth = truth.where(truth < classes, UNLABELLED)
            return losses.SEGMENTATION[name](output, truth, weights)

        return {
            name: weight
            * losses.multi_output(functools.partial(loss, name), outputs, labels, of_step)
            for name, weight in self.segmentation.items()
        }

    def depth_parts(
        self, context: Context, prediction: Prediction
    ) -> tuple[dict[str, Tensor], bool]:
        """Compute the weighted depth losses by name, and whether there was any data for them.

        Truth is clamped to the system's `depth_limits`, so that very far pixels are still used.
        """
        outputs = [prediction["depth"]]
        if self.deep_supervision:
            outputs += side_outputs(prediction, "side_depths")
        limits = context.system.depth_limits
        truths = [truth.clamp(*limits) for truth in context.truths("depth")]
        depth, *of_step = subsampled(truths, outputs[0].shape[2:])

        def loss(name: str, output: Tensor, truth: Tensor) -> Tensor:
            return losses.DEPTH[name](output[:, 0], truth)

        parts = {
            name: weight
            * losses.multi_output(functools.partial(loss, name), outputs, depth, of_step)
            for name, weight in self.depth.items()
        }
        if "log_scale" in prediction and self.depth_scale:
            scale = resize(prediction["log_scale"], outputs[0].shape[2:])
            both = torch.cat([scale, outputs[0]], 1)

            def nll(output: Tensor, truth: Tensor) -> Tensor:
                return losses.laplace(output[:, 0], output[:, 1], truth)

            parts["laplace"] = self.depth_scale * losses.multi_output(nll, [both], depth, of_step)
        known = any(map(known_depth, context.step or [context.batch]))
        return parts, bool(parts) and known


def subsampled(truth_NHW: Sequence[Tensor], size: Sequence[int]) -> list[Tensor]:
    """Subsample full-size ground truths to the size of a prediction.

    Takes one pixel of each output cell, at a random position that is the same in all cells. Over
    many batches the position is unbiased, and labels are not interpolated. Truths of another size
    than the first one are subsampled in proportion.
    """
    full = truth_NHW[0].shape[1:]
    if tuple(size) == tuple(full):
        return list(truth_NHW)
    offsets = [torch.rand((), device=truth_NHW[0].device) for _ in range(2)]
    result = []
    for truth in truth_NHW:
        rows, columns = (
            _indices(own, max(1, round(own * small / large)), offset)
            for own, small, large, offset in zip(truth.shape[1:], size, full, offsets, strict=True)
        )
        result.append(truth[:, rows[:, None], columns])
    return result


def _indices(full: int, cells: int, offset: Tensor) -> Tensor:
    """Return one index per cell, at the fraction `offset` of the cell."""
    indices = (torch.arange(cells, device=offset.device) + offset) * (full / cells)
    # Clamped, since n - 1 plus a number just below 1 may round to n.
    return indices.long().clamp(max=full - 1)


def check_terms(terms: Mapping[str, float], known: Mapping[str, object], what: str) -> None:
    """Raise `TrainingError` for unknown losses or invalid weights."""
    for name, weight in terms.items():
        if name not in known:
            raise TrainingError(
                f"there is no {what} loss {name!r}, expected one of {', '.join(known)}"
            )
        if not 0 <= weight < math.inf:
            raise TrainingError(
                f"the weight of the {what} loss {name} is {weight}, expected a number >= 0"
            )


def side_outputs(
    prediction: Prediction, name: Literal["side_logits", "side_depths"]
) -> list[Tensor]:
    """Return outputs for deep supervision; raises `TrainingError` if the system has none."""
    if name not in prediction:
        raise TrainingError(f"deep_supervision: the system has no output {name} in training")
    return prediction[name]


def known_labels(batch: Mapping[str, Tensor]) -> bool:
    """Check whether any pixel of the batch is labelled."""
    return bool((batch["labels"] != UNLABELLED).any())


def known_depth(batch: Mapping[str, Tensor]) -> bool:
    """Check whether any pixel of the batch has depth."""
    return bool(batch["depth"].isfinite().any())
