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

"""The launch files, launched."""

import json
import signal
import sys

import pytest

pytest.importorskip("launch_ros", reason="launch_ros is not on PyPI; needs an installed ROS 2")
pytest.importorskip("depthseg_ros.msg", reason="needs the built package: tools/env.sh pytest")

from ament_index_python.packages import get_packages_with_prefixes
from nav_msgs.msg import Odometry
from rcl_interfaces.srv import GetParameters
from rclpy.parameter import parameter_value_to_python
from rclpy.qos import ReliabilityPolicy
from sensor_msgs.msg import CameraInfo, Image

from depthseg_ros.imaging.images import intrinsics
from depthseg_ros.node.messages import image_message
from depthseg_ros.street import Street

pytestmark = pytest.mark.ros

# Stands in for an executable of a package that may not be installed: says what it was given.
SAYS_ARGUMENTS = f"""#!{sys.executable}
import sys, time
print("given", *sys.argv[1:], flush=True)
time.sleep(1000)
"""
# For a node: says, as a real one, what its parameters are.
SAYS_PARAMETERS = f"""#!{sys.executable}
import json, time
import rclpy
rclpy.init()
node = rclpy.create_node("costmap", automatically_declare_parameters_from_overrides=True)
found = {{name: p.value for name, p in node.get_parameters_by_prefix("").items()}}
found["resolved"] = node.resolve_topic_name("/depthseg/points/label")
print(node.get_fully_qualified_name(), json.dumps(found), flush=True)
time.sleep(1000)
"""


def stand_in(prefix, package, executable, script):
    """Puts an executable of a package into a prefix; without a package, a command."""
    folder = prefix / "lib" / package if package else prefix / "bin"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / executable).write_text(script)
    (folder / executable).chmod(0o755)
    index = prefix / "share" / "ament_index" / "resource_index" / "packages"
    index.mkdir(parents=True, exist_ok=True)
    (index / (package or executable)).touch()


def test_the_street_is_perceived_without_any_argument(launch, observer):
    images = observer.collect(Image, "/image")
    overlays = observer.collect(Image, "/depthseg/label/overlay")
    process = launch()
    observer.until(lambda: overlays and images, f"pictures\n{process.log}")
    assert (images[0].width, images[0].height) == (640, 480)  # of config/depthseg.yaml
    assert overlays[0].header.frame_id == "camera_optical_frame"
    readers = observer.node.get_subscriptions_info_by_topic("/image")
    (node,) = [reader for reader in readers if reader.node_name == "depthseg"]
    assert node.qos_profile.reliability == ReliabilityPolicy.RELIABLE
    assert process.stop(signal.SIGINT) == 0
    ended = process.lines(r"process has (finished cleanly|died)")
    assert len(ended) == 2
    assert all("cleanly" in line for line in ended)


def test_a_running_camera_is_taken_from_its_own_topics(launch, observer, tmp_path):
    # No camera is started; the node is in a namespace, with parameters of the user's own.
    params = tmp_path / "params.yaml"
    params.write_text("/**:\n  ros__parameters:\n    default_fov: 0.9\n")
    image = observer.node.create_publisher(Image, "/driver/image_raw", 5)
    depth_info = observer.collect(CameraInfo, "/robot/depthseg/depth/camera_info")
    process = launch(
        source="none",
        namespace="robot",
        image_topic="/driver/image_raw",
        camera_info_topic="/driver/camera_info",
        params_file=params,
        backend="onnxruntime",
        model="street",
        image_transport="raw",
        camera_height="1",
    )
    picture = Street(0, 64, 48).frame(0).image
    observer.until(image.get_subscription_count, f"the node\n{process.log}")
    assert not process.lines("camera_node")

    def perceived():
        message = image_message(picture, "rgb8", Image().header)
        image.publish(message)
        return depth_info

    observer.until(perceived, f"depth\n{process.log}")
    assert process.lines(r"no camera_info received on /driver/camera_info.* 0.9 rad")
    assert intrinsics(depth_info[0]).width == 64
    values = parameters(observer, "/robot/depthseg", "camera_height", "model", "image_transport")
    assert values == [1.0, "street", "raw"]
    readers = observer.node.get_subscriptions_info_by_topic("/driver/image_raw")
    assert {reader.qos_profile.reliability for reader in readers} == {ReliabilityPolicy.RELIABLE}
    assert process.stop(signal.SIGINT) == 0


