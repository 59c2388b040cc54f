"""The lifecycle node `depthseg`: one camera in, labels and depth out.

It converts, calls and publishes; arithmetic lives in `perception`, `geometry` and `rendering`.

Two threads share it. The executor's keeps the newest frame and the newest camera_info, answers
services and publishes diagnostics. The worker's, alive while the node is active, takes the newest
frame, runs the network and publishes what somebody subscribes to. Frames that come while it is busy
replace each other, so that no output is older than the frame before the camera's last.

A model may compare the camera's picture with one of the same view without foreground. That
background is a file or the median of frames, which the worker collects for the service that waits
for them; whatever ends a capture happens in the executor's thread.
"""

from __future__ import annotations

import math
import threading
import time
from collections import Counter
from collections.abc import Callable
from copy import copy
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus, KeyValue
from numpy.typing import NDArray
from rclpy.callback_groups import MutuallyExclusiveCallbackGroup
from rclpy.clock import Clock, ClockType  # type: ignore[attr-defined]
from rclpy.lifecycle import LifecycleNode, LifecycleState, TransitionCallbackReturn
from rclpy.qos import QoSPolicyKind, QoSProfile, qos_profile_sensor_data
from rclpy.qos_overriding_options import QoSOverridingOptions
from rclpy.task import Future
from sensor_msgs.msg import CameraInfo, Image
from std_msgs.msg import Header
from std_srvs.srv import Trigger

from . import model_card
from .geometry import Intrinsics, class_distances
from .messages import camera_info_message, image_message, image_to_rgb, intrinsics
from .model_card import ModelCard
from .msg import ClassDistance, ClassDistances
from .parameters import Parameters
from .perception import Perception, median_picture, read_picture
from .process import one_line, run
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


