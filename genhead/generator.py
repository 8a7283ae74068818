"""The GenHead generator: a style becomes two sets of tri-planes, a head's parameters move them, a camera sees them."""

from pathlib import Path

import torch
from torch import Tensor, nn

from flame.errors import InputError
from flame.geometry.camera import Camera
from genhead.config import GenHeadConfig
from genhead.networks import HeadBackground
from genhead.part_grids import build_parts
from genhead.parts import PartFields
from genhead.render import PartVolume, render_parts
from genhead.volume import HeadImages, HeadPlanes, HeadVolume, PartQuery, PreparedHead
from portrait4d.headparts.head import PartHead, PosedHead
from portrait4d.headparts.masks import correspondence_map, rasterise_masks
from portrait4d.ops.convolution import channels_last
from portrait4d.ops.resample import resize
from portrait4d.render.decoder import TriPlaneDecoder
from portrait4d.render.planes import TriPlanes
from portrait4d.render.renderer import DEFAULT_MAX_POINTS
from portrait4d.runtime.random import RandomSource
from portrait4d.runtime.recompute import Recomputing
from portrait4d.stylegan.backbone import Backbone
from portrait4d.stylegan.superresolution import SuperResolution
from portrait4d.stylegan.synthesis import Noise
from portrait4d.weights.store import resolve_weights
from portrait4d.weights.strict import check_fits, load_strict

_HEAD_PREFIX = "deformer."


def open_part_head(config: GenHeadConfig) -> PartHead | None:
    """The head of a config that needs no files; None for FLAME."""
    return PartHead.from_open_head(origin=config.head_origin) if config.head == "open" else None


