"""Files with flipped bytes and cut-off files give one clear line or a good load: no other error, no warning, and no
memory beyond what the file itself could fill."""

import io
import json
import random
import resource
import struct
import sys
import traceback
import tracemalloc
import warnings
import zipfile
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from flame.errors import InputError
from flame.heads.head_pose import HeadPose
from flame.pickles.bounded_bytes import BoundedBytes
from flame.pickles.machine import PickleMachine
from official_pickles import official_names, save_official, small_module
from portrait4d.eg3d.generator import EG3DGenerator
from portrait4d.engines.lift.avatar import LiftAvatar
from portrait4d.engines.portrait4d.avatar import Portrait4DAvatar
from portrait4d.engines.portrait4d.loading import build_network
from portrait4d.gan.discriminator import DualDiscriminator, DualDiscriminatorConfig
from portrait4d.weights.official.convert import convert_file
from portrait4d.weights.official.file import read_official
from portrait4d.weights.official.stored_tensor import read_all
from portrait4d.weights.own_format import read_checkpoint
from portrait4d.weights.strict import check_fits, load_strict
from preprocess.dataset.records.shards import index_path, read_shard
from preprocess.tracking.motion import Motion

OLD = next(folder / "data/old" for folder in Path(__file__).resolve().parents if (folder / "data/old").is_dir())
FILES = OLD / "8c783d8"
NUM_FLIPS, NUM_CUTS = 300, 30
HEADER = 2048
"""Half of the flips hit these first bytes, or the last ones: there stand lengths, names and types."""

MOST_MEGABYTES = 300
"""More memory than reading any of the files here takes, many times over."""


@pytest.fixture(autouse=True)
def quick(one_thread: None) -> None:
    """The tensors are small."""


def damaged(data: bytes, seed: int) -> Iterator[bytes]:
    """Copies of a file with one to three bytes changed, then copies that end too early."""
    chance = random.Random(seed)
    for number in range(NUM_FLIPS):
        changed = bytearray(data)
        for _ in range(chance.choice((1, 1, 1, 3))):
            place = chance.randrange(len(data))
            if number % 2:
                place = chance.choice((place % HEADER, -1 - place % HEADER)) % len(data)
            changed[place] ^= chance.choice((1 << chance.randrange(8), chance.randrange(1, 256)))
        yield bytes(changed)
    for _ in range(NUM_CUTS):
        yield data[: chance.randrange(len(data))]


def read_all_copies(copies: Iterator[bytes], write: Callable[[bytes], Any], read: Callable[[], Any]) -> Counter[str]:
    """How many copies were refused and how many were read; anything else fails the test and is named."""
    counts, faults = Counter(), Counter()
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    for copy in copies:
        write(copy)
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("error")
                read()
            counts["read"] += 1
        except InputError as error:
            counts["refused"] += 1
            text = str(error)
            if "\n" in text or not text.isprintable() or not 20 < len(text) < 1000:
                faults[f"message {text!r}"] += 1
        except Exception as error:
            frame = traceback.extract_tb(error.__traceback__)[-1]
            faults[f"{type(error).__name__}: {str(error)[:80]} in {frame.filename}:{frame.lineno}"] += 1
    grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    assert not faults, "\n".join(f"{count} x {fault}" for fault, count in faults.most_common())
    assert grown < MOST_MEGABYTES * (2**20 if sys.platform == "darwin" else 2**10)
    assert counts["refused"]
    return counts


def packed(arrays: dict[str, bytes]) -> bytes:
    """A motion file of the given members, with checksums that are right."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in arrays.items():
            archive.writestr(name, content)
    return buffer.getvalue()


def members(path: Path) -> dict[str, bytes]:
    """The members of a motion file."""
    with zipfile.ZipFile(path) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def use_motion(motion: Motion) -> None:
    """What every reader of a motion does first."""
    assert len(motion) and np.isfinite(motion.rotation).all()
    assert torch.from_numpy(motion.landmarks).isfinite().all()
    motion.camera(0)
    assert float(motion.frame_rate) > 0


@pytest.mark.parametrize("name", ["clip.npz", "photo.npz"])
def test_motion_file(tmp_path: Path, name: str) -> None:
    path = tmp_path / "motion.npz"
    read_all_copies(damaged((FILES / name).read_bytes(), 1), path.write_bytes, lambda: use_motion(Motion.load(path)))


def test_motion_file_whose_checksums_are_right(tmp_path: Path) -> None:
    """Damage that came before the file was packed: the arrays' own headers and numbers."""
    path, parts = tmp_path / "motion.npz", members(FILES / "clip.npz")
    parts["codes.npy"] = parts["codes.npy"][:128]
    chance = random.Random(2)

    def copies() -> Iterator[bytes]:
        for _ in range(NUM_FLIPS):
            name = chance.choice(sorted(parts))
            changed = bytearray(parts[name])
            changed[chance.randrange(min(len(changed), 160))] ^= 1 << chance.randrange(8)
            yield packed({**parts, name: bytes(changed)})

    read_all_copies(copies(), path.write_bytes, lambda: use_motion(Motion.load(path)))


