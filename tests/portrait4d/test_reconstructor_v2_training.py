"""Portrait4D-v2's training on clips: cameras that stand still, motion from other sides, a teacher, an adversary."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from flame.errors import InputError
from flame.geometry.camera import Camera
from flame.geometry.rotation import axis_angle_to_matrix
from portrait4d.gan.discriminator import DualDiscriminator
from portrait4d.reconstructor.network import Reconstructor
from portrait4d.reconstructor.training.batches import Batches
from portrait4d.reconstructor.training.config import ReconstructionDataConfig, TeacherConfig
from portrait4d.reconstructor.training.head_world import HeadWorld
from portrait4d.reconstructor.training.initial import initialise
from portrait4d.reconstructor.training.samples import ClipSamples
from portrait4d.reconstructor.training.task import ReconstructorTask, ReconstructorTraining
from portrait4d.reconstructor.training.weights import save_networks
from portrait4d.train.task import Part, Step
from portrait4d.train.trainer import Trainer
from preprocess.dataset.reading.rectify import rectified_necks
from toy_genhead import make_toy_faces
from toy_reconstructor import DISCRIMINATOR, NETWORK, SIDE, make_subjects, toy_training, with_loss

pytestmark = pytest.mark.usefixtures("one_thread")

CPU = torch.device("cpu")
CODE = 6


def _read(pictures: Tensor, landmarks: Tensor) -> Tensor:
    """A motion encoder that sees how bright a picture is, and where its landmarks are."""
    light = pictures.mean((2, 3))
    return torch.cat([light, landmarks.mean(1), landmarks.std(1)[:, :1]], 1)


@pytest.fixture(scope="module")
def clips(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_toy_faces(tmp_path_factory.mktemp("clips"))


@pytest.fixture(scope="module")
def teacher(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A static reconstructor's checkpoint."""
    torch.manual_seed(0)
    network = Reconstructor(_network())
    initialise(network)
    folder = tmp_path_factory.mktemp("teacher")
    save_networks(folder, network, DualDiscriminator(DISCRIMINATOR), is_static=True)
    return folder


def _network(motion: str = "pd-fgc"):
    canonicaliser = replace(NETWORK.canonicaliser, motion_dim=CODE)
    return replace(NETWORK, motion=motion, canonicaliser=canonicaliser)


def _config(clips: Path, teacher: Path) -> ReconstructorTraining:
    config = toy_training(clips=clips, teacher=TeacherConfig(weights=str(teacher), cross_view_interval=2))
    loss = {"adversarial_weight": 0.1, "density_weight": 0.0, "volume_images": 0}
    return with_loss(replace(config, network=_network(), resume_from=str(teacher)), **loss)


def test_a_step_has_the_terms_of_v2(clips: Path, teacher: Path) -> None:
    config = _config(clips, teacher)
    task = ReconstructorTask(config, CPU, read=_read)
    before = {name: value.clone() for name, value in task.other_views.teacher.state_dict().items()}  # pyright: ignore
    trainer = Trainer(task, config.train, optimisers=config.optimisers())
    reports = [trainer.step() for _ in range(2)]
    main = {f"reconstructor/{name}" for name in ("perceptual", "l1", "mask", "identity", "adversarial")}
    judged = {"discriminator/fake", "discriminator/real"}
    assert [set(report.terms) for report in reports] == [
        main | judged | {"cross_view/cross_view", "r1/penalty"},
        main | judged,
    ]
    assert all(0 <= value < 1e3 for report in reports for value in report.terms.values())
    assert task.other_views is not None
    assert all(torch.equal(value, before[name]) for name, value in task.other_views.teacher.state_dict().items())


def test_motion_is_read_from_another_side_for_most_samples(clips: Path, teacher: Path) -> None:
    task = ReconstructorTask(_config(clips, teacher), CPU, read=_read)
    step = Step(index=0, images_seen=0, batch_size=40, seed=0)
    part = Part(step, tuple(range(40)), CPU)
    samples = [task.samples.at(position) for position in part.positions]
    plain = task.batches.wanted(samples, [1.0] * 40)
    wanted, _ = task._batch(part)
    changed = (wanted.driver_motion != plain.driver_motion).any(1)
    assert 0.7 < changed.float().mean() < 1
    assert torch.equal(wanted.source_motion, plain.source_motion) and torch.equal(
        wanted.camera.cam2world, plain.camera.cam2world
    )
    halves = [task._batch(Part(step, tuple(range(start, start + 20)), CPU))[0] for start in (0, 20)]
    joined = torch.cat([half.driver_motion for half in halves])
    assert torch.allclose(joined, wanted.driver_motion, atol=1e-4)


def test_a_standing_camera_and_a_turning_neck_show_the_same_head(clips: Path) -> None:
    """Landmarks of the face, which follow the neck alone, stay in their places."""
    samples = ClipSamples([str(clips)], NETWORK, seed=0, is_rectified=True)
    plain = ClipSamples([str(clips)], NETWORK, seed=0, is_rectified=False)
    world = HeadWorld(NETWORK, None)
    batches = Batches(None, world, has_maps=False, device=CPU)
    pairs = [samples.pair(row, row + 1) for row in range(0, 12, 4)]
    turned, still = (
        batches.wanted(pairs, [1.0] * 3),
        batches.wanted([plain.pair(row, row + 1) for row in range(0, 12, 4)], [1.0] * 3),
    )
    assert turned.pose is not None and still.pose is None
    necks = torch.stack([torch.from_numpy(pair.neck) for pair in pairs])
    assert necks.norm(dim=1).max() > 0.05
    params = batches.params(pairs)
    seen = world.landmarks(params, turned.camera, side=SIDE)
    rested = world.landmarks(params.replace(neck=torch.zeros(3, 3)), still.camera, side=SIDE)
    face = slice(17, 70)  # the contour's lowest points move with skin that the neck bends
    assert (seen - rested)[:, face].abs().max() < 0.5
    assert (world.landmarks(params, still.camera, side=SIDE) - rested)[:, face].abs().max() > 2
    # the field takes points of the turned head back to the head at rest
    vertices = [world.head.pose(each).posed for each in (params, params.replace(neck=torch.zeros(3, 3)))]
    skin = world.head.regions.skin[::50]
    before, after = ((vertices[at] - vertices[1])[:, skin].norm(dim=-1) for at in (0, 1))
    mapped = (turned.pose(vertices[0][:, skin]) - vertices[1][:, skin]).norm(dim=-1)
    assert mapped.mean() < 0.25 * before.mean() and after.max() == 0


