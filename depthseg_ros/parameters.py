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

FOV_RANGE = (0.05, 3.1)


@dataclass(frozen=True)
class Settings:
    """Values of the parameters; the class knows what is allowed."""

    model: str = ""
    """Path of the model file; empty: the package's default model."""
    cameras: tuple[str, ...] = ()
    """Namespaces of the cameras that share the model; none: one camera, without a namespace."""
    backend: str = "auto"
    """What runs the model, one of `backends.BACKENDS`."""
    providers: tuple[str, ...] = ()
    """ONNX Runtime execution providers in order of preference; none: its own choice."""
    threads: int = 0
    """CPU threads of the network; 0: the backend's own choice."""
    engine: str = ""
    """Path of a TensorRT engine of the model; empty: the user's cache has it, or it is compiled."""
    background: str = ""
    """Path of a picture of the view without foreground, for models that compare with one; empty:
    it is captured."""
    background_frames: int = 15
    """Frames whose median is a captured background."""
    default_fov: float = 1.2
    """Horizontal field of view assumed without a valid camera_info, radians."""
    overlay_opacity: float = 0.5
    """Of the class colours over the picture, 0 to 1."""
    autostart: bool = True
    """Whether the node configures and activates itself."""

    def __post_init__(self) -> None:
        """Raise `ValueError` for what the parameters' types and ranges do not rule out."""
        for camera in self.cameras:
            if not _NAMESPACE.fullmatch(camera):
                raise ValueError(
                    f"cameras has {camera!r}, expected namespaces such as front or left/wide"
                )
        if len(set(self.cameras)) < len(self.cameras):
            raise ValueError(f"cameras names one twice: {', '.join(self.cameras)}")
        if self.background and len(self.cameras) > 1:
            raise ValueError(
                "background is a picture of one camera's view; for several, leave it empty and"
                " call ~/capture_background"
            )
        if self.backend not in BACKENDS:
            raise ValueError(f"backend is {self.backend!r}, expected one of {', '.join(BACKENDS)}")
        if not math.isfinite(self.default_fov):
            raise ValueError(f"default_fov is {self.default_fov}, expected radians")
        if not math.isfinite(self.overlay_opacity):
            raise ValueError(f"overlay_opacity is {self.overlay_opacity}, expected 0 to 1")


_NAMESPACE = re.compile(r"[A-Za-z][A-Za-z0-9_]*(/[A-Za-z][A-Za-z0-9_]*)*")
_LISTS = ("cameras", "providers")

LOADED_WITH_THE_MODEL = frozenset(
    {"model", "cameras", "backend", "providers", "threads", "engine", "background"}
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
        additional_constraints="Can be changed while the node is unconfigured.",
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
        fixed: Whether the parameters that load the model are refused, since it is loaded.

    Raises:
        ValueError: a value given at the start is not allowed.
        rclpy.exceptions.ParameterException: likewise, of the wrong type or out of range.
    """

    def __init__(self, node: Node, fixed: Callable[[], bool]) -> None:
        self._fixed = fixed
        defaults = Settings()
        values = {}
        for field in fields(Settings):
            default = getattr(defaults, field.name)
            if field.name in _LISTS:
                default = [""]  # an empty list has no type in ROS
            parameter = node.declare_parameter(field.name, default, _DESCRIPTORS[field.name])
            values[field.name] = _from_ros(parameter)
        self.now = Settings(**values)
        """The values in force."""
        node.add_on_set_parameters_callback(self._on_set)

    def _on_set(self, parameters: list[Parameter]) -> SetParametersResult:
        changes = {p.name: _from_ros(p) for p in parameters if p.name in _DESCRIPTORS}
        late = sorted(LOADED_WITH_THE_MODEL & set(changes))
        if late and self._fixed():
            return SetParametersResult(
                successful=False,
                reason=f"{', '.join(late)}: fixed while the node holds a model; deactivate and"
                " clean up the node first",
            )
        try:
            self.now = replace(self.now, **changes)
        except ValueError as error:
            return SetParametersResult(successful=False, reason=str(error))
        return SetParametersResult(successful=True)


def _from_ros(parameter: Parameter) -> Any:
    if parameter.name in _LISTS:
        return () if parameter.value == [""] else tuple(parameter.value)
    return parameter.value
