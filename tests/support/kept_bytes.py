"""How much of a phase's forward pass is kept for its backward pass, and what the gradients are."""

import torch
from torch import Tensor

from portrait4d.train.task import Part, Task


def phase_gradients(task: Task, name: str, part: Part) -> tuple[dict[str, Tensor], int]:
    """Gradients of a phase over a part, and the bytes that it keeps from its forward pass beside parameters."""
    phase = next(phase for phase in task.phases if phase.name == name)
    for each, network in task.networks.items():
        network.requires_grad_(each == phase.trains)
        network.zero_grad(set_to_none=True)
    parameters = {value.data_ptr() for network in task.networks.values() for value in network.parameters()}
    kept: dict[int, Tensor] = {}  # whole storages; tensors stay alive, so that no address is used twice

    def keep(tensor: Tensor) -> Tensor:
        kept[tensor.untyped_storage().data_ptr()] = tensor
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        terms = phase.loss(part)
    num_bytes = sum(tensor.untyped_storage().nbytes() for address, tensor in kept.items() if address not in parameters)
    torch.stack(list(terms.values())).sum().backward()
    named = task.networks[phase.trains].named_parameters()
    return {key: value.grad.clone() for key, value in named if value.grad is not None}, num_bytes


def assert_recomputed_is_the_same(plain: Task, recomputing: Task, name: str, part: Part, *, share: float) -> None:
    """The same gradients to the bit, with at most a share of the bytes."""
    (wanted, whole), (found, kept) = (phase_gradients(task, name, part) for task in (plain, recomputing))
    assert wanted.keys() == found.keys() and any(value.abs().sum() > 0 for value in wanted.values())
    for key, value in wanted.items():
        assert torch.equal(value, found[key]), key
    assert kept < share * whole, (kept, whole)
