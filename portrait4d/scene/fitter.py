"""The optimisation of one scene: random rays, their colours, Adam (NeRF, Mildenhall et al. 2020, on tri-planes)."""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from portrait4d.render.rays import Rays, cast_rays
from portrait4d.render.renderer import render_rays
from portrait4d.render.sampling import RandomNoise, box_range
from portrait4d.scene.box import BOX_WARP
from portrait4d.scene.choices import NUM_STEPS
from portrait4d.scene.model import FittedScene
from portrait4d.scene.views import PosedViews


@dataclass(frozen=True)
class FitterConfig:
    """How a scene is optimised.

    Attributes:
        num_steps: steps of Adam.
        num_rays: rays per step.
        planes_rate: learning rate of the planes at the first step.
        decoder_rate: learning rate of the decoder at the first step.
        final_share: share of both rates at the last step; they fall exponentially.
        smoothness: weight of the planes' mean squared difference between neighbouring texels.
        seed: of all random numbers.
    """

    num_steps: int = NUM_STEPS
    num_rays: int = 1024
    planes_rate: float = 0.4
    decoder_rate: float = 0.04
    final_share: float = 0.04
    smoothness: float = 0.003
    seed: int = 0


class SceneFitter:
    """A scene, the rays it must explain, and the optimiser's state.

    Attributes:
        scene: what is optimised.
        step_index: steps taken.
        optimizer: of the planes and the decoder.
        generator: of rays and noise; its state belongs to a checkpoint.
    """

    def __init__(self, scene: FittedScene, views: PosedViews, config: FitterConfig) -> None:
        self.scene, self.config = scene, config
        self.step_index = 0
        self.rays, self.colours = rays_inside(scene, views)
        device = scene.planes.device
        self.generator = torch.Generator(device).manual_seed(config.seed)
        groups = [
            {"params": [scene.planes], "lr": config.planes_rate},
            {"params": list(scene.decoder.parameters()), "lr": config.decoder_rate},
        ]
        self.optimizer = torch.optim.Adam(groups, betas=(0.9, 0.99), eps=1e-15)
        self._rates = [config.planes_rate, config.decoder_rate]

    def step(self) -> float:
        """Takes one step; returns the mean squared error of its rays, colours in [0, 1]."""
        config = self.config
        share = config.final_share ** (self.step_index / max(config.num_steps - 1, 1))
        for group, rate in zip(self.optimizer.param_groups, self._rates, strict=True):
            group["lr"] = rate * share
        count = self.rays.num_rays
        chosen = torch.randint(count, (config.num_rays,), generator=self.generator, device=self.colours.device)
        rays = Rays(self.rays.origins[:, chosen], self.rays.directions[:, chosen])
        marched = render_rays(
            self.scene.field(),
            rays,
            self.scene.config.render,
            depth_range=box_range(rays, box_warp=BOX_WARP),
            noise=RandomNoise(self.generator),
        )
        error = F.mse_loss(marched.features[0], self.colours[chosen])
        loss = error + config.smoothness * roughness(self.scene.planes)
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        self.optimizer.step()
        self.step_index += 1
        return float(error.detach())


def roughness(planes: Tensor) -> Tensor:
    """Mean squared difference of neighbouring texels of `[B, C, H, W]`, both directions."""
    return (planes[..., 1:, :] - planes[..., :-1, :]).square().mean() + (
        planes[..., :, 1:] - planes[..., :, :-1]
    ).square().mean()


def rays_inside(scene: FittedScene, views: PosedViews) -> tuple[Rays, Tensor]:
    """All rays of the views that meet the cube, `[1, N]` in fitted units, and their colours `[N, 3]` in [0, 1]."""
    camera = scene.config.box.to_fitted(views.camera)
    rays = cast_rays(camera, height=views.side, width=views.side)
    hits = box_range(rays, box_warp=BOX_WARP).hits
    assert hits is not None
    colours = ((views.images + 1) / 2).permute(0, 2, 3, 1).flatten(1, 2)
    device = scene.planes.device
    return (
        Rays(rays.origins[hits][None].to(device), rays.directions[hits][None].to(device)),
        colours[hits].to(device),
    )
