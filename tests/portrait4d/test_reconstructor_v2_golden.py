"""Training steps of Portrait4D-v2 against those of the official code: motion from other views, terms, gradients.

The neck is turned here. Its field follows the nearest triangle, so vertices are computed in the reference's own order
of operations, see `test_reconstructor_golden.py`.
"""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from flame.geometry.camera import Camera, fov_to_intrinsics
from flame.geometry.look_at import released_views
from flame.heads.flame import load_flame
from flame.heads.pose_field import CoarseMesh, HeadPoseField
from golden import Fixture
from golden_reconstruction import (
    SIDE,
    SIZE,
    compare_terms,
    correspondence,
    enlarged,
    fill,
    head_params,
    make_embedder,
    make_networks,
    perceptual,
)
from golden_steps import (
    Recorder,
    backward_losses,
    compare_gradients,
    compare_judged,
    compare_scalars,
)
from portrait4d.gan.discriminator import DualDiscriminator
from portrait4d.losses.blink import eye_openness, teacher_box_scale
from portrait4d.losses.identity import Embedder
from portrait4d.reconstructor.network import Reconstructor
from portrait4d.reconstructor.training.cross_view import (
    MotionReader,
    OtherView,
    cross_view_terms,
    motion_from_other_views,
)
from portrait4d.reconstructor.training.loss_config import ReconstructionLossConfig
from portrait4d.reconstructor.training.losses import (
    TrueHeads,
    WantedHeads,
    discriminator_terms,
    generator_terms,
    r1_terms,
)
from preprocess.tracking.motion_code.encoder import MotionEncoder
from preprocess.tracking.motion_code.network import MotionEncoderNetwork
from reference_flame import ReferenceFlame
from replayed_draws import ReplayedDraws

pytestmark = pytest.mark.usefixtures("one_thread")

STEPS = "train_recon_v2_small"
CASES = [
    *(pytest.param(name, marks=pytest.mark.slow) for name in ("Gmain_10000k", "Greg_10000k_blink")),
    *(pytest.param(name, marks=pytest.mark.long) for name in ("Greg_10000k", "Dmain_10000k", "Dreg_10000k")),
]
LOSS = ReconstructionLossConfig(resolution_initial=SIZE)
UNITS_PER_METRE, FORWARD, FOV = 3.0, 0.03, 12.0
SCALAR = 2e-5
"""Relative, twice that of other steps: the total is 1.3e-5 off, nearly all of it in identity (1.7e-4 of that
   term, whose own limit is 3e-4). The warp is not the cause; that the neck's field moves samples by its last bit is a
   guess."""
KEPT = 0.1
"""Share of the samples whose motion is read from the driving frame itself."""


@pytest.fixture(scope="module")
def fixture(shared: Path) -> Fixture:
    return Fixture.load(shared, STEPS)


@pytest.fixture(scope="module")
def networks(fixture: Fixture) -> tuple[Reconstructor, DualDiscriminator]:
    return make_networks(fixture, size=SIZE)


@pytest.fixture(scope="module")
def teacher(shared: Path, networks: tuple[Reconstructor, DualDiscriminator]) -> Reconstructor:
    network = Reconstructor(networks[0].config)
    fill(network, shared, STEPS, "G_fix", like="G")
    return network.eval().requires_grad_(False)


@pytest.fixture(scope="module")
def read(shared: Path) -> MotionReader:
    network = MotionEncoderNetwork()
    Fixture.load(shared, "p4d_pdfgc").fill(network)
    return MotionEncoder(network)


@pytest.fixture(autouse=True)
def fresh(shared: Path, networks: tuple[Reconstructor, DualDiscriminator]) -> None:
    """Generated weights without gradients, before every case."""
    for network, key in zip(networks, ("G", "D"), strict=True):
        fill(network, shared, STEPS, key)


@pytest.fixture(scope="module")
def pose(fixture: Fixture, synthetic_flame: Path) -> HeadPoseField:
    params, reference = head_params(fixture), ReferenceFlame(synthetic_flame / "geometry" / "generic_model.pkl")
    mesh = CoarseMesh.read(synthetic_flame / "simplify_baricentric2.npy")
    rested = params.replace(neck=torch.zeros_like(params.neck))
    return HeadPoseField.between(reference(params), reference(rested), mesh, box_warp=1.3)


@pytest.fixture(scope="module")
def wanted(fixture: Fixture, synthetic_flame: Path, pose: HeadPoseField) -> WantedHeads:
    camera = Camera.from_label25(torch.from_numpy(fixture.arrays["out.real_c_recon"]), axes="opengl")
    return WantedHeads(
        source=enlarged(fixture.input("img_app_low")),
        source_motion=fixture.input("motions_app"),
        driver_motion=fixture.input("motions"),
        motion_scale=1.0,
        camera=camera,
        pose=pose,
        label=fixture.input("c_compose"),
        correspondence=correspondence(fixture, synthetic_flame / "geometry" / "generic_model.pkl", camera),
        landmarks=_landmarks(fixture, synthetic_flame, camera),
    )


