"""Checkpoints of training, read back as tasks."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import torch

from .errors import TrainingError
from .task import JointTask


def load_checkpoint(path: Path) -> tuple[JointTask, dict[str, Any]]:
    """Load the task of a checkpoint, ready to evaluate, and where its training data came from.

    Raises:
        TrainingError: the file is missing, damaged, or not a checkpoint of this package.
    """
    if not path.is_file():
        raise TrainingError(f"there is no checkpoint {path}")
    try:
        # Weights only: unpickling a checkpoint must not be able to run code.
        checkpoint = torch.load(path, map_location="cpu", weights_only=True)
        task = JointTask.load_from_checkpoint(path, map_location="cpu", weights_only=True)
        return task.eval(), checkpoint["provenance"]
    except (RuntimeError, OSError, EOFError, KeyError, TypeError, pickle.UnpicklingError) as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        if isinstance(error, pickle.UnpicklingError):
            reason = "it holds more than weights, or is damaged"  # torch advises to trust it
        raise TrainingError(f"{path} is not a checkpoint of depthseg_ros: {reason}") from None
