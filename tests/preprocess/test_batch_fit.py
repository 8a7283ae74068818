"""Batched fit: the objective of the fit of single frames, exact derivatives, and images that leave each other alone."""

import dataclasses

import numpy as np
import pytest
import torch

from fakes import FakeHead, make_fake_head
from flame.errors import InputError
from flame.geometry.rotation import axis_angle_to_matrix
from flame.heads.open_head import OpenHead, load_open_head
from flame.landmarks.groups import NUM_MESH, OUTER_EYE_CORNERS
from preprocess.fitting.batched.fit import BatchFit, BatchFitter
from preprocess.fitting.batched.objective import Objective, moved
from preprocess.fitting.batched.residuals import BatchState
from preprocess.fitting.batched.start import landmarks_of_set, rigid_starts
from preprocess.fitting.config import FitConfig, active_expressions
from preprocess.fitting.frames import HeadFitter
from synthetic_faces import SyntheticFaces, synthetic_faces

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def head() -> FakeHead:
    return make_fake_head()


@pytest.fixture(scope="module")
def fitter(head: FakeHead) -> BatchFitter:
    return BatchFitter(head, dtype=torch.float64)


@pytest.fixture(scope="module")
def faces(head: FakeHead) -> SyntheticFaces:
    config = dataclasses.replace(FitConfig.for_model(head), num_shape=head.num_shape)
    return synthetic_faces(head, config, people=torch.arange(6))


def _noisy(faces: SyntheticFaces) -> torch.Tensor:
    return faces.noisy(1.0)


def _turn_degrees(first: torch.Tensor, second: torch.Tensor) -> torch.Tensor:
    between = axis_angle_to_matrix(first.double()) @ axis_angle_to_matrix(second.double()).mT
    return torch.rad2deg(torch.acos(((between.diagonal(dim1=1, dim2=2).sum(1) - 1) / 2).clamp(-1, 1)))


@pytest.mark.parametrize("joints", [("eye_left", "eye_right"), ("jaw", "eye_left", "eye_right")])
def test_derivatives_of_the_cost_are_exact(head: FakeHead, faces: SyntheticFaces, joints: tuple[str, ...]) -> None:
    """The gradient of the normal equations against differences of the cost along each unknown, priors and all."""
    config = dataclasses.replace(FitConfig.for_model(head), joints=joints)
    fitter = BatchFitter(head, config=config, dtype=torch.float64)
    residuals, people = fitter.residuals, torch.tensor([0, 0, 1, 1, 2, 2])
    target = residuals.target(_noisy(faces), people)
    start = rigid_starts(residuals, target, num_people=3)
    objective = Objective(residuals, fitter.prior, config, target=target, start=start, is_clip=True)
    random = torch.Generator().manual_seed(2)
    own = 0.2 * torch.rand(start.own.shape, generator=random, dtype=torch.float64)
    shape = torch.randn(start.shape.shape, generator=random, dtype=torch.float64)
    state = BatchState(own, start.rotation, 1.1 * start.translation, shape)
    robust = residuals.robust_weights(state, target, torch.ones(6, dtype=torch.bool))
    normal = objective.normal(state, robust, torch.zeros(3, dtype=torch.float64))
    split, step = residuals.num_own + 6, 1e-6
    shared = normal.sum_by_person(normal.gradient[:, split:])
    firsts = torch.tensor([0, 2, 4])  # of each person, the image whose unknowns change
    for column in range(normal.gradient.shape[1]):
        own_step, shared_step = torch.zeros_like(normal.gradient[:, :split]), torch.zeros_like(shared)
        if column < split:
            own_step[firsts, column] = step
        else:
            shared_step[:, column - split] = step
        slope = normal.gradient[firsts, column] if column < split else shared[:, column - split]
        after = objective.cost(moved(state, own_step, shared_step), robust)
        before = objective.cost(moved(state, -own_step, -shared_step), robust)
        assert torch.allclose((after - before) / (2 * step), slope, rtol=1e-4, atol=1e-2), column


