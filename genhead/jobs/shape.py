"""The shape of a generated head as a mesh with vertex colours, in metres of its head model; or one of every frame.

The density is the renderer's own. Its masks belong to a camera: here they are those that the frontal camera sees of the
head with a straight neck, and they count between the world's origin and the surface of eyes and lips: behind and in
front of them nothing has taught the planes of the parts, whatever pictures show.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from flame.errors import InputError
from flame.geometry.camera import Camera
from flame.heads.head_model import HeadParams
from genhead.generator import GenHeadGenerator
from genhead.jobs.faces import face_params, moved_params, with_settings
from genhead.jobs.heads import seed_volume
from genhead.jobs.options import HeadShapeOptions
from genhead.render import PartScene, PartVolume
from genhead.training.grid import frontal_camera
from genhead.volume import HeadVolume
from portrait4d.headparts.head import UNITS_PER_METRE, PosedHead
from portrait4d.headparts.masks import HeadMasks, rasterise_masks
from portrait4d.render.decoder import FieldSamples
from portrait4d.render.shape import Shape, extract_shape
from portrait4d.runtime.device import check_device
from portrait4d.runtime.paths import MESH_SUFFIXES, check_output
from portrait4d.runtime.progress import Progress, ignore_progress
from preprocess.files.file_check import check_not_input
from preprocess.media.mesh_files import write_mesh
from preprocess.tracking.motion import Motion


@dataclass(frozen=True)
class HeadShapeReport:
    """What was written: `size` is the extent along x, y, z in metres, `density_range` that of the whole grid."""

    output: str
    seed: int
    iso: float
    density_range: tuple[float, float]
    num_vertices: int
    num_faces: int
    size: tuple[float, ...]


@dataclass(frozen=True)
class PosedField:
    """The field of a posed head, batch 1; see the top of the file."""

    scene: PartScene
    front: Camera
    masks: HeadMasks
    eye_front: Tensor
    mouth_front: Tensor

    @classmethod
    def of(cls, generator: GenHeadGenerator, volume: HeadVolume, posed: PosedHead) -> "PosedField":
        """The field of a generator's head."""
        config = generator.config
        front = frontal_camera(config).to(volume.w.device, volume.w.dtype)
        straight = PosedHead(posed.rested, posed.rested, posed.mouth)
        side = config.mask_resolution
        masks = rasterise_masks(generator.head, straight, front, size=side, mask_resolution=side)
        parts = PartVolume(volume.parts, volume.face, generator.decoder)
        regions = generator.head.regions
        eyes = torch.cat([regions.left_eye, regions.right_eye])
        fronts = posed.rested[:, eyes, 2].amax(), posed.rested[:, regions.lips, 2].amax()
        return cls(PartScene(parts, generator.deform(posed), is_fusion_soft=False), front, masks, *fronts)

    def __call__(self, points: Tensor) -> FieldSamples:  # noqa: D102
        rested = self.scene.deform.rest(points)
        places, _ = self.front.project(rested, height=1, width=1)
        along = rested[..., 2]
        eye, mouth = (
            F.grid_sample(mask, 2 * places[:, None] - 1, align_corners=False)[:, 0, 0] * ((along > 0) & (along < front))
            for mask, front in ((self.masks.eye, self.eye_front), (self.masks.mouth, self.mouth_front))
        )
        return self.scene.at(points, eye, mouth)


def write_head_shapes(
    network: str | Path,
    output: str | Path,
    *,
    options: HeadShapeOptions | None = None,
    device: str = "cpu",
    progress: Progress = ignore_progress,
) -> list[HeadShapeReport]:
    """Writes a `.ply`, `.obj` or `.glb`, or a folder with `frameN.ply` for every frame of a motion file.

    Each file appears once it is complete. All frames have the iso level of the first.

    Args:
        network: name of released weights, a checkpoint folder, or an official `.pkl`.
        output: the file to write, its suffix is the format; a name without suffix is a folder.
        options: seed, style, face and surface.
        device: name of a torch device.
        progress: called after each step.

    Raises:
        InputError: the network, the motion, a setting, the output or the iso level cannot be used.
    """
    options, output = options or HeadShapeOptions(), Path(output)
    is_folder = not output.suffix
    if is_folder and options.face.motion is None:
        raise InputError(
            f"expected a mesh name ending in {', '.join(sorted(MESH_SUFFIXES))}, or --motion FILE for a folder of all "
            f"frames, got {output.name}"
        )
    if not is_folder:
        check_output(output, MESH_SUFFIXES)
    check_not_input(output, network, options.face.motion)
    device = check_device(device)
    generator = GenHeadGenerator.from_pretrained(network, device=device)
    reports: list[HeadShapeReport] = []
    frames = list(_frames(generator, options) if is_folder else [face_params(generator.head.model, options.face)])
    for number, params in enumerate(frames):
        path = output / f"frame{options.face.frame + number:06d}.ply" if is_folder else output
        shape = head_shape(generator, params, options, progress=progress if not is_folder else ignore_progress)
        options = replace(options, shape=replace(options.shape, iso=shape.iso))
        reports.append(_write(path, shape, generator, options))
        if is_folder:
            progress("shape", number + 1, len(frames))
    return reports


@torch.no_grad()
def head_shape(
    generator: GenHeadGenerator,
    params: HeadParams,
    options: HeadShapeOptions,
    *,
    progress: Progress = ignore_progress,
) -> Shape:
    """The surface of a seed's head with parameters `[1]`, in the network's world units."""
    volume = seed_volume(generator, options.seed, params, options.style)
    like = volume.w
    return extract_shape(
        PosedField.of(generator, volume, generator.head.pose(params)),
        options.shape,
        box_size=generator.config.render.box_warp,
        like=like,
        on_step=lambda done, total: progress("shape", done, total),
    )


def _frames(generator: GenHeadGenerator, options: HeadShapeOptions) -> Iterator[HeadParams]:
    model, face = generator.head.model, options.face
    motion = Motion.load(str(face.motion))
    for frame in range(face.frame, len(motion)):
        yield with_settings(model, moved_params(model, motion, frame), face.settings)


def _write(path: Path, shape: Shape, generator: GenHeadGenerator, options: HeadShapeOptions) -> HeadShapeReport:
    vertices = shape.vertices / UNITS_PER_METRE + np.asarray(generator.config.head_origin, np.float32)
    write_mesh(path, vertices, shape.faces, vertex_colours=shape.colours, normals=shape.normals)
    size = tuple(round(float(length), 6) for length in vertices.max(0) - vertices.min(0))
    return HeadShapeReport(
        str(path), options.seed, shape.iso, shape.density_range, len(vertices), len(shape.faces), size
    )
