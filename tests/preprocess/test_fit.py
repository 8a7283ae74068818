"""Fit: exact derivatives, the box, and parameters recovered from landmarks made with them."""

import time

import numpy as np
import pytest
import torch
from scipy.optimize import lsq_linear
from scipy.spatial.transform import Rotation

from fakes import ACTIONS, FakeHead, make_fake_head
from flame.errors import InputError
from flame.heads.head_model import HeadParams
from flame.landmarks.groups import eye_opening, outer_eye_distance
from preprocess.fitting.config import FitConfig, make_prior
from preprocess.fitting.frames import HeadFitter, VideoFitter
from preprocess.fitting.gauss_newton import Normal, solve_box, solve_shared
from preprocess.fitting.landmark_model import LandmarkModel
from preprocess.fitting.residuals import Pose, turn
from preprocess.fitting.small_products import gram, product

CROP = 512
FOCAL = 0.5 * CROP / np.tan(np.radians(6))


def _project(head: FakeHead, params: HeadParams, rotation: np.ndarray, translation: np.ndarray) -> np.ndarray:
    """Landmarks `[478, 3]` as a perfect tracker would see them, through the head model itself."""
    points = head.landmarks(head(params))[0].double().numpy()
    in_camera = points @ rotation.T + translation
    distance = -in_camera[:, 2]
    depth = (distance - distance.mean()) * FOCAL / distance.mean()
    pixels = CROP / 2 + FOCAL * in_camera[:, :2] * [1, -1] / distance[:, None]
    return np.concatenate([pixels, depth[:, None]], 1).astype(np.float32)


class Sample:
    """A random face of a head model and its landmarks."""

    def __init__(self, head: FakeHead, seed: int, *, shape: np.ndarray | None = None, noise_px: float = 0.0) -> None:
        random = np.random.default_rng(seed)
        self.expression = np.where(random.random(len(ACTIONS)) < 0.4, 0.0, random.uniform(0.2, 0.9, len(ACTIONS)))
        self.expression[ACTIONS.index("tongueOut")] = 0.0
        self.expression[ACTIONS.index("mouthLeft")] = 0.0
        self.shape = random.normal(size=head.num_shape) if shape is None else shape
        gaze = np.append(random.uniform(-0.25, 0.25, 2), 0.0)
        self.eyes = np.stack([gaze, gaze])
        self.rotation = Rotation.from_rotvec(random.uniform(-0.35, 0.35, 3))
        self.translation = np.array([*random.uniform(-0.03, 0.03, 2), random.uniform(-1.8, -1.3)])
        params = HeadParams.zeros(head).replace(
            shape=torch.tensor(self.shape)[None],
            expression=torch.tensor(self.expression)[None],
            eyes=torch.tensor(self.eyes)[None],
        )
        landmarks = _project(head, params, self.rotation.as_matrix(), self.translation)
        self.landmarks = landmarks + random.normal(0, noise_px, landmarks.shape).astype(np.float32)


@pytest.fixture(scope="module")
def head() -> FakeHead:
    return make_fake_head()


@pytest.fixture(scope="module")
def fitter(head: FakeHead) -> HeadFitter:
    return HeadFitter(head)