@pytest.mark.parametrize("shape", ["(2000000000, 3)", "(-3, -3)", "(99999999999999999999, 3)", "(3, 30)"])
def test_claimed_lengths_take_no_memory(tmp_path: Path, shape: str) -> None:
    """The array's header says more than there is; every checksum is right."""
    path, parts = tmp_path / "motion.npz", members(FILES / "clip.npz")
    content = parts["rotation.npy"]
    assert b"'shape': (3, 3)" in content
    text = content[10:128].replace(b"(3, 3)", shape.encode()).rstrip()
    parts["rotation.npy"] = content[:10] + text.ljust(117) + b"\n" + content[128:]
    path.write_bytes(packed(parts))
    tracemalloc.start()
    try:
        with pytest.raises(InputError, match="damaged"):
            Motion.load(path)
        assert tracemalloc.get_traced_memory()[1] < 50 * path.stat().st_size
    finally:
        tracemalloc.stop()


def test_a_motion_file_that_unpacks_to_gigabytes_is_refused_unread(tmp_path: Path) -> None:
    path = tmp_path / "motion.npz"
    data = bytearray(packed(members(FILES / "photo.npz")))
    place = data.rindex(b"PK\x01\x02")  # the last entry of the central directory
    data[place + 24 : place + 28] = struct.pack("<I", 2**32 - 2)
    path.write_bytes(data)
    with pytest.raises(InputError, match="damaged"):
        Motion.load(path)


def use_lift(avatar: LiftAvatar) -> None:
    """Geometry and pictures fit each other: an index beyond its table would stop, or crash, the drawing."""
    rig, inside, own = avatar.rig, avatar.interior, avatar.own_mouth
    eyes, lids = (avatar.left_eye, avatar.right_eye), (avatar.left_lid, avatar.right_lid)
    expression = rig.source_expression[None]
    use_motion(avatar.motion)
    used = [
        torch.from_numpy(avatar.crop.to_image(np.zeros((1, 2)))),
        rig.source_normals,
        rig.deform(expression, rig.source_residual[None]),
        rig.project(
            rig.pose(
                rig.rest[None],
                HeadPose(rotation=torch.zeros(1, 3), translation=torch.zeros(1, 3)),
                torch.zeros(1, 1),
                rig.source_residual[None],
            ),
            avatar.background.shape[0],
        ),
        *(rig.rest[chosen] for chosen in (rig.faces, avatar.lids, avatar.lips)),
        *(eye.turned(torch.zeros(1, 3))[:, eye.faces] for eye in eyes),
        *(eye.uv[eye.faces] for eye in eyes),
        *(rig.rest[lid.faces] * lid.gain[lid.faces, None] for lid in lids),
        inside.deform(expression)[:, inside.faces] * inside.occlusion[inside.faces, None],
        own.rest[own.faces] * own.with_jaw[own.faces, None],
        own.uv[own.faces],
    ]
    assert [value.shape[-1] for value in used].count(0) == 0
    for picture in (avatar.person, avatar.under, avatar.changed):
        assert picture.isfinite().all() and picture.shape == avatar.person.shape and picture.shape[2] == 4


def test_avatar_of_lift(tmp_path: Path) -> None:
    path, data = tmp_path / "avatar.safetensors", (FILES / "lift.safetensors").read_bytes()
    read_all_copies(damaged(data, 3), path.write_bytes, lambda: use_lift(LiftAvatar.load(path)))


def use_portrait4d(avatar: Portrait4DAvatar) -> None:
    """The features are of one source and of the sizes that they claim."""
    use_motion(avatar.motion)
    features = avatar.features
    assert features.tokens.shape[:2] == (1, features.height * features.width)
    assert features.detail.ndim == features.background.ndim == 4


def test_avatar_of_the_portrait4d_engines(tmp_path: Path) -> None:
    path, data = tmp_path / "avatar.safetensors", (FILES / "portrait4d-v2.safetensors").read_bytes()
    read_all_copies(
        damaged(data, 4),
        path.write_bytes,
        lambda: use_portrait4d(Portrait4DAvatar.load(path, engine="portrait4d-v2", weights="5a" * 32)),
    )


