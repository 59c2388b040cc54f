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

"""Run a street camera, the node and a recorder: three processes over DDS.

Writes images, a video and `summary.json` to `demo/` and prints the summary. Exit code 0 means that
enough frames were processed and that every output has the stamp of its image.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import rclpy
from ament_index_python.packages import get_package_prefix
from diagnostic_msgs.msg import DiagnosticArray
from rclpy.executors import SingleThreadedExecutor
from rclpy.node import Node
from rclpy.qos import QoSProfile
from rclpy.signals import SignalHandlerOptions
from rich.console import Console
from rich.progress import Progress
from rich.table import Table
from sensor_msgs.msg import CameraInfo, Image, LaserScan, PointCloud2

from depthseg_ros import model_card
from depthseg_ros.cli.measures import Measures
from depthseg_ros.derived.points import POINT
from depthseg_ros.imaging import rendering
from depthseg_ros.imaging.geometry import rays
from depthseg_ros.imaging.images import intrinsics
from depthseg_ros.msg import ClassDistances

NAMESPACE = "/demo"
PATIENCE = 90.0
"""Timeout for the next frame [s]."""
TOPICS = {
    "image": Image,
    "truth/label/image": Image,
    "truth/depth/image": Image,
    "depthseg/label/image": Image,
    "depthseg/label/confidence": Image,
    "depthseg/label/overlay": Image,
    "depthseg/depth/image": Image,
    "depthseg/depth/camera_info": CameraInfo,
    "depthseg/class_distances": ClassDistances,
    "depthseg/points": PointCloud2,
    "depthseg/scan": LaserScan,
}


class DemoError(RuntimeError):
    """The demo failed."""


class Recorder(Node):
    """Collects the messages of each stamp, in its own thread."""

    def __init__(self) -> None:
        super().__init__("recorder", namespace=NAMESPACE)
        self._lock = threading.Lock()
        self.sets: dict[tuple[int, int], dict[str, Any]] = {}
        self.sent: set[tuple[int, int]] = set()
        self.latencies: list[float] = []
        self.counts: dict[str, int] = {}
        qos = QoSProfile(depth=20)
        for topic, kind in TOPICS.items():
            self.create_subscription(
                kind, topic, lambda message, topic=topic: self._on_message(topic, message), qos
            )
        self.create_subscription(DiagnosticArray, "/diagnostics", self._on_diagnostics, qos)
        # A slow recorder may lose images, but with this queue none of these small messages.
        self.create_subscription(
            CameraInfo, "camera_info", self._on_camera_info, QoSProfile(depth=10_000)
        )
        self._executor = SingleThreadedExecutor()
        self._executor.add_node(self)
        self._thread = threading.Thread(target=self._executor.spin, daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Stop collecting."""
        self._executor.shutdown()
        self._thread.join()

    def _on_message(self, topic: str, message: Any) -> None:
        stamp = message.header.stamp
        with self._lock:
            self.sets.setdefault((stamp.sec, stamp.nanosec), {})[topic] = message
        if topic == "depthseg/label/image":
            now = self.get_clock().now().nanoseconds
            self.latencies.append((now - stamp.sec * 10**9 - stamp.nanosec) / 1e6)

    def _on_camera_info(self, message: CameraInfo) -> None:
        self.sent.add((message.header.stamp.sec, message.header.stamp.nanosec))

    def _on_diagnostics(self, message: DiagnosticArray) -> None:
        for status in message.status:
            if status.hardware_id == f"{NAMESPACE}/depthseg":
                values = {v.key: v.value for v in status.values}
                self.counts = {k: int(v) for k, v in values.items() if k.startswith("frames ")}

    def take_complete(self) -> dict[str, Any] | None:
        """Return the messages of the oldest complete stamp and discard earlier ones."""
        with self._lock:
            for stamp in sorted(self.sets):
                if len(self.sets[stamp]) == len(TOPICS):
                    taken = self.sets.pop(stamp)
                    for older in [s for s in self.sets if s < stamp]:
                        del self.sets[older]
                    return taken
            return None


def array(message: Image) -> np.ndarray:
    """Convert an image message of the demo to an array."""
    kind, channels = {
        "rgb8": (np.uint8, 3),
        "mono8": (np.uint8, 1),
        "32FC1": (np.float32, 1),
    }[message.encoding]
    return (
        np.frombuffer(message.data, kind).reshape(message.height, message.width, channels).squeeze()
    )


def compare(measures: Measures, frame: dict[str, Any]) -> None:
    """Add a frame's labels and depth, with the ground truth."""
    measures.add_labels(array(frame["depthseg/label/image"]), array(frame["truth/label/image"]))
    measures.add_depth(array(frame["depthseg/depth/image"]), array(frame["truth/depth/image"]))


