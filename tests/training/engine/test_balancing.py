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

from training.engine.balancing import (
    BALANCERS,
    DynamicWeightAverage,
    Fixed,
    GradNorm,
    PCGrad,
    Uncertainty,
    projected,
)
from training.errors import TrainingError

ROOT = Path(__file__).resolve().parents[3]
BOTH = {"segmentation": True, "depth": True}


def quadratics(point, *minima):
    """Losses |point - minimum|^2 / 2, whose gradients are point - minimum."""
    return {
        task: (point - torch.tensor(minimum)).square().sum() / 2
        for task, minimum in zip(BOTH, minima, strict=True)
    }


def parameter(*values):
    return nn.Parameter(torch.tensor(values))


def descend(module, loss, rate):
    """A step of gradient descent; torch.optim takes seconds to import."""
    module.zero_grad()
    loss.backward()
    with torch.no_grad():
        for p in module.parameters():
            p -= rate * p.grad


def dot_losses(point, *gradients):
    """Losses linear in the point, positive at it."""
    return {
        task: (point * torch.tensor(gradient)).sum()
        for task, gradient in zip(BOTH, gradients, strict=True)
    }


def test_fixed_weights_weigh():
    point = parameter(1.0, 2.0)
    balancer = Fixed({"depth": 3.0})
    total = balancer(quadratics(point, (0.0, 0.0), (2.0, 2.0)), BOTH, [point])
    assert total.item() == pytest.approx(2.5 + 3 * 0.5)
    total.backward()
    assert point.grad.tolist() == pytest.approx([1 + 3 * -1, 2 + 0])


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Fixed({"depht": 1.0}), "'depht'"),
        (lambda: Fixed({"depth": -1.0}), "-1.0, expected 0 or more"),
        (lambda: Fixed({"depth": math.nan}), "nan"),
        (lambda: DynamicWeightAverage(temperature=0.0), "temperature is 0.0"),
        (lambda: GradNorm(alpha=-1.0), "alpha is -1.0"),
        (lambda: GradNorm(learning_rate=0.0), "rate is 0.0"),
        (lambda: Fixed()({"normals": torch.ones(())}, {"normals": True}, []), "normals"),
        (lambda: Fixed()({}, {}, []), "expected some of"),
    ],
)
def test_mistakes_are_named(make, message):
    with pytest.raises(TrainingError, match=message):
        make()


def test_uncertainty_is_kendalls_formula():
    balancer = Uncertainty()
    with torch.no_grad():
        balancer.log_variances_T.copy_(torch.tensor([0.0, 2.0]))
    losses = {"segmentation": torch.tensor(3.0), "depth": torch.tensor(5.0)}
    total = balancer(losses, BOTH, [])
    assert total.item() == pytest.approx(3 + 5 * math.exp(-2) + 1)
    total.backward()
    by_hand = [0.5 - 3, 0.5 - 5 * math.exp(-2)]
    assert balancer.log_variances_T.grad.tolist() == pytest.approx(by_hand)


def test_uncertainty_settles_at_weights_inverse_to_the_losses():
    balancer = Uncertainty()
    losses = {"segmentation": torch.tensor(0.25), "depth": torch.tensor(4.0)}
    for _ in range(200):
        descend(balancer, balancer(losses, BOTH, []), 0.5)
    assert (-balancer.log_variances_T).exp().tolist() == pytest.approx([1 / 0.5, 1 / 8], rel=1e-3)


def test_uncertainty_of_an_absent_task_stays():
    balancer = Uncertainty()
    losses = {"segmentation": torch.tensor(3.0), "depth": torch.tensor(0.0)}
    balancer(losses, {"segmentation": True, "depth": False}, []).backward()
    assert balancer.log_variances_T.grad.tolist() == [-2.5, 0]


def epoch(balancer, *batches):
    """Run batches of (segmentation, depth), None where absent, and end the epoch."""
    for batch in batches:
        losses = {
            t: torch.tensor(0.0 if v is None else v) for t, v in zip(BOTH, batch, strict=True)
        }
        present = {t: v is not None for t, v in zip(BOTH, batch, strict=True)}
        balancer(losses, present, [])
    balancer.on_epoch_end()
    return balancer.weights_T.tolist()


def softmax_weights(*ratios, temperature=2.0):
    shares = [math.exp(ratio / temperature) for ratio in ratios]
    return pytest.approx([len(ratios) * share / sum(shares) for share in shares])


def test_dwa_weighs_by_the_ratio_of_the_last_two_epochs():
    balancer = DynamicWeightAverage()
    assert epoch(balancer, (4.0, 1.0), (2.0, 3.0)) == [1, 1]
    assert epoch(balancer, (1.0, 2.0), (2.0, 2.0)) == softmax_weights(1.5 / 3, 2 / 2)
    assert epoch(balancer, (3.0, 1.0)) == softmax_weights(3 / 1.5, 1 / 2)
    losses = {"segmentation": torch.tensor(1.0), "depth": torch.tensor(0.0)}
    assert balancer(losses, BOTH, []).item() == pytest.approx(balancer.weights_T[0].item())


