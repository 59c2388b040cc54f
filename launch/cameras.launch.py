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

"""Start several cameras and one depthseg node with one model for all of them.

ros2 launch depthseg_ros cameras.launch.py cameras:=front,rear
ros2 launch depthseg_ros cameras.launch.py cameras:=front,rear source:=none

The camera `front` publishes front/image and front/camera_info; its outputs are
/depthseg/front/label/image and so on.
"""

import posixpath

from launch import Action, LaunchContext, LaunchDescription
from launch.actions import DeclareLaunchArgument, OpaqueFunction
from launch.substitutions import LaunchConfiguration, PathJoinSubstitution
from launch_ros.actions import Node
from launch_ros.parameter_descriptions import ParameterValue
from launch_ros.substitutions import FindPackageShare

CONFIG = PathJoinSubstitution([FindPackageShare("depthseg_ros"), "config"])
ARGUMENTS = {
    "cameras": ("front,rear", "namespaces of the cameras, separated by commas"),
    "source": ("street", "source of each camera: 'street', a folder of images or a video; 'none' if"
               " the camera drivers are already running"),
    "model": ("", "name of the model, 'street' or 'indoor', or a model file (.onnx); empty: value"
              " of params_file"),
    "backend": ("", "runtime for the model; empty: value of params_file or auto"),
    "image_transport": ("", "transport of the images, raw or compressed; empty: value of"
                        " params_file"),
    "params_file": (PathJoinSubstitution([CONFIG, "depthseg.yaml"]), "parameters of all nodes"),
    "namespace": ("", "namespace of all nodes and their topics"),
}  # fmt: skip


def generate_launch_description() -> LaunchDescription:
    """What `ros2 launch` runs."""
    return LaunchDescription([
        *(DeclareLaunchArgument(name, default_value=default, description=description)
          for name, (default, description) in ARGUMENTS.items()),
        OpaqueFunction(function=nodes),
    ])  # fmt: skip


def nodes(context: LaunchContext) -> list[Action]:
    """The cameras, unless they run already, and the depthseg node."""
    value = {name: LaunchConfiguration(name).perform(context) for name in ARGUMENTS}
    cameras = [camera.strip() for camera in value["cameras"].split(",") if camera.strip()]
    parameters = {
        name: ParameterValue(value[name], value_type=str)
        for name in ("model", "backend", "image_transport")
        if value[name]
    }
    found: list[Action] = []
    if value["source"] not in ("", "none"):
        for seed, camera in enumerate(cameras):  # each sees a street of its own
            frame = f"{camera.replace('/', '_')}_optical_frame"
            own = {"source": ParameterValue(value["source"], value_type=str)}
            found.append(
                Node(
                    package="depthseg_ros",
                    executable="camera_node",
                    name="camera",
                    namespace=posixpath.join(value["namespace"], camera),
                    parameters=[value["params_file"], own | {"seed": seed, "frame_id": frame}],
                    output="screen",
                )
            )
            # These cameras are known to be reliable, so that none of their pictures need be lost.
            topic = posixpath.join("/", value["namespace"], camera, "image")
            parameters[f"qos_overrides.{topic}.subscription.reliability"] = "reliable"
    depthseg = Node(
        package="depthseg_ros",
        executable="depthseg",
        name="depthseg",
        namespace=value["namespace"],
        parameters=[value["params_file"], parameters | {"cameras": cameras or [""]}],
        output="screen",
    )
    return [*found, depthseg]