@pytest.mark.parametrize("joints", [("eye_left", "eye_right"), ("jaw", "eye_left", "eye_right")])
def test_landmark_model_is_the_head_model(head: FakeHead, joints: tuple[str, ...]) -> None:
    """Values against the head's own forward pass, derivatives against differences."""
    random = np.random.default_rng(0)
    model = LandmarkModel(head, expressions=np.arange(len(ACTIONS)), num_shape=4, joints=joints)
    coefficients = random.uniform(0, 1, len(ACTIONS) + 4)
    turns = random.uniform(-0.3, 0.3, (len(joints), 3))

    def forward(coefficients: np.ndarray, turns: np.ndarray) -> np.ndarray:
        named = dict(zip(joints, torch.tensor(turns), strict=True))
        params = HeadParams.zeros(head)
        params.expression[0] = torch.tensor(coefficients[: len(ACTIONS)])
        params.shape[0, :4] = torch.tensor(coefficients[len(ACTIONS) :])
        params.eyes[0] = torch.stack([named["eye_left"], named["eye_right"]])
        if "jaw" in named:
            params.jaw[0] = named["jaw"]
        return head.landmarks(head(params))[0].numpy()

    posed = model.pose(coefficients, turns)
    np.testing.assert_allclose(posed.points, forward(coefficients, turns), atol=1e-8)  # the basis is float32
    person = model.with_shape(coefficients[len(ACTIONS) :])
    np.testing.assert_allclose(person.pose(coefficients[: len(ACTIONS)], turns).points, posed.points, atol=1e-12)
    for joint in range(len(joints)):
        change = np.zeros_like(turns)
        change[joint, 1] = 1e-6
        slope = (forward(coefficients, turns + change) - forward(coefficients, turns - change)) / 2e-6
        np.testing.assert_allclose(posed.joints[joint].slopes[:, :, 1], slope[posed.joints[joint].rows], atol=1e-7)


@pytest.mark.parametrize("joints", [("eye_left", "eye_right"), ("jaw", "eye_left", "eye_right")])
def test_gradient_against_differences(head: FakeHead, joints: tuple[str, ...]) -> None:
    """The x and y part of the cost; the depth part freezes its scale on purpose and is left out."""
    random = np.random.default_rng(1)
    fitter = HeadFitter(head, config=FitConfig(depth_weight=0.0, joints=joints))
    residuals, own = fitter.residuals, fitter.num_own
    size = fitter.landmark_model.num_expression
    start = np.concatenate([random.uniform(0, 0.6, size), random.uniform(-0.1, 0.1, own - size)])
    pose = Pose(start, Rotation.from_rotvec([0.1, 0.3, -0.1]).as_matrix(), np.array([0.02, -0.03, -1.4]))
    shape = random.normal(size=head.num_shape)
    measured = np.concatenate([residuals.project(pose, shape) + random.normal(0, 3, (478, 2)), np.zeros((478, 1))], 1)
    plus, minus, other = residuals.differences.T

    def cost(step: np.ndarray) -> float:
        moved = pose.copy()
        turn(moved, step, own)
        projected = residuals.project(moved, shape + step[own + 6 :])
        error = (projected - measured[:, :2]) / (0.01 * outer_eye_distance(measured))
        differences = error[plus] - (error[minus] + error[other]) / 2
        return 0.5 * float(
            (residuals.weights[:, None] * error**2).sum()
            + (residuals.difference_weights[:, None] * differences**2).sum()
        )

    linear = residuals.linearize(pose, shape, measured, is_robust=False)
    probes = 1e-5 * np.eye(len(linear.gradient))
    numeric = np.array([(cost(probe) - cost(-probe)) / 2e-5 for probe in probes])
    np.testing.assert_allclose(linear.gradient, numeric, rtol=1e-3, atol=1e-5 * np.abs(numeric).max())
    person = residuals.with_shape(shape).linearize(pose, np.zeros(0), measured, is_robust=False)
    np.testing.assert_allclose(person.gradient, linear.gradient[: own + 6], rtol=1e-3, atol=1e-4)
    rigid = residuals.linearize(pose, shape, measured, is_pose_only=True, is_robust=False)
    np.testing.assert_allclose(rigid.gradient[own : own + 6], linear.gradient[own : own + 6], rtol=1e-4)
    assert not rigid.gradient[:own].any()


@pytest.mark.parametrize("shape", [(1434, 179), (5, 3), (64, 64), (130, 65)])
def test_small_products(shape: tuple[int, int]) -> None:
    random = np.random.default_rng(0)
    rows = random.normal(size=shape).astype(np.float32)
    np.testing.assert_allclose(gram(rows), rows.T.astype(np.float64) @ rows, atol=1e-3)
    other = random.normal(size=(shape[1], 57))
    np.testing.assert_allclose(product(rows, other), rows @ other, atol=1e-9)
    assert product(rows, other[:, :0]).shape == (shape[0], 0)


