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

"""What `ros2 param describe` says of the running nodes."""

import pytest

pytest.importorskip("rclpy", reason="needs ROS 2")

from rcl_interfaces.msg import ParameterType
from rcl_interfaces.srv import DescribeParameters, ListParameters

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
