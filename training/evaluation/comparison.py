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

"""Train variants with the same budget and evaluate them, see `cli.compare`."""

from __future__ import annotations

import copy
import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import redirect_stdout
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import lightning as L
import torch
import yaml
from torch.utils.flop_counter import FlopCounterMode

from ..data.sources import GENERATED, open_source
from ..engine.checkpoints import load_checkpoint
from ..engine.fit import CommandLine
from ..errors import TrainingError
from ..export.model_file import export
from ..options import read_yaml
from .accuracy import Results, evaluate

ROUNDS = 15
"""Number of runs of each model file; the median time is reported."""
PROBED = 8
"""Number of steps from which the time of a run is estimated."""


def read(path: Path) -> dict[str, Any]:
    """Read a comparison's YAML, with the content of the file that `config` names.

    Raises:
        TrainingError: A file is missing, or its content is wrong.
    """
    comparison = read_yaml(path, "a comparison")
    unknown = set(comparison) - {"config", "overrides", "runs", "sum"}
    missing = {"config", "runs"} - {key for key, value in comparison.items() if value}
    if unknown or missing:
        raise TrainingError(
            f"{path} is not a comparison: it lacks {sorted(missing)}, unknown are {sorted(unknown)}"
        )
    runs, overrides = comparison["runs"], comparison.get("overrides") or {}
    summed = comparison.get("sum") or []
    changes = list(runs.values()) if isinstance(runs, dict) else [runs]
    if not isinstance(summed, list) or not all(
        isinstance(change or {}, dict) for change in (overrides, *changes)
    ):
        raise TrainingError(
            f"{path}: 'overrides', 'runs' and each run must be mappings, 'sum' a list of runs"
        )
    unknown_runs = [name for name in summed if name not in runs]
    if unknown_runs:
        raise TrainingError(f"{path}: 'sum' names {unknown_runs}, which are not in 'runs'")
    config = read_yaml(path.parent / str(comparison["config"]), "a configuration")
    absent = [
        part for part in ("model", "data", "trainer") if not isinstance(config.get(part), dict)
    ]
    if absent:
        raise TrainingError(f"{path}: {comparison['config']} has no {', '.join(absent)}")
    return {
        "config": config,
        "overrides": overrides,
        "runs": {name: changes or {} for name, changes in runs.items()},
        "sum": summed,
    }


def override(config: Mapping[str, Any], overrides: Mapping[str, Any]) -> dict[str, Any]:
    """Return a copy of a configuration with new values at dotted keys."""
    result = copy.deepcopy(dict(config))
    for key, value in overrides.items():
        *parents, last = key.split(".")
        place = result
        for parent in parents:
            place = place.setdefault(parent, {})
            if not isinstance(place, dict):
                raise TrainingError(f"cannot set {key}: {parent} is not a mapping")
        place[last] = value
    return result