def test_dwa_does_not_depend_on_the_losses_scale():
    one, other = DynamicWeightAverage(), DynamicWeightAverage()
    for a, b in ((4.0, 1.0), (1.0, 0.9), (0.5, 0.3)):
        assert epoch(one, (a, b)) == pytest.approx(epoch(other, (1000 * a, 0.001 * b)))


def test_dwa_leaves_absent_tasks_out():
    balancer = DynamicWeightAverage()
    epoch(balancer, (4.0, 1.0), (2.0, None), (None, 3.0))  # means 3 and 2
    assert epoch(balancer, (1.5, None)) == softmax_weights(1.5 / 3, 1.0)
    # Depth's last two epochs are the first and this one.
    assert epoch(balancer, (1.5, 1.0)) == softmax_weights(1.0, 1 / 2)


def test_dwa_of_one_task_alone_does_nothing():
    balancer = DynamicWeightAverage()
    for loss in (4.0, 2.0, 1.0):
        assert epoch(balancer, (loss, None)) == [1, 1]


def test_a_loss_that_is_not_finite_is_not_remembered():
    balancer = DynamicWeightAverage()
    epoch(balancer, (4.0, 1.0))
    assert epoch(balancer, (math.nan, 1.0), (2.0, 1.0)) == softmax_weights(2 / 4, 1 / 1)


def test_gradnorm_takes_the_closed_form_step():
    point = parameter(1.0, 1.0)
    balancer = GradNorm(learning_rate=0.03)
    # Norms 5 and 1, both losses at their start: both weighted norms go for their mean, 3. The
    # gradients of |5 w - 3| and |w - 3| are 5 and -1, in units of the mean norm 3.
    total = balancer(dot_losses(point, (3.0, 4.0), (1.0, 0.0)), BOTH, [point])
    assert total.item() == pytest.approx(7 + 1)
    total.backward()
    assert point.grad.tolist() == [4, 4]
    assert balancer.weights_T.tolist() == [1, 1]  # until the optimizer's step
    balancer.on_step()
    moved = [1 - 0.03 * 5 / 3, 1 + 0.03 / 3]
    by_hand = [2 * w / sum(moved) for w in moved]
    assert balancer.weights_T.tolist() == pytest.approx(by_hand)


def test_gradnorm_asks_more_of_the_task_that_has_learned_less():
    balancer = GradNorm(alpha=1.0, learning_rate=1e3)  # steps end where |.| is zero
    norms = torch.tensor([2.0, 2.0])
    everyone = torch.tensor([True, True])
    balancer.move(torch.stack([torch.tensor([8.0, 8.0]), norms]), everyone)
    assert balancer.weights_T.tolist() == pytest.approx([1, 1])
    # 1/8 and 3/8 of the losses are left: rates 1/2 and 3/2 of their mean.
    balancer.move(torch.stack([torch.tensor([1.0, 3.0]), norms]), everyone)
    assert balancer.weights_T.tolist() == pytest.approx([0.5, 1.5])


@pytest.mark.parametrize("scale", [1.0, 1e-4, 1e4])
def test_gradnorm_makes_the_pulls_alike_whatever_the_scale(scale):
    point = parameter(1.0, 1.0)
    balancer = GradNorm(alpha=0.0)
    for _ in range(150):
        balancer(dot_losses(point, (9 * scale, 0.0), (0.0, scale)), BOTH, [point])
        balancer.on_step()
    assert balancer.weights_T.tolist() == pytest.approx([0.2, 1.8], rel=1e-3)


def test_gradnorm_looks_at_the_last_shared_layer():
    layers = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2), nn.BatchNorm1d(2))
    x = torch.tensor([[1.0, 2.0], [3.0, 5.0], [0.0, 1.0]])
    losses = {
        "segmentation": layers(x)[0].square().sum(),
        "depth": (layers(x) * x).square().sum(),
    }
    weight = layers[1].weight
    norms = [torch.autograd.grad(v, weight, retain_graph=True)[0].norm() for v in losses.values()]
    one, other = GradNorm(), GradNorm()
    one(losses, BOTH, list(layers.parameters()))
    one.on_step()
    values = torch.stack([loss.detach() for loss in losses.values()])
    other.move(torch.stack([values, torch.stack(norms)]), torch.tensor([True, True]))
    assert one.weights_T.tolist() == pytest.approx(other.weights_T.tolist())
    assert one.weights_T[0] != 1


