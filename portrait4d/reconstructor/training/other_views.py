"""What Portrait4D-v2 adds to a step, for the samples of a part: motion read from other sides, and the teacher's views.

Deng et al. 2024 (Portrait4D-v2), sections 3.2 and 3.3.
"""

from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor

from flame.geometry.camera import Camera
from portrait4d.headparts.views import training_views
from portrait4d.losses.blink import eye_openness, teacher_box_scale
from portrait4d.losses.pictures import Perceptual
from portrait4d.reconstructor.network import Reconstructor
from portrait4d.reconstructor.training.batches import Batches
from portrait4d.reconstructor.training.config import TeacherConfig
from portrait4d.reconstructor.training.cross_view import OtherView, cross_view_terms, motion_from_other_views
from portrait4d.reconstructor.training.losses import WantedHeads
from portrait4d.reconstructor.training.motion_reader import ReadMotion
from portrait4d.reconstructor.training.samples import HeadSample
from portrait4d.train.task import Part


class OtherViews:
    """A teacher and the cameras from which it is looked at.

    Args:
        config: how often, and with which weight.
        teacher: a static reconstructor in evaluation mode, without gradients.
        batches: makes the heads' parameters; its world places them.
        read: reads motion codes off pictures; None where codes are the head model's numbers, which no side changes.
    """

    def __init__(
        self, config: TeacherConfig, teacher: Reconstructor, batches: Batches, *, read: ReadMotion | None
    ) -> None:
        if batches.world is None:
            raise ValueError("other views need a world that places heads")
        self.config, self.teacher, self._read = config, teacher, read
        self._batches, self._world = batches, batches.world

    def with_motion(
        self, part: Part, samples: Sequence[HeadSample], wanted: WantedHeads, frames: Tensor, *, size: int
    ) -> WantedHeads:
        """The same heads, the motion of most of them read off the teacher's picture of the driving frame.

        Args:
            part: of a batch.
            samples: of the part.
            wanted: made of them.
            frames: `[B, 3, H, H]` driving frames.
            size: of the rendered pictures.
        """
        if self._read is None:
            return wanted
        like = torch.zeros((), device=part.device)
        camera = self._camera(part, "motion view")
        landmarks = self._world.landmarks(self._batches.params(samples), camera, side=frames.shape[-1])
        drawn = part.random("own motion").uniform((len(samples),), like)
        motion = motion_from_other_views(
            self.teacher,
            self._read,
            frames,
            wanted.driver_motion,
            OtherView(camera, wanted.pose, landmarks),
            is_kept=drawn >= self.config.motion_view_share,
            size=size,
            random=part.random("motion view noise"),
        )
        return replace(wanted, driver_motion=motion)

    def terms(
        self,
        student: Reconstructor,
        part: Part,
        samples: Sequence[HeadSample],
        wanted: WantedHeads,
        frames: Tensor,
        *,
        perceptual: Perceptual,
        size: int,
    ) -> dict[str, Tensor]:
        """See `cross_view_terms`; from a new side, the neck at rest."""
        openness = eye_openness(self._batches.landmarks(samples))
        return cross_view_terms(
            student,
            self.teacher,
            replace(wanted, camera=self._camera(part, "cross view"), pose=None),
            frames,
            box_scale=teacher_box_scale(openness),
            perceptual=perceptual,
            weight=self.config.cross_view_weight,
            size=size,
            random=part.random("cross view noise"),
        )

    def _camera(self, part: Part, purpose: str) -> Camera:
        """Cameras around the head as in the synthesised data, of each sample by itself."""
        drawn = part.random(purpose).uniform((len(part), 7), torch.zeros(())).T
        own = self.teacher.config
        views = training_views(
            drawn, head=own.head, camera_radius=own.camera_radius, fov_degrees=own.camera_fov_degrees
        )
        return views.to(part.device)
