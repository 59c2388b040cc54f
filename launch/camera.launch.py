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

r"""Start a camera, the depthseg node and optionally the camera's tf, RViz and a recording.

ros2 launch depthseg_ros camera.launch.py
ros2 launch depthseg_ros camera.launch.py source:=/dev/video0 rviz:=true \
    base_frame:=base_footprint camera_height:=0.6 camera_pitch:=0.1
ros2 launch depthseg_ros camera.launch.py source:=none record:=drive_1 \
    image_topic:=/camera/image_raw camera_info_topic:=/camera/camera_info
ros2 launch depthseg_ros camera.launch.py odom_frame:=odom cmd_vel_timeout:=0.5

The last command is a simulation without a robot: the rendered street publishes its camera's true
pose, and a geometry_msgs/Twist on cmd_vel drives it.
"""

import math
import os
import posixpath
import re

from ament_index_python.packages import get_packages_with_prefixes
from launch import Action, LaunchContext, LaunchDescription
from launch.actions import DeclareLaunchArgument, ExecuteProcess, OpaqueFunction
from launch.conditions import IfCondition
from launch.substitutions import LaunchConfiguration, PathJoinSubstitution
from launch_ros.actions import Node
from launch_ros.parameter_descriptions import ParameterValue
from launch_ros.substitutions import FindPackageShare

CONFIG = PathJoinSubstitution([FindPackageShare("depthseg_ros"), "config"])
ARGUMENTS = {
    "source": ("street", "'street', a folder of images, a video, /dev/videoN or the address of a"
               " stream, e.g. rtsp://camera/live; 'none' if a camera driver is already running"),
    "model": ("", "name of the model, 'street' or 'indoor', or a model file (.onnx); empty: value"
              " of params_file"),
    "backend": ("", "runtime for the model; empty: value of params_file or auto"),
    "params_file": (PathJoinSubstitution([CONFIG, "depthseg.yaml"]), "parameters of both nodes"),
    "namespace": ("", "namespace of both nodes and their topics"),
    "image_topic": ("image", "topic of the camera images"),
    "image_transport": ("", "transport of the images, raw or compressed; empty: value of"
                        " params_file"),
    "camera_info_topic": ("camera_info", "topic of the camera's intrinsics"),
    "fov": ("", "horizontal field of view of a video or device [rad]; empty: value of params_file"),
    "camera_height": ("", "height of the camera above the ground [m]; empty: value of params_file"),
    "camera_pitch": ("", "pitch of the camera [rad], positive looks down; empty: value of"
                     " params_file, and 0 in tf"),
    "base_frame": ("none", "frame on the ground below the camera: publishes the transform from it"
                   " to the image frame, from camera_height and camera_pitch; 'none': tf already"
                   " has it"),
    "optical_frame": ("camera_optical_frame", "frame of the images, if base_frame is given"),
    "odom_frame": ("none", "frame in which the camera of the rendered street publishes its true"
                   " pose: tf from it to base_frame (base_link if that is 'none') and to the"
                   " images, and the topic odom; 'none': no pose"),
    "cmd_vel_timeout": ("", "with odom_frame, drive by the velocities of cmd_vel, and stop if none"
                        " comes for this time [s]; empty: value of params_file"),
    "min_depth_confidence": ("", "depth with a lower probability of being right is left out; empty:"
                             " value of params_file"),
    "rviz": ("false", "start RViz; to show the scan, it needs tf (see base_frame)"),
    "record": ("false", "record the camera and all outputs with 'ros2 bag': 'true', or a folder"
               " that does not exist yet"),
}  # fmt: skip
MOUNTING = ("camera_height", "camera_pitch")
NUMBERS = ("fov", "cmd_vel_timeout", "min_depth_confidence", *MOUNTING)


def generate_launch_description() -> LaunchDescription:
    """What `ros2 launch` runs."""
    return LaunchDescription([
        *(DeclareLaunchArgument(name, default_value=default, description=description)
          for name, (default, description) in ARGUMENTS.items()),
        OpaqueFunction(function=actions),
        Node(
            package="rviz2",
            executable="rviz2",
            arguments=["-d", PathJoinSubstitution([CONFIG, "depthseg.rviz"])],
            condition=IfCondition(LaunchConfiguration("rviz")),
        ),
    ])  # fmt: skip


