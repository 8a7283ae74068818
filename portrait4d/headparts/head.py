"""A head model in the place where the generator's volume has it, with all that the deformation and the masks need."""

from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path

import torch
from torch import Tensor, nn

from flame.heads.flame import flame_from_tensors, load_flame
from flame.heads.head_model import HeadModel, HeadParams
from flame.heads.open_head import load_open_head
from flame.heads.pose_field import CoarseMesh
from portrait4d.headparts.regions import PartRegions, flame_regions, flame_regions_from_tensors, open_head_regions

UNITS_PER_METRE = 3.0
"""Of the networks' world."""

OPEN_HEAD_ORIGIN = (0.0, 0.10, 0.045)
"""The centre of the cube in the open head's own coordinates, metres; around its neck joint the cube would cut the top
of its head."""

JAW_AT_REST = 0.3
"""Radians: the canonical head opens its mouth, so that both lips have their own space."""

MAP_SCALE = 0.6
"""Correspondence maps show places divided by it."""

_EYE_SINK = 0.5
_MESHES = ("pose_mesh", "outline")


@dataclass(frozen=True)
class PosedHead:
    """Vertices of a head `[B, V, 3]` in world units, all that rendering reads of its parameters.

    Attributes:
        posed: as it is seen.
        rested: with the neck at rest; the same tensor where the neck is at rest anyway.
        mouth: with the neck and the eyes at rest and no expression but that of the jaw.
    """

    posed: Tensor
    rested: Tensor
    mouth: Tensor

    @property
    def has_neck_pose(self) -> bool:
        """Whether the neck is turned."""
        return self.posed is not self.rested

    def __len__(self) -> int:
        return len(self.posed)

    def __getitem__(self, index: slice) -> "PosedHead":
        rested = self.rested[index]
        return PosedHead(self.posed[index] if self.has_neck_pose else rested, rested, self.mouth[index])


class PartHead(nn.Module):
    """A head model and its regions. It has no parameters, and adds nothing to a state dict.

    Attributes:
        model: in the unit of `scale`.
        canonical: `[V, 3]` vertices of the mean head with open jaw, world units.
        map_colours: `[V, 3]` what the correspondence map shows: places in the canonical head, eyes sunk in.
        jaw_expressions: `[E]` 1 for expressions that the mouth field keeps, since they move the jaw, else 0.
    """

    canonical: Tensor
    map_colours: Tensor
    jaw_expressions: Tensor
    origin: Tensor

    def __init__(
        self,
        model: HeadModel,
        regions: PartRegions,
        *,
        origin: tuple[float, float, float] = (0.0, 0.0, 0.0),
        canonical: Tensor | None = None,
    ) -> None:
        """Places a head model.

        Args:
            model: of any unit.
            regions: of its vertices.
            origin: the world's origin in the model's coordinates, metres.
            canonical: `[V, 3]`; None takes the mean head with open jaw.
        """
        super().__init__()
        self.model = model
        self.scale = UNITS_PER_METRE / model.units_per_metre
        self._register("origin", torch.tensor(origin) * model.units_per_metre)
        for field in fields(regions):
            value = getattr(regions, field.name)
            if isinstance(value, Tensor):
                self._register(field.name, value)
            else:
                for part in fields(value):
                    self._register(f"{field.name}_{part.name}", getattr(value, part.name))
        is_jaw = [float(name.startswith("jaw")) for name in model.expression_names]
        self._register("jaw_expressions", torch.tensor(is_jaw))
        if canonical is None:
            params = HeadParams.zeros(model)
            params.jaw[:, 0] = JAW_AT_REST
            with torch.no_grad():
                canonical = self.place(model(params))[0]
        self._register("canonical", canonical)
        colours = canonical / MAP_SCALE
        colours[torch.cat([regions.left_eye, regions.right_eye]), 2] -= _EYE_SINK
        self._register("map_colours", colours)

    @classmethod
    def from_flame_files(cls, path: Path | str) -> "PartHead":
        """FLAME of a user's file, with Portrait4D's own files in the same folder or beside it.

        Raises:
            InputError: a file is missing, or is not what its name says.
        """
        model = load_flame(path, unit="portrait4d")
        return cls(model, flame_regions(model, path))

    @classmethod
    def from_tensors(cls, tensors: Mapping[str, Tensor]) -> "PartHead":
        """FLAME out of a released GenHead network, whose tensors are given under their official names.

        Raises:
            InputError: a table is missing or has another size.
        """
        model = flame_from_tensors(tensors)
        regions = flame_regions_from_tensors(tensors)
        return cls(model, regions, canonical=tensors["deformer.flame_deform.canonical_shape"][0].detach().float())

    @classmethod
    def from_open_head(cls, *, origin: tuple[float, float, float] = OPEN_HEAD_ORIGIN) -> "PartHead":
        """The open head, which needs no licence.

        Args:
            origin: the world's origin in the head's coordinates, metres.
        """
        model = load_open_head()
        return cls(model, open_head_regions(model), origin=origin)

    @property
    def regions(self) -> PartRegions:
        """The regions, on this module's device."""
        values = {}
        for field in fields(PartRegions):
            if field.name in _MESHES:
                parts = (self.get_buffer(f"{field.name}_{part.name}") for part in fields(CoarseMesh))
                values[field.name] = CoarseMesh(*parts)
            else:
                values[field.name] = self.get_buffer(field.name)
        return PartRegions(**values)

    def place(self, vertices: Tensor) -> Tensor:
        """Vertices of the model `[B, V, 3]` in world units."""
        return (vertices - self.origin) * self.scale

    @torch.no_grad()
    def pose(self, params: HeadParams) -> PosedHead:
        """The vertices of a head. Not differentiable in its parameters."""
        still, straight = torch.zeros_like(params.neck), torch.zeros_like(params.eyes)
        resting = params.replace(neck=still)
        mouthing = resting.replace(expression=params.expression * self.jaw_expressions, eyes=straight)
        # as one batch, which reads the large bases once
        rested, mouth = self.place(self.model(HeadParams.concatenate([resting, mouthing]))).chunk(2)
        posed = self.place(self.model(params)) if bool(params.neck.any()) else rested
        return PosedHead(posed, rested, mouth)

    def _register(self, name: str, value: Tensor) -> None:
        self.register_buffer(name, value, persistent=False)
