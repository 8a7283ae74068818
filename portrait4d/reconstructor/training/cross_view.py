"""What Portrait4D-v2 adds: a static reconstructor shows driving frames from other sides (Deng et al. 2024, section 3).

From there motion is read, so that it is no picture of the target; and there the student must look as the teacher does,
whose heads need no multi-view data to be right in 3D.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from flame.geometry.camera import Camera
from flame.heads.pose_field import HeadPoseField
from portrait4d.losses.pictures import Perceptual, over_black
from portrait4d.ops.resample import resize
from portrait4d.reconstructor.network import ReconstructedImages, Reconstructor
from portrait4d.reconstructor.training.losses import WantedHeads, reconstruct
from portrait4d.render.renderer import TRAINING_MAX_POINTS
from portrait4d.runtime.random import RandomSource

MotionReader = Callable[[Tensor, Tensor], Tensor]
"""Motion codes `[B, M]` of pictures `[B, 3, H, W]` in [-1, 1] with landmarks `[B, 68, 2]`, see `crop_faces`."""


@dataclass(frozen=True)
class OtherView:
    """From where a teacher shows a driving frame.

    Attributes:
        camera: `[B]`, world units.
        pose: of the neck; None where it is at rest.
        landmarks: `[B, 70, 2]` of the driving head there, px from the first pixel's centre, y down.
    """

    camera: Camera
    pose: HeadPoseField | None
    landmarks: Tensor


@torch.no_grad()
def show_from(
    teacher: Reconstructor,
    frames: Tensor,
    camera: Camera,
    pose: HeadPoseField | None,
    *,
    size: int,
    random: RandomSource,
    box_scale: Tensor | None = None,
) -> ReconstructedImages:
    """What a static reconstructor makes of frames, rendered at `size` px.

    Args:
        teacher: in evaluation mode.
        frames: `[B, 3, H, W]` in [-1, 1].
        camera: `[B]`.
        pose: of the neck; None where it is at rest.
        size: of the rendered picture.
        random: source of the samples along the rays.
        box_scale: `[B]` factor on the teacher's cube, see `teacher_box_scale`.
    """
    source = teacher.encode(frames, None, motion_scale=0, neural_resolution=size)
    planes = teacher.animate(source, None, motion_scale=0)
    factor = None if box_scale is None else box_scale[:, None, None]
    return teacher.render(
        planes, source, camera, pose=pose, generator=random, max_points=TRAINING_MAX_POINTS, box_scale=factor
    )


def motion_from_other_views(
    teacher: Reconstructor,
    read: MotionReader,
    frames: Tensor,
    motion: Tensor,
    view: OtherView,
    *,
    is_kept: Tensor,
    size: int,
    random: RandomSource,
) -> Tensor:
    """Motion codes `[B, M]` of driving frames as the teacher shows them from another side.

    Args:
        teacher: a static reconstructor.
        read: the motion encoder.
        frames: `[B, 3, H, W]` in [-1, 1].
        motion: `[B, M]` codes of the frames themselves.
        view: from where.
        is_kept: `[B]` bool, whose own code stays.
        size: of the rendered picture.
        random: source of the samples along the rays.
    """
    shown = show_from(teacher, frames, view.camera, view.pose, size=size, random=random)
    return torch.where(is_kept[:, None], motion, read(shown.image, view.landmarks[:, :68]))


def cross_view_terms(
    student: Reconstructor,
    teacher: Reconstructor,
    wanted: WantedHeads,
    frames: Tensor,
    *,
    box_scale: Tensor,
    perceptual: Perceptual,
    weight: float,
    size: int,
    random: RandomSource,
) -> dict[str, Tensor]:
    """`cross_view`: perceptual distance of student and teacher from another side, each over black by its own opacity.

    Args:
        student: learns.
        teacher: a static reconstructor in evaluation mode, without gradients.
        wanted: sources, motion and cameras for the student; the neck at rest.
        frames: `[B, 3, H, W]` the driving frames, which the teacher shows from there.
        box_scale: `[B]`, see `teacher_box_scale`.
        perceptual: the distance.
        weight: of the term.
        size: of the rendered pictures.
        random: source of the samples along the rays, the student's first.
    """
    made = reconstruct(student, wanted, size=size, random=random).images
    shown = show_from(teacher, frames, wanted.camera, None, size=size, random=random, box_scale=box_scale)
    pair = (_alone(images) for images in (made, shown))
    return {"cross_view": weight * perceptual(*pair).mean()}


def _alone(images: ReconstructedImages) -> Tensor:
    """The person over black."""
    height, width = images.image.shape[2:]
    return over_black(images.image, resize(images.alpha, height=height, width=width))
