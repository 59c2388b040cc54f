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

"""The stand-in camera: its pictures, its truth, its end."""

import os
import re
import threading
import time
import zlib
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import cv2
import numpy as np
import pytest

pytest.importorskip("rclpy", reason="needs ROS 2")
pytest.importorskip("depthseg_ros.msg", reason="needs the built package: tools/env.sh pytest")

from ament_index_python.packages import get_package_prefix
from geometry_msgs.msg import Twist
from nav_msgs.msg import Odometry
from rclpy.qos import DurabilityPolicy, QoSProfile
from sensor_msgs.msg import CameraInfo, Image
from tf2_msgs.msg import TFMessage

from depthseg_ros.imaging.geometry import Intrinsics, rays
from depthseg_ros.imaging.images import image_to_rgb, intrinsics
from depthseg_ros.street import CLASS_NAMES, Camera, Street

pytestmark = pytest.mark.ros

WIDTH, HEIGHT = 96, 64
COLORS = [(250, 10, 10), (10, 250, 10), (10, 10, 250)]


def flat_picture(color):
    """A picture of one colour, BGR as OpenCV writes it."""
    return np.full((HEIGHT, WIDTH, 3), color[::-1], np.uint8)


def color_of(message):
    return tuple(int(v) for v in np.median(image_to_rgb(message), axis=(0, 1)))


def near(color, expected):
    return max(abs(a - b) for a, b in zip(color, expected, strict=True)) < 25


@pytest.fixture
def folder(tmp_path):
    """Three pictures whose natural order is not the alphabetical one."""
    for name, color in zip(("2.png", "10.png", "11.PNG"), COLORS, strict=True):
        cv2.imwrite(str(tmp_path / name), flat_picture(color))
    (tmp_path / "notes.txt").write_text("no picture")
    return tmp_path


@pytest.fixture
def video(tmp_path):
    path = tmp_path / "video.avi"
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter_fourcc(*"MJPG"), 10, (WIDTH, HEIGHT))
    if not writer.isOpened():
        pytest.skip("this OpenCV writes no videos")
    for color in COLORS:
        writer.write(flat_picture(color))
    writer.release()
    return path


@pytest.mark.parametrize(
    ("parameters", "chosen"),
    [
        ({}, Camera()),
        (
            {"fov": 1.8, "camera_height": 0.5, "camera_pitch": 0.1}
            | {"gains": "[1.1, 1.0, 0.7]", "gamma": 0.8},
            Camera(fov=1.8, height=0.5, pitch=-0.1, gains=(1.1, 1.0, 0.7), gamma=0.8),
        ),
    ],
    ids=["own", "chosen"],
)
def test_the_street_comes_with_its_truth(start, observer, parameters, chosen):
    namespace = f"/street{len(parameters)}"
    names = {"image": Image, "camera_info": CameraInfo}
    names |= {"truth/label/image": Image, "truth/depth/image": Image}
    topics = {name: observer.collect(kind, f"{namespace}/{name}") for name, kind in names.items()}
    size = {"width": WIDTH, "height": HEIGHT}
    camera = start("camera_node", namespace, seed=3, rate=20.0, **size, **parameters)

    def complete():
        stamps = [{m.header.stamp.sec * 10**9 + m.header.stamp.nanosec: m for m in messages}
                  for messages in topics.values()]  # fmt: skip
        common = sorted(set.intersection(*(set(s) for s in stamps)))
        return [s[common[2]] for s in stamps] if len(common) > 2 else None

    image, info, labels, depth = observer.until(complete, f"a complete picture\n{camera.log}")
    assert {m.header.frame_id for m in (image, info, labels, depth)} == {"camera_optical_frame"}
    street = Street(3, WIDTH, HEIGHT, chosen)
    rgb = image_to_rgb(image)
    frame = next(f for f in map(street.frame, range(500)) if np.array_equal(f.image, rgb))
    shape = (HEIGHT, WIDTH)
    np.testing.assert_array_equal(np.frombuffer(labels.data, np.uint8).reshape(shape), frame.labels)
    np.testing.assert_array_equal(np.frombuffer(depth.data, np.float32).reshape(shape), frame.depth)
    assert intrinsics(info) == street.intrinsics
    assert camera.stop() == 0


