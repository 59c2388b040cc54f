"""Objectives: what a system is trained for, from a batch to named losses.

An objective is an `nn.Module` called with the system, a batch, the classes' weights and the focal
length of the canonical camera. It gives `Losses`, which the task balances and logs.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn

from depthseg_ros.model_card import UNLABELLED

from .. import losses
from ..errors import TrainingError


class Losses(NamedTuple):
    """Losses of a batch."""

    parts: dict[str, dict[str, Tensor]]
    """Task (`segmentation`, `depth`) -> name -> weighted loss, zero where nothing was known."""
    present: dict[str, bool]
    """Whether the batch had anything to learn the task from."""


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
    """
    if tuple(size) == tuple(truth_NHW[0].shape[1:]):
        return list(truth_NHW)
    device = truth_NHW[0].device
    rows, columns = (
        # Clamped, since n - 1 plus a number just below 1 may round to n.
        ((torch.arange(n, device=device) + torch.rand((), device=device)) * (full / n))
        .long()
        .clamp(max=full - 1)
        for n, full in zip(size, truth_NHW[0].shape[1:], strict=True)
    )
    return [truth[:, rows[:, None], columns] for truth in truth_NHW]


def check_terms(terms: Mapping[str, float], known: Mapping[str, object], what: str) -> None:
    """Refuse a loss that there is not, or a weight that is none."""
    for name, weight in terms.items():
        if name not in known:
            raise TrainingError(
                f"there is no {what} loss {name!r}, expected any of {', '.join(known)}"
            )
        if not weight >= 0:
            raise TrainingError(f"the weight of the {what} loss {name} is {weight}, expected >= 0")


def segmentation_losses(
    prediction: Mapping[str, Tensor],
    labels_NHW: Tensor,
    terms: Mapping[str, float],
    class_weights: Tensor | None,
    deep_supervision: bool = False,
) -> dict[str, Tensor]:
    """The weighted segmentation losses; nothing of a system without that task."""
    if "logits" not in prediction:
        return {}
    outputs = [prediction["logits"]]
    if deep_supervision:
        outputs += side_outputs(prediction, "side_logits")
    (labels,) = thinned([labels_NHW], outputs[0].shape[2:])
    return {
        name: weight
        * losses.multi_output(
            lambda o, t, name=name: losses.SEGMENTATION[name](o, t, class_weights), outputs, labels
        )
        for name, weight in terms.items()
    }


def depth_losses(
    prediction: Mapping[str, Tensor],
    depth_NHW: Tensor,
    terms: Mapping[str, float],
    limits: tuple[float, float],
    deep_supervision: bool = False,
) -> dict[str, Tensor]:
    """The weighted losses against true depth; nothing of a system without that task.

    Truth beyond the `limits` of what the system can say is drawn to their end, so that what is far
    is at least told to be far.
    """
    if "depth" not in prediction:
        return {}
    outputs = [prediction["depth"]]
    if deep_supervision:
        outputs += side_outputs(prediction, "side_depths")
    (depth,) = thinned([depth_NHW.clamp(*limits)], outputs[0].shape[2:])
    return {
        name: weight
        * losses.multi_output(
            lambda o, t, name=name: losses.DEPTH[name](o[:, 0], t), outputs, depth
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
