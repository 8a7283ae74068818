"""Configs of rendering and super-resolution from the options in an official file."""

from collections.abc import Mapping
from typing import Any

from flame.errors import InputError
from portrait4d.render.renderer import RenderConfig
from portrait4d.stylegan.superresolution import SuperResolutionConfig


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
