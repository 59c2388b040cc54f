"""One camera's way through the node: its topics in and out, and what is known of it.

Two threads share a stream. The executor's keeps the newest camera_info, hands frames over to the
worker and says of itself what diagnostics ask. The worker's makes of a frame what somebody
subscribes to.

A model may compare the camera's picture with one of the same view without foreground. That
background is a file or the median of frames, which the worker collects for the service that waits
for them; whatever ends a capture happens in the executor's thread.
"""

from __future__ import annotations

import math
import statistics
import threading
import time
from collections import Counter
from collections.abc import Callable
from copy import copy
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
from diagnostic_msgs.msg import DiagnosticStatus, KeyValue
from numpy.typing import NDArray
from rclpy.lifecycle import LifecycleNode
from rclpy.qos import QoSPolicyKind, QoSProfile, qos_profile_sensor_data
from rclpy.qos_overriding_options import QoSOverridingOptions
from rclpy.task import Future
from sensor_msgs.msg import CameraInfo, Image

from .geometry import Intrinsics, class_distances
from .messages import camera_info_message, image_message, image_to_rgb, intrinsics
from .model_card import ModelCard
from .msg import ClassDistance, ClassDistances
from .parameters import Parameters
from .perception import Perception, median_picture
from .process import one_line
from .rendering import overlay

SILENCE = 5.0
"""Seconds without a frame after which the node says so, and gives up capturing a background."""
REPEAT = 10.0
"""Seconds after which a problem that lasts is logged again."""
CAMERA_INFO_PATIENCE = 1.0
"""Seconds that the first frame waits for a camera_info: cameras send both, in either order."""
OUTPUT_QOS = QoSProfile(depth=5)  # reliable, which serves best-effort subscribers too
QOS_OVERRIDES = QoSOverridingOptions(
    (
        QoSPolicyKind.HISTORY,
        QoSPolicyKind.DEPTH,
        QoSPolicyKind.RELIABILITY,
        QoSPolicyKind.DURABILITY,
    )
)
COUNTS = ("received", "processed", "dropped", "unwanted", "rejected", "failed")
"""What becomes of frames: dropped for a newer one, unwanted while nobody subscribes, rejected for
what they contain, failed in the backend."""
STAGES = ("take", "wait", "convert", "infer", "derive", "publish")
"""What a frame's time goes into: from its stamp to the callback, until the worker has it and its
camera_info, message to picture, network, outputs to messages, messages to subscribers."""


SUMS = ("overhead", "latency", "age")
"""Of stages: all but take and infer, all but take, all. The age is what a result has when it is
published, by its stamp."""


class Frame(NamedTuple):
    """A picture on its way from a camera's callback to the worker."""

    stream: Stream
    message: Image
    received: float
    """When the callback got it, `time.monotonic()`."""
    age: float
    """Seconds from its stamp to then, by the node's clock."""