@pytest.mark.parametrize("seed", range(8))
def test_box_solver_against_scipy(seed: int) -> None:
    random = np.random.default_rng(seed)
    matrix, target = random.normal(size=(40, 25)), random.normal(size=40)
    lower, upper = -random.uniform(0, 0.1, 25), random.uniform(0, 0.1, 25)
    lower[3] = upper[3] = 0.0
    step, free = solve_box(matrix.T @ matrix, -matrix.T @ target, lower, upper)
    upper[3] = 1e-12  # scipy wants room
    expected = lsq_linear(matrix, target, (lower, upper), method="bvls", tol=1e-14).x
    np.testing.assert_allclose(step, expected, atol=1e-8)
    assert not free[3] and ((step >= lower) & (step <= upper)).all()


def test_shared_step_is_the_joint_step() -> None:
    """Without active bounds the Schur complement gives the solution of the one big system."""
    random = np.random.default_rng(3)
    free, shared = np.full(5, np.inf), 3
    frames, big = [], np.zeros((13, 13))
    right = np.zeros(13)
    for index in range(2):
        matrix = random.normal(size=(20, 8))
        frames.append(Normal(matrix.T @ matrix, random.normal(size=8), -free, free))
        place = np.r_[5 * index : 5 * index + 5, 10:13]
        big[np.ix_(place, place)] += frames[-1].hessian
        right[place] += frames[-1].gradient
    prior = np.eye(shared)
    big[10:, 10:] += prior
    right[10:] += 0.5
    step, own = solve_shared(frames, prior, np.full(shared, 0.5))
    np.testing.assert_allclose(np.concatenate([*own, step]), -np.linalg.solve(big, right), atol=1e-9)


def test_prior_is_convex(head: FakeHead) -> None:
    assert np.linalg.eigvalsh(make_prior(head, FitConfig()).hessian).min() > 0


@pytest.mark.parametrize(("noise_px", "seed"), [(0.0, 0), (0.0, 1), (1.0, 2), (1.0, 3), (2.0, 4)])
def test_one_image_recovers_its_parameters(head: FakeHead, fitter: HeadFitter, noise_px: float, seed: int) -> None:
    sample = Sample(head, seed, noise_px=noise_px)
    fit = fitter.fit([sample.landmarks])[0]
    angle = (Rotation.from_rotvec(fit.pose.rotation) * sample.rotation.inv()).magnitude()
    assert np.degrees(angle) < 2.5
    assert np.corrcoef(fit.head.expression, sample.expression)[0, 1] > 0.9
    assert np.abs(np.degrees(fit.head.eyes - sample.eyes)).max() < 2 + 3 * noise_px  # a third of a pixel is a degree
    assert fit.error < 0.003 + 0.009 * noise_px
    assert (fit.head.expression >= 0).all() and (fit.head.expression <= 1).all()


def test_several_images_share_a_better_shape(head: FakeHead, fitter: HeadFitter) -> None:
    shape = np.random.default_rng(9).normal(size=head.num_shape)
    samples = [Sample(head, seed, shape=shape, noise_px=1.0) for seed in range(10, 18)]
    together = fitter.fit([sample.landmarks for sample in samples])
    alone = [fitter.fit([sample.landmarks])[0] for sample in samples]
    assert all(np.array_equal(fit.head.shape, together[0].head.shape) for fit in together)
    apart = [np.linalg.norm(fit.head.shape - shape) for fit in alone]
    assert np.linalg.norm(together[0].head.shape - shape) < np.mean(apart)


def test_many_frames_weigh_like_one(head: FakeHead, fitter: HeadFitter) -> None:
    """Copies of a photo hold nothing new: they gave a shape further from the mean, and another pitch with it."""
    landmarks = Sample(head, 3, noise_px=1.0).landmarks
    alone, copies = fitter.fit([landmarks])[0], fitter.fit([landmarks] * 5)
    for fit in copies:
        np.testing.assert_allclose(fit.head.shape, alone.head.shape, atol=1e-4)
        np.testing.assert_allclose(fit.pose.rotation, alone.pose.rotation, atol=1e-5)
        np.testing.assert_allclose(fit.head.expression, alone.head.expression, atol=1e-4)


