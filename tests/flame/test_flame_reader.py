"""The FLAME reader: right numbers, and nothing in the file ever runs."""

import io
import os
import pickle
import subprocess
import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest
import scipy.sparse
import torch

from flame.errors import InputError
from flame.geometry.rotation import axis_angle_to_matrix
from flame.heads.flame import Flame, limit_rotations, load_flame
from flame.heads.flame_smplx import flame_from_smplx
from flame.heads.head_model import HeadParams
from flame.pickles.numbers import read_numbers, read_pickle

# ---- the number reader


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_reads_what_numpy_and_scipy_write(protocol: int) -> None:
    random = np.random.default_rng(0)
    dense = random.normal(size=(3, 4)) * (random.random((3, 4)) > 0.5)
    content = {
        "c": random.normal(size=(4, 3, 2)),
        "fortran": np.asfortranarray(random.normal(size=(4, 3)).astype(np.float32)),
        "big_endian": np.arange(5, dtype=">i4"),
        "unsigned": np.array([[4294967295, 0]], dtype=np.uint32),
        "bool": np.array([True, False]),
        "scalar": np.float64(2.5),
        "text": "linear",
        "list": [1, (2.0, None)],
        **{kind: getattr(scipy.sparse, kind)(dense) for kind in ("csc_matrix", "csr_matrix", "coo_matrix")},
    }
    found = read_pickle(pickle.dumps(content, protocol=protocol), "file")
    for key in ("c", "fortran", "big_endian", "unsigned", "bool", "scalar"):
        assert np.array_equal(found[key], content[key]), key
        assert found[key].dtype == content[key].dtype
    for kind in ("csc_matrix", "csr_matrix", "coo_matrix"):
        assert np.array_equal(found[kind], dense), kind
    assert found["text"] == "linear" and found["list"] == [1, (2.0, None)]


def _in_module(monkeypatch: pytest.MonkeyPatch, module: str, name: str) -> type:
    """A class that pickles under a name that is not installed here."""
    kind = type(name, (), {"__module__": module})
    fake = type(sys)(module)
    setattr(fake, name, kind)
    monkeypatch.setitem(sys.modules, module.split(".")[0], type(sys)(module.split(".")[0]))
    monkeypatch.setitem(sys.modules, module, fake)
    return kind


@pytest.mark.parametrize("protocol", [0, 2, 4])
def test_reads_the_array_inside_chumpy(monkeypatch: pytest.MonkeyPatch, protocol: int) -> None:
    kind = _in_module(monkeypatch, "chumpy.ch", "Ch")
    value = kind()
    value.__dict__.update(x=np.arange(6.0).reshape(2, 3), _dirty_vars=[], _itr=None)
    found = read_pickle(pickle.dumps({"v_template": value}, protocol=protocol), "file")
    assert np.array_equal(found["v_template"], np.arange(6.0).reshape(2, 3))


def test_reads_pickles_of_python_2() -> None:
    """Python 2 wrote raw bytes as text and called its modules otherwise."""
    old = (
        b"\x80\x02cnumpy.core.multiarray\n_reconstruct\nq\x01cnumpy\nndarray\nq\x02K\x00\x85U\x01b\x87Rq\x03(K\x01K\x02\x85"
        b"cnumpy\ndtype\nq\x04U\x02f8K\x00K\x01\x87R(K\x03U\x01<NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb\x89"
        b"U\x10" + np.array([1.5, -2.0]).tobytes() + b"tb."
    )
    assert np.array_equal(read_pickle(old, "file"), [1.5, -2.0])


class _Attack:
    """Pickles to a call of the given function."""

    def __init__(self, function, *arguments) -> None:
        self.call = (function, arguments)

    def __reduce__(self):
        return self.call


@pytest.mark.parametrize("protocol", [0, 2, 4])
def test_nothing_runs(tmp_path: Path, protocol: int) -> None:
    """Each of these would leave a file behind, or worse, if it ran."""
    mark = tmp_path / "ran"
    attacks = {
        "system": _Attack(os.system, f"touch {mark}"),
        "eval": _Attack(eval, f"open({str(mark)!r}, 'w')"),
        "Popen": _Attack(subprocess.Popen, ["touch", str(mark)]),
        "getattr": _Attack(getattr, os, "system"),
        "load": _Attack(np.load, str(mark)),
        "set": {1, 2},
        "PosixPath": mark,
    }
    for name, attack in attacks.items():
        try:
            data = pickle.dumps({"v_template": attack}, protocol=protocol)
        except (TypeError, pickle.PicklingError):
            continue  # not every attack can be written in every protocol
        with pytest.raises(InputError) as refusal:
            read_pickle(data, "evil.pkl")
        assert "evil.pkl" in str(refusal.value), name
        assert "\n" not in str(refusal.value)
    assert not mark.exists()


