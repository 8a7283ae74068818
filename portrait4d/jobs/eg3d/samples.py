"""Pictures of EG3D's heads by seed; how they are written, and resumed: `portrait4d.jobs.seed_rows`."""

from collections.abc import Callable
from pathlib import Path

import torch

from flame.errors import InputError
from portrait4d.eg3d.cameras import condition_camera, view_cameras
from portrait4d.eg3d.generator import EG3DGenerator, GeneratedImages
from portrait4d.eg3d.interpolation import seed_latents
from portrait4d.jobs.eg3d.options import SampleOptions, StyleOptions
from portrait4d.jobs.seed_rows import RenderSeed, SampleReport, SeedResult, network_facts, write_seed_rows
from portrait4d.runtime.device import check_device
from portrait4d.runtime.progress import Progress, ignore_progress
from preprocess.files.file_check import check_not_input


def write_samples(
    network: str | Path,
    folder: str | Path,
    *,
    options: SampleOptions,
    device: str = "cpu",
    progress: Progress = ignore_progress,
    on_result: Callable[[SeedResult], None] | None = None,
) -> SampleReport:
    """Writes `seedN.png` for every seed that is not finished, and `grid.png` if asked for.

    Args:
        network: name of released weights, a checkpoint folder, or an official `.pkl`.
        folder: folder of the results.
        options: seeds, views and kinds of pictures.
        device: name of a torch device.
        progress: called after each seed.
        on_result: called with the result of each seed.

    Raises:
        InputError: the network, the device or the folder cannot be used.
    """
    folder = Path(folder)
    check_not_input(folder, network)
    device = check_device(device)

    def load() -> RenderSeed:
        generator = EG3DGenerator.from_pretrained(network, device=device)
        return lambda seed: render_seed(generator, seed, options)

    facts = network_facts(network)
    return write_seed_rows(folder, load, facts, options=options, progress=progress, on_result=on_result)


def map_seeds(generator: EG3DGenerator, seeds: tuple[int, ...], style: StyleOptions) -> torch.Tensor:
    """Styles `[len(seeds), num_styles, style_dim]`, conditioned on the frontal camera.

    Raises:
        InputError: the cutoff is beyond the network's layers.
    """
    num_styles = generator.backbone.synthesis.num_styles
    if style.cutoff is not None and style.cutoff > num_styles:
        raise InputError(f"expected a cutoff of at most {num_styles}, the network's layers, got {style.cutoff}")
    like = generator.backbone.mapping.w_avg
    latents = seed_latents(seeds, generator.config.latent_dim).to(like)
    label = condition_camera(generator.config).to_label25(axes=generator.config.camera_axes).to(like)
    return generator.map(latents, label.expand(len(seeds), -1), psi=style.psi, cutoff=style.cutoff)


@torch.no_grad()
def render_seed(generator: EG3DGenerator, seed: int, options: SampleOptions) -> list[GeneratedImages]:
    """Renders all views of a seed, each as a batch of 1."""
    volume = generator.synthesise(map_seeds(generator, (seed,), options.style))
    yaw, pitch = (torch.tensor(angles) for angles in options.views)
    cameras = view_cameras(generator.config, yaw, pitch, fov_degrees=options.fov_degrees)
    return [generator.render(volume, cameras[index]) for index in range(len(cameras))]
