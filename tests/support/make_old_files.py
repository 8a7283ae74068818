"""Writes the files of `tests/data/old/NAME` with the code of the day, and `expected.json` with what is in them.

    python tests/support/make_old_files.py NAME      NAME: the short hash of the commit whose code writes

A folder is made once and never again: it stands for the files that users have. A format that changes gets a folder of
its own beside it. Everything in it is made of the picture inside scikit-image, the open head, the bundled motion,
generated numbers and formulas. The avatar of `lift` is a real one of which most points, triangles and pixels are left
out: it can be read, not drawn.
"""

import json
import sys
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

TESTS = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(TESTS / "support"))

from content_digest import describe, leaves  # noqa: E402
from fakes_dataset import INFO, make_record  # noqa: E402
from official_pickles import build_module, official_names, save_official  # noqa: E402
from portrait4d.engines.lift.avatar import LiftAvatar  # noqa: E402
from portrait4d.engines.portrait4d.avatar import Portrait4DAvatar  # noqa: E402
from portrait4d.gan.discriminator import DualDiscriminator, DualDiscriminatorConfig, JudgedImages  # noqa: E402
from portrait4d.jobs.demo import MOTION_FILE, demo_photo  # noqa: E402
from portrait4d.options import ReenactOptions  # noqa: E402
from portrait4d.pipeline import load_models  # noqa: E402
from portrait4d.reconstructor.config import ReconstructorConfig  # noqa: E402
from portrait4d.reconstructor.network import SourceFeatures  # noqa: E402
from portrait4d.weights.config import CheckpointConfig  # noqa: E402
from portrait4d.weights.eg3d_config import EG3DConfig  # noqa: E402
from portrait4d.weights.official.convert import convert_file  # noqa: E402
from portrait4d.weights.own_format import read_checkpoint, write_checkpoint  # noqa: E402
from preprocess.dataset.records.record_codec import ImageFormat  # noqa: E402
from preprocess.dataset.records.shards import read_shard, write_shard  # noqa: E402
from preprocess.tracking.motion import Motion  # noqa: E402
from preprocess.tracking.tracker import TrackedFrame  # noqa: E402

NUM_PATCH, NUM_REST, NUM_INSIDE = 72, 16, 20
"""Points that are kept of an avatar: of the face, around it, and of the mouth's inside."""

STRIDE = 20
"""Every so many pixels of an avatar's pictures are kept."""

WEIGHTS = "5a" * 32
"""Stands for the hash of the weights that an avatar of the Portrait4D engines belongs to."""

DISCRIMINATOR: dict[str, Any] = {
    "c_dim": 25,
    "img_resolution": 16,
    "img_channels": 3,
    "channel_base": 128,
    "channel_max": 8,
    "num_fp16_res": 0,
    "conv_clamp": 256,
    "disc_c_noise": 0,
    "block_kwargs": {"freeze_layers": 0},
    "mapping_kwargs": {},
    "epilogue_kwargs": {"mbstd_group_size": 2},
}


def main(name: str) -> None:
    """Write everything into a new folder."""
    folder = TESTS / "data" / "old" / name
    folder.mkdir(parents=True)  # an existing one is never written again
    models = load_models(ReenactOptions(engine="lift"))
    photo = models.tracker.track_image(demo_photo())
    expected = {
        "demo_motion.npz": dict(leaves(Motion.load(MOTION_FILE))),
        **write_motions(folder, photo),
        **write_avatars(folder, photo, models.engine),
        **write_shards(folder),
        **write_weights(folder),
    }
    (folder / "expected.json").write_text(json.dumps(expected, indent=1) + "\n", encoding="utf-8")


def write_motions(folder: Path, photo: TrackedFrame) -> dict[str, Any]:
    """A photo's, and a few frames of a clip with codes, a gap and a warning."""
    photo.motion.save(folder / "photo.npz")
    frames = Motion.load(MOTION_FILE)[:3]
    codes = np.random.default_rng(1).normal(size=(3, 548)).astype(np.float32)
    valid = np.array([True, False, True])
    replace(frames, codes=codes, valid=valid, warnings=("one", "two, with a comma")).save(folder / "clip.npz")
    return {name: dict(leaves(Motion.load(folder / name))) for name in ("photo.npz", "clip.npz")}


def write_avatars(folder: Path, photo: TrackedFrame, engine: Any) -> dict[str, Any]:
    """One of `lift`, and one of generated features as the Portrait4D engines write it."""
    avatar = thin(engine.build([photo]))
    avatar.save(folder / "lift.safetensors")
    random = torch.Generator().manual_seed(2)
    tokens, detail, background = (
        torch.randn(shape, generator=random) for shape in ((1, 4, 8), (1, 16, 2, 2), (1, 32, 4, 4))
    )
    features = SourceFeatures(tokens, 2, 2, detail, background.sigmoid())
    codes = np.random.default_rng(3).normal(size=(1, 548)).astype(np.float32)
    motion = replace(photo.motion, codes=codes)
    other = Portrait4DAvatar(features, WEIGHTS, motion, photo.crop, "portrait4d-v2", warnings=("a warning",))
    other.save(folder / "portrait4d-v2.safetensors")
    loaded = Portrait4DAvatar.load(folder / "portrait4d-v2.safetensors", engine="portrait4d-v2", weights=WEIGHTS)
    return {
        "lift.safetensors": dict(leaves(LiftAvatar.load(folder / "lift.safetensors"))),
        "portrait4d-v2.safetensors": dict(leaves(loaded)),
    }