def test_a_missing_model_is_said_and_the_rest_goes_on(launch, observer, tmp_path):
    process = launch(model=tmp_path / "none.onnx", namespace="missing")
    process.says("there is no model file .*none.onnx")
    images = observer.collect(Image, "/missing/image")
    observer.until(lambda: images, f"pictures\n{process.log}")
    assert process.stop(signal.SIGINT) == 0


def test_the_camera_has_its_place_in_tf_and_the_node_knows_its_height(launch, observer, tmp_path):
    stand_in(tmp_path, "tf2_ros", "static_transform_publisher", SAYS_ARGUMENTS)
    process = launch(
        prefix=tmp_path,
        source="none",
        namespace="mounted",
        base_frame="base_link",
        camera_height="0.6",
        camera_pitch="0.1",
    )
    to_camera = "--frame-id base_link --child-frame-id camera_frame"
    process.says(f"given --z 0.6 --pitch 0.1 {to_camera}")
    quarters = "--roll -1.5707963.* --yaw -1.5707963.*"
    to_pictures = "--frame-id camera_frame --child-frame-id camera_optical_frame"
    process.says(f"given {quarters} {to_pictures}")
    values = parameters(observer, "/mounted/depthseg", "camera_height", "camera_pitch")
    assert values == [0.6, 0.1]
    process.stop(signal.SIGINT)


def test_the_streets_camera_hangs_where_it_is_said_to(launch, observer):
    process = launch(namespace="low", camera_height="0.6", camera_pitch="0.1", fov="1.0")
    values = parameters(observer, "/low/camera", "camera_height", "camera_pitch", "fov")
    assert values == [0.6, 0.1, 1.0]
    process.stop(signal.SIGINT)


def test_the_street_publishes_its_pose_and_is_driven(launch, observer):
    odom = observer.collect(Odometry, "/simulated/odom")
    process = launch(
        namespace="simulated", odom_frame="map", base_frame="base", cmd_vel_timeout="0.5"
    )
    observer.until(lambda: odom, f"odometry\n{process.log}")
    assert (odom[0].header.frame_id, odom[0].child_frame_id) == ("map", "base")
    assert observer.node.count_subscribers("/simulated/cmd_vel") == 1
    assert not process.lines("static_transform_publisher")
    process.stop(signal.SIGINT)


def test_only_the_street_has_a_pose(launch):
    process = launch(source="none", odom_frame="odom")
    assert process.wait() != 0
    assert process.lines("odom_frame needs source:=street, got none")
    assert not process.lines("process started")


def test_tf_needs_the_height_of_the_camera(launch, tmp_path):
    stand_in(tmp_path, "tf2_ros", "static_transform_publisher", SAYS_ARGUMENTS)
    process = launch(prefix=tmp_path, source="none", base_frame="base_link")
    assert process.wait() != 0
    assert process.lines("base_frame needs the argument camera_height")


@pytest.mark.parametrize(
    ("record", "namespace", "expected"),
    [
        ("true", "", r"\^\(/image\(/compressed\)\?\|/camera_info\|/depthseg/\.\+\|/tf\|.*\)\$$"),
        ("bags/first", "robot", r"\^\(/robot/image.*/robot/depthseg/.*\)\$ --output bags/first$"),
    ],
)
def test_camera_and_outputs_are_recorded(launch, tmp_path, record, namespace, expected):
    stand_in(tmp_path, "", "ros2", SAYS_ARGUMENTS)
    stand_in(tmp_path, "ros2bag", "none", "")
    process = launch(prefix=tmp_path, source="none", record=record, namespace=namespace)
    process.says(f"given bag record --regex {expected}")
    process.stop(signal.SIGINT)


