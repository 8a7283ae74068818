"""Synthesised training data of a tiny network: rules, records, resuming, pools."""

import json
import signal
from pathlib import Path

import numpy as np
import pytest
import torch

from fakes_dataset import make_record
from flame.errors import InputError
from flame.geometry.camera import Camera
from flame.heads.head_model import HeadParams
from genhead.config import GenHeadConfig
from genhead.generator import GenHeadGenerator
from genhead.jobs.options import SynthesizeOptions
from genhead.jobs.synthesize import write_subjects
from genhead.synthesis.config import SynthesisConfig
from genhead.synthesis.draws import SubjectNumbers, choose_subject, look_at_labels
from genhead.synthesis.pools import Pools, read_pools
from genhead.synthesis.subjects import SyntheticHeads
from motions import make_motion
from portrait4d.cli.main import run
from portrait4d.headparts.head import PartHead
from portrait4d.runtime.random import PerSample, derive_seed
from preprocess.dataset.records.record import DatasetInfo
from preprocess.dataset.records.shards import write_shard
from preprocess.dataset.synthetic.record import SyntheticFolder, SyntheticSubject, decode_subject, encode_subject
from preprocess.media.image import read_image, to_uint8
from tiny_genhead import SIDE, tiny_config, tiny_generator, write_tiny_network


@pytest.fixture(autouse=True)
def quick(one_thread: None) -> None:
    """The network is small."""


@pytest.fixture(scope="module")
def generator() -> GenHeadGenerator:
    return tiny_generator()


@pytest.fixture(scope="module")
def places(tmp_path_factory: pytest.TempPathFactory, generator: GenHeadGenerator) -> tuple[Path, Path]:
    """A network's folder and a motion file."""
    folder, model = tmp_path_factory.mktemp("tiny"), generator.head.model
    motion = make_motion(6, num_shape=model.num_shape, num_expression=model.num_expression, head_model=model.name)
    motion.save(folder / "clip.npz")
    return write_tiny_network(folder / "network"), folder / "clip.npz"


def _config(motion: Path, **changes: int) -> SynthesisConfig:
    return SynthesisConfig(**{"num_dynamic": 2, "num_static": 2, "num_points": 20, **changes}, motions=(str(motion),))  # pyright: ignore[reportArgumentType]


@pytest.fixture(scope="module")
def heads(generator: GenHeadGenerator, places: tuple[Path, Path]) -> SyntheticHeads:
    return SyntheticHeads(generator, _config(places[1]), seed=3)


def _same(first: SyntheticSubject, second: SyntheticSubject) -> bool:
    return all(np.array_equal(value, vars(second)[name]) for name, value in vars(first).items())


def test_kinds_are_spread_evenly() -> None:
    config = SynthesisConfig(num_dynamic=300, num_static=100)
    kinds = [config.kind(index) for index in range(800)]
    assert kinds.count("static") == 200 and kinds[:4].count("static") == kinds[796:].count("static") == 1
    with pytest.raises(InputError, match="ask for one or more"):
        SynthesisConfig(num_dynamic=0, num_static=0)


@torch.no_grad()
def test_a_record_says_how_its_pictures_are_made(heads: SyntheticHeads, generator: GenHeadGenerator) -> None:
    """Its numbers, given to the generator, give its pictures and maps."""
    subject = heads[1]
    assert subject.image.shape == (3, SIDE, SIDE, 3) and subject.points.shape == (20, 3)
    tensor = torch.tensor
    label = torch.cat([tensor(subject.condition), tensor(subject.shape)])[None]
    volume = generator.sample(tensor(subject.latent)[None], label, psi=0.95)
    jaw = tensor(subject.jaw)
    shape = tensor(subject.shape).expand(3, -1)
    params = HeadParams(shape, tensor(subject.expression), torch.zeros_like(jaw), jaw, tensor(subject.eyes))
    posed, cameras = generator.head.pose(params), Camera.from_label25(tensor(subject.label), axes="opengl")
    for view in range(3):
        noise = PerSample([derive_seed(3, "subject", 1, "view", view)])
        seen = generator.render(volume, cameras[view], posed[view : view + 1], generator=noise)
        assert np.array_equal(seen.features[0].half().numpy(), subject.features[view])
        assert np.array_equal(to_uint8(seen.image)[0], subject.image[view])
    maps = generator.correspondences(posed, cameras).half().numpy()
    assert np.array_equal(maps, subject.correspondence) and maps.any()
    features = volume.face.sample(generator.deform(posed[2:]).face(tensor(subject.points)[None]))
    assert np.abs(features[0].numpy() - subject.plane_features).max() < 2e-2  # 11 bits
    assert np.abs(subject.landmarks.mean((0, 1)) - SIDE / 2).max() < SIDE / 4
    assert np.array_equal(subject.image_raw, subject.features[:, :3])


