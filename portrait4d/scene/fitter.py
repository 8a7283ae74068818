"""The optimisation of one scene: random rays and their colours (NeRF, Mildenhall et al. 2020, on tri-planes).

A sample of the training loop is here a bundle of rays, and a step takes one.
"""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from portrait4d.render.rays import Rays
from portrait4d.render.renderer import render_rays
from portrait4d.render.sampling import RandomNoise, box_range
from portrait4d.scene.box import BOX_WARP
from portrait4d.scene.choices import NUM_STEPS
from portrait4d.scene.evaluation import HeldOutRays
from portrait4d.scene.model import FittedScene
from portrait4d.scene.rays import rays_inside
from portrait4d.scene.views import Scene
from portrait4d.train.config import OptimiserConfig, RunConfig
from portrait4d.train.distributed import Workers
from portrait4d.train.task import Part, Phase, Step, Task, Terms

HISTORY_STEPS = 100
"""Steps between two looks at held-out rays."""


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

    def run(self, *, checkpoint_seconds: float) -> RunConfig:
        """The same for the loop, which keeps the last checkpoint only."""
        return RunConfig(
            seed=self.seed,
            total_images=self.num_steps,
            batch_size=1,
            checkpoint_images=self.num_steps,
            checkpoint_seconds=checkpoint_seconds,
            keep_last=1,
            keep_every_images=0,
            report_images=HISTORY_STEPS,
            grid_images=0,
        )

    def optimisers(self) -> dict[str, OptimiserConfig]:
        """Adam's settings by network."""
        rates = {"decoder": self.decoder_rate / self.planes_rate}
        return {"scene": OptimiserConfig(learning_rate=self.planes_rate, betas=(0.9, 0.99), epsilon=1e-15, rates=rates)}


class SceneTask(Task):
    """A scene, the rays that it must explain, and some of held-out views that it is measured by.

    Args:
        scene: is optimised; on the device of the fit.
        views: pictures of it.
        config: of the optimisation.
    """

    def __init__(self, scene: FittedScene, views: Scene, config: FitterConfig) -> None:
        self.scene, self.config = scene, config
        self.networks = {"scene": scene}
        self.phases = [Phase("fit", "scene", self._loss)]
        self.rays, self.colours = rays_inside(scene, views.train)
        self.held_out = HeldOutRays(scene, views.test)

    def rate_share(self, step: Step) -> float:
        """See `Task`."""
        return self.config.final_share ** (step.index / max(self.config.num_steps - 1, 1))

    def finish(self, step: Step, workers: Workers) -> dict[str, float]:
        """Looks at held-out rays, dB, every `HISTORY_STEPS` steps and after the last."""
        taken = step.index + 1
        is_looked_at = taken % HISTORY_STEPS == 0 or taken == self.config.num_steps
        return {"held_out_psnr": self.held_out.psnr(self.scene)} if is_looked_at else {}

    def _loss(self, part: Part) -> Terms:
        """The mean squared error of the colours, in [0, 1], and the weighted roughness of the planes."""
        random = part.random("rays")
        like = torch.zeros((), dtype=torch.float64, device=part.device)
        places = random.uniform((len(part), self.config.num_rays), like)[0]
        chosen = (places * self.rays.num_rays).long()
        rays = Rays(self.rays.origins[:, chosen], self.rays.directions[:, chosen])
        marched = render_rays(
            self.scene.field(),
            rays,
            self.scene.config.render,
            depth_range=box_range(rays, box_warp=BOX_WARP),
            noise=RandomNoise(random),
        )
        error = F.mse_loss(marched.features[0], self.colours[chosen])
        return {"error": error, "roughness": self.config.smoothness * roughness(self.scene.planes)}


def roughness(planes: Tensor) -> Tensor:
    """Mean squared difference of neighbouring texels of `[B, C, H, W]`, both directions."""
    return (planes[..., 1:, :] - planes[..., :-1, :]).square().mean() + (
        planes[..., :, 1:] - planes[..., :, :-1]
    ).square().mean()
