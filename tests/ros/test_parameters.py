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

"""Types of parameters, and what `ros2 param describe` shows of the running nodes."""

import dataclasses

import pytest

pytest.importorskip("rclpy", reason="needs ROS 2")

import rclpy
from rcl_interfaces.msg import ParameterType
from rcl_interfaces.srv import DescribeParameters, ListParameters
from rclpy.parameter import Parameter

from depthseg_ros.node.camera_node import CameraSettings
from depthseg_ros.node.parameters import Parameters, Settings
from depthseg_ros.node.settings import about, declare, to_ros

pytestmark = pytest.mark.ros

# Of rclpy, which says itself what they are, or not.
FOREIGN = ("qos_overrides.", "use_sim_time", "start_type_description_service")
OWN = {
    "depthseg": {"model", "threads", "max_rate", "camera_height", "autostart"},
    "camera_node": {"source", "rate", "fov", "camera_height", "gains"},
}


@pytest.mark.parametrize("executable", OWN)
def test_every_parameter_is_described_and_every_number_has_its_range(start, observer, executable):
    node = "depthseg" if executable == "depthseg" else "camera"
    start(executable, "/described")
    service = f"/described/{node}"
    request = ListParameters.Request()
    listed = observer.call(ListParameters, f"{service}/list_parameters", request, again=True)
    names = [name for name in listed.result.names if not name.startswith(FOREIGN)]
    assert set(names) >= OWN[executable]
    request = DescribeParameters.Request(names=names)
    said = observer.call(DescribeParameters, f"{service}/describe_parameters", request, again=True)
    assert [d.name for d in said.descriptors] == names
    for descriptor in said.descriptors:
        assert descriptor.description.endswith("."), descriptor.name
        if descriptor.type == ParameterType.PARAMETER_INTEGER:
            assert descriptor.integer_range, descriptor.name
        elif descriptor.type == ParameterType.PARAMETER_DOUBLE:
            assert descriptor.floating_point_range, descriptor.name


def doubles(kind):
    """Integers for all of a dataclass's fields that are doubles."""
    single = [f for f in dataclasses.fields(kind) if isinstance(f.default, float)]
    found = {f.name: int(about(f).within[1] >= 1) for f in single}
    lists = [f for f in dataclasses.fields(kind) if f.default and isinstance(f.default, tuple)]
    return found | {f.name: list(range(1, 1 + len(f.default))) for f in lists}


@pytest.fixture
def make_node(observer):
    nodes = []

    def make_node(**overrides):
        given = [Parameter(name, value=value) for name, value in overrides.items()]
        nodes.append(
            rclpy.create_node("typed", context=observer.context, parameter_overrides=given)
        )
        return nodes[-1]

    yield make_node
    for node in nodes:
        node.destroy_node()


@pytest.mark.parametrize("kind", [Settings, CameraSettings])
def test_integers_are_accepted_for_all_doubles_at_the_start(make_node, kind):
    given = doubles(kind)
    assert len(given) >= 5 and any(isinstance(value, list) for value in given.values())
    node = make_node(**given)
    values = declare(node, kind)
    for name, value in given.items():
        assert to_ros(values[name]) == value
        described = node.describe_parameter(name).type
        assert described in (ParameterType.PARAMETER_DOUBLE, ParameterType.PARAMETER_DOUBLE_ARRAY)


def test_integers_are_accepted_for_all_doubles_at_run_time(make_node):
    node = make_node()
    parameters = Parameters(node, card=lambda: None)
    for name, value in doubles(Settings).items():
        for setting in (node.set_parameters, node.set_parameters_atomically):
            results = setting([Parameter(name, value=value)])
            for result in results if isinstance(results, list) else [results]:
                assert result.successful, (name, result.reason)
        assert to_ros(getattr(parameters.now, name)) == value
        assert node.get_parameter(name).type_.name.startswith("DOUBLE")


@pytest.mark.parametrize(
    ("name", "value", "says"),
    [
        ("camera_height", "high", "camera_height is 'high' of type string, expected double"),
        ("camera_height", True, "camera_height is True of type bool, expected double"),
        ("threads", 2.0, "threads is 2.0 of type double, expected integer"),
        ("obstacle_heights", 1, "obstacle_heights is 1 of type integer, expected double_array"),
        ("model", 3, "model is 3 of type integer, expected string"),
    ],
)
def test_other_types_are_refused_in_one_line_and_the_old_value_stays(make_node, name, value, says):
    with pytest.raises(ValueError, match=says):
        Parameters(make_node(**{name: value}), card=lambda: None)
    node = make_node()
    parameters = Parameters(node, card=lambda: None)
    before = parameters.now
    result = node.set_parameters_atomically([Parameter(name, value=value)])
    assert not result.successful and "type" in result.reason and "\n" not in result.reason
    assert parameters.now == before
    result = node.set_parameters_atomically([Parameter("camera_height", value=101)])
    assert not result.successful and "range" in result.reason


def test_unknown_parameters_are_reported(start_depthseg, start):
    node = start_depthseg(unsure_below=0.5)  # a name of earlier versions
    node.process.says("Ignored unknown parameters: unsure_below; 'ros2 param list")
    process = start("camera_node", node.namespace, rate=5, hight=48)
    assert process.says("Ignored unknown parameters: hight;")


def test_integers_for_doubles_reach_the_running_nodes(start_depthseg, start):
    node = start_depthseg(camera_height=1, obstacle_heights="[0,2]")
    assert node.get("camera_height") == 1.0 and list(node.get("obstacle_heights")) == [0, 2]
    assert node.set("max_rate", 10).successful
    assert isinstance(node.get("max_rate"), float) and node.get("max_rate") == 10.0
    process = start("camera_node", node.namespace, rate=5, width=64, height=48, camera_height=1)
    process.says("64x48, at 5 Hz")
