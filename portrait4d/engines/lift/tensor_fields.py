"""What the parts of an avatar share: dataclasses of tensors that move to a device together, and a soft step."""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from typing import TYPE_CHECKING

import torch
from torch import Tensor

if TYPE_CHECKING:
    from typing_extensions import Self


@dataclass(frozen=True)
class TensorFields:
    """Base of dataclasses whose fields are tensors."""

    def to(self, device: torch.device | str) -> Self:
        """The same on another device."""
        return replace(self, **{field.name: getattr(self, field.name).to(device) for field in fields(self)})


def smoothstep(share: Tensor) -> Tensor:
    """0 below 0, 1 above 1, and between them `3 s^2 - 2 s^3`, level at both ends."""
    share = share.clamp(0, 1)
    return share * share * (3 - 2 * share)
