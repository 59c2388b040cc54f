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

"""The node at full rate for an hour: what grows?

Real processes over DDS: the package's camera with a rendered street, faster than the node, the node
with its default model, and this one, which subscribes to every output. Once a second both
processes' memory, file descriptors and threads are read from /proc, and the node's diagnostics.

Writes soak.csv, a row a second (after Ctrl-C and after an error, too, as far as it came), and
soak.png. Growth is that of the median of the last tenth over that of a tenth after the warm-up,
which is a tenth of the run and at least 20 s, but never more than half. Exit code 1: memory,
descriptors or threads of the node grew by more than 1 %, or frames failed. Memory is not judged in
runs of less than 5 minutes, most of which are the allocator's own warm-up, and latency never is,
since machines have other work.
"""

from __future__ import annotations

import argparse
import contextlib
import csv
import json
import math
import os
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
from latency import (
    NAMESPACE,
    PATIENCE,
    BenchmarkError,
    Subscriber,
    memory,
    node_command,
    processes,
    size,
)
from matplotlib import pyplot as plt
from rclpy.signals import SignalHandlerOptions
from rich.console import Console
from rich.table import Table

from depthseg_ros import model_card
from depthseg_ros.files import whole
from depthseg_ros.node.outputs import OUTPUTS
from depthseg_ros.node.process import share_memory

BOUND = 1.0
"""Growth in %, of what is judged."""
JUDGED = {"node RSS [MB]": 300.0, "node descriptors": 0.0, "node threads": 0.0}
"""What must not grow -> seconds that a run must have for that to be judged."""
REPORTED = (
    "node PSS [MB]",
    "node private [MB]",
    "camera RSS [MB]",
    "camera descriptors",
    "camera threads",
    "age [ms]",
    "age p95 [ms]",
    "latency [ms]",
    "input [Hz]",
    "output [Hz]",
)
"""What is reported beside it."""
COUNTS = ("processed", "dropped", "rejected", "failed")
TIMES = ("latency", "age", "age p95")
"""Of the node's diagnostics, ms."""
RATES = ("input [Hz]", "output [Hz]")

Row = dict[str, float]


def look(name: str, process: subprocess.Popen[bytes]) -> Row:
    """What a process holds now, by /proc; memory in 1e6 bytes, private is what no file backs."""
    folder = f"/proc/{process.pid}"
    return {
        f"{name} RSS [MB]": memory([process], "status", "VmRSS"),
        f"{name} private [MB]": memory([process], "status", "RssAnon"),
        f"{name} PSS [MB]": memory([process], "smaps_rollup", "Pss"),
        f"{name} descriptors": len(os.listdir(f"{folder}/fd")),
        f"{name} threads": len(os.listdir(f"{folder}/task")),
    }


def soak(options: argparse.Namespace, rows: list[Row], file: Any) -> list[tuple[float, float]]:
    """Run for `--seconds`; every second adds a row, also to a CSV file.

    Returns:
        Of each frame whose outputs all came: seconds since the first, and its age then [s].
    """
    program = Path(get_package_prefix("depthseg_ros"), "lib", "depthseg_ros", "camera_node")
    width, height = options.size
    parameters = {"rate": float(options.rate), "width": width, "height": height}
    given = [text for n, v in parameters.items() for text in ("-p", f"{n}:={v}")]
    arguments = ["--ros-args", "--log-level", "warn", "-r", f"__ns:={NAMESPACE}"]
    node = f"{NAMESPACE}/depthseg"
    defaults = argparse.Namespace(backend="auto", threads=0, parameter=[])
    commands = {
        "node": node_command(defaults, model_card.default_model(), 1),
        "camera": [str(program), *arguments, *given],
    }
    subscriber = Subscriber([node], {name: output.kind for name, output in OUTPUTS.items()})
    try:
        with processes(*commands.values()) as running:
            named = dict(zip(commands, running, strict=True))
            heard, came = time.monotonic(), 0

            def spin(seconds: float) -> None:
                nonlocal heard, came
                subscriber.spin(seconds)
                for name, process in named.items():
                    if process.poll() is not None:
                        raise BenchmarkError(f"the {name} ended early; see its message above")
                if len(subscriber.complete) > came:
                    heard, came = time.monotonic(), len(subscriber.complete)
                elif time.monotonic() - heard > PATIENCE:
                    raise BenchmarkError(f"no outputs came for {PATIENCE:.0f} s")

            while not subscriber.complete:
                spin(0.1)
            started, now = time.monotonic(), 0.0
            while now < options.seconds:
                spin(1 - now % 1)
                now = time.monotonic() - started
                diagnostics: defaultdict[str, float] = defaultdict(lambda: math.nan)
                if subscriber.values[node]:
                    diagnostics |= subscriber.values[node][-1][1]
                row: Row = {"time [s]": round(now, 2)}
                for name, process in named.items():
                    row |= look(name, process)
                row |= {f"{name} [ms]": diagnostics[name] for name in TIMES}
                row |= {name: diagnostics[name] for name in RATES}
                row |= {f"frames {name}": diagnostics[f"frames {name}"] for name in COUNTS}
                rows.append(row)
                writer = csv.DictWriter(file, row)
                if len(rows) == 1:
                    writer.writeheader()
                writer.writerow(row)
                file.flush()
    finally:
        subscriber.close()
    return [(when - started, age) for when, age in subscriber.complete]


