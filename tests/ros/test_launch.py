"""The launch file, launched."""

import signal
import sys
from pathlib import Path

import pytest

pytest.importorskip("launch_ros", reason="launch_ros is not on PyPI; needs an installed ROS 2")
pytest.importorskip("depthseg_ros.msg", reason="needs the built package: tools/env.sh pytest")

from ament_index_python.packages import get_package_share_directory
from rclpy.qos import ReliabilityPolicy
from sensor_msgs.msg import CameraInfo, Image

from depthseg_ros.messages import image_message, intrinsics
from depthseg_ros.street import Street

pytestmark = pytest.mark.ros

# What `ros2 launch` does, without needing ros2cli.
LAUNCH = """
import sys
from launch import LaunchDescription, LaunchService
from launch.actions import IncludeLaunchDescription
from launch.launch_description_sources import PythonLaunchDescriptionSource

file = PythonLaunchDescriptionSource(sys.argv[1])
arguments = [tuple(argument.split(":=")) for argument in sys.argv[2:]]
service = LaunchService()
service.include_launch_description(
    LaunchDescription([IncludeLaunchDescription(file, launch_arguments=arguments)])
)
sys.exit(service.run())
"""


@pytest.fixture(scope="module")
def launch(start_process):
    """Launches camera.launch.py with arguments."""
    path = Path(get_package_share_directory("depthseg_ros"), "launch", "camera.launch.py")

    def launch(**arguments):
        return start_process(
            [sys.executable, "-c", LAUNCH, str(path)]
            + [f"{name}:={value}" for name, value in arguments.items()]
        )

    return launch


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
    )
    picture = Street(0, 64, 48).frame(0).image
    observer.until(image.get_subscription_count, f"the node\n{process.log}")
    assert not process.lines("camera_node")

    def perceived():
        message = image_message(picture, "rgb8", Image().header)
        image.publish(message)
        return depth_info

    observer.until(perceived, f"depth\n{process.log}")
    assert process.lines(r"nothing came on /driver/camera_info.* 0.9 rad")
    assert intrinsics(depth_info[0]).width == 64
    assert process.stop(signal.SIGINT) == 0


def test_a_missing_model_is_said_and_the_rest_goes_on(launch, observer, tmp_path):
    process = launch(model=tmp_path / "none.onnx", namespace="missing")
    process.says("there is no model file .*none.onnx")
    images = observer.collect(Image, "/missing/image")
    observer.until(lambda: images, f"pictures\n{process.log}")
    assert process.stop(signal.SIGINT) == 0
