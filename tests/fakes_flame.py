"""The head model of a released Portrait4D network, made of FLAME-shaped files."""

from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from flame.numeric_pickle import read_numbers

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
