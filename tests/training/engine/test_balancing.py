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

import copy
import math
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch import distributed, nn

from training.engine.balancing import BALANCERS, Fixed, Uncertainty
from training.errors import TrainingError

ROOT = Path(__file__).resolve().parents[3]
BOTH = {"segmentation": True, "depth": True}


def descend(module, loss, rate):
    """A step of gradient descent; torch.optim takes seconds to import."""
    module.zero_grad()
    loss.backward()
    with torch.no_grad():
        for p in module.parameters():
            p -= rate * p.grad


def test_fixed_weights_multiply_the_losses():
    point = nn.Parameter(torch.tensor([1.0, 2.0]))
    losses = {"segmentation": point.square().sum() / 2, "depth": (point - 2).square().sum() / 2}
    total = Fixed({"depth": 3.0})(losses, BOTH)
    assert total.item() == pytest.approx(2.5 + 3 * 0.5)
    total.backward()
    assert point.grad.tolist() == pytest.approx([1 + 3 * -1, 2 + 0])


@pytest.mark.parametrize(
    ("weights", "message"),
    [
        ({"depht": 1.0}, "'depht'"),
        ({"depth": -1.0}, "-1.0, expected 0 or more"),
        ({"depth": math.nan}, "nan"),
    ],
)
def test_wrong_weights_are_named(weights, message):
    with pytest.raises(TrainingError, match=message):
        Fixed(weights)


def test_uncertainty_is_kendalls_formula():
    balancer = Uncertainty()
    with torch.no_grad():
        balancer.log_variances_T.copy_(torch.tensor([0.0, 2.0]))
    losses = {"segmentation": torch.tensor(3.0), "depth": torch.tensor(5.0)}
    total = balancer(losses, BOTH)
    assert total.item() == pytest.approx(3 + 5 * math.exp(-2) + 1)
    total.backward()
    by_hand = [0.5 - 3, 0.5 - 5 * math.exp(-2)]
    assert balancer.log_variances_T.grad.tolist() == pytest.approx(by_hand)


def test_uncertainty_converges_to_weights_inverse_to_the_losses():
    balancer = Uncertainty()
    losses = {"segmentation": torch.tensor(0.25), "depth": torch.tensor(4.0)}
    for _ in range(200):
        descend(balancer, balancer(losses, BOTH), 0.5)
    assert (-balancer.log_variances_T).exp().tolist() == pytest.approx([1 / 0.5, 1 / 8], rel=1e-3)


def test_uncertainty_of_an_absent_task_stays():
    balancer = Uncertainty()
    losses = {"segmentation": torch.tensor(3.0), "depth": torch.tensor(0.0)}
    balancer(losses, {"segmentation": True, "depth": False}).backward()
    assert balancer.log_variances_T.grad.tolist() == [-2.5, 0]


class Network(nn.Module):
    """A shared layer, two heads and a balancer: total loss of a batch."""

    def __init__(self, name):
        super().__init__()
        torch.manual_seed(1)
        self.shared = nn.Linear(4, 8)
        self.heads = nn.ModuleDict({task: nn.Linear(8, 1) for task in BOTH})
        self.balancer = BALANCERS[name]()

    def forward(self, x, target, present):
        features = self.shared(x).relu()
        losses = {
            task: (self.heads[task](features)[:, 0] - sign * target).square().mean()
            * float(present[task])
            for task, sign in (("segmentation", 1.0), ("depth", -3.0))
        }
        return self.balancer(losses, present)


def batch(seed, size=6):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(size, 4, generator=generator), torch.randn(size, generator=generator)


@pytest.mark.parametrize("name", BALANCERS)
def test_scaling_the_loss_scales_the_gradients(name):
    """As GradScaler does in mixed precision."""
    network = Network(name)
    scaled = copy.deepcopy(network)
    scaler = torch.amp.GradScaler("cpu", init_scale=512.0)
    for module, scale in ((network, lambda loss: loss), (scaled, scaler.scale)):
        with torch.autocast("cpu", torch.bfloat16):
            total = module(*batch(0), BOTH)
        assert total.dtype == torch.float32
        scale(total).backward()
    for one, other in zip(network.parameters(), scaled.parameters(), strict=True):
        assert one.grad.abs().max() > 0
        assert torch.equal(512 * one.grad, other.grad)


@pytest.mark.parametrize("name", BALANCERS)
def test_a_system_of_one_task_trains_as_without_balancing(name):
    point = nn.Parameter(torch.tensor([1.0, 2.0]))
    BALANCERS[name]()({"depth": point.square().sum()}, {"depth": True}).backward()
    assert point.grad.tolist() == [2, 4]


# Whether each of two processes has ground truth in each batch: (segmentation, depth).
PARTIAL = [
    ((True, True), (True, True)),
    ((True, False), (False, True)),
    ((True, True), (False, False)),
    ((True, False), (True, False)),
    ((True, True), (True, True)),
]


def worker(rank, folder):
    """One of two processes: train with learned weights, each on its half of every batch."""
    distributed.init_process_group(
        "gloo", init_method=f"file://{folder}/store", rank=rank, world_size=2
    )
    network = Network("uncertainty")
    trained = nn.parallel.DistributedDataParallel(network)
    for step, present in enumerate(PARTIAL):
        x, target = (values[rank * 3 : rank * 3 + 3] for values in batch(step))
        descend(network, trained(x, target, dict(zip(BOTH, present[rank], strict=True))), 0.05)
    torch.save(network.state_dict(), f"{folder}/{rank}.pt")
    distributed.destroy_process_group()


def test_two_processes_learn_the_same_weights_from_partial_labels(tmp_path):
    children = [
        subprocess.Popen(
            [sys.executable, __file__, str(rank), str(tmp_path)],
            env=os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        for rank in (0, 1)
    ]
    try:
        outputs = [child.communicate(timeout=600)[0] for child in children]
    finally:
        for child in children:
            child.kill()
    assert [child.returncode for child in children] == [0, 0], "\n".join(outputs)
    one, other = (torch.load(tmp_path / f"{rank}.pt", weights_only=True) for rank in (0, 1))
    for key, value in one.items():
        assert value.isfinite().all() and torch.equal(value, other[key]), key
    assert (one["balancer.log_variances_T"] != 0).all()


if __name__ == "__main__":
    worker(int(sys.argv[1]), sys.argv[2])
