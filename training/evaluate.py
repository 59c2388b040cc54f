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

"""`python -m training evaluate`: figures of checkpoints and model files on data with truth."""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import torch
from rich.console import Console
from rich.progress import track
from rich.table import Table
from torch import Tensor
from torch.utils.data import DataLoader

from depthseg_ros import model_card
from depthseg_ros.model_card import ModelCard
from depthseg_ros.shaping import Shaping

from .calibration import draw as draw_reliability
from .checkpoints import load_checkpoint
from .devices import chosen_device
from .errors import TrainingError, check_output
from .metrics import PROTOCOLS, Evaluation
from .sources import GENERATED, Source, open_source, parse, parse_yaml
from .transforms import Whole

Predict = Callable[..., tuple[Tensor, ...]]
Results = dict[str, dict[str, float]]


def main(arguments: list[str]) -> None:
    """Evaluate on each data set given and print one table, or JSON."""
    parser = argparse.ArgumentParser(prog="python -m training evaluate", description=__doc__)
    parser.add_argument(
        "--checkpoint",
        type=Path,
        nargs="+",
        required=True,
        metavar="FILE",
        help="a .ckpt of training or an exported .onnx; several are put side by side",
    )
    parser.add_argument(
        "--data",
        nargs="+",
        required=True,
        metavar="NAME[=FOLDER]",
        help="data sets; 'streets' and 'composites' are generated, of seeds kept for testing",
    )
    parser.add_argument("--split", default="val", help="of those in folders (default: val)")
    parser.add_argument("--count", type=int, default=100, help="to generate (default: 100)")
    parser.add_argument(
        "--protocol",
        default="metric",
        choices=["metric", *PROTOCOLS],
        help="for depth; default: metric, which is each data set's own",
    )
    parser.add_argument(
        "--options",
        default="{}",
        metavar="YAML",
        help="of the readers, e.g. '{nyuv2: {classes: 13}}'",
    )
    parser.add_argument(
        "--reliability", type=Path, metavar="PNG", help="draw how far confidence can be trusted"
    )
    shape = parser.add_mutually_exclusive_group()
    shape.add_argument("--json", action="store_true", help="print JSON instead of a table")
    shape.add_argument("--markdown", action="store_true", help="print a Markdown table")
    options = parser.parse_args(arguments)
    if options.count < 1:
        parser.error("--count: at least 1")

    if options.reliability is not None:
        check_output(options.reliability)
    folders, readers = parse(options.data), parse_yaml(options.options)
    if not isinstance(readers, dict) or not all(isinstance(o, dict) for o in readers.values()):
        raise TrainingError(f"--options is {options.options}, expected {{NAME: {{OPTION: VALUE}}}}")
    if set(readers) - set(folders):
        raise TrainingError(f"--data does not name {', '.join(set(readers) - set(folders))}")
    sources = {}
    for name, folder in folders.items():
        generated = name in GENERATED
        split = "test" if generated else options.split
        count = options.count if generated else 0
        source = open_source(name, split, folder, count, readers.get(name))
        sources[f"{name}-{source.split}"] = source
    evaluations = {}
    for checkpoint in options.checkpoint:
        measured = evaluate(checkpoint, sources, options.protocol)
        several = len(options.checkpoint) > 1
        evaluations |= {f"{checkpoint}: {n}" if several else n: e for n, e in measured.items()}
    results = {name: evaluation.compute() for name, evaluation in evaluations.items()}
    if options.json:
        print(json.dumps(results, indent=2))
    elif options.markdown:
        print(markdown(results))
    else:
        Console().print(table(results, protocols(evaluations)))
    if options.reliability is not None:  # last: what was measured is told whatever comes of it
        known = {n: e.calibration.table() for n, e in evaluations.items() if "ece" in results[n]}
        if not known:
            raise TrainingError("--reliability: no labels were measured, so no confidence to draw")
        draw_reliability(
            options.reliability, {n: table.cpu().numpy() for n, table in known.items()}
        )


def evaluate(
    checkpoint: Path, sources: Mapping[str, Source], protocol: str = "metric"
) -> dict[str, Evaluation]:
    """Measure a checkpoint or model file on data sets."""
    card, inputs, predict = load(checkpoint)
    evaluations = {}
    for name, source in sources.items():
        source = source.mapped(card.classes)
        source.render()
        evaluations[name] = evaluation = Evaluation(
            card, source.name, protocol, source.groups, source.protocol
        )
        loader = DataLoader(Whole(source.samples, card, inputs, source.sets), num_workers=1)
        console = Console(stderr=True)
        with torch.inference_mode():
            for batch in track(loader, name, console=console, disable=not console.is_terminal):
                outputs = predict(*(batch[i] for i in inputs))
                device = outputs[0].device
                truth = {key: value.to(device) for key, value in batch.items()}
                evaluation.to(device).update(outputs, truth)
    return evaluations


def load(path: Path) -> tuple[ModelCard, tuple[str, ...], Predict]:
    """Load a checkpoint or a model file: its card, its inputs, a function that runs its graph.

    The function takes tensors on the CPU. Those that it gives are where they were computed: a
    checkpoint's on the GPU if torch has one, a model file's on the CPU.
    """
    if path.suffix != ".onnx":
        task, _ = load_checkpoint(path)
        device = chosen_device()
        served = task.served.eval().to(device)
        return task.card, served.inputs, lambda *values: served(*(v.to(device) for v in values))
    import onnxruntime

    card = model_card.read(path)
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    inputs = tuple(i.name for i in session.get_inputs())
    outputs = list(card.outputs)

    def predict(*values: Tensor) -> tuple[Tensor, ...]:
        feed = {name: value.numpy() for name, value in zip(inputs, values, strict=True)}
        height, width = feed["image"].shape[1:3]
        # Not for files of today: older ones stretch images, where they are not padded.
        shaping = Shaping.of(card, width, height, 1.0)  # pixels are square
        for name in feed.keys() & {"image", "background"}:
            feed[name] = np.stack([shaping.apply(image) for image in feed[name]])
        results = session.run(outputs, feed)
        return tuple(torch.from_numpy(np.stack([shaping.undo(o) for o in out])) for out in results)

    return card, inputs, predict


def rows(results: Results) -> list[list[str]]:
    """One row a measure: its name, then its figure on each data set."""
    measures = dict.fromkeys(measure for result in results.values() for measure in result)
    return [[m, *(f"{r[m]:.4f}" if m in r else "-" for r in results.values())] for m in measures]


def protocols(evaluations: Mapping[str, Evaluation]) -> str | None:
    """Name the depth protocol, for each column of the table where they differ."""
    used = {name: e.protocol for name, e in evaluations.items() if "depth" in e.outputs}
    if len(set(used.values())) <= 1:
        return f"depth protocol: {next(iter(used.values()))}" if used else None
    return "depth protocols: " + ", ".join(f"{name}: {used[name]}" for name in used)


def table(results: Results, caption: str | None = None) -> Table:
    """One row a measure, one column a data set (or a run)."""
    shown = Table("measure", *results, caption=caption)
    for row in rows(results):
        shown.add_row(*row)
    return shown


def markdown(results: Results) -> str:
    """The same table in Markdown."""
    lines = [["measure", *results], ["---"] + ["---:"] * len(results), *rows(results)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)
