"""How much light reaches the inside of the mouth: it comes through the lip opening, mostly from above.

A pixel is as bright as the share of opening around it: the mask of the opening is blurred and moved down, so that the
upper lip shades the teeth, corners are darker than the middle, and a mouth that is hardly open is dark. What is left in
the shadow has passed through flesh, so that it is red.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import avg_pool2d, pad

REACH = 0.0055
"""Half the width in metres of the surroundings from which light comes."""

LEAST = 0.25
"""Brightness where no light comes from the opening."""

FULL_FROM = 0.55
"""Share of opening around a pixel that lights it fully."""

_REDNESS = (0.8, 1.12, 1.1)
"""Exponents of the brightness for red, green and blue."""


def opening_light(opening: Tensor, pixels_per_metre: float) -> Tensor:
    """Brightness factors [H, W, 3] in (0, 1] of what lies behind an opening.

    Args:
        opening: [H, W] in [0, 1], 1 where the inside is seen.
        pixels_per_metre: scale of the picture at the lips.
    """
    reach = max(1, round(REACH * pixels_per_metre / 2))
    share = opening[None, None]
    for size in ((1, 2 * reach + 1), (2 * reach + 1, 1)) * 2:  # two boxes are nearly a bell
        share = avg_pool2d(pad(share, (size[1] // 2,) * 2 + (size[0] // 2,) * 2), size, 1)
    down = max(1, round(0.35 * REACH * pixels_per_metre))
    share = torch.cat([share[..., :1, :].expand(-1, -1, down, -1), share[..., :-down, :]], 2)
    share = (share[0, 0] / FULL_FROM).clamp(0, 1)
    brightness = LEAST + (1 - LEAST) * share * share * (3 - 2 * share)
    return brightness[..., None] ** opening.new_tensor(_REDNESS)
