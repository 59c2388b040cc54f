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

"""The lifecycle node `depthseg`: cameras in, labels and depth out.

It handles the lifecycle and the services. `loading` loads the model, `stream` handles one camera,
and `outputs` lists what is published.

The node has two threads. The executor's thread stores each camera's newest frame and camera_info,
answers services and publishes diagnostics. The worker's thread (`worker`), which lives while the
node is active, takes the newest frames of the cameras in turn, runs the network and publishes the
outputs that have subscribers. Frames that arrive while it is busy replace each other, so that no
output is older than the last frame but one of its camera.

A network that is stuck or keeps failing is reloaded, after pauses that grow while that does not
help. `backend: auto` then changes from TensorRT to ONNX Runtime.
"""

from __future__ import annotations

import math
import time
from contextlib import suppress
from dataclasses import replace
from typing import Any

from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus
from rclpy.callback_groups import MutuallyExclusiveCallbackGroup
from rclpy.clock import Clock, ClockType, JumpThreshold  # type: ignore[attr-defined]  # no explicit export
from rclpy.duration import Duration
from rclpy.lifecycle import LifecycleNode, LifecycleState, TransitionCallbackReturn
from rclpy.task import Future
from std_msgs.msg import Header
from std_srvs.srv import Trigger

from ..backends import BackendError
from ..perception import Perception
from ..srv import LoadModel
from ..texts import one_line
from .frames import NewestFrames
from .loading import Loader, background
from .parameters import Parameters
from .process import run
from .stream import CameraStream, Waiting
from .tf import Transforms
from .worker import Worker

CLOCK_JUMP = 1.0
"""Seconds by which the clock may jump without a warning: a simulation's steps."""
CLOCK_JUMP_SHOWN = 10.0
"""Seconds for which diagnostics show a jump."""
WATCH = 0.25
"""Seconds between two checks of worker and cameras; changes are reported immediately."""
PAUSES = (1.0, 30.0)
"""Seconds before a model that failed is reloaded: the first time, and at most."""
MAX_STUCK = 3
"""Number of threads stuck in runtimes, with a model each, from which no model is loaded."""


