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

"""One camera of the node: its subscriptions, its outputs and its diagnostics.

Two threads use a stream. The executor's thread stores the newest camera_info, passes frames to the
worker and publishes diagnostics. The worker's thread computes the outputs of a frame that have
subscribers (`outputs`).
"""

from __future__ import annotations

import math
import posixpath
import time
from collections.abc import Callable, Sequence
from copy import copy
from typing import Any, NamedTuple, TypeAlias

import numpy as np
from diagnostic_msgs.msg import DiagnosticStatus
from numpy.typing import NDArray
from rclpy.lifecycle import LifecycleNode
from rclpy.qos import QoSDurabilityPolicy, QoSPolicyKind, QoSProfile, QoSReliabilityPolicy
from rclpy.qos_overriding_options import QoSOverridingOptions
from sensor_msgs.msg import CameraInfo, CompressedImage, Image
from std_msgs.msg import Header

from ..derived.image_quality import ImageQuality
from ..derived.mounting import MountingCheck
from ..derived.scale import ScaleEstimate
from ..derived.stability import StableDepth
from ..imaging.geometry import Intrinsics, RayCache
from ..imaging.images import compressed_to_rgb, image_to_rgb
from ..memory import Sizes, trim_memory
from ..model_card import ModelCard
from ..perception import Perception, Prediction, View
from ..texts import one_line, shortened
from .background import Background, Capture
from .calibration import Calibration
from .diagnostics import LogThrottle, StageTimer, StreamDiagnostics
from .frames import NewestFrames
from .messages import label_info_message, label_info_type
from .outputs import OUTPUTS, FrameOutputs
from .parameters import Parameters
from .process import fast_dds_profile
from .subscriptions import FollowingSubscription, published_topics, type_name
from .tf import Transforms

SILENCE = 5.0
"""Seconds without a frame after which this is logged and a background capture ends."""
STALE = 1.0
"""Seconds by which an image's stamp and the node's clock may differ on arrival."""
REPEAT = 10.0
"""Seconds after which a problem that lasts is logged again."""
LOSSES_REPEAT = 60.0
"""The same for images that are lost before they arrive."""
MOUNTING_EVERY, MOUNTING_REPEAT = 0.5, 60.0
"""Seconds between two comparisons of the ground with the mounting; and as `REPEAT`."""
MASKS, NAMES_FIRST = ("label/image", "points/label"), 0.5
"""Outputs that are held back for this many seconds after somebody new listens to label/info. Then
the latched names have arrived (up to 0.2 s after the first points in our measurements), without
which Nav2's semantic_segmentation_layer crashes. It subscribes to points after label/info."""
MOUNTING = (
    "camera_height", "camera_pitch", "camera_roll", "ground", "ground_frame", "depth_scale",
    "image_rotation",
)  # fmt: skip
"""Parameters whose change makes previous comparisons invalid."""
OUTPUT_QOS = QoSProfile(depth=5)  # reliable, which serves best-effort subscribers too
LATCHED_QOS = QoSProfile(depth=1, durability=QoSDurabilityPolicy.TRANSIENT_LOCAL)
QOS_OVERRIDES = QoSOverridingOptions(
    (
        QoSPolicyKind.HISTORY,
        QoSPolicyKind.DEPTH,
        QoSPolicyKind.RELIABILITY,
        QoSPolicyKind.DURABILITY,
    )
)


class Frame(NamedTuple):
    """An image message on its way from a camera's callback to the worker."""

    stream: CameraStream
    message: Image | CompressedImage
    received: float
    """Time of the callback, `time.monotonic()`."""
    age: float
    """Seconds from its stamp to then, by the node's clock."""


Waiting: TypeAlias = "NewestFrames[CameraStream, Frame]"


class Task(NamedTuple):
    """A frame that is ready for the network."""

    stream: CameraStream
    header: Header
    view: View
    camera: Intrinsics
    info: CameraInfo | None
    wanted: list[tuple[str, Any]]
    """Names and publishers of the outputs that have subscribers."""
    watch: StageTimer


