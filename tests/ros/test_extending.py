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

"""Who follows docs/extending.md to the letter gets what it says, also of a node over DDS."""

import pytest

pytest.importorskip("rclpy", reason="needs ROS 2")
pytest.importorskip("depthseg_ros.msg", reason="needs the built package: tools/env.sh pytest")

from tests.guide import copied, run, scripts

pytestmark = pytest.mark.ros


@pytest.fixture(scope="module")
def checkout(tmp_path_factory):
    return copied(tmp_path_factory.mktemp("guide"))


@pytest.mark.parametrize(
    "script",
    [script for script in scripts() if "tests/ros/" in script],
    ids=lambda script: script.splitlines()[-1],
)
def test_what_the_guide_says_to_run_passes(checkout, script):
    run(checkout, script)
