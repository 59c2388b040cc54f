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

"""Labels and depth against the truth, and depth from neighbouring pictures of known motion."""

from __future__ import annotations

import math
from collections.abc import Mapping

import torch
import torch.nn.functional as F
from torch import Tensor

from ..errors import TrainingError
from ..losses.reprojection import (
    edge_aware_smoothness,
    minimum_reprojection,
    photometric,
    project,
    sample,
)
from ..models.base import Prediction
from .base import Context
from .supervised import Supervised
from .video import NEIGHBOURS


class Neighbours(Supervised):
    """What `Supervised` learns, and that a picture's depth must explain its neighbours.

    For any system of metric depth. The neighbours of a sample, where it has them and their motions
    (`training.own_robot.motion`), are drawn into its picture by what the system says of its
    depth, and held against it (Godard et al. 2019): where the truth is a teacher's, this corrects
    what the teacher sees wrongly, and teaches where it is not trusted. Not the scale: motions that
    come from the teacher's depth are as large as that is. Samples without neighbours or motions are
    learned as with `Supervised`.

    Crops are taken for those of a pinhole camera with square pixels, centred: the bending of
    lenses is neglected. Give it motions that were found with the same neglect
    (`motion.as_pinhole`), or depth is learned at a wrong scale.
    """

    def __init__(
        self,
        segmentation: dict[str, float] | None = None,
        depth: dict[str, float] | None = None,
        photometric: float = 10.0,
        smoothness: float = 1e-2,
        deep_supervision: bool = False,
        weigh_classes: bool = True,
    ) -> None:
        """Choose the losses.

        Args:
            segmentation: As of `Supervised`.
            depth: As of `Supervised`.
            photometric: Weight of the difference of a picture and its neighbours drawn into it.
                The less the truth is to be trusted, the more; perfect truth wants 3 at most.
            smoothness: Weight of edge-aware smoothness, in pictures that have neighbours; a
                thousandth of `photometric` is usual.
            deep_supervision: As of `Supervised`.
            weigh_classes: As of `Supervised`.
        """
        super().__init__(segmentation, depth, deep_supervision, weigh_classes)
        for name, weight in (("photometric", photometric), ("smoothness", smoothness)):
            if not 0 <= weight < math.inf:
                raise TrainingError(f"{name} is {weight}, expected a number >= 0")
        self.photometric, self.smoothness = photometric, smoothness
        self.views = NEIGHBOURS if photometric or smoothness else ()

    def depth_parts(
        self, context: Context, prediction: Prediction
    ) -> tuple[dict[str, Tensor], bool]:
        """See `Objective`."""
        system, batch = context.system, context.batch
        if system.depth_kind != "metric":
            raise TrainingError(
                f"{type(system).__name__} has depth that is {system.depth_kind}: Neighbours is for"
                " metric depth"
            )
        parts, present = super().depth_parts(context, prediction)
        if not self.views:
            return parts, present
        known = {name: _known(name, batch) for name in self.views}
        parts |= self._views(context, prediction["depth"].float(), known)
        return parts, present or any(bool(known_N.any()) for known_N in known.values())

    def _views(
        self, context: Context, depth_N1HW: Tensor, known: Mapping[str, Tensor]
    ) -> dict[str, Tensor]:
        batch = context.batch
        # At the size of what the system says: as good as at the picture's own, and far cheaper.
        size = depth_N1HW.shape[2:]
        target, *sources = (
            F.interpolate(batch[name].float() / 255, size=tuple(size), mode="area")
            for name in ("image", *self.views)
        )
        # NaN would reach the gradient through every product, even where it does not count.
        scale_N = (batch["fx"] / context.canonical_fx).nan_to_num(1.0)
        metres = scale_N[:, None, None] * depth_N1HW[:, 0]
        stays = torch.eye(4, device=metres.device)
        camera = _shrunk(batch, size)
        warped, unwarped, valid = [], [], []
        for name, source in zip(self.views, sources, strict=True):
            motion = batch[f"motion_{name}"].where(known[name][:, None, None], stays)
            drawn, in_view = sample(source, project(metres, motion, *camera))
            warped.append(drawn)
            unwarped.append(photometric(target, source))
            valid.append(in_view & known[name][:, None, None])
        error, _ = minimum_reprojection(target, warped, unwarped, valid)
        smoothness = edge_aware_smoothness(
            1 / depth_N1HW[:, 0],
            target,
            valid_N=torch.stack(list(known.values())).any(0),
        )
        return {
            "photometric": self.photometric * error,
            "smoothness": self.smoothness * smoothness,
        }


def _known(name: str, batch: Mapping[str, Tensor]) -> Tensor:
    """Which samples have this neighbour, and all that it takes to draw it, (N,) bool."""
    camera = torch.stack([batch["fx"], batch["cx"], batch["cy"]]).isfinite().all(0)
    return batch[f"has_{name}"] & batch[f"motion_{name}"].isfinite().all((1, 2)) & camera


def _shrunk(batch: Mapping[str, Tensor], size: torch.Size) -> tuple[Tensor, ...]:
    """Focal lengths and principal point, x and y in turn, when pictures shrink to (H, W)."""
    y, x = (small / full for small, full in zip(size, batch["image"].shape[2:], strict=True))
    fx, cx, cy = batch["fx"], batch["cx"], batch["cy"]
    return fx * x, fx * y, (cx + 0.5) * x - 0.5, (cy + 0.5) * y - 0.5
