"""Small stand-ins for tests: a head model of 478 vertices whose landmarks are its vertices."""

import numpy as np
import torch
from torch import Tensor

from flame.heads.head_model import HeadModel, HeadParams, HeadTables, LandmarkEmbedding
from flame.landmarks import groups as groups

JOINTS = ("root", "neck", "head", "jaw", "eye_left", "eye_right")
PARENTS = (-1, 0, 1, 2, 2, 2)
ACTIONS = (
    "eyeBlinkLeft", "eyeBlinkRight", "jawOpen", "mouthSmileLeft", "mouthSmileRight", "browInnerUp",
    "mouthLeft", "mouthRight", "tongueOut",
)  # fmt: skip


class FakeHead(HeadModel):
    """A face on an ellipsoid with smooth random identities and a few hand-made actions."""

    name = "fake"

    def pose_vectors(self, params: HeadParams) -> Tensor:
        zero = torch.zeros_like(params.neck)
        return torch.stack([zero, params.neck, zero, params.jaw, params.eyes[:, 0], params.eyes[:, 1]], 1)


def make_fake_head(*, num_shape: int = 6, dtype: torch.dtype = torch.float64) -> FakeHead:
    """The fake head, the same every time."""
    random = np.random.default_rng(7)
    points = _face_points(random)
    waves = random.normal(size=(num_shape, 3, 3)) * 12
    shape_basis = np.stack([0.002 * np.sin(points @ wave + wave[:, 0]) for wave in waves], -1)
    actions = np.stack([_action(points, name) for name in ACTIONS], -1)
    skinning = np.zeros((478, len(JOINTS)))
    skinning[:, 2] = 1.0
    for iris, joint in ((groups.LEFT_IRIS, 4), (groups.RIGHT_IRIS, 5)):
        skinning[list(iris)] = np.eye(len(JOINTS))[joint]
    lower = points[:, 1] < -0.02
    skinning[lower] = 0.7 * np.eye(len(JOINTS))[2] + 0.3 * np.eye(len(JOINTS))[3]
    joints = np.array([[0, -0.1, -0.05], [0, -0.1, -0.05], [0, -0.02, -0.04], [0, 0, -0.02],
                       [0.031, 0.03, 0.055], [-0.031, 0.03, 0.055]])  # fmt: skip
    index = torch.arange(478)
    embedding = LandmarkEmbedding(index, torch.tensor([1.0, 0.0, 0.0], dtype=dtype).expand(478, 3), index >= 0)
    faces = torch.stack([index, (index + 1) % 478, (index + 2) % 478], 1)
    return FakeHead(
        HeadTables(
            template=torch.tensor(points, dtype=dtype),
            shape_basis=torch.tensor(shape_basis, dtype=dtype),
            expression_basis=torch.tensor(actions, dtype=dtype),
            faces=faces,
            uv=None,
            skinning_weights=torch.tensor(skinning, dtype=dtype),
            joint_template=torch.tensor(joints, dtype=dtype),
            joint_basis=torch.tensor(random.normal(size=(6, 3, num_shape + len(ACTIONS))) * 1e-4, dtype=dtype),
            joint_names=JOINTS,
            parents=PARENTS,
            expression_names=ACTIONS,
            expression_min=torch.zeros(len(ACTIONS), dtype=dtype),
            expression_max=torch.ones(len(ACTIONS), dtype=dtype),
            landmarks={478: embedding},
            regions={},
            loops={},
        )
    )


def _face_points(random: np.random.Generator) -> np.ndarray:
    """`[478, 3]` metres: skin scattered over an ellipsoid, rings for eyes and lips, irises in front of the eyes."""
    flat = np.stack([random.uniform(-0.068, 0.068, 478), random.uniform(-0.09, 0.08, 478)], 1)
    for points, center, radii, turn in (
        (groups.RIGHT_EYE, (-0.031, 0.03), (0.014, 0.006), np.pi),
        (groups.LEFT_EYE, (0.031, 0.03), (0.014, 0.006), 0.0),
        (groups.OUTER_LIPS, (0.0, -0.045), (0.026, 0.011), np.pi),
        (groups.INNER_LIPS, (0.0, -0.045), (0.020, 0.001), np.pi),
        (groups.RIGHT_IRIS[1:], (-0.031, 0.03), (0.005, 0.005), 0.0),
        (groups.LEFT_IRIS[1:], (0.031, 0.03), (0.005, 0.005), 0.0),
    ):
        # rings start at the outer corner and run along the lower edge
        sense = -1 if points in (groups.LEFT_EYE, groups.RIGHT_IRIS[1:], groups.LEFT_IRIS[1:]) else 1
        angle = turn + sense * np.linspace(0, 2 * np.pi, len(points), endpoint=False)
        flat[list(points)] = np.array(center) + np.array(radii) * np.stack([np.cos(angle), np.sin(angle)], 1)
    flat[468], flat[473] = (-0.031, 0.03), (0.031, 0.03)
    depth = 0.09 * np.sqrt(np.clip(1 - (flat[:, 0] / 0.08) ** 2 - (flat[:, 1] / 0.12) ** 2, 0.01, 1)) - 0.015
    return np.concatenate([flat, depth[:, None]], 1)


def _action(points: np.ndarray, name: str) -> np.ndarray:
    """Displacement `[478, 3]` of a named action at full strength."""

    def bump(x: float, y: float, radius: float) -> np.ndarray:
        return np.exp(-((points[:, 0] - x) ** 2 + (points[:, 1] - y) ** 2) / radius**2)

    side = 0.0 if name[-4:] not in ("Left", "ight") else (1.0 if name.endswith("Left") else -1.0)
    moved = np.zeros_like(points)
    if name.startswith("eyeBlink"):
        upper = (np.abs(points[:, 0] - side * 0.031) < 0.0145) & (points[:, 1] > 0.0301) & (points[:, 1] < 0.0361)
        upper[468:] = False
        moved[upper, 1] = -1.9 * (points[upper, 1] - 0.03)
    elif name == "jawOpen":
        moved[:, 1] = -0.03 * np.clip((-0.0448 - points[:, 1]) / 0.005, 0, 1)
    elif name.startswith("mouthSmile"):
        corner = bump(side * 0.03, -0.045, 0.02)
        moved[:, 0], moved[:, 1] = 0.008 * side * corner, 0.01 * corner
    elif name == "browInnerUp":
        moved[:, 1] = 0.012 * bump(0, 0.055, 0.02)
    elif name in ("mouthLeft", "mouthRight"):
        moved[:, 0] = 0.01 * side * bump(0, -0.045, 0.025)
    return moved
