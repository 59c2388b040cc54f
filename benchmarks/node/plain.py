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

"""The plain way, for comparison: the same model file in a node written as most are.

cv_bridge's conversion, resize and normalisation in numpy, argmax, softmax and colours in Python,
`message.data = array.tobytes()`, everything in one callback behind a queue of ten. What a network
without the model file's built-in steps would be given and would give is computed here beside it:
its cost counts, its content does not.

python plain.py NAMESPACE MODEL BACKEND THREADS
"""

from __future__ import annotations

import contextlib
import statistics
import sys
import time
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import rclpy
from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus, KeyValue
from numpy.typing import NDArray
from rclpy.executors import ExternalShutdownException
from rclpy.node import Node
from rclpy.qos import QoSProfile
from sensor_msgs.msg import CameraInfo, Image

from depthseg_ros import model_card
from depthseg_ros.backends import open_backend
from depthseg_ros.msg import ClassDistance, ClassDistances

MEAN = np.array([0.485, 0.456, 0.406], np.float32)
STD = np.array([0.229, 0.224, 0.225], np.float32)


class PlainNode(Node):
    """Camera in, labels and depth out, with nothing done for speed."""

    def __init__(self, namespace: str, model: Path, backend: str, threads: int) -> None:
        super().__init__("depthseg", namespace=namespace)
        self.card = model_card.read(model)
        self.backend = open_backend(model, backend, threads=threads)
        self.info: CameraInfo | None = None
        self.times: list[tuple[float, float]] = []
        self.logits: NDArray[np.float32] | None = None
        kinds: dict[str, type] = {
            "label/image": Image,
            "label/confidence": Image,
            "label/overlay": Image,
            "depth/image": Image,
            "depth/camera_info": CameraInfo,
            "class_distances": ClassDistances,
        }
        self.outputs = {n: self.create_publisher(k, f"~/{n}", 10) for n, k in kinds.items()}
        self.diagnostics = self.create_publisher(DiagnosticArray, "/diagnostics", 1)
        self.create_subscription(CameraInfo, "camera_info", self.on_info, QoSProfile(depth=10))
        self.create_subscription(Image, "image", self.on_image, QoSProfile(depth=10))
        self.create_timer(1.0, self.on_second)

    def on_info(self, info: CameraInfo) -> None:
        """Keep the camera_info."""
        self.info = info

    def on_image(self, message: Image) -> None:
        """Do everything."""
        if self.info is None:
            return
        started = time.monotonic()
        classes = self.card.classes
        # cv_bridge: an array of the message's, copied into the order that OpenCV likes.
        shape = (message.height, message.width, 3)
        rgb = np.ndarray(shape, np.uint8, buffer=message.data)
        bgr = cv2.cvtColor(rgb, cv2.COLOR_RGB2BGR)
        # What a bare network takes.
        resized = cv2.resize(bgr[..., ::-1], self.card.network_size)
        tensor = (resized.astype(np.float32) / 255 - MEAN) / STD
        tensor = np.ascontiguousarray(tensor.transpose(2, 0, 1)[None])

        before = time.monotonic()
        results: dict[str, Any] = self.backend.run(
            {"image": rgb[None], "fx": np.array([self.info.k[0]], np.float32)}
        )
        inferred = time.monotonic() - before

        labels, depth = results["labels"][0], results["depth"][0]
        if self.logits is None:  # not counted as its own: once
            width, height = self.card.network_size
            self.logits = np.zeros((len(classes), height, width), np.float32)
        # What a bare network gives: logits and depth at its own size.
        exp = np.exp(self.logits - self.logits.max(axis=0))
        probabilities = exp / exp.sum(axis=0)
        small = probabilities.argmax(axis=0).astype(np.uint8)
        confidence = (255 * probabilities.max(axis=0)).astype(np.uint8)
        size = (message.width, message.height)
        cv2.resize(small, size, interpolation=cv2.INTER_NEAREST)
        confidence = cv2.resize(confidence, size)
        cv2.resize(np.clip(depth[::2, ::2], 0.5, 100), size)
        palette = np.zeros((256, 3), np.uint8)
        for c in classes:
            palette[c.id] = c.color
        overlay = (0.5 * rgb + 0.5 * palette[labels]).astype(np.uint8)
        distances = ClassDistances(header=message.header)
        for c in classes:
            mask = labels == c.id
            if mask.any():
                found = depth[mask]
                found = found[np.isfinite(found)]
                near, median = np.percentile(found, (2, 50)) if found.size else (np.nan, np.nan)
                distances.classes.append(
                    ClassDistance(
                        class_id=c.id,
                        class_name=c.name,
                        pixel_share=float(mask.mean()),
                        nearest=float(near),
                        median=float(median),
                    )
                )
        self.publish("label/image", labels, "mono8", message)
        self.publish("label/confidence", confidence, "mono8", message)
        self.publish("label/overlay", overlay, "rgb8", message)
        self.publish("depth/image", depth, "32FC1", message)
        self.info.header = message.header
        self.outputs["depth/camera_info"].publish(self.info)
        self.outputs["class_distances"].publish(distances)
        self.times.append((inferred, time.monotonic() - started))

    def publish(self, name: str, array: NDArray[np.generic], encoding: str, message: Image) -> None:
        """Publish an array as most nodes do."""
        output = Image(header=message.header, encoding=encoding)
        output.height, output.width = array.shape[:2]
        output.step = array.strides[0]
        output.data = array.tobytes()
        self.outputs[name].publish(output)

    def on_second(self) -> None:
        """Say how long it took, as our node does."""
        times, self.times = self.times, []
        values = {}
        if times:
            values = {
                "infer [ms]": 1e3 * statistics.median(infer for infer, _ in times),
                "overhead [ms]": 1e3 * statistics.median(all_ - infer for infer, all_ in times),
                "latency [ms]": 1e3 * statistics.median(all_ for _, all_ in times),
            }
        status = DiagnosticStatus(
            hardware_id=self.get_fully_qualified_name(),
            values=[KeyValue(key=k, value=str(v)) for k, v in values.items()],
        )
        self.diagnostics.publish(DiagnosticArray(status=[status]))


if __name__ == "__main__":
    rclpy.init()
    with contextlib.suppress(KeyboardInterrupt, ExternalShutdownException):
        rclpy.spin(PlainNode(sys.argv[1], Path(sys.argv[2]), sys.argv[3], int(sys.argv[4])))
