"""The Portrait4D networks behind the engine interface: heads of FLAME, whose neck turns."""

from __future__ import annotations

from pathlib import Path

import torch

from flame.geometry.camera import Camera
from flame.heads.flame import PORTRAIT4D_UNITS_PER_METRE, Flame
from flame.heads.frame_parameters import FrameParameters, PosedView
from flame.heads.pose_field import CoarseMesh, HeadPoseField
from portrait4d.engines.base import Drive
from portrait4d.engines.modes import Placement
from portrait4d.engines.portrait4d.abilities import ABILITIES
from portrait4d.engines.portrait4d.avatar import Portrait4DAvatar
from portrait4d.engines.portrait4d.cameras import through_crop
from portrait4d.engines.portrait4d.network_engine import NetworkEngine
from portrait4d.reconstructor.network import Reconstructor
from preprocess.faces.aligned_crop import portrait_crop
from preprocess.faces.crop import Crop
from preprocess.tracking.motion_code.encoder import MotionEncoder
from preprocess.tracking.tracker import TrackedFrame


class Portrait4DEngine(NetworkEngine):
    """An engine of a network that learned from heads of FLAME, such as the released ones."""

    abilities = ABILITIES

    # More than eight parameters: they are all the parts that an engine is made of.
    def __init__(
        self,
        name: str,
        network: Reconstructor,
        *,
        flame: Flame,
        coarse_mesh: CoarseMesh,
        motion_encoder: MotionEncoder | None,
        is_static: bool = False,
        weights: str = "",
        weights_path: Path | None = None,
        device: torch.device | str = "cpu",
        placement: Placement = "tracked",
    ) -> None:
        """Makes an engine of loaded networks; `loading.load_portrait4d` loads them.

        Args:
            name: name of the engine.
            network: the network with its weights.
            flame: the head model, in Portrait4D's unit (metres x 3).
            coarse_mesh: simplified mesh of `flame`.
            motion_encoder: see `NetworkEngine`, as the following.
            is_static: the network reads no motion codes.
            weights: mark of the weights.
            weights_path: path of the weights if the user gave one.
            device: device that the networks run on.
            placement: where the head is drawn.
        """
        super().__init__(
            name,
            network,
            head_model=flame.in_metres(),
            motion_encoder=motion_encoder,
            is_static=is_static,
            weights=weights,
            weights_path=weights_path,
            device=device,
            placement=placement,
        )
        self.flame, self.coarse_mesh = flame.to(self.device), coarse_mesh.to(self.device)

    def source_crop(self, source: TrackedFrame) -> Crop:
        """The aligned crop of the released preprocessing."""
        return portrait_crop(source.landmarks.points, image_size=(source.image.shape[0], source.image.shape[1]))

    def frame_camera(self, avatar: Portrait4DAvatar, drive: Drive) -> tuple[Camera, HeadPoseField]:
        """Cameras of B frames, and the field that takes away the turn of their necks."""
        view = self.posed_view(avatar, drive)
        resting = view.head.replace(neck=torch.zeros_like(view.head.neck))
        origin = view.camera.cam2world.new_tensor(self.network.config.head_origin) * PORTRAIT4D_UNITS_PER_METRE
        posed, rested = (self.flame(head) - origin for head in (view.head, resting))
        box_warp = self.network.config.render.box_warp
        return view.camera, HeadPoseField.between(posed, rested, self.coarse_mesh, box_warp=box_warp)

    def posed_view(self, avatar: Portrait4DAvatar, drive: Drive) -> PosedView:
        """Cameras and head parameters of B frames, in Portrait4D's unit; the pose of the head is in the neck."""
        frame = FrameParameters.from_head_pose(drive.pose, drive.head, units_per_metre=PORTRAIT4D_UNITS_PER_METRE)
        if self.placement == "canonical":
            return frame.turned_head()
        if self.placement == "tracked":
            view = frame.decomposed(self.flame)
            return PosedView(through_crop(view.camera, avatar), view.head)
        raise ValueError(f"placement must be 'tracked' or 'canonical', got {self.placement!r}")
