"""What generator and discriminator minimise: the non-saturating loss and the R1 gradient penalty.

Goodfellow et al. 2014, section 3; Mescheder et al. 2018, equation 9.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from flame.geometry.camera import Camera
from portrait4d.gan.discriminator import JudgedImages

Judge = Callable[[JudgedImages, Camera | Tensor], Tensor]
"""A discriminator, which maps images and their cameras to logits `[B, 1]`."""


def generator_loss(fake_logits: Tensor) -> Tensor:
    """Mean of `-log sigmoid(logit)` over generated images."""
    return F.softplus(-fake_logits).mean()


def real_loss(real_logits: Tensor) -> Tensor:
    """The discriminator's mean of `-log sigmoid(logit)` over real images."""
    return F.softplus(-real_logits).mean()


def fake_loss(fake_logits: Tensor) -> Tensor:
    """The discriminator's mean of `-log(1 - sigmoid(logit))` over generated images."""
    return F.softplus(fake_logits).mean()


def discriminator_loss(real_logits: Tensor, fake_logits: Tensor) -> Tensor:
    """Sum of `real_loss` and `fake_loss`."""
    return real_loss(real_logits) + fake_loss(fake_logits)


@dataclass(frozen=True)
class R1Weights:
    """Weights (gamma) of the squared gradients by part; the defaults are those of FFHQ at 512.

    Attributes:
        image: of image and raw image.
        correspondence: of the correspondence map.
        mask: of the mask.
    """

    image: float = 1.0
    correspondence: float = 10.0
    mask: float = 1.0


def r1_penalty(
    judge: Judge, images: JudgedImages, condition: Camera | Tensor, *, weights: R1Weights | None = None
) -> Tensor:
    """Penalty `sum over parts of gamma / 2 * |d logit / d part|^2`, differentiable in the discriminator's parameters.

    Args:
        judge: the discriminator.
        images: real ones; no gradient flows back into them.
        condition: their cameras or labels.
        weights: gamma of each part.

    Returns:
        `[B]`, to be averaged by the caller.
    """
    weights = weights or R1Weights()
    gamma = {
        "image": weights.image,
        "image_raw": weights.image,
        "correspondence": weights.correspondence,
        "mask": weights.mask,
    }
    gradients = r1_gradients(judge, images, condition, create_graph=True)
    terms = [gamma[name] / 2 * gradient.square().sum([1, 2, 3]) for name, gradient in gradients.items()]
    return torch.stack(terms).sum(0)


def r1_gradients(
    judge: Judge, images: JudgedImages, condition: Camera | Tensor, *, create_graph: bool = False
) -> dict[str, Tensor]:
    """Gradient of the summed logits with respect to each part of real images, by the part's name.

    Args:
        judge: the discriminator.
        images: real ones.
        condition: their cameras or labels.
        create_graph: let the gradients be differentiated again.
    """
    images = images.requiring_grad()
    parts = images.parts()
    with torch.enable_grad():
        logits = judge(images, condition)
    gradients = torch.autograd.grad(logits.sum(), list(parts.values()), create_graph=create_graph)
    return dict(zip(parts, gradients, strict=True))
