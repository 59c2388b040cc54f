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

r"""Start a camera, the depthseg node, the camera's tf, and a local costmap of Nav2.

ros2 launch depthseg_ros nav2.launch.py odom_frame:=odom min_depth_confidence:=0.5 \
    plugins:=semantic_segmentation_layer,obstacle_layer,voxel_layer,inflation_layer
ros2 launch depthseg_ros nav2.launch.py base_frame:=none source:=none \
    image_topic:=/camera/image_raw camera_info_topic:=/camera/camera_info

The first command is a simulation: the rendered street with its true pose, and all layers. The
second is for a robot whose tf contains the camera. All arguments of camera.launch.py are accepted.
On a driving robot, put this costmap into the controller server: docs/planners.md.
"""

import os
import posixpath
from pathlib import Path

from ament_index_python.packages import get_packages_with_prefixes
from launch import Action, LaunchContext, LaunchDescription
from launch.actions import DeclareLaunchArgument, IncludeLaunchDescription, LogInfo, OpaqueFunction
from launch.launch_description_sources import PythonLaunchDescriptionSource
from launch.substitutions import LaunchConfiguration, PathJoinSubstitution
from launch_ros.actions import Node
from launch_ros.substitutions import FindPackageShare

CONFIG = PathJoinSubstitution([FindPackageShare("depthseg_ros"), "config"])
CAMERA = str(Path(__file__).with_name("camera.launch.py"))
LAYER = "semantic_segmentation_layer"
TOPICS = ("points", "points/label", "points/confidence", "label/info", "scan")
"""Of the node, that config/nav2_costmap.yaml names, without a namespace."""
ARGUMENTS = {
    "costmap_file": (PathJoinSubstitution([CONFIG, "nav2_costmap.yaml"]),
                     "parameters of the costmap"),
    "plugins": ("", "layers of the costmap, separated by commas; empty: those of costmap_file"),
    "global_frame": ("odom", "fixed frame of the costmap; use base_link to try it without a robot's"
                     " odometry"),
    "base_frame": ("base_link", "as in camera.launch.py; 'none': tf already has the camera"),
}  # fmt: skip


def generate_launch_description() -> LaunchDescription:
    """What `ros2 launch` runs."""
    return LaunchDescription([
        *(DeclareLaunchArgument(name, default_value=default, description=description)
          for name, (default, description) in ARGUMENTS.items()),
        OpaqueFunction(function=check_packages),
        IncludeLaunchDescription(PythonLaunchDescriptionSource(CAMERA)),
        OpaqueFunction(function=costmap),
    ])  # fmt: skip


def check_packages(_: LaunchContext) -> None:
    """Check that there is a costmap, before any process starts."""
    if "nav2_costmap_2d" not in get_packages_with_prefixes():
        name = f"ros-{os.environ.get('ROS_DISTRO', 'DISTRO')}-nav2-costmap-2d"
        raise RuntimeError(
            f"nav2.launch.py needs the package nav2_costmap_2d, which is not installed; apt install"
            f" {name}, or use camera.launch.py, which has no costmap"
        )


def costmap(context: LaunchContext) -> list[Action]:
    """The costmap, of the layers whose packages are installed."""
    installed = get_packages_with_prefixes()
    found: list[Action] = []
    changed: dict[str, str | bool | list[str]] = {
        "global_frame": LaunchConfiguration("global_frame").perform(context),
        "autostart_node": True,
    }
    base = LaunchConfiguration("base_frame").perform(context)
    if base not in ("", "none"):
        changed["robot_base_frame"] = base
    plugins = [p.strip() for p in LaunchConfiguration("plugins").perform(context).split(",") if p]
    if LAYER not in installed:
        if LAYER in plugins or not plugins:
            found.append(LogInfo(msg=f"{LAYER} is not installed: the costmap is without it"))
        plugins = [p for p in plugins if p != LAYER] or ["obstacle_layer", "inflation_layer"]
    if plugins:
        changed["plugins"] = plugins
    namespace = posixpath.join("/", LaunchConfiguration("namespace").perform(context))
    found.append(
        Node(
            package="nav2_costmap_2d",
            executable="nav2_costmap_2d",
            name="local_costmap",
            namespace=posixpath.join(namespace, "local_costmap"),
            parameters=[LaunchConfiguration("costmap_file"), changed],
            remappings=[
                (f"/depthseg/{topic}", posixpath.join(namespace, "depthseg", topic))
                for topic in TOPICS
            ],
            output="screen",
        )
    )
    return found
