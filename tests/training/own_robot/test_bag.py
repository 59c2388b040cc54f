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

"""Bags are written as robots record them, and read into data sets."""

import errno
import json
import shutil
import sqlite3
import struct
from dataclasses import replace

import cv2
import numpy as np
import pytest
from rosbags.rosbag2 import CompressionFormat, CompressionMode, StoragePlugin, Writer
from rosbags.typesys import Stores, get_typestore

from training.__main__ import main
from training.data.shards import ShardWriter, complete_shards
from training.errors import TrainingError
from training.own_robot import dataset_writer
from training.own_robot.recordings import Recording

STORE = get_typestore(Stores.ROS2_JAZZY)
TYPES = STORE.types
START, SECOND = 1_700_000_000_000_000_000, 10**9
WIDTH, HEIGHT = 64, 48
IMAGE, COMPRESSED, INFO = (
    f"sensor_msgs/msg/{name}" for name in ("Image", "CompressedImage", "CameraInfo")
)


def header(stamp, frame="camera"):
    time = TYPES["builtin_interfaces/msg/Time"](stamp // SECOND, stamp % SECOND)
    return TYPES["std_msgs/msg/Header"](time, frame)


def image(stamp, array, encoding="rgb8"):
    data = np.ascontiguousarray(array)
    height, width = data.shape[:2]
    rows = data.view(np.uint8).reshape(-1)
    return TYPES[IMAGE](header(stamp), height, width, encoding, 0, data.nbytes // height, rows)


def compressed(stamp, array, kind="jpg", format="rgb8; jpeg compressed bgr8"):
    data = cv2.imencode(f".{kind}", array[..., ::-1] if array.ndim == 3 else array)[1].ravel()
    return TYPES[COMPRESSED](header(stamp), format, data)


def camera_info(stamp, width=WIDTH, height=HEIGHT):
    roi = TYPES["sensor_msgs/msg/RegionOfInterest"](0, 0, 0, 0, False)
    k = np.array([50.0, 0, 31, 0, 51, 23, 0, 0, 1])
    p = np.array([45.0, 0, 30, 0, 0, 46, 22, 0, 0, 0, 1, 0])
    d = np.array([0.1, -0.2, 0, 0, 0.05])
    return TYPES[INFO](
        header(stamp), height, width, "plumb_bob", d, k, np.eye(3).ravel(), p, 0, 0, roi
    )


def view(step):
    """What a camera sees that turns: (H, W, 3) RGB, `step` pixels further to the right."""
    rng = np.random.default_rng(1)
    wall = cv2.resize(rng.integers(0, 256, (6, 120, 3), np.uint8), (1200, HEIGHT))
    return wall[:, step : step + WIDTH]


def stamps(count, rate=20):
    return [START + i * SECOND // rate for i in range(count)]


def drive(count=60, topic="/camera/image_raw", make=image, kind=IMAGE, late=3_000_000, still=()):
    """A camera at 20 Hz, its calibration, and something else; what is sent is recorded later."""
    messages, step = [], 0
    for i, stamp in enumerate(stamps(count)):
        step += 0 if i in still else 2
        messages.append((topic, kind, stamp + late, make(stamp, view(step))))
        info = topic.removesuffix("/compressed").rpartition("/")[0] + "/camera_info"
        messages.append((info, INFO, stamp + late, camera_info(stamp)))
    return [
        *messages,
        ("/chatter", "std_msgs/msg/String", START, TYPES["std_msgs/msg/String"]("hi")),
    ]


def write_bag(path, messages, plugin=StoragePlugin.MCAP, mode=CompressionMode.NONE, version=9):
    writer = Writer(path, version=version, storage_plugin=plugin)
    writer.set_compression(mode, CompressionFormat.ZSTD)
    with writer:
        topics = {
            topic: writer.add_connection(topic, kind, typestore=STORE)
            for topic, kind in dict.fromkeys((topic, kind) for topic, kind, *_ in messages)
        }
        for topic, kind, time, message in sorted(messages, key=lambda m: m[2]):
            raw = message if isinstance(message, bytes) else STORE.serialize_cdr(message, kind)
            writer.write(topics[topic], time, bytes(raw))
    return path


def write_humble_bag(path, messages):
    """As rosbag2 of Humble does: metadata of version 5, and no definitions of messages."""
    path.mkdir()
    data = sqlite3.connect(path / f"{path.name}_0.db3")
    data.execute(
        "CREATE TABLE topics(id INTEGER PRIMARY KEY,name TEXT NOT NULL,type TEXT NOT NULL,"
        "serialization_format TEXT NOT NULL,offered_qos_profiles TEXT NOT NULL)"
    )
    data.execute(
        "CREATE TABLE messages(id INTEGER PRIMARY KEY,topic_id INTEGER NOT NULL,timestamp INTEGER"
        " NOT NULL, data BLOB NOT NULL)"
    )
    data.execute("CREATE INDEX timestamp_idx ON messages (timestamp ASC)")
    topics = list(dict.fromkeys((topic, kind) for topic, kind, *_ in messages))
    for number, (topic, kind) in enumerate(topics, 1):
        data.execute("INSERT INTO topics VALUES(?,?,?,'cdr','')", (number, topic, kind))
    for topic, kind, time, message in sorted(messages, key=lambda m: m[2]):
        raw = bytes(STORE.serialize_cdr(message, kind))
        number = topics.index((topic, kind)) + 1
        data.execute("INSERT INTO messages VALUES(NULL,?,?,?)", (number, time, raw))
    data.commit()
    data.close()
    counts = {topic: sum(m[0] == topic for m in messages) for topic, _ in topics}
    listed = "".join(
        f"    - topic_metadata: {{name: {topic}, type: {kind}, serialization_format: cdr,"
        f" offered_qos_profiles: ''}}\n      message_count: {counts[topic]}\n"
        for topic, kind in topics
    )
    (path / "metadata.yaml").write_text(
        "rosbag2_bagfile_information:\n  version: 5\n  storage_identifier: sqlite3\n"
        f"  relative_file_paths: [{path.name}_0.db3]\n  duration: {{nanoseconds: 3000000000}}\n"
        f"  starting_time: {{nanoseconds_since_epoch: {START}}}\n  message_count: {len(messages)}\n"
        f"  topics_with_message_count:\n{listed}"
        '  compression_format: ""\n  compression_mode: ""\n'
    )
    return path


def run(*arguments):
    """The command as it is given; returns the exit code."""
    return main(["bag", *map(str, arguments)])


def take(path, output, *more):
    assert run("--input", path, "--output", output, *more) == 0
    return json.loads((output / "card.json").read_text()), frames_of(output)


def frames_of(output):
    return [(part, frame) for part in complete_shards(output) for frame in part.frames]


def content(output):
    """All that a data set holds but for its card: file by frame and ending."""
    endings = (
        "jpg",
        "png",
        "previous.jpg",
        "next.jpg",
        "json",
        "truth_depth.png",
        "truth_labels.png",
    )
    return {
        (frame["key"], ending): part.read(frame["key"], ending)
        for part, frame in frames_of(output)
        for ending in endings
    }


def decoded(part, frame, ending=None):
    data = part.read(frame["key"], ending or frame["picture"])
    return cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)


@pytest.fixture(scope="module")
def driven(tmp_path_factory):
    """A bag of three seconds."""
    return write_bag(tmp_path_factory.mktemp("bags") / "drive", drive())


# What is kept


def test_frames_have_stamp_camera_and_neighbouring_images(driven, tmp_path, capsys):
    card, frames = take(driven, tmp_path / "data")
    (recording,) = card["recordings"]
    assert recording == {
        "name": "000", "bag": str(driven), "complete": True, "image_topic": "/camera/image_raw",
        "camera_info_topic": "/camera/camera_info", "depth_topic": None, "labels_topic": None,
        "frames": 7, "seen": 60, "with_depth": 0, "duration": 2.95, "lost": "",
    }  # fmt: skip
    assert (card["format"], card["every"], card["change"], card["neighbours"]) == (
        1,
        0.5,
        0.02,
        0.1,
    )
    said = capsys.readouterr()
    assert said.out.splitlines() == [
        f"000 {driven}: 60 images read, 7 kept, 0 with depth, lost: nothing"
    ]
    assert said.err == ""
    part, frame = frames[1]
    stamp = START + 45 * SECOND // 100  # a tenth less than half a second will do
    assert frame == {
        "key": f"000-{stamp}", "stamp": stamp, "width": WIDTH, "height": HEIGHT, "picture": "jpg",
        "previous": 0.1, "next": 0.1, "truth": [],
        "camera": {
            "fx": 50.0, "fy": 51.0, "cx": 31.0, "cy": 23.0,
            "lens": {"model": "plumb_bob", "coefficients": [0.1, -0.2, 0.0, 0.0, 0.05]},
        },
    }  # fmt: skip
    assert json.loads(part.read(frame["key"], "json")) == frame
    for ending, step in (("jpg", 20), ("previous.jpg", 16), ("next.jpg", 24)):
        shown = decoded(part, frame, ending)[..., ::-1]
        assert np.abs(shown.astype(int) - view(step)).mean() < 4
    assert frames[0][1]["previous"] is None and frames[0][1]["next"] == 0.1


@pytest.mark.parametrize(
    "write",
    [
        lambda path, m: write_bag(path, m, StoragePlugin.SQLITE3),
        lambda path, m: write_bag(path, m, StoragePlugin.SQLITE3, version=8),
        lambda path, m: write_bag(path, m, StoragePlugin.SQLITE3, CompressionMode.FILE),
        lambda path, m: write_bag(path, m, StoragePlugin.SQLITE3, CompressionMode.MESSAGE),
        lambda path, m: write_bag(path, m, mode=CompressionMode.FILE),
        lambda path, m: write_bag(path, m, mode=CompressionMode.MESSAGE),
        lambda path, m: write_bag(path, m, mode=CompressionMode.STORAGE),
        lambda path, m: write_bag(path, m) / f"{path.name}.mcap",
        lambda path, m: write_bag(path, m, StoragePlugin.SQLITE3) / f"{path.name}.db3",
        write_humble_bag,
    ],
    ids=[
        "sqlite", "sqlite-8", "sqlite-file", "sqlite-message", "mcap-file", "mcap-message",
        "mcap-chunks", "bare-mcap", "bare-sqlite", "humble",
    ],
)  # fmt: skip
def test_all_storages_and_versions_give_the_same(write, driven, tmp_path):
    card, _ = take(write(tmp_path / "bag", drive()), tmp_path / "data")
    assert card["recordings"][0]["lost"] == ""
    take(driven, tmp_path / "other")
    assert content(tmp_path / "data") == content(tmp_path / "other")


def mosaic(picture):
    result = picture[..., 1].copy()
    result[::2, ::2], result[1::2, 1::2] = picture[::2, ::2, 0], picture[1::2, 1::2, 2]
    return result


def nv12(stamp, picture):
    ycrcb = cv2.cvtColor(picture, cv2.COLOR_RGB2YUV_I420)  # the planes of U and V, one by one
    colours = ycrcb[HEIGHT:].reshape(2, -1).T.reshape(-1, WIDTH)
    return replace(
        image(stamp, np.concatenate([ycrcb[:HEIGHT], colours]), "nv12"), height=HEIGHT, step=WIDTH
    )


ENCODED = {
    "nv12": nv12,
    "bgr8": lambda s, p: image(s, p[..., ::-1], "bgr8"),
    "mono8": lambda s, p: image(s, p[..., 1], "mono8"),
    "rgb16": lambda s, p: image(s, p.astype("<u2") * 256, "rgb16"),
    "bayer_rggb8": lambda s, p: image(s, mosaic(p), "bayer_rggb8"),
    "yuv422_yuy2": lambda s, p: image(
        s, np.dstack([p[..., 1], np.full_like(p[..., 1], 128)]), "yuv422_yuy2"
    ),
}  # fmt: skip


@pytest.mark.parametrize("encoding", ENCODED)
def test_images_of_all_encodings_become_jpeg(encoding, tmp_path):
    bag = write_bag(tmp_path / "bag", drive(10, make=ENCODED[encoding]))
    _, frames = take(bag, tmp_path / "data")
    (part, frame) = frames[0]
    expected = view(2) if encoding not in ("mono8", "yuv422_yuy2") else view(2)[..., [1, 1, 1]]
    shown = decoded(part, frame)[..., ::-1]
    away = 25 if encoding in ("bayer_rggb8", "yuv422_yuy2", "nv12") else 4
    assert np.abs(shown.astype(int) - expected).mean() < away


@pytest.mark.parametrize("kind", ["jpg", "png"])
def test_compressed_images_are_copied_unchanged(kind, tmp_path):
    def make(stamp, picture):
        return compressed(stamp, picture, kind, kind)

    messages = drive(12, "/camera/image_raw/compressed", make, COMPRESSED)
    _, frames = take(write_bag(tmp_path / "bag", messages), tmp_path / "data")
    part, frame = frames[0]
    assert frame["picture"] == kind and frame["camera"]["fx"] == 50
    assert part.read(frame["key"], kind) == make(0, view(2)).data.tobytes()
    assert part.read(frame["key"], f"next.{kind}") == make(0, view(6)).data.tobytes()


@pytest.mark.parametrize(
    "format",
    [
        "bayer_rggb8; png compressed ",
        "bayer_rggb8; jpeg compressed bayer_rggb8",
        "bayer_rggb8; jpeg compressed ",
        "BAYER_RGGB8; JPEG compressed ",
    ],
)
def test_a_compressed_mosaic_becomes_an_image(format, tmp_path):
    def make(stamp, picture):
        return compressed(stamp, mosaic(picture), "png" if "png" in format else "jpg", format)

    messages = drive(8, "/camera/image_raw/compressed", make, COMPRESSED)
    _, frames = take(write_bag(tmp_path / "bag", messages), tmp_path / "data")
    assert frames[0][1]["picture"] == "jpg"
    shown = decoded(*frames[0])[..., ::-1]
    assert np.abs(shown.astype(int) - view(2)).mean() < 25


def test_debayered_images_are_copied_unchanged(tmp_path):
    def make(stamp, picture):
        return compressed(stamp, picture[..., 1], "jpg", "bayer_rggb8; jpeg compressed mono8")

    messages = drive(8, "/camera/image_raw/compressed", make, COMPRESSED)
    _, frames = take(write_bag(tmp_path / "bag", messages), tmp_path / "data")
    part, frame = frames[0]
    assert part.read(frame["key"], "jpg") == make(0, view(2)).data.tobytes()


def test_the_camera_of_images_that_came_rectified_is_p(tmp_path):
    messages = [
        (t, k, s, replace(m, k=np.zeros(9), d=np.zeros(8)) if k == INFO else m)
        for t, k, s, m in drive(8)
    ]
    card, frames = take(write_bag(tmp_path / "bag", messages), tmp_path / "data")
    assert frames[0][1]["camera"] == {
        "fx": 45, "fy": 46, "cx": 30, "cy": 22, "lens": {"model": "plumb_bob", "coefficients": []},
    }  # fmt: skip
    assert card["recordings"][0]["lost"] == ""


def test_a_camera_info_of_another_aspect_ratio_is_reported_and_not_used(tmp_path, capsys):
    messages = [(t, k, s, replace(m, height=36) if k == INFO else m) for t, k, s, m in drive(8)]
    card, frames = take(write_bag(tmp_path / "bag", messages), tmp_path / "data")
    assert frames[0][1]["camera"] is None
    assert (
        "camera_info describes 64x36 pixels, the image has 64x48: another"
        in (card["recordings"][0]["lost"])
    )
    assert "these frames have no focal length" in capsys.readouterr().err


def test_while_a_robot_stands_there_are_no_frames(tmp_path):
    bag = write_bag(tmp_path / "bag", drive(100, still=range(30, 100)))
    card, frames = take(bag, tmp_path / "data")
    assert [f["stamp"] - START for _, f in frames] == [i * 45 * 10**7 for i in range(5)]
    _, frames = take(bag, tmp_path / "all", "--change", 0)
    assert len(frames) == 12 and card["recordings"][0]["seen"] == 100


def test_rectified_images_have_the_camera_of_p_and_no_lens(tmp_path):
    bag = write_bag(tmp_path / "bag", drive(8, "/camera/image_rect"))
    _, frames = take(bag, tmp_path / "data")
    camera = frames[0][1]["camera"]
    assert camera["fx"] == 45 and camera["lens"]["coefficients"] == []


def test_stamps_are_the_headers_or_else_the_recorders(tmp_path):
    messages = [(t, k, time, image(0, view(2 * i))) for i, (t, k, time, _) in
                enumerate(drive(20)[:-1:2])]  # fmt: skip
    _, frames = take(write_bag(tmp_path / "bag", messages), tmp_path / "data", "--topic",
                     "/camera/image_raw")  # fmt: skip
    assert frames[0][1]["stamp"] == START + 3_000_000
    assert frames[0][1]["next"] == 0.1 and frames[0][1]["camera"] is None


def test_a_clock_that_is_set_back_ends_nothing(tmp_path):
    again = [(t, k, time + 4 * SECOND, m) for t, k, time, m in drive()]
    card, frames = take(write_bag(tmp_path / "bag", drive() + again), tmp_path / "data")
    assert card["recordings"][0]["seen"] == 120 and len(frames) == 14
    keys = [frame["key"] for _, frame in frames]
    assert len(set(keys)) == 14 and keys[7] == f"000-{START + 1}"


def test_neighbours_and_count_follow_the_options(driven, tmp_path):
    _, frames = take(driven, tmp_path / "none", "--neighbours", 0, "--count", 3)
    assert len(frames) == 3
    assert all(
        f["previous"] is None and p.read(f["key"], "previous.jpg") is None for p, f in frames
    )
    _, frames = take(driven, tmp_path / "far", "--neighbours", 0.5, "--every", 1)
    assert frames[1][1]["previous"] == 0.5 and frames[1][1]["next"] == 0.5


# Truth


def test_depth_and_labels_of_the_same_moment_are_truth(tmp_path, capsys):
    metres = np.tile(np.linspace(0.4, 20, WIDTH // 2), (HEIGHT // 2, 1)).astype(np.float32)
    metres[0, 0] = np.nan
    ids = np.tile(np.arange(WIDTH, dtype=np.uint8) % 11, (HEIGHT, 1))
    messages = drive()
    for i, stamp in enumerate(stamps(60)):
        late = stamp + 200_000_000  # recorded long after the picture
        if i != 18:  # of the third frame there is none near
            messages.append(
                ("/camera/depth", IMAGE, late, image(stamp + 15_000_000, metres, "32FC1"))
            )
        if i % 2 == 0:
            messages.append(("/camera/label", IMAGE, late, image(stamp, ids, "mono8")))
    bag = write_bag(tmp_path / "bag", messages)
    take(bag, tmp_path / "untold")
    assert (
        "/camera/depth (sensor_msgs/msg/Image, 59): give --depth-topic" in capsys.readouterr().err
    )
    card, frames = take(bag, tmp_path / "data", "--depth-topic", "/camera/depth", "--labels-topic",
                        "/camera/label")  # fmt: skip
    assert card["recordings"][0]["with_depth"] == 6
    assert [f["truth"] for _, f in frames[:3]] == [["depth", "labels"], ["depth"], ["labels"]]
    stored = decoded(*frames[0], "truth_depth.png")
    expected = np.nan_to_num(metres * 256).repeat(2, 0).repeat(2, 1)
    assert stored.dtype == np.uint16 and stored[0, 0] == 0
    np.testing.assert_allclose(stored, expected, atol=0.51)
    np.testing.assert_array_equal(decoded(*frames[0], "truth_labels.png"), ids)


@pytest.mark.parametrize("form", ["16UC1", "compressedDepth", "compressed"])
def test_depth_of_rgbd_cameras_is_read_in_millimetres(form, tmp_path):
    millimetres = np.full((HEIGHT, WIDTH), 2500, np.uint16)
    messages, topic = drive(8), "/camera/depth/image"
    for stamp in stamps(8):
        kind, depth = COMPRESSED, None
        if form == "16UC1":
            kind, depth = IMAGE, image(stamp, millimetres, form)
        else:
            depth = compressed(stamp, millimetres, "png", f"16UC1; {form} png")
            if form == "compressedDepth":
                depth.data = np.concatenate([np.zeros(12, np.uint8), depth.data])
        messages.append((topic, kind, stamp, depth))
    bag = write_bag(tmp_path / "bag", messages)
    _, frames = take(bag, tmp_path / "data", "--depth-topic", topic)
    assert (decoded(*frames[0], "truth_depth.png") == 640).all()


def test_depth_of_another_shape_is_reported_and_not_used(tmp_path, capsys):
    messages = drive(8)
    for stamp in stamps(8):
        messages.append(("/d", IMAGE, stamp, image(stamp, np.ones((30, 64), np.float32), "32FC1")))
    bag = write_bag(tmp_path / "bag", messages)
    card, frames = take(bag, tmp_path / "data", "--depth-topic", "/d")
    assert frames[0][1]["truth"] == []
    assert "depth: 64x30 pixels have another shape than 64x48" in card["recordings"][0]["lost"]
    assert "another shape" in capsys.readouterr().err


# Going on


def test_tar_files_have_the_same_content_as_folders(driven, tmp_path):
    take(driven, tmp_path / "data")
    _, frames = take(driven, tmp_path / "packed", "--packed")
    assert (tmp_path / "packed" / "part-00000.tar").is_file() and frames[0][0].packed
    assert not (tmp_path / "packed" / "part-00000").exists()
    assert content(tmp_path / "data") == content(tmp_path / "packed")


@pytest.mark.parametrize("packed", [[], ["--packed"]])
@pytest.mark.parametrize("plugin", StoragePlugin)
def test_a_stopped_run_is_resumed(plugin, packed, tmp_path, monkeypatch):
    monkeypatch.setattr(dataset_writer, "FRAMES_PER_PART", 2)
    bag = write_bag(tmp_path / "bag", drive(120, still=range(35, 62)), plugin)
    take(bag, tmp_path / "at_once", *packed)
    finish, finished = ShardWriter.finish, []

    def stop(writer, **more):
        if len(finished) == 2:
            raise KeyboardInterrupt
        finished.append(finish(writer, **more))
        return finished[-1]

    monkeypatch.setattr(ShardWriter, "finish", stop)
    assert run("--input", bag, "--output", tmp_path / "data", *packed) == 130
    monkeypatch.setattr(ShardWriter, "finish", finish)
    names = sorted(path.name for path in (tmp_path / "data").iterdir())
    ending = ".tar" if packed else ""
    assert names == [
        "card.json",
        *(f"part-0000{i}{e}" for i in (0, 1) for e in sorted((ending, ".json"))),
    ]
    unfinished = json.loads((tmp_path / "data" / "card.json").read_text())["recordings"][0]
    assert unfinished["frames"] == 4 and not unfinished["complete"]
    card, _ = take(bag, tmp_path / "data", *packed)
    assert card == json.loads((tmp_path / "at_once" / "card.json").read_text())
    assert content(tmp_path / "data") == content(tmp_path / "at_once")


def test_finished_bags_are_not_repeated_and_others_are_added(driven, tmp_path, capsys, monkeypatch):
    other = write_bag(tmp_path / "other", drive(20))
    take(driven, tmp_path / "data")
    take(driven, tmp_path / "data")
    assert "already done: 60 images read, 7 kept" in capsys.readouterr().out
    assert run("--input", driven, other, "--output", tmp_path / "data") == 0
    card = json.loads((tmp_path / "data" / "card.json").read_text())
    assert [(r["name"], r["frames"]) for r in card["recordings"]] == [("000", 7), ("001", 3)]
    parts = complete_shards(tmp_path / "data")
    assert [part.about["recording"] for part in parts] == ["000", "001"]
    # Neither bag is needed any more.
    shutil.rmtree(other)
    assert run("--input", other, "--output", tmp_path / "data") == 0


def test_other_options_need_another_folder(driven, tmp_path, capsys):
    take(driven, tmp_path / "data")
    capsys.readouterr()
    for options, says in (
        (["--every", 1], "every 0.5 before, 1.0 now"),
        (["--neighbours", 0], "neighbours 0.1 before, 0.0 now"),
        (["--depth-topic", "/d"], "depth_topic None before, '/d' now"),
        (["--topic", "/front"], "image_topic '/camera/image_raw' before, '/front' now"),
    ):
        assert run("--input", driven, "--output", tmp_path / "data", *options) == 1
        (line,) = capsys.readouterr().err.splitlines()
        assert says in line and "another folder" in line
    (tmp_path / "home").mkdir()
    (tmp_path / "home" / "letter.txt").touch()
    assert run("--input", driven, "--output", tmp_path / "home") == 1
    assert "is not empty and not a data set" in capsys.readouterr().err


@pytest.mark.parametrize("packed", [[], ["--packed"]])
def test_a_full_disk_costs_the_part_that_did_not_fit(packed, driven, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(dataset_writer, "FRAMES_PER_PART", 2)
    add, added = ShardWriter.add, []

    def fail(writer, frame, files):
        added.append(frame)
        if len(added) == 4:
            raise OSError(errno.ENOSPC, "No space left on device")
        add(writer, frame, files)

    monkeypatch.setattr(ShardWriter, "add", fail)
    assert run("--input", driven, "--output", tmp_path / "data", *packed) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert "no space left" in line and "to resume" in line
    names = {path.name for path in (tmp_path / "data").iterdir()}
    assert names == {"card.json", f"part-00000{'.tar' if packed else ''}", "part-00000.json"}
    monkeypatch.setattr(ShardWriter, "add", add)
    take(driven, tmp_path / "data", *packed)
    take(driven, tmp_path / "at_once")
    assert content(tmp_path / "data") == content(tmp_path / "at_once")


# Bad bags


def test_a_bag_without_images_is_refused_with_its_topics(tmp_path, capsys):
    bag = write_bag(tmp_path / "bag", [m for m in drive(5) if m[1] != IMAGE])
    assert run("--input", bag, "--output", tmp_path / "data") == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert line == (
        f"training: {bag} has no image topic, only /camera/camera_info (sensor_msgs/msg/CameraInfo,"
        " 5), /chatter (std_msgs/msg/String, 1)"
    )
    assert not (tmp_path / "data").exists()


def test_several_cameras_need_a_choice(tmp_path, capsys):
    bag = write_bag(tmp_path / "bag", drive(5) + drive(4, "/rear/image_raw"))
    assert run("--input", bag, "--output", tmp_path / "data") == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert "2 image topics" in line and "/rear/image_raw (sensor_msgs/msg/Image, 4)" in line
    assert run("--input", bag, "--output", tmp_path / "data", "--topic", "/side/image") == 1
    assert "has no --topic /side/image, only /camera/image_raw" in capsys.readouterr().err
    card, _ = take(bag, tmp_path / "data", "--topic", "/rear/image_raw")
    assert card["recordings"][0]["camera_info_topic"] == "/rear/camera_info"


def test_topics_of_derived_images_are_not_used_as_camera(tmp_path):
    messages = drive(5)
    for stamp in stamps(5):
        small = image(stamp, np.zeros((8, 8), np.uint8), "mono8")
        depth = image(stamp, np.ones((8, 8), np.float32), "32FC1")
        for topic in ("/depthseg/label/image", "/depthseg/traversable"):
            messages.append((topic, IMAGE, stamp, small))
        messages.append(("/depthseg/label/overlay", IMAGE, stamp, image(stamp, view(0))))
        messages.append(("/depthseg/depth/image", IMAGE, stamp, depth))
        also = compressed(stamp, view(0))
        messages.append(("/camera/image_raw/compressed", COMPRESSED, stamp, also))
    card, _ = take(write_bag(tmp_path / "bag", messages), tmp_path / "data")
    assert card["recordings"][0]["image_topic"] == "/camera/image_raw"


def test_damaged_messages_are_counted_and_left_out(tmp_path, capsys):
    messages = drive(40)
    for i in (0, 9, 10):  # what would be the first frames
        topic, kind, time, message = messages[2 * i]
        raw = bytes(STORE.serialize_cdr(message, kind))
        messages[2 * i] = topic, kind, time, raw[: 40 + i]
    bag = write_bag(tmp_path / "bag", messages)
    card, frames = take(bag, tmp_path / "data", "--topic", "/camera/image_raw")
    assert card["recordings"][0]["lost"].startswith("2 images cannot be read; the first of")
    assert "2 images cannot be read" in capsys.readouterr().err
    assert [f["stamp"] - START for _, f in frames[:2]] == [SECOND // 20, SECOND // 2 + SECOND // 20]


EMPTY = {
    "0 bytes": lambda s: TYPES[COMPRESSED](header(s), "jpeg", np.zeros(0, np.uint8)),
    "cut off": lambda s: TYPES[COMPRESSED](header(s), "jpeg", compressed(s, view(0)).data[:-9]),
    "0x0 pixels": lambda s: TYPES[IMAGE](header(s), 0, 0, "", 0, 0, np.zeros(0, np.uint8)),
    "1x1 pixels": lambda s: image(s, np.zeros((1, 1, 3), np.uint8)),
    "encoding ''": lambda s: image(s, np.zeros((1, 1), np.uint8), ""),
}


@pytest.mark.parametrize("reason", EMPTY)
def test_unreadable_first_images_of_a_camera_are_skipped(reason, tmp_path):
    kind = COMPRESSED if reason in ("0 bytes", "cut off") else IMAGE
    messages = drive(40, make=image if kind == IMAGE else compressed, kind=kind)
    for i in range(7):
        topic, kind, time, _ = messages[2 * i]
        messages[2 * i] = topic, kind, time, EMPTY[reason](time)
    card, frames = take(write_bag(tmp_path / "bag", messages), tmp_path / "data")
    assert card["recordings"][0]["seen"] == 40 and len(frames) == 4
    assert card["recordings"][0]["lost"].startswith("7 images cannot be read; the first of")
    assert reason in card["recordings"][0]["lost"]


def test_the_reason_is_reported_for_each_unreadable_topic(tmp_path, capsys):
    h264 = TYPES[COMPRESSED](header(START), "h264", np.arange(99, dtype=np.uint8))
    tiff = compressed(START, view(0), "tiff", "rgb8; tiff compressed ")
    odd = image(START, view(0), "p010")
    depth = image(START, np.ones((8, 8), np.float32), "32FC1")
    topics = {"/a": odd, "/depth": depth, "/h264": h264, "/label/overlay": image(START, view(0)),
              "/tiff": tiff}  # fmt: skip
    kinds = {name: COMPRESSED if hasattr(m, "format") else IMAGE for name, m in topics.items()}
    messages = [(name, kinds[name], START, message) for name, message in topics.items()]
    assert run("--input", write_bag(tmp_path / "bag", messages), "--output", tmp_path / "d") == 1
    (line,) = capsys.readouterr().err.splitlines()
    for reason in (
        "/a: unknown image encoding 'p010'",
        "/depth: is depth",
        "/h264: neither JPEG nor PNG: the data begin with 00 01 02 03 04 05 06 07 (format 'h264')",
        "/label/overlay: by its name not a camera's image, --topic selects it anyway",
        "/tiff: neither JPEG nor PNG: the data begin with 49 49 2a 00",
    ):
        assert reason in line


def cut(path, share):
    path.write_bytes(path.read_bytes()[: int(path.stat().st_size * share)])


@pytest.mark.parametrize("mode", [CompressionMode.NONE, CompressionMode.STORAGE])
@pytest.mark.parametrize("share", [0.99, 0.6])
def test_a_truncated_mcap_is_read_as_far_as_possible(mode, share, tmp_path, capsys):
    bag = write_bag(tmp_path / "bag", drive(200), mode=mode)
    cut(bag / "bag.mcap", share)
    card, frames = take(bag, tmp_path / "data")
    recording = card["recordings"][0]
    assert recording["lost"].startswith("bag.mcap is damaged or was not closed, read as far as")
    assert "lost: bag.mcap is damaged" in capsys.readouterr().err
    assert recording["seen"] > (0.9 if share == 0.99 else 0.4) * 200
    assert recording["complete"] and frames[0][1]["camera"]["fx"] == 50


def test_a_truncated_sqlite_is_read_as_far_as_possible(tmp_path):
    for write in (write_humble_bag, lambda p, m: write_bag(p, m, StoragePlugin.SQLITE3)):
        bag = write(tmp_path / f"bag{len(list(tmp_path.iterdir()))}", drive(200))
        (file,) = bag.glob("*.db3")
        cut(file, 0.6)
        card, frames = take(bag, tmp_path / f"data-{bag.name}")
        assert 80 < card["recordings"][0]["seen"] < 140 and frames
        assert "malformed" in card["recordings"][0]["lost"]


@pytest.mark.parametrize("plugin", StoragePlugin)
def test_messages_after_a_damaged_region_are_read(plugin, tmp_path):
    packed = CompressionMode.NONE if plugin == StoragePlugin.SQLITE3 else CompressionMode.STORAGE
    bag = write_bag(tmp_path / "bag", drive(400), plugin, packed)
    (file,) = [f for f in bag.iterdir() if f.name != "metadata.yaml"]
    data = bytearray(file.read_bytes())
    middle, size = len(data) // 2, 20_000 if plugin == StoragePlugin.SQLITE3 else 300
    data[middle : middle + size] = bytes(size)
    file.write_bytes(data)
    card, frames = take(bag, tmp_path / "data")
    assert 150 < card["recordings"][0]["seen"] < 400
    assert frames[-1][1]["stamp"] > START + 19 * SECOND


def test_a_bag_without_metadata_is_read_and_a_missing_file_is_named(tmp_path):
    bag = write_bag(tmp_path / "bag", drive())
    (bag / "metadata.yaml").unlink()
    for name in ("._bag.mcap", "._metadata.yaml"):  # as a Mac leaves them
        (bag / name).write_bytes(b"\0\5\26\7")
    card, frames = take(bag, tmp_path / "data")
    assert len(frames) == 7
    assert "._" not in card["recordings"][0]["lost"]
    assert "metadata.yaml is missing" in card["recordings"][0]["lost"]

    bag = write_bag(tmp_path / "split", drive())
    later = [(t, k, time + 3 * SECOND, m) for t, k, time, m in drive()]
    second = write_bag(tmp_path / "later", later) / "later.mcap"
    second.rename(bag / "split_1.mcap")
    metadata = (bag / "metadata.yaml").read_text()
    listed = "relative_file_paths:\n  - split.mcap\n"
    assert listed in metadata
    metadata = metadata.replace(listed, listed + "  - split_1.mcap\n  - split_2.mcap\n")
    (bag / "metadata.yaml").write_text(metadata)
    card, frames = take(bag, tmp_path / "both")
    assert card["recordings"][0]["lost"] == "split_2.mcap is missing"
    assert card["recordings"][0]["seen"] == 120


def test_messages_in_a_journal_are_not_forgotten(tmp_path):
    bag = write_bag(tmp_path / "bag", drive(40), StoragePlugin.SQLITE3)
    data = sqlite3.connect(bag / "bag.db3")
    data.execute("PRAGMA journal_mode=WAL")
    data.execute("UPDATE messages SET timestamp = timestamp + 1")
    data.commit()
    (tmp_path / "crashed").mkdir()
    for file in bag.iterdir():
        shutil.copy(file, tmp_path / "crashed")
    data.close()
    (tmp_path / "crashed" / "bag.db3-shm").unlink()
    (_, _, time, _) = next(Recording(tmp_path / "crashed").messages(["/camera/image_raw"]))
    assert time == START + 3_000_001


@pytest.mark.parametrize(
    "before, after",
    [
        ("message_count: 10", "message_count: many"),
        ("message_count: 10", "message_count: .inf"),
        ("message_count: 10", "message_count: 2001-99-99"),
        ("nanoseconds_since_epoch: ", "nanoseconds_since_epoch: x"),
        ("version: ", "version: " + "[" * 3000),
    ],
)
def test_damaged_metadata_costs_nothing_else(before, after, tmp_path):
    bag = write_bag(tmp_path / "bag", drive(10))
    metadata = (bag / "metadata.yaml").read_text()
    assert before in metadata
    (bag / "metadata.yaml").write_text(metadata.replace(before, after))
    recording = Recording(bag)
    assert recording.lost == "metadata.yaml is damaged"
    assert len(list(recording.messages(["/camera/image_raw"]))) == 10


def test_names_that_are_numbers_do_not_hide_the_others(tmp_path):
    bag = write_bag(tmp_path / "bag", drive(10))
    metadata = (bag / "metadata.yaml").read_text()
    (bag / "metadata.yaml").write_text(metadata.replace("name: /chatter", "name: 7"))
    assert "/camera/image_raw" in Recording(bag).topics


@pytest.mark.parametrize("kind", ["sensor_msgs/msg/ImagE", "7"])
def test_images_with_a_damaged_type_are_lost(kind, tmp_path, capsys):
    bag = write_humble_bag(tmp_path / "bag", drive(10))
    with sqlite3.connect(bag / "bag_0.db3") as data:
        data.execute("UPDATE topics SET type = ? WHERE type = ?", (kind, IMAGE))
    assert run("--input", bag, "--output", tmp_path / "data", "--topic", "/camera/image_raw") == 1
    assert "no image could be read" in capsys.readouterr().err


def test_cells_of_other_types_are_left_out(tmp_path):
    bag = write_humble_bag(tmp_path / "bag", drive(10))
    with sqlite3.connect(bag / "bag_0.db3") as data:
        data.execute("UPDATE messages SET data = 'text' WHERE id = 3")
        data.execute("UPDATE messages SET timestamp = 'late' WHERE id = 4")
    assert len(list(Recording(bag).messages(["/camera/image_raw", "/camera/camera_info"]))) == 18


@pytest.mark.parametrize(
    "name, data, says",
    [
        ("a.mcap", b"\x00" * 1000, "neither MCAP nor SQLite; encrypted?"),
        ("a.db3", b"Salted__" + bytes(1000), "neither MCAP nor SQLite; encrypted?"),
        ("a.db3", b"", "a.db3 is empty"),
        ("a.mcap", b"\x89MCAP0\r\n" + struct.pack("<BQ", 1, 8) + bytes(8), "a.mcap is damaged"),
        ("a.bag", b"#ROSBAG V2.0\n", "rosbags-convert"),
        ("a.txt", b"", "is not a rosbag2 recording"),
        ("a.mcap.zstd", b"nonsense", "is damaged or was not closed|neither|is empty"),
    ],
)
def test_other_files_than_bags_give_one_line(name, data, says, tmp_path, capsys):
    (tmp_path / name).write_bytes(data)
    assert run("--input", tmp_path / name, "--output", tmp_path / "data") == 1
    (line,) = capsys.readouterr().err.splitlines()
    with pytest.raises(TrainingError, match=says):
        raise TrainingError(line)
    assert not (tmp_path / "data").exists()


def test_missing_and_empty_bags_are_refused(tmp_path, capsys):
    assert run("--input", tmp_path / "nothing", "--output", tmp_path / "data") == 1
    assert "nothing does not exist" in capsys.readouterr().err
    (tmp_path / "empty").mkdir()
    assert run("--input", tmp_path / "empty", "--output", tmp_path / "data") == 1
    assert "cannot read anything from" in capsys.readouterr().err


def test_a_bag_with_damaged_images_only_gives_an_error_after_the_others(driven, tmp_path, capsys):
    broken = [
        (t, k, time, bytes(STORE.serialize_cdr(m, k))[:60] if k == IMAGE else m)
        for t, k, time, m in drive(10)
    ]
    bag = write_bag(tmp_path / "bag", broken)
    more = ("--topic", "/camera/image_raw")
    assert run("--input", bag, driven, "--output", tmp_path / "data", *more) == 1
    assert capsys.readouterr().err.splitlines()[-1].endswith(f"no image could be read from {bag}")
    assert len(frames_of(tmp_path / "data")) == 7
