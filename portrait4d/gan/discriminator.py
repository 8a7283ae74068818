"""The dual discriminator: it sees a picture and the raw rendering behind it, so that both must agree, and the camera.

EG3D, Chan et al. 2022, sections 4.3 and 4.4.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn

from flame.errors import InputError, brief, printable
from flame.geometry.camera import Axes, Camera
from portrait4d.ops.convolution import channels_last
from portrait4d.ops.resample import resize
from portrait4d.stylegan.channels import block_resolutions, is_half_block, num_channels
from portrait4d.stylegan.discriminator import DiscriminatorBlock, DiscriminatorEpilogue
from portrait4d.stylegan.mapping import MappingNetwork
from portrait4d.weights.official.structure import check_class

_OFFICIAL_KEYS = (  # noqa: SIM905  (a list would take one line a name)
    "c_dim img_resolution img_channels architecture channel_base channel_max num_fp16_res conv_clamp cmap_dim "
    "disc_c_noise sr_upsample_factor block_kwargs mapping_kwargs epilogue_kwargs "
    "has_superresolution has_uv has_seg"
).split()


@dataclass(frozen=True)
class JudgedImages:
    """What a discriminator looks at, all in [-1, 1].

    Attributes:
        image: `[B, 3, H, H]` at full resolution.
        image_raw: `[B, 3, h, h]` as rendered, before super-resolution.
        correspondence: `[B, 3, H, H]` position of each pixel on the canonical face, from the head model ("uv").
        mask: `[B, 1, h, h]` 1 on the head, -1 on the background ("seg").
    """

    image: Tensor
    image_raw: Tensor
    correspondence: Tensor | None = None
    mask: Tensor | None = None

    def __len__(self) -> int:
        return len(self.image)

    def parts(self) -> dict[str, Tensor]:
        """The parts that are present, by name."""
        values = {name: getattr(self, name) for name in ("image", "image_raw", "correspondence", "mask")}
        return {name: value for name, value in values.items() if value is not None}

    def detached(self) -> "JudgedImages":
        """The same values without their graph."""
        return replace(self, **{name: value.detach() for name, value in self.parts().items()})

    def requiring_grad(self) -> "JudgedImages":
        """The same values, detached from their graph, with gradients enabled."""
        return replace(self, **{name: value.detach().requires_grad_() for name, value in self.parts().items()})


@dataclass(frozen=True)
class DualDiscriminatorConfig:
    """Architecture; the defaults are EG3D's for FFHQ at 512.

    Attributes:
        resolution: side of the judged image.
        condition_dim: size of the camera label.
        has_correspondence: three more channels (GenHead, Portrait4D).
        has_mask: one more channel (GenHead, Portrait4D).
        channel_base: see `num_channels`.
        channel_max: see `num_channels`.
        num_half_resolutions: finest blocks that compute in fp16 on CUDA.
        clamp: limit of the activations, None for none.
        num_mapping_layers: fully connected layers over the label.
        group_size: pictures compared with each other, None for all; 2 for GenHead and Portrait4D.
        num_deviation_channels: see `append_batch_deviation`.
        camera_axes: of the labels, which do not state them; "opengl" for GenHead and Portrait4D.
    """

    resolution: int = 512
    condition_dim: int = 25
    has_correspondence: bool = False
    has_mask: bool = False
    channel_base: int = 32768
    channel_max: int = 512
    num_half_resolutions: int = 4
    clamp: float | None = 256.0
    num_mapping_layers: int = 8
    group_size: int | None = 4
    num_deviation_channels: int = 1
    camera_axes: Axes = "opencv"

    @property
    def picture_channels(self) -> int:
        """Channels of image, raw image and the optional parts."""
        return 6 + 3 * self.has_correspondence + self.has_mask

    @property
    def num_compared(self) -> int:
        """Pictures that see each other, which must be judged together; 1 also where all of any batch do."""
        return (self.group_size or 1) if self.num_deviation_channels > 0 else 1

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for `config.json`."""
        return asdict(self)

    @classmethod
    def from_official(
        cls, init_kwargs: Mapping[str, Any], *, class_name: str = "DualDiscriminator"
    ) -> "DualDiscriminatorConfig":
        """Config of a released checkpoint.

        Args:
            init_kwargs: constructor arguments of `DualDiscriminator` (EG3D) or `DualDiscriminatorDeform` (GenHead,
                Portrait4D), as the file holds them.
            class_name: class in the file; EG3D's other discriminators have the same arguments.

        Raises:
            InputError: another class, or an option that is not known here.
        """
        check_class(class_name)
        _check_official(init_kwargs)
        defaults = cls()
        mapping, epilogue = init_kwargs.get("mapping_kwargs", {}), init_kwargs.get("epilogue_kwargs", {})
        has_correspondence = bool(init_kwargs.get("has_uv", False))
        has_mask = bool(init_kwargs.get("has_seg", False))
        return cls(
            resolution=init_kwargs["img_resolution"],
            condition_dim=init_kwargs["c_dim"],
            has_correspondence=has_correspondence,
            has_mask=has_mask,
            channel_base=init_kwargs.get("channel_base", defaults.channel_base),
            channel_max=init_kwargs.get("channel_max", defaults.channel_max),
            num_half_resolutions=init_kwargs.get("num_fp16_res", defaults.num_half_resolutions),
            clamp=init_kwargs.get("conv_clamp", defaults.clamp),
            num_mapping_layers=mapping.get("num_layers", defaults.num_mapping_layers),
            group_size=epilogue.get("mbstd_group_size", 4),
            num_deviation_channels=epilogue.get("mbstd_num_channels", 1),
            # EG3D's class has no such options, Portrait4D's always has both, and its labels have other axes.
            camera_axes="opengl" if {"has_uv", "has_seg"} & set(init_kwargs) else "opencv",
        )


