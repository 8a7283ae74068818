"""The head model of a released Portrait4D network, made of FLAME-shaped files."""

from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from flame.heads.open_head import load_open_head
from flame.landmarks.sets import IBUG_MOUTH_CORNERS, PUPILS_OF_70
from flame.pickles.numbers import read_numbers

PREFIX = "deformer.flame_deform."
MODEL = PREFIX + "flame_model."


def network_tensors(folder: Path) -> dict[str, Tensor]:
    """What a released network would hold of the FLAME files in a folder (spec: lengths x 3, neck joint at zero)."""
    content = read_numbers(folder / "geometry" / "generic_model.pkl")
    regressor = np.asarray(content["J_regressor"], np.float64)
    template = 3 * np.asarray(content["v_template"], np.float64)
    embedding = read_numbers(folder / "geometry" / "landmark_embedding_with_eyes.npy")
    coarse = read_numbers(folder / "simplify_baricentric2.npy")
    arrays = {
        MODEL + "v_template": (template - regressor[1] @ template).astype(np.float32),
        MODEL + "shapedirs": (3 * content["shapedirs"]).astype(np.float32),
        MODEL + "posedirs": (3 * content["posedirs"]).reshape(-1, 36).T.astype(np.float32),
        MODEL + "J_regressor": regressor.astype(np.float32),
        MODEL + "lbs_weights": np.asarray(content["weights"], np.float32),
        MODEL + "faces_tensor": np.asarray(content["f"], np.int64),
        MODEL + "parents": np.array([-1, 0, 1, 1, 1]),
        MODEL + "full_lmk_faces_idx": np.asarray(embedding["full_lmk_faces_idx"], np.int64).reshape(1, 70),
        MODEL + "full_lmk_bary_coords": np.asarray(embedding["full_lmk_bary_coords"], np.float32).reshape(1, 70, 3),
        **{f"{PREFIX}simplify_{name}": np.asarray(coarse[name]) for name in ("idxs", "baris", "faces")},
    }
    return {name: torch.from_numpy(np.array(value, order="C")) for name, value in arrays.items()}


def put_landmarks_on_the_face(folder: Path) -> None:
    """Gives the FLAME-shaped files 70 landmarks where a face has them; theirs lie anywhere, and no photo fits that.

    The open head's, seen from the front, moved so that pupils and mouth come to lie on the files' eyes and lips.
    """
    content = read_numbers(folder / "geometry" / "generic_model.pkl")
    vertices, faces = np.asarray(content["v_template"], np.float64), np.asarray(content["f"], np.int64)
    head = load_open_head()
    points = head.landmarks(head.template[None], count=70)[0].double().numpy()
    pupils, mouth = points[list(PUPILS_OF_70)].mean(0), points[list(IBUG_MOUTH_CORNERS)].mean(0)
    scale = np.array(
        [0.060 / (points[PUPILS_OF_70[1], 0] - points[PUPILS_OF_70[0], 0]), 0.075 / (pupils[1] - mouth[1])]
    )
    wanted = (points[:, :2] - pupils[:2]) * scale + [0.0, 0.020]
    corners = vertices[faces]  # [F, 3, 3]
    centres = corners.mean(1)
    outside = (centres[:, 2] > 0) & (faces[:, 0] < 3901)
    distance = np.linalg.norm(centres[None, :, :2] - wanted[:, None], axis=2) + 1e3 * ~outside
    name = folder / "geometry" / "landmark_embedding_with_eyes.npy"
    table = np.load(name, allow_pickle=True)[()]
    table["full_lmk_faces_idx"] = distance.argmin(1)[None]
    table["full_lmk_bary_coords"] = np.full((1, 70, 3), 1 / 3)
    np.save(name, table, allow_pickle=True)