def judge(rows: Sequence[Row], seconds: float) -> dict[str, Any]:
    """Start, end and growth of everything, and what is wrong with it."""
    tenth = seconds / 10
    warm = min(max(tenth, 20.0), seconds / 2)
    first = [row for row in rows if warm <= row["time [s]"] <= warm + max(tenth, 2)]
    last = [row for row in rows if row["time [s]"] >= seconds - max(tenth, 2)]
    if not first or not last:
        raise BenchmarkError("too few seconds were measured")
    values: dict[str, dict[str, float]] = {}
    for name in (*JUDGED, *REPORTED):
        start, end = (float(np.nanmedian([row[name] for row in part])) for part in (first, last))
        values[name] = {"start": start, "end": end, "growth_percent": 100 * (end / start - 1)}
    grown = [name for name, value in values.items() if value["growth_percent"] > BOUND]
    frames = {name: int(rows[-1][f"frames {name}"]) for name in COUNTS}
    faults = [f"{n} grew" for n in grown if n in JUDGED and seconds >= JUDGED[n]]
    faults += [f"{frames[name]} frames {name}" for name in ("rejected", "failed") if frames[name]]
    return {
        "seconds": seconds,
        "warm_up_s": warm,
        "values": values,
        "above_bound": grown,
        "settled_s": settled(rows),
        "frames": frames,
        "faults": faults,
    }


