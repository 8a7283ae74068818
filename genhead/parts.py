"""The deformation of GenHead: from points around a posed head to the canonical places of its eyes, face and mouth.

First the head's pose is taken out (`flame.heads.pose_field`), then each part follows its nearest vertex and that one's
neighbours to where the canonical head has them (Portrait4D, Deng et al. 2024, section 3.1). The eyes follow the
eyeballs, the face everything but them, so gaze does not move it; the mouth follows the lips of a head without
expression, so only the jaw does. Computed without gradients, since no parameter of a network is in it.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple, Protocol

import torch
import torch.nn.functional as F
from torch import Tensor

from flame.heads.pose_field import HeadPoseField
from flame.mesh.nearest_vertex import Backend, nearest_vertex
from portrait4d.headparts.head import PartHead, PosedHead
from portrait4d.headparts.regions import PartRegions

_FAR = 1e3
"""Where the vertex lies that fills up rings: its weight vanishes."""

_TINY_SQUARE, _TINY = 1e-10, 1e-12
_BOX_SCALE = 0.6
"""Half of a box's sides in sizes of an eyeball."""


class Moved(NamedTuple):
    """Points `[B, N, 3]` in the canonical head, and distances `[B, N]` to the nearest vertex before."""

    points: Tensor
    distance: Tensor


class OffsetField(Protocol):
    """A field that moves points."""

    def __call__(self, points: Tensor) -> Tensor:
        """Points `[B, N, 3]` with the neck at rest to the canonical head."""
        ...

    def __getitem__(self, index: slice) -> "OffsetField":
        """Some heads of the batch."""
        ...

    def join(self, others: "Sequence[OffsetField]") -> "OffsetField":
        """The batch of this field and of others of its kind."""
        ...


@dataclass(frozen=True)
class VertexField:
    """Points follow their nearest vertex and its neighbours, by inverse squared distance.

    Attributes:
        vertices: `[B, V + 1, 3]`, the last one far away.
        offsets: `[B, V + 1, 3]` to the canonical head.
        candidates: `[N]` the vertices that may be nearest.
        rings: `[V, K]`, filled up with V.
    """

    vertices: Tensor
    offsets: Tensor
    candidates: Tensor
    rings: Tensor

    @classmethod
    def between(cls, before: Tensor, canonical: Tensor, candidates: Tensor, rings: Tensor) -> "VertexField":
        """The field from vertices `[B, V, 3]` to canonical ones `[V, 3]`."""
        offsets = F.pad(canonical - before, (0, 0, 0, 1))
        return cls(F.pad(before, (0, 0, 0, 1), value=_FAR), offsets, candidates, rings)

    def __call__(self, points: Tensor) -> Tensor:  # noqa: D102
        return self.move(points).points

    def __getitem__(self, index: slice) -> "VertexField":
        return replace(self, vertices=self.vertices[index], offsets=self.offsets[index])

    def join(self, others: Sequence[OffsetField]) -> "VertexField":
        """The batch of this field and of others of its kind."""
        fields = [self, *(other for other in others if isinstance(other, VertexField))]
        if len(fields) != 1 + len(others):
            raise ValueError("expected exact fields only, got other forms of deformation among them")
        vertices, offsets = (torch.cat([getattr(field, name) for field in fields]) for name in ("vertices", "offsets"))
        return replace(self, vertices=vertices, offsets=offsets)

    @torch.no_grad()
    def move(self, points: Tensor) -> Moved:
        """Canonical places, and how far the nearest vertex is."""
        moved, distances = [], []
        for place, vertices, offsets in zip(points, self.vertices, self.offsets, strict=True):
            found = nearest_vertex(place, vertices[self.candidates])
            moved.append(follow(place, self.rings[self.candidates[found.vertex]], vertices, offsets))
            distances.append((found.squared_distance + _TINY).sqrt())
        return Moved(torch.stack(moved), torch.stack(distances))


def follow(points: Tensor, rings: Tensor, vertices: Tensor, offsets: Tensor, *, backend: Backend = "auto") -> Tensor:
    """Moves points with several vertices each, by inverse squared distance.

    Args:
        points: `[N, 3]`.
        rings: `[N, K]` vertices that each follows.
        vertices: `[V, 3]`.
        offsets: `[V, 3]` of the vertices.
        backend: "torch" defines it; "numba" needs float32 on a CPU, "auto" takes it there.
    """
    tensors = (points, vertices, offsets)
    can_compile = all(tensor.device.type == "cpu" and tensor.dtype == torch.float32 for tensor in tensors)
    if backend == "numba" and not can_compile:
        raise ValueError(f"backend 'numba' needs float32 on the CPU, got {points.dtype} on {points.device}")
    if backend != "torch" and can_compile:
        from genhead.follow_numba import follow_numba

        return follow_numba(points, rings, vertices, offsets, tiny=_TINY_SQUARE)
    weights = 1 / ((points[:, None] - vertices[rings]).square().sum(-1) + _TINY_SQUARE)
    weights = weights / weights.sum(-1, keepdim=True)
    return points + (weights[..., None] * offsets[rings]).sum(1)