class CameraStream:
    """One camera of a node.

    Args:
        node: The node, with topics and clock.
        camera: The camera's namespace. With `front`, it subscribes to `front/image` and publishes
            `~/front/label/image`; if empty, `image` and `~/label/image`.
        settings: The node's parameters.
        transforms: Transforms from tf.
    """

    def __init__(
        self,
        node: LifecycleNode,
        camera: str,
        settings: Parameters,
        transforms: Transforms,
    ) -> None:
        self.camera = camera
        self._node = node
        self._settings = settings
        self._topics = f"{camera}/" if camera else ""
        self._name = "/".join(filter(None, (node.get_fully_qualified_name(), camera)))
        self._outputs: dict[str, Any] = {}
        self._card: Any = None
        self._label_info: Any = None
        self._label_threshold = 0.0
        self._name_listeners, self._masks_due = 0, 0.0
        self._inputs: list[FollowingSubscription] = []
        self._calibration = Calibration(
            self._image_name,
            lambda: self._info.topic,
            self._why_no_info,
            self._inform,
            self._warn,
            self.trouble,
        )
        self._background = Background(
            SILENCE, lambda *call: node.executor.create_task(*call), self._of_camera
        )
        self._health = StreamDiagnostics(SILENCE)
        self._scale, self._stable = ScaleEstimate(), StableDepth()
        self._mounting, self._mounting_of, self._mounting_due = MountingCheck(), (), 0.0
        self._rays = RayCache()
        self._image_quality = ImageQuality()
        self._sizes = Sizes()
        self._transforms = transforms
        self._last_taken = -math.inf
        self._listening_since = math.nan
        self._silence = ("", 0.0)  # the reason for no images that was logged last, and when
        self._log = LogThrottle()

    # --- Transitions ----------------------------------------------------------------------------

    def announce(
        self,
        card: ModelCard,
        background: NDArray[np.uint8] | None = None,
        active: bool = False,
    ) -> None:
        """Create the publishers of a model's outputs and destroy all others.

        Args:
            card: The model card.
            background: Background image, (H, W, 3) uint8 RGB, for a camera without one, or None.
            active: Whether the node is active, so that new publishers are activated.

        Raises:
            Exception: Whatever rclpy raises for wrong QoS.
        """
        new: dict[str, Any] = {}
        try:
            for name, output in OUTPUTS.items():
                if name not in self._outputs and output.given_by(card):
                    new[name] = self._node.create_lifecycle_publisher(
                        output.kind,
                        f"~/{self._topics}{name}",
                        copy(OUTPUT_QOS),
                        qos_overriding_options=QOS_OVERRIDES,
                    )
                    if active:
                        new[name].on_activate(None)
        except Exception:  # then nothing changes
            for publisher in new.values():
                self._node.destroy_lifecycle_publisher(publisher)
            raise
        kept = {n: p for n, p in (self._outputs | new).items() if OUTPUTS[n].given_by(card)}
        gone = [p for n, p in self._outputs.items() if n not in kept]
        self._outputs = {name: kept[name] for name in OUTPUTS if name in kept}
        for publisher in gone:
            self._node.destroy_lifecycle_publisher(publisher)
        self._card, self._mounting = card, MountingCheck()
        self._scale, self._stable = ScaleEstimate(), StableDepth()
        if self._background.picture is None:
            self._background.picture = background
        self._health.trouble("camera_info", "")
        for name in OUTPUTS:
            self._health.trouble(name, "")
        self._tell_labels()

    def _tell_labels(self) -> None:
        """Publish the names of the labels (latched)."""
        kind, threshold = label_info_type(), self._settings.now.min_confidence
        if self._label_info is not None and not self._card.classes:
            self._node.destroy_publisher(self._label_info)
            self._label_info = None
        if kind is None or not self._card.classes:
            return
        if self._label_info is None:
            topic = f"~/{self._topics}label/info"
            self._label_info = self._node.create_publisher(kind, topic, LATCHED_QOS)
        stamp = self._node.get_clock().now().to_msg()
        message = label_info_message(self._card.classes, Header(stamp=stamp), threshold)
        self._label_info.publish(message)
        self._label_threshold = threshold

    def listen(self, frames: Waiting) -> None:
        """Subscribe to the camera; raises whatever rclpy raises for wrong QoS overrides."""
        self._calibration.forget()
        self._listening_since, self._silence = time.monotonic(), ("", 0.0)
        self._health.forget()
        self._log.forget()
        image = f"{self._topics}image"
        kind: type = Image
        images: tuple[str, ...] = (image,)
        if self._settings.now.image_transport == "compressed":  # as image_transport names it
            kind, images = CompressedImage, (f"{self._resolved('image')}/compressed", image)

        def subscribe(
            kind: type, topics: Sequence[str], callback: Any, **others: Any
        ) -> FollowingSubscription:
            subscription = FollowingSubscription(
                self._node,
                kind,
                topics,
                callback,
                on_incompatible=self._on_incompatible_qos,
                **others,
            )
            self._inputs.append(subscription)
            return subscription

        self._image = subscribe(
            kind, images, lambda message: self._on_image(message, frames), on_lost=self._on_lost
        )
        # With image_transport, camera_info is next to the image topic.
        beside = posixpath.join(posixpath.dirname(self._image_name()), "camera_info")
        infos = (f"{self._topics}camera_info", beside)
        self._info = subscribe(CameraInfo, infos, self._calibration.hear, latched=True)

    def stop(self) -> None:
        """Unsubscribe from the camera and end all waiting for it."""
        for subscription in self._inputs:
            subscription.destroy()
        self._inputs = []
        self._calibration.await_no_more()

    @property
    def listening(self) -> bool:
        """Whether it is subscribed to the camera."""
        return bool(self._inputs)

    def abort_capture(self) -> None:
        """Abort a running background capture, after the worker has ended."""
        self._background.abort()

    def close(self) -> None:
        """Destroy the publishers."""
        for publisher in self._outputs.values():
            self._node.destroy_lifecycle_publisher(publisher)
        if self._label_info is not None:
            self._node.destroy_publisher(self._label_info)
        self._outputs, self._label_info = {}, None

    # --- The executor's thread ------------------------------------------------------------------

    def _on_image(self, message: Image | CompressedImage, frames: Waiting) -> None:
        now = time.monotonic()
        if self._silence[0]:
            self._node.get_logger().info(self._of_camera("Images arrive again"))
            self._silence = "", 0.0
            self._health.trouble("silence", "")
        self._health.receive(now)
        if rate := self._settings.now.max_rate:
            due = self._last_taken + 1 / rate
            if now < due - 0.1 / rate:  # a camera with exactly this rate is not exactly periodic
                self._health.count("unwanted")
                return
            # A delay shorter than a period is made up for, so that the mean rate holds.
            self._last_taken = due if now - due < 1 / rate else now
        stamp = message.header.stamp  # any stamp is accepted
        age = self._node.get_clock().now().nanoseconds / 1e9 - (stamp.sec + stamp.nanosec / 1e9)
        stale = f"image stamps are {age:+.1f} s old: the clocks differ, or images are delayed"
        self._health.trouble("stamp", stale if abs(age) > STALE else "")
        if frames.put(self, Frame(self, message, now, age)):
            self._health.count("dropped")

    def _on_lost(self, count: int) -> None:
        self._health.count("lost", frames=count)

    def _on_incompatible_qos(self, topic: str, policy: str) -> None:
        text = (
            f"{topic}: a publisher has incompatible QoS ({policy}), its messages are not received"
        )
        self._health.trouble(f"QoS of {topic}", text)
        self._warn(f"{text}; see qos_overrides.{topic}.subscription.{policy}")

    def follow(self) -> None:
        """Adapt the subscriptions to the publishers; raises nothing."""
        for subscription in self._inputs:
            try:
                changed = subscription.follow()
            except Exception as error:  # e.g. wrong QoS overrides of another topic
                self._warn(
                    f"Cannot renew the subscription to {subscription.topic}: {one_line(error)}"
                )
                continue
            if changed:
                first = subscription.topics[0]
                others = (
                    f", because {first} has no publisher" if subscription.topic != first else ""
                )
                self._node.get_logger().info(
                    self._of_camera(f"Subscribed to {subscription.topic}{others}")
                )

    def on_second(self) -> None:
        """Check once a second for missing and lost frames and for compatible QoS."""
        self._names_come_first()  # who listens before the first image need not wait at it
        if self._inputs:
            self._check_inputs()
        if self._label_info is not None and (
            self._label_threshold != self._settings.now.min_confidence
        ):
            self._tell_labels()
        self._background.on_second()

    def _check_inputs(self) -> None:
        now = time.monotonic()
        heard = np.fmax(self._listening_since, self._health.last_frame)  # NaN if there is none
        if now - heard > SILENCE:
            self._tell_silence(now)
        cameras = len(self._image.offers())
        twice = f"{cameras} publishers publish on the image topic" if cameras > 1 else ""
        self._health.trouble("cameras", twice)
        for subscription in self._inputs:
            about = f"QoS of {subscription.topic}"
            if self._health.troubled(about) and subscription.compatible():
                self._health.trouble(about, "")
        losses = self._health.losses()
        self._health.trouble("losses", losses)
        if losses:
            self._warn(f"{losses}; ", LOSSES_REPEAT, self._against_losses)

    def _tell_silence(self, now: float) -> None:
        """Report why no images arrive; log again when the reason changes."""
        (before, told), (why, hint) = self._silence, self._why_silent()
        self._health.trouble("silence", why + hint)
        if not before:
            self._health.trouble("picture", "")  # the last image is out of date
        if why != before and now - told > REPEAT:
            self._silence = why, now
            text = self._of_camera(f"No image for {SILENCE:.0f} s: {why}{hint}")
            self._node.get_logger().warning(text)

    def _why_silent(self) -> tuple[str, str]:
        """Why no images arrive, and what to do."""
        topic = self._image.topic
        if publishers := len(self._image.offers()):
            why = f"nothing is received from the {publishers} publisher(s) of {topic}"
            if not self._image.compatible():
                return f"{why} because of incompatible QoS", f"; see 'ros2 topic info -v {topic}'"
            if self._health.losses():
                return (
                    f"images of {topic} are lost before they arrive",
                    f"; {self._against_losses()}",
                )
            return why, f"; check that the camera runs: 'ros2 topic hz {topic}'"
        transport, name = self._settings.now.image_transport, self._image_name()
        kind, other = (CompressedImage, "compressed") if transport == "raw" else (Image, "raw")
        for found in dict.fromkeys((self._resolved("image"), name, f"{name}/compressed")):
            if type_name(kind) in self._kinds(found):
                return (
                    f"{found} has the type {type_name(kind)}, but image_transport is {transport}",
                    f"; set the parameter (or launch argument) image_transport to {other}",
                )
        return self._why_absent(self._image, "image")

    def _why_no_info(self) -> str:
        """Why no camera_info has arrived, and what to do."""
        if self._info.offers():
            return f"; nothing is received from the publisher of {self._info.topic}"
        return "; {}{}".format(*self._why_absent(self._info, "camera_info"))

    def _why_absent(self, wanted: FollowingSubscription, name: str) -> tuple[str, str]:
        """Why a topic has no publisher of the wanted type, and what to do."""
        if kinds := ", ".join(sorted(self._kinds(wanted.topic))):
            why = f"{wanted.topic} has the type {kinds}, expected {wanted.type}"
        else:
            why = f"nobody publishes {wanted.topic}"
        hint = f"; remap '{self._topics}{name}' to the camera's topic"
        if not self.camera:
            hint += f" (launch argument {name}_topic)"
        if there := published_topics(self._node, wanted.kind):
            hint += f"; available: {shortened(', '.join(there), 200)}"
        return why, hint

    def _kinds(self, topic: str) -> set[str]:
        """The message types that are published on a topic."""
        found = self._node.get_publishers_info_by_topic(topic)
        return {each.topic_type for each in found}

    def _against_losses(self) -> str:
        """What to do about images that are lost before they arrive."""
        topic = self._image.topic
        if self._image.reliable:
            return (
                "the network is too slow, or the queue of the camera's publisher is too short:"
                " increase its depth, or use image_transport: compressed"
            )
        if all(o.reliability == QoSReliabilityPolicy.RELIABLE for o in self._image.offers()):
            return (
                f"remove qos_overrides.{topic}.subscription.reliability: its publisher is reliable"
            )
        return (
            f"a publisher of {topic} is best effort: make it reliable or, with Fast DDS, start it"
            f" with FASTRTPS_DEFAULT_PROFILES_FILE={fast_dds_profile()}"
        )

    def trouble(self, about: str, text: str) -> None:
        """Set or clear a problem in diagnostics; see `StreamDiagnostics.trouble`."""
        self._health.trouble(about, text)

    def state(self, perception: Perception) -> tuple[bytes, str]:
        """Level and text of the stream's state, without losses and other problems."""
        if not self.listening:
            return DiagnosticStatus.STALE, "inactive"
        if self._health.overdue(self._listening_since):
            return DiagnosticStatus.WARN, "no images"
        if state := perception.backend.state:
            return DiagnosticStatus.WARN, state
        if perception.card.needs_background and self._background.picture is None:
            return DiagnosticStatus.WARN, "no background"
        return DiagnosticStatus.OK, "active"

    def status(self, perception: Perception, level: bytes, text: str) -> DiagnosticStatus:
        """The diagnostics of the stream in a state, see `StreamDiagnostics.status`."""
        card = perception.card
        values = {
            "model": card.name,
            "model file": str(perception.path),
            "backend": perception.backend.name,
            "precision": card.precision,
        }
        if memory := perception.backend.memory:
            used, total = (f"{size / 1e6:.0f}" for size in memory)
            values |= {"GPU memory used [MB]": used, "GPU memory [MB]": total}
        return self._health.status(self._name, level, text, values)

    def capture(self, frames: int) -> Capture:
        """Start to capture a background from `frames` frames."""
        return self._background.capture(frames)

    # --- The worker's thread --------------------------------------------------------------------

    def prepare(self, frame: Frame, perception: Perception) -> Task | None:
        """Convert a frame for the network; None without subscribers or if it is not an image."""
        watch = StageTimer(frame.received, frame.age)
        watch.lap("wait")
        try:
            task = self._prepare(frame, perception.card, watch)
        except Exception as error:
            self.lose(watch, error)
            return None
        if task is None:
            self._health.count("unwanted")
        return task

    def _prepare(self, frame: Frame, card: ModelCard, watch: StageTimer) -> Task | None:
        held = MASKS if self._names_come_first() else ()
        wanted = [
            (n, p)
            for n, p in self._outputs.items()
            if n not in held and p.get_subscription_count() > 0
        ]
        for name in self._outputs.keys() - dict(wanted).keys():
            self._health.trouble(name, "")  # it has no subscribers any more
        if not wanted:
            self._health.trouble("picture", "")  # images are not checked without subscribers
            if not self._background.awaited:
                return None
        image, (width, height) = self._decoded(frame.message, card)
        if self._sizes.outgrown(width * height):
            trim_memory()
        self._background.collect(image)
        if not wanted:
            return None
        watch.lap("convert")
        background = self._background.picture
        if card.needs_background:
            self._check_background(background, width, height)
        info, fov = None, self._settings.now.default_fov
        if card.depth:
            # From the frame's arrival, not from its turn: cameras wait at the same time.
            waited = time.monotonic() - frame.received
            info, camera = self._calibration.of(width, height, fov, waited)
        else:
            camera = Intrinsics.from_fov(width, height, fov)
        rotation = self._settings.now.image_rotation
        seen = camera.scaled(image.shape[1], image.shape[0])
        view = View(image, seen.fx, background, seen.fy, rotation)
        return Task(self, frame.message.header, view, camera, info, wanted, watch)

    def _decoded(
        self, message: Image | CompressedImage, card: ModelCard
    ) -> tuple[NDArray[np.uint8], tuple[int, int]]:
        """The image of a message, and width and height of what the camera sent.

        A JPEG may be decoded at a part of its size where `output_width` says what is enough.
        """
        if isinstance(message, Image):
            image = image_to_rgb(message)
            return image, (image.shape[1], image.shape[0])
        wanted = self._settings.now.output_width
        if wanted == 0 or card.needs_background:
            image = compressed_to_rgb(message)
            return image, (image.shape[1], image.shape[0])
        sizes: list[tuple[int, int]] = []

        def least(width: int, height: int) -> tuple[int, int]:
            sizes.append((width, height))
            columns, rows = card.size_for(width, height)
            return max(wanted, columns), max(wanted * height // width, rows)

        image = compressed_to_rgb(message, least)
        return image, sizes[0] if sizes else (image.shape[1], image.shape[0])

    def _names_come_first(self) -> bool:
        """Whether masks wait for the names of their labels, see `NAMES_FIRST`."""
        if self._label_info is None:
            return False
        listeners, now = self._label_info.get_subscription_count(), time.monotonic()
        if listeners > self._name_listeners:
            self._masks_due = now + NAMES_FIRST
        self._name_listeners = listeners
        return now < self._masks_due

    def lose(self, watch: StageTimer, error: Exception) -> None:
        """Count a rejected or failed frame and log the reason."""
        reason = one_line(error)
        if isinstance(error, ValueError):
            outcome, text = "rejected", f"Rejected a frame: {reason}"
        else:
            outcome, text = "failed", f"Processing a frame failed: {reason}"
        self._warn(text, REPEAT)
        self._health.count(outcome, watch, reason)

    def publish(self, task: Task, prediction: Prediction, card: ModelCard) -> None:
        """Publish the wanted outputs of a frame; raises nothing."""
        task.watch.lap("wait")
        if task.watch.seconds["infer"] > self._settings.now.deadline:  # it waited for an engine
            self._health.count("dropped")
            return
        try:
            self._publish(task, prediction, card)
        except Exception as error:
            self.lose(task.watch, error)
        else:
            self._health.count("processed", task.watch)

    def _publish(self, task: Task, prediction: Prediction, card: ModelCard) -> None:
        settings, stamp = self._settings.now, task.header.stamp
        quality_issues = self._image_quality.issues(
            task.view.image,
            prediction.confidence,
            stamp.sec + stamp.nanosec / 1e9,
            settings.low_confidence_below,
        )
        poor = f"poor image quality: {', '.join(quality_issues)}" if quality_issues else ""
        self._health.trouble("picture", poor)
        seen = FrameOutputs(
            task.header,
            task.view.image,
            prediction,
            card,
            task.camera,
            task.info,
            settings,
            self._scale,
            self._stable,
            self._rays,
            self._transforms,
            quality_issues,
        )
        for name, publisher in task.wanted:
            try:
                output = OUTPUTS[name].make(seen)
            except ValueError as error:  # `Unavailable`, or e.g. a camera that lies on its side
                self._warn(f"No {self._topics}{name}: {error}", REPEAT)
                self._health.trouble(name, f"no {name}: {error}")
                continue
            self._health.trouble(name, "")
            task.watch.lap("derive")
            publisher.publish(output)
            task.watch.lap("publish")
        self._check_mounting(seen)
        task.watch.lap("derive")

    def _check_mounting(self, seen: FrameOutputs) -> None:
        """Warn if the ground in the depth and the mounting disagree."""
        settings, now = seen.settings, time.monotonic()
        of = tuple(getattr(settings, name) for name in MOUNTING)
        if of != self._mounting_of:
            self._mounting, self._mounting_of = MountingCheck(), of
        elif now < self._mounting_due:
            return
        self._mounting_due = now + MOUNTING_EVERY
        if (comparison := seen.compare_mounting()) is not None:
            self._mounting.add(comparison)
        text = self._mounting.disagreement()
        self._health.trouble("mounting", text)
        if text:
            given = "camera_height, camera_pitch"
            if settings.ground == "tf":
                given = f"tf from {settings.ground_frame}"
            hint = f"check {given} and camera_info"
            if not settings.correct_scale:
                hint += "; if they are right, correct_scale corrects the depth scale"
            self._warn(f"{text[0].upper()}{text[1:]}; {hint}", MOUNTING_REPEAT)

    def _check_background(
        self, background: NDArray[np.uint8] | None, width: int, height: int
    ) -> None:
        """Raise `ValueError` without a background; warn if its aspect ratio differs."""
        if background is None:
            name = self._node.get_fully_qualified_name()
            raise ValueError(
                "the model needs a background image and there is none yet; capture one while no"
                f" foreground is in view: ros2 service call {name}/capture_background"
                " std_srvs/srv/Trigger"
                + ("" if self.camera else "; or set the parameter background to an image file")
            )
        background_height, background_width = background.shape[:2]
        if abs(background_height * width / background_width - height) > 1:
            self._warn(
                f"The background image is {background_width}x{background_height}, the camera image"
                f" {width}x{height}: the aspect ratios differ, so the background is stretched and"
                " labels may be wrong; capture it again"
            )

    def _resolved(self, name: str) -> str:
        """The topic of an input, after remapping."""
        return self._node.resolve_topic_name(f"{self._topics}{name}")  # type: ignore[no-any-return]  # rclpy is not typed

    def _image_name(self) -> str:
        """The base topic of image_transport for the images, after remapping."""
        return self._resolved("image").removesuffix("/compressed")

    def _of_camera(self, text: str) -> str:
        """A line that begins with the camera's name, if it has one."""
        return f"{self.camera}: {text}" if self.camera else text

    def _inform(self, text: str) -> None:
        """Log a line once as information; see `LogThrottle`."""
        if self._log.admits(text, math.inf):
            self._node.get_logger().info(self._of_camera(text))

    def _warn(
        self, text: str, repeat: float = math.inf, hint: Callable[[], str] = lambda: ""
    ) -> None:
        """Log a warning, and similar ones only after `repeat` seconds; see `LogThrottle`.

        Args:
            text: The warning.
            repeat: Seconds.
            hint: Returns text to append; a change only of this text is not logged.
        """
        if self._log.admits(text, repeat):
            self._node.get_logger().warning(self._of_camera(text + hint()))