class DualDiscriminator(nn.Module):
    """Maps images and their claimed cameras to one logit each, high for real.

    Memory stays in torch's usual order. Channels last takes a quarter less time on a CPU, but rounds some activations
    to the other side of zero than the released code, and the R1 gradients of those pixels differ.
    """

    def __init__(self, config: DualDiscriminatorConfig) -> None:
        super().__init__()
        self.config = config
        sizes = block_resolutions(config.resolution)[::-1]
        widths = [
            num_channels(size, channel_base=config.channel_base, channel_max=config.channel_max) for size in sizes
        ]
        self.resolutions = sizes[:-1]
        picture_channels = config.picture_channels
        for size, width, next_width in zip(self.resolutions, widths, widths[1:], strict=False):
            block = DiscriminatorBlock(
                width,
                next_width,
                picture_channels=picture_channels,
                clamp=config.clamp,
                is_half=is_half_block(
                    size, resolution=config.resolution, num_half_resolutions=config.num_half_resolutions
                ),
            )
            setattr(self, f"b{size}", block)
            picture_channels = 0
        self.mapping = MappingNetwork(
            0, config.condition_dim, widths[-1], num_layers=config.num_mapping_layers, has_average=False
        )
        self.b4 = DiscriminatorEpilogue(
            widths[-1],
            condition_dim=widths[-1],
            group_size=config.group_size,
            num_deviation_channels=config.num_deviation_channels,
            clamp=config.clamp,
        )

    def forward(self, images: JudgedImages, condition: Camera | Tensor) -> Tensor:
        """Logits `[B, 1]` of images.

        Args:
            images: exactly the parts that the config asks for.
            condition: the camera of each image, or its label `[B, condition_dim]`.
        """
        if isinstance(condition, Camera):
            condition = condition.to_label25(axes=self.config.camera_axes)
        if len(condition) != len(images):
            raise ValueError(f"expected a camera for each of {len(images)} images, got {len(condition)}")
        x = channels_last(self._stack(images))
        for size in self.resolutions:
            x = getattr(self, f"b{size}")(x)
        return self.b4(x, self.mapping(None, condition.to(self.mapping.embed.weight)))

    def _stack(self, images: JudgedImages) -> Tensor:
        """All parts as channels of one picture at full resolution, `[B, picture_channels, H, H]`."""
        side, parts = self.config.resolution, images.parts()
        channels = {"image": 3, "image_raw": 3}
        if self.config.has_correspondence:
            channels["correspondence"] = 3
        if self.config.has_mask:
            channels["mask"] = 1
        if list(parts) != list(channels):
            raise ValueError(f"expected images with {', '.join(channels)}; got {', '.join(parts)}")
        for name, value in parts.items():
            is_full = name in ("image", "correspondence")
            shape = (len(images), channels[name], *((side, side) if is_full else value.shape[2:]))
            if value.ndim != 4 or value.shape != shape:
                expected = f"[{len(images)}, {channels[name]}, {f'{side}, {side}' if is_full else 'h, h'}]"
                raise ValueError(f"{name} must be {expected}, got {list(value.shape)}")
        return torch.cat([_fit(value, side) for value in parts.values()], 1)


