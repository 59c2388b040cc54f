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

from sensor_msgs.msg import CameraInfo, Image

from depthseg_ros.imaging.geometry import Intrinsics
from depthseg_ros.imaging.images import image_to_rgb, intrinsics
from depthseg_ros.street import Camera, Street

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
