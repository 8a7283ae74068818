"""Adam whose hidden matrices take steps of equal size in all directions: Muon (Jordan et al. 2024).

Adam scales each number by itself. In a network without norms a few directions of a matrix then get nearly all of each
step, and the rest learns late.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

MOMENTUM = 0.95
_NEWTON_SCHULZ = (3.4445, -4.775, 2.0315)
"""a, b, c of a x + b x^3 + c x^5, which takes what is in (0, 1] to about 1 within a few rounds (Jordan et al. 2024)."""
_ROUNDS = 5
_LEAST_NORM = 1e-7


class MuonAdam(torch.optim.Adam):
    """Adam; groups whose `is_muon` is true take Muon's steps instead, at the group's learning rate.

    Their parameters have two dimensions or more; a convolution's weights are a matrix of its output channels. Their
    state is `momentum`, of the parameter's shape.
    """

    def state_like(self, parameter: Tensor) -> dict[str, Tensor]:
        """Tensors like those that are kept of a parameter between steps, by name."""
        if any(parameter is member for group in self.param_groups if group["is_muon"] for member in group["params"]):
            return {"momentum": parameter}
        return {"step": torch.zeros(()), "exp_avg": parameter, "exp_avg_sq": parameter}

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:  # noqa: D102
        if closure is not None:
            raise ValueError("expected gradients, got a closure: MuonAdam takes none")
        for group in self.param_groups:
            if group["is_muon"]:
                for parameter in group["params"]:
                    self._take(parameter, group["lr"])
        return super().step()

    def _take(self, parameter: Tensor, rate: float) -> None:
        """Muon's step with Nesterov's momentum, and with a rate that suits any shape of matrix."""
        gradient = parameter.grad
        if gradient is None:
            return
        parameter.grad = None  # Adam passes over what has none
        state = self.state[parameter]
        momentum = state.setdefault("momentum", torch.zeros_like(parameter))
        momentum.lerp_(gradient, 1 - MOMENTUM)
        matrix = gradient.lerp(momentum, MOMENTUM).flatten(1)
        height, width = matrix.shape
        parameter.sub_(orthogonalise(matrix).view_as(parameter), alpha=rate * max(1.0, height / width) ** 0.5)


def orthogonalise(matrix: Tensor) -> Tensor:
    """U V' of a matrix `[M, N]` = U S V', nearly: Newton-Schulz rounds leave singular values between 0.7 and 1.2."""
    a, b, c = _NEWTON_SCHULZ
    height, width = matrix.shape
    x = matrix if height <= width else matrix.T
    x = x / x.norm().clamp_min(_LEAST_NORM)
    for _ in range(_ROUNDS):
        square = x @ x.T
        x = torch.addmm(x, torch.addmm(square, square, square, beta=b, alpha=c), x, beta=a)
    return x if height <= width else x.T