def test_gradnorm_moves_its_weights_once_a_step_by_the_mean_gradient():
    point = parameter(1.0, 1.0)
    one, accumulated = GradNorm(), GradNorm()
    one(dot_losses(point, (2.0, 2.0), (1.0, 0.0)), BOTH, [point])
    one.on_step()
    # Micro-batches whose gradients have that mean, and other norms.
    accumulated(dot_losses(point, (6.0, -2.0), (1.0, 0.0)), BOTH, [point])
    accumulated(dot_losses(point, (-2.0, 6.0), (1.0, 0.0)), BOTH, [point])
    assert accumulated.weights_T.tolist() == [1, 1]
    accumulated.on_step()
    assert accumulated.weights_T.tolist() == pytest.approx(one.weights_T.tolist())
    assert one.weights_T[0] < 1
    accumulated.on_step()  # of no batches
    assert accumulated.weights_T.tolist() == pytest.approx(one.weights_T.tolist())


def test_gradnorm_leaves_absent_tasks_alone():
    point = parameter(1.0, 1.0)
    balancer = GradNorm()
    losses = dot_losses(point, (3.0, 4.0), (0.0, 0.0))
    total = balancer(losses, {"segmentation": True, "depth": False}, [point])
    total.backward()
    balancer.on_step()
    assert balancer.weights_T.tolist() == [1, 1]
    assert balancer.initial_T[0] == 7 and balancer.initial_T[1].isnan()
    assert point.grad.tolist() == [3, 4]


def test_gradnorm_survives_losses_and_gradients_of_zero_or_infinity():
    point = parameter(1.0, 1.0)
    balancer = GradNorm()
    for gradients in ((0.0, 0.0), (math.inf, 0.0), (1.0, 2.0)):
        balancer(dot_losses(point, gradients, (0.0, 0.0)), BOTH, [point])
        balancer.on_step()
        balancer(dot_losses(point, gradients, (1.0, 0.0)), BOTH, [point])
        balancer.on_step()
    assert balancer.weights_T.isfinite().all() and (balancer.weights_T > 0).all()
    assert balancer.weights_T.sum().item() == pytest.approx(2)


def test_pcgrad_gives_the_projected_gradient():
    # Gradients (1, 1) and (-2, 1) conflict: their product is -1.
    point = parameter(0.0, 0.0)
    total = PCGrad()(quadratics(point, (-1.0, -1.0), (2.0, -1.0)), BOTH, [point])
    assert total.item() == pytest.approx(1 + 2.5)
    assert point.grad is None
    total.backward()
    first = [1 + -2 / 5, 1 + 1 / 5]  # (1, 1) + (-2, 1) / 5
    second = [-2 + 1 / 2, 1 + 1 / 2]  # (-2, 1) + (1, 1) / 2
    by_hand = [a + b for a, b in zip(first, second, strict=True)]
    assert point.grad.tolist() == pytest.approx(by_hand)


def test_pcgrad_leaves_agreeing_gradients_as_they_are():
    point = parameter(0.0, 0.0)
    PCGrad()(quadratics(point, (-1.0, -1.0), (1.0, -3.0)), BOTH, [point]).backward()
    assert point.grad.tolist() == pytest.approx([1 - 1, 1 + 3])


def test_pcgrad_projects_over_all_shared_parameters_and_no_others():
    a, b, own = parameter(0.0), parameter([0.0]), parameter(2.0)
    both = torch.cat([a, b[0]])
    losses = quadratics(both, (-1.0, -1.0), (2.0, -1.0))
    losses["depth"] = losses["depth"] + own.sum() * a.sum()  # adds own = 2 to a's: (0, 1)
    losses["depth"] = losses["depth"] + 7 * own.sum()
    PCGrad()(losses, BOTH, [a, b]).backward()
    assert (a.grad.item(), b.grad.item()) == pytest.approx((1 + 0, 1 + 1))
    assert own.grad.item() == 7


def test_the_order_of_projections_is_random():
    torch.manual_seed(0)
    gradients = torch.tensor([[1.0, 0.0, 0.5], [-1.0, 1.0, 0.0], [0.0, -1.0, -0.5]])
    # The first one by hand: off the second, then the third, or the other way.
    off_second = torch.tensor([0.5, 0.5, 0.5])  # + (-1, 1, 0) / 2
    off_third = torch.tensor([1.0, -0.2, 0.4])  # + (0, -1, -0.5) / 5
    one = off_second + 0.75 / 1.25 * gradients[2]
    other = off_third + 1.2 / 2 * gradients[1]
    results = [projected(gradients)[0] for _ in range(20)]
    is_one = [torch.allclose(result, one) for result in results]
    is_other = [torch.allclose(result, other) for result in results]
    assert any(is_one) and any(is_other)
    assert all(a != b for a, b in zip(is_one, is_other, strict=True))


