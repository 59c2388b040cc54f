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

"""What every loss needs: float32, and means over the pixels of a whole optimizer step.

An optimizer step learns from the batches of several processes and of several accumulated
micro-batches. In each of these a loss is its own sum over the number of pixels of all, times how
many there are: their mean, which is what data-parallel training and accumulation make of losses and
gradients, is then the mean over all pixels, however unequally they are spread.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from functools import wraps
from itertools import chain
from typing import Any, ParamSpec, TypeVar

import torch
from torch import Tensor

from ..processes import processes, summed

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
                *[_widened(a) for a in args],
                **{name: _widened(a) for name, a in kwargs.items()},
            )

    return wrapped


def _widened(value: Any) -> Any:
    if isinstance(value, Tensor) and value.dtype in (torch.float16, torch.bfloat16):
        return value.float()
    return [_widened(v) for v in value] if isinstance(value, (list, tuple)) else value


def mean_over(values: Tensor, counted: Tensor) -> Tensor:
    """Mean of `values` where `counted` (bool, same shape); zero, with zero gradient, if nowhere.

    `values` may be infinite or NaN where they are not counted, as long as what they were computed
    from was finite. The mean is over the optimizer step, see `normalised`.
    """
    return normalised(values.where(counted, 0).sum(), counted.sum())


def local_mean_over(values: Tensor, counted: Tensor) -> Tensor:
    """The same over this process's batch alone, for losses that are no plain mean.

    What such a loss makes of it is weighed with `normalised(loss * count, count)`: a mean over
    processes and micro-batches by their numbers of pixels. It is not the loss of all their pixels
    together, but no batch counts that has none.
    """
    return values.where(counted, 0).sum() / counted.sum().clamp(min=1)


def normalised(total: Tensor, count: Tensor) -> Tensor:
    """Divide a sum by the number of pixels (or weights) that the optimizer step has of them.

    Args:
        total: Sum over this batch, a scalar.
        count: How many it is over in this batch; without gradient.

    Returns:
        The quotient, times the number of processes, and of micro-batches within `window`; zero
        where nothing is counted.
    """
    recorded, of_window = _RECORDED.get(), _OF_WINDOW.get()
    if recorded is not None:
        recorded.append(count)
        return total
    batches = processes()
    if of_window is not None:
        counts, number = of_window
        count, batches = next(counts), batches * number
    return total * batches / summed(count).clamp(min=1e-6)


@contextmanager
def window(loss: Callable[[Tensor], object], truths: Sequence[Tensor]) -> Iterator[None]:
    """Let `normalised` divide by what all micro-batches of an optimizer step count.

    Args:
        loss: Calls `normalised` for a truth as often, and in the same order, as it is called
            within. What it counts must not depend on a prediction.
        truths: Those of all micro-batches, also this one's.
    """
    if len(truths) < 2:
        yield
        return
    counts = []
    for truth in truths:
        recorded: list[Tensor] = []
        token = _RECORDED.set(recorded)
        try:
            with torch.no_grad():
                loss(truth)
        finally:
            _RECORDED.reset(token)
        counts.append(recorded)
    sums = [torch.stack(several).sum(0) for several in zip(*counts, strict=True)]
    given = _OF_WINDOW.set((iter(sums), len(truths)))
    try:
        yield
    finally:
        _OF_WINDOW.reset(given)


_RECORDED: ContextVar[list[Tensor] | None] = ContextVar("_RECORDED", default=None)
_OF_WINDOW: ContextVar[tuple[Iterator[Tensor], int] | None] = ContextVar("_OF_WINDOW", default=None)
