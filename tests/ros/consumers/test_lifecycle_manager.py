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

"""Nav2's lifecycle manager brings the node up as docs/planners.md says, and fails as it says."""

import pytest

pytest.importorskip("rclpy", reason="needs ROS 2")
pytest.importorskip("depthseg_ros.msg", reason="needs the built package: tools/env.sh pytest")

from lifecycle_msgs.srv import GetState

pytestmark = pytest.mark.ros
SECTION = "Nav2's lifecycle manager"


def state(observer):
    response = observer.call(GetState, "/depthseg/get_state", GetState.Request(), again=True)
    return response.current_state.label


@pytest.mark.parametrize("bond", [False, True])
def test_the_manager_activates_the_node_and_finds_no_bond(recipe, observer, bond):
    # With a bond, the manager gives up, but the node is active.
    without = ("bond_timeout",) if bond else ()
    manager = recipe(SECTION, "nav2_lifecycle_manager", "lifecycle_manager", without)
    node = recipe(SECTION, "depthseg_ros", "depthseg")
    if bond:
        manager.says(r"Server depthseg was unable to be reached after 4.00s by bond")
        manager.says("Failed to bring up all requested nodes")
    else:
        manager.says("Managed nodes are active")
    assert state(observer) == "active"
    manager.stop()
    node.stop()
