"""Whether views belong together: one identity, one geometry; and whether different samples differ."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from flame.geometry.camera import Camera
from portrait4d.render.rays import cast_rays

DepthKind = Literal["ray", "axis"]
"""`ray`: along the unit ray, as the volume renderer has it; `axis`: along -z of the camera, as a rasteriser has it."""


@dataclass(frozen=True)
class View:
    """A batch of pictures with geometry.

    Attributes:
        image: `[B, 3, H, W]` in [-1, 1].
        depth: `[B, 1, H, W]` in world units, infinite where nothing was hit.
        camera: of B.
        depth_kind: what the depth is measured along.
    """

    image: Tensor
    depth: Tensor
    camera: Camera
    depth_kind: DepthKind = "ray"

    def __post_init__(self) -> None:
        shape = (len(self.camera), 1, *self.image.shape[2:])
        if self.image.ndim != 4 or self.image.shape[:2] != (len(self.camera), 3) or self.depth.shape != shape:
            raise ValueError(
                f"expected image [B, 3, H, W] and depth [B, 1, H, W] of {len(self.camera)} cameras, got "
                f"{list(self.image.shape)} and {list(self.depth.shape)}"
            )


@dataclass(frozen=True)
class ViewAgreement:
    """How a view agrees with another, seen through its own depth.

    Attributes:
        colour: `[B]` mean absolute error of colours in [-1, 1]; NaN where nothing is covered.
        depth: `[B]` mean absolute error of depth in world units, over pixels with a hit in both; outliers count.
        covered: `[B]` share of the view's hit pixels that the other view sees.
    """

    colour: Tensor
    depth: Tensor
    covered: Tensor


def view_agreement(view: View, other: View, *, tolerance: float) -> ViewAgreement:
    """Carries each pixel of a view by its depth into the other view and compares colour and depth there.

    A pixel is covered where the other picture shows a surface within `tolerance` of the carried point: what it cannot
    see is hidden, not wrong. Depth errors are those of all pixels that fall on a hit of the other view.

    Args:
        view: whose pixels are carried.
        other: is sampled; colour bilinear, depth at the nearest pixel, since the middle of two depths is on neither.
        tolerance: in world units; 0.01 suits a head in metres.
    """
    points, is_hit = _world_points(view)
    height, width = other.image.shape[2:]
    pixels, along_axis = other.camera.project(points, height=height, width=width)
    size = pixels.new_tensor([width, height])
    grid = torch.where(is_hit[..., None], pixels / size * 2 - 1, pixels.new_full((), 2.0))[:, None]  # outside
    colour = F.grid_sample(other.image, grid, align_corners=False, padding_mode="border")[:, :, 0]
    finite = torch.where(other.depth.isfinite(), other.depth, torch.zeros_like(other.depth))
    seen = F.grid_sample(finite, grid, mode="nearest", align_corners=False)[:, 0, 0]
    carried = along_axis if other.depth_kind == "axis" else _distance(points, other.camera)
    is_inside = (grid[:, 0].abs() <= 1).all(-1) & (along_axis > 0) & (seen > 0) & is_hit
    apart = torch.where(is_inside, (carried - seen).abs(), torch.zeros_like(seen))
    is_covered = is_inside & (apart <= tolerance)
    error = (colour - view.image.flatten(2)).abs().mean(1)
    return ViewAgreement(
        colour=_masked_mean(error, is_covered),
        depth=_masked_mean(apart, is_inside),
        covered=is_covered.sum(1) / is_hit.sum(1).clamp(min=1),
    )


def identity_agreement(views: Tensor, embed: Callable[[Tensor], Tensor]) -> tuple[Tensor, Tensor]:
    """Cosine similarity of embeddings between views of one head, and between heads, which gives the first its scale.

    Args:
        views: `[N, V, 3, H, W]` in [-1, 1], V views of each of N heads, V at least 2.
        embed: pictures `[B, 3, H, W]` to vectors `[B, D]`.

    Returns:
        `[N]` mean over pairs of views of a head, and `[N]` mean over views of other heads (NaN for one head).
    """
    if views.ndim != 5 or views.shape[1] < 2:
        raise ValueError(f"expected views [N, V, 3, H, W] with V of at least 2, got {list(views.shape)}")
    num_heads, num_views = views.shape[:2]
    vectors = F.normalize(torch.cat([embed(head) for head in views]), dim=-1)
    cosine = (vectors @ vectors.T).reshape(num_heads, num_views, num_heads, num_views).sum((1, 3))
    own = cosine.diagonal()
    same = (own - num_views) / (num_views * (num_views - 1))
    different = (cosine.sum(1) - own) / ((num_heads - 1) * num_views**2 or float("nan"))
    return same, different


def diversity(samples: Tensor) -> Tensor:
    """Mean absolute difference of two different samples, over all pairs; 0 if all are equal.

    Args:
        samples: pictures `[N, 3, H, W]` or features `[N, D]`, N at least 2.
    """
    if samples.ndim < 2 or len(samples) < 2:
        raise ValueError(f"expected at least 2 samples [N, ...], got {list(samples.shape)}")
    flat = samples.flatten(1)
    return torch.cdist(flat, flat, p=1).sum() / (len(flat) * (len(flat) - 1) * flat.shape[1])


def _world_points(view: View) -> tuple[Tensor, Tensor]:
    """The world points `[B, H * W, 3]` of a view's pixels, and whether each is a hit."""
    height, width = view.image.shape[2:]
    rays = cast_rays(view.camera, height=height, width=width)
    depth = view.depth.flatten(1)
    is_hit = depth.isfinite() & (depth > 0)
    along = torch.where(is_hit, depth, torch.ones_like(depth))
    if view.depth_kind == "axis":
        axis = -view.camera.cam2world[:, :3, 2]
        along = along / (rays.directions * axis[:, None]).sum(-1)
    return rays.origins + along[..., None] * rays.directions, is_hit


def _distance(points: Tensor, camera: Camera) -> Tensor:
    return (points - camera.cam2world[:, None, :3, 3]).norm(dim=-1)


def _masked_mean(values: Tensor, mask: Tensor) -> Tensor:
    """Mean over the last axis where the mask holds; NaN where it holds nowhere."""
    return torch.where(mask, values, torch.zeros_like(values)).sum(-1) / mask.sum(-1)
