"""A FLAME-shaped head without FLAME: the reference material's synthetic one, its landmarks put where a face has them.

The fixtures' rule scatters landmarks over the front at random, which is enough to compare numbers and useless for
photos. Here they are those of the open head, moved so that eyes, nose, mouth and chin meet the synthetic head's, and
dropped on its front.
"""

import subprocess
import sys
import tempfile
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor

from flame.heads.flame import Flame, load_flame
from flame.heads.head_model import HeadModel, LandmarkEmbedding
from flame.landmarks.groups import CHIN, FOREHEAD, INNER_LIP_MIDDLES, NOSE_FRONT
from flame.landmarks.sets import PUPILS_OF_478
from material import shared_folder

_EYE_X, _EYE_Y, _NOSE_Y, _MOUTH_Y, _CHIN_Y, _FOREHEAD_Y = 0.030, 0.020, -0.012, -0.055, -0.085, 0.075
"""Of the synthetic head, in its file's coordinates (metres)."""


def write_synthetic_flame(folder: Path | str) -> Path:
    """Writes the reference material's FLAME-shaped files; returns that of the head.

    Raises:
        SystemExit: the reference material is absent.
    """
    script = shared_folder() / "spec" / "golden" / "synth_flame.py"
    subprocess.run([sys.executable, str(script), str(folder)], check=True, capture_output=True)
    return Path(folder) / "geometry" / "generic_model.pkl"


def load_synthetic_flame() -> Flame:
    """The head in metres, its landmarks scattered by the fixtures' rule.

    Raises:
        SystemExit: the reference material is absent.
    """
    with tempfile.TemporaryDirectory() as folder:
        return load_flame(write_synthetic_flame(folder))


def with_placed_landmarks(model: Flame, open_head: HeadModel) -> Flame:
    """The synthetic head with the open head's 478 landmarks on its face."""
    points = _like_the_synthetic(open_head.landmarks(open_head.template[None])[0].double()) - model.origin.double()
    tables = replace(model.tables, landmarks={**model.tables.landmarks, 478: drop_on_front(points, model)})
    return Flame(tables, model.pose_basis, model.origin).eval()


def _like_the_synthetic(points: Tensor) -> Tensor:
    """Landmarks `[478, 3]` of the open head stretched to the features of the synthetic one."""
    pupils, x, y = points[list(PUPILS_OF_478)], points[:, 0], points[:, 1]
    knots = torch.stack([y[CHIN], y[list(INNER_LIP_MIDDLES)].mean(), y[NOSE_FRONT], pupils[:, 1].mean(), y[FOREHEAD]])
    wanted = points.new_tensor([_CHIN_Y, _MOUTH_Y, _NOSE_Y, _EYE_Y, _FOREHEAD_Y])
    part = (torch.searchsorted(knots, y.contiguous()) - 1).clamp(0, 3)
    slope = (wanted[1:] - wanted[:-1]) / (knots[1:] - knots[:-1])
    height = wanted[part] + slope[part] * (y - knots[part])
    return torch.stack([x * (2 * _EYE_X / (pupils[1, 0] - pupils[0, 0])), height, points[:, 2]], 1)


def drop_on_front(points: Tensor, model: HeadModel) -> LandmarkEmbedding:
    """Where lines along z through points `[L, 3]` first meet the head at rest from the front; invalid if never."""
    corners = model.template.double()[model.faces]  # [F, 3, 3]
    flat = corners[..., :2]
    first, second = flat[:, 1] - flat[:, 0], flat[:, 2] - flat[:, 0]
    area = first[:, 0] * second[:, 1] - first[:, 1] * second[:, 0]
    arm = points[:, None, :2] - flat[:, 0]  # [L, F, 2]
    along_first = (arm[..., 0] * second[:, 1] - arm[..., 1] * second[:, 0]) / area
    along_second = (first[:, 0] * arm[..., 1] - first[:, 1] * arm[..., 0]) / area
    barycentric = torch.stack([1 - along_first - along_second, along_first, along_second], -1)
    is_hit = (barycentric >= 0).all(-1) & (area > 1e-12)
    depth = torch.where(is_hit, (barycentric * corners[..., 2]).sum(-1), -torch.inf)
    best, face = depth.max(1)
    chosen = barycentric[torch.arange(len(points)), face]
    valid = best.isfinite()
    chosen = torch.where(valid[:, None], chosen, chosen.new_tensor([1.0, 0.0, 0.0]))
    return LandmarkEmbedding(face, chosen.to(model.template), valid)
