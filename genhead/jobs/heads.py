"""Heads by seed, and the cameras that look at them, for all commands."""

import torch

from flame.errors import InputError
from flame.geometry.camera import Camera
from flame.heads.head_model import HeadParams
from genhead.config import GenHeadConfig
from genhead.generator import GenHeadGenerator, condition_label
from genhead.training.grid import frontal_camera
from genhead.volume import HeadVolume
from portrait4d.eg3d.interpolation import seed_latents
from portrait4d.jobs.eg3d.options import StyleOptions


@torch.no_grad()
def seed_volume(generator: GenHeadGenerator, seed: int, params: HeadParams, style: StyleOptions) -> HeadVolume:
    """The head of a seed, conditioned on the frontal camera and the shape of `params` `[1]`.

    Raises:
        InputError: the cutoff is beyond the network's layers.
    """
    num_styles = generator.backbone.synthesis.num_styles
    if style.cutoff is not None and style.cutoff > num_styles:
        raise InputError(f"expected a cutoff of at most {num_styles}, the network's layers, got {style.cutoff}")
    like = generator.backbone.mapping.w_avg
    latent = seed_latents((seed,), generator.config.latent_dim).to(like)
    condition = condition_label(frontal_camera(generator.config), params.shape.cpu())
    return generator.sample(latent, condition.to(like), psi=style.psi, cutoff=style.cutoff)


def view_cameras(
    config: GenHeadConfig, yaw_degrees: torch.Tensor, pitch_degrees: torch.Tensor, *, fov_degrees: float | None = None
) -> Camera:
    """Cameras at the training distance that show the head turned by the public angles.

    Args:
        config: says how far, and the lens.
        yaw_degrees: `[B]`, > 0 turns the nose to the viewer's right.
        pitch_degrees: `[B]`, > 0 shows the head looking up.
        fov_degrees: true field of view; None takes the training cameras'.
    """
    return Camera.orbit(
        yaw_degrees.float(),
        pitch_degrees.float(),
        radius=config.camera_radius,
        target=torch.zeros(3),
        fov_degrees=fov_degrees or config.camera_fov_degrees,
    )
