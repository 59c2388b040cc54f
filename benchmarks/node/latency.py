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

"""From the camera's message to the topics, stage by stage.

Real processes over DDS: a camera, the node, and this one, which subscribes to the outputs. For each
of `--sizes`, these runs follow one another:

- a camera slower than the network: what the node adds to it (`overhead_ms`), by its own clock;
- the same with a node written the plain way (plain.py, `plain_overhead_ms`);
- a camera three times as fast as the network: how old results are when they are published
  (`age_ms`), and whether memory grows;
- with `--against COMMAND`: the slow camera with another node, which COMMAND starts, and the same
  subscribers: it has to take the images of /benchmark/image and camera_info of
  /benchmark/camera_info, and to publish `--outputs` as /benchmark/depthseg/OUTPUT, with the images'
  stamps. What counts of both is `end_to_end_ms`, `cpu_ms` of a frame and `peak_rss_mb`;
- with `--cameras N`, for the first size: N cameras, together twice as fast as the network, in one
  node, against a node each.

With `--separate A B` models A and B, say of one task each, run as the first run's does, for what
one pass saves (`one_pass`). Times are the node's own, medians over the seconds after a warm-up of
what its diagnostics say of each, medians and of `age_ms` the p95, too. Only `end_to_end_ms`, from
the camera's stamp to the last output's arrival in Python, is the subscriber's. Machines differ and
have other work: compare within one run.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import math
import os
import shlex
import signal
import statistics
import subprocess
import sys
import time
from collections import defaultdict
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import rclpy
from ament_index_python.packages import get_package_prefix
from camera import camera_names
from diagnostic_msgs.msg import DiagnosticArray
from rclpy.executors import SingleThreadedExecutor
from rclpy.qos import QoSProfile
from rclpy.signals import SignalHandlerOptions
from rich.console import Console
from rich.table import Table
from sensor_msgs.msg import CameraInfo, Image

from depthseg_ros import model_card
from depthseg_ros.backends import BACKENDS
from depthseg_ros.msg import ClassDistances
from depthseg_ros.node.diagnostics import STAGES
from depthseg_ros.node.process import share_memory

HERE = Path(__file__).parent
NAMESPACE = "/benchmark"
WARM_UP = 3.0
"""Seconds after the first output that do not count."""
PATIENCE = 60.0
"""Seconds to wait for the next sign of life."""


class BenchmarkError(RuntimeError):
    """A run did not come to its end."""


class Subscriber:
    """Listens to every output of some nodes, and to what they say of themselves."""

    def __init__(self, nodes: Sequence[str], outputs: dict[str, type]) -> None:
        self._count = len(outputs)
        self._node = rclpy.create_node("subscriber", namespace=NAMESPACE)
        self._executor = SingleThreadedExecutor()
        self._executor.add_node(self._node)
        self._missing: dict[tuple[str, int], int] = defaultdict(lambda: self._count)
        self.complete: list[tuple[float, float]] = []
        """When the last output of a picture came, `time.monotonic()`, and its age then [s]."""
        self.values: dict[str, list[tuple[float, dict[str, float]]]] = defaultdict(list)
        """Of each stream: when it told its values, and those."""
        for node in nodes:
            for name, kind in outputs.items():
                self._node.create_subscription(
                    kind,
                    f"{node}/{name}",
                    lambda message, node=node: self._on_output(node, message),
                    QoSProfile(depth=10),
                )
        self._node.create_subscription(
            DiagnosticArray, "/diagnostics", self._on_diagnostics, QoSProfile(depth=50)
        )

    def _on_output(self, node: str, message: Any) -> None:
        stamp = message.header.stamp
        stamp = stamp.sec * 10**9 + stamp.nanosec
        self._missing[node, stamp] -= 1
        if not self._missing[node, stamp]:
            del self._missing[node, stamp]
            now = self._node.get_clock().now().nanoseconds
            self.complete.append((time.monotonic(), (now - stamp) / 1e9))

    def _on_diagnostics(self, array: DiagnosticArray) -> None:
        for status in array.status:
            values = {}
            for value in status.values:
                with contextlib.suppress(ValueError):
                    values[value.key.removesuffix(" [ms]")] = float(value.value)
            self.values[status.hardware_id].append((time.monotonic(), values))

    def spin(self, seconds: float) -> None:
        """Listen for a while."""
        end = time.monotonic() + seconds
        while (left := end - time.monotonic()) > 0:
            self._executor.spin_once(left)

    def close(self) -> None:
        """Listen no more."""
        self._executor.shutdown()
        self._node.destroy_node()


@contextlib.contextmanager
def processes(*commands: Sequence[str]) -> Iterator[list[subprocess.Popen[bytes]]]:
    """Run commands meanwhile, and stop them at the end."""
    running = [
        subprocess.Popen([sys.executable, *c] if c[0].endswith(".py") else list(c))
        for c in commands
    ]
    try:
        yield running
    finally:
        for process in running:
            process.send_signal(signal.SIGINT)
        for process in running:
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                process.kill()


def memory(processes: Sequence[subprocess.Popen[bytes]], file: str, entry: str) -> float:
    """Memory of processes by an entry of a file in /proc/PID, 1e6 bytes."""
    total = 0
    for process in processes:
        try:
            text = Path(f"/proc/{process.pid}/{file}").read_text()
            total += int(text.split(f"{entry}:")[1].split()[0])
        except (OSError, IndexError):
            raise BenchmarkError("a node ended early; it has said why above") from None
    return total * 1024 / 1e6


def cpu_seconds(processes: Sequence[subprocess.Popen[bytes]]) -> float:
    """CPU time of processes up to now, seconds."""
    total = 0
    for process in processes:
        fields = Path(f"/proc/{process.pid}/stat").read_text().rpartition(")")[2].split()
        total += int(fields[11]) + int(fields[12])  # in user and kernel mode
    return total / os.sysconf("SC_CLK_TCK")


def node_command(
    options: argparse.Namespace, model: Path, cameras: int, namespace: str = NAMESPACE
) -> list[str]:
    """The command that starts our node."""
    program = Path(get_package_prefix("depthseg_ros"), "lib", "depthseg_ros", "depthseg")
    parameters: dict[str, object] = {
        "model": model,
        "backend": options.backend,
        "threads": options.threads,
    }
    names = camera_names(cameras)
    if cameras > 1:
        parameters["cameras"] = f"[{', '.join(names)}]"
    for name in names:  # as the camera: pictures of this size are lost otherwise
        topic = "/".join(filter(None, (namespace, name, "image")))
        parameters[f"qos_overrides.{topic}.subscription.reliability"] = "reliable"
    given = [text for n, v in parameters.items() for text in ("-p", f"{n}:={v}")]
    given += [text for parameter in options.parameter for text in ("-p", parameter)]
    return [str(program), "--ros-args", "--log-level", "warn", "-r", f"__ns:={namespace}", *given]


def run(
    options: argparse.Namespace,
    model: Path,
    nodes: Sequence[Sequence[str]],
    streams: Sequence[str],
    cameras: int,
    rate: float,
    size: tuple[int, int],
) -> dict[str, Any]:
    """Run nodes and cameras for a while.

    Args:
        options: The command line's.
        model: What the nodes run, for what its outputs are.
        nodes: Their commands.
        streams: The names that their outputs begin with.
        cameras: How many.
        rate: Of each, pictures a second.
        size: Width and height of the pictures.
    """
    card = model_card.read(model)
    outputs: dict[str, type] = {}
    if card.classes:
        outputs |= {"label/image": Image, "label/confidence": Image, "label/overlay": Image}
        outputs["class_distances"] = ClassDistances
    if card.depth:
        outputs |= {"depth/image": Image, "depth/camera_info": CameraInfo}
    if options.outputs:
        outputs = {name: kind for name, kind in outputs.items() if name in options.outputs}
    camera = [str(HERE / "camera.py"), NAMESPACE, str(cameras), str(rate)]
    subscriber = Subscriber(streams, outputs)
    try:
        with processes([*camera, *map(str, size)]) as (camera_process,):
            time.sleep(2)  # until it has its picture and publishes
            started = time.monotonic()
            with processes(*nodes) as running:
                while not subscriber.complete:
                    subscriber.spin(0.05)
                    if any(p.poll() is not None for p in (*running, camera_process)):
                        raise BenchmarkError("a process ended early; it has said why above")
                    if time.monotonic() - started > PATIENCE:
                        raise BenchmarkError(f"no outputs came for {PATIENCE:.0f} s")
                first = subscriber.complete[0][0]
                subscriber.spin(min(WARM_UP, options.seconds))
                begun, before = time.monotonic(), memory(running, "status", "VmRSS")
                cpu = cpu_seconds(running)
                subscriber.spin(options.seconds)
                cpu = cpu_seconds(running) - cpu
                after, peak = (memory(running, "status", entry) for entry in ("VmRSS", "VmHWM"))
                shared_out = memory(running, "smaps_rollup", "Pss")
    finally:
        subscriber.close()
    ages = [1e3 * age for when, age in subscriber.complete if when >= begun]
    if not ages:
        raise BenchmarkError("no outputs came after the warm-up")
    told = [
        values
        for stream in streams
        for when, values in subscriber.values[stream]
        if when >= begun + 1 and math.isfinite(values.get("latency", math.nan))
    ]

    def median(name: str) -> float:
        values = [v[name] for v in told if name in v]
        return statistics.median(values) if values else math.nan

    return {
        "start_s": first - started,
        "frames_per_second": len(ages) / options.seconds,
        "network_ms": median("infer"),
        "overhead_ms": median("overhead"),
        "cpu_ms": 1e3 * cpu / len(ages),
        "latency_ms": median("latency"),
        "stages_ms": {stage: median(stage) for stage in STAGES},
        "age_ms": {"p50": median("age"), "p95": median("age p95")},
        "end_to_end_ms": {"p50": float(np.median(ages)), "p95": float(np.percentile(ages, 95))},
        "peak_rss_mb": peak,
        "pss_mb": shared_out,
        "rss_growth_mb": after - before,
    }


def measure(options: argparse.Namespace, size: tuple[int, int]) -> dict[str, Any]:
    """All the runs of one size."""
    model = options.model.resolve()
    one = [f"{NAMESPACE}/depthseg"]

    def ours(which: Path, rate: float) -> dict[str, Any]:
        return run(options, which, [node_command(options, which, 1)], one, 1, rate, size)

    slow = ours(model, options.rate)
    if slow["latency_ms"] * options.rate > 800:
        raise BenchmarkError(
            f"a frame takes {slow['latency_ms']:.0f} ms, and the slow camera must be slower:"
            f" --rate {500 / slow['latency_ms']:.2g}"
        )

    def other(command: Sequence[str]) -> dict[str, Any]:
        return run(options, model, [command], one, 1, options.rate, size)

    plain_command = [str(HERE / "plain.py"), NAMESPACE, str(model), options.backend]
    plain = other([*plain_command, str(options.threads)])
    fast_rate = 3e3 / slow["network_ms"]
    fast = ours(model, fast_rate)
    results: dict[str, Any] = {
        "size": "{}x{}".format(*size),
        "network_ms": slow["network_ms"],
        "overhead_ms": slow["overhead_ms"],
        "overhead_share": slow["overhead_ms"] / slow["network_ms"],
        "plain_overhead_ms": plain["overhead_ms"],
        "plain_ratio": plain["overhead_ms"] / slow["overhead_ms"],
        "end_to_end_ms": slow["end_to_end_ms"],
        "plain_end_to_end_ms": plain["end_to_end_ms"],
        "cpu_ms": slow["cpu_ms"],
        "plain_cpu_ms": plain["cpu_ms"],
        "stages_ms": slow["stages_ms"],
        "start_s": slow["start_s"],
        "fast_camera_hz": fast_rate,
        "age_ms": fast["age_ms"],
        "age_in_network_times": fast["age_ms"]["p95"] / fast["network_ms"],
        "rss_growth_mb": fast["rss_growth_mb"],
        "peak_rss_mb": max(slow["peak_rss_mb"], fast["peak_rss_mb"]),
    }
    if options.against:
        peer = other(shlex.split(options.against))
        parts = ("end_to_end_ms", "cpu_ms", "peak_rss_mb")
        results["against"] = {part: peer[part] for part in parts} | {
            "ours, relative to it": {
                "p50": slow["end_to_end_ms"]["p50"] / peer["end_to_end_ms"]["p50"],
                "cpu": slow["cpu_ms"] / peer["cpu_ms"],
                "memory": slow["peak_rss_mb"] / peer["peak_rss_mb"],
            }
        }
    if options.separate:
        others = [ours(path.resolve(), options.rate) for path in options.separate]
        latency = sum(other["latency_ms"] for other in others)
        results["one_pass"] = {
            "latency_ms": slow["latency_ms"],
            "latency_of_others_ms": latency,
            "ratio": slow["latency_ms"] / latency,
        }
    if options.cameras > 1 and size == options.sizes[0]:
        rate = 2e3 / slow["network_ms"] / options.cameras
        results["cameras"] = several(options, model, rate, size)
    return results


def several(
    options: argparse.Namespace, model: Path, rate: float, size: tuple[int, int]
) -> dict[str, Any]:
    """Cameras in one node against a node each, every camera at the rate."""
    names = camera_names(options.cameras)
    namespaces = [f"{NAMESPACE}/{name}" for name in names]
    one = run(
        options,
        model,
        [node_command(options, model, options.cameras)],
        [f"{NAMESPACE}/depthseg/{name}" for name in names],
        options.cameras,
        rate,
        size,
    )
    many = run(
        options,
        model,
        [node_command(options, model, 1, namespace) for namespace in namespaces],
        [f"{namespace}/depthseg" for namespace in namespaces],
        options.cameras,
        rate,
        size,
    )
    # Pss: what processes share, such as libraries, is counted once.
    parts = ("frames_per_second", "age_ms", "pss_mb")
    return {
        "count": options.cameras,
        "one_node": {part: one[part] for part in parts},
        "nodes": {part: many[part] for part in parts},
        "throughput_ratio": one["frames_per_second"] / many["frames_per_second"],
        "memory_ratio": one["pss_mb"] / many["pss_mb"],
    }


def main() -> int:
    """Measure and print; returns the exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.node_latency",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--model", type=Path, default=model_card.default_model())
    parser.add_argument("--separate", type=Path, nargs="+", metavar="MODEL", default=[])
    parser.add_argument("--against", metavar="COMMAND", default="", help="starts another node")
    parser.add_argument("--outputs", nargs="+", metavar="OUTPUT", default=[], help="default: six")
    parser.add_argument("--sizes", type=size, nargs="+", default=[(640, 480)], metavar="WxH")
    parser.add_argument(
        "--parameter", action="append", default=[], metavar="NAME:=VALUE", help="of our node"
    )
    parser.add_argument("--backend", choices=BACKENDS, default="auto")
    parser.add_argument("--threads", type=int, default=0, help="0: the backend's choice")
    parser.add_argument("--cameras", type=int, default=1, help="more than 1: that run, too")
    parser.add_argument("--rate", type=float, default=5.0, help="of the slow camera, Hz")
    parser.add_argument("--seconds", type=float, default=10.0, help="of each run")
    parser.add_argument("--json", action="store_true", help="print JSON instead of a table")
    options = parser.parse_args()
    try:
        card, *_ = [model_card.read(model) for model in (options.model, *options.separate)]
    except model_card.ModelFileError as error:
        parser.error(str(error))
    if not (card.classes and card.needs_fx) or card.needs_background:
        parser.error("--model: expected one of classes and metric depth, from one picture")
    if not (0.1 <= options.rate <= 1000 and options.seconds >= 2 and 1 <= options.cameras <= 64):
        parser.error("expected --rate of 0.1 to 1000, --seconds of 2 or more, --cameras of 1 to 64")
    share_memory()  # all processes alike: what counts is the nodes
    rclpy.init(signal_handler_options=SignalHandlerOptions.NO)  # Python's: KeyboardInterrupt
    try:
        results = [measure(options, size) for size in options.sizes]
    except BenchmarkError as error:
        print(f"node_latency: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    finally:
        rclpy.try_shutdown()
    if options.json:
        print(json.dumps(results, indent=2))
    else:
        for result in results:
            Console().print(table(result))
    return 0


def table(results: dict[str, Any]) -> Table:
    """The results as a table."""
    shown = Table("node latency", "", show_header=False)
    for name, value in results.items():
        if isinstance(value, dict):
            shown.add_row(name, ", ".join(f"{k} {text(v)}" for k, v in value.items()))
        else:
            shown.add_row(name, text(value))
    return shown


def text(value: Any) -> str:
    """A figure or several, short."""
    if isinstance(value, str):
        return value
    if isinstance(value, dict):
        return "(" + ", ".join(f"{k} {text(v)}" for k, v in value.items()) + ")"
    return f"{value:.3g}" if abs(value) < 1 else f"{value:.1f}"


def size(argument: str) -> tuple[int, int]:
    """Width and height of `WxH`."""
    width, _, height = argument.partition("x")
    if not (width.isdecimal() and height.isdecimal() and int(width) > 1 and int(height) > 1):
        raise argparse.ArgumentTypeError(f"{argument} is no size such as 640x480")
    return int(width), int(height)


if __name__ == "__main__":
    sys.exit(main())
