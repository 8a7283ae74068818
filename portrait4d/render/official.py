"""Configs of generators, rendering and super-resolution from the options in an official file."""

from collections.abc import Mapping
from typing import Any

from flame.errors import InputError
from portrait4d.render.renderer import RenderConfig
from portrait4d.stylegan.superresolution import SuperResolutionConfig


def official_options(
    init_kwargs: Mapping[str, Any], rendering_kwargs: Mapping[str, Any] | None, *, kind: str
) -> dict[str, Any]:
    """The rendering options of an official file: the module's own, else those of its constructor.

    Args:
        init_kwargs: of the constructor.
        rendering_kwargs: the module's own.
        kind: of network, with its article, for the error.

    Raises:
        InputError: densities are made otherwise than by softplus.
    """
    options = dict(rendering_kwargs if rendering_kwargs is not None else init_kwargs.get("rendering_kwargs", {}))
    if options.get("clamp_mode", "softplus") != "softplus":
        raise InputError(f"expected clamp_mode 'softplus', got {options['clamp_mode']!r}: not {kind} checkpoint")
    return options


def official_generator(
    init_kwargs: Mapping[str, Any], options: Mapping[str, Any], defaults: Any, neural_resolution: int | None
) -> dict[str, Any]:
    """What configs of EG3D's and GenHead's generators have in common, by the names that both have for it.

    Args:
        init_kwargs: of the constructor.
        options: see `official_options`.
        defaults: a config, whose sizes count where the file says none.
        neural_resolution: the module's own, where it has one.
    """
    is_label_used = not options.get("c_gen_conditioning_zero", False)
    return {
        "latent_dim": init_kwargs.get("z_dim", defaults.latent_dim),
        "condition_dim": init_kwargs.get("c_dim", defaults.condition_dim),
        "style_dim": init_kwargs.get("w_dim", defaults.style_dim),
        "num_mapping_layers": init_kwargs.get("mapping_kwargs", {}).get("num_layers", 8),
        "channel_base": init_kwargs.get("channel_base", defaults.channel_base),
        "channel_max": init_kwargs.get("channel_max", defaults.channel_max),
        "num_half_resolutions": init_kwargs.get("num_fp16_res", 4),
        "clamp": init_kwargs.get("conv_clamp", 256),
        "decoder_lr_multiplier": options.get("decoder_lr_mul", 1.0),
        # A file without the key counts as 0, as in the authors' code.
        "condition_scale": float(options.get("c_scale", 0)) if is_label_used else 0.0,
        "neural_resolution": neural_resolution or 64,
        "render": official_render(options),
        "superresolution": official_superresolution(init_kwargs, options),
    }


def official_render(options: Mapping[str, Any]) -> RenderConfig:
    """How an official file's rendering options sample the volume.

    Raises:
        InputError: `ray_start` and `ray_end` are of an unknown kind.
    """
    start, end = options.get("ray_start"), options.get("ray_end")
    bounds = {}
    if start == end == "auto":
        mode = "box"
    elif start == end == "auto-plane":
        mode = "plane"
    elif isinstance(start, int | float) and isinstance(end, int | float):
        mode, bounds = "fixed", {"near": float(start), "far": float(end)}
    else:
        raise InputError(f"expected ray_start and ray_end as numbers, 'auto' or 'auto-plane'; got {start!r}, {end!r}")
    return RenderConfig(
        range_mode=mode,
        box_warp=float(options["box_warp"]),
        num_coarse=options["depth_resolution"],
        num_fine=options["depth_resolution_importance"],
        is_disparity=options.get("disparity_space_sampling", False),
        has_white_background=options.get("white_back", False),
        is_noise_shared=mode == "plane",
        **bounds,
    )


def official_superresolution(init_kwargs: Mapping[str, Any], options: Mapping[str, Any]) -> SuperResolutionConfig:
    """The super-resolution of an official file's generator.

    Raises:
        InputError: the file names an unknown super-resolution module.
    """
    name = str(options.get("superresolution_module", "")).rpartition("SuperresolutionHybrid")[2]
    kind = {"2X": "2X", "4X": "4X", "8X": "8X", "8XDC": "8XDC", "Deepfp32": "4X"}.get(name)
    if kind is None:
        raise InputError(
            f"expected a super-resolution module SuperresolutionHybrid2X, 4X, 8X or 8XDC; "
            f"got {options.get('superresolution_module')!r}"
        )
    return SuperResolutionConfig(
        kind=kind,  # pyright: ignore[reportArgumentType]
        style_source="ones" if init_kwargs.get("sr_kwargs", {}).get("use_ws_ones", False) else "given",
        antialias=options.get("sr_antialias", True),
        noise=options.get("superresolution_noise_mode", "none"),
        is_half=init_kwargs.get("sr_num_fp16_res", 0) > 0,
    )