def test_a_folder_is_shown_in_natural_order_and_the_node_ends_with_it(start, observer, folder):
    infos = observer.collect(CameraInfo, "/folder/camera_info")
    camera = start("camera_node", "/folder", source=folder, loop=False, rate=5.0, fov=1.0)
    camera.says("Publishing images of")
    camera.says("camera_info is not calibrated: it assumes a horizontal field of view of")
    observer.until(lambda: observer.node.count_publishers("/folder/camera_info"), "the camera")
    images = observer.collect(Image, "/folder/image")  # it has waited for this
    observer.until(lambda: len(images) == len(COLORS), f"pictures\n{camera.log}")
    assert [color_of(m) for m in images] == list(COLORS)
    assert camera.wait() == 0
    assert camera.lines("The source has ended")
    observer.until(lambda: infos and infos[-1].header == images[-1].header, "camera_info")
    assert intrinsics(infos[-1]) == Intrinsics.from_fov(WIDTH, HEIGHT, 1.0)


def test_a_video_starts_again_at_its_end(start, observer, video):
    images = observer.collect(Image, "/video/image")
    camera = start("camera_node", "/video", source=video, rate=20.0)
    observer.until(lambda: len(images) >= 7, f"pictures\n{camera.log}")
    seen = [next(i for i, c in enumerate(COLORS) if near(color_of(m), c)) for m in images]
    assert seen == [(seen[0] + i) % 3 for i in range(len(seen))]
    assert camera.stop() == 0


@pytest.mark.parametrize(
    "make",
    ["nothing", "empty folder", "broken picture", "large picture", "broken video", "no camera"],
)
def test_a_source_that_gives_no_pictures_is_one_line_and_exit_code_1(start, tmp_path, make):
    source = tmp_path / "source"
    if make == "empty folder":
        source.mkdir()
    elif make == "broken picture":
        source.mkdir()
        (source / "1.png").write_bytes(b"no picture")
    elif make == "large picture":
        source.mkdir()
        data = bytearray(cv2.imencode(".png", np.zeros((1, 1, 3), np.uint8))[1].tobytes())
        data[16:24] = (100_000).to_bytes(4, "big") * 2
        data[29:33] = zlib.crc32(data[12:29]).to_bytes(4, "big")
        (source / "1.png").write_bytes(data)
    elif make == "broken video":
        source.write_bytes(b"no video")
    elif make == "no camera":
        source = "/dev/null"
    camera = start("camera_node", "/nothing", source=source)
    assert camera.wait() == 1
    (line,) = camera.log.strip().splitlines()
    assert f"{source}" in line


class Device:
    """Stands in for a camera on USB, which gives pictures of its own size."""

    def __init__(self, number, api):
        assert (number, api) == (3, cv2.CAP_V4L2)
        self.left, self.set_to, self.open = 2, {}, True

    def set(self, what, value):
        self.set_to[what] = value

    def read(self):
        self.left -= 1
        return (True, np.full((4, 6, 3), (1, 2, 3), np.uint8)) if self.left >= 0 else (False, None)

    def release(self):
        self.open = False


def test_a_device_gives_pictures_until_it_is_pulled_out(monkeypatch):
    from depthseg_ros.sources import device_frames

    devices = []
    monkeypatch.setattr(cv2, "VideoCapture", lambda *a: devices.append(Device(*a)) or devices[-1])
    frames = device_frames(Path("/dev/video3"), 640, 480, 1.2)
    for _ in range(2):
        frame = next(frames)
        assert frame.image[0, 0].tolist() == ([1, 2, 3] if frame.encoding == "bgr8" else [3, 2, 1])
        assert (frame.intrinsics.width, frame.intrinsics.height) == (6, 4)
    with pytest.raises(ValueError, match="/dev/video3 sends no images"):
        next(frames)
    (device,) = devices
    assert device.set_to[cv2.CAP_PROP_FRAME_WIDTH] == 640 and not device.open


