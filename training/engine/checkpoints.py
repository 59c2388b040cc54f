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

"""Load the training task from a checkpoint."""

from __future__ import annotations

from argparse import ArgumentError
from pathlib import Path
from typing import Any

from ..errors import TrainingError
from ..models.encoders import unreadable
from .task import JointTask
from .weights import CHECKPOINT, read_checkpoint

MOVED = {
    "training.systems.": "training.models.systems.",
    "training.encoders.": "training.models.encoders.",
}
"""Prefixes of class paths in older checkpoints -> the present ones."""


def load_checkpoint(path: Path, **parts: Any) -> tuple[JointTask, dict[str, Any]]:
    """Load the task of a checkpoint.

    Args:
        path: A .ckpt of training.
        parts: Arguments of `JointTask` that replace those of the checkpoint. The checkpoint of a
            task that was built in Python has only the weights of its modules: pass modules that
            are built in the same way.

    Returns:
        The task, in evaluation mode, and the provenance of its training data.

    Raises:
        TrainingError: The file is missing, damaged, or not a checkpoint of this package, or a
            module must be passed.
    """
    checkpoint = read_checkpoint(path)
    missing = [name for name in checkpoint.get("modules", ()) if name not in parts]
    if missing:
        wanted = ", ".join(f"{name}=..." for name in missing)
        raise TrainingError(
            f"{path} is of a task that was built in Python: it has the weights of its modules, not"
            " how to build them. Pass the same modules as for training:"
            f" training.engine.checkpoints.load_checkpoint(PATH, {wanted}),"
            " or train from a configuration (python -m training fit)"
        )
    options = {**_renamed(checkpoint["hyper_parameters"]), **parts}
    try:
        task = JointTask.load_from_checkpoint(
            path, map_location="cpu", weights_only=True, **options
        )
    except (RuntimeError, KeyError, TypeError, ValueError, ArgumentError) as error:
        raise unreadable(path, CHECKPOINT, error) from None
    return task.eval(), checkpoint["provenance"]


def _renamed(value: Any) -> Any:
    """Replace old class paths in a checkpoint's options."""
    if isinstance(value, dict):
        return {key: _renamed(entry) for key, entry in value.items()}
    if isinstance(value, list):
        return [_renamed(entry) for entry in value]
    for before, now in MOVED.items():
        if isinstance(value, str) and value.startswith(before):
            return now + value.removeprefix(before)
    return value
