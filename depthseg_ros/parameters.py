"""The parameters of the node `depthseg`: declared, read and checked here."""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from dataclasses import dataclass, fields, replace
from typing import Any

from rcl_interfaces.msg import (
    FloatingPointRange,
    IntegerRange,
    ParameterDescriptor,
    SetParametersResult,
)
from rclpy.node import Node
from rclpy.parameter import Parameter

from .backends import BACKENDS, MAX_THREADS
from .derived.doubts import UNSURE
from .model_card import ModelCard
from .texts import shortened

FOV_RANGE = (0.05, 3.1)
MAX_NAMESPACE = 100
"""Greatest length of a camera's namespace, characters: ROS bounds the names of topics."""


@dataclass(frozen=True)
class Settings:
    """Values of the parameters; the class knows what is allowed."""

    model: str = ""
    """Path of the model file; empty: the package's default model."""
    cameras: tuple[str, ...] = ()
    """Namespaces of the cameras that share the model; none: one camera, without a namespace."""
    batch: bool = False
    """Whether pictures of all cameras, where all wait, go through the network at once."""
    backend: str = "auto"
    """What runs the model, one of `backends.BACKENDS`."""
    providers: tuple[str, ...] = ()
    """ONNX Runtime execution providers in order of preference; none: its own choice."""
    threads: int = 0
    """CPU threads of the network; 0: the backend's own choice."""
    engine: str = ""
    """Path of a TensorRT engine of the model; empty: the user's cache has it, or it is compiled.
    An engine is code, so only the one that is named at the start is ever run."""
    background: str = ""
    """Path of a picture of the view without foreground, for models that compare with one; empty:
    it is captured."""
    background_frames: int = 15
    """Frames whose median is a captured background."""
    image_transport: str = "raw"
    """How pictures come in, one of `TRANSPORTS`."""
    default_fov: float = 1.2
    """Horizontal field of view assumed without a valid camera_info, radians."""
    max_rate: float = 0.0
    """Pictures per second that a camera gets at most; 0: as many as can be."""
    deadline: float = 5.0
    """Seconds that the network may take for a picture before it is taken to hang."""
    min_confidence: float = 0.0
    """Labels of less probability are unlabelled, 0 to 1."""
    unsure_below: float = UNSURE
    """Mean probability of a picture's labels under which the model is unsure of it, 0 to 1."""
    depth_encoding: str = "32FC1"
    """Of depth/image, one of `DEPTH_ENCODINGS`."""
    depth_scale: float = 1.0
    """What the model's depth is multiplied by."""
    correct_scale: bool = False
    """Whether depth is also multiplied by what makes the ground lie at `camera_height`, or where tf
    has it."""
    cut_classes: tuple[str, ...] = ()
    """Classes that depth and points leave out."""
    points_step: int = 2
    """Points are of every so many rows and columns."""
    ground: str = "fit"
    """Where the ground plane comes from, one of `GROUNDS`."""
    ground_frame: str = "base_footprint"
    """Frame whose plane z = 0 is the ground, where that comes from tf."""
    camera_height: float = 0.0
    """Of the camera above the ground, metres; 0: not known."""
    camera_pitch: float = 0.0
    """Of the mounted camera, radians, positive looks down."""
    camera_roll: float = 0.0
    """Of the mounted camera, radians, positive has its right side down."""
    obstacle_classes: tuple[str, ...] = ()
    """Classes that the scan sees; none: those that the model file flags as obstacles."""
    obstacle_heights: tuple[float, float] = (0.2, 2.5)
    """Of parts of obstacles above the ground that the scan sees, from and to, metres."""
    scan_frame: str = ""
    """Frame of the scan, x forward and z up; empty: the image's, without `_optical`."""
    overlay_opacity: float = 0.5
    """Of the class colours over the picture, 0 to 1."""
    autostart: bool = True
    """Whether the node configures and activates itself."""

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
        for name, choices in _CHOICES.items():
            if getattr(self, name) not in choices:
                raise ValueError(
                    f"{name} is {shortened(getattr(self, name))!r}, expected one of"
                    f" {', '.join(choices)}"
                )
        for field in fields(self):
            value = getattr(self, field.name)
            if isinstance(value, float) and not math.isfinite(value):
                raise ValueError(f"{field.name} is {value}, expected a finite number")
        heights = self.obstacle_heights
        if len(heights) != 2 or not -100 <= heights[0] < heights[1] <= 100:
            raise ValueError(
                f"obstacle_heights is {shortened(repr(list(heights)))}, expected two heights in"
                " metres, the lower first"
            )
        if self.ground == "mounting" and self.camera_height == 0:
            raise ValueError("ground: mounting needs camera_height, in metres")
        if self.correct_scale and self.camera_height == 0 and self.ground != "tf":
            raise ValueError("correct_scale needs camera_height, in metres, or ground: tf")

    def check(self, card: ModelCard) -> None:
        """Raise `ValueError` where a class is named that the model does not have."""
        names = [c.name for c in card.classes]
        for parameter in _CLASSES:
            unknown = [name for name in getattr(self, parameter) if name not in names]
            if unknown:
                known = shortened(", ".join(names), 200) or "it has none"
                raise ValueError(
                    f"{parameter} has {shortened(', '.join(unknown))}, expected classes of"
                    f" {card.name}: {known}"
                )


