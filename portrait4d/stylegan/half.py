"""Which blocks of a network compute in half precision, and in which type.

The released networks compute their finest blocks in fp16 on CUDA. bf16 has the range of fp32 with fewer digits, so that
gradients neither overflow nor vanish; it is taken on every device, because a CPU has it, too.
"""

import torch
from torch import Tensor, nn


class HalfBlock(nn.Module):
    """Base of blocks that can compute in half precision.

    Attributes:
        half_dtype: the type that they compute in; None is that of the parameters.

    Args:
        is_half: compute in fp16 on CUDA.
    """

    def __init__(self, *, is_half: bool) -> None:
        super().__init__()
        self.half_dtype: torch.dtype | None = torch.float16 if is_half else None

    def compute_dtype(self, like: Tensor) -> torch.dtype:
        """The type to compute in, for parameters or styles `like`."""
        if self.half_dtype is None or (self.half_dtype == torch.float16 and not like.is_cuda):
            return like.dtype
        return self.half_dtype


def set_half_dtype(network: nn.Module, dtype: torch.dtype | None) -> None:
    """Sets the type of all blocks that compute in half precision; None lets them compute as the others do.

    The limits on their activations, which belong to the network, stay.
    """
    for module in network.modules():
        if isinstance(module, HalfBlock) and module.half_dtype is not None:
            module.half_dtype = dtype
