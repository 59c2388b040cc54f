"""Checkpoints of training, read back as tasks or as weights to start from."""

from __future__ import annotations

import pickle
from argparse import ArgumentError
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from .errors import TrainingError

if TYPE_CHECKING:
    from .task import JointTask


def load_checkpoint(path: Path) -> tuple[JointTask, dict[str, Any]]:
    """Load the task of a checkpoint, ready to evaluate, and where its training data came from.

    Raises:
        TrainingError: the file is missing, damaged, or not a checkpoint of this package.
    """
    from .task import JointTask  # which starts from weights that are read here

    checkpoint = read_checkpoint(path)
    try:
        task = JointTask.load_from_checkpoint(path, map_location="cpu", weights_only=True)
    except (RuntimeError, KeyError, TypeError, ValueError, ArgumentError) as error:
        raise _not_a_checkpoint(path, error) from None
    return task.eval(), checkpoint["provenance"]


def read_checkpoint(path: Path) -> dict[str, Any]:
    """Read a checkpoint; raises as `load_checkpoint` does."""
    if not path.is_file():
        raise TrainingError(f"there is no checkpoint {path}")
    try:
        # Weights only: unpickling a checkpoint must not be able to run code.
        checkpoint = torch.load(path, map_location="cpu", weights_only=True)
        checkpoint["state_dict"], checkpoint["provenance"]
    except (RuntimeError, OSError, EOFError, KeyError, TypeError, pickle.UnpicklingError) as error:
        raise _not_a_checkpoint(path, error) from None
    return checkpoint


def start_from(system: nn.Module, path: Path) -> list[str]:
    """Take over the weights of a checkpoint's system, where names and shapes are the same.

    Returns:
        The names of the tensors that it has none for: heads of other classes, for example.

    Raises:
        TrainingError: as `load_checkpoint`, and where nothing fits.
    """
    stored = read_checkpoint(path)["state_dict"]
    own = system.state_dict()
    fitting = {
        name: stored[f"system.{name}"]
        for name, value in own.items()
        if f"system.{name}" in stored and stored[f"system.{name}"].shape == value.shape
    }
    if not fitting:
        raise TrainingError(f"{path} has no weights of a {type(system).__name__} of this size")
    system.load_state_dict(fitting, strict=False)
    return [name for name in own if name not in fitting]


def _not_a_checkpoint(path: Path, error: Exception) -> TrainingError:
    # torch goes on to guess at causes and to advise.
    reason = (str(error).splitlines() or [type(error).__name__])[0].partition(". ")[0]
    if isinstance(error, pickle.UnpicklingError):
        reason = "it holds more than weights, or is damaged"  # torch advises to trust it
    return TrainingError(f"{path} is not a checkpoint of depthseg_ros: {reason}")
