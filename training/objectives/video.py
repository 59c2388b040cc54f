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

"""Self-supervised depth from video, guided by labels: the objective of system 004."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol, runtime_checkable

import torch
from torch import Tensor

from ..errors import TrainingError
from ..losses.guidance import ranking, semantic_triplet
from ..losses.reprojection import (
    edge_aware_smoothness,
    minimum_reprojection,
    photometric,
    project,
    sample,
)
from ..models.base import Prediction
from ..models.blocks import resize
from .base import Context, Objective, known_labels

NEIGHBOURS = ("previous", "next")


@runtime_checkable
class PredictsPose(Protocol):
    """A system with a pose network, for example SemanticGuided."""

    def pose(self, image_N3HW: Tensor, neighbor_N3HW: Tensor) -> Tensor:
        """Estimate the camera motion between two images, see `SemanticGuided.pose`."""


class Video(Objective):
    """Warp neighbouring frames to the image by predicted depth and motion (Godard et al. 2019).

    For a system with the output `side_depths` and the method `pose`. Samples without neighbours are
    used for segmentation only.
    """

    default_segmentation: Mapping[str, float] = {"cross_entropy": 0.3}

    def __init__(
        self,
        segmentation: dict[str, float] | None = None,
        smoothness: float = 1e-3,
        triplet: float = 0.1,
        ranking: float = 0.0,
        weigh_classes: bool = True,
    ) -> None:
        """Select the losses.

        Args:
            segmentation: Names in `losses.SEGMENTATION` -> weight; default: 0.3 * cross-entropy.
            smoothness: Weight of edge-aware smoothness at the finest scale, halved at each coarser
                one.
            triplet: Weight of the semantic triplet loss on features of the depth decoder.
            ranking: Weight of the ranking loss across class borders, which needs (pseudo-)depth.
            weigh_classes: Whether to give rare classes a higher weight.
        """
        super().__init__(segmentation, weigh_classes=weigh_classes)
        self.smoothness, self.triplet, self.ranking = smoothness, triplet, ranking

    def depth_parts(
        self, context: Context, prediction: Prediction
    ) -> tuple[dict[str, Tensor], bool]:
        """See `Objective`."""
        system, batch = context.system, context.batch
        if "side_depths" not in prediction or not isinstance(system, PredictsPose):
            raise TrainingError(
                f"{type(system).__name__} has no pose network: Video is for SemanticGuided"
            )
        present = any(bool(batch[f"has_{name}"].any()) for name in NEIGHBOURS)
        present |= bool(self.triplet or self.ranking) and known_labels(batch)
        parts = self._views(system, [prediction["depth"], *prediction["side_depths"]], batch)
        labels = self.single_class_labels(batch["labels"])
        if self.triplet:
            # The weight is halved at each coarser level (Jung et al. 2021).
            levels = [
                semantic_triplet(features, labels) / 2**level
                for level, features in zip((3, 2, 1), prediction["features"], strict=True)
            ]
            parts["triplet"] = self.triplet * torch.stack(levels).sum()
        if self.ranking:
            depth = resize(prediction["depth"], batch["labels"].shape[1:])[:, 0]
            parts["ranking"] = self.ranking * ranking(depth, batch["depth"], labels)
        return parts, present

    def _views(
        self, system: PredictsPose, depths: list[Tensor], batch: Mapping[str, Tensor]
    ) -> dict[str, Tensor]:
        target = batch["image"].float()
        # Replace missing neighbours (black) with the image itself, so that they do not distort the
        # batch norm statistics of the pose network.
        sources = [
            batch[name].float().where(batch[f"has_{name}"][:, None, None, None], target)
            for name in NEIGHBOURS
        ]
        poses = [system.pose(target, source) for source in sources]
        target, sources = target / 255, [source / 255 for source in sources]
        unwarped = [photometric(target, source) for source in sources]
        camera = (batch["fx"], batch["fx"], batch["cx"], batch["cy"])
        any_neighbour = torch.stack([batch[f"has_{name}"] for name in NEIGHBOURS]).any(0)
        reprojection = smoothness = target.new_zeros(())
        for scale, depth in enumerate(depths):
            full = resize(depth, target.shape[2:])[:, 0]
            warped, valid = [], []
            for name, source, pose in zip(NEIGHBOURS, sources, poses, strict=True):
                image, in_view = sample(source, project(full, pose, *camera))
                warped.append(image)
                valid.append(in_view & batch[f"has_{name}"][:, None, None])
            error, _ = minimum_reprojection(target, warped, unwarped, valid)
            reprojection = reprojection + error
            smoothness = smoothness + self.smoothness / 2**scale * edge_aware_smoothness(
                1 / depth[:, 0], resize(target, depth.shape[2:]), valid_N=any_neighbour
            )
        scales = len(depths)
        return {"photometric": reprojection / scales, "smoothness": smoothness / scales}
