"""Samples identities of the MakeHuman body and reduces them to a linear basis with coefficients of unit variance."""

import json
from dataclasses import dataclass
from itertools import product

import numpy as np

from open_head.makehuman import MakeHuman
from open_head.mesh import HeadMesh

_ANCHORS = {
    "gender": {"female": 0.0, "male": 1.0},
    "age": {"child": 1 / 3, "young": 2 / 3, "old": 1.0},
    "muscle": {"minmuscle": 0.0, "averagemuscle": 0.5, "maxmuscle": 1.0},
    "weight": {"minweight": 0.0, "averageweight": 0.5, "maxweight": 1.0},
    "height": {"minheight": 0.0, "maxheight": 1.0},
}
_ORIGINS = ("african", "asian", "caucasian")
_FOLDERS = ("cheek", "chin", "ears", "eyes", "eyebrows", "forehead", "head", "mouth", "neck", "nose")
_HEAD_SHAPES = ("diamond", "invertedtriangular", "oval", "rectangular", "round", "square", "triangular")

SLIDER_STD = 0.22
"""Deviation of the local sliders: human-like, while 0.33 is already a caricature."""
SIDE_STD = 0.07
"""Deviation of each slider of a left and right pair from their common value."""
ASYMMETRY_STD = 0.12
HEAD_SHAPE_STD = 0.15


@dataclass(frozen=True)
class Identities:
    """Sampled heads.

    Attributes:
        vertices: `[N, V, 3]` metres, rigidly aligned to the base mesh.
        joints: `[N, J, 3]` in the same frames.
    """

    vertices: np.ndarray
    joints: np.ndarray


def sample_identities(
    data: MakeHuman, mesh: HeadMesh, joint_vertices: list[np.ndarray], *, count: int, generator: np.random.Generator
) -> Identities:
    """Draws `count` heads.

    Args:
        data: the body.
        mesh: the head cut out of it.
        joint_vertices: base-mesh vertices whose mean is the joint, per joint.
        count: number of heads.
        generator: gives the random numbers.
    """
    used = np.unique(np.concatenate([mesh.source, *joint_vertices]))
    position = np.full(len(data.vertices), -1)
    position[used] = np.arange(len(used))
    sampled = data.vertices[used] + _phenotypes(data, used, count, generator) + _sliders(data, used, count, generator)
    anchors = position[mesh.source[mesh.regions["face"] | mesh.regions["scalp"]]]
    sampled = _align(sampled, data.vertices[used], anchors)
    joints = np.stack([sampled[:, position[index]].mean(1) for index in joint_vertices], 1)
    return Identities(sampled[:, position[mesh.source]], joints)


def _interpolation(name: str, value: np.ndarray) -> dict[str, np.ndarray]:
    """Returns piecewise linear weights `[N]` of a slider's anchors."""
    names, places = list(_ANCHORS[name]), np.array(list(_ANCHORS[name].values()))
    eye = np.eye(len(names))
    return {key: np.interp(value, places, eye[index]) for index, key in enumerate(names)}


def _ages(count: int, generator: np.random.Generator) -> np.ndarray:
    """Draws ages: mostly adults, and a tenth children."""
    is_child = generator.random(count) < 0.1
    return np.where(is_child, generator.uniform(0.4, 0.6, count), generator.uniform(0.55, 1, count))


def _phenotypes(data: MakeHuman, used: np.ndarray, count: int, generator: np.random.Generator) -> np.ndarray:
    """Returns the whole-body targets: products of sliders times their morphs, `[N, used, 3]`."""
    values = {
        "gender": generator.beta(0.6, 0.6, count),
        "age": _ages(count, generator),
        "muscle": generator.normal(0.5, 0.2, count).clip(0, 1),
        "weight": generator.normal(0.5, 0.2, count).clip(0, 1),
        "height": generator.normal(0.5, 0.15, count).clip(0, 1),
    }
    weights = {name: _interpolation(name, value) for name, value in values.items()}
    weights["origin"] = dict(zip(_ORIGINS, generator.dirichlet([0.6] * 3, count).T, strict=True))
    patterns = {
        "universal-{}-{}-{}-{}": ("gender", "age", "muscle", "weight"),
        "{}-{}-{}": ("origin", "gender", "age"),
        "height/{}-{}-{}-{}-{}": ("gender", "age", "muscle", "weight", "height"),
    }
    weight_by_path = {}
    for pattern, sliders in patterns.items():
        for keys in product(*(weights[slider] for slider in sliders)):
            path = f"macrodetails/{pattern.format(*keys)}.target.gz"
            factors = [weights[slider][key] for slider, key in zip(sliders, keys, strict=True)]
            weight_by_path[path] = np.prod(factors, axis=0)
    return _blend(data, used, weight_by_path)


