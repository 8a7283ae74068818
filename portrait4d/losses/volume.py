"""How like two volumes of a head are, where the true one is known, as it is for synthesised heads.

Portrait4D (Deng et al. 2024), section 3.2, in the form of the released training.
"""

from torch import Tensor

from portrait4d.losses.pictures import over_black
from portrait4d.render.planes import TriPlanes


def opacity_term(alpha: Tensor, mask: Tensor) -> Tensor:
    """Mean absolute difference of two masks in [-1, 1], so twice that of opacities.

    Args:
        alpha: `[B, 1, R, R]` rendered opacity in [0, 1].
        mask: `[B, 1, R, R]` the true mask in [-1, 1].
    """
    return (2 * alpha - 1 - mask).abs().mean()


def depth_term(depth: Tensor, true_depth: Tensor, share: Tensor) -> Tensor:
    """Mean absolute difference of distances along the rays, world units, where the person is.

    Args:
        depth: `[B, 1, R, R]`.
        true_depth: the same of the truth.
        share: `[B, 1, R, R]` in [0, 1], how much of a pixel the person covers in truth.
    """
    return ((true_depth - depth) * share).abs().mean()


def surface_term(depth: Tensor, surface: Tensor, counted: Tensor | None = None) -> Tensor:
    """Mean distance, in world units, between the rendered face and that of a fitted head model. Not in the papers.

    Args:
        depth: `[B, 1, R, R]` along the rays.
        surface: the same of the face, zero where nothing is known; those pixels count as right.
        counted: `[B]` weights of the heads; None is 1.
    """
    error = (surface > 0) * (depth - surface).abs()
    return (error if counted is None else counted[:, None, None, None] * error).mean()


def feature_term(
    foreground: Tensor, background: Tensor, true_features: Tensor, true_background: Tensor, share: Tensor
) -> Tensor:
    """Mean absolute difference of features, of the person and of the background.

    Args:
        foreground: `[B, C, R, R]` rendered features over black, in [-1, 1].
        background: `[B, C, R, R]` in [-1, 1].
        true_features: `[B, C, R, R]` over the true background, in [-1, 1].
        true_background: `[B, C, R, R]`.
        share: `[B, 1, R, R]` in [0, 1], how much of a pixel the person covers in truth.
    """
    person = (over_black(true_features, share) - foreground).abs().mean()
    return person + (true_background - background).abs().mean()


def plane_term(planes: TriPlanes, points: Tensor, true_features: Tensor) -> Tensor:
    """Mean absolute difference of the planes' features at points, the mean over the three planes.

    Args:
        planes: of the reconstruction.
        points: `[B, N, 3]` of the head at rest, world units.
        true_features: `[B, N, C]`, means over the true volume's planes.
    """
    return (planes.sample(points) - true_features).abs().mean()