@pytest.mark.parametrize(
    ("parameters", "said"),
    [
        ({"camera_pitch": 0.1}, "camera_pitch is 0.1 but camera_height is 0"),
        ({"fov": 3.0}, "camera fov: got 3.0, expected 0.1 to 2.1"),
        ({"gains": "[1.0, 1.0]"}, "camera gains: got 2, expected 3"),
        ({"cmd_vel_timeout": 0.5}, "odom_frame_id needs the source 'street', and cmd_vel_timeout"),
        ({"odom_frame_id": "base_link"}, "expected different names"),
    ],
)
def test_a_camera_that_cannot_be_is_one_line_and_exit_code_1(start, parameters, said):
    camera = start("camera_node", "/nothing", **parameters)
    assert camera.wait() == 1
    (line,) = camera.log.strip().splitlines()
    assert said in line


@pytest.mark.parametrize(
    ("parameters", "fov"),
    [({}, 1.2), ({"fov": 3.0}, 3.0)],
    ids=["not known", "wider than a street's"],
)
def test_a_folder_has_the_lens_that_is_said_or_a_usual_one(
    start, observer, folder, parameters, fov
):
    namespace = f"/lens{len(parameters)}"
    infos = observer.collect(CameraInfo, f"{namespace}/camera_info")
    images = observer.collect(Image, f"{namespace}/image")
    camera = start("camera_node", namespace, source=folder, rate=20.0, **parameters)
    observer.until(lambda: infos and images, f"pictures\n{camera.log}")
    assert intrinsics(infos[-1]) == Intrinsics.from_fov(WIDTH, HEIGHT, fov)
    assert camera.lines(f"it assumes a horizontal field of view of {fov:g} rad")
    assert camera.stop() == 0


class Mjpeg(BaseHTTPRequestHandler):
    """Serves images as a network camera does, some of them per connection."""

    connections = 0

    def do_GET(self):
        Mjpeg.connections += 1
        self.send_response(200)
        self.send_header("Content-Type", "multipart/x-mixed-replace; boundary=frame")
        self.end_headers()
        with suppress(ConnectionError):
            for i in range(40):
                image = np.full((48, 64, 3), (20 * Mjpeg.connections, i, 100), np.uint8)
                data = cv2.imencode(".jpg", image)[1].tobytes()
                part = f"--frame\r\nContent-Type: image/jpeg\r\nContent-Length: {len(data)}\r\n\r\n"
                self.wfile.write(part.encode() + data + b"\r\n")
                time.sleep(0.02)

    def log_message(self, *_):
        pass


def test_a_stream_is_published_and_connected_to_again(start, observer):
    server = ThreadingHTTPServer(("127.0.0.1", 0), Mjpeg)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    address = f"user:secret@127.0.0.1:{server.server_port}/video"
    images = observer.collect(Image, "/streamed/image")
    process = start("camera_node", "/streamed", source=f"http://{address}")
    ended = f"Source http://{address.partition('@')[2]} has ended; reconnecting every 1 s"
    process.says(re.escape(ended))
    process.says("sends images again")
    seen = len(images)
    observer.until(lambda: len(images) > seen + 3, f"images\n{process.log}")
    assert (images[-1].width, images[-1].height) == (64, 48)
    assert Mjpeg.connections > 1 and "secret" not in process.log
    assert process.stop() == 0
    server.shutdown()
    server.server_close()


def test_a_stream_that_gives_nothing_is_one_line(start):
    process = start("camera_node", "/no_stream", source="rtsp://127.0.0.1:9/live")
    assert process.wait() == 1
    assert len(process.lines("source rtsp://127.0.0.1:9/live sends no images: check")) == 1


# --- The pose of the street's camera, and cmd_vel ---