class NewestFrame:
    """A place for one frame, between the camera's callback and the worker."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._frame: Image | None = None
        self._closed = False

    def put(self, frame: Image) -> bool:
        """Place the frame; returns whether it displaced one that nobody had taken."""
        with self._changed:
            displaced = self._frame is not None
            self._frame = frame
            self._changed.notify()
        return displaced

    def take(self) -> Image | None:
        """Wait for a frame and take it; None once the place is closed."""
        with self._changed:
            self._changed.wait_for(lambda: self._closed or self._frame is not None)
            frame, self._frame = self._frame, None
            return None if self._closed else frame

    def close(self) -> None:
        """Let `take` return None from now on."""
        with self._changed:
            self._closed = True
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


class DepthsegNode(LifecycleNode):
    """Labels and metric depth of a camera's pictures, from the model that `model` names."""

    def __init__(self) -> None:
        super().__init__("depthseg")
        self._perception: Perception | None = None
        self._settings = Parameters(self, fixed=lambda: self._perception is not None)
        self._outputs: dict[str, Any] = {}
        self._inputs: list[Any] = []
        self._frames = NewestFrame()
        self._worker: threading.Thread | None = None
        self._camera_info: CameraInfo | None = None
        self._camera_info_awaited = threading.Event()
        self._background: NDArray[np.uint8] | None = None
        self._capture: Capture | None = None
        self._counts: Counter[str] = Counter()
        self._latency = math.nan
        self._last_frame = math.nan
        self._silent = False
        self._warned: dict[str, float] = {}
        self._diagnostics = self.create_publisher(DiagnosticArray, "/diagnostics", 1)
        # A steady clock: a simulation that stands still is no reason for silence.
        steady = Clock(clock_type=ClockType.STEADY_TIME)
        self._every_second = self.create_timer(1.0, self._on_second, clock=steady)
        # A group of its own: while the service waits, frames and transitions go on.
        self._capturing = self.create_service(
            Trigger,
            "~/capture_background",
            self._on_capture_background,
            callback_group=MutuallyExclusiveCallbackGroup(),
        )

    def start(self) -> None:
        """Configure and activate, if the parameters say so."""
        if not self._settings.now.autostart:
            return
        if self.trigger_configure() == TransitionCallbackReturn.SUCCESS:
            self.trigger_activate()

    def _LifecycleNodeMixin__change_state(self, transition_id: int) -> TransitionCallbackReturn:
        # rclpy checks requested transitions by label but not by number, and its error for one that
        # the state does not have would end the node.
        try:
            return super()._LifecycleNodeMixin__change_state(transition_id)  # type: ignore[misc]
        except RuntimeError as error:
            self.get_logger().error(f"Refused transition {transition_id}: {one_line(error)}")
            return TransitionCallbackReturn.FAILURE

    # --- Transitions ----------------------------------------------------------------------------

    def on_configure(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Load the model and announce the outputs that it can give."""
        settings = self._settings.now
        model = Path(settings.model).expanduser() if settings.model else model_card.default_model()
        started = time.monotonic()
        try:
            self._perception = perception = Perception(
                model, settings.backend, settings.providers, settings.threads
            )
            self._background = None
            if settings.background and perception.card.needs_background:
                self._background = read_picture(Path(settings.background).expanduser())
            perception.warm_up(*perception.card.network_size)
            self._announce(perception.card)
        except Exception as error:  # anything a backend raises: rclpy would swallow it unsaid
            return self._refuse("configure", error)
        card = perception.card
        self.get_logger().info(
            f"Model {card.name} on {perception.backend.name}, loaded in"
            f" {time.monotonic() - started:.1f} s: {len(card.classes)} classes,"
            f" {card.depth.kind if card.depth else 'no'} depth"
        )
        if card.depth and card.depth.kind != "metric":
            self.get_logger().warning(
                f"The model's depth is {card.depth.kind}, not metres: ~/depth/image carries it as"
                " it is, ~/class_distances leaves it out"
            )
        if settings.background and not card.needs_background:
            self.get_logger().warning("The model takes no background; that parameter is not used")
        return super().on_configure(state)

    def on_activate(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Start the worker and listen to the camera."""
        self._camera_info = None
        self._camera_info_awaited.clear()
        self._last_frame, self._silent = time.monotonic(), False
        self._warned.clear()
        self._frames = NewestFrame()
        try:
            self._listen("image", Image, self._on_image)
            self._listen("camera_info", CameraInfo, self._on_camera_info)
        except Exception as error:  # wrong QoS overrides: rclpy would swallow it unsaid
            return self._refuse("activate", error)
        result = super().on_activate(state)
        self._worker = threading.Thread(
            target=self._work, args=(self._frames, self._perception), name="worker", daemon=True
        )
        self._worker.start()
        return result

    def on_deactivate(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Stop listening and working."""
        self._stop()
        return super().on_deactivate(state)

    def on_cleanup(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Give back the model."""
        result = super().on_cleanup(state)
        self._clean_up()
        return result

    def on_shutdown(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Stop and give back everything, from whatever state."""
        self._stop()
        result = super().on_shutdown(state)
        self._clean_up()
        return result

    def on_error(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Back to unconfigured after an exception in a transition."""
        self.get_logger().error(f"The transition from {state.label} failed, cleaning up")
        self._stop()
        result = super().on_error(state)
        self._clean_up()
        return result

    def destroy_node(self) -> None:
        """Stop the worker and give back the model before the node goes."""
        self._stop()
        self._clean_up()
        super().destroy_node()

    def _refuse(self, transition: str, error: Exception) -> TransitionCallbackReturn:
        self.get_logger().error(
            f"Cannot {transition}: {one_line(error)}. When that is mended:"
            f" ros2 lifecycle set {self.get_fully_qualified_name()} {transition}"
        )
        self._stop()
        if transition == "configure":
            self._clean_up()
        return TransitionCallbackReturn.FAILURE

    def _stop(self) -> None:
        for subscription in self._inputs:
            self.destroy_subscription(subscription)
        self._inputs = []
        self._frames.close()
        self._camera_info_awaited.set()
        if self._worker is not None:
            self._worker.join()
            self._worker = None
        if self._capture is not None:
            self._end_capture(self._capture, "the node was deactivated")

    def _clean_up(self) -> None:
        for publisher in self._outputs.values():
            self.destroy_lifecycle_publisher(publisher)
        self._outputs = {}
        if self._perception is not None:
            self._perception.close()
            self._perception = None
        self._background = None

    def _announce(self, card: ModelCard) -> None:
        # What the worker publishes, in this order; the slowest to make comes last.
        kinds: dict[str, type] = {}
        if card.classes:
            kinds |= {"label/image": Image, "label/confidence": Image}
        if card.depth:
            kinds |= {"depth/image": Image, "depth/camera_info": CameraInfo}
        if card.classes:
            kinds |= {"class_distances": ClassDistances, "label/overlay": Image}
        for name, kind in kinds.items():
            self._outputs[name] = self.create_lifecycle_publisher(
                kind, f"~/{name}", copy(OUTPUT_QOS), qos_overriding_options=QOS_OVERRIDES
            )

    def _listen(self, name: str, kind: type, callback: Callable[[Any], None]) -> None:
        qos = copy(qos_profile_sensor_data)  # overrides are written into it
        self._inputs.append(
            self.create_subscription(
                kind, name, callback, qos, qos_overriding_options=QOS_OVERRIDES
            )
        )

    # --- The executor's thread ------------------------------------------------------------------

    def _on_image(self, message: Image) -> None:
        if self._silent:
            self.get_logger().info("Images come again")
        self._last_frame, self._silent = time.monotonic(), False
        self._counts["received"] += 1
        if self._frames.put(message):
            self._counts["dropped"] += 1

    def _on_camera_info(self, message: CameraInfo) -> None:
        self._camera_info = message
        self._camera_info_awaited.set()

    def _on_second(self) -> None:
        silence = time.monotonic() - self._last_frame
        if self._worker is not None and not self._silent and silence > SILENCE:
            self._silent = True
            self.get_logger().warning(self._why_silent())
        capture = self._capture
        if capture is not None and time.monotonic() - capture.newest > SILENCE:
            self._end_capture(
                capture,
                f"{len(capture.pictures)} of {capture.frames} frames came, and none that could be"
                f" used for {SILENCE:.0f} s: is the camera running?",
            )
        self._diagnostics.publish(self._status())

    async def _on_capture_background(
        self, request: Trigger.Request, response: Trigger.Response
    ) -> Trigger.Response:
        perception = self._perception
        if perception is not None and not perception.card.needs_background:
            response.message = f"the model {perception.card.name} takes no background"
        elif self._worker is None:
            response.message = (
                "the node is not active:"
                f" ros2 lifecycle set {self.get_fully_qualified_name()} activate"
            )
        else:
            self._capture = capture = Capture(self._settings.now.background_frames)
            self.get_logger().info(f"Capturing a background: the next {capture.frames} frames")
            response.success, response.message = await capture.outcome
        if response.success:
            self.get_logger().info(f"Captured the {response.message}")
        else:
            self.get_logger().warning(f"Captured no background: {response.message}")
        return response

    def _end_capture(
        self, capture: Capture, message: str, background: NDArray[np.uint8] | None = None
    ) -> None:
        """Let the service answer; without a background, that it failed."""
        if capture.outcome.done():  # of two ends the first counts
            return
        self._capture = None
        if background is not None:
            self._background = background
        capture.outcome.set_result((background is not None, message))

    def _why_silent(self) -> str:
        topic = self.resolve_topic_name("image")
        publishers = self.count_publishers(topic)
        if publishers == 0:
            return (
                f"No image for {SILENCE:.0f} s: nobody publishes {topic};"
                " remap 'image' to the camera's topic"
            )
        return (
            f"No image for {SILENCE:.0f} s, though {topic} has {publishers} publisher(s): is the"
            f" camera running, and does its QoS fit? Compare with 'ros2 topic info -v {topic}'."
            " Large pictures may be lost on the way; for a reliable camera set"
            f" qos_overrides.{topic}.subscription.reliability: reliable"
        )

    def _status(self) -> DiagnosticArray:
        perception = self._perception
        if self._worker is None:
            level = DiagnosticStatus.STALE
            text = "unconfigured" if perception is None else "inactive"
        elif self._silent:
            level, text = DiagnosticStatus.WARN, "no images"
        elif perception and perception.card.needs_background and self._background is None:
            level, text = DiagnosticStatus.WARN, "no background"
        else:
            level, text = DiagnosticStatus.OK, "active"
        values = {f"frames {what}": str(self._counts[what]) for what in COUNTS}
        values["latency [ms]"] = f"{1e3 * self._latency:.1f}"
        if perception is not None:
            values |= {"model": perception.card.name, "backend": perception.backend.name}
        status = DiagnosticStatus(
            level=level,
            name=f"{self.get_fully_qualified_name().lstrip('/')}: frames",
            message=text,
            hardware_id=self.get_fully_qualified_name(),
            values=[KeyValue(key=key, value=value) for key, value in values.items()],
        )
        header = Header(stamp=self.get_clock().now().to_msg())
        return DiagnosticArray(header=header, status=[status])

    # --- The worker's thread --------------------------------------------------------------------

    def _work(self, frames: NewestFrame, perception: Perception) -> None:
        while (message := frames.take()) is not None:
            started = time.monotonic()
            try:
                outcome = self._process(message, perception)
            except ValueError as error:
                outcome = "rejected"
                self._warn(f"Rejected a frame: {one_line(error)}", REPEAT)
            except Exception as error:  # anything a backend raises: the next frame may do
                outcome = "failed"
                self._warn(f"Lost a frame: {one_line(error)}", REPEAT)
            if outcome == "processed":
                self._latency = time.monotonic() - started
            self._counts[outcome] += 1

    def _process(self, message: Image, perception: Perception) -> str:
        """Perceive a frame and publish what is wanted; returns which of `COUNTS` that was."""
        wanted = [name for name, o in self._outputs.items() if o.get_subscription_count() > 0]
        capture = self._capture
        if not wanted and capture is None:
            return "unwanted"
        header, card = message.header, perception.card
        image = image_to_rgb(message)
        height, width = image.shape[:2]
        if capture is not None:
            self._collect(capture, image)
        if not wanted:
            return "unwanted"
        background = self._background
        if card.needs_background:
            self._check_background(background, width, height)
        # What is None here belongs to outputs that were not announced, so that nobody uses it.
        info, camera = self._camera(width, height) if card.depth else (None, None)
        prediction = perception(image, camera.fx if camera else None, background)
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
            self._outputs[name].publish(make[name]())
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
        self.executor.create_task(self._end_capture, capture, message, background)

    def _check_background(
        self, background: NDArray[np.uint8] | None, width: int, height: int
    ) -> None:
        """Raise `ValueError` where there is none yet; warn where its shape is not the picture's."""
        if background is None:
            raise ValueError(
                "the model compares with a background and there is none yet; with nothing but that"
                f" in view: ros2 service call {self.get_fully_qualified_name()}/capture_background"
                " std_srvs/srv/Trigger; or give a picture of it as the parameter background"
            )
        background_height, background_width = background.shape[:2]
        if abs(background_height * width / background_width - height) > 1:
            self._warn(
                f"The background is of {background_width}x{background_height} pixels, the image of"
                f" {width}x{height}: another shape; stretching it, labels may be wrong"
            )

    def _camera(self, width: int, height: int) -> tuple[CameraInfo | None, Intrinsics]:
        """What the camera said of itself last, and its intrinsics for pictures of that size."""
        if not self._camera_info_awaited.wait(CAMERA_INFO_PATIENCE):
            self._camera_info_awaited.set()  # once is enough
        info = self._camera_info
        try:
            if info is None:
                raise ValueError(f"nothing came on {self.resolve_topic_name('camera_info')}")
            # ROS names a rectified picture's topic image_rect or image_rect_color.
            rectified = self.resolve_topic_name("image").rsplit("/", 1)[-1].startswith("image_rect")
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

    def _warn(self, text: str, repeat: float = math.inf) -> None:
        """Log a warning, and the same one again only after `repeat` seconds."""
        now = time.monotonic()
        last = self._warned.get(text)
        if last is None or now - last > repeat:
            if len(self._warned) > 100:  # texts with ever new numbers in them
                self._warned.clear()
            self._warned[text] = now
            self.get_logger().warning(text)


def _start() -> DepthsegNode:
    node = DepthsegNode()
    node.start()
    return node


def main() -> int:
    """Run the node until it is told to stop; returns the exit code."""
    return run(_start, "depthseg")
