"""The embedded engine behind the engine interface: an avatar is built once per photo, then frames are drawn."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import cached_property
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from flame.geometry.rotation import axis_angle_to_matrix, matrix_to_euler_degrees
from flame.heads.open_head import OpenHead, load_open_head
from flame.landmarks.groups import INNER_LIP_MIDDLES, INNER_LIPS, LID_MIDDLES, OUTER_LIPS
from flame.mesh.raster import rasterize
from portrait4d.engines.abilities import check_choices
from portrait4d.engines.base import Avatar, Drive, Mesh, Rendering, own_avatar
from portrait4d.engines.lift.abilities import ABILITIES
from portrait4d.engines.lift.avatar import LiftAvatar
from portrait4d.engines.lift.bind import build_rig, patch_faces, residual_weights
from portrait4d.engines.lift.canvas import MARGIN, Canvas, cut_canvas, split_canvas
from portrait4d.engines.lift.eyeballs import believable_iris, complete_eye
from portrait4d.engines.lift.eyes import IRIS, LIDS, Eye, build_eye
from portrait4d.engines.lift.far_side import build_far_side
from portrait4d.engines.lift.lids import Lid, build_lid
from portrait4d.engines.lift.lighting import fit_light, light_asymmetry
from portrait4d.engines.lift.matte import keep_component, solve_matte
from portrait4d.engines.lift.mouth import build_own_mouth, closed_lips_texture, own_mouth_texture
from portrait4d.engines.lift.mouth_interior import MouthSource, build_interior
from portrait4d.engines.lift.render import draw_frames
from portrait4d.engines.lift.rig import Rig, vertex_normals
from portrait4d.engines.lift.shut_eyes import BROWS, EyeFrame, shut_eye
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
        self.head_model: OpenHead = load_open_head()
        self._matte = PortraitMatte(device=device)

    def build(self, sources: Sequence[TrackedFrame]) -> LiftAvatar:
        """Builds the avatar of the most frontal source; its `motion` is that source's own object.

        Args:
            sources: tracked pictures of one person, at least one.

        Raises:
            InputError: even that source shows its head from the side.
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
        gaps = [float((rig.rest[upper] - rig.rest[lower]).norm()) for upper, lower in lids]
        sides = ("left", "right")
        open_lids = {side: build_lid(model, side, rig, view, gap) for side, gap in zip(sides, gaps, strict=True)}
        edges = [rig.rest[lid.upper] for lid in open_lids.values()]
        eyes, under = self._eyes(motion, view, canvas.photo, landmarks, edges)
        depth = -float(view.to_camera(rig.rest[lips].mean(0)[None])[0, 2])
        relaxed = rig.deform_some(lips[:1], torch.zeros(1, model.num_expression), residual[None])[0, 0]
        mouth = MouthSource(shape, canvas.photo, landmarks, view, relaxed.numpy())
        mouth_rows = slice(int(inner[:, 1].min()) - 12, int(inner[:, 1].max()) + 12)
        under[mouth_rows] = torch.from_numpy(own_mouth_texture(canvas.photo, inner))[mouth_rows]
        changed, (left_lid, right_lid) = _shut_eyes(canvas.photo, landmarks, rig, open_lids)
        closed_lips = closed_lips_texture(canvas.photo, inner, landmarks[list(OUTER_LIPS)])
        changed[mouth_rows] = torch.from_numpy(closed_lips)[mouth_rows]
        light = _fit_face_light(canvas, rig, view)
        inside = slice(MARGIN, MARGIN + crop.size)
        person = torch.from_numpy(np.concatenate([canvas.person, canvas.alpha[..., None]], -1))
        return LiftAvatar(
            rig=rig,
            left_eye=eyes[0],
            right_eye=eyes[1],
            left_lid=left_lid,
            right_lid=right_lid,
            interior=build_interior(model, mouth),
            own_mouth=build_own_mouth(model, inner, depth, view, rig.patch_vertices, rig.patch_faces),
            far_side=build_far_side(model, rig, view, person, model.expression_names),
            person=person,
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
        self, motion: Motion, view: SourceView, photo: np.ndarray, landmarks: np.ndarray, edges: list[Tensor]
    ) -> tuple[list[Eye], Tensor]:
        """Both eyes (subject's left first) and their texture [H, W, 4]: the canvas with the eyes completed.

        Args:
            motion: the tracked source.
            view: its camera.
            photo: float32 [H, W, 3] in [0, 1].
            landmarks: [478, 2] canvas pixels.
            edges: [U, 3] of each upper lid in the head frame, from corner to corner.
        """
        params = motion.params(self.head_model, 0)
        joints = self.head_model.joints(params)[0]
        fitted = self.head_model.shaped(params.shape, params.expression)[0]
        texture = np.concatenate([photo, np.ones_like(photo[..., :1])], -1)
        eyes = []
        for index, side in enumerate(("left", "right")):
            lids = landmarks[list(LIDS[side])]
            iris = believable_iris(lids, landmarks[list(IRIS[side])])
            completed = complete_eye(photo, lids, iris)
            texture[completed.rows, completed.columns, :3] = completed.seen
            centre = joints[self.head_model.joint_names.index(f"eye_{side}")]
            eyeball = fitted[self.head_model.regions[f"{side}_eyeball"]]
            radius = float((eyeball - centre).norm(dim=-1).median())
            eye = build_eye(lids, iris[0], centre, radius, params.eyes[0, index], edges[index], view)
            free = np.concatenate([completed.free, np.ones_like(completed.free[..., :1])], -1)
            at = torch.tensor([completed.columns.start, completed.rows.start], dtype=torch.float32)
            eyes.append(replace(eye, picture=torch.from_numpy(free), picture_at=at))
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