def test_video_follows_a_moving_face(head: FakeHead, fitter: HeadFitter) -> None:
    """Two steps from the last frame reach what a fit from scratch reaches."""
    first, last = Sample(head, 20), Sample(head, 21)
    last.shape = first.shape
    video = VideoFitter(fitter, first.shape)
    errors = []
    for share in np.linspace(0, 1, 26):
        params = HeadParams.zeros(head).replace(
            shape=torch.tensor(first.shape)[None],
            expression=torch.tensor((1 - share) * first.expression + share * last.expression)[None],
            eyes=torch.tensor((1 - share) * first.eyes + share * last.eyes)[None],
        )
        rotation = first.rotation * Rotation.from_rotvec(share * (first.rotation.inv() * last.rotation).as_rotvec())
        landmarks = _project(head, params, rotation.as_matrix(), first.translation)
        fit = video(landmarks)
        fresh = VideoFitter(fitter, first.shape)(landmarks)
        errors.append((Rotation.from_rotvec(fit.pose.rotation) * rotation.inv()).magnitude())
        np.testing.assert_allclose(fit.head.expression, fresh.head.expression, atol=0.12)
    assert np.degrees(max(errors)) < 1.5


def test_outliers_are_ignored(head: FakeHead, fitter: HeadFitter) -> None:
    """A hand before the cheek: forty wild points change the pose little."""
    sample = Sample(head, 30)
    wild = sample.landmarks.copy()
    chosen = np.flatnonzero(fitter.config.weights.per_landmark() == fitter.config.weights.skin)[:40]
    wild[chosen, :2] += 90
    clean, spoiled = fitter.fit([sample.landmarks])[0], fitter.fit([wild])[0]
    angle = (Rotation.from_rotvec(clean.pose.rotation) * Rotation.from_rotvec(spoiled.pose.rotation).inv()).magnitude()
    assert np.degrees(angle) < 3


def test_missing_landmarks_are_skipped(head: FakeHead) -> None:
    """A head model without irises: what the tracker says about them changes nothing."""
    sample = Sample(head, 31)
    blind = make_fake_head()
    blind.landmark_valid_478[468:] = False  # pyright: ignore
    broken = sample.landmarks.copy()
    broken[468:, :2] += 500
    fitter = HeadFitter(blind)
    first, second = (fitter.fit([landmarks])[0] for landmarks in (sample.landmarks, broken))
    np.testing.assert_allclose(first.head.expression, second.head.expression, atol=1e-5)
    assert first.error == pytest.approx(second.error) and first.error < 0.005


def test_head_models_without_landmarks_are_refused() -> None:
    bare = make_fake_head()
    bare.landmark_valid_478[30:] = False  # pyright: ignore
    with pytest.raises(InputError, match="knows 30"):
        HeadFitter(bare)


def test_bad_landmarks_are_named(fitter: HeadFitter) -> None:
    with pytest.raises(ValueError, match="478"):
        fitter.fit([np.zeros((468, 3))])
    with pytest.raises(ValueError, match="finite"):
        fitter.fit([np.full((478, 3), np.nan)])


def test_eye_opening_by_hand() -> None:
    points = np.zeros((478, 3))
    points[[263, 362]] = (10, 0, 0), (0, 0, 0)
    points[[387, 386, 385], 1], points[[373, 374, 380], 1] = -1.0, 2.0
    points[[33, 133]] = (-10, 0, 0), (-10, 5, 0)
    np.testing.assert_allclose(eye_opening(points), [0.3, 0.0])


def test_a_frame_takes_milliseconds(head: FakeHead, fitter: HeadFitter) -> None:
    sample = Sample(head, 40)
    video = VideoFitter(fitter, sample.shape)
    video(sample.landmarks)
    started = time.process_time()
    for _ in range(10):
        video(sample.landmarks)
    assert (time.process_time() - started) / 10 < 0.05  # a tenth of this is typical; machines differ
