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

"""What planners take from the node: its topics held against the rules that consumers publish."""

import importlib.util
import math
import re
from dataclasses import replace
from itertools import count
from pathlib import Path

import cv2
import numpy as np
import onnx.parser
import pytest
import yaml

pytest.importorskip("rclpy", reason="needs ROS 2")
pytest.importorskip("depthseg_ros.msg", reason="needs the built package: tools/env.sh pytest")

from ament_index_python.packages import get_package_prefix, get_package_share_directory
from builtin_interfaces.msg import Time
from geometry_msgs.msg import Quaternion, TransformStamped
from rclpy.qos import QoSDurabilityPolicy, QoSProfile, qos_profile_sensor_data
from sensor_msgs.msg import Image, LaserScan, PointCloud2, PointField
from std_msgs.msg import Header

from depthseg_ros import model_card
from depthseg_ros.derived.depth_confidence import estimate_depth_confidence
from depthseg_ros.derived.ground import Ground
from depthseg_ros.derived.scan import obstacle_scan
from depthseg_ros.imaging.geometry import Intrinsics, rays, to_millimetres
from depthseg_ros.imaging.lens import Lens
from depthseg_ros.model_card import DepthRange, ModelCard, SemanticClass
from depthseg_ros.node.messages import camera_info_message, image_message

pytestmark = pytest.mark.ros

WIDTH, HEIGHT = 160, 120
STAMPS = count(1)
CAMERA = Intrinsics.from_fov(WIDTH, HEIGHT, 1.2)

# Says what the picture says: red is the class, green the confidence, blue decimetres, 0 none. The
# depth's confidence is what the label's lacks to 255.
PAINTED = """
<ir_version: 9, opset_import: ["" : 18]>
painted (uint8[N, H, W, 3] image, float[N] fx)
    => (uint8[N, H, W] labels, uint8[N, H, W] confidence, float[N, H, W] depth,
        uint8[N, H, W] depth_confidence)
<float ten = {10.0}, float zero = {0.0}, float none = {nan}, int64[1] last = {3},
    uint8 all = {255}>
{
    red, green, blue = Split <axis: int = 3, num_outputs: int = 3> (image)
    labels = Squeeze (red, last)
    confidence = Squeeze (green, last)
    decimetres = Cast <to: int = 1> (blue)
    flat = Squeeze (decimetres, last)
    metres = Div (flat, ten)
    there = Greater (metres, zero)
    depth = Where (there, metres, none)
    depth_confidence = Sub (all, confidence)
}
"""
CLASSES = (
    SemanticClass(0, "sky", (70, 130, 180), ("sky",)),
    SemanticClass(3, "road", (128, 64, 128), ("traversable",)),
    SemanticClass(4, "pavement", (244, 35, 232)),
    SemanticClass(8, "car", (0, 0, 142), ("obstacle", "movable")),
)


def write_painted(path, kind="metric"):
    card = ModelCard(
        "painted", "by hand", CLASSES, DepthRange(kind, 0.1, 25.5), (WIDTH, HEIGHT),
        canonical_fx=100.0 if kind == "metric" else None, depth_confidence=kind == "metric",
    )  # fmt: skip
    text = PAINTED.replace("{nan}", "{0.0}")
    if kind != "metric":
        text = text.replace(", float[N] fx", "")
        text = text.replace(",\n        uint8[N, H, W] depth_confidence)", ")")
    graph = onnx.parser.parse_model(text)
    (none,) = [t for t in graph.graph.initializer if t.name == "none"]
    none.CopyFrom(onnx.numpy_helper.from_array(np.float32("nan"), "none"))
    model_card.write(path, graph, card)
    return path


def painted_ground(height=1.5, car_at=8.0, kerb=None):
    """A picture of flat road below a level camera, with a car ahead to the left."""
    x, y = rays(CAMERA)
    with np.errstate(divide="ignore"):
        depth = np.where(y > 0, height / y, np.inf)
    labels = np.where(depth < 25.5, 3, 0).astype(np.uint8)
    bearing_x, top = x * car_at, y * car_at
    car = (bearing_x > -2.5) & (bearing_x < -0.7) & (top > -0.1) & (top < height) & (depth > car_at)
    labels[car], depth[car] = 8, car_at
    depth[depth >= 25.5] = 0
    image = np.empty((HEIGHT, WIDTH, 3), np.uint8)
    image[..., 0], image[..., 1] = labels, np.arange(WIDTH) % 250 + 1
    image[..., 2] = np.rint(10 * depth)
    return image


def message(image, frame_id="front_optical_frame", seconds=None):
    seconds = next(STAMPS) if seconds is None else seconds
    stamp = Time(sec=int(seconds), nanosec=5 + round(seconds % 1 * 1e9))
    header = Header(stamp=stamp, frame_id=frame_id)
    return image_message(image, "rgb8", header)


