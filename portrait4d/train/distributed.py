"""Several processes that train one network: `torch.distributed` without wrappers around the network.

Each process computes its part of the batch, and one flat all-reduce per optimiser phase sums the gradients.
`DistributedDataParallel` hooks the backward pass instead, which is wrong or hangs with the gradient penalty's double
backward, with phases that leave some parameters without gradient, and with accumulation over rounds.
"""

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta

import torch
import torch.distributed as dist
from torch import Tensor

from flame.errors import InputError

TIMEOUT_SECONDS = 600
"""Silence of another process after which a step fails. One that dies is noticed at once, by its closed connection or by
torchrun; a living one may be silent for minutes, while it compiles, draws a grid, or waits for a slow disk."""


@dataclass(frozen=True)
class Workers:
    """The processes of a run.

    Attributes:
        rank: of this one, from 0.
        count: of all.
    """

    rank: int = 0
    count: int = 1

    @property
    def is_first(self) -> bool:
        """Whether this process writes files and speaks."""
        return self.rank == 0

    def sum_(self, tensor: Tensor) -> Tensor:
        """Sums a tensor over all processes, in place.

        Raises:
            InputError: another process has ended or is silent.
        """
        if self.count > 1:
            try:
                dist.all_reduce(tensor)
            except RuntimeError as error:
                reason = str(error).splitlines()[0][:160]
                raise InputError(
                    f"process {self.rank} of {self.count} lost the others ({reason}): see their output, then start the "
                    "same command again; the run resumes from its last checkpoint"
                ) from error
        return tensor

    def any(self, flag: bool, device: torch.device) -> bool:
        """Whether the flag is set in any process."""
        return bool(self.sum_(torch.tensor([float(flag)], device=device)) > 0)

    def wait(self, device: torch.device) -> None:
        """Returns once all processes have come here."""
        self.sum_(torch.zeros(1, device=device))


@contextmanager
def join_workers(device: torch.device) -> Iterator[Workers]:
    """The processes that `torchrun` started, or one alone.

    Raises:
        InputError: they could not meet.
    """
    count = int(os.environ.get("WORLD_SIZE", "1"))
    if count == 1:
        yield Workers()
        return
    backend = "nccl" if device.type == "cuda" else "gloo"
    try:
        dist.init_process_group(backend, timeout=timedelta(seconds=TIMEOUT_SECONDS))
    except (RuntimeError, ValueError) as error:
        raise InputError(
            f"expected {count} processes started by torchrun, they did not meet ({str(error)[:120]}): "
            "check --nnodes, --rdzv-endpoint and the firewall"
        ) from error
    try:
        yield Workers(dist.get_rank(), count)
    finally:
        dist.destroy_process_group()


def split_batch(batch_size: int, *, parts: int, group_size: int) -> list[tuple[int, ...]]:
    """Splits the places of a batch into parts that hold whole groups.

    A group is what `append_batch_deviation` compares: of N samples in groups of G, sample i is with those at
    i + N / G, i + 2 N / G, ... Each part keeps that order, so that its own groups are those of the whole batch.

    Args:
        batch_size: N.
        parts: processes times rounds.
        group_size: G; 1 where samples do not see each other.

    Raises:
        InputError: the groups cannot be shared out evenly.
    """
    if batch_size % (parts * group_size):
        raise InputError(
            f"expected a batch of a multiple of {parts * group_size} samples for {parts} parts of whole groups of "
            f"{group_size}, got {batch_size}: change train.batch_size, train.micro_batch or the number of processes"
        )
    stride = batch_size // group_size
    size = stride // parts
    firsts = [range(part * size, (part + 1) * size) for part in range(parts)]
    return [tuple(first + member * stride for member in range(group_size) for first in own) for own in firsts]


def reduce_gradients(parameters: Sequence[torch.nn.Parameter], workers: Workers) -> int:
    """Sums gradients over all processes with one message, and makes them finite as the released code does.

    Not-a-number becomes 0 and infinity 1e5.

    Args:
        parameters: those without a gradient are left out; they must be the same in every process.
        workers: the processes.

    Returns:
        How many numbers were not finite.
    """
    gradients = [parameter.grad for parameter in parameters if parameter.grad is not None]
    if not gradients:
        return 0
    flat = workers.sum_(torch.cat([gradient.flatten() for gradient in gradients]))
    num_bad = int((~flat.isfinite()).sum())
    if num_bad:
        flat = torch.nan_to_num(flat, nan=0.0, posinf=1e5, neginf=-1e5)
    if num_bad or workers.count > 1:
        for gradient, value in zip(gradients, flat.split([gradient.numel() for gradient in gradients]), strict=True):
            gradient.copy_(value.view_as(gradient))
    return num_bad