def test_several_cameras_are_perceived_by_one_node(launch, observer):
    cameras = ("front", "side/left")
    images = {c: observer.collect(Image, f"/{c}/image") for c in cameras}
    depths = {c: observer.collect(Image, f"/depthseg/{c}/depth/image") for c in cameras}
    process = launch("cameras", cameras=",".join(cameras))
    observer.until(
        lambda: all(depths.values()) and all(images.values()), f"pictures\n{process.log}"
    )
    frames = [depths[camera][0].header.frame_id for camera in cameras]
    assert frames == ["front_optical_frame", "side_left_optical_frame"]
    assert images["front"][0].data != images["side/left"][0].data  # streets of their own
    (node,) = [
        reader
        for reader in observer.node.get_subscriptions_info_by_topic("/side/left/image")
        if reader.node_name == "depthseg"
    ]
    assert node.qos_profile.reliability == ReliabilityPolicy.RELIABLE
    assert process.stop(signal.SIGINT) == 0


@pytest.mark.parametrize(
    ("file", "package", "arguments"),
    [
        ("camera", "rviz2", {"rviz": "true"}),
        ("camera", "tf2_ros", {"base_frame": "base_link", "camera_height": "0.6"}),
        ("camera", "tf2_msgs", {"odom_frame": "odom"}),
        ("camera", "ros2bag", {"record": "true"}),
        ("nav2", "nav2_costmap_2d", {}),
    ],
)
def test_a_missing_package_is_reported_before_anything_starts(launch, file, package, arguments):
    if package in get_packages_with_prefixes():
        pytest.skip(f"{package} is installed")
    process = launch(file, **arguments)
    assert process.wait() != 0
    assert process.lines(f"needs the package {package}, which is not installed; apt install ros-")
    assert not process.lines("process started")


@pytest.mark.parametrize("semantic", [True, False])
def test_nav2_gets_a_costmap_of_the_layers_that_are_installed(launch, tmp_path, semantic):
    stand_in(tmp_path, "nav2_costmap_2d", "nav2_costmap_2d", SAYS_PARAMETERS)
    if semantic:
        stand_in(tmp_path, "semantic_segmentation_layer", "none", "")
    namespace = "" if semantic else "/robot"
    layers = "semantic_segmentation_layer,voxel_layer" if semantic else ""
    process = launch(
        "nav2", tmp_path, source="none", base_frame="none", namespace=namespace.strip("/"),
        plugins=layers,
    )  # fmt: skip
    name = f"{namespace}/local_costmap/local_costmap"
    (line,) = process.says(f"{name} {{")
    found = json.loads(line.partition(name)[2])
    assert found["autostart_node"] is True
    assert (found["global_frame"], found["robot_base_frame"]) == ("odom", "base_link")
    assert found["obstacle_layer.scan.topic"] == "/depthseg/scan"  # of config/nav2_costmap.yaml
    assert found["resolved"] == f"{namespace}/depthseg/points/label"
    if semantic or "semantic_segmentation_layer" in get_packages_with_prefixes():
        assert found["plugins"][0] == "semantic_segmentation_layer"
        assert not semantic or found["plugins"] == layers.split(",")
    else:
        assert found["plugins"] == ["obstacle_layer", "inflation_layer"]
        assert process.lines("semantic_segmentation_layer is not installed")
    process.stop(signal.SIGINT)


def parameters(observer, node, *names):
    """Values of a node's parameters."""
    service = f"{node}/get_parameters"
    response = observer.call(GetParameters, service, GetParameters.Request(names=list(names)))
    return [parameter_value_to_python(value) for value in response.values]
