"""Expressions (52 ARKit-named face units and 34 MakeHuman units), joints and skinning weights of the open head."""

import numpy as np

from open_head.makehuman import MakeHuman
from open_head.mesh import PARTS, HeadMesh

JOINTS = ("root", "neck", "head", "jaw", "eye_left", "eye_right")
PARENTS = (-1, 0, 1, 2, 2, 2)
JOINT_MIRROR = [0, 1, 2, 3, 5, 4]
_CUBES = ("joint-spine-1", "joint-neck", "joint-head", "joint-mouth", "joint-l-eye", "joint-r-eye")
_BONES = {"neck01": "neck", "neck02": "neck", "neck03": "neck", "head": "head", "jaw": "jaw"}
_BONES |= {"eye.L": "eye_left", "eye.R": "eye_right"}

_ORIGINS = ("african", "asian", "caucasian")

ARKIT_NAMES = [
    "browDownLeft", "browDownRight", "browInnerUp", "browOuterUpLeft", "browOuterUpRight", "cheekPuff",
    "cheekSquintLeft", "cheekSquintRight", "eyeBlinkLeft", "eyeBlinkRight", "eyeLookDownLeft", "eyeLookDownRight",
    "eyeLookInLeft", "eyeLookInRight", "eyeLookOutLeft", "eyeLookOutRight", "eyeLookUpLeft", "eyeLookUpRight",
    "eyeSquintLeft", "eyeSquintRight", "eyeWideLeft", "eyeWideRight", "jawForward", "jawLeft", "jawOpen", "jawRight",
    "mouthClose", "mouthDimpleLeft", "mouthDimpleRight", "mouthFrownLeft", "mouthFrownRight", "mouthFunnel",
    "mouthLeft", "mouthLowerDownLeft", "mouthLowerDownRight", "mouthPressLeft", "mouthPressRight", "mouthPucker",
    "mouthRight", "mouthRollLower", "mouthRollUpper", "mouthShrugLower", "mouthShrugUpper", "mouthSmileLeft",
    "mouthSmileRight", "mouthStretchLeft", "mouthStretchRight", "mouthUpperUpLeft", "mouthUpperUpRight",
    "noseSneerLeft", "noseSneerRight", "tongueOut",
]  # fmt: skip
"""ARKit's blend shapes, in alphabetical order."""


def expressions(data: MakeHuman, mesh: HeadMesh, template: np.ndarray) -> tuple[list[str], np.ndarray]:
    """Returns names and offsets `[E, V, 3]` in metres at full strength.

    The eyeballs stay in place, because only the eye joints turn them. The lashes, which the face units leave out, move
    with the lids. `eyeBlink` is scaled so that it closes the eyes of the template `[V, 3]` exactly at one.
    """
    units = sorted(path.name for path in (data.folder / "mpfb2/targets/expression/units/caucasian").glob("*.gz"))
    offsets = [data.target(data.folder / f"faceunits01/targets/faceunits/{name}.target") for name in ARKIT_NAMES]
    for unit in units:
        offsets.append(np.mean([data.target(f"expression/units/{origin}/{unit}") for origin in _ORIGINS], axis=0))
    result = np.stack(offsets)[:, mesh.source]
    for side in ("Left", "Right"):
        blink = ARKIT_NAMES.index(f"eyeBlink{side}")
        result[blink] = _meet_lids(result[blink], template, mesh.loops[f"eye_{side.lower()}_loop"])
    result[:, mesh.regions["left_eyeball"] | mesh.regions["right_eyeball"]] = 0
    lashes, lids, weights = _lash_anchors(data.vertices[mesh.source], mesh)
    result[:, lashes] = np.einsum("elki,lk->eli", result[:, lids], weights)
    names = [*ARKIT_NAMES, *("mh/" + unit.removesuffix(".target.gz") for unit in units)]
    partner = [names.index(_other_side(name)) for name in names]
    mirrored = result[partner][:, mesh.mirror] * [-1, 1, 1]
    return names, (result + mirrored) / 2


