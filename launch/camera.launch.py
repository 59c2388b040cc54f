r"""A camera, the depthseg node and, if wanted, RViz.

ros2 launch depthseg_ros camera.launch.py
ros2 launch depthseg_ros camera.launch.py source:=/dev/video0 rviz:=true
ros2 launch depthseg_ros camera.launch.py source:=none \
    image_topic:=/camera/image_raw camera_info_topic:=/camera/camera_info
"""

import posixpath

from launch import LaunchContext, LaunchDescription
from launch.actions import DeclareLaunchArgument, OpaqueFunction
from launch.conditions import IfCondition
from launch.substitutions import LaunchConfiguration, PathJoinSubstitution
from launch_ros.actions import Node
from launch_ros.parameter_descriptions import ParameterValue
from launch_ros.substitutions import FindPackageShare

CONFIG = PathJoinSubstitution([FindPackageShare("depthseg_ros"), "config"])
ARGUMENTS = {
    "source": ("street", "'street', a folder of pictures, a video or /dev/videoN; 'none' for a"
               " camera that runs already"),
    "model": ("", "model file (.onnx); empty: the one of params_file or of the package"),
    "backend": ("", "what runs the model; empty: that of params_file or auto"),
    "params_file": (PathJoinSubstitution([CONFIG, "depthseg.yaml"]), "parameters of both nodes"),
    "namespace": ("", "namespace of both nodes and their topics"),
    "image_topic": ("image", "topic of the camera's pictures"),
    "camera_info_topic": ("camera_info", "topic of the camera's intrinsics"),
    "rviz": ("false", "whether to start RViz"),
}  # fmt: skip


def generate_launch_description() -> LaunchDescription:
    """What `ros2 launch` runs."""
    return LaunchDescription([
        *(DeclareLaunchArgument(name, default_value=default, description=description)
          for name, (default, description) in ARGUMENTS.items()),
        OpaqueFunction(function=nodes),
        Node(
            package="rviz2",
            executable="rviz2",
            arguments=["-d", PathJoinSubstitution([CONFIG, "depthseg.rviz"])],
            condition=IfCondition(LaunchConfiguration("rviz")),
        ),
    ])  # fmt: skip


def nodes(context: LaunchContext) -> list[Node]:
    """The camera, unless one runs already, and the depthseg node."""
    value = {name: LaunchConfiguration(name).perform(context) for name in ARGUMENTS}

    def node(name: str, executable: str, *given: str, **others: str) -> Node:
        chosen = {name: value[name] for name in given if value[name]} | others
        return Node(
            package="depthseg_ros",
            executable=executable,
            name=name,
            namespace=value["namespace"],
            parameters=[
                value["params_file"],
                {name: ParameterValue(text, value_type=str) for name, text in chosen.items()},
            ],
            remappings=[
                ("image", value["image_topic"]),
                ("camera_info", value["camera_info_topic"]),
            ],
            output="screen",
        )

    if value["source"] in ("", "none"):
        return [node("depthseg", "depthseg", "model", "backend")]
    # This camera is known to be reliable, so that none of its pictures need be lost on the way.
    topic = posixpath.join("/", value["namespace"], value["image_topic"])
    reliable = {f"qos_overrides.{topic}.subscription.reliability": "reliable"}
    return [
        node("camera", "camera_node", "source"),
        node("depthseg", "depthseg", "model", "backend", **reliable),
    ]
