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

"""Depth from rectified stereo pairs, without depth truth: the objective of system 000."""

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
    """A system whose depth is `focal_baseline` / disparity, such as DepthSegNet."""

    focal_baseline: float


class Stereo(Objective):
    """Each view drawn from the other by its disparity, at several scales (Godard et al. 2017).

    For a system that gives `disparities`. Samples without a right view teach labels alone, or depth
    too where they have its truth and `depth` names losses.
    """

    def __init__(
        self,
        segmentation: dict[str, float] | None = None,
        depth: dict[str, float] | None = None,
        smoothness: float = 0.1,
        consistency: float = 1.0,
        weigh_classes: bool = True,
    ) -> None:
        """Choose the losses.

        Args:
            segmentation: Names in `losses.SEGMENTATION` -> weight; cross-entropy if not given.
            depth: Losses against true depth, where there is any; none if not given.
            smoothness: Weight of edge-aware smoothness at the finest scale; half at each next.
            consistency: Weight of left-right consistency.
            weigh_classes: Whether rare classes weigh more.
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
                f"{type(system).__name__} gives no disparities: Stereo is for DepthSegNet"
            )
        parts, present = super().depth_parts(context, prediction)
        valid = batch["has_right"] & batch["baseline"].isfinite()
        baseline = batch["baseline"].nan_to_num(0.0)
        # Disparities are shares of the width at which depth * disparity is `focal_baseline`.
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
                drawn, _ = warp_disparity(views[1 - side], sign * pixels[:, side])
                error = photometric(views[side], drawn)
                sums["photometric"] += mean_over(error, valid_N[:, None, None].expand_as(error))
                smoothness = edge_aware_smoothness(
                    disparity[:, side], views[side], normalised=False, valid_N=valid_N
                )
                sums["smoothness"] += self.smoothness / 2**scale * smoothness
            inconsistency = left_right_consistency(pixels[:, 0], pixels[:, 1], valid_N)
            sums["consistency"] += self.consistency * inconsistency / size[1]
        return sums
