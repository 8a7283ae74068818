"""Motion codes that need no network: the head model's own numbers (Portrait4D, Deng et al. 2024, section 4.3).

The paper's ablation takes FLAME's expression, jaw and eyes in place of PD-FGC; the same works with any head model.
"""

import torch
from torch import Tensor

NUM_JOINT_NUMBERS = 9
"""Of the jaw and both eyes."""


def parameter_code(expression: Tensor, jaw: Tensor, eyes: Tensor) -> Tensor:
    """Codes `[B, E + 9]` of heads.

    Args:
        expression: `[B, E]`.
        jaw: `[B, 3]` radians.
        eyes: `[B, 2, 3]` radians, the subject's left first.
    """
    return torch.cat([expression, jaw, eyes.flatten(1)], 1)


def parameter_code_size(num_expression: int) -> int:
    """Length of such a code."""
    return num_expression + NUM_JOINT_NUMBERS
