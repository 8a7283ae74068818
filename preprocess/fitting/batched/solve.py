"""One damped Gauss-Newton step of many images at once under box constraints; images of a person share unknowns.

The images' own unknowns are eliminated (Schur complement), then the shared ones of each person are solved for, both in
batches. Box constraints by projected Newton steps (Bertsekas 1982, "Projected Newton methods for optimization problems
with simple constraints"). People are independent: sums, step lengths and active sets are per person. All is float64:
the systems are small (some 180 unknowns per image) and badly conditioned, because only priors separate the head's
distance from its size.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

_MAX_ACTIVE_SET_STEPS = 12
_MAX_HALVINGS = 8


@dataclass(frozen=True)
class BatchNormal:
    """Quadratic models `1/2 d^T H d + g^T d` of B images; unknowns are the image's own P, then the K of its person.

    Attributes:
        hessian: `[B, P + K, P + K]` float64.
        gradient: `[B, P + K]`.
        lower: `[B, P]` smallest step of the own unknowns.
        upper: `[B, P]` largest step.
        person: `[B]` index of the person, 0 to N - 1.
        num_people: N.
        link: `[B, P]` weight of `1/2 (d_i - d_(i-1))^2` between an image and the one before; None if there is none.
            Its diagonal and its gradient are already in `hessian` and `gradient`.
    """

    hessian: Tensor
    gradient: Tensor
    lower: Tensor
    upper: Tensor
    person: Tensor
    num_people: int
    link: Tensor | None = None

    @property
    def num_own(self) -> int:
        """P, the own unknowns of an image."""
        return self.lower.shape[1]

    def sum_by_person(self, values: Tensor) -> Tensor:
        """Sums values of images over each person, `[B, ...]` -> `[N, ...]`."""
        return values.new_zeros(self.num_people, *values.shape[1:]).index_add_(0, self.person, values)

    def times(self, own: Tensor, shared: Tensor) -> tuple[Tensor, Tensor]:
        """Multiplies the Hessian by a step of own `[B, P]` and shared `[N, K]` unknowns; returns the same shapes."""
        both = torch.cat([own, shared[self.person]], 1)
        product = (self.hessian @ both[..., None])[..., 0]
        pushed = product[:, : self.num_own]
        if self.link is not None:
            between = self.link[1:]
            pushed = pushed.clone()
            pushed[1:] -= between * own[:-1]
            pushed[:-1] -= between * own[1:]
        return pushed, self.sum_by_person(product[:, self.num_own :])


def solve_batch(normal: BatchNormal) -> tuple[Tensor, Tensor, Tensor]:
    """Finds the steps that minimise the quadratic models within their bounds, which must allow a step of zero.

    Returns:
        Own steps `[B, P]`, shared steps `[N, K]`, and the decrease of each person's model `[N]`.
    """
    slope = normal.gradient[:, : normal.num_own]
    shared_slope = normal.sum_by_person(normal.gradient[:, normal.num_own :])
    step, shared = torch.zeros_like(slope), torch.zeros_like(shared_slope)
    decrease = shared_slope.new_zeros(normal.num_people)
    held = _held(step, slope, normal)
    for _ in range(_MAX_ACTIVE_SET_STEPS):
        direction, shared_direction = _newton(normal, ~held, slope, shared_slope)
        moved, shared_moved, push, shared_push = _search(
            normal, step, (slope, shared_slope), (direction, shared_direction)
        )
        decrease -= _value(normal, (slope, shared_slope), (moved, shared_moved), (push, shared_push))
        step, shared = step + moved, shared + shared_moved
        slope, shared_slope = slope + push, shared_slope + shared_push
        before, held = held, _held(step, slope, normal)
        if torch.equal(before, held):
            break
    return step, shared, decrease


def _held(step: Tensor, slope: Tensor, normal: BatchNormal) -> Tensor:
    """Returns which unknowns `[B, P]` are at a bound and would lower the cost outside it."""
    return ((step <= normal.lower) & (slope > 0)) | ((step >= normal.upper) & (slope < 0))


def _value(
    normal: BatchNormal, slope: tuple[Tensor, Tensor], moved: tuple[Tensor, Tensor], push: tuple[Tensor, Tensor]
) -> Tensor:
    """Returns by how much a step changes each person's model, `[N]`."""
    own = (moved[0] * (slope[0] + 0.5 * push[0])).sum(1)
    return normal.sum_by_person(own) + (moved[1] * (slope[1] + 0.5 * push[1])).sum(1)


