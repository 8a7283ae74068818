"""One frame of a driver as Portrait4D's networks take it: a camera and a head, in world units of metres x 3.

A turned head in front of a fixed camera looks like a head at rest in front of a turned camera. The released files state
both: their camera sees the head at rest, and their neck repeats the rotation. Only one of the two may be applied;
`turned_head`, `resting_head` and `decomposed` are the three ways to do so.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from flame.geometry.camera import DEFAULT_FOV_DEGREES, Camera
from flame.geometry.rotation import axis_angle_to_matrix
from flame.heads.head_model import HeadModel, HeadParams
from flame.heads.head_pose import HeadPose

CANONICAL_POSITION = (0.0, 0.01, 4.2)
"""Position of the camera in the released demonstrations; it looks along -z. World units of metres x 3."""


@dataclass(frozen=True)
class PosedView:
    """A camera and a head that together state the head's pose once.

    Attributes:
        camera: of B frames, in the head model's unit.
        head: of B frames.
    """

    camera: Camera
    head: HeadParams


@dataclass(frozen=True)
class FrameParameters:
    """B frames in the form of the released files.

    Attributes:
        camera: sees the head at rest as the frame shows it turned; metres x 3.
        head: its neck repeats the whole rotation of the head.
    """

    camera: Camera
    head: HeadParams

    @classmethod
    def from_vector437(cls, vector: Tensor) -> "FrameParameters":
        """Reads vectors `[B, 437]`: camera label 25 in OpenGL axes, shape 300, expression 100, neck, jaw, eyes."""
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
        """Converts tracked frames.

        Args:
            pose: of B heads.
            head: fitted parameters of B heads; their necks are replaced.
            units_per_metre: world units of the result in a metre.
            fov_degrees: field of view of the cameras over the side of the crop.
        """
        camera = Camera.from_head_pose(pose.rotation, pose.translation * units_per_metre, fov_degrees=fov_degrees)
        return cls(camera, head.replace(neck=pose.rotation))

    def head_pose(self, *, units_per_metre: float = 3.0) -> HeadPose:
        """Returns the pose that `from_head_pose` took; its rotation is the neck's, which repeats the camera's."""
        return HeadPose(rotation=self.head.neck, translation=self.camera.world2cam[:, :3, 3] / units_per_metre)

    def to_vector437(self) -> Tensor:
        """Returns the vectors `[B, 437]` that `from_vector437` reads."""
        return self.head.to_vector437(self.camera.to_label25(axes="opengl"))

    def turned_head(self) -> PosedView:
        """Returns the canonical camera with the frame's intrinsics, and a neck that turns the head.

        The position of the head in the frame is lost.
        """
        cam2world = torch.eye(4).to(self.camera.cam2world).repeat(len(self.camera), 1, 1)
        cam2world[:, :3, 3] = cam2world.new_tensor(CANONICAL_POSITION)
        return PosedView(Camera(cam2world, self.camera.intrinsics), self.head)

    def resting_head(self) -> PosedView:
        """Returns the frame's camera, and a head at rest."""
        return PosedView(self.camera, self.head.replace(neck=torch.zeros_like(self.head.neck)))

    def decomposed(self, model: HeadModel) -> PosedView:
        """Returns a neck that turns the head, and the rest of the pose as the camera: the frame as it was filmed.

        Args:
            model: the head model, in the unit of the camera.
        """
        joint = model.rest_joints(self.head.shape, self.head.expression)[:, model.joint_names.index("neck")]
        return PosedView(decompose_camera(self.camera, self.head.neck, joint), self.head)


def decompose_camera(camera: Camera, neck: Tensor, joint: Tensor) -> Camera:
    """Removes the rotation of a neck from a camera, so that both together show what the camera alone showed.

    The neck joint keeps its place in the picture. The inverse rotation restores the camera.

    Args:
        camera: sees the head at rest.
        neck: `[B, 3]` axis-angle that the head will have, radians.
        joint: `[B, 3]` the neck joint, the fixed point of the rotation, in the unit of the camera.
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
