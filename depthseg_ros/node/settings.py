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

"""A node's parameters as fields of a dataclass: default, limits and description in one place.

The parameter descriptors, config/depthseg.yaml and docs/reference are generated from them.
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
    """Description and limits of a parameter."""

    description: str
    """Plain text, as `ros2 param describe` shows it."""
    within: tuple[float, float] | None = None
    """Minimum and maximum value."""
    choices: tuple[str, ...] = ()
    """All allowed values."""
    constraints: str = ""
    """Other limits, as a sentence."""
    fixed: bool = False
    """Whether it takes effect when the node is configured, and cannot be changed after that."""
    read_only: bool = False
    """Whether it can only be set when the node starts."""

    def descriptor(self, default: Any) -> ParameterDescriptor:
        """The parameter descriptor for ROS."""
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
        """The limits other than the range, one sentence each."""
        rules = [f"One of {', '.join(self.choices)}."] if self.choices else []
        if self.fixed:
            rules.append("Can be changed while the node is unconfigured.")
        return [*rules, self.constraints] if self.constraints else rules


def parameter(default: Any, description: str, **others: Any) -> Any:
    """A dataclass field for a parameter; `others` are fields of `About`."""
    return field(default=default, metadata={"about": About(description, **others)})


def about(entry: Field[Any]) -> About:
    """The description and limits of a field made by `parameter`."""
    found: About = entry.metadata["about"]
    return found


def declare(node: Node, kind: type) -> dict[str, Any]:
    """Declare a dataclass's fields as the node's parameters and return their values.

    rclpy ignores values of parameters that do not exist; they are logged.

    Raises:
        ValueError: A value has the wrong type.
        rclpy.exceptions.ParameterException: A value is out of range.
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
                    f"{entry.name} is {shortened(repr(value))} of type {got}, expected {expected}"
                )
            default = value
        value = node.declare_parameter(entry.name, default, told, ignore_override=True).value
        values[entry.name] = from_ros(entry, value)
    # rclpy declares those of QoS with the subscriptions.
    unknown = [
        name
        for name in node._parameter_overrides
        if not node.has_parameter(name) and not name.startswith("qos_overrides.")
    ]
    if unknown:
        node.get_logger().warning(
            f"Ignored unknown parameters: {shortened(', '.join(sorted(unknown)), 200)};"
            f" 'ros2 param list {node.get_fully_qualified_name()}' lists all"
        )
    return values


def accept_integers(node: Node, kind: type) -> None:
    """Convert integers to doubles for fields that are doubles, before rclpy checks the types."""
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
    """Convert integers in a parameter's value to doubles, if its field has doubles."""
    if isinstance(entry.default, float):
        return float(value) if type(value) is int else value
    if isinstance(entry.default, tuple) and entry.default and type_of(value) == "integer_array":
        return [float(number) for number in value]
    return value


def type_of(value: Any) -> str:
    """Name of a parameter value's ROS type, e.g. double_array."""
    return Parameter.Type.from_parameter_value(value).name.lower()


ABSENT = "\0"
"""Stands for a parameter that was not set at the start."""


def given(node: Node, name: str) -> Any:
    """The value of any type that a parameter was set to at the start, or `ABSENT`.

    None for an empty list, which has no type in ROS.
    """
    if node.has_parameter(name):
        return node.get_parameter(name).value
    value = node.declare_parameter(name, ABSENT, ParameterDescriptor(dynamic_typing=True)).value
    node.undeclare_parameter(name)
    return value


def to_ros(value: Any) -> Any:
    """Convert a field's value to a parameter's: an empty list has no type in ROS, so `['']`."""
    return list(value) or [""] if isinstance(value, tuple) else value


def from_ros(entry: Field[Any], value: Any) -> Any:
    """Convert a parameter's value to its field's."""
    if not isinstance(entry.default, tuple):
        return value
    value = tuple(value or ())  # an empty list may come as None
    return value if entry.default or any(value) else ()
