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

"""A node's parameters as the fields of a dataclass: default, limits and description, each once.

What ROS, config/depthseg.yaml and docs/reference say of a parameter comes from here.
"""

from __future__ import annotations

from dataclasses import Field, dataclass, field, fields
from typing import Any

from rcl_interfaces.msg import FloatingPointRange, IntegerRange, ParameterDescriptor
from rclpy.node import Node
from rclpy.parameter import Parameter

from ..texts import shortened


@dataclass(frozen=True)
class About:
    """What is to be known of a parameter beside its name, type and default."""

    description: str
    """In the plain text that `ros2 param describe` shows."""
    within: tuple[float, float] | None = None
    """Its least and its greatest value."""
    choices: tuple[str, ...] = ()
    """All of its values."""
    constraints: str = ""
    """What else it has to be."""
    fixed: bool = False
    """Whether it takes effect when the node is configured, and cannot be changed from then on."""
    read_only: bool = False
    """Whether it can be given at the start alone."""

    def descriptor(self, default: Any) -> ParameterDescriptor:
        """What ROS is told of it."""
        found = ParameterDescriptor(
            description=self.description,
            additional_constraints=" ".join(self.rules()),
            read_only=self.read_only,
        )
        if self.within and isinstance(default, int):
            least, greatest = map(int, self.within)
            found.integer_range = [IntegerRange(from_value=least, to_value=greatest)]
        elif self.within:
            low, high = self.within
            found.floating_point_range = [FloatingPointRange(from_value=low, to_value=high)]
        return found

    def rules(self) -> list[str]:
        """What holds of its values beside the range, a sentence each."""
        rules = [f"One of {', '.join(self.choices)}."] if self.choices else []
        if self.fixed:
            rules.append("Can be changed while the node is unconfigured.")
        return [*rules, self.constraints] if self.constraints else rules


def parameter(default: Any, description: str, **others: Any) -> Any:
    """A dataclass's field that is a parameter; `others` are those of `About`."""
    return field(default=default, metadata={"about": About(description, **others)})


def about(entry: Field[Any]) -> About:
    """What `parameter` was told of a field."""
    found: About = entry.metadata["about"]
    return found


def declare(node: Node, kind: type) -> dict[str, Any]:
    """Declare a dataclass's fields as the node's parameters, and give their values.

    Raises:
        ValueError: a value is of the wrong type.
        rclpy.exceptions.ParameterException: a value is out of range.
    """
    values = {}
    for entry in fields(kind):
        told = about(entry).descriptor(entry.default)
        default, value = to_ros(entry.default), given(node, entry.name)
        if value is None and isinstance(entry.default, tuple):  # an empty list, without a type
            node.declare_parameter(entry.name, default, told, ignore_override=True)
            values[entry.name] = ()
            continue
        if value != ABSENT:
            value = as_doubles(entry, value)
            expected, got = type_of(default), type_of(value)
            if expected != got:
                raise ValueError(
                    f"{entry.name} is {shortened(repr(value))}, of type {got}, expected {expected}"
                )
            default = value
        value = node.declare_parameter(entry.name, default, told, ignore_override=True).value
        values[entry.name] = from_ros(entry, value)
    return values


def accept_integers(node: Node, kind: type) -> None:
    """Let integers be set where a dataclass's fields are doubles, before rclpy checks the types."""
    entries = {entry.name: entry for entry in fields(kind)}

    def convert(parameters: list[Parameter]) -> list[Parameter]:
        return [
            Parameter(p.name, value=as_doubles(entries[p.name], p.value))
            if p.name in entries
            else p
            for p in parameters
        ]

    if hasattr(node, "add_pre_set_parameters_callback"):  # not in Humble
        node.add_pre_set_parameters_callback(convert)


def as_doubles(entry: Field[Any], value: Any) -> Any:
    """A parameter's value with doubles in place of integers, if its field has doubles."""
    if isinstance(entry.default, float):
        return float(value) if type(value) is int else value
    if isinstance(entry.default, tuple) and entry.default and type_of(value) == "integer_array":
        return [float(number) for number in value]
    return value


def type_of(value: Any) -> str:
    """The name of the type that ROS gives to a parameter's value, e.g. double_array."""
    return Parameter.Type.from_parameter_value(value).name.lower()


ABSENT = "\0"
"""In place of a parameter's value: none was given."""


def given(node: Node, name: str) -> Any:
    """What a parameter was given at the start, of whatever type; `ABSENT` where nothing was.

    None for an empty list, which has no type in ROS.
    """
    if node.has_parameter(name):
        return node.get_parameter(name).value
    value = node.declare_parameter(name, ABSENT, ParameterDescriptor(dynamic_typing=True)).value
    node.undeclare_parameter(name)
    return value


def to_ros(value: Any) -> Any:
    """A field's value as a parameter's: an empty list has no type in ROS, so it is `['']`."""
    return list(value) or [""] if isinstance(value, tuple) else value


def from_ros(entry: Field[Any], value: Any) -> Any:
    """A parameter's value as its field's."""
    if not isinstance(entry.default, tuple):
        return value
    value = tuple(value or ())  # an empty list may come as None
    return value if entry.default or any(value) else ()
