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

"""Declare, read and check the parameters of the node `depthseg`."""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from dataclasses import dataclass, fields, replace
from typing import Any

from rcl_interfaces.msg import SetParametersResult
from rclpy.node import Node
from rclpy.parameter import Parameter

from ..backends import BACKENDS, MAX_THREADS
from ..derived.image_quality import LOW_CONFIDENCE
from ..imaging.compressed import MAX_SIZE
from ..imaging.geometry import DEFAULT_FOV
from ..model_card import DEFAULT, ModelCard
from ..precision import PRECISIONS
from ..shaping import ROTATIONS
from ..texts import shortened
from .settings import about, accept_integers, declare, from_ros, parameter

MAX_NAMESPACE = 100
"""Maximum length of a camera's namespace, characters: ROS limits the length of topic names."""


@dataclass(frozen=True)
class Settings:
    """Values of the parameters; raises `ValueError` for values that are not allowed."""

    model: str = parameter(
        DEFAULT,
        "Model: street (also if empty) or indoor, which come with the package; or the path of a"
        " model file without .onnx, whose precision is then chosen; or the path of an .onnx file,"
        " which is used as it is.",
        fixed=True,
    )
    precision: str = parameter(
        "auto",
        "File to run if model is a name: NAME.onnx (fp32) or NAME-int8.onnx (int8). auto: on a CPU"
        " the int8 file if it exists and a measurement shows that it is faster, otherwise fp32.",
        choices=PRECISIONS,
        fixed=True,
    )
    cameras: tuple[str, ...] = parameter(
        (),
        "Namespaces of the cameras that share the model, e.g. [front, rear]: the node subscribes to"
        " front/image and publishes ~/front/label/image. ['']: one camera, without a namespace.",
        fixed=True,
    )
    batch: bool = parameter(
        False,
        "Run the network on the images of all cameras in one batch, if all cameras have an image"
        " waiting and all images have the same size. Gives more frames per second on a GPU. On a"
        " CPU it gains only 5 %, and every result waits for the whole batch.",
        fixed=True,
    )
    backend: str = parameter(
        "auto",
        "Runtime for the model: ONNX Runtime, OpenVINO, TensorRT or TensorRT for RTX. auto:"
        " TensorRT or TensorRT for RTX if it is installed and there is a GPU, otherwise ONNX"
        " Runtime.",
        choices=BACKENDS,
        fixed=True,
    )
    providers: tuple[str, ...] = parameter(
        (),
        "ONNX Runtime execution providers in order of preference, e.g. CUDAExecutionProvider."
        " ['']: all that are available, except those of TensorRT and Azure.",
        fixed=True,
    )
    threads: int = parameter(
        0,
        "CPU threads for the network. 0: the backend chooses.",
        within=(0, MAX_THREADS),
        fixed=True,
    )
    engine: str = parameter(
        "",
        "Path of a TensorRT engine of the model, written by 'depthseg compile --output'. Empty: the"
        " engine is loaded from the user's cache, or compiled when the first image arrives.",
        constraints="After the start it can only be emptied or set back to its first value, because"
        " an engine contains code.",
        fixed=True,
    )
    background: str = parameter(
        "",
        "Path of an image of the view without foreground, for models that need a background image."
        " Empty: none until the service ~/capture_background captures one.",
        fixed=True,
    )
    image_transport: str = parameter(
        "raw",
        "Image topic to subscribe to: raw (image, sensor_msgs/Image) or compressed"
        " (image/compressed, sensor_msgs/CompressedImage with JPEG or PNG).",
        choices=("raw", "compressed"),
        fixed=True,
    )
    background_frames: int = parameter(
        15,
        "Number of frames of which the service ~/capture_background computes the median.",
        within=(3, 100),
    )
    default_fov: float = parameter(
        DEFAULT_FOV,
        "Horizontal field of view [rad], assumed if camera_info is missing or not calibrated.",
        within=(0.05, 3.1),
    )
    max_rate: float = parameter(
        0.0,
        "Maximum number of images per second and camera that are processed. 0: as many as"
        " possible.",
        within=(0.0, 1000.0),
    )
    deadline: float = parameter(
        5.0,
        "Time limit [s] of the network for one image, without the time to compile an engine. After"
        " it, the network is considered stuck and the model is reloaded.",
        within=(0.1, 600.0),
    )
    min_confidence: float = parameter(
        0.0,
        "Labels with a lower probability are replaced by 255 (unlabelled).",
        within=(0.0, 1.0),
    )
    min_depth_confidence: float = parameter(
        0.0,
        "Depth that is within 10 % of the truth with a lower probability is replaced by NaN in"
        " depth/image, points, scan and class_distances. 0: off.",
        within=(0.0, 1.0),
    )
    low_confidence_below: float = parameter(
        LOW_CONFIDENCE,
        "Mean label probability of an image below which diagnostics and class_distances report low"
        " confidence. The default suits the default model. 0: never.",
        within=(0.0, 1.0),
    )
    depth_encoding: str = parameter(
        "32FC1",
        "Encoding of depth/image: 32FC1, metres, NaN if unknown; 16UC1, millimetres, 0 if unknown"
        " or more than 65.535 m.",
        choices=("32FC1", "16UC1"),
    )
    fuse_depth: bool = parameter(
        True,
        "Fuse the depth of each image with that of the images before, moved with the camera, so"
        " that it fluctuates less, in all outputs. Movable classes keep their own depth. Needs"
        " stamps that increase by at most 1 s.",
    )
    sharpen_depth: bool = parameter(
        True,
        "Move depth on the slope of an edge to the near or the far side, in depth/image and points,"
        " so that fewer points lie between an object and its background.",
    )
    depth_scale: float = parameter(
        1.0,
        "Factor by which the model's depth is multiplied, in all outputs.",
        within=(0.001, 1000.0),
    )
    correct_scale: bool = parameter(
        False,
        "Scale the depth, in all outputs, so that the visible ground lies camera_height below the"
        " camera, or in the plane that tf gives (ground: tf).",
    )
    camera_height: float = parameter(
        0.0,
        "Height of the node's cameras above the ground [m]. 0: unknown.",
        within=(0.0, 100.0),
    )
    camera_pitch: float = parameter(
        0.0, "Pitch of the node's cameras [rad]: positive is down.", within=(-1.5, 1.5)
    )
    camera_roll: float = parameter(
        0.0,
        "Roll of the node's cameras [rad]: positive is right side down.",
        within=(-3.2, 3.2),
    )
    image_rotation: int = parameter(
        0,
        "Clockwise rotation [degrees] that makes the image upright before it enters the network,"
        " for cameras that are mounted upside down (180) or on their side (90, 270). The outputs"
        " keep the orientation of the incoming image. The scan of a camera on its side needs"
        " scan_frame.",
        constraints="One of 0, 90, 180, 270.",
        within=(0, 270),
    )
    ground: str = parameter(
        "fit",
        "Source of the ground plane. fit: a plane fitted in each image to the classes that are not"
        " flagged sky, obstacle or movable; if it is tilted by more than 45 degrees, the mounting."
        " mounting: camera_height, camera_pitch and camera_roll. tf: the plane z = 0 of"
        " ground_frame.",
        choices=("fit", "mounting", "tf"),
    )
    ground_frame: str = parameter(
        "base_footprint", "Frame whose plane z = 0 is the ground, if ground is tf."
    )
    obstacle_classes: tuple[str, ...] = parameter(
        (),
        "Names of the classes that count as obstacles in the scan. ['']: those that the model file"
        " flags as obstacles.",
    )
    obstacle_heights: tuple[float, float] = parameter(
        (0.2, 2.5),
        "Minimum and maximum height of obstacles in the scan, above the ground [m].",
        constraints="Two numbers, the lower first.",
    )
    scan_frame: str = parameter(
        "",
        "Frame of the scan, at the camera, with x forward, y left and z up. Empty: the images'"
        " frame without _optical.",
    )
    cut_classes: tuple[str, ...] = parameter(
        (),
        "Classes that are removed from depth/image and points, e.g. movable ones for SLAM. ['']:"
        " none.",
    )
    output_width: int = parameter(
        0,
        "Width [pixels] of label/image, label/confidence, label/overlay, traversable, depth/image,"
        " depth/confidence and depth/camera_info, and of the image that points_step refers to; the"
        " height follows. Large JPEGs are then decoded at 1/2, 1/4 or 1/8 of their size. 0, or more"
        " than the image has: the image's own size.",
        constraints="0, or 16 to 8192.",
        within=(0, MAX_SIZE),
    )
    points_step: int = parameter(
        2,
        "points contains every points_step-th row and column of label/image and depth/image, from"
        " row and column points_step // 2 on.",
        within=(1, 32),
    )
    overlay_opacity: float = parameter(
        0.5,
        "Opacity of the class colours in label/overlay: 0 shows only the image, 1 only the"
        " colours.",
        within=(0.0, 1.0),
    )
    autostart: bool = parameter(
        True,
        "The node configures and activates itself when it starts. false: a lifecycle manager does"
        " it.",
        read_only=True,
    )

    def __post_init__(self) -> None:
        """Check values that types and ranges alone do not exclude; raises `ValueError`."""
        for camera in self.cameras:
            if len(camera) > MAX_NAMESPACE or not _NAMESPACE.fullmatch(camera):
                raise ValueError(
                    f"cameras has {shortened(camera)!r}, expected namespaces such as front or"
                    f" left/wide, of at most {MAX_NAMESPACE} characters"
                )
        if len(set(self.cameras)) < len(self.cameras):
            raise ValueError(
                f"cameras contains a namespace twice: {shortened(', '.join(self.cameras))}"
            )
        if self.background and len(self.cameras) > 1:
            raise ValueError(
                "background is an image of one camera's view; with several cameras, leave it empty"
                " and call ~/capture_background"
            )
        if self.batch and self.engine:
            raise ValueError(
                "batch needs one engine for a single image and one for the whole batch: leave"
                " engine empty, so that the user's cache is used (depthseg compile --batch)"
            )
        for entry in fields(self):
            value, choices = getattr(self, entry.name), about(entry).choices
            if choices and value not in choices:
                raise ValueError(
                    f"{entry.name} is {shortened(value)!r}, expected one of {', '.join(choices)}"
                )
            if isinstance(value, float) and not math.isfinite(value):
                raise ValueError(f"{entry.name} is {value}, expected a finite number")
        heights = self.obstacle_heights
        if len(heights) != 2 or not -100 <= heights[0] < heights[1] <= 100:
            raise ValueError(
                f"obstacle_heights is {shortened(repr(list(heights)))}, expected two heights in"
                " metres, the lower first"
            )
        if self.image_rotation not in ROTATIONS:
            raise ValueError(
                f"image_rotation is {self.image_rotation}, expected one of"
                f" {', '.join(map(str, ROTATIONS))} degrees"
            )
        if 0 < self.output_width < 16:
            raise ValueError(
                f"output_width is {self.output_width}, expected 16 to {MAX_SIZE} pixels, or 0 for"
                " the image's own width"
            )
        if self.image_rotation and abs(self.camera_roll) > 0.8:
            raise ValueError(
                f"camera_roll is {self.camera_roll} and image_rotation {self.image_rotation}:"
                " camera_roll applies to the rotated image, expected -0.8 to 0.8 rad"
            )
        if self.ground == "mounting" and self.camera_height == 0:
            raise ValueError("ground: mounting needs camera_height, in metres")
        if self.correct_scale and self.camera_height == 0 and self.ground != "tf":
            raise ValueError("correct_scale needs camera_height, in metres, or ground: tf")

    def check(self, card: ModelCard) -> None:
        """Check that the model has all classes that are named; raises `ValueError`."""
        names = [c.name for c in card.classes]
        for name in ("cut_classes", "obstacle_classes"):
            unknown = [given for given in getattr(self, name) if given not in names]
            if unknown:
                known = shortened(", ".join(names), 200) or "it has none"
                raise ValueError(
                    f"{name} has {shortened(', '.join(unknown))}, expected classes of"
                    f" {card.name}: {known}"
                )