def test_agrees_with_the_fit_of_single_frames(head: FakeHead, fitter: BatchFitter, faces: SyntheticFaces) -> None:
    """Nearly the same minimum: the other fitter's depths and priors move a head's size, and little else."""
    landmarks = _noisy(faces)
    batch = fitter.fit(landmarks)
    other = HeadFitter(head, config=dataclasses.replace(FitConfig.for_model(head), iterations=30))
    for index, frame in enumerate(landmarks.numpy()):
        single = other.fit([frame])[0]
        assert np.allclose(batch.head.expression[index], single.head.expression, atol=2e-2)
        assert np.allclose(batch.head.shape[index], single.head.shape, atol=0.1)
        assert np.allclose(batch.pose.rotation[index], single.pose.rotation, atol=2e-3)
        assert np.allclose(batch.pose.translation[index], single.pose.translation, atol=2e-2)
        assert abs(float(batch.error[index]) - single.error) < 1e-4


def test_a_batch_is_its_images_one_by_one(fitter: BatchFitter, faces: SyntheticFaces) -> None:
    landmarks = _noisy(faces)
    landmarks[2] = landmarks[3].flip(0)  # nonsense beside faces must not disturb them
    together = fitter.fit(landmarks)
    for index in (0, 1, 3, 5):
        alone = fitter.fit(landmarks[index : index + 1])
        assert torch.allclose(together.error[index], alone.error[0], atol=1e-5)
        for mine, other in ((together.pose, alone.pose), (together.head, alone.head)):
            for field, row in mine.row(index).named().items():
                assert torch.allclose(row, other.row(0).named()[field], atol=1e-5), field


def test_recovers_the_pose_and_converges(fitter: BatchFitter, faces: SyntheticFaces) -> None:
    fit = fitter.fit(_noisy(faces))
    assert fit.converged.all()
    assert _turn_degrees(fit.pose.rotation, faces.rotation).mean() < 1.0


def test_images_of_a_person_share_the_shape(fitter: BatchFitter, faces: SyntheticFaces) -> None:
    fit = fitter.fit(_noisy(faces), people=torch.tensor([7, 2, 7, 2, 2, 9]))
    assert torch.equal(fit.head.shape[0], fit.head.shape[2])
    assert torch.equal(fit.head.shape[1], fit.head.shape[4])
    assert not torch.allclose(fit.head.shape[0], fit.head.shape[1])


def test_copies_count_once_unless_their_errors_are_independent(head: FakeHead, faces: SyntheticFaces) -> None:
    """A tracker's errors repeat, so copies tell nothing new; five independent ones tell more than the prior."""
    copies, people = _noisy(faces)[:1].expand(5, -1, -1), torch.zeros(5, dtype=torch.long)

    def shapes(config: FitConfig) -> tuple[torch.Tensor, torch.Tensor]:
        fitter = BatchFitter(head, config=config, dtype=torch.float64)
        return fitter.fit(copies[:1]).head.shape[0], fitter.fit(copies, people=people).head.shape[0]

    alone, together = shapes(FitConfig.for_model(head))
    assert torch.allclose(alone, together, atol=1e-3)
    alone, together = shapes(dataclasses.replace(FitConfig.for_noise(head, 5.0), shape_sigma=0.2))
    assert together.norm() > 1.1 * alone.norm()


def test_a_clip_changes_less_from_frame_to_frame(fitter: BatchFitter, faces: SyntheticFaces) -> None:
    people = torch.zeros(6, dtype=torch.long)

    def change(fit: BatchFit) -> float:
        return float(fit.head.expression.diff(dim=0).abs().mean())

    landmarks = _noisy(faces)
    assert change(fitter.fit(landmarks, people=people, is_clip=True)) < change(fitter.fit(landmarks, people=people))


def test_seventy_points_tell_the_pose(head: FakeHead, fitter: BatchFitter, faces: SyntheticFaces) -> None:
    """No depth, no contour: the start is by weak perspective."""
    from flame.landmarks.sets import IBUG_OF_478, PUPILS_OF_478

    seventy = faces.landmarks[:, IBUG_OF_478 + PUPILS_OF_478, :2]
    fit = fitter.fit(landmarks_of_set(seventy))
    assert _turn_degrees(fit.pose.rotation, faces.rotation).median() < 6.0