def test_motions_differ_as_the_kind_says(heads: SyntheticHeads) -> None:
    subjects = [heads[index] for index in range(8)]
    for subject in subjects:
        views = [np.concatenate([subject.expression[view], subject.jaw[view]]) for view in range(3)]
        assert np.array_equal(views[1], views[2])
        if subject.kind == "static":
            assert np.array_equal(views[0], views[1])
    assert any(not np.array_equal(subject.expression[0], subject.expression[1]) for subject in subjects)
    assert {subject.kind for subject in subjects} == {"dynamic", "static"}


def test_a_jaw_that_is_an_expression_opens_by_it(heads: SyntheticHeads) -> None:
    pools = heads.pools
    assert pools.jaw_column is not None and not pools.clips.jaw.any()
    numbers = SubjectNumbers.draw(pools, 1, seed=0, index=0)
    changed = SubjectNumbers(**{**vars(numbers), "jaw": np.array([0.5, 0.5]), "jaw_choice": np.array([0.9, 0.1])})
    moves = choose_subject(pools, changed, "dynamic", tiny_config()).moves
    assert moves.expression[0, pools.jaw_column] == pytest.approx(0.1 / 0.3) and not moves.jaw.any()


def test_new_cameras_grow_with_the_training_distance() -> None:
    drawn = np.random.default_rng(0).random((7, 5))
    near, far = (look_at_labels(drawn, GenHeadConfig(camera_radius=radius)) for radius in (4.2, 8.4))
    assert np.allclose(2 * near[:, [3, 7, 11]], far[:, [3, 7, 11]], atol=1e-5)
    assert np.allclose(near[:, [0, 1, 2, 4, 5, 6]], far[:, [0, 1, 2, 4, 5, 6]], atol=1e-6)
    lens = look_at_labels(drawn, tiny_config())[0, 16]
    assert lens == pytest.approx(0.5 / np.tan(np.radians(13.5 / 2)))


def test_records_come_back_as_they_went(heads: SyntheticHeads) -> None:
    subject = heads[2]
    parts = encode_subject(subject)
    assert _same(decode_subject(subject.key, parts, "here"), subject) and encode_subject(heads[2]) == parts
    with pytest.raises(InputError, match=r"expected member .*\.mot\.png, it is missing"):
        decode_subject(subject.key, {name: part for name, part in parts.items() if name != "mot.png"}, "here")
    with pytest.raises(InputError, match="safetensors is damaged"):
        decode_subject(subject.key, {**parts, "safetensors": parts["safetensors"][:-9]}, "here")


