"""Labels and depth against the truth."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor, nn

from .. import losses
from . import (
    Losses,
    check_terms,
    depth_losses,
    known_depth,
    known_labels,
    predict,
    segmentation_losses,
)


class Supervised(nn.Module):
    """Any weighted sums of the losses by name, one for each task."""

    def __init__(
        self,
        segmentation: dict[str, float] | None = None,
        depth: dict[str, float] | None = None,
        deep_supervision: bool = False,
        weigh_classes: bool = True,
    ) -> None:
        """Choose the losses.

        Args:
            segmentation: Names in `losses.SEGMENTATION` -> weight; cross-entropy if not given.
            depth: Names in `losses.DEPTH` -> weight; abs-rel and gradients if not given.
            deep_supervision: Whether the side outputs are held to the truth, too.
            weigh_classes: Whether rare classes weigh more.
        """
        super().__init__()
        self.segmentation = {"cross_entropy": 1.0} if segmentation is None else segmentation
        self.depth = {"relative_l1": 3.0, "log_gradient": 0.5} if depth is None else depth
        check_terms(self.segmentation, losses.SEGMENTATION, "segmentation")
        check_terms(self.depth, losses.DEPTH, "depth")
        self.deep_supervision, self.weigh_classes = deep_supervision, weigh_classes

    def forward(
        self,
        system: nn.Module,
        batch: Mapping[str, Tensor],
        class_weights: Tensor,
        canonical_fx: float,
    ) -> Losses:
        """See `Losses`."""
        prediction = predict(system, batch, len(class_weights))
        weights = class_weights if self.weigh_classes else None
        parts = {
            "segmentation": segmentation_losses(
                prediction, batch["labels"], self.segmentation, weights, self.deep_supervision
            ),
            "depth": depth_losses(
                prediction,
                batch["depth"],
                self.depth,
                system.depth_limits,  # type: ignore[arg-type]
                self.deep_supervision,
            ),
        }
        return Losses(
            {task: values for task, values in parts.items() if values},
            {"segmentation": known_labels(batch), "depth": known_depth(batch)},
        )