def test_camera_shows_the_fitted_points(head: FakeHead, faces: SyntheticFaces) -> None:
    """Through the camera label, in units of a third of a metre, with EG3D's lens."""
    fitter = BatchFitter(head, fov_degrees=13.37, dtype=torch.float64)
    fit = fitter.fit(_noisy(faces))
    points = 3 * head.landmarks(head(fit.head))
    pixels, _ = fit.frame_parameters().camera.project(points, height=512, width=512)
    distance = (pixels - _noisy(faces)[..., :2]).norm(dim=-1)[:, :NUM_MESH].mean(1)
    right, left = OUTER_EYE_CORNERS
    unit = (_noisy(faces)[:, right, :2] - _noisy(faces)[:, left, :2]).norm(dim=-1)
    assert torch.allclose(distance / unit, fit.error, atol=1e-5)


def test_refuses_what_is_no_landmarks(fitter: BatchFitter, faces: SyntheticFaces) -> None:
    with pytest.raises(InputError, match="478"):
        fitter.fit(faces.landmarks[:, :70])
    with pytest.raises(InputError, match="eye corners"):
        fitter.fit(torch.full_like(faces.landmarks, torch.nan))
    with pytest.raises(InputError, match="noise"):
        FitConfig.for_noise(make_fake_head(), 0.0)
    with pytest.raises(InputError, match="people"):
        fitter.fit(faces.landmarks, people=torch.zeros(2, dtype=torch.long))


@pytest.fixture(scope="module")
def open_head() -> OpenHead:
    return load_open_head()


class TestOpenHead:
    """Truth of the open head in one call of 64 pictures; `synthetic_faces` says how it is drawn."""

    @pytest.mark.parametrize(
        ("frames", "identity_mm"),
        [
            # a photo hardly tells a large head from a far one: the bound is 2.3 mm root mean square
            pytest.param(1, 2.5, marks=pytest.mark.slow),
            (8, 2.0),
        ],
    )
    def test_recovers_truth_from_noisy_landmarks(self, open_head: OpenHead, frames: int, identity_mm: float) -> None:
        config = FitConfig.for_noise(open_head, 1.0)
        people = torch.arange(64) // frames
        faces = synthetic_faces(open_head, config, people=people)
        fit = BatchFitter(open_head, config=config).fit(faces.noisy(1.0), people=people)
        assert fit.converged.all() and fit.iterations.max() <= 30
        assert _turn_degrees(fit.pose.rotation, faces.rotation).mean() < 1.0
        active = active_expressions(open_head, config)
        assert _correlation(fit.head.expression[:, active], faces.head.expression[:, active]) > 0.9
        assert _identity_mm(open_head, fit.head.shape, faces.head.shape).mean() < identity_mm

    def test_finds_the_truth_itself_without_noise(self, open_head: OpenHead) -> None:
        """As the noise goes to nothing, so do the priors' weight and all errors."""
        config = FitConfig.for_noise(open_head, 0.01)
        faces = synthetic_faces(open_head, config, people=torch.arange(8))
        fit = BatchFitter(open_head, config=config, dtype=torch.float64).fit(faces.landmarks)
        assert fit.converged.all()
        assert _turn_degrees(fit.pose.rotation, faces.rotation).max() < 0.01
        assert (fit.head.expression - faces.head.expression).abs().max() < 0.01
        assert _identity_mm(open_head, fit.head.shape, faces.head.shape).max() < 0.1


def _correlation(first: torch.Tensor, second: torch.Tensor) -> float:
    """Pearson's, over all images and coefficients together."""
    return float(torch.corrcoef(torch.stack([first.double().flatten(), second.double().flatten()]))[0, 1])


def _identity_mm(model: OpenHead, first: torch.Tensor, second: torch.Tensor) -> torch.Tensor:
    """Mean distance `[B]` of the vertices of the face at rest, nothing aligned."""
    basis = model.shape_basis[model.regions["face"]].double()
    return 1000 * torch.einsum("vcs,bs->bvc", basis, first.double() - second.double()).norm(dim=-1).mean(1)
