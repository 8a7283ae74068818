"""What the engines of all reconstructors share: encode a photo once, then animate and render frames.

They differ in the head model: in the crop that is encoded, and in how camera and head hold the pose of a frame.
"""

from __future__ import annotations

import logging
from abc import ABC, abstractmethod
from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from flame.errors import InputError
from flame.geometry.camera import Camera
from flame.heads.flame import PORTRAIT4D_UNITS_PER_METRE
from flame.heads.head_model import HeadModel, HeadParams
from flame.heads.pose_field import HeadPoseField
from portrait4d.engines.abilities import Abilities
from portrait4d.engines.base import Avatar, Drive, Mesh, Rendering, own_avatar
from portrait4d.engines.jitter import frame_generator
from portrait4d.engines.modes import Placement
from portrait4d.engines.portrait4d.avatar import Portrait4DAvatar
from portrait4d.engines.portrait4d.cameras import around_point
from portrait4d.engines.portrait4d.memory import StillPlanes, explained_memory
from portrait4d.ops.resample import resize
from portrait4d.reconstructor.motion_codes import parameter_code
from portrait4d.reconstructor.network import Reconstructor
from portrait4d.render.field import TriPlaneField
from portrait4d.render.planes import TriPlanes
from portrait4d.render.shape import ShapeConfig, extract_shape
from portrait4d.runtime.memory import keep_freed_memory
from preprocess.faces.crop import Crop
from preprocess.media.image import to_tensor
from preprocess.tracking.motion import Motion
from preprocess.tracking.motion_code.encoder import MotionEncoder
from preprocess.tracking.tracker import TrackedFrame

logger = logging.getLogger(__name__)

MESH_RESOLUTION = 256
"""Samples along a side of the cube that a mesh is taken from, by default."""


