"""What the benchmarks of the fits rest on: one objective in three forms, turns without a constant, placed landmarks."""

import dataclasses
from pathlib import Path

import pytest
import torch

from adam_schedule import AutomaticObjective, MeshObjective, Start, Unknowns, run_adam
from fakes import make_fake_head
from flame.geometry.rotation import axis_angle_to_matrix, matrix_to_axis_angle
from flame.heads.flame import load_flame
from flame.heads.head_model import HeadModel
from flame.heads.head_pose import HeadPose
from flame.heads.open_head import load_open_head
from pose_difference import mean_rotation, pose_offset, rotation_difference, turn_degrees
from preprocess.fitting.batched.fit import BatchFitter
from preprocess.fitting.batched.objective import Objective
from preprocess.fitting.batched.residuals import BatchState
from preprocess.fitting.batched.start import rigid_starts
from preprocess.fitting.config import FitConfig
from synthetic_faces import synthetic_faces
from synthetic_flame import drop_on_front, with_placed_landmarks

BATCH = 4


@pytest.fixture(scope="module", params=[("eye_left", "eye_right"), ("jaw", "eye_left", "eye_right")])
def problem(request: pytest.FixtureRequest) -> tuple:
    """The batched fit, its objective, and that of Adam over landmarks and over the mesh."""
    head = make_fake_head()
    config = dataclasses.replace(FitConfig.for_model(head), joints=request.param, depth_weight=0.0, outlier=1e6)
    truth = dataclasses.replace(config, num_shape=head.num_shape)
    landmarks = synthetic_faces(head, truth, people=torch.arange(BATCH)).landmarks
    fitter = BatchFitter(head, config=config, dtype=torch.float64)
    target = fitter.residuals.target(landmarks, torch.arange(BATCH))
    state = rigid_starts(fitter.residuals, target, num_people=BATCH)
    start = Start(state.rotation, state.translation)
    objective = Objective(fitter.residuals, fitter.prior, config, target=target, start=state, is_clip=False)
    points, mesh = (kind(head.double(), config, landmarks, start) for kind in (AutomaticObjective, MeshObjective))
    return fitter, objective, points, mesh


def _random_state(zeros: Unknowns) -> Unknowns:
    generator = torch.Generator().manual_seed(3)

    def like(values: torch.Tensor, scale: float) -> torch.Tensor:
        return scale * torch.rand(values.shape, generator=generator, dtype=values.dtype)

    own, rotation = like(zeros.own, 0.3), like(zeros.pose.rotation, 0.2)
    pose = HeadPose(rotation=rotation, translation=like(zeros.pose.translation, 0.1))
    return Unknowns(pose=pose, own=own, shape=like(zeros.shape, 1.0))


def test_adam_and_the_batched_fit_lower_the_same_function(problem: tuple) -> None:
    _, objective, points, mesh = problem
    state = _random_state(points.zeros())
    rotation, translation = points.pose(state)
    posed = BatchState(state.own, rotation, translation, state.shape)
    cost = objective.cost(posed, torch.ones_like(objective.target.weights))
    torch.testing.assert_close(points.loss(state), cost, rtol=1e-9, atol=0)
    torch.testing.assert_close(mesh.loss(state), cost, rtol=1e-5, atol=0)  # skinning weights are float32


def test_a_fit_is_read_into_the_unknowns_of_adam(problem: tuple) -> None:
    """At the end of the batched fit no small change lowers the loss, unless a limit is in its way."""
    fitter, objective, points, _ = problem
    fit = fitter.fit(objective.target.points)
    end = points.unknowns_of(fit)
    lowest = points.loss(end)
    assert (lowest < 0.2 * points.loss(points.zeros())).all()
    for step in (3e-3, -3e-3):
        changed = {
            "rotation": end.replace(pose=end.pose.replace(rotation=end.pose.rotation + step)),
            "translation": end.replace(pose=end.pose.replace(translation=end.pose.translation + step)),
            "shape": end.replace(shape=end.shape + step),
        }
        for name, unknowns in changed.items():
            assert (points.loss(unknowns) > lowest).all(), name