def test_the_refusal_names_what_was_asked_for() -> None:
    with pytest.raises(InputError, match=r"(posix|os|nt)\.system"):
        read_pickle(pickle.dumps(_Attack(os.system, "true")), "evil.pkl")


def test_harmless_names_do_not_open_a_door() -> None:
    """Allowed stand-ins used in ways that numpy never would."""
    for data in (
        b"ccopy_reg\n_reconstructor\n(c__builtin__\nobject\nc__builtin__\nobject\nNtR.",
        b"cnumpy\ndtype\n(S'O'\ntR.",  # no array: only its description, which is text
        b"c_codecs\nencode\n(S'x'\nS'rot13'\ntR.",
        b"ccollections\nOrderedDict\n(I5\ntR.",
        b"cchumpy.ch\nCh\n(S'x'\ntR(dS'x'\nI1\nsb.",
    ):
        try:
            found = read_pickle(data, "file")
        except (InputError, TypeError):
            continue
        assert found in (1, "object", "|O")


def test_damaged_and_dishonest_files_get_one_line(tmp_path: Path) -> None:
    good = pickle.dumps({"a": np.arange(1000.0)}, protocol=2)
    nested = []
    for _ in range(200):
        nested = [nested]
    bomb = ["x"]
    for _ in range(40):
        bomb = [bomb, bomb]
    cases = {
        "cut.pkl": good[: len(good) // 2],
        "empty.pkl": b"",
        "text.pkl": b"this is not a model\n",
        "memo.pkl": b"\x80\x02Nr\xff\xff\xff\x7f.",
        "persistent.pkl": b"Pouter\n.",
        "nested.pkl": pickle.dumps(nested, protocol=2),
        "object.pkl": pickle.dumps(np.array([print], dtype=object)),
        "short.npy": b"\x93NUMPY\x01\x00\x10\x00{'descr': '<f8'}",
        "cut.npz": b"PK\x03\x04 nothing more",
    }
    for name, data in cases.items():
        (tmp_path / name).write_bytes(data)
        with pytest.raises(InputError) as refusal:
            read_numbers(tmp_path / name)
        assert "\n" not in str(refusal.value), name
    with pytest.raises(InputError, match="no|none"):
        read_numbers(tmp_path / "absent.pkl")
    read_pickle(pickle.dumps(bomb, protocol=2), "shared parts are read once")


def test_npz_with_pickled_members_is_read_the_same_way(tmp_path: Path) -> None:
    np.savez(tmp_path / "good.npz", a=np.arange(3), b=np.array({"c": np.ones(2)}, dtype=object))
    found = read_numbers(tmp_path / "good.npz")
    assert np.array_equal(found["a"], np.arange(3)) and np.array_equal(found["b"]["c"], np.ones(2))
    with zipfile.ZipFile(tmp_path / "evil.npz", "w") as archive:
        stream = io.BytesIO()
        np.lib.format.write_array(stream, np.array([_Attack(os.system, "true")], dtype=object))
        archive.writestr("a.npy", stream.getvalue())
    with pytest.raises(InputError, match="system"):
        read_numbers(tmp_path / "evil.npz")


# ---- the model


def _content(random: np.random.Generator, *, num_directions: int = 400) -> dict:
    """The tables of a FLAME file with random numbers."""
    regressor = np.zeros((5, 5023))
    regressor[np.arange(5)[:, None], random.integers(0, 5023, (5, 8))] += 0.125
    weights = random.random((5023, 5))
    return {
        "v_template": random.normal(size=(5023, 3)) * 0.1,
        "shapedirs": (random.normal(size=(5023, 3, num_directions)) * 1e-3).astype(np.float32),
        "posedirs": random.normal(size=(5023, 3, 36)) * 1e-3,
        "J_regressor": scipy.sparse.csc_matrix(regressor),
        "weights": weights / weights.sum(1, keepdims=True),
        "kintree_table": np.array([[4294967295, 0, 1, 1, 1], [0, 1, 2, 3, 4]], dtype=np.uint32),
        "f": random.integers(0, 5023, (9976, 3)).astype(np.uint32),
    }


def _write(path: Path, content: dict) -> Path:
    path.write_bytes(pickle.dumps(content, protocol=2))
    return path


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict]:
    content = _content(np.random.default_rng(0), num_directions=304)
    return _write(tmp_path_factory.mktemp("flame") / "flame2023.pkl", content), content


def test_zero_parameters_give_the_centred_template(small: tuple[Path, dict]) -> None:
    model = load_flame(small[0])
    assert torch.allclose(model.joint_template[1], torch.zeros(3), atol=1e-7)
    expected = torch.from_numpy(small[1]["v_template"]).float() - model.origin
    assert torch.allclose(model(HeadParams.zeros(model))[0], expected, atol=1e-6)


