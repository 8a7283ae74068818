"""The Portrait4D networks behind the engine interface: encode a photo once, then animate and render frames."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from weakref import ref

import numpy as np
import torch
from torch import Tensor

from flame.errors import InputError
from flame.geometry.camera import Camera
from flame.heads.flame import PORTRAIT4D_UNITS_PER_METRE, Flame
from flame.heads.frame_parameters import FrameParameters, PosedView
from flame.heads.head_model import HeadModel
from flame.heads.pose_field import CoarseMesh, HeadPoseField
from portrait4d.engines.base import Avatar, Drive, Mesh, Rendering, own_avatar
from portrait4d.engines.jitter import frame_generator
from portrait4d.engines.modes import Placement
from portrait4d.engines.portrait4d.abilities import ABILITIES
from portrait4d.engines.portrait4d.avatar import Portrait4DAvatar
from portrait4d.ops.resample import resize
from portrait4d.reconstructor.network import Reconstructor, SourceFeatures
from portrait4d.render.field import TriPlaneField
from portrait4d.render.planes import TriPlanes
from portrait4d.render.shape import ShapeConfig, extract_shape
from portrait4d.runtime.memory import keep_freed_memory
from preprocess.faces.aligned_crop import portrait_crop
from preprocess.media.image import to_tensor
from preprocess.tracking.motion_code.encoder import MotionEncoder
from preprocess.tracking.tracker import TrackedFrame

logger = logging.getLogger(__name__)

MESH_RESOLUTION = 256
"""Samples along a side of the cube that a mesh is taken from, by default."""


@dataclass(frozen=True)
class _StillPlanes:
    """The planes of one avatar under one motion code `[1, 548]` (or None); they do not keep the avatar alive."""

    source: ref[SourceFeatures]
    codes: Tensor | None
    planes: TriPlanes

    def is_of(self, avatar: Portrait4DAvatar, codes: Tensor | None) -> bool:
        if self.source() is not avatar.features:
            return False
        return codes is self.codes if codes is None or self.codes is None else torch.equal(codes, self.codes)


class Portrait4DEngine:
    """An engine of a Portrait4D network, with the FLAME that its released files hold and the motion encoder."""

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
            motion_encoder: None for static reconstruction, which reads no motion codes.
            weights: mark of the weights (see `identity.weights_mark`), which avatars keep.
            weights_path: path of the weights if the user gave one, for messages; None for the released weights.
            device: device that the networks run on.
            placement: where the head is drawn.
        """
        if torch.device(device).type == "cpu":
            keep_freed_memory()
        self.name, self.weights = name, weights
        self.engine_option = name if weights_path is None else str(weights_path)
        self.placement: Placement = placement
        self.device = torch.device(device)
        self.network = network.to(self.device).eval().requires_grad_(False)
        self.flame, self.coarse_mesh = flame.to(self.device), coarse_mesh.to(self.device)
        self.head_model: HeadModel = flame.in_metres()
        self.motion_encoder = motion_encoder
        self.motion_scale = 0.0 if motion_encoder is None else 1.0
        self._still: _StillPlanes | None = None
        self._frames_at_once: int | None = None if self.device.type != "cpu" else 1

    def build(self, sources: Sequence[TrackedFrame]) -> Portrait4DAvatar:
        """Builds the avatar of the most frontal source; the others only help to find the person's shape.

        Args:
            sources: tracked pictures of one person, at least one.

        Raises:
            InputError: the source was tracked without the motion codes that this engine reads, or the memory of a GPU
                does not hold the computation.
        """
        source = min(sources, key=lambda item: float(np.linalg.norm(item.motion.rotation[0, :2])))
        crop = portrait_crop(source.landmarks.points, image_size=(source.image.shape[0], source.image.shape[1]))
        image = to_tensor(crop.apply(source.image)).to(self.device)
        with torch.inference_mode(), self._explained_memory("what a source needs"):
            features = self.network.encode(
                image, self._codes(torch.from_numpy(source.motion.codes)), motion_scale=self.motion_scale
            )
        return Portrait4DAvatar(features, self.weights, source.motion, crop, self.name, source.motion.warnings)

    def load(self, path: Path | str) -> Portrait4DAvatar:
        """Reads an avatar file.

        Raises:
            InputError: the file is not an avatar of this engine, is damaged, or was made with other weights.
        """
        loaded = Portrait4DAvatar.load(path, engine=self.name, weights=self.weights, engine_option=self.engine_option)
        return loaded.to(self.device)

    def render(self, avatar: Avatar, drive: Drive) -> Rendering:
        """Renders a batch of frames `[B, 3, 512, 512]` in [-1, 1].

        If the memory of a GPU does not hold the batch, it is halved. Frames with sampling noise are rendered singly.

        Raises:
            InputError: the avatar is of another engine or other weights, the drive holds no motion codes, or the memory
                of a GPU does not hold one frame.
        """
        own, drive, parts, start = self._own(avatar), drive.to(self.device), [], 0
        at_once = 1 if drive.noise_seeds.shape[1] else self._frames_at_once or len(drive)
        while start < len(drive):
            try:
                with torch.inference_mode(), self._explained_memory("one frame", is_last=at_once == 1):
                    parts.append(self._render(own, drive[start : start + at_once]))
            except torch.OutOfMemoryError:
                at_once = self._frames_at_once = at_once // 2
                logger.warning("out of memory on %s: now rendering %d frames at once", self.device, at_once)
            else:
                start += at_once
                continue
            torch.cuda.empty_cache()  # only now: the error kept alive what was computed
        return Rendering(torch.cat([part.image for part in parts]), torch.cat([part.alpha for part in parts]))

    def _render(self, avatar: Portrait4DAvatar, drive: Drive) -> Rendering:
        planes = self.animate(avatar, drive)
        view = self.posed_view(avatar, drive)
        pose = HeadPoseField.build(self.flame, view.head, self.coarse_mesh, box_warp=planes.box_warp)
        return self._draw(avatar, planes, view.camera, pose, frame_generator(drive.noise_seeds, self.device))

    def view(
        self, avatar: Avatar, codes: Tensor, camera: Camera, *, generator: torch.Generator | None = None
    ) -> Rendering:
        """Renders the head at rest as B cameras see it, `[B, 3, 512, 512]` in [-1, 1].

        Args:
            avatar: an avatar of this engine.
            codes: motion codes `[B, 548]`, or `[1, 548]` for all cameras, whose planes are then made once.
            camera: B cameras in Portrait4D's unit (metres x 3).
            generator: source of the sampling noise, on the engine's device; None for fixed samples.

        Raises:
            InputError: as `render`.
            ValueError: the numbers of codes and cameras differ.
        """
        own = self._own(avatar)
        if len(codes) not in (1, len(camera)):
            raise ValueError(f"expected motion codes for {len(camera)} cameras or one for all, got {len(codes)}")
        with torch.inference_mode(), self._explained_memory("one frame"):
            used = self._codes(codes)
            features = own.features.repeat(len(codes))
            planes = self.network.animate(features, used, motion_scale=self.motion_scale)
            parts = [
                self._draw(own, planes[row : row + 1], camera[index : index + 1].to(self.device), None, generator)
                for index, row in enumerate(range(len(camera)) if len(codes) > 1 else [0] * len(camera))
            ]
        return Rendering(torch.cat([part.image for part in parts]), torch.cat([part.alpha for part in parts]))

    def _draw(
        self,
        avatar: Portrait4DAvatar,
        planes: TriPlanes,
        camera: Camera,
        pose: HeadPoseField | None,
        generator: torch.Generator | None = None,
    ) -> Rendering:
        seen = self.network.render(planes, avatar.features, camera, pose=pose, generator=generator)
        height, width = seen.image.shape[2:]
        return Rendering(seen.image, resize(seen.alpha, height=height, width=width))

    @torch.inference_mode()
    def animate(self, avatar: Portrait4DAvatar, drive: Drive) -> TriPlanes:
        """Makes the tri-planes of B frames.

        If all frames have the same motion code, its planes are made once and kept until another code comes: an orbit
        around a still face, or a turning static head, then costs only the rendering.
        """
        codes = self._codes(drive.codes)
        if codes is not None and not torch.equal(codes, codes[:1].expand_as(codes)):
            return self.network.animate(avatar.features.repeat(len(drive)), codes, motion_scale=self.motion_scale)
        first, kept = None if codes is None else codes[:1], self._still
        if kept is None or not kept.is_of(avatar, first):
            planes = self.network.animate(avatar.features, first, motion_scale=self.motion_scale)
            kept = self._still = _StillPlanes(ref(avatar.features), first, planes)
        planes = kept.planes
        return replace(planes, features=planes.features.expand(len(drive), *planes.features.shape[1:]))

    def posed_view(self, avatar: Portrait4DAvatar, drive: Drive) -> PosedView:
        """Cameras and head parameters of B frames, in Portrait4D's unit; the pose of the head is in the neck."""
        frame = FrameParameters.from_head_pose(drive.pose, drive.head, units_per_metre=PORTRAIT4D_UNITS_PER_METRE)
        if self.placement == "canonical":
            return frame.turned_head()
        if self.placement == "tracked":
            view = frame.decomposed(self.flame)
            return PosedView(_through_crop(view.camera, avatar), view.head)
        raise ValueError(f"placement must be 'tracked' or 'canonical', got {self.placement!r}")

    def mesh(self, avatar: Avatar, *, resolution: int | None = None) -> Mesh:
        """The avatar's surface in the source's expression, with vertex colours, metres, head at rest.

        Args:
            avatar: an avatar of this engine.
            resolution: samples along a side of the cube that the surface is taken from; by default `MESH_RESOLUTION`.

        Raises:
            InputError: as `render`, or the resolution is out of range.
        """
        own = self._own(avatar)
        codes = self._codes(torch.from_numpy(own.motion.codes))
        with torch.inference_mode(), self._explained_memory("what a mesh needs"):
            planes = self.network.animate(own.features, codes, motion_scale=self.motion_scale)
            shape = extract_shape(
                TriPlaneField(planes, self.network.decoder),
                ShapeConfig(resolution=MESH_RESOLUTION if resolution is None else resolution),
                box_size=planes.box_warp,
                like=planes.features,
            )
        vertices = shape.vertices / PORTRAIT4D_UNITS_PER_METRE
        return Mesh(vertices, shape.faces, colours=shape.colours, normals=shape.normals)

    def _own(self, avatar: Avatar) -> Portrait4DAvatar:
        """Returns the avatar if this engine can draw it.

        Raises:
            InputError: another engine built it, or the same engine with other weights.
        """
        own = own_avatar(avatar, Portrait4DAvatar, engine=self)
        if own.weights != self.weights:
            raise InputError(
                f"the avatar was built with other weights of {self.name}, or another FLAME: build it again with engine "
                f"{self.engine_option}"
            )
        return own

    @contextmanager
    def _explained_memory(self, what: str, *, is_last: bool = True) -> Iterator[None]:
        """Turns torch's error for a full GPU memory into an `InputError`, unless another attempt follows."""
        try:
            yield
        except torch.OutOfMemoryError as error:
            if not is_last:
                raise
            raise InputError(
                f"the memory of {self.device} does not hold {what} of {self.engine_option}: free some, or use "
                "--device cpu"
            ) from error

    def _codes(self, codes: Tensor) -> Tensor | None:
        """Motion codes `[B, 548]` on the engine's device; None for an engine that reads none.

        Raises:
            InputError: the motion holds no codes, which the engine needs.
        """
        if self.motion_encoder is None:
            return None
        if codes.shape[1] != self.network.config.canonicaliser.motion_dim:
            raise InputError(
                f"this motion holds no motion codes, which engine {self.name} is driven by: track the video with "
                f"--engine {self.engine_option}, or give the video itself"
            )
        return codes.to(self.device)


def _through_crop(camera: Camera, avatar: Portrait4DAvatar) -> Camera:
    """Takes cameras of the tracker's crop to the avatar's aligned crop: the same rays, other pixels."""
    between = avatar.crop.matrix @ np.linalg.inv(avatar.motion.crop_matrix)
    change = np.diag([1 / avatar.crop.size, 1 / avatar.crop.size, 1.0]) @ between
    change = change @ np.diag([avatar.motion.crop_size, avatar.motion.crop_size, 1.0])
    return Camera(camera.cam2world, torch.from_numpy(change).to(camera.intrinsics) @ camera.intrinsics)
