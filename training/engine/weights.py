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

"""Load initial weights from checkpoints and model files, with the provenance of their data."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from ..errors import TrainingError
from ..models.encoders import read_tensors

CHECKPOINT = "checkpoint"
"""What to call the file in messages."""


def read_checkpoint(path: Path) -> dict[str, Any]:
    """Read a checkpoint; raises as `load_checkpoint` does."""
    checkpoint = read_tensors(path, CHECKPOINT)
    for entry in ("state_dict", "provenance"):
        if entry not in checkpoint:
            raise TrainingError(f"{path} is not a {CHECKPOINT}: it has no {entry}")
    return checkpoint


def provenance_of(path: Path) -> dict[str, Any]:
    """Read the training data and its terms of use from a checkpoint or model file."""
    if path.suffix != ".onnx":
        found: dict[str, Any] = read_checkpoint(path)["provenance"]
        return found
    from depthseg_ros import model_card

    card = model_card.read(path)
    return {"trained_on": list(card.trained_on), "terms": card.terms}


def merge_provenance(*several: dict[str, Any]) -> dict[str, Any]:
    """Merge provenances; each source and each term occurs once."""
    sources = [source for one in several for source in one["trained_on"]]
    terms = [term for one in several for term in one["terms"].split("; ") if term]
    return {
        "trained_on": list(dict.fromkeys(sources)),
        "terms": "; ".join(dict.fromkeys(terms)),
    }


def start_from(system: nn.Module, path: Path) -> list[str]:
    """Load the weights of another system whose names and shapes match.

    Args:
        system: The system to load them into.
        path: A checkpoint, or a model file in fp32 or fp16. In a model file the batch norms are
            folded into the convolutions before them. The system's batch norms become identities;
            then call `recalibrate_batch_norms`.

    Returns:
        Names of the tensors that were not loaded, for example heads of other classes.

    Raises:
        TrainingError: As `load_checkpoint`, or less than half of the weights match.
    """
    if path.suffix == ".onnx":
        stored = _of_model_file(system, path)
    else:
        stored = read_checkpoint(path)["state_dict"]
    own = system.state_dict()
    fitting = {
        name: stored[f"system.{name}"]
        for name, value in own.items()
        if f"system.{name}" in stored and stored[f"system.{name}"].shape == value.shape
    }
    kind = type(system).__name__
    if not fitting:
        raise TrainingError(f"{path} has no weights of a {kind} of this size")
    share = sum(own[name].numel() for name in fitting) / sum(v.numel() for v in own.values())
    if share < 0.5:
        raise TrainingError(
            f"{path} has {100 * share:.0f} % of the weights of this {kind}: its size differs."
            " Give model.system the options that it was trained with, see training/configs"
        )
    system.load_state_dict(fitting, strict=False)
    return [name for name in own if name not in fitting]


def _of_model_file(system: nn.Module, path: Path) -> dict[str, Tensor]:
    """Return a model file's weights as a state dict, with identities as batch norms."""
    import onnx

    from depthseg_ros import model_card

    model_card.read(path)  # raises if the file is wrong
    stored = {
        tensor.name.removesuffix(".half"): torch.from_numpy(
            onnx.numpy_helper.to_array(tensor).astype("float32")
        )
        for tensor in onnx.load(path).graph.initializer
        if tensor.name.startswith("system.")
    }
    for first, second, layer, module in folded_pairs(system):
        convolution, norm = (f"system.{name}" for name in (first, second))
        if f"{convolution}.bias" not in stored:
            continue
        bias = stored.pop(f"{convolution}.bias")
        size = len(bias)
        stored |= {
            f"{norm}.weight": torch.ones(size),
            f"{norm}.bias": bias,
            f"{norm}.running_mean": torch.zeros(size),
            f"{norm}.running_var": torch.full((size,), 1 - module.eps),
            f"{norm}.num_batches_tracked": torch.tensor(0),
        }
        if layer.bias is not None:
            stored[f"{convolution}.bias"] = torch.zeros(size)
    return stored


def folded_pairs(system: nn.Module) -> Iterator[tuple[str, str, nn.Conv2d, nn.BatchNorm2d]]:
    """Find convolutions followed by batch norms, which export folds: names and modules."""
    for path, module in system.named_modules():
        for (name, first), (next_name, second) in pairwise(list(module.named_children())):
            if not (isinstance(first, nn.Conv2d) and isinstance(second, nn.BatchNorm2d)):
                continue
            if first.out_channels == second.num_features:
                prefix = f"{path}." if path else ""
                yield f"{prefix}{name}", f"{prefix}{next_name}", first, second


def recalibrate_batch_norms(system: nn.Module, run: Callable[[], object]) -> None:
    """Measure the statistics of batch norms without changing the system's output.

    A model file has no statistics, because export folds batch norms into convolutions. They are
    measured while `run` passes images through the system in evaluation mode; weight and bias are
    changed to match. Frozen batch norms (in evaluation mode) do not change.
    """
    measured: dict[nn.BatchNorm2d, list[Tensor]] = {}

    def measure(norm: nn.BatchNorm2d, inputs: tuple[Tensor], output: Tensor) -> None:
        x = inputs[0].double()
        moments = torch.stack([x.mean((0, 2, 3)), x.square().mean((0, 2, 3))])
        measured.setdefault(norm, []).append(moments)

    norms = [m for m in system.modules() if isinstance(m, nn.BatchNorm2d) and m.training]
    hooks = [norm.register_forward_hook(measure) for norm in norms]
    training = system.training
    system.eval()
    try:
        with torch.no_grad():
            run()
    finally:
        system.train(training)
        for hook in hooks:
            hook.remove()
    with torch.no_grad():
        for norm, moments in measured.items():
            mean, square = torch.stack(moments).mean(0)
            variance = (square - mean**2).clamp(min=1e-6)
            running_mean, running_var = map(norm.get_buffer, ("running_mean", "running_var"))
            gain = norm.weight / (running_var + norm.eps).sqrt()
            shift = norm.bias - running_mean * gain
            norm.weight.copy_(gain * (variance + norm.eps).sqrt())
            norm.bias.copy_(shift + mean * gain)
            running_mean.copy_(mean)
            running_var.copy_(variance)
