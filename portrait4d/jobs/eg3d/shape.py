"""The shape of a generator's head as a mesh file with vertex colours, in the network's world units."""

from dataclasses import dataclass
from pathlib import Path

import torch

from portrait4d.eg3d.generator import EG3DGenerator
from portrait4d.jobs.eg3d.options import SeedShapeOptions
from portrait4d.jobs.eg3d.samples import map_seeds
from portrait4d.render.field import TriPlaneField
from portrait4d.render.shape import Shape, extract_shape
from portrait4d.runtime.device import check_device
from portrait4d.runtime.paths import MESH_SUFFIXES, check_output
from portrait4d.runtime.progress import Progress, ignore_progress
from preprocess.files.file_check import check_not_input
from preprocess.media.mesh_files import write_mesh


@dataclass(frozen=True)
class SeedShapeReport:
    """What was written: `size` is the extent along x, y, z in world units, `density_range` that of the whole grid."""

    output: str
    seed: int
    iso: float
    density_range: tuple[float, float]
    num_vertices: int
    num_faces: int
    size: tuple[float, ...]


def write_seed_shape(
    network: str | Path,
    output: str | Path,
    *,
    options: SeedShapeOptions | None = None,
    device: str = "cpu",
    progress: Progress = ignore_progress,
) -> SeedShapeReport:
    """Writes `.ply`, `.obj` or `.glb`; the file appears once it is complete.

    Args:
        network: name of released weights, a checkpoint folder, or an official `.pkl`.
        output: the file to write; its suffix is the format.
        options: seed, style and surface.
        device: name of a torch device.
        progress: called after each step.

    Raises:
        InputError: the network, the device, the output or the iso level cannot be used.
    """
    options, output = options or SeedShapeOptions(), Path(output)
    check_output(output, MESH_SUFFIXES)
    check_not_input(output, network)
    device = check_device(device)
    shape = seed_shape(EG3DGenerator.from_pretrained(network, device=device), options, progress=progress)
    write_mesh(
        output,
        shape.vertices,
        shape.faces,
        vertex_colours=shape.colours,
        normals=shape.normals,
        unit="world units of the network",
    )
    size = tuple(round(float(length), 6) for length in shape.vertices.max(0) - shape.vertices.min(0))
    return SeedShapeReport(
        str(output), options.seed, shape.iso, shape.density_range, len(shape.vertices), len(shape.faces), size
    )


@torch.no_grad()
def seed_shape(generator: EG3DGenerator, options: SeedShapeOptions, *, progress: Progress = ignore_progress) -> Shape:
    """The surface of one seed's head in the network's world units."""
    volume = generator.synthesise(map_seeds(generator, (options.seed,), options.style))
    return extract_shape(
        TriPlaneField(volume.planes, generator.decoder),
        options.shape,
        box_size=generator.config.render.box_warp,
        like=volume.w,
        on_step=lambda done, total: progress("shape", done, total),
    )
