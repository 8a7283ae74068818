"""The objective of a batched fit: landmarks, priors and limits of many images, and its quadratic model around a state.

The priors apply to the apparent size of coefficients, which is `nearness` times the coefficients: the distance of the
mean head over that of the head. A prior of the coefficients themselves would favour small near heads, which need
smaller coefficients for the same picture, and every frame of a person would add to that bias. Measured with 1 px of
noise and eight frames, it puts heads 12 % too near and causes most of the error of the shape.
"""

import copy
from dataclasses import replace

import torch
from torch import Tensor

from flame.geometry.rotation import axis_angle_to_matrix
from preprocess.fitting.batched.residuals import BatchResiduals, BatchState, Target
from preprocess.fitting.batched.solve import BatchNormal
from preprocess.fitting.config import FitConfig, Prior

RIGID_DAMPING = 1e-3
_MAX_TURN = 0.5


class BatchPrior:
    """The prior of one image's own unknowns in float64, on a device; tables as in `Prior`."""

    def __init__(self, prior: Prior, *, num_expression: int, device: torch.device) -> None:
        tables = (prior.hessian, prior.linear, prior.lower, prior.upper)
        self.hessian, self.linear, self.lower, self.upper = (torch.from_numpy(part).to(device) for part in tables)
        self._is_expression = torch.arange(len(self.linear), device=device) < num_expression

    def __call__(self, own: Tensor, nearness: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Evaluates the prior.

        Args:
            own: `[B, P]` own unknowns.
            nearness: `[B]` factor on expressions; angles have none.

        Returns:
            Cost `[B]`, gradient `[B, P + 1]` and Gauss-Newton Hessian `[B, P + 1, P + 1]`; the last derivative is by
            the logarithm of nearness.
        """
        scale = torch.where(self._is_expression, nearness[:, None], torch.ones_like(own))
        seen = own * scale
        pull = seen @ self.hessian
        jacobian = torch.cat([torch.diag_embed(scale), (seen * self._is_expression)[..., None]], 2)
        gradient = ((pull + self.linear)[:, None] @ jacobian)[:, 0]
        return ((0.5 * pull + self.linear) * seen).sum(1), gradient, jacobian.mT @ self.hessian @ jacobian

    def room(self, own: Tensor) -> tuple[Tensor, Tensor]:
        """Returns the bounds of a step of [own | pose 6], lower and upper, `[B, P + 6]` each."""
        free = own.new_full((len(own), 6), torch.inf)
        lower = (self.lower - own).clamp_max(0)  # an unknown rounded to just outside the box may stay
        upper = (self.upper - own).clamp_min(0)
        return torch.cat([lower, -free], 1), torch.cat([upper, free], 1)


class Objective:
    """The cost of a batch, its quadratic model, and a step of the heads' poses alone."""

    def __init__(
        self, residuals: BatchResiduals, prior: BatchPrior, config: FitConfig, *, target: Target, start: BatchState,
        is_clip: bool,
    ) -> None:  # fmt: skip
        """Stores the parts of the objective.

        Args:
            residuals: tables of the landmarks.
            prior: of an image's own unknowns.
            config: weights of the priors.
            target: the landmarks of the batch.
            start: mean heads aligned with the landmarks; their distances are the expected ones.
            is_clip: whether successive images of one person are consecutive frames.
        """
        self.residuals, self.target, self._prior = residuals, target, prior
        self.num_people = len(start.shape)
        self._place = start.translation[:, 2].double()
        count = torch.ones_like(self._place)
        if config.num_independent is None:
            count = self.by_person(count)[target.person]
        self._place_weight = (config.distance_sigma * self._place) ** -2 / count
        self._shape_weight = config.shape_sigma**-2 / count
        self._link = None
        if is_clip:
            follows = torch.cat([target.person.new_zeros(1), (target.person.diff() == 0).long()]).double()
            self._link = follows[:, None] * config.temporal_sigma**-2

    def of(self, people: Tensor) -> "Objective":
        """Returns the objective of some people (ascending indices)."""
        if len(people) == self.num_people:
            return self
        images = torch.isin(self.target.person, people)
        some = copy.copy(self)
        target = self.target.of(images)
        some.target = replace(target, person=torch.searchsorted(people, target.person))
        some.num_people = len(people)
        some._place, some._place_weight = self._place[images], self._place_weight[images]
        some._shape_weight = self._shape_weight[images]
        some._link = None if self._link is None else self._link[images]
        return some

    def by_person(self, values: Tensor) -> Tensor:
        """Sums values of images over each person, `[B]` -> `[N]`."""
        return values.new_zeros(self.num_people).index_add_(0, self.target.person, values)

    def cost(self, state: BatchState, robust: Tensor) -> Tensor:
        """Returns the cost of each person `[N]`, float64.

        Args:
            state: the unknowns.
            robust: `[B, L]` weights of `BatchResiduals.robust_weights`.
        """
        own, shape = state.own.double(), state.shape.double()[self.target.person]
        place = state.translation[:, 2].double()
        nearness = self._place / place
        cost = self.residuals.cost(state, self.target, robust) + self._prior(own, nearness)[0]
        cost = cost + 0.5 * self._shape_weight * ((nearness[:, None] * shape) ** 2).sum(1)
        cost = cost + 0.5 * self._place_weight * (place - self._place) ** 2
        if self._link is not None:
            cost = cost + 0.5 * (self._link * (own - own.roll(1, 0)) ** 2).sum(1)
        return self.by_person(cost)

    def normal(self, state: BatchState, robust: Tensor, damping: Tensor) -> BatchNormal:
        """Returns the quadratic model around a state; arguments as for `cost`, and damping `[N]` of each person."""
        hessian, gradient = self.residuals.normal(state, self.target, robust, is_pose_only=False)
        self._add_priors(state, hessian, gradient)
        own, size, link = state.own.double(), self.residuals.num_own, None
        diagonal = hessian.diagonal(dim1=1, dim2=2)
        if self._link is not None:
            change = self._link * (own - own.roll(1, 0))
            gradient[:, :size] += change - change.roll(-1, 0)
            diagonal[:, :size] += self._link + self._link.roll(-1, 0)
            link = torch.cat([self._link.expand(-1, size), own.new_zeros(len(own), 6)], 1)
        diagonal *= 1 + damping[self.target.person, None]
        return BatchNormal(hessian, gradient, *self._prior.room(own), self.target.person, self.num_people, link)

    def _add_priors(self, state: BatchState, hessian: Tensor, gradient: Tensor) -> None:
        size = self.residuals.num_own
        shape, place = state.shape.double()[self.target.person], state.translation[:, 2].double()
        slope = -1 / place  # of the logarithm of nearness
        _, pull, block = self._prior(state.own.double(), self._place / place)
        pull[:, -1] *= slope
        block[:, -1] *= slope[:, None]
        block[:, :, -1] *= slope[:, None]
        columns = torch.tensor([*range(size), size + 5], device=gradient.device)
        gradient[:, columns] += pull
        hessian[:, columns[:, None], columns] += block
        weight = self._shape_weight * (self._place / place) ** 2
        mixed, energy = (weight * slope)[:, None] * shape, weight * (shape**2).sum(1)
        gradient[:, size + 6 :] += weight[:, None] * shape
        gradient[:, size + 5] += energy * slope + self._place_weight * (place - self._place)
        hessian[:, size + 5, size + 6 :] += mixed
        hessian[:, size + 6 :, size + 5] += mixed
        diagonal = hessian.diagonal(dim1=1, dim2=2)
        diagonal[:, size + 6 :] += weight[:, None]
        diagonal[:, size + 5] += energy * slope**2 + self._place_weight

    def align(self, state: BatchState) -> BatchState:
        """Takes one step of the heads' poses alone."""
        plain = torch.ones_like(self.target.weights)
        hessian, gradient = self.residuals.normal(state, self.target, plain, is_pose_only=True)
        hessian.diagonal(dim1=1, dim2=2).mul_(1 + RIGID_DAMPING)
        step = -torch.linalg.solve(hessian, gradient)
        still = step.new_zeros(len(step), self.residuals.num_own)
        return moved(state, torch.cat([still, step], 1), torch.zeros_like(state.shape))


def moved(state: BatchState, own: Tensor, shared: Tensor) -> BatchState:
    """Returns a state after a step of [own | rotation 3 | translation 3] `[B, P + 6]` and of the shapes `[N, K]`."""
    step, size = own.to(state.own), state.own.shape[1]
    turn = axis_angle_to_matrix(step[:, size : size + 3].clamp(-_MAX_TURN, _MAX_TURN))
    return BatchState(
        state.own + step[:, :size],
        turn @ state.rotation,
        state.translation + step[:, size + 3 :],
        state.shape + shared.to(state.shape),
    )