def _search(
    normal: BatchNormal, step: Tensor, slope: tuple[Tensor, Tensor], direction: tuple[Tensor, Tensor]
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Searches each person's projected path at 1, 1/2, 1/4, ... for the longest step that does not raise the model.

    Returns:
        The step of own and shared unknowns (zero if there is none), and the Hessian times it.
    """
    length = step.new_ones(normal.num_people)
    for halving in range(_MAX_HALVINGS + 1):
        each = length[normal.person, None]
        moved = torch.minimum(torch.maximum(step + each * direction[0], normal.lower), normal.upper) - step
        shared_moved = length[:, None] * direction[1]
        push, shared_push = normal.times(moved, shared_moved)
        is_worse = _value(normal, slope, (moved, shared_moved), (push, shared_push)) > 0
        if not is_worse.any():
            break
        length = torch.where(
            is_worse, 0.5 * length if halving < _MAX_HALVINGS - 1 else torch.zeros_like(length), length
        )
    return moved, shared_moved, push, shared_push


def _newton(normal: BatchNormal, free: Tensor, slope: Tensor, shared_slope: Tensor) -> tuple[Tensor, Tensor]:
    """Returns the Newton step of the free own unknowns and all shared ones."""
    size = normal.num_own
    mask = free.to(slope.dtype)
    own = normal.hessian[:, :size, :size] * mask[:, :, None] * mask[:, None, :] + torch.diag_embed(1 - mask)
    coupling = normal.hessian[:, :size, size:] * mask[..., None]
    right = torch.cat([coupling, (slope * mask)[..., None]], 2)
    solved = _solve_own(own, right, None if normal.link is None else normal.link * mask, mask)
    reduced = normal.hessian[:, size:, size:] - coupling.mT @ solved[..., :-1]
    rest = shared_slope - normal.sum_by_person((coupling.mT @ solved[..., -1:])[..., 0])
    factor = torch.linalg.cholesky(normal.sum_by_person(reduced))
    shared = -torch.cholesky_solve(rest[..., None], factor)[..., 0]
    back = solved[..., -1:] + solved[..., :-1] @ shared[normal.person][..., None]
    return -back[..., 0], shared


def _solve_own(own: Tensor, right: Tensor, link: Tensor | None, mask: Tensor) -> Tensor:
    """Solves own blocks `[B, P, P]` for right-hand sides `[B, P, M]`; linked images by block elimination over time."""
    if link is None:
        return torch.cholesky_solve(right, torch.linalg.cholesky(own))
    factors, reduced = [], []
    for index in range(len(own)):
        block, side = own[index], right[index]
        if index:
            off = -link[index] * mask[index - 1]  # diagonal of the block between this image and the one before
            both = torch.cat([torch.diag(off), reduced[-1]], 1)
            solved = torch.cholesky_solve(both, factors[-1])
            block = block - off[:, None] * solved[:, : len(off)]
            side = side - off[:, None] * solved[:, len(off) :]
        factors.append(torch.linalg.cholesky(block))
        reduced.append(side)
    result = torch.empty_like(right)
    for index in reversed(range(len(own))):
        side = reduced[index]
        if index + 1 < len(own):
            side = side + (link[index + 1] * mask[index])[:, None] * result[index + 1]
        result[index] = torch.cholesky_solve(side, factors[index])
    return result