def until_says(node, image, pattern):
    """Send a picture, again and again as the network may lose it, until the node says so."""

    def says():
        node.send(message(image), camera_info_message(CAMERA, Header()))
        return node.process.lines(pattern)

    return node.observer.until(says, f"{pattern}\n{node.process.log}")


def picture(message, dtype=np.uint8):
    return np.frombuffer(message.data, dtype).reshape(message.height, message.width)


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return write_painted(tmp_path_factory.mktemp("models") / "painted.onnx")


@pytest.fixture(scope="module")
def node(start_depthseg, model):
    node = start_depthseg(model=model, fuse_depth=False, sharpen_depth=False)
    node.process.says("Model painted on onnxruntime")
    return node


@pytest.fixture(scope="module")
def perceive(node):
    """Sends a picture and returns its outputs by name."""
    collected = {}

    def perceive(image, *names, info=CAMERA, **settings):
        for name, value in settings.items():
            result = node.set(name, value)
            assert result.successful, result.reason
        for name in names:
            if name not in collected:
                collected[name] = node.collect(name)
        lists = [collected[name] for name in names]
        return node.perceive(message(image), camera_info_message(info, Header()), *lists)

    return perceive


@pytest.fixture(autouse=True)
def defaults(request):
    """Each test leaves the parameters as they were."""
    yield
    if "node" in request.fixturenames:
        node = request.getfixturevalue("node")
        for name, value in {
            "correct_scale": False, "ground": "fit", "camera_height": 0.0, "depth_scale": 1.0,
            "depth_encoding": "32FC1", "min_confidence": 0.0, "points_step": 2,
            "cut_classes": [""], "obstacle_classes": [""], "scan_frame": "", "max_rate": 0.0,
            "image_rotation": 0, "fuse_depth": False, "sharpen_depth": False,
            "min_depth_confidence": 0.0,
        }.items():  # fmt: skip
            assert node.set(name, value).successful


FIELDS = {
    "x": (0, PointField.FLOAT32), "y": (4, PointField.FLOAT32), "z": (8, PointField.FLOAT32),
    "rgb": (12, PointField.FLOAT32), "label": (16, PointField.UINT8),
    "confidence": (17, PointField.UINT8), "depth_confidence": (18, PointField.UINT8),
}  # fmt: skip


