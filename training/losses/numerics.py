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

"""What every loss needs to be safe: float32, and means that are zero where nothing is known."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from itertools import chain
from typing import Any, ParamSpec, TypeVar

import torch
from torch import Tensor

P = ParamSpec("P")
R = TypeVar("R")


def in_float32(function: Callable[P, R]) -> Callable[P, R]:
    """Let a function compute in float32, under autocast and from half-precision tensors too.

    Squares, logarithms and sums over pictures leave the range or the precision of half floats, and
    autocast would run the convolutions inside of SSIM and Sobel in them. float64 stays float64.
    """

    @wraps(function)
    def wrapped(*args: P.args, **kwargs: P.kwargs) -> R:
        device = next(a.device for a in chain(args, kwargs.values()) if isinstance(a, Tensor))
        with torch.autocast(device.type, enabled=False):
            return function(
                *[_widened(a) for a in args],  # type: ignore[arg-type]
                **{name: _widened(a) for name, a in kwargs.items()},  # type: ignore[arg-type]
            )

    return wrapped


def _widened(value: Any) -> Any:
    if isinstance(value, Tensor) and value.dtype in (torch.float16, torch.bfloat16):
        return value.float()
    return [_widened(v) for v in value] if isinstance(value, (list, tuple)) else value


def mean_over(values: Tensor, counted: Tensor) -> Tensor:
    """Mean of `values` where `counted` (bool, same shape); zero, with zero gradient, if nowhere.

    `values` may be infinite or NaN where they are not counted, as long as what they were computed
    from was finite.
    """
    return values.where(counted, 0).sum() / counted.sum().clamp(min=1)
