"""Weights and schedules of the reconstructor's losses."""

from dataclasses import dataclass
from typing import get_args

from portrait4d.gan.resolution import neural_resolution
from portrait4d.gan.training import PenaltyConfig
from portrait4d.losses.choices import PerceptualName
from portrait4d.runtime.checks import check_choice, check_range


@dataclass(frozen=True, kw_only=True)
class ReconstructionLossConfig(PenaltyConfig):
    """Weights and schedules of the reconstructor's losses; the defaults are the released ones, at a batch of 32."""

    perceptual: PerceptualName = "lpips-vgg"
    """The perceptual distance: lpips-vgg as released, another trunk, st-lpips-alex or st-lpips-vgg, or pyramid, a
    stand-in that needs no weights."""

    perceptual_weight: float = 1.0
    """Weight of the perceptual distance."""

    region_weight: float = 0.0
    """Eyes and mouth count so many times more in the absolute differences of pictures; 0, as released, not at all.
    Ours, for small networks, which leave out small things."""

    mask_weight: float = 0.3
    """Weight of the difference of masks in [-1, 1]."""

    volume_images: int = 400_000
    """Images until which depth, features and planes count, and from which identity does."""

    depth_weight: float = 1.0
    """Weight of the difference of depths, world units."""

    feature_weight: float = 1.0
    """Weight of the difference of rendered features."""

    plane_weight: float = 0.1
    """Weight of the difference of the planes' features at points."""

    surface_weight: float = 0.0
    """Weight of the distance, in world units, from the rendered face to that of the head model that was fitted to a
    clip's frame; 0, as released, leaves it out. Ours, for small networks. It counts where pictures are rendered at
    their final side."""

    identity: str = "insightface"
    """The face recogniser: an ONNX or TorchScript file of ArcFace, insightface for that of its pack, or thumbnail, a
    stand-in that needs no weights."""

    identity_weight: float = 1.0
    """Weight of one minus the cosine of the faces' vectors."""

    adversarial_images: int = 1_000_000
    """Images from which there is an adversary."""

    adversarial_weight: float = 0.01
    """Weight of the adversarial loss."""

    density_points: int = 1000
    """Pairs of points at which density is compared, for each head."""

    density_interval: int = 16
    """Steps from one look at density to the next."""

    r1_gamma_correspondence: float = 10.0
    """Weight of the discriminator's squared gradient at correspondence maps."""

    r1_gamma_mask: float = 1.0
    """The same at masks."""

    resolution_initial: int = 64
    """Side of the rendered picture at first."""

    resolution_start: int = 1_000_000
    """Images after which it grows."""

    resolution_images: int = 1_000_000
    """Images over which it grows to the configured side."""

    def __post_init__(self) -> None:
        super().__post_init__()
        weights = ("perceptual", "region", "mask", "depth", "feature", "plane", "surface", "identity", "adversarial")
        for name in (*(f"{weight}_weight" for weight in weights), "r1_gamma_correspondence", "r1_gamma_mask"):
            check_range(f"loss.{name}", getattr(self, name), 0.0, 1e6)
        check_choice("loss.perceptual", self.perceptual, get_args(PerceptualName))
        for name in ("volume_images", "adversarial_images", "resolution_start", "resolution_images"):
            check_range(f"loss.{name}", getattr(self, name), 0, None)
        for name in ("density_points", "resolution_initial"):
            check_range(f"loss.{name}", getattr(self, name), 1, None)

    @property
    def has_adversary(self) -> bool:
        """Whether there ever is one."""
        return self.adversarial_weight > 0

    def is_adversarial(self, images_seen: int) -> bool:
        """Whether there is an adversary yet."""
        return self.has_adversary and images_seen >= self.adversarial_images

    def resolution_at(self, images_seen: int, final: int) -> int:
        """Side of the rendered picture."""
        return neural_resolution(
            images_seen,
            initial=self.resolution_initial,
            final=final,
            fade_images=self.resolution_images,
            start_images=self.resolution_start,
        )
