"""The released networks' constructor arguments, for a reconstructor and a discriminator that are built as those are.

Portrait4D (Deng et al. 2024), the released code. Names and values are what the authors' constructors take.
"""

from typing import Any

from flame.errors import InputError
from portrait4d.gan.discriminator import DualDiscriminatorConfig
from portrait4d.reconstructor.config import BOX_WARP, ReconstructorConfig
from portrait4d.train.config_file import differing_lines, plain_values

_NUM_SHOWN = 4

GENERATOR_CLASS = "training.reconstructor.triplane_reconstruct.TriPlaneReconstructorNeutralize"
DISCRIMINATOR_CLASS = "training.discriminator.dual_discriminator.DualDiscriminatorDeform"


def generator_options(config: ReconstructorConfig) -> dict[str, Any]:
    """What the authors' class of the reconstructor is made with, and the attributes that it is given afterwards.

    Returns:
        `class_name`, `init_kwargs`, `rendering_kwargs` (also among the arguments), `neural_rendering_resolution`.

    Raises:
        InputError: the authors' class makes no such network; the message has the settings that differ.
    """
    rendering = {
        **_RENDERING,
        "depth_resolution": config.render.num_coarse,
        "depth_resolution_importance": config.render.num_fine,
    }
    keywords = {**_GENERATOR, "rendering_kwargs": rendering}
    made = ReconstructorConfig.from_official(keywords, neural_rendering_resolution=config.neural_resolution)
    if lines := differing_lines(plain_values(made), plain_values(config)):
        more = f" and {len(lines) - _NUM_SHOWN} more" if len(lines) > _NUM_SHOWN else ""
        raise InputError(
            f"expected a reconstructor that is built as the released ones, got another ({'; '.join(lines[:_NUM_SHOWN])}"
            f"{more}): the authors' code has no such network, so use the folder as it is"
        )
    return {
        "class_name": GENERATOR_CLASS,
        "init_kwargs": keywords,
        "rendering_kwargs": rendering,
        "neural_rendering_resolution": config.neural_resolution,
    }


def discriminator_options(config: DualDiscriminatorConfig) -> dict[str, Any] | None:
    """`class_name` and `init_kwargs` of the authors' discriminator; None where they have no such network."""
    made = DualDiscriminatorConfig.from_official(_DISCRIMINATOR, class_name=DISCRIMINATOR_CLASS)
    return {"class_name": DISCRIMINATOR_CLASS, "init_kwargs": _DISCRIMINATOR} if made == config else None


_WIDTHS = {"channel_base": 32768, "channel_max": 512}
_PICTURES = {"c_dim": 25, "img_resolution": 512, "img_channels": 3}

_RENDERING: dict[str, Any] = {
    "image_resolution": 512,
    "disparity_space_sampling": False,
    "clamp_mode": "softplus",
    "superresolution_module": "models.stylegan.superresolution.SuperresolutionHybrid8XDC",
    "c_gen_conditioning_zero": False,
    "gpc_reg_prob": 0.5,
    "c_scale": 1,
    "superresolution_noise_mode": "none",
    "density_reg": 0.25,
    "density_reg_p_dist": 0.004,
    "reg_type": "l1",
    "decoder_lr_mul": 1.0,
    "sr_antialias": True,
    "ray_start": "auto-plane",
    "ray_end": "auto-plane",
    "box_warp": BOX_WARP,
    "avg_camera_radius": 1.0,
    "avg_camera_pivot": [0, 0, 0.2],
}

_GENERATOR: dict[str, Any] = {
    "mot_dims": 548,
    "deformation_kwargs": {"flame_cfg_path": "models/FLAME/cfg.yaml", "box_warp": BOX_WARP},
    **_WIDTHS,
    "fused_modconv_default": "inference_only",
    "flame_full": True,
    "has_superresolution": True,
    "has_background": True,
    "num_blocks_neutral": 4,
    "num_blocks_motion": 4,
    "motion_map_layers": 2,
    "num_fp16_res": 0,
    "sr_num_fp16_res": 4,
    "add_block": False,
    "masked_sampling": 0.0,
    "sr_kwargs": {**_WIDTHS, "fused_modconv_default": "inference_only", "use_ws_ones": False},
    "conv_clamp": None,
    **_PICTURES,
}

_DISCRIMINATOR: dict[str, Any] = {
    "block_kwargs": {"freeze_layers": 0},
    "mapping_kwargs": {},
    "epilogue_kwargs": {"mbstd_group_size": 2},
    **_WIDTHS,
    "disc_c_noise": 0,
    "has_superresolution": True,
    "has_uv": True,
    "has_seg": True,
    "num_fp16_res": 4,
    "conv_clamp": 256,
    **_PICTURES,
}