@pytest.fixture(scope="module")
def true(fixture: Fixture) -> TrueHeads:
    mask = enlarged(fixture.input("seg_low").clamp(-1, 1))
    return TrueHeads(enlarged(fixture.input("img_mot_low")), mask, None)


@pytest.fixture(scope="module")
def embed(shared: Path) -> Embedder:
    return make_embedder(shared, STEPS)


def _landmarks(fixture: Fixture, synthetic_flame: Path, camera: Camera) -> Tensor:
    """Where a camera sees the driving head's, as the official code counts: columns from the edge, rows from below."""
    model = load_flame(synthetic_flame / "geometry" / "generic_model.pkl", unit="portrait4d")
    points = model.landmarks(model(head_params(fixture)), count=70)
    pixels, _ = camera.project(points, height=SIDE, width=SIDE)
    return pixels - pixels.new_tensor([0.0, 1.0])


def _look_at(random: ReplayedDraws) -> Camera:
    """The next camera that the official code drew; its sampler draws three numbers more, which have no effect."""
    like = torch.zeros(())
    drawn = torch.stack([random.uniform((2, 1), like)[:, 0] for _ in range(7)])
    for _ in range(3):
        random.normal((2, 1), like)
    return released_views(drawn, unit=UNITS_PER_METRE, forward=FORWARD, fov_degrees=FOV)


@pytest.mark.parametrize("case", CASES)
def test_step(
    fixture: Fixture,
    networks: tuple[Reconstructor, DualDiscriminator],
    teacher: Reconstructor,
    read: MotionReader,
    wanted: WantedHeads,
    true: TrueHeads,
    embed: Embedder,
    synthetic_flame: Path,
    case: str,
) -> None:
    network, discriminator = networks
    about, judge = fixture.about["cases"][case], Recorder(discriminator)
    random, phase, images = ReplayedDraws(f"{STEPS}:{case}", about["random_calls"]), about["phase"], about["cur_nimg"]
    trained = network if phase.startswith("G") else discriminator
    for each in networks:
        each.requires_grad_(each is trained)

    camera = _look_at(random)
    view = OtherView(camera, wanted.pose, _landmarks(fixture, synthetic_flame, camera))
    is_kept = random.uniform((2, 1), torch.zeros(()))[:, 0] < KEPT
    motion = motion_from_other_views(
        teacher, read, true.image, wanted.driver_motion, view, is_kept=is_kept, size=SIZE, random=random
    )
    assert fixture.error(f"{case}.motions_augmented", motion) < 1e-4
    # the official crop rounds its matrix: what follows takes its codes, which are large
    wanted = replace(wanted, driver_motion=torch.from_numpy(fixture.arrays[f"out.{case}.motions_augmented"]))

    if phase == "Gmain":
        terms = generator_terms(
            network, judge, wanted, true, LOSS, images_seen=images, perceptual=perceptual, embed=embed, random=random
        )
        compare_terms(about, terms)
    elif phase == "Greg":
        terms = cross_view_terms(
            network,
            teacher,
            replace(wanted, camera=_look_at(random), pose=None),
            true.image,
            box_scale=_box_scale(fixture, synthetic_flame, case),
            perceptual=perceptual,
            weight=1.0,
            size=SIZE,
            random=random,
        )
    elif phase == "Dmain":
        terms = discriminator_terms(network, judge, wanted, true, LOSS, images_seen=images, random=random)
    else:
        terms = r1_terms(judge, wanted, true, LOSS, size=SIZE)
    losses = backward_losses(phase, terms)
    compare_scalars(fixture, case, losses, within=SCALAR)
    for loss in losses:
        (loss * about["gain"]).backward()
    if judge.seen:
        compare_judged(fixture, case, judge, {"image": "image_sr", "image_raw": "image"})
    if phase == "Gmain":
        assert judge.seen[0].mask is not None
        assert fixture.absolute_error(f"{case}.gen.seg", judge.seen[0].mask) < 2e-4  # it hardly spreads: all is opaque
    compare_gradients(fixture, case, trained, is_loose=True)
    assert not random.left


def _box_scale(fixture: Fixture, synthetic_flame: Path, case: str) -> Tensor:
    """By the eyes of the driving head, seen from the front; one case gives landmarks of half-closed eyes."""
    if case.endswith("blink"):
        landmarks = torch.from_numpy(fixture.arrays["in.blink_landmarks"])
    else:
        front = torch.eye(4).expand(2, 4, 4).clone()
        front[:, 2, 3] = 4
        landmarks = _landmarks(fixture, synthetic_flame, Camera(front, fov_to_intrinsics(FOV, like=front)))
    scale = teacher_box_scale(eye_openness(landmarks))
    expected = [0.98, 0.995] if case.endswith("blink") else [1.0, 1.0]
    assert np.allclose(scale, expected, atol=1e-5)
    return scale
