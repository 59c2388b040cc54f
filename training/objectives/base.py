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

"""Objectives: what a system is trained for, from a batch to named losses.

An `Objective` is called with a `Context`: a system and a batch. It returns `Losses`, which the task
balances and logs.
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
    """What the losses of a batch are computed from."""

    system: System
    batch: Mapping[str, Tensor]
    """A batch of `data.transforms.TrainDataset`."""
    class_weights: Tensor
    """(classes,) float32."""
    canonical_fx: float
    """Focal length of the camera that metric depth is learned in, pixels."""
    step: Sequence[Mapping[str, Tensor]] = ()
    """`labels` and `depth` of all batches of an optimizer step, see `engine.accumulation`; empty if
    it has one batch only."""
    classes: Sequence[SemanticClass] = ()
    """The model's classes."""

    def truths(self, name: Literal["labels", "depth"]) -> list[Tensor]:
        """Ground truth of this batch, followed by that of each batch in `step`."""
        return [truth[name] for truth in (self.batch, *self.step)]

    def predict(self) -> Prediction:
        """Run the system on the batch; `TrainingError` if its number of classes is wrong."""
        inputs = (self.batch[name].float() for name in self.system.inputs)
        prediction = self.system(*(x.contiguous(memory_format=torch.channels_last) for x in inputs))
        if "logits" in prediction:
            found, expected = prediction["logits"].shape[1], len(self.class_weights)
            if found != expected and (found, expected) != (1, 2):  # one logit: foreground or not
                raise TrainingError(
                    f"the system has {found} classes, model.classes {expected}: set the system's"
                    " num_classes"
                )
        return prediction


class Losses(NamedTuple):
    """Losses of a batch."""

    parts: dict[str, dict[str, Tensor]]
    """Task (`segmentation`, `depth`) -> name -> weighted loss, zero where nothing was known."""
    present: dict[str, bool]
    """Whether the batch, or one accumulated with it, had anything to learn the task from."""


class Objective(nn.Module):
    """The frame of all: classes against labels; what depth learns from, each says for itself."""

    views: tuple[str, ...] = ()
    """Other pictures of a sample that it learns from, beside those that the system needs."""
    usual_segmentation: Mapping[str, float] = {"cross_entropy": 1.0}
    usual_depth: Mapping[str, float] = {}
    sets: Tensor
    """(S, C) bool: the classes that labels from C on stand for; see `losses.segmentation`."""

    def __init__(
        self,
        segmentation: dict[str, float] | None = None,
        depth: dict[str, float] | None = None,
        deep_supervision: bool = False,
        weigh_classes: bool = True,
        depth_scale: float = 0.1,
    ) -> None:
        """Choose the losses against truth.

        Args:
            segmentation: Names in `losses.SEGMENTATION` -> weight; by default
                `usual_segmentation`.
            depth: Names in `losses.DEPTH` -> weight; by default `usual_depth`.
            deep_supervision: Whether the side outputs are held to the truth, too.
            weigh_classes: Whether rare classes weigh more.
            depth_scale: Weight of `losses.depth.laplace` for systems that predict the scale of
                their depth error.
        """
        super().__init__()
        self.segmentation = self.usual_segmentation if segmentation is None else segmentation
        self.depth = self.usual_depth if depth is None else depth
        check_terms(self.segmentation, losses.SEGMENTATION, "segmentation")
        check_terms(self.depth, losses.DEPTH, "depth")
        check_terms({"laplace": depth_scale}, {"laplace": losses.laplace}, "depth")
        self.depth_scale = depth_scale
        self.deep_supervision, self.weigh_classes = deep_supervision, weigh_classes
        self.register_buffer("sets", torch.zeros(0, 0, dtype=torch.bool), persistent=False)

    @property
    def provenance(self) -> Mapping[str, Any]:
        """What its teachers were trained on, and their terms, for the model card."""
        return {"trained_on": [], "terms": ""}

    def prepare(self, system: System) -> None:
        """Make what depends on the system that is to be trained."""

    def forward(self, context: Context) -> Losses:
        """See `Losses`."""
        prediction = context.predict()
        parts = {}
        labelled = any(map(known_labels, context.step or [context.batch]))
        present = {"segmentation": labelled, "depth": False}
        if "logits" in prediction:
            parts["segmentation"] = self.segmentation_parts(context, prediction)
        if "depth" in prediction:
            parts["depth"], present["depth"] = self.depth_parts(context, prediction)
        return Losses({task: values for task, values in parts.items() if values}, present)

    def one_class(self, labels_NHW: Tensor) -> Tensor:
        """Labels without those that stand for sets of classes."""
        if not len(self.sets):
            return labels_NHW
        return labels_NHW.where(labels_NHW < self.sets.shape[1], UNLABELLED)

    def segmentation_parts(self, context: Context, prediction: Prediction) -> dict[str, Tensor]:
        """The weighted losses of segmentation by name.

        Labels of `sets` of classes, see `losses.segmentation.cross_entropy`, teach that loss alone.
        """
        outputs = [prediction["logits"]]
        classes = max(2, outputs[0].shape[1])
        if self.deep_supervision:
            outputs += side_outputs(prediction, "side_logits")
        labels, *of_step = thinned(context.truths("labels"), outputs[0].shape[2:])
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
        """The weighted losses of depth by name, and whether there was anything to learn it from.

        Truth outside the system's `depth_limits` is clamped to them, so that the system still
        learns that something is far.
        """
        outputs = [prediction["depth"]]
        if self.deep_supervision:
            outputs += side_outputs(prediction, "side_depths")
        limits = context.system.depth_limits
        truths = [truth.clamp(*limits) for truth in context.truths("depth")]
        depth, *of_step = thinned(truths, outputs[0].shape[2:])

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


