"""The head model where the network's world has it: landmarks, correspondence maps and poses of heads to be made."""

from dataclasses import dataclass

import torch
from torch import Tensor

from flame.errors import InputError
from flame.geometry.camera import Camera
from flame.heads.frame_parameters import decompose_camera
from flame.heads.head_model import HeadParams
from flame.heads.pose_field import HeadPoseField
from portrait4d.headparts.head import PartHead
from portrait4d.headparts.masks import correspondence_map, distance_map
from portrait4d.reconstructor.config import ReconstructorConfig

NUM_LANDMARKS = 70


@dataclass(frozen=True)
class PosedCamera:
    """A camera, and the field that undoes the rest of a head's rotation; None where the camera holds all of it."""

    camera: Camera
    pose: HeadPoseField | None


class HeadWorld:
    """Places heads of the training data.

    Attributes:
        head: the head model and its parts.

    Args:
        config: of the network.
        flame: FLAME's file with its companions beside it, for head flame.

    Raises:
        InputError: FLAME is asked for and no file was given, or it cannot be read.
    """

    def __init__(self, config: ReconstructorConfig, flame: str | None) -> None:
        self._config = config
        if config.head == "open":
            self.head = PartHead.from_open_head(origin=config.head_origin)
        elif flame is None:
            raise InputError("expected a FLAME file for clips with network.head flame: set flame")
        else:
            self.head = PartHead.from_flame_files(flame)

    def to(self, device: torch.device) -> "HeadWorld":
        """Moves the head model; returns itself."""
        self.head.to(device)
        return self

    def landmarks(self, params: HeadParams, camera: Camera, *, side: int) -> Tensor:
        """Where cameras see them, `[B, 70, 2]`, px from the first pixel's centre."""
        vertices = self.head.model(params)
        points = self.head.place(self.head.model.landmarks(vertices, count=NUM_LANDMARKS))
        pixels, _ = camera.project(points, height=side, width=side)
        return pixels - 0.5

    def correspondence(self, params: HeadParams, camera: Camera, *, side: int) -> Tensor:
        """The maps of heads `[B, 3, side, side]`, see `correspondence_map`."""
        return correspondence_map(self.head, self.head.pose(params), camera, size=side)

    def surface(self, params: HeadParams, camera: Camera, *, side: int) -> Tensor:
        """How far the faces are, `[B, 1, side, side]`, see `distance_map`."""
        return distance_map(self.head, self.head.pose(params), camera, size=side)

    def place_camera(self, composed: Camera, params: HeadParams) -> PosedCamera:
        """Gives the neck its part of heads' rotations.

        Args:
            composed: cameras that see the heads at rest as the pictures show them turned.
            params: of the heads, with the necks that they are to have.
        """
        if not params.neck.any():
            return PosedCamera(composed, None)
        model = self.head.model
        joints = model.rest_joints(params.shape, params.expression)[:, model.joint_names.index("neck")]
        camera = decompose_camera(composed, params.neck, self.head.place(joints))
        posed = self.head.pose(params)
        field = HeadPoseField.between(
            posed.posed, posed.rested, self.head.regions.pose_mesh, box_warp=self._config.render.box_warp
        )
        return PosedCamera(camera, field)
