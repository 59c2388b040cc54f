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

"""Images and predictions of a running node, for `depthseg view`."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import Any

import numpy as np
import rclpy
from numpy.typing import NDArray
from rclpy.node import Node
from rclpy.signals import SignalHandlerOptions
from sensor_msgs.msg import CameraInfo, Image

from ..imaging.geometry import Intrinsics
from ..imaging.images import depth_to_metres, image_to_rgb, intrinsics, labels_of
from ..model_card import ModelCard
from ..perception import Prediction
from .subscriptions import FollowingSubscription

KEPT = 60
"""Number of stamps for which messages are kept until all have arrived."""


class _Listener(Node):
    """Groups the messages of one image by their stamp."""

    def __init__(self, node: str, image: str, card: ModelCard) -> None:
        super().__init__("depthseg_view")
        self._needed = {"image"}
        if card.classes:
            self._needed |= {"label/image"}
        if card.depth:
            self._needed |= {"depth/image", "depth/camera_info"}
        self._optional = f"{node}/label/confidence"
        self.complete: dict[str, Any] | None = None
        self._parts: dict[tuple[int, int], dict[str, Any]] = {}
        self.inputs = [
            FollowingSubscription(self, kind, [topic], partial(self._on_message, name))
            for name, kind, topic in (
                ("image", Image, image),
                ("label/image", Image, f"{node}/label/image"),
                ("label/confidence", Image, f"{node}/label/confidence"),
                ("depth/image", Image, f"{node}/depth/image"),
                ("depth/camera_info", CameraInfo, f"{node}/depth/camera_info"),
            )
        ]

    def follow(self) -> None:
        """Adapt the subscriptions to the publishers."""
        for subscription in self.inputs:
            subscription.follow()

    def absent(self) -> str:
        """The needed topics without a publisher of their type, as the end of a line."""
        found = [s for s in self.inputs if not s.offers() and s.topic != self._optional]
        return "".join(f"; nobody publishes {s.topic} of type {s.type}" for s in found)

    def _on_message(self, name: str, message: Any) -> None:
        stamp = (message.header.stamp.sec, message.header.stamp.nanosec)
        parts = self._parts.setdefault(stamp, {})
        parts[name] = message
        if parts.keys() >= self._needed:
            self.complete = self._parts.pop(stamp)
        while len(self._parts) > KEPT:
            del self._parts[next(iter(self._parts))]  # the first to arrive: a bag may start again


def views(
    node: str, image: str, card: ModelCard, fov: float, patience: float
) -> Iterator[tuple[NDArray[np.uint8], Intrinsics, Prediction]]:
    """Yield images, (H, W, 3) RGB, their intrinsics and a node's predictions, as they arrive.

    Args:
        node: The node's full name, e.g. /depthseg.
        image: Topic of the camera images.
        card: Model card of the node's model.
        fov: Horizontal field of view, radians, for models without depth (no camera_info).
        patience: Seconds to wait for the next image.

    Raises:
        ValueError: None arrived in that time.
    """
    rclpy.init(signal_handler_options=SignalHandlerOptions.NO)  # Python's: KeyboardInterrupt
    listener = _Listener(node, image, card)
    try:
        while True:
            end = listener.get_clock().now().nanoseconds / 1e9 + patience
            while listener.complete is None:
                rclpy.spin_once(listener, timeout_sec=0.1)
                listener.follow()
                if listener.get_clock().now().nanoseconds / 1e9 > end:
                    raise ValueError(
                        f"no outputs of {node} with an image of {image} for {patience:g} s; check"
                        f" that the node runs and is active{listener.absent()}"
                    )
            parts, listener.complete = listener.complete, None
            picture = image_to_rgb(parts["image"])
            labels, confidence = parts.get("label/image"), parts.get("label/confidence")
            depth, info = parts.get("depth/image"), parts.get("depth/camera_info")
            prediction = Prediction(
                None if labels is None else labels_of(labels),
                None if confidence is None else labels_of(confidence),
                None if depth is None else depth_to_metres(depth),
            )
            height, width = picture.shape[:2]
            camera = Intrinsics.from_fov(width, height, fov) if info is None else intrinsics(info)
            yield picture, camera, prediction
    finally:
        listener.destroy_node()
        rclpy.try_shutdown()