@dataclass(frozen=True)
class PartFields:
    """The deformation of a batch of heads.

    Attributes:
        pose: takes the neck's pose out; None where it is at rest.
        eye: to the canonical eyeballs.
        face: to the canonical skin.
        mouth: to the canonical lips.
        box_low: `[B, 2, 3]` lower corners of the boxes around both eyeballs.
        box_high: `[B, 2, 3]` upper corners.
    """

    pose: HeadPoseField | None
    eye: OffsetField
    face: OffsetField
    mouth: OffsetField
    box_low: Tensor
    box_high: Tensor

    def __len__(self) -> int:
        return len(self.box_low)

    def __getitem__(self, index: slice) -> "PartFields":
        pose = None if self.pose is None else self.pose[index]
        eye, face, mouth = (field[index] for field in (self.eye, self.face, self.mouth))
        return PartFields(pose, eye, face, mouth, self.box_low[index], self.box_high[index])

    @classmethod
    def concatenate(cls, parts: "Sequence[PartFields]") -> "PartFields":
        """One batch after another: deformations that were kept, as one.

        Raises:
            ValueError: some have a turned neck and some have not, or their forms differ.
        """
        poses = [part.pose for part in parts if part.pose is not None]
        if poses and len(poses) != len(parts):
            raise ValueError(f"expected all necks at rest or all turned, got {len(poses)} turned of {len(parts)}")
        first, *others = parts
        return cls(
            HeadPoseField.concatenate(poses) if poses else None,
            first.eye.join([part.eye for part in others]),
            first.face.join([part.face for part in others]),
            first.mouth.join([part.mouth for part in others]),
            torch.cat([part.box_low for part in parts]),
            torch.cat([part.box_high for part in parts]),
        )

    @torch.no_grad()
    def rest(self, points: Tensor) -> Tensor:
        """World points `[B, N, 3]` to where they are with the neck at rest, which the other fields take."""
        return points if self.pose is None else self.pose(points)

    def in_eye_boxes(self, rested: Tensor) -> Tensor:
        """Whether points `[B, N, 3]` lie strictly within the box of an eye: bool `[B, N]`."""
        found = torch.zeros(rested.shape[:2], dtype=torch.bool, device=rested.device)
        for low, high in zip(self.box_low.unbind(1), self.box_high.unbind(1), strict=True):
            inside = torch.ones_like(found)
            for axis in range(3):  # axis by axis: comparing rows of three takes five times as long
                place = rested[..., axis]
                inside &= (place > low[:, None, axis]) & (place < high[:, None, axis])
            found |= inside
        return found


def exact_parts(head: PartHead, posed: PosedHead, *, box_warp: float) -> PartFields:
    """The fields as the released network was trained with them: every point looks for its nearest vertices.

    Args:
        head: where the parts are.
        posed: the heads.
        box_warp: side of the volume's cube, world units.
    """
    regions = head.regions
    low, high = eye_boxes(posed.rested, regions)
    eyes = torch.cat([regions.left_eye, regions.right_eye])
    between = VertexField.between
    return PartFields(
        pose=pose_field(posed, regions, box_warp=box_warp),
        eye=between(posed.rested, head.canonical, eyes, regions.rings),
        face=between(posed.rested, head.canonical, regions.skin, regions.rings),
        mouth=between(posed.mouth, head.canonical, regions.lips, regions.rings),
        box_low=low,
        box_high=high,
    )


def pose_field(posed: PosedHead, regions: PartRegions, *, box_warp: float) -> HeadPoseField | None:
    """What takes the neck's pose out; None where there is none, and the field would give rounding errors alone."""
    if not posed.has_neck_pose:
        return None
    return HeadPoseField.between(posed.posed, posed.rested, regions.pose_mesh, box_warp=box_warp)


def eye_boxes(rested: Tensor, regions: PartRegions) -> tuple[Tensor, Tensor]:
    """Corners `[B, 2, 3]`, lower and upper, of the boxes around the eyeballs of vertices `[B, V, 3]`."""
    eyeballs = [rested[:, region] for region in (regions.left_eye, regions.right_eye)]
    centre = torch.stack([eyeball.mean(1) for eyeball in eyeballs], 1)
    half = torch.stack([_BOX_SCALE * (eyeball.amax(1) - eyeball.amin(1)) for eyeball in eyeballs], 1)
    return centre - half, centre + half
