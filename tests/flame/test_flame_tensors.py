"""FLAME out of a released network's tensors, its landmarks for the tracker, and fits in both units."""

from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.spatial.transform import Rotation
from torch import Tensor

from flame.errors import InputError
from flame.heads.flame import Flame, flame_from_tensors, load_flame
from flame.heads.head_model import HeadParams
from flame.heads.pose_field import CoarseMesh, HeadPoseField
from flame.landmarks.sets import IBUG_OF_478, NUM_CONTOUR, PUPILS_OF_478
from flame_tensors import MODEL, PREFIX, network_tensors
from preprocess.fitting.frames import HeadFitter, VideoFitter
from preprocess.tracking.tracker import Tracker

CROP = 512
FOCAL = 0.5 * CROP / np.tan(np.radians(6))

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def tensors(synthetic_flame: Path) -> dict[str, Tensor]:
    return network_tensors(synthetic_flame)


@pytest.fixture(scope="module")
def model(tensors: dict[str, Tensor]) -> Flame:
    return flame_from_tensors(tensors)


@pytest.fixture(scope="module")
def from_file(synthetic_flame: Path) -> Flame:
    return load_flame(synthetic_flame / "geometry" / "generic_model.pkl", unit="portrait4d")


def _random_params(batch: int = 2) -> HeadParams:
    generator = torch.Generator().manual_seed(3)

    def normal(*shape: int, scale: float) -> Tensor:
        return scale * torch.randn(batch, *shape, generator=generator)

    return HeadParams(
        normal(300, scale=0.7), normal(100, scale=0.7), normal(3, scale=0.3), normal(3, scale=0.1),
        normal(2, 3, scale=0.2),
    )  # fmt: skip


def test_tensors_give_the_model_of_the_file(model: Flame, from_file: Flame) -> None:
    params = _random_params()
    assert model.units_per_metre == from_file.units_per_metre == 3
    torch.testing.assert_close(model(params), from_file(params), atol=1e-6, rtol=0)
    torch.testing.assert_close(model.joints(params), from_file.joints(params), atol=1e-6, rtol=0)
    for count in (68, 70, 478):
        ours, theirs = (each.landmark_embedding(count) for each in (model, from_file))
        assert torch.equal(ours.faces, theirs.faces) and torch.equal(ours.valid, theirs.valid)
    assert torch.equal(model.faces, from_file.faces)


def test_metres_are_a_third(model: Flame, synthetic_flame: Path) -> None:
    metres = model.in_metres()
    params = _random_params()
    assert metres.units_per_metre == 1 and metres.in_metres() is metres
    torch.testing.assert_close(3 * metres(params), model(params), atol=1e-6, rtol=0)
    torch.testing.assert_close(3 * metres.joints(params), model.joints(params), atol=1e-6, rtol=0)
    file = load_flame(synthetic_flame / "geometry" / "generic_model.pkl")
    torch.testing.assert_close(metres(params), file(params), atol=1e-6, rtol=0)


def test_coarse_mesh_of_tensors(tensors: dict[str, Tensor], model: Flame, synthetic_flame: Path) -> None:
    ours = CoarseMesh.from_tensors(tensors)
    theirs = CoarseMesh.read(synthetic_flame / "simplify_baricentric2.npy")
    for name in ("vertices", "weights", "faces"):
        assert torch.equal(getattr(ours, name), getattr(theirs, name)), name
    field = HeadPoseField.build(model, _random_params(1), ours, box_warp=1.3)
    assert field.fine.isfinite().all()


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        (MODEL + "v_template", None, r"v_template of shape \(5023, 3\) in the checkpoint, got none"),
        (MODEL + "shapedirs", torch.zeros(5023, 3, 150), r"got one of shape \(5023, 3, 150\)"),
        (MODEL + "parents", torch.tensor([-1, 0, 1, 1, 2]), r"parents \(-1, 0, 1, 1, 1\)"),
        (PREFIX + "simplify_baris", torch.zeros(1391, 3), r"got \(553, 3\), \(1391, 3\), \(\d+, 3\)"),
        (PREFIX + "simplify_faces", None, r"simplify_idxs.*got \(553, 3\), \(553, 3\), none"),
        (PREFIX + "simplify_idxs", torch.full((553, 3), 5023), "expected idxs from 0 to 5022, got 5023 to 5023"),
        (PREFIX + "simplify_idxs", torch.full((553, 3), -1), "expected idxs from 0 to 5022, got -1 to -1"),
        (PREFIX + "simplify_faces", torch.tensor([[0, 1, 553]]), "expected faces from 0 to 552, got 0 to 553"),
        (PREFIX + "simplify_faces", torch.tensor([[0, 1, -1]]), "expected faces from 0 to 552, got -1 to 1"),
    ],
)
def test_wrong_tables_get_one_line(
    tensors: dict[str, Tensor], name: str, value: Tensor | None, said: str
) -> None:  # fmt: skip
    broken = {key: tensor for key, tensor in tensors.items() if key != name}
    broken |= {} if value is None else {name: value}
    with pytest.raises(InputError, match=said) as caught:  # noqa: PT012  (one or the other)
        flame_from_tensors(broken)
        CoarseMesh.from_tensors(broken)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        (
            "idxs",
            np.full((553, 3), 5023),
            "coarse.npy is no simplified mesh of FLAME, expected idxs from 0 to 5022, got",
        ),
        ("idxs", np.zeros((552, 3), np.int64), r"got \(552, 3\), \(553, 3\), \(\d+, 3\): get the file again"),
        ("faces", np.array([[0, 1, 553]]), "expected faces from 0 to 552, got 0 to 553: get the file again"),
        ("faces", "text", "coarse.npy: expected numbers under idxs, baris and faces"),
        ("baris", "text", "coarse.npy: expected numbers under idxs, baris and faces"),
    ],
)
def test_a_simplified_mesh_that_points_to_nothing_is_refused(
    synthetic_flame: Path, tmp_path: Path, name: str, value: object, said: str
) -> None:
    """It failed where it was first used, inside torch."""
    content = np.load(synthetic_flame / "simplify_baricentric2.npy", allow_pickle=True)[()]
    np.save(tmp_path / "coarse.npy", np.array({**content, name: value}), allow_pickle=True)
    with pytest.raises(InputError, match=said) as caught:
        CoarseMesh.read(tmp_path / "coarse.npy")
    assert "\n" not in str(caught.value)


