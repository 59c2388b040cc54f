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