def test_pcgrad_adds_up_over_accumulated_batches():
    point = parameter(0.0, 0.0)
    balancer = PCGrad()
    batches = [((-1.0, -1.0), (2.0, -1.0)), ((-1.0, -1.0), (1.0, -3.0))]
    for batch in batches:
        (balancer(quadratics(point, *batch), BOTH, [point]) / 2).backward()
    by_hand = [(0.6 - 1.5 + 0) / 2, (1.2 + 1.5 + 4) / 2]
    assert point.grad.tolist() == pytest.approx(by_hand)


def test_pcgrad_of_an_absent_task_is_the_other_ones_gradient():
    point = parameter(0.0, 0.0)
    losses = quadratics(point, (-1.0, -1.0), (2.0, -1.0))
    losses["depth"] = 0 * losses["depth"]
    PCGrad()(losses, {"segmentation": True, "depth": False}, [point]).backward()
    assert point.grad.tolist() == [1, 1]


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
        return self.balancer(losses, present, list(self.shared.parameters()))


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
def test_a_resumed_run_goes_on_with_the_same_weights(name):
    def train(network, steps):
        for step in steps:
            descend(network, network(*batch(step), BOTH), 0.01)
            network.balancer.on_step()
            if step % 2:
                network.balancer.on_epoch_end()
        return network.state_dict()

    network, resumed = Network(name), Network(name)
    resumed.load_state_dict(train(network, range(5)))
    expected = train(network, range(5, 9))
    for key, value in train(resumed, range(5, 9)).items():
        assert torch.equal(value, expected[key]), key
    if name in ("dwa", "gradnorm"):
        assert (expected["balancer.weights_T"] != 1).all()


@pytest.mark.parametrize("name", BALANCERS)
def test_validation_changes_nothing(name):
    network = Network(name).eval()
    before = copy.deepcopy(network.state_dict())
    with torch.inference_mode():
        network(*batch(0), BOTH)
    assert all(
        torch.equal(v.nan_to_num(), before[k].nan_to_num()) for k, v in network.state_dict().items()
    )


@pytest.mark.parametrize("name", BALANCERS)
def test_a_system_of_one_task_trains_as_without_balancing(name):
    point = parameter(1.0, 2.0)
    balancer = BALANCERS[name]()
    for _ in range(2):
        point.grad = None
        loss = {"depth": point.square().sum()}
        balancer(loss, {"depth": True}, []).backward()
        balancer.on_epoch_end()
        assert point.grad.tolist() == [2, 4]


# What each of two processes has of each batch: (segmentation, depth).
PARTIAL = [
    ((True, True), (True, True)),
    ((True, False), (False, True)),
    ((True, True), (False, False)),
    ((True, False), (True, False)),
    ((True, True), (True, True)),
]
WHOLE = [((True, True), (True, True))] * 4
AVERAGED = ("dwa", "gradnorm", "pcgrad")


def train(network, rank, schedule):
    """Train on this process's half of each batch, or on the whole where rank is None."""
    trained = network if rank is None else nn.parallel.DistributedDataParallel(network)
    half = slice(None) if rank is None else slice(rank * 3, rank * 3 + 3)
    for step, present in enumerate(schedule):
        x, target = batch(step)
        here = dict(zip(BOTH, present[rank or 0], strict=True))
        descend(network, trained(x[half], target[half], here), 0.05)
        network.balancer.on_step()
        if step % 2:
            network.balancer.on_epoch_end()
    return network.state_dict()


def worker(rank, folder):
    """One of two processes: train with every balancer and save what came out."""
    distributed.init_process_group(
        "gloo", init_method=f"file://{folder}/store", rank=rank, world_size=2
    )
    results = {name: train(Network(name), rank, PARTIAL) for name in BALANCERS}
    results |= {f"{name} whole": train(Network(name), rank, WHOLE) for name in AVERAGED}
    torch.save(results, f"{folder}/{rank}.pt")
    distributed.destroy_process_group()


def test_every_balancer_trains_on_two_processes(tmp_path):
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
    for name in one:
        for key, value in one[name].items():
            assert value.isfinite().all(), (name, key)
            assert torch.equal(value, other[name][key]), (name, key)
    started = Network("gradnorm").state_dict()
    assert not torch.equal(one["gradnorm"]["shared.weight"], started["shared.weight"])
    assert (one["gradnorm"]["balancer.weights_T"] != 1).all()
    for name in AVERAGED:  # what is averaged is what one process has of the whole batch
        for key, value in train(Network(name), None, WHOLE).items():
            assert torch.allclose(value, one[f"{name} whole"][key], atol=1e-5), (name, key)


if __name__ == "__main__":
    worker(int(sys.argv[1]), sys.argv[2])
