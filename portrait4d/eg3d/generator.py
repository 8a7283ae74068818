"""The EG3D generator: a style becomes tri-planes, tri-planes and a camera become a picture."""

from dataclasses import astuple, dataclass
from pathlib import Path

import torch
from torch import Tensor

from flame.errors import InputError
from flame.geometry.camera import Camera
from portrait4d.render.decoder import FieldSamples, TriPlaneDecoder
from portrait4d.render.field import TriPlaneField
from portrait4d.render.planes import TriPlanes
from portrait4d.render.renderer import DEFAULT_MAX_POINTS, render
from portrait4d.runtime.memory import return_freed_memory
from portrait4d.runtime.random import RandomSource
from portrait4d.runtime.recompute import Recomputing
from portrait4d.stylegan.backbone import Backbone
from portrait4d.stylegan.superresolution import SuperResolution
from portrait4d.stylegan.synthesis import Noise
from portrait4d.weights.eg3d_config import EG3DConfig
from portrait4d.weights.store import resolve_weights
from portrait4d.weights.strict import check_fits, load_strict


@dataclass(frozen=True)
class Volume:
    """A sampled head: everything that does not depend on the camera, so that a new view costs rendering alone.

    Attributes:
        planes: of B volumes.
        w: `[B, style_dim]`, the last style, which super-resolution takes.
    """

    planes: TriPlanes
    w: Tensor

    def __len__(self) -> int:
        return len(self.planes)

    def __getitem__(self, index: slice) -> "Volume":
        return Volume(self.planes[index], self.w[index])


@dataclass(frozen=True)
class GeneratedImages:
    """Pictures of generated heads.

    Attributes:
        image: `[B, 3, H, H]`, nominally in [-1, 1].
        image_raw: the low-resolution picture `[B, 3, h, h]`, nominally in [-1, 1].
        depth: `[B, 1, h, h]`, world units along the rays.
        alpha: `[B, 1, h, h]`, opacity.
    """

    image: Tensor
    image_raw: Tensor
    depth: Tensor
    alpha: Tensor


class EG3DGenerator(Recomputing):
    """The whole generator: `sample` makes a volume, `render` shows it from any camera."""

    def __init__(self, config: EG3DConfig) -> None:
        super().__init__()
        self.config = config
        self.backbone = Backbone(config)
        self.decoder = TriPlaneDecoder(
            config.plane_channels, config.plane_channels, lr_multiplier=config.decoder_lr_multiplier
        )
        self.superresolution = SuperResolution(
            config.superresolution, in_channels=config.plane_channels, style_dim=config.style_dim
        )

    @classmethod
    def from_pretrained(
        cls, name_or_path: str | Path, *, device: torch.device | str = "cpu", dtype: torch.dtype = torch.float32
    ) -> "EG3DGenerator":
        """A generator with weights, in evaluation mode and without gradients.

        Args:
            name_or_path: name of released weights, a checkpoint folder of ours, or an official `.pkl`.
            device: of the network.
            dtype: of the network.

        Raises:
            InputError: there are no such weights, or they are of another kind of network.
        """
        config, tensors = resolve_weights(name_or_path)
        if (config.family, config.network) != ("eg3d", "generator"):
            raise InputError(
                f"expected the weights of an EG3D generator, got {config.family} {config.network}: {name_or_path}"
            )
        architecture = EG3DConfig.from_dict(config.architecture)
        check_fits(lambda: cls(architecture), tensors)
        generator = cls(architecture)
        load_strict(generator, tensors)
        return generator.to(device=device, dtype=dtype).eval().requires_grad_(False)

    def map(self, latent: Tensor, condition: Camera | Tensor, *, psi: float = 1.0, cutoff: int | None = None) -> Tensor:
        """Maps latent codes to styles.

        Args:
            latent: z `[B, latent_dim]`.
            condition: the camera that the picture is expected from, or its label `[B, condition_dim]`.
            psi: truncation, 1 for none, 0 for the mean head.
            cutoff: number of first layers to truncate; None truncates all.

        Returns:
            `[B, num_styles, style_dim]`.
        """
        if isinstance(condition, Camera):
            condition = condition.to_label25(axes=self.config.camera_axes)
        mapping = self.backbone.mapping
        w = mapping(latent, condition.to(latent) * self.config.condition_scale)
        return mapping.truncate(w, psi, cutoff=cutoff, num_layers=self.backbone.synthesis.num_styles)

    def synthesise(
        self,
        styles: Tensor,
        *,
        noise: Noise = "const",
        generator: RandomSource | None = None,
    ) -> Volume:
        """Makes volumes of styles `[B, num_styles, style_dim]`."""
        picture = self.run_part(self.backbone.synthesis, styles, noise=noise, generator=generator)
        planes = TriPlanes.from_picture(picture, layout=self.config.plane_layout, box_warp=self.config.render.box_warp)
        return Volume(planes, styles[:, -1])

    def sample(
        self, latent: Tensor, condition: Camera | Tensor, *, psi: float = 1.0, cutoff: int | None = None
    ) -> Volume:
        """Makes volumes of latent codes `[B, latent_dim]`: `map`, then `synthesise`."""
        return self.synthesise(self.map(latent, condition, psi=psi, cutoff=cutoff))

    def render(
        self,
        volume: Volume,
        camera: Camera,
        *,
        neural_resolution: int | None = None,
        generator: RandomSource | None = None,
        max_points: int = DEFAULT_MAX_POINTS,
    ) -> GeneratedImages:
        """Renders volumes from cameras.

        Args:
            volume: what is seen.
            camera: one for each volume, or any number for a single volume.
            neural_resolution: side of the rendered feature picture; None takes the config's.
            generator: source of the sampling noise; None gives the same picture every time.
            max_points: see `portrait4d.render.renderer.render`.
        """
        if len(volume) == 1 and len(camera) > 1:  # one by one: the planes need no copies
            views = [
                self.render(
                    volume,
                    camera[index],
                    neural_resolution=neural_resolution,
                    generator=generator,
                    max_points=max_points,
                )
                for index in range(len(camera))
            ]
            return GeneratedImages(*(torch.cat(column) for column in zip(*map(astuple, views), strict=True)))
        if len(volume) != len(camera):
            raise ValueError(f"expected one camera, or {len(volume)} as there are volumes; got {len(camera)}")
        size = neural_resolution or self.config.neural_resolution
        seen = self.run_part(
            render,
            TriPlaneField(volume.planes, self.decoder),
            camera.to(volume.w.device, volume.w.dtype),
            self.config.render,
            height=size,
            width=size,
            generator=generator,
            max_points=max_points,
        )
        features = seen.features * 2 - 1
        raw = features[:, :3]
        if features.device.type == "cpu" and not torch.is_grad_enabled():
            return_freed_memory()  # super-resolution needs the most memory
        image = self.run_part(self.superresolution, raw, features, volume.w, generator=generator)
        return GeneratedImages(image, raw, seen.depth, seen.alpha)

    def query(self, volume: Volume, points: Tensor) -> FieldSamples:
        """Raw density `[B, N]` and features `[B, N, C]` at world points `[B, N, 3]`."""
        return TriPlaneField(volume.planes, self.decoder)(points)