def thin(avatar: LiftAvatar) -> LiftAvatar:
    """The avatar with few points; what refers to points that are left out goes with them."""
    rig, inside = avatar.rig, avatar.interior
    lids = {name: getattr(avatar, name) for name in ("left_lid", "right_lid")}
    edges = [points for lid in lids.values() for points in (lid.upper, lid.lower)]
    marks = torch.cat([avatar.lids.reshape(-1), avatar.lips, *edges])
    kept = torch.cat([marks, rig.patch_faces.reshape(-1)])
    kept = torch.tensor(list(dict.fromkeys(kept.tolist()))[:NUM_PATCH])
    points = torch.cat([kept, torch.arange(rig.num_patch, rig.num_patch + NUM_REST)])
    renumbered = torch.full((len(rig.rest),), -1, dtype=torch.int64)
    renumbered[points] = torch.arange(len(points))

    def faces_of(faces: torch.Tensor) -> torch.Tensor:
        return renumbered[faces][(renumbered[faces] >= 0).all(1)]

    def basis_of(basis: torch.Tensor, chosen: torch.Tensor) -> torch.Tensor:
        return basis.reshape(-1, 3, basis.shape[1])[chosen].reshape(-1, basis.shape[1])

    few = torch.arange(NUM_INSIDE)
    changes: dict[str, Any] = {
        name: getattr(avatar, name)[::STRIDE, ::STRIDE] for name in ("person", "under", "changed", "background")
    }
    changes |= {
        name: replace(
            lid,
            faces=faces_of(lid.faces),
            upper=renumbered[lid.upper],
            lower=renumbered[lid.lower],
            **{field: getattr(lid, field)[kept] for field in ("gain", "shut_uv", "follow", "rise", "held")},
        )
        for name, lid in lids.items()
    }
    return replace(
        avatar,
        rig=replace(
            rig,
            rest=rig.rest[points],
            uv=rig.uv[points],
            faces=faces_of(rig.faces),
            expression_basis=basis_of(rig.expression_basis, points),
            residual_basis=rig.residual_basis[kept],
            head_weight=rig.head_weight[points],
            light_weight=rig.light_weight[kept],
            patch_vertices=rig.patch_vertices[kept],
        ),
        interior=replace(
            inside,
            rest=inside.rest[few],
            expression_basis=basis_of(inside.expression_basis, few),
            uv=inside.uv[few],
            occlusion=inside.occlusion[few],
            faces=inside.faces[(inside.faces < NUM_INSIDE).all(1)],
            atlas=inside.atlas[::STRIDE, ::STRIDE],
        ),
        lids=renumbered[avatar.lids],
        lips=renumbered[avatar.lips],
        **changes,
    )


def write_shards(folder: Path) -> dict[str, Any]:
    """Three records with exact pictures, two with JPEG pictures, both with their index."""
    expected = {}
    kinds: tuple[tuple[str, list[str], ImageFormat], ...] = (
        ("exact.tar", ["a-000001", "a-000002", "b"], "png"),
        ("small.tar", ["c", "d"], "jpg"),
    )
    for name, keys, image_format in kinds:
        write_shard(folder / name, INFO, [make_record(key) for key in keys], image_format=image_format)
        shard = read_shard(folder / name)
        records = {record.key: dict(leaves(record)) for record in shard}
        if image_format == "jpg":  # decoders differ in the last bit
            for record in records.values():
                del record["image"]["sha256"]
        expected[name] = {"info": describe(dict(leaves(shard.info))), "records": records}
    return expected


def write_weights(folder: Path) -> dict[str, Any]:
    """A small network from an official file to ours, with its answer; and the configs of two large ones."""
    config = DualDiscriminatorConfig.from_official(DISCRIMINATOR)
    torch.manual_seed(4)
    network = DualDiscriminator(config).eval().requires_grad_(False)
    tensors = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    row = torch.tensor([1.0, 3.0, 3.0, 1.0])
    tensors["b16.conv1.resample_filter"] = torch.outer(row, row) / 64
    tensors["dataset_label_std"] = torch.linspace(0, 1, 25)
    official = folder / "official.pkl"
    parameters = {name for name, _ in network.named_parameters()}
    with official_names() as plain:
        names = {"": "DualDiscriminator"}
        save_official(
            official,
            {"D": build_module(tensors, parameters, class_names=names, plain=plain, init_kwargs=DISCRIMINATOR)},
        )
    converted = convert_file(official, network="discriminator", source_sha256="00" * 32)
    write_checkpoint(folder / "discriminator", converted.config, converted.tensors)
    image = torch.linspace(-1, 1, 2 * 3 * 16 * 16).reshape(2, 3, 16, 16)
    images = JudgedImages(image, image.flip(3)[:, :, ::2, ::2])
    logits = network(images, torch.linspace(-1, 1, 50).reshape(2, 25)).flatten().tolist()
    one = {"one": torch.ones(1)}
    for name, family, values in (
        ("generator", "eg3d", EG3DConfig(camera_radius=2.5).to_dict()),
        ("reconstructor", "portrait4d", ReconstructorConfig().to_dict()),
    ):
        layout, axes = ("eg3d", "opencv") if family == "eg3d" else ("orthogonal", "opengl")
        box = values["render"]["box_warp"]
        about = CheckpointConfig(family, "generator", values, plane_layout=layout, camera_axes=axes, box_warp=box)  # pyright: ignore[reportArgumentType]
        write_checkpoint(folder / name, about, one)
    expected = {name: describe_checkpoint(folder / name) for name in ("discriminator", "generator", "reconstructor")}
    expected["discriminator"]["logits"] = logits
    return expected


def describe_checkpoint(folder: Path) -> dict[str, Any]:
    """The tensors and the fields of a checkpoint."""
    config, tensors = read_checkpoint(folder)
    values = {field.name: describe(getattr(config, field.name)) for field in fields(config)}
    return {"config": values, "tensors": describe(dict(sorted(tensors.items())))}


if __name__ == "__main__":
    main(sys.argv[1])