def train_all(runs: Mapping[Path, dict[str, Any]], jobs: int) -> None:
    """Train configurations, each in its folder, `jobs` at a time; they share the cores.

    Raises:
        TrainingError: A run fails; runs that have started are finished first.
    """
    waiting = {f: c for f, c in runs.items() if not (f / "done").is_file()}
    if len(waiting) > 1:
        hours = sum(seconds_of(config) for config in waiting.values()) / 3600
        print(f"compare: {len(waiting)} runs take about {hours:.1f} h", file=sys.stderr)
    if jobs == 1:
        for folder, config in runs.items():
            train(config, folder)
        return
    threads = str(max(1, (os.cpu_count() or 1) // jobs))

    def train_beside(folder: Path, arguments: Sequence[str]) -> None:
        command = [sys.executable, "-m", "training", *arguments]
        command += ["--trainer.enable_progress_bar", "false"]
        environment = os.environ | {"OMP_NUM_THREADS": threads}
        code = subprocess.run(
            command, env=environment, stdin=subprocess.DEVNULL, stdout=2
        ).returncode
        if code:
            raise TrainingError(f"the training in {folder} ended with code {code}")
        (folder / "done").touch()

    with ThreadPoolExecutor(jobs) as pool:
        started = [
            pool.submit(train_beside, folder, arguments)
            for folder, config in runs.items()
            if (arguments := prepare(config, folder))
        ]
        for each in started:
            each.result()


def train(config: dict[str, Any], folder: Path) -> Path:
    """Train a configuration in a folder and return the checkpoint, see `prepare`."""
    if arguments := prepare(config, folder):
        with redirect_stdout(sys.stderr):  # Lightning's summaries; stdout is for the table
            CommandLine(arguments)
        (folder / "done").touch()
    return folder / "last.ckpt"


def prepare(config: dict[str, Any], folder: Path) -> list[str]:
    """Write the configuration of a run to its folder; returns the arguments that train it.

    There are none for a finished run. An unfinished one is resumed. If the configuration in the
    folder differs, training starts again.
    """
    trainer = config["trainer"]
    trainer["default_root_dir"] = str(folder)
    trainer.pop("logger", None)  # default loggers and callbacks write to the folder
    writers = ("ModelCheckpoint", "PredictionImages", "PredictionPictures", "ProgressBar")
    callbacks = trainer.get("callbacks") or []
    trainer["callbacks"] = [c for c in callbacks if not c["class_path"].endswith(writers)]
    text = yaml.safe_dump(config, sort_keys=True)
    file, last, done = folder / "run.yaml", folder / "last.ckpt", folder / "done"
    if not file.is_file() or file.read_text() != text:
        if file.is_file():
            print(f"{folder}: the configuration has changed; training again", file=sys.stderr)
        last.unlink(missing_ok=True)
        done.unlink(missing_ok=True)
        folder.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
    if done.is_file():
        print(f"{folder}: already trained; remove it to train again", file=sys.stderr)
        return []
    return ["fit", "--config", str(file), *(["--ckpt_path", str(last)] if last.is_file() else [])]


class _Stopwatch(L.Callback):
    def __init__(self) -> None:
        self.times: list[float] = []

    def on_train_batch_end(self, *arguments: Any) -> None:
        self.times.append(time.perf_counter())


def seconds_of(config: dict[str, Any]) -> float:
    """Estimate the time of a run from its first steps, without validation."""
    stopwatch = _Stopwatch()
    with TemporaryDirectory() as folder, redirect_stdout(sys.stderr):
        file = Path(folder, "run.yaml")
        file.write_text(yaml.safe_dump(config))
        parts = CommandLine(["--config", str(file)], run=False)
        trainer = L.Trainer(
            max_steps=PROBED, limit_val_batches=0, callbacks=stopwatch, logger=False,
            enable_checkpointing=False, enable_progress_bar=False, enable_model_summary=False,
            default_root_dir=folder, reload_dataloaders_every_n_epochs=1,
        )  # fmt: skip
        trainer.fit(parts.model, datamodule=parts.datamodule)
    times = stopwatch.times[1:]  # the first step is slow
    step = (times[-1] - times[0]) / (len(times) - 1)
    return step * trainer.num_training_batches * config["trainer"]["max_epochs"]


def measure(folder: Path, count: int) -> dict[str, float]:
    """Compute the accuracy of a run, or read it from the run's folder.

    Args:
        folder: The folder that `train` filled.
        count: Images of generated data sets.
    """
    path, kept = folder / "last.ckpt", folder / f"measures_{count}.json"
    if kept.is_file() and kept.stat().st_mtime >= path.stat().st_mtime:
        return json.loads(kept.read_text())
    config = yaml.safe_load((folder / "run.yaml").read_text())["data"]
    sources = {}
    for data in config["val"]:
        generated = data in GENERATED
        source = open_source(
            data,
            "test" if generated else "val",
            (config.get("folders") or {}).get(data),
            count if generated else 0,
            (config.get("options") or {}).get(data),
        )
        sources[f"{data}-{source.split}"] = source
    measured = evaluate(path, sources)  # each with its data set's own protocol
    result = {f"{d}/{m}": v for d, e in measured.items() for m, v in e.compute().items()}
    kept.write_text(json.dumps(result))
    return result


def costs(folders: Mapping[str, Path]) -> Results:
    """Parameters, operations and time of each run, by name."""
    results: Results = {}
    files = {}
    for name, folder in folders.items():
        path = folder / "last.ckpt"
        task, _ = load_checkpoint(path)
        width, height = task.card.network_size
        images = [torch.zeros(1, 3, height, width) for _ in task.served.image_inputs]
        with FlopCounterMode(display=False) as counter, torch.inference_mode():
            task.system(*images)
        results[name] = {
            "parameters [M]": task.card.parameters / 1e6,
            "GFLOP": counter.get_total_flops() / 1e9,
        }
        files[name] = folder / "model.onnx"
        if not files[name].is_file() or files[name].stat().st_mtime <= path.stat().st_mtime:
            export(task.system, task.card, files[name])
    for name, seconds in timed(files).items():
        results[name]["ms"] = 1e3 * seconds
    return results


def timed(files: Mapping[str, Path]) -> dict[str, float]:
    """Median time of ONNX Runtime for an image of the network's size, seconds.

    The files run in turn, so that other load on the machine affects all of them.
    """
    import onnxruntime

    from depthseg_ros import model_card

    runs: dict[str, tuple[onnxruntime.InferenceSession, dict[str, Any], list[float]]] = {}
    options = onnxruntime.SessionOptions()
    # Threads that spin after a run would slow down the run of the next file.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    for name, file in files.items():
        session = onnxruntime.InferenceSession(
            str(file), options, providers=["CPUExecutionProvider"]
        )
        width, height = model_card.read(file).network_size
        feed = {
            i.name: torch.full((1,), float(width)).numpy()
            if i.name == "fx"
            else torch.zeros(1, height, width, 3, dtype=torch.uint8).numpy()
            for i in session.get_inputs()
        }
        session.run(None, feed)
        runs[name] = (session, feed, [])
    for _ in range(ROUNDS):
        for session, feed, seconds in runs.values():
            started = time.perf_counter()
            session.run(None, feed)
            seconds.append(time.perf_counter() - started)
    return {name: statistics.median(seconds) for name, (_, _, seconds) in runs.items()}


def added_up(results: list[dict[str, float]]) -> dict[str, float]:
    """Total parameters, operations and time of several networks."""
    return {key: sum(r[key] for r in results) for key in ("parameters [M]", "GFLOP", "ms")}
