"""Activations that are computed again: the same gradients to the bit, with fewer tensors kept."""

import copy
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from kept_bytes import assert_recomputed_is_the_same
from portrait4d.eg3d.training import EG3DTask
from portrait4d.runtime.random import PerSample, RandomSource, normal
from portrait4d.runtime.recompute import recompute
from portrait4d.train.task import Part, Step
from toy_eg3d import make_discs, toy_training

pytestmark = pytest.mark.usefixtures("one_thread")

SOURCES: dict[str, Callable[[], RandomSource]] = {
    "one": lambda: torch.Generator().manual_seed(3),
    "per sample": lambda: PerSample([5, 6]),
}


def _noisy(x: Tensor, *, generator: RandomSource, layers: nn.Sequential) -> dict[str, Tensor]:
    return {"y": layers(x * normal(generator, x.shape, x)).exp() * normal(generator, x.shape, x)}


@pytest.mark.parametrize("name", SOURCES)
def test_the_second_pass_draws_what_the_first_did(name: str) -> None:
    torch.manual_seed(0)
    layers = nn.Sequential(nn.Linear(4, 4), nn.Tanh(), nn.Linear(4, 4))
    gradients, following = [], []
    for call in (lambda f, *a, **o: f(*a, **o), recompute):
        x, source, own = torch.ones(2, 4, requires_grad=True), SOURCES[name](), copy.deepcopy(layers)
        y = call(_noisy, x, generator=source, layers=own)["y"]
        following.append(normal(source, (2, 3), x))  # drawn before the second pass
        y.sum().backward(retain_graph=True)
        (y**2).sum().backward()  # a third pass
        gradients.append([x.grad, *(value.grad for value in own.parameters())])
    assert torch.equal(*following)
    for plain, again in zip(*gradients, strict=True):
        assert torch.equal(plain, again)


def test_nothing_is_kept_but_arguments() -> None:
    torch.manual_seed(0)
    layers, x = nn.Sequential(nn.Linear(4, 4), nn.Tanh(), nn.Linear(4, 4)), torch.ones(2, 4, requires_grad=True)
    kept: list[Tensor] = []
    with torch.autograd.graph.saved_tensors_hooks(lambda tensor: kept.append(tensor) or tensor, lambda tensor: tensor):
        recompute(_noisy, x, generator=PerSample([5, 6]), layers=layers)
        assert not kept
        _noisy(x, generator=PerSample([5, 6]), layers=layers)
        assert kept


@pytest.mark.parametrize(("phase", "share"), [("generator", 0.3), ("density", 0.95)])
def test_eg3d_learns_the_same(tmp_path: Path, phase: str, share: float) -> None:
    """Points of the density are few beside the released networks, and are kept."""
    config = toy_training(make_discs(tmp_path / "discs.zip"))
    recomputing = replace(config, train=replace(config.train, recompute=True))
    part = Part(Step(index=0, images_seen=4, batch_size=2, seed=1), (0, 1), torch.device("cpu"))
    assert_recomputed_is_the_same(EG3DTask(config), EG3DTask(recomputing), phase, part, share=share)