def _other_side(name: str) -> str:
    """Swaps the side in a name, `eyeBlinkLeft` <-> `eyeBlinkRight`; names without a side stay."""
    swap = {"Left": "Right", "Right": "Left", "-left-": "-right-", "-right-": "-left-"}
    side = next((key for key in swap if key in name), None)
    return name if side is None else name.replace(side, swap[side])


def _meet_lids(blink: np.ndarray, template: np.ndarray, loop: np.ndarray) -> np.ndarray:
    """Scales a blink `[V, 3]` along the lid so that at full strength the upper lid's edge lies on the lower one's."""
    upper, lower = split_loop(loop, template)
    order = np.argsort(template[lower, 0])
    lower = lower[order]
    upper = upper[1:-1]
    place = template[upper, 0]
    lower_height, lower_motion = (
        np.interp(place, template[lower, 0], values[lower, 1]) for values in (template, blink)
    )
    gap = template[upper, 1] - lower_height
    closing = lower_motion - blink[upper, 1]
    is_wide = gap > 0.4 * gap.max()  # in the corners the quotient is meaningless
    scale = np.polyfit(place[is_wide], (gap / closing)[is_wide], 2)
    low, high = place[is_wide].min(), place[is_wide].max()
    return blink * np.polyval(scale, template[:, 0].clip(low, high))[:, None]


def _lash_anchors(vertices: np.ndarray, mesh: HeadMesh) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Returns lash vertices `[N]`, the lid-edge vertices that move them `[N, K]`, and weights `[N, K]`."""
    lashes, lids, weights = [], [], []
    for part, is_upper in (("lashes_upper", True), ("lashes_lower", False)):
        own = np.unique(mesh.faces[mesh.face_parts == PARTS.index(part)])
        for loop, side in (("eye_left_loop", 1), ("eye_right_loop", -1)):
            upper, lower = split_loop(mesh.loops[loop], vertices)
            edge = upper if is_upper else lower
            mine = own[vertices[own, 0] * side > 0]
            # lashes fan outwards, so only the place along the lid counts: compare x alone
            distance = np.abs(vertices[mine][:, None, 0] - vertices[edge][None, :, 0])
            nearest = np.argsort(distance, 1)[:, :2]
            weight = 1 / (np.take_along_axis(distance, nearest, 1) + 1e-5)
            lashes.append(mine)
            lids.append(edge[nearest])
            weights.append(weight / weight.sum(1, keepdims=True))
    return np.concatenate(lashes), np.concatenate(lids), np.concatenate(weights)


def split_loop(loop: np.ndarray, vertices: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Returns the upper and lower half of a loop, split at its outermost points in x, which both halves include."""
    low, high = np.argmin(vertices[loop, 0]), np.argmax(vertices[loop, 0])
    rolled = np.roll(loop, -high)
    middle = (low - high) % len(loop)
    first, second = rolled[: middle + 1], np.concatenate([rolled[middle:], rolled[:1]])
    if vertices[first, 1].mean() < vertices[second, 1].mean():
        first, second = second[::-1], first[::-1]
    return first, second[::-1]


def joint_vertices(data: MakeHuman) -> list[np.ndarray]:
    """Returns the base-mesh vertices whose mean is the joint, for each of `JOINTS`."""
    return [data.cube(cube) for cube in _CUBES]


def skinning_weights(data: MakeHuman, mesh: HeadMesh) -> np.ndarray:
    """Returns `[V, J]`: bone weights, each added to the nearest of our joints up the tree; rows sum to one."""
    weights, parents = data.bone_weights()
    result = np.zeros((len(mesh.source), len(JOINTS)))
    for bone, weight in weights.items():
        joint = bone
        while joint and joint not in _BONES:
            joint = parents.get(joint, "")
        result[:, JOINTS.index(_BONES.get(joint, "root"))] += weight[mesh.source]
    # lids move by expressions; only the eyeballs follow the eye joints
    result[:, 2] += result[:, 4:].sum(1)
    result[:, 4:] = 0
    result[mesh.regions["left_eyeball"]] = np.eye(6)[4]
    result[mesh.regions["right_eyeball"]] = np.eye(6)[5]
    result = (result + result[mesh.mirror][:, JOINT_MIRROR]) / 2
    return result / result.sum(1, keepdims=True)
