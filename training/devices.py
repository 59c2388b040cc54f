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

"""Choose the device for torch outside of Lightning."""

from __future__ import annotations

import os

import torch

from .errors import TrainingError


def chosen_device(name: str = "auto") -> torch.device:
    """Return the device with this name.

    Args:
        name: `cpu`, `cuda:1` and so on. `cuda` is the GPU of this process (LOCAL_RANK); `auto` is
            the same, or the CPU if torch has no GPU.

    Raises:
        TrainingError: Torch cannot use it.
    """
    if name in ("auto", "cuda") and torch.cuda.is_available():
        name = f"cuda:{int(os.environ.get('LOCAL_RANK', 0)) % torch.cuda.device_count()}"
    try:
        device = torch.device("cpu" if name == "auto" else name)
        torch.zeros(1, device=device)
    except (RuntimeError, AssertionError) as error:
        reason = str(error).splitlines()[0]
        raise TrainingError(f"--device {name} cannot be used: {reason}") from None
    return device