def test_lbs_equals_the_formula_vertex_by_vertex(small: tuple[Path, dict]) -> None:
    """Li et al. 2017, eqs. 1-4, written out in numpy for one head."""
    path, content = small
    model = load_flame(path)
    generator = torch.Generator().manual_seed(0)
    params = HeadParams(
        torch.randn(1, 300, generator=generator),
        torch.randn(1, 4, generator=generator),
        *(0.4 * torch.randn(1, *shape, generator=generator) for shape in ((3,), (3,), (2, 3))),
    )
    coefficients = np.concatenate([params.shape[0], params.expression[0]])
    shaped = content["v_template"] + content["shapedirs"].astype(float) @ coefficients
    joints = content["J_regressor"].toarray() @ shaped
    vectors = torch.cat([torch.zeros(1, 3), params.neck, params.jaw, params.eyes[0]]).double()
    rotations = axis_angle_to_matrix(vectors).numpy()
    posed = shaped + content["posedirs"] @ (rotations[1:] - np.eye(3)).ravel()
    world = []
    for index, parent in enumerate((-1, 0, 1, 1, 1)):
        local = np.eye(4)
        local[:3, :3] = rotations[index]
        local[:3, 3] = joints[index] - (joints[parent] if parent >= 0 else 0)
        world.append(world[parent] @ local if parent >= 0 else local)
    expected = np.zeros_like(posed)
    for index, transform in enumerate(world):
        moved = (posed - joints[index]) @ transform[:3, :3].T + transform[:3, 3]
        expected += content["weights"][:, index : index + 1] * moved
    found = model(params)[0] + model.origin
    assert np.abs(found.numpy() - expected).max() < 2e-6


def test_variants_of_the_file_read_alike(small: tuple[Path, dict], tmp_path: Path) -> None:
    path, content = small
    reference = load_flame(path)
    dense = content | {"J_regressor": content["J_regressor"].toarray()}
    np.savez(tmp_path / "flame.npz", **dense)
    directions = content["shapedirs"]
    split = dense | {"shapedirs": directions[..., :300], "expressiondirs": directions[..., 300:]}
    for other in (load_flame(tmp_path / "flame.npz"), load_flame(_write(tmp_path / "split.pkl", split))):
        assert torch.equal(other.template, reference.template)
        assert torch.equal(other.expression_basis, reference.expression_basis)
        assert torch.equal(other.joint_basis, reference.joint_basis)
    large = load_flame(path, unit="portrait4d")
    params = HeadParams.zeros(reference, 1).replace(jaw=torch.tensor([[0.3, 0.0, 0.0]]))
    assert torch.allclose(large(params), 3 * reference(params), atol=1e-6)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"v_template": np.zeros((6890, 3))}, "6890"),
        ({"shapedirs": np.zeros((5023, 3, 100))}, "100"),
        ({"weights": "none"}, "weights"),
        ({"f": np.zeros((10, 3))}, r"\(10, 3\)"),
        ({"kintree_table": np.array([[0, 1, 2, 3, 4], [0, 1, 2, 3, 4]])}, "kintree_table"),
    ],
)
def test_a_wrong_file_gets_one_line(small: tuple[Path, dict], tmp_path: Path, change: dict, said: str) -> None:
    path = _write(tmp_path / "wrong.pkl", small[1] | change)
    with pytest.raises(InputError, match=said) as refusal:
        load_flame(path)
    assert "\n" not in str(refusal.value)


def test_not_a_model_at_all(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="v_template"):
        load_flame(_write(tmp_path / "masks.pkl", {"face": np.arange(3)}))
    model = load_flame(_write(tmp_path / "model.pkl", _content(np.random.default_rng(1), num_directions=301)))
    with pytest.raises(InputError, match="478"):
        model.landmark_embedding(478)


def test_limits_hold_and_leave_rest_in_range() -> None:
    wild = HeadParams(
        torch.zeros(1, 300),
        torch.zeros(1, 100),
        torch.full((1, 3), 50.0),
        torch.full((1, 3), -50.0),
        torch.zeros(1, 2, 3),
    )
    limited = limit_rotations(wild)
    assert torch.allclose(torch.rad2deg(limited.neck[0]), torch.tensor([90.0, 60.0, 80.0]), atol=1e-3)
    assert torch.allclose(torch.rad2deg(limited.jaw[0]), torch.tensor([-5.0, -0.1, -0.1]), atol=1e-3)
    assert torch.allclose(limited.eyes, torch.zeros(1, 2, 3))


# ---- golden values: the official class on a synthetic model file


