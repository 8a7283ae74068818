"""One frame of a driver as Portrait4D's networks take it: a camera and a head, in their world of metres x 3.

A head turned in front of a camera is also a resting head seen by a turned camera. The released files state both at
once: their camera sees the head at rest, and their neck repeats the turn. Only one of the two may be used; the three
ways of doing so are the `PosedView`s here.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from flame.geometry.camera import DEFAULT_FOV_DEGREES, Camera
from flame.geometry.rotation import axis_angle_to_matrix
from flame.heads.head_model import HeadModel, HeadParams
from flame.heads.head_pose import HeadPose

CANONICAL_POSITION = (0.0, 0.01, 4.2)
"""Of the camera that the demonstrations of the released networks look through, straight along -z."""


@dataclass(frozen=True)
class PosedView:
    """A camera and a head that belong together: nothing of the head's pose is in both.

    Attributes:
        camera: of B frames, world units of the head model.
        head: of B frames.
    """

    camera: Camera
    head: HeadParams


@dataclass(frozen=True)
class FrameParameters:
    """B frames as the released files state them.

    Attributes:
        camera: sees the head at rest as the frame shows it turned; metres x 3.
        head: the neck holds the whole turn of the head once more.
    """

    camera: Camera
    head: HeadParams

    @classmethod
    def from_vector437(cls, vector: Tensor) -> "FrameParameters":
        """Of vectors `[B, 437]` = camera label 25 in OpenGL axes, shape 300, expression 100, neck, jaw, eyes."""
        head = HeadParams.from_vector437(vector)
        return cls(Camera.from_label25(vector[:, :25], axes="opengl"), head)

    @classmethod
    def from_head_pose(
        cls,
        pose: HeadPose,
        head: HeadParams,
        *,
        units_per_metre: float = 3.0,
        fov_degrees: float = DEFAULT_FOV_DEGREES,
    ) -> "FrameParameters":
        """Of tracked frames.

        Args:
            pose: of B heads.
            head: fitted; its neck is replaced.
            units_per_metre: of the world that the frames are for.
            fov_degrees: of the cameras, over the side of the crop.
        """
        camera = Camera.from_head_pose(pose.rotation, pose.translation * units_per_metre, fov_degrees=fov_degrees)
        return cls(camera, head.replace(neck=pose.rotation))

    def head_pose(self, *, units_per_metre: float = 3.0) -> HeadPose:
        """The pose of `from_head_pose`; its turn is the neck's, which repeats the camera's."""
        return HeadPose(rotation=self.head.neck, translation=self.camera.world2cam[:, :3, 3] / units_per_metre)

    def to_vector437(self) -> Tensor:
        """The vectors of `from_vector437`."""
        return self.head.to_vector437(self.camera.to_label25(axes="opengl"))

    def turned_head(self) -> PosedView:
        """The canonical camera with the frame's lens; the neck turns the head. Where the head was is lost."""
        cam2world = torch.eye(4).to(self.camera.cam2world).repeat(len(self.camera), 1, 1)
        cam2world[:, :3, 3] = cam2world.new_tensor(CANONICAL_POSITION)
        return PosedView(Camera(cam2world, self.camera.intrinsics), self.head)

    def resting_head(self) -> PosedView:
        """The frame's camera around a head at rest."""
        return PosedView(self.camera, self.head.replace(neck=torch.zeros_like(self.head.neck)))

    def decomposed(self, model: HeadModel) -> PosedView:
        """The neck turns the head, and the camera is what remains: the frame as it was filmed.

        Args:
            model: in the unit of the camera.
        """
        joint = model.rest_joints(self.head.shape, self.head.expression)[:, model.joint_names.index("neck")]
        return PosedView(decompose_camera(self.camera, self.head.neck, joint), self.head)


def decompose_camera(camera: Camera, neck: Tensor, joint: Tensor) -> Camera:
    """Takes the turn of a neck out of a camera, so that both together show what the camera alone showed.

    The neck joint keeps its place in the picture. The opposite turn puts it back.

    Args:
        camera: sees the head at rest.
        neck: `[B, 3]` axis-angle that the head will have.
        joint: `[B, 3]` the neck joint, which does not move when it turns; unit of the camera.
    """
    world2cam = camera.world2cam
    before, place = world2cam[:, :3, :3], world2cam[:, :3, 3:]
    after = before @ axis_angle_to_matrix(neck).transpose(1, 2)
    seen = before @ joint[..., None] + place
    cam2world = torch.zeros_like(camera.cam2world)
    cam2world[:, :3, :3] = after.transpose(1, 2)
    cam2world[:, :3, 3:] = joint[..., None] - after.transpose(1, 2) @ seen
    cam2world[:, 3, 3] = 1
    return Camera(cam2world, camera.intrinsics)
