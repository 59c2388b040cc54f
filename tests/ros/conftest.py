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

"""Real node processes over real DDS: starting and stopping them, talking to them, watching them."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from itertools import count
from pathlib import Path
from typing import Any, TypeVar

import pytest

PATIENCE = 40.0
"""Seconds until a test gives up waiting; only failures take that long."""

T = TypeVar("T")

# What `ros2 launch` does, without needing ros2cli.
LAUNCH = """
import sys
from launch import LaunchDescription, LaunchService
from launch.actions import IncludeLaunchDescription
from launch.launch_description_sources import PythonLaunchDescriptionSource

file = PythonLaunchDescriptionSource(sys.argv[1])
arguments = [tuple(argument.split(":=")) for argument in sys.argv[2:]]
service = LaunchService()
service.include_launch_description(
    LaunchDescription([IncludeLaunchDescription(file, launch_arguments=arguments)])
)
sys.exit(service.run())
"""


class NodeProcess:
    """A process of the built package with its output."""

    def __init__(self, command: list[str], log_path: Path) -> None:
        self.log_path = log_path
        # A session of its own, so that a signal for a launch file can go to all of its processes.
        with log_path.open("wb") as log:
            self.process = subprocess.Popen(
                command, stdout=log, stderr=subprocess.STDOUT, start_new_session=True
            )

    @property
    def log(self) -> str:
        """Its output, but for what Fast DDS says of shared memory that killed processes left."""
        lines = self.log_path.read_text(errors="replace").splitlines(keepends=True)
        return "".join(line for line in lines if "RTPS_TRANSPORT_SHM" not in line)

    def lines(self, pattern: str) -> list[str]:
        """The lines of the output that contain a pattern."""
        return [line for line in self.log.splitlines() if re.search(pattern, line)]

    def until(self, condition: Callable[[], T], what: str) -> T:
        """Wait for something that the process does, for as long as it runs."""
        end = time.monotonic() + PATIENCE
        while not (result := condition()):
            assert self.process.poll() is None, f"ended before: {what}\n{self.log}"
            assert time.monotonic() < end, f"did not come: {what}\n{self.log}"
            time.sleep(0.005)
        return result

    def says(self, pattern: str) -> list[str]:
        """Wait for a line of the output."""
        return self.until(lambda: self.lines(pattern), f"a line with {pattern!r}")

    def wait(self) -> int:
        """Wait for the process to end by itself; returns its exit code."""
        return self.process.wait(PATIENCE)

    def stop(self, number: int = signal.SIGINT) -> int:
        """Send a signal and wait for the end; returns the exit code."""
        self.process.send_signal(number)
        return self.wait()

    def kill(self) -> None:
        with suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait(PATIENCE)


class Observer:
    """A node of the tests' own, to publish, subscribe and call services with."""

    def __init__(self) -> None:
        import rclpy
        from rclpy.executors import SingleThreadedExecutor

        self.context = rclpy.Context()
        rclpy.init(context=self.context)
        self.node = rclpy.create_node("observer", context=self.context)
        self._executor = SingleThreadedExecutor(context=self.context)
        self._executor.add_node(self.node)

    def close(self) -> None:
        self._executor.shutdown()
        self.node.destroy_node()
        self.context.try_shutdown()

    def collect(self, message_type: type, topic: str, qos: Any = 20) -> list[Any]:
        """Subscribe; returns the list that the messages will be appended to."""
        messages: list[Any] = []
        self.node.create_subscription(message_type, topic, messages.append, qos)
        return messages

    def until(
        self, condition: Callable[[], T], what: str | Callable[[], str], patience: float = PATIENCE
    ) -> T:
        """Wait, while messages come, for a condition; returns what it returned."""
        end = time.monotonic() + patience
        while not (result := condition()):
            late = time.monotonic() > end
            assert not late, f"did not come: {what() if callable(what) else what}"
            self._executor.spin_once(timeout_sec=0.05)
        return result

    def call(self, service_type: Any, name: str, request: Any, again: bool = False) -> Any:
        """Call a service and wait for its response.

        A response may be lost to a client that is new to the service; with `again`, for what may be
        asked twice, it is asked every few seconds.
        """
        client = self.node.create_client(service_type, name)
        self.until(client.service_is_ready, f"service {name}")
        futures = [client.call_async(request)]
        asked = time.monotonic()

        def answered() -> bool:
            nonlocal asked
            if again and time.monotonic() - asked > 5:
                futures.append(client.call_async(request))
                asked = time.monotonic()
            return any(future.done() for future in futures)

        self.until(answered, f"response of {name}")
        self.node.destroy_client(client)
        return next(future.result() for future in futures if future.done())