@pytest.mark.parametrize("step", [1, 2, 3])
def test_points_are_the_pixels_of_mask_confidence_and_depth(perceive, step):
    image = painted_ground()
    points, labels, confidence, depth, trust = perceive(
        image, "points", "points/label", "points/confidence", "depth/image", "depth/confidence",
        points_step=step,
    )  # fmt: skip
    assert points.header == labels.header == confidence.header == depth.header
    assert {f.name: (f.offset, f.datatype) for f in points.fields} == FIELDS
    assert all(f.count == 1 for f in points.fields) and not points.is_bigendian
    size = (math.ceil((WIDTH - step // 2) / step), math.ceil((HEIGHT - step // 2) / step))
    for m in (points, labels, confidence):
        assert (m.width, m.height) == size
    assert labels.encoding == confidence.encoding == "mono8" and labels.step == labels.width
    assert points.row_step == points.point_step * points.width and not points.is_dense
    # As a consumer does that indexes pixels: point i belongs to pixel i of the mask.
    cloud = np.frombuffer(points.data, np.uint8).reshape(-1, points.point_step)
    x, y, z = np.ascontiguousarray(cloud[:, :12]).view(np.float32).T
    grid = slice(step // 2, None, step), slice(step // 2, None, step)
    assert (cloud[:, 16] == image[grid][..., 0].ravel()).all()
    assert (cloud[:, 16] == picture(labels).ravel()).all()
    assert (cloud[:, 17] == image[grid][..., 1].ravel()).all()
    assert (cloud[:, 17] == picture(confidence).ravel()).all()
    assert trust.header == depth.header and trust.encoding == "mono8"
    assert (cloud[:, 18] == picture(trust)[grid].ravel()).all()
    known = np.isfinite(picture(depth, np.float32))
    np.testing.assert_array_equal(picture(trust), np.where(known, 255 - image[..., 1], 0))
    assert (cloud[:, 14:11:-1] == image[grid].reshape(-1, 3)).all()
    np.testing.assert_array_equal(z, picture(depth, np.float32)[grid].ravel())
    assert (np.isnan(x) == np.isnan(z)).all() and (np.isnan(y) == np.isnan(z)).all()
    v, u = (axis.ravel() for axis in np.mgrid[:HEIGHT, :WIDTH][(slice(None), *grid)])
    seen = np.isfinite(z)
    np.testing.assert_allclose((x / z * CAMERA.fx + CAMERA.cx)[seen], u[seen], atol=1e-3)
    np.testing.assert_allclose((y / z * CAMERA.fy + CAMERA.cy)[seen], v[seen], atol=1e-3)


@pytest.mark.parametrize("rotation", [90, 180, 270])
def test_a_camera_upside_down_or_on_its_side_gives_what_is_there(perceive, rotation):
    upright = painted_ground(height=1.5, car_at=8.0)
    names = ("scan", "class_distances", "ground", "points", "depth/image", "depth/camera_info")
    before = dict(zip(names, perceive(upright, *names, scan_frame="base_scan"), strict=True))
    raw = np.ascontiguousarray(np.rot90(upright, rotation // 90))
    height, width = raw.shape[:2]
    camera = replace(CAMERA, width=width, height=height, cx=(width - 1) / 2, cy=(height - 1) / 2)
    options = {"info": camera, "image_rotation": rotation}
    after = dict(zip(names, perceive(raw, *names, **options), strict=True))
    depth = picture(after["depth/image"], np.float32)
    np.testing.assert_array_equal(
        np.rot90(depth, -(rotation // 90)), picture(before["depth/image"], np.float32)
    )
    info = after["depth/camera_info"]
    assert (info.width, info.height, info.k[2], info.k[5]) == (width, height, camera.cx, camera.cy)
    # Points are where the pixels of this very camera look.
    points = after["points"]
    xyz = np.frombuffer(points.data, np.float32).reshape(points.height, points.width, -1)[..., :3]
    x, y = rays(camera, 2)
    there = np.isfinite(xyz[..., 2])
    np.testing.assert_allclose(xyz[..., 0][there], (x * xyz[..., 2])[there], rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(xyz[..., 1][there], (y * xyz[..., 2])[there], rtol=1e-4, atol=1e-5)
    ground = after["ground"]
    assert ground.height == pytest.approx(1.5, rel=0.02)
    up = Ground.from_mounting(1.5, 0, math.radians(rotation)).up
    assert (ground.normal.x, ground.normal.y, ground.normal.z) == pytest.approx(up, abs=0.02)
    heights = xyz[..., :3][there] @ up + ground.height
    assert abs(np.percentile(heights, 20)) < 0.05  # the road
    np.testing.assert_allclose(after["scan"].ranges, before["scan"].ranges, rtol=0.02)
    cars = [
        next(d for d in of["class_distances"].classes if d.class_name == "car")
        for of in (before, after)
    ]
    assert cars[1].bearing == pytest.approx(cars[0].bearing, abs=0.02)
    assert cars[1].nearest == pytest.approx(8.0, rel=0.005)


def test_rotations_that_cannot_be_are_refused(node):
    assert "expected one of 0, 90, 180, 270" in node.set("image_rotation", 45).reason
    assert node.set("image_rotation", 180).successful
    assert "applies to the rotated image" in node.set("camera_roll", 3.1).reason


def test_late_subscribers_learn_the_names_of_the_labels(node, observer):
    vision_msgs = pytest.importorskip("vision_msgs.msg", reason="needs vision_msgs")
    latched = QoSProfile(depth=1, durability=QoSDurabilityPolicy.TRANSIENT_LOCAL)
    infos = observer.collect(vision_msgs.LabelInfo, f"{node.name}/label/info", latched)
    observer.until(lambda: infos, "label/info")
    names = {c.class_id: c.class_name for c in infos[0].class_map}
    assert {i: names[i] for i in (0, 3, 4, 8)} == {0: "sky", 3: "road", 4: "pavement", 8: "car"}


def test_masks_wait_until_the_names_of_their_labels_have_arrived(node, observer):
    vision_msgs = pytest.importorskip("vision_msgs.msg", reason="needs vision_msgs")
    latched = QoSProfile(depth=1, durability=QoSDurabilityPolicy.TRANSIENT_LOCAL)
    seen = []

    def note(name, message):
        stamp = message.header.stamp
        seen.append((name, stamp.sec, stamp.nanosec))

    for name, kind, qos in (  # in the order of Nav2's layer
        ("points/label", Image, 20),
        ("label/info", vision_msgs.LabelInfo, latched),
        ("points", PointCloud2, 20),
    ):
        topic = f"{node.name}/{name}"
        observer.node.create_subscription(kind, topic, lambda m, n=name: note(n, m), qos)

    def of(name, messages):
        return {tuple(stamp) for n, *stamp in messages if n == name}

    def both_came():
        node.send(message(painted_ground()), camera_info_message(CAMERA, Header()))
        return of("points", seen) & of("points/label", seen)

    observer.until(both_came, "points and their labels")
    assert of("points", seen) - of("points/label", seen)  # points do not wait, masks do
    names = next(i for i, (name, *_) in enumerate(seen) if name == "label/info")
    assert not of("points", seen[:names]) & of("points/label", seen[:names])


def test_nav2s_layer_finds_the_car_and_the_road_where_they_are(perceive, node, observer):
    """By the rules of its source: docs/planners.md, semantic_segmentation_layer."""
    vision_msgs = pytest.importorskip("vision_msgs.msg", reason="needs vision_msgs")
    latched = QoSProfile(depth=5, durability=QoSDurabilityPolicy.TRANSIENT_LOCAL)
    infos = observer.collect(vision_msgs.LabelInfo, f"{node.name}/label/info", latched)
    observer.until(lambda: infos, "label/info, before any points")
    config = Path(get_package_share_directory("depthseg_ros"), "config", "nav2_costmap.yaml")
    layer = yaml.safe_load(config.read_text())["/**"]["local_costmap"]["ros__parameters"][
        "semantic_segmentation_layer"
    ]
    source = layer["camera"]
    topics = [source[f"{n}_topic"] for n in ("segmentation", "confidence", "pointcloud")]
    assert [t.removeprefix("/depthseg/") for t in topics] == [
        "points/label", "points/confidence", "points",
    ]  # fmt: skip
    cost_of = {
        name: source[kind]["max_cost"]
        for kind in source["class_types"]
        for name in source[kind]["classes"]
    }
    costs = {c.class_id: cost_of[c.class_name] for c in infos[0].class_map if c.class_name != "sky"}

    mask, confidence, cloud = perceive(
        painted_ground(height=1.5, car_at=8.0), "points/label", "points/confidence", "points"
    )
    assert mask.header.stamp == cloud.header.stamp == confidence.header.stamp
    pixels = cloud.width * cloud.height
    assert mask.width * mask.height == pixels
    assert len(mask.data) >= pixels and len(confidence.data) >= pixels
    offset = {f.name: f.offset for f in cloud.fields}
    tiles = {}
    for index in range(pixels):  # v * width + u, whatever step and encoding say
        start = index * cloud.point_step  # row_step is not looked at
        x, y, z = (
            np.frombuffer(cloud.data, np.float32, 1, start + offset[axis])[0] for axis in "xyz"
        )
        distance = math.hypot(x, y, z)
        if not source["min_obstacle_distance"] < distance < 12 or mask.data[index] not in costs:
            continue  # NaN is not between, either; the file's own limit ends before the car
        tile = math.floor(-x / 0.5), math.floor(z / 0.5)
        tiles[tile] = max(tiles.get(tile, 0), costs[mask.data[index]])
    lethal = {tile for tile, cost in tiles.items() if cost == 254}
    assert {round(0.5 * ahead, 1) for _, ahead in lethal} == {8.0}
    assert {left for left, _ in lethal} == {1, 2, 3, 4}  # tiles from 0.5 to 2.5 m to the left
    assert sum(cost == 0 for cost in tiles.values()) > 50
    assert all(cost in (0, 254) for cost in tiles.values())


@pytest.mark.parametrize("encoding", ["32FC1", "16UC1"])
def test_depthimage_to_laserscan_finds_the_car(perceive, encoding):
    """By the rules of its source: rows about cy, P's focal length, metres or millimetres."""
    depth, info = perceive(
        painted_ground(height=1.5, car_at=8.0), "depth/image", "depth/camera_info",
        depth_encoding=encoding,
    )  # fmt: skip
    assert depth.header == info.header and not depth.is_bigendian
    unit, kind = {"32FC1": (1.0, np.float32), "16UC1": (0.001, np.uint16)}[depth.encoding]
    assert depth.step == depth.width * np.dtype(kind).itemsize
    fx, cx, cy = info.p[0], info.p[2], info.p[6]
    top = int(cy - 10 / 2)
    rows = picture(depth, kind)[top : top + 10].astype(float) * unit
    seen = np.isfinite(rows) & (rows > 0.5) & (rows < 10)
    u = np.arange(depth.width)
    bearings = -np.arctan2((u - cx) / fx, 1)[seen.any(axis=0)]
    assert math.degrees(bearings.min()) == pytest.approx(5.0, abs=1.0)
    assert math.degrees(bearings.max()) == pytest.approx(17.4, abs=1.0)
    assert rows[seen] == pytest.approx(8.0, abs=0.001)


def test_the_scan_is_the_obstacles_above_the_ground(perceive):
    image = painted_ground(height=1.5, car_at=8.0)
    perceive(image, "scan", camera_height=1.5)  # before the ground can be by mounting
    (scan,) = perceive(image, "scan", ground="mounting")
    assert scan.header.frame_id == "front_frame"
    assert scan.range_min == 0 and scan.range_max == pytest.approx(25.5)
    ranges = np.array(scan.ranges, np.float32)
    angles = scan.angle_min + scan.angle_increment * np.arange(len(ranges))
    assert scan.angle_max == pytest.approx(angles[-1], abs=1e-4)
    hit = np.isfinite(ranges)
    # The car's rear is 8 m ahead, 0.7 to 2.5 m to the left, which is positive.
    assert math.degrees(angles[hit].min()) == pytest.approx(5.0, abs=1.0)
    assert math.degrees(angles[hit].max()) == pytest.approx(17.4, abs=1.0)
    np.testing.assert_allclose(ranges[hit] * np.cos(angles[hit]), 8.0, atol=0.05)
    assert np.isinf(ranges[angles < 0]).all()
    depth = np.where(image[..., 2] > 0, image[..., 2] / np.float32(10), np.float32(np.nan))
    expected = obstacle_scan(
        rays(CAMERA), depth, image[..., 0] == 8, Ground.from_mounting(1.5), (0.2, 2.5), 25.5,
        scan.angle_increment,
    )  # fmt: skip
    assert not np.isnan(ranges).any()
    np.testing.assert_allclose(ranges[hit], expected.ranges[hit], rtol=0.01)


def test_what_counts_as_an_obstacle_may_be_changed(perceive, node):
    image = painted_ground()
    (scan,) = perceive(image, "scan", obstacle_classes=["pavement"], scan_frame="base_scan")
    assert scan.header.frame_id == "base_scan" and np.isinf(scan.ranges).all()
    # The car is no more an obstacle, but no ground either.
    (ground,) = perceive(image, "ground", obstacle_classes=["pavement"])
    assert ground.height == pytest.approx(1.5, rel=0.02) and ground.inliers > 0.9
    (scan,) = perceive(image, "scan", obstacle_classes=["car"])
    assert min(scan.ranges) == pytest.approx(8.0, rel=0.02)
    assert "expected classes of painted: sky, road" in node.set("obstacle_classes", ["tram"]).reason
    assert "the lower first" in node.set("obstacle_heights", [2.0, 1.0]).reason


def test_the_ground_is_fitted_and_tells_the_scale(perceive):
    (ground,) = perceive(painted_ground(height=1.5), "ground")
    assert ground.height == pytest.approx(1.5, rel=0.02)
    assert (ground.normal.x, ground.normal.y, ground.normal.z) == pytest.approx(
        (0, -1, 0), abs=0.02
    )
    assert ground.inliers > 0.8 and math.isnan(ground.scale)
    ground, depth = perceive(painted_ground(height=1.5), "ground", "depth/image", camera_height=1.8)
    assert ground.scale == pytest.approx(1.2, rel=0.02)
    plain = picture(depth, np.float32)
    ground, depth = perceive(
        painted_ground(height=1.5), "ground", "depth/image", camera_height=1.8, correct_scale=True
    )
    assert ground.height == pytest.approx(1.8, rel=0.02)
    np.testing.assert_allclose(picture(depth, np.float32), plain * ground.scale, rtol=1e-4)


@pytest.mark.parametrize("correct_scale", [False, True])
def test_a_mounting_that_the_depth_contradicts_is_warned_of(perceive, node, correct_scale):
    image, words = painted_ground(height=1.5), "they disagree by 25 %"
    perceive(image, "depth/image", camera_height=2.0, correct_scale=correct_scale)

    def message(there):
        perceive(image, "depth/image")
        return (words in node.diagnostics().get("message", "")) == there

    node.until_diagnostics(lambda: message(True), words)
    line = node.process.lines(f"The ground in the depth is .*{words}")[-1]
    assert "1.50 m below the camera" in line and "the mounting has 2.00 m and 0.00 rad" in line
    assert ("correct_scale corrects" in line) != correct_scale
    assert node.set("camera_height", 1.6).successful
    node.until_diagnostics(lambda: message(False), "no warning")


def test_the_scale_follows_its_parameters_at_once(perceive):
    image = painted_ground(height=1.5)
    perceive(image, "ground", camera_height=1.5, correct_scale=True)
    for settings, scale, height in (
        ({"camera_height": 3.0}, 2.0, 3.0),
        ({"depth_scale": 4.0}, 0.5, 3.0),
        ({"correct_scale": False}, 0.5, 6.0),
    ):
        (ground,) = perceive(image, "ground", **settings)
        assert ground.scale == pytest.approx(scale, rel=0.02)
        assert ground.height == pytest.approx(height, rel=0.02)


def test_the_scan_reaches_as_far_as_scaled_depth_does(perceive):
    (scan,) = perceive(painted_ground(car_at=10.0), "scan", depth_scale=4.0)  # it ends at 25.5
    assert scan.range_max == pytest.approx(4 * 25.5)
    assert min(r for r in scan.ranges) == pytest.approx(40, rel=0.02)


def test_the_mounting_is_the_ground_where_none_is_to_be_seen(perceive, node):
    wall = np.full((HEIGHT, WIDTH, 3), (8, 200, 50), np.uint8)
    (ground,) = perceive(wall, "ground", camera_height=0.9, camera_pitch=0.1, camera_roll=-0.05)
    assert (ground.height, ground.pitch, ground.roll) == pytest.approx((0.9, 0.1, -0.05), abs=1e-4)
    assert math.isnan(ground.inliers)
    assert node.set("camera_height", 0.0).successful
    until_says(node, wall, "No ground: no ground is visible and camera_height is not set")
    assert "needs camera_height" in node.set("ground", "mounting").reason
    assert "needs camera_height" in node.set("correct_scale", True).reason


def test_depth_may_be_in_millimetres_scaled_and_without_what_moves(perceive, node):
    image = painted_ground()
    metres = np.where(image[..., 2] > 0, image[..., 2] / np.float32(10), np.float32(np.nan))
    depth, info = perceive(
        image, "depth/image", "depth/camera_info", depth_encoding="16UC1", depth_scale=2.0
    )
    assert depth.encoding == "16UC1" and depth.step == 2 * WIDTH
    np.testing.assert_array_equal(picture(depth, np.uint16), to_millimetres(2 * metres))
    assert info.header == depth.header and (info.width, info.height) == (WIDTH, HEIGHT)
    depth, points, labels = perceive(
        image, "depth/image", "points", "label/image",
        depth_encoding="32FC1", depth_scale=1.0, cut_classes=["car"], points_step=1,
    )  # fmt: skip
    car = image[..., 0] == 8
    np.testing.assert_array_equal(np.isnan(picture(depth, np.float32)), np.isnan(metres) | car)
    z = np.frombuffer(points.data, np.uint8).reshape(-1, 20)[:, 8:12].copy().view(np.float32)
    np.testing.assert_array_equal(np.isnan(z.reshape(HEIGHT, WIDTH)), np.isnan(metres) | car)
    assert (picture(labels) == image[..., 0]).all()
    assert "one of 32FC1, 16UC1" in node.set("depth_encoding", "8UC1").reason


def test_depth_is_fused_over_time_unless_switched_off(node, perceive):
    image = painted_ground(car_at=40)  # no car: movable classes keep their own depth
    image[..., 1] = cv2.resize(
        np.random.default_rng(0).integers(0, 250, (40, 53), np.uint8), (WIDTH, HEIGHT)
    )
    farther = image.copy()
    farther[..., 2] = np.minimum(image[..., 2] * 1.1, 255)
    collected = node.collect("depth/image")
    info = camera_info_message(CAMERA, Header())

    def ratio(fuse):
        """How much farther the road is after an image of it, and one 10 % farther."""
        assert node.set("fuse_depth", fuse).successful
        begun, found = 10 * next(STAMPS) + 1000, []
        for i, each in enumerate((image, farther)):
            sent = message(each, seconds=begun + i / 10)
            found.append(picture(*node.perceive(sent, info, collected), np.float32))
        road = (image[..., 0] == 3) & (farther[..., 2] < 255)
        return float(np.median(found[1][road] / found[0][road]))

    assert ratio(False) == pytest.approx(1.1, abs=0.02)
    assert ratio(True) == pytest.approx(math.sqrt(1.1), abs=0.02)  # the mean of both


def test_depth_and_points_have_sharp_edges_unless_switched_off(perceive):
    image = np.zeros((HEIGHT, WIDTH, 3), np.uint8)
    image[..., 0], image[..., 2] = 4, 200  # 20 m; 8 m to the left, and a slope between
    image[:, : WIDTH // 2, 2] = 80
    image[:, WIDTH // 2, 2] = 130
    depth, points = perceive(image, "depth/image", "points", sharpen_depth=False)
    assert len(np.unique(picture(depth, np.float32))) == 3
    depth, points = perceive(image, "depth/image", "points", sharpen_depth=True)
    assert np.unique(picture(depth, np.float32)) == pytest.approx([8, 20])
    z = np.frombuffer(points.data, np.uint8).reshape(-1, 20)[:, 8:12].copy().view(np.float32)
    assert np.unique(z) == pytest.approx([8, 20])


def test_labels_of_little_confidence_are_none_and_the_road_is_traversable(perceive):
    image = painted_ground()
    labels, mask = perceive(image, "label/image", "traversable")
    assert mask.encoding == "mono8"
    np.testing.assert_array_equal(picture(mask), np.where(image[..., 0] == 3, 255, 0))
    labels, mask = perceive(image, "label/image", "traversable", min_confidence=0.4)
    unsure = image[..., 1] < 102
    np.testing.assert_array_equal(picture(labels), np.where(unsure, 255, image[..., 0]))
    np.testing.assert_array_equal(picture(mask), np.where((image[..., 0] == 3) & ~unsure, 255, 0))


def test_depth_of_little_confidence_is_dropped_from_all_that_use_it(perceive):
    image = painted_ground(car_at=8.0)
    car = image[..., 0] == 8
    # The left part of the car says 5 m, which is not sure.
    wrong = car & (np.arange(WIDTH) < np.flatnonzero(car.any(0))[car.any(0).sum() // 2])
    image[..., 1], image[wrong, 1], image[wrong, 2] = 50, 200, 50
    names = ("depth/image", "points", "scan", "class_distances", "depth/confidence")
    before = dict(zip(names, perceive(image, *names, scan_frame="base"), strict=True))
    after = dict(zip(names, perceive(image, *names, min_depth_confidence=0.5), strict=True))
    depth = picture(before["depth/image"], np.float32)
    left = np.where(wrong, np.float32("nan"), depth)
    np.testing.assert_array_equal(picture(after["depth/image"], np.float32), left)
    assert before["depth/confidence"].data == after["depth/confidence"].data

    def z(of):
        points = of["points"]
        cloud = np.frombuffer(points.data, np.float32).reshape(points.height, points.width, -1)
        return cloud[..., 2]

    np.testing.assert_array_equal(np.isnan(z(after)), np.isnan(left[1::2, 1::2]))
    assert not (np.isnan(z(before)) == np.isnan(z(after))).all()

    def nearest(of):
        (found,) = (d for d in of["class_distances"].classes if d.class_name == "car")
        return found.nearest, float(np.nanmin(of["scan"].ranges))

    assert nearest(before)[0] == pytest.approx(5.0, rel=0.01) and nearest(before)[1] < 5.5
    assert nearest(after)[0] == pytest.approx(8.0, rel=0.01) and nearest(after)[1] > 7.9
    # Its beams are neither free nor do they end at what is behind it.
    scans = [np.array(of["scan"].ranges) for of in (before, after)]
    hidden = scans[0] < 6
    assert hidden.any() and np.isnan(scans[1][hidden]).all()
    np.testing.assert_array_equal(scans[1][~hidden], scans[0][~hidden])


def test_distances_have_bearing_and_confidence(perceive):
    image = painted_ground(car_at=8.0)
    (distances,) = perceive(image, "class_distances")
    car = {d.class_name: d for d in distances.classes}["car"]
    assert car.nearest == pytest.approx(8.0, rel=0.005)
    assert 5 < math.degrees(car.bearing) < 18
    assert car.confidence == pytest.approx(image[..., 1][image[..., 0] == 8].mean() / 255, abs=1e-3)


def test_a_lens_bends_the_points_of_pictures_that_are_not_rectified(
    start_depthseg, model, perceive
):
    bent = replace(CAMERA, lens=Lens("plumb_bob", (-0.2, 0.02, 0.0, 0.0, 0.0)))

    def slopes(points):
        cloud = np.frombuffer(points.data, np.uint8).reshape(HEIGHT, WIDTH, 20)
        metres = cloud[..., :12].copy().view(np.float32)
        return metres[..., 0] / metres[..., 2]

    image = painted_ground()
    (points,) = perceive(image, "points", info=bent, points_step=1)
    seen = np.isfinite(slopes(points))
    np.testing.assert_allclose(slopes(points)[seen], rays(bent)[0][seen], atol=1e-4)
    assert np.abs(rays(bent) - rays(CAMERA))[0][seen].max() > 0.02
    # What is called image_rect is rectified: P holds, and no lens.
    program = Path(get_package_prefix("depthseg_ros"), "lib", "depthseg_ros", "depthseg")
    remapped = [str(program), "--ros-args", "-r", "image:=image_rect"]
    node = start_depthseg(executable=remapped, model=model, points_step=1)
    node.image = node.observer.node.create_publisher(
        Image, f"{node.namespace}/image_rect", qos_profile_sensor_data
    )
    collected = node.collect("points")
    (points,) = node.perceive(message(image), camera_info_message(bent, Header()), collected)
    np.testing.assert_allclose(slopes(points)[seen], rays(CAMERA)[0][seen], atol=1e-4)


def test_a_lens_that_is_not_known_is_taken_for_none_and_said(perceive, node):
    odd = camera_info_message(CAMERA, Header())
    odd.distortion_model, odd.d = "brown", [0.1]
    depth = node.collect("depth/image")
    node.perceive(message(painted_ground()), odd, depth)
    says = "lens 'brown', expected one of plumb_bob.*; assuming a pinhole"
    until_says(node, painted_ground(), says)


def test_depth_without_a_unit_is_scaled_by_the_height_of_the_camera(start_depthseg, tmp_path):
    model = write_painted(tmp_path / "scaleless.onnx", "up-to-scale")
    node = start_depthseg(model=model, sharpen_depth=False)
    depth, distances = node.collect("depth/image"), node.collect("class_distances")
    trust = node.collect("depth/confidence")
    image, info = painted_ground(height=1.5), camera_info_message(CAMERA, Header())
    _, said, estimated = node.perceive(message(image), info, depth, distances, trust)
    assert all(math.isnan(d.nearest) for d in said.classes)
    scan = node.collect("scan")
    until_says(node, image, "No scan: the model's depth is not in metres: set camera_height")
    assert node.set("camera_height", 3.0).successful
    assert node.set("correct_scale", True).successful
    true, said, seen, same = node.perceive(message(image), info, depth, distances, scan, trust)
    plain = image[..., 2] / np.float32(10)
    # The model does not predict it; the scale changes nothing.
    expected = estimate_depth_confidence(
        np.where(plain > 0, plain, np.float32("nan")), 25.5, image[..., 1]
    )
    np.testing.assert_array_equal(picture(estimated), expected)
    np.testing.assert_array_equal(picture(same), expected)
    ratio = picture(true, np.float32)[plain > 0] / plain[plain > 0]
    np.testing.assert_allclose(ratio, 2.0, rtol=0.02)
    assert {d.class_name: d for d in said.classes}["car"].nearest == pytest.approx(16, rel=0.03)
    assert seen.range_max == pytest.approx(51, rel=0.03)
    assert min(r for r in seen.ranges if math.isfinite(r)) == pytest.approx(16, rel=0.03)


def test_tf_tells_where_the_ground_is(start_depthseg, model, observer):
    pytest.importorskip("tf2_ros", reason="tf2 is not on PyPI")
    from tf2_msgs import msg as tf2_msgs

    node = start_depthseg(model=model, ground="tf", ground_frame="floor")
    grounds = node.collect("ground")
    image = painted_ground()
    until_says(node, image, "No ground: tf has no transform from floor to front_optical_frame")
    latched = QoSProfile(depth=1, durability=QoSDurabilityPolicy.TRANSIENT_LOCAL)
    static = observer.node.create_publisher(tf2_msgs.TFMessage, "/tf_static", latched)
    # 0.8 m above the floor, looking down by 0.2 rad, and from there to z forward.
    mounted, turned = TransformStamped(), TransformStamped()
    mounted.header.frame_id, mounted.child_frame_id = "floor", "front_frame"
    mounted.transform.translation.z = 0.8
    mounted.transform.rotation = Quaternion(y=math.sin(0.1), w=math.cos(0.1))
    turned.header.frame_id, turned.child_frame_id = "front_frame", "front_optical_frame"
    turned.transform.rotation = Quaternion(x=-0.5, y=0.5, z=-0.5, w=0.5)
    static.publish(tf2_msgs.TFMessage(transforms=[mounted, turned]))

    def known():
        node.send(message(image))
        return grounds

    observer.until(known, f"the ground\n{node.process.log}")
    assert (grounds[0].height, grounds[0].pitch, grounds[0].roll) == pytest.approx(
        (0.8, 0.2, 0.0), abs=1e-5
    )


def test_without_tf2_the_ground_by_tf_says_what_to_install(start_depthseg, model):
    if importlib.util.find_spec("tf2_ros"):
        pytest.skip("tf2_ros is installed")
    node = start_depthseg(model=model, ground="tf")
    node.collect("ground")
    until_says(node, painted_ground(), "No ground: tf2_ros is not installed: apt install")


def test_normalised_depth_is_never_metres(start_depthseg, tmp_path):
    model = write_painted(tmp_path / "normalised.onnx", "normalised")
    node = start_depthseg(model=model, camera_height=3.0, correct_scale="true")
    depth, distances = node.collect("depth/image"), node.collect("class_distances")
    image = painted_ground()
    plain, said = node.perceive(
        message(image), camera_info_message(CAMERA, Header()), depth, distances
    )
    assert np.nanmax(picture(plain, np.float32)) <= 25.5
    assert all(math.isnan(d.nearest) for d in said.classes)
    assert not node.observer.node.count_publishers(f"{node.name}/points")


def test_pictures_smaller_than_a_step_have_points(perceive):
    tiny = np.full((2, 3, 3), (8, 200, 50), np.uint8)
    points, labels = perceive(tiny, "points", "points/label", points_step=32)
    assert (points.width, points.height, labels.width, labels.height) == (1, 1, 1, 1)
    assert labels.data[0] == 8


def test_a_changed_threshold_is_in_the_names_of_the_labels(node, observer):
    vision_msgs = pytest.importorskip("vision_msgs.msg", reason="needs vision_msgs")
    latched = QoSProfile(depth=5, durability=QoSDurabilityPolicy.TRANSIENT_LOCAL)
    infos = observer.collect(vision_msgs.LabelInfo, f"{node.name}/label/info", latched)
    assert node.set("min_confidence", 0.5).successful
    observer.until(lambda: infos and infos[-1].threshold == 0.5, "label/info")


def test_an_empty_list_names_none(start_depthseg, model):
    node = start_depthseg(model=model, cut_classes="[]", obstacle_classes="['', '']")
    node.process.says("Model painted on onnxruntime")
    assert node.state() == "active"
    wrong = start_depthseg(model=model, obstacle_heights="[]")
    wrong.process.says("obstacle_heights is \\[\\], expected two heights")
    assert wrong.process.wait() == 1


def test_an_output_that_cannot_be_made_is_a_warning_while_somebody_waits_for_it(
    start_depthseg, model, observer
):
    node = start_depthseg(model=model)
    waiting = observer.node.create_subscription(LaserScan, f"{node.name}/scan", lambda _: None, 5)
    node.collect("label/image")

    def says(pattern):
        # Its frame has no _optical, and no scan_frame is given.
        node.send(message(painted_ground(), "cam"), camera_info_message(CAMERA, Header()))
        return re.search(pattern, node.diagnostics().get("message", ""))

    node.until_diagnostics(
        lambda: says("no scan: the images' frame 'cam' does not end in _optical"), "a warning"
    )
    observer.node.destroy_subscription(waiting)
    node.until_diagnostics(lambda: not says("no scan"), "no warning")