class NetworkEngine(ABC):
    """An engine of a reconstructor; its cameras and heads are in metres x 3 around the head model's own origin."""

    abilities: Abilities

    # More than eight parameters: they are all the parts that an engine is made of.
    def __init__(
        self,
        name: str,
        network: Reconstructor,
        *,
        head_model: HeadModel,
        motion_encoder: MotionEncoder | None,
        is_static: bool = False,
        weights: str = "",
        weights_path: Path | None = None,
        device: torch.device | str = "cpu",
        placement: Placement = "tracked",
    ) -> None:
        """Makes an engine of a loaded network.

        Args:
            name: name of the engine.
            network: the network with its weights.
            head_model: what sources and drivers are tracked with, metres.
            motion_encoder: reads motion codes off pictures; None for a network that does not take them.
            is_static: the network reads no motion codes.
            weights: mark of the weights (see `identity.weights_mark`), which avatars keep.
            weights_path: path of the weights if the user gave one, for messages; None for weights with a name.
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
        self.head_model = head_model
        self.motion_encoder = motion_encoder
        self.motion_scale = 0.0 if is_static else 1.0
        self._still: StillPlanes | None = None
        self._frames_at_once: int | None = None if self.device.type != "cpu" else 1

    @abstractmethod
    def source_crop(self, source: TrackedFrame) -> Crop:
        """The square of a source that is encoded, and that results show."""

    @abstractmethod
    def frame_camera(self, avatar: Portrait4DAvatar, drive: Drive) -> tuple[Camera, HeadPoseField | None]:
        """Cameras of B frames, and the field that brings their heads to rest; None where the camera holds the pose."""

    def build(self, sources: Sequence[TrackedFrame]) -> Portrait4DAvatar:
        """Builds the avatar of the most frontal source; the others only help to find the person's shape.

        Args:
            sources: tracked pictures of one person, at least one.

        Raises:
            InputError: the source was tracked without the motion codes that this engine reads, or the memory of a GPU
                does not hold the computation.
        """
        source = min(sources, key=lambda item: float(np.linalg.norm(item.motion.rotation[0, :2])))
        crop, side = self.source_crop(source), self.network.config.resolution
        image = to_tensor(crop.apply(source.image)).to(self.device)
        if image.shape[2] != side:  # the network knows pictures of the size that it makes
            image = F.interpolate(image, (side, side), mode="area")
        with torch.inference_mode(), self._memory("what a source needs"):
            codes = self._checked(self.codes_of(source.motion))
            features = self.network.encode(image, codes, motion_scale=self.motion_scale)
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
                with torch.inference_mode(), self._memory("one frame", is_last=at_once == 1):
                    parts.append(self._render(own, drive[start : start + at_once]))
            except torch.OutOfMemoryError:
                at_once = self._frames_at_once = at_once // 2
                logger.warning("out of memory on %s: now rendering %d frames at once", self.device, at_once)
            else:
                start += at_once
                continue
            torch.cuda.empty_cache()  # only now: the error kept alive what was computed
        return _joined(parts)

    def _render(self, avatar: Portrait4DAvatar, drive: Drive) -> Rendering:
        planes = self.animate(avatar, drive)
        generator = frame_generator(drive.noise_seeds, self.device)
        return self._draw(avatar, planes, *self.frame_camera(avatar, drive), generator)

    def view(
        self, avatar: Avatar, codes: Tensor, camera: Camera, *, generator: torch.Generator | None = None
    ) -> Rendering:
        """Renders the head at rest as B cameras see it, `[B, 3, 512, 512]` in [-1, 1].

        Args:
            avatar: an avatar of this engine.
            codes: `[B, M]` as `codes_of` gives them, or `[1, M]` for all cameras, whose planes are then made once.
            camera: B cameras in Portrait4D's unit (metres x 3).
            generator: source of the sampling noise, on the engine's device; None for fixed samples.

        Raises:
            InputError: as `render`.
            ValueError: the numbers of codes and cameras differ.
        """
        own = self._own(avatar)
        if len(codes) not in (1, len(camera)):
            raise ValueError(f"expected motion codes for {len(camera)} cameras or one for all, got {len(codes)}")
        with torch.inference_mode(), self._memory("one frame"):
            features = own.features.repeat(len(codes))
            planes = self.network.animate(features, self._checked(codes), motion_scale=self.motion_scale)
            parts = [
                self._draw(own, planes[row : row + 1], camera[index].to(self.device), None, generator)
                for index, row in enumerate(range(len(camera)) if len(codes) > 1 else [0] * len(camera))
            ]
        return _joined(parts)

    def _draw(
        self,
        avatar: Portrait4DAvatar,
        planes: TriPlanes,
        camera: Camera,
        pose: HeadPoseField | None,
        generator: torch.Generator | None = None,
    ) -> Rendering:
        moved = around_point(camera, self.network.config.head_origin)
        seen = self.network.render(planes, avatar.features, moved, pose=pose, generator=generator)
        image, side = seen.image, avatar.crop.size
        if image.shape[2] != side:  # a small network
            image = F.interpolate(image, (side, side), mode="bicubic", align_corners=False).clamp(-1, 1)
        return Rendering(image, resize(seen.alpha, height=side, width=side))

    @torch.inference_mode()
    def animate(self, avatar: Portrait4DAvatar, drive: Drive) -> TriPlanes:
        """Makes the tri-planes of B frames.

        If all frames have the same motion code, its planes are made once and kept until another code comes: an orbit
        around a still face, or a turning static head, then costs only the rendering.
        """
        codes = self._checked(self._codes(drive.codes, drive.head))
        if codes is not None and not torch.equal(codes, codes[:1].expand_as(codes)):
            return self.network.animate(avatar.features.repeat(len(drive)), codes, motion_scale=self.motion_scale)
        first, kept = None if codes is None else codes[:1], self._still
        if kept is None or not kept.is_of(avatar.features, first):
            planes = self.network.animate(avatar.features, first, motion_scale=self.motion_scale)
            kept = self._still = StillPlanes.of(avatar.features, first, planes)
        planes = kept.planes
        return replace(planes, features=planes.features.expand(len(drive), *planes.features.shape[1:]))

    def mesh(self, avatar: Avatar, *, resolution: int | None = None) -> Mesh:
        """The avatar's surface in the source's expression, with vertex colours, metres, head at rest.

        Args:
            avatar: an avatar of this engine.
            resolution: samples along a side of the cube that the surface is taken from; by default `MESH_RESOLUTION`.

        Raises:
            InputError: as `render`, or the resolution is out of range.
        """
        own = self._own(avatar)
        codes = self._checked(self.codes_of(own.motion))
        with torch.inference_mode(), self._memory("what a mesh needs"):
            planes = self.network.animate(own.features, codes, motion_scale=self.motion_scale)
            shape = extract_shape(
                TriPlaneField(planes, self.network.decoder),
                ShapeConfig(resolution=MESH_RESOLUTION if resolution is None else resolution),
                box_size=planes.box_warp,
                like=planes.features,
            )
        origin = np.asarray(self.network.config.head_origin, shape.vertices.dtype)
        vertices = shape.vertices / PORTRAIT4D_UNITS_PER_METRE + origin
        return Mesh(vertices, shape.faces, colours=shape.colours, normals=shape.normals)

    def codes_of(self, motion: Motion) -> Tensor:
        """The motion codes `[T, M]` of a tracked clip, as the network takes them.

        Raises:
            InputError: the codes are the head model's numbers, and the clip was tracked with another model.
        """
        if self.network.config.motion == "parameters":
            motion.check_model(self.head_model)
        return self._codes(torch.from_numpy(motion.codes), motion.head.map(torch.from_numpy))

    def _codes(self, codes: Tensor, head: HeadParams) -> Tensor:
        if self.network.config.motion == "parameters":
            return parameter_code(head.expression, head.jaw, head.eyes)
        return codes

    def _checked(self, codes: Tensor) -> Tensor | None:
        """Motion codes `[B, M]` on the engine's device; None for an engine that reads none.

        Raises:
            InputError: the motion holds no codes, which the engine needs, or codes of another kind.
        """
        if self.motion_scale == 0:
            return None
        expected = self.network.config.canonicaliser.motion_dim
        if codes.shape[1] == expected:
            return codes.to(self.device)
        if codes.shape[1]:
            raise InputError(
                f"expected motion codes [B, {expected}] for engine {self.engine_option}, got {list(codes.shape)}: "
                "take those that its codes_of gives"
            )
        raise InputError(
            f"this motion holds no motion codes, which engine {self.name} is driven by: track the video with "
            f"--engine {self.engine_option}, or give the video itself"
        )

    def _memory(self, what: str, *, is_last: bool = True) -> AbstractContextManager[None]:
        return explained_memory(self.device, f"{what} of {self.engine_option}", is_last=is_last)

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


def _joined(parts: Sequence[Rendering]) -> Rendering:
    return Rendering(torch.cat([part.image for part in parts]), torch.cat([part.alpha for part in parts]))
