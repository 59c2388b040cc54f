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

"""The node's outputs: what each is made of, and how.

`OUTPUTS` is the list of them. A `FrameOutputs` holds one image and its prediction; what several
outputs need is computed once, by the first that asks.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from geometry_msgs.msg import Vector3
from numpy.typing import NDArray
from sensor_msgs.msg import CameraInfo, Image, LaserScan, PointCloud2
from std_msgs.msg import Header

from ..derived.distances import class_distances
from ..derived.ground import Ground, fit_ground
from ..derived.masks import class_mask, cut_out
from ..derived.mounting import LEAST_GROUND, LEAST_SHARE, Comparison, compare
from ..derived.points import picture_points
from ..derived.scale import ScaleEstimate
from ..derived.scan import BEAM, obstacle_scan
from ..imaging.geometry import Intrinsics, RayCache, sample, to_millimetres, turned
from ..imaging.rendering import overlay
from ..model_card import UNLABELLED, ModelCard
from ..msg import ClassDistance, ClassDistances
from ..msg import Ground as GroundMessage
from ..perception import Prediction
from ..texts import shortened
from .messages import camera_info_message, image_message, points_message, scan_message
from .parameters import Settings
from .tf import Transforms

COARSE_WIDTH = 320
"""Columns that are enough for ground and scan: networks tell no more apart."""
COLUMNS_A_BEAM = 1.2
"""How many columns of pixels a beam of the scan spans at least, so that none falls between two."""


class Unavailable(ValueError):
    """An output cannot be made of this picture; the message says why."""


class FrameOutputs:
    """One picture and what follows from it.

    Args:
        header: Of the picture's message.
        image: (H, W, 3) uint8 RGB.
        prediction: What the network said of it.
        card: The model's.
        camera: That of the picture; its lens and size included.
        info: What the camera said of itself, if it did.
        settings: The node's parameters.
        scale: What the camera's pictures before told of the depth's scale.
        rays: Those of the camera, as far as pictures before needed them.
        transforms: What tf says.
        quality_issues: Of the image, see `derived.image_quality`.
    """

    def __init__(
        self,
        header: Header,
        image: NDArray[np.uint8],
        prediction: Prediction,
        card: ModelCard,
        camera: Intrinsics,
        info: CameraInfo | None,
        settings: Settings,
        scale: ScaleEstimate,
        rays: RayCache,
        transforms: Transforms,
        quality_issues: tuple[str, ...] = (),
    ) -> None:
        self.header, self.image, self.card = header, image, card
        self.camera, self.info, self.settings = camera, info, settings
        self._prediction, self._scale = prediction, scale
        self._rays, self._transforms, self._quality_issues = rays, transforms, quality_issues

    @cached_property
    def labels(self) -> Any:
        """(H, W) uint8 class ids, those of too little confidence unlabelled."""
        labels, confidence = self._prediction.labels, self._prediction.confidence
        least = math.ceil(255 * self.settings.min_confidence)
        if labels is None or confidence is None or least == 0:
            return labels
        return np.where(confidence < least, np.uint8(UNLABELLED), labels)

    @property
    def confidence(self) -> Any:
        """(H, W) uint8."""
        return self._prediction.confidence

    @cached_property
    def _plain_depth(self) -> NDArray[np.float32]:
        """The network's, scaled by the parameter alone."""
        depth: Any = self._prediction.depth
        factor = self.settings.depth_scale
        return depth if factor == 1 else depth * np.float32(factor)

    @cached_property
    def _corrects(self) -> bool:
        return self.settings.correct_scale and self.scale > 0  # NaN is not

    @cached_property
    def depth(self) -> NDArray[np.float32]:
        """(H, W) float32, NaN where there is none: metres, or else `in_metres` is False."""
        return self._plain_depth * np.float32(self.scale) if self._corrects else self._plain_depth

    @property
    def farthest(self) -> float:
        """The greatest depth that the model gives, in the units of `depth`."""
        limits: Any = self.card.depth
        factor = self.settings.depth_scale * (self.scale if self._corrects else 1)
        return float(limits.max * factor)

    @property
    def in_metres(self) -> bool:
        """Whether depth is metric, by the model or by the camera's known height."""
        return self.card.needs_fx or self._corrects

    def require_metres(self) -> None:
        """Raise `Unavailable` where depth is not in metres."""
        if not self.in_metres:
            raise Unavailable(
                "the model's depth has no unit: give camera_height, or ground: tf, and set"
                " correct_scale, with ground in view"
            )

    def cut(self, depth: NDArray[np.float32]) -> NDArray[np.float32]:
        """Depth (H, W) without the classes that are to be cut out."""
        ids = self._ids(self.settings.cut_classes)
        return cut_out(depth, self.labels, ids) if ids else depth

    # --- The ground -----------------------------------------------------------------------------

    @cached_property
    def step(self) -> int:
        """Every so many rows and columns, ground and scan look."""
        return max(1, self.camera.width // COARSE_WIDTH)

    def sampled(self, array: NDArray[Any], step: int) -> NDArray[Any]:
        """An (H, W, ...) array at the pixels of `rays(step)`."""
        height, width = array.shape[:2]
        return array[sample(height, step), sample(width, step)]

    def rays(self, step: int) -> NDArray[np.float32]:
        """Those of the camera, see `geometry.rays`."""
        return self._rays(self.camera, step)

    def upright_rays(self, step: int) -> NDArray[np.float32]:
        """The same along the axes of the image when it is upright."""
        return turned(self.rays(step), self.settings.image_rotation)

    @cached_property
    def _mounted(self) -> tuple[Ground | None, str]:
        """The ground by how the camera is mounted, or why that is not known."""
        s = self.settings
        if s.ground == "tf":
            try:
                header = self.header
                return self._transforms.ground(s.ground_frame, header.frame_id, header.stamp), ""
            except ValueError as error:
                return None, str(error)
        if s.camera_height == 0:
            return None, "no ground is to be seen, and camera_height is not given"
        upright = Ground.from_mounting(s.camera_height, s.camera_pitch, s.camera_roll)
        return upright.turned(-s.image_rotation), ""

    @cached_property
    def _is_ground(self) -> NDArray[np.bool_]:
        """Which pixels of `rays(step)` are labelled as what a ground plane is fitted to."""
        obstacles = self._obstacles
        flat = [
            c.id
            for c in self.card.classes
            if c.id not in obstacles and not {"sky", "obstacle", "movable"} & set(c.flags)
        ]
        return class_mask(self.sampled(self.labels, self.step), flat) > 0

    @cached_property
    def _fitted(self) -> tuple[Ground, float] | None:
        """The ground in the plain depth, and the share of pixels that lie in it."""
        if self.labels is None:
            return None
        mounted, rotation = self._mounted[0], self.settings.image_rotation
        fitted = fit_ground(
            self.upright_rays(self.step),
            self.sampled(self._plain_depth, self.step),
            self._is_ground,
            mounted and mounted.turned(rotation),
        )
        return fitted and (fitted[0].turned(-rotation), fitted[1])

    def compare_mounting(self) -> Comparison | None:
        """The ground in the plain depth beside that of the mounting; None: not known well enough.

        Depth without a unit is taken to be of the mounting's scale, which leaves the angles.
        """
        mounted = self._mounted[0]
        if mounted is None or not _both(self.card) or self._fitted is None:
            return None
        fitted, share = self._fitted
        known = self._is_ground & np.isfinite(self.sampled(self._plain_depth, self.step))
        if share < LEAST_SHARE or np.mean(known) < LEAST_GROUND:
            return None
        if not self.card.needs_fx:
            fitted = fitted.scaled(mounted.height / fitted.height)
        rotation = self.settings.image_rotation
        rays = self.upright_rays(self.step)[:, known]
        return compare(fitted.turned(rotation), mounted.turned(rotation), rays)

    @cached_property
    def scale(self) -> float:
        """What makes the ground lie as deep as the camera's known height; NaN: not known."""
        mounted, _ = self._mounted
        if mounted is None or (self.card.depth and self.card.depth.kind == "normalised"):
            return math.nan
        own = self.settings.depth_scale
        if self._fitted is not None:
            self._scale.add(self._fitted[0].height / own)
        return self._scale.of(mounted.height / own)

    @cached_property
    def ground(self) -> tuple[Ground, float]:
        """The ground, in the units of `depth`, and the share of pixels that lie in it, or NaN."""
        if self.settings.ground == "fit" and self._fitted is not None:
            fitted, share = self._fitted
            return (fitted.scaled(self.scale) if self._corrects else fitted), share
        mounted, why = self._mounted
        if mounted is None:
            raise Unavailable(why)
        return mounted, math.nan

    # --- Classes --------------------------------------------------------------------------------

    def _ids(self, names: tuple[str, ...]) -> frozenset[int]:
        return frozenset(c.id for c in self.card.classes if c.name in names)

    @cached_property
    def _obstacles(self) -> frozenset[int]:
        named = self._ids(self.settings.obstacle_classes)
        return named or frozenset(c.id for c in self.card.classes if "obstacle" in c.flags)

    # --- Messages -------------------------------------------------------------------------------

    def depth_image(self) -> Image:
        """`depth/image`."""
        depth = self.cut(self.depth)
        if self.settings.depth_encoding == "16UC1":
            return image_message(to_millimetres(depth), "16UC1", self.header)
        return image_message(depth, "32FC1", self.header)

    def points(self) -> PointCloud2:
        """`points`."""
        self.require_metres()
        step = self.settings.points_step
        return points_message(
            picture_points(
                self.sampled(self.image, step),
                self.sampled(self.cut(self.depth), step),
                self.rays(step),
                *(self.sampled(a, step) for a in (self.labels, self.confidence) if a is not None),
            ),
            self.header,
        )

    def scan(self) -> LaserScan:
        """`scan`."""
        self.require_metres()
        step, rotation = self.step, 0
        if self.settings.scan_frame:  # which is level; the image's own frame is as the camera is
            rotation = self.settings.image_rotation
        across = self.camera.fy if rotation in (90, 270) else self.camera.fx
        scan = obstacle_scan(
            turned(self.rays(step), rotation),
            self.sampled(self.depth, step),
            class_mask(self.sampled(self.labels, step), self._obstacles) > 0,
            self.ground[0].turned(rotation),
            self.settings.obstacle_heights,
            self.farthest,
            max(BEAM, COLUMNS_A_BEAM * step / across),
        )
        optical = self.header.frame_id
        frame = self.settings.scan_frame or re.sub("_optical(?=(_frame)?$)", "", optical)
        if frame == optical:
            raise Unavailable(
                f"the images' frame {shortened(optical)!r} has no _optical to be left out: give"
                " scan_frame, a frame at the camera with x forward and z up"
            )
        header = Header(stamp=self.header.stamp, frame_id=frame)
        return scan_message(scan, self.farthest, header)

    def ground_message(self) -> GroundMessage:
        """`ground`."""
        self.require_metres()
        ground, share = self.ground
        x, y, z = ground.up
        return GroundMessage(
            header=self.header,
            normal=Vector3(x=x, y=y, z=z),
            height=ground.height,
            pitch=ground.pitch,
            roll=ground.roll,
            inliers=share,
            scale=self.scale,
        )

    def distances(self) -> ClassDistances:
        """`class_distances`."""
        depth = self.depth if self.card.depth and self.in_metres else None
        names = {c.id: c.name for c in self.card.classes}
        found = class_distances(self.labels, names, self.confidence, depth, self.upright_rays)
        return ClassDistances(
            header=self.header,
            classes=[ClassDistance(**vars(d)) for d in found],
            quality_issues=self._quality_issues,
        )

    def traversable(self) -> Image:
        """`traversable`."""
        ids = [c.id for c in self.card.classes if "traversable" in c.flags]
        return image_message(class_mask(self.labels, ids), "mono8", self.header)

    def label_overlay(self) -> Image:
        """`label/overlay`."""
        picture = overlay(self.image, self.labels, self.card.classes, self.settings.overlay_opacity)
        return image_message(picture, "rgb8", self.header)

    def mono(self, array: NDArray[np.uint8], step: int = 1) -> Image:
        """Labels or confidence as they are, or at the points."""
        return image_message(self.sampled(array, step), "mono8", self.header)


@dataclass(frozen=True)
class Output:
    """One topic of a camera."""

    kind: type
    """Of its messages."""
    about: str
    """What is in it: encoding, units, what is special of some pixels."""
    given_by: Callable[[ModelCard], Any]
    """Whether a model gives it."""
    make: Callable[[FrameOutputs], Any]
    """Its message; raises `Unavailable` where there can be none of this picture."""


def _labels(card: ModelCard) -> bool:
    return bool(card.classes)


def _depth(card: ModelCard) -> bool:
    return card.depth is not None


def _space(card: ModelCard) -> bool:
    return card.depth is not None and card.depth.kind != "normalised"


def _both(card: ModelCard) -> bool:
    return _labels(card) and _space(card)


OUTPUTS = {
    "label/image": Output(
        Image,
        "mono8 class ids, 255 where a pixel is unlabelled",
        _labels,
        lambda seen: seen.mono(seen.labels),
    ),
    "label/confidence": Output(
        Image,
        "mono8, the probability of each label: 0 to 255",
        _labels,
        lambda seen: seen.mono(seen.confidence),
    ),
    "depth/image": Output(
        Image,
        "32FC1, metres along the optical axis, NaN where there is none; or 16UC1, millimetres, 0"
        " where there is none (`depth_encoding`). Of a model whose depth is not metric, its own"
        " unit, and the node warns",
        _depth,
        FrameOutputs.depth_image,
    ),
    "depth/camera_info": Output(
        CameraInfo,
        "of the depth image, pixel for pixel",
        _depth,
        lambda seen: camera_info_message(seen.camera, seen.header, seen.info),
    ),
    "points": Output(
        PointCloud2,
        "organised, in the order of pixels: x, y, z [m], rgb, label, confidence, of every"
        " `points_step`-th row and column",
        _space,
        FrameOutputs.points,
    ),
    "points/label": Output(
        Image,
        "mono8, the labels pixel for pixel those of the points",
        _both,
        lambda seen: seen.mono(seen.labels, seen.settings.points_step),
    ),
    "points/confidence": Output(
        Image,
        "mono8, likewise the confidence",
        _both,
        lambda seen: seen.mono(seen.confidence, seen.settings.points_step),
    ),
    "scan": Output(
        LaserScan,
        "the nearest obstacle of each half degree, by class and by height above the ground, in a"
        " frame of its own (`scan_frame`)",
        _both,
        FrameOutputs.scan,
    ),
    "ground": Output(
        GroundMessage,
        "the ground plane, how the camera stands above it, and what the depth's scale should be",
        _both,
        FrameOutputs.ground_message,
    ),
    "traversable": Output(
        Image,
        "mono8, 255 where the class is traversable, else 0",
        _labels,
        FrameOutputs.traversable,
    ),
    "class_distances": Output(
        ClassDistances,
        "per class: share of pixels, confidence, nearest distance and its bearing, median distance;"
        " NaN where depth is not metric; and image quality issues",
        _labels,
        FrameOutputs.distances,
    ),
    "label/overlay": Output(
        Image, "rgb8, colours and legend over the picture", _labels, FrameOutputs.label_overlay
    ),
}
"""Topic below the camera's -> what it is, in the order in which they are made: the slowest and
least urgent last."""
