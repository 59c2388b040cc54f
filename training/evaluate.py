"""`python -m training evaluate`: a checkpoint's or a model file's figures on data with truth."""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable
from pathlib import Path

import torch
from rich.console import Console
from rich.progress import track
from rich.table import Table
from torch import Tensor
from torch.utils.data import DataLoader

from depthseg_ros import model_card
from depthseg_ros.model_card import ModelCard

from .checkpoints import load_checkpoint
from .datasets import camvid, rendered
from .export import ServedModel
from .metrics import Evaluation
from .transforms import Whole

Predict = Callable[[Tensor, Tensor], tuple[Tensor, Tensor, Tensor]]


def main(arguments: list[str]) -> None:
    """Evaluate on each data set given and print one table, or JSON."""
    parser = argparse.ArgumentParser(prog="python -m training evaluate", description=__doc__)
    parser.add_argument(
        "--checkpoint", type=Path, required=True, help="a .ckpt of training or an exported .onnx"
    )
    parser.add_argument(
        "--data",
        nargs="+",
        required=True,
        help="folders of CamVid, or 'streets' for rendered streets of seeds kept for testing",
    )
    parser.add_argument("--split", default="val", help="of CamVid: val (default), test or train")
    parser.add_argument("--count", type=int, default=100, help="rendered streets (default: 100)")
    parser.add_argument("--json", action="store_true", help="print JSON instead of a table")
    options = parser.parse_args(arguments)
    if options.count < 1:
        parser.error("--count: at least 1")

    card, predict = load(options.checkpoint)
    results = {}
    for where in options.data:
        if where == "streets":
            name, samples = "streets-test", rendered.RenderedStreets("test", options.count)
            samples.render()
        else:
            name, samples = f"camvid-{options.split}", camvid.CamVid(where, options.split)
        evaluation = Evaluation(card)
        loader = DataLoader(Whole(samples), num_workers=1)
        console = Console(stderr=True)
        with torch.inference_mode():
            for batch in track(loader, name, console=console, disable=not console.is_terminal):
                labels, _, depth = predict(batch["image"], batch["fx"])
                evaluation.update(labels, depth, batch)
        results[name] = evaluation.compute()
    if options.json:
        print(json.dumps(results, indent=2))
    else:
        Console().print(table(results))


def load(path: Path) -> tuple[ModelCard, Predict]:
    """Load a checkpoint or a model file: its card, and a function that runs its graph."""
    if path.suffix != ".onnx":
        task, _ = load_checkpoint(path)
        return task.card, ServedModel(task.system, task.card).eval()
    import onnxruntime

    card = model_card.read(path)
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])

    def predict(image: Tensor, fx: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        outputs = session.run(
            ["labels", "confidence", "depth"], {"image": image.numpy(), "fx": fx.numpy()}
        )
        labels, confidence, depth = (torch.from_numpy(output) for output in outputs)
        return labels, confidence, depth

    return card, predict


def table(results: dict[str, dict[str, float]]) -> Table:
    """One row a measure, one column a data set."""
    shown = Table("measure", *results)
    measures = dict.fromkeys(measure for result in results.values() for measure in result)
    for measure in measures:
        cells = [f"{r[measure]:.4f}" if measure in r else "-" for r in results.values()]
        shown.add_row(measure, *cells)
    return shown