class Robot:
    """What a camera node with odometry publishes, in a namespace."""

    def __init__(self, observer, start, namespace, **parameters):
        self.observer = observer
        kinds = {"image": Image, "camera_info": CameraInfo, "odom": Odometry}
        kinds |= {"truth/depth/image": Image, "truth/label/image": Image}
        self.got = {n: observer.collect(kind, f"{namespace}/{n}", 50) for n, kind in kinds.items()}
        self.tf = observer.collect(TFMessage, "/tf", 100)
        latched = QoSProfile(depth=10, durability=DurabilityPolicy.TRANSIENT_LOCAL)
        self.tf_static = observer.collect(TFMessage, "/tf_static", latched)
        self.cmd_vel = observer.node.create_publisher(Twist, f"{namespace}/cmd_vel", 10)
        # Each robot of these tests has frames of its own, as all share /tf.
        self.odom, self.base = f"{namespace[1:]}/odom", f"{namespace[1:]}/base_link"
        self.optical = f"{namespace[1:]}/eye_optical_frame"
        self.process = start(
            "camera_node", namespace, width=WIDTH * 2, height=HEIGHT * 2, camera_height=0.8,
            camera_pitch=0.15, fov=1.3, rate=20.0, odom_frame_id=self.odom,
            base_frame_id=self.base, frame_id=self.optical, **parameters,
        )  # fmt: skip

    def transform(self, child, stamp=None):
        """Parent and pose (4, 4) of a frame, from tf; static without a stamp."""
        found = self.tf_static if stamp is None else self.tf
        for t in (t for message in found for t in message.transforms):
            if t.child_frame_id == child and stamp in (None, t.header.stamp):
                return t.header.frame_id, matrix(t.transform.translation, t.transform.rotation)
        return None

    def view(self, stamp):
        """(3, n) points in odom that the image of a stamp shows, by the whole chain of tf."""
        depth, labels, info = (
            next((m for m in self.got[name] if m.header.stamp == stamp), None)
            for name in ("truth/depth/image", "truth/label/image", "camera_info")
        )
        chain, frame = np.eye(4), self.optical
        for _ in range(3):
            found = self.transform(frame, stamp if frame == self.base else None)
            if found is None:
                return None
            frame, chain = found[0], found[1] @ chain
        assert frame == self.odom
        if depth is None or labels is None or info is None:
            return None
        shape = (depth.height, depth.width)
        return View(
            chain, intrinsics(info),
            np.frombuffer(depth.data, np.float32).reshape(shape),
            np.frombuffer(labels.data, np.uint8).reshape(shape),
        )  # fmt: skip

    def views(self):
        """The view of each image whose messages have all come, in order."""
        stamps = [m.header.stamp for m in self.got["truth/depth/image"]]
        return [view for view in map(self.view, stamps) if view is not None]

    def until(self, condition, what):
        return self.observer.until(condition, lambda: f"{what}\n{self.process.log}")


class View:
    """An image's true depth and labels, and the camera in odom."""

    def __init__(self, pose, camera, depth, labels):
        self.pose, self.camera, self.depth, self.labels = pose, camera, depth, labels

    def points(self, label):
        """(3, n) points in odom of the pixels with a label."""
        chosen = self.labels == label
        x, y = rays(self.camera)
        local = np.stack([x, y, np.ones_like(x)]) * self.depth
        return self.pose[:3, :3] @ local[:, chosen] + self.pose[:3, 3:]

    def error(self, points, label):
        """Relative error of the depth (n,) of points that this view also shows, with this label."""
        local = self.pose[:3, :3].T @ (points - self.pose[:3, 3:])
        local = local[:, local[2] > 0.3]
        u = (local[0] / local[2] * self.camera.fx + self.camera.cx).astype(np.float32)
        v = (local[1] / local[2] * self.camera.fy + self.camera.cy).astype(np.float32)
        known = (self.labels == label).astype(np.float32)
        # In the image of a plane, 1 / depth is linear.
        near = cv2.remap(1 / self.depth, u, v, cv2.INTER_LINEAR).ravel()
        inside = cv2.remap(known, u, v, cv2.INTER_LINEAR).ravel() > 0.999
        return np.abs(near * local[2] - 1)[inside]


def matrix(translation, rotation):
    x, y, z, w = rotation.x, rotation.y, rotation.z, rotation.w
    cross = np.array([[0, -z, y], [z, 0, -x], [-y, x, 0]])
    pose = np.eye(4)
    pose[:3, :3] += 2 * w * cross + 2 * cross @ cross
    pose[:3, 3] = translation.x, translation.y, translation.z
    return pose