TRANSPORTS = ("raw", "compressed")
DEPTH_ENCODINGS = ("32FC1", "16UC1")
GROUNDS = ("fit", "mounting", "tf")
_CHOICES = {
    "backend": BACKENDS,
    "image_transport": TRANSPORTS,
    "depth_encoding": DEPTH_ENCODINGS,
    "ground": GROUNDS,
}
_CLASSES = ("cut_classes", "obstacle_classes")
_NAMESPACE = re.compile(r"[A-Za-z][A-Za-z0-9_]*(/[A-Za-z][A-Za-z0-9_]*)*")
_LISTS = ("cameras", "providers", *_CLASSES)

LOADED_WITH_THE_MODEL = frozenset(
    {
        "model",
        "cameras",
        "batch",
        "backend",
        "providers",
        "threads",
        "engine",
        "background",
        "image_transport",
    }
)
"""Parameters that take effect when the node is configured, and are fixed from then on."""

_DESCRIPTORS = {
    "model": ParameterDescriptor(
        description="Path of the model file (.onnx); empty: the package's default model.",
        additional_constraints="Can be changed while the node is unconfigured.",
    ),
    "cameras": ParameterDescriptor(
        description="Namespaces of the cameras that share the model, e.g. front, rear: front/image"
        " comes in, ~/front/label/image goes out. ['']: one camera, without a namespace.",
        additional_constraints="Can be changed while the node is unconfigured.",
    ),
    "batch": ParameterDescriptor(
        description="Whether pictures of all cameras, where all wait and are of one size, go"
        " through the network at once: more frames on a GPU; on a CPU little but a longer wait.",
        additional_constraints="Can be changed while the node is unconfigured.",
    ),
    "backend": ParameterDescriptor(
        description="What runs the model.",
        additional_constraints=f"One of {', '.join(BACKENDS)}. Can be changed while the node is"
        " unconfigured.",
    ),
    "providers": ParameterDescriptor(
        description="ONNX Runtime execution providers in order of preference, e.g."
        " CUDAExecutionProvider; ['']: ONNX Runtime's own choice.",
        additional_constraints="Can be changed while the node is unconfigured.",
    ),
    "threads": ParameterDescriptor(
        description="CPU threads of the network; 0: the backend's own choice.",
        additional_constraints="Can be changed while the node is unconfigured.",
        integer_range=[IntegerRange(from_value=0, to_value=MAX_THREADS)],
    ),
    "engine": ParameterDescriptor(
        description="Path of a TensorRT engine that 'depthseg compile --output' made of the model;"
        " empty: the user's cache has it, or it is compiled for the camera's first picture.",
        additional_constraints="Can be emptied, or set to what it was at the start, while the node"
        " is unconfigured; no other engine, since an engine is code.",
    ),
    "background": ParameterDescriptor(
        description="Path of a picture of the view without foreground, for models that compare with"
        " one; empty: none until the service ~/capture_background takes one.",
        additional_constraints="Can be changed while the node is unconfigured.",
    ),
    "background_frames": ParameterDescriptor(
        description="Frames whose median the service ~/capture_background takes.",
        integer_range=[IntegerRange(from_value=3, to_value=100)],
    ),
    "default_fov": ParameterDescriptor(
        description="Horizontal field of view in radians, assumed where camera_info is missing or"
        " not calibrated.",
        floating_point_range=[FloatingPointRange(from_value=FOV_RANGE[0], to_value=FOV_RANGE[1])],
    ),
    "image_transport": ParameterDescriptor(
        description="How pictures come in: raw (image, sensor_msgs/Image) or compressed"
        " (image/compressed, sensor_msgs/CompressedImage of JPEG or PNG).",
        additional_constraints="raw or compressed. Can be changed while the node is unconfigured.",
    ),
    "max_rate": ParameterDescriptor(
        description="Pictures per second of each camera that are looked at, at most; 0: all that"
        " there is time for.",
        floating_point_range=[FloatingPointRange(from_value=0.0, to_value=1000.0)],
    ),
    "deadline": ParameterDescriptor(
        description="Seconds that the network may take for a picture (compiling apart); then it"
        " hangs, and the model is loaded anew.",
        floating_point_range=[FloatingPointRange(from_value=0.1, to_value=600.0)],
    ),
    "min_confidence": ParameterDescriptor(
        description="Labels of less probability become 255, unlabelled.",
        floating_point_range=[FloatingPointRange(from_value=0.0, to_value=1.0)],
    ),
    "unsure_below": ParameterDescriptor(
        description="Mean probability of a picture's labels under which diagnostics and"
        " class_distances say that the model is unsure of it; 0: never.",
        floating_point_range=[FloatingPointRange(from_value=0.0, to_value=1.0)],
    ),
    "depth_encoding": ParameterDescriptor(
        description="Of depth/image: 32FC1, metres, NaN where there is none; 16UC1, millimetres, 0"
        " where there is none or it is beyond 65.535 m.",
        additional_constraints=f"One of {', '.join(DEPTH_ENCODINGS)}.",
    ),
    "depth_scale": ParameterDescriptor(
        description="What the model's depth is multiplied by, in all outputs.",
        floating_point_range=[FloatingPointRange(from_value=0.001, to_value=1000.0)],
    ),
    "correct_scale": ParameterDescriptor(
        description="Whether depth is multiplied, in all outputs, by what makes the ground that is"
        " seen lie camera_height below the camera, or where tf has it (ground: tf).",
    ),
    "cut_classes": ParameterDescriptor(
        description="Classes that depth/image and points leave out, e.g. those that move, for"
        " SLAM; ['']: none.",
    ),
    "points_step": ParameterDescriptor(
        description="points are of every so many rows and columns of the picture.",
        integer_range=[IntegerRange(from_value=1, to_value=32)],
    ),
    "ground": ParameterDescriptor(
        description="Where the ground plane comes from: fit, to the ground that each picture shows"
        " (camera_height, if given, where it shows too little); mounting, camera_height and so on;"
        " tf, the plane z = 0 of ground_frame.",
        additional_constraints=f"One of {', '.join(GROUNDS)}.",
    ),
    "ground_frame": ParameterDescriptor(
        description="Frame whose plane z = 0 is the ground, where ground is tf.",
    ),
    "camera_height": ParameterDescriptor(
        description="Of the camera above the ground, in metres; 0: not known.",
        floating_point_range=[FloatingPointRange(from_value=0.0, to_value=100.0)],
    ),
    "camera_pitch": ParameterDescriptor(
        description="Of the mounted camera, in radians: positive looks down.",
        floating_point_range=[FloatingPointRange(from_value=-1.5, to_value=1.5)],
    ),
    "camera_roll": ParameterDescriptor(
        description="Of the mounted camera, in radians: positive has its right side down.",
        floating_point_range=[FloatingPointRange(from_value=-3.2, to_value=3.2)],
    ),
    "obstacle_classes": ParameterDescriptor(
        description="Classes that the scan sees; ['']: those that the model file flags as"
        " obstacles.",
    ),
    "obstacle_heights": ParameterDescriptor(
        description="Heights above the ground, in metres, from which and up to which the scan sees"
        " obstacles.",
        additional_constraints="Two numbers, the lower first.",
    ),
    "scan_frame": ParameterDescriptor(
        description="Frame of the scan, with x forward, y left and z up at the camera; empty: the"
        " image's without its _optical.",
    ),
    "overlay_opacity": ParameterDescriptor(
        description="Opacity of the class colours in the overlay: 0 shows the picture alone, 1 the"
        " colours alone.",
        floating_point_range=[FloatingPointRange(from_value=0.0, to_value=1.0)],
    ),
    "autostart": ParameterDescriptor(
        description="Whether the node configures and activates itself when it starts.",
        read_only=True,
    ),
}


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
        defaults = Settings()
        values = {}
        for field in fields(Settings):
            default = getattr(defaults, field.name)
            if field.name in _LISTS:
                default = [""]  # an empty list has no type in ROS
            elif isinstance(default, tuple):
                default = list(default)
            parameter = node.declare_parameter(field.name, default, _DESCRIPTORS[field.name])
            values[field.name] = _from_ros(parameter)
        self.now = Settings(**values)
        """The values in force."""
        self._engines = {"", self.now.engine}
        node.add_on_set_parameters_callback(self._on_set)

    def _on_set(self, parameters: list[Parameter]) -> SetParametersResult:
        changes = {p.name: _from_ros(p) for p in parameters if p.name in _DESCRIPTORS}
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


def _from_ros(parameter: Parameter) -> Any:
    if parameter.name in _LISTS:
        value = tuple(parameter.value or ())  # an empty list may come as None
        return value if any(value) else ()
    if parameter.name == "obstacle_heights":
        return tuple(parameter.value or ())
    return parameter.value
