"""Bakes the open head: `python scripts/bake_open_head.py` (needs the extra `headmodel`; about three minutes).

Two passes: geometry first; then the face tracker looks at renders of it to find the landmark embedding.
"""

import argparse
from pathlib import Path

import numpy as np
import torch
from open_head import asset, expression, identity, landmarks
from open_head.makehuman import MakeHuman
from open_head.mesh import PARTS, cut_head

from flame.heads.open_head import ASSET, open_head_from_file

NUM_SHAPE = 300


def main() -> None:
    """Bakes the geometry and then the landmarks."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--output", type=Path, default=ASSET)
    parser.add_argument("--samples", type=int, default=1500, help="identities to draw; each is mirrored too")
    parser.add_argument("--pictures", type=Path, help="folder for pictures of the landmark search")
    options = parser.parse_args()
    torch.set_num_threads(1)
    tensors, names = bake_geometry(options.samples)
    asset.write_asset(options.output, tensors, names)
    found = landmarks.find_embeddings(open_head_from_file(options.output), pictures=options.pictures)
    asset.write_asset(options.output, tensors | found, names)
    print(f"{options.output}: {options.output.stat().st_size / 1e6:.2f} MB")


def bake_geometry(num_samples: int) -> tuple[dict[str, np.ndarray], dict[str, list[str]]]:
    """Returns everything but the landmarks: tensors and names as in `flame/heads/open_head.py`."""
    data = MakeHuman.load()
    mesh = cut_head(data)
    joint_vertices = expression.joint_vertices(data)
    sampled = identity.sample_identities(
        data, mesh, joint_vertices, count=num_samples, generator=np.random.default_rng(2)
    )
    basis = identity.reduce(sampled, mesh, expression.JOINT_MIRROR, num_shape=NUM_SHAPE)
    expression_names, offsets = expression.expressions(data, mesh, basis.template)
    origin = basis.joints[expression.JOINTS.index("neck")]
    tensors = {
        "template": (basis.template - origin).astype(np.float32),
        "faces": mesh.faces.astype(np.int16),
        "face_parts": mesh.face_parts.astype(np.uint8),
        "texture": mesh.texture.astype(np.float32),
        "texture_faces": mesh.texture_faces.astype(np.int16),
        "uv": mesh.uv.astype(np.float32),
        "mirror": mesh.mirror.astype(np.int16),
        "skinning_weights": expression.skinning_weights(data, mesh).astype(np.float32),
        "joint_template": (basis.joints - origin).astype(np.float32),
        "joint_basis": basis.joint_basis.astype(np.float32),
        **asset.pack_shape(basis.basis),
        **asset.pack_expressions(offsets),
        **{f"region_{name}": mask for name, mask in mesh.regions.items()},
        **{f"loop_{name}": loop.astype(np.int16) for name, loop in mesh.loops.items()},
    }
    return tensors, {"expression_names": expression_names, "part_names": list(PARTS)}


if __name__ == "__main__":
    main()