@pytest.mark.slow
def test_an_interrupted_run_leaves_whole_files_and_ends_like_a_live_one(
    heads: SyntheticHeads, places: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two processes are killed while they work; one finishes; records are those of the iterator."""
    network, motion = places
    output, settings = tmp_path / "out", {"config": _config(motion), "seed": 3, "subjects_per_shard": 1}

    def stop(stage: str, done: int, total: int | None) -> None:
        if done:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_subjects(network, output, options=SynthesizeOptions(**settings, num_workers=2), progress=stop)
    found = SyntheticFolder(output)
    assert 0 < len(found) <= 4
    monkeypatch.setattr(signal, "signal", lambda *_: None)
    command = ["synthesize", str(network), "-o", str(output), "--dynamic", "2", "--static", "2", "--points", "20"]
    command += ["--seed", "3", "--subjects-per-shard", "1", "--motions", str(motion), "--quiet"]
    sheet = tmp_path / "sheet.png"
    assert run([*command, "--sheet", str(sheet)], program="genhead", module="genhead.cli") == 0
    assert read_image(sheet).shape[0] > 4 * 128
    found = SyntheticFolder(output)
    assert found.info["head_model"] == "open" and found.info["network_digest"] == heads.info.network_digest
    assert len(found) == 4 and all(_same(one, other) for one, other in zip(found, iter(heads), strict=False))
    assert not [path for path in output.iterdir() if path.name.startswith(".")]
    assert run([*command, "--psi", "0.5"], program="genhead", module="genhead.cli") == 2


def test_other_settings_in_a_folder_are_refused(places: tuple[Path, Path], tmp_path: Path) -> None:
    network, motion = places
    (tmp_path / "synthetic.json").write_text(json.dumps({"seed": 1}))
    with pytest.raises(InputError, match=r"begun with other settings \(.*seed.*\): repeat them"):
        write_subjects(network, tmp_path, options=SynthesizeOptions(config=_config(motion)))


def _shards(folder: Path, generator: GenHeadGenerator, keys: list[str], *, head_model: str = "open") -> Path:
    model = generator.head.model
    records = []
    for index, key in enumerate(keys):
        record = make_record(key, shape=model.num_shape)
        expression = np.full(model.num_expression, index, np.float32)
        head = record.head.replace(expression=expression, jaw=np.full(3, index, np.float32))
        records.append(type(record)(**{**vars(record), "head": head}))
    info = DatasetInfo(head_model, "CC0", image_size=32, landmarks="68", code_size=4)
    write_shard(folder / "a.tar", info, records)
    return folder


def test_pools_hold_clips_and_stills_of_shards(generator: GenHeadGenerator, tmp_path: Path) -> None:
    keys = ["aa-000000", "aa-000001", "photo1", "bb-000000", "photo2", "photo3"]
    config, model = generator.config, generator.head.model
    pools = read_pools([_shards(tmp_path, generator, keys)], model, config)
    assert pools.clip_starts.tolist() == [0, 2, 3] and pools.jaw_column is None
    assert pools.clips.expression[:, 0].tolist() == [0, 1, 3] and pools.stills.jaw[:, 0].tolist() == [2, 4, 5]
    assert len(pools.shape) == len(pools.label) == 6
    label = torch.from_numpy(make_record("aa-000000", shape=model.num_shape).camera)
    moved = torch.from_numpy(pools.label[0, [3, 7, 11]]) + 3 * torch.tensor(config.head_origin)
    assert torch.allclose(moved, label[[3, 7, 11]], atol=1e-5)


def test_wrong_motions_are_refused(generator: GenHeadGenerator, tmp_path: Path) -> None:
    config, model = generator.config, generator.head.model
    with pytest.raises(InputError, match="expected --motions"):
        read_pools([], model, config)
    with pytest.raises(InputError, match="expected parameters of head model open, got flame"):
        read_pools([_shards(tmp_path, generator, ["a"], head_model="flame")], model, config)
    make_motion(3).save(tmp_path / "other.npz")
    with pytest.raises(InputError, match="belongs to head model 'fake'"):
        read_pools([tmp_path / "other.npz"], model, config)
    np.save(tmp_path / "x_all_motion_params.npy", np.zeros((3, 112), np.float32))
    with pytest.raises(InputError, match="the released lists are of FLAME"):
        read_pools([tmp_path], model, config)
    stills = read_pools([_shards(tmp_path / "stills", generator, ["photo"])], model, config)
    with pytest.raises(InputError, match="expected clips for the dynamic subjects"):
        stills.check(1)
    stills.check(0)


def test_the_released_lists_are_read(synthetic_flame: Path, tmp_path: Path) -> None:
    model = PartHead.from_flame_files(synthetic_flame / "geometry" / "generic_model.pkl").model
    rows = np.arange(2 * 3 * 112, dtype=np.float32).reshape(2, 3, 112)
    np.save(tmp_path / "vfhq_all_motion_params.npy", rows)
    np.save(tmp_path / "ffhq_all_motion_params.npy", rows[0])
    np.save(tmp_path / "ffhq_all_shape_n_c_params.npy", np.arange(4 * 325, dtype=np.float32).reshape(4, 325))
    pools: Pools = read_pools([tmp_path], model, GenHeadConfig())
    assert pools.clip_starts.tolist() == [0, 3, 6] and len(pools.stills) == 3
    assert np.array_equal(pools.clips.jaw[1], rows[0, 1, 103:106])
    assert np.array_equal(pools.stills.eyes[2].ravel(), rows[0, 2, 106:])
    assert np.array_equal(pools.label[1], np.arange(325, 350)) and pools.shape[1, 0] == 350
    np.save(tmp_path / "ffhq_all_motion_params.npy", rows[..., :100])
    with pytest.raises(InputError, match="expected finite numbers"):
        read_pools([tmp_path], model, GenHeadConfig())