class GenHeadGenerator(Recomputing):
    """The whole generator: `sample` makes a volume, `render` shows it with any expression from any camera.

    The head model moves with the generator and is no part of its state dict.
    """

    def __init__(self, config: GenHeadConfig, head: PartHead) -> None:
        super().__init__()
        self.config = config
        if config.condition_dim != 25 + head.model.num_shape:
            raise ValueError(
                f"expected a condition of 25 + {head.model.num_shape} numbers for this head model, "
                f"got {config.condition_dim}"
            )
        self.backbone = Backbone(config, num_planes=6)
        self.background = HeadBackground(config)
        if config.has_plane_mean:
            side = config.plane_resolution
            self.plane_mean = nn.Parameter(torch.zeros(6 * config.plane_channels, side, side))
        self.decoder = TriPlaneDecoder(
            config.plane_channels,
            config.plane_channels,
            hidden_channels=config.decoder_channels,
            layout="split",
            lr_multiplier=config.decoder_lr_multiplier,
        )
        self.superresolution = SuperResolution(
            config.superresolution, in_channels=config.plane_channels, style_dim=config.style_dim
        )
        self.head = head

    @classmethod
    def from_pretrained(
        cls,
        name_or_path: str | Path,
        *,
        head: PartHead | None = None,
        device: torch.device | str = "cpu",
        dtype: torch.dtype = torch.float32,
    ) -> "GenHeadGenerator":
        """A generator with weights, in evaluation mode and without gradients.

        Args:
            name_or_path: name of released weights, a checkpoint folder of ours, or an official `.pkl`.
            head: the head model; None takes the one that the weights hold or name.
            device: of the network.
            dtype: of the network.

        Raises:
            InputError: there are no such weights, they are of another kind of network, or they hold no FLAME and none
                was given.
        """
        config, tensors = resolve_weights(name_or_path)
        if (config.family, config.network) != ("genhead", "generator"):
            raise InputError(
                f"expected the weights of a GenHead generator, got {config.family} {config.network}: {name_or_path}"
            )
        if config.architecture:
            architecture = GenHeadConfig.from_dict(config.architecture)
        else:
            architecture = GenHeadConfig.from_official(
                config.official.get("init_kwargs", {}),
                rendering_kwargs=config.official.get("rendering_kwargs"),
                neural_rendering_resolution=config.official.get("neural_rendering_resolution"),
            )
        own = {key: value for key, value in tensors.items() if not key.startswith(_HEAD_PREFIX)}
        if head is None:
            # copies: views would keep the whole file, which is mapped, in this process's memory
            flame = {key: value.clone() for key, value in tensors.items() if key.startswith(_HEAD_PREFIX)}
            head = open_part_head(architecture) or PartHead.from_tensors(flame)
        check_fits(lambda: cls(architecture, head), own)
        generator = cls(architecture, head)
        load_strict(generator, own)
        return generator.to(device=device, dtype=dtype).eval().requires_grad_(False)

    def map(self, latent: Tensor, condition: Tensor, *, psi: float = 1.0, cutoff: int | None = None) -> Tensor:
        """Maps latent codes to styles.

        Args:
            latent: z `[B, latent_dim]`.
            condition: see `condition_label`, `[B, condition_dim]`.
            psi: truncation, 1 for none, 0 for the mean head.
            cutoff: number of first layers to truncate; None truncates all.

        Returns:
            `[B, num_styles, style_dim]`.
        """
        mapping = self.backbone.mapping
        w = mapping(latent, condition.to(latent) * self.config.condition_scale)
        return mapping.truncate(w, psi, cutoff=cutoff, num_layers=self.backbone.synthesis.num_styles)

    def synthesise(
        self,
        styles: Tensor,
        latent: Tensor,
        *,
        noise: Noise = "const",
        generator: RandomSource | None = None,
    ) -> HeadVolume:
        """Makes volumes of styles.

        Args:
            styles: of the head, `[B, num_styles, style_dim]`.
            latent: z of the background `[B, latent_dim]`; the released network takes the head's own.
            noise: per-pixel noise of both networks.
            generator: source of random noise.
        """
        planes = self.synthesise_planes(styles, noise=noise, generator=generator)
        background = torch.sigmoid(self.run_part(self.background, latent, noise=noise, generator=generator))
        return HeadVolume(planes.parts, planes.face, background, styles[:, -1])

    def synthesise_planes(
        self, styles: Tensor, *, noise: Noise = "const", generator: RandomSource | None = None
    ) -> HeadPlanes:
        """The volumes without what is behind them; arguments as in `synthesise`."""
        picture = self.run_part(self.backbone.synthesis, styles, noise=noise, generator=generator)
        if self.config.has_plane_mean:
            picture = picture + channels_last(self.plane_mean[None])
        parts, face = (
            TriPlanes.from_picture(half, layout="orthogonal", box_warp=self.config.render.box_warp)
            for half in picture.chunk(2, 1)
        )
        return HeadPlanes(parts, face)

    def sample(self, latent: Tensor, condition: Tensor, *, psi: float = 1.0, cutoff: int | None = None) -> HeadVolume:
        """Makes volumes of latent codes `[B, latent_dim]`: `map`, then `synthesise`."""
        return self.synthesise(self.map(latent, condition, psi=psi, cutoff=cutoff), latent)

    def deform(self, posed: PosedHead) -> PartFields:
        """The deformation of posed heads (`head.pose`); made once for any number of cameras."""
        config = self.config
        return build_parts(
            self.head,
            posed,
            box_warp=config.render.box_warp,
            deformation=config.deformation,
            grid_resolution=config.grid_resolution,
        )

    def prepare(self, camera: Camera, posed: PosedHead, *, neural_resolution: int | None = None) -> PreparedHead:
        """Deformation and masks of posed heads in the pictures of cameras.

        Args:
            camera: one for each head.
            posed: the heads' vertices, `head.pose(params)`.
            neural_resolution: side of the rendered feature picture; None takes the config's.
        """
        size = neural_resolution or self.config.neural_resolution
        camera = camera.to(posed.posed.device, posed.posed.dtype)
        masks = rasterise_masks(
            self.head, posed, camera, size=size, mask_resolution=max(self.config.mask_resolution, size)
        )
        return PreparedHead(self.deform(posed), masks)

    def render(
        self,
        volume: HeadVolume,
        camera: Camera,
        head: PosedHead | PreparedHead,
        *,
        neural_resolution: int | None = None,
        keeps_samples: bool = False,
        generator: RandomSource | None = None,
        max_points: int = DEFAULT_MAX_POINTS,
    ) -> HeadImages:
        """Renders volumes with the expressions of heads from cameras.

        Args:
            volume: what is seen.
            camera: one for each volume.
            head: the heads' vertices, `head.pose(params)`, or what `prepare` made of them; one for each volume.
            neural_resolution: side of the rendered feature picture; None takes the config's.
            keeps_samples: give single samples, too, for regularisers.
            generator: source of the sampling noise; None gives the same picture every time.
            max_points: points sampled at once, which bounds the memory; the result does not depend on it.
        """
        if not len(volume) == len(camera) == len(head):
            raise ValueError(
                f"expected as many cameras and heads as volumes, got {len(volume)} volumes, {len(camera)} cameras and "
                f"{len(head)} heads"
            )
        config = self.config
        size = neural_resolution or config.neural_resolution
        if isinstance(head, PosedHead):
            head = self.prepare(camera, head, neural_resolution=size)
        if head.masks.eye.shape[-1] != size:
            raise ValueError(f"expected heads prepared for pictures of {size}, got {head.masks.eye.shape[-1]}")
        camera = camera.to(volume.w.device, volume.w.dtype)
        seen = self.run_part(
            render_parts,
            PartVolume(volume.parts, volume.face, self.decoder),
            head.parts,
            head.masks,
            camera,
            config.render,
            size=size,
            is_fusion_soft=size > config.soft_fusion_above,
            keeps_samples=keeps_samples,
            generator=generator,
            max_points=max_points,
        )
        background = volume.background
        if background.shape[-1] != size:
            background = resize(background, height=size, width=size, antialias=0.0)
        features = 2 * (seen.features + (1 - seen.alpha) * background) - 1
        raw = features[:, :3]
        image = self.run_part(self.superresolution, raw, features, volume.w, generator=generator)
        return HeadImages(
            image,
            raw,
            features,
            2 * background - 1,
            seen.depth,
            seen.alpha,
            seen.sample_depths,
            seen.weights,
            head.masks,
            seen.samples,
        )

    def correspondences(self, posed: PosedHead, camera: Camera, *, size: int | None = None) -> Tensor:
        """Which place of the canonical head each pixel shows, `[B, 3, size, size]`; see `correspondence_map`.

        Args:
            posed: the heads.
            camera: one for each.
            size: side of the map; None takes the result's.
        """
        return correspondence_map(self.head, posed, camera, size=size or self.config.resolution)

    def query(self, planes: HeadPlanes, points: Tensor, parts: PartFields) -> PartQuery:
        """Raw density `[B, N]` and features `[B, N, C]` of each part at world points `[B, N, 3]`."""
        rested = parts.rest(points)
        return PartQuery(
            eye=self.decoder(planes.parts.sample(parts.eye(rested))),
            face=self.decoder(planes.face.sample(parts.face(rested))),
            mouth=self.decoder(planes.parts.sample(parts.mouth(rested))),
        )


def condition_label(camera: Camera, shape: Tensor) -> Tensor:
    """The label `[B, 25 + S]` of a camera and a head's shape `[B, S]`, which conditions the mapping."""
    return torch.cat([camera.to_label25(axes="opengl").to(shape), shape], 1)