def _fit(value: Tensor, side: int) -> Tensor:
    return value if value.shape[2:] == (side, side) else resize(value, height=side, width=side)


def _check_official(init_kwargs: Mapping[str, Any]) -> None:
    unknown = [key for key in init_kwargs if key not in _OFFICIAL_KEYS]
    if unknown:
        named = printable(", ".join(map(str, unknown))[:200])
        raise InputError(f"expected the arguments of a dual discriminator, got {named}: not one of ours")
    missing = [key for key in ("c_dim", "img_resolution") if key not in init_kwargs]
    if missing:
        raise InputError(f"expected the arguments of a dual discriminator, {', '.join(missing)} missing")
    only = {
        "img_channels": (3,),
        "architecture": ("resnet",),
        "cmap_dim": (None,),
        # Noise on the label would make the answer random; no released file has it.
        "disc_c_noise": (0,),
        "has_superresolution": (True,),
    }
    for key, allowed in only.items():
        if key in init_kwargs and init_kwargs[key] not in allowed:
            found = brief(init_kwargs[key])
            raise InputError(f"expected {key} = {allowed[0]}, got {found}: not a released discriminator")
    # freeze_layers says which layers train, fp16_channels_last how memory lies: the values do not depend on them.
    nested = {
        "block_kwargs": ("freeze_layers", "fp16_channels_last"),
        "mapping_kwargs": ("num_layers",),
        "epilogue_kwargs": ("mbstd_group_size", "mbstd_num_channels"),
    }
    for group, known in nested.items():
        options = init_kwargs.get(group, {})
        if not isinstance(options, Mapping):
            raise InputError(f"expected {group} with {', '.join(known)} at most, got {brief(options)}")
        for key in options:
            if key not in known:
                raise InputError(f"expected {group} with {', '.join(known)} at most, got {printable(str(key)[:60])}")
    for group, names in _COUNTS.items():
        options = init_kwargs.get(group, {}) if group else init_kwargs
        for name, (least, may_be_none) in names.items():
            value = options.get(name, least)
            is_whole = isinstance(value, int) and not isinstance(value, bool) and value >= least
            if not (is_whole or (may_be_none and value is None)):
                raise InputError(
                    f"expected {name} as a whole number from {least}, got {brief(value)}: not a released one"
                )
    clamp = init_kwargs.get("conv_clamp")
    if clamp is not None and (isinstance(clamp, bool) or not isinstance(clamp, (int, float)) or not clamp > 0):
        raise InputError(f"expected conv_clamp as a number above 0 or none, got {brief(clamp)}: not a released one")
    try:
        block_resolutions(init_kwargs["img_resolution"])
    except ValueError as error:
        raise InputError(f"expected img_resolution as a power of two: {error}") from error


_COUNTS: dict[str, dict[str, tuple[int, bool]]] = {
    "": {
        "c_dim": (0, False),
        "img_resolution": (4, False),
        "channel_base": (1, False),
        "channel_max": (1, False),
        "num_fp16_res": (0, False),
    },
    "mapping_kwargs": {"num_layers": (1, False)},
    "epilogue_kwargs": {"mbstd_group_size": (1, True), "mbstd_num_channels": (0, False)},
}
"""Whole numbers among the arguments, by group: the least, and whether they may be None."""