_NAMESPACE = re.compile(r"[A-Za-z][A-Za-z0-9_]*(/[A-Za-z][A-Za-z0-9_]*)*")
_FIELDS = {entry.name: entry for entry in fields(Settings)}
LOADED_WITH_THE_MODEL = frozenset(name for name, entry in _FIELDS.items() if about(entry).fixed)
"""Parameters that take effect when the node is configured, and cannot be changed after that."""


class Parameters:
    """The node's parameters, kept as `Settings` that are always valid.

    Args:
        node: The node that gets the parameters.
        card: Returns the model card of the loaded model, or None. While a model is loaded, the
            parameters that load it cannot be changed, and class names must be classes of it.

    Raises:
        ValueError: A value given at the start is not allowed.
        rclpy.exceptions.ParameterException: A value given at the start has the wrong type or is
            out of range.
    """

    def __init__(self, node: Node, card: Callable[[], ModelCard | None]) -> None:
        self._node, self._card = node, card
        self._adopting = False
        self.now = Settings(**declare(node, Settings))
        """The values in force."""
        self._engines = {"", self.now.engine}
        node.add_on_set_parameters_callback(self._on_set)
        accept_integers(node, Settings)

    def _on_set(self, parameters: list[Parameter]) -> SetParametersResult:
        changes = {
            p.name: from_ros(_FIELDS[p.name], p.value) for p in parameters if p.name in _FIELDS
        }
        late = sorted(LOADED_WITH_THE_MODEL & set(changes))
        card = self._card()
        if late and card is not None and not self._adopting:
            return SetParametersResult(
                successful=False,
                reason=f"{', '.join(late)}: cannot be changed while a model is loaded; deactivate"
                " and clean up the node first, or call ~/load_model",
            )
        if changes.get("engine", "") not in self._engines:
            return SetParametersResult(
                successful=False,
                reason=f"engine is {changes['engine']!r}: an engine contains code, so the node"
                " only runs the engine that it was started with; restart the node with this one",
            )
        try:
            settings = replace(self.now, **changes)
            if card is not None:
                settings.check(card)
        except ValueError as error:
            return SetParametersResult(successful=False, reason=str(error))
        self.now = settings
        return SetParametersResult(successful=True)

    def adopt(self, **values: Any) -> None:
        """Set parameters to the values of a model that was loaded in another way."""
        self._adopting = True
        try:
            self._node.set_parameters([Parameter(n, value=v) for n, v in values.items()])
        finally:
            self._adopting = False
