"""The open head: a full head model of CC0 MakeHuman shapes that ships with the project.

300 shape coefficients of unit variance, 86 expressions in [0, 1] (52 with ARKit names, then 34 `mh/...`), 6 joints. The
asset is made by `scripts/bake_open_head.py`; its licence lies beside it. What differs from FLAME: the jaw also opens
as an expression (`jawOpen`), `mouthClose` is meant on top of `jawOpen` as in ARKit, expressions do not move the
eyeballs (only the eye joints turn them), and there are teeth, a tongue, cavities and lashes.

Layout of the asset, beside the tables of the same names in `HeadTables`: `shape_basis_half` float16 `[V, 3, 60]`,
`shape_basis_bytes` int8 `[V, 3, 240]` times `shape_basis_scale` `[240]`; `expression_vertices` and
`expression_offsets` list the moved vertices expression by expression; `expression_counts` says how many each moves.
"""

import json
from pathlib import Path

import torch
from safetensors import safe_open
from torch import Tensor

from flame.errors import InputError
from flame.geometry.rotation import axis_angle_to_matrix
from flame.heads.head_model import HeadModel, HeadParams, HeadTables, LandmarkEmbedding

ASSET = Path(__file__).parents[1] / "assets" / "open_head.safetensors"

JOINT_NAMES = ("root", "neck", "head", "jaw", "eye_left", "eye_right")
PARENTS = (-1, 0, 1, 2, 2, 2)


class OpenHead(HeadModel):
    """The open head, a complete head with eyeballs, teeth and tongue, in metres.

    Attributes beside those of `HeadModel`:
        part_names: skin, mouth_cavity, eye_cavity_left, ..., lashes_lower.
        face_parts: `[F]` int64, index into `part_names`.
        mirror: `[V]` int64, each vertex's mirror image about x = 0.
        texture: `[U, 2]` texture coordinates with seams kept, v up.
        texture_faces: `[F, 3]` int64 indices into `texture`.
    """

    name = "open-head"
    face_parts: Tensor
    mirror: Tensor
    texture: Tensor
    texture_faces: Tensor

    def __init__(self, tables: HeadTables, extra: dict[str, Tensor], part_names: tuple[str, ...]) -> None:
        super().__init__(tables)
        self.part_names = part_names
        for name in ("face_parts", "mirror", "texture", "texture_faces"):
            self.register_buffer(name, extra[name], persistent=False)

    def pose_vectors(self, params: HeadParams, *, head: Tensor | None = None) -> Tensor:
        """Returns local rotation vectors `[B, 6, 3]`, radians; `head` `[B, 3]` turns the head against the neck."""
        still = torch.zeros_like(params.neck)
        head = still if head is None else head
        return torch.stack([still, params.neck, head, params.jaw, params.eyes[:, 0], params.eyes[:, 1]], 1)

    def joint_transforms(self, params: HeadParams, *, head: Tensor | None = None) -> Tensor:
        """Returns the transforms `[B, 6, 4, 4]` of the joints; `head` as in `pose_vectors`."""
        return self.transforms_of(params, axis_angle_to_matrix(self.pose_vectors(params, head=head)))

    def forward(self, params: HeadParams, *, head: Tensor | None = None) -> Tensor:
        """Returns posed vertices `[B, V, 3]` in metres; `head` as in `pose_vectors`."""
        return self.posed(params, axis_angle_to_matrix(self.pose_vectors(params, head=head)))

    def faces_of(self, *parts: str) -> Tensor:
        """Returns the indices of the named parts' triangles.

        Raises:
            ValueError: a part is unknown; it lists the known ones.
        """
        unknown = [part for part in parts if part not in self.part_names]
        if unknown:
            raise ValueError(f"unknown part {', '.join(unknown)}: the parts are {', '.join(self.part_names)}")
        wanted = torch.tensor([self.part_names.index(part) for part in parts], device=self.face_parts.device)
        return torch.isin(self.face_parts, wanted).nonzero()[:, 0]


def load_open_head(*, device: torch.device | str = "cpu", dtype: torch.dtype = torch.float32) -> OpenHead:
    """Loads the bundled open head.

    Raises:
        InputError: its asset is missing from the installation.
    """
    return open_head_from_file(ASSET).to(device=device, dtype=dtype).eval()


def open_head_from_file(path: Path) -> OpenHead:
    """Loads an open head from an asset file of the same layout.

    Raises:
        InputError: there is no such file.
    """
    try:
        with safe_open(path, "pt") as file:
            data = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
            names = {key: tuple(json.loads(value)) for key, value in file.metadata().items()}
    except FileNotFoundError:
        raise InputError(f"expected the open head at {path}, found no such file: reinstall portrait4d") from None
    return OpenHead(_tables(data, names["expression_names"]), _extra(data), names["part_names"])


def _tables(data: dict[str, Tensor], expression_names: tuple[str, ...]) -> HeadTables:
    shape_basis = torch.cat(
        [data["shape_basis_half"].float(), data["shape_basis_bytes"].float() * data["shape_basis_scale"]], 2
    )
    expression_basis = _expression_basis(data)
    joint_shape = data["joint_basis"]
    joint_expression = joint_shape.new_zeros(*joint_shape.shape[:2], len(expression_names))
    counts = [count for count in (478, 68, 70) if f"landmark_faces_{count}" in data]
    return HeadTables(
        template=data["template"],
        shape_basis=shape_basis,
        expression_basis=expression_basis,
        faces=_index(data["faces"]),
        uv=data["uv"],
        skinning_weights=data["skinning_weights"],
        joint_template=data["joint_template"],
        joint_basis=torch.cat([joint_shape, joint_expression], 2),
        joint_names=JOINT_NAMES,
        parents=PARENTS,
        expression_names=expression_names,
        expression_min=torch.zeros(len(expression_names)),
        expression_max=torch.ones(len(expression_names)),
        landmarks={
            count: LandmarkEmbedding(
                _index(data[f"landmark_faces_{count}"]),
                data[f"landmark_barycentric_{count}"],
                data[f"landmark_valid_{count}"],
            )
            for count in counts
        },
        regions={key[len("region_") :]: value for key, value in data.items() if key.startswith("region_")},
        loops={key[len("loop_") :]: _index(value) for key, value in data.items() if key.startswith("loop_")},
    )


def _extra(data: dict[str, Tensor]) -> dict[str, Tensor]:
    return {
        "face_parts": data["face_parts"].long(),
        "mirror": _index(data["mirror"]),
        "texture": data["texture"],
        "texture_faces": _index(data["texture_faces"]),
    }


def _expression_basis(data: dict[str, Tensor]) -> Tensor:
    """Scatters the listed offsets into a basis `[V, 3, E]`."""
    counts = data["expression_counts"].long()
    expression = torch.repeat_interleave(torch.arange(len(counts)), counts)
    basis = torch.zeros(len(data["template"]), 3, len(counts))
    basis[_index(data["expression_vertices"]), :, expression] = data["expression_offsets"].float()
    return basis


def _index(table: Tensor) -> Tensor:
    """Returns int64 indices; the asset stores those up to 32767 in 16 bits."""
    return table.long()