def _shut_eyes(photo: np.ndarray, landmarks: np.ndarray, rig: Rig, lids: dict[str, Lid]) -> tuple[Tensor, list[Lid]]:
    """The canvas [H, W, 4] with both eyes shut and nothing else, and the lids with their lashes.

    Args:
        photo: float32 [H, W, 3] in [0, 1].
        landmarks: [478, 2] canvas pixels.
        rig: the bound source.
        lids: by the side of their eye.
    """
    picture, finished = np.zeros((*photo.shape[:2], 4), np.float32), []
    for side, lid in lids.items():
        upper, lower, shut = rig.uv[lid.upper], rig.uv[lid.lower], lid.shut_uv[lid.upper]
        frame = EyeFrame.of(upper.numpy(), lower.numpy(), shut.numpy(), len(photo))
        part = picture[frame.rows, frame.columns]
        painted, lashes = shut_eye(photo, frame, landmarks[list(BROWS[side])])
        np.maximum(part, painted, out=part)
        length = lashes.length * (rig.rest[lid.upper[-1]] - rig.rest[lid.upper[0]]).norm()
        finished.append(replace(lid, lash_length=length, lashes=torch.from_numpy(lashes.picture)))
    return torch.from_numpy(picture), finished


def _head_mask(model: OpenHead, motion: Motion, view: SourceView, side: int) -> np.ndarray:
    """Pixels of the canvas, bool [side, side], that the fitted head of a tracked source covers, without its neck."""
    params = motion.params(model, 0)
    fitted = model.shaped(params.shape, params.expression)[0]
    above = model.regions["skin"] & (fitted[:, 1] > NECK_HEIGHT)
    fragments = rasterize(view.to_canvas(fitted), model.faces[above[model.faces].all(1)], height=side, width=side)
    return fragments.face_id.numpy() >= 0


def _fit_face_light(canvas: Canvas, rig: Rig, view: SourceView) -> np.ndarray:
    """The light [9] on the face patch, see `lighting.fit_light`."""
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
        warnings.append(
            "the light is hard and one-sided: sharp shadows will turn with the head; even light works better"
        )
    if float(np.max(motion.eye_open[0])) <= SHUT_EYES:
        warnings.append("the eyes are shut and will stay shut: use a photo with open eyes")
    return warnings