def test_the_clips_mean_turn_is_the_cameras() -> None:
    random = np.random.default_rng(0)
    necks = random.uniform(-0.4, 0.4, (5, 3)).astype(np.float32) + np.array([0.1, 0.5, 0.0], np.float32)
    left = rectified_necks(necks)
    whole, rest = (axis_angle_to_matrix(torch.from_numpy(value)) for value in (necks, left))
    camera = whole @ rest.mT
    assert torch.allclose(camera, camera[:1].expand_as(camera), atol=1e-5)  # one for the clip
    assert camera[0, 2, 1].abs() < 1e-5 and np.abs(left).mean() < np.abs(necks).mean()  # without pitch
    single = rectified_necks(np.array([[0.0, 0.3, 0.0]], np.float32))
    assert np.abs(single).max() < 1e-6


def test_an_adversary_sees_maps_of_clips(clips: Path, teacher: Path) -> None:
    task = ReconstructorTask(_config(clips, teacher), CPU, read=_read)
    wanted = task.batches.wanted([task.samples.at(0)], [1.0])
    covered = (wanted.correspondence != 0).any(1).float()
    assert wanted.correspondence.shape == (1, 3, SIDE, SIDE) and 0.05 < covered.mean() < 0.6
    true = task.batches.true([task.samples.at(0)])
    assert (covered * (true.mask[:, 0] < 0)).sum() < 0.05 * covered.sum()  # where the person is


def test_codes_of_parameters_need_no_other_side(clips: Path, teacher: Path) -> None:
    config = _config(clips, teacher)
    config = replace(config, network=replace(NETWORK, motion="parameters"), resume_from=None)
    task = ReconstructorTask(config, CPU)
    part = Part(Step(index=0, images_seen=0, batch_size=4, seed=0), (0, 1, 2, 3), CPU)
    samples = [task.samples.at(position) for position in part.positions]
    assert torch.equal(task._batch(part)[0].driver_motion, task.batches.wanted(samples, [1.0] * 4).driver_motion)


def test_what_v2_lacks_is_said(teacher: Path, tmp_path: Path) -> None:
    config = toy_training(subjects=make_subjects(tmp_path), teacher=TeacherConfig(weights=str(teacher)))
    with pytest.raises(InputError, match="data.clips beside teacher.weights"):
        ReconstructorTask(config, CPU)
    with pytest.raises(InputError, match="FLAME file"):
        HeadWorld(replace(NETWORK, head="flame"), None)
    with pytest.raises(InputError, match="data.neck"):
        ReconstructionDataConfig(neck="bent")  # pyright: ignore[reportArgumentType]


def test_cameras_of_other_sides_are_around_the_head(clips: Path, teacher: Path) -> None:
    task = ReconstructorTask(_config(clips, teacher), CPU, read=_read)
    assert task.other_views is not None
    part = Part(Step(index=0, images_seen=0, batch_size=40, seed=0), tuple(range(40)), CPU)
    camera: Camera = task.other_views._camera(part, "motion view")
    distance = camera.cam2world[:, :3, 3].norm(dim=1)
    assert distance.min() > 3.6 and distance.max() < 4.5 and distance.std() > 0.1
    towards = -(camera.cam2world[:, :3, 2] * camera.cam2world[:, :3, 3]).sum(1) / distance
    assert (-towards).min() > 0.99  # they look at it


def test_the_fitted_face_is_a_surface_to_learn(clips: Path, teacher: Path) -> None:
    """It is as far as the head's vertices are, the neck turned or not; other trainings do not draw it."""
    weighted = with_loss(_config(clips, teacher), surface_weight=2.0)
    task = ReconstructorTask(weighted, CPU, read=_read)
    samples = [task.samples.at(position) for position in range(4)]
    wanted, world = task.batches.wanted(samples, [1.0] * 4), task.batches.world
    assert wanted.surface is not None and world is not None
    posed = world.head.pose(task.batches.params(samples)).posed
    for index, surface in enumerate(wanted.surface[:, 0]):
        eye = wanted.camera.cam2world[index, :3, 3]
        away = (posed[index] - eye).norm(dim=-1)
        pixels, _ = wanted.camera.project(posed, height=len(surface), width=len(surface))
        column, row = pixels[index].floor().long().clamp(0, len(surface) - 1).unbind(-1)
        nearest = torch.full((surface.numel(),), torch.inf).scatter_reduce(
            0, row * len(surface) + column, away, reduce="amin"
        )
        known = (surface.flatten() > 0) & nearest.isfinite()
        assert known.sum() > 20
        assert (surface.flatten() - nearest)[known].abs().median() < 0.05  # of the whole pixel's nearest vertex
    assert "reconstructor/surface" in Trainer(task, weighted.train, optimisers=weighted.optimisers()).step().terms
    assert (
        ReconstructorTask(_config(clips, teacher), CPU, read=_read).batches.wanted(samples, [1.0] * 4).surface is None
    )
