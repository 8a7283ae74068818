"""How well a fitted scene shows held-out views: PSNR, and a sheet of truth, fit and error side by side."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from flame.geometry.camera import Camera
from portrait4d.render.rays import Rays
from portrait4d.render.renderer import render_rays
from portrait4d.render.sampling import box_range
from portrait4d.runtime.streams import num_render_workers, ordered_map
from portrait4d.scene.box import BOX_WARP
from portrait4d.scene.model import FittedScene
from portrait4d.scene.rays import rays_inside
from portrait4d.scene.views import PosedViews
from preprocess.media.contact_sheet import contact_sheet
from preprocess.media.image import to_uint8

ERROR_GAIN = 4
_VIEWS_PER_ROW = 3
_MAX_VIEWS = 12


def psnr(image: Tensor, truth: Tensor) -> Tensor:
    """Peak signal-to-noise ratio `[B]` in dB of pictures `[B, 3, H, W]` in [-1, 1], whose peak is 2."""
    return 10 * torch.log10(4 / (image - truth).square().mean((1, 2, 3)))


class HeldOutRays:
    """Some rays of held-out views, for a quick look while a fit runs."""

    def __init__(self, scene: FittedScene, views: PosedViews, *, count: int = 2048) -> None:
        rays, colours = rays_inside(scene, views)
        chosen = torch.linspace(0, len(colours) - 1, min(count, len(colours)), device=colours.device).long()
        self._rays = Rays(rays.origins[:, chosen], rays.directions[:, chosen])
        self._colours = colours[chosen]

    @torch.no_grad()
    def psnr(self, scene: FittedScene) -> float:
        """PSNR in dB over these rays, which leave out rays that miss the scene's cube: those are always right."""
        marched = render_rays(
            scene.field(), self._rays, scene.config.render, depth_range=box_range(self._rays, box_warp=BOX_WARP)
        )
        return float(-10 * torch.log10((marched.features[0] - self._colours).square().mean()))


def render_views(scene: FittedScene, camera: Camera, *, side: int) -> Iterator[Tensor]:
    """Pictures `[1, 3, side, side]` in [-1, 1], on the CPU, of each of the cameras; the same every time."""
    device = scene.planes.device

    def draw(index: int) -> Tensor:
        seen = scene.render(camera[index].to(device), height=side, width=side)
        return (seen.features * 2 - 1).clamp(-1, 1).cpu()

    return ordered_map(draw, range(len(camera)), num_workers=num_render_workers(device.type))


def write_comparison(path: Path, rendered: Tensor, views: PosedViews) -> None:
    """Writes a sheet of truth, fit and enlarged error: at most 12 views, spread over all."""
    chosen = np.unique(np.linspace(0, len(views) - 1, min(len(views), _MAX_VIEWS)).round().astype(int))
    truth, fit = to_uint8(views.images), to_uint8(rendered)
    quality = psnr(rendered, views.images)
    rows, labels = [], []
    for start in range(0, len(chosen), _VIEWS_PER_ROW):
        cells, texts = [], []
        for index in chosen[start : start + _VIEWS_PER_ROW]:
            difference = np.abs(truth[index].astype(int) - fit[index]) * ERROR_GAIN
            cells += [truth[index], fit[index], difference.clip(0, 255).astype(np.uint8)]
            texts += [f"{views.names[index]} truth", f"fit {float(quality[index]):.1f} dB", f"error x {ERROR_GAIN}"]
        rows.append(cells)
        labels.append(texts)
    contact_sheet(rows, path, labels, cell_height=max(views.side, 128))