def maps(
    frame: dict[str, Any], card: model_card.ModelCard, size: tuple[int, int]
) -> dict[str, np.ndarray]:
    """Draw points and scan from above, in the colours of the classes, and the ground truth, RGB."""
    points, scan = np.frombuffer(frame["depthseg/points"].data, POINT), frame["depthseg/scan"]
    bearings = scan.angle_min + scan.angle_increment * np.arange(len(scan.ranges))
    ends = np.stack([-np.sin(bearings), np.cos(bearings)], axis=1) * np.array(scan.ranges)[:, None]
    there = np.stack([points[axis] for axis in "xyz"], axis=1)
    depth = array(frame["truth/depth/image"])
    depth, labels = depth[1::2, 1::2], array(frame["truth/label/image"])[1::2, 1::2]
    true_rays = rays(intrinsics(frame["depthseg/depth/camera_info"]), 2)
    truth = np.dstack([*(true_rays * depth), depth]).reshape(-1, 3)
    colors = rendering.color_table(card.classes)
    return {
        "points and scan (red) from above": rendering.from_above(
            there, colors[points["label"]], size, marks=ends[np.isfinite(ends).all(axis=1)]
        ),
        "true street from above": rendering.from_above(truth, colors[labels].reshape(-1, 3), size),
    }


def sheet(frame: dict[str, Any], card: model_card.ModelCard) -> np.ndarray:
    """Draw all outputs: camera, overlay, depth, map; distances, true labels, depth, map. RGB."""
    image = array(frame["image"])
    points_map, true_map = maps(frame, card, image.shape[1::-1]).items()
    truth = rendering.overlay(image, array(frame["truth/label/image"]), card.classes)
    distances = np.full_like(image, 24)
    for row, d in enumerate(frame["depthseg/class_distances"].classes):
        line = f"{d.class_name:<11}{100 * d.pixel_share:5.1f} %"
        if math.isfinite(d.nearest):
            line += f"  from {d.nearest:5.1f} m, {math.degrees(d.bearing):+4.0f} deg"
        at = (20, 40 + row * 30)
        cv2.putText(distances, line, at, cv2.FONT_HERSHEY_DUPLEX, 0.7, (230,) * 3, 1, cv2.LINE_AA)
    tiles = {
        "camera": image,
        "depthseg/label/overlay": array(frame["depthseg/label/overlay"]),
        "depthseg/depth/image": rendering.color_depth(array(frame["depthseg/depth/image"])),
        points_map[0]: points_map[1],
        "depthseg/class_distances": distances,
        "true labels": truth,
        "true depth": rendering.color_depth(array(frame["truth/depth/image"])),
        true_map[0]: true_map[1],
    }
    titled = []
    for title, tile in tiles.items():
        strip = np.full((36, tile.shape[1], 3), 24, np.uint8)
        cv2.putText(
            strip, title, (10, 26), cv2.FONT_HERSHEY_DUPLEX, 0.8, (255,) * 3, 1, cv2.LINE_AA
        )
        titled.append(np.vstack([strip, tile]))
    return np.vstack([np.hstack(titled[:4]), np.hstack(titled[4:])])


def start(executable: str, folder: Path, parameters: dict[str, object]) -> subprocess.Popen[bytes]:
    """Start one of the package's nodes, with its log in a file."""
    program = Path(get_package_prefix("depthseg_ros"), "lib", "depthseg_ros", executable)
    arguments = [str(program), "--ros-args", "-r", f"__ns:={NAMESPACE}"]
    for name, value in parameters.items():
        arguments += ["-p", f"{name}:={value}"]
    with (folder / f"{executable}.log").open("wb") as log:
        return subprocess.Popen(arguments, stdout=log, stderr=subprocess.STDOUT)


@contextmanager
def uninterrupted() -> Iterator[None]:
    """Delay Ctrl-C until the end, so that no started process is left running."""
    received: list[int] = []
    before = signal.signal(signal.SIGINT, lambda number, _: received.append(number))
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
    if received:
        raise KeyboardInterrupt