class Depthseg:
    """A `depthseg` node in a namespace of its own, with a camera's publishers for it.

    Of a node with several cameras this is what concerns `camera`.
    """

    def __init__(
        self, observer: Observer, process: NodeProcess, namespace: str, camera: str = ""
    ) -> None:
        from diagnostic_msgs.msg import DiagnosticArray
        from rclpy.qos import qos_profile_sensor_data
        from sensor_msgs.msg import CameraInfo, Image

        self.observer, self.process, self.namespace = observer, process, namespace
        self.name = f"{namespace}/depthseg"
        self._camera = f"/{camera}" if camera else ""
        # As most cameras: best effort, which a node that asks for reliable would not hear.
        self.image = observer.node.create_publisher(
            Image, f"{namespace}{self._camera}/image", qos_profile_sensor_data
        )
        self.camera_info = observer.node.create_publisher(
            CameraInfo, f"{namespace}{self._camera}/camera_info", qos_profile_sensor_data
        )
        self._all_diagnostics = observer.collect(DiagnosticArray, "/diagnostics", 50)

    # --- What it publishes ---

    def collect(self, output: str) -> list[Any]:
        """Subscribe to an output, such as label/image; returns the list of its messages."""
        from depthseg_ros.node.outputs import OUTPUTS

        topic = f"{self.name}{self._camera}/{output}"
        messages = self.observer.collect(OUTPUTS[output].kind, topic)
        self.observer.until(lambda: self.observer.node.count_publishers(topic), topic)
        return messages

    def send(self, frame: Any, info: Any = None) -> None:
        """Publish a picture, after its camera_info, once the node listens."""
        for publisher, message in ((self.camera_info, info), (self.image, frame)):
            if message is not None:
                self.observer.until(publisher.get_subscription_count, publisher.topic_name)
                publisher.publish(message)

    def perceive(self, frame: Any, info: Any, *outputs: list[Any]) -> list[Any]:
        """Send a picture, again and again as the network may lose it, until its outputs come."""
        due = 0.0

        def all_came() -> list[Any] | None:
            nonlocal due
            if time.monotonic() > due:
                self.send(frame, info)
                due = time.monotonic() + 2.0
            stamp = frame.header.stamp
            of_frame = [[m for m in o if m.header.stamp == stamp] for o in outputs]
            return [m[0] for m in of_frame] if all(of_frame) else None

        return self.observer.until(
            all_came, lambda: f"outputs for {frame.encoding}\n{self.process.log}"
        )

    # --- What it says of itself ---

    def diagnostics(self) -> dict[str, str]:
        """The newest values, with the status' text as `message`."""
        for array in reversed(self._all_diagnostics):
            for status in array.status:
                if status.hardware_id == self.name + self._camera:
                    return {"message": status.message} | {v.key: v.value for v in status.values}
        return {}

    def frames(self, what: str) -> int:
        return int(self.diagnostics().get(f"frames {what}", 0))

    def until_diagnostics(self, condition: Callable[[], T], what: str) -> T:
        return self.observer.until(
            condition, lambda: f"{what}: {self.diagnostics()}\n{self.process.log}"
        )

    # --- Lifecycle and parameters ---

    def state(self) -> str:
        from lifecycle_msgs.srv import GetState

        response = self.observer.call(
            GetState, f"{self.name}/get_state", GetState.Request(), again=True
        )
        return response.current_state.label

    def change(self, transition: str) -> bool:
        """Ask for a transition such as `configure`; returns whether it succeeded."""
        from lifecycle_msgs.srv import ChangeState

        request = ChangeState.Request()
        request.transition.label = transition
        return self.observer.call(ChangeState, f"{self.name}/change_state", request).success

    def set(self, name: str, value: Any) -> Any:
        """Set a parameter; returns the result with `successful` and `reason`."""
        from rcl_interfaces.srv import SetParameters
        from rclpy.parameter import Parameter

        request = SetParameters.Request(
            parameters=[Parameter(name, value=value).to_parameter_msg()]
        )
        service = f"{self.name}/set_parameters"
        response = self.observer.call(SetParameters, service, request, again=True)
        return response.results[0]

    def get(self, name: str) -> Any:
        from rcl_interfaces.srv import GetParameters
        from rclpy.parameter import parameter_value_to_python

        request = GetParameters.Request(names=[name])
        service = f"{self.name}/get_parameters"
        response = self.observer.call(GetParameters, service, request, again=True)
        return parameter_value_to_python(response.values[0])


