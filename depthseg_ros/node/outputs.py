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

"""The node's outputs and how each is computed.

`OUTPUTS` lists them. A `FrameOutputs` holds one image and its prediction. Intermediate results that
several outputs need are computed once, when they are first used. All are computed at the size of
the prediction, h x w, or less; only what is published has the size of the outputs, H x W.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import cv2
import numpy as np
from geometry_msgs.msg import Vector3
from numpy.typing import NDArray
from sensor_msgs.msg import CameraInfo, Image, LaserScan, PointCloud2
from std_msgs.msg import Header

from ..derived import stability
from ..derived.depth_confidence import estimate_depth_confidence
from ..derived.distances import class_distances
from ..derived.ground import Ground, fit_ground
from ..derived.masks import class_mask, cut_out
from ..derived.mounting import LEAST_GROUND, LEAST_SHARE, Comparison, compare
from ..derived.points import picture_points
from ..derived.scale import ScaleEstimate
from ..derived.scan import BEAM, Scan, obstacle_scan
from ..derived.sharpening import sharpened
from ..imaging.geometry import Intrinsics, RayCache, sample, to_millimetres, turned
from ..imaging.rendering import overlay
from ..model_card import UNLABELLED, ModelCard
from ..msg import ClassDistance, ClassDistances
from ..msg import Ground as GroundMessage
from ..perception import Prediction
from ..shaping import resized, resized_depth
from ..texts import shortened
from .messages import (
    camera_frame,
    camera_info_message,
    image_message,
    points_message,
    scan_message,
)
from .parameters import Settings
from .tf import Transforms

COARSE_WIDTH = 320
"""Maximum columns used for ground and scan: networks do not resolve more."""
COLUMNS_A_BEAM = 1.2
"""Minimum number of pixel columns per beam of the scan, so that no beam is empty."""


class Unavailable(ValueError):
    """An output cannot be computed for this image; the message gives the reason."""


class FrameOutputs:
    """One image and all outputs derived from it.

    Args:
        header: Header of the image message.
        image: (H', W', 3) uint8 RGB, of the camera's size or reduced.
        prediction: The network's prediction for it, at any size h x w.
        card: The model card.
        camera: Intrinsics at the size of the camera's image, with lens distortion.
        info: The camera's camera_info, if it was received.
        settings: The node's parameters.
        scale: Estimate of the depth scale from previous images.
        stable: The depth of previous images.
        rays: Cache of the camera's rays.
        transforms: Transforms from tf.
        quality_issues: Quality issues of the image, see `derived.image_quality`.
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
        stable: stability.StableDepth,
        rays: RayCache,
        transforms: Transforms,
        quality_issues: tuple[str, ...] = (),
    ) -> None:
        self.header, self._image, self.card = header, image, card
        self.info, self.settings = info, settings
        self._prediction, self._scale, self._stable = prediction, scale, stable
        self._rays, self._transforms, self._quality_issues = rays, transforms, quality_issues
        self._source = camera
        width, height = camera.width, camera.height
        if 0 < settings.output_width < width:
            height = max(1, round(height * settings.output_width / width))
            width = settings.output_width
        self.camera = camera.scaled(width, height)
        """Intrinsics at the size of the outputs."""
        found = prediction.labels if prediction.depth is None else prediction.depth
        self._height, self._width = found.shape  # type: ignore[union-attr]  # one of both exists

    @cached_property
    def labels(self) -> Any:
        """(h, w) uint8 class ids, 255 (unlabelled) if the confidence is too low."""
        return self._labelled(self._prediction.labels, lambda: self.confidence)

    def _labelled(self, labels: Any, confidence: Callable[[], Any]) -> Any:
        """Labels of any size, 255 if the confidence of that size is too low."""
        least = math.ceil(255 * self.settings.min_confidence)
        if labels is None or least == 0:
            return labels
        return np.where(confidence() < least, np.uint8(UNLABELLED), labels)

    @property
    def confidence(self) -> Any:
        """(h, w) uint8 probabilities, 0 to 255."""
        return self._prediction.confidence

    @cached_property
    def shown_labels(self) -> Any:
        """`labels` (H, W)."""
        labels = self._shown("labels", self._prediction.labels)
        return self._labelled(labels, lambda: self.shown_confidence)

    @cached_property
    def shown_confidence(self) -> Any:
        """`confidence` (H, W)."""
        return self._shown("confidence", self.confidence)

    @cached_property
    def shown_depth_confidence(self) -> Any:
        """`depth_confidence` (H, W)."""
        return self._shown("depth_confidence", self.depth_confidence)

    def _shown(self, name: str, array: Any) -> Any:
        return None if array is None else resized(name, array, self.size)

    @property
    def size(self) -> tuple[int, int]:
        """Width W and height H of the outputs."""
        return self.camera.width, self.camera.height

    @cached_property
    def image(self) -> NDArray[np.uint8]:
        """(H, W, 3) uint8 RGB, the image."""
        if self._image.shape[1::-1] == self.size:
            return self._image
        return np.asarray(cv2.resize(self._image, self.size, interpolation=cv2.INTER_LINEAR))

    @cached_property
    def _plain_depth(self) -> NDArray[np.float32]:
        """The network's depth, fused over time, multiplied by `depth_scale` only."""
        depth: Any = self._prediction.depth
        if self.settings.fuse_depth and _space(self.card):
            depth = self._fused(depth)
        factor = self.settings.depth_scale
        return depth if factor == 1 else depth * np.float32(factor)

    def _fused(self, depth: NDArray[np.float32]) -> NDArray[np.float32]:
        stamp, labels, image = self.header.stamp, self._prediction.labels, self._prediction.image
        assert image is not None  # `Perception` always gives it
        step = stability.step(self._width)
        moving = None
        if labels is not None:
            movable = [c.id for c in self.card.classes if "movable" in c.flags]
            moving = class_mask(sampled(labels, step), movable) > 0
        seconds = stamp.sec + stamp.nanosec / 1e9
        rays = self.rays(step, self._width, self._height)
        return self._stable(image, depth, rays, seconds, moving)

    @cached_property
    def _corrects(self) -> bool:
        return self.settings.correct_scale and self.scale > 0  # NaN is not

    @cached_property
    def _all_depth(self) -> NDArray[np.float32]:
        """`depth`, also where its confidence is too low."""
        return self._plain_depth * np.float32(self.scale) if self._corrects else self._plain_depth

    @cached_property
    def depth(self) -> NDArray[np.float32]:
        """(h, w) float32 depth, NaN if unknown or too uncertain; in metres if `in_metres`."""
        return self._certain(self._all_depth)

    def _certain(self, depth: NDArray[np.float32]) -> NDArray[np.float32]:
        """Depth (h, w), NaN where its confidence is too low; itself if none can be."""
        least = math.ceil(255 * self.settings.min_depth_confidence)
        if least == 0:
            return depth
        return np.where(self.depth_confidence < least, np.float32(np.nan), depth)

    @cached_property
    def depth_confidence(self) -> NDArray[np.uint8]:
        """(h, w) uint8 probability that depth is within 10 %, 0 to 255, of the model or estimated.

        It is that of the network's depth, before fusion over time and the correction of the scale.
        """
        if self._prediction.depth_confidence is not None:
            return self._prediction.depth_confidence
        depth, limits = self._prediction.depth, self.card.depth
        assert depth is not None and limits is not None  # only outputs with depth use it
        return estimate_depth_confidence(depth, limits.max, self.confidence)

    @property
    def farthest(self) -> float:
        """Maximum depth of the model, in the unit of `depth`."""
        limits: Any = self.card.depth
        factor = self.settings.depth_scale * (self.scale if self._corrects else 1)
        return float(limits.max * factor)

    @property
    def in_metres(self) -> bool:
        """Whether depth is metric, through the model or the camera's known height."""
        return self.card.metric or self._corrects

    def require_metres(self) -> None:
        """Raise `Unavailable` if depth is not in metres."""
        if not self.in_metres:
            raise Unavailable(
                "the model's depth is not in metres: set camera_height, or ground: tf, and"
                " correct_scale, with ground in view"
            )

    @cached_property
    def shown_depth(self) -> NDArray[np.float32]:
        """`depth` (H, W) with sharp edges, NaN for `cut_classes`: for `depth/image` and `points`.

        Scan and distances take the nearest of several pixels, which is nearer at sharp edges.
        """
        depth, edges = self._all_depth, None
        if self.settings.sharpen_depth and _space(self.card):
            depth, edges = sharpened(depth)
        depth = self._certain(depth)
        ids = self._ids(self.settings.cut_classes)
        depth = cut_out(depth, self.labels, ids) if ids else depth
        return resized_depth(depth, self.size, self.card.logarithmic, edges)

    # --- The ground -----------------------------------------------------------------------------

    @cached_property
    def _coarse_camera(self) -> Intrinsics:
        """Intrinsics at the size for ground and scan."""
        width = min(self._width, COARSE_WIDTH)
        return self._source.scaled(width, max(1, round(self._height * width / self._width)))

    def _coarse(self, array: NDArray[Any]) -> NDArray[Any]:
        """An (h, w) array at the size for ground and scan."""
        size = self._coarse_camera.width, self._coarse_camera.height
        return np.asarray(cv2.resize(array, size, interpolation=cv2.INTER_NEAREST_EXACT))

    def rays(self, step: int, width: int, height: int) -> NDArray[np.float32]:
        """The camera's rays at a size, see `geometry.rays`."""
        return self._rays(self._source, step, (width, height))

    def _coarse_rays(self) -> NDArray[np.float32]:
        return self.rays(1, self._coarse_camera.width, self._coarse_camera.height)

    def _upright_rays(self, step: int) -> NDArray[np.float32]:
        """The rays of the prediction's pixels, along the axes of the upright image."""
        return turned(self.rays(step, self._width, self._height), self.settings.image_rotation)

    @cached_property
    def _mounted(self) -> tuple[Ground | None, str]:
        """The ground according to the camera's mounting, or why it is unknown."""
        s = self.settings
        if s.ground == "tf":
            try:
                header = self.header
                return self._transforms.ground(s.ground_frame, header.frame_id, header.stamp), ""
            except ValueError as error:
                return None, str(error)
        if s.camera_height == 0:
            return None, "no ground is visible and camera_height is not set"
        upright = Ground.from_mounting(s.camera_height, s.camera_pitch, s.camera_roll)
        return upright.turned(-s.image_rotation), ""

    @cached_property
    def _is_ground(self) -> NDArray[np.bool_]:
        """Which coarse pixels belong to classes that the ground plane is fitted to."""
        obstacles = self._obstacles
        flat = [
            c.id
            for c in self.card.classes
            if c.id not in obstacles and not {"sky", "obstacle", "movable"} & set(c.flags)
        ]
        return class_mask(self._coarse(self.labels), flat) > 0

    @cached_property
    def _fitted(self) -> tuple[Ground, float] | None:
        """The ground fitted in the uncorrected depth, and the share of pixels that lie in it."""
        if self.labels is None:
            return None
        mounted, rotation = self._mounted[0], self.settings.image_rotation
        fitted = fit_ground(
            turned(self._coarse_rays(), rotation),
            self._coarse(self._plain_depth),
            self._is_ground,
            mounted and mounted.turned(rotation),
        )
        return fitted and (fitted[0].turned(-rotation), fitted[1])

    def compare_mounting(self) -> Comparison | None:
        """Compare the ground in the uncorrected depth with the mounting; None if unknown.

        Depth that is not metric is scaled to the mounting's height, so that only angles count.
        """
        mounted = self._mounted[0]
        if mounted is None or not _both(self.card) or self._fitted is None:
            return None
        fitted, share = self._fitted
        known = self._is_ground & np.isfinite(self._coarse(self._plain_depth))
        if share < LEAST_SHARE or np.mean(known) < LEAST_GROUND:
            return None
        if not self.card.metric:
            fitted = fitted.scaled(mounted.height / fitted.height)
        rotation = self.settings.image_rotation
        rays = turned(self._coarse_rays(), rotation)[:, known]
        return compare(fitted.turned(rotation), mounted.turned(rotation), rays)

    @cached_property
    def scale(self) -> float:
        """Factor that moves the ground to the camera's known height; NaN if unknown."""
        mounted, _ = self._mounted
        if mounted is None or (self.card.depth and self.card.depth.kind == "normalised"):
            return math.nan
        own = self.settings.depth_scale
        if self._fitted is not None:
            self._scale.add(self._fitted[0].height / own)
        return self._scale.of(mounted.height / own)

    @cached_property
    def ground(self) -> tuple[Ground, float]:
        """The ground, in the unit of `depth`, and the share of pixels that lie in it, or NaN."""
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
        if self.settings.depth_encoding == "16UC1":
            return image_message(to_millimetres(self.shown_depth), "16UC1", self.header)
        return image_message(self.shown_depth, "32FC1", self.header)

    def points(self) -> PointCloud2:
        """`points`."""
        self.require_metres()
        step = self.settings.points_step
        shown = self.shown_labels, self.shown_confidence, self.shown_depth_confidence
        return points_message(
            picture_points(
                sampled(self.image, step),
                sampled(self.shown_depth, step),
                self.rays(step, *self.size),
                *(None if array is None else sampled(array, step) for array in shown),
            ),
            self.header,
        )

    def scan(self) -> LaserScan:
        """`scan`."""
        self.require_metres()
        rotation = 0
        if self.settings.scan_frame:  # which is level; the image's own frame is as the camera is
            rotation = self.settings.image_rotation
        camera = self._coarse_camera
        across = camera.fy if rotation in (90, 270) else camera.fx
        around = turned(self._coarse_rays(), rotation)
        is_obstacle = class_mask(self._coarse(self.labels), self._obstacles) > 0

        def scan_of(depth: NDArray[np.float32]) -> Scan:
            return obstacle_scan(
                around,
                self._coarse(depth),
                is_obstacle,
                self.ground[0].turned(rotation),
                self.settings.obstacle_heights,
                self.farthest,
                max(BEAM, COLUMNS_A_BEAM / across),
            )

        scan = scan_of(self.depth)
        if self.depth is not self._all_depth:
            # Where the nearest obstacle has too low confidence, nothing is known: it may be there,
            # so the beam must not clear a costmap.
            hidden = scan.ranges > 1.1 * scan_of(self._all_depth).ranges
            scan.ranges[hidden] = np.nan
        optical = self.header.frame_id
        frame = self.settings.scan_frame or camera_frame(optical)
        if frame == optical:
            raise Unavailable(
                f"the images' frame {shortened(optical)!r} does not end in _optical: set"
                " scan_frame to a frame at the camera with x forward and z up"
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
        found = class_distances(self.labels, names, self.confidence, depth, self._upright_rays)
        return ClassDistances(
            header=self.header,
            classes=[ClassDistance(**vars(d)) for d in found],
            quality_issues=self._quality_issues,
        )

    def traversable(self) -> Image:
        """`traversable`."""
        ids = [c.id for c in self.card.classes if "traversable" in c.flags]
        return image_message(class_mask(self.shown_labels, ids), "mono8", self.header)

    def label_overlay(self) -> Image:
        """`label/overlay`."""
        picture = overlay(
            self.image,
            self.shown_labels,
            self.card.classes,
            self.settings.overlay_opacity,
            self.labels,
        )
        return image_message(picture, "rgb8", self.header)

    def mono(self, array: NDArray[np.uint8], step: int = 1) -> Image:
        """An (H, W) uint8 array as a mono8 image, all pixels or every `step`-th."""
        return image_message(sampled(array, step), "mono8", self.header)


def sampled(array: NDArray[Any], step: int) -> NDArray[Any]:
    """An (H, W, ...) array at the pixels of `geometry.rays` with this step."""
    height, width = array.shape[:2]
    return array[sample(height, step), sample(width, step)]


@dataclass(frozen=True)
class Output:
    """One topic of a camera."""

    kind: type
    """Type of its messages."""
    about: str
    """Content: encoding, units, special values."""
    given_by: Callable[[ModelCard], Any]
    """Whether a model provides it."""
    make: Callable[[FrameOutputs], Any]
    """Returns its message; raises `Unavailable` if it cannot be computed for this image."""


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
        "mono8, class ids, 255 for unlabelled pixels",
        _labels,
        lambda seen: seen.mono(seen.shown_labels),
    ),
    "label/confidence": Output(
        Image,
        "mono8, probability of each label, 0 to 255",
        _labels,
        lambda seen: seen.mono(seen.shown_confidence),
    ),
    "depth/image": Output(
        Image,
        "32FC1, metres along the optical axis, NaN if unknown; or 16UC1, millimetres, 0 if unknown"
        " (`depth_encoding`). If the model's depth is not metric, in the model's own unit, and the"
        " node logs a warning",
        _depth,
        FrameOutputs.depth_image,
    ),
    "depth/camera_info": Output(
        CameraInfo,
        "camera parameters of the depth image, which shows what the camera image shows, at its size"
        " or `output_width`",
        _depth,
        lambda seen: camera_info_message(seen.camera, seen.header, seen.info),
    ),
    "depth/confidence": Output(
        Image,
        "mono8, probability that depth is within 10 % of the truth, 0 to 255; 0 where depth is"
        " unknown. Of the model, or estimated if its file has no output `depth_confidence`",
        _depth,
        lambda seen: seen.mono(seen.shown_depth_confidence),
    ),
    "points": Output(
        PointCloud2,
        "organised point cloud with x, y, z [m], rgb, label, confidence and depth_confidence of"
        " every `points_step`-th row and column",
        _space,
        FrameOutputs.points,
    ),
    "points/label": Output(
        Image,
        "mono8, labels of the points, one pixel per point",
        _both,
        lambda seen: seen.mono(seen.shown_labels, seen.settings.points_step),
    ),
    "points/confidence": Output(
        Image,
        "mono8, confidence of the points, one pixel per point",
        _both,
        lambda seen: seen.mono(seen.shown_confidence, seen.settings.points_step),
    ),
    "scan": Output(
        LaserScan,
        "nearest obstacle in each half degree, selected by class and by height above the ground; in"
        " its own frame (`scan_frame`)",
        _both,
        FrameOutputs.scan,
    ),
    "ground": Output(
        GroundMessage,
        "ground plane, the camera's height, pitch and roll above it, and the scale correction of"
        " the depth",
        _both,
        FrameOutputs.ground_message,
    ),
    "traversable": Output(
        Image,
        "mono8, 255 for traversable classes, otherwise 0",
        _labels,
        FrameOutputs.traversable,
    ),
    "class_distances": Output(
        ClassDistances,
        "for each class: share of pixels, confidence, nearest distance and its bearing, median"
        " distance (NaN if depth is not metric); and image quality issues",
        _labels,
        FrameOutputs.distances,
    ),
    "label/overlay": Output(
        Image, "rgb8, class colours and legend over the image", _labels, FrameOutputs.label_overlay
    ),
}
"""Topic name below the camera's -> output, in the order of computation: the slowest and least
urgent last."""
