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

"""Distributed training: number of processes, sums over processes, indices of samples."""

from __future__ import annotations

from typing import Any

from lightning.pytorch.utilities import CombinedLoader
from torch import Tensor, distributed
from torch.utils.data import DistributedSampler


def processes() -> int:
    """Number of processes that train together; 1 without `torch.distributed`."""
    if distributed.is_available() and distributed.is_initialized():
        return distributed.get_world_size()
    return 1


def summed(values: Tensor) -> Tensor:
    """Sum a tensor over all processes, without gradients; every process must call this."""
    values = values.detach()
    if processes() > 1:
        values = values.clone()
        distributed.all_reduce(values)
    return values


def dataset_index(loaders: Any, loader: int, batch: int) -> int | None:
    """Index in the data set of the sample in a batch of this process's loader.

    Args:
        loaders: The trainer's loaders: one or several, with one sample per batch, in order.
        loader: Index of the loader.
        batch: Index of the batch.

    Returns:
        The index, the same with any number of processes. None if the sample is a repetition, which
        gives all processes the same number of batches: another process has it.
    """
    chosen = CombinedLoader(loaders, "sequential").flattened[loader]
    sampler = chosen.batch_sampler.sampler
    if not isinstance(sampler, DistributedSampler):
        return batch
    index = batch * sampler.num_replicas + sampler.rank
    return index if index < len(chosen.dataset) else None