ROAD = CLASS_NAMES.index("road")


def test_points_of_the_road_stay_where_they_are_in_odom(observer, start):
    robot = Robot(observer, start, "/driven", seed=3)
    views = robot.until(lambda: (v := robot.views()) and len(v) > 12 and v, "images with tf")
    first, last = views[0], views[-1]
    assert np.linalg.norm(last.pose[:3, 3] - first.pose[:3, 3]) > 1
    errors = last.error(first.points(ROAD), ROAD)
    # OpenCV interpolates at steps of 1/32 pixel.
    assert len(errors) > 500 and np.median(errors) < 1e-3
    assert abs(np.median(first.points(ROAD)[2])) < 1e-3  # the ground is at z = 0
    parent, eye = robot.transform(robot.optical)
    assert parent == robot.optical.replace("_optical", "")
    np.testing.assert_allclose(eye[:3, 2], (1, 0, 0), atol=1e-9)  # its z is the robot's x
    _, camera = robot.transform(parent)
    np.testing.assert_allclose(camera[:3, 3], (0, 0, 0.8))
    assert camera[2, 0] == pytest.approx(-np.sin(0.15))  # pitched down
    message = robot.got["odom"][-1]
    assert (message.header.frame_id, message.child_frame_id) == (robot.odom, robot.base)
    assert message.twist.twist.linear.x > 1 and message.pose.pose.position.x > 1
    assert robot.process.stop() == 0


def test_the_robot_follows_cmd_vel_and_stops_without(observer, start):
    robot = Robot(observer, start, "/steered", seed=3, cmd_vel_timeout=0.5)
    odom = robot.got["odom"]
    robot.until(lambda: len(robot.views()) > 1, "images with tf")
    first = robot.views()[-1]
    assert abs(odom[-1].pose.pose.position.x) < 1e-9  # it waits for commands

    def yaw(message):
        return 2 * np.arctan2(message.pose.pose.orientation.z, message.pose.pose.orientation.w)

    command = Twist()
    command.linear.x, command.angular.z = 0.8, 0.5

    def turned():
        robot.cmd_vel.publish(command)
        return yaw(odom[-1]) > 0.4

    robot.until(turned, "a turn to the left")
    twist = odom[-1].twist.twist
    assert (twist.linear.x, twist.angular.z) == pytest.approx((0.8, 0.5), rel=1e-3)
    position = odom[-1].pose.pose.position
    assert position.x > 0.3 and position.y > 0.05  # to the left of where it was heading
    radius = 0.8 / 0.5  # of the circle around (0, radius)
    assert np.hypot(position.x, position.y - radius) == pytest.approx(radius, rel=1e-3)
    errors = robot.views()[-1].error(first.points(ROAD), ROAD)
    assert len(errors) > 200 and np.median(errors) < 1e-3
    robot.until(lambda: abs(odom[-1].twist.twist.angular.z) < 1e-9, "a stop by time-out")
    rest, count = odom[-1].pose, len(odom)
    robot.until(lambda: len(odom) > count + 3, "odometry at rest")
    assert odom[-1].pose == rest
    command.linear.x = float("nan")
    robot.cmd_vel.publish(command)
    robot.until(lambda: robot.process.lines("expected numbers: stopped"), "the log")
    assert robot.process.stop() == 0


def test_without_tf2_msgs_there_is_odometry_alone(observer, start, tmp_path):
    (tmp_path / "tf2_msgs").mkdir()
    (tmp_path / "tf2_msgs" / "__init__.py").write_text("raise ImportError")
    program = Path(get_package_prefix("depthseg_ros"), "lib", "depthseg_ros", "camera_node")
    environment = f"PYTHONPATH={tmp_path}:{os.environ.get('PYTHONPATH', '')}"
    odom = observer.collect(Odometry, "/alone/odom")
    camera = start(["env", environment, str(program)], "/alone", odom_frame_id="odom")
    observer.until(lambda: odom, f"odometry\n{camera.log}")
    assert len(camera.lines("tf2_msgs is not installed, so only odom is published")) == 1
    assert camera.stop() == 0
