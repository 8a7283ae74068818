"""A video of a generator's heads: the camera moves around once while the styles pass from seed to seed and back."""

from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import numpy as np
import torch

from portrait4d.eg3d.cameras import orbit_path, original_path
from portrait4d.eg3d.generator import EG3DGenerator, GeneratedImages
from portrait4d.eg3d.interpolation import StyleLoop
from portrait4d.jobs.eg3d.depth_pictures import depth_limits, depth_to_grey
from portrait4d.jobs.eg3d.options import CameraPath, Shown, StyleVideoOptions
from portrait4d.jobs.eg3d.samples import map_seeds
from portrait4d.reenactment.output import write_video
from portrait4d.runtime.device import check_device
from portrait4d.runtime.paths import MOVING_SUFFIXES, check_output
from portrait4d.runtime.progress import Progress, ignore_progress
from preprocess.files.file_check import check_not_input
from preprocess.media.image import to_uint8

_PATHS = {"original": original_path, "orbit": orbit_path}


@dataclass(frozen=True)
class StyleVideoReport:
    """What was written: the file, its length and rate, and the options that it was made with."""

    output: str
    num_frames: int
    frame_rate: str
    seeds: tuple[int, ...]
    path: CameraPath
    shown: Shown


def write_style_video(
    network: str | Path,
    output: str | Path,
    *,
    options: StyleVideoOptions,
    device: str = "cpu",
    progress: Progress = ignore_progress,
) -> StyleVideoReport:
    """Writes the loop; the file appears once it is complete.

    Args:
        network: name of released weights, a checkpoint folder, or an official `.pkl`.
        output: the video file.
        options: seeds, styles, camera path and length.
        device: name of a torch device.
        progress: called after each frame.

    Raises:
        InputError: the network, the device or the output cannot be used.
    """
    output = Path(output)
    check_output(output, MOVING_SUFFIXES)
    check_not_input(output, network)
    device = check_device(device)
    generator = EG3DGenerator.from_pretrained(network, device=device)
    rate = Fraction(options.fps).limit_denominator(1001)
    frames = render_frames(generator, options)
    write_video(output, frames, num_frames=options.num_frames, frame_rate=rate, progress=progress)
    return StyleVideoReport(str(output), options.num_frames, str(rate), options.seeds, options.path, options.shown)


@torch.no_grad()
def render_frames(generator: EG3DGenerator, options: StyleVideoOptions) -> Iterator[np.ndarray]:
    """Renders frames uint8 `[H, W, 3]`; planes are made again only when the style changes.

    Depth is scaled by the limits of the first frame, so that its grey does not flicker.
    """
    loop = StyleLoop(map_seeds(generator, options.seeds, options.style))
    cameras = _PATHS[options.path](generator.config, options.num_frames, fov_degrees=options.fov_degrees)
    volume = generator.synthesise(loop(0.0))
    limits: tuple[float, float] | None = None
    for index in range(options.num_frames):
        if index and len(loop) > 1:
            volume = generator.synthesise(loop(index / options.frames_per_seed))
        images = generator.render(volume, cameras[index])
        if options.shown == "depth" and limits is None:
            limits = depth_limits(images.depth.float().cpu().numpy(), images.alpha.float().cpu().numpy())
        yield _frame(images, options.shown, limits)


def _frame(images: GeneratedImages, shown: Shown, limits: tuple[float, float] | None) -> np.ndarray:
    if shown == "image":
        return to_uint8(images.image)[0]
    if shown == "raw":
        return to_uint8(images.image_raw)[0]
    if shown == "depth" and limits is not None:
        grey = depth_to_grey(images.depth[0, 0].float().cpu().numpy(), limits)
        return np.repeat(grey[..., None], 3, 2)
    raise ValueError(f"shown must be 'image', 'raw' or 'depth' with limits, got {shown!r}")