@pytest.mark.parametrize("name", ["lift", "portrait4d-v2"])
def test_avatar_whose_json_is_damaged(tmp_path: Path, name: str) -> None:
    """Every key left out, every value of another kind, and flips that keep the file's own lengths right."""
    data, path = (FILES / f"{name}.safetensors").read_bytes(), tmp_path / "avatar.safetensors"
    (length,) = struct.unpack("<Q", data[:8])
    head, body = json.loads(data[8 : 8 + length]), data[8 + length :]
    about = head["__metadata__"]["portrait4d"]

    def written(text: str) -> bytes:
        changed = json.dumps({**head, "__metadata__": {"portrait4d": text}}).encode()
        return struct.pack("<Q", len(changed)) + changed + body

    def copies() -> Iterator[bytes]:
        values = json.loads(about)
        for keys in [(key,) for key in values] + [(part, key) for part in ("motion", "crop") for key in values[part]]:
            for new in (None, 1, -1.5, "x", [], [1], {}, True, 1e400, 10**400):
                changed = json.loads(about)
                inner = changed[keys[0]] if len(keys) == 2 else changed
                inner[keys[-1]] = new
                yield written(json.dumps(changed))
                del inner[keys[-1]]
            yield written(json.dumps(changed))
        yield from (written(text) for text in ("[]", "1", "null", '"x"', "[" * 100_000, "{", "", '{"format": 1}'))
        chance = random.Random(5)
        for _ in range(NUM_FLIPS):
            place = chance.randrange(len(about))
            yield written(about[:place] + chr(ord(about[place]) ^ 1 << chance.randrange(7)) + about[place + 1 :])

    def read() -> None:
        if name == "lift":
            use_lift(LiftAvatar.load(path))
        else:
            use_portrait4d(Portrait4DAvatar.load(path, engine=name, weights="5a" * 32))

    read_all_copies(copies(), path.write_bytes, read)


@pytest.mark.parametrize("name", ["exact.tar", "small.tar"])
@pytest.mark.parametrize("has_index", [True, False])
def test_shard(tmp_path: Path, name: str, has_index: bool) -> None:
    path = tmp_path / name
    if has_index:
        index_path(path).write_bytes(index_path(FILES / name).read_bytes())
    data = (FILES / name).read_bytes()
    read_all_copies(damaged(data, 6), path.write_bytes, lambda: use_shard(path))


def use_shard(path: Path) -> None:
    """Every record and every camera."""
    shard = read_shard(path)
    shard.cameras()
    for record in shard:
        assert record.image.ndim == 3 and record.mask.shape == record.image.shape[:2]
        assert all(np.isfinite(value).all() for value in (record.camera, record.landmarks, record.crop_matrix))
        assert isinstance(record.source, str) and isinstance(record.quality, dict)


def test_index_of_a_shard(tmp_path: Path) -> None:
    path = tmp_path / "exact.tar"
    path.write_bytes((FILES / "exact.tar").read_bytes())
    data = index_path(FILES / "exact.tar").read_bytes()
    read_all_copies(damaged(data, 7), index_path(path).write_bytes, lambda: use_shard(path))


@pytest.mark.parametrize("check_hash", [True, False])
@pytest.mark.parametrize("file", ["model.safetensors", "config.json"])
def test_converted_checkpoint(tmp_path: Path, file: str, check_hash: bool) -> None:
    for name in ("model.safetensors", "config.json"):
        (tmp_path / name).write_bytes((FILES / "discriminator" / name).read_bytes())

    def read() -> None:
        config, tensors = read_checkpoint(tmp_path, check_hash=check_hash)
        about = DualDiscriminatorConfig.from_official(config.official.get("init_kwargs", {}))
        check_fits(lambda: DualDiscriminator(about), tensors)
        load_strict(DualDiscriminator(about), tensors)

    data = (tmp_path / file).read_bytes()
    read_all_copies(damaged(data, 8), (tmp_path / file).write_bytes, read)


@pytest.mark.parametrize("name", ["generator", "reconstructor"])
def test_config_of_a_large_network(tmp_path: Path, name: str) -> None:
    for file in ("model.safetensors", "config.json"):
        (tmp_path / file).write_bytes((FILES / name / file).read_bytes())

    def read() -> None:
        if name == "generator":
            EG3DGenerator.from_pretrained(tmp_path)
        build_network(*read_checkpoint(tmp_path))

    data = (tmp_path / "config.json").read_bytes()
    read_all_copies(damaged(data, 9), (tmp_path / "config.json").write_bytes, read)


def test_official_pickle(tmp_path: Path) -> None:
    path, data = tmp_path / "official.pkl", (FILES / "official.pkl").read_bytes()

    def read() -> None:
        conversion = convert_file(path, network="discriminator")
        read_all(conversion.tensors)
        DualDiscriminatorConfig.from_official(conversion.config.official["init_kwargs"])

    read_all_copies(damaged(data, 10), path.write_bytes, read)


@pytest.mark.parametrize("protocol", [2, 4])
def test_official_pickle_with_every_kind_of_content(tmp_path: Path, protocol: int) -> None:
    with official_names() as plain:
        module = small_module(plain)
        path = save_official(tmp_path / "a.pkl", {"G_ema": module}, source="class Generator: pass", protocol=protocol)

    def read() -> None:
        for network in read_official(path).networks.values():
            read_all(network.tensors)

    read_all_copies(damaged(path.read_bytes(), 11), path.write_bytes, read)


@pytest.mark.parametrize("data", [b"cnumpy\nnd\\qarray\n.", b"S'a\\q'\n."])
def test_unknown_escapes_are_refused_without_a_warning(data: bytes) -> None:
    """Found by a flip: Python warns of them, on the user's screen."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises(InputError, match="damaged"):
            PickleMachine(BoundedBytes(data, "a.pkl"), find=lambda module, name: None).load()
