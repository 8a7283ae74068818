"""Muon's steps: orthogonal whatever the gradient is, for the parameters that are named, beside Adam's for the rest."""

from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn

from portrait4d.train.config import OptimiserConfig
from portrait4d.train.muon import MOMENTUM, MuonAdam, orthogonalise
from portrait4d.train.trainer import Trainer
from toy_training import ToyConfig, ToyTask

RATE = 0.01


def _matrix(height: int, width: int, *, condition: float) -> Tensor:
    """Singular values from 1 down to 1 / condition, geometrically."""
    generator = torch.Generator().manual_seed(5)
    left, _ = torch.linalg.qr(torch.randn(height, height, generator=generator))
    right, _ = torch.linalg.qr(torch.randn(width, width, generator=generator))
    values = condition ** -torch.linspace(0, 1, min(height, width))
    return (left[:, : len(values)] * values) @ right[:, : len(values)].T


@pytest.mark.parametrize(("height", "width"), [(6, 6), (5, 40), (40, 5)])
@pytest.mark.parametrize("size", [1e-6, 1.0, 1e6])
def test_orthogonalise_evens_singular_values_and_keeps_directions(height: int, width: int, size: float) -> None:
    matrix = size * _matrix(height, width, condition=30)
    left, values, right = torch.linalg.svd(orthogonalise(matrix), full_matrices=False)
    assert float(values.min()) > 0.6 and float(values.max()) < 1.3
    first, _, last = torch.linalg.svd(matrix, full_matrices=False)
    overlap = torch.trace((left @ right).T @ (first @ last)) / min(height, width)
    assert float(overlap) == pytest.approx(1, abs=1e-3)


def test_no_gradient_no_step() -> None:
    assert orthogonalise(torch.zeros(3, 4)).abs().max() == 0


def _optimiser(muon: nn.Parameter, adam: nn.Parameter) -> MuonAdam:
    groups = [{"params": [muon], "is_muon": True, "lr": RATE}, {"params": [adam], "is_muon": False, "lr": RATE}]
    return MuonAdam(groups, lr=RATE, betas=(0.5, 0.9), eps=1e-8)


def test_steps_do_not_grow_with_the_gradient_and_follow_its_momentum() -> None:
    first = nn.Parameter(torch.zeros(8, 2, 3, 3))
    gradients = [torch.randn(first.shape, generator=torch.Generator().manual_seed(seed)) for seed in (0, 1)]
    optimiser = _optimiser(first, nn.Parameter(torch.zeros(2)))
    for gradient in gradients:
        before = first.detach().clone()
        first.grad = 1e4 * gradient
        optimiser.step()
    step = (before - first.detach()).flatten(1) / RATE
    momentum = (1 - MOMENTUM) * (MOMENTUM * gradients[0] + gradients[1])
    wanted = orthogonalise(((1 - MOMENTUM) * gradients[1] + MOMENTUM * momentum).flatten(1))
    torch.testing.assert_close(step, wanted, atol=1e-5, rtol=1e-4)


def test_the_rest_takes_the_same_steps_as_adam() -> None:
    mine, theirs = (nn.Parameter(torch.ones(4, 3)) for _ in range(2))
    optimiser = _optimiser(nn.Parameter(torch.zeros(2, 2)), mine)
    adam = torch.optim.Adam([theirs], lr=RATE, betas=(0.5, 0.9), eps=1e-8)
    for seed in range(3):
        for parameter in (mine, theirs):
            parameter.grad = torch.randn(parameter.shape, generator=torch.Generator().manual_seed(seed))
        optimiser.step()
        adam.step()
    assert torch.equal(mine, theirs)


def test_names_choose_and_vectors_stay_with_adam() -> None:
    adam = OptimiserConfig(learning_rate=RATE, rates={"0": 2.0})
    optimisers = {"generator": replace(adam, muon=("0",), muon_rate=0.3), "discriminator": adam}
    task = ToyTask(ToyConfig())
    trainer = Trainer(task, ToyConfig().train, optimisers=optimisers)
    rates = {
        name: (group["is_muon"], group["lr"])
        for group in trainer.optimisers["generator"].param_groups
        for name, parameter in task.networks["generator"].named_parameters()
        if any(parameter is member for member in group["params"])
    }
    assert rates == {
        "0.weight": (True, 0.6),
        "0.bias": (False, 2 * RATE),
        "2.weight": (False, RATE),
        "2.bias": (False, RATE),
    }