def _blend(data: MakeHuman, used: np.ndarray, weight_by_path: dict[str, np.ndarray]) -> np.ndarray:
    """Returns the sum of morphs, each times its weights `[N]`: `[N, used, 3]`."""
    morphs = np.stack([data.target(path)[used].ravel() for path in weight_by_path])
    weights = np.stack(list(weight_by_path.values()), 1)
    return (weights @ morphs).reshape(len(weights), len(used), 3)


def _sliders(data: MakeHuman, used: np.ndarray, count: int, generator: np.random.Generator) -> np.ndarray:
    """Draws local changes, asymmetries and head shapes, `[N, used, 3]`."""
    weights: dict[str, np.ndarray] = {}
    table = json.loads((data.folder / "mpfb2/targets/target.json").read_text())
    for folder in _FOLDERS:
        for category in table[folder]["categories"]:
            opposites = category.get("opposites", {})
            common = generator.normal(0, SLIDER_STD, count)
            for side in ("left", "right", "unsided"):
                low, high = opposites.get(f"negative-{side}", ""), opposites.get(f"positive-{side}", "")
                if not (low and high):
                    continue
                value = common + (0 if side == "unsided" else generator.normal(0, SIDE_STD, count))
                weights[f"{folder}/{high}.target.gz"] = value.clip(0, 1)
                weights[f"{folder}/{low}.target.gz"] = (-value).clip(0, 1)
    for path in sorted((data.folder / "mpfb2/targets/asym").glob("asym-*-l.target.gz")):
        value = generator.normal(0, ASYMMETRY_STD, count)
        weights[f"asym/{path.name}"] = value.clip(0, 1)
        weights[f"asym/{path.name.replace('-l.target', '-r.target')}"] = (-value).clip(0, 1)
    for shape in _HEAD_SHAPES:
        weights[f"head/head-{shape}.target.gz"] = np.abs(generator.normal(0, HEAD_SHAPE_STD, count)).clip(0, 1)
    return _blend(data, used, weights)


def _align(sampled: np.ndarray, reference: np.ndarray, anchors: np.ndarray) -> np.ndarray:
    """Removes the rigid motion (not the size) of the skull from each sample, because pose is not identity."""
    target = reference[anchors] - reference[anchors].mean(0)
    centre = sampled[:, anchors].mean(1, keepdims=True)
    left, _, right = np.linalg.svd(np.einsum("nvi,vj->nij", sampled[:, anchors] - centre, target))
    sign = np.linalg.det(left @ right)
    left[:, :, 2] *= sign[:, None]
    return (sampled - centre) @ (left @ right) + reference[anchors].mean(0)


@dataclass(frozen=True)
class ShapeBasis:
    """A linear model `mean + basis @ c` with `c` of unit variance.

    Attributes:
        template: `[V, 3]` metres, mirror-symmetric.
        basis: `[V, 3, S]`, each direction symmetric or antisymmetric.
        joints: `[J, 3]`.
        joint_basis: `[J, 3, S]`.
    """

    template: np.ndarray
    basis: np.ndarray
    joints: np.ndarray
    joint_basis: np.ndarray


def reduce(identities: Identities, mesh: HeadMesh, joint_mirror: list[int], *, num_shape: int) -> ShapeBasis:
    """Returns weighted principal components of the samples and their mirror images."""
    flip = np.array([-1.0, 1.0, 1.0])
    vertices = np.concatenate([identities.vertices, identities.vertices[:, mesh.mirror] * flip])
    joints = np.concatenate([identities.joints, identities.joints[:, joint_mirror] * flip])
    template, joint_template = vertices.mean(0), joints.mean(0)
    vertices, joints = vertices - template, joints - joint_template
    # the face counts most, so that the first coefficients describe it
    weight = np.where(mesh.regions["face"], 1.0, np.where(mesh.regions["skin"], 0.35, 0.1))
    flat = (vertices * weight[:, None]).reshape(len(vertices), -1)
    value, vector = np.linalg.eigh(flat @ flat.T)
    scores = vector[:, np.argsort(value)[::-1][:num_shape]] * np.sqrt(len(vertices))  # [N, S], unit variance
    basis = np.einsum("nvi,ns->vis", vertices, scores) / len(vertices)
    joint_basis = np.einsum("nji,ns->jis", joints, scores) / len(vertices)
    return ShapeBasis(template, basis, joint_template, joint_basis)
