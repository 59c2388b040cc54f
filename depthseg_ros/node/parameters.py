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

"""The parameters of the node `depthseg`: declared, read and checked here."""

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
from ..imaging.geometry import DEFAULT_FOV
from ..model_card import DEFAULT, ModelCard
from ..precision import PRECISIONS
from ..shaping import ROTATIONS
from ..texts import shortened
from .settings import about, accept_integers, declare, from_ros, parameter

MAX_NAMESPACE = 100
"""Greatest length of a camera's namespace, characters: ROS bounds the names of topics."""


@dataclass(frozen=True)
class Settings:
    """Values of the parameters; the class knows what is allowed."""

    model: str = parameter(
        DEFAULT,
        "Name of the model: street (also if empty) or indoor, the package's own, or the path of a"
        " model file without its .onnx; or the path of a file (.onnx), which is taken as it is.",
        fixed=True,
    )
    precision: str = parameter(
        "auto",
        "Which file of a model that is named runs, NAME.onnx (fp32) or NAME-int8.onnx (int8); auto:"
        " on a CPU the int8 file, if there is one and it is measured to be faster, else fp32.",
        choices=PRECISIONS,
        fixed=True,
    )
    cameras: tuple[str, ...] = parameter(
        (),
        "Namespaces of the cameras that share the model, e.g. front, rear: front/image comes in,"
        " ~/front/label/image goes out. ['']: one camera, without a namespace.",
        fixed=True,
    )
    batch: bool = parameter(
        False,
        "Whether pictures of all cameras, where all wait and are of one size, go through the"
        " network at once: more frames on a GPU; on a CPU it gains a twentieth, and every result"
        " waits for all.",
        fixed=True,
    )
    backend: str = parameter(
        "auto",
        "What runs the model: TensorRT, TensorRT for RTX, ONNX Runtime or OpenVINO; auto: a"
        " TensorRT where there are one and a GPU, else ONNX Runtime.",
        choices=BACKENDS,
        fixed=True,
    )
    providers: tuple[str, ...] = parameter(
        (),
        "ONNX Runtime execution providers in order of preference, e.g. CUDAExecutionProvider;"
        " ['']: all it has but TensorRT's and Azure's.",
        fixed=True,
    )
    threads: int = parameter(
        0,
        "CPU threads of the network; 0: the backend's own choice.",
        within=(0, MAX_THREADS),
        fixed=True,
    )
    engine: str = parameter(
        "",
        "Path of a TensorRT engine that 'depthseg compile --output' made of the model; empty: the"
        " user's cache has it, or it is compiled for the camera's first picture.",
        constraints="Later than at the start it can only be emptied, or set back, since an engine"
        " is code.",
        fixed=True,
    )
    background: str = parameter(
        "",
        "Path of a picture of the view without foreground, for models that compare with one;"
        " empty: none until the service ~/capture_background takes one.",
        fixed=True,
    )
    image_transport: str = parameter(
        "raw",
        "How pictures come in: raw (image, sensor_msgs/Image) or compressed (image/compressed,"
        " sensor_msgs/CompressedImage of JPEG or PNG).",
        choices=("raw", "compressed"),
        fixed=True,
    )
    background_frames: int = parameter(
        15, "Frames whose median the service ~/capture_background takes.", within=(3, 100)
    )
    default_fov: float = parameter(
        DEFAULT_FOV,
        "Horizontal field of view [rad] assumed where camera_info is missing or not calibrated.",
        within=(0.05, 3.1),
    )
    max_rate: float = parameter(
        0.0,
        "Pictures per second of each camera that are looked at, at most; 0: all that there is time"
        " for.",
        within=(0.0, 1000.0),
    )
    deadline: float = parameter(
        5.0,
        "Seconds that the network may take for a picture (compiling apart); then it hangs, and the"
        " model is loaded anew.",
        within=(0.1, 600.0),
    )
    min_confidence: float = parameter(
        0.0, "Labels of less probability become 255, unlabelled.", within=(0.0, 1.0)
    )
    low_confidence_below: float = parameter(
        LOW_CONFIDENCE,
        "Mean probability of a picture's labels under which diagnostics and class_distances say"
        " that the model is unsure of it; chosen for the default model. 0: never.",
        within=(0.0, 1.0),
    )
    depth_encoding: str = parameter(
        "32FC1",
        "Of depth/image: 32FC1, metres, NaN where there is none; 16UC1, millimetres, 0 where there"
        " is none or it is beyond 65.535 m.",
        choices=("32FC1", "16UC1"),
    )
    depth_scale: float = parameter(
        1.0,
        "What the model's depth is multiplied by, in all outputs.",
        within=(0.001, 1000.0),
    )
    correct_scale: bool = parameter(
        False,
        "Whether depth is multiplied, in all outputs, by what makes the ground that is seen lie"
        " camera_height below the camera, or where tf has it (ground: tf).",
    )
    camera_height: float = parameter(
        0.0,
        "How the cameras of the node are mounted: height above the ground [m]; 0: not known.",
        within=(0.0, 100.0),
    )
    camera_pitch: float = parameter(
        0.0, "Likewise, pitch [rad]: positive looks down.", within=(-1.5, 1.5)
    )
    camera_roll: float = parameter(
        0.0, "Likewise, roll [rad]: positive has the right side down.", within=(-3.2, 3.2)
    )
    image_rotation: int = parameter(
        0,
        "Degrees by which images have to be rotated clockwise to be upright, for cameras that are"
        " mounted upside down (180) or on their side: the network sees them so. All outputs are of"
        " the image as it comes; a scan of a camera on its side needs scan_frame.",
        constraints="One of 0, 90, 180, 270.",
        within=(0, 270),
    )
    ground: str = parameter(
        "fit",
        "Where the ground plane comes from: fit, to what each picture shows of it (classes that are"
        " neither sky nor obstacle nor movable; up to 45 degrees of tilt, else the mounting);"
        " mounting, camera_height and so on; tf, the plane z = 0 of ground_frame.",
        choices=("fit", "mounting", "tf"),
    )
    ground_frame: str = parameter(
        "base_footprint", "Frame whose plane z = 0 is the ground, where ground is tf."
    )
    obstacle_classes: tuple[str, ...] = parameter(
        (), "Classes that the scan sees; ['']: those that the model file flags as obstacles."
    )
    obstacle_heights: tuple[float, float] = parameter(
        (0.2, 2.5),
        "Heights above the ground [m], from which and up to which the scan sees obstacles.",
        constraints="Two numbers, the lower first.",
    )
    scan_frame: str = parameter(
        "",
        "Frame of the scan, with x forward, y left and z up at the camera; empty: the images'"
        " without its _optical.",
    )
    cut_classes: tuple[str, ...] = parameter(
        (),
        "Classes that depth/image and points leave out, e.g. those that move, for SLAM; ['']:"
        " none.",
    )
    points_step: int = parameter(
        2, "points are of every so many rows and columns of the picture.", within=(1, 32)
    )
    overlay_opacity: float = parameter(
        0.5,
        "Opacity of the class colours in the overlay: 0 shows the picture alone, 1 the colours"
        " alone.",
        within=(0.0, 1.0),
    )
    autostart: bool = parameter(
        True,
        "Whether the node configures and activates itself when it starts; false leaves that to a"
        " lifecycle manager.",
        read_only=True,
    )

    def __post_init__(self) -> None:
        """Raise `ValueError` for what the parameters' types and ranges do not rule out."""
        for camera in self.cameras:
            if len(camera) > MAX_NAMESPACE or not _NAMESPACE.fullmatch(camera):
                raise ValueError(
                    f"cameras has {shortened(camera)!r}, expected namespaces such as front or"
                    f" left/wide, of at most {MAX_NAMESPACE} characters"
                )
        if len(set(self.cameras)) < len(self.cameras):
            raise ValueError(f"cameras names one twice: {shortened(', '.join(self.cameras))}")
        if self.background and len(self.cameras) > 1:
            raise ValueError(
                "background is a picture of one camera's view; for several, leave it empty and"
                " call ~/capture_background"
            )
        if self.batch and self.engine:
            raise ValueError(
                "batch needs an engine for one picture and one for all; leave engine empty, the"
                " user's cache has both: depthseg compile --batch"
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
        if self.image_rotation and abs(self.camera_roll) > 0.8:
            raise ValueError(
                f"camera_roll is {self.camera_roll} and image_rotation {self.image_rotation}: roll"
                " is that of the rotated image, expected -0.8 to 0.8 rad"
            )
        if self.ground == "mounting" and self.camera_height == 0:
            raise ValueError("ground: mounting needs camera_height, in metres")
        if self.correct_scale and self.camera_height == 0 and self.ground != "tf":
            raise ValueError("correct_scale needs camera_height, in metres, or ground: tf")

    def check(self, card: ModelCard) -> None:
        """Raise `ValueError` where a class is named that the model does not have."""
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
"""Parameters that take effect when the node is configured, and are fixed from then on."""


class Parameters:
    """The node's parameters, kept as `Settings` that are always valid.

    Args:
        node: Declares the parameters on it.
        card: That of the model that is loaded, if one is: then the parameters that load it are
            refused, and classes are to be its own.

    Raises:
        ValueError: a value given at the start is not allowed.
        rclpy.exceptions.ParameterException: likewise, of the wrong type or out of range.
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
                reason=f"{', '.join(late)}: fixed while the node holds a model; deactivate and"
                " clean up the node first, or call ~/load_model",
            )
        if changes.get("engine", "") not in self._engines:
            return SetParametersResult(
                successful=False,
                reason=f"engine is {changes['engine']!r}: an engine is code, and none is run that"
                " was not named when the node was started; start the node with it",
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
        """Let parameters say what was loaded by other means."""
        self._adopting = True
        try:
            self._node.set_parameters([Parameter(n, value=v) for n, v in values.items()])
        finally:
            self._adopting = False
