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

An objective is an `nn.Module` called with the system, a batch, the classes' weights and the focal
length of the canonical camera. It gives `Losses`, which the task balances and logs.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn

from depthseg_ros.model_card import UNLABELLED

from ..errors import TrainingError
from ..losses import by_name as losses


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
    ) -> None:
        """Choose the losses against truth.

        Args:
            segmentation: Names in `losses.SEGMENTATION` -> weight; by default
                `usual_segmentation`.
            depth: Names in `losses.DEPTH` -> weight; by default `usual_depth`.
            deep_supervision: Whether the side outputs are held to the truth, too.
            weigh_classes: Whether rare classes weigh more.
        """
        super().__init__()
        self.segmentation = self.usual_segmentation if segmentation is None else segmentation
        self.depth = self.usual_depth if depth is None else depth
        check_terms(self.segmentation, losses.SEGMENTATION, "segmentation")
        check_terms(self.depth, losses.DEPTH, "depth")
        self.deep_supervision, self.weigh_classes = deep_supervision, weigh_classes
        self.register_buffer("sets", torch.zeros(0, 0, dtype=torch.bool), persistent=False)

    def forward(
        self,
        system: nn.Module,
        batch: Mapping[str, Tensor],
        class_weights: Tensor,
        canonical_fx: float,
    ) -> Losses:
        """See `Losses`."""
        prediction = predict(system, batch, len(class_weights))
        parts = {}
        step = batch.get("step", ())
        present = {"segmentation": any(map(known_labels, step or [batch])), "depth": False}
        if "logits" in prediction:
            weights = class_weights if self.weigh_classes else None
            parts["segmentation"] = segmentation_losses(
                prediction,
                batch["labels"],
                self.segmentation,
                weights,
                self.deep_supervision,
                [truth["labels"] for truth in step],
                self.sets,
            )
        if "depth" in prediction:
            parts["depth"], present["depth"] = self.depth_parts(
                system, prediction, batch, canonical_fx
            )
        return Losses({task: values for task, values in parts.items() if values}, present)

    def one_class(self, labels_NHW: Tensor) -> Tensor:
        """Labels without those that stand for sets of classes."""
        if not len(self.sets):
            return labels_NHW
        return labels_NHW.where(labels_NHW < self.sets.shape[1], UNLABELLED)

    def depth_parts(
        self,
        system: nn.Module,
        prediction: Mapping[str, Tensor],
        batch: Mapping[str, Tensor],
        canonical_fx: float,
    ) -> tuple[dict[str, Tensor], bool]:
        """The losses of depth by name, and whether the batch had anything to learn it from."""
        limits: tuple[float, float] = system.depth_limits  # type: ignore[assignment]
        step = batch.get("step", ())
        parts = depth_losses(
            prediction,
            batch["depth"],
            self.depth,
            limits,
            self.deep_supervision,
            [truth["depth"] for truth in step],
        )
        return parts, bool(self.depth) and any(map(known_depth, step or [batch]))


def predict(system: nn.Module, batch: Mapping[str, Tensor], classes: int) -> dict[str, Tensor]:
    """Run the system on a batch's pictures; `TrainingError` if it has not so many classes."""
    inputs = (batch[name].float() for name in system.inputs)  # type: ignore[union-attr]
    prediction = system(*(x.contiguous(memory_format=torch.channels_last) for x in inputs))
    if "logits" in prediction:
        said = prediction["logits"].shape[1]
        if said != classes and (said, classes) != (1, 2):  # one logit: foreground or not
            raise TrainingError(
                f"the system has {said} classes, model.classes {classes}: set the system's"
                " num_classes"
            )
    return prediction


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


def segmentation_losses(
    prediction: Mapping[str, Tensor],
    labels_NHW: Tensor,
    terms: Mapping[str, float],
    class_weights: Tensor | None,
    deep_supervision: bool = False,
    labels_of_step: Sequence[Tensor] = (),
    sets: Tensor | None = None,
) -> dict[str, Tensor]:
    """The weighted segmentation losses by name; for `labels_of_step` see `losses.multi_output`.

    Labels of `sets` of classes, see `losses.segmentation.cross_entropy`, teach that loss alone.
    """
    outputs = [prediction["logits"]]
    one_class = max(2, outputs[0].shape[1])
    if deep_supervision:
        outputs += side_outputs(prediction, "side_logits")
    labels, *of_step = thinned([labels_NHW, *labels_of_step], outputs[0].shape[2:])

    def loss(name: str, output: Tensor, truth: Tensor) -> Tensor:
        if sets is None or not len(sets):
            return losses.SEGMENTATION[name](output, truth, class_weights)
        if name == "cross_entropy":
            return losses.SEGMENTATION[name](output, truth, class_weights, sets)
        truth = truth.where(truth < one_class, UNLABELLED)
        return losses.SEGMENTATION[name](output, truth, class_weights)

    return {
        name: weight
        * losses.multi_output(
            functools.partial(loss, name),
            outputs,
            labels,
            of_step,
        )
        for name, weight in terms.items()
    }


def depth_losses(
    prediction: Mapping[str, Tensor],
    depth_NHW: Tensor,
    terms: Mapping[str, float],
    limits: tuple[float, float],
    deep_supervision: bool = False,
    depths_of_step: Sequence[Tensor] = (),
) -> dict[str, Tensor]:
    """The weighted losses against true depth by name; for `depths_of_step` see `multi_output`.

    Truth beyond the `limits` of what the system can say is drawn to their end, so that what is far
    is at least told to be far.
    """
    outputs = [prediction["depth"]]
    if deep_supervision:
        outputs += side_outputs(prediction, "side_depths")
    truths = [truth.clamp(*limits) for truth in (depth_NHW, *depths_of_step)]
    depth, *of_step = thinned(truths, outputs[0].shape[2:])
    return {
        name: weight
        * losses.multi_output(
            lambda o, t, name=name: losses.DEPTH[name](o[:, 0], t), outputs, depth, of_step
        )
        for name, weight in terms.items()
    }


def side_outputs(prediction: Mapping[str, Tensor], name: str) -> list[Tensor]:
    """What deep supervision is about; raises `TrainingError` where a system has none."""
    if name not in prediction:
        raise TrainingError(f"deep_supervision: the system gives no {name} while it trains")
    return list(prediction[name])


def known_labels(batch: Mapping[str, Tensor]) -> bool:
    """Whether any pixel of the batch is labelled."""
    return bool((batch["labels"] != UNLABELLED).any())


def known_depth(batch: Mapping[str, Tensor]) -> bool:
    """Whether any pixel of the batch has depth."""
    return bool(batch["depth"].isfinite().any())
