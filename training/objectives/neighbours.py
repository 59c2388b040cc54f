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

"""Supervised training plus self-supervised depth from video frames with known motion."""

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
    """Supervised losses plus the photometric error of neighbouring frames.

    For any system with metric depth. If a sample has neighbours with known motions (from
    `training.own_robot.motion`), they are warped to its image by the predicted depth and compared
    with it (Godard et al. 2019). This corrects errors of pseudo-depth from a teacher and supervises
    pixels with low confidence. It does not correct the scale: motions that were estimated with the
    teacher's depth have its scale. Other samples are used as in `Supervised`.

    Crops are assumed to come from a pinhole camera with square pixels and centred principal point.
    Lens distortion is ignored. The motions must be estimated with the same assumption
    (`motion.as_pinhole`), otherwise depth gets a wrong scale.
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
        """Select the losses.

        Args:
            segmentation: See `Supervised`.
            depth: See `Supervised`.
            photometric: Weight of the photometric error of the warped neighbours. Use a higher
                weight for less reliable depth, and at most 3 for exact depth.
            smoothness: Weight of edge-aware smoothness for images with neighbours, usually a
                thousandth of `photometric`.
            deep_supervision: See `Supervised`.
            weigh_classes: See `Supervised`.
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
                f"{type(system).__name__} has {system.depth_kind} depth: Neighbours needs metric"
                " depth"
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
        # At the size of the prediction: as accurate as at the image size, and much cheaper.
        size = depth_N1HW.shape[2:]
        target, *sources = (
            F.interpolate(batch[name].float() / 255, size=tuple(size), mode="area")
            for name in ("image", *self.views)
        )
        # Replace NaN, which would reach the gradients even of masked pixels.
        scale_N = (batch["fx"] / context.canonical_fx).nan_to_num(1.0)
        metres = scale_N[:, None, None] * depth_N1HW[:, 0]
        identity = torch.eye(4, device=metres.device)
        camera = _scaled_intrinsics(batch, size)
        warped, unwarped, valid = [], [], []
        for name, source in zip(self.views, sources, strict=True):
            motion = batch[f"motion_{name}"].where(known[name][:, None, None], identity)
            image, in_view = sample(source, project(metres, motion, *camera))
            warped.append(image)
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
    """Check which samples have this neighbour, its motion and intrinsics, (N,) bool."""
    camera = torch.stack([batch["fx"], batch["cx"], batch["cy"]]).isfinite().all(0)
    return batch[f"has_{name}"] & batch[f"motion_{name}"].isfinite().all((1, 2)) & camera


def _scaled_intrinsics(batch: Mapping[str, Tensor], size: torch.Size) -> tuple[Tensor, ...]:
    """Compute fx, fy, cx, cy of images resized to `size` (H, W)."""
    y, x = (small / full for small, full in zip(size, batch["image"].shape[2:], strict=True))
    fx, cx, cy = batch["fx"], batch["cx"], batch["cy"]
    return fx * x, fx * y, (cx + 0.5) * x - 0.5, (cy + 0.5) * y - 0.5