def record(folder: Path, frames: int, rate: float, seed: int) -> dict[str, Any]:
    """Run the demo, write its images to `folder`, and return the summary."""
    card = model_card.read(model_card.default_model())
    measures, console = Measures(card.depth), Console()
    recorder = Recorder()
    nodes: dict[str, subprocess.Popen[bytes]] = {}
    encodings: Counter[tuple[str, str]] = Counter()
    matching = complete = 0
    video = None
    try:
        with uninterrupted():
            nodes["depthseg"] = start("depthseg", folder, {})
        with Progress(console=console) as progress:
            task = progress.add_task("starting the node", total=frames)
            progressed = time.monotonic()
            first = last = 0.0
            while complete < frames:
                dead = [name for name, node in nodes.items() if node.poll() is not None]
                if dead:
                    raise DemoError(f"{dead[0]} ended; see {dead[0]}.log")
                if time.monotonic() - progressed > PATIENCE:
                    raise DemoError(f"no frame for {PATIENCE:.0f} s, after {complete} frames")
                if "camera_node" not in nodes:
                    # Start the camera after the model is loaded, so that no frame is lost.
                    if recorder.count_publishers("depthseg/label/image"):
                        camera = {"rate": rate, "seed": seed, "width": 640, "height": 360}
                        with uninterrupted():
                            nodes["camera_node"] = start("camera_node", folder, camera)
                        progress.update(task, description="recording")
                        progressed = time.monotonic()
                    time.sleep(0.05)
                    continue
                frame = recorder.take_complete()
                if frame is None:
                    time.sleep(0.01)
                    continue
                progressed = last = time.monotonic()
                first = first or progressed
                stamps = {(m.header.stamp.sec, m.header.stamp.nanosec) for m in frame.values()}
                matching += len(stamps) == 1
                encodings[
                    frame["depthseg/label/image"].encoding, frame["depthseg/depth/image"].encoding
                ] += 1
                compare(measures, frame)
                tiled = cv2.cvtColor(sheet(frame, card), cv2.COLOR_RGB2BGR)
                if complete % 20 == 10:
                    cv2.imwrite(str(folder / f"frame_{complete:03}.png"), tiled)
                small = cv2.resize(tiled, None, fx=0.5, fy=0.5, interpolation=cv2.INTER_AREA)
                if video is None:
                    size = small.shape[1::-1]
                    code = cv2.VideoWriter_fourcc(*"mp4v")
                    video = cv2.VideoWriter(str(folder / "demo.mp4"), code, rate, size)
                video.write(small)
                complete += 1
                progress.advance(task)
            while recorder.counts.get("frames processed", 0) < complete:  # updated once a second
                if time.monotonic() - progressed > PATIENCE:
                    raise DemoError("the node's diagnostics did not report all frames")
                time.sleep(0.05)
    finally:
        with uninterrupted():
            for node in nodes.values():
                node.send_signal(signal.SIGINT)
            for node in nodes.values():
                try:
                    node.wait(10)
                except subprocess.TimeoutExpired:
                    node.kill()
                    node.wait()
        if video is not None:
            video.release()
        time.sleep(0.5)  # for messages that are still in transit
        recorder.stop()
    info = frame["depthseg/depth/camera_info"]
    p50, p95 = np.percentile(recorder.latencies, (50, 95))
    (label_encoding, depth_encoding), _ = encodings.most_common(1)[0]
    # On a busy machine the first messages may be sent before the recorder or the node is connected.
    # The one that received more is closer to the number of frames sent.
    return {
        "frames_sent": max(len(recorder.sent), recorder.counts["frames received"]),
        "frames_processed": recorder.counts["frames processed"],
        "frames_dropped": recorder.counts["frames dropped"],
        "width": info.width,
        "height": info.height,
        "label_encoding": label_encoding,
        "depth_encoding": depth_encoding,
        "stamps_match": matching == complete,
        "fps": round((complete - 1) / (last - first), 2),
        "latency_ms": {"p50": round(float(p50), 1), "p95": round(float(p95), 1)},
        "miou": round(measures.miou, 4),
        "abs_rel": round(measures.depth.abs_rel, 4),
    }


def main() -> int:
    """Run the demo; returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--frames", type=int, default=120, help="default: 120")
    parser.add_argument("--rate", type=float, default=8.0, help="of the camera, Hz (default: 8)")
    parser.add_argument("--seed", type=int, default=0, help="seed of the street")
    parser.add_argument("--output", type=Path, default=Path("demo"))
    options = parser.parse_args()
    if options.frames < 2:
        parser.error("--frames: at least 2")
    output = options.output.resolve()
    if output.exists() and not (output / "depthseg.log").is_file():
        parser.error(f"--output {options.output} exists and is not of an earlier demo")
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # so that the nodes are stopped, too
    unfinished = output.with_name(f".{output.name}-{os.getpid()}")
    shutil.rmtree(unfinished, ignore_errors=True)
    try:
        unfinished.mkdir(parents=True)
    except OSError as error:
        parser.error(f"--output {options.output}: {error}")
    rclpy.init(signal_handler_options=SignalHandlerOptions.NO)
    code = 1
    try:
        summary = record(unfinished, options.frames, options.rate, options.seed)
        (unfinished / "summary.json").write_text(json.dumps(summary, indent=2) + "\n")
        table = Table("demo", "")
        for name, value in summary.items():
            shown = (
                ", ".join(f"{k} {v}" for k, v in value.items()) if name == "latency_ms" else value
            )
            table.add_row(name, str(shown))
        Console().print(table)
        code = 0 if summary["stamps_match"] else 1
        if code:
            print("demo: outputs and images have different stamps", file=sys.stderr)
    except DemoError as error:
        print(f"demo: {error}", file=sys.stderr)
    except KeyboardInterrupt:
        shutil.rmtree(unfinished)
        return 130
    finally:
        rclpy.try_shutdown()
    if code:  # keep the output of an earlier run
        output = output.with_name(f"{output.name}-failed")
    shutil.rmtree(output, ignore_errors=True)
    unfinished.rename(output)
    print(f"demo: images, video and logs are in {output if code else options.output}/")
    return code


if __name__ == "__main__":
    sys.exit(main())