def actions(context: LaunchContext) -> list[Action]:
    """What the arguments ask for."""
    value = {name: LaunchConfiguration(name).perform(context) for name in ARGUMENTS}
    simulated = value["odom_frame"] not in ("", "none")
    placed = value["base_frame"] not in ("", "none")
    if simulated and value["source"] != "street":
        raise RuntimeError(
            f"odom_frame needs source:=street, got {value['source']}: other sources have no pose"
        )
    check_packages(
        {
            "rviz2": IfCondition(LaunchConfiguration("rviz")).evaluate(context) and "rviz:=true",
            "tf2_msgs": simulated and "odom_frame",
            "tf2_ros": placed and not simulated and "base_frame",
            "ros2bag": value["record"] not in ("", "false") and "record",
        }
    )
    found: list[Action] = nodes(value)
    if placed and not simulated:
        found += transforms(value)
    if value["record"] not in ("", "false"):
        found.append(recording(value))
    return found


def check_packages(needed_by: dict[str, str | bool]) -> None:
    """Check that the packages which arguments need are installed, before any process starts.

    Args:
        needed_by: package -> the argument that needs it, or False.

    Raises:
        RuntimeError: One is missing.
    """
    installed = get_packages_with_prefixes()
    for package, argument in needed_by.items():
        if argument and package not in installed:
            name = f"ros-{os.environ.get('ROS_DISTRO', 'DISTRO')}-{package.replace('_', '-')}"
            raise RuntimeError(
                f"{argument} needs the package {package}, which is not installed; apt install"
                f" {name}"
            )


def nodes(value: dict[str, str]) -> list[Action]:
    """The camera, unless one runs already, and the depthseg node."""

    def node(name: str, executable: str, *given: str, **others: str) -> Node:
        chosen = {name: value[name] for name in given if value[name]} | others
        return Node(
            package="depthseg_ros",
            executable=executable,
            name=name,
            namespace=value["namespace"],
            parameters=[
                value["params_file"],
                {
                    name: float(text) if name in NUMBERS else ParameterValue(text, value_type=str)
                    for name, text in chosen.items()
                },
            ],
            remappings=[
                ("image", value["image_topic"]),
                ("camera_info", value["camera_info_topic"]),
            ],
            output="screen",
        )

    given = ("model", "backend", "image_transport", "min_depth_confidence", *MOUNTING)
    if value["source"] in ("", "none"):
        return [node("depthseg", "depthseg", *given)]
    # This camera is known to be reliable, so that none of its pictures need be lost on the way.
    topic = posixpath.join("/", value["namespace"], value["image_topic"])
    reliable = {f"qos_overrides.{topic}.subscription.reliability": "reliable"}
    placed = value["base_frame"] not in ("", "none")
    # The rendered street's camera is mounted as it is said to be.
    mounted = MOUNTING if value["source"] == "street" and value["camera_height"] else ()
    frames = {"frame_id": value["optical_frame"]} if placed else {}
    pose: tuple[str, ...] = ()
    if value["odom_frame"] not in ("", "none"):
        frames["odom_frame_id"], pose = value["odom_frame"], ("cmd_vel_timeout",)
        if placed:
            frames["base_frame_id"] = value["base_frame"]
    return [
        node("camera", "camera_node", "source", "fov", *mounted, *pose, **frames),
        node("depthseg", "depthseg", *given, **reliable),
    ]


def transforms(value: dict[str, str]) -> list[Action]:
    """From the base to the camera, x forward, and from there to its pictures, z forward."""
    if not value["camera_height"]:
        raise RuntimeError(
            "base_frame needs the argument camera_height, in metres (params_file's is"
            " not read for it)"
        )
    base, optical = value["base_frame"], value["optical_frame"]
    camera = re.sub("_optical(?=(_frame)?$)", "", optical)  # as the node names its scan's frame
    if camera == optical:
        raise RuntimeError(
            f"optical_frame is {optical}, expected a name that ends in _optical_frame or _optical"
        )
    mounted = ["--z", value["camera_height"], "--pitch", value["camera_pitch"] or "0"]
    turned = ["--roll", str(-math.pi / 2), "--yaw", str(-math.pi / 2)]
    return [
        Node(
            package="tf2_ros",
            executable="static_transform_publisher",
            name=f"{child}_in_tf",
            namespace=value["namespace"],
            arguments=[*pose, "--frame-id", parent, "--child-frame-id", child],
            output="screen",
        )
        for pose, parent, child in ((mounted, base, camera), (turned, camera, optical))
    ]


def recording(value: dict[str, str]) -> Action:
    """The camera's topics, all of the node's, tf and diagnostics, in a bag."""
    own = (f"{value['image_topic']}(/compressed)?", value["camera_info_topic"], "depthseg/.+")
    topics = [posixpath.join("/", value["namespace"], topic) for topic in own]
    topics += ["/tf", "/tf_static", "/diagnostics"]
    command = ["ros2", "bag", "record", "--regex", f"^({'|'.join(topics)})$"]
    if value["record"] != "true":
        command += ["--output", value["record"]]
    return ExecuteProcess(cmd=command, output="screen")