def settled(rows: Sequence[Row]) -> float:
    """Seconds until the node's memory stays within 1 % of its median over the run's last half."""
    memory_mb = np.array([row["node RSS [MB]"] for row in rows])
    median = statistics.median(memory_mb[len(rows) // 2 :])
    outside = np.flatnonzero(np.abs(memory_mb / median - 1) > BOUND / 100)
    return rows[outside[-1]]["time [s]"] if len(outside) else 0.0


def draw(
    path: Path, rows: Sequence[Row], frames: Sequence[tuple[float, float]], warm: float
) -> None:
    """Four panels over time."""
    minutes = [row["time [s]"] / 60 for row in rows]
    figure, axes = plt.subplots(4, 1, figsize=(9, 9), sharex=True, layout="constrained")

    def series(name: str) -> np.ndarray:
        return np.array([row[name] for row in rows])

    after = series("time [s]") >= warm
    base = {}
    for name, style in (("node RSS", "C0"), ("node private", "C2")):
        values = series(f"{name} [MB]")
        base[name] = float(np.median(values[after][: max(2, len(rows) // 10)]))
        label = f"{name}, {base[name]:.0f} MB"
        axes[0].plot(minutes, values - base[name], style, label=label)
    bound = base["node RSS"] * BOUND / 100
    axes[0].axhline(bound, color="k", ls="--", lw=0.8, label=f"{BOUND:g} % of the RSS")
    steady = series("node RSS [MB]")[after] - base["node RSS"]
    axes[0].set(
        title="Memory; the node's against that after the warm-up",
        ylabel="node, change [MB]",
        ylim=(min(-bound, *steady) - bound, max(bound, *steady) + 2 * bound),  # without the warm-up
    )
    camera = axes[0].twinx()
    camera.plot(minutes, series("camera RSS [MB]"), "C1", lw=1)
    camera.set(ylim=(0, 1.6 * camera.dataLim.ymax))
    camera.set_ylabel("camera RSS [MB]", color="C1")
    span = min(60.0, rows[-1]["time [s]"] / 10)
    bins: dict[int, list[float]] = {}
    for when, age in frames:
        bins.setdefault(int(when / span), []).append(1e3 * age)
    centers = [(number + 0.5) * span / 60 for number in bins]
    for percent in (50, 95):
        ages = [np.percentile(of_bin, percent) for of_bin in bins.values()]
        axes[1].plot(centers, ages, "o-", ms=3, label=f"p{percent} of every {span:.0f} s")
    axes[1].set(title="Camera's stamp to the last output", ylabel="latency [ms]")
    axes[1].set(ylim=(0, 1.3 * axes[1].dataLim.ymax))
    for ax, name in ((axes[2], "descriptors"), (axes[3], "threads")):
        for process, style in (("node", "C0"), ("camera", "C1")):
            ax.plot(minutes, series(f"{process} {name}"), style, label=process)
        ax.set(title={"descriptors": "Open file descriptors", "threads": "Threads"}[name])
        ax.set(ylabel="number", ylim=(0, 1.3 * ax.dataLim.ymax))
    axes[3].set(xlabel="time since the first frame [min]", xlim=(0, minutes[-1]))
    for ax in axes:
        ax.axvspan(0, warm / 60, color="0.9", zorder=0)
        ax.legend(fontsize=8, loc="upper right", ncols=3)
    with whole(path) as unfinished:
        figure.savefig(unfinished, format="png", dpi=100)


@contextlib.contextmanager
def kept(path: Path) -> Iterator[Path]:
    """A name to write to, that becomes `path` in the end, whatever that is."""
    unfinished = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        yield unfinished
    finally:
        unfinished.replace(path)


def shown(result: dict[str, Any]) -> list[tuple[str, str, str, str]]:
    """The result, a row of text for each value."""
    lines = []
    for name, value in result["values"].items():
        growth = f"{value['growth_percent']:+.2f}"
        digits = 0 if name.endswith(("descriptors", "threads")) else 1
        ends = (f"{value[part]:.{digits}f}" for part in ("start", "end"))
        lines.append((name, *ends, growth))
    return lines  # type: ignore[return-value]


HEADINGS = ("", "start", "end", "growth [%]")


def summary(result: dict[str, Any]) -> str:
    """Summary lines below the table."""
    frames = ", ".join(f"{count} {name}" for name, count in result["frames"].items())
    return (
        f"{result['seconds']:.0f} s, of which {result['warm_up_s']:.0f} s are the warm-up; frames:"
        f" {frames}. Memory stayed within 1 % from second {result['settled_s']:.0f} on."
        f" Above 1 %: {', '.join(result['above_bound']) or 'nothing'}."
    )


def main() -> int:
    """Measure, draw and print; returns the exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.soak",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--seconds", type=float, default=3600.0, help="default: 3600")
    parser.add_argument("--size", type=size, default=(640, 480), metavar="WxH")
    parser.add_argument("--rate", type=float, default=30.0, help="of the camera, Hz (default: 30)")
    parser.add_argument("--output", type=Path, default=Path("soak"), metavar="FOLDER")
    form = parser.add_mutually_exclusive_group()
    form.add_argument("--json", action="store_true", help="print JSON instead of a table")
    form.add_argument("--markdown", action="store_true", help="print Markdown, as in the docs")
    options = parser.parse_args()
    if not (options.seconds >= 10 and 0.1 <= options.rate <= 1000):
        parser.error("expected --seconds of 10 or more, --rate of 0.1 to 1000")
    try:
        options.output.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        parser.error(f"--output {options.output}: {error.strerror}, expected a folder")
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # the processes end with it, too
    share_memory()
    rclpy.init(signal_handler_options=SignalHandlerOptions.NO)
    rows: list[Row] = []
    try:
        with kept(options.output / "soak.csv") as path, path.open("w", newline="") as file:
            frames = soak(options, rows, file)
        result = judge(rows, options.seconds)
        draw(options.output / "soak.png", rows, frames, result["warm_up_s"])
    except (BenchmarkError, OSError) as error:
        print(f"soak: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    finally:
        rclpy.try_shutdown()
    if options.json:
        print(json.dumps(result, indent=2))
    elif options.markdown:
        print(f"| {' | '.join(HEADINGS)} |\n|---|---:|---:|---:|")
        print("\n".join(f"| {' | '.join(line)} |" for line in shown(result)))
        print("\n" + summary(result))
    else:
        table = Table(*HEADINGS)
        for line in shown(result):
            table.add_row(*line)
        Console(markup=False).print(table)  # whose units are in brackets
        print(summary(result))
    for fault in result["faults"]:
        print(f"soak: {fault}", file=sys.stderr)
    return 1 if result["faults"] else 0


if __name__ == "__main__":
    sys.exit(main())