def thinned(truth_NHW: Sequence[Tensor], size: Sequence[int]) -> list[Tensor]:
    """Thin full-size truths out to the size of what a network says.

    Each cell gives one pixel of its own, the same one in all cells, by chance: over many batches
    the cell's middle, where a prediction stands, is hit without bias, and no label is blended.
    A truth of another size than the first one's is thinned in proportion.
    """
    full = truth_NHW[0].shape[1:]
    if tuple(size) == tuple(full):
        return list(truth_NHW)
    chances = [torch.rand((), device=truth_NHW[0].device) for _ in range(2)]
    result = []
    for truth in truth_NHW:
        rows, columns = (
            _places(own, max(1, round(own * small / large)), chance)
            for own, small, large, chance in zip(truth.shape[1:], size, full, chances, strict=True)
        )
        result.append(truth[:, rows[:, None], columns])
    return result


def _places(full: int, cells: int, chance: Tensor) -> Tensor:
    """Index of a pixel in each of so many cells, at the share `chance` of the cell."""
    places = (torch.arange(cells, device=chance.device) + chance) * (full / cells)
    # Clamped, since n - 1 plus a number just below 1 may round to n.
    return places.long().clamp(max=full - 1)


def check_terms(terms: Mapping[str, float], known: Mapping[str, object], what: str) -> None:
    """Refuse a loss that there is not, or a weight that is none."""
    for name, weight in terms.items():
        if name not in known:
            raise TrainingError(
                f"there is no {what} loss {name!r}, expected any of {', '.join(known)}"
            )
        if not 0 <= weight < math.inf:
            raise TrainingError(
                f"the weight of the {what} loss {name} is {weight}, expected a number >= 0"
            )


def side_outputs(
    prediction: Prediction, name: Literal["side_logits", "side_depths"]
) -> list[Tensor]:
    """Outputs for deep supervision; raises `TrainingError` if the system has none."""
    if name not in prediction:
        raise TrainingError(f"deep_supervision: the system gives no {name} while it trains")
    return prediction[name]


def known_labels(batch: Mapping[str, Tensor]) -> bool:
    """Whether any pixel of the batch is labelled."""
    return bool((batch["labels"] != UNLABELLED).any())


def known_depth(batch: Mapping[str, Tensor]) -> bool:
    """Whether any pixel of the batch has depth."""
    return bool(batch["depth"].isfinite().any())