@pytest.mark.slow
def test_adam_keeps_the_best_state_within_the_limits(problem: tuple) -> None:
    _, _, points, _ = problem
    run = run_adam(points, rate=0.05, stages=(20, 60))
    assert len(run.losses) == 81 and (run.losses.diff() <= 0).all()
    assert float(points.loss(run.best).sum()) == pytest.approx(float(run.losses[-1]), rel=1e-9)
    assert (run.best.own >= points.lower).all() and (run.best.own <= points.upper).all()
    assert run.losses[-1] < 0.2 * run.losses[0]
    half = float(run.losses[50])
    assert half < run.losses[0]
    stopped = run_adam(points, rate=0.05, stages=(20, 60), until=lambda loss: loss <= half)
    assert stopped.first_at(half) == run.first_at(half) == len(stopped.losses) - 1
    assert run.first_at(0.0) is None
    only_pose = run_adam(points, rate=1e-4, stages=(20, 0))
    assert not only_pose.best.own.any() and only_pose.best.pose.rotation.any()


def test_a_constant_turn_is_found_and_taken_out() -> None:
    generator = torch.Generator().manual_seed(0)
    reference = 0.4 * torch.randn(12, 3, generator=generator, dtype=torch.float64)
    constant = axis_angle_to_matrix(torch.tensor([[0.2, -0.03, 0.01]], dtype=torch.float64))[0]
    ours = matrix_to_axis_angle(axis_angle_to_matrix(reference) @ constant)
    torch.testing.assert_close(pose_offset(ours, reference), constant)
    plain, rest = rotation_difference(ours, reference)
    torch.testing.assert_close(plain, turn_degrees(constant).expand(12))
    assert rest.max() < 1e-5
    # one that turns otherwise is measured against the others, which it must not disturb much
    ours[0] = matrix_to_axis_angle(
        axis_angle_to_matrix(ours[:1]) @ axis_angle_to_matrix(torch.tensor([[0.0, 0.1, 0.0]]).double())
    )[0]
    rest = rotation_difference(ours, reference)[1]
    assert float(rest[0]) == pytest.approx(torch.rad2deg(torch.tensor(0.1)).item(), abs=1e-6)
    assert rest[1:].max() < 0.6
    assert rotation_difference(ours[:1], reference[:1])[1].isnan().all()


def test_small_turns_and_mirrored_sums() -> None:
    tiny = torch.tensor([[1e-7, 0, 0], [0, torch.pi - 1e-7, 0]], dtype=torch.float64)
    degrees = turn_degrees(axis_angle_to_matrix(tiny))
    torch.testing.assert_close(degrees, torch.rad2deg(tiny.norm(dim=-1)), rtol=1e-6, atol=0)
    turns = axis_angle_to_matrix(torch.randn(5, 3, generator=torch.Generator().manual_seed(1), dtype=torch.float64))
    mean = mean_rotation(turns)
    assert torch.linalg.det(mean) == pytest.approx(1.0)


def test_landmarks_drop_on_the_front_of_a_head() -> None:
    """Points of the open head's front find themselves again; points beside the head find nothing."""
    head: HeadModel = load_open_head()
    points = head.landmarks(head.template[None])[0][[1, 4, 152, 10, 61, 291]].double()
    beside = torch.tensor([[1.0, 0.0, 0.0]], dtype=torch.float64)
    found = drop_on_front(torch.cat([points, beside]), head)
    corners = head.template[head.faces[found.faces]]
    placed = (corners * found.barycentric[..., None]).sum(1).double()
    assert found.valid.tolist() == [True] * 6 + [False]
    torch.testing.assert_close(placed[:6], points, atol=1e-5, rtol=0)


def test_the_synthetic_head_gets_a_face(synthetic_flame: Path) -> None:
    scattered = load_flame(synthetic_flame / "geometry" / "generic_model.pkl")
    model = with_placed_landmarks(scattered, load_open_head())
    points = model.landmarks(model.template[None])[0] + model.origin
    assert model.landmark_embedding(478).valid.all()
    torch.testing.assert_close(points[468, :2], torch.tensor([-0.030, 0.020]), atol=2e-3, rtol=0)
    assert points[4, 2] == points[[4, 33, 263, 61, 291, 152, 10], 2].max()  # the nose is in front
    assert points[152, 1] < points[13, 1] < points[4, 1] < points[468, 1] < points[10, 1]