def test_the_tracker_gets_features_and_no_contour(model: Flame) -> None:
    embedding = model.landmark_embedding(478)
    known = torch.nonzero(embedding.valid)[:, 0].tolist()
    assert known == sorted((IBUG_OF_478 + PUPILS_OF_478)[NUM_CONTOUR:])
    vertices = model(_random_params())
    mesh, seventy = model.landmarks(vertices), model.landmarks(vertices, count=70)
    assert torch.equal(mesh[:, 33], seventy[:, 36]) and torch.equal(mesh[:, 473], seventy[:, 69])
    assert torch.equal(mesh[:, 14], seventy[:, 66])


class Sample:
    """A random face of a FLAME model, and its landmarks as a perfect tracker would see them."""

    def __init__(self, model: Flame, seed: int, *, shape: Tensor | None = None) -> None:
        random = np.random.default_rng(seed)
        self.rotation = Rotation.from_rotvec(random.uniform(-0.35, 0.35, 3))
        unit = model.units_per_metre
        self.translation = unit * np.array([*random.uniform(-0.03, 0.03, 2), random.uniform(-1.5, -1.3)])
        generator = torch.Generator().manual_seed(seed)
        self.shape = 0.5 * torch.randn(1, 300, generator=generator) if shape is None else shape
        gaze = torch.tensor([*random.uniform(-0.2, 0.2, 2), 0.0], dtype=torch.float32)
        params = HeadParams.zeros(model).replace(
            shape=self.shape,
            expression=0.5 * torch.randn(1, 100, generator=generator),
            jaw=torch.tensor([[random.uniform(0, 0.25), 0.0, 0.0]], dtype=torch.float32),
            eyes=torch.stack([gaze, gaze])[None],
        )
        points = model.landmarks(model(params))[0].double().numpy()
        in_camera = points @ self.rotation.as_matrix().T + self.translation
        distance = -in_camera[:, 2]
        depth = (distance - distance.mean()) * FOCAL / distance.mean()
        pixels = CROP / 2 + FOCAL * in_camera[:, :2] * [1, -1] / distance[:, None]
        self.landmarks = np.concatenate([pixels, depth[:, None]], 1).astype(np.float32)

    def error_degrees(self, rotation: np.ndarray) -> float:
        return float(np.degrees((Rotation.from_rotvec(rotation) * self.rotation.inv()).magnitude()))


@pytest.mark.slow
def test_a_fit_by_53_points_finds_the_pose(model: Flame) -> None:
    """In Portrait4D's unit; the next test shows that the unit does not matter."""
    fitter, errors = HeadFitter(model), []
    for seed in range(8):
        sample = Sample(model, seed)
        fit = fitter.fit([sample.landmarks])[0]
        errors.append(sample.error_degrees(fit.pose.rotation))
        # a picture cannot tell a small head from a far one
        assert abs(fit.pose.translation[2] / sample.translation[2] - 1) < 0.05
        assert fit.error < 0.003
    # the rest is the face's own depth, which one picture tells from its pose by the prior alone
    assert np.median(errors) < 1.5 and max(errors) < 2
    shape = Sample(model, 20).shape
    video = VideoFitter(fitter, shape[0].numpy())
    for seed in range(20, 24):
        sample = Sample(model, seed, shape=shape)
        video.reset()
        assert sample.error_degrees(video(sample.landmarks).pose.rotation) < 1


def test_both_units_give_the_same_fit(model: Flame) -> None:
    sample = Sample(model, 30)
    large = HeadFitter(model).fit([sample.landmarks])[0]
    small = HeadFitter(model.in_metres()).fit([sample.landmarks])[0]
    np.testing.assert_allclose(large.pose.translation, 3 * small.pose.translation, rtol=1e-4)
    np.testing.assert_allclose(large.pose.rotation, small.pose.rotation, atol=1e-4)
    np.testing.assert_allclose(large.head.expression, small.head.expression, atol=1e-2)


def test_the_tracker_works_in_metres(model: Flame) -> None:
    """Motion files and the tolerances of smoothing are in metres, whatever the unit of the model that is given."""
    tracker = Tracker(head_model=model)
    assert tracker.head_model.units_per_metre == 1
    assert torch.allclose(tracker.head_model.template * 3, model.template)