@pytest.fixture(scope="module")
def observer() -> Iterator[Observer]:
    observer = Observer()
    yield observer
    observer.close()


@pytest.fixture(scope="module")
def start_process(
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Callable[[list[str]], NodeProcess]]:
    """Starts a command; at the end none may have left a traceback."""
    logs = tmp_path_factory.mktemp("logs")
    processes: list[NodeProcess] = []

    def start_process(command: list[str]) -> NodeProcess:
        processes.append(NodeProcess(command, logs / f"{len(processes)}.txt"))
        return processes[-1]

    yield start_process
    left = [process for process in processes if process.process.poll() is None]
    for process in left:  # in order, which leaves no shared memory behind
        process.process.send_signal(signal.SIGINT)
    for process in left:
        with suppress(subprocess.TimeoutExpired):
            process.process.wait(10)
    for process in processes:
        process.kill()
    for process in processes:
        assert "Traceback" not in process.log, process.log


@pytest.fixture(scope="module")
def start(start_process: Callable[[list[str]], NodeProcess]) -> Callable[..., NodeProcess]:
    """Starts an executable of the package, or a command, in a namespace, with parameters."""
    from ament_index_python.packages import get_package_prefix

    folder = Path(get_package_prefix("depthseg_ros"), "lib", "depthseg_ros")

    def start(executable: str | list[str], namespace: str, **parameters: Any) -> NodeProcess:
        program = [str(folder / executable)] if isinstance(executable, str) else executable
        command = [*program, "--ros-args", "-r", f"__ns:={namespace}"]
        for name, value in parameters.items():
            command += ["-p", f"{name}:={value}"]
        return start_process(command)

    return start


@pytest.fixture(scope="module")
def start_depthseg(
    observer: Observer, start: Callable[..., NodeProcess]
) -> Callable[..., Depthseg]:
    """Starts a `depthseg` node in a new namespace."""
    numbers = count()

    def start_depthseg(
        image_qos: dict[str, Any] | None = None,
        executable: str | list[str] = "depthseg",
        **parameters: Any,
    ) -> Depthseg:
        namespace = f"/camera{next(numbers)}"
        for policy, value in (image_qos or {}).items():
            parameters[f"qos_overrides.{namespace}/image.subscription.{policy}"] = value
        return Depthseg(observer, start(executable, namespace, **parameters), namespace)

    return start_depthseg


@pytest.fixture(scope="module")
def launch(start_process: Callable[[list[str]], NodeProcess]) -> Callable[..., NodeProcess]:
    """Launches a launch file with arguments, with packages of `prefix` before all others."""
    from ament_index_python.packages import get_package_share_directory

    folder = Path(get_package_share_directory("depthseg_ros"), "launch")

    def launch(file: str = "camera", prefix: Path | None = None, **arguments: Any) -> NodeProcess:
        environment = []
        if prefix is not None:
            packages = f"AMENT_PREFIX_PATH={prefix}:{os.environ['AMENT_PREFIX_PATH']}"
            environment = ["env", packages, f"PATH={prefix}/bin:{os.environ['PATH']}"]
        command = [*environment, sys.executable, "-c", LAUNCH, str(folder / f"{file}.launch.py")]
        return start_process(command + [f"{name}:={value}" for name, value in arguments.items()])

    return launch