class NewestFrames:
    """A place for each camera's newest frame, between their callbacks and the worker."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._frames: dict[Stream, Frame] = {}
        self._closed = False

    def put(self, frame: Frame) -> bool:
        """Place a frame; returns whether it displaced one that nobody had taken."""
        with self._changed:
            displaced = frame.stream in self._frames
            self._frames[frame.stream] = frame  # a dict: one that displaces keeps its turn
            self._changed.notify()
        return displaced

    def take(self) -> Frame | None:
        """Wait for a frame, that of the camera that has waited longest; None once it is closed."""
        with self._changed:
            self._changed.wait_for(lambda: self._closed or self._frames)
            return None if self._closed else self._frames.pop(next(iter(self._frames)))

    def close(self) -> None:
        """Let `take` return None from now on."""
        with self._changed:
            self._closed = True
            self._frames.clear()
            self._changed.notify()


@dataclass
class Capture:
    """A background in the making, from the worker to the service."""

    frames: int
    """How many pictures it takes."""
    pictures: list[NDArray[np.uint8]] = field(default_factory=list)
    newest: float = field(default_factory=time.monotonic)
    """When the newest picture came; at first, when the capture began."""
    outcome: Any = field(default_factory=Future)
    """Success, and a line about it."""


class _Stopwatch:
    """Seconds that one frame spends in each of `STAGES`."""

    def __init__(self, frame: Frame) -> None:
        self._last = frame.received
        self.seconds = dict.fromkeys(STAGES, 0.0) | {"take": frame.age}

    def lap(self, stage: str) -> None:
        """Count the time since the last call for a stage."""
        now = time.monotonic()
        self.seconds[stage] += now - self._last
        self._last = now

    def with_sums(self) -> dict[str, float]:
        """The seconds of each of `STAGES` and `SUMS`."""
        age = sum(self.seconds.values())
        latency = age - self.seconds["take"]
        overhead = latency - self.seconds["infer"]
        return self.seconds | {"overhead": overhead, "latency": latency, "age": age}


class Stream:
    """A camera that the node `node` perceives.

    Args:
        node: Has the topics and the clock.
        camera: The camera's namespace, such as `front`: `front/image` comes in and
            `~/front/label/image` goes out. Empty: `image` and `~/label/image`.
        settings: The node's parameters.
        background: The view without foreground, (H, W, 3) uint8 RGB, if there is one already.
    """

    def __init__(
        self,
        node: LifecycleNode,
        camera: str,
        settings: Parameters,
        background: NDArray[np.uint8] | None,
    ) -> None:
        self.camera = camera
        self._node = node
        self._settings = settings
        self._topics = f"{camera}/" if camera else ""
        self._outputs: dict[str, Any] = {}
        self._inputs: list[Any] = []
        self._camera_info: CameraInfo | None = None
        self._camera_info_awaited = threading.Event()
        self._background = background
        self._capture: Capture | None = None
        self._counts: Counter[str] = Counter()
        self._laps: list[dict[str, float]] = []
        self._failure = ""
        self._last_frame = math.nan
        self._silent = False
        self._warned: dict[str, float] = {}

    # --- Transitions ----------------------------------------------------------------------------

    def announce(self, card: ModelCard) -> None:
        """Announce the outputs that a model can give; raises what rclpy does for wrong QoS."""
        # What the worker publishes, in this order; the slowest to make comes last.
        kinds: dict[str, type] = {}
        if card.classes:
            kinds |= {"label/image": Image, "label/confidence": Image}
        if card.depth:
            kinds |= {"depth/image": Image, "depth/camera_info": CameraInfo}
        if card.classes:
            kinds |= {"class_distances": ClassDistances, "label/overlay": Image}
        for name, kind in kinds.items():
            self._outputs[name] = self._node.create_lifecycle_publisher(
                kind,
                f"~/{self._topics}{name}",
                copy(OUTPUT_QOS),
                qos_overriding_options=QOS_OVERRIDES,
            )

    def listen(self, frames: NewestFrames) -> None:
        """Listen to the camera, from now on; raises what rclpy does for wrong QoS overrides."""
        self._camera_info = None
        self._camera_info_awaited.clear()
        self._last_frame, self._silent = time.monotonic(), False
        self._warned.clear()
        callbacks: dict[str, tuple[type, Callable[[Any], None]]] = {
            "image": (Image, lambda message: self._on_image(message, frames)),
            "camera_info": (CameraInfo, self._on_camera_info),
        }
        for name, (kind, callback) in callbacks.items():
            qos = copy(qos_profile_sensor_data)  # overrides are written into it
            self._inputs.append(
                self._node.create_subscription(
                    kind,
                    f"{self._topics}{name}",
                    callback,
                    qos,
                    qos_overriding_options=QOS_OVERRIDES,
                )
            )

    def stop(self) -> None:
        """Listen no more, and let nothing wait for the camera."""
        for subscription in self._inputs:
            self._node.destroy_subscription(subscription)
        self._inputs = []
        self._camera_info_awaited.set()

    def give_up_capture(self) -> None:
        """End a capture that is under way, once the worker has ended."""
        if self._capture is not None:
            self._end_capture(self._capture, "the node was deactivated")

    def close(self) -> None:
        """Take back the outputs."""
        for publisher in self._outputs.values():
            self._node.destroy_lifecycle_publisher(publisher)
        self._outputs = {}

    # --- The executor's thread ------------------------------------------------------------------

    def _on_image(self, message: Image, frames: NewestFrames) -> None:
        if self._silent:
            self._node.get_logger().info(self._of_camera("Images come again"))
        self._last_frame, self._silent = time.monotonic(), False
        self._counts["received"] += 1
        stamp = message.header.stamp  # whatever it is: a camera's fault is not ours
        age = self._node.get_clock().now().nanoseconds / 1e9 - (stamp.sec + stamp.nanosec / 1e9)
        if frames.put(Frame(self, message, self._last_frame, age)):
            self._counts["dropped"] += 1

    def _on_camera_info(self, message: CameraInfo) -> None:
        self._camera_info = message
        self._camera_info_awaited.set()

    def on_second(self) -> None:
        """Notice that no frames come."""
        now = time.monotonic()
        if self._inputs and not self._silent and now - self._last_frame > SILENCE:
            self._silent = True
            self._node.get_logger().warning(self._of_camera(self._why_silent()))
        capture = self._capture
        if capture is not None and now - capture.newest > SILENCE:
            self._end_capture(
                capture,
                f"{len(capture.pictures)} of {capture.frames} frames came, and none that could be"
                f" used for {SILENCE:.0f} s: is the camera running?",
            )

    def _why_silent(self) -> str:
        topic = self._resolved("image")
        publishers = self._node.count_publishers(topic)
        if publishers == 0:
            return (
                f"No image for {SILENCE:.0f} s: nobody publishes {topic};"
                f" remap '{self._topics}image' to the camera's topic"
            )
        return (
            f"No image for {SILENCE:.0f} s, though {topic} has {publishers} publisher(s): is the"
            f" camera running, and does its QoS fit? Compare with 'ros2 topic info -v {topic}'."
            " Large pictures may be lost on the way; for a reliable camera set"
            f" qos_overrides.{topic}.subscription.reliability: reliable"
        )

    def status(self, perception: Perception) -> DiagnosticStatus:
        """The stream's state, counts, and medians of the frames since the last call."""
        if not self._inputs:
            level, text = DiagnosticStatus.STALE, "inactive"
        elif self._silent:
            level, text = DiagnosticStatus.WARN, "no images"
        elif state := perception.backend.state:
            level, text = DiagnosticStatus.WARN, state
        elif perception.card.needs_background and self._background is None:
            level, text = DiagnosticStatus.WARN, "no background"
        else:
            level, text = DiagnosticStatus.OK, "active"
        laps, self._laps = self._laps, []
        failure, self._failure = self._failure, ""
        if failure and not laps:
            level, text = DiagnosticStatus.ERROR, f"all frames fail: {failure}"
        milliseconds = dict.fromkeys((*STAGES, *SUMS, "age p95"), math.nan)
        if laps:
            for stage in (*STAGES, *SUMS):
                milliseconds[stage] = 1e3 * statistics.median(lap[stage] for lap in laps)
            milliseconds["age p95"] = 1e3 * float(np.percentile([lap["age"] for lap in laps], 95))
        values = {f"frames {what}": str(self._counts[what]) for what in COUNTS}
        values |= {f"{name} [ms]": f"{value:.2f}" for name, value in milliseconds.items()}
        values |= {"model": perception.card.name, "backend": perception.backend.name}
        name = "/".join(filter(None, (self._node.get_fully_qualified_name(), self.camera)))
        return DiagnosticStatus(
            level=level,
            name=f"{name.lstrip('/')}: frames",
            message=text,
            hardware_id=name,
            values=[KeyValue(key=key, value=value) for key, value in values.items()],
        )

    def capture(self, frames: int) -> Capture:
        """Begin to take a background from so many frames."""
        self._capture = Capture(frames)
        return self._capture

    def _end_capture(
        self, capture: Capture, message: str, background: NDArray[np.uint8] | None = None
    ) -> None:
        """Let the service answer; without a background, that it failed."""
        if capture.outcome.done():  # of two ends the first counts
            return
        self._capture = None
        if background is not None:
            self._background = background
        capture.outcome.set_result((background is not None, self._of_camera(message)))

    # --- The worker's thread --------------------------------------------------------------------

    def process(self, frame: Frame, perception: Perception) -> None:
        """Perceive a frame and publish what is wanted, or say why not; raises nothing."""
        watch = _Stopwatch(frame)
        watch.lap("wait")
        try:
            outcome = self._process(frame, perception, watch)
        except ValueError as error:
            outcome = "rejected"
            self._warn(f"Rejected a frame: {one_line(error)}", REPEAT)
        except Exception as error:  # anything a backend raises: the next frame may do
            outcome, self._failure = "failed", one_line(error)
            self._warn(f"Lost a frame: {self._failure}", REPEAT)
        if outcome == "processed":
            self._laps.append(watch.with_sums())
        self._counts[outcome] += 1

    def _process(self, frame: Frame, perception: Perception, watch: _Stopwatch) -> str:
        """As `process`; returns which of `COUNTS` it was."""
        wanted = [name for name, o in self._outputs.items() if o.get_subscription_count() > 0]
        capture = self._capture
        if not wanted and capture is None:
            return "unwanted"
        header, card = frame.message.header, perception.card
        image = image_to_rgb(frame.message)
        height, width = image.shape[:2]
        if capture is not None:
            self._collect(capture, image)
        if not wanted:
            return "unwanted"
        watch.lap("convert")
        background = self._background
        if card.needs_background:
            self._check_background(background, width, height)
        # What is None here belongs to outputs that were not announced, so that nobody uses it.
        info, camera = self._camera_of(frame, width, height) if card.depth else (None, None)
        watch.lap("wait")
        prediction = perception(image, camera.fx if camera else None, background)
        watch.lap("infer")
        labels: Any = prediction.labels
        confidence: Any = prediction.confidence
        depth: Any = prediction.depth
        metres = depth if card.needs_fx else None
        names = {c.id: c.name for c in card.classes}
        make: dict[str, Callable[[], Any]] = {
            "label/image": lambda: image_message(labels, "mono8", header),
            "label/confidence": lambda: image_message(confidence, "mono8", header),
            "label/overlay": lambda: image_message(
                overlay(image, labels, card.classes, self._settings.now.overlay_opacity),
                "rgb8",
                header,
            ),
            "depth/image": lambda: image_message(depth, "32FC1", header),
            "depth/camera_info": lambda: camera_info_message(camera, header, info),  # type: ignore[arg-type]
            "class_distances": lambda: ClassDistances(
                header=header,
                classes=[
                    ClassDistance(**vars(distance))
                    for distance in class_distances(labels, metres, names)
                ],
            ),
        }
        for name in wanted:
            output = make[name]()
            watch.lap("derive")
            self._outputs[name].publish(output)
            watch.lap("publish")
        return "processed"

    def _collect(self, capture: Capture, image: NDArray[np.uint8]) -> None:
        """Add a picture to a capture, and end it with the last one."""
        capture.pictures.append(image)
        capture.newest = time.monotonic()
        (first_height, first_width), (height, width) = (
            picture.shape[:2] for picture in (capture.pictures[0], image)
        )
        changed = (first_width, first_height) != (width, height)
        if not changed and len(capture.pictures) < capture.frames:
            return
        self._capture = None  # nothing more is collected, and no silence ends it
        if changed:
            background = None
            message = f"the frames changed from {first_width}x{first_height} to {width}x{height}"
        else:
            background = median_picture(capture.pictures)
            message = f"background of {capture.frames} frames, {width}x{height}"
        self._node.executor.create_task(self._end_capture, capture, message, background)

    def _check_background(
        self, background: NDArray[np.uint8] | None, width: int, height: int
    ) -> None:
        """Raise `ValueError` where there is none yet; warn where its shape is not the picture's."""
        if background is None:
            name = self._node.get_fully_qualified_name()
            raise ValueError(
                "the model compares with a background and there is none yet; with nothing but that"
                f" in view: ros2 service call {name}/capture_background std_srvs/srv/Trigger"
                + ("" if self.camera else "; or give a picture of it as the parameter background")
            )
        background_height, background_width = background.shape[:2]
        if abs(background_height * width / background_width - height) > 1:
            self._warn(
                f"The background is of {background_width}x{background_height} pixels, the image of"
                f" {width}x{height}: another shape; stretching it, labels may be wrong"
            )

    def _camera_of(
        self, frame: Frame, width: int, height: int
    ) -> tuple[CameraInfo | None, Intrinsics]:
        """What the camera said of itself last, and its intrinsics for pictures of that size."""
        # Since the frame came, not since its turn came: cameras wait at the same time.
        patience = CAMERA_INFO_PATIENCE - (time.monotonic() - frame.received)
        if not self._camera_info_awaited.wait(max(0.0, patience)):
            self._camera_info_awaited.set()  # once is enough
        info = self._camera_info
        try:
            if info is None:
                raise ValueError(f"nothing came on {self._resolved('camera_info')}")
            # ROS names a rectified picture's topic image_rect or image_rect_color.
            rectified = self._resolved("image").rsplit("/", 1)[-1].startswith("image_rect")
            camera = intrinsics(info, rectified)
        except ValueError as error:
            fov = self._settings.now.default_fov
            self._warn(
                f"{error}; assuming a horizontal field of view of {fov} rad (parameter default_fov)"
            )
            return None, Intrinsics.from_fov(width, height, fov)
        if abs(camera.height * width / camera.width - height) > 1:
            self._warn(
                f"camera_info is of {camera.width}x{camera.height} pixels, the image of"
                f" {width}x{height}: another shape; stretching it, depth may be wrong"
            )
        return info, camera.scaled(width, height)

    def _resolved(self, name: str) -> str:
        """The topic that an input is, after remapping."""
        return self._node.resolve_topic_name(f"{self._topics}{name}")  # type: ignore[no-any-return]

    def _of_camera(self, text: str) -> str:
        """A line about this camera, which names it if it has a name."""
        return f"{self.camera}: {text}" if self.camera else text

    def _warn(self, text: str, repeat: float = math.inf) -> None:
        """Log a warning, and the same one again only after `repeat` seconds."""
        now = time.monotonic()
        last = self._warned.get(text)
        if last is None or now - last > repeat:
            if len(self._warned) > 100:  # texts with ever new numbers in them
                self._warned.clear()
            self._warned[text] = now
            self._node.get_logger().warning(self._of_camera(text))
