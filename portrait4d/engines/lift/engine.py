"""The embedded engine behind the engine interface: an avatar is built once per photo, then frames are drawn."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from flame.geometry.rotation import axis_angle_to_matrix, matrix_to_euler_degrees
from flame.heads.head_model import HeadModel
from flame.heads.open_head import load_open_head
from flame.landmarks.groups import INNER_LIP_MIDDLES, INNER_LIPS, LID_MIDDLES, OUTER_LIPS
from flame.mesh.raster import rasterize
from portrait4d.engines.abilities import check_choices
from portrait4d.engines.base import Avatar, Drive, Mesh, Rendering, own_avatar
from portrait4d.engines.lift.abilities import ABILITIES
from portrait4d.engines.lift.avatar import LiftAvatar
from portrait4d.engines.lift.bind import build_rig, patch_faces, residual_weights
from portrait4d.engines.lift.canvas import MARGIN, Canvas, cut_canvas, split_canvas
from portrait4d.engines.lift.eyes import IRIS, LIDS, Eye, build_eye, complete_eye
from portrait4d.engines.lift.lids import build_lid, lid_texture
from portrait4d.engines.lift.lighting import fit_light, light_asymmetry
from portrait4d.engines.lift.matte import keep_component, solve_matte
from portrait4d.engines.lift.mouth import (
    build_interior,
    build_own_mouth,
    own_mouth_texture,
    own_teeth_reach,
    own_teeth_texture,
    teeth_colour,
)
from portrait4d.engines.lift.render import draw_frames
from portrait4d.engines.lift.rig import Rig, vertex_normals
from portrait4d.engines.lift.view import SourceView
from portrait4d.engines.modes import Placement
from portrait4d.engines.retarget import SHUT_EYES
from preprocess.faces.matte import PortraitMatte
from preprocess.tracking.head_landmarks import landmark_residual
from preprocess.tracking.motion import Motion
from preprocess.tracking.motion_code.encoder import MotionEncoder
from preprocess.tracking.tracker import TrackedFrame

NECK_HEIGHT = 0.05
"""Height in the head frame, in metres, above which the skin belongs to the head."""

OTHERS = 0.2
"""Coarse matte from which a pixel shows somebody, whom the wall behind the person is not made of."""

TURNED_DEGREES = 25.0
ONE_SIDED_LIGHT = 0.75
"""Limits beyond which a source gets a warning: yaw or pitch in degrees; side light over mean light."""


class LiftEngine:
    """Turns one photo into a drivable head, without a trained avatar network."""

    name = "lift"
    engine_option = "lift"
    abilities = ABILITIES
    motion_encoder: MotionEncoder | None = None
    placement: Placement = "tracked"
    weights = ""

    def __init__(self, device: torch.device | str = "cpu") -> None:
        self.device = torch.device(device)
        self.head_model: HeadModel = load_open_head()
        self._matte = PortraitMatte(device=device)

    def build(self, sources: Sequence[TrackedFrame]) -> LiftAvatar:
        """Builds the avatar of the most frontal source; its `motion` is that source's own object.

        Args:
            sources: tracked pictures of one person, at least one.
        """
        source = min(sources, key=lambda item: float(np.linalg.norm(item.motion.rotation[0, :2])))
        with torch.inference_mode():
            return self._build(source).to(self.device)

    def _build(self, source: TrackedFrame) -> LiftAvatar:
        model, motion, crop = self.head_model, source.motion, source.crop
        view, shape = SourceView.of(motion), motion.params(self.head_model, 0).shape
        landmarks = motion.landmarks[0, :, :2] + MARGIN
        inner = landmarks[list(INNER_LIPS)]
        canvas = self._canvas(source, view, landmarks)
        residual = landmark_residual(model, motion)[0]
        rig = build_rig(model, motion, canvas, residual, self._landmark_weights)
        lids, lips = self._opening_points(rig)
        lid_gaps = [float((rig.rest[upper] - rig.rest[lower]).norm()) for upper, lower in lids]
        eyes, under = self._eyes(motion, view, canvas.photo, landmarks)
        depth = -float(view.to_camera(rig.rest[lips].mean(0)[None])[0, 2])
        own_teeth = teeth_colour(canvas.photo, inner)
        own_mouth = build_own_mouth(inner, depth, view, shows_teeth=own_teeth is not None)
        mouth_rows = slice(int(inner[:, 1].min()) - 12 - own_teeth_reach(inner), int(inner[:, 1].max()) + 12)
        under[mouth_rows] = torch.from_numpy(own_mouth_texture(canvas.photo, inner))[mouth_rows]
        changed = torch.from_numpy(lid_texture(canvas.photo, landmarks))
        changed[mouth_rows] = torch.from_numpy(own_teeth_texture(canvas.photo, inner))[mouth_rows]
        faces = rig.patch_faces
        light = _fit_face_light(canvas, rig, view)
        inside = slice(MARGIN, MARGIN + crop.size)
        return LiftAvatar(
            rig=rig,
            left_eye=eyes[0],
            right_eye=eyes[1],
            left_lid=build_lid(model, "left", rig.patch_vertices, faces, lid_gaps[0]),
            right_lid=build_lid(model, "right", rig.patch_vertices, faces, lid_gaps[1]),
            interior=build_interior(
                model, shape, canvas.photo, inner, landmarks[list(OUTER_LIPS)], own_teeth=own_teeth
            ),
            own_mouth=own_mouth,
            person=torch.from_numpy(np.concatenate([canvas.person, canvas.alpha[..., None]], -1)),
            under=under,
            changed=changed,
            background=torch.from_numpy(canvas.background[inside, inside].copy()),
            light=torch.from_numpy(light),
            lids=lids,
            lips=lips,
            motion=motion,
            crop=crop,
            warnings=(*motion.warnings, *source_warnings(motion, light)),
        )

    @cached_property
    def _landmark_weights(self) -> np.ndarray:
        """The weights of `bind.residual_weights`, which are the same for every source."""
        return residual_weights(self.head_model, torch.unique(patch_faces(self.head_model)).numpy())

    def _canvas(self, source: TrackedFrame, view: SourceView, landmarks: np.ndarray) -> Canvas:
        """Cuts a photo into layers; `landmarks` [478, 2] in canvas pixels tell whose matte is kept."""
        photo = cut_canvas(source.image, source.crop)
        coarse = self._matte(np.round(photo * 255).astype(np.uint8))
        column, row = np.clip(landmarks[1], 0, len(photo) - 1).astype(int)
        head = _head_mask(self.head_model, source.motion, view, len(photo))
        alpha = solve_matte(photo, keep_component(coarse, row, column), head)
        return split_canvas(photo, coarse < OTHERS, alpha)

    def _eyes(
        self, motion: Motion, view: SourceView, photo: np.ndarray, landmarks: np.ndarray
    ) -> tuple[list[Eye], Tensor]:
        """Both eyes (subject's left first) and their texture [H, W, 4]: the canvas with the eyes completed."""
        params = motion.params(self.head_model, 0)
        joints = self.head_model.joints(params)[0]
        fitted = self.head_model.shaped(params.shape, params.expression)[0]
        texture = np.concatenate([photo, np.ones_like(photo[..., :1])], -1)
        middle = int(landmarks[list(LIDS["left"] + LIDS["right"]), 0].mean())
        eyes = []
        for index, side in enumerate(("left", "right")):
            lids, iris = landmarks[list(LIDS[side])], landmarks[list(IRIS[side])]
            columns = slice(middle, None) if lids[:, 0].mean() > middle else slice(None, middle)
            texture[:, columns, :3] = complete_eye(photo, lids, iris)[:, columns]
            centre = joints[self.head_model.joint_names.index(f"eye_{side}")]
            eyeball = fitted[self.head_model.regions[f"{side}_eyeball"]]
            radius = float((eyeball - centre).norm(dim=-1).median())
            eyes.append(build_eye(lids, centre, radius, params.eyes[0, index], view))
        return eyes, torch.from_numpy(texture)

    def _opening_points(self, rig: Rig) -> tuple[Tensor, Tensor]:
        """Numbers of the patch points nearest to the middles of the lids and of the inner lips.

        Returns:
            Lids [2, 2] (left, right eye; upper, lower) and lips [2] (upper, lower).
        """
        rest = self.head_model.shaped(
            torch.zeros(1, self.head_model.num_shape), torch.zeros(1, self.head_model.num_expression)
        )
        landmarks = self.head_model.landmarks(rest)[0]
        middles = [*LID_MIDDLES["left"], *LID_MIDDLES["right"], *INNER_LIP_MIDDLES]
        wanted = landmarks[middles]
        opened = torch.zeros(1, self.head_model.num_expression)
        opened[0, self.head_model.expression_names.index("jawOpen")] = 0.5
        wide = self.head_model.shaped(torch.zeros(1, self.head_model.num_shape), opened)
        wanted_open = self.head_model.landmarks(wide)[0][middles]
        patch = rig.patch_vertices
        distance = torch.cdist(wanted, rest[0, patch]) + torch.cdist(wanted_open, wide[0, patch])
        nearest = distance.argmin(1)
        return nearest[:4].reshape(2, 2), nearest[4:]

    def load(self, path: Path | str) -> LiftAvatar:
        """Reads an avatar file.

        Raises:
            InputError: the file is not an avatar of this engine, is damaged, or is of a newer version.
        """
        return LiftAvatar.load(path).to(self.device)

    def render(self, avatar: Avatar, drive: Drive) -> Rendering:
        """Draws frames [B, 3, 512, 512] in [-1, 1]; see `render.draw_frames`.

        Raises:
            InputError: the avatar is of another engine, or the drive has seeds of sampling noise.
        """
        own = own_avatar(avatar, LiftAvatar, engine=self)
        if drive.noise_seeds.numel():
            check_choices(self, {"jitter": "seeds of sampling noise"})
        with torch.inference_mode():
            return draw_frames(own, drive.to(self.device), self.head_model.expression_names)

    def mesh(self, avatar: Avatar, *, resolution: int | None = None) -> Mesh:
        """The drawn surface in the source's expression and the head's frame, metres, textured with the photo.

        It covers what the photo shows: the front of the head, hair, neck and shoulders.

        Raises:
            InputError: the avatar is of another engine, or a resolution is given: this surface is not sampled.
        """
        check_choices(self, {"mesh_resolution": resolution})
        own = own_avatar(avatar, LiftAvatar, engine=self)
        rig = own.rig.to("cpu")
        texture = own.person.cpu().clone()
        colour = texture[..., :3] / texture[..., 3:].clamp(min=0.05)
        pixels = torch.cat([colour.clamp(0, 1), texture[..., 3:]], -1)
        column = rig.uv[:, 0].long().clamp(0, texture.shape[1] - 1)
        row = rig.uv[:, 1].long().clamp(0, texture.shape[0] - 1)
        solid = texture[row, column, 3] > 0.3
        faces = rig.faces[solid[rig.faces].all(1)]
        used, compact = torch.unique(faces, return_inverse=True)
        scale = torch.tensor([1 / texture.shape[1], 1 / texture.shape[0]])
        return Mesh(
            rig.rest[used].numpy(),
            compact.numpy(),
            (rig.uv[used] * scale).numpy(),
            (pixels * 255).round().byte().numpy(),
        )


def _head_mask(model: HeadModel, motion: Motion, view: SourceView, side: int) -> np.ndarray:
    """Pixels of the canvas, bool [side, side], that the fitted head of a tracked source covers, without its neck."""
    params = motion.params(model, 0)
    fitted = model.shaped(params.shape, params.expression)[0]
    above = model.regions["skin"] & (fitted[:, 1] > NECK_HEIGHT)
    fragments = rasterize(view.to_canvas(fitted), model.faces[above[model.faces].all(1)], height=side, width=side)
    return fragments.face_id.numpy() >= 0


def _fit_face_light(canvas: Canvas, rig: Rig, view: SourceView) -> np.ndarray:
    """The light [4] on the face patch, see `lighting.fit_light`."""
    normals = vertex_normals(rig.rest[None, : rig.num_patch], rig.patch_faces)[0] @ view.rotation.T
    return fit_light(canvas.photo, rig.uv[: rig.num_patch].numpy(), normals.numpy())


def source_warnings(motion: Motion, light: np.ndarray) -> list[str]:
    """What makes a photo hard for this engine, in sentences.

    Args:
        motion: the tracked photo.
        light: see `lighting.fit_light`.
    """
    rotation = axis_angle_to_matrix(torch.as_tensor(motion.rotation[0]))
    yaw, pitch, _ = (float(angle) for angle in matrix_to_euler_degrees(rotation))
    warnings = []
    if abs(yaw) > TURNED_DEGREES:
        warnings.append(
            f"the head is turned {abs(yaw):.0f}° to the side: the hidden half is guessed; "
            f"a photo within {TURNED_DEGREES:.0f}° works better"
        )
    if abs(pitch) > TURNED_DEGREES:
        warnings.append(f"the head is tipped {abs(pitch):.0f}°: a photo at eye level works better")
    if light_asymmetry(light) > ONE_SIDED_LIGHT:
        warnings.append("the light is hard and one-sided: shadows will turn with the head; even light works better")
    if float(np.max(motion.eye_open[0])) <= SHUT_EYES:
        warnings.append("the eyes are shut and will stay shut: use a photo with open eyes")
    return warnings
