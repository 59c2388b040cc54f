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

"""Helpers of all losses: float32, and means over all pixels of an optimizer step.

An optimizer step uses micro-batches from several processes and accumulation steps. Data-parallel
training and accumulation average their losses and gradients, although the micro-batches have
different numbers of labelled pixels. So each loss is (sum over its pixels) * (number of
micro-batches) / (number of pixels of all micro-batches). The average of these is the mean over all
pixels.
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
    """Decorate a function to compute in float32, also under autocast and for half precision.

    Squares, logarithms and sums over images exceed the range or precision of half precision, and
    autocast would use it for the convolutions in SSIM and Sobel. float64 is not changed.
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
    """Mean of `values` under the mask `counted`, over the optimizer step, see `normalised`.

    An empty mask gives zero with zero gradient. Masked values may be infinite or NaN, if their
    gradients are finite.
    """
    return normalised(values.where(counted, 0).sum(), counted.sum())


def local_mean_over(values: Tensor, counted: Tensor) -> Tensor:
    """Mean of `values` under the mask `counted`, over this micro-batch only.

    For losses that are not means. Weight such a loss with `normalised(loss * count, count)`. The
    result is a weighted mean over micro-batches, not the loss of all their pixels.
    """
    return values.where(counted, 0).sum() / counted.sum().clamp(min=1)


def normalised(total: Tensor, count: Tensor) -> Tensor:
    """Divide a sum by the number of pixels, or the sum of weights, of the optimizer step.

    Args:
        total: Sum over this micro-batch, a scalar.
        count: Number of pixels, or sum of weights, in this micro-batch; without gradient.

    Returns:
        The quotient, multiplied by the number of processes, and by that of micro-batches inside
        `accumulated_counts`; zero if nothing is counted.
    """
    recorded, accumulated = _RECORDED.get(), _ACCUMULATED.get()
    if recorded is not None:
        recorded.append(count)
        return total
    batches = processes()
    if accumulated is not None:
        counts, number = accumulated
        count, batches = next(counts), batches * number
    return total * batches / summed(count).clamp(min=1e-6)


@contextmanager
def accumulated_counts(
    loss: Callable[[Tensor], object], truths: Sequence[Tensor]
) -> Iterator[None]:
    """Make `normalised` divide by the counts of all micro-batches of an optimizer step.

    Args:
        loss: Called with each truth to record the counts. It must call `normalised` in the same
            order as the code in this context, and the counts must not depend on predictions.
        truths: Truths of all micro-batches, including this one.
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
    accumulated = _ACCUMULATED.set((iter(sums), len(truths)))
    try:
        yield
    finally:
        _ACCUMULATED.reset(accumulated)


_RECORDED: ContextVar[list[Tensor] | None] = ContextVar("_RECORDED", default=None)
_ACCUMULATED: ContextVar[tuple[Iterator[Tensor], int] | None] = ContextVar(
    "_ACCUMULATED", default=None
)
