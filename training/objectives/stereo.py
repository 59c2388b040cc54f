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

"""Self-supervised depth from rectified stereo pairs: the objective of system 000."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol, runtime_checkable

from torch import Tensor

from ..errors import TrainingError
from ..losses.numerics import mean_over
from ..losses.reprojection import (
    edge_aware_smoothness,
    left_right_consistency,
    photometric,
    warp_disparity,
)
from ..models.base import Prediction
from ..models.blocks import resize
from .base import Context, Objective


@runtime_checkable
class PredictsDisparity(Protocol):
    """A system with depth = `focal_baseline` / disparity, for example DepthSegNet."""

    focal_baseline: float


class Stereo(Objective):
    """Warp each view to the other by disparity, at several scales (Godard et al. 2017).

    For a system with the output `disparities`. Samples without a right view are used for
    segmentation, and for depth if they have ground truth and `depth` has losses.
    """

    def __init__(
        self,
        segmentation: dict[str, float] | None = None,
        depth: dict[str, float] | None = None,
        smoothness: float = 0.1,
        consistency: float = 1.0,
        weigh_classes: bool = True,
    ) -> None:
        """Select the losses.

        Args:
            segmentation: Names in `losses.SEGMENTATION` -> weight; default: cross-entropy.
            depth: Names in `losses.DEPTH` -> weight, for samples with true depth; default: none.
            smoothness: Weight of edge-aware smoothness at the finest scale, halved at each coarser
                one.
            consistency: Weight of left-right consistency.
            weigh_classes: Whether to give rare classes a higher weight.
        """
        super().__init__(segmentation, depth, weigh_classes=weigh_classes)
        self.smoothness, self.consistency = smoothness, consistency

    def depth_parts(
        self, context: Context, prediction: Prediction
    ) -> tuple[dict[str, Tensor], bool]:
        """See `Objective`."""
        system, batch = context.system, context.batch
        if "disparities" not in prediction or not isinstance(system, PredictsDisparity):
            raise TrainingError(
                f"{type(system).__name__} has no output disparities: Stereo is for DepthSegNet"
            )
        parts, present = super().depth_parts(context, prediction)
        valid = batch["has_right"] & batch["baseline"].isfinite()
        baseline = batch["baseline"].nan_to_num(0.0)
        # Disparities are fractions of the width for which depth * disparity is `focal_baseline`.
        width_N = context.canonical_fx * baseline / system.focal_baseline
        views = self._views(prediction["disparities"], batch, width_N, valid)
        return parts | views, present or bool(valid.any())

    def _views(
        self,
        disparities: list[Tensor],
        batch: Mapping[str, Tensor],
        width_N: Tensor,
        valid_N: Tensor,
    ) -> dict[str, Tensor]:
        left, right = (batch[name].float() / 255 for name in ("image", "right"))
        full = left.shape[-1]
        sums = {name: left.new_zeros(()) for name in ("photometric", "smoothness", "consistency")}
        for scale, disparity in enumerate(disparities):
            size = disparity.shape[2:]
            views = (resize(left, size), resize(right, size))
            # In pixels of this scale.
            pixels = disparity.float() * (width_N * size[1] / full)[:, None, None, None]
            for side, sign in ((0, 1), (1, -1)):
                warped, _ = warp_disparity(views[1 - side], sign * pixels[:, side])
                error = photometric(views[side], warped)
                sums["photometric"] += mean_over(error, valid_N[:, None, None].expand_as(error))
                smoothness = edge_aware_smoothness(
                    disparity[:, side], views[side], normalised=False, valid_N=valid_N
                )
                sums["smoothness"] += self.smoothness / 2**scale * smoothness
            inconsistency = left_right_consistency(pixels[:, 0], pixels[:, 1], valid_N)
            sums["consistency"] += self.consistency * inconsistency / size[1]
        return sums
