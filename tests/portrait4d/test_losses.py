"""Terms of the reconstructor's loss: by mathematics, and alignment against the official code's."""

from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from flame.errors import InputError
from flame.landmarks.sets import FIVE_POINTS, IBUG_LEFT_EYE, IBUG_RIGHT_EYE
from golden import Fixture
from portrait4d.losses.blink import eye_openness, teacher_box_scale
from portrait4d.losses.identity import align_faces, five_point_matrix, identity_term
from portrait4d.losses.pictures import ComparedPictures, over_black, picture_terms
from portrait4d.losses.volume import depth_term, feature_term, opacity_term, plane_term, surface_term
from portrait4d.render.planes import TriPlanes
from preprocess.tracking.motion_code.crop import crop_faces


@pytest.fixture(scope="module")
def units(shared: Path) -> Fixture:
    return Fixture.load(shared, "train_units")


def _from_below(landmarks: Tensor, height: int) -> Tensor:
    """Landmarks of the official code, which counts rows from below."""
    turned = landmarks.clone()
    turned[..., 1] = height - 1 - turned[..., 1]
    return turned


def test_faces_are_aligned_as_officially(units: Fixture) -> None:
    face, landmarks = units.input("face"), _from_below(units.input("landmarks"), 128)
    assert units.absolute_error("id_matrix", five_point_matrix(landmarks).float()) < 2e-5
    assert units.absolute_error("id_warp", align_faces(face, landmarks)) < 1e-4
    assert units.absolute_error("pdfgc_crop", crop_faces(face, landmarks[:, :68])) < 1e-4


def _landmarks() -> Tensor:
    """A face of 100 px width, upright."""
    landmarks = torch.rand(2, 70, 2, generator=torch.Generator().manual_seed(0)) * 100
    five = torch.tensor([[30.0, 40.0], [70.0, 40.0], [50.0, 60.0], [35.0, 80.0], [65.0, 80.0]])
    landmarks[:, [point for (point,) in FIVE_POINTS[70]]] = five
    return landmarks


def test_identity_is_an_angle_of_aligned_faces() -> None:
    """The same face has none, wherever it is in the picture; opposite vectors have two."""
    pictures = torch.rand(2, 3, 120, 120, generator=torch.Generator().manual_seed(1)) * 2 - 1
    landmarks = _landmarks()

    def embed(faces: Tensor) -> Tensor:
        return faces.mean(1).flatten(1)

    assert identity_term(embed, pictures, pictures, landmarks) < 1e-5
    assert identity_term(embed, -pictures, pictures, landmarks) == pytest.approx(2, abs=1e-5)
    moved = pictures.roll((7, 4), (2, 3))
    faces = align_faces(moved, landmarks + torch.tensor([4.0, 7.0]))
    middle = slice(30, 90)  # around it, rows and columns came in from the other side
    assert (faces - align_faces(pictures, landmarks))[..., middle, middle].abs().max() < 1e-4
    over = (1.5 * pictures).requires_grad_()
    identity_term(embed, over, pictures, landmarks).backward()
    assert over.grad is not None and over.grad.abs().sum() > 0
    assert not over.grad[over.detach().abs() > 1].any()  # cut off, as what a file can hold
    with pytest.raises(InputError, match="pupils, nose and mouth of a face coincide"):
        align_faces(pictures, torch.ones(2, 70, 2))


def test_pictures_are_compared_four_times() -> None:
    """The sum of distances and of absolute differences, means over the batch."""
    random = torch.Generator().manual_seed(2)
    made, true = (
        ComparedPictures(*(torch.rand(2, 3, side, side, generator=random) for side in (8, 4, 4, 4))) for _ in range(2)
    )
    terms = picture_terms(made, true, lambda first, second: (first - second).square().mean((1, 2, 3)))
    pairs = list(zip(made.pictures(), true.pictures(), strict=True))
    assert terms["l1"] == pytest.approx(sum(F.l1_loss(*pair).item() for pair in pairs), rel=1e-5)
    assert terms["perceptual"] == pytest.approx(sum(F.mse_loss(*pair).item() for pair in pairs), rel=1e-5)
    assert not any(
        value.any() for value in picture_terms(true, true, lambda a, b: (a - b).abs().mean((1, 2, 3))).values()
    )


def test_black_is_where_nothing_is_left() -> None:
    picture = torch.rand(1, 3, 4, 4) * 2 - 1
    assert torch.equal(over_black(picture, torch.zeros(1, 1, 4, 4)), -torch.ones(1, 3, 4, 4))
    assert torch.allclose(over_black(picture, torch.ones(1, 1, 4, 4)), picture, atol=1e-6)


def test_volumes_differ_where_the_person_is() -> None:
    share = torch.zeros(1, 1, 4, 4)
    share[..., :2] = 1
    alpha = share.clone()
    assert opacity_term(alpha, 2 * share - 1) == 0
    assert opacity_term(1 - alpha, 2 * share - 1) == 2
    depth = torch.full((1, 1, 4, 4), 4.0)
    assert depth_term(depth + 0.5, depth, share) == pytest.approx(0.25)
    features, background = torch.rand(1, 6, 4, 4), torch.rand(1, 6, 4, 4)
    black = over_black(features, share)
    assert feature_term(black, background, features, background, share) == 0
    assert feature_term(black, background + 1, features, background, share) == pytest.approx(1)
    hidden = features + 5 * (1 - share)  # behind the person's outline nothing is compared
    assert feature_term(black, background, hidden, background, share) == 0


def test_a_fitted_surface_counts_where_it_is_known() -> None:
    surface = torch.full((2, 1, 4, 4), 3.0)
    surface[:, :, :, 1:] = 0
    depth = torch.full_like(surface, 3.2)
    assert surface_term(depth, surface) == pytest.approx(0.2 / 4)
    assert surface_term(depth, surface, torch.tensor([1.0, 0.0])) == pytest.approx(0.2 / 8)


def test_planes_are_compared_at_points() -> None:
    planes = TriPlanes(torch.rand(2, 3, 5, 8, 8), "orthogonal", 1.3)
    points = torch.rand(2, 7, 3) - 0.5
    truth = planes.sample_each(points).mean(1)
    assert plane_term(planes, points, truth) < 1e-6
    assert plane_term(planes, points, truth + 2) == pytest.approx(2, abs=1e-5)


@pytest.mark.parametrize(("height", "scale"), [(0.0, 0.97), (0.1, 0.98), (0.3, 1.0), (0.6, 1.0)])
def test_closed_eyes_shrink_the_teachers_cube(height: float, scale: float) -> None:
    """Eyes of width one: the scale grows by a tenth of the height, up to 0.3."""
    landmarks = torch.zeros(1, 68, 2)
    for eye in (IBUG_RIGHT_EYE, IBUG_LEFT_EYE):
        landmarks[:, list(eye[1:3]), 1], landmarks[:, list(eye[4:]), 1] = -height / 2, height / 2
        landmarks[:, eye[3], 0] = 1.0
    assert eye_openness(landmarks) == pytest.approx(height)
    assert eye_openness(100 * landmarks) == pytest.approx(height)
    assert teacher_box_scale(eye_openness(landmarks)) == pytest.approx(scale)