@pytest.fixture(scope="module")
def golden(shared: Path, synthetic_flame: Path) -> tuple[Flame, dict[str, torch.Tensor]]:
    table = np.load(shared / "spec/golden/p4d_flame.npz")
    model = load_flame(synthetic_flame / "geometry/generic_model.pkl")
    return model, {key: torch.from_numpy(table[key]) for key in table.files}


def _golden_params(table: dict[str, torch.Tensor]) -> HeadParams:
    pose = table["in.pose"]
    eyes = table["in.eye_pose"].reshape(-1, 2, 3)
    return HeadParams(table["in.shape"], table["in.exp"], pose[:, :3], pose[:, 3:], eyes)


def test_equals_the_official_class(golden: tuple[Flame, dict[str, torch.Tensor]]) -> None:
    """1e-6 metres: single precision, and the official Rodrigues formula adds 1e-8 to its input."""
    model, table = golden
    params = _golden_params(table)
    vertices = model(params)
    assert torch.allclose(vertices + model.origin, table["out.vertices"], atol=1e-6)
    assert torch.allclose(model.joints(params) + model.origin, table["out.joints"], atol=1e-6)
    landmarks = model.landmarks(vertices, count=70) + model.origin
    assert torch.allclose(landmarks, table["out.landmarks3d"], atol=1e-6)
    assert torch.equal(model.landmarks(vertices, count=68), model.landmarks(vertices, count=70)[:, :68])


def test_rotation_limits_equal_the_official_ones(golden: tuple[Flame, dict[str, torch.Tensor]]) -> None:
    model, table = golden
    params = limit_rotations(_golden_params(table))
    assert torch.allclose(model.joints(params) + model.origin, table["out.joints_rotlimits"], atol=1e-6)
    stride = -(-model.num_vertices // table["out.vertices_rotlimits"].shape[1])
    found = (model(params) + model.origin)[:, ::stride]
    assert torch.allclose(found, table["out.vertices_rotlimits"], atol=1e-6)


def test_rodrigues_equals_the_official_one(golden: tuple[Flame, dict[str, torch.Tensor]]) -> None:
    _, table = golden
    assert torch.allclose(axis_angle_to_matrix(table["in.rotvec_used"]), table["out.batch_rodrigues"], atol=1e-6)


def test_regions_and_eyeballs(golden: tuple[Flame, dict[str, torch.Tensor]]) -> None:
    model, _ = golden
    for name in ("face", "lips", "eyelids", "neck", "scalp", "left_eyeball", "right_eyeball", "skin"):
        assert model.regions[name].any(), name
    assert (model.template[model.regions["left_eyeball"], 0] > 0).all()


# ---- objects of the package smplx


class _LikeSmplx(torch.nn.Module):
    """The buffers that `smplx.FLAME` makes of a file. The vertices of smplx 0.1.28 itself differed by 5e-8 m."""

    def __init__(self, content: dict, *, num_betas: int = 300) -> None:
        super().__init__()
        directions = np.asarray(content["shapedirs"])
        tables = {
            "v_template": content["v_template"], "J_regressor": content["J_regressor"],
            "posedirs": np.reshape(content["posedirs"], [-1, 36]).T, "shapedirs": directions[:, :, :num_betas],
            "expr_dirs": directions[:, :, 300:], "lbs_weights": content["weights"], "faces_tensor": content["f"],
        }  # fmt: skip
        for name, table in tables.items():
            array = np.asarray(table)
            self.register_buffer(
                name, torch.from_numpy(array.astype(np.int64 if name == "faces_tensor" else np.float32))
            )
        self.register_buffer("parents", torch.tensor([-1, 0, 1, 1, 1]))


def test_an_object_of_smplx_is_the_head_of_its_file(synthetic_flame: Path, golden: tuple) -> None:
    path = synthetic_flame / "geometry/generic_model.pkl"
    content = read_numbers(path)
    model, table = golden
    read, params = flame_from_smplx(_LikeSmplx(content), beside=path), _golden_params(table)
    assert torch.allclose(read(params), model(params), atol=1e-6)
    assert torch.allclose(read.landmarks(read(params), count=70), model.landmarks(model(params), count=70), atol=1e-6)
    large = flame_from_smplx(_LikeSmplx(content), unit="portrait4d")
    assert torch.allclose(large(params), 3 * read(params), atol=3e-6)
    with pytest.raises(InputError, match="has landmark sets"):
        large.landmark_embedding(478)
    with pytest.raises(InputError, match="expected 300 shape directions, got 10: make the object with num_betas=300"):
        flame_from_smplx(_LikeSmplx(content, num_betas=10))
    with pytest.raises(InputError, match="expected FLAME of the package smplx, got a Linear without v_template"):
        flame_from_smplx(torch.nn.Linear(2, 2))