class DepthsegNode(LifecycleNode):
    """Publishes labels and metric depth for the images of cameras."""

    def __init__(self) -> None:
        super().__init__("depthseg")
        # First what destroy_node needs: since Kilted, rclpy also calls it after wrong parameters.
        self._perception: Perception | None = None
        self._streams: list[CameraStream] = []
        self._frames: Waiting = NewestFrames()
        self._worker: Worker | None = None
        self._loader = Loader(self.get_logger())
        self._failure = ""  # why an active node has no worker, until the model is loaded
        self._pause, self._due = 0.0, math.inf  # until it is reloaded, and when
        self._settings = Parameters(
            self, card=lambda: self._perception.card if self._perception else None
        )
        self._transforms = Transforms()
        self._diagnostics = self.create_publisher(DiagnosticArray, "/diagnostics", 1)
        # A steady clock, because diagnostics must go on while a simulation is paused.
        steady = Clock(clock_type=ClockType.STEADY_TIME)
        self._watch = self.create_timer(WATCH, self._on_watch, clock=steady)
        self._published: tuple[float, list[Any]] = (-math.inf, [])
        # Own callback groups, so that frames and transitions go on while a service waits.
        self._capturing = self.create_service(
            Trigger,
            "~/capture_background",
            self._on_capture_background,
            callback_group=MutuallyExclusiveCallbackGroup(),
        )
        self._loading = self.create_service(
            LoadModel,
            "~/load_model",
            self._on_load_model,
            callback_group=MutuallyExclusiveCallbackGroup(),
        )
        jump = Duration(seconds=CLOCK_JUMP)
        self._jump_handle = self.get_clock().create_jump_callback(
            JumpThreshold(
                min_forward=jump, min_backward=Duration(seconds=-CLOCK_JUMP), on_clock_change=False
            ),
            post_callback=self._on_clock_jump,
        )
        self._clock_jumped = -math.inf

    def start(self) -> None:
        """Configure and activate the node, if the parameter `autostart` is set."""
        if not self._settings.now.autostart:
            return
        if self.trigger_configure() == TransitionCallbackReturn.SUCCESS:
            self.trigger_activate()

    def _LifecycleNodeMixin__change_state(self, transition_id: int) -> TransitionCallbackReturn:
        # Before Kilted, rclpy checks requested transitions by label but not by number. Its error
        # for one that the state does not have would end the node.
        try:
            return super()._LifecycleNodeMixin__change_state(transition_id)  # type: ignore[misc]  # private, see above
        except RuntimeError as error:
            self.get_logger().error(f"Refused transition {transition_id}: {one_line(error)}")
            return TransitionCallbackReturn.FAILURE

    # --- Transitions ----------------------------------------------------------------------------

    def on_configure(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Load the model and create the publishers of its outputs."""
        settings = self._settings.now
        try:
            self._perception, line = self._loader.load(settings)
            card = self._perception.card
            settings.check(card)
            picture = background(settings, card)
            for camera in settings.cameras or ("",):
                self._streams.append(CameraStream(self, camera, self._settings, self._transforms))
                self._streams[-1].announce(card, picture)
        except Exception as error:  # anything a backend raises: rclpy would not log it
            return self._refuse("configure", error)
        self._loader.log_loaded(self._perception, line, settings)
        if settings.background and not card.needs_background:
            self.get_logger().warning(
                "The model does not use a background image: the parameter background is ignored"
            )
        return super().on_configure(state)

    def on_activate(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Start the worker and subscribe to the cameras."""
        self._frames = NewestFrames()
        try:
            for stream in self._streams:
                stream.listen(self._frames)
        except Exception as error:  # e.g. wrong QoS overrides: rclpy would not log it
            return self._refuse("activate", error)
        result = super().on_activate(state)
        self._pause = 0.0
        if self._failure:  # the model was lost before the node was deactivated
            self._due = time.monotonic()
        else:
            self._work()
        return result

    def on_deactivate(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Stop the subscriptions and the worker."""
        self._stop()
        return super().on_deactivate(state)

    def on_cleanup(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Release the model."""
        result = super().on_cleanup(state)
        self._clean_up()
        return result

    def on_shutdown(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Stop and release everything, from any state."""
        self._stop()
        result = super().on_shutdown(state)
        self._clean_up()
        return result

    def on_error(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Return to unconfigured after an exception in a transition."""
        self.get_logger().error(f"The transition from {state.label} failed: cleaning up")
        self._stop()
        result = super().on_error(state)
        self._clean_up()
        return result

    def destroy_node(self) -> None:
        """Stop the worker and release the model before the node is destroyed."""
        self._stop()
        self._loader.join()
        self._clean_up()
        super().destroy_node()

    @property
    def _active(self) -> bool:
        return any(stream.listening for stream in self._streams)

    def _refuse(self, transition: str, error: Exception) -> TransitionCallbackReturn:
        self.get_logger().error(
            f"Cannot {transition}: {one_line(error)}. After fixing this, run:"
            f" ros2 lifecycle set {self.get_fully_qualified_name()} {transition}"
        )
        self._stop()
        if transition == "configure":
            self._clean_up()
        return TransitionCallbackReturn.FAILURE

    def _work(self) -> None:
        """Start a worker for the frames of the cameras."""
        together = len(self._streams) if self._settings.now.batch else 1
        assert self._perception is not None
        self._worker = Worker(self._frames, self._perception, together, self._loader.release)
        self._failure, self._due = "", math.inf

    def _halt(self, why: str) -> None:
        """Stop the worker; if it is stuck, abandon the model for the reason `why`."""
        worker, self._worker = self._worker, None
        if worker is not None and not worker.stop(self._settings.now.deadline):
            self._failure = why or "the network is stuck"
            self._loader.stuck(worker.thread)

    def _stop(self) -> None:
        self._frames.close()
        for stream in self._streams:
            stream.stop()
        self._halt("")
        self._due = math.inf
        for stream in self._streams:
            stream.abort_capture()

    def _clean_up(self) -> None:
        for stream in self._streams:
            stream.close()
        self._streams = []
        perception, self._perception = self._perception, None
        if perception is not None and not self._failure:
            self._loader.release(perception)
        self._loader.forget()
        self._failure = ""

    # --- A model that fails ---------------------------------------------------------------------

    def _abandon(self, worker: Worker, why: str) -> None:
        """Stop using a model that is stuck or fails, until it is reloaded."""
        perception: Any = self._perception
        self._halt(why)
        if not self._failure:
            self._loader.release(perception)
        self._loader.avoid(perception.backend.name, why)
        self._failure = why
        self._retry_later(f"{why[0].upper()}{why[1:]}; reloading the model", worker.succeeded)

    def _retry_later(self, line: str, helped: bool) -> None:
        """Schedule a reload after a pause, which grows while reloading does not help."""
        low, high = PAUSES
        self._pause = low if helped else min(max(2 * self._pause, low), high)
        self._due = time.monotonic() + self._pause
        if (stuck := self._loader.stuck()) >= MAX_STUCK:
            self.get_logger().error(f"{line} when one of {stuck} threads stuck in it returns")
        else:
            self.get_logger().error(f"{line} in {self._pause:g} s")

    async def _reload(self) -> None:
        """Reload the model; if that fails, schedule a retry."""
        if self._loader.busy or not self._active:  # in the meantime
            return
        self._due, before = math.inf, self._perception
        loaded, line = await self._load_beside({})
        if not self._active or self._perception is not before:  # e.g. deactivated in the meantime
            if loaded is not None:
                self._loader.release(loaded)
            return
        try:
            if loaded is None:
                raise BackendError(line)
            self._exchange(loaded, reloaded=True)
        except Exception as error:  # anything a backend raises, or wrong QoS of new outputs
            self._retry_later(f"Reloading the model failed: {one_line(error)}; retrying", False)
        else:
            self.get_logger().info(f"Reloaded the model. {line}")

    # --- The executor's thread ------------------------------------------------------------------

    def _on_watch(self) -> None:
        worker, now = self._worker, time.monotonic()
        if worker is not None and (why := worker.trouble(self._settings.now.deadline)):
            self._abandon(worker, why)
        elif now >= self._due and not self._loader.busy and self._loader.stuck() < MAX_STUCK:
            self.executor.create_task(self._reload)
        for stream in self._streams:
            stream.follow()
        state = [self._state_of(stream) for stream in self._streams]
        last, published = self._published
        # Timers are not exact.
        if now - last < 1 - WATCH / 2 and state == published:
            return
        self._published = now, state
        if self._settings.now.ground == "tf":
            self._transforms.listen(self)
        for stream in self._streams:
            stream.on_second()
            if now - self._clock_jumped > CLOCK_JUMP_SHOWN:
                stream.trouble("clock", "")
        self._diagnostics.publish(
            DiagnosticArray(
                header=Header(stamp=self.get_clock().now().to_msg()), status=self._statuses()
            )
        )

    def _state_of(self, stream: CameraStream) -> tuple[bytes, str]:
        """Diagnostic level and text of a camera, without its losses and problems."""
        assert self._perception is not None
        level, text = stream.state(self._perception)
        if self._failure and stream.listening:
            if (stuck := self._loader.stuck()) >= MAX_STUCK:
                return (
                    DiagnosticStatus.ERROR,
                    f"restart the node, {stuck} threads are stuck: {self._failure}",
                )
            return DiagnosticStatus.ERROR, f"reloading the model: {self._failure}"
        if level == DiagnosticStatus.OK and self._worker is not None and self._worker.slow():
            return DiagnosticStatus.WARN, "the network is slow or stuck"
        return level, text

    def _on_clock_jump(self, jump: Any) -> None:
        if jump.delta.nanoseconds == self.get_clock().now().nanoseconds:
            return  # from 0: the first sim time
        seconds = jump.delta.nanoseconds / 1e9
        text = f"the clock jumped by {seconds:+.1f} s"
        self.get_logger().warning(text[0].upper() + text[1:])
        self._clock_jumped = time.monotonic()
        for stream in self._streams:
            stream.trouble("clock", text)

    def _statuses(self) -> list[DiagnosticStatus]:
        if self._perception is None:
            name = self.get_fully_qualified_name()
            return [
                DiagnosticStatus(
                    level=DiagnosticStatus.STALE,
                    name=f"{name.lstrip('/')}: frames",
                    message="unconfigured",
                    hardware_id=name,
                )
            ]
        return [
            stream.status(self._perception, *self._state_of(stream)) for stream in self._streams
        ]

    async def _on_capture_background(
        self, request: Trigger.Request, response: Trigger.Response
    ) -> Trigger.Response:
        perception = self._perception
        if perception is not None and not perception.card.needs_background:
            response.message = f"the model {perception.card.name} does not use a background image"
        elif self._worker is None:
            response.message = (
                "the node is not active:"
                f" ros2 lifecycle set {self.get_fully_qualified_name()} activate"
            )
        else:
            frames = self._settings.now.background_frames
            captures = [stream.capture(frames) for stream in self._streams]
            self.get_logger().info(f"Capturing a background image from the next {frames} frames")
            outcomes = [await capture.outcome for capture in captures]
            # A camera without images does not affect the others.
            response.success = all(success for success, _ in outcomes)
            response.message = "; ".join(message for _, message in outcomes)
        if response.success:
            self.get_logger().info(f"Background captured: {response.message}")
        else:
            self.get_logger().warning(f"Background not captured: {response.message}")
        return response

    async def _on_load_model(
        self, request: LoadModel.Request, response: LoadModel.Response
    ) -> LoadModel.Response:
        wanted: dict[str, Any] = {
            "model": request.model,
            "backend": request.backend or self._settings.now.backend,
            "engine": "",
        }
        before = self._perception
        loaded: Perception | None = None
        if before is None:
            response.message = "no model is loaded: set the parameter model and configure the node"
        elif self._loader.busy:
            response.message = "the model is being reloaded at the moment: retry later"
        elif (stuck := self._loader.stuck()) >= MAX_STUCK:
            response.message = (
                f"{stuck} threads are stuck in runtimes, with a model each: restart the node"
            )
        else:
            loaded, response.message = await self._load_beside(wanted)
        if loaded is not None and self._perception is not before:
            self._loader.release(loaded)
            loaded, response.message = None, "the node was cleaned up in the meantime"
        if loaded is None:
            self.get_logger().warning(f"Model not loaded: {response.message}")
            return response
        try:
            self._exchange(loaded)
        except Exception as error:  # e.g. wrong QoS overrides of new outputs
            response.message = one_line(error)
            self.get_logger().warning(f"Model not loaded: {response.message}")
            return response
        self._settings.adopt(**wanted)
        self._loader.log_loaded(loaded, response.message, self._settings.now)
        response.success = True
        return response

    async def _load_beside(self, wanted: dict[str, Any]) -> tuple[Perception | None, str]:
        """Load a model with the node's settings, except `wanted`, while this thread goes on.

        Returns:
            The model and a line about it, or None and the reason.
        """
        outcome: Any = Future()
        try:
            settings = replace(self._settings.now, **wanted)
        except ValueError as error:
            return None, one_line(error)

        def then(loaded: Perception | None, line: str) -> None:
            with suppress(Exception):  # the node is being destroyed
                self.executor.create_task(outcome.set_result, (loaded, line))

        self._loader.load_beside(settings, then)
        return await outcome  # type: ignore[no-any-return]  # rclpy is not typed

    def _exchange(self, new: Perception, reloaded: bool = False) -> None:
        """Switch the streams to another model; on failure, release it and raise the error.

        Args:
            new: The model.
            reloaded: Whether it is the previous model again, so that backgrounds stay valid.
        """
        old: Any = self._perception
        active, settings = self._active, self._settings.now
        try:
            settings.check(new.card)
            picture = None if reloaded else background(settings, new.card)
        except Exception:
            self._loader.release(new)
            raise
        self._halt("")
        announced: list[CameraStream] = []
        try:
            for stream in self._streams:
                stream.announce(new.card, picture, active)
                announced.append(stream)
        except Exception:
            for stream in announced:
                stream.announce(old.card, active=active)
            self._loader.release(new)
            if active and self._failure:
                self._due = time.monotonic() + self._pause
            elif active:
                self._work()
            raise
        lost, self._failure = bool(self._failure), ""
        self._perception = new
        if active:
            self._work()
        if not lost:
            self._loader.release(old)


def _start() -> DepthsegNode:
    node = DepthsegNode()
    node.start()
    return node


def main() -> int:
    """Run the node until it is stopped; returns the exit code."""
    return run(_start, "depthseg")
