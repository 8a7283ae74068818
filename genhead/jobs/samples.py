"""Pictures of GenHead's heads by seed; how they are written, and resumed: `portrait4d.jobs.seed_rows`."""

from collections.abc import Callable
from pathlib import Path

import torch

from genhead.generator import GenHeadGenerator
from genhead.jobs.faces import face_params
from genhead.jobs.heads import seed_volume, view_cameras
from genhead.jobs.options import HeadSampleOptions
from genhead.volume import HeadImages
from portrait4d.jobs.seed_rows import RenderSeed, SampleReport, SeedResult, network_facts, write_seed_rows
from portrait4d.runtime.device import check_device
from portrait4d.runtime.progress import Progress, ignore_progress
from portrait4d.runtime.records import file_facts
from preprocess.files.file_check import check_not_input


def write_head_samples(
    network: str | Path,
    folder: str | Path,
    *,
    options: HeadSampleOptions,
    device: str = "cpu",
    progress: Progress = ignore_progress,
    on_result: Callable[[SeedResult], None] | None = None,
) -> SampleReport:
    """Writes `seedN.png` for every seed that is not finished, and `grid.png` if asked for.

    Args:
        network: name of released weights, a checkpoint folder, or an official `.pkl`.
        folder: folder of the results.
        options: seeds, views, face and kinds of pictures.
        device: name of a torch device.
        progress: called after each seed.
        on_result: called with the result of each seed.

    Raises:
        InputError: the network, the motion, a setting, the device or the folder cannot be used.
    """
    folder, motion = Path(folder), options.face.motion
    check_not_input(folder, network)
    device = check_device(device)
    facts = [network_facts(network), file_facts(Path(motion)) if motion else None]

    def load() -> RenderSeed:
        generator = GenHeadGenerator.from_pretrained(network, device=device)
        return lambda seed: render_head(generator, seed, options)

    return write_seed_rows(folder, load, facts, options=options, progress=progress, on_result=on_result)


@torch.no_grad()
def render_head(generator: GenHeadGenerator, seed: int, options: HeadSampleOptions) -> list[HeadImages]:
    """Renders all views of a seed, each as a batch of 1."""
    params = face_params(generator.head.model, options.face)
    volume = seed_volume(generator, seed, params, options.style)
    posed = generator.head.pose(params)
    yaw, pitch = (torch.tensor(angles) for angles in options.views)
    cameras = view_cameras(generator.config, yaw, pitch, fov_degrees=options.fov_degrees)
    return [generator.render(volume, cameras[index], posed) for index in range(len(cameras))]
